"""Object detection: boxes, matching and its loss, the task's data, metric and errors, and DETR."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.data.detection import read_coco, scene
from anyformer.layers.attention.sparse.deformable import DeformableAttention
from anyformer.models.dense.boxes import giou, overlap, to_centres, to_corners
from anyformer.models.dense.matching import Objects, SetLoss, SigmoidSetLoss, assign
from anyformer.tasks import create_task
from anyformer.tasks.average_precision import average_precision
from anyformer.tasks.detection import Detection, objects
from anyformer.tasks.task import IGNORE
from descent import descend
from golden import Golden

SMALL = ("detr_micro", "group_detr_micro", "lw_detr_micro")


def test_set_loss_golden():
    """The authors' criterion, matcher and postprocessing, on two images of 5 and 3 objects."""
    golden = Golden("detr--detr_set_criterion--official")
    given = golden.inputs()
    boxes = given["tboxes"] * torch.tensor([1, 1, 0.5, 0.5])
    truth = [Objects(given["labels"][i, :n], boxes[i, :n]) for i, n in enumerate((5, 3))]
    loss = SetLoss()
    found: dict[str, Tensor] = {}
    for prefix, end in (("", ""), ("aux_", "_0")):
        logits, places = given[f"{prefix}logits"], given[f"{prefix}boxes"]
        parts = loss.parts(logits, places, truth)
        names = {"classes": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}
        found |= {f"losses.{names[k]}{end}": v for k, v in parts.items()}
        counted = (logits.argmax(-1) != logits.shape[-1] - 1).sum(1)
        found[f"losses.cardinality_error{end}"] = (counted - torch.tensor([5, 3])).abs().float().mean()
    for i, (queries, which) in enumerate(loss.match(given["logits"], given["boxes"], truth)):
        found |= {f"match_src_{i}": queries, f"match_tgt_{i}": which}
    matches = loss.match(given["logits"], given["boxes"], truth)
    guesses = torch.cat([given["logits"][i, q].argmax(-1) for i, (q, _) in enumerate(matches)])
    wanted = torch.cat([t.labels[w] for t, (_, w) in zip(truth, matches, strict=True)])
    found["losses.class_error"] = 100 * (guesses != wanted).float().mean()
    scores, labels = loss.scores(given["logits"]).max(-1)
    sizes = torch.tensor([[640, 480, 640, 480], [400, 300, 400, 300]])
    found |= {"post_scores": scores[0], "post_labels": labels[0]}
    found["post_boxes"] = to_corners(given["boxes"]) * sizes[:, None]
    golden.check(found)


def test_deformable_attention_golden():
    """The authors' layer on four maps: points, points with padding, and boxes."""
    golden = Golden("deformable_detr--ms_deform_attn--official")
    given, grids = golden.inputs(), golden.data["kwargs"]["spatial_shapes"]
    layer = DeformableAttention(256, heads=8, levels=4, points=4)
    assert sum(p.numel() for p in layer.parameters()) == golden.parameters
    names = {"sampling_offsets": "offsets", "attention_weights": "weights", "value_proj": "value", "output_proj": "out"}
    state = {f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in golden.state().items()}
    layer.load_state_dict(state)
    boxes = given["ref"][:, :, None].expand(-1, -1, 4, -1)
    common = given["query"], given["memory"]
    with torch.no_grad():
        golden.check(
            {
                "points2": layer(*common, boxes[..., :2], grids),
                "points2_padded": layer(*common, boxes[..., :2], grids, given["pad"] <= 0.85),
                "boxes4": layer(*common, boxes, grids),
            }
        )
    with pytest.raises(SizeError, match="built for 4 maps"):
        layer(*common, boxes, grids[:3])


def test_boxes_turn_and_overlap():
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.2], [0.2, 0.3, 0.1, 0.5]])
    torch.testing.assert_close(to_centres(to_corners(boxes)), boxes)
    a, b = torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 1, 3, 3])
    assert overlap(a, b)[0] == pytest.approx(1 / 7) and giou(a, a) == pytest.approx(1.0)
    assert giou(a, b) == pytest.approx(1 / 7 - 2 / 9)
    assert giou(a, torch.tensor([4.0, 0, 6, 2])) == pytest.approx(-1 / 3)


