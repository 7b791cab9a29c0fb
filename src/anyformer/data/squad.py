"""Questions whose answer is a stretch of a text: SQuAD's files, and small biographies that are generated."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyformer.core.errors import DataError, OptionError
from anyformer.data.splits import completed, part_files


@dataclass(frozen=True)
class Asked:
    """A question about a text.

    Attributes:
        id: of the question.
        question, context: the question, and the text that it is about.
        answers: stretches of the text that answer it, each with the place of its first character; none where the text
            does not say.
    """

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


# -- generated ------------------------------------------------------------------------------------------------

FIRST = (
    "Ada", "Bruno", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Karin", "Leo", "Maria",
    "Nils", "Olga", "Paul", "Rosa", "Simon", "Tilda", "Viktor",
)  # fmt: skip
PLACES = (
    "Oslo", "Lyon", "Porto", "Ghent", "Turin", "Krakow", "Malmo", "Cork", "Basel", "Graz", "Split", "Tartu", "Bergen",
    "Nantes", "Seville", "Leipzig",
)  # fmt: skip
TRADES = (
    "painter", "doctor", "pilot", "baker", "judge", "singer", "farmer", "printer", "sailor", "teacher", "weaver",
    "clockmaker",
)  # fmt: skip
FACTS = {
    "born": (
        "{name} was born in {place} in {year}.",
        {"place": "Where was {name} born?", "year": "When was {name} born?"},
    ),
    "study": (
        "{name} studied in {place} until {year}.",
        {"place": "Where did {name} study?", "year": "Until when did {name} study?"},
    ),
    "work": (
        "{name} worked as a {trade} in {place}.",
        {"trade": "What did {name} work as?", "place": "Where did {name} work?"},
    ),
    "move": (
        "{name} moved to {place} in {year}.",
        {"place": "Where did {name} move?", "year": "When did {name} move?"},
    ),
    "die": (
        "{name} died in {place} in {year}.",
        {"place": "Where did {name} die?", "year": "When did {name} die?"},
    ),
}
"""Sentences of a life, and what can be asked of each."""
SILENT = 0.2
"""Share of the questions that the text does not answer."""


def biographies(count: int, seed: int = 0, people: int = 1) -> list[Asked]:
    """So many questions, each about a text of its own that tells what `people` did and when, in any order.

    One fact is left out of each text, and a fifth of the questions ask for it. Places, years and trades are drawn anew
    for each text, so nothing but reading it helps. With several people their names have to be compared as well, which
    small models learn late.

    Raises `OptionError` for a number of people that there are no names for.
    """
    if not 1 <= people <= len(FIRST) or count < 1:
        raise OptionError(
            f"a text tells of 1 to {len(FIRST)} people, and there is one or more; given {people}, {count}."
        )
    dice, found = random.Random(seed), []
    for number in range(count):
        lives = [_life(dice, name) for name in dice.sample(FIRST, people)]
        dropped = dice.randrange(people), dice.choice(list(FACTS))
        told, gone = [], ("", {})
        for i, life in enumerate(lives):
            for kind, fact in life.items():
                if (i, kind) == dropped:
                    gone = fact
                else:
                    told.append(fact)
        dice.shuffle(told)
        context, sentences = "", []
        for sentence, asked in told:
            sentences.append((len(context), sentence, asked))
            context += sentence + " "
        if dice.random() < SILENT:
            question, answers = dice.choice(list(gone[1].items()))[0], ()
        else:
            start, sentence, asked = dice.choice(sentences)
            question, answer = dice.choice(list(asked.items()))
            answers = ((answer, start + sentence.rindex(answer)),)
        found.append(Asked(f"{seed}-{number}", question, context.strip(), answers))
    return found


def _life(dice: random.Random, name: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Each fact of a person: its sentence, and the answer to each question about it."""
    life = {}
    for kind, (sentence, questions) in FACTS.items():
        drawn = {
            "name": name,
            "place": dice.choice(PLACES),
            "year": str(dice.randrange(1900, 1990)),
            "trade": dice.choice(TRADES),
        }
        life[kind] = (
            sentence.format(**drawn),
            {question.format(**drawn): drawn[what] for what, question in questions.items()},
        )
    return life


# -- files ----------------------------------------------------------------------------------------------------


def read_squad(path: str | Path, seed: int = 0) -> dict[str, list[Asked]]:
    """The questions of each part from SQuAD's JSON, version 1.1 or 2.0 (questions without an answer).

    Accepted: one file, or a folder with train*.json and dev*.json (and test*.json). Of parts that are not given, each
    is a tenth of the training texts, dealt out by `seed`; no text is divided.

    Raises `DataError` naming the file, the question, and what is wrong.
    """
    path = Path(path)
    files = part_files(path, (".json",)) if path.is_dir() else {"train": path}
    if "train" not in files:
        raise DataError(
            f"the folder {path} has no train*.json of SQuAD's form: put it there, with dev*.json where there is one, "
            "or give the path of one file."
        )
    found = {split: _read(file) for split, file in files.items()}
    contexts = completed({s: [one.context for one in part] for s, part in found.items()}, path, seed=seed)
    parts: dict[str, list[Asked]] = {}
    for split, texts in contexts.items():
        kept = set(texts)
        parts[split] = [one for one in found.get(split) or found["train"] if one.context in kept]
    return parts


def _read(path: Path) -> list[Asked]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the questions {path} cannot be read: {error}.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no JSON ({error}).") from error
    try:
        found = [_asked(path, entry, context) for context, entry in _entries(data)]
    except (KeyError, TypeError) as error:
        raise DataError(
            f'{path} is not of SQuAD\'s form: {{"data": [{{"paragraphs": [{{"context", "qas": [{{"id", "question", '
            f'"answers": [{{"text", "answer_start"}}]}}]}}]}}]}}; missing or of another kind: {error}.'
        ) from error
    if not found:
        raise DataError(f"{path} holds no questions.")
    return found


def _entries(data: Any) -> Iterator[tuple[str, Any]]:
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                yield paragraph["context"], entry


def _asked(path: Path, entry: Any, context: str) -> Asked:
    answers = () if entry.get("is_impossible") else tuple((a["text"], a["answer_start"]) for a in entry["answers"])
    for text, start in answers:
        if not text or context[start : start + len(text)] != text:
            raise DataError(
                f"{path}, question {entry['id']!r}: the answer {text!r} does not stand at character {start} of its "
                f"text, which has {context[start : start + len(text)]!r} there."
            )
    if not entry["question"].strip() or not context.strip():
        raise DataError(f"{path}: question {entry['id']!r} or its text is empty.")
    return Asked(str(entry["id"]), entry["question"].strip(), context, answers)
