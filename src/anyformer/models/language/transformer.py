"""Transformer: the encoder-decoder made of attention and feed-forward layers alone.

Vaswani et al. 2017, arXiv:1706.03762, figure 1 and table 3. Marian's translation models are of the same build.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("transformer",)


def transformer(
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    *,
    vocab_size: int = 37000,
    act: str = "relu",
    layout: str = "interleaved",
    max_length: int = 512,
    dropout: float = 0.1,
) -> Spec:
    """`depth` post-norm blocks a side; vectors of one vocabulary, times sqrt(dim), serve both sides and the head."""
    common = {"mixer": Spec("attention", heads=heads), "ffn": Spec("mlp", hidden=hidden, act=Spec(act))}
    return Spec(
        "encoder_decoder",
        dim=dim,
        encoder=Spec("postnorm", **common),
        decoder=Spec("postnorm", cross=Spec("cross_attention", heads=heads), **common),
        encoder_depth=depth,
        decoder_depth=depth,
        vocab_size=vocab_size,
        max_length=max_length,
        embed=Spec("token", scale=dim**0.5, std=dim**-0.5),
        position=Spec("sinusoidal", layout=layout),
        dropout=dropout,
    )


def marian(vocab_size: int, end: int = 0) -> Spec:
    """A base model with Marian's choices: SiLU, sines before cosines, a bias of the head, padding starts a target."""
    base = transformer(512, 6, 8, 2048, vocab_size=vocab_size, act="silu", layout="halves")
    return base.set(head_bias=True, start=vocab_size - 1, end=end)


VARIANTS = {
    "transformer_base": transformer(512, 6, 8, 2048),
    "transformer_big": transformer(1024, 6, 16, 4096, dropout=0.3),
    "marian_base": marian(58101),
    # Ours, for bytes (three ids before them: padding, start, end) and for tests.
    "transformer_micro": transformer(48, 2, 4, 96, vocab_size=259, max_length=128, dropout=0.0).set(init="fan_in"),
}
