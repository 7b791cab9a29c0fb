"""MEGA: a decoder of damped averages and gated attention in chunks.

Ma et al. 2022, arXiv:2209.10655, section 4.3; sizes as their code has them. Positions are a learned bias of distances
inside a chunk.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.decoders import prenorm_decoder

PAPERS = ("tcnca",)


def gated_decoder(
    dim: int,
    depth: int,
    average: Spec,
    *,
    query_dim: int,
    value_dim: int,
    hidden: int,
    chunk: int,
    vocab_size: int,
    max_length: int,
) -> Spec:
    """Gated attention in chunks and a channel mixer in turn; `average` is what tells a chunk of those before it.

    Args:
        dim, depth: channels; blocks.
        average: a causal mixer.
        query_dim, value_dim: channels of queries and of values.
        hidden: of the channel mixer.
        chunk: tokens of a chunk.
        vocab_size, max_length: ids, and tokens trained on; texts may be longer.
    """
    mixer = Spec("gated_chunk", average=average, query_dim=query_dim, value_dim=value_dim, chunk=chunk)
    ffn = Spec("mlp", hidden=hidden, act=Spec("silu"))
    return prenorm_decoder(
        dim,
        depth,
        mixer,
        ffn,
        norm=Spec("layernorm"),
        block="gated_prenorm",
        vocab_size=vocab_size,
        max_length=max_length,
    )


ENWIK8 = {"query_dim": 128, "value_dim": 1024, "hidden": 1024, "chunk": 2048, "vocab_size": 205, "max_length": 8192}
MICRO = {"query_dim": 32, "value_dim": 128, "hidden": 128, "chunk": 32, "vocab_size": 256, "max_length": 256}

VARIANTS = {
    "mega_enwik8": gated_decoder(512, 12, Spec("ema", states=16), **ENWIK8),
    # Ours, for bytes and for tests.
    "mega_micro": gated_decoder(64, 3, Spec("ema", states=8), **MICRO).set(init="fan_in"),
}
