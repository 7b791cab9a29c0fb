"""From images to tokens by small convolutions and max-pooling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv

POOLINGS = {1: nn.functional.max_pool1d, 2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}


class ConvTokenizer(Part):
    """Convolution, activation, max-pooling, once or more: images `(b, channels, *size)` to tokens `(b, *grid, dim)`.

    x0 = MaxPool(ReLU(Conv2d(x))). It need not divide the image, and knows enough of places that positions are
    optional. Hassani et al. 2021 (CCT), arXiv:2104.05704, equation 1.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        kernel: side of every convolution.
        layers: how many.
        hidden: channels between them.
        stride, padding: of every convolution (None: kernel / 2 - 1, at least 1; kernel / 2).
        pool_kernel, pool_stride, pool_padding: of every pooling.
        act: activation.
        rank: axes of the image.
    """

    name = "conv_tokenizer"
    kind = "embed"
    papers = ("compact_transformers",)
    tiny = {"in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        kernel: int = 3,
        layers: int = 1,
        hidden: int = 64,
        stride: int | None = None,
        padding: int | None = None,
        pool_kernel: int = 3,
        pool_stride: int = 2,
        pool_padding: int = 1,
        act: Spec = Spec("relu"),
        rank: int = 2,
    ):
        super().__init__()
        if layers < 1:
            raise OptionError(f"{self.name} has 1 layer or more; given {layers}.")
        stride = max(1, kernel // 2 - 1) if stride is None else stride
        padding = max(1, kernel // 2) if padding is None else padding
        widths = [in_channels, *[hidden] * (layers - 1), dim]
        self.layers = nn.ModuleList(
            StridedConv(a, b, kernel=kernel, stride=stride, padding=padding, bias=False, rank=rank, what=self.name)
            for a, b in pairwise(widths)
        )
        for weight in self.layers.parameters():
            if not weight.is_meta:
                nn.init.kaiming_normal_(weight)
        self.act = build(act, "act")
        self.convolution, self.pooling = (kernel, stride, padding), (pool_kernel, pool_stride, pool_padding)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size. Raises `SizeError` where it has none."""
        grid = tuple(self._side(s) for s in size)
        if min(grid) < 1:
            least = next(s for s in range(1, 4096) if self._side(s) > 0)
            raise SizeError(
                f"{self.name}: an image of {'x'.join(map(str, size))} leaves no token after {len(self.layers)} "
                f"convolution(s) of kernel {self.convolution[0]}; the least side is {least}."
            )
        return grid

    def _side(self, side: int) -> int:
        """Tokens along a side of the image; 0 where nothing is left."""
        for _ in self.layers:
            for kernel, stride, padding in (self.convolution, self.pooling):
                side = max(0, (side + 2 * padding - kernel) // stride + 1) if side else 0
        return side

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        self.grid(images.shape[2:])
        x = images.movedim(1, -1)
        pool = POOLINGS[images.dim() - 2]
        for layer in self.layers:
            x = self.act(layer(x)).movedim(-1, 1)
            x = pool(x, *self.pooling).movedim(1, -1)
        return x