def test_the_assignment_is_the_cheapest_of_all():
    cost = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    rows, columns = assign(cost)
    best = min(sum(cost[r, c] for c, r in enumerate(p)) for p in permutations(range(6), 4))
    assert float(cost[rows, columns].sum()) == pytest.approx(float(best))


@pytest.mark.parametrize("loss", [SetLoss(), SigmoidSetLoss()])
def test_perfect_predictions_cost_little_and_order_does_not_matter(loss: SetLoss):
    boxes = torch.rand(1, 5, 4) * 0.3 + 0.3
    labels = torch.tensor([2, 0])
    logits = torch.full((1, 5, 4 if type(loss) is SetLoss else 3), -12.0)
    logits[0, [3, 1], labels] = 12.0
    if type(loss) is SetLoss:
        logits[0, [0, 2, 4], 3] = 12.0
    truth = [Objects(labels, boxes[0, [3, 1]])]
    assert float(loss.total(logits, boxes, truth)) < 1e-4
    turned = [Objects(labels.flip(0), boxes[0, [1, 3]])]
    torch.testing.assert_close(loss.total(logits, boxes, turned), loss.total(logits, boxes, truth))
    empty = [Objects(torch.zeros(0).long(), torch.zeros(0, 4))]
    assert loss.total(logits, boxes, empty).isfinite()


def test_more_objects_than_queries_raise():
    truth = [Objects(torch.zeros(6).long(), torch.rand(6, 4))]
    with pytest.raises(DataError, match="6 objects, and the model finds at most 5: give it queries=6 or more"):
        SetLoss().total(torch.randn(1, 5, 4), torch.rand(1, 5, 4), truth)


def test_average_precision_is_coco_s():
    """Two objects found, one of them loosely (IoU 0.68), one missed, one invented with a low score."""
    square = torch.tensor([0.25, 0.25, 0.2, 0.2])
    truth = [Objects(torch.tensor([0, 0]), torch.stack([square, square + torch.tensor([0.5, 0.5, 0, 0])]))]
    truth.append(Objects(torch.tensor([0]), square[None]))
    loose = square + torch.tensor([0.0, 0.0, 0.0, 0.094])  # IoU 0.2 / 0.294
    found = [
        (torch.tensor([0.9, 0.1]), torch.tensor([0, 0]), torch.stack([square, torch.tensor([0.8, 0.2, 0.1, 0.1])])),
        (torch.tensor([0.8]), torch.tensor([0]), loose[None]),
    ]
    measured = average_precision(truth, found, [(100, 100)] * 2, ["a", "b"])
    # Recall reaches 2/3 at precision 1: 67 of COCO's 101 recalls; at an IoU of 0.70 and more 1/3: 34 of them.
    assert measured["map50"] == pytest.approx(67 / 101) and measured["map75"] == pytest.approx(34 / 101)
    assert measured["map"] == pytest.approx((4 * 67 + 6 * 34) / 1010)
    assert list(measured["classes"]) == ["a"] and measured["classes"]["a"]["samples"] == 3


def test_scenes_are_the_same_every_time_and_boxes_hold_the_digits():
    one, again = scene("train", 64, 4, 7), scene("train", 64, 4, 7)
    assert torch.equal(one.image, again.image) and torch.equal(one.boxes, again.boxes)
    assert not torch.equal(one.image, scene("train", 64, 4, 8).image)
    for seed in range(20):
        sample = scene("test", 64, 4, seed)
        corners = to_corners(sample.boxes)
        assert 1 <= len(sample.labels) <= 4 and corners.min() >= 0 and corners.max() <= 1
        assert (sample.boxes[:, 2:] * 64 >= 2).all() and sample.image.min() >= 0 and sample.image.max() <= 1


