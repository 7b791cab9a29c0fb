"""Mamba-2: a decoder of state spaces whose heads forget as a whole, with neither attention nor channel mixers.

Dao and Gu 2024, arXiv:2405.21060, appendix D and table 10.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.decoders import prenorm_decoder

PAPERS = ("mamba2_hybrid",)


def mamba2(
    dim: int,
    depth: int,
    *,
    state: int = 128,
    head_dim: int = 64,
    groups: int = 1,
    vocab_size: int = 50288,
    max_length: int = 2048,
    tie: bool = True,
) -> Spec:
    """A Mamba-2; the head uses the embedding's vectors where not said otherwise. Texts may be longer."""
    mixer = Spec("mamba2", state=state, head_dim=head_dim, groups=groups)
    return prenorm_decoder(dim, depth, mixer, vocab_size=vocab_size, max_length=max_length, tie=tie)


VARIANTS = {
    "mamba2_130m": mamba2(768, 24),
    "mamba2_370m": mamba2(1024, 48),
    "mamba2_780m": mamba2(1536, 48),
    "mamba2_1.3b": mamba2(2048, 48),
    "mamba2_2.7b": mamba2(2560, 64),
    # Mistral AI 2024, Codestral Mamba, https://mistral.ai/news/codestral-mamba.
    "mamba_codestral_7b": mamba2(4096, 64, groups=8, vocab_size=32768, max_length=262144, tie=False),
    # Ours, for bytes and for tests.
    "mamba2_micro": mamba2(64, 3, state=32, head_dim=32, vocab_size=256, max_length=256).set(init="fan_in"),
}
