"""Memories that learn as they read: the Omega rule, its features and optimizer, Titans, TTT and the neural memory."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer import create_model
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import nbytes
from anyformer.kernels.linear_recurrence import linear_recurrence
from anyformer.kernels.newton_schulz import newton_schulz
from anyformer.layers.recurrence.memory import decayed_sums, gelu_slope, recall, surprise
from anyformer.layers.recurrence.omega import fresh, omega_rule
from parts import stirred

MEMORIES = {
    "omeganet": {"heads": 2, "window": 3, "chunk": 4},
    "atlas": {"heads": 2, "window": 3, "chunk": 4, "depth": 2},
    "titans": {"heads": 2, "chunk": 4, "depth": 2},
    "ttt_linear": {"heads": 2, "chunk": 4},
    "neural_memory": {"chunk": 4},
}


def memory(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return stirred(build(Spec(name, **{**MEMORIES[name], **options}), "mixer", dim=8), 0.1).eval().double()


def rule(n: int, widths: list[int], g: int = 3, seed: int = 0) -> dict[str, Any]:
    """Random arguments of the Omega rule, and a memory of these layers."""
    r = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=r, dtype=torch.float64)

    k, q = (F.normalize(draw(g, n, widths[0]), dim=-1) for _ in range(2))
    weights = [draw(g, i, o) / math.sqrt(i) for i, o in pairwise(widths)]
    gates = {name: F.logsigmoid(2 + draw(g, n)) for name in ("log_keep", "log_carry")}
    return {
        **{"q": q, "k": k, "v": draw(g, n, widths[-1])},
        **{"gamma": draw(g, n).sigmoid(), "rate": 0.2 * draw(g, n).sigmoid(), **gates},
        "weights": weights,
    }


def looped(given: dict[str, Any], *, window: int, chunk: int, steps: int) -> Tensor:
    """The Omega rule token by token, its gradients by autograd."""
    memory, frozen = given["weights"], given["weights"]
    momentum = [torch.zeros_like(w) for w in memory]
    outputs = []
    for t in range(given["q"].shape[1]):
        if t % chunk == 0:
            frozen = memory
        now = slice(max(0, t - window + 1), t + 1)
        at = [w.detach().requires_grad_() for w in frozen]
        wrong = (recall(at, given["k"][:, now]) - given["v"][:, now]).square().sum(-1) / 2
        grads = torch.autograd.grad((given["gamma"][:, now] * wrong).sum(), at)
        keep, carry, rate = (given[name][:, t, None, None] for name in ("log_keep", "log_carry", "rate"))
        momentum = [carry.exp() * s + grad for s, grad in zip(momentum, grads, strict=True)]
        moves = [newton_schulz(s, steps) if steps else s for s in momentum]
        memory = [keep.exp() * w - rate * move for w, move in zip(memory, moves, strict=True)]
        outputs.append(recall(memory, given["q"][:, t : t + 1]))
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize(("window", "chunk"), [(1, 1), (1, 8), (4, 1), (5, 8), (3, 64)])
@pytest.mark.parametrize("widths", [[6, 4], [6, 10, 4]])
def test_chunks_equal_the_loop_over_tokens(widths: list[int], window: int, chunk: int, steps: int):
    given = rule(29, widths)
    expected = looped(given, window=window, chunk=chunk, steps=steps)
    weights = given.pop("weights")
    y, _ = omega_rule(**given, state=fresh(weights, window, 4), window=window, chunk=chunk, steps=steps)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    state, outputs = fresh(weights, window, 4), []
    for t in range(29):
        token = {name: tensor[:, t : t + 1] for name, tensor in given.items()}
        out, state = omega_rule(**token, state=state, window=window, chunk=chunk, place=t % chunk, steps=steps)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, 1), expected, rtol=1e-4, atol=1e-4)


def test_one_token_of_degree_one_is_the_delta_rule_with_a_gate():
    """a M - b k^T (k a M - v) is Gated DeltaNet's; in the Omega rule's terms, a step b a towards v / a."""
    given = rule(40, [5, 4])
    beta, start = 5 * given["rate"], given["weights"][0]
    expected, last = linear_recurrence(
        given["q"][:, None], given["k"][:, None], given["v"][:, None],
        log_decay=given["log_keep"][:, None], beta=beta[:, None], state=start[:, None],
    )  # fmt: skip
    left = given["log_keep"].exp()
    y, state = omega_rule(
        given["q"], given["k"], given["v"] / left[..., None], gamma=torch.ones_like(beta), rate=beta * left,
        log_keep=given["log_keep"], state=fresh([start], 1, 4), chunk=1,
    )  # fmt: skip
    torch.testing.assert_close(y, expected[:, 0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(state["memory"][0], last[:, 0], rtol=1e-6, atol=1e-6)


def test_gradients_reach_through_what_was_learned():
    given = rule(11, [4, 6, 3])
    names = ("q", "k", "v", "gamma", "rate", "log_keep", "log_carry")

    def total(*inputs: Tensor) -> Tensor:
        some = dict(zip(names, inputs, strict=True))
        return omega_rule(**some, state=fresh(given["weights"], 3, 3), window=3, chunk=4)[0]

    assert torch.autograd.gradcheck(total, [given[name].requires_grad_() for name in names], fast_mode=True)


@pytest.mark.parametrize("shape", [(16, 32), (40, 12), (24, 24)])
def test_newton_schulz_brings_singular_values_near_one(shape: tuple[int, int]):
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(newton_schulz(x))
    large = torch.linalg.svdvals(x) > 0.02 * x.norm(dim=(1, 2))[:, None]
    assert large.float().mean() > 0.9
    assert values[large].min() > 0.6 and values.max() < 1.3
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    turned = u.mT @ newton_schulz(x) @ v.mT
    assert (turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3
    assert newton_schulz(torch.zeros(3, 4)).abs().sum() == 0


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_products_of_features_are_the_exponential_series(degree: int):
    features: Any = build(Spec("polynomial_features", degree=degree), "features", head_dim=5)
    q, k = torch.randn(2, 1, 7, 5, dtype=torch.float64).unbind()
    found = features(q) @ features(k).mT
    scores = q @ k.mT
    expected = sum(scores**j / math.factorial(j) for j in range(1, degree + 1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert features(q).shape[-1] == features.features == math.comb(5 + degree, degree) - 1


@pytest.mark.parametrize("name", MEMORIES)
def test_nothing_later_is_seen(name: str):
    mixer = memory(name)
    x = torch.randn(1, 15, 8, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(mixer(x)[:, 9].sum(), x)
    seen = grad.abs().sum(-1)[0]
    assert (seen[10:] == 0).all() and seen[9] > 0 and seen[2] > 0


@pytest.mark.parametrize("name", MEMORIES)
def test_the_state_does_not_grow(name: str):
    mixer = memory(name)
    x = torch.randn(2, 64, 8, dtype=torch.float64)
    with torch.no_grad():
        _, early = mixer.extend(x[:, :8], mixer.init_state(2, like=x))
        _, late = mixer.extend(x[:, 8:], early)
    assert nbytes(early) == nbytes(late)


@pytest.mark.parametrize("name", MEMORIES)
def test_pieces_equal_the_whole(name: str):
    mixer, x = memory(name), torch.randn(2, 30, 8, dtype=torch.float64)
    state, outputs = mixer.init_state(2, like=x), []
    for piece in x.split([1, 2, 1, 15, 11], 1):
        y, state = mixer.extend(piece, state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), mixer(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MEMORIES)
def test_padding_changes_nothing(name: str):
    mixer, x = memory(name), torch.randn(2, 12, 8, dtype=torch.float64)
    segments = Segments.from_lengths([12, 7], 12)
    changed = torch.where(segments.valid[..., None], x, 5.0)
    torch.testing.assert_close(mixer(x, segments)[1, :7], mixer(changed, segments)[1, :7])
    torch.testing.assert_close(mixer(x, segments)[1, :7], mixer(x[1:, :7])[0])


def test_neural_memory_moves_by_its_gradient():
    mixer, x = memory("neural_memory"), torch.randn(1, 4, 8, dtype=torch.float64)
    _, state = mixer.extend(x, mixer.init_state(1, like=x))
    start = [t.detach().clone().requires_grad_() for t in (mixer.gain, *mixer.weights)]
    seen = mixer.store_norm(x)
    hidden = recall(start[1:], mixer.k(seen))
    out = mixer.k(seen) + (1 + start[0]) * F.layer_norm(hidden, (8,), eps=1e-5)
    loss = (mixer.step_size(seen).sigmoid() * (out - mixer.v(seen)).square()).sum() / 8
    keep = 1 - mixer.decay(seen.mean(1)).sigmoid()[0, 0]
    for weight, grad, after in zip(start, torch.autograd.grad(loss, start), state["memory"], strict=True):
        torch.testing.assert_close(after[0], keep * weight - grad)


def test_surprise_is_the_gradient_of_every_token():
    weights = [torch.randn(2, i, o, dtype=torch.float64, requires_grad=True) for i, o in ((4, 6), (6, 5), (5, 3))]
    k, v = torch.randn(2, 7, 4, dtype=torch.float64), torch.randn(2, 7, 3, dtype=torch.float64)
    expected = torch.autograd.grad((recall(weights, k) - v).square().sum() / 2, weights)
    for (inputs, errors), grad in zip(surprise(weights, k, v), expected, strict=True):
        torch.testing.assert_close(inputs.mT @ errors, grad)
    x = torch.linspace(-4, 4, 50, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(gelu_slope(x), torch.autograd.grad(F.gelu(x).sum(), x)[0])


def test_decayed_sums_are_those_of_a_loop():
    x, log_decay = torch.randn(2, 9, 3, 4), -torch.rand(2, 9)
    s, expected = torch.randn(2, 3, 4), []
    found = decayed_sums(x, log_decay, s)
    for t in range(9):
        s = log_decay[:, t, None, None].exp() * s + x[:, t]
        expected.append(s)
    torch.testing.assert_close(found, torch.stack(expected, 1), rtol=1e-4, atol=1e-5)


def packed_rows() -> Tensor:
    """Document ids `(4, 22)`: borders in chunks and between them, padding before, between and behind, and only it."""
    ids = torch.zeros(4, 22, dtype=torch.long)
    ids[0] = torch.repeat_interleave(torch.tensor([3, 1, 4, 2, 6, 5]), torch.tensor([4, 1, 8, 3, 4, 2]))
    ids[1, 3:8], ids[1, 8:17], ids[1, 19:20] = 1, 2, 3
    ids[2] = 1
    return ids


@pytest.mark.parametrize("options", [{}, {"chunk": 1}, {"chunk": 64}])
@pytest.mark.parametrize("name", MEMORIES)
def test_documents_in_a_row_are_read_as_if_alone(name: str, options: dict[str, int]):
    if name in ("omeganet", "atlas"):
        options = {**options, "window": 6}  # wider than a chunk
    mixer, ids = memory(name, **options), packed_rows()
    x = torch.randn(4, 22, 8, dtype=torch.float64).requires_grad_()
    weights = torch.randn(4, 22, 8, dtype=torch.float64)
    packed = mixer(x, Segments(ids))
    assert packed[ids == 0].eq(0).all()
    alone = torch.zeros_like(packed)
    for row in range(4):
        for document in set(ids[row].tolist()) - {0}:
            at = ids[row] == document
            alone[row, at] = mixer(x[row, at][None])[0]
    torch.testing.assert_close(packed, alone, rtol=1e-8, atol=1e-8)
    inputs = [x, *mixer.parameters()]
    found, expected = (torch.autograd.grad((y * weights).sum(), inputs, allow_unused=True) for y in (packed, alone))
    for given, ours, theirs in zip(inputs, found, expected, strict=True):
        ours, theirs = (torch.zeros_like(given) if grad is None else grad for grad in (ours, theirs))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_decayed_sums_start_again():
    r = torch.Generator().manual_seed(0)
    x, start = (torch.randn(2, *shape, generator=r, dtype=torch.float64) for shape in ((70, 3), (3,)))
    log_decay = F.logsigmoid(torch.randn(2, 70, generator=r, dtype=torch.float64))
    resets = torch.zeros(2, 70, dtype=torch.bool)
    resets[0, [0, 5, 33, 34, 64]] = resets[1, 31] = True
    sums, now = [], start
    for t in range(70):
        now = torch.where(resets[:, t, None], start, now)
        now = log_decay[:, t, None].exp() * now + x[:, t]
        sums.append(now)
    torch.testing.assert_close(decayed_sums(x, log_decay, start, resets), torch.stack(sums, 1))


@pytest.mark.parametrize("name", ["omeganet_micro", "atlas_micro"])
def test_models_go_on_from_their_state(name: str):
    torch.manual_seed(0)
    model, ids = create_model(name).eval(), torch.randint(0, 256, (2, 30))
    state, outputs = model.init_state(2), []
    with torch.no_grad():
        for piece in ids.split([1, 10, 1, 18], 1):
            y, state = model.extend(piece, state)
            outputs.append(y)
        torch.testing.assert_close(torch.cat(outputs, 1), model(ids), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Spec("omeganet", window=0), "window, a chunk and a depth of 1 or more"),
        (Spec("atlas", heads=2, chunk=0), "window, a chunk and a depth of 1 or more"),
        (Spec("ttt_linear", chunk=0), "chunk of 1 token or more"),
        (Spec("neural_memory", depth=0), "depth and a chunk of 1 or more"),
        (Spec("omeganet", heads=1, features=Spec("polynomial_features", degree=0)), "degree is 1 or more"),
        (
            Spec("omeganet", heads=1, features=Spec("polynomial_features", degree=4, limit=100)),
            "8 channels of degree 4 have 494 products, more than the limit of 100",
        ),
    ],
)
def test_options_that_make_no_sense(spec: Spec, message: str):
    with pytest.raises(OptionError, match=message):
        build(spec, "mixer", dim=8)


def test_a_rule_without_a_window():
    given = rule(3, [4, 4])
    weights = given.pop("weights")
    with pytest.raises(OptionError, match="window and a chunk of 1 token or more; given 0"):
        omega_rule(**given, state=fresh(weights, 1, 4), window=0)
