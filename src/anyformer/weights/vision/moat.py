"""How the authors name MOAT's variables, in TensorFlow's order of axes, and its variants."""

from __future__ import annotations

from torch import Tensor

from anyformer.weights.mapping import table


def kernel(tensor: Tensor) -> Tensor:
    """`(rows, columns, inputs, outputs)` as torch has it; one of single tokens is a linear map."""
    weight = tensor.permute(3, 2, 0, 1)
    return weight.flatten(1) if weight.shape[-2:] == (1, 1) else weight


def filters(tensor: Tensor) -> Tensor:
    """Depthwise `(rows, columns, channels, 1)` as torch has it."""
    return tensor.permute(2, 3, 0, 1)


def joined(tensor: Tensor) -> Tensor:
    """Queries', keys' or values' `(channels, heads, d)`, or their biases `(heads, d)`, as rows of one matrix."""
    return tensor.flatten(-2).t() if tensor.dim() == 3 else tensor.flatten()


def parted(tensor: Tensor) -> Tensor:
    """The output's `(heads, d, channels)` as a matrix; the bias stays."""
    return tensor.flatten(0, 1).t() if tensor.dim() == 3 else tensor


def mirrored(tensor: Tensor) -> Tensor:
    """Biases `(heads, rows, columns)` of key minus query as a table `(offsets, heads)` of query minus key."""
    return tensor.flip(1, 2).flatten(1).t()


def norm(theirs: str, ours: str) -> list[tuple]:
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    return [(f"{theirs}/{a}", f"{ours}.{b}") for a, b in names.items()]


def conv(theirs: str, ours: str) -> list[tuple]:
    return [(f"{theirs}/kernel", f"{ours}.weight", kernel), (f"{theirs}/bias", f"{ours}.bias")]


def mbconv(theirs: str, body: str, before: str) -> list[tuple]:
    """A mobile convolution, and the norm before it."""
    return [
        *norm(f"{theirs}/pre_norm", before),
        *conv(f"{theirs}/expand_conv", f"{body}.expand"),
        *norm(f"{theirs}/expand_norm", f"{body}.expand_norm"),
        (f"{theirs}/depthwise_conv/depthwise_kernel", f"{body}.depthwise.weight", filters),
        *norm(f"{theirs}/depthwise_norm", f"{body}.depthwise_norm"),
        *conv(f"{theirs}/se/reduce_conv2d", f"{body}.gate.down"),
        *conv(f"{theirs}/se/expand_conv2d", f"{body}.gate.up"),
        *conv(f"{theirs}/shrink_conv", f"{body}.shrink"),
    ]


def attention(theirs: str, ours: str, before: str) -> list[tuple]:
    """Attention, and the norm before it."""
    inputs = [
        (tuple(f"{theirs}/attention/{n}/{p}" for n in "qkv"), f"{ours}.qkv.{p}", joined) for p in ("weight", "bias")
    ]
    return [
        *norm(f"{theirs}/attention_norm", before),
        *inputs,
        *[(f"{theirs}/attention/o/{p}", f"{ours}.out.{p}", parted) for p in ("weight", "bias")],
        (f"{theirs}/attention/relative_position_embedding", f"{ours}.bias.table", mirrored),
    ]


def strided(theirs: str, ours: str) -> list[tuple]:
    """The first block of a stage."""
    return [*conv(f"{theirs}/shortcut_conv", f"{ours}.project"), *mbconv(theirs, f"{ours}.body", f"{ours}.norm")]


def rules() -> list[tuple]:
    found = [
        *conv("stem/conv_0", "embed.stem.convs.0"),
        *norm("stem/norm_0", "embed.stem.norms.0"),
        *conv("stem/conv_1", "embed.stem.convs.1"),
        *strided("block_00_00", "embed.downsample"),
        *norm("final_layer_norm", "head.norm"),
        *conv("logits_head", "head.linear"),
    ]
    for i in range(4):
        for j in range(32):
            theirs, blocks = f"block_{i:02d}_{j:02d}", f"stages.{i}.blocks"
            if i and j == 0:
                found += strided(theirs, f"stages.{i}.downsample")
            elif i < 2 and j:
                found += mbconv(theirs, f"{blocks}.{j - 1}.mixer.body", f"{blocks}.{j - 1}.norm1")
            if i > 1:
                found += attention(theirs, f"{blocks}.{j}.mixer", f"{blocks}.{j}.norm{2 if j else 1}")
                if j:
                    found += mbconv(theirs, f"{blocks}.{j}.conv.body", f"{blocks}.{j}.norm1")
    return found


OFFICIAL = table(*rules(), prefixes=("moat/",), ignore=("*/ExponentialMovingAverage",))
SOURCES = {"official": OFFICIAL}

FILES = {
    "moat0_pretrain_224{}_1k": "moat_0",
    "moat1_pretrain_224{}_1k": "moat_1",
    "moat2_finetune_384{}_22k": "moat_2",
    "moat3_finetune_512{}_22k": "moat_3",
    "moat4_finetune_512{}_22k": "moat_4",
    **{f"tiny_moat{i}_pretrain_256{{}}_1k": f"tiny_moat_{i}" for i in range(4)},
}
NAMES = {
    "official": {theirs.format(ending): ours + ending for theirs, ours in FILES.items() for ending in ("", "_no_pe")}
}
