"""Queries, documents, and which belong together: a generated collection, and the files of BEIR, TREC and MS MARCO."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anyformer.core.errors import DataError, OptionError
from anyformer.data.splits import completed, part_files
from anyformer.data.text import read_text

Judged = dict[str, dict[str, int]]
"""For each query the grades of the documents that were judged for it; 0 is not relevant."""
Run = dict[str, dict[str, float]]
"""For each query the scores of documents."""


@dataclass(frozen=True)
class Collection:
    """Texts of documents and of queries by their names, the grades for the queries of each part, and where it is from.

    `rejected` are, for each query, documents that are known not to be relevant.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    grades: dict[str, Judged]
    source: str
    rejected: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split in ("train", "valid", "test"):
            judged = self.grades.get(split, {})
            if not any(grade > 0 for own in judged.values() for grade in own.values()):
                raise DataError(
                    f"{self.source} leaves no query with a relevant document for the {split} part: give more queries."
                )
            for query, own in judged.items():
                lost = next((name for name in own if name not in self.documents), None)
                if query not in self.queries or lost is not None:
                    what = f"query {query!r}" if query not in self.queries else f"document {lost!r}"
                    raise DataError(
                        f"{self.source}: the grades of the {split} part name the {what}, which has no text."
                    )


# -- generated ------------------------------------------------------------------------------------------------

NAMES = (
    ("car", "automobile"), ("couch", "sofa"), ("film", "movie"), ("shop", "store"), ("doctor", "physician"),
    ("lawyer", "attorney"), ("road", "street"), ("stone", "rock"), ("sea", "ocean"), ("forest", "woods"),
    ("house", "dwelling"), ("child", "kid"), ("teacher", "instructor"), ("ship", "vessel"), ("garden", "yard"),
    ("letter", "missive"), ("picture", "image"), ("song", "tune"), ("king", "monarch"), ("soldier", "warrior"),
    ("storm", "tempest"), ("hill", "mound"), ("river", "stream"), ("meal", "dinner"), ("bread", "loaf"),
    ("coat", "jacket"), ("hat", "cap"), ("gift", "present"), ("job", "occupation"), ("error", "mistake"),
    ("border", "frontier"), ("journey", "trip"), ("village", "hamlet"), ("sickness", "illness"), ("cure", "remedy"),
    ("thief", "burglar"), ("prison", "jail"), ("farmer", "grower"), ("clerk", "secretary"), ("tale", "story"),
    ("novel", "book"), ("speech", "address"), ("dispute", "quarrel"), ("contract", "agreement"), ("salary", "wage"),
    ("tax", "levy"), ("debt", "loan"), ("harvest", "crop"), ("drought", "aridity"), ("flood", "deluge"),
    ("fire", "blaze"), ("bridge", "overpass"), ("tower", "spire"),
)  # fmt: skip
"""Things with two names: documents use the first, queries either."""
FILLER = (
    "the report says that there was a {} beside the {}", "nobody had seen the {} near such a {} before",
    "later the {} and the {} were described again", "a {} is mentioned, and then a {}",
)  # fmt: skip


def two_names(queries: int, seed: int = 0, documents: int = 600, held: int = 300) -> Collection:
    """A collection in which documents and queries call things by different names half of the time.

    A document names six things in three sentences; a query names three of them, each by the documents' name or by
    another, as a coin says. All documents that name the three are relevant. `held` queries each are to choose by and to
    test; no two queries of a part and of another ask for the same things.
    """
    if documents < 1 or queries < 1:
        raise OptionError(f"a collection has a query and a document or more; given {queries} and {documents}.")
    dice = random.Random(-1)  # the documents are the same for all seeds, and so are the held queries
    things = [dice.sample(range(len(NAMES)), 6) for _ in range(documents)]
    texts = {}
    for number, own in enumerate(things):
        sentences = [dice.choice(FILLER).format(*(NAMES[k][0] for k in own[at : at + 2])) for at in (0, 2, 4)]
        texts[f"d{number}"] = ". ".join(sentences) + "."
    having = [{n for n, own in enumerate(things) if k in own} for k in range(len(NAMES))]
    asked: dict[str, str] = {}
    grades: dict[str, Judged] = {}
    seen: set[tuple[int, ...]] = set()
    for split, count, source in (("valid", held, dice), ("test", held, dice), ("train", queries, random.Random(seed))):
        grades[split] = {}
        while len(grades[split]) < count:
            wanted = source.sample(things[source.randrange(documents)], 3)
            key = tuple(sorted(wanted))
            if split != "train":
                seen.add(key)
            elif key in seen:
                continue
            name = f"{split}{len(grades[split])}"
            asked[name] = " ".join(NAMES[k][source.randrange(2)] for k in wanted)
            found = set.intersection(*(having[k] for k in wanted))
            grades[split][name] = {f"d{n}": 1 for n in sorted(found)}
    return Collection(texts, asked, grades, "data.retrieval.two_names")


# -- files ----------------------------------------------------------------------------------------------------


