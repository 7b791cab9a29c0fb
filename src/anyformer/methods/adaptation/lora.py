"""LoRA: a trained matrix of low rank, added to a frozen one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anyformer.core.errors import OptionError
from anyformer.methods.adaptation.adapt import Adaptation, places

WEIGHT = "weight"
FUSED = "qkv"
"""What lies one below the other in a fused weight, in this order."""


class LowRank(nn.Module):
    """alpha / rank * B A, in the shape of a weight.

    A matrix `(rows, columns)` has A `(rank, columns)` and B `(rows, rank)`; of a fused weight, each chosen slice has
    an A and a B of its own, one below the other. A kernel `(out, in, k, k)` has A `(rank k, in k)` and B
    `(out k, rank k)`. A table of vectors `(ids, c)` is the transposed matrix.

    Args:
        weight: the weight.
        rank, alpha: as published.
        transposed: the weight is stored as (inputs, outputs).
        slices: rows of each slice of a fused weight, and whether it is adapted.
    """

    def __init__(
        self, weight: Tensor, *, rank: int, alpha: float, transposed: bool, slices: tuple[tuple[int, bool], ...]
    ):
        super().__init__()
        self.factor, self.transposed, self.slices = alpha / rank, transposed, slices
        if weight.ndim == 4:
            outputs, inputs, k, _ = weight.shape
            shapes = (rank * k, inputs * k), (outputs * k, rank * k)
        else:
            rows, columns = weight.T.shape if transposed else weight.shape
            chosen = [n for n, on in slices if on]
            shapes = (rank * max(len(chosen), 1), columns), (sum(chosen) if slices else rows, rank)
        self.A = nn.Parameter(weight.new_empty(shapes[0]))
        self.B = nn.Parameter(weight.new_zeros(shapes[1]))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """What is added to the weight."""
        if weight.ndim == 4:
            return (self.B @ self.A).view(weight.shape) * self.factor
        if not self.slices:
            product = self.B @ self.A * self.factor
            return product.T if self.transposed else product
        chosen = [n for n, on in self.slices if on]
        products = iter(b @ a for b, a in zip(self.B.split(chosen), self.A.chunk(len(chosen)), strict=True))
        columns = self.A.shape[1]
        rows = [next(products) if on else self.B.new_zeros(n, columns) for n, on in self.slices]
        return torch.cat(rows) * self.factor


class Added(nn.Module):
    """W to W + (what the adaptation of this name adds); torch's parametrization of the weight."""

    def __init__(self, name: str, low_rank: LowRank):
        super().__init__()
        self.add_module(name, low_rank)

    def forward(self, weight: Tensor) -> Tensor:
        (low_rank,) = self.children()
        return weight + low_rank(weight)


class LoRA(Adaptation):
    """W + alpha / rank * B A: each weight that a pattern names gets a trained addition of low rank.

    Hu et al. 2021, arXiv:2106.09685, section 4.1. B starts at zero, so the outputs are what they were, bit for bit.
    Works for every module with a matrix or a square 2-D kernel as its `weight`: linear layers, fused queries, keys and
    values, embeddings, convolutions; while it is in, that weight's name is `parametrizations.weight.original`. Merged,
    it costs nothing. Parameters: rank (rows + columns). Cost: rank rows columns multiply-adds a forward pass, whatever
    the number of tokens; the backward pass forms the gradient of the whole matrix.

    Args:
        rank: of the addition.
        alpha: scale; alpha / rank multiplies B A.
        pattern: which modules, by their paths.
        slices: which of a fused weight's queries, keys and values: letters of "qkv", such as "qv" (the paper's choice).
            "" for a weight that is not fused.
        transposed: the weight is stored as (inputs, outputs), as GPT-2's are elsewhere; embeddings are known.

    Raises:
        OptionError: nothing matches the pattern, a weight has no such shape, or `slices` are none of a fused weight.
    """

    name = "lora"

    def __init__(
        self,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        pattern: str = "*.qkv",
        slices: str = "qv",
        transposed: bool = False,
    ):
        if rank < 1:
            raise OptionError(f"LoRA's rank is 1 or more; given {rank}.")
        if not set(slices) <= set(FUSED):
            raise OptionError(f"LoRA's slices are letters of 'qkv', or '' for weights that are not fused: {slices!r}.")
        self.rank, self.alpha, self.pattern = rank, alpha, pattern
        self.slices, self.transposed = slices, transposed

    def insert(self, model: nn.Module, name: str) -> list[nn.Parameter]:
        found = places(model, self.pattern, has_matrix, "module with a weight of low rank to add to")
        made = [self.low_rank(path, module) for path, module in found]
        for (_, module), low_rank in zip(found, made, strict=True):
            parametrize.register_parametrization(module, WEIGHT, Added(name, low_rank).train(module.training))
        return [p for low_rank in made for p in low_rank.parameters()]

    def low_rank(self, path: str, module: nn.Module) -> LowRank:
        """The addition for one module."""
        weight: Tensor = module.weight  # type: ignore[assignment]
        slices: tuple[tuple[int, bool], ...] = ()
        if self.slices:
            widths = getattr(module, "widths", None) or (len(weight) // 3,) * 3
            if sum(widths) != len(weight) or len(widths) != 3 or weight.ndim != 2:
                raise OptionError(
                    f"{path} is no fused weight of queries, keys and values (it is {tuple(weight.shape)}): "
                    "give slices='' to adapt it whole."
                )
            slices = tuple((n, letter in self.slices) for n, letter in zip(widths, FUSED, strict=True))
        embedding = isinstance(module, nn.Embedding)
        options = {"rank": self.rank, "alpha": self.alpha, "transposed": self.transposed or embedding, "slices": slices}
        return LowRank(weight.detach(), **options)

    def withdraw(self, model: nn.Module, name: str) -> None:
        for module, _ in adapted(model, name):
            without(module, name)

    def merge(self, model: nn.Module, name: str) -> None:
        for module, low_rank in adapted(model, name):
            without(module, name)
            held = parametrize.is_parametrized(module, WEIGHT)
            weight: Tensor = module.parametrizations.weight.original if held else module.weight  # type: ignore
            with torch.no_grad():
                weight += low_rank(weight)


def has_matrix(module: nn.Module) -> bool:
    """Whether a module has a matrix or a square kernel as its weight, be it adapted or not."""
    weight = getattr(module, WEIGHT, None)
    return isinstance(weight, Tensor) and (
        weight.ndim == 2 or (weight.ndim == 4 and weight.shape[2] == weight.shape[3])
    )


def adapted(model: nn.Module, name: str) -> list[tuple[nn.Module, LowRank]]:
    """The modules that hold an addition of this name, with it."""
    found = []
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, WEIGHT):
            for added in module.parametrizations[WEIGHT]:  # type: ignore[index]
                if name in added._modules:
                    found.append((module, added._modules[name]))
    return found


def without(module: nn.Module, name: str) -> None:
    """Take an addition away; others on the same weight stay."""
    others = [added for added in module.parametrizations[WEIGHT] if name not in added._modules]  # type: ignore[index]
    # torch takes the weight's property off the module's class, which a deep copy of the module shares.
    shared = type(module)
    module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
    parametrize.remove_parametrizations(module, WEIGHT, leave_parametrized=False)
    for added in others:
        parametrize.register_parametrization(module, WEIGHT, added)


METHODS = {"lora": LoRA}
