"""TK: queries and documents read apart by a small transformer, and matched term by term through kernels.

Hofstaetter et al. 2020, arXiv:2002.01854; K-NRM (Xiong et al. 2017, arXiv:1706.06613) is the same without the
transformer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack
from anyformer.blocks.text import check_ids, example_length
from anyformer.core.build import build
from anyformer.core.errors import DataError
from anyformer.core.init import Start, chooses_start
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.kernels.exact import exact
from anyformer.layers.pooling.kernels import GaussianKernels

PAPERS = ("tkl",)

CENTRES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, -0.1, -0.3, -0.5, -0.7, -0.9)
WIDTHS = (0.1,) * 11
DOCUMENT = 500
"""Where the positions of documents begin, so that they are not those of queries."""


def sines(positions: Tensor, dim: int) -> Float[Tensor, "n c"]:
    """Sines, then cosines, of positions at dim / 2 periods from 2 pi to 20000 pi, both ends among them."""
    half = dim // 2
    periods = torch.exp(torch.arange(half, device=positions.device) * (-math.log(10000.0) / max(half - 1, 1)))
    angles = positions[:, None].float() * periods
    return F.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, dim % 2))


class TermMatcher(Model):
    """Ids of queries `(b, q)` and of documents `(b, n)` to how well they fit, `(b,)`: what TK and TKL share.

    Terms are x = m e + (1 - m) transformer(e + p), of each text alone; cosines of all pairs of terms pass Gaussian
    kernels, whose sums over (a region of) the document are saturated, summed over the query's terms and weighed. A
    subclass says in `read` how documents are read, and in `score` over which regions is summed.

    Args:
        dim, depth, block: channels of a term; blocks; the block.
        vocab_size: ids.
        centres, widths: of the kernels.
        saturation: of their sums, e.g. Spec("learned_saturation").
        init: as `Isotropic`'s.
    """

    interaction: ClassVar[bool] = True
    """Scores pairs of a query and a document, unlike an encoder, which makes a vector of each."""

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec,
        vocab_size: int = 256,
        centres: Sequence[float] = CENTRES,
        widths: Sequence[float] = WIDTHS,
        saturation: Spec = Spec("scaled_log_saturation"),
        init: Start = "published",
    ):
        super().__init__()
        self.dim, self.vocab_size = dim, vocab_size
        self.embed = build(Spec("token"), "embed", dim=dim, vocab_size=vocab_size)
        self.blocks = Stack(block, depth, dim=dim, grid=(None,), causal=False)
        self.mix = nn.Parameter(torch.full((1,), 0.5)) if depth else None
        self.kernels = GaussianKernels(centres, widths)
        self.saturation = build(saturation, "saturation", dim=dim, kernels=len(centres))
        self.weigh = nn.Linear(len(centres), 1, bias=False)
        nn.init.uniform_(self.weigh.weight, -0.014, 0.014)

    def mixed(
        self, x: Float[Tensor, "b n c"], position: Float[Tensor, "n c"], segments: Segments | None
    ) -> Float[Tensor, "b n c"]:
        """Terms of a text beside what the transformer makes of them."""
        if self.mix is None:
            return x
        return self.mix * x + (1 - self.mix) * self.blocks(x + position, segments)

    def read_query(self, ids: Int[Tensor, "b q"], segments: Segments | None = None) -> Float[Tensor, "b q c"]:
        """Terms of queries."""
        raise NotImplementedError

    def read(self, ids: Int[Tensor, "b n"], segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        """Terms of documents."""
        raise NotImplementedError

    def score(
        self,
        matches: Float[Tensor, "b q k n"],
        terms: Float[Tensor, "b q c"],
        valid: Bool[Tensor, "b n"],
        query_segments: Segments | None,
    ) -> Float[Tensor, "b"]:
        """The score of documents from the kernels of all pairs of terms."""
        raise NotImplementedError

    def forward(
        self,
        query: Int[Tensor, "b q"],
        document: Int[Tensor, "b n"],
        query_segments: Segments | None = None,
        document_segments: Segments | None = None,
    ) -> Float[Tensor, "b"]:
        self.check(query, query_segments, "query")
        valid = self.check(document, document_segments, "document")
        terms = self.read_query(query, query_segments)
        matches = self.matches(terms, self.read(document, document_segments), valid)
        return self.score(matches, terms, valid, query_segments)

    def matches(
        self, query: Float[Tensor, "b q c"], document: Float[Tensor, "b n c"], valid: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b q k n"]:
        """Kernels of the cosine of every term of the query with every one of the document; 0 at padding."""
        with exact(query):
            similarity = F.normalize(query.float(), dim=-1) @ F.normalize(document.float(), dim=-1).mT
            return self.kernels(similarity) * valid[:, None, None].float()

    def worth(
        self, sums: Float[Tensor, "b q k r"], query: Tensor, sizes: Float[Tensor, "b r"], segments: Segments | None
    ) -> Float[Tensor, "b r"]:
        """The score of each region from its sums; regions without a term have the score 0."""
        with exact(query):
            saturated = self.saturation(sums, query.float(), sizes) * (sizes > 0)[:, None, None]
            if segments is not None:
                saturated = saturated * segments.valid[:, :, None, None]
            return torch.einsum("bqkr,k->br", saturated, self.weigh.weight[0])

    def check(self, ids: Tensor, segments: Segments | None, what: str) -> Bool[Tensor, "b n"]:
        """Which terms are valid. Raises `DataError` for ids that there are not, and for a text without a term."""
        check_ids(ids, self.vocab_size)
        valid = torch.ones_like(ids, dtype=torch.bool) if segments is None else segments.valid
        if not torch.compiler.is_compiling() and not bool(valid.any(1).all()):
            empty = torch.arange(len(ids), device=ids.device)[~valid.any(1)].tolist()
            raise DataError(
                f"a {what} has one term or more; of {len(ids)} given, those numbered {empty[:8]} are empty: leave them "
                "out, or give them a term for what is unknown."
            )
        return valid

    def features(
        self, ids: Int[Tensor, "b n"], layers: Sequence[int] | None = None, segments: Segments | None = None
    ) -> list[Float[Tensor, "b n c"]]:
        """Terms of documents, mixed; or what the chosen blocks make of them."""
        raise NotImplementedError

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random queries of 8 terms, and documents of `size` (64)."""
        shapes = ((batch, 8), (batch, example_length(size, 64)))
        return tuple(torch.randint(0, self.vocab_size, shape, device=self.device) for shape in shapes)


