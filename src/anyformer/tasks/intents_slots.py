"""Intents and slots: what a sentence asks for, and which of its words fill in the details."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.core.segments import Segments
from anyformer.data.intents import read_utterances, travel
from anyformer.data.pictures import Picture, highlighted
from anyformer.data.splits import SPLITS
from anyformer.methods.decoding.generate import generate
from anyformer.tasks.language import token_loss
from anyformer.tasks.spans import bracketed, frequent_tags, kind_scores, pieces, span_scores, tag_spans
from anyformer.tasks.task import IGNORE, Baseline, Batch, measuring, to_device
from anyformer.tasks.texts import TextTask, digest, padded

UNKNOWN = 0
"""The id of a word that a tokenizer leaves nothing of; in those that are learned it stands for what is unknown."""
OUTSIDE = "O"


class IntentsSlots(TextTask):
    """The intent of a sentence and a tag for each word. Loss: cross-entropy of a word's tag and its sentence's intent.

    Metric: "slot_f1", F1 of exact spans, tags being written by the model itself, one after the other. Models take
    `(ids, tags, starts, segments)` as `CTRAN` does. Sentences are read between two marks, and words in as many pieces
    as the tokenizer makes of them; the first one stands for the word.

    Args:
        path: a folder of `seq.in`, `seq.out` and `label`, or .iob or .jsonl files (`data.intents.read_utterances`); by
            default generated sentences on air travel.
        tokenizer: as `make_tokenizer`'s ("words", "bytes", "wordpiece", a tokenizer.json, ...); what is learned is
            learned on the training part.
        vocab_size: tokens of a tokenizer that is learned.
        sentences: of those that are generated, to train on.
        encoding: of the files.
        seed: by which sentences are generated, or dealt out to the parts.
    """

    name = "intents_slots"
    metric = "slot_f1"
    higher_is_better = True
    default_model = "ctran_micro"
    marks = ("class", "separator")

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "words",
        vocab_size: int = 1024,
        sentences: int = 3000,
        encoding: str = "utf-8",
        seed: int = 0,
    ):
        if path is None:
            if sentences < 1:
                raise OptionError(f"sentences to train on are 1 or more; given {sentences}.")
            held = travel(1000, seed=-1)
            self.parts = {
                "train": travel(sentences, seed, {utterance.words for utterance in held}),
                "valid": held[:500],
                "test": held[500:],
            }
            self.source = "data.intents.travel"
        else:
            self.parts = read_utterances(path, encoding, seed)
            self.source = str(path)
        every = [utterance for split in SPLITS for utterance in self.parts[split]]
        self.tags = (OUTSIDE, *sorted({tag for u in every for tag in u.tags} - {OUTSIDE}))
        self.intents = tuple(sorted({u.intent for u in every}))
        self.start = len(self.tags)
        self.learn(tokenizer, (" ".join(u.words) for u in self.parts["train"]), vocab_size)
        self.encoded = {split: [self.encode(u.words) for u in self.parts[split]] for split in SPLITS}
        self.length = max(len(ids) for rows in self.encoded.values() for ids, _ in rows)
        numbers = {tag: i for i, tag in enumerate(self.tags)}
        self.numbered = {split: [[numbers[t] for t in u.tags] for u in self.parts[split]] for split in SPLITS}

    def encode(self, words: Sequence[str]) -> tuple[list[int], list[bool]]:
        """The ids of a sentence between its marks, and which of them begin a word."""
        marks = self.tokenizer.marks
        ids, starts = [marks["class"]], [False]
        for word in words:
            cut = self.tokenizer.encode(word) or [UNKNOWN]
            ids += cut
            starts += [True] + [False] * (len(cut) - 1)
        return [*ids, marks["separator"]], [*starts, False]

    def model_options(self) -> dict[str, Any]:
        return {
            **super().model_options(), "slots": len(self.tags) + 1, "intents": len(self.intents), "start": self.start
        }  # fmt: skip

    def size(self, split: str) -> int:
        return len(self.parts[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" and "starts" `(b, n)` of tokens, "lengths" `(b)`; "tags", which begin with the start, "targets" and
        "intents" `(b, t)` of words, the latter two `IGNORE` behind a row's words.
        """
        rows = indices.tolist()
        tags = [self.numbered[self.check_split(split)][i] for i in rows]
        intents = [self.intents.index(self.parts[split][i].intent) for i in rows]
        return self.collated([self.encoded[split][i] for i in rows]) | {
            "tags": padded([[self.start, *row[:-1]] for row in tags], self.start),
            "targets": padded(tags, IGNORE),
            "intents": padded([[k] * len(row) for k, row in zip(intents, tags, strict=True)], IGNORE),
        }

    def collated(self, rows: Sequence[tuple[list[int], list[bool]]]) -> Batch:
        """What a batch holds of the sentences alone."""
        return {
            "ids": padded([ids for ids, _ in rows], UNKNOWN),
            "starts": padded([[int(begins) for begins in starts] for _, starts in rows], 0).bool(),
            "lengths": torch.tensor([len(ids) for ids, _ in rows]),
        }

    def logits(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, "b t s"], Float[Tensor, "b t i"]]:
        """Of each word's tag, given the true tags before it, and of the sentence's intent."""
        segments = Segments.from_lengths(batch["lengths"], batch["ids"].shape[1])
        logits = model(batch["ids"], batch["tags"], batch["starts"], segments).float()
        return logits[..., : self.start + 1], logits[..., self.start + 1 :]

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Of tags and of intents, each the mean over words: a sentence's intent counts with each of its words."""
        slots, intents = self.logits(model, batch)
        return token_loss(slots, batch["targets"], label_smoothing) + token_loss(
            intents.contiguous(), batch["intents"], label_smoothing
        )

    def baseline(self, split: str = "valid") -> Baseline:
        known = self.parts["train"]
        often, _ = frequent_tags((u.words for u in known), (u.tags for u in known))
        part = self.parts[self.check_split(split)]
        guesses = [[often.get(word, OUTSIDE) for word in u.words] for u in part]
        return Baseline("the most frequent tag of each word", span_scores([u.tags for u in part], guesses)["f1"], 0.15)

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 128) -> dict[str, Any]:
        """F1, precision and recall of slots, accuracy of intents, the share of sentences with all of both right, the
        mean loss given the true tags, "kinds" (each: spans, precision, recall, f1), and "guesses" (intents).
        """
        part = self.parts[self.check_split(split)]
        tags: list[list[str]] = []
        guesses: list[str] = []
        nats, words = 0.0, 0
        with measuring(model) as device:
            for _, batch in self.batches(split, batch_size, device):
                count = self.count(batch)
                nats += float(self.loss(model, batch)) * count
                words += count
                chances, written = self.written(model, batch)
                tags += written
                guesses += [self.intents[i] for i in chances.argmax(-1).tolist()]
        truth = [u.tags for u in part]
        intents = [guess == u.intent for guess, u in zip(guesses, part, strict=True)]
        whole = [right and list(u.tags) == row for right, u, row in zip(intents, part, tags, strict=True)]
        return {
            **{f"slot_{name}": value for name, value in span_scores(truth, tags).items()},
            "intent_accuracy": sum(intents) / len(part),
            "sentence_accuracy": sum(whole) / len(part),
            "loss": nats / words,
            "kinds": kind_scores(truth, tags),
            "guesses": guesses,
        }

    def written(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, "b i"], list[list[str]]]:
        """Probabilities of intents, and the tags that the model writes, each after the likeliest ones before it."""
        counts = batch["starts"].sum(1).tolist()
        segments = Segments.from_lengths(batch["lengths"], batch["ids"].shape[1])
        chances, tags = understand(model, batch["ids"], batch["starts"], segments)
        names = (*self.tags, OUTSIDE)  # the start, should it ever be written
        rows = [[names[i] for i in row[:count]] for row, count in zip(tags.tolist(), counts, strict=True)]
        return chances.softmax(-1), rows

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> list[dict[str, Any]]:
        """Of each sentence the intent, its probability, how it is "tagged", for reading, the "slots" (each: kind and
        text), and the tag of each word.
        """
        found = []
        for text in inputs:
            words = text.split()
            if not words:
                raise DataError(f"a sentence has a word at least; given {text!r}.")
            batch = self.collated([self.encode(words)])
            with measuring(model) as device:
                chances, (tags,) = self.written(model, to_device(batch, device))
            best = int(chances[0].argmax())
            spans = [{"kind": kind, "text": " ".join(words[a:b])} for a, b, kind in tag_spans(tags)]
            found.append(
                {
                    "input": text,
                    "intent": self.intents[best],
                    "probability": float(chances[0, best]),
                    "tagged": bracketed(words, tags),
                    "slots": spans,
                    "tags": tags,
                }
            )
        return found

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """The first sentences: their slots above, those that the model wrote below."""
        kinds = sorted({tag.partition("-")[2] for tag in self.tags} - {""})
        drawn = []
        for u in self.parts[self.check_split(split)][:n]:
            (said,) = self.predict(model, [" ".join(u.words)])
            rows = [pieces(u.words, tags) for tags in (u.tags, said["tags"])]
            drawn.append(Picture(f"{u.intent}, said: {said['intent']}", highlighted(rows, kinds)))
        return drawn

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Sentences, and their intents with the spans in brackets."""
        return [
            {"input": " ".join(u.words), "truth": f"{u.intent}: {bracketed(u.words, u.tags)}"}
            for u in self.parts[self.check_split(split)][:n]
        ]

    def facts(self) -> dict[str, Any]:
        told = (" ".join((*u.words, *u.tags, u.intent)) for split in SPLITS for u in self.parts[split])
        return {
            **super().facts(),
            "digest": digest(told),
            "sizes": {split: self.size(split) for split in SPLITS},
            "tags": len(self.tags),
            "intents": list(self.intents),
        }


def understand(
    model: Any, ids: Int[Tensor, "b n"], starts: Bool[Tensor, "b n"], segments: Segments | None = None, **options: Any
) -> tuple[Float[Tensor, "b i"], Int[Tensor, "b t"]]:
    """Logits of each sentence's intent, and the tags of its words, written one after the other.

    Args:
        model: a `CTRAN`.
        ids, starts, segments: as its `forward` takes them.
        options: of `generate`, such as `beams=4`.

    Raises:
        FitError: a model of another kind.
    """
    needed = ("encode", "words", "classify", "init_state", "extend", "start")
    if not all(hasattr(model, name) for name in needed):
        name = getattr(model, "name", "") or type(model).__name__
        raise FitError(f"{name} has no {', '.join(needed)}, so it cannot read intents and write tags; ctran can.")
    tokens = model.encode(ids, segments)
    longest = int(starts.sum(1).max())
    begin = torch.full((len(ids), 1), model.start, dtype=torch.long, device=ids.device)
    state = model.init_state(*model.words(tokens, starts, segments))
    tags = generate(model, begin, max_new_tokens=longest, state=state, **options)
    return model.classify(tokens, segments), tags[:, 1:]


TASKS = {"intents_slots": IntentsSlots}
