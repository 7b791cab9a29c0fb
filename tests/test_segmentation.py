"""The segmentation tasks: what they generate, read, measure and refuse; a short training beats the baseline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_jaccard_index

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.data.segmentation import VOID, HeldMasks, aerial, outline, read_masked, shapes, spheres
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks import create_task
from anyformer.tasks.metrics import counts, iou, means
from anyformer.tasks.segmentation import SemanticSegmentation
from anyformer.tasks.task import IGNORE


class Told(torch.nn.Module):
    """Gives scores that were made before."""

    def __init__(self, scores: torch.Tensor):
        super().__init__()
        self.scores = scores

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scores[: len(images)]


def files(root, *, count=8, size=(40, 24), classes=3, mode="L"):
    """A folder of random images and masks."""
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        numbers = generator.integers(0, classes, (size[1], size[0]), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        Image.fromarray(numbers).convert(mode).save(root / "masks" / f"{i}.png")
    return root


def small(count: int = 12, size: int = 16) -> SemanticSegmentation:
    parts = {split: HeldMasks(*shapes(count, size, seed)) for seed, split in enumerate(("train", "valid", "test"))}
    return SemanticSegmentation(parts, ("ground", "disc", "square", "triangle"), (3, size, size))


def test_generated_sets_are_the_same_every_time_and_hold_every_class():
    for make, classes in ((shapes, 4), (aerial, 3)):
        images, masks = make(20, 32, 0)
        again, _ = make(20, 32, 0)
        assert torch.equal(images, again) and not torch.equal(images, make(20, 32, 1)[0])
        assert images.shape == (20, 3, 32, 32) and images.min() >= 0 and images.max() <= 1
        assert masks.unique().tolist() == list(range(classes))
    volumes, masks = spheres(3, 16, 0)
    assert volumes.shape == (3, 1, 16, 16, 16) and masks.unique().tolist() == [0, 1, 2]
    assert 0.4 < float(volumes[:, 0][masks == 1].mean()) < 0.8 < float(volumes[:, 0][masks == 2].mean())


@pytest.mark.parametrize(("kind", "area"), [(1, np.pi), (2, 2.0), (3, 3 * np.sqrt(3) / 4)])
def test_outlines_have_the_area_of_their_shape(kind: int, area: float):
    inside = outline(kind, 200, 100.0, 100.0, 60.0, 0.7)
    assert inside.sum() == pytest.approx(area * 60**2, rel=0.02)


def test_iou_and_dice_are_torchmetrics():
    torch.manual_seed(0)
    truth, guess = torch.randint(0, 4, (3, 16, 16)), torch.randint(0, 4, (3, 16, 16))
    table = counts(truth, guess, 4)
    expected = multiclass_jaccard_index(guess, truth, 4, average=None)
    torch.testing.assert_close(iou(table).float(), expected)
    assert means(table)["miou"] == pytest.approx(float(expected.mean()))
    assert means(table)["dice"] == pytest.approx(float(multiclass_f1_score(guess, truth, 4, average="macro")))


def test_classes_that_are_nowhere_are_left_out_of_the_mean():
    truth = torch.tensor([0, 0, 1, 1])
    assert means(counts(truth, truth, 5)) == {"miou": 1.0, "dice": 1.0}
    assert means(counts(torch.full((4,), IGNORE), truth, 5)) == {"miou": 0.0, "dice": 0.0}


def test_pixels_of_no_class_count_nowhere():
    task = small()
    task.parts["valid"].masks[:, :8] = VOID
    batch = task.sample("valid", torch.arange(12))
    assert bool((batch["masks"][:, :8] == IGNORE).all()) and task.count(batch) == 12 * 8 * 16
    right = torch.nn.functional.one_hot(batch["masks"].clamp(min=0), 4).movedim(-1, 1).float() * 50
    wrong = right.clone()
    wrong[:, :, :8] = wrong[:, :, :8].flip(1)
    result = task.evaluate(Told(wrong), "valid")
    assert result["miou"] == 1.0 and result["accuracy"] == 1.0 and result["loss"] < 1e-6
    assert float(task.loss(Told(wrong), batch)) < 1e-6
    nothing = {**batch, "masks": torch.full_like(batch["masks"], IGNORE)}
    assert float(task.loss(Told(wrong), nothing)) == 0.0


def test_the_baseline_is_the_most_frequent_class_everywhere():
    task = small()
    baseline = task.baseline("valid")
    ground = torch.zeros(12, 4, 16, 16)
    ground[:, 0] = 1
    assert baseline.what == "'ground' everywhere"
    assert task.evaluate(Told(ground), "valid")["miou"] == pytest.approx(baseline.value)


def test_mirrored_images_keep_their_masks():
    task = small()
    plain = task.sample("train", torch.arange(12))
    mixed = task.sample("train", torch.arange(12), seed=5, train=True)
    turned = 0
    for i in range(12):
        same = torch.equal(mixed["images"][i], plain["images"][i])
        turned += not same
        flipped = {name: tensor[i] if same else tensor[i].flip(-1) for name, tensor in plain.items()}
        assert all(torch.equal(mixed[name][i], flipped[name]) for name in flipped)
    assert 0 < turned < 12


def test_files_are_cut_into_squares_that_cover_every_pixel_once(tmp_path):
    parts = read_masked(files(tmp_path), 3, 16)
    part = parts["train"]
    assert {s: len(p.paths) for s, p in parts.items()} == {"train": 6, "valid": 1, "test": 1}
    assert len(part) == 6 * 3 * 2  # 40 by 24 pixels
    images, masks = part.read(torch.arange(len(part)))
    assert images.shape == (36, 3, 16, 16) and int((masks != VOID).sum()) == 6 * 40 * 24
    seeds = torch.arange(36)
    placed, where = part.read(torch.arange(36), seeds)
    assert not torch.equal(placed, images) and bool((where != VOID).all())
    assert torch.equal(placed, part.read(torch.arange(36), seeds)[0])


def test_a_folder_trains_predicts_and_is_drawn(tmp_path):
    root = files(tmp_path, mode="P")
    task = create_task(f"segmentation:{root}", image_size=16)
    assert task.classes == ("0", "1", "2") and task.model_options()["num_classes"] == 3
    config = TrainConfig(budget="2steps", batch_size=4, evaluations=1, device="cpu")
    result = train("segmenter_micro", task, config, progress=False)
    assert {"miou", "dice", "accuracy", "loss"} <= set(result.metrics)
    (picture,) = task.pictures(result.model, "test", 1)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape[0] == 160
    (answer,) = task.predict(result.model, [root / "images" / "0.png"])
    assert answer["size"] == [24, 40] and len(answer["mask"]) == 24
    assert sum(answer["classes"].values()) == pytest.approx(1.0)
    assert task.examples("test", 1)[0]["truth"].shape == (16, 16, 3)


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        create_task("segmentation", path=tmp_path / "none")
    with pytest.raises(DataError, match=r"needs a folder of images .* it holds no folders"):
        create_task("segmentation", path=tmp_path)
    root = files(tmp_path / "a")
    (root / "masks" / "3.png").unlink()
    with pytest.raises(DataError, match="'3' is in one of images and masks only"):
        create_task("segmentation", path=root)
    root = files(tmp_path / "b")
    Image.new("L", (10, 10)).save(root / "masks" / "2.png")
    with pytest.raises(DataError, match=r"2.png has 40x24 pixels and its mask 10x10"):
        create_task("segmentation", path=root)
    root = files(tmp_path / "c", mode="RGB")
    with pytest.raises(DataError, match=r"0.png has the mode RGB; a mask holds one number"):
        create_task("segmentation", path=root)
    root = files(tmp_path / "d", classes=4)
    with pytest.raises(
        DataError, match=r"holds the number 3; with 2 classes \(land, sea\) numbers are 0 to 1, and 255"
    ):
        create_task("segmentation", path=root, classes=["land", "sea"])
    root = files(tmp_path / "e")
    (root / "masks" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"the mask .*1.png cannot be read"):
        create_task("segmentation", path=root)


def test_misuse_is_a_sentence():
    with pytest.raises(OptionError, match="at least 8 pixels; given 4"):
        create_task("segmentation", image_size=4)
    with pytest.raises(OptionError, match="give path= for other classes"):
        create_task("segmentation", classes=["a", "b"])
    with pytest.raises(OptionError, match="side of at least 16"):
        create_task("volume_segmentation", side=8)
    task = small()
    with pytest.raises(OptionError, match=r"score for every class and pixel, \(4, 16, 16\); this one gives \(4,\)"):
        task.loss(create_model("vit_micro", image_size=16, num_classes=4), task.sample("train", torch.arange(2)))
    with pytest.raises(DataError, match=r"takes \(3, h, w\); given \(1, 16, 16\)"):
        task.prepare(torch.zeros(1, 16, 16))


def test_volumes_train_and_their_middle_is_drawn():
    task = create_task("volume_segmentation", samples=8)
    config = TrainConfig(budget="1steps", batch_size=2, evaluations=1, device="cpu")
    result = train(task.default_model, task, config, progress=False)
    assert task.model_options()["image_size"] == (16, 16, 16)
    (picture,) = task.pictures(result.model, "test", 1)
    assert picture.pixels.shape == (160, 3 * 160 + 8, 3)
    with pytest.raises(DataError, match="takes volumes as tensors"):
        task.predict(result.model, ["brain.nii"])


def test_a_short_training_beats_the_baseline():
    parts = {split: HeldMasks(*shapes(n, 32, seed)) for seed, (split, n) in enumerate((("train", 512), ("valid", 64)))}
    parts["test"] = parts["valid"]
    task = SemanticSegmentation(parts, ("ground", "disc", "square", "triangle"), (3, 32, 32), (0.449, 0.226))
    config = TrainConfig(budget="40steps", batch_size=16, learning_rate=3e-3, evaluations=1, device="cpu")
    torch.manual_seed(0)
    result = train("segmenter_micro", task, config, progress=False)
    assert result.metrics["miou"] > task.baseline().value + 0.05
