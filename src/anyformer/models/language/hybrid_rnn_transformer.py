"""Hybrids of attention, feed-forward layers and QRNNs: a decoder in which every residual layer is one of the three.

Lindenmaier, Papay and Pado 2025, arXiv:2502.00617, section 3. A pattern is a string, a letter a layer: a for attention,
f for a feed-forward layer, q for a QRNN. Attn-QRNN has few attention layers among QRNNs; the PAR transformer
(arXiv:2009.04534) attends early and ends in feed-forward layers; the hybrid mixes all three. The paper's models have
about 41 million parameters; how many layers of which kind these have here, at 512 channels, is our choice to match it.
Attention knows positions by rotation.
"""

from __future__ import annotations

from anyformer.blocks.one_branch import patterned
from anyformer.core.spec import Spec

PAPERS = ("hybrid_rnn_transformer",)


def hybrid(
    pattern: str,
    dim: int,
    *,
    heads: int = 8,
    ratio: float = 4.0,
    window: int = 2,
    dropout: float = 0.0,
    vocab_size: int = 205,
    max_length: int = 512,
) -> Spec:
    """The decoder of a pattern.

    Args:
        pattern: the layers, e.g. "aqfqf".
        dim: channels.
        heads: of attention.
        ratio: hidden channels of a feed-forward layer over `dim`.
        window: tokens of a QRNN's convolution.
        dropout: share of values dropped in training.
        vocab_size, max_length: ids (Enwik8's 205 characters), and tokens trained on; texts may be longer.

    Raises:
        OptionError: another letter than a, f and q, or no letter.
    """
    norm = Spec("layernorm")
    letters = {
        "a": ("attention", {"mixer": Spec("attention", heads=heads, rotation=Spec("rotary"))}),
        "f": ("feed-forward", {"ffn": Spec("mlp", ratio=ratio)}),
        "q": ("QRNN", {"mixer": Spec("qrnn", window=window)}),
    }
    return Spec(
        "decoder",
        dim=dim,
        **patterned(pattern, letters, norm),
        vocab_size=vocab_size,
        max_length=max_length,
        norm=norm,
        dropout=dropout,
    )


VARIANTS = {
    "attn_qrnn_41m": hybrid("qqqqqqqqa" * 3, 512),
    "par_transformer_41m": hybrid("af" * 7 + "f" * 9, 512),
    "hybrid_transformer_41m": hybrid("aqf" * 7 + "fqff", 512),
    # Ours, for bytes and for tests.
    "hybrid_rnn_transformer_micro": hybrid("qfafqf", 64, heads=2, ratio=2.0, vocab_size=256, max_length=256).set(
        init="fan_in"
    ),
}
