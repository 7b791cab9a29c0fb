"""DistilBERT: half of BERT's blocks, no kinds of segment and no pooler, distilled from it.

Sanh et al. 2019, arXiv:1910.01108, section 3.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.language.bert import CASED, MULTILINGUAL, UNCASED, bert

PAPERS = ("distilbert",)


def distilbert(vocab_size: int) -> Spec:
    """Six blocks of BERT base; classes are told from relu(W x) of the first token."""
    base = bert(768, 6, 12, vocab_size=vocab_size)
    return base.set(types=0, head=Spec("pooler", act=Spec("relu"), dropout=0.2))


VARIANTS = {
    "distilbert_base_uncased": distilbert(UNCASED),
    "distilbert_base_cased": distilbert(CASED),
    "distilbert_base_multilingual_cased": distilbert(MULTILINGUAL["cased"]),
}
