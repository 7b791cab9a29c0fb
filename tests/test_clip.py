"""CLIP: where texts are read, what padding may not change, the loss, zero-shot classes, and the likeliest misuses."""

from __future__ import annotations

import math

import pytest
import torch

from anyformer import create_model, model_spec
from anyformer.core.errors import DataError, FitError, SizeError
from anyformer.models.multimodal.clip import HOTTEST, contrastive_loss
from parts import stirred


@pytest.fixture
def model():
    torch.manual_seed(0)
    return stirred(create_model("clip_micro"), 0.05).eval()


def test_scores_are_cosines_times_the_factor(model):
    images, ids = model.example_inputs(batch=3)
    with torch.no_grad():
        scores = model(images, ids[:2])
        seen, read = model.encode_image(images), model.encode_text(ids[:2])
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(scores, model.logit_scale.exp() * seen @ read.t())
    assert scores.shape == (3, 2)
    assert float(create_model("clip_micro").logit_scale.detach().exp()) == pytest.approx(1 / 0.07)


def test_the_factor_stays_below_a_hundred(model):
    images, ids = model.example_inputs(batch=2)
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
        assert model(images, ids).abs().max() <= HOTTEST


def test_a_text_is_read_at_its_first_end_and_no_further(model):
    _, ids = model.example_inputs(batch=2)
    longer = torch.cat([ids, torch.full_like(ids[:, :1], model.end), torch.randint(0, 64, (2, 3))], 1)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(longer), model.encode_text(ids), rtol=1e-4, atol=1e-5)
        other = ids.clone()
        other[:, 0] = (other[:, 0] + 5) % 64
        assert (model.encode_text(other) - model.encode_text(ids)).norm() > 1e-3  # its first word is heard


def test_the_loss_of_scores_that_tell_nothing_and_everything():
    assert float(contrastive_loss(torch.zeros(8, 8))) == pytest.approx(math.log(8))
    assert float(contrastive_loss(100 * torch.eye(8))) < 1e-6
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(contrastive_loss(scores), contrastive_loss(scores.t()))
    with pytest.raises(DataError, match=r"as many texts as images; given scores \(2, 3\)"):
        contrastive_loss(torch.zeros(2, 3))


def test_it_learns_pairs_and_then_classifies_without_a_head():
    torch.manual_seed(0)
    model = create_model("clip_micro")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    colours = torch.eye(3)
    prompts = [torch.tensor([[10 + k, 2], [10 + k, 3]]) for k in range(3)]
    prompts = [torch.cat([p, torch.full((2, 1), 2)], 1) for p in prompts]

    def images(kinds: torch.Tensor) -> torch.Tensor:
        return colours[kinds][:, :, None, None] + 0.3 * torch.randn(len(kinds), 3, 32, 32)

    for _ in range(30):
        loss = contrastive_loss(model(images(torch.arange(3)), torch.cat([p[:1] for p in prompts])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    kinds = torch.arange(12) % 3
    with torch.no_grad():
        scores = model.eval().classify(images(kinds), prompts)
        assert scores.shape == (12, 3) and torch.equal(scores.argmax(1), kinds)
        torch.testing.assert_close(model.class_vectors(prompts).norm(dim=-1), torch.ones(3))


def test_the_published_sizes():
    parameters = {"clip_vit_base_patch16": 149_620_737, "clip_vit_large_patch14": 427_616_513}
    for name, expected in parameters.items():
        with torch.device("meta"):
            assert create_model(name).num_parameters() == expected
    assert model_spec("clip_vit_large_patch14_336").options["image_size"] == 336


def test_misuses(model):
    images, _ = model.example_inputs(batch=2)
    with pytest.raises(DataError, match="ends with the id 2; row 1 does not"):
        model(images, torch.tensor([[5, 2], [5, 6]]))
    with pytest.raises(SizeError, match="learned positions end at 32"):
        model.encode_text(torch.full((1, 33), 2))
    with pytest.raises(DataError, match="one or more prompts"):
        model.classify(images, [])
    with pytest.raises(FitError, match="text tower is a causal decoder"):
        create_model("clip_micro", text=model_spec("bert_micro"))
