"""Multiple choice: the continuation that a language model finds likeliest is its answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import DataError
from anyformer.data.questions import Question, comparisons, read_questions
from anyformer.data.seeds import permutation
from anyformer.data.splits import check_splits
from anyformer.methods.decoding.likelihood import score_continuations
from anyformer.tasks.language import token_loss
from anyformer.tasks.task import IGNORE, Baseline, Batch
from anyformer.tasks.texts import TextTask


class MultipleChoice(TextTask):
    """Answer questions by the log-likelihood of each choice behind the question.

    The score of a choice is the sum of the log probabilities of its tokens; beside it, that sum for each token and for
    each byte, which does not favour short choices (Brown et al. 2020, arXiv:2005.14165, section 2.4). Trained on the
    right choices of the training part. Loss: cross-entropy of their tokens. Metric: "accuracy", by the sum.

    Args:
        path: a .jsonl file of questions (`data.questions`); which of some numbers is the largest, where not given.
        tokenizer, vocab_size: as `Text`'s, learned on the training part.
        questions: of those that are generated, to train on.
        seed: by which questions are generated, or dealt out to the parts.
    """

    name = "multiple_choice"
    metric = "accuracy"
    higher_is_better = True
    default_model = "gpt2_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "bytes",
        vocab_size: int = 1024,
        questions: int = 6000,
        seed: int = 0,
    ):
        if path is None:
            held = comparisons(1000, seed=-1)
            self.parts = {
                "train": comparisons(questions, seed, {question.text for question in held}),
                "valid": held[:500],
                "test": held[500:],
            }
            self.source = "data.questions.comparisons"
        else:
            found = read_questions(path)
            order = [found[i] for i in permutation(len(found), seed).tolist()]
            kept = max(1, round(0.1 * len(order)))
            self.parts = {"train": order[2 * kept :], "valid": order[kept : 2 * kept], "test": order[:kept]}
            check_splits(self.parts, path)
            self.source = str(path)
        self.learn(tokenizer, (q.text + q.choices[q.answer] for q in self.parts["train"]), vocab_size)
        every = [len(one) + len(two) for part in self.parts.values() for q in part for one, two in self.pairs(q)]
        self.length = max(every)
        self.rows = {split: self._encode(part) for split, part in self.parts.items()}

    def pairs(self, question: Question) -> list[tuple[list[int], list[int]]]:
        """Ids of the question and of each of its choices. Raises `DataError` for one that leaves no token."""
        text = self.tokenizer.encode(question.text)
        choices = [self.tokenizer.encode(choice) for choice in question.choices]
        if not text or not all(choices):
            raise DataError(f"the question {question.text[:60]!r} or one of its choices leaves no token.")
        return [(text, choice) for choice in choices]

    def _encode(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
        """Ids `(n, length)` of questions with their right choices, and targets, `IGNORE` but for the choices'."""
        ids = torch.zeros(len(questions), self.length, dtype=torch.long)
        targets = torch.full_like(ids, IGNORE)
        for i, question in enumerate(questions):
            text, choice = self.pairs(question)[question.answer]
            ids[i, : len(text) + len(choice)] = torch.tensor([*text, *choice])
            targets[i, len(text) - 1 : len(text) + len(choice) - 1] = torch.tensor(choice)
        return ids, targets

    def size(self, split: str) -> int:
        return len(self.parts[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" and "targets", `(b, length)` int64; only targets of the right choice are not `IGNORE`."""
        ids, targets = self.rows[self.check_split(split)]
        return {"ids": ids[indices], "targets": targets[indices]}

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return token_loss(model(batch["ids"]), batch["targets"], label_smoothing)

    def baseline(self, split: str = "valid") -> Baseline:
        """A guess among the choices."""
        part = self.parts[self.check_split(split)]
        return Baseline("a guess", sum(1 / len(q.choices) for q in part) / len(part), 0.2)

    def scores(
        self, model: nn.Module, questions: Sequence[Question], batch_size: int = 256
    ) -> list[Float[Tensor, "k"]]:
        """The log-likelihood of each choice of each question, in nats."""
        pairs = [self.pairs(question) for question in questions]
        flat = score_continuations(model, [pair for row in pairs for pair in row], batch_size=batch_size)
        return list(flat.split([len(row) for row in pairs]))

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """ "accuracy", "accuracy_per_token" and "accuracy_per_byte" of choices, and "loss" in nats a token."""
        part = self.parts[self.check_split(split)]
        right = {"accuracy": 0, "accuracy_per_token": 0, "accuracy_per_byte": 0}
        nats, tokens = 0.0, 0
        for question, scores in zip(part, self.scores(model, part, batch_size), strict=True):
            lengths = torch.tensor([len(choice) for _, choice in self.pairs(question)])
            sizes = torch.tensor([len(choice.encode()) for choice in question.choices])
            for name, found in zip(right, (scores, scores / lengths, scores / sizes), strict=True):
                right[name] += int(found.argmax()) == question.answer
            nats -= float(scores[question.answer])
            tokens += int(lengths[question.answer])
        return {name: count / len(part) for name, count in right.items()} | {
            "loss": nats / tokens,
            "questions": len(part),
        }

    def predict(self, model: nn.Module, inputs: Sequence[Question | str]) -> list[dict[str, Any]]:
        """The answer to each question; a text is a question with its choices behind it, all separated by "|"."""
        found = []
        for given in inputs:
            question = given if isinstance(given, Question) else parse(given)
            (scores,) = self.scores(model, [question])
            best = int(scores.argmax())
            shares = scores.softmax(0)
            found.append(
                {"input": question.text, "answer": question.choices[best].strip(), "probability": float(shares[best])}
            )
        return found

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        return [
            {"input": f"{q.text} ({' |'.join(q.choices)} )", "truth": q.choices[q.answer].strip()}
            for q in self.parts[self.check_split(split)][:n]
        ]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "questions": {split: len(part) for split, part in self.parts.items()}}


def parse(text: str) -> Question:
    """A question of one line, as "2 + 2 is | 3 | 4". Raises `DataError` where it has fewer than two choices."""
    question, *choices = (part.strip() for part in text.split("|"))
    if not question or len(choices) < 2 or not all(choices):
        raise DataError(f"a question with its choices is a text such as '2 + 2 is | 3 | 4'; given {text!r}.")
    return Question(question, tuple(f" {choice}" for choice in choices), 0)


TASKS = {"multiple_choice": MultipleChoice}
