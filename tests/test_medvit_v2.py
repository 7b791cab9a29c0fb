"""MedViT V2: published sizes, its KAN and its blocks against their equations, the published order of reading maps."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from anyformer import create_model, model_spec
from anyformer.blocks.global_perception import GlobalPerception
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.layers.attention.full import Attention
from anyformer.layers.attention.local.channel_major import ChannelMajorNeighborhood, channel_major, channels_last
from anyformer.layers.attention.local.neighborhood import NeighborhoodAttention
from anyformer.layers.attention.run_reduction import RunReductionAttention
from anyformer.layers.embedding.average import AverageDownsample
from anyformer.layers.feedforward.kan import KAN, ChannelMajorKAN, KANLayer
from anyformer.layers.feedforward.locality import LocalityFeedForward
from anyformer.models.vision.medvit_v2 import VARIANTS
from anyformer.weights.vision.medvit_v2 import GLOBAL, NAMES
from parts import stirred

PUBLISHED = {"tiny": 11_719_845, "small": 30_087_295, "base": 66_995_571, "large": 118_291_477}
"""Parameters of the authors' models."""


def unused(dims: list[int]) -> int:
    """Parameters that the authors' global blocks of these widths hold and do not use, and points of KANs."""
    total = 0
    for c in dims:
        hidden = 2 * c
        layers = 2 * c * hidden + 9 * hidden + 2 * (2 * hidden) + 2 * c
        gate = 2 * (2 * hidden) + 2 + hidden
        total += layers + gate + 2 * 8
    return total


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size: str):
    with torch.device("meta"):
        model = create_model(f"official:MedViT_{size}")
    widths = [b.norm2.weight.numel() for s in model.stages for b in s.blocks if isinstance(b, GlobalPerception)]
    assert len(widths) == (4 if size == "tiny" else 5)
    assert model.num_parameters() + unused(widths) == PUBLISHED[size]


def test_every_name_stands_for_a_variant():
    assert set(NAMES["official"].values()) == set(VARIANTS) - {"medvit_v2_micro"}
    kinds = [b.name for s in create_model("medvit_v2_small", num_classes=1).stages for b in s.blocks]
    assert [n for n, kind in enumerate(kinds) if kind == "global_perception"] == sorted(GLOBAL)
    assert model_spec("official:MedViT_tiny") == VARIANTS["medvit_v2_tiny"]


def test_four_maps_at_any_size():
    model = create_model("medvit_v2_tiny", num_classes=3, in_channels=1).eval()
    for height, width in ((32, 32), (33, 70)):
        images = torch.randn(1, 1, height, width)
        with torch.no_grad():
            assert model(images).shape == (1, 3)
            maps = model.features(images)
        assert [m.shape[1] for m in maps] == [64, 128, 192, 384]
        assert [m.shape[2:] for m in maps] == [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32)]


def test_a_neighbourhood_larger_than_the_map_names_both():
    with pytest.raises(ValueError, match=r"kernel of 7x7 with dilation 3x3 .* 20x20 tokens"):
        NeighborhoodAttention(8, heads=2, kernel=7, dilation=3, grid=(20, 20))
    refused = {f"stages.{i}.block.{j}.mixer.rest": "refuse" for i, j in ((0, 0), (1, 0))}
    with pytest.raises(SizeError, match=r"kernel of 3x3 with dilation 2x2 .* 5x5 tokens"):
        create_model("medvit_v2_micro", image_size=5, **refused)


def test_a_kan_without_its_spline_is_silu_and_a_linear_layer():
    layer = stirred(KANLayer(6, 5))
    with torch.no_grad():
        layer.spline.weight.zero_()
    x = torch.randn(4, 3, 6)
    assert layer.base is not None
    torch.testing.assert_close(layer(x), F.silu(x) @ layer.base.weight.t())


def test_every_edge_of_a_kan_has_a_function_of_its_own():
    layer = stirred(KANLayer(3, 2, points=4, norm=None))
    x = torch.randn(5, 3)
    weight = layer.spline.weight.view(2, 3, 4)
    expected = torch.zeros(5, 2)
    for j in range(2):
        for i in range(3):
            for g, centre in enumerate((-2, -2 / 3, 2 / 3, 2)):
                expected[:, j] += weight[j, i, g] * (1 - ((x[:, i] - centre) / 0.33).tanh() ** 2)
            expected[:, j] += layer.base.weight[j, i] * F.silu(x[:, i])
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(OptionError, match="two points or more"):
        KANLayer(3, 2, points=1)


