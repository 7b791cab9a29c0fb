"""Attention Is All You Need: reversing sequences, by attention and by an LSTM that must carry them in its state.

Sequences of 10 to 20 symbols; the target is the sequence backwards. An encoder-decoder of attention looks each symbol
up where it stands; an LSTM encoder without attention hands over one vector for all of them. Exact match of whole
sequences that were not seen in training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._loop import advance
from anyformer.core.segments import Segments
from anyformer.lab.claim import Claim, Expect
from anyformer.methods.optimization.schedules import warmup_inverse_sqrt
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="Attention alone, without recurrence, maps sequences to sequences, and better than recurrence alone.",
    baseline="An LSTM encoder-decoder without attention, of equal size, trained on the same batches, its learning rate "
    "tuned alike.",
    expect=(
        Expect("transformer", at_least=95.0, unit="exact match, percent"),
        Expect("gain", at_least=20.0, unit="points of exact match"),
    ),
    seeds=(1, 2),
)
PAD, START, END, SYMBOLS = 0, 1, 2, 10
SHORTEST, LONGEST = 10, 20
DIM, STEPS, BATCH, WARMUP = 64, 900, 64, 400
SCALES = {"transformer": 0.2, "lstm": 1.6}
"""Of the learning rate: for each the best of 0.1, 0.2, 0.4, 0.8, 1.6 and 3.2 on seed 0, which measures nothing here."""


def pairs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sources `(b, 21)` that close with END, reversals with START before and END behind, and lengths of the sources."""
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=generator)
    symbols = torch.randint(3, 3 + SYMBOLS, (count, LONGEST), generator=generator)
    place = torch.arange(LONGEST)
    source = symbols.masked_fill(place >= lengths[:, None], PAD)
    backwards = source.gather(1, (lengths[:, None] - 1 - place) % LONGEST).masked_fill(place >= lengths[:, None], PAD)
    target = F.pad(backwards, (1, 1), value=PAD)
    target[:, 0] = START
    target[torch.arange(count), lengths + 1] = END
    source = F.pad(source, (0, 1), value=PAD)
    source[torch.arange(count), lengths] = END
    return source, target, lengths + 1


class Recurrent(nn.Module):
    """An LSTM reads the source, another writes the target from its last state."""

    def __init__(self, dim: int):
        super().__init__()
        self.embedding = nn.Embedding(3 + SYMBOLS, dim)
        self.encoder = nn.LSTM(dim, dim, batch_first=True)
        self.decoder = nn.LSTM(dim, dim, batch_first=True)
        self.head = nn.Linear(dim, 3 + SYMBOLS)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(source), lengths, True, enforce_sorted=False)
        _, state = self.encoder(packed)
        return self.head(self.decoder(self.embedding(target), state)[0])


class Attentive(nn.Module):
    """The Transformer at the same calling convention."""

    def __init__(self, dim: int):
        super().__init__()
        sizes = {f"{side}.mixer.heads": 4 for side in ("encoder", "decoder")}
        sizes |= {f"{side}.ffn.hidden": 2 * dim for side in ("encoder", "decoder")}
        self.model = create_model(
            "transformer_micro",
            **{"dim": dim, "embed.scale": dim**0.5, "embed.std": dim**-0.5, "vocab_size": 3 + SYMBOLS, **sizes},
        )

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        return self.model(source, target, source_segments=Segments.from_lengths(lengths, source.shape[1]))


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def equal_size(parameters: int) -> int:
    """Channels at which the LSTMs have as many parameters."""
    return min(range(16, 256), key=lambda dim: abs(size(Recurrent(dim)) - parameters))


def exact_match(model: nn.Module, seed: int, rate: Callable[[int], float]) -> float:
    """Train, then write 512 new reversals greedily: how many are right to the last symbol, in percent."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def loss() -> Tensor:
        source, target, lengths = pairs(BATCH, generator)
        logits = model(source, target[:, :-1], lengths)
        return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)

    advance(model, loss, optimizer, schedule, STEPS)
    source, target, lengths = pairs(512, torch.Generator().manual_seed(10_000 + seed))
    model.eval()
    written = torch.full((len(source), 1), START)
    with torch.no_grad():
        for _ in range(LONGEST + 1):
            written = torch.cat([written, model(source, written, lengths)[:, -1:].argmax(-1)], 1)
    return 100 * float(((written == target) | (target == PAD)).all(1).float().mean())


def measure(seed: int) -> dict[str, float]:
    """Exact match of both, in percent, after as many steps, each at the best scale of one schedule."""
    parameters = size(Attentive(DIM))
    models = {"transformer": lambda: Attentive(DIM), "lstm": lambda: Recurrent(equal_size(parameters))}
    shape, found = warmup_inverse_sqrt(DIM, WARMUP), {}
    for name, make in models.items():
        torch.manual_seed(seed)
        found[name] = exact_match(make(), seed, lambda step, scale=SCALES[name]: scale * shape(step))
    return {**found, "gain": found["transformer"] - found["lstm"]}
