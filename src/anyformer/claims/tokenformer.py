"""TokenFormer: is it cheaper to grow a trained model by parameter tokens than to train the large one from the start?

Bytes of Python's documentation, windows of 64. A model that is small, one of twice the parameter tokens at the same
width, and one that is small for 300 steps and is then grown to the large one's size. The grown one gets 90 percent of
the multiply-adds that the large one has had in all, and as many steps as the small one; losses are of the validation
part. Every run has the same warm-up and rate, and in its second half a linear decay to nothing; growing starts Adam's
averages anew.

On seed 0 the small model comes to 1.88 nats, the grown one to 1.81 and the large one to 1.62, and to 2.00 in the 330
steps that the grown one has after growing: what the small one had learned counts, but not for the 270 steps of the
large one that it cost. No mistake was found in growing. A second warm-up of 40 steps behind it gave 1.82, Adam's
averages carried over 1.80, and tau raised to the large model's, as the authors' code does, 1.74, but then the loss
jumps by 0.17 as the model grows. At width 32 with tokens in the paper's proportions to it (24 and 96, then twice as
many) the grown one came to 2.15 and the large one to 2.01.

With four times the parameter tokens (64 and 128, then twice as many), where a step of the small model costs 57 percent
of the large one's and not 70, the grown model ended 0.004 nats above the large one on seed 0 (1.4216 and 1.4177; 1.4236
without growing), at a cost that does not fit a claim's time; so the smaller sizes stand.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from anyformer.lab.claim import Claim, Expect
from anyformer.lab.profile import count_operations
from anyformer.methods.growth.parameter_tokens import grow_parameter_tokens
from anyformer.models.factory import create_model
from anyformer.tasks.language import Text

CLAIM = Claim(
    statement="Growing by parameter tokens loses nothing when it happens, gains from then on, and reaches the loss of "
    "the large model trained from the start with less computation.",
    baseline="The small model trained for as many steps, and the large one trained from the start with more multiply-"
    "adds; same data, batches and schedule.",
    expect=(
        Expect("jump", at_most=1e-4, unit="nats by which the loss changes as the model grows"),
        Expect("gain", at_least=0.001, unit="nats below the model that was not grown"),
        Expect("lead", at_least=0.0, unit="nats below the large model, at 90 percent of its multiply-adds"),
    ),
    seeds=(1, 2),
)
SMALL = {"dim": 64, "depth": 2, "mixer.tokens": 16, "ffn.tokens": 32}
LENGTH, BATCH, RATE, WARMUP = 64, 32, 4e-3, 40
FIRST, LARGE, SHARE = 300, 600, 0.9
"""Steps before growing; steps of the large model; what the grown model may have of its multiply-adds."""


def network(times: int) -> Any:
    """A TokenFormer with so many times the small one's parameter tokens."""
    options = {k: v * (times if k.endswith("tokens") else 1) for k, v in SMALL.items() if "." in k}
    options = {f"block.{k}": v for k, v in options.items()}
    return create_model("tokenformer_micro", dim=SMALL["dim"], depth=SMALL["depth"], max_length=LENGTH, **options)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of every run."""
    return torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, task: Text, steps: range, last: int, seed: int
) -> nn.Module:
    """These steps of a run that ends, its rate decayed to nothing, after `last`."""
    model.train()
    for step in steps:
        rate = RATE * min(1.0, (step + 1) / WARMUP) * min(1.0, 2 * (1 - step / last))
        for group in optimizer.param_groups:
            group["lr"] = rate
        draw = 10**6 * seed + step
        indices = torch.randint(task.size("train"), (BATCH,), generator=torch.Generator().manual_seed(draw))
        loss = task.loss(model, task.sample("train", indices, seed=draw, train=True))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def loss(model: nn.Module, task: Text) -> float:
    """Nats a byte, over 256 windows of the validation part."""
    with torch.no_grad():
        return float(task.loss(model, task.sample("valid", torch.arange(256))))


def measure(seed: int) -> dict[str, float]:
    """Losses of the small, the large and the grown model, and what growing itself changed."""
    task = Text(length=LENGTH)
    ids = torch.zeros(1, LENGTH, dtype=torch.long)
    cost = {times: count_operations(network(times).eval(), ids) for times in (1, 2)}
    after = int((SHARE * LARGE * cost[2] - FIRST * cost[1]) / cost[2])
    steps = FIRST + after
    torch.manual_seed(seed)
    small = network(1)
    optimizer = adam(small)
    before = loss(train(small, optimizer, task, range(FIRST), steps, seed), task)
    grown = grow_parameter_tokens(small, 2)
    found = {"jump": abs(loss(grown, task) - before)}
    found["small"] = loss(train(small, optimizer, task, range(FIRST, steps), steps, seed), task)
    found["grown"] = loss(train(grown, adam(grown), task, range(FIRST, steps), steps, seed), task)
    torch.manual_seed(seed)
    large = network(2)
    found["large"] = loss(train(large, adam(large), task, range(LARGE), LARGE, seed), task)
    return {
        **found,
        "gain": found["small"] - found["grown"],
        "lead": found["large"] - found["grown"],
        "multiply_adds_saved_percent": 100 * (1 - (FIRST * cost[1] + after * cost[2]) / (LARGE * cost[2])),
        "steps": float(steps),
    }
