"""Local layers inside groups of tokens, global layers among a few latents of each group, and what passes between them.

Chen and Li 2023 (FIT), arXiv:2305.12689, section 2: the trunk of an encoder, a denoiser and an autoregressive decoder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.stack import Stack
from anyformer.core.build import build
from anyformer.core.errors import FitError, OptionError
from anyformer.core.init import trunc_normal
from anyformer.core.spec import Spec
from anyformer.layers.attention.cross.cross import CrossAttention

NORM = Spec("layernorm", eps=1e-6)
BLOCK = Spec("prenorm", mixer=Spec("attention", heads=8), norm=NORM)


def attending(heads: int, ratio: float) -> Spec:
    """The block of FIT's layers, local or global."""
    return Spec("prenorm", mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=ratio), norm=NORM)


def layer_plan(layers: str) -> list[tuple[int, int]]:
    """Counts of local layers, in brackets, and of global ones behind them, as pairs: "(2)4(2)" has (2, 4), (2, 0).

    Raises `OptionError` for another text, and for groups of local layers without global ones between.
    """
    text = layers if not layers.endswith(")") else layers + "0"
    plan = [(int(a), int(b)) for a, b in re.findall(r"\((\d+)\)(\d+)", text)]
    if not re.fullmatch(r"(\(\d+\)\d+)+", text) or any(level[1] == 0 for level in plan[:-1]):
        raise OptionError(
            "layers are counts of local layers in brackets and of global layers behind them, as in '(2)4(2)', with "
            f"global layers between two brackets; given {layers!r}."
        )
    return plan


def last_alone(found: Tensor, layers: Sequence[int] | None) -> list[Tensor]:
    """What there is after the last layers, once for each layer asked for. Raises `OptionError` but for 0 and -1."""
    chosen = [-1] if layers is None else list(layers)
    if any(i not in (0, -1) for i in chosen):
        raise OptionError(f"a FIT has one output, after its last layers: layers 0 or -1; given layers={layers}.")
    return [found for _ in chosen]


class Exchange(nn.Module):
    """x + cross_attention(norm(x), norm(memory)): one set of tokens takes from another, inside each group."""

    def __init__(self, dim: int, memory_dim: int, heads: int):
        super().__init__()
        self.norm = build(NORM, "norm", dim=dim)
        self.memory_norm = build(NORM, "norm", dim=memory_dim)
        head_dim = min(dim, memory_dim) // heads
        self.cross = CrossAttention(dim, heads=heads, head_dim=head_dim, memory_dim=memory_dim)

    def forward(self, x: Float[Tensor, "b q c"], memory: Float[Tensor, "b k d"]) -> Float[Tensor, "b q c"]:
        return x + self.cross(self.norm(x), self.memory_norm(memory))


class Interleaved(nn.Module):
    """Tokens `(b, groups, n, dim)` and latents `(b, groups, m, latent_dim)` to both again.

    At each level: local layers inside every group; latents read from their group; global layers among all latents;
    tokens read from their group's latents (written back). With n near L^(1/3) of L tokens and few latents a group,
    attention costs O(L^(4/3)). Section 2.2 and figure 2.

    Causal, for autoregression: local layers are, latents see those of their own and earlier groups, and tokens read the
    latents of the group before theirs (section 2.4).

    Args:
        dim, latent_dim: channels of tokens and of latents.
        layers: local layers in brackets and global layers behind them, such as "(2)4(2)".
        groups, latents: groups of tokens, and latents of each.
        local, globally: the blocks.
        heads: of the exchanges between tokens and latents.
        condition: channels of tokens that latents read before each global part; 0 for none (a denoiser's time, class).
        causal: for autoregression.
        drop_path, dropout: of the blocks.

    Raises:
        OptionError: another notation of layers; global layers without latents.
    """

    blind: Tensor | None

    def __init__(
        self,
        dim: int,
        latent_dim: int,
        *,
        layers: str,
        groups: int,
        size: int,
        latents: int,
        local: Spec = BLOCK,
        globally: Spec = BLOCK,
        heads: int = 8,
        condition: int = 0,
        causal: bool = False,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        plan = layer_plan(layers)
        if any(count for _, count in plan) and latents < 1:
            raise OptionError(f"global layers are among latents: give one latent a group or more; given {latents}.")
        total, first = sum(a + b for a, b in plan), 0
        common = {"layers": total, "dropout": dropout}
        self.groups, self.causal = groups, causal
        self.local, self.read, self.globally, self.write, self.condition = (nn.ModuleList() for _ in range(5))
        for i, (near, far) in enumerate(plan):
            rates = [drop_path] * max(near, far)
            self.local.append(
                Stack(local, near, dim=dim, grid=(size,), causal=causal, first=first, drop_path=rates[:near], **common)
            )
            first += near
            if not far:
                continue
            self.read.append(Exchange(latent_dim, dim, heads))
            if condition:
                self.condition.append(Exchange(latent_dim, condition, heads))
            self.globally.append(
                Stack(
                    globally,
                    far,
                    dim=latent_dim,
                    grid=(groups * latents,),
                    first=first,
                    drop_path=rates[:far],
                    **common,
                )
            )
            first += far
            if i + 1 < len(plan):
                self.write.append(Exchange(dim, latent_dim, heads))
        stacks: list[Stack] = list(self.globally)  # type: ignore[arg-type]
        mixers = [block.mixer for stack in stacks for block in stack]
        if causal and not all(getattr(mixer, "pair_bias", False) for mixer in mixers):
            raise FitError(
                "the latents of a causal FIT see those of their own and earlier groups, so their mixer takes a bias of "
                "pairs, such as attention."
            )
        blind = None
        if causal and mixers:
            group = torch.arange(groups).repeat_interleave(latents)
            blind = torch.zeros(1, 1, len(group), len(group)).masked_fill(group[:, None] < group, float("-inf"))
        self.register_buffer("blind", blind, persistent=False)

    def forward(
        self,
        x: Float[Tensor, "b t n c"],
        latents: Float[Tensor, "b t m d"],
        condition: Float[Tensor, "b s e"] | None = None,
    ) -> tuple[Float[Tensor, "b t n c"], Float[Tensor, "b t m d"]]:
        batch, groups = x.shape[:2]
        x = x.flatten(0, 1)
        for i, local in enumerate(self.local):
            x = local(x)
            if i >= len(self.globally):
                break
            inner = self.read[i](latents.flatten(0, 1), x)
            row = inner.view(batch, -1, inner.shape[-1])
            if condition is not None and len(self.condition):
                row = self.condition[i](row, condition)
            if self.blind is None:
                row = self.globally[i](row)
            else:
                seen = row.shape[1]
                row = self.globally[i](row, None, None, None, self.blind[..., :seen, :seen])
            latents = row.view(batch, groups, -1, row.shape[-1])
            if i < len(self.write):
                told = latents
                if self.causal:  # a group reads from the one before, and the first from nothing
                    told = torch.cat([torch.zeros_like(latents[:, :1]), latents[:, :-1]], 1)
                x = self.write[i](x, told.flatten(0, 1))
        return x.view(batch, groups, *x.shape[1:]), latents


def learned(*shape: int) -> nn.Parameter:
    """Learned vectors, such as positions of latents."""
    return nn.Parameter(trunc_normal(torch.empty(*shape), 0.02))
