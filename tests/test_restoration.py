"""The task "restoration": what it degrades, measures and refuses, and that a short training beats doing nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.data.restoration import PHOTOGRAPHS, blur, degradation, photographs, read_images, turned
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks import create_task
from anyformer.tasks.restoration import charbonnier, psnr, ssim

SIZES = {"image_size": 16, "measured_size": 16, "samples": 32}


class Same(torch.nn.Module):
    """Gives the image that it gets."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def folder(root, *, sizes=((24, 20),) * 4, name="clean"):
    generator = np.random.default_rng(0)
    (root / name).mkdir(parents=True)
    for i, (width, height) in enumerate(sizes):
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def test_photographs_are_whole_in_one_part():
    names = [n for split in PHOTOGRAPHS.values() for n in split]
    assert len(names) == len(set(names))
    parts = photographs()
    assert all(image.dtype == torch.uint8 and image.shape[0] == 3 for part in parts.values() for image in part.clean)


def test_samples_depend_on_their_arguments_alone():
    task = create_task("restoration", **SIZES)
    whole = task.sample("train", torch.arange(4), seed=3, train=True)
    for name, tensor in task.sample("train", torch.tensor([2]), seed=3, train=True).items():
        assert torch.equal(tensor[0], whole[name][2])
    other = task.sample("train", torch.arange(4), seed=4, train=True)
    assert not torch.equal(other["clean"], whole["clean"])
    first, second = (task.sample("test", torch.arange(2), seed=s) for s in (0, 1))
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_noise_has_its_deviation_and_a_blur_keeps_flat_images():
    clean = torch.full((4, 3, 64, 64), 0.5)
    seeds = torch.arange(4)
    noisy = degradation("denoise", 25.0).spoil(clean, seeds)
    assert abs(float((noisy - clean).std()) * 255 - 25) < 0.3 and abs(float((noisy - clean).mean())) < 1e-3
    torch.testing.assert_close(blur(clean, 1.5), clean)
    spot = torch.zeros(1, 1, 21, 21)
    spot[..., 10, 10] = 1
    spread = blur(spot, 1.5)[0, 0]
    assert abs(float(spread.sum()) - 1) < 1e-5
    assert abs(float((spread.sum(0) * (torch.arange(21) - 10) ** 2).sum()) - 1.5**2) < 0.15


def test_the_eight_turns_differ_and_keep_a_pair_together():
    image = torch.arange(9.0).view(1, 3, 3)
    assert len({tuple(turned(image, how).flatten().tolist()) for how in range(8)}) == 8


def test_the_metric_is_scikit_images():
    clean, other = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    expected = np.mean(
        [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1.0) for a, b in zip(clean, other, strict=True)]
    )
    assert psnr(other, clean) == pytest.approx(float(expected), abs=1e-4)
    assert ssim(clean, clean) == pytest.approx(1.0) and ssim(other, clean) < 0.5


def test_the_loss_is_smooth_at_zero():
    x = torch.zeros(3, requires_grad=True)
    loss = charbonnier(x, torch.zeros(3))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1e-3) and torch.equal(x.grad, torch.zeros(3))
    assert float(charbonnier(torch.full((3,), 0.5), torch.zeros(3))) == pytest.approx(0.5, abs=1e-5)


def test_doing_nothing_is_the_baseline():
    task = create_task("restoration", **SIZES)
    baseline = task.baseline("test")
    assert task.evaluate(Same(), "test")["psnr"] == pytest.approx(baseline.value, abs=1e-3)
    assert 20 < baseline.value < 21.5 and baseline.margin == 3.0
    assert baseline.value == pytest.approx(-20 * math.log10(25 / 255), abs=1.0)


@pytest.mark.parametrize("kind", ["deblur", "enlarged_x2", "superresolution_x2", "superresolution_x4"])
def test_every_degradation_trains_a_model_that_suits_it(kind: str):
    task = create_task("restoration", degradation=kind, **SIZES)
    name = "drct_micro" if kind.startswith("super") else "uformer_micro"
    config = TrainConfig(budget="1steps", batch_size=4, evaluations=1, device="cpu")
    result = train(name, task, config, progress=False)
    assert {"psnr", "ssim", "loss"} <= set(result.metrics)
    assert result.metrics["psnr"] > 5
    pictures = task.pictures(result.model, "test", 1)
    assert len(pictures) == 1 and pictures[0].pixels.shape[2] == 3


def test_enlarging_by_bicubic_is_the_baseline_of_super_resolution():
    task = create_task("restoration", degradation="superresolution_x2", **SIZES)
    batch = task.sample("test", torch.arange(2))
    assert batch["degraded"].shape == (2, 3, 8, 8) and batch["clean"].shape == (2, 3, 16, 16)
    assert task.baseline("test").what == "bicubic enlargement" and task.baseline("test").value > 20
    assert task.model_options()["scale"] == 2 and task.model_options()["image_size"] == 8


