"""How the authors name kMaX-DeepLab's parameters and variants."""

from __future__ import annotations

from torch import nn

from anyformer.weights.mapping import Table, inside, table, transpose
from anyformer.weights.vision import convnext


def normed(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """A convolution and its norm."""
    return ((f"{theirs}.conv.{{p}}", f"{ours}.conv.{{p}}"), (f"{theirs}.norm.{{p}}", f"{ours}.norm.{{p}}"))


def axis(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Attention along one axis."""
    positions = tuple(
        (f"{theirs}._{name}_rpe._embeddings.weight", f"{ours}.{name}_positions.weight")
        for name in ("query", "key", "value")
    )
    norms = (("qkv", "qkv"), ("similarity", "scores"), ("retrieved_output", "values"))
    return (
        (f"{theirs}.qkv_transform.conv.weight", f"{ours}.qkv.weight"),
        *positions,
        *((f"{theirs}._batch_norm_{a}.{{p}}", f"{ours}.norm_{b}.{{p}}") for a, b in norms),
    )


def predictor(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """What gives masks and classes; the misspelt name is theirs."""
    theirs += "._predcitor"
    return (
        (f"{theirs}._pixel_space_head_conv0bnact.conv.{{p}}", f"{ours}.near.{{p}}"),
        (f"{theirs}._pixel_space_head_conv0bnact.norm.{{p}}", f"{ours}.norm_near.{{p}}"),
        *normed(f"{theirs}._pixel_space_head_conv1bnact", f"{ours}.hidden"),
        (f"{theirs}._pixel_space_head_last_convbn.conv.{{p}}", f"{ours}.vectors.{{p}}"),
        (f"{theirs}._pixel_space_head_last_convbn.norm.{{p}}", f"{ours}.norm_vectors.{{p}}"),
        *normed(f"{theirs}._transformer_mask_head", f"{ours}.kernels"),
        (f"{theirs}._transformer_class_head.conv.{{p}}", f"{ours}.classes.{{p}}"),
        (f"{theirs}._pixel_space_mask_batch_norm.{{p}}", f"{ours}.norm_masks.{{p}}"),
    )


BLOCK, OUR_BLOCK = "pixel_decoder._stages.{i}._blocks.{j}", "pixels.stages.{i}.{j}"
LAYER, OUR_LAYER = "predictor._kmax_transformer_layers.{i}", "decoder.{i}"
HEAD = table(
    ("pixel_decoder._in_norms.{i}.{p}", "pixels.norms.{i}.{p}"),
    *normed(f"{BLOCK}._conv1_bn_act", f"{OUR_BLOCK}.narrow"),
    *normed(f"{BLOCK}._conv2_bn_act", f"{OUR_BLOCK}.conv"),
    *normed(f"{BLOCK}._conv3_bn", f"{OUR_BLOCK}.widen"),
    *normed(f"{BLOCK}._shortcut", f"{OUR_BLOCK}.shortcut"),
    *axis(f"{BLOCK}._attention._height_axis", f"{OUR_BLOCK}.mixer.height"),
    *axis(f"{BLOCK}._attention._width_axis", f"{OUR_BLOCK}.mixer.width"),
    *normed("pixel_decoder._resized_fuses.{i}._conv_bn_low", "pixels.fusions.{i}.coarse"),
    *normed("pixel_decoder._resized_fuses.{i}._conv_bn_high", "pixels.fusions.{i}.fine"),
    *normed(f"{LAYER}._query_conv1_bn_act", f"{OUR_LAYER}.centres"),
    *normed(f"{LAYER}._pixel_conv1_bn_act", f"{OUR_LAYER}.pixels"),
    *normed(f"{LAYER}._query_qkv_conv_bn", f"{OUR_LAYER}.attention.qkv"),
    (f"{LAYER}._query_self_attention._batch_norm_similarity.{{p}}", f"{OUR_LAYER}.attention.norm_scores.{{p}}"),
    (f"{LAYER}._query_self_attention._batch_norm_retrieved_value.{{p}}", f"{OUR_LAYER}.attention.norm_values.{{p}}"),
    *normed(f"{LAYER}._query_conv3_bn", f"{OUR_LAYER}.attention.out"),
    *normed(f"{LAYER}._query_ffn_conv1_bn_act", f"{OUR_LAYER}.up"),
    *normed(f"{LAYER}._query_ffn_conv2_bn", f"{OUR_LAYER}.down"),
    *predictor(LAYER, f"{OUR_LAYER}.predict"),
    (f"{LAYER}._pixel_v_conv_bn.conv.{{p}}", f"{OUR_LAYER}.cross.value.{{p}}"),
    (f"{LAYER}._pixel_v_conv_bn.norm.{{p}}", f"{OUR_LAYER}.cross.norm_value.{{p}}"),
    (f"{LAYER}._kmeans_query_batch_norm_retrieved_value.{{p}}", f"{OUR_LAYER}.cross.norm_sum.{{p}}"),
    (f"{LAYER}._kmeans_query_conv3_bn.conv.{{p}}", f"{OUR_LAYER}.cross.out.{{p}}"),
    (f"{LAYER}._kmeans_query_conv3_bn.norm.{{p}}", f"{OUR_LAYER}.cross.norm_out.{{p}}"),
    ("predictor._cluster_centers.weight", "centres", transpose),
    *normed("predictor._class_embedding_projection", "for_classes"),
    *normed("predictor._mask_embedding_projection", "for_masks"),
    *predictor("predictor", "predict"),
    prefixes=("sem_seg_head.",),
    # The semantic head serves training only.
    ignore=("*.num_batches_tracked", "predictor._auxiliary_semantic_predictor.*", "criterion.*"),
)

FIRST = "stages.{i-2}.downsample"
RESNET = table(
    ("stem.conv1.weight", "embed.convs.0.weight"),
    ("stem.conv1.norm.{p}", "embed.norms.0.{p}"),
    ("res{i}.0.shortcut.weight", f"{FIRST}.shortcut.conv.weight"),
    ("res{i}.0.shortcut.norm.{p}", f"{FIRST}.shortcut.norm.{{p}}"),
    *((f"res{{i}}.0.conv{k + 1}.weight", f"{FIRST}.layers.{k}.conv.weight") for k in range(3)),
    *((f"res{{i}}.0.conv{k + 1}.norm.{{p}}", f"{FIRST}.layers.{k}.norm.{{p}}") for k in range(3)),
    *(
        (f"res{{i}}.{{j}}.conv{k + 1}.weight", f"stages.{{i-2}}.blocks.{{j-1}}.layers.{k}.conv.weight")
        for k in range(3)
    ),
    *(
        (f"res{{i}}.{{j}}.conv{k + 1}.norm.{{p}}", f"stages.{{i-2}}.blocks.{{j-1}}.layers.{k}.norm.{{p}}")
        for k in range(3)
    ),
)  # fmt: skip


def official(model: nn.Module) -> Table:
    """The head's names, and those of the backbone: detectron2's ResNet or the authors' ConvNeXt."""
    resnet = hasattr(model.backbone.embed, "conv")
    backbone = inside(RESNET if resnet else convnext.OFFICIAL, "backbone", "backbone.")
    return Table([*backbone.rules, *HEAD.rules], HEAD.prefixes, HEAD.ignore)


COCO = {"kmax_r50": "kmax_resnet50"} | {
    f"kmax_convnext_{s}": f"kmax_convnext_{s}" for s in ("tiny", "small", "base", "large")
}
SOURCES = {"official": official}
NAMES = {
    "official": COCO
    | {f"{data}_kmax_r50": f"kmax_resnet50_{data}" for data in ("ade20k", "cityscapes")}
    | {f"{data}_kmax_convnext_large": f"kmax_convnext_large_{data}" for data in ("ade20k", "cityscapes")}
}
