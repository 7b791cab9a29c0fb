"""A model as a tree: its parts with their options, the shape of what each gives, and its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from anyformer.cli.output import columns
from anyformer.core.spec import Spec


@dataclass
class Node:
    """One part of a model.

    Attributes:
        slot: its place in the part around it, such as "stages.0" or "mixer".
        label: its name and options.
        shape: of its output.
        parameters: how many it has, everything inside counted.
        children: the parts inside it.
        times: how often this and its siblings of one period repeat.
    """

    slot: str
    label: str
    shape: tuple[int, ...]
    parameters: int
    children: list[Node] = field(default_factory=list)
    times: int = 1

    def key(self) -> tuple[Any, ...]:
        """Equal for parts that look alike."""
        return (self.label, self.shape, self.parameters, tuple(child.key() for child in self.children))


def tree(model: Any, inputs: tuple[Any, ...], spec: Spec | None) -> Node:
    """The parts of a model in the order in which they run, with the shapes that they give for these inputs.

    Runs the model once, in evaluation mode and without gradients.
    """
    import torch

    from anyformer.core.part import Part
    from anyformer.lab.profile.operations import evaluation

    shapes: dict[str, tuple[int, ...]] = {}
    order: dict[str, int] = {}

    def watch(path: str, module: Any) -> list[Any]:
        def begins(module: Any, args: Any) -> None:
            order.setdefault(path, len(order))

        def ends(module: Any, args: Any, output: Any) -> None:
            shapes[path] = first_shape(output)

        return [module.register_forward_pre_hook(begins), module.register_forward_hook(ends)]

    parts = {path: m for path, m in model.named_modules() if isinstance(m, Part)}
    handles = [handle for path, module in parts.items() for handle in watch(path, module)]
    try:
        with evaluation(model), torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()

    def node(path: str, slot: str, written: Spec | None) -> Node:
        module = parts[path]
        inside = [p for p in parts if p and parent(p, parts) == path and not plain_sum(parts[p])]
        children = []
        for p in sorted(inside, key=lambda p: order.get(p, len(order))):
            at = p[len(path) + 1 :] if path else p
            children.append(node(p, at, spec_at(written, at)))
        size = sum(t.numel() for t in module.parameters())
        made = Node(slot, label(module.name or type(module).__name__, written), shapes.get(path, ()), size, children)
        if module.kind not in ("model", "stage", "block") and not any(c.children for c in children):
            inner = ", ".join(f"{c.slot} {c.label}" for c in children)
            made.label, made.children = (f"{made.label} ({inner})" if inner else made.label), []
        made.children = fold(made.children)
        return made

    return node("", "", spec)


def plain_sum(module: Any) -> bool:
    """Whether a part only adds a branch to the stream, which goes without saying."""
    return module.kind == "residual" and not any(True for _ in module.parameters())


def parent(path: str, parts: dict[str, Any]) -> str:
    """The path of the part around this one."""
    while path:
        path = path.rpartition(".")[0]
        if path in parts:
            return path
    return ""


def spec_at(spec: Spec | None, slot: str) -> Spec | None:
    """The written spec of a slot: "stages.0" is stages[0], "norm1" norm, "blocks.3" one of those that block repeats."""
    if spec is None:
        return None
    name, _, index = slot.partition(".")
    for option in (name, name.rstrip("0123456789"), name.removesuffix("s")):
        value = spec.options.get(option)
        if isinstance(value, tuple) and value and index.isdigit():
            value = value[int(index) % len(value)]
        if isinstance(value, Spec):
            return value
    return None


def label(name: str, spec: Spec | None) -> str:
    """A part's name with those of its options that are plain values."""
    options = {} if spec is None else spec.options
    plain = {k: v for k, v in options.items() if v is not None and not holds_spec(v)}
    return " ".join([name, *(f"{k}={v}" for k, v in plain.items())])


def holds_spec(value: Any) -> bool:
    """Whether a value of an option is a Spec or a list of them."""
    return isinstance(value, Spec) or (isinstance(value, tuple) and any(isinstance(v, Spec) for v in value))


def fold(nodes: list[Node]) -> list[Node]:
    """Runs of numbered siblings that repeat with some period are kept once, with how often."""
    folded: list[Node] = []
    at = 0
    while at < len(nodes):
        period, times = repeat(nodes[at:])
        for made in nodes[at : at + period]:
            made.times = times
            folded.append(made)
        at += period * times
    return folded


def repeat(nodes: list[Node]) -> tuple[int, int]:
    """Length of the period with which numbered nodes repeat from the first on, and how often; (1, 1) for none."""
    stem = numbered(nodes[0])
    run = [n.key() for n in takewhile(lambda n: stem and numbered(n) == stem, nodes)]
    best = (1, 1)
    for period in range(1, min(4, len(run) // 2) + 1):
        times = 1
        while run[times * period : (times + 1) * period] == run[:period]:
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def numbered(node: Node) -> str:
    """The list that a node is an element of: "blocks" for "blocks.3"; "" for a part that stands alone."""
    stem, _, number = node.slot.rpartition(".")
    return stem if number.isdigit() else ""


def first_shape(output: Any) -> tuple[int, ...]:
    """The shape of the first tensor of an output."""
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    return next((tuple(t.shape) for t in tree_leaves(output) if isinstance(t, Tensor)), ())


def draw(root: Node) -> str:
    """The tree as text: part, shape of its output, parameters."""
    rows = [("part", "output", "parameters"), *lines(root, "", "")]
    return columns(rows)


def lines(node: Node, first: str, rest: str) -> list[tuple[str, str, str]]:
    """A node and what is inside it as rows; `first` goes before the node, `rest` before its children."""
    times = f" x{node.times}" if node.times > 1 else ""
    name = f"{node.slot}{times}: {node.label}" if node.slot else node.label
    shape = " x ".join(map(str, node.shape))
    rows = [(first + name, shape, f"{node.parameters:,}" if node.parameters else "")]
    for i, child in enumerate(node.children):
        last = i == len(node.children) - 1
        rows += lines(child, rest + ("└ " if last else "├ "), rest + ("  " if last else "│ "))
    return rows
