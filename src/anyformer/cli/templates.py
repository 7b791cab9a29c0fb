"""What `anyformer new` writes. Each works as it is, so that the contract tests pass before the idea goes in."""

from __future__ import annotations

MIXER = '''"""{cls}: a token mixer, so far the mean of all tokens."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments


class {cls}(TokenMixer):
    """Every token gets a linear map of the mean over all tokens.

    Cost: tokens c multiply-adds, and c^2. State here the paper, its arXiv number and the equation.

    Args:
        dim: channels.
    """

    name = "{name}"
    papers = {papers}

    def __init__(self, dim: int):
        super().__init__()
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        tokens = x.flatten(1, -2)
        if segments is None:
            mean = tokens.mean(1)
        else:
            valid = segments.flat().valid[..., None]
            mean = (tokens * valid).sum(1) / valid.sum(1).clamp(min=1)
        return self.out(mean)[:, None].expand_as(tokens).reshape(x.shape)
'''

MIXER_TEST = '''"""What is special about the token mixer {name}; the contract tests cover what all mixers share."""

from __future__ import annotations

import torch

from {module} import {cls}


def test_every_token_gets_the_mean():
    mixer = {cls}(dim=8)
    x = torch.randn(2, 3, 4, 8)
    expected = mixer.out(x.mean((1, 2)))
    torch.testing.assert_close(mixer(x), expected[:, None, None].expand_as(x))
'''

FFN = '''"""{cls}: a channel mixer, so far one linear map."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.part import ChannelMixer


class {cls}(ChannelMixer):
    """y = W x + b, each token alone.

    Cost: tokens c^2 multiply-adds. State here the paper, its arXiv number and the equation.

    Args:
        dim: channels.
    """

    name = "{name}"
    papers = {papers}

    def __init__(self, dim: int):
        super().__init__()
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return self.out(x)
'''

FFN_TEST = '''"""What is special about the channel mixer {name}; the contract tests cover what all of them share."""

from __future__ import annotations

import torch

from {module} import {cls}


def test_is_linear_in_each_token():
    mixer = {cls}(dim=8)
    x, y = torch.randn(2, 2, 5, 8)
    bias = mixer(torch.zeros(8))
    torch.testing.assert_close(mixer(x + y) + bias, mixer(x) + mixer(y))
'''

NORM = '''"""{cls}: a norm, so far a division by the largest magnitude."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.part import Norm


class {cls}(Norm):
    """y = g x / (max |x| + eps), each token alone.

    State here the paper, its arXiv number and the equation.

    Args:
        dim: channels.
        eps: added to the divisor.
    """

    name = "{name}"
    papers = {papers}

    def __init__(self, dim: int, *, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        return self.weight * x / (x.abs().amax(-1, keepdim=True) + self.eps)
'''

NORM_TEST = '''"""What is special about the norm {name}; the contract tests cover what all norms share."""

from __future__ import annotations

import torch

from {module} import {cls}


def test_the_largest_magnitude_is_one():
    x = 100 * torch.randn(2, 5, 8)
    largest = {cls}(dim=8)(x).abs().amax(-1)
    torch.testing.assert_close(largest, torch.ones(2, 5))
'''

PARTS = {"mixer": (MIXER, MIXER_TEST), "ffn": (FFN, FFN_TEST), "norm": (NORM, NORM_TEST)}
"""Kind of part to its source and its test."""

CLAIM = '''"""{title}, {year}.{arxiv}

{sentence}
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.models import model_spec

CLAIM = Claim(
    statement="Digits are recognized after a short training.",
    baseline="guessing, which is right in a tenth of all cases",
    expect=(Expect("gain", at_least=0.3, unit="accuracy"),),
    seeds=(0, 1),
)


def measure(seed: int) -> dict[str, float]:
    accuracy = score(model_spec("vit_micro"), seed)
    return {{"accuracy": accuracy, "gain": accuracy - 0.1}}


def score(spec: Spec, seed: int) -> float:
    """Accuracy on held-out digits after 300 steps."""
    config = TrainConfig(budget="300steps", learning_rate=2e-3, seed=seed)
    return train(spec, "digits", config, progress=False).metrics["accuracy"]
'''

NEXT = {
    "part": "write the equation, then run pytest -k {name}; the contract tests cover it from now on.",
    "claim": "state what the paper claims, measure it against its baseline, then run 'anyformer claim {name}'.",
    "card": "complete the card, then run 'anyformer show {name}'.",
}
"""What comes after, by what was started."""
