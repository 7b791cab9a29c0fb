"""Extractive question answering: the stretch of a text that answers a question about it, or that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, OptionError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.data.squad import Asked, biographies, read_squad
from anyformer.tasks.answers import answer_scores
from anyformer.tasks.task import Baseline, Batch, measuring, to_device
from anyformer.tasks.texts import TextTask, padded

Window = tuple[list[int], int, int, int]
"""Ids of a question and a stretch of its text, the token of the text that it begins with, where that stands in the
ids, and how many tokens of the text there are."""


class QuestionAnswering(TextTask):
    """Answer questions by pointing at the first and the last token of a stretch of a text.

    A model reads "end, question, end, text" and gives two logits a token, of being first and of being last. A text that
    is too long is read in windows that overlap. The answer is the stretch of the largest sum of logits over all windows
    whose last token is not before its first; where questions without an answer exist, the text is taken to be silent if
    the pair of logits at the leading mark, least over the windows, is larger by `threshold`. Devlin et al. 2018 (BERT),
    arXiv:1810.04805, sections 4.2 and 4.3. Loss: mean cross-entropy of both places. Metric: "f1" of words; beside it
    "exact_match" (Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1).

    Args:
        path: SQuAD's JSON or a folder with train*.json and dev*.json (`data.squad`); questions about biographies that
            are generated, where not given.
        tokenizer, vocab_size: as `Text`'s, or "words"; learned on the training part. "end" marks stand behind it.
        length: tokens that the model sees at once.
        stride: tokens of a text from one window to the next.
        question_length: tokens of a question; the rest is cut off.
        answer_length: tokens of the longest answer that is given.
        threshold: by how much silence has to win.
        questions: of those that are generated, to train on.
        seed: by which questions are generated, or texts dealt out to the parts.

    Raises:
        DataError: as `data.squad.read_squad`.
        OptionError: sizes that leave no room for a text, or a stride that skips tokens.
    """

    name = "question_answering"
    metric = "f1"
    higher_is_better = True
    default_model = "bert_micro"
    marks = ("end",)

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "words",
        vocab_size: int = 1024,
        length: int = 64,
        stride: int = 32,
        question_length: int = 16,
        answer_length: int = 16,
        threshold: float = 0.0,
        questions: int = 6000,
        seed: int = 0,
    ):
        room = length - question_length - 2
        if min(stride, question_length, answer_length) < 1 or stride > room:
            raise OptionError(
                "a window holds two marks, a question and at least `stride` tokens of the text, each at least one; "
                f"given length={length}, question_length={question_length}, stride={stride}, "
                f"answer_length={answer_length}: take length={question_length + 2 + max(stride, 1)} or more."
            )
        self.length, self.stride, self.threshold = length, stride, threshold
        self.question_length, self.answer_length = question_length, answer_length
        if path is None:
            held = biographies(1000, seed=-1)
            self.parts = {"train": biographies(questions, seed), "valid": held[:500], "test": held[500:]}
            self.source = "data.squad.biographies"
        else:
            self.parts, self.source = read_squad(path, seed), str(path)
        self.silent = any(not one.answers for part in self.parts.values() for one in part)
        texts = dict.fromkeys(t for one in self.parts["train"] for t in (one.question, one.context))
        self.learn(tokenizer, texts, vocab_size)
        self.windows = {split: self._cut_all(part) for split, part in self.parts.items()}

    def model_options(self) -> dict[str, Any]:
        return {**super().model_options(), "num_classes": 2, "head": Spec("map_head", rank=1)}

    # -- from questions to windows -----------------------------------------------------------------------------

    def cut(self, one: Asked) -> list[Window]:
        """The windows of a question. Raises `DataError` where it or its text leaves no token."""
        question = self.tokenizer.encode(one.question)[: self.question_length]
        text = self.tokenizer.encode(one.context)
        if not question or not text:
            raise DataError(f"the question {one.question[:60]!r}, or its text {one.context[:60]!r}, leaves no token.")
        end = self.tokenizer.marks["end"]
        front = [end, *question, end]
        room, found, start = self.length - len(front), [], 0
        while True:
            piece = text[start : start + room]
            found.append(([*front, *piece], start, len(front), len(piece)))
            if start + room >= len(text):
                return found
            start += self.stride

    def _cut_all(self, part: Sequence[Asked]) -> list[tuple[int, Window, tuple[int, int]]]:
        """The number of a question, a window of it, and the places of its first answer there; (0, 0) for none."""
        rows = []
        for number, one in enumerate(part):
            span = self._span(one)
            for window in self.cut(one):
                _, start, front, many = window
                inside = span is not None and start <= span[0] and span[1] < start + many
                rows.append(
                    (number, window, tuple(front + place - start for place in span) if inside and span else (0, 0))
                )
        return rows

    def _span(self, one: Asked) -> tuple[int, int] | None:
        """The first and the last token of its first answer."""
        if not one.answers:
            return None
        text, start = one.answers[0]
        touched = [
            i for i, (a, b) in enumerate(self.tokenizer.places(one.context)) if a < start + len(text) and b > start
        ]
        if not touched:
            raise DataError(f"question {one.id!r}: its answer {text!r} leaves no token.")
        return touched[0], touched[-1]

    def size(self, split: str) -> int:
        return len(self.windows[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" `(b, n)`, "lengths" `(b)`, "front" `(b)`, tokens before the text's, and "places" `(b, 2)`."""
        rows = [self.windows[self.check_split(split)][i] for i in indices.tolist()]
        return {**self._batch([window for _, window, _ in rows]), "places": torch.tensor([p for _, _, p in rows])}

    def _batch(self, windows: Sequence[Window]) -> Batch:
        return {
            "ids": padded([ids for ids, _, _, _ in windows], 0),
            "lengths": torch.tensor([len(ids) for ids, _, _, _ in windows]),
            "front": torch.tensor([front for _, _, front, _ in windows]),
        }

    # -- measuring ---------------------------------------------------------------------------------------------

    def logits(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b 2 n"]:
        """Of each token to be the first and the last; -inf inside the question and behind the text."""
        ids, steps = batch["ids"], torch.arange(batch["ids"].shape[1], device=batch["ids"].device)
        text = steps >= batch["front"][:, None]
        valid = steps < batch["lengths"][:, None]
        out = model(ids, Segments.from_mask(valid), (text & valid).long())
        if out.shape != (*ids.shape, 2):
            raise OptionError(
                f"the task {self.name!r} takes two logits a token, {(*ids.shape, 2)}; the model gives "
                f"{tuple(out.shape)}: take an encoder, built with this task's model_options()."
            )
        allowed = (text & valid) | (steps == 0)
        return out.float().mT.masked_fill(~allowed[:, None], -torch.inf)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        if label_smoothing:
            raise OptionError(
                f"the task {self.name!r} has places that cannot be, which no share of a target may go to: "
                "set label_smoothing to 0."
            )
        return F.cross_entropy(self.logits(model, batch).flatten(0, 1), batch["places"].flatten())

    def count(self, batch: Batch) -> int:
        return len(batch["ids"])

    def baseline(self, split: str = "valid") -> Baseline:
        """The better of silence and of the text's first words, as many as an answer has on average."""
        part = self.parts[self.check_split(split)]
        lengths = [len(text.split()) for one in self.parts["train"] for text, _ in one.answers[:1]]
        many = max(1, round(sum(lengths) / max(len(lengths), 1)))
        first = [" ".join(one.context.split()[:many]) for one in part]
        values = {
            "no answer": self._scores(part, [""] * len(part))["f1"],
            "the first words": self._scores(part, first)["f1"],
        }
        what = max(values, key=lambda name: values[name])
        return Baseline(what, values[what], 0.4)

    @staticmethod
    def _scores(part: Sequence[Asked], answers: Sequence[str]) -> dict[str, float]:
        return answer_scores(answers, [[text for text, _ in one.answers] for one in part])

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 128) -> dict[str, Any]:
        """ "f1" and "exact_match" in [0, 1], of all questions and of those with and without an answer ("f1_answered",
        "f1_silent"), "loss" in nats, and the "guesses"."""
        part = self.parts[self.check_split(split)]
        loss, _ = self.mean_loss(model, split, batch_size)
        guesses = [found["answer"] for found in self.answer(model, part, batch_size)]
        found = {**self._scores(part, guesses), "loss": loss, "questions": len(part)}
        for name, kind in (("f1_answered", True), ("f1_silent", False)):
            chosen = [i for i, one in enumerate(part) if bool(one.answers) is kind]
            if chosen:
                found[name] = self._scores([part[i] for i in chosen], [guesses[i] for i in chosen])["f1"]
        return {**found, "guesses": guesses}

    def answer(self, model: nn.Module, questions: Sequence[Asked], batch_size: int = 128) -> list[dict[str, Any]]:
        """For each question "answer", "start" and "end" (characters of the text), "score" and "silence" (logits).

        Where the task has questions without an answer, "answer" may be empty; "start" and "end" are then None.
        """
        owners, windows = [], []
        for number, one in enumerate(questions):
            cut = self.cut(one)
            owners += [number] * len(cut)
            windows += cut
        best: list[tuple[float, int, int]] = [(-torch.inf, 0, 0)] * len(questions)
        silence = [torch.inf] * len(questions)
        with measuring(model) as device:
            for at in range(0, len(windows), batch_size):
                rows = windows[at : at + batch_size]
                logits = self.logits(model, to_device(self._batch(rows), device))
                nothing, scores, firsts, lasts = (t.tolist() for t in best_spans(logits, self.answer_length))
                for i, (_, start, front, _) in enumerate(rows):
                    owner = owners[at + i]
                    silence[owner] = min(silence[owner], nothing[i])
                    if scores[i] > best[owner][0]:
                        best[owner] = scores[i], firsts[i] - front + start, lasts[i] - front + start
        found = []
        for one, (score, first, last), nothing in zip(questions, best, silence, strict=True):
            places = self.tokenizer.places(one.context)
            start, end = places[first][0], places[last][1]
            start += len(one.context[start:end]) - len(one.context[start:end].lstrip())
            end -= len(one.context[start:end]) - len(one.context[start:end].rstrip())
            says: dict[str, Any] = {"answer": one.context[start:end], "start": start, "end": end}
            if self.silent and nothing - score > self.threshold:
                says = {"answer": "", "start": None, "end": None}
            found.append({**says, "score": score, "silence": nothing})
        return found

    def predict(
        self, model: nn.Module, inputs: Sequence[str | tuple[str, str] | dict[str, str]]
    ) -> list[dict[str, Any]]:
        """The answer to each question, and where it stands in its text; see `answer`.

        An input is a question and its text: two strings, a dictionary with "question" and "context", or one string with
        a tab between them.
        """
        asked = [_pair(given) for given in inputs]
        found = self.answer(model, [Asked("", question, context, ()) for question, context in asked])
        return [{"input": question, **says} for (question, _), says in zip(asked, found, strict=True)]

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        return [
            {"input": f"{one.question}\n\n{one.context}", "truth": one.answers[0][0] if one.answers else "(no answer)"}
            for one in self.parts[self.check_split(split)][:n]
        ]

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "stride": self.stride,
            "questions": {split: len(part) for split, part in self.parts.items()},
            "windows": {split: len(rows) for split, rows in self.windows.items()},
        }


