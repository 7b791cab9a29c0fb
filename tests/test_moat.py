"""MOAT: published sizes, global attention as one window, what crosses windows, TensorFlow's padding and names."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from anyformer import create_model, load_reference
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.lab.profile import count_operations
from anyformer.layers.attention.full import Attention
from anyformer.layers.attention.local.window import WindowAttention
from anyformer.layers.convolution.mbconv import MBConv, MBConvDownsample, same_padded
from anyformer.layers.position.resized_table import ResizedTable
from anyformer.layers.position.window_bias import RelativeTable
from anyformer.models.vision.moat import moat
from parts import stirred

# Of the paper: parameters in millions, multiply-adds of images of 224x224 in billions.
PAPER = {
    "moat_0": (27.8, 5.7),
    "moat_1": (41.6, 9.1),
    "moat_2": (73.4, 17.2),
    "moat_3": (190.0, 44.9),
    "tiny_moat_0": (3.4, 0.8),
    "tiny_moat_1": (5.1, 1.2),
    "tiny_moat_2": (9.8, 2.3),
    "tiny_moat_3": (19.5, 4.5),
}


@pytest.mark.parametrize("name", PAPER)
def test_published_sizes(name: str):
    parameters, operations = PAPER[name]
    with torch.device("meta"):
        assert create_model(name).num_parameters() / 1e6 == pytest.approx(parameters, abs=0.06)
        counted = count_operations(create_model(name, image_size=224), torch.randn(1, 3, 224, 224))
    assert counted / 1e9 == pytest.approx(operations, rel=0.02, abs=0.07)


def test_the_largest_has_483_million_parameters():
    with torch.device("meta"):
        assert create_model("moat_4").num_parameters() / 1e6 == pytest.approx(483.2, abs=0.06)


def test_a_window_as_large_as_the_map_is_global_attention():
    torch.manual_seed(0)
    window = stirred(WindowAttention(8, heads=2, window=99, cap=True, distance=None, grid=(6, 5)))
    everywhere = Attention(8, heads=2)
    everywhere.load_state_dict(window.state_dict())
    x = torch.randn(2, 6, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(window(x), everywhere(x), rtol=1e-5, atol=1e-5)


def reached(module: nn.Module) -> torch.Tensor:
    """Which tokens of an 8x8 grid see the last one of the first window of 4x4."""
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[0, 3, 3] = torch.randn(8)
    with torch.no_grad():
        return (module(changed) - module(x))[0].abs().sum(-1) > 1e-6


def test_a_pixel_reaches_the_next_window_through_the_convolution_alone():
    torch.manual_seed(0)
    mixer = Spec("window", heads=2, window=4)
    moat, plain = (build(Spec(name, mixer=mixer), "block", dim=8, grid=(8, 8)) for name in ("moat", "prenorm"))
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[:4, :4] = True
    assert torch.equal(reached(stirred(plain).eval()), inside)
    assert reached(stirred(moat).eval()).all()  # one step across a border, then everywhere in that window


def test_the_block_is_a_convolution_and_attention_without_an_mlp():
    """12 c^2 weights in matrices, as a transformer block has: 8 c^2 of the convolution, 4 c^2 of attention."""
    dim = 64
    block = build(Spec("moat", mixer=Spec("window", heads=2, window=4, distance=None)), "block", dim=dim)
    matrices = sum(p.numel() for p in block.parameters() if p.dim() == 2)
    assert matrices == 12 * dim**2


def test_a_table_of_another_window_is_interpolated():
    torch.manual_seed(0)
    same, plain = ResizedTable(2, (3, 3), side=3), RelativeTable(2, (3, 3))
    plain.load_state_dict(same.state_dict())
    assert torch.equal(same(), plain())
    larger = ResizedTable(2, (5, 4), side=3)
    with torch.no_grad():
        larger.table.copy_(torch.arange(5.0).repeat_interleave(5)[:, None].expand(-1, 2))  # the offset in rows
        rows = larger.rows().view(9, 7, 2)
    torch.testing.assert_close(rows[..., 0], rows[:, :1, 1].expand(9, 7))
    assert (rows[1:, 0, 0] >= rows[:-1, 0, 0]).all() and rows[4, 0, 0].item() == pytest.approx(2)
    with pytest.raises(OptionError, match="take relative_table"):
        ResizedTable(2, (2, 2, 2), side=2)


def test_a_model_built_for_larger_images_has_the_same_weights():
    options = {f"stages.{i}.depth": d for i, d in enumerate((0, 0, 1, 1))}
    small, large = (create_model("tiny_moat_0", num_classes=3, image_size=s, **options) for s in (64, 96))
    large.load_state_dict(small.state_dict())
    assert large(torch.randn(1, 3, 96, 64)).shape == (1, 3)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (9, 3, 2), (7, 3, 1), (6, 5, 2)])
def test_padding_is_tensorflows(size: int, kernel: int, stride: int):
    x = torch.arange(1.0, size + 1)[None, :, None]
    padded = same_padded(x, kernel, stride)[0, :, 0]
    expected = {
        (8, 3, 2): [*range(1, 9), 0],
        (9, 3, 2): [0, *range(1, 10), 0],
        (7, 3, 1): [0, *range(1, 8), 0],
        (6, 5, 2): [0, *range(1, 7), 0, 0],
    }[size, kernel, stride]
    assert padded.tolist() == expected
    assert len(padded.unfold(0, kernel, stride)) == -(-size // stride)


def test_the_shortcut_is_the_mean_of_neighbours():
    torch.manual_seed(0)
    down = MBConvDownsample(4, 4).eval()
    with torch.no_grad():
        down.body.shrink.weight.zero_()
        x = torch.randn(1, 5, 6, 4)
        y = down(x)
    assert down.grid((5, 6)) == (3, 3) and y.shape == (1, 3, 3, 4)
    torch.testing.assert_close(y[0, 0, 0], x[0, :2, :2].mean((0, 1)))
    torch.testing.assert_close(y[0, 2, 0], x[0, 4, :2].mean(0))


def test_channels_are_weighed_by_the_whole_map():
    torch.manual_seed(0)
    x = torch.randn(1, 6, 6, 8)
    changed = x.clone()
    changed[0, 0, 0] += 1
    with torch.no_grad():
        for excite, far in ((0.25, True), (None, False)):
            conv = stirred(MBConv(8, excite=excite)).eval()
            assert bool((conv(changed) - conv(x))[0, 5, 5].abs().max() > 1e-7) == far


class Plain:
    """A small MOAT under the authors' names, in TensorFlow's order of axes, and its forward, operation by operation."""

    width, dims, depths, head = 8, (16, 32, 64, 128), (2, 2, 2, 1), 32
    image = 64

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)
        self.variables: dict[str, Tensor] = {}
        self.conv("stem/conv_0", 3, 3, self.width)
        self.norm("stem/norm_0", self.width)
        self.conv("stem/conv_1", 3, self.width, self.width)
        inputs = self.width
        for i, (dim, depth) in enumerate(zip(self.dims, self.depths, strict=True)):
            for j in range(depth):
                self.block(f"block_{i:02d}_{j:02d}", inputs, dim, i > 1, (4, 2)[i - 2] if i > 1 else 0)
                inputs = dim
        self.norm("final_layer_norm", inputs, batch=False)
        self.conv("logits_head", 1, inputs, 3)

    def add(self, name: str, *shape: int, positive: bool = False, scale: float | None = None) -> None:
        value = torch.randn(shape, generator=self.generator)
        fan = math.prod(shape[:-1]) if len(shape) > 1 else 1
        value = value.abs() + 0.5 if positive else value * (scale or (fan**-0.5 if len(shape) > 1 else 0.1))
        self.variables[f"moat/{name}"] = value

    def conv(self, name: str, kernel: int, inputs: int, outputs: int, bias: bool = True) -> None:
        self.add(f"{name}/kernel", kernel, kernel, inputs, outputs)
        if bias:
            self.add(f"{name}/bias", outputs)

    def norm(self, name: str, dim: int, batch: bool = True) -> None:
        self.add(f"{name}/gamma", dim, positive=True)
        self.add(f"{name}/beta", dim)
        if batch:
            self.add(f"{name}/moving_mean", dim)
            self.add(f"{name}/moving_variance", dim, positive=True)

    def block(self, name: str, inputs: int, dim: int, attends: bool, window: int) -> None:
        if inputs != dim:
            self.conv(f"{name}/shortcut_conv", 1, inputs, dim)
        self.norm(f"{name}/pre_norm", inputs)
        self.conv(f"{name}/expand_conv", 1, inputs, 4 * dim, bias=False)
        self.norm(f"{name}/expand_norm", 4 * dim)
        self.add(f"{name}/depthwise_conv/depthwise_kernel", 3, 3, 4 * dim, 1, scale=1 / 3)
        self.norm(f"{name}/depthwise_norm", 4 * dim)
        self.conv(f"{name}/shrink_conv", 1, 4 * dim, dim)
        if not attends:
            self.conv(f"{name}/se/reduce_conv2d", 1, 4 * dim, dim // 4)
            self.conv(f"{name}/se/expand_conv2d", 1, dim // 4, 4 * dim)
            return
        self.norm(f"{name}/attention_norm", dim, batch=False)
        heads = dim // self.head
        for letter in "qkv":
            self.add(f"{name}/attention/{letter}/weight", dim, heads, self.head, scale=dim**-0.5)
            self.add(f"{name}/attention/{letter}/bias", heads, self.head)
        self.add(f"{name}/attention/o/weight", heads, self.head, dim)
        self.add(f"{name}/attention/o/bias", dim)
        self.add(f"{name}/attention/relative_position_embedding", heads, 2 * window - 1, 2 * window - 1, scale=1.0)

    def __getitem__(self, name: str) -> Tensor:
        return self.variables[f"moat/{name}"]

    def convolved(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        """Of `(b, c, h, w)`, padded as TensorFlow does."""
        kernel = self[f"{name}/kernel"].permute(3, 2, 0, 1)
        if kernel.shape[-1] == 3:
            x = nn.functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        return nn.functional.conv2d(x, kernel, self.variables.get(f"moat/{name}/bias"), stride)

    def normed(self, x: Tensor, name: str) -> Tensor:
        values = [self[f"{name}/{n}"] for n in ("moving_mean", "moving_variance", "gamma", "beta")]
        return nn.functional.batch_norm(x, *values, eps=1e-3)

    def layer_normed(self, x: Tensor, name: str) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], self[f"{name}/gamma"], self[f"{name}/beta"], 1e-5)

    def forward(self, images: Tensor) -> Tensor:
        gelu = nn.functional.gelu
        x = self.convolved(gelu(self.normed(self.convolved(images, "stem/conv_0", 2), "stem/norm_0")), "stem/conv_1")
        for i, depth in enumerate(self.depths):
            for j in range(depth):
                name, stride = f"block_{i:02d}_{j:02d}", 1 if j else 2
                shortcut = x if j else nn.functional.avg_pool2d(x, 2)
                if f"moat/{name}/shortcut_conv/kernel" in self.variables:
                    shortcut = self.convolved(shortcut, f"{name}/shortcut_conv")
                y = self.convolved(self.normed(x, f"{name}/pre_norm"), f"{name}/expand_conv")
                y = gelu(self.normed(y, f"{name}/expand_norm"))
                y = nn.functional.pad(y, (1, 1, 1, 1) if j else (0, 1, 0, 1))
                filters = self[f"{name}/depthwise_conv/depthwise_kernel"].permute(2, 3, 0, 1)
                y = gelu(
                    self.normed(
                        nn.functional.conv2d(y, filters, None, stride, groups=len(filters)), f"{name}/depthwise_norm"
                    )
                )
                if i < 2:
                    means = y.mean((2, 3), keepdim=True)
                    means = nn.functional.silu(self.convolved(means, f"{name}/se/reduce_conv2d"))
                    y = y * self.convolved(means, f"{name}/se/expand_conv2d").sigmoid()
                x = shortcut + self.convolved(y, f"{name}/shrink_conv")
                if i > 1:
                    x = x + self.attended(x, name)
        x = self.layer_normed(x.mean((2, 3)), "final_layer_norm")
        return x @ self["logits_head/kernel"][0, 0] + self["logits_head/bias"]

    def attended(self, x: Tensor, name: str) -> Tensor:
        tokens = self.layer_normed(x.movedim(1, -1), f"{name}/attention_norm").flatten(1, 2)
        parts = {
            n: torch.einsum("btc,chd->bhtd", tokens, self[f"{name}/attention/{n}/weight"])
            + self[f"{name}/attention/{n}/bias"][:, None]
            for n in "qkv"
        }
        scores = parts["q"] @ parts["k"].transpose(-1, -2) * self.head**-0.5
        side = x.shape[-1]
        embedding = self[f"{name}/attention/relative_position_embedding"]
        for query in range(side**2):
            for key in range(side**2):
                rows, columns = key // side - query // side, key % side - query % side
                scores[:, :, query, key] += embedding[:, rows + side - 1, columns + side - 1]
        y = torch.einsum("bhtd,hdc->btc", scores.softmax(-1) @ parts["v"], self[f"{name}/attention/o/weight"])
        return (y + self[f"{name}/attention/o/bias"]).unflatten(1, (side, side)).movedim(-1, 1)


def test_the_authors_variables_load_and_give_what_their_equations_give():
    plain = Plain()
    model = create_model(moat(plain.width, 16, plain.depths, positions=(4, 2), image_size=64).set(num_classes=3)).eval()
    model.family = "moat"
    load_reference(model, plain.variables, "official")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain.forward(images), rtol=1e-4, atol=1e-4)


def test_maps_at_any_size():
    model = create_model("tiny_moat_0", num_classes=3, image_size=64).eval()
    images = torch.randn(1, 3, 50, 83)
    assert [tuple(m.shape[1:]) for m in model.features(images)] == [(32, 13, 21), (64, 7, 11), (128, 4, 6), (256, 2, 3)]
    assert model(images).shape == (1, 3)


def test_a_map_that_windows_do_not_divide_can_be_refused():
    options = {f"stages.{i}.block.*.mixer.rest": "refuse" for i in (2, 3)}
    model = create_model("tiny_moat_0", image_size=64, **options)
    assert model(torch.randn(1, 3, 128, 64)).shape == (1, 1000)
    with pytest.raises(SizeError, match=r"map of 5x4 tokens is not made of whole windows of 4x4.*multiples of 4x4"):
        model(torch.randn(1, 3, 80, 64))
