"""The task "generation": what it samples, loses, measures, draws and refuses, and that a short training learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks import create_task
from anyformer.tasks.generation import gaussian

SMALL = {"steps": 5, "samples": 128}


@pytest.fixture(scope="module")
def noise_task():
    return create_task("generation", learns="noise", **SMALL)


@pytest.fixture(scope="module")
def velocity_task():
    return create_task("generation", **SMALL)


class Zero(nn.Module):
    """Tells nothing."""

    def __init__(self, channels: int = 1):
        super().__init__()
        self.channels = channels

    def forward(self, x, t, labels):
        return x.new_zeros(len(x), self.channels, *x.shape[2:])


def test_samples_depend_on_their_arguments_alone(noise_task):
    whole = noise_task.sample("train", torch.arange(6), seed=3, train=True)
    for name, tensor in noise_task.sample("train", torch.tensor([4]), seed=3, train=True).items():
        assert torch.equal(tensor[0], whole[name][4]), name
    other = noise_task.sample("train", torch.arange(6), seed=4, train=True)
    assert torch.equal(other["images"], whole["images"]) and not torch.equal(other["noise"], whole["noise"])
    first, second = (noise_task.sample("test", torch.arange(4), seed=s) for s in (0, 1))
    assert all(torch.equal(first[n], second[n]) for n in first)
    images, noise, time = (noise_task.sample("train", torch.arange(128))[n] for n in ("images", "noise", "time"))
    assert float(images.min()) >= -1 and float(images.max()) <= 1 and float(images.max()) > 0.9
    assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05
    assert float(time.min()) >= 0 and float(time.max()) < 1 and float(time.std()) > 0.2


def test_telling_nothing_costs_the_square_of_what_is_to_be_told(noise_task, velocity_task):
    batch = noise_task.sample("valid", torch.arange(64))
    assert float(noise_task.loss(Zero(), batch)) == pytest.approx(float(batch["noise"].square().mean()), rel=1e-5)
    batch = velocity_task.sample("valid", torch.arange(64))
    expected = float((batch["images"] - batch["noise"]).square().mean())
    assert float(velocity_task.loss(Zero(), batch)) == pytest.approx(expected, rel=1e-5)
    told = float(noise_task.loss(Zero(2), noise_task.sample("valid", torch.arange(64))))
    assert told > 1.0, "the variance has a loss beside that of the noise"


def test_real_images_are_near_and_noise_is_far(noise_task):
    images, labels = noise_task.images("valid", torch.arange(noise_task.size("valid")))
    found = noise_task.judged(images, images, labels)
    assert abs(found["frechet"]) < 1e-3 and found["agreement"] > 0.9
    train_images, _ = noise_task.images("train", torch.arange(len(images)))
    near = noise_task.judged(train_images, images, labels)["frechet"]
    baseline = noise_task.baseline("valid").value
    far = noise_task.judged(torch.rand_like(images) * 2 - 1, images, labels)["frechet"]
    assert near < baseline < far


def test_the_baseline_has_the_pixels_mean_and_covariance():
    torch.manual_seed(0)
    images = (torch.randn(500, 6) @ torch.randn(6, 6) * 0.05).view(500, 1, 2, 3)
    made = gaussian(images, 20_000)
    torch.testing.assert_close(made.mean(0), images.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(made.flatten(1).T.cov(), images.flatten(1).T.cov(), rtol=0, atol=0.002)


@pytest.mark.parametrize("options", [{}, {"learn_sigma": True}])
def test_every_kind_of_answer_trains_draws_and_is_measured(noise_task, velocity_task, options):
    for task in (noise_task, velocity_task):
        model = create_model("dit_micro", depth=1, **task.model_options(), **options)
        config = TrainConfig(budget="2steps", evaluations=1, device="cpu")
        result = train(model, task, config, progress=False)
        assert {"frechet", "agreement", "loss"} <= set(result.metrics)
        drawn = task.draw(result.model, torch.tensor([1, 2, 3]))
        assert drawn.shape == (3, 1, 8, 8) and drawn.abs().max() <= 1
        assert torch.equal(drawn, task.draw(result.model, torch.tensor([1, 2, 3]))), "always the same"
        (picture,) = task.pictures(result.model, "test", 2)
        assert picture.pixels.dtype == np.uint8 and picture.pixels.shape[2] == 3
        answer = task.predict(result.model, ["3", 7])[1]
        assert answer["input"] == "7" and np.array(answer["pixels"]).shape == (8, 8, 1)


@pytest.mark.parametrize("learns", ["noise", "velocity"])
def test_a_short_training_learns_what_is_to_be_told(learns: str):
    task = create_task("generation", learns=learns, steps=5, samples=1024)
    torch.manual_seed(0)
    model = create_model("dit_micro", **task.model_options())
    before = task.evaluate(model)["loss"]
    config = TrainConfig(budget="60steps", learning_rate=3e-3, evaluations=1, device="cpu")
    after = train(model, task, config, progress=False).metrics["loss"]
    assert after < 0.6 * before


def test_a_switch_dit_brings_its_penalty(noise_task):
    config = TrainConfig(budget="2steps", evaluations=1, device="cpu")
    result = train("switch_dit_micro", noise_task, config, progress=False)
    gate = result.model.blocks[0].experts.gate.linear.bias
    assert gate.abs().sum() > 0, "the prior reaches the gates while the experts still give nothing"


def test_a_folder_of_images_is_a_task(tmp_path):
    generator = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 200)):
        (tmp_path / name).mkdir()
        for i in range(20):
            pixels = (level + generator.integers(-40, 40, (10, 12, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    task = create_task(f"generation:{tmp_path}", image_size=8, **SMALL)
    assert task.model_options() == {"num_classes": 2, "in_channels": 3, "image_size": 8}
    model = create_model("dit_micro", depth=1, **task.model_options())
    assert {"frechet", "agreement", "loss"} == set(task.evaluate(model, "valid"))
    assert task.baseline("valid").margin == 0.0
    assert len(task.predict(model, ["dark"])) == 1 and task.examples("test", 1)[0]["truth"] in ("dark", "light")


def test_misuse_is_said(noise_task, tmp_path):
    batch = noise_task.sample("valid", torch.arange(2))
    with pytest.raises(FitError, match="takes a denoiser"):
        noise_task.loss(create_model("vit_micro", **noise_task.model_options()), batch)
    with pytest.raises(FitError, match=r"gives \(1, 8, 8\), or twice the channels; this one gives \(3, 8, 8\)"):
        noise_task.loss(Zero(3), batch)
    with pytest.raises(OptionError, match="learns is 'noise' or 'velocity'; given 'score'"):
        create_task("generation", learns="score")
    with pytest.raises(OptionError, match="no schedule 'cosin'; did you mean 'cosine'"):
        create_task("generation", schedule="cosin")
    with pytest.raises(OptionError, match="no path 'straight'"):
        create_task("generation", flow="straight")
    with pytest.raises(OptionError, match="steps 2 or more; given samples=9600, steps=1"):
        create_task("generation", steps=1)
    with pytest.raises(OptionError, match="label_smoothing is for classifiers"):
        noise_task.loss(Zero(), batch, label_smoothing=0.1)
    with pytest.raises(DataError, match=r"a class: 0, 1.*given 'ten'"):
        noise_task.predict(Zero(), ["ten"])
    with pytest.raises(DataError, match="none"):
        create_task(f"generation:{tmp_path / 'none'}")