class TK(TermMatcher):
    """Ids of queries and of documents to a score each, `(b,)`: kernels summed over the whole document.

    score = sum_k w_k sum_q log(alpha_k sum_d exp(-(cos(q, d) - mu_k)^2 / (2 sigma_k^2))). Hofstaetter et al. 2020,
    arXiv:2002.01854, section 3; with depth=0 and Spec("log_saturation") K-NRM, arXiv:1706.06613. Cost: the transformer
    of both texts, whose attention is quadratic in the document; q n (c + k) multiply-adds.

    Args:
        options: as `TermMatcher`'s.

    Raises:
        DataError: an empty query or document, or ids that there are not.
    """

    name = "tk"
    papers = ("tkl",)

    @chooses_start
    def __init__(self, **options: Any):
        super().__init__(**options)

    def read_query(self, ids: Int[Tensor, "b q"], segments: Segments | None = None) -> Float[Tensor, "b q c"]:
        position = sines(torch.arange(ids.shape[1], device=ids.device), self.dim)
        return self.mixed(self.embed(ids), position, segments)

    def read(self, ids: Int[Tensor, "b n"], segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        return self.mixed(self.embed(ids), self._positions(ids), segments)

    def _positions(self, ids: Tensor) -> Float[Tensor, "n c"]:
        return sines(DOCUMENT + torch.arange(ids.shape[1], device=ids.device), self.dim)

    def score(
        self,
        matches: Float[Tensor, "b q k n"],
        terms: Float[Tensor, "b q c"],
        valid: Bool[Tensor, "b n"],
        query_segments: Segments | None,
    ) -> Float[Tensor, "b"]:
        sizes = valid.float().sum(1, keepdim=True)
        return self.worth(matches.sum(-1, keepdim=True), terms, sizes, query_segments)[:, 0]

    def features(
        self, ids: Int[Tensor, "b n"], layers: Sequence[int] | None = None, segments: Segments | None = None
    ) -> list[Float[Tensor, "b n c"]]:
        if layers is None:
            return [self.read(ids, segments)]
        return self.blocks.outputs(self.embed(ids) + self._positions(ids), layers, segments)


VOCABULARY = 400_000
"""Of the 6-billion-word GloVe vectors; the authors' own is that of their collection."""


def matcher(name: str, *, dim: int = 300, depth: int = 2, heads: int = 10, hidden: int = 300, **options: Any) -> Spec:
    """A `TermMatcher` of this name over post-norm blocks; by default as large as the authors'."""
    mixer, ffn = Spec("attention", heads=heads), Spec("mlp", hidden=hidden, act=Spec("relu"))
    return Spec(name, dim=dim, depth=depth, block=Spec("postnorm", mixer=mixer, ffn=ffn), **options)


VARIANTS = {
    "tk": matcher("tk", vocab_size=VOCABULARY),
    "knrm": matcher(
        "tk", depth=0, vocab_size=VOCABULARY, widths=(1e-4, *WIDTHS[1:]), saturation=Spec("log_saturation")
    ),
    # Ours, for bytes and for tests.
    "tk_micro": matcher("tk", dim=48, depth=1, heads=4, hidden=96, init="fan_in"),
}
