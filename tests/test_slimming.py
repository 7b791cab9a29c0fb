"""Slimming: never above the target, monotone in it, by importance over time; the supernet that it reads."""

from __future__ import annotations

import itertools

import pytest
import torch

from anyformer import create_model
from anyformer.blocks.meta_path import MetaPath
from anyformer.core.errors import BudgetError, DataError, FitError, OptionError
from anyformer.core.spec import Spec
from anyformer.methods.search.slimming import (
    ATTENTION,
    POOLING,
    Importance,
    LatencyTable,
    Net,
    importance,
    slim,
    widest,
)
from anyformer.models.vision.efficientformer import attention_block, pooling_block, supernet

START = Net((48, 64), ((POOLING,) * 3, (POOLING, POOLING, ATTENTION, ATTENTION)))
SCORES = Importance(
    (
        ({POOLING: 1.0}, {POOLING: 0.4}, {POOLING: 2.0}),
        tuple({POOLING: p, ATTENTION: a} for p, a in ((0.7, 0.1), (3.0, 0.2), (0.5, 0.9), (1.0, 4.0))),
    )
)


def table(attention: float = 4.0) -> LatencyTable:
    widths = [range(16, w + 1, 16) for w in START.widths]
    blocks = {
        (stage, kind, w): w**2 / 1000 * (attention if kind == ATTENTION else 1.0)
        for stage in (0, 1)
        for kind in (POOLING, ATTENTION)
        for w in widths[stage]
    }
    joints = {(0, 0, w): w / 100 for w in widths[0]}
    joints |= {(1, a, b): a * b / 1000 for a, b in itertools.product(*widths)}
    return LatencyTable(blocks, joints, rest=1.0)


def test_latency_is_the_sum_of_the_pieces():
    net = Net((16, 32), ((POOLING,), (POOLING, ATTENTION)))
    assert table().latency(net) == pytest.approx(1.0 + 0.16 + 0.256 + 0.512 + 1.024 * (1 + 4))


@pytest.mark.parametrize("attention", [0.5, 1.0, 4.0])
def test_no_net_is_above_the_target_and_lower_targets_give_smaller_nets(attention: float):
    times = table(attention)
    whole = times.latency(START)
    found = [slim(START, SCORES, times, whole * share) for share in (1.0, 0.9, 0.7, 0.5, 0.3)]
    assert found[0].net == START and found[0].path == (START,)
    for share, slimmed in zip((1.0, 0.9, 0.7, 0.5, 0.3), found, strict=True):
        assert slimmed.latency == times.latency(slimmed.net) <= whole * share
    for larger, smaller in itertools.pairwise(found):
        assert smaller.latency <= larger.latency
        assert all(a >= b for a, b in zip(larger.net.widths, smaller.net.widths, strict=True))
        assert all(a >= b for a, b in zip(larger.net.depths, smaller.net.depths, strict=True))
        assert smaller.path[: len(larger.path)] == larger.path
    times_on_the_way = [times.latency(net) for net in found[-1].path]
    assert times_on_the_way == sorted(times_on_the_way, reverse=True)


def test_attention_stays_at_the_end():
    for net in slim(START, SCORES, table(), table().latency(START) * 0.2).path:
        kinds = [kind for stage in net.blocks for kind in stage]
        assert kinds == sorted(kinds, key=lambda kind: kind == ATTENTION)


def test_what_loses_least_for_its_time_goes_first():
    # Equal times for all blocks, free joints: only importance counts, and 0.4 is the least important block.
    flat = LatencyTable(dict.fromkeys(table().blocks, 1.0), dict.fromkeys(table().joints, 0.0))
    first = slim(START, SCORES, flat, flat.latency(START) - 0.5).net
    assert first.depths == (2, 4) and first.widths == START.widths
    # Where attention is slow, and as good as pooling, it goes.
    alike = Importance((SCORES.blocks[0], tuple({POOLING: 9.0, ATTENTION: 9.0} for _ in range(4))))
    assert slim(START, alike, table(9.0), table(9.0).latency(START) - 1).net.blocks[1].count(ATTENTION) == 1


