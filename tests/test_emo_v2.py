"""EMOv2: published sizes; windows of neighbours and windows that span the map, against each other and against none."""

from __future__ import annotations

import pytest
import torch

from anyformer import Spec, create_model, model_spec
from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.kernels.attention import attention_plain
from anyformer.lab.profile import count_operations
from anyformer.layers.attention.local.spanning_window import SpanningWindowMobile
from anyformer.layers.convolution.mobile import Mobile
from anyformer.models.vision.emo_v2 import VARIANTS
from anyformer.weights.vision.emo_v2 import NAMES
from parts import stirred

PUBLISHED = {  # the authors' table: millions of parameters, cut after one digit, and millions of multiply-adds
    ("emo_v2_1m", 224): (1.4, 285),
    ("emo_v2_2m", 224): (2.3, 487),
    ("emo_v2_5m", 224): (5.1, 1035),
    ("emo_v2_5m_512", 512): (5.1, 5627),
}


@pytest.mark.parametrize(("name", "side"), PUBLISHED)
def test_published_sizes(name: str, side: int):
    with torch.device("meta"):
        model = create_model(name)
        assert model.image_size == (side, side)
        millions, multiply_adds = PUBLISHED[name, side]
        assert int(model.num_parameters() / 1e5) / 10 == millions
        assert count_operations(model, torch.empty(1, 3, side, side)) / 1e6 == pytest.approx(multiply_adds, rel=0.02)


def test_every_name_stands_for_a_variant():
    assert set(NAMES["official"].values()) == set(VARIANTS) - {"emo_v2_micro"}
    assert model_spec("official:EMO1_5M")["stages.2.block.mixer.windows"] == "remote"
    assert model_spec("official:EMO2_5M_k5_hybrid")["stages.2.block.mixer.windows"] == "both"


def mixers(*kinds: str, window: int, grid: tuple[int, int]) -> list[SpanningWindowMobile]:
    """The same weights with these windows."""
    first = stirred(SpanningWindowMobile(8, head_dim=4, window=window, ratio=2.0, kernel=3, grid=grid)).eval()
    made = []
    for kind in kinds:
        mixer = SpanningWindowMobile(8, head_dim=4, window=window, windows=kind, ratio=2.0, kernel=3, grid=grid)
        mixer.load_state_dict(first.state_dict())
        made.append(mixer.eval())
    return made


@pytest.mark.parametrize("window", [6, 9])
def test_one_window_over_the_map_is_full_attention_of_either_kind(window: int):
    close, remote, both = mixers("close", "remote", "both", window=window, grid=(6, 6))
    x = torch.randn(2, 6, 6, 8)
    torch.testing.assert_close(close.expand(x, None), remote.expand(x, None))
    torch.testing.assert_close(both.expand(x, None), 2 * close.expand(x, None))
    rows = x.flatten(1, 2)
    q, k = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in close.qk(rows).chunk(2, -1))
    v = close.act(close.widen(rows)).unflatten(-1, (2, 8)).transpose(1, 2)
    expected = attention_plain(q, k, v).transpose(1, 2).flatten(2).view(2, 6, 6, 16)
    torch.testing.assert_close(close.expand(x, None), expected, rtol=1e-5, atol=1e-5)