def read_collection(path: str | Path, seed: int = 0) -> Collection:
    """A collection from a folder of BEIR's form, or from a file of triples (`read_triples`).

    A folder has corpus.jsonl ("_id", "title", "text"), queries.jsonl ("_id", "text") and qrels/ with train.tsv, dev.tsv
    and test.tsv (query, document and grade, with a header), or TREC's qrels of the same names. Of parts that are not
    there, each is a tenth of the training queries, dealt out by `seed`; without train, the largest of the others is it.

    Raises `DataError` naming the file and the line that is wrong, or the name that has no text.
    """
    path = Path(path)
    if not path.is_dir():
        return read_triples(path, seed)
    documents = {name: f"{title} {text}".strip() for name, title, text in _texts(path / "corpus.jsonl")}
    queries = {name: text for name, _, text in _texts(path / "queries.jsonl")}
    found: dict[str, Judged] = {}
    if (path / "qrels").is_dir():
        files = part_files(path / "qrels", (".tsv", ".txt", ".qrels"))
        found = {split: read_qrels(file) for split, file in files.items()}
    if not found:
        raise DataError(f"the folder {path} has no grades: put train.tsv, dev.tsv or test.tsv into {path / 'qrels'}.")
    return Collection(documents, queries, _completed(found, path, seed), str(path))


def _completed(found: dict[str, Judged], where: object, seed: int) -> dict[str, Judged]:
    """The grades of three parts, whichever of them are there: what there is most of is trained on."""
    if "train" not in found:
        most = max(found, key=lambda split: len(found[split]))
        found = {"train" if split == most else split: judged for split, judged in found.items()}
    names = completed({split: list(judged) for split, judged in found.items()}, where, seed=seed)
    everything = {q: own for judged in found.values() for q, own in judged.items()}
    return {
        split: {q: found[split][q] if q in found.get(split, ()) else everything[q] for q in own}
        for split, own in names.items()
    }


def _texts(path: Path) -> Iterator[tuple[str, str, str]]:
    """Name, title and text of each line."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, title, text = str(entry["_id"]), entry.get("title") or "", entry["text"]
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f'{path}, line {number}: each line is an object with "_id" and "text" (a document may have a "title"); '
                f"given {line[:60]!r}."
            ) from error
        if not isinstance(text, str) or not isinstance(title, str) or not f"{title}{text}".strip():
            raise DataError(f"{path}, line {number}: {name!r} has no text; given {str(text)[:60]!r}.")
        yield name, title, text


def read_qrels(path: str | Path) -> Judged:
    """Grades: lines of query, document and grade with tabs between (BEIR, with a header), or TREC's "query 0 document
    grade". Raises `DataError` naming the file and the line."""
    path, judged = Path(path), {}
    for number, cells in _rows(path, (3, 4), 'query, document and grade, or TREC\'s "query 0 document grade"'):
        if number == 1 and not cells[-1].lstrip("-").isdigit():
            continue  # a header
        if not cells[-1].lstrip("-").isdigit():
            raise DataError(f"{path}, line {number}: a grade is an integer, 0 for not relevant; given {cells[-1]!r}.")
        judged.setdefault(cells[0], {})[cells[-2]] = int(cells[-1])
    return judged


def read_run(path: str | Path) -> Run:
    """Scores from a run of TREC's form: lines of "query Q0 document rank score tag"; the score decides, not the rank.

    Raises `DataError` naming the file and the line.
    """
    path, run = Path(path), {}
    for number, cells in _rows(path, (6,), '"query Q0 document rank score tag"'):
        try:
            run.setdefault(cells[0], {})[cells[2]] = float(cells[4])
        except ValueError as error:
            raise DataError(f"{path}, line {number}: a score is a number; given {cells[4]!r}.") from error
    return run


def write_run(path: str | Path, run: Run, tag: str = "anyformer") -> None:
    """Write scores in TREC's form, the best first."""
    lines = []
    for query, scores in run.items():
        for rank, (document, score) in enumerate(sorted(scores.items(), key=lambda pair: -pair[1]), 1):
            lines.append(f"{query} Q0 {document} {rank} {score:.6f} {tag}\n")
    Path(path).write_text("".join(lines), encoding="utf-8")


def _rows(path: Path, widths: Sequence[int], form: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        cells = line.split()
        if cells and len(cells) not in widths:
            raise DataError(f"{path}, line {number}: a line is {form}; given {line[:60]!r}.")
        if cells:
            yield number, cells


def read_triples(path: str | Path, seed: int = 0) -> Collection:
    """A collection from lines of a query, a relevant document and another one, with tabs between, as MS MARCO has them.

    The third is no relevant document of this query, and a harder one to tell apart than any other. Queries are dealt
    out by `seed`, a tenth each to valid and test. Raises `DataError` naming the file and the line.
    """
    path = Path(path)
    numbers: dict[str, str] = {}
    queries: dict[str, str] = {}
    judged: Judged = {}
    rejected: dict[str, list[str]] = {}
    rows = csv.reader(read_text(path).split("\n"), "excel-tab", quoting=csv.QUOTE_NONE)
    for row in rows:
        if not row:
            continue
        if len(row) != 3 or not all(cell.strip() for cell in row):
            raise DataError(
                f"{path}, line {rows.line_num}: a line is a query, a relevant document and another one, with tabs "
                f"between; given {len(row)} columns, {str(row)[:60]}."
            )
        name = queries.setdefault(row[0], f"q{len(queries)}")
        right, wrong = (numbers.setdefault(text, f"d{len(numbers)}") for text in row[1:])
        judged.setdefault(name, {})[right] = 1
        rejected.setdefault(name, []).append(wrong)
    return Collection(
        {name: text for text, name in numbers.items()},
        {name: text for text, name in queries.items()},
        _completed({"train": judged}, path, seed),
        str(path),
        {name: [d for d in own if d not in judged[name]] for name, own in rejected.items()},
    )
