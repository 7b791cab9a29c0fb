"""MLP-Mixer: permutation of patches with the weights, linear cost, one image size, names."""

from __future__ import annotations

import math

import pytest
import torch

from anyformer import create_model, load_reference
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.lab.profile import count_operations
from anyformer.layers.feedforward.token_mlp import TokenMLP


def test_permuting_patches_and_token_weights_together_changes_nothing():
    torch.manual_seed(0)
    model = create_model("mixer_micro", in_channels=1, num_classes=10).eval()
    x = model.embed(torch.randn(2, 1, 8, 8))
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        before = model.head(model.norm(model.blocks(x)))
        order = torch.randperm(16)
        moved = x.flatten(1, 2)[:, order].view_as(x)
        without = model.head(model.norm(model.blocks(moved)))
        for block in model.blocks:
            mlp = block.mixer.mlp
            mlp.up.weight.copy_(mlp.up.weight[:, order])
            mlp.down.weight.copy_(mlp.down.weight[order])
            mlp.down.bias.copy_(mlp.down.bias[order])
        after = model.head(model.norm(model.blocks(moved)))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert (without - before).abs().max() > 1e-2


def test_cost_is_linear_in_patches():
    counts = [count_operations(TokenMLP(16, grid=(side, side)), torch.randn(1, side, side, 16)) for side in (8, 16)]
    assert math.isclose(counts[1], 4 * counts[0], rel_tol=0.01)


def test_another_size_raises_and_is_not_interpolated():
    model = create_model("mixer_micro", in_channels=1)
    with pytest.raises(SizeError, match=r"4x4 \(16 tokens\).*given 8x8 \(64 tokens\)"):
        model(torch.randn(1, 1, 16, 16))
    with pytest.raises(ValueError, match=r"2x8"):
        model(torch.randn(1, 1, 4, 16))  # as many patches, on another grid
    with pytest.raises(SizeError, match="multiples of 2"):
        model(torch.randn(1, 1, 9, 8))
    with pytest.raises(OptionError, match="grid"):
        build("token_mlp", "mixer", dim=8, grid=(None,))


def test_features_channels_no_head_and_size():
    model = create_model("mixer_micro", in_channels=3, num_classes=0, image_size=12).eval()
    images = torch.randn(2, 3, 12, 12)
    assert model(images).shape == (2, 64)
    assert model.features(images)[0].shape == (2, 64, 6, 6)


def test_the_authors_arrays_are_taken():
    """The names and layouts of the authors' .npz files; filters and matrices are stored inputs first."""
    torch.manual_seed(0)
    model = create_model("mixer_micro", in_channels=1, num_classes=10, act="gelu").eval()
    state = {"stem/kernel": model.embed.project.weight.permute(2, 3, 1, 0), "stem/bias": model.embed.project.bias}
    for i, block in enumerate(model.blocks):
        for j, norm in enumerate((block.norm1, block.norm2)):
            state[f"MixerBlock_{i}/LayerNorm_{j}/scale"] = norm.weight
            state[f"MixerBlock_{i}/LayerNorm_{j}/bias"] = norm.bias
        for name, mlp in (("token_mixing", block.mixer.mlp), ("channel_mixing", block.ffn)):
            for k, layer in enumerate((mlp.up, mlp.down)):
                state[f"MixerBlock_{i}/{name}/Dense_{k}/kernel"] = layer.weight.t()
                state[f"MixerBlock_{i}/{name}/Dense_{k}/bias"] = layer.bias
    state |= {"pre_head_layer_norm/scale": model.norm.weight, "pre_head_layer_norm/bias": model.norm.bias}
    state |= {"head/kernel": model.head.linear.weight.t(), "head/bias": model.head.linear.bias}
    other = create_model("mixer_micro", in_channels=1, num_classes=10).eval()
    images = torch.randn(2, 1, 8, 8)
    assert not torch.allclose(other(images), model(images), atol=1e-3)
    load_reference(other, {k: v.detach().clone() for k, v in state.items()}, "official")
    torch.testing.assert_close(other(images), model(images))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("timm:mixer_b16_224.goog_in21k_ft_in1k", 59880472),
        ("timm:mixer_b32_224", 60293428),
        ("timm:gmixer_12_224", 12701080),
        ("official:Mixer-B_16", 59880472),
    ],
)
def test_names_of_every_source(name: str, parameters: int):
    with torch.device("meta"):
        assert create_model(name).num_parameters() == parameters
