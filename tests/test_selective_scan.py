"""The selective scan and the causal convolution: goldens, all forms in value and gradient, edges, and cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from anyformer.core.errors import SizeError
from anyformer.kernels.causal_conv import causal_conv
from anyformer.kernels.selective_scan import blocked, compiled, operator, plain, selective_scan
from golden import Golden

FORMS = {"plain": plain.selective_scan, "operator": operator.selective_scan}
GOLDENS = ["fixedBC_L63", "full_L63", "full_L100", "groups2_L63"]


def draw(length: int, batch: int = 2, channels: int = 6, states: int = 3, weights: str = "token", **kind: Any):
    """Every argument of a scan, seeded; `weights` is token, group or constant."""
    g = torch.Generator().manual_seed(length)
    dtype = kind.get("dtype", torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    wide = torch.promote_types(dtype, torch.float32)
    shape = {"token": (batch, length, states), "group": (batch, length, 2, states), "constant": (channels, states)}
    resets = torch.rand(batch, length, generator=g) < 0.15
    return {
        "u": normal(batch, length, channels),
        "delta": normal(batch, length, channels),
        "A": -normal(channels, states).exp().to(wide),
        "B": normal(*shape[weights]),
        "C": normal(*shape[weights]),
        "D": normal(channels),
        "z": normal(batch, length, channels),
        "delta_bias": normal(channels),
        "resets": resets,
        "state": normal(batch, channels, states).to(wide),
        "delta_softplus": True,
    }


def results(form: Any, arguments: dict[str, Any]) -> dict[str, Tensor]:
    """y, the last state, and the gradient of every floating argument under fixed weights of both."""
    given = {
        k: v.detach().clone().requires_grad_() if isinstance(v, Tensor) and v.is_floating_point() else v
        for k, v in arguments.items()
    }
    y, last = form(**given)
    (y.float().sin().sum() + 0.5 * last.float().cos().sum()).backward()
    grads = {f"grad_{k}": v.grad for k, v in given.items() if isinstance(v, Tensor) and v.requires_grad}
    return {"y": y.detach(), "last": last.detach(), **grads}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch):
    """Blocks of one row and seven steps, so that short sequences cross many and end inside one."""
    monkeypatch.setattr(blocked, "block_size", lambda channels, states: (1, 7))


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch):
    """The compiled form for any size, by tiles of two channels on three threads."""
    monkeypatch.setattr(operator, "WORTH", 0)
    monkeypatch.setattr(compiled, "TILE", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)


@pytest.mark.parametrize("name", GOLDENS)
@pytest.mark.parametrize("form", FORMS)
def test_goldens_hold_in_value_and_gradient(name: str, form: str, small_blocks: None):
    golden = Golden(f"mamba--selective_scan_{name}--ops")
    inputs = {k: v.requires_grad_() for k, v in golden.inputs().items()}
    swapped = {k: v.movedim(-1, 1) if v.ndim > 2 else v for k, v in inputs.items()}  # time last there, second here
    y, last = FORMS[form](**swapped, delta_softplus=golden.data["kwargs"]["delta_softplus"])
    out = y.transpose(1, 2)
    (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
    golden.check({"out": out, "last_state": last} | {f"grad_{k}": v.grad for k, v in inputs.items()})


@pytest.mark.parametrize("length", [1, 2, 7, 63, 100])
@pytest.mark.parametrize("weights", ["token", "group", "constant"])
def test_blocked_equals_plain_in_value_and_gradient(length: int, weights: str, small_blocks: None):
    arguments = draw(length, weights=weights)
    ours, truth = results(operator.selective_scan, arguments), results(plain.selective_scan, arguments)
    for name, expected in truth.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("length", [2, 7, 63, 100])
@pytest.mark.parametrize("weights", ["token", "group"])
def test_compiled_equals_plain_in_value_and_gradient(
    length: int, weights: str, small_blocks: None, small_tiles: None, monkeypatch: pytest.MonkeyPatch
):
    arguments = draw(length, channels=10, weights=weights, dtype=torch.float32)
    exact = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}
    monkeypatch.setattr(blocked, "read", None)  # so that nothing but the compiled form can answer
    monkeypatch.setattr(blocked, "gradients", None)
    ours, truth = results(operator.selective_scan, arguments), results(plain.selective_scan, exact)
    for name, expected in truth.items():
        assert (ours[name] - expected).norm() <= 3e-5 * expected.norm(), name


@pytest.mark.parametrize("change", ["options left out", "B of a group, C of all", "bfloat16", "weights not in order"])
def test_compiled_equals_blocked_where_arguments_differ(change: str, small_tiles: None, monkeypatch: Any):
    arguments = draw(50, dtype=torch.float32)
    if change == "options left out":
        arguments = {k: v for k, v in arguments.items() if k in ("u", "delta", "A", "B", "C")}
        arguments["delta"] = arguments["delta"].abs()
    if change == "B of a group, C of all":
        arguments["B"] = draw(50, weights="group", dtype=torch.float32)["B"]
    if change == "bfloat16":
        arguments |= {k: arguments[k].bfloat16() for k in ("u", "delta", "B", "C", "z")}
    if change == "weights not in order":
        arguments |= {k: arguments[k].mT.contiguous().mT for k in ("u", "delta", "A", "B", "C")}
    ours = results(operator.selective_scan, arguments)
    monkeypatch.setattr(operator, "WORTH", 1 << 60)
    for name, expected in results(operator.selective_scan, arguments).items():
        assert ours[name].dtype == expected.dtype
        assert (ours[name] - expected).float().norm() <= 1e-4 * expected.float().norm(), name


def test_compiled_is_left_to_blocked_where_it_does_not_serve(small_tiles: None, monkeypatch: Any):
    a = draw(20, dtype=torch.float32)
    dt, A, B, C = a["delta"].exp(), a["A"], a["B"], a["C"]
    assert operator.form(dt, A, B, C, False) is compiled
    assert operator.form(-dt, A, B, C, False) is blocked  # rounding cuts off, and powers of 2 are of at most 0
    assert operator.form(dt, -A, B, C, True) is blocked
    assert operator.form(dt, A, draw(20, weights="constant")["B"], C, True) is blocked
    assert operator.form(dt.double(), A, B, C, True) is blocked
    monkeypatch.setattr(operator, "compiled", lambda: None)  # as without numba
    assert operator.form(dt, A, B, C, True) is blocked


def test_compiled_lets_what_is_not_a_number_through(small_tiles: None):
    """As the equation does, from the token that has it on, and in its channel alone."""
    arguments = draw(30, dtype=torch.float32) | {"resets": None}
    arguments["delta"][0, 10, 3] = torch.nan
    y, last = operator.selective_scan(**arguments)
    expected, state = plain.selective_scan(**arguments)
    assert y[0, 10:, 3].isnan().all() and last[0, 3].isnan().all()
    torch.testing.assert_close((y, last), (expected, state), equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("B, C", [("token", "constant"), ("constant", "group"), ("group", "token")])
def test_b_and_c_may_have_different_shapes(B: str, C: str, small_blocks: None):
    arguments = draw(20) | {"B": draw(20, weights=B)["B"], "C": draw(20, weights=C)["C"]}
    ours, truth = results(operator.selective_scan, arguments), results(plain.selective_scan, arguments)
    for name, expected in truth.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("worth", [0, 1 << 60])
def test_blocked_and_compiled_equal_plain_over_a_thousand_tokens(worth: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(operator, "WORTH", worth)
    arguments = draw(1000, batch=3, channels=16, states=8, dtype=torch.float32)
    ours, truth = results(operator.selective_scan, arguments), results(plain.selective_scan, arguments)
    for name, expected in truth.items():
        assert (ours[name] - expected).norm() <= 2e-5 * expected.norm(), name


def test_options_may_be_left_out():
    arguments = {k: v for k, v in draw(30).items() if k in ("u", "delta", "A", "B", "C")}
    arguments["delta"] = arguments["delta"].abs()
    ours, truth = results(selective_scan, arguments), results(plain.selective_scan, arguments)
    for name, expected in truth.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weights", ["token", "group", "constant"])
def test_gradients_match_finite_differences(weights: str, small_blocks: None):
    arguments = draw(9, batch=1, channels=4, states=2, weights=weights)
    names = [k for k, v in arguments.items() if isinstance(v, Tensor) and v.is_floating_point()]
    inputs = tuple(arguments[k].requires_grad_() for k in names)

    def scan(*values: Tensor):
        return operator.selective_scan(**arguments | dict(zip(names, values, strict=True)))

    assert torch.autograd.gradcheck(scan, inputs)


@pytest.mark.parametrize("form, worth", [("plain", 0), ("operator", 0), ("operator", 1 << 60)])
def test_extreme_inputs_stay_finite(form: str, worth: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(operator, "WORTH", worth)
    arguments = draw(40, dtype=torch.float32)
    arguments["delta"] = arguments["delta"] * 1e4
    arguments["A"] = arguments["A"] * 1e4
    for name, value in results(FORMS[form], arguments).items():
        assert value.isfinite().all(), name
    arguments |= {"delta": torch.full_like(arguments["delta"], -1e4), "delta_bias": None}
    found = results(FORMS[form], arguments)  # steps of size zero: nothing enters, nothing fades
    for name, value in found.items():
        assert value is None or value.isfinite().all(), name
    kept = arguments["state"] * ~arguments["resets"].any(1)[:, None, None]
    torch.testing.assert_close(found["last"], kept)


def test_decays_that_underflow_do_not_divide():
    """A decay of exp(-200) per token: any form that divides by cumulative decays gives inf or nan here."""
    ones = torch.ones(1, 64, 2)
    y, last = selective_scan(ones, ones, torch.full((2, 1), -200.0), ones[..., :1], ones[..., :1])
    torch.testing.assert_close(y, ones)
    torch.testing.assert_close(last, torch.ones(1, 2, 1))


def test_bfloat16_inputs_keep_a_float32_state():
    exact = draw(100, dtype=torch.float32)
    rough = {k: v.bfloat16() if k in ("u", "delta", "B", "C", "z") else v for k, v in exact.items()}
    y, last = operator.selective_scan(**rough)
    same, state = plain.selective_scan(**rough)
    assert y.dtype == torch.bfloat16 and last.dtype == torch.float32
    torch.testing.assert_close(last, state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(y, same, rtol=1e-2, atol=1e-2)
    truth = plain.selective_scan(**exact)[0]
    assert (y.float() - truth).norm() <= 0.02 * truth.norm()
    grads = results(operator.selective_scan, rough)
    for name, value in results(plain.selective_scan, rough).items():
        assert grads[name].dtype == value.dtype
        assert (grads[name].float() - value.float()).norm() <= 0.02 * value.float().norm(), name


@pytest.mark.parametrize("form", FORMS)
def test_a_reset_starts_over_and_a_state_goes_on(form: str):
    arguments = draw(50) | {"resets": torch.zeros(2, 50, dtype=torch.bool), "state": None}
    over_time = ("u", "delta", "B", "C", "z", "resets")

    def cut(part: slice) -> dict[str, Any]:
        return {k: v[:, part] if k in over_time else v for k, v in arguments.items()}

    first, state = FORMS[form](**cut(slice(0, 20)))
    goes_on, _ = FORMS[form](**cut(slice(20, 50)) | {"state": state})
    starts_over, _ = FORMS[form](**cut(slice(20, 50)))
    whole, _ = FORMS[form](**arguments)
    torch.testing.assert_close(torch.cat([first, goes_on], 1), whole)
    arguments["resets"][:, 20] = True
    torch.testing.assert_close(torch.cat([first, starts_over], 1), FORMS[form](**arguments)[0])
    assert (goes_on - starts_over).abs().max() > 1e-3


def test_constant_weights_are_a_convolution():
    """With Delta, B and C the same for every token the scan is y = x * K, K_j = C exp(Delta A)^j Delta B."""
    arguments = draw(64, weights="constant") | {"D": None, "z": None, "resets": None, "state": None}
    arguments["delta"] = torch.zeros_like(arguments["delta"])
    step = F.softplus(arguments["delta_bias"])
    powers = torch.exp(step[:, None, None] * arguments["A"][..., None] * torch.arange(64))
    kernel = ((arguments["B"] * arguments["C"])[..., None] * powers).sum(1) * step[:, None]
    padded = F.pad(arguments["u"].transpose(1, 2), (63, 0))
    expected = F.conv1d(padded, kernel.flip(-1)[:, None], groups=6).transpose(1, 2)
    torch.testing.assert_close(selective_scan(**arguments)[0], expected)


def test_empty_sequences_and_batches():
    for batch, length in ((2, 0), (0, 5)):
        arguments = draw(length, batch=batch)
        found = results(operator.selective_scan, arguments)
        assert found["y"].shape == (batch, length, 6)
        torch.testing.assert_close(found["last"], arguments["state"])
        assert found["grad_B"].shape == arguments["B"].shape


@pytest.mark.parametrize("worth", [0, 1 << 60])
def test_memory_for_training_grows_with_tokens_times_channels(worth: int, monkeypatch: pytest.MonkeyPatch):
    """What autograd keeps: the inputs and one state per block, not one per token."""
    arguments = draw(4096, batch=1, channels=64, states=16, dtype=torch.float32)
    monkeypatch.setattr(operator, "WORTH", worth)
    kept = 0

    def pack(t: Tensor) -> Tensor:
        nonlocal kept
        kept += t.numel()
        return t

    arguments["u"].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        operator.selective_scan(**arguments)
    assert kept < 5 * 4096 * 64


def test_operations_are_counted_and_linear():
    counts = []
    for length in (1024, 16384):
        arguments = draw(length, batch=1, channels=4, states=4, dtype=torch.float32)
        arguments["u"].requires_grad_()
        with FlopCounterMode(display=False) as counter:
            y, _ = operator.selective_scan(**arguments)
            forward = counter.get_total_flops()
            y.sum().backward()
        assert forward == 7 * length * 4 * 4
        counts.append(counter.get_total_flops())
    assert counts[0] == 27 * 1024 * 4 * 4
    assert counts[1] <= 20 * counts[0]


def test_compiles_and_exports_whole():
    class Module(torch.nn.Module):
        def forward(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor):
            return selective_scan(u, delta, A, B, C, delta_softplus=True)

    inputs = tuple(v for k, v in draw(40).items() if k in ("u", "delta", "A", "B", "C"))
    expected, last = Module()(*inputs)
    compiled = torch.compile(Module(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), (expected, last))
    longer = tuple(v for k, v in draw(90).items() if k in ("u", "delta", "A", "B", "C"))
    tokens = torch.export.Dim("tokens", min=2)
    along = {1: tokens}
    program = torch.export.export(Module(), inputs, dynamic_shapes=(along, along, None, along, along))
    torch.testing.assert_close(program.module()(*longer), Module()(*longer))


def test_the_operators_are_registered_correctly():
    arguments = draw(20, dtype=torch.float32)
    del arguments["delta_softplus"]
    values = [v.requires_grad_() if v.is_floating_point() else v for v in arguments.values()]
    torch.library.opcheck(torch.ops.anyformer.selective_scan, (*values, True, True))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"delta": torch.zeros(2, 5, 6)}, r"delta has shape \(2, 5, 6\).*\(2, 4, 6\)"),
        ({"B": torch.zeros(2, 4, 4, 3)}, "4 groups, which do not divide 6 channels"),
        ({"B": torch.zeros(2, 4, 2, 3), "C": torch.zeros(2, 4, 3, 3)}, "B has 2 groups and C 3"),
        ({"C": torch.zeros(2, 4, 5)}, "C has shape"),
        ({"resets": torch.zeros(2, 3)}, "resets has shape"),
        ({"state": torch.zeros(3, 6, 3)}, "3 rows with 2 rows"),
    ],
)
def test_shapes_that_do_not_belong_together(change: dict[str, Tensor], says: str):
    with pytest.raises(SizeError, match=says):
        selective_scan(**draw(4) | change)


@pytest.mark.parametrize("length", [1, 2, 3, 63])
def test_causal_conv_is_a_grouped_convolution(length: int):
    x = torch.randn(2, length, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight, bias = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    expected = F.conv1d(F.pad(x.transpose(1, 2), (3, 0)), weight[:, None], bias, groups=5).transpose(1, 2)
    y, state = causal_conv(x, weight, bias)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(causal_conv(x, weight, bias, silu=True)[0], F.silu(expected))
    torch.testing.assert_close(state, F.pad(x, (0, 0, 3, 0))[:, -3:])
    inputs = (x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_())
    assert torch.autograd.gradcheck(lambda *a: causal_conv(*a, silu=True), inputs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("length", [1, 2, 50])
def test_causal_conv_of_float32_is_the_equation(length: int, bias: bool):
    """The depthwise form against the one of other types, tap by tap; gradients too, and those of gradients."""
    g = torch.Generator().manual_seed(length)
    shapes = [(2, length, 6), (6, 4), *([(6,)] if bias else [])]
    exact = [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]
    found = []
    for dtype in (torch.float32, torch.float64):
        inputs = [t.to(dtype).requires_grad_() for t in exact]
        y, _ = causal_conv(*inputs, silu=True)
        first = torch.autograd.grad(y.sin().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(t.square().sum() for t in first), inputs)
        found.append((y, *first, *second))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-4)


def test_causal_conv_goes_on_from_a_state_and_stops_at_a_document():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 12, 3, generator=generator), torch.randn(3, 4, generator=generator)
    whole, last = causal_conv(x, weight)
    state, outputs = None, []
    for part in x.split([2, 1, 5, 1, 3], 1):
        y, state = causal_conv(part, weight, state=state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), whole)
    torch.testing.assert_close(state, last)

    resets = torch.zeros(1, 12, dtype=torch.bool)
    resets[:, [5, 10]] = True
    y, state = causal_conv(x, weight, resets=resets)
    alone = [causal_conv(part, weight) for part in x.split([5, 5, 2], 1)]
    torch.testing.assert_close(y, torch.cat([a for a, _ in alone], 1))
    torch.testing.assert_close(state, alone[-1][1])


def test_causal_conv_names_what_does_not_fit():
    x = torch.zeros(2, 5, 3)
    with pytest.raises(SizeError, match=r"3 channels need a weight \(3, k\); given \(4, 4\)"):
        causal_conv(x, torch.zeros(4, 4))
    with pytest.raises(SizeError, match="1 rows with 2 rows"):
        causal_conv(x, torch.zeros(3, 4), state=torch.zeros(1, 3, 3))
    with pytest.raises(SizeError, match=r"\(b, 3, 3\)"):
        causal_conv(x, torch.zeros(3, 4), state=torch.zeros(2, 2, 3))


def test_block_sizes_keep_training_memory_linear():
    for channels, states in ((1, 1), (128, 16), (1536, 16), (5120, 16), (8192, 128)):
        rows, steps = blocked.block_size(channels, states)
        assert rows >= 1 and 16 <= steps <= 256
        assert rows == 1 or rows * steps * channels * states <= blocked.BLOCK
