"""Bioformer: published sizes, work beside BERT base, whole words hidden, a vocabulary of the field, wrong input."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.data.biomedical import sentences
from anyformer.data.text import pydoc_text
from anyformer.data.tokenizers import WordPieces
from anyformer.lab.profile.operations import count_operations
from anyformer.methods.pretraining.text_masking import choose_tokens, word_starts
from anyformer.models.language.bioformer import VARIANTS
from anyformer.weights.language.bioformer import NAMES
from variants import named, parameters


@pytest.mark.parametrize(("name", "millions"), [("bioformer_8l", 42.8), ("bioformer_16l", 41.5)])
def test_published_sizes(name: str, millions: float):
    assert parameters(name) / 1e6 == pytest.approx(millions, rel=0.02)


def test_the_published_number_counts_both_heads_of_pretraining():
    """Hidden words are scored over the vocabulary, and the pooler tells a next sentence by two outputs."""
    with torch.device("meta"):
        words, pooled = create_model("bioformer_8l", head="masked_lm"), create_model("bioformer_8l", num_classes=2)
    assert words.num_parameters() + sum(p.numel() for p in pooled.head.parameters()) == 42_820_610


def test_every_published_variant_has_a_name_elsewhere():
    assert named(NAMES) == set(VARIANTS) - {"bioformer_micro"}


def test_eight_narrow_layers_are_less_than_half_of_the_work_of_bert_base():
    ids = torch.zeros(1, 64, dtype=torch.long)
    models = (create_model(name, num_classes=0) for name in ("bioformer_8l", "bert_base_cased"))
    small, base = (count_operations(model, ids) for model in models)
    assert 2 * small < base


def test_hidden_words_are_restored_whole():
    """With `unit="words"` no word of the field is hidden in part."""
    text = sentences(200)
    tokenizer = WordPieces("\n".join(text[:20]), 300)
    ids = torch.tensor(tokenizer.encode("\n".join(text)))[: 64 * 20].view(-1, 64)
    starts = word_starts(ids, tokenizer.pieces)
    assert not starts.all(), "some names are cut into pieces"
    chosen = choose_tokens(torch.arange(len(ids)), starts)
    inside = ~starts[:, 1:]
    assert torch.equal(chosen[:, 1:][inside], chosen[:, :-1][inside])


def test_text_of_the_field_is_that_of_its_seed():
    assert sentences(20, 3) == sentences(20, 3) != sentences(20, 4)
    names = {word.strip(".") for line in sentences(2000, 3) for word in line.split()}
    assert len([name for name in names if name[:3].isupper() and name[-1].isdigit()]) > 50


def test_a_vocabulary_of_the_field_cuts_its_names_into_fewer_pieces():
    text = sentences(2000)
    general, field = WordPieces(pydoc_text(), 1024), WordPieces("\n".join(text[:1000]), 1024)
    held = "\n".join(text[1000:])
    assert len(field.encode(held)) < 0.8 * len(general.encode(held))


def test_ids_beyond_the_vocabulary_are_an_error():
    model = create_model("bioformer_micro")
    with pytest.raises(DataError, match="token ids lie between 0 and 255; given 5 to 256"):
        model(torch.tensor([[5, 256]]))


def test_texts_beyond_the_positions_are_an_error():
    model = create_model("bioformer_8l", depth=1, dim=64, num_classes=0)
    with pytest.raises(SizeError, match="512"):
        model(torch.zeros(1, 513, dtype=torch.long))


def test_text_without_sentences_or_names_is_an_error():
    with pytest.raises(OptionError, match="1 sentence or more and 2 to 880 names; given 0 and 400"):
        sentences(0)
    with pytest.raises(OptionError, match="given 5 and 1"):
        sentences(5, names=1)
