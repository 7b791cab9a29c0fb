"""Start a part, a claim or a card: the files that it needs, which already work, to be filled with the idea."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from anyformer import papers
from anyformer.cli import templates
from anyformer.core.errors import AnyformerError, OptionError, UnknownName, suggest
from anyformer.core.registry import index

EXAMPLES = """examples:
  anyformer new part striped --room layers/attention/local
  anyformer new part striped --room layers/attention/local --paper stripes --title "Stripes" --arxiv 2501.00001
  anyformer new claim swin
  anyformer new card stripes --room models/vision --title "Stripes" --year 2025"""


@dataclass
class Options:
    """Start a part, a claim or a card in a checkout of anyformer: writes working files and updates the index."""

    what: Positional[Literal["part", "claim", "card"]]
    """What to start."""
    name: Positional[str]
    """Name of the part, or slug of the paper."""
    room: str = ""
    """Where a part or card belongs, such as layers/attention/local."""
    kind: str = "mixer"
    """Kind of part: mixer, ffn or norm."""
    paper: str = ""
    """Slug of the paper that a part comes from; a card is written if there is none yet."""
    title: str = ""
    """Title of the paper, for a new card."""
    year: int = datetime.date.today().year
    """Year of the paper, for a new card."""
    arxiv: str = ""
    """Its number on arXiv, for a new card."""
    sentence: str = ""
    """What the paper says in one sentence, for a new card."""


def run(options: Options) -> int:
    root = checkout()
    check_name(options.name)
    files = {"part": part_files, "claim": claim_files, "card": card_files}[options.what](options, root)
    for path in files:
        if path.exists():
            raise OptionError(f"{path.relative_to(root)} is there already; choose another name, or edit it.")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(root))
    derived = {".py": "anyformer.core.index", ".yaml": "anyformer.papers"}
    for module in sorted({derived[path.suffix] for path in files}):
        done = subprocess.run([sys.executable, "-m", module], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"anyformer: python -m {module} failed:\n{done.stderr}", file=sys.stderr)
            return 1
    print(f"next: {templates.NEXT[options.what].format(name=options.name)}")
    return 0


def checkout() -> Path:
    """The repository that this package runs from. Raises `AnyformerError` for an installed package."""
    root = papers.FOLDER.parents[2]
    if not (root / "tests").is_dir() or papers.FOLDER.parents[1].name != "src":
        raise AnyformerError("new works in a checkout of anyformer's repository, installed with pip install -e.")
    return root


def check_name(name: str) -> None:
    """Raise `OptionError` for what cannot be a module's name."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise OptionError(f"a name is made of small letters, digits and underscores (cross_window); given {name!r}.")


def part_files(options: Options, root: Path) -> dict[Path, str]:
    """A part, its test, and a card if its paper has none."""
    if options.kind not in templates.PARTS:
        known = ", ".join(templates.PARTS)
        raise OptionError(f"new writes parts of the kinds {known}; given {options.kind!r}.")
    if options.name in index()["parts"]:
        raise OptionError(f"there is a part {options.name!r} already: {index()['parts'][options.name]['target']}.")
    package = root / "src" / "anyformer"
    rooms = sorted(
        str(p.relative_to(package)) for p in (package / "layers").rglob("*") if p.is_dir() and p.name != "__pycache__"
    )
    room = options.room.rstrip("/")
    if room not in rooms:
        raise UnknownName(f"a part needs the room that it goes to, as --room; given {room!r}, {suggest(room, rooms)}")
    facts = {
        "name": options.name,
        "cls": "".join(word.capitalize() for word in options.name.split("_")),
        "module": f"anyformer.{room.replace('/', '.')}.{options.name}",
        "papers": f'("{options.paper}",)' if options.paper else "()",
    }
    source, test = templates.PARTS[options.kind]
    files = {
        package / room / f"{options.name}.py": source.format(**facts),
        root / "tests" / f"test_{options.name}.py": test.format(**facts),
    }
    if options.paper and options.paper not in papers.cards():
        check_name(options.paper)
        files |= card_files(options, root, options.paper, parts=[options.name.replace("_", " ")])
    return files


def claim_files(options: Options, root: Path) -> dict[Path, str]:
    """A claim of a paper that has a card."""
    card = papers.card(options.name)
    path = root / "src" / "anyformer" / "claims" / f"{options.name}.py"
    arxiv = f" arXiv:{card.arxiv}." if card.arxiv else ""
    return {path: templates.CLAIM.format(title=card.title, year=card.year, arxiv=arxiv, sentence=card.sentence)}


def card_files(options: Options, root: Path, slug: str = "", parts: list[str] | None = None) -> dict[Path, str]:
    """A card."""
    import yaml

    slug = slug or options.name
    if slug in papers.cards():
        raise OptionError(f"there is a card {slug!r} already: {papers.card(slug).title}.")
    if not options.title:
        raise OptionError(f"there is no card {slug!r} yet: give its --title (and --year, --arxiv, --sentence).")
    if not options.room:
        raise OptionError("a card needs the room of the library that the paper belongs to, as --room models/vision.")
    card = {
        "slug": slug,
        "title": options.title,
        "year": options.year,
        "arxiv": options.arxiv or None,
        "kind": "architecture",
        "room": papers.check_room("/".join(options.room.split("/")[:2])),
        "also": [],
        "sentence": options.sentence or f"{options.title}.",
        "parts": parts or [],
        "builds_on": [],
        "repository": None,
    }
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=110)
    return {root / "src" / "anyformer" / "papers" / f"{slug}.yaml": text}
