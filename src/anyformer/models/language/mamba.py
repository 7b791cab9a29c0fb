"""Mamba: a decoder of selective state spaces alone, with neither attention nor channel mixers.

Gu and Dao 2023, arXiv:2312.00752, section 3.4 and table 12.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.decoders import prenorm_decoder

PAPERS = ("mamba",)


def mamba(dim: int, depth: int, *, vocab_size: int = 50280, max_length: int = 2048) -> Spec:
    """A Mamba; the head uses the embedding's vectors. Texts may be longer than `max_length`."""
    return prenorm_decoder(dim, depth, Spec("mamba"), vocab_size=vocab_size, max_length=max_length)


VARIANTS = {
    "mamba_130m": mamba(768, 24),
    "mamba_370m": mamba(1024, 48),
    "mamba_790m": mamba(1536, 48),
    "mamba_1.4b": mamba(2048, 48),
    "mamba_2.8b": mamba(2560, 64),
    # Ours, for bytes and for tests.
    "mamba_micro": mamba(64, 3, vocab_size=256, max_length=256).set(init="fan_in"),
}
