"""The MetaFormer baselines: StarReLU, the random and the identity mixer, the published variants."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import OptionError, SizeError, UnknownName
from anyformer.core.segments import Segments
from anyformer.layers.feedforward.activation import StarReLU
from anyformer.layers.pooling.mixing import RandomMixing

FAMILY = ("identityformer", "randformer", "poolformerv2", "convformer", "caformer")


def test_star_relu_keeps_a_unit_normal():
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    y = StarReLU()(x)
    assert abs(y.mean().item()) < 0.02
    assert abs(y.var().item() - 1) < 0.05


def test_the_random_matrix_is_fixed_and_its_rows_sum_to_one():
    mixer = RandomMixing(grid=(4, 5))
    torch.testing.assert_close(mixer.matrix.sum(-1), torch.ones(20))
    assert not list(mixer.parameters())
    x = torch.randn(2, 4, 5, 3, requires_grad=True)
    mixer(x).sum().backward()
    assert mixer.matrix.grad is None
    assert not mixer.matrix.requires_grad
    assert "matrix" in mixer.state_dict()
    torch.testing.assert_close(mixer(torch.ones(1, 4, 5, 3)), torch.ones(1, 4, 5, 3))


def test_padding_leaves_a_mean_of_the_valid_tokens():
    mixer = RandomMixing(grid=(6,))
    valid = torch.tensor([[True] * 4 + [False] * 2])
    y = mixer(torch.ones(1, 6, 2), Segments.from_mask(valid))
    torch.testing.assert_close(y[:, :4], torch.ones(1, 4, 2))


def test_randformer_at_another_size_raises_and_says_what_fits():
    model = create_model("randformer_micro", in_channels=1)
    with pytest.raises(SizeError, match=r"4x4 \(16 tokens\).*given 6x6.*image_size"):
        model(torch.randn(1, 1, 12, 12))
    larger = create_model("randformer_micro", in_channels=1, image_size=12, num_classes=3)
    assert larger(torch.randn(1, 1, 12, 12)).shape == (1, 3)


def test_a_random_mixer_needs_a_known_grid():
    with pytest.raises(OptionError, match="grid"):
        RandomMixing(grid=(None, 4))


def test_an_unknown_mixer_lists_the_known():
    with pytest.raises(UnknownName, match="separable"):
        create_model("convformer_micro", mixer="separabel")


def test_the_identity_mixer_lets_no_token_see_another():
    # The frame's norm spans the map; with one per token in its place, only mixing can connect tokens.
    model = create_model("identityformer_micro", in_channels=1, norm="layernorm").eval()
    stage = model.stages[0].blocks
    x = torch.randn(1, 4, 4, 32, requires_grad=True)
    stage(x)[0, 1, 2].sum().backward()
    seen = x.grad.abs().sum(-1)[0] > 0
    assert seen[1, 2]
    assert seen.sum() == 1


@pytest.mark.parametrize("name", FAMILY)
def test_micro_models_run_at_any_size_that_fits(name: str):
    model = create_model(f"{name}_micro", in_channels=2, num_classes=5).eval()
    y = model(torch.randn(2, 2, 8, 8))
    assert y.shape == (2, 5)
    assert [tuple(m.shape[1:]) for m in model.features(torch.randn(1, 2, 8, 8))] == [(32, 8, 8), (64, 4, 4)]
    if name != "randformer":
        assert model(torch.randn(2, 2, 11, 9)).shape == (2, 5)


def test_only_the_last_two_stages_scale_their_stream():
    with torch.device("meta"):
        names = [n for n, _ in create_model("caformer_s18").named_parameters()]
    scaled = {n.split(".")[1] for n in names if "residual" in n}
    assert scaled == {"2", "3"}
    biases = [n for n in names if n.startswith("stages") and n.endswith("bias")]
    assert not [n for n in biases if ".act." not in n and ".project." not in n]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("timm:caformer_s18.sail_in22k_ft_in1k_384", 26341656),
        ("timm:convformer_b36", 99882616),
        ("timm:poolformerv2_m48", 73346056),
        ("official:randformer_s12", 11891712),
        ("official:convformer_s18_in21k", 69477657),
        ("official:caformer_m36_384_in21ft1k", 56204878),
    ],
)
def test_names_of_every_source(name: str, parameters: int):
    with torch.device("meta"):
        model = create_model(name)
    assert model.num_parameters() == parameters
    assert model.image_size == ((384, 384) if name.startswith("official:caformer") else (224, 224))
