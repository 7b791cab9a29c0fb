"""How the authors name the Axial Transformer's parameters and variants.

Their checkpoints are TensorFlow's: `tf.train.load_checkpoint(path)` gives each variable by its name, its running mean
as ".../ExponentialMovingAverage", and Adam's moments. Hand over the variables, or their running means, under the plain
names, as torch tensors.
"""

from __future__ import annotations

from torch import Tensor, nn

from anyformer.weights.mapping import Rule, Table, table, transpose

LUCIDRAINS = table(
    (("axial_attentions.{i}.fn.to_q.{p}", "axial_attentions.{i}.fn.to_kv.{p}"), "axes.{i}.qkv.{p}"),
    ("axial_attentions.{i}.fn.to_out.{p}", "axes.{i}.out.{p}"),
)
"""Names of `AxialAttention` in the package axial_attention."""


def _kernel(tensor: Tensor) -> Tensor:
    """A convolution's kernel stored as (rows, columns, in, out)."""
    return tensor.permute(3, 2, 0, 1)


def _block(theirs: str, ours: str) -> list[Rule]:
    qkv = [f"{theirs}/attn/{n}" for n in "qkv"]
    linears = (("attn/proj_out", "mixer.out"), ("mlp/proj_in", "ffn.up"), ("mlp/proj_out", "ffn.down"))
    norms = (("layernorm_attn", "norm1"), ("layernorm_mlp", "norm2"))
    return [
        Rule(tuple(f"{n}/w" for n in qkv), f"{ours}.mixer.qkv.weight", transpose),
        Rule(tuple(f"{n}/b" for n in qkv), f"{ours}.mixer.qkv.bias"),
        *(Rule(f"{theirs}/{a}/w", f"{ours}.{b}.weight", transpose) for a, b in linears),
        *(Rule(f"{theirs}/{a}/b", f"{ours}.{b}.bias") for a, b in linears),
        *(Rule(f"{theirs}/{a}/g", f"{ours}.{b}.weight") for a, b in norms),
        *(Rule(f"{theirs}/{a}/b", f"{ours}.{b}.bias") for a, b in norms),
    ]


def official(model: nn.Module) -> Table:
    """Row and column layers are numbered apart there, and in turn here."""
    rules = [
        Rule("exterior_input_conv/w", "channels.weight", _kernel),
        Rule("exterior_input_conv/b", "channels.bias"),
        Rule("pos_embs_h", "channel_position.tables.0"),
        Rule("pos_embs_w", "channel_position.tables.1"),
        Rule("transformer2d/embs", "embed.weight"),
        Rule("transformer2d/pos_embs_h", "position.tables.0"),
        Rule("transformer2d/pos_embs_w", "position.tables.1"),
        Rule("transformer2d/final_ln/g", "norm.weight"),
        Rule("transformer2d/final_ln/b", "norm.bias"),
        Rule("transformer2d/final_dense/w", "head.weight", transpose),
        Rule("transformer2d/final_dense/b", "head.bias"),
    ]
    for part, theirs in (("encoder", "exterior"), ("outer", "transformer2d/outer")):
        for i in range(len(getattr(model, part, ()))):
            rules += _block(f"{theirs}_{('row', 'col')[i % 2]}_{i // 2}", f"{part}.{i}.block")
    rules += _block("transformer2d/inner_row_{i}", "inner.{i}")
    return Table(rules, prefixes=("ar_decoder/",))


SOURCES = {"official": official}
NAMES = {
    "official": {"imagenet32": "axial_transformer_imagenet32", "imagenet64": "axial_transformer_imagenet64"},
}
