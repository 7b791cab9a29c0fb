"""Latency-driven slimming: a supernet loses what is least useful until a latency table says that it is fast enough.

Li et al. 2022 (EfficientFormer), arXiv:2206.01191, section 4.2. Blocks are ranked by the
weights that a supernet of `meta_path` blocks learned. Three actions make a net faster: leave out the least important
block, turn the first attention block into a pooling block, make the least important stage narrower. Of them the one is
taken that loses least for the time it saves, by a table of measured latencies, again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from anyformer.blocks.meta_path import MetaPath
from anyformer.core.errors import BudgetError, DataError, FitError, OptionError

POOLING, ATTENTION = "pooling", "attention"


@dataclass(frozen=True)
class Net:
    """A net that can be slimmed.

    Attributes:
        widths: channels of each stage.
        blocks: the kind of each block of each stage, "pooling" or "attention"; attention comes last of all.
    """

    widths: tuple[int, ...]
    blocks: tuple[tuple[str, ...], ...]

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        return tuple(len(stage) for stage in self.blocks)


@dataclass(frozen=True)
class LatencyTable:
    """How long each piece of a net takes, in any one unit.

    Attributes:
        blocks: (stage, kind, width) to the time of one block.
        joints: (stage, width before, width) to the time of what leads to a stage; before the first one the width is 0.
        rest: the time of all else, such as the head.
    """

    blocks: Mapping[tuple[int, str, int], float]
    joints: Mapping[tuple[int, int, int], float]
    rest: float = 0.0

    def latency(self, net: Net) -> float:
        """The predicted time of a net: the sum of its pieces. Raises `DataError` where the table lacks one."""
        time = self.rest
        before = 0
        for i, (width, blocks) in enumerate(zip(net.widths, net.blocks, strict=True)):
            time += _find(self.joints, (i, before, width), "the way to stage {0} from {1} to {2} channels")
            time += sum(
                _find(self.blocks, (i, kind, width), "a block of stage {0}, {1} of {2} channels") for kind in blocks
            )
            before = width
        return time


def _find(times: Mapping, key: tuple, what: str) -> float:
    if key not in times:
        raise DataError(
            f"the latency table lacks {what.format(*key)}, which the net uses: measure it, and add it under {key}."
        )
    return times[key]


@dataclass(frozen=True)
class Importance:
    """What a supernet says its blocks are worth: the weight of each kind over that of the identity.

    Attributes:
        blocks: kind to score, for each block of each stage.
    """

    blocks: tuple[tuple[Mapping[str, float], ...], ...]


@dataclass(frozen=True)
class Slimmed:
    """What slimming gave: the net, its predicted latency, and every net on the way, the first and the last included."""

    net: Net
    latency: float
    path: tuple[Net, ...]


def importance(supernet: nn.Module, kinds: Sequence[str] = (POOLING, ATTENTION)) -> Importance:
    """The scores of a trained supernet, a pyramid of `meta_path` blocks whose choices are in the order of `kinds`.

    Raises `FitError` for another model.
    """
    stages = []
    for stage in getattr(supernet, "stages", ()):
        scores = []
        for block in stage.blocks:
            if not isinstance(block, MetaPath):
                raise FitError(
                    "slimming reads the weights of meta_path blocks: build a supernet of them, and train it."
                )
            identity, *shares = block.shares().tolist()
            scores.append({kind: share / max(identity, 1e-12) for kind, share in zip(kinds, shares, strict=False)})
        stages.append(tuple(scores))
    if not stages:
        raise FitError("slimming reads the stages of a pyramid of meta_path blocks; this model has none.")
    return Importance(tuple(stages))


def widest(widths: Sequence[int], scores: Importance) -> Net:
    """The supernet's best net: each block of the kind that weighs most; attention only where nothing else follows."""
    blocks = [[max(block, key=lambda kind: block[kind]) for block in stage] for stage in scores.blocks]
    flat = [(i, j) for i, stage in enumerate(blocks) for j in range(len(stage))]
    attending = True
    for i, j in reversed(flat):
        attending = attending and blocks[i][j] == ATTENTION
        blocks[i][j] = ATTENTION if attending else POOLING
    return Net(tuple(widths), tuple(tuple(stage) for stage in blocks))


