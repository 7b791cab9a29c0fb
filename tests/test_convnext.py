"""ConvNeXt: shift equivariance, linear cost, image sizes, names."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.lab.profile import count_operations
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.models.vision.convnext import convnext


def shallow(**options) -> Spec:
    """Four stages of one block each: a total stride of 32."""
    return convnext((8, 12, 16, 20), (1, 1, 1, 1), scale=1.0, kernel=3).set(in_channels=1, num_classes=0, **options)


def test_a_shift_by_the_total_stride_shifts_the_last_map_by_one_cell():
    torch.manual_seed(0)
    model = create_model(shallow()).eval()
    images = torch.zeros(1, 1, 320, 320)
    images[..., 96:224, 96:224] = torch.randn(128, 128)
    shifted = images.roll((32, 32), (2, 3))
    with torch.no_grad():
        before, after = model.features(images)[-1], model.features(shifted)[-1]
    # Cells 3 to 6 see no border: the receptive field of a cell reaches less than 3 cells to each side.
    torch.testing.assert_close(after[..., 4:8, 4:8], before[..., 3:7, 3:7], rtol=1e-4, atol=1e-4)
    assert (after[..., 4:8, 4:8] - before[..., 4:8, 4:8]).abs().max() > 1e-2


def test_cost_is_linear_in_pixels():
    model = create_model(shallow())
    one, four = (count_operations(model, torch.randn(1, 1, s, s)) for s in (64, 128))
    assert four == 4 * one


def test_an_image_below_the_total_stride_raises():
    model = create_model(shallow(image_size=32))
    assert model(torch.randn(1, 1, 32, 45)).shape == (1, 20)
    for side in (31, 16, 3):
        with pytest.raises(SizeError, match=r"too small; the least is"):
            model(torch.randn(1, 1, side, 64))
    with pytest.raises(SizeError, match="stage 4"):
        create_model(shallow(image_size=31))


def test_padding_counts_as_the_zero_outside():
    mixer = DepthwiseConv(3, kernel=5, std=0.5)
    x = torch.randn(1, 8, 6, 3)
    valid = torch.zeros(1, 8, 6, dtype=torch.bool)
    valid[:, :5] = True
    y = mixer(x, Segments.from_mask(valid))
    torch.testing.assert_close(y[:, :5], mixer(x[:, :5]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_depthwise_is_the_sum_over_the_neighbours(rank: int):
    mixer = DepthwiseConv(2, kernel=3, std=0.5, grid=(None,) * rank)
    x = torch.randn(1, *(5,) * rank, 2)
    place = (2,) * rank
    box = x[(0, *(slice(1, 4),) * rank)]
    expected = torch.einsum("tc,ct->c", box.flatten(0, -2), mixer.weight.flatten(1)) + mixer.bias
    torch.testing.assert_close(mixer(x)[(0, *place)], expected, rtol=1e-5, atol=1e-6)


def test_an_even_kernel_is_refused():
    with pytest.raises(OptionError, match=r"odd.*given 4: take 3 or 5"):
        DepthwiseConv(4, kernel=4)


def test_channels_features_and_micro():
    model = create_model("convnext_micro", in_channels=5, num_classes=3).eval()
    images = torch.randn(2, 5, 9, 12)
    assert model(images).shape == (2, 3)
    assert [tuple(m.shape[1:]) for m in model.features(images)] == [(40, 9, 12), (80, 4, 6)]


@pytest.mark.parametrize(
    ("name", "parameters", "size"),
    [
        ("timm:convnext_tiny.fb_in22k_ft_in1k_384", 28589128, 224),
        ("timm:convnext_tiny_hnf", 28589128, 224),
        ("timm:convnext_atto_rms", 3693040, 224),
        ("timm:convnext_large_mlp", 200128168, 224),
        ("timm:convnext_atto_ols.a2_in1k", 3702912, 224),
        ("timm:convnext_base_384_in22ft1k", 88591464, 384),
        ("transformers:facebook/convnext-base-224-22k", 109953489, 224),
        ("official:convnext_xlarge", 350196968, 224),
        ("official:convnext_isotropic_small", 22308712, 224),
    ],
)
def test_names_of_every_source(name: str, parameters: int, size: int):
    with torch.device("meta"):
        model = create_model(name)
    assert model.num_parameters() == parameters
    assert model.image_size == (size, size)
