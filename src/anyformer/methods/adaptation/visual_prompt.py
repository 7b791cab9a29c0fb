"""Visual prompts: learned tokens before the others in every block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import FitError, OptionError
from anyformer.methods.adaptation.adapt import Adaptation, places, unhook
from anyformer.weights.mapping import Table, table


@dataclass
class Before:
    """Puts a block's prompts before its tokens."""

    name: str

    def __call__(self, block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = inputs
        if x.ndim != 3 or any(r is not None for r in rest):
            raise FitError(
                "visual prompts join one sequence of tokens (b, n, c) without segments; a class token "
                f"(pool='class') makes an image's grid one. Given {tuple(x.shape)}."
            )
        prompts = getattr(block, self.name)
        return torch.cat([prompts.expand(len(x), -1, -1).to(x.dtype), x], 1), *rest


@dataclass
class After:
    """Takes them away again."""

    name: str

    def __call__(self, block: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output[:, getattr(block, self.name).shape[1] :]


class VisualPrompt(Adaptation):
    """`tokens` learned tokens that every block gets before its own tokens and that leave after it.

    Jia et al. 2022 (VPT), arXiv:2203.12119, section 3.2, the deep form; beside AdaptFormer in arXiv:2205.13535. They
    change the outputs from the start. Cost: that of so many tokens more.

    Args:
        tokens: prompts in each block.
        pattern: which blocks, by their paths.

    Raises:
        OptionError: nothing matches the pattern.
        FitError: a block of a decoder; in use, tokens that are no plain sequence.
    """

    name = "visual_prompt"

    def __init__(self, *, tokens: int = 10, pattern: str = "*"):
        if tokens < 1:
            raise OptionError(f"visual prompts are one token or more; given {tokens}.")
        self.tokens, self.pattern = tokens, pattern

    def insert(self, model: nn.Module, name: str) -> list[nn.Parameter]:
        found = places(model, self.pattern, lambda m: getattr(m, "kind", None) == "block", "block")
        for path, block in found:
            if getattr(getattr(block, "mixer", None), "causal", False):
                raise FitError(f"{path} is a decoder's block, whose tokens may see none that comes with every step.")
        inserted = []
        for _, block in found:
            norm = next(p for p in block.parameters() if p.ndim == 1)
            prompts = nn.Parameter(norm.new_empty(1, self.tokens, len(norm)))
            nn.init.xavier_uniform_(prompts)
            block.register_parameter(name, prompts)
            block.register_forward_pre_hook(Before(name))
            block.register_forward_hook(After(name))
            inserted.append(prompts)
        return inserted

    def withdraw(self, model: nn.Module, name: str) -> None:
        for block in model.modules():
            if name in block._parameters:
                unhook(block, Before, name)
                unhook(block, After, name)
                del block._parameters[name]

    def names(self, source: str, name: str) -> Table | None:
        """AdaptFormer's authors' names."""
        return table(("embeddings.{i}", "blocks.{i}." + name)) if source == "official" else None


METHODS = {"visual_prompt": VisualPrompt}
