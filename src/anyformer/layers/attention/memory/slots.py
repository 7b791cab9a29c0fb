"""A memory of slots that is rewritten after each event by attention to what was encoded of it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.cross.cross import CrossAttention
from anyformer.layers.attention.cross.rotary_cross import RotaryCrossAttention

Gate = Literal["sigmoid", "tanh", "mixing"]


class SlotGate(nn.Module):
    """(1 - g) M + g U for slots M and what is new for them U, g = sigmoid(W m + b), m the slots' means of M + U.

    Filipek 2025, arXiv:2510.03561, section 3.3. Cost: slots^2 multiply-adds.
    """

    def __init__(self, slots: int):
        super().__init__()
        self.linear = init.linear(slots, slots)

    def forward(self, memory: Float[Tensor, "b s c"], update: Float[Tensor, "b s c"]) -> Float[Tensor, "b s c"]:
        gate = self.linear((memory + update).mean(-1)).sigmoid()[..., None]
        return (1 - gate) * memory + gate * update


class LayerExchange(nn.Module):
    """What the slots of each layer take from the mean over layers, by an attention and a `SlotGate` of the layer's.

    The first half of the interlayer memory attention, Filipek 2025, arXiv:2510.03561, section 3.3.
    Cost: layers (2 slots^2 c + 4 slots c^2) multiply-adds.

    Args:
        dim, slots, layers: channels of slots, how many a layer has, layers.
        heads, head_dim: of the attention.
        norm: of a layer's slots, and of the mean.
    """

    def __init__(self, dim: int, slots: int, layers: int, *, heads: int, head_dim: int | None, norm: Spec):
        super().__init__()
        options: dict[str, Any] = {"heads": heads, "head_dim": head_dim, "bias": False}
        self.mean_norm = build(norm, "norm", dim=dim)
        self.norms = nn.ModuleList(build(norm, "norm", dim=dim) for _ in range(layers))
        self.attentions = nn.ModuleList(CrossAttention(dim, **options) for _ in range(layers))
        self.gates = nn.ModuleList(SlotGate(slots) for _ in range(layers))

    def forward(self, memory: Float[Tensor, "b l s c"]) -> Float[Tensor, "b l s c"]:
        mean, new = self.mean_norm(memory.mean(1)), []
        layers = zip(memory.unbind(1), self.norms, self.attentions, self.gates, strict=True)
        for slots, norm, attention, gate in layers:
            new.append(gate(slots, attention(norm(slots), mean)))
        return torch.stack(new, 1)


class MemoryAttention(nn.Module):
    """New slots from old ones: U = Attn(norm(M), E), then a gate for each slot decides how much of U comes in.

    "sigmoid": (1 - g) M + g U, g = sigmoid(gate); "tanh": (1 - g) M + (1 + g) U, g = tanh(gate); "mixing": as
    "sigmoid", g as `SlotGate` has it. The simple memory attention of the Reactive Transformer, Filipek 2025,
    arXiv:2510.03561, section 3.3. Cost: 2 slots tokens c + 2 (slots + tokens) c^2 multiply-adds.

    Args:
        dim: channels of slots and tokens.
        slots: how many.
        heads, head_dim: of the attention.
        gate: the form of the gate.
        norm: of slots and of tokens.
    """

    def __init__(
        self,
        dim: int,
        slots: int,
        *,
        heads: int,
        head_dim: int | None = None,
        gate: Gate = "sigmoid",
        norm: Spec = Spec("rmsnorm"),
    ):
        super().__init__()
        self.norm = build(norm, "norm", dim=dim)
        self.attention = RotaryCrossAttention(dim, heads=heads, head_dim=head_dim, rotate="keys", norm=norm)
        self.gate = SlotGate(slots) if gate == "mixing" else nn.Parameter(torch.zeros(slots, 1))
        self.form = gate

    def forward(
        self,
        memory: Float[Tensor, "b s c"],
        encoded: Float[Tensor, "b n c"],
        segments: Segments | None = None,
    ) -> Float[Tensor, "b s c"]:
        update = self.attention(self.norm(memory), encoded, segments)
        if isinstance(self.gate, SlotGate):
            return self.gate(memory, update)
        if self.form == "tanh":
            gate = self.gate.tanh()
            return (1 - gate) * memory + (1 + gate) * update
        gate = self.gate.sigmoid()
        return (1 - gate) * memory + gate * update
