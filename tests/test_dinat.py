"""NAT and DiNAT: published sizes and operations, and any image size. What the attention promises: test_neighborhood."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, model_spec
from anyformer.lab.profile import count_operations, shapes_only
from anyformer.models.vision.dinat import VARIANTS
from anyformer.weights.load import load_reference
from anyformer.weights.vision.dinat import NAMES, offsets

PUBLISHED = {  # millions of parameters and billions of multiply-adds, tables of both papers' repository
    "nat_mini": (20, 2.7),
    "nat_tiny": (28, 4.3),
    "nat_small": (51, 7.8),
    "nat_base": (90, 13.7),
    "dinat_mini": (20, 2.7),
    "dinat_tiny": (28, 4.3),
    "dinat_small": (51, 7.8),
    "dinat_base": (90, 13.7),
    "dinat_large": (200, 30.6),
    "dinat_large_384": (200, 89.7),
    "dinat_large_384_11x11": (200, 92.4),
    "dinat_s_tiny": (28, 4.5),
    "dinat_s_small": (50, 8.7),
    "dinat_s_base": (88, 15.4),
    "dinat_s_large": (197, 34.5),
    "dinat_s_large_384": (197, 101.5),
    "nat_isotropic_small": (22, 4.3),
    "nat_isotropic_base": (86, 16.9),
    "dinat_isotropic_small": (22, 4.3),
    "dinat_isotropic_base": (86, 16.9),
    "vitrpb_small": (22, 4.6),
    "vitrpb_base": (86, 17.5),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_and_operations(name: str):
    millions, billions = PUBLISHED[name]
    with shapes_only():
        model = create_model(name)
        assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=0.01, abs=0.5)
        assert count_operations(model, *model.example_inputs()) / 1e9 == pytest.approx(billions, rel=0.02)


def test_every_name_stands_for_a_variant():
    used = set()
    for source, names in NAMES.items():
        for theirs, ours in names.items():
            used.add(ours if isinstance(ours, str) else ours[0])
            assert model_spec(f"{source}:{theirs}").name in ("pyramid", "isotropic")
    assert used == set(PUBLISHED) == set(VARIANTS) - {"dinat_micro"}


@pytest.mark.parametrize("name", ["dinat_mini", "dinat_s_tiny"])
def test_four_maps_at_any_size(name: str):
    model = create_model(name, num_classes=3, in_channels=1, **{f"stages.{i}.depth": 2 for i in range(4)}).eval()
    for height, width in ((32, 32), (33, 70)):
        images = torch.randn(1, 1, height, width)
        with torch.no_grad():
            assert model(images).shape == (1, 3)
            maps = model.features(images)
        widths = [64, 128, 256, 512] if name == "dinat_mini" else [96, 192, 384, 768]
        assert [m.shape[1] for m in maps] == widths
        assert [m.shape[2:] for m in maps] == [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32)]


def test_every_second_block_is_dilated():
    with torch.device("meta"):
        model = create_model("dinat_tiny")
    found = [[block.mixer.dilation[0] for block in stage.blocks] for stage in model.stages]
    assert found == [[1, 8, 1], [1, 4, 1, 4], [1, 2] * 9, [1] * 5]


RENAMED = (  # the authors' names, and those of transformers
    ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    ("patch_embed.norm.", "embeddings.norm."),
    ("levels.", "encoder.levels."),
    (".blocks.", ".layers."),
    ("attn.rpb", "attention.self.rpb"),
    ("attn.proj.", "attention.output.dense."),
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
)


def test_names_of_transformers_are_those_of_the_authors_in_other_words():
    small = {"num_classes": 2, **{f"stages.{i}.depth": 1 for i in range(4)}}
    generator = torch.Generator().manual_seed(0)
    official = {
        "patch_embed.proj.0.weight": (64, 3, 3, 3), "patch_embed.proj.0.bias": (64,),
        "patch_embed.proj.1.weight": (128, 64, 3, 3), "patch_embed.proj.1.bias": (128,),
        "patch_embed.norm.weight": (128,), "patch_embed.norm.bias": (128,),
        "norm.weight": (1024,), "norm.bias": (1024,), "head.weight": (2, 1024), "head.bias": (2,),
    }  # fmt: skip
    for i in range(4):
        c, at = 128 * 2**i, f"levels.{i}.blocks.0."
        official |= {f"{at}norm{k}.{p}": (c,) for k in (1, 2) for p in ("weight", "bias")}
        official |= {f"{at}gamma{k}": (c,) for k in (1, 2)}
        official |= {
            at + "attn.rpb": (4 * 2**i, 13, 13),
            at + "attn.qkv.weight": (3 * c, c),
            at + "attn.qkv.bias": (3 * c,),
        }
        official |= {at + "attn.proj.weight": (c, c), at + "attn.proj.bias": (c,)}
        official |= {at + "mlp.fc1.weight": (2 * c, c), at + "mlp.fc1.bias": (2 * c,)}
        official |= {at + "mlp.fc2.weight": (c, 2 * c), at + "mlp.fc2.bias": (c,)}
        if i < 3:
            at = f"levels.{i}.downsample."
            official |= {
                at + "reduction.weight": (2 * c, c, 3, 3),
                at + "norm.weight": (2 * c,),
                at + "norm.bias": (2 * c,),
            }
    authors = {n: 0.05 * torch.randn(shape, generator=generator) for n, shape in official.items()}
    theirs: dict[str, torch.Tensor] = {}
    for name, tensor in authors.items():
        if name.startswith(("norm.", "head.")):
            theirs[name.replace("norm.", "dinat.layernorm.").replace("head.", "classifier.")] = tensor
            continue
        new = name
        for mine, other in RENAMED:
            new = new.replace(mine, other)
        new = "dinat." + new
        if "attn.qkv." in new:
            for n, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                theirs[new.replace("attn.qkv.", f"attention.self.{n}.")] = part
        elif "gamma1" in new:
            both = torch.stack([tensor, authors[name.replace("gamma1", "gamma2")]])
            theirs[new.replace("gamma1", "layer_scale_parameters")] = both
        elif "gamma2" not in new:
            theirs[new] = tensor
    first = create_model("official:dinat_base", **small).eval()
    second = create_model("transformers:shi-labs/dinat-base-in1k-224", **small).eval()
    load_reference(first, authors, "official")
    load_reference(second, theirs, "transformers")
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_a_table_of_offsets_is_turned_round():
    theirs = torch.randn(2, 3, 3)
    ours = offsets(theirs)
    # Theirs: row and column of key - query; the first row is the key above.
    assert torch.equal(ours[0], theirs[:, 2, 2]) and torch.equal(ours[5], theirs[:, 1, 0])


def test_it_stands_where_windows_stood():
    model = create_model("swin_micro", mixer="neighborhood", num_classes=3, in_channels=1)
    assert [block.mixer.kernel for stage in model.stages for block in stage.blocks] == [(4, 4)] * 2 + [(2, 2)] * 2
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)
