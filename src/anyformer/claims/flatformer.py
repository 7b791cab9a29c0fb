"""Liu et al. 2023, arXiv:2301.08739: groups of equal size waste nothing on a cloud, and neighbours still meet.

Points on a grid of 48x48 cells, in clusters of very different density on a thin background, each with one of four
colours. Computed slots: those of the groups, and those of windows of 8x8 cells that are padded to the fullest window of
a cloud, empty windows left out, as attention in windows needs them. The label of a point is the colour that most points
within three cells of it have, its own counted; its own colour tells part of it, and is all that an MLP sees.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.blocks.stack import Stack
from anyformer.claims._signals import fit
from anyformer.core.init import starting
from anyformer.lab.claim import Claim, Expect
from anyformer.layers.attention.local.flattened_window import equal_groups, window_keys
from anyformer.models.geometry.flatformer import flatformer

CLAIM = Claim(
    statement="Flattened windows compute at most 1.1 slots a point where padded windows compute 1.5 or more, and four "
    "blocks label points by their neighbours at least 5 points better than an MLP on single points.",
    baseline="Windows padded to the fullest; and a network as deep that looks at each point alone.",
    expect=(
        Expect("slots_of_groups", at_most=1.1, unit="computed slots a point"),
        Expect("slots_of_windows", at_least=1.5, unit="computed slots a point"),
        Expect("gain_over_mlp", at_least=5.0, unit="points of accuracy"),
    ),
    seeds=(1, 2),
)
SIDE, POINTS, COLOURS, RADIUS = 48, 205, 4, 3
WINDOW, GROUP = 8, 32
DIM, HEADS, STEPS, RATE = 32, 4, 300, 5e-3
TRAIN, TEST = 2048, 256


def clouds(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places `(count, points, 2)`, colours and labels `(count, points)`."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 6, 2, generator=generator) * SIDE
    spread = torch.rand(count, 6, generator=generator) * 4 + 1
    cells = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))
    apart = (cells[None, :, None] - centres[:, None]).square().sum(-1)
    density = 0.01 + (-apart / (2 * spread[:, None] ** 2)).exp().sum(-1)
    chosen = density.multinomial(POINTS, generator=generator)
    colours = torch.randint(COLOURS, (count, POINTS), generator=generator)
    places = cells[chosen]
    near = (places[:, :, None] - places[:, None]).square().sum(-1) <= RADIUS**2
    votes = near.float() @ F.one_hot(colours, COLOURS).float()
    own = F.one_hot(colours, COLOURS)
    return places, colours, (votes + 0.5 * own).argmax(-1)  # a tie goes to a point's own colour


def slots(places: Tensor) -> tuple[float, float]:
    """Computed slots a point: of groups, and of windows padded to the fullest of their cloud."""
    groups = equal_groups(window_keys(places, WINDOW), GROUP).slots
    window = places // WINDOW
    number = window[..., 0] * (SIDE // WINDOW) + window[..., 1]
    held = F.one_hot(number, (SIDE // WINDOW) ** 2).sum(1)
    padded = int((held.amax(1) * (held > 0).sum(1)).sum())
    return groups / number.numel(), padded / number.numel()


class Labeller(nn.Module):
    """A colour's vector, four blocks, and scores; without attention each point is looked at alone."""

    def __init__(self, attention: bool):
        super().__init__()
        blocks = flatformer(DIM, 4, heads=HEADS, window=WINDOW, group=GROUP)["block"]
        if not attention:
            blocks = [block.set(mixer="identity", ffn=block["ffn"].set(ratio=4.0)) for block in blocks]
        with starting("fan_in"):
            self.embed = nn.Embedding(COLOURS, DIM)
            self.blocks = Stack(blocks, 4, dim=DIM, grid=(SIDE, SIDE))
            self.head = nn.Linear(DIM, COLOURS)

    def forward(self, places: Tensor, colours: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(colours), None, places))


def measure(seed: int) -> dict[str, float]:
    """Slots a point, and accuracy on new clouds of the network with attention and of the one without."""
    places, colours, labels = clouds(TRAIN, 1000 + seed)
    new, new_colours, truth = clouds(TEST, 2000 + seed)
    groups, windows = slots(new)
    found = {"slots_of_groups": groups, "slots_of_windows": windows}
    for arm in ("attention", "mlp"):
        torch.manual_seed(seed)
        model = fit(
            Labeller(arm == "attention"),
            lambda net, rows: F.cross_entropy(net(places[rows], colours[rows]).flatten(0, 1), labels[rows].flatten()),
            TRAIN,
            steps=STEPS,
            rate=RATE,
            seed=seed,
            batch=32,
        )
        with torch.no_grad():
            found[arm] = 100 * float((model(new, new_colours).argmax(-1) == truth).float().mean())
    return found | {"gain_over_mlp": found["attention"] - found["mlp"]}
