"""ComplexFormer: a pre-norm decoder whose attention reads queries and keys as complex numbers.

Shao et al. 2025, arXiv:2505.10222 (withdrawn). The authors' repository names no trained model.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.decoders import prenorm_decoder

PAPERS = ("complexformer",)


def complexformer(dim: int, depth: int, heads: int, hidden: int, *, vocab_size: int, max_length: int) -> Spec:
    """A ComplexFormer: Llama's block with scores by magnitude and phase, which hold positions too."""
    mixer = Spec("attention", heads=heads, bias=False, out_bias=False, scoring=Spec("complex_phase"))
    ffn = Spec("gated_mlp", hidden=hidden)
    return prenorm_decoder(dim, depth, mixer, ffn, vocab_size=vocab_size, max_length=max_length)


VARIANTS = {
    # Ours, for bytes and for tests.
    "complexformer_micro": complexformer(64, 2, 4, 128, vocab_size=256, max_length=256).set(init="fan_in"),
}
