"""Group DETR: groups do not see each other, evaluation is the first group's, matching stays inside a group."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model
from anyformer.blocks.detection import DetectionDecoderBlock, Memory
from anyformer.core.errors import OptionError, SizeError
from anyformer.lab.profile import count_operations
from anyformer.models.dense.matching import Objects, SetLoss
from parts import stirred

NAMES = ("query", "content")


def pair(groups: int = 3):
    """A Group DETR, and the DETR of its first group's queries."""
    torch.manual_seed(0)
    many = stirred(create_model("group_detr_micro", groups=groups), 0.05)
    one = create_model("detr_micro")
    state = many.state_dict()
    one.load_state_dict({k: v[: many.queries] if k in NAMES else v for k, v in state.items()})
    return many, one


def truth(count: int = 2) -> list[Objects]:
    generator = torch.Generator().manual_seed(3)
    boxes = torch.rand(count, 3, 4, generator=generator) * 0.4 + 0.2
    return [Objects(torch.tensor([1, 4, 7]), b) for b in boxes]


def frozen_statistics(model):
    """Training mode, in which groups run, with batch norms that are not moved by it."""
    model.train()
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.eval()
    return model


def test_a_group_among_others_says_what_it_says_alone():
    many, one = pair()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        together = frozen_statistics(many).predictions(images)
        assert together[-1].groups == 3 and together[-1].boxes.shape == (2, 36, 4)
        for group in range(3):
            rows = slice(12 * group, 12 * group + 12)
            for name in NAMES:
                getattr(one, name).copy_(getattr(many, name)[rows])
            for all_of_them, alone in zip(together, one.eval().predictions(images), strict=True):
                torch.testing.assert_close(all_of_them.logits[:, rows], alone.logits, rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(all_of_them.boxes[:, rows], alone.boxes, rtol=1e-5, atol=1e-5)


def test_evaluation_is_the_plain_detr():
    many, one = pair()
    many.eval(), one.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(many(images), one(images))
    assert count_operations(many, images) == count_operations(one, images)
    # Of the other groups' queries, nothing is used.
    many(images).sum().backward()
    assert many.query.grad[12:].abs().sum() == 0 and many.content.grad[12:].abs().sum() == 0
    used = many.num_parameters() - sum(getattr(many, n)[12:].numel() for n in NAMES)
    assert used == one.num_parameters()


def test_the_loss_of_one_group_is_detrs():
    torch.manual_seed(0)
    logits, boxes = torch.randn(2, 12, 11), torch.rand(2, 12, 4)
    loss = SetLoss()
    parts = loss.parts(logits, boxes, truth())
    expected = parts["classes"] + 5 * parts["l1"] + 2 * parts["giou"]
    assert torch.equal(loss.total(logits, boxes, truth(), groups=1), expected)


def test_matching_and_loss_stay_inside_a_group():
    torch.manual_seed(0)
    logits, boxes = torch.randn(2, 36, 11), torch.rand(2, 36, 4)
    loss, objects = SetLoss(), truth()
    alone = [loss.total(x, b, objects) for x, b in zip(logits.chunk(3, 1), boxes.chunk(3, 1), strict=True)]
    torch.testing.assert_close(loss.total(logits, boxes, objects, groups=3), torch.stack(alone).mean())
    # Every group answers for every object once; together, each object has one query of each group.
    for group in range(3):
        for queries, which in loss.match(logits.chunk(3, 1)[group], boxes.chunk(3, 1)[group], objects):
            assert len(queries) == 3 and sorted(which.tolist()) == [0, 1, 2] and len(set(queries.tolist())) == 3
    # A group's loss does not move another group's queries.
    boxes.requires_grad_()
    loss.total(logits[:, :12], boxes[:, :12], objects).backward()
    assert boxes.grad[:, 12:].abs().sum() == 0 and boxes.grad[:, :12].abs().sum() > 0


def test_queries_that_are_no_groups_raise():
    block = DetectionDecoderBlock(8, heads=2)
    with pytest.raises(SizeError, match="11 queries are no 3 groups; take a multiple of 3"):
        block(torch.randn(1, 11, 8), None, Memory(torch.randn(1, 4, 8)), 3)
    with pytest.raises(OptionError, match="one group of queries or more; given groups=0"):
        create_model("group_detr_micro", groups=0)
