"""The task of clouds: generated scenes, the files that people have, baseline, pictures, and wrong files by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.data.pointclouds import CLASSES, Cloud, cropped, read_clouds, read_labels, read_points, street
from anyformer.tasks import create_task
from anyformer.tasks.pointclouds import PointClouds
from anyformer.tasks.task import IGNORE
from descent import descend


@pytest.fixture(scope="module")
def task() -> PointClouds:
    return create_task("pointclouds", points=64)  # type: ignore[return-value]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten KITTI scans of 50 points with SemanticKITTI's labels: 0 for none, 40, and 81 with an instance number."""
    random = np.random.RandomState(0)
    for name in ("velodyne", "labels"):
        (tmp_path / name).mkdir()
    for i in range(10):
        points = random.uniform(-20, 20, (50, 4)).astype("<f4")
        labels = np.where(points[:, 2] > 5, (7 << 16) + 81, 40).astype("<u4")
        labels[:3] = 0
        points.tofile(tmp_path / "velodyne" / f"{i:06d}.bin")
        labels.tofile(tmp_path / "labels" / f"{i:06d}.label")
    return tmp_path


def test_scenes_are_what_their_seed_says_and_hold_every_class():
    first, again, other = street(500, 3), street(500, 3), street(500, 4)
    assert np.array_equal(first.points, again.points) and not np.array_equal(first.points, other.points)
    assert first.points.shape == (500, 4) and np.abs(first.points[:, :2]).max() < 16
    share = np.bincount(np.concatenate([street(500, i).labels for i in range(20)]), minlength=4) / 10_000
    assert share.min() > 0.05 and share.max() < 0.6 and len(CLASSES) == 4


def test_samples_depend_on_their_arguments_alone_and_augmenting_keeps_the_scene(task):
    indices = torch.arange(6)
    plain, first, again = (
        task.sample("train", indices),
        task.sample("train", indices, seed=5, train=True),
        task.sample("train", indices, seed=5, train=True),
    )
    assert torch.equal(first["points"], again["points"]) and not torch.equal(first["points"], plain["points"])
    assert torch.equal(first["labels"], plain["labels"]) and torch.equal(
        first["points"][..., 2:], plain["points"][..., 2:]
    )
    radius = [b["points"][..., :2].norm(dim=-1) for b in (plain, first)]
    torch.testing.assert_close(*radius)
    alone = task.sample("train", indices[2:3], seed=5, train=True)
    assert torch.equal(alone["points"][0], first["points"][2])


def test_a_model_is_measured_by_point(task):
    class Oracle(torch.nn.Module):
        def forward(self, points, valid):
            held = task.held["valid"]
            labels = held["labels"][: len(points)] if len(points) == len(held["labels"]) else None
            rows = [int((held["points"] == p).all(-1).all(-1).nonzero()[0]) for p in points] if labels is None else None
            labels = held["labels"][rows] if labels is None else labels
            return torch.nn.functional.one_hot(labels.clamp(min=0), 4).float() * 50

    found = task.evaluate(Oracle(), "valid")
    assert found["miou"] == pytest.approx(1) and found["accuracy"] == pytest.approx(1) and found["loss"] < 1e-6
    assert found["classes"]["car"]["iou"] == pytest.approx(1)
    assert sum(map(sum, found["confusion"])) == 64 * task.size("valid")


def test_the_baseline_knows_heights(task):
    baseline = task.baseline("test")
    assert 0.2 < baseline.value < 0.45 and baseline.margin == 0.2 and "height" in baseline.what


def test_pictures_show_truth_and_guess(task):
    torch.manual_seed(0)
    model = create_model("flatformer_micro", **task.model_options())
    (picture,) = task.pictures(model, n=1)
    assert picture.caption.startswith("height, truth, guess") and picture.pixels.shape == (192, 3 * 192 + 8, 3)
    _, truth, guess = (picture.pixels[:, i * 196 : i * 196 + 192] for i in range(3))
    assert (truth.any(-1) == guess.any(-1)).all() and (truth != guess).any()
    assert len(task.examples("test", 2)) == 2


def test_a_step_lowers_the_loss(task):
    torch.manual_seed(0)
    model = create_model("flatformer_micro", **task.model_options())
    batch = task.sample("train", torch.arange(16))
    losses = descend(model, lambda: task.loss(model, batch), steps=15)
    assert losses[-1] < 0.7 * losses[0] and task.count(batch) == 16 * 64


