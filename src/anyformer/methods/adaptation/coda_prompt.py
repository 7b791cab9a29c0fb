"""CODA-Prompt: prompts assembled for each image from components, for learning task after task without replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import FitError, OptionError
from anyformer.layers.attention.projection import QKV
from anyformer.methods.adaptation.adapt import Adaptation, adaptations, places, unhook
from anyformer.weights.mapping import Rule, Table


class Components(nn.Module):
    """Components of the prompts of one attention, a group of them for each task: p = sum_m cos(q * A_m, K_m) P_m.

    Smith et al. 2022, arXiv:2211.13218, equations 4 to 6. They start orthonormal over all tasks. Scaling the query by
    a positive factor changes nothing.

    Args:
        dim: channels of a prompt. query: channels of the query.
        components, length, tasks: components of all tasks, tokens of a prompt (half keys, half values), tasks.
    """

    def __init__(self, dim: int, *, query: int, components: int, length: int, tasks: int):
        super().__init__()
        self.length = length
        shapes = {"values": (components, length * dim), "keys": (components, query), "attention": (components, query)}
        for kind, shape in shapes.items():
            groups = nn.init.orthogonal_(torch.empty(shape)).chunk(tasks)
            self.add_module(kind, nn.ParameterList([g.clone() for g in groups]))

    def known(self, kind: str, task: int) -> Float[Tensor, "m d"]:
        """One kind's vectors of this task and those before it."""
        return torch.cat(list(self.get_submodule(kind))[: task + 1])

    def forward(self, query: Float[Tensor, "b q"], task: int) -> Float[Tensor, "b l c"]:
        asked = F.normalize(query[:, None] * self.known("attention", task), dim=2)
        weights = torch.einsum("bmq,mq->bm", asked, F.normalize(self.known("keys", task), dim=1))
        return (weights @ self.known("values", task)).unflatten(1, (self.length, -1))

    def penalty(self, task: int) -> Tensor:
        """|B B^T - I|^2 in the mean over its entries, for values, keys and attention (equation 7); 0 if orthonormal."""
        total = torch.zeros((), device=next(self.parameters()).device)
        for kind in ("values", "keys", "attention"):
            known = self.known(kind, task)
            total = total + (known @ known.T - torch.eye(len(known), device=known.device)).square().mean()
        return total


class Prompts(nn.Module):
    """The components of every prompted attention, the task at hand, and the prompts of the batch at hand."""

    def __init__(self, layers: list[Components], task: int):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.task = task
        self.asking = False
        self.current: list[Tensor] | None = None

    def train_task(self, task: int) -> list[nn.Parameter]:
        """Let this task's components train and freeze all others; those that train."""
        self.task = task
        chosen = []
        for layer in self.layers:
            for groups in layer.children():
                for i, group in enumerate(groups.parameters()):
                    group.requires_grad_(i == task)
                    chosen += [group] * (i == task)
        return chosen


