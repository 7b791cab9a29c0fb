"""SimMIM: what is hidden, what the loss sees, any encoder, training, fine-tuning and mistakes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anyformer import create_model, from_pretrained, model_spec
from anyformer.core.errors import AnyformerError, FitError, OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.lab.train import TrainConfig, train
from anyformer.layers.position.grid_bias import GridTable
from anyformer.methods.pretraining.masking import fine_tune, masked_l1, pixels, random_units, unit_grid
from anyformer.tasks import create_task
from anyformer.tasks.pretraining import SimMIMPretraining

ENCODERS = ["vit_micro", "swin_micro", "convnext_micro", "pvt_micro"]


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.6, 0.75])
def test_every_image_hides_exactly_the_rounded_up_share(ratio: float):
    masks = random_units(torch.arange(32), (6, 6), ratio)
    assert (masks.sum((1, 2)) == math.ceil(ratio * 36)).all()
    assert len({tuple(m.flatten().tolist()) for m in masks}) > 25
    assert torch.equal(random_units(torch.arange(3, 5), (6, 6), ratio), masks[3:5])


def test_visible_pixels_have_no_gradient():
    restored, images = torch.randn(2, 3, 12, 12), torch.randn(2, 3, 12, 12, requires_grad=True)
    mask = pixels(random_units(torch.arange(2), (3, 3), 0.6), (12, 12))
    loss = masked_l1(restored, images, mask)
    loss.backward()
    visible = ~mask.expand_as(images)
    assert (images.grad[visible] == 0).all() and (images.grad[~visible] != 0).all()
    expected = (restored - images).abs()[~visible].mean()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_any_image_model_is_an_encoder_and_hidden_pixels_are_not_seen(encoder: str):
    torch.manual_seed(0)
    model = create_model("simmim_micro", encoder=model_spec(encoder), in_channels=2, image_size=16).eval()
    images = torch.randn(2, 2, 16, 16)
    mask = random_units(torch.arange(2), model.encoder.embed.grid((16, 16)), 0.5)
    hidden = pixels(mask, (16, 16))
    with torch.no_grad():
        restored = model(images, mask)
        changed = model(torch.where(hidden, images + 1, images), mask)
        unmasked = model(images)
    assert restored.shape == images.shape
    torch.testing.assert_close(changed, restored, rtol=1e-4, atol=1e-5)
    assert (unmasked - restored).abs().max() > 1e-3


def test_a_variants_name_is_an_encoder():
    model = create_model(Spec("simmim", encoder="swin_micro"), image_size=8, in_channels=1)
    assert model.stride == 4 and model(*model.example_inputs(batch=2)).shape == (2, 1, 8, 8)


def test_shared_positions_are_one_table_and_follow_offsets():
    model = create_model("simmim_vit_base", image_size=32)
    mixers = [block.mixer for block in model.encoder.blocks]
    assert all(mixer.distance is model.encoder.bias for mixer in mixers)
    assert sum("table" in name for name in model.state_dict()) == 1
    part = GridTable(2, grid=(3, 4), prefix=1)
    bias = part(13, 13, torch.device("cpu"))
    torch.testing.assert_close(bias[:, 1 + 0, 1 + 5], bias[:, 1 + 5, 1 + 10])  # both one down, one to the right
    assert bias[:, 0, 1:].unique().numel() == bias[:, 1:, 0].unique().numel() == 2
    with pytest.raises(SizeError, match="built for 13 tokens, a grid of 3x4; given 20"):
        part(20, 20, torch.device("cpu"))


def test_training_beats_the_mean_image_and_the_encoder_is_fine_tuned(tmp_path):
    task = SimMIMPretraining()
    torch.manual_seed(0)
    config = TrainConfig(budget="150steps", learning_rate=3e-3, evaluations=1, device="cpu")
    train("simmim_micro", task, config, out=tmp_path / "run", progress=False)
    pretrained = from_pretrained(tmp_path / "run")
    assert task.evaluate(pretrained)["masked_l1"] < 0.95 * task.baseline().value
    model = fine_tune(pretrained, num_classes=10)
    assert model.load_report.missing and all(n.startswith("head.") for n in model.load_report.missing)
    for name, p in pretrained.encoder.named_parameters():
        assert torch.equal(model.get_parameter(name), p)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    picture = task.pictures(pretrained, n=2)[0]
    assert picture.pixels.shape == (128, 3 * 128 + 8, 3) and picture.pixels.dtype == np.uint8
    said = task.predict(pretrained, [torch.zeros(1, 8, 8)])
    assert said[0]["restored"].shape == (8, 8, 3) and said[0]["masked_l1"] > 0


def test_samples_depend_on_their_seed_alone():
    task = create_task("pretraining")
    together, alone = (
        task.sample("train", torch.tensor([3, 7]), seed=5),
        task.sample("train", torch.tensor([7]), seed=5),
    )
    assert torch.equal(together["mask"][1:], alone["mask"])
    other = task.sample("train", torch.tensor([7]), seed=6)
    assert not torch.equal(other["mask"], alone["mask"])


def test_mistakes_are_sentences():
    with pytest.raises(SizeError, match="multiple of the patch of 16 pixels; given 24: take 16"):
        unit_grid((192, 192), 24, 16)
    with pytest.raises(SizeError, match=r"32 pixels does not divide an image of 200x200; units that do: 4, 8, 20, 40"):
        unit_grid((200, 200), 32, 4)
    with pytest.raises(OptionError, match="between 0 and 1; given 1"):
        create_task("pretraining", ratio=1.0)
    with pytest.raises(SizeError, match="mask unit of 3 pixels does not divide an image of 8x8"):
        create_task("pretraining", unit=3)
    task = create_task("pretraining", unit=1)
    model = create_model("simmim_micro", **task.model_options())
    with pytest.raises(SizeError, match="multiple of the patch of 2 pixels; given 1: take 2"):
        task.evaluate(model)
    with pytest.raises(FitError, match=r"trains a model 'simmim' around an encoder, such as simmim_micro"):
        task.evaluate(create_model("vit_micro", num_classes=0, **task.model_options()))
    with pytest.raises(AnyformerError, match=r"one entry for each of \(1, 4, 4\) tokens; given \(1, 3, 3\)"):
        model(torch.randn(1, 1, 8, 8), torch.ones(1, 3, 3, dtype=torch.bool))
    with pytest.raises(OptionError, match="fine_tune takes a model of create_model with an encoder"):
        fine_tune(torch.nn.Linear(2, 2))
    with pytest.raises(FitError, match="tokens and features; decoder has not"):
        create_model(Spec("simmim", encoder="gpt2_micro"))
