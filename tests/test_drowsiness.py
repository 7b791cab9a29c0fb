"""Detect, crop, classify: crops against slicing, frames without a face, batches, and boxes that are none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.data.drowsiness import STATES, frames
from anyformer.models.dense.detr import Detector, Predictions
from anyformer.models.dense.matching import SetLoss
from anyformer.models.dense.one_stage import OneStageDetector
from anyformer.models.vision.drowsiness_vit import CropClassifier, alarm, crop
from anyformer.tasks.drowsiness import Drowsiness
from parts import stirred


class KnownBox(Detector):
    """Answers with one box, as surely as it is told."""

    def __init__(self, box: tuple[float, ...], sureness: float = 9.0):
        super().__init__()
        self.box, self.sureness, self.loss = torch.tensor(box), sureness, SetLoss()

    def predictions(self, images, valid=None):
        b = len(images)
        logits = torch.tensor([[self.sureness, 0.0], [-20.0, 0.0]]).expand(b, 2, 2)
        boxes = torch.stack([self.box, torch.tensor([0.5, 0.5, 1.0, 1.0])])
        return [Predictions(logits, boxes.expand(b, 2, 4))]


class Seen(nn.Module):
    """Keeps what it is shown."""

    image_size = (12, 12)

    def forward(self, x):
        self.shown = x
        return x.mean((2, 3))[:, :2]


def pipeline(box, sureness: float = 9.0, margin: float = 0.0) -> CropClassifier:
    return CropClassifier(detector=KnownBox(box, sureness), classifier=Seen(), margin=margin).eval()


def sliced(frames, left, top, right, bottom, size=(12, 12)):
    return nn.functional.interpolate(frames[:, :, top:bottom, left:right], size=size, mode="bilinear")


@pytest.mark.parametrize("corners", [(8, 16, 32, 40), (0, 0, 64, 48), (3, 5, 9, 47), (10, 20, 11, 21)])
def test_a_crop_is_slicing_and_resizing(corners):
    images = torch.rand(2, 3, 48, 64)
    left, top, right, bottom = corners
    box = ((left + right) / 128, (top + bottom) / 96, (right - left) / 64, (bottom - top) / 48)
    model = pipeline(box)
    model(images)
    torch.testing.assert_close(model.classifier.shown, sliced(images, *corners), rtol=0, atol=1e-5)
    exact = crop(images.double(), torch.tensor([corners] * 2).double(), (12, 12))
    torch.testing.assert_close(exact, sliced(images.double(), *corners), rtol=0, atol=1e-6)


def test_boxes_at_the_border_are_clipped_and_not_wrapped():
    images = torch.rand(1, 3, 32, 32).double()
    over = crop(images, torch.tensor([[-6.0, 20.0, 10.0, 40.0]]).double(), (8, 8))
    torch.testing.assert_close(over, sliced(images, 0, 20, 10, 32, (8, 8)), rtol=0, atol=1e-6)
    margin = crop(images, torch.tensor([[20.0, 4.0, 28.0, 12.0]]).double(), (8, 8), margin=1.0)
    torch.testing.assert_close(margin, sliced(images, 12, 0, 32, 20, (8, 8)), rtol=0, atol=1e-6)


def test_gradient_reaches_frame_and_box():
    images, boxes = torch.rand(1, 3, 32, 32).double(), torch.tensor([[4.3, 6.1, 20.2, 25.7]]).double()
    images.requires_grad_(), boxes.requires_grad_()
    assert torch.autograd.gradcheck(lambda i, b: crop(i[..., :12, :12], b / 3, (3, 3)), (images, boxes))


def test_no_detection_is_none_and_never_a_guess():
    images = torch.rand(3, 3, 32, 32)
    for sureness, none in ((-9.0, True), (-0.1, True), (0.1, False), (9.0, False)):
        model = pipeline((0.5, 0.5, 0.5, 0.5), sureness)
        answers = model(images)
        torch.testing.assert_close(answers.exp().sum(1), torch.ones(3))
        assert bool((model.decide(answers) == 2).all()) == none
    strict = pipeline((0.5, 0.5, 0.5, 0.5), 1.0)
    strict.threshold = 0.9  # the score is 0.73
    assert (strict.decide(strict(images)) == 2).all()


def test_batches_and_single_frames_agree():
    model = stirred(create_model("drowsiness_vit_micro"), 0.05).eval()
    images = torch.rand(5, 3, 64, 64)
    together = model(images)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("detector", "classifier"), [("detr_micro", "swin_micro"), ("one_stage_micro", "convnext_micro")]
)
def test_both_stages_are_replaceable(detector, classifier):
    model = create_model("drowsiness_vit_micro", detector=detector, classifier=classifier, num_classes=3).eval()
    images = torch.rand(2, 3, 64, 64)
    assert model(images).shape == (2, 4)
    assert model.features(images)[-1].shape[0] == 2


@pytest.mark.parametrize(
    "box", [(10.0, 10.0, 10.0, 20.0), (10.0, 20.0, 20.0, 10.0), (40.0, 0.0, 50.0, 10.0), (-9.0, 2.0, -1.0, 9.0)]
)
def test_boxes_without_area_or_outside_are_refused(box):
    with pytest.raises(SizeError, match=r"frame 1 has no area inside of the frame, which spans \(0, 0\) to \(32, 32\)"):
        crop(torch.rand(2, 3, 32, 32), torch.tensor([[1.0, 1.0, 9.0, 9.0], box]), (8, 8))
    assert issubclass(SizeError, ValueError)


def test_frames_without_three_channels_are_refused():
    model = create_model("drowsiness_vit_micro")
    with pytest.raises(SizeError, match=r"takes frames \(b, 3, h, w\); given a tensor of shape \(1, 1, 64, 64\)"):
        model(torch.rand(1, 1, 64, 64))
    with pytest.raises(DataError, match="a frame is in colour"):
        Drowsiness(samples=1).predict(model, [torch.rand(1, 64, 64)])


def test_stages_and_limits_that_make_no_sense_are_refused():
    with pytest.raises(FitError, match="takes a detector that gives boxes"):
        create_model("drowsiness_vit_micro", detector="vit_micro")
    with pytest.raises(OptionError, match="threshold between 0 and 1"):
        create_model("drowsiness_vit_micro", threshold=1.0)
    with pytest.raises(OptionError, match="an anchor above 0 and up to 1"):
        create_model("one_stage_micro", anchor=0.0)
    with pytest.raises(OptionError, match="window of 1 frame or more"):
        alarm(torch.zeros(4, dtype=torch.bool), window=0)


def test_an_alarm_needs_enough_drowsy_frames_in_a_whole_window():
    drowsy = torch.tensor([1, 1, 0, 1, 1, 1, 0, 0, 0], dtype=torch.bool)
    expected = [False, False, False, True, True, True, True, False, False]
    assert alarm(drowsy, window=4, share=0.75).tolist() == expected
    assert alarm(drowsy[:3], window=4).tolist() == [False] * 3
    assert alarm(drowsy, window=1, share=1.0).tolist() == drowsy.tolist()


def test_places_of_the_detector_answer_around_themselves():
    detector = create_model("one_stage_micro", num_classes=1).eval()
    assert isinstance(detector, OneStageDetector)
    with torch.no_grad():
        detector.answer.weight.zero_()
        detector.answer.bias.zero_()
        (found,) = detector.predictions(torch.rand(1, 3, 64, 48))
        assert found.logits.shape == (1, 8 * 6, 2)
        # sigmoid(0) = 1/2: the middle of the place, and the anchor's size
        places = [((x + 0.5) / 6, (y + 0.5) / 8) for y in range(8) for x in range(6)]
        torch.testing.assert_close(found.boxes[0, :, :2], torch.tensor(places))
        torch.testing.assert_close(found.boxes[0, :, 2:], torch.full((48, 2), 0.25))
        detector.answer.bias[:4] = 20.0
        (found,) = detector.predictions(torch.rand(1, 3, 64, 48))
        torch.testing.assert_close(found.boxes[0, 0], torch.tensor([1.5 / 6, 1.5 / 8, 1.0, 1.0]))


def test_frames_hold_what_their_boxes_say():
    images, boxes, states = frames(60, 64, 3)
    assert torch.equal(images, frames(60, 64, 3)[0])
    assert set(states.tolist()) == {0, 1, 2} and images.min() >= 0 and images.max() <= 1
    assert ((boxes[:, 2:] > 0).all(1) == (states != STATES.index("none"))).all()
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    assert low.min() >= -1e-6 and high.max() <= 1 + 1e-6
    eyes = {
        state: torch.stack([crop(images[i : i + 1], 64 * torch.cat([low[i], high[i]])[None], (24, 24))[0]
                            for i in (states == state).nonzero()[:, 0]]).mean(0)[:, 6:12].mean()
        for state in (0, 1)
    }  # fmt: skip
    assert eyes[0] > eyes[1] + 0.02  # open eyes are lighter


def test_the_task_trains_both_stages():
    task = Drowsiness(samples=64)
    torch.manual_seed(0)
    model = create_model("drowsiness_vit_micro", **task.model_options())
    task.loss(model, task.sample("train", torch.arange(8), train=True)).backward()
    assert all(p.grad is not None for p in model.parameters())
    found = task.evaluate(model, "valid")
    assert 0 <= found["accuracy"] <= 1 and len(found["guesses"]) == 512
    assert task.baseline().value < 0.6
    assert task.pictures(model, n=2)[0].pixels.shape == (192, 192, 3)
    with pytest.raises(FitError, match="a detector with a classifier behind it"):
        task.evaluate(create_model("vit_micro"), "valid")
