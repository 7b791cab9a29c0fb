"""SegFormer and SegFormer3D: sizes, resolution, the memory of reduced attention, refused volumes, names."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, load_reference
from anyformer.core.errors import SizeError
from anyformer.core.spec import Spec
from anyformer.layers.attention.spatial_reduction import SpatialReductionAttention
from anyformer.models.dense.segformer3d import segformer3d


def small(**options) -> Spec:
    """Four stages of one block, at a total stride of 32 as published."""
    widths = {"dims": (4, 8, 12, 16), "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "dim": 8, "side": 32}
    return segformer3d(**widths, in_channels=1).set(**options)


def test_parameters_are_those_published():
    with torch.device("meta"):
        model = create_model("segformer3d")
    assert abs(model.num_parameters() - 4.5e6) <= 0.02 * 4.5e6
    assert model.image_size == (128, 128, 128) and model.in_channels == 4


def test_scores_come_at_the_resolution_of_the_input():
    model = create_model(small()).eval()
    for size in ((32, 32, 32), (64, 32, 32)):  # the authors' code takes cubes alone
        assert model(torch.randn(1, 1, *size)).shape == (1, 3, *size)
    assert [tuple(m.shape[1:]) for m in model.features(torch.randn(1, 1, 64, 32, 32))] == [
        (4, 16, 8, 8),
        (8, 8, 4, 4),
        (12, 4, 2, 2),
        (16, 2, 1, 1),
    ]


@pytest.mark.parametrize("reduction", [2, 4])
def test_the_attention_map_shrinks_with_the_cube_of_the_reduction(reduction: int):
    x = torch.randn(1, 8, 8, 8, 4)
    maps = {}
    for r in (1, reduction):
        mixer = SpatialReductionAttention(4, heads=2, reduction=r, grid=(8, 8, 8))
        seen = []
        mixer.scoring.register_forward_pre_hook(lambda _, given, seen=seen: seen.extend(t.shape for t in given))
        mixer(x)
        (_, _, queries, _), (_, _, keys, _), _ = seen
        maps[r] = queries * keys
    assert maps[1] == maps[reduction] * reduction**3


def test_volumes_that_do_not_fit_raise():
    model = create_model(small())
    with pytest.raises(SizeError, match=r"multiples of 32.*given 48x32x32, the nearest is"):
        model(torch.randn(1, 1, 48, 32, 32))
    with pytest.raises(
        SizeError, match=r"a batch of volumes \(b, 1, sxsxs\); given a tensor of shape \(1, 1, 32, 32\)"
    ):
        model(torch.randn(1, 1, 32, 32))
    with pytest.raises(SizeError, match="multiples of 32"):
        create_model("segformer3d", image_size=(100, 128, 128))


def test_positions_come_from_convolutions_alone():
    model = create_model(small())
    assert not [n for n, _ in model.named_parameters() if "position" in n]


@pytest.mark.parametrize(
    ("name", "parameters", "classes"),
    [
        ("transformers:nvidia/segformer-b0-finetuned-ade-512-512", 3752694, 150),
        ("transformers:nvidia/segformer-b2-finetuned-cityscapes-1024-1024", 27361235, 19),
        ("official:segformer.b5.640x640.ade.160k", 84708694, 150),
        ("official:SegFormer3D", 4525251, 3),
    ],
)
def test_names_of_every_source(name: str, parameters: int, classes: int):
    with torch.device("meta"):
        model = create_model(name)
    assert model.num_parameters() == parameters
    assert model.built_from is not None and model.built_from["num_classes"] == classes


def test_weights_load_under_the_names_of_files_and_of_the_authors():
    """Both generations of transformers and the authors' names mean the same parameters."""
    torch.manual_seed(0)
    model = create_model("segformer_b0", image_size=64, num_classes=3)
    theirs = {"hub": {}, "official": {}}
    for name, value in model.state_dict().items():
        for source, found in theirs.items():
            for key, tensor in renamed(name, value, source):
                found[key] = tensor
    theirs["official"]["decode_head.conv_seg.weight"] = torch.zeros(1)
    for source, state in (("transformers", theirs["hub"]), ("official", theirs["official"])):
        other = create_model("segformer_b0", image_size=64, num_classes=3)
        load_reference(other, state, source)
        for name, value in other.state_dict().items():
            assert torch.equal(value, model.state_dict()[name]), name


def renamed(name: str, value: torch.Tensor, source: str) -> list[tuple[str, torch.Tensor]]:
    """One of our entries as files on the hub, or the authors' files, have it."""
    hub = source == "hub"
    root, _, rest = name.partition(".")
    if root == "head":
        what, _, tail = rest.partition(".")
        if what == "levels":
            i, _, p = tail.partition(".")
            return [
                (f"decode_head.linear_c.{i}.proj.{p}" if hub else f"decode_head.linear_c{int(i) + 1}.proj.{p}", value)
            ]
        names = {"fuse": ("linear_fuse", "linear_fuse.conv"), "norm": ("batch_norm", "linear_fuse.bn")}
        names["classify"] = ("classifier", "linear_pred")
        return [(f"decode_head.{names[what][not hub]}.{tail}", value)]
    if rest.startswith("embed."):
        _, what, p = rest.split(".")
        layer = {"project": "proj", "norm": "layer_norm" if hub else "norm"}[what]
        place = "segformer.encoder.patch_embeddings.0" if hub else "backbone.patch_embed1"
        return [(f"{place}.{layer}.{p}", value)]
    _, i, what, *tail = rest.split(".")
    if what == "norm":
        return [
            (f"segformer.encoder.layer_norm.{i}.{tail[0]}" if hub else f"backbone.norm{int(i) + 1}.{tail[0]}", value)
        ]
    if what == "downsample":
        layer = {"project": "proj", "norm_after": "layer_norm" if hub else "norm"}[tail[0]]
        place = f"segformer.encoder.patch_embeddings.{i}" if hub else f"backbone.patch_embed{int(i) + 1}"
        return [(f"{place}.{layer}.{tail[1]}", value)]
    j, inner, p = tail[0], ".".join(tail[1:-1]), tail[-1]
    place = f"segformer.encoder.block.{i}.{j}" if hub else f"backbone.block{int(i) + 1}.{j}"
    if hub and inner == "mixer.kv":
        k, v = value.chunk(2)
        return [(f"{place}.attention.self.key.{p}", k), (f"{place}.attention.self.value.{p}", v)]
    layers = {
        "norm1": ("layer_norm_1", "norm1"),
        "norm2": ("layer_norm_2", "norm2"),
        "mixer.q": ("attention.self.query", "attn.q"),
        "mixer.kv": ("", "attn.kv"),
        "mixer.reduce": ("attention.self.sr", "attn.sr"),
        "mixer.norm": ("attention.self.layer_norm", "attn.norm"),
        "mixer.out": ("attention.output.dense", "attn.proj"),
        "ffn.up": ("mlp.dense1", "mlp.fc1"),
        "ffn.depthwise": ("mlp.dwconv.dwconv", "mlp.dwconv.dwconv"),
        "ffn.down": ("mlp.dense2", "mlp.fc2"),
    }
    return [(f"{place}.{layers[inner][not hub]}.{p}", value)]
