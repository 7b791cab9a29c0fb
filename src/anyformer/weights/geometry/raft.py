"""How RAFT's authors and torchvision name its parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import Table, table


def official_encoder(theirs: str, ours: str, project: str) -> tuple:
    """One of the two encoders; the first stage is two plain blocks, the others begin with one of their own."""
    plain, first, later = (f"{ours}.stages.{place}" for place in ("0.blocks.{j}", "{i-1}.downsample", "{i-1}.blocks.0"))
    rules = [
        (f"{theirs}.conv1.{{p}}", f"{ours}.embed.convs.0.{{p}}"),
        (f"{theirs}.norm1.{{p}}", f"{ours}.embed.norms.0.{{p}}"),
    ]
    for k in range(3):
        for kind in ("conv", "norm"):
            tail, to = f"{kind}{k + 1}.{{p}}", f".layers.{k}.{kind}.{{p}}"
            rules += [
                (f"{theirs}.layer1.{{j}}.{tail}", plain + to),
                (f"{theirs}.layer{{i}}.1.{tail}", later + to),
                (f"{theirs}.layer{{i}}.0.{tail}", first + to),
            ]
    rules += [
        (f"{theirs}.layer{{i}}.0.downsample.0.{{p}}", f"{first}.shortcut.conv.{{p}}"),
        (f"{theirs}.layer{{i}}.0.downsample.1.{{p}}", f"{first}.shortcut.norm.{{p}}"),
        (f"{theirs}.conv2.{{p}}", f"{project}.{{p}}"),
    ]
    return tuple(rules)


def torchvision_encoder(theirs: str, ours: str, project: str) -> tuple:
    """One of the two encoders."""
    plain, first, later = (f"{ours}.stages.{place}" for place in ("0.blocks.{j}", "{i-1}.downsample", "{i-1}.blocks.0"))
    rules = []
    for place, kind in enumerate(("conv", "norm")):
        rules += [(f"{theirs}.convnormrelu.{place}.{{p}}", f"{ours}.embed.{kind}s.0.{{p}}")]
        for k in range(3):
            tail, to = f"convnormrelu{k + 1}.{place}.{{p}}", f".layers.{k}.{kind}.{{p}}"
            rules += [
                (f"{theirs}.layer1.{{j}}.{tail}", plain + to),
                (f"{theirs}.layer{{i}}.1.{tail}", later + to),
                (f"{theirs}.layer{{i}}.0.{tail}", first + to),
            ]
        rules += [(f"{theirs}.layer{{i}}.0.downsample.{place}.{{p}}", f"{first}.shortcut.{kind}.{{p}}")]
    return (*rules, (f"{theirs}.conv.{{p}}", f"{project}.{{p}}"))


ENCODERS = (("encoder", "project"), ("context", "project_context"))

OFFICIAL = table(
    *official_encoder("fnet", *ENCODERS[0]),
    *official_encoder("cnet", *ENCODERS[1]),
    *((f"update_block.encoder.convc{k + 1}.{{p}}", f"motion.correlation.{2 * k}.{{p}}") for k in range(2)),
    *((f"update_block.encoder.convf{k + 1}.{{p}}", f"motion.flow.{2 * k}.{{p}}") for k in range(2)),
    ("update_block.encoder.conv.{p}", "motion.join.0.{p}"),
    *(
        rule
        for cell, end in ((0, ""), (0, "1"), (1, "2"))
        for rule in (
            (
                (f"update_block.gru.convz{end}.{{p}}", f"update_block.gru.convr{end}.{{p}}"),
                f"unit.cells.{cell}.gates.{{p}}",
            ),
            (f"update_block.gru.convq{end}.{{p}}", f"unit.cells.{cell}.candidate.{{p}}"),
        )
    ),
    ("update_block.flow_head.conv1.{p}", "head.0.0.{p}"),
    ("update_block.flow_head.conv2.{p}", "head.1.{p}"),
    ("update_block.mask.0.{p}", "mask.0.0.{p}"),
    ("update_block.mask.2.{p}", "mask.1.{p}"),
    prefixes=("module.",),  # the published files are of a model spread over several devices
    # A block of two convolutions names its shortcut's norm twice; the name in the shortcut is the one that is read.
    ignore=("cnet.layer{i}.0.norm3.*",),
)

TORCHVISION = table(
    *torchvision_encoder("feature_encoder", *ENCODERS[0]),
    *torchvision_encoder("context_encoder", *ENCODERS[1]),
    *(
        (f"update_block.motion_encoder.conv{theirs}{k + 1}.0.{{p}}", f"motion.{ours}.{2 * k}.{{p}}")
        for theirs, ours in (("corr", "correlation"), ("flow", "flow"))
        for k in range(2)
    ),
    ("update_block.motion_encoder.conv.0.{p}", "motion.join.0.{p}"),
    (
        (
            "update_block.recurrent_block.convgru{i}.convz.{p}",
            "update_block.recurrent_block.convgru{i}.convr.{p}",
        ),
        "unit.cells.{i-1}.gates.{p}",
    ),
    ("update_block.recurrent_block.convgru{i}.convq.{p}", "unit.cells.{i-1}.candidate.{p}"),
    ("update_block.flow_head.conv1.{p}", "head.0.0.{p}"),
    ("update_block.flow_head.conv2.{p}", "head.1.{p}"),
    ("mask_predictor.convrelu.0.{p}", "mask.0.0.{p}"),
    ("mask_predictor.conv.{p}", "mask.1.{p}"),
)

SOURCES: dict[str, Table] = {"official": OFFICIAL, "torchvision": TORCHVISION}
NAMES = {
    "official": {f"raft-{data}": "raft" for data in ("chairs", "things", "sintel", "kitti")}
    | {"raft-small": "raft_small"},
    "torchvision": {"raft_large": "raft", "raft_small": "raft_small"},
}
