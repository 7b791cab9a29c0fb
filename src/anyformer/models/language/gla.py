"""GLA: a decoder of gated linear attention and gated channel mixers, the layout of flash-linear-attention's decoders.

Yang et al. 2023, arXiv:2312.06635, section 5; sizes as their code (flash-linear-attention) has them.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.decoders import prenorm_decoder

PAPERS = ("survey_after_transformers",)
NORM = Spec("rmsnorm", eps=1e-6)
"""Of flash-linear-attention's decoders: of blocks, and of what their mixers read."""


def linear_decoder(
    dim: int,
    depth: int,
    mixer: Spec,
    hidden: int | None = None,
    *,
    vocab_size: int = 32000,
    max_length: int = 2048,
    tie: bool = False,
) -> Spec:
    """A mixer and a gated channel mixer in turn; `hidden` is 8/3 of `dim`, up to a multiple of 256, where not given."""
    hidden = -(-int(dim * 8 / 3) // 256) * 256 if hidden is None else hidden
    ffn = Spec("gated_mlp", hidden=hidden)
    return prenorm_decoder(dim, depth, mixer, ffn, norm=NORM, vocab_size=vocab_size, max_length=max_length, tie=tie)


GLA = Spec("gated_linear_attention", heads=4, norm=NORM)
VARIANTS = {
    "gla_340m": linear_decoder(1024, 24, GLA, tie=True),
    "gla_1.3b": linear_decoder(2048, 24, GLA),
    # Ours, for bytes and for tests.
    "gla_micro": linear_decoder(64, 3, GLA.set(heads=2), 128, vocab_size=256, max_length=256).set(init="fan_in"),
}