def test_kitti_scans_are_read_cropped_and_predicted(folder: Path):
    task = create_task(f"pointclouds:{folder}", extent=16.0, cell=2.0, points=40)
    assert task.classes == ("40", "81") and sum(task.size(s) for s in ("train", "valid", "test")) == 10
    batch = task.sample("train", torch.arange(2))
    assert batch["points"].shape[1] <= 40 and batch["points"][batch["valid"]][:, :2].abs().max() <= 16
    assert set(batch["labels"].unique().tolist()) <= {IGNORE, 0, 1}
    model = create_model("flatformer_micro", **task.model_options())
    path = folder / "velodyne" / "000003.bin"
    (answer,) = task.predict(model, [path])
    points = read_points(path)
    outside = np.abs(points[:, :2]).max(1) >= 16
    assert [label is None for label in answer["labels"]] == outside.tolist() and outside.any()
    assert task.evaluate(model, "test")["loss"] > 0
    named = create_task(f"pointclouds:{folder}", classes=["road", "sign"])
    assert named.classes == ("road", "sign")
    with pytest.raises(OptionError, match=r"2 classes \(40, 81\); given 3 names"):
        create_task(f"pointclouds:{folder}", classes=["a", "b", "c"])


def test_arrays_of_numpy_in_parts_are_read(tmp_path: Path):
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for name in ("clouds", "labels"):
            (tmp_path / split / name).mkdir(parents=True)
        for i in range(count):
            np.save(tmp_path / split / "clouds" / f"{i}.npy", np.random.RandomState(i).rand(20, 5))
            np.save(tmp_path / split / "labels" / f"{i}.npy", np.arange(20) % 3)
    parts, classes = read_clouds(tmp_path)
    assert {k: len(v) for k, v in parts.items()} == {"train": 3, "valid": 1, "test": 2} and classes == ("0", "1", "2")
    assert parts["train"][0].points.shape == (20, 5) and parts["train"][0].points.dtype == np.float32


def test_cropping_keeps_the_lower_border_and_not_the_upper():
    points = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 9], [0, 0.5, 0]], np.float32)
    assert cropped(Cloud(points, np.arange(4)), (-1, -1, 0, 1, 1, 1)).labels.tolist() == [0, 2, 3]


def test_wrong_files_are_named(folder: Path):
    scan, label = folder / "velodyne" / "000000.bin", folder / "labels" / "000000.label"
    whole = scan.read_bytes()
    scan.write_bytes(whole[:-3])
    with pytest.raises(DataError, match=r"000000.bin has 797 bytes.*4 float32"):
        read_clouds(folder)
    broken = np.frombuffer(whole, "<f4").copy()
    broken[5] = np.nan
    scan.write_bytes(broken.tobytes())
    with pytest.raises(DataError, match=r"000000.bin: 1 of 50 points hold values that are no finite numbers"):
        read_clouds(folder)
    scan.write_bytes(whole)
    label.write_bytes(label.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"000000.label has 49 labels, and its cloud 50 points"):
        read_clouds(folder)
    label.unlink()
    with pytest.raises(DataError, match=r"000000.bin has no labels: .*000000.label does not exist"):
        read_clouds(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", np.zeros((4, 2)), r"a.npy holds float64 of shape \(4, 2\); a cloud is a matrix"),
        ("a.npy", np.zeros((0, 4)), r"a.npy holds float64 of shape \(0, 4\)"),
        ("a.npy", b"no array", r"a.npy is no .npy file"),
        ("a.bin", b"", r"a.bin has 0 bytes"),
        ("a.pcd", b"", r"a.pcd: clouds are .bin files \(KITTI\) or .npy"),
    ],
)
def test_files_that_are_no_clouds_are_named(tmp_path: Path, name: str, content, message: str):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        read_points(tmp_path / name)


def test_labels_that_are_none_are_named(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros(4))
    with pytest.raises(DataError, match=r"a.npy holds float64 of shape \(4,\); labels are one whole number"):
        read_labels(tmp_path / "a.npy", 4)
    with pytest.raises(DataError, match="is no folder"):
        read_clouds(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no folder clouds"):
        read_clouds(tmp_path)


def test_options_and_inputs_that_make_no_sense_are_refused(task, folder: Path):
    with pytest.raises(OptionError, match=r"given extent=16, cell=0"):
        PointClouds(cell=0.0)
    with pytest.raises(OptionError, match="classes of their own"):
        PointClouds(classes=["a", "b"])
    with pytest.raises(DataError, match=r"no point within 0.01 m"):
        create_task(f"pointclouds:{folder}", extent=0.01, cell=0.01)
    model = create_model("flatformer_micro", **task.model_options())
    with pytest.raises(DataError, match=r"takes clouds \(points, 4\); given \(3, 2\)"):
        task.predict(model, [np.zeros((3, 2))])
    with pytest.raises(OptionError, match=r"a score for every class, \(64, 4\); this one gives \(64, 3\)"):
        task.loss(create_model("flatformer_micro", num_classes=3), task.sample("train", torch.arange(1)))
