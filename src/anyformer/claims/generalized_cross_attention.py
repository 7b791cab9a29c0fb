"""Generalized cross-attention: facts in a base that all layers share, and facts that go with their entries.

128 facts: 32 subjects and 4 relations, each pair with one of 32 objects. Two blocks learn them by heart, with a shared
base, or with MLPs of as many parameters. Then, for each of 32 facts, the eighth of the entries that is read most for
it, beyond what the others read, is deleted from the base.

Eight of 256 entries were too few on seed 0: a fact is spread over some 180, and 3 percent were lost.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model
from anyformer.models.language.gpt2 import gpt2
from anyformer.models.language.knowledge_decoder import knowledge_decoder

CLAIM = Claim(
    statement="A shared base holds facts as well as MLPs of equal size, and loses a fact with the entries read for it.",
    baseline="A decoder with MLPs of as many parameters, trained alike; other facts after the same deletion.",
    expect=(
        Expect("behind_mlp", at_most=3.0, unit="points of facts known"),
        Expect("own_drop", at_least=50.0, unit="points, the fact whose entries were deleted"),
        Expect("other_drop", at_most=10.0, unit="points, all other facts"),
    ),
    seeds=(1, 2, 3),
)
SUBJECTS, RELATIONS, OBJECTS = 32, 4, 32
DIM, DEPTH, ENTRIES, STEPS, RATE = 32, 2, 256, 400, 5e-3
DELETED, TRIED = ENTRIES // 8, 32
"""Entries deleted for a fact, and facts tried."""


def facts(seed: int) -> tuple[Tensor, Tensor]:
    """Subjects with relations `(128, 2)`, and objects `(128,)`."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.cartesian_prod(torch.arange(SUBJECTS), SUBJECTS + torch.arange(RELATIONS))
    return pairs, torch.randint(OBJECTS, (len(pairs),), generator=generator)


def make(shared: bool, hidden: int = 1) -> Any:
    """A decoder of facts with a shared base, or with MLPs."""
    options = {"vocab_size": SUBJECTS + RELATIONS, "max_length": 2}
    if shared:
        spec = knowledge_decoder(DIM, DEPTH, 2, ENTRIES, **options)
    else:
        spec = gpt2(DIM, DEPTH, 2, dropout=0.0, **options)
        spec = spec.set(block=spec["block"].set(ffn=Spec("mlp", hidden=hidden, act=Spec("relu"))))
    return create_model(spec.set(init="fan_in"))


def hidden_of_equal_size() -> int:
    """Hidden channels at which MLPs have as many parameters as the shared base and its maps."""
    wanted = make(True).num_parameters()
    return min(range(16, 1024), key=lambda hidden: abs(make(False, hidden).num_parameters() - wanted))


def learned(model: Any, pairs: Tensor, objects: Tensor) -> Any:
    """The model after training on all facts."""
    return one_cycle(model, lambda: F.cross_entropy(model(pairs)[:, -1], objects), steps=STEPS, rate=RATE)


def known(model: Any, pairs: Tensor, objects: Tensor) -> Tensor:
    """Which facts are known, 1 or 0."""
    with torch.no_grad():
        return (model(pairs)[:, -1].argmax(-1) == objects).float()


def activities(model: Any, pairs: Tensor) -> Tensor:
    """How much each fact reads each entry at its last token, summed over layers: `(facts, entries)`."""
    seen, hooks = [], []
    for block in model.blocks:
        hooks.append(
            block.ffn.register_forward_hook(lambda ffn, given, out: seen.append(ffn.activity(given[0][:, -1])))
        )
    with torch.no_grad():
        model(pairs)
    for hook in hooks:
        hook.remove()
    return torch.stack(seen).sum(0)


def measure(seed: int) -> dict[str, float]:
    """Facts known by both, and facts lost with entries."""
    pairs, objects = facts(seed)
    torch.manual_seed(seed)
    shared = learned(make(True), pairs, objects)
    torch.manual_seed(seed)
    mlp = learned(make(False, hidden_of_equal_size()), pairs, objects)
    before, read = known(shared, pairs, objects), activities(shared, pairs)
    own, other = [], []
    for fact in torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:TRIED].tolist():
        rest = torch.arange(len(pairs)) != fact
        without = copy.deepcopy(shared)
        with torch.no_grad():
            without.knowledge.entries[(read[fact] - read[rest].mean(0)).topk(DELETED).indices] = 0
        drop = before - known(without, pairs, objects)
        own.append(float(drop[fact]))
        other.append(float(drop[rest].mean()))
    share = 100 * float(before.mean())
    return {
        "shared": share,
        "behind_mlp": 100 * float(known(mlp, pairs, objects).mean()) - share,
        "own_drop": 100 * sum(own) / TRIED,
        "other_drop": 100 * sum(other) / TRIED,
    }
