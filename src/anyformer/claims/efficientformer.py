"""EfficientFormer: does slimming by measured latency find nets as good as evenly narrowed ones of the same latency?

The digits at 32x32 pixels. The table is measured on this CPU, each piece when it is asked for; both nets are predicted
by it, and trained alike from scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.profile.latency import measure_latency
from anyformer.methods.search.slimming import ATTENTION, LatencyTable, Net, importance, slim, widest
from anyformer.models.vision.efficientformer import attention_block, of_blocks, pooling_block, supernet

CLAIM = Claim(
    statement="A slimmed net meets its latency and is as good as an evenly narrowed one of the same predicted latency.",
    baseline="The supernet's best net, all widths times one factor: the largest of at most the slimmed net's latency.",
    expect=(
        Expect("slimmed_minus_uniform", at_least=-0.5, unit="points of test accuracy"),
        Expect("share_of_target", at_most=1.0, unit="predicted latency over the target"),
    ),
    seeds=(1, 2),
)
WIDTHS, DEPTHS, SIDE, STEP, TARGET = (48, 96), (3, 3), 32, 8, 0.5
"""Of the supernet; and the target, as a share of its best net's latency."""
SUPERNET_EPOCHS, EPOCHS, BATCH = 4, 8, 16
EARLY = pooling_block(1.0, 2.0)
LATE = attention_block(1.0, 2.0, heads=4, head_dim=16, value_ratio=2.0)


class Measured(Mapping):
    """Latencies in milliseconds, each measured when it is first asked for."""

    def __init__(self, make: Callable[..., tuple[torch.nn.Module, torch.Tensor]]):
        self.make, self.found = make, {}

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: tuple) -> float:
        if key not in self.found:
            module, x = self.make(*key)
            with torch.inference_mode():
                self.found[key] = 1000 * measure_latency(lambda: module.eval()(x), runs=5, seconds=0.03).median
        return self.found[key]

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


def grid(stage: int) -> tuple[int, int]:
    """The map of a stage."""
    return (SIDE // 4 // 2**stage,) * 2


def block(stage: int, kind: str, width: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """A block and what it gets."""
    spec = LATE if kind == ATTENTION else EARLY
    return build(spec, "block", dim=width, grid=grid(stage)), torch.randn(BATCH, *grid(stage), width)


def joint(stage: int, before: int, width: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """What leads to a stage, and what it gets."""
    spec = net_spec(Net((width,), (("pooling",),)))
    if stage == 0:
        return build(spec["embed"], "embed", dim=width, in_channels=1), torch.randn(BATCH, 1, SIDE, SIDE)
    down = net_spec(Net((before, width), (("pooling",), ("pooling",))))["stages.1.downsample"]
    return build(down, "downsample", inputs=before, dim=width), torch.randn(BATCH, *grid(stage - 1), before)


def net_spec(net: Net) -> Spec:
    """The model of a net."""
    blocks = [[LATE if kind == ATTENTION else EARLY for kind in stage] for stage in net.blocks]
    return of_blocks(net.widths, blocks, image_size=SIDE)


def uniform(start: Net, table: LatencyTable, most: float) -> Net:
    """The largest net with all widths of the start times one factor that takes `most` at most."""
    smallest, parts = None, WIDTHS[0] // 2
    for k in range(parts, 0, -1):
        net = Net(tuple(w * k // parts for w in start.widths), start.blocks)
        smallest = net
        if table.latency(net) <= most:
            return net
    assert smallest is not None
    return smallest


def measure(seed: int) -> dict[str, float]:
    """Test accuracy in percent of the slimmed net and of the evenly narrowed one, and their predicted latencies."""
    task = images_task(digits_at(SIDE), classes=10)
    table = LatencyTable(Measured(block), Measured(joint))
    spec = supernet(WIDTHS, DEPTHS, early=EARLY, late=LATE, image_size=SIDE)
    scores = importance(fit(spec, task, seed, SUPERNET_EPOCHS))
    start = widest(WIDTHS, scores)
    target = TARGET * table.latency(start)
    slimmed = slim(start, scores, table, target, step=STEP)
    even = uniform(start, table, slimmed.latency)
    found = {
        name: 100 * accuracy(fit(net_spec(net), task, seed, EPOCHS), task)
        for name, net in (("slimmed", slimmed.net), ("uniform", even))
    }
    return {
        "slimmed_minus_uniform": found["slimmed"] - found["uniform"],
        "share_of_target": slimmed.latency / target,
        "share_of_target_uniform": table.latency(even) / target,
        "blocks_left": float(sum(slimmed.net.depths)),
        **found,
    }