@pytest.mark.parametrize("name", SMALL)
def test_learns_a_batch_and_says_what_it_sees(name: str):
    task = Detection(samples=8)
    torch.manual_seed(0)
    model = create_model(name, **task.model_options())
    batch = task.sample("train", torch.arange(8), seed=1, train=True)
    assert task.count(batch) == int((batch["labels"] != IGNORE).sum())
    losses = descend(model, lambda: task.loss(model, batch), steps=12, rate=2e-3)
    assert losses[-1] < 0.8 * losses[0]
    answer = model.eval()(batch["images"], batch["valid"])
    assert answer.shape[:2] == (8, 12) and answer.shape[2] in (14, 15)
    (said,) = task.predict(model, [torch.rand(3, 40, 80)])
    assert said["size"] == [40, 80] and all(0.5 <= o["score"] <= 1 for o in said["objects"])


def test_padding_is_not_looked_at():
    torch.manual_seed(0)
    images = torch.randn(1, 3, 64, 64)
    valid = torch.zeros(1, 64, 64, dtype=torch.bool)
    valid[:, :, :40] = True
    for name in SMALL:
        model = create_model(name, queries=4).eval()
        with torch.no_grad():
            maps = model.features(images)
            model.backbone.features = lambda *_, m=maps: [m[0] + 9 * (torch.arange(m[0].shape[-1]) >= 5)]
            spoiled = model(images, valid)
            model.backbone.features = lambda *_, m=maps: m
            if name != "lw_detr_micro":  # whose convolutions see the border
                torch.testing.assert_close(model(images, valid), spoiled, rtol=1e-4, atol=1e-5)
            assert (model(images, valid) - model(images)).abs().max() > 1e-4
        with pytest.raises(SizeError, match=r"valid says of every pixel.*given \(1, 8, 8\)"):
            model(images, valid[:, :8, :8])


def test_the_task_measures_draws_and_states_a_baseline():
    task = create_task("detection", samples=64)
    model = create_model(task.default_model, **task.model_options())
    measured = task.evaluate(model, "valid")
    assert 0 <= measured["map"] <= measured["map50"] <= 1 and measured["loss"] > 0
    baseline = task.baseline()
    assert 0 <= baseline.value < 0.05 and baseline.margin == 0.3 and "mean box" in baseline.what
    drawn = task.pictures(model, "test", 2)
    assert len(drawn) == 2 and drawn[0].pixels.shape == (192, 3 * 192 + 8, 3) and drawn[0].pixels.dtype == np.uint8
    assert len(task.examples("test", 3)) == 3 and task.facts()["sizes"]["train"] == 64
    with pytest.raises(FitError, match="takes a model that gives classes and boxes; isotropic does not: take"):
        task.evaluate(create_model("vit_micro", num_classes=10, in_channels=3, image_size=64))
    with pytest.raises(OptionError, match="label_smoothing"):
        task.loss(model, task.sample("train", torch.arange(2)), label_smoothing=0.1)


# -- files ----------------------------------------------------------------------------------------------------


