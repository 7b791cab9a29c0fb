"""Hybrids of Mamba-2, attention and MLP: a decoder in which every residual layer is one of the three, in any pattern.

Waleffe et al. 2024, arXiv:2406.07887, sections 2 and 3, tables 1 and 6. There are no positions: what comes first, the
state spaces know. A pattern is a string, a letter a layer: M for Mamba-2, * for attention, - for an MLP.
"""

from __future__ import annotations

import math
from typing import Any

from anyformer.blocks.one_branch import patterned
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec

PAPERS = ("mamba2_hybrid",)


def allocate(layers: int, *, mamba: float = 0.43, attention: float = 0.07, mlp: float = 0.50) -> str:
    """The pattern of a hybrid of these shares, section 3.1: "M-M-M--M-M*-..." for 56 layers of 43, 7 and 50 percent.

    Attention stands at even distances with Mamba-2 before the first; MLPs lie evenly among the rest, later rather than
    earlier. Shares are rounded to whole layers.

    Raises:
        OptionError: shares that do not sum to 1, are negative, or leave no layer of attention or of Mamba-2.
    """
    shares = (mamba, attention, mlp)
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise OptionError(
            f"shares of mamba, attention and mlp are 0 or more and sum to 1; given {mamba}, {attention} and {mlp}, "
            f"together {sum(shares):g}."
        )
    attentions, mlps = round(layers * attention), round(layers * mlp)
    mambas = layers - attentions - mlps
    if attentions < 1 or mambas < 1:
        raise OptionError(
            f"a hybrid has a layer of attention and one of Mamba-2 at least; of {layers} layers, {attention:g} and "
            f"{mamba:g} are {attentions} and {mambas}: take more layers or larger shares, or the family mamba2."
        )
    return _spread(_spread("M" * mambas, "-" * mlps, mlps), "*" * attentions, attentions + 1)


def _spread(layers: str, others: str, sections: int) -> str:
    """`others` set into `layers`, one behind each of the first of so many equal sections (halves are rounded up)."""
    behind = [math.floor((i + 1) * len(layers) / sections + 0.5) for i in range(len(others))]
    pieces = [layers[start:end] for start, end in zip([0, *behind], [*behind, len(layers)], strict=True)]
    return "".join(piece + other for piece, other in zip(pieces, [*others, ""], strict=True))


def hybrid(
    pattern: str,
    dim: int,
    *,
    heads: int,
    kv_heads: int,
    hidden: int,
    head_dim: int | None = None,
    state: int = 128,
    groups: int = 8,
    mamba_head_dim: int = 64,
    mamba_heads: int | None = None,
    dt_least: float = 0.0,
    act: str = "gelu",
    vocab_size: int = 256000,
    max_length: int = 4096,
) -> Spec:
    """A hybrid of the layers of `pattern`. Raises `OptionError` for another letter than M, * and -.

    Args:
        pattern: the layers, e.g. "M-M*-", or what `allocate` gives.
        dim: channels.
        heads, kv_heads, head_dim: of attention.
        hidden: of an MLP.
        state, groups, mamba_head_dim, mamba_heads, dt_least: Mamba-2's state, groups, head_dim, heads and dt_least.
        act: activation of the MLPs.
        vocab_size, max_length: ids, and tokens trained on; texts may be longer.
    """
    norm = Spec("rmsnorm", eps=1e-5)
    mixer = Spec("mamba2", state=state, head_dim=mamba_head_dim, heads=mamba_heads, groups=groups, dt_least=dt_least)
    attention = Spec("attention", heads=heads, kv_heads=kv_heads, head_dim=head_dim, bias=False, out_bias=False)
    letters = {
        "M": ("Mamba-2", {"mixer": mixer}),
        "*": ("attention", {"mixer": attention}),
        "-": ("MLP", {"ffn": Spec("mlp", hidden=hidden, act=Spec(act), bias=False)}),
    }
    return Spec(
        "decoder",
        dim=dim,
        **patterned(pattern, letters, norm),
        vocab_size=vocab_size,
        max_length=max_length,
        norm=norm,
        tie=False,
    )


SIZE: dict[str, Any] = {"heads": 32, "kv_heads": 8, "head_dim": 128}
"""Of attention at 4,096 channels."""
NEMOTRON = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"

VARIANTS = {
    "mamba2_hybrid_8b": hybrid(allocate(56), 4096, hidden=16384, **SIZE),
    # The pure Mamba-2 of the comparison.
    "mamba2_8b": hybrid("M" * 56, 4096, hidden=16384, **SIZE),
    # NVIDIA 2025 (Nemotron-H), arXiv:2504.03624, table 1: its successor.
    "nemotron_h_8b": hybrid(
        NEMOTRON,
        4096,
        hidden=21504,
        mamba_heads=128,
        dt_least=0.001,
        act="squared_relu",
        vocab_size=131072,
        max_length=8192,
        **SIZE,
    ),
    # Ours, for bytes and for tests.
    "mamba2_hybrid_micro": hybrid(
        "M-M*-M-",
        64,
        heads=4,
        kv_heads=2,
        hidden=128,
        state=32,
        groups=2,
        mamba_head_dim=16,
        vocab_size=256,
        max_length=256,
    ).set(init="fan_in"),
}
