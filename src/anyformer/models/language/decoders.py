"""What tables of decoders of language share: one block over and over, the same norm in it and behind the last one."""

from __future__ import annotations

from typing import Any

from anyformer.core.spec import Spec


def prenorm_decoder(
    dim: int,
    depth: int,
    mixer: Spec,
    ffn: Spec | None = None,
    *,
    norm: Spec = Spec("rmsnorm", eps=1e-5),
    block: str = "prenorm",
    **options: Any,
) -> Spec:
    """A decoder without absolute positions.

    Args:
        dim, depth: channels; blocks.
        mixer, ffn: of each block; None for blocks that are a mixer alone.
        norm: in front of each, and behind the last block.
        block: how mixer and channels join the stream.
        options: others of the decoder: `vocab_size`, `max_length`, `tie`.
    """
    parts = Spec(block, mixer=mixer, ffn=ffn, norm=norm)
    return Spec("decoder", dim=dim, depth=depth, block=parts, norm=norm, **options)