def best_spans(logits: Float[Tensor, "b 2 n"], longest: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sum at the leading mark; and the largest sum elsewhere with its first and last place, at most `longest` long.

    Each `(b,)`; ties go to the earlier place.
    """
    first, last = logits[:, 0], logits[:, 1]
    nothing = first[:, 0] + last[:, 0]
    n = first.shape[1]
    sums = first[:, :, None] + last[:, None, :]
    steps = torch.arange(n, device=logits.device)
    apart = steps[None, :] - steps[:, None]
    sums = sums.masked_fill((apart < 0) | (apart >= longest) | (steps[:, None] == 0), -torch.inf).flatten(1)
    scores, at = sums.max(1).values, sums.argmax(1)
    return nothing, scores, at // n, at % n


def _pair(given: str | tuple[str, str] | dict[str, str]) -> tuple[str, str]:
    if isinstance(given, dict) and {"question", "context"} <= set(given):
        return given["question"], given["context"]
    pair = given.split("\t") if isinstance(given, str) else list(given)
    if isinstance(given, dict) or len(pair) != 2:
        raise DataError(
            'a question comes with its text: (question, context), {"question": ..., "context": ...}, or one string '
            f"with a tab between them; given {str(given)[:60]!r}."
        )
    return pair[0], pair[1]


TASKS = {"question_answering": QuestionAnswering}
