"""How the MP-SENet authors name its parameters and variants."""

from __future__ import annotations

from typing import Any

from anyformer.weights.mapping import Rule, table


def dense(theirs: str, ours: str) -> list[Rule]:
    """The rules of one dense part."""
    return [Rule(f"{theirs}.dense_block.{{i}}.{{j}}.{{p}}", f"{ours}.layers.{{i}}.{{j}}.{{p}}")]


def decoder(theirs: str, conv: str, ours: str) -> list[Rule]:
    """The rules of one decoder, but for its last layer."""
    return [
        *dense(f"{theirs}.dense_block", f"{ours}.dense"),
        Rule(f"{theirs}.{conv}.0.conv.{{p}}", f"{ours}.widen.{{p}}"),
        Rule(f"{theirs}.{conv}.1.{{p}}", f"{ours}.norm.{{p}}"),
        Rule(f"{theirs}.{conv}.2.{{p}}", f"{ours}.act.{{p}}"),
    ]


def axis(theirs: str, ours: str) -> list[Rule]:
    """The rules of the transformer along one axis."""
    theirs, ours = f"TSTransformer.{{i}}.{theirs}.", f"blocks.{{i}}.{ours}."
    return [
        Rule(theirs + "norm{j}.{p}", ours + "norm{j}.{p}"),
        Rule(theirs + "attention.in_proj_weight", ours + "mixer.qkv.weight"),
        Rule(theirs + "attention.in_proj_bias", ours + "mixer.qkv.bias"),
        Rule(theirs + "attention.out_proj.{p}", ours + "mixer.out.{p}"),
        Rule(theirs + "ffn.gru.{p}", ours + "gru.{p}"),
        Rule(theirs + "ffn.linear.{p}", ours + "out.{p}"),
    ]


OFFICIAL = table(
    Rule("dense_encoder.dense_conv_1.{i}.{p}", "encoder.first.{i}.{p}"),
    *dense("dense_encoder.dense_block", "encoder.dense"),
    Rule("dense_encoder.dense_conv_2.{i}.{p}", "encoder.halve.{i}.{p}"),
    # What they call time runs along frequency; see `TimeFrequencyBlock`.
    *axis("time_transformer", "frequency"),
    *axis("freq_transformer", "time"),
    *decoder("mask_decoder", "mask_conv", "mask"),
    Rule("mask_decoder.mask_conv.3.{p}", "mask.last.{p}"),
    Rule("mask_decoder.lsigmoid.slope", "slope"),
    *decoder("phase_decoder", "phase_conv", "phase"),
    Rule(("phase_decoder.phase_conv_r.{p}", "phase_decoder.phase_conv_i.{p}"), "phase.last.{p}"),
)
SOURCES = {"official": OFFICIAL}
NAMES: dict[str, dict[str, Any]] = {"official": {"mpsenet": "mp_senet"}}
