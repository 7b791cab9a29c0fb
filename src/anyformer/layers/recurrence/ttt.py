"""TTT-Linear: a linear model that is trained on each token to turn keys into values."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import OptionError
from anyformer.core.state import State
from anyformer.kernels.exact import exact
from anyformer.layers.attention.projection import QKV, merge_heads
from anyformer.layers.recurrence.memory import MemoryMixer, before_norm, normed
from anyformer.layers.recurrence.recurrent import wide


class TTTLinear(MemoryMixer):
    """y = f(q; W_t), f(x; W) = x + LN(x W + c), W_t by gradient descent on |f(k; W) - v|^2 / 2 over the tokens so far.

    Sun et al. 2024, arXiv:2407.04620, sections 2.3 to 2.7. Gradients are taken at the W before a mini-batch of `chunk`
    tokens, which makes them products of matrices; a token's step size, sigmoid(w x) times `rate` / channels of a head,
    holds for all that its mini-batch has learned by then. As in flash-linear-attention the query passes by: out comes q
    W + c behind its own norm. Cost: tokens (4 c^2 + 2 c (chunk + head_dim)) multiply-adds; the state does not grow.

    Args:
        dim: channels.
        heads: each has a model of its own.
        chunk: tokens of a mini-batch.
        rate: the largest step size of a head's sum of gradients, over its channels.
        eps: of the norms.
    """

    name = "ttt_linear"
    papers = ("atlas_memory",)
    tiny = {"heads": 2, "chunk": 4}

    def __init__(self, dim: int, *, heads: int = 4, chunk: int = 16, rate: float = 1.0, eps: float = 1e-6):
        super().__init__()
        if chunk < 1 or rate <= 0:
            raise OptionError(f"ttt_linear takes a chunk of 1 token or more and a rate above 0; given {chunk}, {rate}.")
        self.qkv = QKV(dim, heads=heads, bias=False, part=self.name)
        d = self.qkv.head_dim
        self.chunk, self.rate, self.eps = chunk, rate / d, eps
        self.step_size = init.linear(dim, heads)
        self.weight = nn.Parameter(0.02 * torch.randn(heads, d, d))
        self.offset = nn.Parameter(torch.zeros(heads, 1, d))
        self.norm_weight, self.norm_bias = nn.Parameter(torch.ones(heads, d)), nn.Parameter(torch.zeros(heads, d))
        self.out = init.linear(dim, dim, False)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """The model `(b, h, d, d)` and `(b, h, 1, d)`, what its mini-batch has learned, and its tokens, none."""
        weight, offset = (t.to(wide(like)).expand(batch, *t.shape) for t in (self.weight, self.offset))
        state = {"weight": weight, "offset": offset, "learned": torch.zeros_like(weight)}
        state["shift"] = torch.zeros_like(offset)
        return {**state, "place": torch.zeros(batch, dtype=torch.long, device=like.device)}

    def read(
        self, x: Float[Tensor, "b n c"], state: State, place: int, resets: Bool[Tensor, "b m"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], dict[str, Tensor]]:
        q, k, v = self.qkv(x)
        eta = (self.rate * self.step_size(x).sigmoid()).transpose(1, 2)[..., None]
        y, new = ttt_linear(
            self.qkv.head_dim**-0.5 * q, k, v, eta, self.norm_weight, self.norm_bias, state, place,
            chunk=self.chunk, eps=self.eps, resets=resets,
        )  # fmt: skip
        return self.out(merge_heads(y)), {**new, "place": (state["place"] + x.shape[1]) % self.chunk}


def ttt_linear(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h n d"],
    v: Float[Tensor, "b h n d"],
    eta: Float[Tensor, "b h n 1"],
    norm_weight: Float[Tensor, "h d"],
    norm_bias: Float[Tensor, "h d"],
    state: State,
    place: int = 0,
    *,
    chunk: int,
    eps: float,
    resets: Bool[Tensor, "b m"] | None = None,
) -> tuple[Float[Tensor, "b h n d"], dict[str, Tensor]]:
    """Outputs in v's type, and the new state: `weight`, `offset`, `learned` and `shift`, as `TTTLinear`'s.

    Args:
        q, k, v: queries, scaled as wanted, keys and values.
        eta: step size of each token.
        norm_weight, norm_bias: of the model's norm.
        state: before the first token.
        place: how many tokens of a mini-batch it has seen.
        chunk: tokens of a mini-batch.
        eps: of the norm.
        resets: mini-batches, from a `place` of 0, that start from `state` again.
    """
    kind, n = v.dtype, q.shape[2]
    with exact(v):
        q, k, v, eta = (t.to(wide(t)) for t in (q, k, v, eta))
        w, b = norm_weight.to(v.dtype)[:, None], norm_bias.to(v.dtype)[:, None]
        model, offset, learned, shift = (state[name] for name in ("weight", "offset", "learned", "shift"))
        outputs, done = [], 0
        while done < n:
            stop = min(n, done + chunk - place)
            if resets is not None:
                reset = resets[:, done // chunk, None, None, None]
                model = torch.where(reset, state["weight"], model)
                offset = torch.where(reset, state["offset"], offset)
            qs, ks, vs, rate = (t[:, :, done:stop] for t in (q, k, v, eta))
            hat, deviation = normed(ks @ model + offset, eps)
            grad = before_norm((w * hat + b - (vs - ks)) * w, hat, deviation)
            seen = (qs @ ks.mT).tril() @ grad + qs @ learned + grad.cumsum(2) + shift
            outputs.append(qs @ model + offset - rate * seen)
            learned, shift = learned + ks.mT @ grad, shift + grad.sum(2, keepdim=True)
            place = (place + stop - done) % chunk
            if place == 0:
                last = rate[:, :, -1:]
                model, offset = model - last * learned, offset - last * shift
                learned, shift = torch.zeros_like(learned), torch.zeros_like(shift)
            done = stop
        y = torch.cat(outputs, 2) if outputs else torch.zeros_like(v)
        y = y + normed(y, eps)[0] * w + b
    return y.to(kind), {"weight": model, "offset": offset, "learned": learned, "shift": shift}
