"""Sentences with an intent, and a tag for each word: on air travel, by a grammar, and files as people have them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyformer.core.errors import DataError, OptionError
from anyformer.data.splits import FOLDERS, completed, part_files
from anyformer.data.text import read_text

NAMES = ("seq.in", "seq.out", "label")
"""Files of a part in a folder: words, tags, and intents, a sentence a line."""
KEYS = {
    "words": ("words", "tokens", "text", "sentence", "utterance"),
    "tags": ("tags", "slots", "labels", "slot_tags"),
    "intent": ("intent", "label", "class"),
}
"""Names that people give to the entries of a line of JSON."""


@dataclass(frozen=True)
class Utterance:
    """Words, a tag for each ("O", "B-kind" or "I-kind"), and the intent of all."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    intent: str


# -- generated ------------------------------------------------------------------------------------------------

VALUES = {
    "city_name": (
        "boston", "denver", "atlanta", "dallas", "pittsburgh", "oakland", "baltimore", "philadelphia", "new york",
        "san francisco", "los angeles", "las vegas", "fort worth", "salt lake city", "kansas city", "saint louis",
    ),
    "airport_name": ("logan airport", "dulles", "la guardia", "mitchell international airport", "love field"),
    "airline_name": ("delta", "united", "continental", "american airlines", "northwest airlines", "us air"),
    "day_name": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    "month_name": ("january", "april", "june", "july", "september", "november", "december"),
    "day_number": ("first", "second", "fifth", "tenth", "twentieth", "twenty first", "thirtieth"),
    "period_of_day": ("morning", "afternoon", "evening", "night"),
    "time": ("noon", "six am", "eight am", "five pm", "seven thirty pm", "ten o'clock", "midnight"),
    "class_type": ("first class", "business class", "coach", "economy"),
    "cost_relative": ("cheapest", "lowest", "most expensive", "least expensive"),
    "round_trip": ("round trip", "one way"),
    "flight_mod": ("first", "last", "earliest", "next", "latest"),
    "meal_description": ("breakfast", "lunch", "dinner", "a snack"),
    "transport_type": ("limousine", "rental car", "taxi", "train", "bus"),
    "airline_code": ("ua", "dl", "aa", "us", "nw"),
    "fare_basis_code": ("qx", "ap", "y", "f", "h"),
    "aircraft_code": ("m80", "dc10", "seven forty seven", "boeing 767"),
}  # fmt: skip
"""Words of each kind. Some stand for several: the first class, the first flight and the first of may."""

FROM, TO = "{fromloc.city_name}", "{toloc.city_name}"
ROUTES = (
    f"from {FROM} to {TO}", f"to {TO} from {FROM}", f"between {FROM} and {TO}", f"leaving {FROM} for {TO}",
    f"into {TO} out of {FROM}", f"that go from {FROM} over {{stoploc.city_name}} to {TO}", f"{FROM} to {TO}",
    f"to {TO} that leave {FROM}",
)  # fmt: skip
TURNS = (
    "on {depart_date.day_name}", "on {depart_date.month_name} {depart_date.day_number}", "with {airline_name}",
    "in the {depart_time.period_of_day}", "arriving by {arrive_time.time}", "arriving on {arrive_date.day_name}",
    "leaving after {depart_time.time}", "before {depart_time.time}", "stopping in {stoploc.city_name}",
    "returning on {return_date.day_name}", "in {class_type}", "that serve {meal_description}", "{round_trip}",
    "getting there in the {arrive_time.period_of_day}", "on {airline_name}", "and back on {return_date.day_name}",
)  # fmt: skip
SENTENCES = {
    "flight": (
        "show me flights ROUTE TURNS", "i need a flight ROUTE TURNS", "what flights are there ROUTE TURNS",
        "find the {flight_mod} flight ROUTE TURNS", "TURNS i would like to fly ROUTE",
        "list all {airline_name} flights ROUTE TURNS", "ROUTE TURNS please",
        "what is the {flight_mod} {class_type} flight ROUTE",
    ),
    "airfare": (
        "how much is a {class_type} ticket ROUTE TURNS", "what is the {cost_relative} fare ROUTE TURNS",
        "show me the {cost_relative} {round_trip} fares ROUTE TURNS", "price of a {round_trip} flight ROUTE TURNS",
        "i want the {cost_relative} {class_type} ticket ROUTE",
    ),
    "airline": (
        "which airlines fly ROUTE TURNS", "what airline is {airline_code}", "who flies ROUTE TURNS",
        "which airlines serve {city_name}",
    ),
    "flight_time": (
        "what time do flights leave ROUTE TURNS", "when does the {flight_mod} flight ROUTE arrive TURNS",
        "how long is the flight ROUTE",
    ),
    "ground_service": (
        "is there a {transport_type} from {airport_name} to downtown {city_name}",
        "what {transport_type} can i take in {city_name}", "how do i get from {airport_name} to {city_name}",
        "show me ground transportation in {city_name} on {day_name}",
    ),
    "meal": (
        "what meals are served on {airline_name} ROUTE", "do they serve {meal_description} ROUTE TURNS",
        "is there {meal_description} on the {flight_mod} flight ROUTE",
    ),
    "aircraft": (
        "what kind of plane flies ROUTE TURNS", "is it a {aircraft_code} ROUTE TURNS", "how many seats has the "
        "{aircraft_code} of {airline_name}",
    ),
    "abbreviation": (
        "what does {airline_code} mean", "what is fare code {fare_basis_code}", "explain the code {fare_basis_code} of "
        "{airline_name}", "what does {fare_basis_code} stand for",
    ),
    "airport": (
        "where is {airport_name}", "which airport is closest to {city_name}", "how far is {airport_name} from "
        "{city_name}",
    ),
}  # fmt: skip
"""What is said with each intent; ROUTE stands for one of `ROUTES`, TURNS for none to three of `TURNS`."""


