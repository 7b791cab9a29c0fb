"""FIT: do global layers among latents carry what is far, and is a step faster than with full attention?

A sequence of 16 groups of 8 ids: the first id is a symbol, then come others, the last is a question; the answer is the
symbol. Then a training step over 4096 ids, against a decoder with full attention and as many layers of the same width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.profile.latency import measure_latency
from anyformer.models import create_model

CLAIM = Claim(
    statement="Global layers carry a symbol from the first to the last of 16 groups; a step costs a third or less.",
    baseline="The same model without global layers, trained alike; and full attention for the time of a step.",
    expect=(
        Expect("with_global", at_least=0.95, unit="accuracy"),
        Expect("without_global", at_most=0.2, unit="accuracy; chance is 0.125"),
        Expect("step_speedup", at_least=3.0, unit="times"),
    ),
    seeds=(1, 2),
)
SYMBOLS, OTHERS, GROUPS, GROUP = 8, 7, 16, 8
QUESTION = SYMBOLS + OTHERS
STEPS, BATCH, RATE, TOKENS = 250, 32, 3e-3, 4096


def sequences(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids `(n, 128)` and the symbol of each."""
    ids = torch.randint(SYMBOLS, QUESTION, (n, GROUPS * GROUP), generator=generator)
    symbols = torch.randint(SYMBOLS, (n,), generator=generator)
    ids[:, 0], ids[:, -1] = symbols, QUESTION
    return ids, symbols


def model(layers: str, **options: int) -> Spec:
    """A small FIT with these layers."""
    given = {"group": GROUP, "max_length": GROUPS * GROUP, "vocab_size": QUESTION + 1, **options}
    shape = {"dim": 64, "latent_dim": 64, "heads": 4, "latent_heads": 4, "latents": 1, "ratio": 2.0, "init": "fan_in"}
    return Spec("fit_decoder", layers=layers, **{**shape, **given})


def copies(layers: str, seed: int) -> float:
    """Share of answers that are right after training."""
    torch.manual_seed(seed)
    module = create_model(model(layers))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    for _ in range(STEPS):
        ids, symbols = sequences(BATCH, generator)
        loss = nn.functional.cross_entropy(module(ids)[:, -1], symbols)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    ids, symbols = sequences(512, torch.Generator().manual_seed(seed + 1000))
    with torch.no_grad():
        return float((module.eval()(ids)[:, -1].argmax(-1) == symbols).float().mean())


def step_seconds(spec: Spec) -> float:
    """Median time of a training step over 4096 ids."""
    module = create_model(spec)
    ids = torch.randint(QUESTION, (1, TOKENS))

    def step() -> None:
        module.zero_grad()
        nn.functional.cross_entropy(module(ids).flatten(0, 1), ids.flatten()).backward()

    return measure_latency(step, warmup=1, runs=3, seconds=0.0).median


def measure(seed: int) -> dict[str, float]:
    """Accuracy with and without global layers, and how much faster a step is than with full attention."""
    long = model("(2)2(2)", group=16, max_length=TOKENS)
    block = Spec("prenorm", mixer=Spec("attention", heads=4), ffn=Spec("mlp", ratio=2.0))
    full = Spec("decoder", dim=64, depth=6, block=block, vocab_size=QUESTION + 1, max_length=TOKENS)
    seconds = {"fit": step_seconds(long), "full": step_seconds(full)}
    return {
        "with_global": copies("(1)1(1)", seed),
        "without_global": copies("(2)", seed),
        "step_speedup": seconds["full"] / seconds["fit"],
    }
