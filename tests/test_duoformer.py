"""DuoFormer: cells cover the same region at every scale, one scale alone is a hybrid ViT, cost, sizes that fit."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, load_reference
from anyformer.blocks.scale_cells import ScaleCells
from anyformer.core.errors import CheckpointError, OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.lab.profile import count_operations
from anyformer.models.vision.duoformer import VARIANTS, duoformer
from anyformer.models.vision.resnet import VARIANTS as RESNET
from parts import stirred

BLOCK = Spec("prenorm", mixer=Spec("attention", heads=2), ffn=Spec("mlp", ratio=2.0))


def pointwise_trunk(dims=(4, 6, 8, 10)) -> Spec:
    """Maps at strides 1, 2, 4 and 8 of which every place sees its own pixels alone."""
    stages = [
        Spec("stage", dim=dim, depth=0, block=Spec("basic_block"), downsample=Spec("conv", rest="drop") if i else None)
        for i, dim in enumerate(dims)
    ]
    return Spec("pyramid", embed=Spec("patch", size=1), stages=stages, norm=None, image_size=16)


def cells(**options) -> ScaleCells:
    options = {"trunk": pointwise_trunk(), "depth": 1, "block": BLOCK, **options}
    torch.manual_seed(0)
    return stirred(ScaleCells(8, **options), 0.1).eval()


def tokenized(part: ScaleCells, images: torch.Tensor) -> torch.Tensor:
    return part.tokenized([m.movedim(1, -1) for m in part.trunk.features(images, layers=part.stages)])


@pytest.mark.parametrize("stages", [(0, 1, 2, 3), (1, 3), (3,)])
def test_tokens_of_a_cell_are_its_places_in_all_maps(stages):
    part = cells(stages=stages)
    sides = [2 ** (3 - i) for i in stages]
    x = tokenized(part, torch.randn(2, 3, 16, 24))
    assert x.shape == (2, 6, sum(side**2 for side in sides), 8)
    assert part.places == sum(side**2 for side in sides)


def test_a_cell_covers_the_same_region_at_every_scale():
    part = cells()
    images = torch.randn(1, 3, 16, 24)
    changed = images.clone()
    changed[:, :, 8:16, 16:24] += 1  # the cell in row 1, column 2 of 2x3
    moved = (tokenized(part, changed) - tokenized(part, images))[0].abs().amax(-1) > 1e-6
    assert moved[5].all() and not moved[:5].any()


def test_the_coarsest_place_comes_first_and_the_finest_last():
    part = cells()
    images = torch.randn(1, 3, 16, 16)
    maps = part.trunk.features(images)
    x = tokenized(part, images)
    torch.testing.assert_close(x[0, :, 0], part.project[3](maps[3][0].flatten(1).t()))
    torch.testing.assert_close(x[0, 3, -1], part.project[0](maps[0][0, :, 15, 15]))


def test_one_scale_without_attention_inside_cells_is_a_hybrid_vit():
    spec = duoformer(pointwise_trunk(), 8, 2, stages=(3,), depths=(0, 2), token=None, ratio=2.0, image_size=32)
    ours = stirred(create_model(spec, num_classes=5), 0.1).eval()
    plain = spec.set(embed=Spec("patch", size=1), image_size=4)
    hybrid = create_model(plain, num_classes=5, in_channels=10).eval()
    state = {name: p for name, p in ours.state_dict().items() if not name.startswith("embed.")}
    project = ours.embed.project[0]
    state |= {"embed.project.weight": project.weight[..., None, None], "embed.project.bias": project.bias}
    hybrid.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = hybrid(ours.embed.trunk.features(images)[3])
        torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5)


def test_attention_inside_cells_costs_in_proportion_to_the_cells():
    part = cells(token="learned")
    counts = [count_operations(part, torch.randn(1, 3, side, side)) for side in (16, 32, 64)]
    assert counts[1] == 4 * counts[0] and counts[2] == 16 * counts[0]


def test_cells_do_not_see_each_other_before_the_vit():
    part = cells(token="learned")
    images = torch.randn(1, 3, 16, 24)
    changed = images.clone()
    changed[:, :, :8, :8] += 1
    moved = (part(changed) - part(images))[0].abs().amax(-1) > 1e-6
    assert moved[0, 0] and moved.sum() == 1


@pytest.mark.parametrize("token", ["maps", "learned", None])
def test_every_scale_reaches_the_token_of_a_cell(token):
    part = cells(token=token)
    images = torch.randn(1, 3, 16, 16)
    before = part(images)
    assert before.shape == (1, 2, 2, 8)
    for i in range(4):
        with torch.no_grad():
            part.project[i].bias[0] += 1  # not all, which a norm would take out
        after = part(images)
        assert (after - before).abs().amax() > 1e-5
        before = after


def test_published_variants_have_the_cells_of_the_paper():
    places = {"": 85, "_3scales": 21, "_2scales": 5}
    with torch.device("meta"):
        for end, count in places.items():
            model = create_model(f"duoformer_resnet50{end}")
            assert model.embed.places == count and model.embed.grid((224, 224)) == (7, 7)
            assert model.embed.grid((96, 160)) == (3, 5)
        model = create_model("duoformer_resnet18")
        assert [p.in_features for p in model.embed.project] == [64, 128, 256, 512]
    assert set(VARIANTS) == {f"duoformer_resnet50{end}" for end in places} | {
        "duoformer_resnet18", "duoformer_resnet18_2scales", "duoformer_micro",
    }  # fmt: skip


def test_a_pretrained_trunk_can_be_loaded():
    model = create_model("duoformer_resnet18_2scales")
    state = {"conv1.weight": torch.ones(64, 3, 7, 7), "layer2.0.conv1.weight": torch.ones(128, 64, 3, 3)}
    report = load_reference(model, state, source="timm", partial=True)
    assert len(report.loaded) == 2 and not report.unexpected
    trunk = model.embed.trunk
    assert (trunk.embed.convs[0].weight == 1).all() and (trunk.stages[1].downsample.layers[0].conv.weight == 1).all()
    with pytest.raises(CheckpointError, match="fmvit has no names of 'official'"):
        load_reference(create_model("fmvit_micro"), state, source="official")


def test_a_map_that_is_not_made_of_whole_cells_is_refused_with_its_stage():
    with torch.device("meta"):
        with pytest.raises(SizeError, match=r"map of 28x28 in stage 1 .* not made of 6x6|.*stage \d.*multiples of 32"):
            create_model("duoformer_resnet50", image_size=200)
        model = create_model("duoformer_resnet18")
        with pytest.raises(SizeError, match=r"in stage 0 of the trunk.*multiples of 32"):
            model(torch.randn(1, 3, 100, 96))


def test_mistakes_are_sentences():
    for stages in ((), (1, 0), (0, 4)):
        with pytest.raises(OptionError, match=r"stages 0 to 3; give one or more of them from fine to coarse"):
            cells(stages=stages)
    with pytest.raises(OptionError, match="take token=None, or a depth of 1 or more"):
        cells(depth=0)
    assert duoformer(RESNET["resnet_micro"], 8, 2, stages=(0,))["embed"]["stages"] == (0,)
