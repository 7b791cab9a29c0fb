"""T5: a pre-norm encoder-decoder whose positions are learned biases by distance, shared by all blocks of a side.

Raffel et al. 2019, arXiv:1910.10683, section 2.1 and appendix; T5 1.1 with gated channel mixers (Shazeer 2020,
arXiv:2002.05202) and a head of its own; mT5, Xue et al. 2020, arXiv:2010.11934; ByT5, Xue et al. 2021,
arXiv:2105.13626, table 1; FLAN-T5, Chung et al. 2022, arXiv:2210.11416.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.blocks.encoder_decoder import EncoderDecoder
from anyformer.blocks.stack import Stack
from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.init import chooses_start
from anyformer.core.spec import Spec

PAPERS = ()


class T5(EncoderDecoder):
    """An encoder-decoder in which each side has one bias of relative positions for all its blocks.

    It is computed once a pass. Attention is not scaled: queries start smaller by the root of their width instead. With
    a tied head, tokens are scaled by dim^-0.5 before it.

    Args:
        distance: the bias, e.g. Spec("relative_buckets").
        encoder, decoder: blocks whose mixers take a bias (`pair_bias`), such as attention; with `decoder_depth=0` it is
            an encoder alone.
        options: as `EncoderDecoder`'s.
    """

    name = "t5"

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        encoder: Spec | Sequence[Spec],
        decoder: Spec | Sequence[Spec],
        distance: Spec = Spec("relative_buckets"),
        position: Spec | None = None,
        **options: Any,
    ):
        super().__init__(dim=dim, encoder=encoder, decoder=decoder, position=position, **options)
        self.encoder_distance = shared_distance(distance, self.encoder, causal=False)
        self.decoder_distance = shared_distance(distance, self.decoder, causal=True)

    def shared(
        self, side: Literal["encoder", "decoder"], x: Float[Tensor, "b n c"], seen: Int[Tensor, "b"] | None = None
    ) -> tuple[Float[Tensor, "1 h n m"], ...]:
        """The bias of these tokens and all up to them."""
        distance = self.encoder_distance if side == "encoder" else self.decoder_distance
        if distance is None:
            return ()
        before = 0 if seen is None or not len(seen) else int(seen[0])
        return (distance(x.shape[1], before + x.shape[1], x.device)[None],)

    def logits(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n v"]:
        return super().logits(x if self.head is not None else x * self.dim**-0.5)


def shared_distance(distance: Spec, stack: Stack, *, causal: bool) -> Any:
    """The bias of a side's blocks, built for their heads, None for a side without blocks.

    Queries are made smaller, as nothing scales scores.
    """
    heads = None
    for block in stack:
        if not getattr(block.mixer, "pair_bias", False):
            raise FitError(
                f"t5 tells its mixers how far apart tokens are, and {block.mixer.name} has no place for that: take one "
                "with pair_bias, such as attention."
            )
        qkv = block.mixer.qkv
        heads = qkv.heads if heads is None else heads
        if qkv.heads != heads:
            raise FitError(
                f"t5 shares one bias among all blocks of a side, so all have {heads} heads; not {qkv.heads}."
            )
        with torch.no_grad():
            qkv.weight[: qkv.widths[0]] *= qkv.head_dim**-0.5
            if block.cross is not None:
                block.cross.query.weight *= block.cross.head_dim**-0.5
    return None if heads is None else build(distance, "bias", heads=heads, causal=causal)


def t5(
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    *,
    head_dim: int = 64,
    decoder_depth: int | None = None,
    ffn: Spec | None = None,
    tie: bool = True,
    vocab_size: int = 32128,
    max_length: int = 512,
    dropout: float = 0.1,
) -> Spec:
    """The first T5: channel mixers with ReLU, a tied head. `head_dim` does not follow from `dim`."""
    attention: dict[str, Any] = {
        "heads": heads, "head_dim": head_dim, "bias": False, "out_bias": False, "scoring": Spec("unscaled_softmax"),
    }  # fmt: skip
    norm = Spec("rmsnorm", eps=1e-6)
    ffn = Spec("mlp", hidden=hidden, act=Spec("relu"), bias=False) if ffn is None else ffn
    block = Spec("prenorm", mixer=Spec("attention", **attention), ffn=ffn, norm=norm)
    return Spec(
        "t5",
        dim=dim,
        encoder=block,
        decoder=block.set(cross=Spec("cross_attention", **attention)),
        encoder_depth=depth,
        decoder_depth=depth if decoder_depth is None else decoder_depth,
        vocab_size=vocab_size,
        max_length=max_length,
        embed=Spec("token", std=1.0),
        encoder_norm=norm,
        decoder_norm=norm,
        tie=tie,
        start=0,
        end=1,
        dropout=dropout,
    )


def t5_v1_1(dim: int, depth: int, heads: int, hidden: int, **options: Any) -> Spec:
    """T5 1.1: channel mixers with a gate, a head of its own. mT5, ByT5 and FLAN-T5 are of this build."""
    gated = Spec("gated_mlp", hidden=hidden, act=Spec("gelu", approximate="tanh"))
    return t5(dim, depth, heads, hidden, ffn=gated, tie=False, **options)


LARGER = {"small": (512, 8, 6, 1024), "base": (768, 12, 12, 2048), "large": (1024, 24, 16, 2816)}
LARGER |= {"xl": (2048, 24, 32, 5120), "xxl": (4096, 24, 64, 10240)}
"""Sizes of T5 1.1: channels, depth of each side, heads, hidden channels."""
MULTILINGUAL = 250112
BYTES = 384
"""Ids of ByT5: three marks, 256 bytes, and room for sentinels."""

VARIANTS = {
    "t5_small": t5(512, 6, 8, 2048),
    "t5_base": t5(768, 12, 12, 3072),
    "t5_large": t5(1024, 24, 16, 4096),
    "t5_3b": t5(1024, 24, 32, 16384, head_dim=128),
    "t5_11b": t5(1024, 24, 128, 65536, head_dim=128),
}
VARIANTS |= {f"t5_v1_1_{size}": t5_v1_1(*shape) for size, shape in LARGER.items()}
VARIANTS |= {f"flan_t5_{size}": t5_v1_1(*shape) for size, shape in LARGER.items()}
VARIANTS |= {f"mt5_{size}": t5_v1_1(*shape, vocab_size=MULTILINGUAL) for size, shape in LARGER.items()}
VARIANTS |= {
    "byt5_small": t5_v1_1(1472, 12, 6, 3584, decoder_depth=4, vocab_size=BYTES, max_length=1024),
    "byt5_base": t5_v1_1(1536, 18, 12, 3968, decoder_depth=6, vocab_size=BYTES, max_length=1024),
    "byt5_large": t5_v1_1(1536, 36, 16, 3840, decoder_depth=12, vocab_size=BYTES, max_length=1024),
    "byt5_xl": t5_v1_1(2560, 36, 32, 6720, decoder_depth=12, vocab_size=BYTES, max_length=1024),
    "byt5_xxl": t5_v1_1(4672, 36, 64, 12352, decoder_depth=12, vocab_size=BYTES, max_length=1024),
    # Ours, for bytes (three ids before them: padding, start, end) and for tests.
    "t5_micro": t5(64, 2, 4, 128, head_dim=16, vocab_size=259, max_length=128, dropout=0.0).set(init="fan_in"),
}
