"""OPT: GPT-2's build with ReLU, a bias-free tied head and positions that begin at the third row of their table.

Zhang et al. 2022, arXiv:2205.01068, table 1. The size of 350M, which is post-norm, is not among these.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.gpt2 import gpt2

PAPERS = ("opt",)


def opt(dim: int, depth: int, heads: int) -> Spec:
    """An OPT of these sizes."""
    base = gpt2(dim, depth, heads, vocab_size=50272, max_length=2048)
    return base.set(position=Spec("learned", offset=2)).replace("block.ffn.act", Spec("relu"))


VARIANTS = {
    "opt_125m": opt(768, 12, 12),
    "opt_1.3b": opt(2048, 24, 32),
    "opt_2.7b": opt(2560, 32, 32),
    "opt_6.7b": opt(4096, 32, 32),
    "opt_13b": opt(5120, 40, 40),
    "opt_30b": opt(7168, 48, 56),
    "opt_66b": opt(9216, 64, 72),
}