def travel(count: int, seed: int = 0, taken: Iterable[tuple[str, ...]] = ()) -> list[Utterance]:
    """Different sentences on air travel, whose words are none of `taken`.

    The same city is where a flight begins, ends or stops, and the same day where it leaves, arrives or returns: what
    stands around it says which. Raises `OptionError` for more than 50,000.
    """
    if not 1 <= count <= 50_000:
        raise OptionError(f"sentences are 1 to 50000; given {count}.")
    dice, seen, found = random.Random(seed), set(taken), []
    while len(found) < count:
        intent = dice.choice(list(SENTENCES))
        turns = " ".join(dice.sample(TURNS, dice.randint(0, 3)))
        sentence = dice.choice(SENTENCES[intent]).replace("ROUTE", dice.choice(ROUTES)).replace("TURNS", turns)
        utterance = _spoken(sentence, intent, dice)
        if utterance.words not in seen:
            seen.add(utterance.words)
            found.append(utterance)
    return found


def _spoken(sentence: str, intent: str, dice: random.Random) -> Utterance:
    """A sentence, each of its slots filled with words of its kind."""
    words: list[str] = []
    tags: list[str] = []
    said: set[str] = set()
    for piece in sentence.split():
        if not piece.startswith("{"):
            words.append(piece)
            tags.append("O")
            continue
        kind = piece.strip("{}")
        # no flight ends where it begins
        text = dice.choice([value for value in VALUES[kind.rsplit(".", 1)[-1]] if value not in said])
        said.add(text)
        value = text.split()
        words += value
        tags += [f"B-{kind}", *[f"I-{kind}"] * (len(value) - 1)]
    return Utterance(tuple(words), tuple(tags), intent)


# -- files ----------------------------------------------------------------------------------------------------


def read_utterances(path: str | Path, encoding: str = "utf-8", seed: int = 0) -> dict[str, list[Utterance]]:
    """The sentences of each part.

    Accepted: a folder whose folders train, valid (or dev) and test hold the files `seq.in`, `seq.out` and `label`; such
    files themselves in one folder; a `.iob` file, or a folder of one for each part, with lines of words between BOS
    and EOS, a tab, and their tags with the intent last; or a `.jsonl` file of objects with "words" (a list, or a text
    cut at its spaces), "tags", "intent" and, optionally, "split". Parts that are not there are taken out of the
    training sentences.

    Raises `DataError` naming the file and the line: a sentence without words or intent, or with more or fewer tags than
    words; files of one part of different lengths.
    """
    path = Path(path)
    if path.is_dir():
        parts = _read_folder(path, encoding)
    elif path.suffix.lower() == ".jsonl":
        parts = _read_lines(path, encoding)
    elif path.suffix.lower() == ".iob":
        parts = {"train": _read_iob(path, encoding)}
    else:
        raise DataError(
            f"{path} holds no sentences: give a folder with {', '.join(NAMES)} (or with such folders train, valid and "
            "test), or a .iob or .jsonl file."
        )
    return completed(parts, path, seed=seed)


