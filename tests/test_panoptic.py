"""Panoptic segmentation: what the task generates, reads, merges, measures and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.panoptic import Categories, GeneratedScenes, read_numbers
from anyformer.models.dense.kmax_deeplab import MaskSegmenter
from anyformer.models.dense.mask_matching import MaskPredictions, MaskSetLoss
from anyformer.tasks import create_task
from anyformer.tasks.panoptic import PanopticSegmentation, truth_of
from anyformer.tasks.panoptic_quality import Merged, Quality, mask_iou, merged
from anyformer.tasks.task import IGNORE
from descent import descend

CATEGORIES = Categories(("sky", "cat", "dog"), (1, 2))


class Oracle(MaskSegmenter):
    """Says the truth that it was given."""

    name = ""

    def __init__(self, batch, classes: int):
        super().__init__()
        self.batch, self.classes, self.loss = batch, classes, MaskSetLoss()

    def predictions(self, images):
        labels, segments = (self.batch[k][: len(images)] for k in ("labels", "segments"))
        logits = torch.zeros(*labels.shape, self.classes + 1)
        logits[..., -1] = 20.0
        for row, query in (labels >= 0).nonzero().tolist():
            logits[row, query, -1], logits[row, query, labels[row, query]] = 0.0, 20.0
        masks = 20.0 * (segments[:, None] == torch.arange(labels.shape[1])[:, None, None]).float()
        return [MaskPredictions(logits, masks, torch.ones(len(images), 1, *segments.shape[1:]))]


def files(root: Path, *, count: int = 8, extra: int = 0, coco: bool = False) -> Path:
    """Images of 24x16 with a sky, a cat in the upper left corner and a crowd of dogs; categories out of order."""
    generator = np.random.default_rng(0)
    images, numbers = (
        (root / "train2017", root / "annotations/panoptic_train2017") if coco else (root / "images", root / "panoptic")
    )
    for folder in (images, numbers):
        folder.mkdir(parents=True)
    rows, listed = [], []
    for i in range(count):
        Image.fromarray(generator.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(images / f"{i}.jpg")
        ids = np.full((16, 24), 70000)
        ids[:8, :6], ids[12:, 20:], ids[15, 0] = 300, 5, 0
        Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(
            numbers / f"{i}.png"
        )
        segments = [
            {"id": 70000, "category_id": 9, "iscrowd": 0},
            {"id": 300 + extra, "category_id": 40, "iscrowd": 0},
            {"id": 5, "category_id": 50, "iscrowd": 1},
        ]
        rows.append({"image_id": i, "file_name": f"{i}.png", "segments_info": segments})
        listed.append({"id": i, "file_name": f"{i}.jpg"})
    kinds = [(50, "dog", 1), (9, "sky", 0), (40, "cat", 1)]
    data = {
        "images": listed,
        "annotations": rows,
        "categories": [{"id": i, "name": n, "isthing": t} for i, n, t in kinds],
    }
    (root / "annotations/panoptic_train2017.json" if coco else root / "panoptic.json").write_text(json.dumps(data))
    return root


def test_generated_scenes_are_the_same_every_time_and_hold_what_they_say():
    scenes = GeneratedScenes(30, 32, 0).scenes
    for a, b in zip(scenes, GeneratedScenes(30, 32, 0).scenes, strict=True):
        assert torch.equal(a.image, b.image) and torch.equal(a.segments, b.segments)
        assert 3 <= len(a.labels) <= 5 and a.labels[0] == 0 and (a.labels[1:] > 0).all()
        assert (a.segments.flatten().bincount(minlength=len(a.labels)) >= 12).all()
        assert a.image.shape == (3, 32, 32) and a.image.min() >= 0 and a.image.max() <= 1
    assert {len(s.labels) for s in scenes} == {3, 4, 5}
    assert not torch.equal(scenes[0].image, GeneratedScenes(1, 32, 1).scenes[0].image)


def test_samples_do_not_depend_on_their_batch_and_mirror_with_their_segments():
    task = PanopticSegmentation(samples=32)
    together = task.sample("train", torch.arange(32), seed=3, train=True)
    alone = task.sample("train", torch.tensor([7]), seed=3, train=True)
    assert torch.equal(together["images"][7], alone["images"][0])
    assert torch.equal(together["segments"][7], alone["segments"][0])
    plain = task.sample("train", torch.arange(32))
    mirrored = [not torch.equal(a, b) for a, b in zip(plain["images"], together["images"], strict=True)]
    assert 4 < sum(mirrored) < 28
    for row, flipped in enumerate(mirrored):
        for name in ("images", "segments"):
            expected = plain[name][row].flip(-1) if flipped else plain[name][row]
            assert torch.equal(together[name][row], expected)


def test_the_truth_has_full_quality_and_the_baseline_has_not():
    task = PanopticSegmentation(samples=8)
    task.parts["valid"] = GeneratedScenes(24, 32, 5)
    found = task.evaluate(Oracle(task.sample("valid", torch.arange(24)), 4), "valid")
    assert found["pq"] == pytest.approx(1) and found["mask_iou"] == pytest.approx(1)
    assert set(found["classes"]) == {"ground", "disc", "square", "triangle"}
    assert sum(c["samples"] for c in found["classes"].values()) == sum(
        len(s.labels) for s in task.parts["valid"].scenes
    )
    baseline = task.baseline("valid")
    assert "ground" in baseline.what and 0.1 < baseline.value < 0.25  # one class of four, its IoU above one half


def test_quality_by_hand():
    """Kirillov et al. 2018, equation 1: a cat found at IoU 0.75, another missed, a dog that is none; void left out."""
    segments = torch.zeros(1, 4, 8, dtype=torch.int64)
    segments[0, 0], segments[0, 1], segments[0, 3, :4] = 1, 2, -1
    truth = truth_of({"labels": torch.tensor([[0, 1, 1]]), "segments": segments})
    guess = torch.zeros(4, 8, dtype=torch.int64)
    guess[0, :6], guess[1] = 1, 2
    quality = Quality(CATEGORIES)
    quality.add([Merged(torch.tensor([0, 1, 2]), torch.ones(3), guess)], truth)
    found = quality.measured()
    assert found["classes"]["cat"]["pq"] == pytest.approx(0.75 / 1.5)
    assert found["classes"]["dog"]["pq"] == 0
    assert found["classes"]["sky"]["pq"] == pytest.approx(12 / 14)
    assert found["pq"] == pytest.approx((0.5 + 12 / 14) / 3)


def test_masks_merge_the_surest_first():
    masks = torch.zeros(4, 4, 4)
    masks[0, :2], masks[1, 2:], masks[2, :, :2], masks[3, 2:, 2:] = 20, 15, 10, 30
    logits = torch.full((4, 4), -9.0)
    logits[[0, 1, 2, 3], [0, 1, 1, 3]] = 9.0  # sky, cat, cat, nothing
    found = merged(MaskPredictions(logits[None], masks[None], masks[None]), 0, CATEGORIES)
    assert sorted(found.labels.tolist()) == [0, 1]
    assert torch.equal(found.segments[:2], torch.full((2, 4), found.labels.tolist().index(0)))
    assert torch.equal(found.segments[2:, :2], torch.full((2, 2), found.labels.tolist().index(1)))
    assert (found.segments[2:, 2:] == -1).all(), "pixels of a query that is nothing"
    twice = logits.clone()
    twice[1] = twice[0]  # two masks of sky
    assert merged(MaskPredictions(twice[None], masks[None], masks[None]), 0, CATEGORIES).labels.tolist() == [0]


def test_mask_iou_matches_one_to_one():
    segments = torch.tensor([[0, 0, 1, 1], [0, 0, 1, -1]])
    masks = torch.zeros(3, 2, 4)
    masks[2, :, :2], masks[0, :, 2:], masks[1, 0, 3] = 5, 5, 9
    assert mask_iou(masks, segments).tolist() == pytest.approx([1, 2 / 3])
    assert mask_iou(masks, torch.full((2, 4), -1)).tolist() == []


@pytest.mark.parametrize("coco", [False, True])
def test_files_in_cocos_form(tmp_path, coco: bool):
    task = create_task(f"panoptic:{files(tmp_path / 'set', coco=coco)}", image_size=24)
    assert task.categories == Categories(("sky", "cat", "dog"), (1, 2))
    assert [task.size(s) for s in ("train", "valid", "test")] == [6, 1, 1]
    batch = task.sample("train", torch.arange(2))
    assert batch["images"].shape == (2, 3, 24, 24) and batch["sizes"].tolist() == [[16, 24]] * 2
    labels, segments = batch["labels"][0], batch["segments"][0]
    assert sorted(labels.tolist()) == [0, 1], "the crowd is no segment"
    assert (segments[:8, :6] == labels.tolist().index(1)).all() and (segments[16:] == -1).all()
    assert (segments[12:16, 20:] == -1).all() and segments[15, 0] == -1
    assert int(read_numbers(task.parts["train"].rows[0].numbers)[8, 8]) == 70000
    assert task.baseline().margin == 0 and task.baseline().what == "one segment 'sky' everywhere"


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        PanopticSegmentation(tmp_path / "none")
    with pytest.raises(DataError, match="needed are panoptic"):
        PanopticSegmentation(tmp_path)
    root = files(tmp_path / "a", extra=1)
    with pytest.raises(DataError, match="holds the number 300, which its annotation does not list"):
        PanopticSegmentation(root).sample("train", torch.tensor([0]))
    (root / "panoptic/3.png").unlink()
    with pytest.raises(DataError, match=r"lists 3.png, and there is no file"):
        PanopticSegmentation(root)
    root = files(tmp_path / "b")
    data = json.loads((root / "panoptic.json").read_text())
    data["annotations"][0]["segments_info"][0]["category_id"] = 77
    (root / "panoptic.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="category_id 77, which is not listed"):
        PanopticSegmentation(root)
    root = files(tmp_path / "c")
    for path in (root / "images").iterdir():
        Image.new("RGB", (9, 9)).save(path)
    with pytest.raises(DataError, match=r"has 9x9 pixels and .* 24x16"):
        PanopticSegmentation(root).sample("train", torch.tensor([0]))
    (root / "panoptic.json").write_text("{}")
    with pytest.raises(DataError, match="has no list 'images'"):
        PanopticSegmentation(root)


def test_predictions_pictures_and_examples():
    task = PanopticSegmentation(samples=8)
    oracle = Oracle(task.sample("test", torch.arange(3)), 4)
    pictures = task.pictures(oracle, "test", 2)
    assert len(pictures) == 2 and pictures[0].pixels.shape == (160, 3 * 160 + 8, 3)
    left, right = np.split(pictures[0].pixels[:, 164:], [162], axis=1)
    assert len(np.unique(left[:, :160].reshape(-1, 3), axis=0)) == len(
        np.unique(right[:, -160:].reshape(-1, 3), axis=0)
    )
    (answer,) = task.predict(oracle, [torch.rand(3, 32, 32)])
    assert sum(s["share"] for s in answer["segments"]) == pytest.approx(1) and len(answer["map"]) == 32
    assert {s["label"] for s in answer["segments"]} <= set(task.categories.names)
    shown = task.examples("valid", 2)
    assert shown[0]["input"].shape == (32, 32, 3) and shown[1]["truth"].dtype == np.uint8


def test_a_step_lowers_the_loss_and_mistakes_are_sentences():
    task = PanopticSegmentation(samples=8)
    torch.manual_seed(0)
    model = create_model("kmax_micro", **task.model_options())
    batch = task.sample("train", torch.arange(8))
    losses = descend(model, lambda: task.loss(model, batch), steps=6)
    assert losses[-1] < losses[0] and task.count(batch) == 8
    assert (batch["labels"] != IGNORE).sum(1).max() <= 5
    with pytest.raises(OptionError, match="label_smoothing"):
        task.loss(model, batch, label_smoothing=0.1)
    with pytest.raises(FitError, match="segmenter does not: take kmax_micro"):
        task.loss(create_model("segmenter_micro"), batch)
    with pytest.raises(OptionError, match="given 8, 2048"):
        PanopticSegmentation(image_size=8)
    with pytest.raises(DataError, match=r"takes images \(3, h, w\)"):
        task.predict(model, [torch.rand(32, 32)])
