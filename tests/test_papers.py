"""The cards: 306, complete, quick to read, and what is here of each derived and not typed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from anyformer import papers
from anyformer.core.errors import DataError, UnknownName
from anyformer.core.registry import index
from anyformer.papers import CARDS, GOLDENS, KINDS, Card, card, cards, here, select
from anyformer.papers.derive import checkout, read_cards, read_goldens

ROOMS = {"blocks", "claims", "data", "kernels", "lab", "layers", "methods", "models", "papers", "tasks"}


def test_there_is_a_card_for_each_of_306_papers():
    assert len(cards()) == 306
    assert len({c.title for c in cards().values()}) == 306
    numbers = [c.arxiv for c in cards().values() if c.arxiv]
    assert len(numbers) == len(set(numbers)) and all(re.fullmatch(r"\d{4}\.\d{4,5}", n) for n in numbers)


def test_derived_files_are_what_the_sources_say():
    assert json.loads(CARDS.read_text()) == read_cards()
    assert json.loads(GOLDENS.read_text()) == read_goldens(checkout())


def test_every_card_is_complete():
    for slug, c in cards().items():
        assert slug == c.slug and re.fullmatch(r"[a-z0-9_]+", slug)
        assert c.title and c.kind in KINDS and 2015 <= c.year <= 2027
        assert c.room.split("/")[0] in ROOMS and all(r.split("/")[0] in ROOMS for r in c.also), slug
        assert all(isinstance(text, str) and text for text in (*c.parts, *c.builds_on)), slug
        assert c.parts or c.kind == "survey" or c.kind == "application", slug
        assert c.repository is None or re.fullmatch(r"[\w.-]+/[\w.-]+", c.repository), slug


def test_every_sentence_is_one_and_whole():
    sentences = [c.sentence for c in cards().values()]
    assert len(set(sentences)) == 306
    for sentence in sentences:
        assert 40 <= len(sentence) <= 220 and sentence.endswith("."), sentence
        assert sentence[0].isupper() and "..." not in sentence and "  " not in sentence, sentence
        assert not re.search(r"\.\s+[A-Z]", sentence), sentence  # no second sentence


def test_cards_are_read_quickly_and_without_torch():
    code = (
        "import sys, time; begin = time.perf_counter(); from anyformer import papers; papers.cards(); "
        "seconds = time.perf_counter() - begin; assert not {'torch', 'yaml'} & set(sys.modules); print(seconds)"
    )
    source = str(Path(papers.__file__).parents[2])

    def seconds() -> float:
        command = [sys.executable, "-c", code]
        return float(subprocess.run(command, env={"PYTHONPATH": source}, capture_output=True, check=True).stdout)

    assert min(seconds() for _ in range(3)) < 0.2


def test_a_card_says_who_says_what():
    swin = card("swin")
    assert (swin.year, swin.arxiv, swin.room) == (2021, "2103.14030", "models/vision")
    assert "window attention" in swin.parts and swin.repository == "microsoft/Swin-Transformer"
    with pytest.raises(UnknownName, match="there is no paper 'swinn'; did you mean 'swin'"):
        card("swinn")


def test_selection_narrows():
    assert len(select()) == 306
    for kind, count in Counter(c.kind for c in cards().values()).items():
        assert len(select(kind=kind)) == count
    vision = {c.slug for c in select(room="models/vision")}
    assert "swin" in vision and vision < {c.slug for c in select(room="models")}
    assert {c.slug for c in select("shifted-window attention", year=2021)} == {"swin"}
    assert {c.slug for c in select("2103.14030")} == {"swin"}
    assert select("no paper says this") == []
    # a room is no mere prefix of a name, and a slash at its end changes nothing
    assert select(room="models/vision/") == select(room="models/vision")
    for wrong in ({"room": "model"}, {"kind": "surveys"}):
        with pytest.raises(UnknownName, match="did you mean"):
            select(**wrong)


def test_what_is_here_is_what_the_registry_says():
    found: dict[str, set[str]] = {}
    for table in ("parts", "families", "methods"):
        for name, entry in index()[table].items():
            for slug in entry["papers"]:
                found.setdefault(slug, set()).add(name)
    for slug in cards():
        present = here(slug)
        assert {*present.parts, *present.models, *present.methods} == found.get(slug, set()), slug
        assert present.claim == index()["claims"].get(slug)
        assert bool(present) == bool(found.get(slug) or present.claim or present.goldens)
    assert "swin_tiny" in here("swin").models["swin"] and "window" in here("swin").parts


def test_written_cards_say_nothing_of_what_is_here():
    assert {field for written in read_cards().values() for field in written} == set(Card.__dataclass_fields__)


def test_goldens_are_named_by_their_files(tmp_path):
    for name in ("swin--swin_tiny--timm.json", "swin--swin_small--timm.json", "bert--base--official.json", "README.md"):
        (tmp_path / name).write_text("{}")
    assert read_goldens(tmp_path) == {"bert": ["base--official"], "swin": ["swin_small--timm", "swin_tiny--timm"]}


def test_a_card_under_another_name_is_refused(tmp_path):
    (tmp_path / "swin.yaml").write_text("slug: swim\n")
    with pytest.raises(DataError, match=r"swin\.yaml"):
        read_cards(tmp_path)
