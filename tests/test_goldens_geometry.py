"""Models of space and motion against the goldens of their references, through `load_reference`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from anyformer import create_model, load_reference
from anyformer.core.segments import Segments
from anyformer.models.geometry.pillars import Pillars
from golden import Golden

Run = Callable[[torch.nn.Module, dict[str, Tensor]], dict[str, Tensor]]


def raft_bytes(model, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' frames are bytes, which their model brings to [-1, 1] by itself."""
    return raft_flows(model, {name: 2 * x / 255 - 1 for name, x in given.items()})


def raft_flows(model, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The flow after each of three updates."""
    return {str(i): flow for i, flow in enumerate(model.flows(*given.values(), updates=3))}


CASES: dict[str, tuple[str, Run]] = {  # golden: (name for create_model, outputs under the golden's names)
    "raft--raft--official": ("official:raft-things", raft_bytes),
    "raft--raft_small--official": ("official:raft-small", raft_bytes),
    "raft--raft_large--torchvision": ("torchvision:raft_large", raft_flows),
    "raft--raft_small--torchvision": ("torchvision:raft_small", raft_flows),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, outputs = CASES[name]
    Golden(name).hold(create_model(ours), outputs)


def test_blocks_of_flatformer_give_the_authors_pillars():
    golden = Golden("flatformer--flatformer_small--official")
    theirs = golden.data["kwargs"]
    columns, rows, _ = theirs["sparse_shape"]
    model = create_model(
        "flatformer_waymo",
        dim=theirs["in_channels"],
        depth=4 * theirs["num_blocks"],
        extent=(0.0, 0.0, 0.0, float(columns), float(rows), 1.0),
        cell=1.0,
        num_classes=0,
        **{
            f"block.{i}.mixer.{option}": value
            for i in range(4)
            for option, value in (
                ("heads", theirs["num_heads"]),
                ("window", theirs["window_shape"][0]),
                ("group", theirs["group_size"]),
            )
        },
    ).eval()
    assert sum(p.numel() for p in model.blocks.parameters()) == golden.parameters
    report = load_reference(model, golden.state(), golden.source, partial=True)
    assert not report.unexpected and not report.reshaped
    assert all(name.startswith("encoder.") for name in report.missing), "points to pillars are not in this golden"
    given = golden.inputs()
    counts = [93, 57]
    clouds = given["x"].split(counts)
    cells = [order[:n] for order, n in zip(given["order"].argsort(1), counts, strict=True)]
    x = torch.nn.utils.rnn.pad_sequence(clouds, batch_first=True)
    cells = torch.nn.utils.rnn.pad_sequence(cells, batch_first=True)
    found = Pillars(cells, torch.stack([cells // columns, cells % columns], -1), Segments.from_lengths(counts, 93))
    with torch.no_grad():
        layers = [4 * i + 3 for i in range(theirs["num_blocks"])]
        outputs = model.blocks.outputs(x, layers, found.segments, found.places)
        ours = {f"block{i}": y[found.segments.valid] for i, y in enumerate(outputs)}
        golden.check(ours | {"bev": model.seen_from_above(outputs[-1], found)})
