"""Bioformer: two small BERTs for biomedical text, one wide and one deep, with a cased vocabulary of that text.

Fang et al. 2023, arXiv:2302.01588, section 2.1. They were trained from scratch on abstracts and articles with whole
words hidden (the task `masked_text` with `unit="words"`) and on whether one sentence follows another (the task
`sentence_structure` with `objective="next"`).
"""

from __future__ import annotations

from anyformer.models.language.bert import bert

PAPERS = ("bioformer",)

BIOMEDICAL = 32768
"""Ids of the vocabulary: WordPiece learned on PubMed abstracts and PMC articles."""

VARIANTS = {
    "bioformer_8l": bert(512, 8, 8, vocab_size=BIOMEDICAL),
    "bioformer_16l": bert(384, 16, 6, vocab_size=BIOMEDICAL, max_length=1024),
    # Ours, for bytes and for tests.
    "bioformer_micro": bert(64, 4, 4, vocab_size=256, max_length=128, dropout=0.0, eps=1e-5).set(init="fan_in"),
}