@dataclass
class Ask:
    """Before a model's forward: one pass without prompts gives the query, the query gives the prompts."""

    name: str
    query: str

    def __call__(self, model: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        prompts: Any = model.get_submodule(self.name)
        if prompts.asking:
            return
        if model.training and any(getattr(m, "checkpointing", False) for m in model.modules()):
            raise FitError("prompts are not kept for a second forward pass: switch gradient checkpointing off.")
        found: list[Tensor] = []
        handle = model.get_submodule(self.query).register_forward_pre_hook(lambda _, given: found.append(given[0]))
        training, prompts.asking = model.training, True
        try:
            with torch.no_grad():
                model.eval()
                model(*inputs, **options)
        finally:
            handle.remove()
            prompts.asking = False
            model.train(training)
        prompts.current = [layer(found[0], prompts.task) for layer in prompts.layers]


@dataclass
class Forget:
    """After a model's forward: the prompts of this batch are done with."""

    name: str

    def __call__(self, model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        prompts: Any = model.get_submodule(self.name)
        if not prompts.asking:
            prompts.current = None


@dataclass
class Prefix:
    """Puts prompts before the keys and values of one attention."""

    name: str
    prompts: Prompts
    layer: int

    def __call__(
        self, module: nn.Module, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        if self.prompts.current is None:
            return None
        q, k, v = output
        prompt = self.prompts.current[self.layer].to(k.dtype).unflatten(-1, k.shape[1::2]).transpose(1, 2)
        keys, values = prompt.chunk(2, 2)
        return q, torch.cat([keys, k], 2), torch.cat([values, v], 2)


class CodaPrompt(Adaptation):
    """Prompts for tasks that come one after the other: each trains a group of components, all earlier ones stay.

    Smith et al. 2022, arXiv:2211.13218, section 4. The model without prompts gives a query (what its classifier reads);
    in each of the first attentions, sum_m cos(q * A_m, K_m) P_m goes before the keys and values (prefix tuning).
    `start_task` goes to the next task; `penalty` and `current_loss` are the terms of the training loss. Cost: two
    forward passes.

    Args:
        tasks: how many there will be at most.
        components: of all tasks together; the paper's 100.
        length: tokens of a prompt, half keys, half values.
        layers: how many attentions, from the first on.
        pattern: which attentions, by the paths of their projections.
        query: the module whose input is the query.
        task: the task to train, from 0; tasks up to it take part.

    Raises:
        OptionError: tasks do not divide components, the task is beyond the last, an odd length.
        FitError: an attention whose positions or windows leave no place for more keys.
    """

    name = "coda_prompt"
    papers = ("coda_prompt",)

    def __init__(
        self,
        *,
        tasks: int = 10,
        components: int = 100,
        length: int = 8,
        layers: int = 5,
        pattern: str = "*.qkv",
        query: str = "head.linear",
        task: int = 0,
    ):
        if tasks < 1 or components < tasks or components % tasks:
            raise OptionError(
                f"each task gets as many components: components is a multiple of tasks; given {components} for {tasks}."
            )
        if length < 2 or length % 2:
            raise OptionError(f"half of a prompt are keys and half values: length is even; given {length}.")
        if not 0 <= task < tasks:
            raise OptionError(f"tasks go from 0 to {tasks - 1}, as declared; given {task}: declare more with tasks=.")
        self.tasks, self.task, self.layers, self.pattern, self.query = tasks, task, layers, pattern, query
        self.options = {"components": components, "length": length, "tasks": tasks}

    def insert(self, model: nn.Module, name: str) -> list[nn.Parameter]:
        found = places(model, self.pattern, lambda m: isinstance(m, QKV), "projection to queries, keys and values")
        ((_, query),) = places(
            model, self.query, lambda m: isinstance(m, nn.Linear), "linear layer that reads the query"
        )
        made: list[Components] = []
        for path, projection in found[: self.layers]:
            check_place(model, path)
            weight: Tensor = projection.weight  # type: ignore[assignment]
            width: int = projection.widths[1]  # type: ignore[index]
            made.append(Components(width, query=query.in_features, **self.options).to(weight.device, weight.dtype))
        prompts = Prompts(made, self.task)
        model.add_module(name, prompts)
        model.register_forward_pre_hook(Ask(name, self.query), with_kwargs=True)
        model.register_forward_hook(Forget(name))
        for layer, (_, projection) in enumerate(found[: self.layers]):
            projection.register_forward_hook(Prefix(name, prompts, layer))
        return prompts.train_task(self.task)

    def withdraw(self, model: nn.Module, name: str) -> None:
        unhook(model, Ask, name)
        unhook(model, Forget, name)
        for module in model.modules():
            unhook(module, Prefix, name)
        del model._modules[name]

    def names(self, source: str, name: str) -> Table | None:
        """The authors': one tensor for the components of all tasks, and a ViT of timm's names."""
        if source != "official":
            return None

        def groups(tensor: Tensor) -> tuple[Tensor, ...]:
            return tensor.flatten(1).chunk(self.tasks)

        kinds = {"p": "values", "k": "keys", "a": "attention"}
        rules = [
            Rule(
                f"prompt.e_{letter}_{{i}}",
                [f"{name}.layers.{{i}}.{kind}.{t}" for t in range(self.tasks)],
                groups if self.tasks > 1 else lambda tensor: tensor.flatten(1),
            )
            for letter, kind in kinds.items()
        ]
        return Table([*rules, Rule("last.{p}", "head.linear.{p}")], prefixes=("feat.",))


def check_place(model: nn.Module, path: str) -> None:
    """Raise `FitError` for an attention that more keys would not fit."""
    mixer = model.get_submodule(path.rpartition(".")[0])
    if getattr(mixer, "name", "") != "attention" or any(
        getattr(mixer, part, None) is not None for part in ("rotation", "distance")
    ):
        raise FitError(
            f"{path} belongs to {getattr(mixer, 'name', '') or type(mixer).__name__}; prompts go before the keys of "
            "attention among all tokens without rotation or distance: name such places with pattern=."
        )


def start_task(model: nn.Module, task: int, name: str = CodaPrompt.name) -> nn.Module:
    """Go to another task, in place: its components train, those of all others are frozen, later ones take no part.

    Raises `OptionError` for a task beyond those declared.
    """
    held = adaptations(model)
    if name not in held:
        raise OptionError(f"this model is not adapted under the name {name!r}: adapt(model, 'coda_prompt', ...).")
    spec = held[name].set(task=task)
    CodaPrompt(**spec.options)  # checks the task
    prompts: Any = model.get_submodule(name)
    prompts.train_task(task)
    model.adaptations = {**held, name: spec}
    return model


def penalty(model: nn.Module, name: str = CodaPrompt.name) -> Tensor:
    """How far the components known so far are from orthonormal, summed over attentions; add it to the loss."""
    prompts: Any = model.get_submodule(name)
    return torch.stack([layer.penalty(prompts.task) for layer in prompts.layers]).sum()


def current_loss(
    logits: Float[Tensor, "b classes"], labels: Int[Tensor, " b"], classes: list[int]
) -> Float[Tensor, ""]:
    """Cross-entropy among the current task's classes alone: no other logit gets a gradient."""
    others = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    others[classes] = False
    return F.cross_entropy(logits.masked_fill(others, float("-inf")), labels)


METHODS = {"coda_prompt": CodaPrompt}
