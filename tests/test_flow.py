"""The task "flow": its pairs, files, loss and metrics, what it refuses, and that a short training beats no motion."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.flow import field
from anyformer.data.flow_files import read_flo, read_kitti
from anyformer.data.pictures import flow_wheel
from anyformer.data.seeds import sample_seeds
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks import create_task
from anyformer.tasks.flow import end_point_errors, outliers, sequence_loss

SMALL = {"image_size": 16, "reach": 4.0, "samples": 32}


class Constant(torch.nn.Module):
    """Says one motion of every pixel."""

    def __init__(self, right: float = 0.0, down: float = 0.0):
        super().__init__()
        self.motion = torch.tensor([right, down])

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.motion.view(1, 2, 1, 1).expand(len(first), 2, *first.shape[2:])


# -- generated pairs ------------------------------------------------------------------------------------------


def test_samples_depend_on_their_arguments_alone():
    task = create_task("flow", **SMALL)
    whole = task.sample("train", torch.arange(4), seed=3, train=True)
    for name, tensor in task.sample("train", torch.tensor([2]), seed=3, train=True).items():
        torch.testing.assert_close(tensor[0], whole[name][2])
    assert not torch.equal(task.sample("train", torch.arange(4), seed=4, train=True)["flow"], whole["flow"])
    first, second = (task.sample("test", torch.arange(2), seed=s) for s in (0, 1))
    assert all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("motion", ["smooth", "shift"])
def test_the_first_frame_is_the_second_read_where_the_flow_says(motion: str):
    task = create_task("flow", image_size=32, reach=5, motion=motion, samples=32)
    batch = task.sample("train", torch.arange(8), seed=1, train=True)
    first, second, flow = batch["first"], batch["second"], batch["flow"]
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    at_x, at_y = x + flow[:, 0], y + flow[:, 1]
    inside = (at_x >= 0) & (at_x <= 31) & (at_y >= 0) & (at_y <= 31)
    assert inside.float().mean() > 0.6
    x0, y0 = at_x.floor().clamp(0, 30).long(), at_y.floor().clamp(0, 30).long()
    u, v = (at_x - x0)[:, None], (at_y - y0)[:, None]

    def pixel(row, column):
        return second.flatten(2).gather(2, (row * 32 + column).flatten(1)[:, None].expand(-1, 3, -1)).view_as(first)

    top = (1 - u) * pixel(y0, x0) + u * pixel(y0, x0 + 1)
    bottom = (1 - u) * pixel(y0 + 1, x0) + u * pixel(y0 + 1, x0 + 1)
    difference = ((1 - v) * top + v * bottom - first).abs().amax(1)
    assert difference[inside].max() < 1e-3
    assert (first - second).abs().mean() > 0.02


def test_motions_reach_as_far_as_said_and_a_shift_is_the_same_everywhere():
    seeds = sample_seeds(0, torch.arange(512))
    shift, smooth = (field(seeds, 16, 6.0, motion) for motion in ("shift", "smooth"))
    assert float(shift.std((2, 3), correction=0).max()) < 1e-6
    lengths = shift.square().sum(1).sqrt()[:, 0, 0]
    assert 5.9 < float(lengths.max()) <= 6 and abs(float(lengths.mean()) - 3) < 0.3
    assert abs(float(shift.mean())) < 0.3  # in all directions
    assert float(smooth.square().sum(1).sqrt().max()) <= 6 + 1e-4 and float(smooth.std((2, 3)).mean()) > 0.3


def test_options_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="at least 8 and reach above 0"):
        create_task("flow", image_size=4)
    with pytest.raises(OptionError, match="at least 8 and reach above 0 and at most that; given 16 and 20"):
        create_task("flow", image_size=16, reach=20)
    with pytest.raises(OptionError, match="motion is 'smooth' or 'shift'; given 'wild'"):
        create_task("flow", motion="wild")
    with pytest.raises(OptionError, match="the smallest photograph has"):
        create_task("flow", image_size=400)
    with pytest.raises(OptionError, match="at least 8 pairs; given samples=2"):
        create_task("flow", samples=2)
    with pytest.raises(OptionError, match="label_smoothing is for classes"):
        task = create_task("flow", **SMALL)
        task.loss(Constant(), task.sample("train", torch.arange(1)), label_smoothing=0.1)


# -- loss and metrics -----------------------------------------------------------------------------------------


def test_later_estimates_count_more():
    truth = torch.zeros(1, 2, 2, 2)
    flows = torch.stack([torch.full((1, 2, 2, 2), float(k)) for k in (4, 2, 1)], 1)
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    assert float(sequence_loss(flows, truth, valid)) == pytest.approx(0.64 * 4 + 0.8 * 2 + 1)
    assert float(sequence_loss(flows, truth, valid, gamma=0.5)) == pytest.approx(0.25 * 4 + 0.5 * 2 + 1)


def test_unknown_and_endless_motions_do_not_count():
    truth = torch.zeros(1, 2, 2, 2)
    truth[:, 0, 0, 0] = 500.0
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    valid[:, 1, 1] = False
    flows = torch.zeros(1, 1, 2, 2, 2)
    flows[..., 1, 1] = 9.0
    assert float(sequence_loss(flows, truth, valid)) == 0
    flows[..., 0, 1] = 3.0
    assert float(sequence_loss(flows, truth, valid)) == pytest.approx(3 / 2)  # of two pixels that count
    assert float(sequence_loss(flows, truth, torch.zeros_like(valid))) == 0


def test_outliers_are_wrong_by_three_pixels_and_by_a_twentieth():
    truth = torch.tensor([[10.0, 0.0], [100.0, 0.0], [100.0, 0.0], [10.0, 0.0]]).t().view(1, 2, 1, 4)
    flow = truth + torch.tensor([3.5, 4.5, 5.5, 2.5]).view(1, 1, 1, 4) * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    errors = end_point_errors(flow, truth)
    torch.testing.assert_close(errors[0, 0], torch.tensor([3.5, 4.5, 5.5, 2.5]))
    assert outliers(errors, truth)[0, 0].tolist() == [True, False, True, False]


def test_the_error_of_no_motion_is_the_length_of_the_truth():
    task = create_task("flow", motion="shift", **SMALL)
    batch = task.sample("test", torch.arange(task.size("test")))
    expected = float(batch["flow"].square().sum(1).sqrt().mean())
    assert task.evaluate(Constant(), "test", batch_size=3)["epe"] == pytest.approx(expected, rel=1e-5)
    baseline = task.baseline("test")
    assert baseline.value <= expected + 1e-6 and baseline.margin > 0
    assert "motion" in baseline.what


def test_models_that_give_no_flow_are_refused():
    task = create_task("flow", **SMALL)
    batch = task.sample("train", torch.arange(2))
    with pytest.raises(FitError, match="a model of two frames; this one takes 1 input: take raft_micro"):
        task.loss(create_model("swin_micro", in_channels=3, image_size=16), batch)
    with pytest.raises(FitError, match=r"a motion for every pixel, \(2, 2, 16, 16\); this one gives \(2, 3, 16, 16\)"):
        task.loss(type("Sum", (torch.nn.Module,), {"forward": lambda self, a, b: a + b})(), batch)


# -- training, answers, pictures ------------------------------------------------------------------------------


def test_a_short_training_beats_no_motion():
    task = create_task("flow", motion="shift", samples=256)
    config = TrainConfig(budget="100steps", batch_size=16, learning_rate=2e-3, evaluations=1, device="cpu")
    result = train("raft_micro", task, config, progress=False)
    assert result.metrics["epe"] < 0.9 * task.baseline("valid").value


def test_answers_have_the_size_of_the_frames(tmp_path):
    task = create_task("flow", **SMALL)
    for i in (1, 2):
        pixels = np.random.default_rng(i).integers(0, 256, (21, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    model = Constant(2.0, -1.0)
    answers = task.predict(model, [f"{tmp_path / '1.png'},{tmp_path / '2.png'}", (torch.zeros(3, 8, 9),) * 2])
    assert (answers[0]["height"], answers[0]["width"]) == (21, 30) and np.shape(answers[1]["flow"]) == (8, 9, 2)
    assert answers[0]["mean_right"] == 2 and answers[0]["mean_down"] == -1
    with pytest.raises(DataError, match=r"between two frames, as in first\.png,second\.png; given 'one\.png'"):
        task.predict(model, ["one.png"])
    with pytest.raises(DataError, match=r"of one size; given \(3, 8, 9\) and \(3, 8, 8\)"):
        task.predict(model, [(torch.zeros(3, 8, 9), torch.zeros(3, 8, 8))])


def test_pictures_show_frames_and_both_motions():
    task = create_task("flow", **SMALL)
    picture, _ = task.pictures(Constant(), "test", 2)
    factor = 10
    assert picture.pixels.shape == (16 * factor, 4 * 16 * factor + 3 * 4, 3)
    assert bool((picture.pixels[:, -16 * factor :] == 255).all())  # no motion is white
    assert not bool((picture.pixels[:, -32 * factor - 4 : -16 * factor - 4] == 255).all())
    assert task.examples("test", 1)[0]["truth"].shape == (16, 16, 3)


def test_hues_are_directions():
    right, down, left, up = (flow_wheel(np.array(v, dtype=float).reshape(2, 1, 1))[0, 0] for v in
                             ((1, 0), (0, 1), (-1, 0), (0, -1)))  # fmt: skip
    assert right.tolist() == [255, 0, 0] and left[0] < 5 < 190 < left[1] and left[2] == 255
    assert down[0] > 230 and down[1] > 200 and down[2] == 0
    assert up[2] == 255 and up[1] == 0
    half = flow_wheel(np.array([0.5, 0.0]).reshape(2, 1, 1), longest=1.0)[0, 0]
    assert half.tolist() == [255, 128, 128]
    assert flow_wheel(np.array([2.0, 0.0]).reshape(2, 1, 1), longest=1.0)[0, 0].tolist() == [191, 0, 0]
    assert flow_wheel(np.zeros((2, 1, 1))).tolist() == [[[255] * 3]]


# -- files ----------------------------------------------------------------------------------------------------


def write_flo(path: Path, flow: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = flow.shape[1:]
    data = np.ascontiguousarray(flow.transpose(1, 2, 0), dtype="<f4").tobytes()
    path.write_bytes(b"PIEH" + struct.pack("<ii", width, height) + data)


def write_png16(path: Path, values: np.ndarray, row_filter: int) -> None:
    """A PNG of 16 bits a channel, its rows filtered: 0 not at all, 1 less the pixel on the left, 2 less that above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape[:2]
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, width * 6).astype(int)
    before = np.zeros_like(rows)
    if row_filter == 1:
        before[:, 6:] = rows[:, :-6]
    elif row_filter == 2:
        before[1:] = rows[:-1]
    lines = ((rows - before) % 256).astype(np.uint8)
    raw = b"".join(bytes([row_filter]) + line.tobytes() for line in lines)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


