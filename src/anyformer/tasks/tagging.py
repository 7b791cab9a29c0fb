"""Tagging: one tag for every word of a sentence, and the spans of words that the tags describe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.data.conll import WORDS, Parts, read_conll
from anyformer.data.images import class_names
from anyformer.data.long_text import table
from anyformer.data.named_entities import reports
from anyformer.data.pictures import Picture, highlighted
from anyformer.data.seeds import combine
from anyformer.tasks import metrics
from anyformer.tasks.language import token_loss
from anyformer.tasks.sequences import check_takes, is_padded
from anyformer.tasks.spans import (
    BEGIN,
    INSIDE,
    LAST,
    WHOLE,
    bracketed,
    frequent_tags,
    kind_scores,
    pieces,
    span_scores,
    tag_spans,
    to_bio,
)
from anyformer.tasks.task import IGNORE, Baseline, Batch, measuring, to_device
from anyformer.tasks.texts import TextTask, digest

Row = tuple[list[int], list[int]]
"""Ids, and the number of the tag at the first piece of each word, `IGNORE` at all others."""


class Tagging(TextTask):
    """The tag of every word. Loss: cross-entropy. Metric: F1 of exact spans, or accuracy where tags say none.

    A word may become several tokens: its first one that is no space carries the tag, the others count neither for the
    loss nor for a metric (Devlin et al. 2018, arXiv:1810.04805, section 5.3). Models are encoders; the task gives them
    a linear head on every token. Tags of spans may be BIO, IOB1, BIOES or BILOU; models learn BIO, and what they say is
    read as CoNLL's evaluation reads it (`tasks.spans`).

    Args:
        path: a file of columns, or a folder with one for each part (`data.conll.read_conll`); sentences about
            people, places and companies with invented names (`data.named_entities`) where not given.
        tokenizer: "bytes"; "wordpiece" and others learned on the training part; or the path of a tokenizer.json.
        length: tokens of the longest row, a mark at each end included.
        vocab_size: tokens of a tokenizer that is learned.
        word_column, tag_column: of the file, from 0; negative numbers count from the last.
        overlong: of sentences longer than a row: "refuse" raises `DataError`, "split" cuts them between words into
            several rows, so that every word is tagged, with less around it; `facts` says of how many.
        encoding: of the files.
        sentences: of those that are generated, to train on; an eighth as many are in each other part.
        seed: by which sentences are generated, or dealt out to parts that are not given.

    Raises:
        OptionError: rows without room for a word.
        DataError: as `read_conll`, a sentence or a word longer than a row, or fewer than two tags.
    """

    name = "tagging"
    metric = "f1"
    higher_is_better = True
    default_model = "bert_micro"
    marks = ("class", "separator")

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "bytes",
        length: int = 96,
        vocab_size: int = 1024,
        word_column: int = 0,
        tag_column: int = -1,
        overlong: Literal["refuse", "split"] = "refuse",
        encoding: str = "utf-8",
        sentences: int = 3000,
        seed: int = 0,
    ):
        if overlong not in ("refuse", "split"):
            raise OptionError(f"overlong is 'refuse' or 'split'; given {overlong!r}.")
        if length < 3:
            raise OptionError(f"a row has two marks and a token between, so length is 3 or more; given {length}.")
        parts = (
            _generated(sentences, seed) if path is None else read_conll(path, word_column, tag_column, encoding, seed)
        )
        self.source = "data.named_entities.reports" if path is None else str(path)
        self.sentences, self.spans = parts, has_spans(parts)
        self.metric = "f1" if self.spans else "accuracy"  # an attribute: the data say which
        self.truth = {split: [self.ours(s.tags) for s in part] for split, part in parts.items()}
        names = {tag for part in self.truth.values() for tags in part for tag in tags}
        kinds = sorted({name[2:] for name in names - {"O"}}) if self.spans else []
        spanned = ("O", *(f"{mark}-{kind}" for kind in kinds for mark in "BI"))
        self.classes: tuple[str, ...] = spanned if self.spans else class_names(names)
        if len(self.classes) < 2:
            raise DataError(f"{self.source} has only the tag {', '.join(names)!r}; two or more are needed.")
        self.numbers = {tag: i for i, tag in enumerate(self.classes)}
        self.length, self.overlong = length, overlong
        self.learn(tokenizer, (" ".join(s.words) for s in parts["train"]), vocab_size)
        self.blank = [not piece.strip() for piece in self.tokenizer.pieces]  # spaces, at which no tag stands
        self.rows: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.places: dict[str, list[int]] = {}
        for split, part in parts.items():
            made = [
                (row, number)
                for number, (s, tags) in enumerate(zip(part, self.truth[split], strict=True))
                for row in self.encode(s.words, tags, f"the {split} part of {self.source}, sentence {number + 1}")
            ]
            self.places[split] = [number for _, number in made]
            ids, lengths = table([row[0] for row, _ in made], length)
            targets = torch.full_like(ids, IGNORE)
            for i, (row, _) in enumerate(made):
                targets[i, : len(row[1])] = torch.tensor(row[1])
            self.rows[split] = ids, targets, lengths

    def ours(self, tags: Sequence[str]) -> list[str]:
        """Tags of spans as BIO, others as they are."""
        return to_bio(tags) if self.spans else list(tags)

    def encode(self, words: Sequence[str], tags: Sequence[str], where: str) -> list[Row]:
        """The rows of a sentence: one, or several where it is too long and `overlong` is "split".

        Raises `DataError` for a sentence that is too long, and for a word that is longer than a row.
        """
        room = self.length - 2
        rows: list[Row] = [([], [])]
        for i, (word, tag) in enumerate(zip(words, tags, strict=True)):
            pieces = self.tokenizer.encode(f" {word}" if i else word) or [self.tokenizer.marks["separator"]]
            if len(pieces) > room:
                raise DataError(
                    f"{where}: the word {word[:40]!r} has {len(pieces)} tokens, and a row of length={self.length} has "
                    f"room for {room}: take length={len(pieces) + 2} or more."
                )
            if len(rows[-1][0]) + len(pieces) > room:
                rows.append(([], []))
            ids, targets = rows[-1]
            first = next((k for k, piece in enumerate(pieces) if not self.blank[piece]), 0)
            ids += pieces
            targets += [self.numbers[tag] if k == first else IGNORE for k in range(len(pieces))]
        if len(rows) > 1 and self.overlong == "refuse":
            total = sum(len(ids) for ids, _ in rows) + 2
            raise DataError(
                f"{where} ({' '.join(words)[:40]!r}) has {total} tokens, marks included, and length is {self.length}: "
                f'take length={total}, or overlong="split" to cut such sentences between words.'
            )
        start, end = self.tokenizer.marks["class"], self.tokenizer.marks["separator"]
        return [([start, *ids, end], [IGNORE, *targets, IGNORE]) for ids, targets in rows]

    def model_options(self) -> dict[str, Any]:
        return {**super().model_options(), "num_classes": len(self.classes), "head": Spec("map_head", rank=1)}

    def size(self, split: str) -> int:
        """Rows: as many as sentences, and more where some are split."""
        return len(self.rows[self.check_split(split)][0])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" and "targets" `(b, n)`, the latter `IGNORE` but at the first piece of a word, and "lengths" `(b)`."""
        ids, targets, lengths = (t[indices] for t in self.rows[self.check_split(split)])
        longest = int(lengths.max())
        return {"ids": ids[:, :longest].long(), "targets": targets[:, :longest].long(), "lengths": lengths}

    def logits(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b n classes"]:
        """What the model says of each token. Raises `SizeError` for too short a model, `FitError` for other outputs."""
        check_takes(self, model)
        ids, lengths = batch["ids"], batch["lengths"]
        segments = Segments.from_lengths(lengths, ids.shape[1]) if is_padded(ids, lengths) else None
        found = model(ids, segments).float()
        if found.shape != (*ids.shape, len(self.classes)):
            raise FitError(
                f"the task {self.name!r} takes scores of {len(self.classes)} tags at every token; this model gives "
                f'{tuple(found.shape)} for ids {tuple(ids.shape)}: take an encoder with head=Spec("map_head", rank=1).'
            )
        return found

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return token_loss(self.logits(model, batch), batch["targets"], label_smoothing)

    def baseline(self, split: str = "valid") -> Baseline:
        """For each word the tag that it has most often in the training part; for new words, that of all words."""
        best, usual = frequent_tags((s.words for s in self.sentences["train"]), self.truth["train"])
        guesses = [[best.get(word, usual) for word in s.words] for s in self.sentences[self.check_split(split)]]
        return Baseline("each word's most frequent tag", self.measured(split, guesses)[self.metric], 0.2)

    def measured(self, split: str, guesses: Sequence[Sequence[str]], loss: float = 0.0) -> dict[str, Any]:
        """What `evaluate` says of the guessed tags of all sentences of a split, whose losses sum up to `loss`."""
        truth = self.truth[split]
        flat = [torch.tensor([self.numbers[tag] for row in rows for tag in row]) for rows in (truth, guesses)]
        words = metrics.classified(flat[0], flat[1], loss, self.classes)
        if not self.spans:
            return {**words, "words": len(flat[0])}
        scores = span_scores(truth, guesses)
        known = {"accuracy": words["accuracy"], "loss": words["loss"], "words": len(flat[0])}
        return {"f1": scores["f1"], **scores, **known, "kinds": kind_scores(truth, guesses)}

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 64) -> dict[str, Any]:
        """Of spans, "f1", "precision", "recall" and those of all "kinds"; "accuracy" of "words", and "loss" in nats.

        Where tags are of single words, "accuracy", "loss", the mean "f1" of tags, and each of the "classes".
        """
        guesses: list[list[str]] = [[] for _ in self.sentences[self.check_split(split)]]
        nats = 0.0
        with measuring(model) as device:
            for indices, batch in self.batches(split, batch_size, device):
                logits = self.logits(model, batch)
                nats += float(token_loss(logits, batch["targets"])) * self.count(batch)
                for i, tags in zip(indices.tolist(), self.tags(logits, batch["targets"]), strict=True):
                    guesses[self.places[split][i]] += tags
        return self.measured(split, guesses, nats)

    def tags(self, logits: Tensor, targets: Tensor) -> list[list[str]]:
        """The likeliest tag of each word, row by row."""
        return [
            [self.classes[k] for k in row[at].tolist()]
            for row, at in zip(logits.argmax(-1).cpu(), (targets != IGNORE).cpu(), strict=True)
        ]

    def predict(self, model: nn.Module, inputs: Sequence[str | Sequence[str]]) -> list[dict[str, Any]]:
        """For each text, or list of words: "tagged" for reading, "words", "tags", and "spans".

        Of a text, words are letters and digits together, and every other sign alone. A span has its "kind", its "text",
        and the numbers of its first word and of the one behind its last, "start" and "end".
        """
        found = []
        for given in inputs:
            words = WORDS.findall(given) if isinstance(given, str) else list(given)
            if not words or not all(isinstance(word, str) and word.strip() for word in words):
                raise DataError(f"the task {self.name!r} takes texts with words, or lists of words; given {given!r}.")
            tags: list[str] = []
            for ids, targets in self.encode(words, [self.classes[0]] * len(words), "what is given"):
                with measuring(model) as device:
                    batch = to_device({"ids": torch.tensor([ids]), "lengths": torch.tensor([len(ids)])}, device)
                    tags += self.tags(self.logits(model, batch), torch.tensor([targets]))[0]
            answer = {"input": given, "tagged": self.show(words, tags), "words": words, "tags": tags}
            spans = tag_spans(tags) if self.spans else []
            named = [{"kind": k, "start": a, "end": b, "text": " ".join(words[a:b])} for a, b, k in spans]
            found.append({**answer, "spans": named} if self.spans else answer)
        return found

    def show(self, words: Sequence[str], tags: Sequence[str]) -> str:
        """A sentence to read: spans in brackets behind their kind, or every word with its tag."""
        return bracketed(words, tags) if self.spans else " ".join(map("/".join, zip(words, tags, strict=True)))

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """The first sentences: their spans, or tags, above, and what the model says below."""
        kinds = list(dict.fromkeys(tag[2:] for tag in self.classes[1:])) if self.spans else self.classes
        drawn = []
        for sentence, tags in zip(self.sentences[self.check_split(split)][:n], self.truth[split], strict=False):
            (said,) = self.predict(model, [sentence.words])
            told = (tags, said["tags"])
            rows = [
                pieces(sentence.words, t) if self.spans else list(zip(sentence.words, t, strict=True)) for t in told
            ]
            drawn.append(Picture("as it is, and as the model tags it", highlighted(rows, kinds)))
        return drawn

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The first sentences, and what is tagged in them."""
        shown = zip(self.sentences[self.check_split(split)][:n], self.truth[split][:n], strict=True)
        return [{"input": " ".join(s.words), "truth": self.show(s.words, tags)} for s, tags in shown]

    def facts(self) -> dict[str, Any]:
        told = (" ".join((*s.words, *s.tags)) for part in self.sentences.values() for s in part)
        return {
            **super().facts(),
            "digest": digest(told),
            "tags": list(self.classes),
            "sentences": {split: len(part) for split, part in self.sentences.items()},
            "split": {split: sum(n > 1 for n in Counter(rows).values()) for split, rows in self.places.items()},
        }


def has_spans(parts: Parts) -> bool:
    """Whether all tags are "O" or a mark of spans with a kind; otherwise they are of words, as parts of speech."""
    tags = {tag for part in parts.values() for sentence in part for tag in sentence.tags}
    return tags != {"O"} and all(
        tag == "O" or (tag[:1] in BEGIN | INSIDE | LAST | WHOLE and tag[1:2] == "-" and tag[2:]) for tag in tags
    )


def _generated(count: int, seed: int) -> Parts:
    """Sentences with invented names; none of the training part is measured."""
    other = max(1, count // 8)
    held = reports(2 * other, seed=combine(seed, 1))
    return {"train": reports(count, combine(seed, 0), held), "valid": held[:other], "test": held[other:]}


TASKS = {"tagging": Tagging}
