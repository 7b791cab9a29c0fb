"""ConvMixer: any image of a patch or more, its parameter count, refusals, names."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, load_reference
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.models.vision.convmixer import convmixer


@pytest.mark.parametrize("size", [(7, 7), (13, 8), (29, 64)])
def test_any_image_of_a_patch_or_more(size: tuple[int, int]):
    model = create_model(convmixer(8, 2, kernel=5, patch=7), num_classes=3).eval()
    images = torch.randn(2, 3, *size)
    assert model(images).shape == (2, 3)
    assert model.features(images)[0].shape == (2, 8, size[0] // 7, size[1] // 7)


def test_the_rest_beyond_whole_patches_is_left_out():
    model = create_model(convmixer(8, 1, kernel=3, patch=7)).eval()
    images = torch.randn(1, 3, 20, 16)
    torch.testing.assert_close(model(images), model(images[..., :14, :14]))


@pytest.mark.parametrize(("dim", "depth", "kernel", "patch"), [(8, 2, 5, 7), (12, 3, 9, 4)])
def test_parameters_follow_the_formula(dim: int, depth: int, kernel: int, patch: int):
    model = create_model(convmixer(dim, depth, kernel=kernel, patch=patch), num_classes=10)
    stem = dim * 3 * patch**2 + dim + 2 * dim
    head = 10 * dim + 10
    blocks = depth * (dim * kernel**2 + dim**2 + 2 * dim + 4 * dim)
    assert model.num_parameters() == blocks + stem + head


def test_the_block_is_the_papers():
    torch.manual_seed(0)
    model = create_model(convmixer(6, 1, kernel=3, patch=2)).eval()
    block = model.blocks[0]
    x = torch.randn(2, 5, 5, 6)
    mean = torch.zeros(6)
    inner = torch.nn.functional.gelu(block.mixer(x)) / (1 + 1e-5) ** 0.5 - mean
    expected = torch.nn.functional.gelu(block.linear(x + inner)) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-6)


def test_filters_of_one_patch_mix_nothing():
    model = create_model(convmixer(8, 2, kernel=1, patch=2)).eval()
    x = torch.randn(1, 4, 4, 8, requires_grad=True)
    model.blocks(x)[0, 1, 2].sum().backward()
    assert (x.grad.abs().sum(-1) > 0).sum() == 1


def test_too_small_images_and_even_kernels_raise():
    model = create_model(convmixer(8, 2, kernel=5, patch=7))
    with pytest.raises(SizeError, match=r"6x14 is too small; the least is 7x7"):
        model(torch.randn(1, 3, 6, 14))
    with pytest.raises(ValueError, match=r"odd.*given 8"):
        create_model(convmixer(8, 2, kernel=8, patch=7))
    with pytest.raises(OptionError, match="odd"):
        create_model("convmixer_micro", **{"block.mixer.kernel": 2})


def test_the_mixer_is_open_and_channels_and_head_too():
    model = create_model("convmixer_micro", mixer=Spec("pooling"), in_channels=1, num_classes=0).eval()
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 96)


def test_the_authors_list_of_layers_is_taken():
    torch.manual_seed(0)
    model = create_model("convmixer_micro", num_classes=10).eval()
    depth, state = len(model.blocks), {}

    def put(place: str, module: torch.nn.Module) -> None:
        state.update({f"{place}.{name}": tensor.clone() for name, tensor in module.state_dict().items()})

    put("0", model.embed.project)
    put("2", model.embed.norm)
    for i, block in enumerate(model.blocks):
        put(f"{i + 3}.0.fn.0", block.mixer)
        put(f"{i + 3}.0.fn.2", block.norm1)
        put(f"{i + 3}.1", block.linear)
        put(f"{i + 3}.3", block.norm2)
    put(str(depth + 5), model.head.linear)
    other = create_model("convmixer_micro", num_classes=10).eval()
    load_reference(other, {f"module.{name}": tensor for name, tensor in state.items()}, "official")
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(other(images), model(images))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("timm:convmixer_1536_20.in1k", 51625960),
        ("timm:convmixer_1024_20_ks9_p14", 24383464),
        ("official:convmixer_768_32", 21110248),
    ],
)
def test_names_of_every_source(name: str, parameters: int):
    with torch.device("meta"):
        assert create_model(name).num_parameters() == parameters
