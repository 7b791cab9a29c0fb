"""Axial attention and the Axial Transformer: what its paper promises, and its likeliest misuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.core.build import build
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.scale import count
from anyformer.core.spec import Spec
from anyformer.kernels.attention import attention_plain
from anyformer.lab.profile import count_operations
from anyformer.layers.attention.projection import merge_heads
from anyformer.models import model_spec
from anyformer.models.generation.axial_transformer import bits_per_dimension, shift
from parts import stirred


def axial(grid: tuple[int | None, ...] = (None, None), **options):
    torch.manual_seed(0)
    return stirred(build(Spec("axial", heads=2, **options), "mixer", dim=8, grid=grid)).eval()


def small(**options):
    torch.manual_seed(0)
    given = {"in_channels": 2, "encoder": 2, "levels": 5, "image_size": (4, 6)} | options
    return stirred(create_model("axial_transformer_micro", **given)).eval()


def line_by_line(part, x: Tensor, axis: int, causal: bool = False) -> Tensor:
    """The plain equation on every row or column of `(b, h, w, c)` alone."""
    attention = part.axes[axis]
    y = torch.empty_like(x)
    for i in range(x.shape[2 - axis]):
        line = x[:, i] if axis == 1 else x[:, :, i]
        out = attention.out(merge_heads(attention_plain(*attention.qkv(line), causal=causal)))
        if axis == 1:
            y[:, i] = out
        else:
            y[:, :, i] = out
    return y


@torch.no_grad()
def test_each_axis_equals_full_attention_on_every_row_or_column_alone():
    x = torch.randn(2, 5, 7, 8)
    part = axial()
    torch.testing.assert_close(part(x), line_by_line(part, x, 0) + line_by_line(part, x, 1), rtol=1e-5, atol=1e-6)
    part = axial(join="sequence", masked=(0,))
    columns = line_by_line(part, x, 0, causal=True)
    torch.testing.assert_close(part(x), line_by_line(part, columns, 1), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_in_sequence_every_token_reaches_every_other_and_in_sum_its_own_lines():
    x = torch.randn(1, 4, 5, 8)
    changed = x.clone()
    changed[0, 1, 2] += 1
    for join, reached in (("sequence", 20), ("sum", 4 + 5 - 1)):
        part = axial(join=join)
        assert int(((part(x) - part(changed)).abs().sum(-1) > 1e-6).sum()) == reached


def test_cost_grows_as_n_to_one_and_a_half():
    def operations(side: int, name: str) -> int:
        options = {"grid": (side, side)} if name == "axial" else {}
        mixer = build(Spec(name, heads=1, **options), "mixer", dim=4)
        return count_operations(mixer, torch.randn(1, side, side, 4))

    axial_growth = operations(64, "axial") / operations(16, "axial")
    assert 16 < axial_growth < 80
    assert operations(64, "attention") / operations(16, "attention") > 200


@pytest.mark.parametrize("grid", [(None,), (None, None, None), (2, 3, 4)])
def test_another_number_of_axes_than_declared_is_refused(grid: tuple):
    part = axial((None, None))
    with pytest.raises(SizeError, match=r"built for 2 axes.*given"):
        part(torch.randn(1, *(3 for _ in grid), 8))


def test_an_axis_that_the_grid_does_not_have_is_refused():
    with pytest.raises(OptionError, match=r"axial: the grid has 2 axes, numbered 0 to 1.*given 2"):
        axial(masked=(2,))
    with pytest.raises(OptionError, match=r"along: the grid has 2 axes.*given -1"):
        build(Spec("along", block=Spec("prenorm", mixer=Spec("attention", heads=2)), axis=-1), "block", dim=8)


def test_shifting_moves_by_one_place_and_begins_with_zeros():
    x = torch.arange(1.0, 7).view(1, 2, 3, 1)
    assert shift(x, 0)[0, :, :, 0].tolist() == [[0, 0, 0], [1, 2, 3]]
    assert shift(x, 1)[0, :, :, 0].tolist() == [[0, 1, 2], [0, 4, 5]]


@torch.no_grad()
def test_scores_depend_on_every_earlier_pixel_and_on_no_other():
    model = small()
    (images,) = model.example_inputs()
    scores = model(images)[0].flatten(0, 2)  # channel by channel, in raster order
    flat = images.flatten()
    for place in range(len(flat)):
        changed = flat.clone()
        changed[place] = (changed[place] + 2) % model.levels
        moved = (model(changed.view_as(images))[0].flatten(0, 2) - scores).abs().amax(-1)
        assert moved[: place + 1].max() <= 1e-6, f"pixel {place} is seen by itself or an earlier one"
        assert moved[place + 1 :].min() > 1e-6 if place + 1 < len(flat) else True, f"pixel {place} is not seen"


@torch.no_grad()
def test_without_an_outer_decoder_rows_know_nothing_of_each_other():
    model = small(in_channels=1, encoder=0, outer=0)
    (images,) = model.example_inputs()
    changed = images.clone()
    changed[:, :, 1] = (changed[:, :, 1] + 1) % model.levels
    moved = (model(images) - model(changed)).abs().amax(-1)[0, 0].amax(-1)
    assert moved[1] > 1e-6 and moved[[0, 2, 3]].max() <= 1e-6


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2])
def test_sampling_row_by_row_gives_what_sampling_naively_gives(channels: int):
    model = small(in_channels=channels)
    noise = -torch.log(-torch.log(torch.rand(3, channels, 4, 6, 5, generator=torch.Generator().manual_seed(1))))
    drawn = model.sample(noise=noise)
    naive = torch.zeros_like(drawn)
    for c in range(channels):
        for i in range(4):
            for j in range(6):
                naive[:, c, i, j] = (model(naive)[:, c, i, j] + noise[:, c, i, j]).argmax(-1)
    assert torch.equal(drawn, naive) and drawn.unique().numel() > 2


def test_sampling_runs_the_outer_decoder_once_a_row_and_the_inner_once_a_pixel(monkeypatch):
    model = small(in_channels=1, encoder=0)
    calls = {"outer": 0, "inner": 0}
    monkeypatch.setattr(model.outer, "forward", counting(model.outer.forward, calls, "outer"))
    monkeypatch.setattr(model.inner, "extend", counting(model.inner.extend, calls, "inner"))
    images = model.sample(2, generator=torch.Generator().manual_seed(0))
    assert calls == {"outer": 4, "inner": 24} and images.shape == (2, 1, 4, 6)
    assert torch.equal(images, model.sample(2, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(OptionError, match="temperature is above 0; given 0"):
        model.sample(temperature=0)


def counting(call, calls: dict[str, int], name: str):
    def counted(*given, **options):
        calls[name] += 1
        return call(*given, **options)

    return counted


@torch.no_grad()
def test_probabilities_of_all_images_add_up_to_one():
    model = small(in_channels=1, encoder=0, image_size=(2, 3), levels=2)
    every = torch.cartesian_prod(*[torch.arange(2)] * 6).view(64, 1, 2, 3)
    bits = torch.stack([bits_per_dimension(model, image[None]) * 6 for image in every])
    torch.testing.assert_close((2**-bits).sum(), torch.tensor(1.0), rtol=1e-4, atol=1e-4)
    assert bits.std() > 0.1


def test_one_channel_of_each_image_can_be_trained_at_a_time():
    model = small()
    (images,) = model.example_inputs(batch=3)
    channel = torch.tensor([1, 0, 1])
    with torch.no_grad():
        some = model.channel_logits(images, channel)
        torch.testing.assert_close(some, model(images)[torch.arange(3), channel], rtol=1e-4, atol=1e-5)


def test_any_causal_mixer_goes_along_the_lines_and_others_are_refused():
    (images,) = small().example_inputs()
    scores = small(mixer="mamba")(images)
    assert scores.shape == (1, 2, 4, 6, 5) and scores.isfinite().all()
    with pytest.raises(FitError, match="pooling looks at all tokens and cannot be causal"):
        small(mixer="pooling")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x.float(), DataError, "whole numbers from 0 to 4; given float32"),
        (lambda x: x + 3, DataError, "whole numbers from 0 to 4; given"),
        (lambda x: x[:, :1], SizeError, r"takes images \(batch, 2, up to 4, up to 6\); given \(1, 1, 4, 6\)"),
        (lambda x: x[0], SizeError, r"given \(2, 4, 6\)"),
        (lambda x: x.repeat(1, 1, 2, 1), SizeError, r"given \(1, 2, 8, 6\)"),
    ],
)
def test_images_of_another_kind_are_refused(change, error, message: str):
    model = small()
    (images,) = model.example_inputs()
    images[0, 0, 0, 0] = 4
    with pytest.raises(error, match=message):
        model(change(images))


def test_layers_that_make_no_full_model_are_refused():
    with pytest.raises(OptionError, match=r"axial_transformer.outer takes rows and columns in turn.*3"):
        small(outer=3)
    with pytest.raises(OptionError, match="2 channels depend on each other through the channel encoder"):
        small(encoder=0)
    with pytest.raises(SizeError, match=r"noise is \(batch, channels, rows, columns, levels\)"):
        small().sample(noise=torch.zeros(1, 2, 4, 6, 4))


@pytest.mark.parametrize(("name", "parameters"), [("imagenet32", 341_178_112), ("imagenet64", 606_161_152)])
def test_published_variants_have_as_many_parameters_as_the_authors_code(name: str, parameters: int):
    assert count(model_spec(f"official:{name}")) == parameters