def _part(name: str, where: str) -> str:
    """Which part a folder or an entry names."""
    if name.lower() not in FOLDERS:
        raise DataError(f"{where}: a part is one of {', '.join(FOLDERS)}; given {name!r}.")
    return FOLDERS[name.lower()]


def _read_folder(path: Path, encoding: str) -> dict[str, list[Utterance]]:
    if all((path / name).is_file() for name in NAMES):
        return {"train": _read_files(path, encoding)}
    folders = sorted(p for p in path.iterdir() if p.is_dir() and p.name.lower() in FOLDERS)
    if not folders and (files := part_files(path, (".iob",))):
        return {split: _read_iob(file, encoding) for split, file in files.items()}
    if not folders:
        raise DataError(
            f"the folder {path} has neither {', '.join(NAMES)} nor folders train, valid and test of them, nor .iob "
            "files."
        )
    parts: dict[str, list[Utterance]] = {}
    for folder in folders:
        parts.setdefault(_part(folder.name, str(path)), []).extend(_read_files(folder, encoding))
    return parts


def _read_files(folder: Path, encoding: str) -> list[Utterance]:
    """The sentences of one part from its three files."""
    absent = [name for name in NAMES if not (folder / name).is_file()]
    if absent:
        raise DataError(f"the folder {folder} has no {' and no '.join(absent)}: a part has {', '.join(NAMES)}.")
    lines = [read_text(folder / name, encoding).rstrip("\n").split("\n") for name in NAMES]
    if len({len(some) for some in lines}) > 1:
        counts = ", ".join(f"{name} {len(some)}" for name, some in zip(NAMES, lines, strict=True))
        raise DataError(f"{folder}: a sentence has one line in each file; there are {counts} lines.")
    return [
        checked(words.split(), tags.split(), intent.strip(), f"{folder}, line {i}")
        for i, (words, tags, intent) in enumerate(zip(*lines, strict=True), 1)
    ]


def _read_iob(file: Path, encoding: str) -> list[Utterance]:
    """The sentences of a file as ATIS and SNIPS are passed on: BOS, words, EOS, a tab, O for BOS, tags, the intent."""
    found = []
    for i, line in enumerate(read_text(file, encoding).splitlines(), 1):
        if not line.strip():
            continue
        words, *rest = (side.split() for side in line.split("\t"))
        if len(rest) != 1 or words[:1] != ["BOS"] or words[-1:] != ["EOS"] or len(rest[0]) < 2:
            raise DataError(
                f'{file}, line {i}: a line is "BOS", words, "EOS", a tab, "O", a tag for each word and the intent; '
                f"given {line[:60]!r}."
            )
        (tags,) = rest
        found.append(checked(words[1:-1], tags[1:-1], tags[-1], f"{file}, line {i}"))
    return found


def _read_lines(path: Path, encoding: str) -> dict[str, list[Utterance]]:
    parts: dict[str, list[Utterance]] = {}
    for i, line in enumerate(read_text(path, encoding).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {i}"
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}, is no JSON object ({error}).") from error
        if not isinstance(entry, dict):
            raise DataError(f'{where}, is no object with "words", "tags" and "intent"; given {line[:60]!r}.')
        words, tags, intent = (_first(entry, what, where) for what in KEYS)
        words, tags = (some.split() if isinstance(some, str) else some for some in (words, tags))
        split = _part(str(entry.get("split") or "train"), where)
        parts.setdefault(split, []).append(checked(words, tags, intent, where))
    return parts


def _first(entry: dict[str, Any], what: str, where: str) -> Any:
    name = next((name for name in KEYS[what] if name in entry), None)
    if name is None:
        raise DataError(f"{where}, has no {what!r} (or {', '.join(KEYS[what][1:])}); it has {', '.join(entry)}.")
    return entry[name]


def checked(words: Sequence[str], tags: Sequence[str], intent: str, where: str) -> Utterance:
    """A sentence whose words have a tag each. Raises `DataError` naming `where` it stands."""
    texts = [*words, *tags, intent] if isinstance(words, list) and isinstance(tags, list) else [None]
    if not words or not all(isinstance(text, str) and text for text in texts):
        raise DataError(f"{where}: a sentence has words, a tag for each, and an intent, all of them texts.")
    if len(words) != len(tags):
        raise DataError(
            f"{where}: {len(words)} words have {len(tags)} tags; each word has one, also where a tokenizer cuts it "
            f"into pieces: {' '.join(words)[:60]!r}."
        )
    return Utterance(tuple(words), tuple(tags), intent)
