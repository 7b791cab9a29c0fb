"""The encoder skeleton: text in, a vector for every token out (BERT)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.heads import Head
from anyformer.blocks.text import TextModel
from anyformer.core.build import build
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class Encoder(TextModel):
    """Embed, repeat a block, norm, head. Ids `(b, n)` to what the head gives; `tokens` gives `(b, n, c)`.

    Devlin et al. 2018 (BERT), arXiv:1810.04805, section 3.

    Args:
        dim, depth, block: channels; blocks; the block, or blocks that alternate.
        vocab_size, max_length: number of ids, longest sequence of learned positions and fixed mixers.
        embed, position, embed_norm, types: tokens, absolute positions, norm of their sum, kinds of segment.
        norm: norm of the last block's output (pre-norm blocks need one).
        head: e.g. Spec("pooler"), Spec("classifier"); Spec("masked_lm") for scores of every id at every token.
        num_classes: outputs of the head; 0 for pooled features.
        drop_path, dropout: as `Isotropic`'s.
        init: as `Isotropic`'s.
    """

    name = "encoder"

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        vocab_size: int = 256,
        max_length: int = 512,
        embed: Spec = Spec("token"),
        position: Spec | None = None,
        embed_norm: Spec | None = None,
        types: int = 0,
        norm: Spec | None = None,
        head: Spec = Spec("classifier"),
        num_classes: int = 2,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__(
            dim, depth, block, causal=False, norm=norm, drop_path=drop_path, dropout=dropout, vocab_size=vocab_size,
            max_length=max_length, embed=embed, position=position, embed_norm=embed_norm, types=types,
        )  # fmt: skip
        self.head = build(head, "head", dim=dim, num_classes=num_classes)
        over_vocabulary = getattr(self.head, "over_vocabulary", False)
        self.head_bias = nn.Parameter(torch.zeros(vocab_size)) if over_vocabulary else None

    def forward(
        self, ids: Int[Tensor, "b n"], segments: Segments | None = None, types: Int[Tensor, "b n"] | None = None
    ) -> Tensor:
        y = self.head(self.tokens(ids, segments, types), segments)
        return y if self.head_bias is None else nn.functional.linear(y, self.embedding.embed.weight, self.head_bias)


class Pooler(Head):
    """act(W x_0) of the first token, then a linear head: `(b, num_classes)`, or with num_classes=0 `(b, c)`.

    Devlin et al. 2018 (BERT), arXiv:1810.04805, section 4.

    Args:
        dim: channels.
        num_classes: classes; 0 for the pooled vector.
        act: tanh in BERT, ReLU in DistilBERT.
        dropout: share of the pooled values dropped in training.
    """

    name = "pooler"
    prefix = 1

    def __init__(self, dim: int, *, num_classes: int = 2, act: Spec = Spec("tanh"), dropout: float = 0.0):
        super().__init__()
        self.dense = linear(dim, dim)
        self.act = build(act, "act")
        self.dropout = nn.Dropout(dropout)
        self.linear = linear(dim, num_classes) if num_classes else None

    def forward(
        self, x: Float[Tensor, "b n c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b classes"]:
        y = self.act(self.dense(x[:, 0]))
        return y if self.linear is None else self.linear(self.dropout(y))


class MaskedLM(Head):
    """norm(act(W x)) of every token, which an encoder compares with the vectors of its vocabulary: `(b, n, c)`.

    Devlin et al. 2018 (BERT), arXiv:1810.04805, section 3.1, task 1.
    """

    name = "masked_lm"
    over_vocabulary = True

    def __init__(self, dim: int, *, act: Spec = Spec("gelu"), norm: Spec = Spec("layernorm", eps=1e-12)):
        super().__init__()
        self.dense = linear(dim, dim)
        self.act = build(act, "act")
        self.norm = build(norm, "norm", dim=dim)

    def forward(
        self, x: Float[Tensor, "b n c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b n c"]:
        return self.norm(self.act(self.dense(x)))
