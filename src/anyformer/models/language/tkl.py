"""TKL: long documents read in overlapping chunks, matched through kernels, and ranked by their best regions.

Hofstaetter et al. 2020, arXiv:2005.04908.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.models.language.tk import DOCUMENT, VOCABULARY, TermMatcher, matcher, sines

PAPERS = ("tkl",)

NEIGHBOURS = (0, -1, 1, -2, 2)
"""Regions that count beside each of the best, in steps of the window."""


class TKL(TermMatcher):
    """Ids of queries `(b, q)` and of documents `(b, n)` of any length to a score each, `(b,)`.

    A document is cut into chunks, each read with some terms on both sides, whose states are then dropped; empty chunks
    are not read. Kernels are summed in a window that slides over the document; each place of it is a region. The best
    regions that do not overlap, and the two places on either side of each, are weighed. Hofstaetter et al. 2020,
    arXiv:2005.04908, section 3. Cost: linear in n; the transformer on n (chunk + 2 overlap) / chunk terms,
    q n (c + k window / stride) multiply-adds.

    A score does not depend on padding behind a document: places beyond its end are regions without a term. In the
    authors' code it does where a row ends less than some 130 terms behind its document, and of rows that are 1 to 4
    terms longer than whole chunks these terms are left out; scores are equal elsewhere.

    Args:
        chunk, overlap: terms of a chunk, and those before and behind it that it sees.
        window, stride: terms of a region, and from one to the next.
        top: regions that count, beside their neighbours.
        query_length: terms of the longest query.
        saturation, init: as `TermMatcher`'s.
        options: as `TermMatcher`'s.

    Raises:
        DataError: an empty query or document, or ids that there are not.
        OptionError: sizes that are not positive, or a stride that is longer than the window.
        SizeError: a query that is too long.
    """

    name = "tkl"
    papers = ("tkl",)

    @chooses_start
    def __init__(
        self,
        *,
        chunk: int = 40,
        overlap: int = 5,
        window: int = 30,
        stride: int = 2,
        top: int = 3,
        query_length: int = 30,
        saturation: Spec = Spec("learned_saturation"),
        init: Start = "published",
        **options: Any,
    ):
        if min(chunk, stride, top, query_length) < 1 or overlap < 0 or window < stride:
            raise OptionError(
                "tkl takes a chunk, stride, top and query_length of 1 or more, an overlap of 0 or more, and a window "
                f"no shorter than its stride; given chunk={chunk}, overlap={overlap}, window={window}, "
                f"stride={stride}, top={top}, query_length={query_length}."
            )
        super().__init__(saturation=saturation, init=init, **options)
        self.chunk, self.overlap, self.window, self.stride, self.top = chunk, overlap, window, stride, top
        self.query_position = nn.Parameter(sines(torch.arange(query_length), self.dim))
        self.position = nn.Parameter(sines(DOCUMENT + torch.arange(chunk + 2 * overlap), self.dim))
        self.regions = nn.Parameter(torch.ones(top * len(NEIGHBOURS)))

    def read_query(self, ids: Int[Tensor, "b q"], segments: Segments | None = None) -> Float[Tensor, "b q c"]:
        if ids.shape[1] > len(self.query_position):
            raise SizeError(
                f"a query has up to {len(self.query_position)} terms; given {ids.shape[1]}: shorten it, or build the "
                f"model with query_length={ids.shape[1]}."
            )
        return self.mixed(self.embed(ids), self.query_position[: ids.shape[1]], segments)

    def read(self, ids: Int[Tensor, "b n"], segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        """Terms of documents; chunks without a valid one are not read, and 0."""
        chunks, valid = self._chunks(ids, segments)
        kept = self._occupied(valid, segments)
        states = self.mixed(chunks[kept], self.position, Segments.from_mask(valid[kept]))
        return self._joined(states, kept, ids)

    def _chunks(self, ids: Tensor, segments: Segments | None) -> tuple[Tensor, Bool[Tensor, "m t"]]:
        """Embedded terms of all chunks of all documents with those around them `(m, t, c)`, and which are valid."""
        valid = torch.ones_like(ids, dtype=torch.bool) if segments is None else segments.valid
        sides = (self.overlap, -ids.shape[1] % self.chunk + self.overlap)

        def cut(x: Tensor) -> Tensor:
            return F.pad(x, sides).unfold(1, self.chunk + 2 * self.overlap, self.chunk).flatten(0, 1)

        return self.embed(cut(ids)), cut(valid)

    def _occupied(self, valid: Bool[Tensor, "m t"], segments: Segments | None) -> Tensor | slice:
        """Chunks whose own terms are not all padding. A compiled graph has one shape, so there all of them are read."""
        if segments is None or torch.compiler.is_compiling():
            return slice(None)
        return valid[:, self.overlap : self.overlap + self.chunk].any(1).nonzero()[:, 0]

    def _joined(self, states: Tensor, kept: Tensor | slice, ids: Tensor) -> Float[Tensor, "b n c"]:
        """The documents from their chunks, without what is around each."""
        states = states[:, self.overlap : self.overlap + self.chunk]
        if isinstance(kept, Tensor):
            whole = states.new_zeros(len(ids) * (-(-ids.shape[1] // self.chunk)), *states.shape[1:])
            states = whole.index_copy(0, kept, states)
        return states.reshape(len(ids), -1, states.shape[-1])[:, : ids.shape[1]]

    def score(
        self,
        matches: Float[Tensor, "b q k n"],
        terms: Float[Tensor, "b q c"],
        valid: Bool[Tensor, "b n"],
        query_segments: Segments | None,
    ) -> Float[Tensor, "b"]:
        sizes = self._slide(valid[:, None].float())[:, 0]
        scores = self.worth(self._slide(matches), terms, sizes, query_segments)
        return self.best(scores, sizes > 0)

    def _slide(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b r"]:
        """Sums over windows at every stride from the first term, so far beyond the end that none is missed."""
        beyond = self.top * -(-self.window // self.stride) + max(NEIGHBOURS)
        places = -(-x.shape[-1] // self.stride) + beyond
        width = self.stride * (places - 1) + self.window
        rows = F.pad(x, (0, width - x.shape[-1])).flatten(0, -2)[:, None]
        return (F.avg_pool1d(rows, self.window, self.stride) * self.window).view(*x.shape[:-1], places)

    def best(self, scores: Float[Tensor, "b r"], there: Bool[Tensor, "b r"]) -> Float[Tensor, "b"]:
        """The weighed sum over the best regions that do not overlap and their neighbours; `there` are those with terms.

        Where fewer regions are left, the first place beyond stands for one: it is worth nothing, but regions beside
        it count, as in the authors' code.
        """
        places = torch.arange(scores.shape[1], device=scores.device)
        rank = scores.detach().masked_fill(~there, torch.finfo(scores.dtype).min)
        found = []
        for _ in range(self.top):
            found.append(rank.argmax(1, keepdim=True))
            near = (places - found[-1]).abs() * self.stride < self.window
            rank = rank.masked_fill(near, -torch.inf)
        picked = torch.cat(found, 1)
        picked = torch.cat([picked + step for step in NEIGHBOURS], 1).clamp(min=0)
        return (scores.gather(1, picked) * self.regions).sum(1)

    def features(
        self, ids: Int[Tensor, "b n"], layers: Sequence[int] | None = None, segments: Segments | None = None
    ) -> list[Float[Tensor, "b n c"]]:
        if layers is None:
            return [self.read(ids, segments)]
        chunks, valid = self._chunks(ids, segments)
        kept = self._occupied(valid, segments)
        outputs = self.blocks.outputs(chunks[kept] + self.position, layers, Segments.from_mask(valid[kept]))
        return [self._joined(states, kept, ids) for states in outputs]


VARIANTS = {
    "tkl": matcher("tkl", vocab_size=VOCABULARY),
    # Ours, for bytes and for tests.
    "tkl_micro": matcher("tkl", dim=48, depth=1, heads=4, hidden=96, chunk=20, window=16, init="fan_in"),
}