def coco(root: Path, **changes) -> Path:
    """Ten grey images of 60x40 with a box each, in COCO's form."""
    from PIL import Image

    (root / "images").mkdir()
    for i in range(10):
        Image.fromarray(np.full((40, 60, 3), 20 * i, np.uint8)).save(root / "images" / f"{i}.png")
    data = {
        "images": [{"id": 5 + i, "file_name": f"{i}.png", "width": 60, "height": 40} for i in range(10)],
        "categories": [{"id": 9, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": 5 + i, "category_id": 9 if i % 2 else 3, "bbox": [6, 4, 30, 20]} for i in range(10)
        ],
    } | changes
    (root / "annotations.json").write_text(json.dumps(data))
    return root


def test_coco_folders_are_read(tmp_path: Path):
    task = create_task("detection", path=str(coco(tmp_path)), image_size=48)
    assert task.classes == ("dog", "cat") and sum(task.size(s) for s in ("train", "valid", "test")) == 10
    batch = task.sample("valid", torch.arange(task.size("valid")))
    assert batch["images"].shape[1:] == (3, 48, 48) and batch["sizes"][0].tolist() == [32, 48]
    assert batch["valid"][0, :32].all() and not batch["valid"][0, 32:].any()
    expected = torch.tensor([21 / 60, 14 / 40, 0.5, 0.5])
    torch.testing.assert_close(objects(batch)[0].boxes[0], expected)
    trained = [task.sample("train", torch.arange(task.size("train")), seed=s, train=True) for s in range(3)]
    sides = {round(float(b), 3) for t in trained for b in t["boxes"][:, 0, 0]}
    assert sides == {0.35, 0.65}, "half of them are mirrored"
    model = create_model("lw_detr_micro", **task.model_options())
    assert task.evaluate(model, "test")["loss"] > 0 and task.baseline().margin == 0
    assert task.predict(model, [tmp_path / "images" / "3.png"])[0]["size"] == [40, 60]


def test_coco_s_own_folders_are_read(tmp_path: Path):
    (tmp_path / "a").mkdir()
    source = coco(tmp_path / "a")
    (tmp_path / "annotations").mkdir()
    for part in ("train2017", "val2017"):
        (source / "annotations.json").rename(tmp_path / "annotations" / f"instances_{part}.json")
        (source / "images").rename(tmp_path / part)
        coco(source)
    found, names = read_coco(tmp_path)
    assert names == ("dog", "cat") and len(found["valid"]) == 10 and len(found["train"]) + len(found["test"]) == 10


ENTRY = {"id": 1, "image_id": 5, "category_id": 9, "bbox": [0, 0, 5, 5]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [ENTRY | {"image_id": 99}]}, "annotation 1 has the image_id 99, which is not listed"),
        ({"annotations": [ENTRY | {"category_id": 4}]}, "annotation 1 has the category_id 4, which is not listed"),
        ({"annotations": [ENTRY | {"bbox": [1, 2, 3]}]}, r"bbox \[1, 2, 3\]; it is \[left, top, width, height\]"),
        ({"annotations": [ENTRY | {"bbox": [70, 2, 3, 3]}]}, "no area inside its image of 60x40 pixels"),
        ({"annotations": [{"id": 1}]}, "an entry of annotations has no 'image_id'"),
        ({"images": [{"id": 1, "file_name": "x.png", "width": 1, "height": 1}], "annotations": []}, "no file"),
        ({"categories": [], "annotations": []}, "lists 10 images and 0 categories"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(DataError, match=message):
        read_coco(coco(tmp_path, **changes))


def test_wrong_folders_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"no folder .*: give one with annotations.json and a folder images"):
        read_coco(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"holds no folders; needed are annotations\.json"):
        read_coco(tmp_path)
    (tmp_path / "annotations.json").write_text("[")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_coco(tmp_path)
    (tmp_path / "annotations.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="has no list 'annotations'"):
        read_coco(tmp_path)


def test_wrong_options_are_named():
    with pytest.raises(OptionError, match="32 pixels or more"):
        Detection(image_size=16)
    with pytest.raises(OptionError, match="at least one query"):
        create_model("detr_micro", queries=0)
    with pytest.raises(OptionError, match="at least one query"):
        create_model("lw_detr_micro", groups=0)
    model = create_model("lw_detr_micro").eval()
    with pytest.raises(SizeError, match=r"12 queries from the tokens.*16x16 pixels has 4: give larger images"):
        model(torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("name", ["detr_micro", "lw_detr_micro"])
def test_any_backbone_serves(name: str):
    vit = Spec("isotropic", dim=16, depth=1, block=Spec("prenorm", mixer=Spec("attention", heads=2)))
    model = create_model(name, backbone=vit, image_size=64, queries=7).eval()
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 7, 15 if name == "detr_micro" else 14)
    assert model.features(torch.randn(2, 3, 64, 64))[0].shape == (2, 16, 4, 4)
    with pytest.raises(FitError, match="a backbone is an image model, such as swin_tiny"):
        create_model(name, backbone=Spec("decoder"))


def test_training_gives_every_layer_one_after_the_other():
    model = create_model("detr_micro")
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 2 * 12, 15)
    assert [p.boxes.shape for p in model(torch.randn(1, 3, 64, 64), layers=True)] == [(1, 12, 4)] * 2
