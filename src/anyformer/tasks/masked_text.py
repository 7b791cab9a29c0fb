"""Masked language modelling: restore tokens of a text that were hidden, from what stands on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anyformer.core.spec import Spec
from anyformer.methods.pretraining.masking import check_ratio
from anyformer.methods.pretraining.text_masking import choose_tokens, mask_tokens, word_starts
from anyformer.tasks.language import CorruptedText, log_frequencies, token_metrics
from anyformer.tasks.task import IGNORE, Baseline, Batch, measuring


class MaskedText(CorruptedText):
    """Restore hidden tokens of a text. Loss: cross-entropy over the hidden tokens alone. Metric: that loss.

    Of the chosen tokens 80 % are replaced by a mask, 10 % by others, 10 % stay. Devlin et al. 2018 (BERT),
    arXiv:1810.04805, section 3.1. Models are encoders with scores of words, `head="masked_lm"`.

    Args:
        ratio: share of the tokens that are chosen.
        unit: what is chosen, "tokens" or whole "words".
        path, length, options: as `Text`'s.
    """

    name = "masked_text"
    metric = "masked_loss"
    higher_is_better = False
    default_model = "bert_micro"
    marks = ("mask",)

    def __init__(
        self,
        path: str | Path | None = None,
        length: int = 64,
        ratio: float = 0.15,
        unit: Literal["tokens", "words"] = "tokens",
        **options: Any,
    ):
        super().__init__(path, length=length, **options)
        check_ratio(ratio)
        self.ratio, self.unit = ratio, unit
        self.mask = self.tokenizer.marks["mask"]
        self.pieces = self.tokenizer.pieces

    def model_options(self) -> dict[str, Any]:
        return {**super().model_options(), "head": Spec("masked_lm")}

    def corrupt(self, ids: Tensor, seeds: Tensor) -> Batch:
        """ "ids" `(b, n)` with hidden tokens, and "targets", which are `IGNORE` at all others."""
        starts = torch.ones_like(ids, dtype=torch.bool) if self.unit == "tokens" else word_starts(ids, self.pieces)
        chosen = choose_tokens(seeds, starts, self.ratio)
        ordinary = self.tokenizer.inner.vocab_size
        spoiled = mask_tokens(ids, seeds, chosen=chosen, mask=self.mask, ordinary=ordinary)
        return {"ids": spoiled, "targets": ids.masked_fill(~chosen, IGNORE)}

    def baseline(self, split: str = "valid") -> Baseline:
        """Each hidden token by its frequency in the training part (add-one smoothed)."""
        targets = self.sample(split, torch.arange(self.size(split)))["targets"]
        frequencies = log_frequencies(self.tokens["train"], self.tokenizer.vocab_size)
        nats = -float(frequencies[targets[targets != IGNORE]].mean())
        return Baseline("tokens by their frequency", nats, 0.3)

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 64) -> dict[str, Any]:
        """ "masked_loss" in nats a hidden token, the same as "loss", "masked_accuracy" and perplexity."""
        return masked_metrics(self, model, split, batch_size)

    def predict(self, model: nn.Module, inputs: Sequence[str], tokens: int = 64) -> list[dict[str, Any]]:
        """Each text with tokens hidden, as the model restores it, and the share that it gets right."""
        found = []
        with measuring(model) as device:
            for text, ids, batch in self.corrupted(inputs):
                guess = model(batch["ids"].to(device)).argmax(-1).cpu()
                hidden = batch["targets"] != IGNORE
                found.append(
                    {
                        "input": text,
                        "masked": self.shown(batch["ids"][0]),
                        "restored": self.tokenizer.decode(torch.where(hidden, guess, ids)[0].tolist()),
                        "accuracy": float((guess == ids)[hidden].float().mean()),
                    }
                )
        return found

    def shown(self, ids: Tensor) -> str:
        """A text with its masks as underscores."""
        runs: list[list[int]] = [[]]
        for token in ids.tolist():
            if token == self.mask:
                runs.append([])
            else:
                runs[-1].append(token)
        return "_".join(self.tokenizer.decode(run) for run in runs)

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Windows with hidden tokens, and as they were."""
        indices = torch.arange(min(n, self.size(split)))
        batch = self.sample(split, indices)
        whole = torch.where(batch["targets"] != IGNORE, batch["targets"], batch["ids"])
        return [
            {"input": self.shown(ids), "truth": self.tokenizer.decode(truth.tolist())}
            for ids, truth in zip(batch["ids"], whole, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "ratio": self.ratio, "unit": self.unit}


def masked_metrics(task: Any, model: nn.Module, split: str, batch_size: int) -> dict[str, Any]:
    """Loss and accuracy over the hidden tokens of all batches of a split."""
    found = token_metrics(task, model, split, batch_size, "targets")
    return {"masked_loss": found["loss"], "masked_accuracy": found.pop("accuracy"), **found}


TASKS: dict[str, Any] = {"masked_text": MaskedText}