def test_a_measured_drop_decides_where_it_is_given():
    """Accuracy that only depth costs: the net gets narrower."""
    drop = lambda before, after: float(sum(before.depths) - sum(after.depths))  # noqa: E731
    slimmed = slim(START, SCORES, table(1.0), table(1.0).latency(START) * 0.6, drop=drop)
    assert slimmed.net.depths == START.depths and slimmed.net.widths < START.widths


def test_a_table_that_lacks_a_piece_names_it():
    times = table()
    blocks = {key: time for key, time in times.blocks.items() if key != (1, POOLING, 64)}
    with pytest.raises(ValueError, match=r"lacks a block of stage 1, pooling of 64 channels.*\(1, 'pooling', 64\)"):
        slim(START, SCORES, LatencyTable(blocks, times.joints), 1.0)
    with pytest.raises(DataError, match=r"the way to stage 1 from 48 to 64 channels"):
        LatencyTable(times.blocks, {(0, 0, 48): 1.0}).latency(START)


def test_targets_that_no_net_reaches_name_the_fastest():
    with pytest.raises(BudgetError, match=r"the fastest takes 1\.928, with \[1, 1\] blocks of \[16, 16\] channels"):
        slim(START, SCORES, table(), 0.5)
    with pytest.raises(OptionError, match="a score for each block"):
        slim(START, Importance(SCORES.blocks[:1]), table(), 1.0)


def test_a_supernet_is_read_by_its_weights():
    small = {"late": attention_block(1.0, 2.0, heads=2, head_dim=8, value_ratio=2.0), "early": pooling_block(1.0, 2.0)}
    model = create_model(supernet((16, 32), (1, 2), strides=(2, 1), image_size=8, **small), num_classes=3)
    with torch.no_grad():
        model.stages[0].blocks[0].weights.copy_(torch.tensor([0.0, 1.0]))
        model.stages[1].blocks[0].weights.copy_(torch.tensor([0.0, 0.0, 2.0]))
        model.stages[1].blocks[1].weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
    scores = importance(model)
    assert scores.blocks[0][0] == pytest.approx({POOLING: torch.tensor(1.0).exp().item()}, rel=1e-5)
    assert widest((16, 32), scores) == Net((16, 32), ((POOLING,), (ATTENTION, ATTENTION)))
    with torch.no_grad():
        model.stages[1].blocks[1].weights.copy_(torch.tensor([0.0, 3.0, 2.0]))
    assert widest((16, 32), importance(model)).blocks[1] == (POOLING, POOLING)
    model.train()(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "weights" in n)
    with pytest.raises(FitError, match="meta_path"):
        importance(create_model("efficientformer_micro"))


def test_a_path_mixes_by_its_weights_and_tries_all_in_training():
    path = MetaPath(8, choices=[pooling_block(1.0), pooling_block(1.0)], tau=0.5, grid=(4, 4)).eval()
    x = torch.randn(2, 4, 4, 8)
    with torch.no_grad():
        path.weights.copy_(torch.tensor([0.0, 0.5, -0.5]))
        shares = (torch.tensor([0.0, 0.5, -0.5]) / 0.5).softmax(0)
        expected = shares[0] * x + shares[1] * path.choices[0](x) + shares[2] * path.choices[1](x)
        torch.testing.assert_close(path(x), expected)
        assert torch.equal(path(x), path(x))
        path.train()
        assert not torch.allclose(path(x), path(x))
        path.weights.copy_(torch.tensor([100.0, 0.0, 0.0]))
        torch.testing.assert_close(path(x), x)
    with pytest.raises(OptionError, match="tau above 0"):
        MetaPath(8, choices=[Spec("prenorm")], tau=0.0)
