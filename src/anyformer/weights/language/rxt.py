"""How the authors' library names the parameters and variants of the Reactive Transformer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anyformer.weights.mapping import Change, Table, table


def gate_first(tensor: Tensor) -> Tensor:
    """Theirs holds the gate's rows behind those that it acts on."""
    return torch.cat(tensor.chunk(2)[::-1])


def _attention(theirs: str, ours: str) -> tuple[tuple, ...]:
    """Rules of an attention from one sequence to another."""
    return (
        (f"{theirs}.q_proj.weight", f"{ours}.query.weight"),
        (tuple(f"{theirs}.{x}_proj.weight" for x in "kv"), f"{ours}.key_value.weight"),
        (f"{theirs}.out_proj.{{p}}", f"{ours}.out.{{p}}"),
    )


def paired(head_dim: int, axis: int) -> Change:
    """A change of the order of each head's channels.

    Theirs leaves rotated vectors with the first channels of all pairs before the second ones. What meets them without
    being rotated has learned that order; here it has the order of the pairs.
    """

    def change(tensor: Tensor) -> Tensor:
        heads = tensor.shape[axis] // head_dim
        return tensor.unflatten(axis, (heads, 2, -1)).transpose(axis + 1, axis + 2).flatten(axis, axis + 2)

    return change


_READ = "decoder.model.layers.{i}.memory_cross_attention"
_EXPERT = "decoder.model.layers.{i}.ff.experts.{j}"
_WRITE = "memory_attention.model"
OFFICIAL = table(
    ("encoder.model.embedding.weight", "embedding.embed.weight"),
    *(
        rule
        for side in ("encoder", "decoder")
        for rule in (
            (
                tuple(f"{side}.model.layers.{{i}}.attention.{x}_proj.weight" for x in "qkv"),
                f"{side}.{{i}}.mixer.qkv.weight",
            ),
            (f"{side}.model.layers.{{i}}.attention.out_proj.{{p}}", f"{side}.{{i}}.mixer.out.{{p}}"),
            (f"{side}.model.layers.{{i}}.norm1.{{p}}", f"{side}.{{i}}.norm1.{{p}}"),
            (f"{side}.model.layers.{{i}}.norm3.{{p}}", f"{side}.{{i}}.norm2.{{p}}"),
        )
    ),
    ("encoder.model.layers.{i}.ff.fc1.linear.{p}", "encoder.{i}.ffn.gate_up.{p}", gate_first),
    ("encoder.model.layers.{i}.ff.fc2.{p}", "encoder.{i}.ffn.down.{p}"),
    ("decoder.model.layers.{i}.ff.router.gate.{p}", "decoder.{i}.ffn.router.{p}"),
    (_EXPERT + ".fc1.linear.{p}", "decoder.{i}.ffn.experts.{j}.gate_up.{p}", gate_first),
    (_EXPERT + ".fc2.{p}", "decoder.{i}.ffn.experts.{j}.down.{p}"),
    *_attention(_READ, "decoder.{i}.cross"),
    ("decoder.model.layers.{i}.norm2.{p}", "decoder.{i}.norm_cross.{p}"),
    ("decoder.model.layers.{i}.stm_norm.{p}", "decoder.{i}.cross.norm.{p}"),
    ("decoder.model.head.{p}", "head.{p}"),
    (f"{_WRITE}.stm.memory", "blank"),
    *_attention(f"{_WRITE}.attention_layers.{{i}}", "memory.{i}.attention"),
    (f"{_WRITE}.memory_norm_layers.{{i}}.{{p}}", "memory.{i}.norm.{p}"),
    (f"{_WRITE}.memory_input_norm_layers.{{i}}.{{p}}", "memory.{i}.attention.norm.{p}"),
    (f"{_WRITE}.residual_gate_layers.{{i}}.gate.{{p}}", "memory.{i}.gate.linear.{p}"),
    *_attention(f"{_WRITE}.mean_attention_layers.{{i}}", "exchange.attentions.{i}"),
    (f"{_WRITE}.mean_memory_norm_layers.{{i}}.{{p}}", "exchange.norms.{i}.{p}"),
    (f"{_WRITE}.mean_stm_norm.{{p}}", "exchange.mean_norm.{p}"),
    (f"{_WRITE}.mean_residual_gate_layers.{{i}}.gate.{{p}}", "exchange.gates.{i}.linear.{p}"),
    ignore=("*.rope.inv_freq", "*.rope.cache", "decoder.model.embedding.weight", "*coder.model.stm.memory"),
)


def names(model: Any) -> Table:
    """The table of a model, by the channels of its heads."""
    rows, columns = (paired(model.memory[0].attention.head_dim, axis) for axis in (0, 1))
    return table(
        (tuple(f"{_READ}.{x}_proj.weight" for x in "kv"), "decoder.{i}.cross.key_value.weight", rows),
        (f"{_READ}.out_proj.weight", "decoder.{i}.cross.out.weight", columns),
        (f"{_WRITE}.attention_layers.{{i}}.q_proj.weight", "memory.{i}.attention.query.weight", rows),
        ignore=OFFICIAL.ignore,
        parent=OFFICIAL,
    )


SOURCES = {"official": names}
NAMES = {"official": {"RxT-Alpha-Nano": "rxt_alpha_nano"}}
