"""Pooling at three ranges in place of attention: the whole text, its section, and the neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.kernels.attention import attend
from anyformer.layers.attention.projection import split_dim


@dataclass(frozen=True)
class SectionSegments(Segments):
    """Segments, and beside them the section of each token: `sections` `(b, n)`, numbered from 0 at the first one on.

    Through them an encoder hands on to its mixers what stands together, such as sentences.
    """

    sections: Int[Tensor, "b n"] | None = None

    @staticmethod
    def mark(sections: Int[Tensor, "b n"], segments: Segments | None = None) -> SectionSegments:
        """These sections; without segments, of one document and no padding."""
        return SectionSegments(torch.ones_like(sections) if segments is None else segments.ids, sections)

    def flat(self) -> SectionSegments:
        return SectionSegments(self.ids.flatten(1), None if self.sections is None else self.sections.flatten(1))


class PoNet(TokenMixer):
    """y = W ((g + s) * o + l): global attention of one query, maximum over the section, maximum over the neighbours.

    Five linear maps of the tokens give q, k, o, s' and l'. g = softmax(mean(q) k^T / sqrt(d)) k, in heads, one for the
    whole text; s is the largest s' of a token's section, l the largest l' around it, channel by channel. Tan et al.
    2021, arXiv:2110.02442, section 3. Cost: 5 tokens c^2 + 2 tokens c multiply-adds, and tokens (window + 1) c
    comparisons.

    Args:
        dim, heads: channels, and heads of the global query.
        window: tokens of a neighbourhood; odd.
        sections: sections that a text is cut into, each of n // sections + 1 tokens (as the authors' Long Range Arena).
        section: tokens of a section, instead of `sections`; then padding behind a text changes nothing in it.
        bias: biases of the linear maps.

    Raises:
        OptionError: an even window, or a number below 1.
    """

    name = "ponet"
    papers = ("ponet",)
    ranks = (1,)
    tiny = {"heads": 2, "section": 4}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        window: int = 3,
        sections: int = 32,
        section: int | None = None,
        bias: bool = True,
    ):
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise OptionError(f"ponet.window is odd, so that as many tokens lie before as after; given {window}.")
        if sections < 1 or (section is not None and section < 1):
            raise OptionError(f"ponet takes sections and section of 1 or more; given {sections} and {section}.")
        split_dim(dim, heads, None, self.name)
        self.heads, self.window, self.sections, self.section = heads, window, sections, section
        self.q, self.k, self.o, self.section_map, self.local_map = (init.linear(dim, dim, bias) for _ in range(5))
        self.out = init.linear(dim, dim, bias)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        segments: Segments | None = None,
        sections: Int[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Mix tokens; `sections` numbers each token's section (its sentence, say), from 0 at the first token on.

        Where they are not given, `segments` may say them (`SectionSegments`); otherwise they are blocks of tokens.

        Raises `SizeError` where these are not as many as tokens, `DataError` where they do not begin at 0.
        """
        sections = getattr(segments, "sections", None) if sections is None else sections
        valid = None if segments is None else segments.valid
        k, o, section, local = (part(x) for part in (self.k, self.o, self.section_map, self.local_map))
        # the mean of all tokens' q is the q of their mean
        g = self.whole(self.q(mean_token(x, valid)), k, valid)
        if valid is not None:
            section, local = (t.masked_fill(~valid[..., None], float("-inf")) for t in (section, local))
        s = self.blocks(section) if sections is None else section_maximum(section, sections)
        around = nn.functional.max_pool1d(local.mT, self.window, 1, self.window // 2).mT
        if valid is not None:  # at padding nothing was found
            s, around = (torch.where(valid[..., None], t, 0.0) for t in (s, around))
        return self.out((g + s) * o + around)

    def whole(
        self, q: Float[Tensor, "b 1 c"], k: Float[Tensor, "b n c"], valid: Tensor | None
    ) -> Float[Tensor, "b 1 c"]:
        """The one vector of the whole text: what its mean query finds among its keys, in heads."""
        mask = None if valid is None else valid[:, None, None]
        query, keys = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q.to(k.dtype), k))
        return attend(query, keys, keys, mask=mask).transpose(1, 2).flatten(2)

    def blocks(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """The maximum over blocks of tokens, one after the other."""
        n = x.shape[1]
        size = n // self.sections + 1 if self.section is None else self.section
        rows = nn.functional.pad(x, (0, 0, 0, -n % size), value=float("-inf")).unflatten(1, (-1, size))
        return rows.amax(2, keepdim=True).expand_as(rows).flatten(1, 2)[:, :n]


def mean_token(x: Float[Tensor, "b n c"], valid: Tensor | None) -> Float[Tensor, "b 1 c"]:
    """The mean of all tokens, or of the valid ones."""
    if valid is None:
        return x.mean(1, keepdim=True)
    total = (x * valid[..., None]).sum(1, keepdim=True)
    return (total / valid.sum(1).clamp(min=1)[:, None, None]).to(x.dtype)


def section_maximum(x: Float[Tensor, "b n c"], sections: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
    """The maximum over all tokens of a section, channel by channel, at each of its tokens.

    Raises `SizeError` where there is not a number for each token, `DataError` where numbers do not begin at 0.
    """
    if sections.shape != x.shape[:2]:
        raise SizeError(
            f"sections number every token: {tuple(x.shape[:2])} numbers for these tokens; given "
            f"{tuple(sections.shape)}."
        )
    if not torch.compiler.is_compiling() and sections.numel():
        first, low, high = int(sections[:, 0].abs().max()), int(sections.min()), int(sections.max())
        if first or low < 0 or high >= x.shape[1]:
            raise DataError(
                f"sections are numbered 0, 1, 2, ... from the first token on; given numbers from {low} to {high}, and "
                f"{first} at a first token: subtract the first number, and number without gaps."
            )
    where = sections[..., None].expand_as(x)
    return torch.zeros_like(x).scatter_reduce(1, where, x, "amax", include_self=False).gather(1, where)