def test_a_short_training_beats_doing_nothing():
    task = create_task("restoration", measured_size=16, samples=256)
    config = TrainConfig(budget="60steps", batch_size=16, learning_rate=3e-3, evaluations=1, device="cpu")
    result = train("uformer_micro", task, config, progress=False)
    assert result.metrics["psnr"] > task.baseline("valid").value + 1.0


def test_clean_folders_and_pairs(tmp_path):
    clean = create_task("restoration", path=folder(tmp_path / "a") / "clean", **SIZES)
    assert [len(clean.parts[s].names) for s in ("train", "valid", "test")] == [2, 1, 1]
    pairs = folder(folder(tmp_path / "b"), sizes=((12, 10),) * 4, name="degraded")
    task = create_task("restoration", path=pairs, **SIZES)
    batch = task.sample("train", torch.arange(3), seed=1, train=True)
    assert batch["degraded"].shape == (3, 3, 8, 8) and batch["clean"].shape == (3, 3, 16, 16)
    assert task.model_options()["scale"] == 2


def test_pairs_are_cut_out_at_the_same_place(tmp_path):
    folder(tmp_path)
    (tmp_path / "noisy").mkdir()
    for file in (tmp_path / "clean").iterdir():
        Image.fromarray(255 - np.array(Image.open(file))).save(tmp_path / "noisy" / file.name)
    task = create_task("restoration", path=tmp_path, **SIZES)
    batch = task.sample("train", torch.arange(8), seed=1, train=True)
    torch.testing.assert_close(batch["degraded"], 1 - batch["clean"])


def test_parts_that_a_folder_names_are_kept(tmp_path):
    for split in ("train", "val", "test"):
        folder(tmp_path / split, sizes=((20, 20),) * 2)
        for file in (tmp_path / split / "clean").iterdir():
            file.rename(tmp_path / split / f"{split}-{file.name}")
        (tmp_path / split / "clean").rmdir()
    parts = read_images(tmp_path, 3)
    assert parts["valid"].names == ("val-0.png", "val-1.png") and len(parts["train"].names) == 2


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        read_images(tmp_path / "none", 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        read_images(tmp_path / "empty", 3)
    with pytest.raises(DataError, match="leaves no samples for the train part"):
        read_images(folder(tmp_path / "few", sizes=((20, 20),) * 2) / "clean", 3)
    alone = folder(folder(tmp_path / "alone"), sizes=((24, 20),) * 5, name="degraded")
    with pytest.raises(DataError, match="'4' is in one of clean and degraded only"):
        read_images(alone, 3)
    odd = folder(folder(tmp_path / "odd"), sizes=((24, 20),) * 3 + ((23, 20),), name="degraded")
    with pytest.raises(DataError, match=r"3\.png has 24x20 pixels and the degraded one 23x20"):
        read_images(odd, 3)
    with pytest.raises(DataError, match="no folder 'clean' beside"):
        read_images(folder(tmp_path / "half", name="noisy"), 3)
    broken = folder(tmp_path / "broken")
    (broken / "clean" / "1.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        read_images(broken, 3)
    small = folder(tmp_path / "small", sizes=((24, 20),) * 3 + ((12, 20),)) / "clean"
    with pytest.raises(DataError, match="12x20 pixels and squares of 16"):
        create_task("restoration", path=small, **SIZES)


def test_options_that_cannot_be_are_named():
    with pytest.raises(OptionError, match="no degradation 'denoised'; did you mean 'denoise'"):
        create_task("restoration", degradation="denoised")
    with pytest.raises(OptionError, match="0 or more; given -1"):
        create_task("restoration", sigma=-1.0)
    with pytest.raises(OptionError, match="multiple of the scale 4; given 18"):
        create_task("restoration", degradation="superresolution_x4", image_size=18, measured_size=16)
    with pytest.raises(OptionError, match="at least 16 squares; given samples=2"):
        create_task("restoration", samples=2)
    task = create_task("restoration", **SIZES)
    batch = task.sample("train", torch.arange(2))
    with pytest.raises(OptionError, match="an image for an image"):
        task.loss(create_model("swin_micro", **task.model_options()), batch)
    with pytest.raises(OptionError, match="label_smoothing is for classes"):
        task.loss(Same(), batch, label_smoothing=0.1)
    with pytest.raises(DataError, match=r"takes images \(3, h, w\); given \(1, 8, 8\)"):
        task.predict(Same(), [torch.rand(1, 8, 8)])


def test_predicting_restores_files_of_any_size(tmp_path):
    file = folder(tmp_path, sizes=((24, 20),)) / "clean" / "0.png"
    task = create_task("restoration", **SIZES)
    (answer,) = task.predict(create_model("uformer_micro").eval(), [file])
    assert (answer["input"], answer["height"], answer["width"]) == (str(file), 20, 24)
    assert np.array(answer["pixels"]).shape == (20, 24, 3)