def slim(
    net: Net,
    scores: Importance,
    table: LatencyTable,
    target: float,
    *,
    step: int = 16,
    drop: Callable[[Net, Net], float] | None = None,
) -> Slimmed:
    """Take away from a net until the table says it takes `target` or less. Cost: table look-ups, and those of `drop`.

    The steps do not depend on the target, so a lower one gives a net that is nowhere wider or deeper.

    Args:
        net: where it starts.
        scores: of the blocks of the supernet; as many as the net has.
        table: latencies of all pieces that come up on the way.
        target: in the table's unit.
        step: channels by which a stage gets narrower at once.
        drop: what a net loses when it becomes another, such as accuracy, smaller is better; None: the importance that
            it gives up (the paper measures accuracy).

    Raises:
        BudgetError: no net that this one can become is fast enough; the fastest is named.
        DataError: a piece that the table lacks.
        OptionError: a step below 1, or scores of another number of blocks.
    """
    if step < 1 or tuple(len(s) for s in scores.blocks) != net.depths:
        raise OptionError(
            f"slimming takes a step of 1 channel or more and a score for each block; given step={step}, scores of "
            f"{[len(s) for s in scores.blocks]} blocks and a net of {list(net.depths)}."
        )
    kept = [list(stage) for stage in scores.blocks]
    path, latency = [net], table.latency(net)
    while latency > target:
        best = None
        for action in _actions(net, kept, step):
            faster = next((new for new in action if table.latency(new.net) < latency), None)
            if faster is None:
                continue
            loss = faster.loss if drop is None else drop(net, faster.net)
            price = loss / (latency - table.latency(faster.net))
            if best is None or price < best[0]:
                best = (price, faster)
        if best is None:
            raise BudgetError(
                f"no net that slimming leads to takes {target:g} or less by this table: the fastest takes {latency:g}, "
                f"with {list(net.depths)} blocks of {list(net.widths)} channels. Raise the target."
            )
        net, kept = best[1].net, best[1].kept
        path.append(net)
        latency = table.latency(net)
    return Slimmed(net, latency, tuple(path))


Scores = list[list[Mapping[str, float]]]


@dataclass(frozen=True)
class _Step:
    """A net that another can become, the scores of its blocks, and the importance given up."""

    net: Net
    kept: Scores
    loss: float


def _actions(net: Net, scores: Scores, step: int) -> list[Iterator[_Step]]:
    """The three actions; each gives what it can do, the least important first."""
    return [_shallower(net, scores), _simpler(net, scores), _narrower(net, scores, step)]


def _worth(net: Net, scores: Scores, i: int, j: int) -> float:
    return scores[i][j][net.blocks[i][j]]


def _shallower(net: Net, scores: Scores) -> Iterator[_Step]:
    """Without one block; each stage keeps one."""
    places = [(i, j) for i, stage in enumerate(net.blocks) if len(stage) > 1 for j in range(len(stage))]
    for i, j in sorted(places, key=lambda place: _worth(net, scores, *place)):
        blocks = tuple(stage[:j] + stage[j + 1 :] if n == i else stage for n, stage in enumerate(net.blocks))
        kept = [stage[:j] + stage[j + 1 :] if n == i else stage for n, stage in enumerate(scores)]
        yield _Step(replace(net, blocks=blocks), kept, _worth(net, scores, i, j))


def _simpler(net: Net, scores: Scores) -> Iterator[_Step]:
    """With pooling for the first attention block."""
    places = [(i, j) for i, stage in enumerate(net.blocks) for j, kind in enumerate(stage) if kind == ATTENTION]
    for i, j in places[:1]:
        stage = net.blocks[i]
        blocks = (*net.blocks[:i], (*stage[:j], POOLING, *stage[j + 1 :]), *net.blocks[i + 1 :])
        block = scores[i][j]
        yield _Step(replace(net, blocks=blocks), scores, max(0.0, block[ATTENTION] - block[POOLING]))


def _narrower(net: Net, scores: Scores, step: int) -> Iterator[_Step]:
    """With one stage narrower; each keeps a step."""
    worth = [sum(_worth(net, scores, i, j) for j in range(len(stage))) for i, stage in enumerate(net.blocks)]
    for i in sorted(range(len(worth)), key=lambda i: worth[i]):
        if net.widths[i] > step:
            widths = (*net.widths[:i], net.widths[i] - step, *net.widths[i + 1 :])
            yield _Step(replace(net, widths=widths), scores, worth[i] * step / net.widths[i])


METHODS = {"slim": slim}
