"""CODA-Prompt: the equation, scale invariance, tasks that leave earlier components alone, the penalty, misuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anyformer import create_model
from anyformer.core.errors import FitError, OptionError
from anyformer.core.spec import Spec
from anyformer.methods.adaptation.adapt import adapt, parameters_of
from anyformer.methods.adaptation.coda_prompt import Components, current_loss, penalty, start_task

OPTIONS = {"tasks": 3, "components": 6, "length": 4, "layers": 2}


def vit(**options) -> nn.Module:
    torch.manual_seed(0)
    head = Spec("classifier", pool=Spec("class"))
    model = create_model("vit_micro", depth=3, head=head, num_classes=6, in_channels=1).eval()
    return adapt(model, "coda_prompt", **{**OPTIONS, **options})


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_prompt_is_the_weighted_sum():
    torch.manual_seed(0)
    pool = Components(6, query=5, components=4, length=2, tasks=2)
    query = torch.randn(3, 5)
    values, keys, attention = (
        torch.cat(list(pool.get_submodule(k).parameters())) for k in ("values", "keys", "attention")
    )
    for task, known in ((0, 2), (1, 4)):
        expected = torch.zeros(3, 2, 6)
        for b in range(3):
            for m in range(known):
                share = torch.cosine_similarity(query[b] * attention[m], keys[m], dim=0)
                expected[b] += share * values[m].view(2, 6)
        torch.testing.assert_close(pool(query, task), expected, atol=1e-6, rtol=1e-5)


def test_scaling_the_query_changes_nothing():
    pool = Components(6, query=5, components=4, length=2, tasks=2)
    query = torch.randn(3, 5)
    for factor in (1e-3, 7.0, 1e4):
        assert (pool(factor * query, 1) - pool(query, 1)).abs().max() < 1e-6


def test_prompts_depend_on_the_image_and_reach_the_output():
    model = vit(task=1)
    together = model(images())
    torch.testing.assert_close(torch.cat([model(x[None]) for x in images()]), together, atol=1e-5, rtol=1e-5)
    prompts = model.coda_prompt
    prompts.asking = True  # the pass without prompts
    plain = model(images())
    prompts.asking = False
    assert (together - plain).abs().max() > 1e-3 and prompts.current is None


def test_a_task_leaves_earlier_and_later_components_bit_for_bit():
    model = vit()
    for task in range(3):
        start_task(model, task)
        before = {name: p.clone() for name, p in parameters_of(model, "coda_prompt").items()}
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.5)
        model.train()
        for _ in range(3):
            labels = torch.tensor([2 * task, 2 * task + 1] * 4)
            loss = current_loss(model(images()), labels, [2 * task, 2 * task + 1]) + penalty(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for name, p in parameters_of(model, "coda_prompt").items():
            moved = not torch.equal(p, before[name])
            assert moved == (int(name.rsplit(".", 1)[1]) == task), name


def test_later_tasks_take_no_part():
    model = vit()
    before = model(images())
    with torch.no_grad():
        for name, p in parameters_of(model, "coda_prompt").items():
            if name.endswith((".1", ".2")):
                p.add_(1.0)
    assert torch.equal(model(images()), before)
    assert not torch.allclose(start_task(model, 1)(images()), before, atol=1e-4)


def test_the_penalty_is_zero_for_orthonormal_components_alone():
    torch.manual_seed(0)
    pool = Components(6, query=5, components=4, length=2, tasks=2)
    with torch.no_grad():
        for kind in ("values", "keys", "attention"):
            for i, group in enumerate(pool.get_submodule(kind).parameters()):
                group.copy_(torch.eye(4, group.shape[1])[2 * i : 2 * i + 2])
        assert pool.penalty(0).item() == pool.penalty(1).item() == 0.0
        pool.get_submodule("keys")[1][0] *= 2  # a vector of another length: (4 - 1)^2 in one of 16 entries
        assert pool.penalty(0).item() == 0.0 and pool.penalty(1).item() == pytest.approx(9 / 16)
        pool.get_submodule("keys")[1][0] /= 2
        pool.get_submodule("values")[1][1] = pool.get_submodule("values")[0][0]  # two alike: two entries of 1
        assert pool.penalty(1).item() == pytest.approx(2 / 16)
        assert penalty(vit(task=2)).item() < 1e-10  # they start orthonormal


def test_only_the_current_classes_get_a_gradient():
    logits = torch.randn(4, 6, requires_grad=True)
    current_loss(logits, torch.tensor([2, 3, 2, 3]), [2, 3]).backward()
    assert torch.equal(logits.grad[:, [0, 1, 4, 5]], torch.zeros(4, 4)) and logits.grad[:, [2, 3]].abs().min() > 0


def test_misuse_is_one_sentence():
    for wrong, message in (
        ({"components": 7}, "components is a multiple of tasks; given 7 for 3"),
        ({"task": 3}, "tasks go from 0 to 2, as declared; given 3"),
        ({"length": 3}, "length is even; given 3"),
        ({"pattern": "*.attn"}, r"no projection to queries, keys and values of Isotropic matches.*blocks.0.mixer.qkv"),
        ({"query": "head.fc"}, "no linear layer that reads the query.*head.linear"),
    ):
        with pytest.raises(OptionError, match=message):
            vit(**wrong)
    with pytest.raises(OptionError, match="tasks go from 0 to 2"):
        start_task(vit(), 3)
    with pytest.raises(OptionError, match="not adapted under the name"):
        start_task(create_model("vit_micro"), 0)
    with pytest.raises(FitError, match="belongs to window"):
        adapt(create_model("swin_micro", image_size=8, in_channels=1), "coda_prompt", **OPTIONS)
    with pytest.raises(FitError, match="switch gradient checkpointing off"):
        vit().gradient_checkpointing().train()(images())
