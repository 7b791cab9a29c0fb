"""BERT: a post-norm encoder of text, and the smaller ones of the same build that are distilled from it.

Devlin et al. 2018, arXiv:1810.04805, section 3; sizes of Turc et al. 2019, arXiv:1908.08962, table 1; MiniLM, Wang et
al. 2020, arXiv:2002.10957, table 1.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("bert", "minilm")

UNCASED, CASED = 30522, 28996
MULTILINGUAL = {"cased": 119547, "uncased": 105879}
CHINESE = 21128


def bert(
    dim: int,
    depth: int,
    heads: int,
    *,
    ratio: float = 4.0,
    vocab_size: int = UNCASED,
    max_length: int = 512,
    dropout: float = 0.1,
    eps: float = 1e-12,
) -> Spec:
    """A BERT with a pooler and two classes; `num_classes=0`: the pooler alone, `head="masked_lm"`: scores of words."""
    norm = Spec("layernorm", eps=eps)
    return Spec(
        "encoder",
        dim=dim,
        depth=depth,
        block=Spec("postnorm", mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=ratio), norm=norm),
        vocab_size=vocab_size,
        max_length=max_length,
        position=Spec("learned"),
        types=2,
        embed_norm=norm,
        head=Spec("pooler"),
        dropout=dropout,
    )


VARIANTS = {
    "bert_base_uncased": bert(768, 12, 12),
    "bert_base_cased": bert(768, 12, 12, vocab_size=CASED),
    "bert_large_uncased": bert(1024, 24, 16),
    "bert_large_cased": bert(1024, 24, 16, vocab_size=CASED),
    "bert_base_multilingual_cased": bert(768, 12, 12, vocab_size=MULTILINGUAL["cased"]),
    "bert_base_multilingual_uncased": bert(768, 12, 12, vocab_size=MULTILINGUAL["uncased"]),
    "bert_base_chinese": bert(768, 12, 12, vocab_size=CHINESE),
    "bert_tiny": bert(128, 2, 2),
    "bert_mini": bert(256, 4, 4),
    "bert_small": bert(512, 4, 8),
    "bert_medium": bert(512, 8, 8),
}
VARIANTS |= {
    f"bert_l{depth}_h{dim}": bert(dim, depth, dim // 64)
    for depth in (2, 4, 6, 8, 10, 12)
    for dim in (128, 256, 512, 768)
}
VARIANTS |= {
    "minilm_l6_h384": bert(384, 6, 12),
    "minilm_l12_h384": bert(384, 12, 12),
    # Ours, for bytes and for tests.
    "bert_micro": bert(64, 3, 4, ratio=2.0, vocab_size=256, max_length=128, dropout=0.0, eps=1e-5).set(init="fan_in"),
}
