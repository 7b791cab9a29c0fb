"""PoNet: an encoder of text that pools in place of attending.

Tan et al. 2021, arXiv:2110.02442; the sizes of its Long Range Arena models are those of the authors' `lra_config.py`.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.lra import arena

PAPERS = ("ponet",)


def ponet_lra(vocab_size: int, max_length: int, classes: int, sections: int) -> Spec:
    """A PoNet among the encoders of the Long Range Arena."""
    return arena(Spec("ponet", heads=2, sections=sections), vocab_size, max_length, classes)


VARIANTS = {
    "ponet_lra_listops": ponet_lra(32, 2000, 10, 64),
    "ponet_lra_image": ponet_lra(512, 1024, 10, 32),
    "ponet_lra_pathfinder32": ponet_lra(512, 1024, 2, 1),
    "ponet_lra_text": ponet_lra(512, 4000, 2, 4096),
    # Ours, for bytes and for tests.
    "ponet_micro": ponet_lra(256, 256, 2, 16).set(dropout=0.0, init="fan_in"),
}
