"""gMLP: tokens stand alone at the start, the causal form, Toeplitz weights, tiny attention, refusals, names."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model
from anyformer.blocks.block import PreNorm
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.layers.feedforward.spatial_gating import SpatialGating

GRID = (4, 4)


def changed_tokens(block: torch.nn.Module) -> torch.Tensor:
    """Which tokens' outputs change where token (1, 2) changes."""
    x = torch.randn(1, *GRID, 8)
    moved = x.clone()
    moved[0, 1, 2] = torch.randn(8)  # in a direction that the norm does not take out
    return ((block(moved) - block(x)).abs().amax(-1) > 1e-6)[0]


def test_with_weights_at_zero_each_token_stands_alone():
    torch.manual_seed(0)
    block = PreNorm(8, mixer=Spec("spatial_gating", ratio=4.0), ffn=None, grid=GRID).eval()
    assert torch.equal(block.mixer.project.bias, torch.ones(16))
    assert block.mixer.project.weight.abs().max() < 1e-5  # near 0 from the start
    with torch.no_grad():
        block.mixer.up.weight.normal_()
        block.mixer.down.weight.normal_()
        block.mixer.project.weight.zero_()
        alone = changed_tokens(block)
        block.mixer.project.weight.normal_()
        together = changed_tokens(block)
    assert alone[1, 2]
    assert alone.sum() == 1
    assert together.all()


@pytest.mark.parametrize("projection", ["dense", "toeplitz"])
@pytest.mark.parametrize("attention", [0, 4])
def test_the_causal_form_leaks_nothing_and_steps_equal_it(projection: str, attention: int):
    torch.manual_seed(0)
    mixer = SpatialGating(8, grid=(9,), ratio=2.0, projection=projection, attention=attention, causal=True).eval()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_(0, 0.3)
        x = torch.randn(2, 9, 8)
        y = mixer(x)
        assert (mixer.weight().triu(1) == 0).all()
        later = x.clone()
        later[:, 5:] += 1
        torch.testing.assert_close(mixer(later)[:, :5], y[:, :5], rtol=1e-5, atol=1e-6)
        assert (mixer(later)[:, 5:] - y[:, 5:]).abs().min(-1).values.max() > 1e-4
        state, outputs = mixer.init_state(2, like=x), []
        for token in x.unbind(1):
            out, state = mixer.step(token, state)
            outputs.append(out)
        torch.testing.assert_close(torch.stack(outputs, 1), y, rtol=1e-5, atol=1e-5)
        with pytest.raises(SizeError, match="9 tokens"):
            mixer.step(x[:, 0], state)


def test_toeplitz_weights_depend_on_the_offset_only():
    mixer = SpatialGating(4, grid=(6,), ratio=2.0, projection="toeplitz")
    with torch.no_grad():
        mixer.project.weight.normal_()
    weight = mixer.weight()
    assert mixer.project.weight.shape == (11,)
    for offset in range(-5, 6):
        diagonal = weight.diagonal(offset)
        assert torch.equal(diagonal, diagonal[:1].expand_as(diagonal))
    assert weight.unique().numel() == 11


def test_tiny_attention_is_added_to_the_gate():
    torch.manual_seed(0)
    mixer = SpatialGating(8, grid=(5,), ratio=2.0, attention=4)
    plain = SpatialGating(8, grid=(5,), ratio=2.0)
    x = torch.randn(1, 5, 8)
    missing = plain.load_state_dict({k: v for k, v in mixer.state_dict().items() if "attention" not in k})
    assert not missing.missing_keys
    q, k, v = mixer.attention.qkv(x)
    weights = (q @ k.transpose(-2, -1) / 4**0.5).softmax(-1)
    added = (weights @ v)[:, 0] @ mixer.attention.out.weight.T + mixer.attention.out.bias
    first = mixer.act(mixer.up(x)).chunk(2, -1)[0]
    expected = plain(x) + (first * added) @ mixer.down.weight.T
    torch.testing.assert_close(mixer(x), expected, rtol=1e-4, atol=1e-6)
    assert (mixer(x) - plain(x)).abs().max() > 0


def test_another_length_and_an_odd_width_raise():
    mixer = SpatialGating(8, grid=(9,), ratio=2.0)
    with pytest.raises(ValueError, match=r"9 \(9 tokens\).*given 7"):
        mixer(torch.randn(1, 7, 8))
    with pytest.raises(OptionError, match=r"15 hidden channels.*even"):
        SpatialGating(5, grid=(9,), ratio=3.0)
    with pytest.raises(SizeError, match="4x4"):
        create_model("gmlp_micro", in_channels=1)(torch.randn(1, 1, 12, 12))


def test_features_channels_no_head_and_size():
    model = create_model("amlp_micro", in_channels=2, num_classes=0, image_size=10).eval()
    images = torch.randn(2, 2, 10, 10)
    assert model(images).shape == (2, 64)
    assert [tuple(m.shape) for m in model.features(images, layers=[0, -1])] == [(2, 64, 5, 5)] * 2


@pytest.mark.parametrize(("name", "parameters"), [("gmlp_s16_224.ra3_in1k", 19422656), ("gmlp_b16_224", 73075392)])
def test_names(name: str, parameters: int):
    with torch.device("meta"):
        assert create_model(f"timm:{name}").num_parameters() == parameters
