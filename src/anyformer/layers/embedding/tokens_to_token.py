"""Tokens to token: attention among fine tokens, then neighbours side by side as one coarser token, twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.attention.linear.favor import favor, positive_features, random_directions
from anyformer.layers.attention.scoring.width import WidthSoftmax
from anyformer.layers.embedding.patch import StridedConv
from anyformer.layers.embedding.soft_split import soft_split, split_grid
from anyformer.layers.feedforward.mlp import MLP


class TokenStep(Part):
    """A soft split, then a transformer layer that narrows: `(b, *grid, inputs)` to `(b, *smaller, dim)`.

    y = v + W attention(q, k, v) with q, k, v of `dim` channels from the normed windows, then y + MLP(norm(y)); the
    values stand in for a residual, because windows have other channels than y. Yuan et al. 2021 (T2T-ViT),
    arXiv:2101.11986, equations 1 to 3.

    Args:
        inputs, dim: channels of the map and of the tokens.
        kernel, stride, padding: of the soft split.
        bias: biases of queries, keys and values.
        norm: of windows, and before the MLP.
        dropout: share of the branches' values dropped in training.
        rank: axes of the grid.
    """

    kind = "downsample"
    papers = ("t2t_vit",)
    tiny = {"inputs": 8}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        kernel: int = 3,
        stride: int = 2,
        padding: int = 1,
        bias: bool = False,
        norm: Spec = Spec("layernorm"),
        dropout: float = 0.0,
        rank: int = 2,
    ):
        super().__init__()
        self.windows = (kernel, stride, padding)
        self.wide = inputs * kernel**rank
        self.norm1 = build(norm, "norm", dim=self.wide)
        self.qkv = init.linear(self.wide, 3 * dim, bias)
        self.out = init.linear(dim, dim)
        self.norm2 = build(norm, "norm", dim=dim)
        self.ffn = MLP(dim, ratio=1.0)
        self.dropout = nn.Dropout(dropout)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of a map of this size."""
        return split_grid(size, *self.windows)

    def mixed(self, q: Tensor, k: Tensor, v: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """What attention makes of the values."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller c"]:
        windows = soft_split(x, *self.windows)
        q, k, v = self.qkv(self.norm1(windows.flatten(1, -2))).chunk(3, -1)
        y = v + self.dropout(self.out(self.mixed(q, k, v)))
        y = y + self.dropout(self.ffn(self.norm2(y)))
        return y.unflatten(1, windows.shape[1:-1])


class TokenTransformer(TokenStep):
    """The step with softmax attention of one head, scores divided by the root of the windows' channels.

    Cost: 2 tokens^2 c + tokens (3 wide c + 3 c^2) multiply-adds, wide = inputs kernel^rank. Arguments as `TokenStep`'s.
    """

    name = "token_transformer"

    def __init__(self, inputs: int, dim: int, *, kernel: int = 3, rank: int = 2, **options):
        super().__init__(inputs, dim, kernel=kernel, rank=rank, **options)
        # So in the authors' code, whose layer was written for queries as wide as its inputs.
        self.scoring = WidthSoftmax(1, width=self.wide)

    def mixed(self, q: Tensor, k: Tensor, v: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.scoring(q[:, None], k[:, None], v[:, None])[:, 0]


class TokenPerformer(TokenStep):
    """The step with a Performer's attention, linear in tokens: half as many positive random features as channels.

    The directions of the features are drawn once and stay. Choromanski et al. 2020, arXiv:2009.14794; scores are not
    divided by anything. Cost: tokens (3 wide c + 5 c^2) multiply-adds. Arguments as `TokenStep`'s.

    Args:
        features: random features for each channel.
    """

    name = "token_performer"

    def __init__(
        self, inputs: int, dim: int, *, features: float = 0.5, bias: bool = True, dropout: float = 0.1, **options
    ):
        super().__init__(inputs, dim, bias=bias, dropout=dropout, **options)
        self.directions = nn.Parameter(random_directions(max(1, int(dim * features)), dim), requires_grad=False)

    def mixed(self, q: Tensor, k: Tensor, v: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return favor(positive_features(q, self.directions), positive_features(k, self.directions), v)


class TokensToToken(Part):
    """Steps of soft split and attention, then a last soft split and a linear map: images to `(b, *grid, dim)`.

    With the published windows, images `(b, channels, *size)` become size / 16 tokens a side. The last split and its
    linear map are one convolution. Yuan et al. 2021, arXiv:2101.11986, section 3.1 and figure 3.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        width: channels of the fine tokens.
        kernels, strides, paddings: of each soft split, the last included.
        step: what makes fine tokens, e.g. Spec("token_performer"), Spec("token_transformer").
        rank: axes of the image.

    Raises:
        OptionError: lists of different lengths, or no split.
    """

    name = "tokens_to_token"
    kind = "embed"
    papers = ("t2t_vit",)
    tiny = {"in_channels": 3, "width": 8}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        width: int = 64,
        kernels: Sequence[int] = (7, 3, 3),
        strides: Sequence[int] = (4, 2, 2),
        paddings: Sequence[int] = (2, 1, 1),
        step: Spec = Spec("token_performer"),
        rank: int = 2,
    ):
        super().__init__()
        if not len(kernels) == len(strides) == len(paddings) > 0:
            raise OptionError(
                f"{self.name} has a kernel, a stride and a padding for each soft split; given {kernels}, {strides} "
                f"and {paddings}."
            )
        *windows, last = zip(kernels, strides, paddings, strict=True)
        widths = [in_channels, *[width] * len(windows)]
        self.steps = nn.ModuleList(
            build(step, "downsample", inputs=a, dim=b, kernel=kernel, stride=stride, padding=padding, rank=rank)
            for (a, b), (kernel, stride, padding) in zip(pairwise(widths), windows, strict=True)
        )
        kernel, stride, padding = last
        self.project = StridedConv(
            widths[-1], dim, kernel=kernel, stride=stride, padding=padding, rest="drop", rank=rank, what=self.name
        )

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        for step in self.steps:
            size = step.grid(size)
        return self.project.grid(size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = images.movedim(1, -1)
        for step in self.steps:
            x = step(x)
        return self.project(x)
