"""RoBERTa: BERT's encoder trained longer on more text, with a byte-level vocabulary and one kind of segment.

Liu et al. 2019, arXiv:1907.11692; XLM-RoBERTa, Conneau et al. 2019, arXiv:1911.02116, table 5.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.bert import bert

PAPERS = ("roberta",)

BYTES, PIECES = 50265, 250002


def roberta(dim: int, depth: int, heads: int, vocab_size: int = BYTES) -> Spec:
    """A RoBERTa; positions 0 and 1 of its table stand for nothing and for padding."""
    base = bert(dim, depth, heads, vocab_size=vocab_size, eps=1e-5)
    return base.set(types=1, position=Spec("learned", offset=2))


VARIANTS = {
    "roberta_base": roberta(768, 12, 12),
    "roberta_large": roberta(1024, 24, 16),
    "distilroberta_base": roberta(768, 6, 12),
    "xlm_roberta_base": roberta(768, 12, 12, PIECES),
    "xlm_roberta_large": roberta(1024, 24, 16, PIECES),
}
