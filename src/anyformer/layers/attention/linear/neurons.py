"""Attention among neurons: linear attention in a space of many positive, sparse activations, without a softmax."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.core.state import State
from anyformer.kernels.linear_recurrence import linear_recurrence
from anyformer.layers.position.rotary import Rotary
from anyformer.layers.recurrence.recurrent import Recurrent, wide


class NeuronAttention(Recurrent):
    """Tokens as activations of neurons, which read what those of earlier tokens wrote into synapses.

    Of each head, with N neurons: s = relu(x E), q = k = rotated s; the synapses rho are a matrix of N by channels,

        a_t = q_t rho_t,   rho_(t+1) = rho_t + k_t x_t^T,   y = relu(norm(a) E_v),   out = (s * y) D

    so a token does not see itself, and what two neurons have done together is in rho (Hebb's rule). D reads the neurons
    of all heads. Kosowski et al. 2025 (BDH-GPU), arXiv:2509.26507, section 3 and appendix E. Always causal. Cost: for
    each token and head 3 N c multiply-adds in E, E_v and D; with rows no longer than `chunk`, N + c for each earlier
    token; else `chunk` times that and 2 N c. The state, N c numbers a head, does not grow.

    Args:
        dim: channels, c.
        heads: groups of neurons.
        neurons: of all heads together, over `dim`.
        base: of the rotation; the slowest neurons turn by about 1 / base a token.
        dropout: share of neurons dropped in training.

    Raises:
        OptionError: neurons that the heads do not share evenly, or an odd number a head: rotations turn pairs.
    """

    name = "neuron_attention"
    papers = ("bdh",)
    tiny = {"heads": 2, "neurons": 2}

    def __init__(self, dim: int, *, heads: int = 4, neurons: int = 128, base: float = 2.0**16, dropout: float = 0.1):
        super().__init__()
        if heads < 1 or neurons < 1 or neurons * dim % heads:
            raise OptionError(
                f"neuron_attention: heads share the neurons evenly; given {heads} heads and {neurons} * {dim} neurons."
            )
        own = neurons * dim // heads
        if own % 2:
            raise OptionError(
                f"neuron_attention: neurons are rotated in pairs; given {own} for each of {heads} heads, an odd number."
            )
        self.heads, self.neurons = heads, own
        self.chunk = max(16, 2 * own * dim // (own + dim))
        self.encoder = nn.Parameter(0.02 * torch.randn(heads, dim, own))
        self.encoder_v = nn.Parameter(0.02 * torch.randn(heads, dim, own))
        self.decoder = nn.Parameter(0.02 * torch.randn(heads * own, dim))
        self.rotation = Rotary(own, base=base, layout="interleaved")
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        tokens = x.flatten(1, -2)
        if tokens.shape[1] > self.chunk:
            return super().forward(x, segments)
        if segments is not None:
            tokens = segments.flat().zero(tokens)
        s = self.activations(tokens).transpose(0, 1)
        q = self.rotation(s)
        before = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=x.device).tril(-1)
        if segments is not None:
            before = before & segments.pairs().transpose(0, 1)
        read = (q @ q.mT).masked_fill(~before, 0) @ tokens
        return self.written(s, read).view_as(x)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """No synapses: `memory` `(b, heads, N, c)` in at least float32, and `seen` `(b)`, tokens so far."""
        memory = like.new_zeros(batch, self.heads, self.neurons, self.encoder.shape[1], dtype=wide(like))
        return {"memory": memory, "seen": torch.zeros(batch, dtype=torch.long, device=like.device)}

    def mix(
        self, x: Float[Tensor, "b n c"], state: State, resets: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        s = self.activations(x)
        # Only distances count, so documents need no positions of their own.
        q = self.rotation(s, state["seen"][:, None] + torch.arange(x.shape[1], device=x.device))
        none = q.new_zeros(self.heads, self.neurons)  # what a token's own key counts
        values = x[:, None].expand(-1, self.heads, -1, -1)
        read, memory = linear_recurrence(
            q, q, values, bonus=none, resets=resets, state=state["memory"], chunk=self.chunk
        )
        return self.written(s.transpose(0, 1), read.transpose(0, 1)), {
            "memory": memory,
            "seen": state["seen"] + x.shape[1],
        }

    # Heads lie first in memory: their maps then are one product each over the tokens of all rows, where with rows first
    # every row would get a copy of the weights, and a gradient of its own.

    def activations(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n neurons"]:
        """How active each neuron is at each token: 0 or more, and 0 for most once trained."""
        s = x.flatten(0, 1).expand(self.heads, -1, -1) @ self.encoder
        return F.relu(s).unflatten(1, x.shape[:2]).transpose(0, 1)

    def written(self, s: Float[Tensor, "h b n neurons"], read: Float[Tensor, "h b n c"]) -> Float[Tensor, "b n c"]:
        """The output from activations and from what was read of the synapses."""
        y = F.relu(F.layer_norm(read, read.shape[-1:]).to(s.dtype).flatten(1, 2) @ self.encoder_v).view_as(s)
        return self.dropout(s * y).movedim(0, 2).flatten(2) @ self.decoder