def test_a_permutation_by_strides_makes_remote_windows_close_ones():
    close, remote = mixers("close", "remote", window=2, grid=(6, 8))
    x = torch.randn(1, 6, 8, 8)
    # token (i t + j) of an axis with t windows goes to (j w + i): what was spread lies side by side
    order = [torch.arange(n).view(2, n // 2).t().flatten() for n in (6, 8)]
    moved = x[:, order[0]][:, :, order[1]]
    expected = remote.expand(x, None)[:, order[0]][:, :, order[1]]
    torch.testing.assert_close(close.expand(moved, None), expected)
    assert not torch.allclose(close.expand(x, None), remote.expand(x, None))


@pytest.mark.parametrize("grid", [(5,), (5, 7), (3, 4, 5)])
def test_maps_that_windows_do_not_divide_keep_their_size(grid: tuple[int, ...]):
    mixer = stirred(SpanningWindowMobile(8, head_dim=4, window=2, ratio=2.0, kernel=3, grid=grid)).eval()
    x = torch.randn(2, *grid, 8)
    assert mixer(x).shape == x.shape
    # zeros stand for what is missing, before queries, keys and values are made
    whole = [-(-g // 2) * 2 for g in grid]
    filled = torch.zeros(2, *whole, 8)
    inside = (slice(None), *(slice(g) for g in grid))
    filled[inside] = x
    torch.testing.assert_close(mixer.expand(x, None), mixer.expand(filled, None)[inside], rtol=1e-5, atol=1e-5)


def test_far_tokens_meet_in_remote_windows_only():
    close, remote = mixers("close", "remote", window=2, grid=(8, 8))
    x = torch.randn(1, 8, 8, 8)
    other = x.clone()
    other[:, 4, 0] += 1
    for mixer, seen in ((close, False), (remote, True)):
        moved = (mixer.expand(other, None) - mixer.expand(x, None)).abs().sum(-1)[0] > 1e-6
        assert bool(moved[0, 0]) == seen and moved[4, 0] and moved.sum() == 4


def test_padding_is_not_seen():
    (both,) = mixers("both", window=2, grid=(4, 6))
    x = torch.randn(1, 4, 6, 8)
    valid = torch.ones(1, 4, 6, dtype=torch.bool)
    valid[:, :, 4:] = False
    other = torch.where(valid[..., None], x, 5.0)
    segments = Segments.from_mask(valid)
    torch.testing.assert_close(both(x, segments)[valid], both(other, segments)[valid], rtol=1e-5, atol=1e-5)


def test_both_branches_share_what_is_linear():
    both, close = mixers("both", "close", window=2, grid=(4, 4))
    x = torch.randn(1, 4, 4, 8)
    attention = 16 * 4 * (8 + 16)
    assert count_operations(both, x) - count_operations(close, x) == attention
    linear = count_operations(Mobile(8, ratio=2.0, kernel=3, grid=(4, 4)), x)
    assert count_operations(close, x) == linear + attention + 16 * 8 * 16


def test_channels_that_the_head_dim_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"heads of 6 channels divide 8 channels.*that fit: 1, 2, 4, 8"):
        SpanningWindowMobile(8, head_dim=6)
    with pytest.raises(OptionError, match="head_dim=2"):
        SpanningWindowMobile(8, head_dim=2, ratio=0.5 + 1 / 8)
    with pytest.raises(ValueError, match="head_dim=48"):
        create_model("emo_v2_1m", **{"stages.2.block.mixer.head_dim": 48})


def test_attention_maps_of_both_kinds_and_other_mixers():
    model = create_model("emo_v2_micro", num_classes=4).eval()
    _, taps = model(torch.randn(2, 3, 8, 8), taps=["attention"])
    assert taps and all(torch.allclose(m.sum(-1), torch.ones(m.shape[:-1])) for m in taps.values())
    for mixer in (Spec("window", heads=2, window=2), Spec("attention", heads=2)):
        other = create_model("emo_v2_micro", mixer=mixer, num_classes=4)
        assert other(torch.randn(2, 3, 8, 8)).shape == (2, 4)
    swin = create_model("swin_micro", mixer=Spec("spanning_window", head_dim=8), num_classes=4)
    assert swin(torch.randn(2, 3, 8, 8)).shape == (2, 4)


@pytest.mark.parametrize("size", [(64, 64), (50, 75)])
def test_any_image_size_gives_four_maps(size: tuple[int, int]):
    model = create_model("emo_v2_1m", num_classes=3).eval()
    maps = model.features(torch.randn(1, 3, *size))
    grid = [-(-s // 2) for s in size]
    expected = []
    for dim in (32, 48, 80, 180):
        grid = [-(-g // 2) for g in grid]
        expected.append((1, dim, *grid))
    assert [tuple(m.shape) for m in maps] == expected
