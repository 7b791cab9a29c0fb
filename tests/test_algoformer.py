"""AlgoFormer: three parts of which one loops, and loops that are algorithms by construction."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anyformer import create_model
from anyformer.core.build import build
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.lab.theory.looped_solvers import descent_loop, descent_prompt, newton_loop, newton_prompt
from anyformer.models.factory import model_spec
from anyformer.models.language.algoformer import in_context
from parts import stirred, tokens
from variants import parameters


def model(**options: Any) -> Any:
    torch.manual_seed(0)
    return stirred(create_model("algoformer_micro", **options), 0.1).eval()


def test_parameters_do_not_depend_on_the_loops():
    assert len({model(loops=loops).num_parameters() for loops in (1, 3, 20)}) == 1
    looped = model(before=0, loop=3, after=0)
    assert looped.num_parameters() == model().num_parameters()
    assert parameters("algoformer_regression") < 3 * parameters("looped_transformer_regression")


def test_one_loop_is_the_plain_stack_and_more_are_given_the_input_anew():
    prompt = model().example_inputs(batch=2)[0]
    once, thrice = model(loops=1), model(loops=3)
    with torch.no_grad():
        x = once.position(once.read_in(prompt))
        for block in (*once.before, *once.loop.block.blocks, *once.after):
            x = block(x)
        torch.testing.assert_close(once(prompt), once.read_out(once.norm(x[:, ::2]))[..., 0])
        prepared = thrice.before(thrice.position(thrice.read_in(prompt)))
        y = torch.zeros_like(prepared)
        for _ in range(3):
            y = thrice.loop.block(y + prepared)
        torch.testing.assert_close(thrice.tokens(prompt)[1], y)


def test_a_vanilla_loop_is_given_the_norm_of_its_last_output():
    """As in the authors' code, where what loops is a GPT-2 with its last norm, which the read-out follows."""
    spec = model_spec("algoformer_micro").set(before=0, loop=2, after=0, norm=None, loop_norm=Spec("layernorm"))
    net = stirred(create_model(spec), 0.1).eval()
    prompt = net.example_inputs(batch=2)[0]
    with torch.no_grad():
        x = net.position(net.read_in(prompt))
        y = torch.zeros_like(x)
        for _ in range(3):
            y = y + x
            for block in net.loop.block.blocks:
                y = block(y)
            y = torch.nn.functional.layer_norm(y, y.shape[-1:], net.loop.norm.weight, net.loop.norm.bias)
        torch.testing.assert_close(net(prompt), net.read_out(y[:, ::2])[..., 0])


def test_an_answer_sees_the_examples_before_it_only():
    net = model()
    x, y = torch.randn(2, 6, 5), torch.randn(2, 6)
    with torch.no_grad():
        expected = net(in_context(x, y))
        y[:, 3] += 1
        changed = net(in_context(x, y))
    torch.testing.assert_close(changed[:, :4], expected[:, :4])
    assert (changed[:, 4:] - expected[:, 4:]).abs().min() > 1e-6


def test_a_causal_loop_continues_as_it_began():
    block = Spec("looped", block=Spec("prenorm", mixer=Spec("attention", heads=2)), loops=3, norm=Spec("layernorm"))
    loop = stirred(build(block, "block", dim=8, causal=True)).eval()
    x = tokens((6,))
    with torch.no_grad():
        first, state = loop.extend(x[:, :4], loop.init_state(2, like=x))
        second, _ = loop.extend(x[:, 4:], state)
        torch.testing.assert_close(torch.cat([first, second], 1), loop(x), rtol=1e-5, atol=1e-5)


def test_each_loop_is_a_step_of_gradient_descent():
    torch.manual_seed(0)
    d, n, rate = 5, 20, 0.3
    x, w = torch.randn(2, n, d), torch.randn(2, d)
    y, queries = (x @ w[..., None])[..., 0] + 0.1 * torch.randn(2, n), torch.randn(2, 4, d)
    prompt, found = descent_prompt(x, y, queries), torch.zeros(2, d)
    for steps in range(1, 21):
        found = found - rate / n * (((x @ found[..., None])[..., 0] - y)[:, None] @ x)[:, 0]
        with torch.no_grad():
            out = descent_loop(d, n, rate, steps)(prompt)[..., 2 * d]
        torch.testing.assert_close(-out[:, n:], (queries @ found[..., None])[..., 0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(out[:, :n], -(x @ found[..., None])[..., 0], rtol=1e-5, atol=1e-5)


def test_each_loop_is_a_step_of_newtons_iteration():
    torch.manual_seed(0)
    x = torch.randn(2, 20, 4)
    matrix = x.transpose(1, 2) @ x / 20
    start = torch.eye(4) * (1 / matrix.diagonal(dim1=1, dim2=2).sum(1))[:, None, None]
    found = start
    for steps in range(1, 13):
        found = 2 * found - found @ matrix @ found
        with torch.no_grad():
            out = newton_loop(4, steps)(newton_prompt(matrix, start))[..., :4] + start
        torch.testing.assert_close(out, found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, torch.linalg.inv(matrix), rtol=1e-3, atol=1e-3)


def test_prompts_alternate():
    net = model()
    x, y = torch.randn(2, 6, 5), torch.randn(2, 6)
    with pytest.raises(DataError, match="do not alternate"):
        net(in_context(x, y).roll(1, 1))
    with pytest.raises(DataError, match="in_context"):
        net(in_context(x, y) + 1)
    with pytest.raises(SizeError, match=r"\(b, up to 39, 6\); given \(2, 11, 5\)"):
        net(in_context(x[..., :4], y))
    with pytest.raises(SizeError, match="up to 20 points"):
        net(in_context(torch.randn(1, 30, 5), torch.randn(1, 30)))
    for options in ({"loops": 0}, {"loop": 0}):
        with pytest.raises(OptionError, match="=0"):
            model(**options)
