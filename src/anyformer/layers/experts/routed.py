"""A sparse mixture of gated MLPs: each token is mixed by the few experts that a router chooses for it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import OptionError
from anyformer.core.part import ChannelMixer
from anyformer.core.penalty import keep_penalty
from anyformer.core.spec import Spec
from anyformer.layers.feedforward.mlp import GatedMLP


class RoutedExperts(ChannelMixer):
    """sum_e g_e E_e(x) over the `k` experts that are likeliest for a token, each a gated MLP.

    Gates are the chosen experts' shares of softmax(W x), made to add up to 1.
    Shazeer et al. 2017, arXiv:1701.06538, without its noise, as the decoder of the Reactive Transformer has it
    (arXiv:2510.03561). In training it keeps a penalty, `balance` times experts * sum_e f_e p_e with the share f_e of
    the choices that fell on an expert and its mean probability p_e where it was chosen.
    Cost: 3 k c hidden multiply-adds a token; while it is compiled, those of all experts, as their shares of the tokens
    are not known then.

    Args:
        dim: channels.
        experts, k: how many there are, and how many a token has.
        ratio, hidden, act, bias, dropout: as `GatedMLP`'s, of each expert.
        balance: weight of the penalty.

    Raises:
        OptionError: `k` is not 1 to `experts`.
    """

    name = "routed_experts"
    papers = ("rxt",)
    tiny = {"experts": 3, "k": 2}

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 8,
        k: int = 2,
        ratio: float = 8 / 3,
        hidden: int | None = None,
        act: Spec = Spec("silu"),
        bias: bool = False,
        dropout: float = 0.0,
        balance: float = 0.01,
    ):
        super().__init__()
        if not 1 <= k <= experts:
            raise OptionError(f"k experts of all mix a token: k is 1 to experts ({experts}); given k={k}.")
        self.k, self.balance = k, balance
        self.router = init.linear(dim, experts, False)
        self.experts = nn.ModuleList(
            GatedMLP(dim, ratio=ratio, hidden=hidden, act=act, bias=bias, dropout=dropout) for _ in range(experts)
        )

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        tokens = x.reshape(-1, x.shape[-1])
        chances = self.router(tokens).float().softmax(-1)
        top, chosen = chances.topk(self.k, -1)
        gates = torch.zeros_like(chances).scatter(-1, chosen, top / top.sum(-1, keepdim=True)).to(x.dtype)
        keep_penalty(self, self.balance * imbalance(chances, gates > 0))
        if torch.compiler.is_compiling():
            y = sum(expert(tokens) * gates[:, e, None] for e, expert in enumerate(self.experts))
        else:
            y = torch.zeros_like(tokens)
            for e, expert in enumerate(self.experts):
                own = gates[:, e].nonzero()[:, 0]
                y = y.index_add(0, own, (expert(tokens[own]) * gates[own, e, None]).to(y.dtype))
        return y.view_as(x)


def imbalance(chances: Float[Tensor, "n m"], used: Tensor) -> Tensor:
    """experts * sum_e f_e p_e, for the probabilities of n tokens and where each of m experts is `used`."""
    used = used.to(chances.dtype)
    times = used.sum(0)
    share = times / times.sum().clamp(min=1)
    return chances.shape[1] * (share * (chances * used).sum(0) / times.clamp(min=1)).sum()
