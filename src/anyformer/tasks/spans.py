"""Spans of words from tags of words, and how many of them were found exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from anyformer.core.errors import DataError

Span = tuple[int, int, str]
"""First word, the one behind the last, and the kind."""

BEGIN, INSIDE, LAST, WHOLE = frozenset("B"), frozenset("I"), frozenset("EL"), frozenset("SU")
"""What stands before the kind: at the first word, inside, at the last word, at a span of one word."""


def tag_spans(tags: Sequence[str]) -> list[Span]:
    """The spans that tags such as "B-city", "I-city" and "O" describe, as CoNLL's evaluation reads them.

    One rule serves BIO, IOB1 (a span begins with B only behind another of its kind), BIOES and BILOU: a span begins at
    B and S, and at I and E where none of its kind is open; it ends behind E and S, and where another begins or O is.

    Raises `DataError` for a tag of another form.
    """
    found: list[Span] = []
    start, kind = -1, ""
    for i, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if tag != "O" and (mark not in BEGIN | INSIDE | LAST | WHOLE or not name):
            raise DataError(f'a tag is "O", or one of B, I, E, L, S and U with a kind, as in "B-city"; given {tag!r}.')
        goes_on = start >= 0 and mark in INSIDE | LAST and name == kind
        if start >= 0 and not goes_on:
            found.append((start, i, kind))
            start = -1
        if tag != "O" and not goes_on:
            start, kind = i, name
        if start >= 0 and mark in LAST | WHOLE:
            found.append((start, i + 1, kind))
            start = -1
    return found


def to_bio(tags: Sequence[str]) -> list[str]:
    """Tags in any of the forms that `tag_spans` reads as BIO: B at the first word, I at the others, O outside."""
    found = ["O"] * len(tags)
    for start, end, kind in tag_spans(tags):
        found[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return found


def pieces(words: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str]]:
    """The spans of a sentence and the words between them, each with its kind or ""."""
    found = [(word, "") for word in words]
    for first, end, kind in reversed(tag_spans(tags)):
        found[first:end] = [(" ".join(words[first:end]), kind)]
    return found


def bracketed(words: Sequence[str], tags: Sequence[str]) -> str:
    """A sentence with its spans in brackets, as "from [city: New York] to ..."."""
    return " ".join(f"[{kind}: {text}]" if kind else text for text, kind in pieces(words, tags))


def span_scores(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> dict[str, float]:
    """ "precision", "recall" and "f1" of exact spans, over all rows of tags together; 0 where there are none.

    Tjong Kim Sang and De Meulder 2003 (CoNLL-2003), arXiv:cs/0306050, section 3: a span is right when its first word,
    its last word and its kind are.
    """
    return _scores(_counts(truth, guesses).values())


def kind_scores(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """For each kind of span its "precision", "recall" and "f1", and "spans", how many of it there are."""
    counts = _counts(truth, guesses)
    return {kind: {**_scores([counts[kind]]), "spans": counts[kind]["true"]} for kind in sorted(counts)}


def frequent_tags(sentences: Iterable[Sequence[str]], tags: Iterable[Sequence[str]]) -> tuple[dict[str, str], str]:
    """The tag that each word has most often, and that of all words together."""
    counts: dict[str, Counter[str]] = {}
    for words, own in zip(sentences, tags, strict=True):
        for word, tag in zip(words, own, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    usual = sum(counts.values(), Counter()).most_common(1)[0][0]
    return {word: found.most_common(1)[0][0] for word, found in counts.items()}, usual


def _counts(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> dict[str, Counter[str]]:
    """For each kind how many spans are "true", "guessed" and "right"."""
    counts: dict[str, Counter[str]] = {}
    for row, guess in zip(truth, guesses, strict=True):
        if len(row) != len(guess):
            raise DataError(f"every word has one tag and one guess; given {len(row)} tags and {len(guess)} guesses.")
        there, said = set(tag_spans(row)), set(tag_spans(guess))
        for name, spans in (("true", there), ("guessed", said), ("right", there & said)):
            for _, _, kind in spans:
                counts.setdefault(kind, Counter())[name] += 1
    return counts


def _scores(counts: Iterable[Counter[str]]) -> dict[str, float]:
    total = sum(counts, Counter())
    right = total["right"]
    return {
        "precision": right / max(total["guessed"], 1),
        "recall": right / max(total["true"], 1),
        "f1": 2 * right / max(total["guessed"] + total["true"], 1),
    }
