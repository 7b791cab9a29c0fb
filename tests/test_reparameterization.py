"""Re-parameterization: the same outputs from fewer operations, the original untouched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anyformer import create_model
from anyformer.core.errors import FitError
from anyformer.layers.normalization.norms import BatchNorm
from anyformer.methods.compression.reparameterization import reparameterize
from parts import stirred


def settled(name: str) -> nn.Module:
    """A model whose batch norms have seen data."""
    torch.manual_seed(0)
    model = stirred(create_model(name, num_classes=5), 0.05)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, *model.image_size) + 0.5)
    return model.eval()


@pytest.mark.parametrize("name", ["efficientformer_micro", "tiny_vit_micro", "emo_v2_micro", "fcaformer_micro"])
def test_folded_models_give_the_same(name: str):
    model = settled(name)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    images = torch.randn(4, 3, *model.image_size)
    folded = reparameterize(model)
    with torch.no_grad():
        expected, found = model(images), folded(images)
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_no_batch_norm_is_left_of_efficientformer():
    model = settled("efficientformer_micro")
    assert sum(isinstance(m, BatchNorm) for m in model.modules()) == 2 + 1 + 2 * 4
    folded = reparameterize(model)
    assert not any(isinstance(m, BatchNorm) for m in folded.modules())
    assert folded.num_parameters() < model.num_parameters()


def test_a_fold_is_the_norm_of_the_layer():
    class Pair(nn.Module):
        folds = {"layer": "norm"}

        def __init__(self, bias: bool):
            super().__init__()
            self.layer, self.norm = nn.Linear(3, 4, bias=bias), stirred(BatchNorm(4))
            self.norm.running_mean.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
            self.norm.running_var.copy_(torch.tensor([0.3, 2.0, 1.0, 4.0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.layer(x))

    x = torch.randn(5, 3)
    for bias in (True, False):
        pair = Pair(bias).eval()
        folded = reparameterize(pair)
        assert isinstance(folded.norm, nn.Identity) and isinstance(pair.norm, BatchNorm)
        torch.testing.assert_close(folded(x), pair(x))


def test_branches_merge_where_a_part_says_how():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

        def merge_branches(self) -> None:
            with torch.no_grad():
                self.first.weight += self.second.weight
                self.first.bias += self.second.bias
            self.second = None

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x) if self.second is None else self.first(x) + self.second(x)

    model, x = nn.Sequential(Branches(), nn.ReLU(), Branches()), torch.randn(2, 3)
    folded = reparameterize(model)
    assert folded[0].second is None and model[0].second is not None
    torch.testing.assert_close(folded(x), model(x))


def test_models_without_anything_to_fold_are_named():
    with pytest.raises(FitError, match="nothing in this Isotropic folds"):
        reparameterize(create_model("vit_micro"))
