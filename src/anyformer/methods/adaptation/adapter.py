"""Adapters: a bottleneck beside or behind the channel mixer of every block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import FitError, OptionError
from anyformer.core.spec import Spec
from anyformer.methods.adaptation.adapt import Adaptation, places, unhook
from anyformer.weights.mapping import Table, table

Place = Literal["stream", "parallel", "sequential"]


class Bottleneck(nn.Module):
    """s norm_out(W_up relu(W_down norm(x))): tokens `(*b, c)` to the same shape; zero at the start.

    Cost: 2 c width multiply-adds a token.

    Args:
        dim: channels.
        width: channels in the middle.
        scale: s; None for a learned one that starts at 1.
        norm, out_norm: of what it reads, and of what it gives.
        dropout: share of the middle values dropped in training.
    """

    def __init__(
        self, dim: int, *, width: int, scale: float | None, norm: Spec | None, out_norm: Spec | None, dropout: float
    ):
        super().__init__()
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        self.out_norm = build(out_norm, "norm", dim=dim) if out_norm is not None else None
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.ones(())) if scale is None else float(scale)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.norm is None else self.norm(x)
        y = self.up(self.dropout(self.down(x).relu())) * self.scale
        return y if self.out_norm is None else self.out_norm(y)


@dataclass
class Beside:
    """Adds to a module's output what its adapter makes of the module's first input."""

    name: str

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + module.get_submodule(self.name)(inputs[0])


@dataclass
class Behind:
    """Adds to a module's output what its adapter makes of that output."""

    name: str

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + module.get_submodule(self.name)(output)


class Adapter(Adaptation):
    """A bottleneck of `width` channels at the channel mixer of every block: x' = MLP(LN(x)) + s A(x) + x.

    Chen et al. 2022 (AdaptFormer), arXiv:2205.13535, equations 2 and 3; behind the mixer, Houlsby et al. 2019,
    arXiv:1902.00751. W_up and the biases start at zero, so the model's outputs are what they were, bit for bit.
    Parameters: 2 c width + c + width for each place. Cost: 2 c width multiply-adds a token and place.

    Args:
        width: channels in the middle.
        place: "stream": beside the whole branch, reading the stream as it comes, as the authors' code does;
            "parallel": beside the channel mixer, reading what that reads (after the block's norm, as the paper
            writes it; works for any module); "sequential": behind the channel mixer.
        pattern: which channel mixers, by their paths in the model.
        scale: s; None for a learned one.
        norm, out_norm: norms of the adapter's own.
        dropout: in the middle, in training.

    Raises:
        OptionError: nothing matches the pattern; the candidates are listed.
        FitError: "stream" for a module that is no block's `ffn`; an `nn.Sequential`, which runs all that it holds.
    """

    name = "adapter"
    papers = ("adaptformer",)

    def __init__(
        self,
        *,
        width: int = 64,
        place: Place = "stream",
        pattern: str = "*.ffn",
        scale: float | None = 0.1,
        norm: Spec | None = None,
        out_norm: Spec | None = None,
        dropout: float = 0.1,
    ):
        if width < 1:
            raise OptionError(f"an adapter's width is 1 or more; given {width}.")
        self.place, self.pattern = place, pattern
        self.options = {"width": width, "scale": scale, "norm": norm, "out_norm": out_norm, "dropout": dropout}

    def insert(self, model: nn.Module, name: str) -> list[nn.Parameter]:
        found = places(model, self.pattern, is_channel_mixer, "channel mixer")
        holders = [joining(model, path) if self.place == "stream" else module for path, module in found]
        hook = Behind if self.place == "sequential" else Beside
        inserted = []
        for (path, _), holder in zip(found, holders, strict=True):
            if isinstance(holder, nn.Sequential):
                raise FitError(
                    f"{path} is an nn.Sequential, which would run the adapter as one more layer: name the module "
                    "around it, or give it a forward of its own."
                )
        for (path, mixer), holder in zip(found, holders, strict=True):
            weight = next(mixer.parameters())
            adapter = Bottleneck(channels(path, mixer), **self.options).to(weight.device, weight.dtype)
            holder.add_module(name, adapter.train(mixer.training))
            holder.register_forward_hook(hook(name))
            inserted += adapter.parameters()
        return inserted

    def withdraw(self, model: nn.Module, name: str) -> None:
        for module in list(model.modules()):
            if name in module._modules:
                unhook(module, Beside, name)
                unhook(module, Behind, name)
                del module._modules[name]

    def names(self, source: str, name: str) -> Table | None:
        """The authors' model: adapters of its own names, and their layout of MAE's ViT."""
        if source != "official":
            return None
        ours = f"blocks.{{i}}.{'residual2' if self.place == 'stream' else 'ffn'}.{name}."
        norm = "norm" if self.options["out_norm"] is None else "out_norm"
        return table(
            ("blocks.{i}.adaptmlp.adapter_layer_norm_before.{p}", ours + norm + ".{p}"),
            ("blocks.{i}.adaptmlp.down_proj.{p}", ours + "down.{p}"),
            ("blocks.{i}.adaptmlp.up_proj.{p}", ours + "up.{p}"),
            ("blocks.{i}.adaptmlp.scale", ours + "scale"),
            (tuple(f"blocks.{{i}}.attn.{n}_proj.{{p}}" for n in "qkv"), "blocks.{i}.mixer.qkv.{p}"),
            ("blocks.{i}.fc1.{p}", "blocks.{i}.ffn.up.{p}"),
            ("blocks.{i}.fc2.{p}", "blocks.{i}.ffn.down.{p}"),
        )


def is_channel_mixer(module: nn.Module) -> bool:
    """A channel mixer of ours, or a module of others' that holds linear layers, as their MLPs do."""
    kind = getattr(module, "kind", None)
    return kind == "ffn" or (kind is None and any(isinstance(m, nn.Linear) for m in module.children()))


def channels(path: str, mixer: nn.Module) -> int:
    """What a channel mixer's first linear layer reads."""
    first = next((m for m in mixer.modules() if isinstance(m, nn.Linear)), None)
    if first is None:
        raise FitError(f"{path} has no linear layer that tells its channels, so no adapter fits there.")
    return first.in_features


def joining(model: nn.Module, path: str) -> nn.Module:
    """The residual that joins a block's channel mixer to the stream: it sees the stream as it comes."""
    block = model.get_submodule(path.rpartition(".")[0])
    for residual in ("residual2", "residual"):
        found = getattr(block, residual, None)
        if isinstance(found, nn.Module) and path.endswith(".ffn"):
            return found
    raise FitError(f"{path} is no block's ffn, so no residual joins it to a stream; place='parallel' fits any module.")


METHODS = {"adapter": Adapter}
