"""Llama: a pre-norm causal decoder with root-mean-square norms, rotary positions and a gated channel mixer.

Touvron et al. 2023, arXiv:2302.13971, table 2; Llama 2, arXiv:2307.09288, table 1; Llama 3, Grattafiori et al. 2024,
arXiv:2407.21783, table 3.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.decoders import prenorm_decoder

PAPERS = ("llama",)

V3 = 128256
"""Ids of the third generation's vocabulary."""


def llama(
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    *,
    kv_heads: int | None = None,
    vocab_size: int = 32000,
    max_length: int = 2048,
    eps: float = 1e-5,
    rotation: Spec = Spec("rotary"),
    tie: bool = False,
) -> Spec:
    """A Llama; `kv_heads` below `heads` is grouped-query attention."""
    mixer = Spec("attention", heads=heads, kv_heads=kv_heads, bias=False, out_bias=False, rotation=rotation)
    ffn, norm = Spec("gated_mlp", hidden=hidden), Spec("rmsnorm", eps=eps)
    return prenorm_decoder(dim, depth, mixer, ffn, norm=norm, vocab_size=vocab_size, max_length=max_length, tie=tie)


def llama3(dim: int, depth: int, heads: int, hidden: int, *, stretch: float = 1.0, tie: bool = False) -> Spec:
    """The third generation; from 3.1 on, slow rotations are `stretch` times slower for longer texts."""
    rotation = Spec("rotary", base=500000.0)
    if stretch != 1.0:
        rotation = Spec("rotary_by_parts", base=500000.0, factor=stretch, trained_length=8192)
    length = 8192 if stretch == 1.0 else 131072
    return llama(dim, depth, heads, hidden, kv_heads=8, vocab_size=V3, max_length=length, rotation=rotation, tie=tie)


def code_llama(dim: int, depth: int, heads: int, hidden: int, *, kv_heads: int | None = None, vocab_size: int) -> Spec:
    """Code Llama (Roziere et al. 2023, arXiv:2308.12950): Llama 2 with slower rotations."""
    return llama(
        dim,
        depth,
        heads,
        hidden,
        kv_heads=kv_heads,
        vocab_size=vocab_size,
        max_length=16384,
        rotation=Spec("rotary", base=1000000.0),
    )


VARIANTS = {
    "llama_7b": llama(4096, 32, 32, 11008, eps=1e-6),
    "llama_13b": llama(5120, 40, 40, 13824, eps=1e-6),
    "llama_30b": llama(6656, 60, 52, 17920, eps=1e-6),
    "llama_65b": llama(8192, 80, 64, 22016, eps=1e-5),
    "llama2_7b": llama(4096, 32, 32, 11008, max_length=4096),
    "llama2_13b": llama(5120, 40, 40, 13824, max_length=4096),
    "llama2_70b": llama(8192, 80, 64, 28672, kv_heads=8, max_length=4096),
    "code_llama_7b": code_llama(4096, 32, 32, 11008, vocab_size=32016),
    "code_llama_13b": code_llama(5120, 40, 40, 13824, vocab_size=32016),
    "code_llama_34b": code_llama(8192, 48, 64, 22016, kv_heads=8, vocab_size=32000),
    "llama3_8b": llama3(4096, 32, 32, 14336),
    "llama3_70b": llama3(8192, 80, 64, 28672),
    "llama3.1_8b": llama3(4096, 32, 32, 14336, stretch=8.0),
    "llama3.1_70b": llama3(8192, 80, 64, 28672, stretch=8.0),
    "llama3.1_405b": llama3(16384, 126, 128, 53248, stretch=8.0),
    "llama3.2_1b": llama3(2048, 16, 32, 8192, stretch=32.0, tie=True),
    "llama3.2_3b": llama3(3072, 28, 24, 8192, stretch=32.0, tie=True),
    "tinyllama_1.1b": llama(2048, 22, 32, 5632, kv_heads=4),
    # Ours, for bytes and for tests.
    "llama_micro": llama(64, 2, 4, 128, kv_heads=2, vocab_size=256, max_length=256).set(init="fan_in"),
}
