"""Layers that many sources name alike: rules of one, `theirs` and `ours` being what stands before its parts."""

from __future__ import annotations

from torch import Tensor

Rules = list[tuple]


def mlp(theirs: str, ours: str) -> Rules:
    """Two linear layers, timm's "fc1" and "fc2"."""
    return [(theirs + "fc1.{p}", ours + "up.{p}"), (theirs + "fc2.{p}", ours + "down.{p}")]


def timm_layer(theirs: str, ours: str) -> Rules:
    """Attention and MLP as timm, DeiT and what grew from them name them; their norms are numbered as ours."""
    return [
        (theirs + "norm{n}.{p}", ours + "norm{n}.{p}"),
        (theirs + "attn.qkv.{p}", ours + "mixer.qkv.{p}"),
        (theirs + "attn.proj.{p}", ours + "mixer.out.{p}"),
        *mlp(theirs + "mlp.", ours + "ffn."),
    ]


def file_layer(theirs: str, ours: str) -> Rules:
    """All but queries, keys and values of a pre-norm layer in transformers' files on the hub."""
    return [
        (theirs + "layernorm_before.{p}", ours + "norm1.{p}"),
        (theirs + "layernorm_after.{p}", ours + "norm2.{p}"),
        (theirs + "attention.output.dense.{p}", ours + "mixer.out.{p}"),
        (theirs + "intermediate.dense.{p}", ours + "ffn.up.{p}"),
        (theirs + "output.dense.{p}", ours + "ffn.down.{p}"),
    ]


def memory_layer(theirs: str, ours: str) -> Rules:
    """What `file_layer` has, as transformers 5 names it in memory."""
    return [
        (theirs + "layernorm_before.{p}", ours + "norm1.{p}"),
        (theirs + "layernorm_after.{p}", ours + "norm2.{p}"),
        (theirs + "attention.o_proj.{p}", ours + "mixer.out.{p}"),
        *mlp(theirs + "mlp.", ours + "ffn."),
    ]


def fairseq_layer(theirs: str, ours: str) -> Rules:
    """A layer of self-attention as fairseq, and transformers after it, names it."""
    return [
        (tuple(f"{theirs}self_attn.{x}_proj.{{p}}" for x in "qkv"), ours + "mixer.qkv.{p}"),
        (theirs + "self_attn.out_proj.{p}", ours + "mixer.out.{p}"),
        (theirs + "self_attn_layer_norm.{p}", ours + "norm1.{p}"),
        *mlp(theirs, ours + "ffn."),
        (theirs + "final_layer_norm.{p}", ours + "norm2.{p}"),
    ]


def torch_layer(theirs: str, ours: str, last_norm: int = 2) -> Rules:
    """A layer of torch.nn.TransformerEncoder; in one of a decoder, the norm behind the MLP is the third."""
    return [
        (theirs + "self_attn.in_proj_{p}", ours + "mixer.qkv.{p}"),
        (theirs + "self_attn.out_proj.{p}", ours + "mixer.out.{p}"),
        (theirs + "norm1.{p}", ours + "norm1.{p}"),
        (theirs + "linear1.{p}", ours + "ffn.up.{p}"),
        (theirs + "linear2.{p}", ours + "ffn.down.{p}"),
        (theirs + f"norm{last_norm}.{{p}}", ours + "norm2.{p}"),
    ]


def x_transformers_layer(number: int, ours: str) -> Rules:
    """The `number`-th pair of attention and MLP of x-transformers, which counts both; scales of norms lack their 1."""
    attention, channels = f"layers.{2 * number}", f"layers.{2 * number + 1}"
    return [
        (f"{attention}.0.0.gamma", ours + "norm1.weight", one_more),
        (tuple(f"{attention}.1.to_{x}.weight" for x in "qkv"), ours + "mixer.qkv.weight"),
        (f"{attention}.1.to_out.weight", ours + "mixer.out.weight"),
        (f"{channels}.0.0.gamma", ours + "norm2.weight", one_more),
        (f"{channels}.1.ff.0.0.{{p}}", ours + "ffn.up.{p}"),
        (f"{channels}.1.ff.2.{{p}}", ours + "ffn.down.{p}"),
    ]


def one_more(gamma: Tensor) -> Tensor:
    """Scales of norms that are kept as their difference from 1."""
    return gamma + 1