def frame(path: Path, size: tuple[int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def some_flow(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (2, height, width)).astype(np.float32)


def chairs(root: Path, count: int = 4, size: tuple[int, int] = (20, 26)) -> Path:
    for i in range(count):
        for k in (1, 2):
            frame(root / f"{i:05d}_img{k}.ppm", size, 10 * i + k)
        write_flo(root / f"{i:05d}_flow.flo", some_flow(*size, i))
    return root


def test_flo_files_come_back_and_unknown_motion_is_not_valid(tmp_path):
    flow = some_flow(5, 7, 0)
    flow[:, 2, 3], flow[0, 4, 6] = 1e10, np.nan
    write_flo(tmp_path / "a.flo", flow)
    found, valid = read_flo(tmp_path / "a.flo")
    expected = np.ones((5, 7), dtype=bool)
    expected[2, 3] = expected[4, 6] = False
    assert np.array_equal(valid.numpy(), expected)
    assert np.array_equal(found.numpy()[:, expected], flow[:, expected]) and not found[:, ~valid].any()


@pytest.mark.parametrize("row_filter", [0, 1, 2])
def test_kitti_s_flow_has_sixteen_bits(tmp_path, row_filter: int):
    values = np.random.default_rng(0).integers(0, 2**16, (9, 11, 3))
    values[..., 2] = np.random.default_rng(1).integers(0, 2, (9, 11))
    write_png16(tmp_path / "a.png", values, row_filter)
    flow, valid = read_kitti(tmp_path / "a.png")
    assert np.array_equal(valid.numpy(), values[..., 2] == 1)
    expected = (values[..., :2].transpose(2, 0, 1) - 2**15) / 64 * (values[..., 2] == 1)
    np.testing.assert_array_equal(flow.numpy(), expected.astype(np.float32))


def test_pairs_side_by_side(tmp_path):
    task = create_task("flow", path=chairs(tmp_path))
    assert {split: task.size(split) for split in ("train", "valid", "test")} == {"train": 2, "valid": 1, "test": 1}
    assert task.model_options() == {"in_channels": 3, "image_size": 16} and task.baseline("test").margin == 0
    batch = task.sample("train", torch.arange(2), seed=0, train=True)
    assert batch["first"].shape == (2, 3, 16, 16) and batch["flow"].shape == (2, 2, 16, 16)
    whole = task.sample("test", torch.arange(1))
    assert whole["first"].shape == (1, 3, 24, 32)
    valid = whole["valid"][0]
    assert valid[:20, :26].all() and int(valid.sum()) == 20 * 26
    torch.testing.assert_close(whole["first"][0, :, 20:, :26], whole["first"][0, :, 19:20, :26].expand(-1, 4, -1))
    assert task.evaluate(Constant(), "test")["epe"] == pytest.approx(
        float(whole["flow"].square().sum(1).sqrt()[0, :20, :26].mean()), rel=1e-5
    )


def test_squares_are_cut_and_mirrored_together(tmp_path):
    """Frames whose pixels say the motion, so that what belongs together can be told."""
    for i in range(4):
        flow = np.stack([np.tile(np.arange(24.0), (20, 1)), np.tile(np.arange(20.0)[:, None], (1, 24))]) + i
        write_flo(tmp_path / f"{i}_flow.flo", flow)
        pixels = np.concatenate([flow, np.zeros((1, 20, 24))]).transpose(1, 2, 0).astype(np.uint8)
        for k in (1, 2):
            Image.fromarray(pixels).save(tmp_path / f"{i}_img{k}.png")
    task = create_task("flow", path=tmp_path, image_size=8)
    turns = set()
    for seed in range(8):
        batch = task.sample("train", torch.arange(2), seed=seed, train=True)
        bytes_of = ((batch["first"] + 1) * 127.5).round()
        assert torch.equal(batch["first"], batch["second"])
        assert torch.equal(batch["flow"].abs(), bytes_of[:, :2]) and bool((batch["flow"][:, 1] >= 0).all())
        for one in batch["flow"][:, 0]:
            mirrored = bool((one <= 0).all())
            turns.add(mirrored)
            assert bool((one.diff(dim=1) == 1).all()), "motion to the right grows to the right, mirrored or not"
    assert turns == {True, False}


def test_kitti_s_layout(tmp_path):
    for i in range(3):
        size = (16 + i, 24)  # its frames differ by a few pixels
        for k in (10, 11):
            frame(tmp_path / "training" / "image_2" / f"{i:06d}_{k}.png", size, 10 * i + k)
        values = np.full((*size, 3), 2**15 + 64 * (i + 1))
        values[..., 2] = np.arange(24) % 2
        write_png16(tmp_path / "training" / "flow_occ" / f"{i:06d}_10.png", values, 1)
    frame(tmp_path / "testing" / "image_2" / "000000_10.png", (16, 24), 1)
    task = create_task("flow", path=tmp_path)
    assert [task.size(s) for s in ("train", "valid", "test")] == [1, 1, 1]
    batch = task.sample("test", torch.arange(1))
    assert int(batch["valid"].sum()) % 12 == 0
    assert float(batch["flow"].max()) in (1, 2, 3) and not batch["flow"][0, :, ~batch["valid"][0]].any()


def test_sintel_s_layout_keeps_scenes_together(tmp_path):
    for s, scene in enumerate(("alley", "bamboo", "cave")):
        for n in range(1, 4):
            frame(tmp_path / "training" / "clean" / scene / f"frame_{n:04d}.png", (16, 16), 10 * s + n)
        for n in (1, 2):
            write_flo(tmp_path / "training" / "flow" / scene / f"frame_{n:04d}.flo", some_flow(16, 16, 10 * s + n))
    parts = create_task("flow", path=tmp_path).pairs.parts
    scenes = [{pair.scene for pair in part} for part in parts.values()]
    assert sorted(len(part) for part in parts.values()) == [2, 2, 2] and len(set.union(*scenes)) == 3
    assert all(int(p.second.stem[-4:]) == int(p.first.stem[-4:]) + 1 for part in parts.values() for p in part)


def test_middlebury_s_layout_and_parts_that_are_given(tmp_path):
    for split in ("train", "val", "test"):
        for scene in ("Venus", "Dimetrodon"):
            for k in (10, 11):
                frame(tmp_path / split / "other-data" / scene / f"frame{k}.png", (16, 16), k)
            write_flo(tmp_path / split / "other-gt-flow" / scene / "flow10.flo", some_flow(16, 16, 1))
    task = create_task("flow", path=tmp_path)
    assert [task.size(s) for s in ("train", "valid", "test")] == [2, 2, 2]


def test_files_train(tmp_path):
    config = TrainConfig(budget="1steps", batch_size=2, evaluations=1, device="cpu")
    result = train("raft_micro", create_task("flow", path=chairs(tmp_path)), config, progress=False)
    assert {"epe", "f1_all", "loss"} <= set(result.metrics)


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        create_task("flow", path=tmp_path / "none")
    with pytest.raises(DataError, match="holds no pairs to train on: it takes the layout of KITTI"):
        create_task("flow", path=tmp_path)
    root = chairs(tmp_path / "a")
    with pytest.raises(DataError, match="give an image_size of 8 to 20"):
        create_task("flow", path=root, image_size=64)
    (root / "00001_img2.ppm").unlink()
    with pytest.raises(DataError, match=r"00001_flow\.flo is between two frames, but there is no file .*00001_img2"):
        create_task("flow", path=root)
    frame(root / "00001_img2.png", (20, 25), 0)
    task = create_task("flow", path=root)
    with pytest.raises(DataError, match=r"00001_img2\.png has 25x20 pixels and its first frame .* 26x20"):
        for split in ("train", "valid", "test"):
            task.sample(split, torch.arange(task.size(split)))
    with pytest.raises(DataError, match="leaves no samples for the train part"):
        create_task("flow", path=chairs(tmp_path / "b", 2))
    with pytest.raises(DataError, match=r"is no \.flo file: those begin with the number 202021\.25"):
        (tmp_path / "x.flo").write_bytes(b"something else")
        read_flo(tmp_path / "x.flo")
    with pytest.raises(DataError, match="7x5 pixels, which takes 292 bytes; it has 284"):
        write_flo(tmp_path / "y.flo", some_flow(5, 7, 0))
        (tmp_path / "y.flo").write_bytes((tmp_path / "y.flo").read_bytes()[:-8])
        read_flo(tmp_path / "y.flo")
    with pytest.raises(
        DataError, match=r"is no flow of KITTI: that is a PNG with three channels of 16 bits; this is PNG"
    ):
        frame(tmp_path / "8.png", (4, 4), 0)
        read_kitti(tmp_path / "8.png")
    with pytest.raises(DataError, match="there is no flow"):
        read_kitti(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read"):
        (tmp_path / "bad.png").write_bytes(b"no image")
        read_kitti(tmp_path / "bad.png")