def test_published_weights_read_maps_in_another_order():
    x = torch.randn(2, 3, 5, 4)
    read = channel_major(x)
    assert torch.equal(channels_last(read), x)
    # The first token: the first places of the first channel.
    assert torch.equal(read[0, 0, 0], x[0, 0, :4, 0])
    theirs = stirred(ChannelMajorNeighborhood(8, heads=2, kernel=3, grid=(5, 6)))
    plain = NeighborhoodAttention(8, heads=2, kernel=3, grid=(5, 6))
    plain.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 6, 8)
    torch.testing.assert_close(theirs(x), channels_last(plain(channel_major(x))))
    theirs, plain = stirred(ChannelMajorKAN(8)), KAN(8)
    plain.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(theirs(x), channels_last(plain(channel_major(x))))


def test_runs_of_tokens_are_keys():
    mixer = stirred(RunReductionAttention(8, heads=2, reduction=2, grid=(3, 5))).eval()
    x = torch.randn(2, 3, 5, 8)
    tokens = x.flatten(1, 2)
    means = mixer.norm(torch.stack([tokens[:, 4 * i : 4 * i + 4].mean(1) for i in range(3)], 1))
    q, kv = mixer.q(tokens).unflatten(-1, (2, 4)), mixer.kv(means).unflatten(-1, (4, 4))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, kv[:, :, :2]) / 2
    expected = mixer.out(torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), kv[:, :, 2:]).flatten(2))
    torch.testing.assert_close(mixer(x).flatten(1, 2), expected, rtol=1e-5, atol=1e-5)
    assert mixer(torch.randn(1, 1, 3, 8)).shape == (1, 1, 3, 8)  # fewer tokens than a run


def test_without_reduction_it_is_plain_attention():
    mixer = stirred(RunReductionAttention(8, heads=2, grid=(4, 6)))
    plain = Attention(8, heads=2)
    with torch.no_grad():
        plain.qkv.weight.copy_(torch.cat([mixer.q.weight, mixer.kv.weight]))
        plain.qkv.bias.copy_(torch.cat([mixer.q.bias, mixer.kv.bias]))
        plain.out.load_state_dict(mixer.out.state_dict())
    x = torch.randn(2, 4, 6, 8)
    torch.testing.assert_close(mixer(x), plain(x), rtol=1e-5, atol=1e-5)


def test_the_gate_weighs_channels_and_sees_no_padding():
    ffn = stirred(LocalityFeedForward(4, gate=6, grid=(3, 5))).eval()
    x = torch.randn(2, 3, 5, 4)
    valid = torch.ones(2, 3, 5, dtype=torch.bool)
    valid[:, :, 3:] = False
    y = ffn(x, Segments.from_mask(valid))
    torch.testing.assert_close(y[:, :, :3], ffn(x[:, :, :3]), rtol=1e-5, atol=1e-5)
    hidden = torch.randn(2, 3, 5, 12)
    gate = F.hardsigmoid(ffn.gate.up(ffn.gate.down(hidden.mean((1, 2))).relu()))
    torch.testing.assert_close(ffn.gate(hidden), hidden * gate[:, None, None])


def test_a_global_block_gives_its_channels_to_attention_and_convolution():
    block = stirred(GlobalPerception(16, inputs=6, unit=4, grid=(4, 4))).eval()
    assert block.mixer.out.out_features == 12 and block.local.out.out_features == 4
    x = torch.randn(2, 4, 4, 6)
    far = block.norm_reduce(block.reduce(x))
    far = far + block.mixer(block.norm1(far))
    near = block.norm_project(block.project(far))
    both = torch.cat([far, near + block.local(near)], -1)
    torch.testing.assert_close(block(x), both + block.ffn(block.norm2(both)), rtol=1e-5, atol=1e-5)
    with pytest.raises(OptionError, match="leaves none to the convolution"):
        GlobalPerception(32)


def test_means_at_the_end_of_an_odd_side_are_of_what_is_there():
    x = torch.randn(1, 3, 5, 4)
    y = AverageDownsample(4, 8, norm=None)(x)
    assert y.shape == (1, 2, 3, 4)
    torch.testing.assert_close(y[0, 1, 2], x[0, 2, 4])
    torch.testing.assert_close(y[0, 0, 2], x[0, :2, 4].mean(0))
    assert AverageDownsample(4, 8)(x).shape == (1, 2, 3, 8)
