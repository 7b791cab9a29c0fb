"""Classification of texts, and of pairs of texts that an encoder reads together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anyformer.blocks.encoder import Encoder
from anyformer.blocks.model import Model
from anyformer.core.errors import DataError, FitError, OptionError, suggest
from anyformer.core.segments import Segments
from anyformer.data.docstrings import paragraphs
from anyformer.data.images import class_names
from anyformer.data.labelled_text import Columns, Labelled, MultiLabelled, Parts, read_labelled
from anyformer.data.long_text import table
from anyformer.data.splits import SPLITS, check_splits, stratified
from anyformer.data.tokenizers import Marked, make_tokenizer
from anyformer.layers.pooling.ponet import SectionSegments
from anyformer.tasks.sequences import SequenceClassification, check_takes
from anyformer.tasks.task import Batch
from anyformer.tasks.texts import digest

Overlong = Literal["refuse", "cut"]


class TextRows(SequenceClassification):
    """One class a text or a pair of texts, each in one row: a class mark, the text, a separator; for pairs, a second
    text and a separator, as BERT reads them (Devlin et al. 2018, arXiv:1810.04805, section 3).

    Of pairs, encoders are told the kind of each token (0 up to the first separator, 1 behind it), and the section that
    it stands in: a mark, or one of the texts (PoNet, arXiv:2110.02442, pools over sections).

    Args:
        parts: the samples of "train", "valid" and "test".
        classes: in the order of the labels; None: those of the training part.
        source: where the samples come from.
        tokenizer, vocab_size: as `Text`'s, learned on the training part.
        length: tokens of the longest row, marks included.
        overlong: what becomes of longer ones: "refuse" raises `DataError`, "cut" leaves out their ends, those of the
            longer text of a pair first; `facts` says of how many.

    Raises:
        DataError: rows that are too long, a text without tokens, or a class that the training part has not.
    """

    metric = "accuracy"
    default_model = "bert_micro"

    def __init__(
        self,
        parts: Mapping[str, Sequence[Labelled | MultiLabelled]],
        classes: Sequence[str] | None = None,
        *,
        source: str,
        tokenizer: str = "bytes",
        length: int = 128,
        vocab_size: int = 1024,
        overlong: Overlong = "refuse",
    ):
        if overlong not in ("refuse", "cut"):
            raise OptionError(f"overlong is 'refuse' or 'cut'; given {overlong!r}.")
        self.samples, self.overlong = parts, overlong
        self.many = len(parts["train"][0].texts)
        if length < 1 + 2 * self.many:
            raise OptionError(
                f"a row of {self.many} texts with marks has {1 + 2 * self.many} tokens or more; given {length}."
            )
        learned = "\n\n".join(text for sample in parts["train"] for text in sample.texts)
        self.tokenizer_name = tokenizer
        self.tokenizer: Any = Marked(make_tokenizer(tokenizer, learned, vocab_size), ("class", "separator"))
        self.length, self.source = length, source
        if classes is None:
            classes = class_names({label for sample in parts["train"] for label in self.labels(sample)})
        if len(classes) < 2:
            raise DataError(f"{source} has {len(classes)} classes ({', '.join(classes)}); two or more are needed.")
        numbers = {name: i for i, name in enumerate(classes)}
        rows, self.firsts, self.cut = {}, {}, {}
        for split, samples in parts.items():
            for label in (label for sample in samples for label in self.labels(sample)):
                if label not in numbers:
                    near = suggest(label, classes)
                    raise DataError(f"{source}, {split}: {label!r} is no class of the training part; {near}")
            encoded = [self.pieces(sample.texts) for sample in samples]
            self.cut[split] = self.check_lengths(encoded, f"the {split} part of {source}")
            joined, firsts = zip(*map(self.join, encoded), strict=True)
            named = [[numbers[label] for label in self.labels(sample)] for sample in samples]
            rows[split] = ([table(joined, length)], self.targets(named, len(numbers)))
            self.firsts[split] = torch.tensor(firsts)
        super().__init__(rows, classes, vocab_size=self.tokenizer.vocab_size, length=length, source=source)

    def labels(self, sample: Any) -> tuple[str, ...]:
        """The names of a sample's classes."""
        return (sample.label,)

    def targets(self, labels: Sequence[Sequence[int]], classes: int) -> Tensor:
        """What the model is to say of samples with these classes: the number of the one, `(n,)`."""
        return torch.tensor([number for (number,) in labels])

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without marks. Raises `DataError` for one that leaves none."""
        found = [self.tokenizer.encode(text) for text in texts]
        if not all(found):
            raise DataError(f"the task {self.name!r} takes texts that leave a token; given {tuple(texts)!r}.")
        return found

    def check_lengths(self, encoded: Sequence[Sequence[list[int]]], where: str) -> int:
        """How many rows are cut. Raises `DataError` where they must not be."""
        totals = [1 + sum(len(ids) + 1 for ids in texts) for texts in encoded]
        over = sum(total > self.length for total in totals)
        if over and self.overlong == "refuse":
            raise DataError(
                f"{over:,} of {len(totals):,} texts of {where} have more tokens than length={self.length}, the longest "
                f'{max(totals)}, marks included: take length={max(totals)}, or overlong="cut" to leave out their ends.'
            )
        return over

    def join(self, pieces: list[list[int]]) -> tuple[list[int], int]:
        """A row with its marks, cut to `length`, and its number of tokens up to the first separator."""
        room = self.length - 1 - len(pieces)
        kept = room if len(pieces) == 1 else max(room - len(pieces[1]), (room + 1) // 2)
        first, rest = pieces[0][:kept], [ids[: room - len(pieces[0][:kept])] for ids in pieces[1:]]
        mark, end = self.tokenizer.marks["class"], self.tokenizer.marks["separator"]
        row = [mark, *first, end]
        return row + [token for ids in rest for token in (*ids, end)], len(row)

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" `(b, n)`, "lengths" and "labels" `(b)`; for pairs "firsts" `(b)`, tokens up to the first separator."""
        batch = super().sample(split, indices, seed=seed, train=train)
        return batch if self.many == 1 else {**batch, "firsts": self.firsts[split][indices]}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says of a batch. Raises `SizeError` for one too short, `FitError` for pairs to no encoder."""
        if "firsts" not in batch:
            return super().logits(model, batch)
        check_takes(self, model)
        inner = getattr(model, "module", model)
        if isinstance(inner, Model) and not isinstance(inner, Encoder):
            raise FitError(
                f"the task {self.name!r} has both texts of a pair in one row, which an encoder such as "
                f"{self.default_model} reads; given {inner.variant or inner.name}."
            )
        ids, lengths, firsts = batch["ids"], batch["lengths"][:, None], batch["firsts"][:, None]
        at = torch.arange(ids.shape[1], device=ids.device)
        kinds = ((at >= firsts) & (at < lengths)).long()
        starts = torch.cat([torch.ones_like(firsts), firsts - 1, firsts, lengths - 1], 1)  # of text, mark, text, mark
        sections = (at[:, None] >= starts[:, None]).sum(2)
        return model(ids, SectionSegments.mark(sections, Segments((at < lengths).long())), kinds).float()

    def ready(self, given: Any) -> Batch:
        texts = self.split(given)
        encoded = self.pieces(texts)
        self.check_lengths([encoded], "what is given")
        row, first = self.join(encoded)
        batch = {"ids": torch.tensor([row]), "lengths": torch.tensor([len(row)])}
        return batch if self.many == 1 else {**batch, "firsts": torch.tensor([first])}

    def split(self, given: Any) -> tuple[str, ...]:
        """The texts of an input. Raises `DataError` where they are not as many as the task's."""
        texts = tuple(given.split("\t")) if isinstance(given, str) and self.many > 1 else given
        texts = (texts,) if isinstance(texts, str) else tuple(texts)
        if len(texts) != self.many or not all(isinstance(text, str) for text in texts):
            wanted = "a text" if self.many == 1 else "two texts, or one string with a tab between them"
            raise DataError(f"the task {self.name!r} takes {wanted}; given {given!r}.")
        return texts

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The first samples, the texts of a pair with an empty line between."""
        shown = self.samples[self.check_split(split)][:n]
        return [{"input": "\n\n".join(sample.texts), "truth": ", ".join(self.labels(sample))} for sample in shown]

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "digest": digest(t for part in self.samples.values() for s in part for t in (*s.texts, *self.labels(s))),
            "tokenizer": self.tokenizer_name,
            "vocab_size": self.vocab_size,
            "cut": self.cut,
        }


class TextClassification(TextRows):
    """The class of a text, or of a pair of texts. Loss: cross-entropy. Metric: accuracy; beside it macro F1.

    Args:
        path: a .csv, .tsv or .jsonl file, or a folder (`data.labelled_text.read_labelled`); paragraphs of docstrings of
            Python's modules, and what the modules are for, where not given.
        tokenizer: "bytes"; "wordpiece" and others learned on the training part; or the path of a tokenizer.json.
        length: tokens of the longest row, marks included.
        vocab_size: tokens of a tokenizer that is learned.
        text, label: names of the columns of the text and of its class.
        second: name of the column of the second text, where pairs are classified.
        overlong: of rows longer than `length`: "refuse" raises `DataError`, "cut" leaves out their ends.
        encoding: of the files.
        seed: by which samples are dealt out to parts that are not given.

    Raises:
        OptionError: `second` without a path.
        DataError: as `TextRows` and `read_labelled`.
    """

    name = "text_classification"
    margin = 0.1

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "bytes",
        length: int = 128,
        vocab_size: int = 1024,
        text: str = "text",
        label: str = "label",
        second: str | None = None,
        overlong: Overlong = "refuse",
        encoding: str = "utf-8",
        seed: int = 0,
    ):
        if path is not None:
            parts = read_labelled(path, Columns(text, label, second), encoding, seed)
        elif second is not None:
            raise OptionError("second names a column of a file: give its path, as in text_classification:pairs.tsv.")
        else:
            parts = _topics(length - 2, seed)
        source = "docstrings of Python's modules" if path is None else str(path)
        super().__init__(
            parts, source=source, tokenizer=tokenizer, length=length, vocab_size=vocab_size, overlong=overlong
        )


def _topics(longest: int, seed: int) -> Parts:
    """Paragraphs of Python's docstrings in parts."""
    samples = paragraphs(min(longest, 126))
    if not samples:
        raise OptionError(f"paragraphs of docstrings have 40 bytes or more; length={longest + 2} leaves none.")
    topics = sorted({sample.label for sample in samples})
    rows = stratified([topics.index(sample.label) for sample in samples], seed=seed)
    parts = {split: [samples[i] for i in rows[split]] for split in SPLITS}
    check_splits(parts, "Python's docstrings")
    return parts


TASKS = {"text_classification": TextClassification}
