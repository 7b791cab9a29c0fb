"""How the authors name the parameters and variants of EMOv2 and EMO."""

from __future__ import annotations

from torch import nn

from anyformer.weights.mapping import Table, table


def norm(theirs: str, ours: str) -> list[tuple[str, str]]:
    """A norm; their layer norms stand inside a module of their own."""
    return [(f"{theirs}.norm.{{p}}", f"{ours}.{{p}}"), (f"{theirs}.{{p}}", f"{ours}.{{p}}")]


def mobile(theirs: str, outer: str, inner: str, scale: str) -> list[tuple[str, str]]:
    """A block; `outer` holds its norm, `inner` the rest of it."""
    return [
        *norm(f"{theirs}norm", f"{outer}"),
        (f"{theirs}eops.0.net.conv.{{p}}", f"{inner}widen.{{p}}"),
        (f"{theirs}eops.0.qk.conv.{{p}}", f"{inner}qk.{{p}}"),
        (f"{theirs}eops.0.v.conv.{{p}}", f"{inner}widen.{{p}}"),
        (f"{theirs}conv_local.conv.{{p}}", f"{inner}depthwise.{{p}}"),
        (f"{theirs}conv_local.norm.{{p}}", f"{inner}local_norm.{{p}}"),
        (f"{theirs}proj.conv.{{p}}", f"{inner}down.{{p}}"),
        (f"{theirs}ls.gamma", scale),
    ]


def official(model: nn.Module) -> Table:
    """Their stages count from 1, and hold the strided block as their first."""
    rules = []
    for i, stage in enumerate(model.stages):  # type: ignore[arg-type]
        place = f"stages.{i}.downsample." if i else "embed.downsample."
        rules += mobile(f"stage{i + 1}.0.", f"{place}norm", place, f"{place}scale")
        for j in range(len(stage.blocks)):
            block = f"stages.{i}.blocks.{j}."
            rules += mobile(f"stage{i + 1}.{j + 1}.", f"{block}norm1", f"{block}mixer.", f"{block}residual1.weight")
    return table(
        ("stage0.0.conv.{p}", "embed.stem.convs.0.{p}"),
        ("stage0.0.norm.{p}", "embed.stem.norms.0.{p}"),
        ("stage0.1.conv.{p}", "embed.depthwise.{p}"),
        ("stage0.1.norm.{p}", "embed.norm.{p}"),
        ("stage0.2.conv.{p}", "embed.project.{p}"),
        *rules,
        *norm("norm", "norm"),
        ("head.{p}", "head.linear.{p}"),
    )


SOURCES = {"official": official}

NAMES = {
    "official": {f"EMO2_{size}_k5_hybrid": f"emo_v2_{size.lower()}" for size in ("1M", "2M", "5M", "20M", "50M")}
    | {f"EMO2_{size}_k5_hybrid_256": f"emo_v2_{size.lower()}_256" for size in ("1M", "2M", "5M", "20M")}
    | {f"EMO2_{size}_k5_hybrid_512": f"emo_v2_{size.lower()}_512" for size in ("1M", "2M", "5M")}
    | {f"EMO1_{size}": f"emo_{size.lower()}" for size in ("1M", "2M", "5M", "20M")}
}
