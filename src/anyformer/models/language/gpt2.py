"""GPT-2: a pre-norm causal decoder with learned positions.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", table 2.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("gpt2", "causal_generation")


def gpt2(
    dim: int,
    depth: int,
    heads: int,
    *,
    ratio: float = 4.0,
    vocab_size: int = 50257,
    max_length: int = 1024,
    dropout: float = 0.1,
) -> Spec:
    """A GPT-2; the head uses the embedding's vectors."""
    return Spec(
        "decoder",
        dim=dim,
        depth=depth,
        block=Spec(
            "prenorm",
            mixer=Spec("attention", heads=heads),
            ffn=Spec("mlp", ratio=ratio, act=Spec("gelu", approximate="tanh")),
        ),
        vocab_size=vocab_size,
        max_length=max_length,
        position=Spec("learned"),
        dropout=dropout,
    )


VARIANTS = {
    "gpt2": gpt2(768, 12, 12),
    "gpt2_medium": gpt2(1024, 24, 16),
    "gpt2_large": gpt2(1280, 36, 20),
    "gpt2_xl": gpt2(1600, 48, 25),
    "distilgpt2": gpt2(768, 6, 12),
    # Ours, for bytes and for tests.
    "gpt2_micro": gpt2(64, 2, 4, ratio=2.0, vocab_size=256, max_length=256, dropout=0.0).set(init="fan_in"),
}
