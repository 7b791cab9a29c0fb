"""TCNCA: associative recall across chunks, with dilated convolutions before attention inside chunks and without them.

Four pairs of a key and a value fill the first of four chunks of 8 tokens, then come blanks, and at the end all four
keys, in another order: what were their values? Attention inside the last chunk cannot see the pairs; the convolutions
reach 40 tokens back.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="A temporal convolution network lets attention in chunks recall pairs that stand several chunks back.",
    baseline="Attention in the same chunks, with channel mixers of about as many parameters in place of the "
    "convolutions, trained alike.",
    expect=(
        Expect("tcnca", at_least=90.0, unit="values right, percent"),
        Expect("gain", at_least=40.0, unit="points of values right"),
    ),
    seeds=(1, 2, 3),
)
PAIRS, KEYS, VALUES = 4, 8, 8
LENGTH, CHUNK = 32, 8
DIM, STEPS, BATCH, RATE = 64, 600, 32, 1e-2
LONG = 16384


def samples(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids `(b, 32)`, keys and values in turn, blanks, and the keys anew; and the values `(b, 4)` of these."""
    keys = 1 + torch.rand(count, KEYS, generator=generator).argsort(1)[:, :PAIRS]
    values = torch.randint(VALUES, (count, PAIRS), generator=generator)
    asked = torch.rand(count, PAIRS, generator=generator).argsort(1)
    ids = torch.zeros(count, LENGTH, dtype=torch.long)
    ids[:, : 2 * PAIRS] = torch.stack([keys, 1 + KEYS + values], 2).flatten(1)
    ids[:, -PAIRS:] = keys.gather(1, asked)
    return ids, values.gather(1, asked)


def network(convolve: bool) -> nn.Module:
    """Two blocks of the simplified TCNCA, or the same with a channel mixer where the convolutions are."""
    blocks = create_block(convolve)
    return create_model(
        Spec("decoder", dim=DIM, depth=4, block=blocks, vocab_size=1 + KEYS + VALUES, max_length=LENGTH, tie=False).set(
            init="fan_in"
        )
    )


def create_block(convolve: bool) -> list[Spec]:
    """The blocks that alternate."""
    before = {"mixer": Spec("tcn", kernel=9, base=4, stages=2)} if convolve else {"ffn": Spec("mlp", hidden=9)}
    attention = Spec("block_local", heads=4, block=CHUNK, before=0, rotation=Spec("rotary"))
    return [Spec("one_branch", **before), Spec("one_branch", mixer=attention)]


def right(model: nn.Module, seed: int) -> float:
    """Train, then answer 1,024 new sequences: percent of values that are right."""
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        ids, values = samples(BATCH, generator)
        return F.cross_entropy(model(ids)[:, -PAIRS:, 1 + KEYS :].flatten(0, 1), values.flatten())

    one_cycle(model, loss, steps=STEPS, rate=RATE)
    ids, values = samples(1024, torch.Generator().manual_seed(10_000 + seed))
    with torch.no_grad():
        return 100 * float((model(ids)[:, -PAIRS:, 1 + KEYS :].argmax(-1) == values).float().mean())


def seconds(mixer: nn.Module) -> float:
    """Of a forward pass over 16,384 tokens, the quickest of three."""
    x, found = torch.randn(1, LONG, DIM), []
    with torch.no_grad():
        for _ in range(3):
            begin = time.perf_counter()
            mixer(x)
            found.append(time.perf_counter() - begin)
    return min(found)


def measure(seed: int) -> dict[str, float]:
    """Percent of values right with and without convolutions; and how many times as long MEGA's average takes by FFT."""
    found = {}
    for name, convolve in {"tcnca": True, "chunked_attention": False}.items():
        torch.manual_seed(seed)
        found[name] = right(network(convolve), seed)
    specs = {"tcn": Spec("tcn", kernel=17, base=8, stages=4), "ema": Spec("ema", states=16)}
    times = {name: seconds(build(spec, "mixer", dim=DIM, causal=True).eval()) for name, spec in specs.items()}
    return {
        **found,
        "gain": found["tcnca"] - found["chunked_attention"],
        "ema_over_tcn_seconds": times["ema"] / times["tcn"],
    }
