"""Causal and masked language modelling in turn, by epochs, on one set of weights."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.methods.pretraining.antlm import read_schedule, set_causal
from anyformer.tasks.language import Text, log_frequencies, scores
from anyformer.tasks.masked_text import MaskedText, masked_metrics
from anyformer.tasks.task import Baseline, Batch


class AntLM(MaskedText):
    """Next tokens behind a causal mask in some epochs, hidden tokens without it in the others; one model, one head.

    Yu et al. 2024, arXiv:2412.03275, section 3. Models give scores of words at every token and have mixers that can be
    switched: decoders such as Llama, or encoders with `head="masked_lm"`. Metric: the mean of both losses. Training
    longer than the schedule begins it anew; `epochs` in the budget says how long ("24epochs" for "4c16m4c").

    Args:
        schedule: epochs of each kind, as "2c6m2c".
        path, options: as `MaskedText`'s.
    """

    name = "antlm"
    metric = "mean_loss"
    default_model = "llama_micro"
    papers = ("antlm",)

    def __init__(
        self,
        path: str | Path | None = None,
        schedule: str = "2c6m2c",
        **options: Any,
    ):
        self.schedule = read_schedule(schedule)
        self.stated = schedule
        super().__init__(path, **options)
        self.causal = self.schedule[0]

    def model_options(self) -> dict[str, Any]:
        return Text.model_options(self)

    def at(self, epoch: int) -> AntLM:
        return self.reading(self.schedule[epoch % len(self.schedule)])

    def reading(self, causal: bool) -> AntLM:
        """The same task under one of its objectives."""
        if causal == self.causal:
            return self
        other = copy.copy(self)
        other.causal = causal
        return other

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" and "targets" `(b, length)` of the objective, and "causal" `(b,)`, which says which one it is."""
        sample = super().sample if not self.causal else partial(Text.sample, self)
        batch = sample(split, indices, seed=seed, train=train)
        return {**batch, "causal": torch.full((len(indices),), self.causal)}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scores of words; the model stays switched to the objective of the batch, for the way back."""
        set_causal(model, bool(batch["causal"][0]))
        return scores(self, model, batch["ids"])

    def baseline(self, split: str = "valid") -> Baseline:
        """Tokens by their frequency, for both objectives alike."""
        masked = super().baseline(split)
        frequencies = log_frequencies(self.tokens["train"], self.tokenizer.vocab_size)
        nats = -float(frequencies[self.tokens[split][1:]].mean())
        return Baseline(masked.what, (masked.value + nats) / 2, 0.5)

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 64) -> dict[str, Any]:
        """ "next_token_loss" and "masked_loss" in nats, and "mean_loss" of both; the model is causal afterwards."""
        hidden = masked_metrics(self.reading(False), model, split, batch_size)
        following, _ = self.reading(True).mean_loss(model, split, batch_size)
        mean = (following + hidden["masked_loss"]) / 2
        return {
            "mean_loss": mean,
            "loss": mean,
            "next_token_loss": following,
            "masked_loss": hidden["masked_loss"],
            "masked_accuracy": hidden["masked_accuracy"],
        }

    def predict(self, model: nn.Module, inputs: Any, tokens: int = 64) -> list[dict[str, Any]]:
        """What `Text` and `MaskedText` say of each text, the model switched for each; it is causal afterwards."""
        set_causal(model, False)
        restored = super().predict(model, inputs)
        set_causal(model, True)
        continued = Text.predict(self, model, inputs, tokens)
        return [one | other for one, other in zip(continued, restored, strict=True)]

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        return Text.examples(self, split, n)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "schedule": self.stated}


TASKS = {"antlm": AntLM}
