"""APVT: one group is PVT, groups are block-diagonal matrices, and what they cost."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, model_spec
from anyformer.blocks.block import PreNorm
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec
from anyformer.lab.profile import count_operations
from anyformer.layers.attention.group_reduction import GroupReductionAttention
from anyformer.layers.attention.spatial_reduction import SpatialReductionAttention
from anyformer.layers.feedforward.group_linear import GroupLinear
from anyformer.layers.feedforward.group_mlp import GroupMLP
from anyformer.layers.feedforward.mlp import MLP
from anyformer.models.vision.apvt import HEADS
from parts import stirred

GRID = (4, 8)


def block(mixer: str, ffn: str, dim: int = 32, **groups: object) -> PreNorm:
    options = {"heads": 4, "reduction": 2, **groups}
    parts = {"mixer": Spec(mixer, **options), "ffn": Spec(ffn, **{k: v for k, v in groups.items() if k == "groups"})}
    return stirred(PreNorm(dim, grid=GRID, **parts), 0.1).eval()


def dense(weight: torch.Tensor, groups: int, parts: int = 1) -> torch.Tensor:
    """The block-diagonal matrix (or convolution) that a grouped weight stands for."""
    blocks = [torch.cat([
        torch.cat([part if g == h else torch.zeros_like(part) for h in range(groups)], 1)
        for g, part in enumerate(whole.chunk(groups))
    ]) for whole in weight.chunk(parts)]  # fmt: skip
    return torch.cat(blocks)


def ungrouped(state: dict[str, torch.Tensor], groups: int, merged: bool) -> dict[str, torch.Tensor]:
    """The weights of a plain PVT block that computes the same."""
    parts = {"mixer.q.weight": 1, "mixer.kv.weight": 2, "mixer.reduce.weight": 1, "ffn.up.weight": 1,
             "ffn.down.weight": 1} | ({} if merged else {"mixer.out.weight": 1})  # fmt: skip
    return {n: dense(t, groups, parts[n]) if n in parts else t for n, t in state.items()}


def test_one_group_is_the_block_of_pvt():
    ours = block("group_reduction", "group_mlp", groups=1)
    pvt = block("spatial_reduction", "mlp")
    pvt.load_state_dict(ours.state_dict())
    x = torch.randn(2, *GRID, 32)
    torch.testing.assert_close(ours(x), pvt(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("merge", ["linear", "concat"])
@pytest.mark.parametrize("groups", [2, 4])
def test_groups_are_block_diagonal_matrices(groups: int, merge: str):
    ours = block("group_reduction", "group_mlp", groups=groups, merge=merge)
    pvt = block("spatial_reduction", "mlp")
    pvt.load_state_dict(ungrouped(ours.state_dict(), groups, merge == "linear"))
    x = torch.randn(2, *GRID, 32)
    torch.testing.assert_close(ours(x), pvt(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("merge", ["linear", "concat"])
def test_groups_meet_where_they_are_merged_only(merge: str):
    mixer = stirred(GroupReductionAttention(16, heads=4, groups=4, reduction=2, merge=merge, grid=GRID)).eval()
    x = torch.randn(1, *GRID, 16)
    changed = x.clone()
    changed[..., :4] += 1
    norm, mixer.norm = mixer.norm, torch.nn.Identity()  # the norm's mean is over all groups
    moved = (mixer(changed) - mixer(x)).abs().amax((0, 1, 2)) > 1e-6
    assert moved.all() if merge == "linear" else moved.tolist() == [True] * 4 + [False] * 12
    assert norm.weight.shape == (16,)


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_projections_and_mlps_fall_by_the_groups(groups: int):
    def counted(modules) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    options = {"heads": 8, "reduction": 4}
    plain = SpatialReductionAttention(256, **options)
    ours = GroupReductionAttention(256, groups=groups, **options)
    pairs = [((m.q, m.kv, m.reduce) for m in (plain, ours)), ((m,) for m in (MLP(256), GroupMLP(256, groups=groups)))]
    for whole, grouped in pairs:
        assert counted(whole) / counted(grouped) == pytest.approx(groups, rel=0.05)
    x = torch.randn(1, 8, 8, 256)
    assert count_operations(MLP(256), x) == groups * count_operations(GroupMLP(256, groups=groups), x)


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
def test_blocks_are_a_third_of_pvts(size: str):
    """Queries, keys, values and the MLP have a quarter each; the merge is as large as PVT's last projection."""
    with torch.device("meta"):
        ours, pvt = create_model(f"apvt_{size}"), create_model(f"pvt_{size}")
        counts = [sum(p.numel() for s in m.stages for p in s.blocks.parameters()) for m in (ours, pvt)]
        maps = ours.features(torch.empty(1, 3, 224, 224))
    assert 0.25 < counts[0] / counts[1] < 0.35
    assert [tuple(m.shape[1:]) for m in maps] == [(c, s, s) for c, s in ((64, 56), (128, 28), (320, 14), (512, 7))]


def test_all_blocks_are_grouped_and_the_head_counts_fit():
    spec = model_spec("apvt_small")
    assert all(spec[f"stages.{i}.block.mixer"]["groups"] == 4 for i in range(4))
    assert all(heads % 4 == 0 for heads in HEADS)


def test_groups_that_do_not_divide_are_refused():
    for wrong in (lambda: GroupReductionAttention(16, heads=2, groups=4), lambda: GroupMLP(16, groups=3)):
        with pytest.raises(OptionError, match=r"groups do not divide .*; groups that fit: 1, 2"):
            wrong()
    with pytest.raises(ValueError, match="0 groups do not divide 16"):
        GroupLinear(16, 16, 0)
    with pytest.raises(OptionError, match=r"3 groups do not divide 32 \(channels\)"):
        create_model("apvt_micro", **{"stages.0.block.mixer.groups": 3})
