"""Yu et al. 2024, arXiv:2412.03275: one set of weights learns both language modelling objectives in turn.

A small Llama reads sentences of a grammar of agreement, packed into windows of 32 words. Three models train equally
long: on next tokens, on hidden tokens, and on both in blocks of epochs. Each is measured on both objectives.

Two thirds of the epochs are masked, as in the paper; but the last eight take turns. On seed 0 the paper's schedule in
small (2c8m2c, one cycle of the rate with a cosine to its end, Adam's second average over 1,000 steps) forgot: it was
13.5 percent above the better model on next tokens and 46.7 on hidden ones; 1m1c six times was 5.1 and 19.1 above. What
helps as well is an average over 20 steps, which follows the change of objective, and a linear decay of the rate, which
leaves the last blocks something to learn with. Models of one objective get both too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyformer.data.agreement import sentences
from anyformer.data.captions import Words
from anyformer.data.seeds import sample_seeds
from anyformer.lab.claim import Claim, Expect
from anyformer.methods.pretraining.antlm import read_schedule, set_causal
from anyformer.methods.pretraining.text_masking import choose_tokens, mask_tokens
from anyformer.models import create_model
from anyformer.tasks.language import token_loss
from anyformer.tasks.task import IGNORE

CLAIM = Claim(
    statement="Alternation is nearly as good on each objective as the model that saw it alone, and each of those fails "
    "on the objective that it never saw.",
    baseline="The same model trained as long on next tokens alone, and on hidden tokens alone.",
    expect=(
        Expect("next_excess", at_most=10.0, unit="percent of next-token loss above the better model's"),
        Expect("masked_excess", at_most=10.0, unit="percent of masked loss above the better model's"),
        Expect("masked_model_on_next", at_least=50.0, unit="percent of next-token loss above the other model's"),
        Expect("causal_model_on_masked", at_least=50.0, unit="percent of masked loss above the other model's"),
    ),
    seeds=(1, 2),
)
SCHEDULE = "5m1c1m1c1m1c1m1c"
WORDS, HELD, LENGTH, BATCH, RATE, WARMUP = 64_000, 4_000, 32, 32, 3e-3, 70


def windows(lines: list[str], words: Words) -> Tensor:
    """`(n, LENGTH + 1)`: sentences one after the other, each behind a mark for the end."""
    stream = torch.tensor([token for line in lines for token in (words.vocab_size, *words.encode(line))])
    return stream.unfold(0, LENGTH + 1, LENGTH)


def loss(model: nn.Module, rows: Tensor, causal: bool, seed: int, mask: int) -> Tensor:
    """Of next tokens, or of hidden ones, which the seed draws."""
    set_causal(model, causal)
    if causal:
        return token_loss(model(rows[:, :-1]), rows[:, 1:])
    ids, seeds = rows[:, :-1], sample_seeds(seed, torch.arange(len(rows)))
    chosen = choose_tokens(seeds, torch.ones_like(ids, dtype=torch.bool))
    hidden = mask_tokens(ids, seeds, chosen=chosen, mask=mask, ordinary=mask - 1)
    return token_loss(model(hidden), ids.masked_fill(~chosen, IGNORE))


def trained(rows: Tensor, epochs: tuple[bool, ...], vocabulary: int, seed: int) -> nn.Module:
    """A model after these epochs; the rate of learning rises, and then falls to nothing."""
    torch.manual_seed(seed)
    model = create_model("llama_micro", vocab_size=vocabulary, max_length=LENGTH)
    generator = torch.Generator().manual_seed(seed)
    steps = len(rows) // BATCH
    total = steps * len(epochs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min((i + 1) / WARMUP, 1 - i / total))
    for epoch, causal in enumerate(epochs):
        order = torch.randperm(len(rows), generator=generator)
        for step in range(steps):
            chosen = rows[order[step * BATCH : (step + 1) * BATCH]]
            optimizer.zero_grad()
            loss(model, chosen, causal, (seed * 1000 + epoch) * 1000 + step, vocabulary - 1).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def measure(seed: int) -> dict[str, float]:
    """Both losses of the three models on held-out sentences, in nats, and how far they are from the better ones."""
    lines = sentences(WORDS, seed)
    words = Words(lines)
    vocabulary = words.vocab_size + 2
    rows = windows(lines, words)
    held = windows(sentences(HELD, 10_000 + seed, without=[(line, "") for line in lines]), words)
    alternating = read_schedule(SCHEDULE)
    arms = {"causal": (True,) * len(alternating), "masked": (False,) * len(alternating), "both": alternating}
    found: dict[str, float] = {}
    for name, epochs in arms.items():
        model = trained(rows, epochs, vocabulary, seed)
        with torch.no_grad():
            for objective, causal in {"next": True, "hidden": False}.items():
                found[f"{name}_{objective}"] = float(loss(model, held, causal, -1, vocabulary - 1))

    def above(of: str, best: float) -> float:
        return 100 * (found[of] / best - 1)

    return {
        **found,
        "next_excess": above("both_next", min(found["causal_next"], found["masked_next"])),
        "masked_excess": above("both_hidden", min(found["causal_hidden"], found["masked_hidden"])),
        "masked_model_on_next": above("masked_next", found["causal_next"]),
        "causal_model_on_masked": above("causal_hidden", found["masked_hidden"]),
    }
