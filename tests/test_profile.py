"""The profiler counts what is known by formula, notices what grows, and leaves the model as it was."""

from __future__ import annotations

import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import register_flop_formula

from anyformer.core.errors import AnyformerError, OptionError, SizeError
from anyformer.lab.profile import (
    activation_memory,
    count_operations,
    growth_exponent,
    measure_latency,
    operations,
    profile,
    shapes_only,
    table,
    write_html,
)
from anyformer.lab.profile.report import count


class Attention(nn.Module):
    """One head over tokens `(b, n, 8)`, with the calling convention of models."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(x)[:, None]
        return F.scaled_dot_product_attention(y, y, y)[:, 0]

    def example_inputs(self, size: int | None = None, batch: int = 1) -> tuple[Tensor]:
        return (torch.randn(batch, size or 16, 8),)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Linear(8, 4), (3, 5, 8), 3 * 5 * 8 * 4),
        (nn.Linear(8, 4), (8,), 8 * 4),
        (nn.Conv2d(8, 4, 3, groups=2), (2, 8, 8, 8), 2 * 36 * 9 * 4 * 4),
        (nn.ConvTranspose2d(8, 4, 3, groups=2), (1, 8, 8, 8), 64 * 9 * 8 * 2),
        (nn.LSTM(8, 16, batch_first=True), (2, 5, 8), 2 * 5 * 4 * 16 * (8 + 16)),
        (nn.GRU(8, 16, batch_first=True), (2, 5, 8), 2 * 5 * 3 * 16 * (8 + 16)),
        (nn.TransformerEncoderLayer(64, 4, 128), (16, 2, 64), 32 * (4 * 64**2 + 2 * 64 * 128) + 2 * 2 * 16**2 * 64),
        (Attention(), (2, 16, 8), 2 * 16 * 8 * 8 + 2 * 2 * 16 * 16 * 8),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_multiply_adds_are_those_of_the_formula(module: nn.Module, shape: tuple[int, ...], expected: int, frozen: bool):
    module.requires_grad_(not frozen)
    with torch.no_grad():
        assert count_operations(module, torch.randn(shape)) == expected


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2)])
def test_attention_counts_on_the_cpu(heads: int, shared: int):
    q, k = torch.randn(2, heads, 32, 8), torch.randn(2, shared, 64, 8)
    counted = count_operations(lambda: F.scaled_dot_product_attention(q, k, k, enable_gqa=True))
    assert counted == 2 * 2 * heads * 32 * 64 * 8


def test_fourier_transforms_grow_as_n_log_n():
    few, many = (count_operations(torch.fft.fft, torch.randn(n, dtype=torch.complex64)) for n in (256, 1024))
    assert few == 5 * 256 * 8 // 2
    assert many / few == pytest.approx(4 * 10 / 8)
    real = count_operations(lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), torch.randn(3, 16, 16))
    assert real == 2 * 3 * 5 * 256 * 8 // 4


def test_other_arithmetic_is_counted_apart():
    pooled = operations(nn.AvgPool2d(3, 1, 1), torch.randn(2, 3, 16, 16))
    assert (pooled.multiply_adds, pooled.other, pooled.total) == (0, 2 * 3 * 256 * 9, 2 * 3 * 256 * 9)
    x = torch.randn(4, 8)
    assert operations(lambda: x.softmax(-1)).other == 32
    assert operations(lambda: x.cumsum(0) * 2).other == 64
    assert operations(lambda: x.clone().view(8, 4).t().contiguous()).other == 0


def test_an_operator_from_elsewhere_is_named_until_it_has_a_formula():
    @torch.library.custom_op("anyformer_test::triple", mutates_args=())
    def triple(x: Tensor) -> Tensor:
        return x @ x.t() @ x

    x = torch.randn(4, 8)
    before = operations(triple, x)
    assert before.multiply_adds == 0 and before.uncounted == ("anyformer_test.triple",)

    @register_flop_formula(torch.ops.anyformer_test.triple)
    def formula(shape, *, out_shape=None, **kwargs):
        return 2 * 2 * shape[0] * shape[0] * shape[1]

    after = operations(triple, x)
    assert after.multiply_adds == 2 * 4 * 4 * 8 and after.uncounted == ()


def test_counting_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    model[2].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    count_operations(model, torch.randn(2, 3, 4, 4))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model] == [True, True, False] and model.training
    assert torch.backends.mha.get_fastpath_enabled() == fast
    with pytest.raises(RuntimeError):
        count_operations(model, torch.randn(2, 5, 4, 4))
    assert model.training


def test_activation_memory_counts_each_saved_storage_once():
    x = torch.randn(64, 32, requires_grad=True)
    exp = activation_memory(torch.exp, x)  # keeps its output
    assert exp == 64 * 32 * 4
    assert activation_memory(lambda x: (x.exp().view(32, 64) ** 2, x), x) == exp
    assert activation_memory(lambda x: x + 1, x) == 0
    layer = nn.Linear(32, 32)
    assert activation_memory(layer, x.detach()) == 64 * 32 * 4  # its input, not its weight
    assert layer.weight.grad is None


def test_activation_memory_falls_with_checkpointing():
    layers = nn.ModuleList(nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)) for _ in range(6))

    def plain(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    def recomputed(x: Tensor) -> Tensor:
        for layer in layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return x

    x = torch.randn(128, 64, requires_grad=True)
    assert activation_memory(recomputed, x) < 0.5 * activation_memory(plain, x)


def test_shapes_alone_count_the_same_and_cost_no_memory():
    real = count_operations(Attention(), torch.randn(1, 16, 8))
    with shapes_only():
        model = Attention()
        assert model.project.weight.is_meta
        assert count_operations(model, *model.example_inputs()) == real
        huge = nn.Linear(10**7, 10**7)  # 400 TB
        assert count_operations(huge, torch.randn(1, 10**7)) == 10**14
        assert int(torch.arange(5).max()) == 0 and bool(torch.ones(3).any()) is False
        with pytest.raises((NotImplementedError, RuntimeError)):
            torch.ones(3).nonzero()
    assert int(torch.arange(5).max()) == 4


def test_growth_exponent_is_the_slope_of_the_logarithms():
    assert growth_exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2.0)
    assert growth_exponent([10, 100], [5, 5]) == pytest.approx(0.0)
    for sizes, values in (([4], [1]), ([4, 4], [1, 2]), ([1, 2], [0, 1]), ([1, 2], [1])):
        with pytest.raises(OptionError, match="growth needs"):
            growth_exponent(sizes, values)


def test_latency_runs_as_often_as_asked():
    calls = []
    timed = measure_latency(lambda: calls.append(1), warmup=3, runs=4, seconds=0.0)
    assert len(calls) == 7 and timed.runs == 4
    assert 0 <= timed.low <= timed.median <= timed.high
    assert timed.threads == torch.get_num_threads()
    with pytest.raises(OptionError, match="runs >= 1"):
        measure_latency(lambda: None, runs=0)


def test_profile_over_lengths_finds_the_growth(tmp_path):
    # 64 n of the projection against 16 n^2 of the attention: close to quadratic at these lengths
    found = profile(Attention(), [256, 1024], name="one head", batch=2, seconds=0.0)
    assert [p.operations for p in found.points] == [n * 64 + 16 * n * n for n in (256, 1024)]
    assert found.parameters == 72
    assert 1.9 < found.growth["operations"] < 2.0
    assert found.growth["activations"] == pytest.approx(1.0, abs=0.1)
    assert json.loads(json.dumps(found.to_dict()))["points"][1]["positions"] == 8 * 1024

    from rich.console import Console

    console = Console(width=140)
    with console.capture() as text:
        console.print(table([found]))
    assert "one head" in text.get() and re.search(r"growth .*\^1\.9\d", text.get())

    page = write_html([found], tmp_path / "profile.html").read_text()
    assert "one head: operations ^1.9" in page
    assert not re.search(r'<script[^>]+src="http', page)
    with pytest.raises(AnyformerError, match="cannot be written"):
        write_html([found], tmp_path / "missing" / "profile.html")


def test_profile_at_one_size_has_no_growth():
    found = profile(Attention(), seconds=0.0)
    assert found.growth == {} and found.points[0].size is None and found.name == "Attention"
    for sizes, batch in (([0], 1), ([8], 0)):
        with pytest.raises(SizeError, match="1 or more"):
            profile(Attention(), sizes, batch=batch)


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (999.9, "1k"), (1250, "1.25k"), (4.2e9, "4.2G"), (3e12, "3T"), (12.5e6, "12.5M")]
)
def test_counts_are_short(number: float, text: str):
    assert count(number) == text
