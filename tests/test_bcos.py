"""B-cosification: the layers' equation, conversion that changes nothing, whole explanations, and mistakes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.errors import CheckpointError, FitError, OptionError, SizeError
from anyformer.layers.convolution.bcos import FORMS
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.embedding.patch import StridedConv
from anyformer.methods.explanation.bcos import bcosify, encode, explain, picture, remove_biases, set_exponent
from anyformer.weights.checkpoint import save_pretrained
from parts import stirred

MODELS = ["vit_micro", "convnext_micro", "swin_micro"]


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(16), nn.SiLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = cnn() if name == "cnn" else create_model(name, num_classes=5, in_channels=3, image_size=8)
    model = stirred(model, 0.1)
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        model.train()(x)  # running statistics of batch norms that are not those of the start
    return model.eval(), x


@pytest.mark.parametrize("b", [1.0, 1.5, 2.0, 2.5])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4), (2, 5, 6)),
        (nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), (2, 6, 7, 7)),
        (nn.Conv2d(6, 4, 3, padding=2, dilation=2), (2, 6, 7, 7)),
        (StridedConv(6, 4, kernel=2, stride=2), (2, 7, 6, 6)),
        (DepthwiseConv(6, kernel=3, std=0.5), (2, 7, 5, 6)),
    ],
    ids=["linear", "grouped", "dilated", "strided", "depthwise"],
)
def test_layers_are_the_equation_on_every_patch(layer: nn.Module, shape: tuple[int, ...], b: float):
    x = torch.randn(shape)
    plain, layer = copy.deepcopy(layer), copy.deepcopy(layer)
    layer.__class__ = FORMS[type(layer)]
    layer.b = b
    y = plain(x)
    # |x| of a patch: the same layer with all weights 1, on the squares.
    ones = copy.deepcopy(plain)
    with torch.no_grad():
        ones.weight.fill_(1.0)
        ones.bias.zero_()
    norm = ones(x.square()).sqrt()
    torch.testing.assert_close(layer(x), (y / norm).abs() ** (b - 1) * y, rtol=1e-3, atol=1e-4)


def test_with_weights_of_norm_one_the_factor_is_the_cosine():
    layer = nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        layer.weight.div_(layer.weight.norm(dim=1, keepdim=True))
    layer.__class__ = FORMS[nn.Linear]
    x = torch.randn(3, 6)
    cosine = nn.functional.cosine_similarity(x[:, None], layer.weight[None], dim=-1)
    torch.testing.assert_close(layer(x), cosine.abs() * (x @ layer.weight.T))


@pytest.mark.parametrize("name", ["cnn", *MODELS])
def test_conversion_with_exponent_one_and_biases_changes_nothing(name: str):
    model, x = made(name)
    with torch.no_grad():
        before = model(x)
        bcosify(model, b=1.0, biases="keep")
        torch.testing.assert_close(model(encode(x)), before, rtol=1e-4, atol=1e-4)
        assert (set_exponent(model, 2.0)(encode(x)) - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["cnn", *MODELS])
def test_contributions_are_the_whole_logit(name: str):
    model, x = made(name)
    bcosify(model, b=2.0)
    if hasattr(model, "position"):
        model.position = None  # what is added to tokens is no function of the image
    assert not any(n.endswith(("bias", "q_bias", "v_bias")) for n, _ in model.named_parameters())
    for target in (None, torch.tensor([0, 1, 2, 3])):
        found = explain(model, encode(x), target)
        chosen = found.logits.gather(1, found.target[:, None])[:, 0]
        torch.testing.assert_close(found.contributions.sum((1, 2)), chosen, rtol=1e-4, atol=1e-4)
        assert found.rest.abs().max() < 1e-4
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(encode(x)), rtol=1e-4, atol=1e-5)


def test_biases_and_positions_are_reported_as_the_rest():
    model, x = made("vit_micro")
    bcosify(model, b=2.0, biases="keep")
    found = explain(model, encode(x))
    assert found.rest.abs().max() > 1e-3
    assert explain(remove_biases(model), encode(x)).logits.isfinite().all()


def test_a_converted_model_trains():
    model, x = made("convnext_micro")
    bcosify(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(model(encode(x)), torch.tensor([0, 1, 2, 3]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_uncentred_batch_norm_keeps_running_variances():
    model, x = made("cnn")
    bcosify(model)
    norm, seen = model[1], []
    norm.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    before = norm.running_var.clone()
    y = model[:2].train()(encode(3 * x))
    variance = seen[0].var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(norm.running_var, 0.9 * before + 0.1 * variance)
    expected = seen[0] / (variance + norm.eps).sqrt()[:, None, None] * norm.weight[:, None, None]
    torch.testing.assert_close(y, expected)


def test_pictures_show_what_contributes():
    model, x = made("convnext_micro")
    found = explain(bcosify(model), encode(x))
    pixels = picture(found, 1, smooth=1)
    assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8
    against = (found.contributions[1] <= 0).numpy()
    assert (pixels[against] == 255).all() and (pixels[~against] < 255).any()


def test_mistakes_are_sentences(tmp_path):
    model, x = made("convnext_micro")
    with pytest.raises(OptionError, match=r"is 1 or more; given 0\.5"):
        bcosify(model, b=0.5)
    bcosify(model)
    with pytest.raises(SizeError, match=r"takes 6 channels; given 3: images for a converted model are made"):
        model(x)
    with pytest.raises(FitError, match="has B-cos layers already"):
        bcosify(model)
    with pytest.raises(CheckpointError, match="not built from a Spec"):
        save_pretrained(model, tmp_path)
    odd = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LSTM(4, 4))
    with pytest.raises(FitError, match="1 is a LSTM, which has no B-cos counterpart"):
        bcosify(odd)
    assert odd[0].weight.shape[1] == 3
    with pytest.raises(FitError, match="no B-cos counterpart"):
        bcosify(create_model("gmlp_micro"))
    with pytest.raises(FitError, match="has none over all channels"):
        bcosify(nn.Sequential(nn.Linear(3, 4)))
