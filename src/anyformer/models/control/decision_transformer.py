"""Decision Transformer: a causal decoder over returns-to-go, states and actions predicts the next action.

Chen et al. 2021, arXiv:2106.01345, section 3 and algorithm 1; sizes of table 9, names as of the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack, growing
from anyformer.blocks.text import example_length
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear, trunc_normal
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec

PAPERS = ("decision_transformer",)
KINDS = 3
"""Tokens of a step: its return-to-go, its state, its action."""


class DecisionTransformer(Model):
    """States, actions, returns-to-go and times of `n` steps to the action of each, `(b, n, action_dim)`.

    An action is predicted from the tokens up to its own state; what stands in its own place is not seen, so zeros do at
    the last step. Cost: attention over 3 n tokens.

    Args:
        state_dim, action_dim: numbers of a state and of an action.
        dim, depth, block: channels; blocks; the block, or blocks that alternate.
        max_time: times run from 0 to `max_time - 1`.
        heads: what is predicted: "action", and as in the published weights "state" and "return".
        squash: actions lie in (-1, 1), through tanh; else they are unbounded (scores of discrete actions, say).
        norm: norm of the last block's output.
        drop_path, dropout: as `Isotropic`'s.
        init: as `Isotropic`'s.
    """

    name = "decision_transformer"
    papers = ("decision_transformer",)

    @chooses_start
    def __init__(
        self,
        *,
        state_dim: int,
        action_dim: int,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        max_time: int = 1000,
        heads: Sequence[str] = ("action",),
        squash: bool = True,
        norm: Spec | None = Spec("layernorm"),
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        widths = {"action": action_dim, "state": state_dim, "return": 1}
        if "action" not in heads or not set(heads) <= set(widths):
            raise OptionError(f"heads are action and, beside it, state and return; given {tuple(heads)}.")
        self.state_dim, self.action_dim, self.max_time, self.squash = state_dim, action_dim, max_time, squash
        self.time = nn.Parameter(trunc_normal(torch.empty(max_time, dim)))
        self.embed_return, self.embed_action = linear(1, dim), linear(action_dim, dim)
        self.embed_state = self.make_state_embedding(dim)
        self.embed_norm = build(Spec("layernorm"), "norm", dim=dim)
        # The published weights add the first row of a table of positions to every token.
        self.shift = nn.Parameter(torch.zeros(dim))
        self.dropout = nn.Dropout(dropout)
        rates = growing(drop_path, depth)
        self.blocks = Stack(block, depth, dim=dim, grid=(None,), causal=True, drop_path=rates, dropout=dropout)
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.heads = nn.ModuleDict({name: linear(dim, widths[name]) for name in heads})

    def make_state_embedding(self, dim: int) -> nn.Module:
        """The layer from a state to a token."""
        return linear(self.state_dim, dim)

    def check(self, states: Tensor, actions: Tensor, times: Tensor) -> None:
        """Raise `SizeError` for states, actions or times of another size than the model's."""
        for what, tensor, width in (("states", states, self.state_dim), ("actions", actions, self.action_dim)):
            if tensor.shape[-1] != width:
                raise SizeError(f"{what} have {width} numbers here; given {tensor.shape[-1]}: is this another task's?")
        if not torch.compiler.is_compiling() and times.numel() and int(times.max()) >= self.max_time:
            raise SizeError(
                f"times run from 0 to {self.max_time - 1}; given {int(times.max())}: build the model with "
                f"max_time={int(times.max()) + 1} or more."
            )

    def filled(
        self, states: Tensor, actions: Tensor | None, returns: Tensor | None, times: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions and returns that were not given are zeros; times 0, 1, ..."""
        b, n = states.shape[:2]
        actions = states.new_zeros(b, n, self.action_dim) if actions is None else actions
        returns = states.new_zeros(b, n, 1) if returns is None else returns
        times = torch.arange(n, device=states.device).expand(b, n) if times is None else times
        return actions, returns, times

    def interleaved(
        self, returns: Tensor, states: Tensor, actions: Tensor, times: Tensor, table: Tensor
    ) -> Float[Tensor, "b m c"]:
        """Embedded returns, states and actions with their times, in turn; m = 3 n."""
        return torch.stack([t + table[times] for t in (returns, states, actions)], 2).flatten(1, 2)

    def begin(
        self,
        states: Float[Tensor, "b n s"],
        actions: Float[Tensor, "b n a"] | None,
        returns: Float[Tensor, "b n 1"] | None,
        times: Int[Tensor, "b n"] | None,
    ) -> Float[Tensor, "b m c"]:
        """Tokens before the first block."""
        actions, returns, times = self.filled(states, actions, returns, times)
        self.check(states, actions, times)
        tokens = self.embed_return(returns), self.embed_state(states), self.embed_action(actions)
        return self.dropout(self.embed_norm(self.interleaved(*tokens, times, self.time)) + self.shift)

    def run(
        self, x: Float[Tensor, "b m c"], segments: Segments | None, layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b m c"]]:
        """Tokens after the chosen blocks; with `layers=None`, after the last block and norm."""
        if layers is not None:
            return self.blocks.outputs(x, layers, segments)
        x = self.blocks(x, segments)
        return [x if self.norm is None else self.norm(x)]

    def predictions(self, x: Float[Tensor, "b m c"]) -> dict[str, Tensor]:
        """What each head says: "action" from a step's state; "state" and "return", the next, from its action."""
        steps = x.unflatten(1, (-1, KINDS))
        found = {name: head(steps[:, :, 1 if name == "action" else 2]) for name, head in self.heads.items()}
        return found | {"action": found["action"].tanh() if self.squash else found["action"]}

    def forward(
        self,
        states: Float[Tensor, "b n s"],
        actions: Float[Tensor, "b n a"] | None = None,
        returns: Float[Tensor, "b n 1"] | None = None,
        times: Int[Tensor, "b n"] | None = None,
        segments: Segments | None = None,
    ) -> Float[Tensor, "b n a"]:
        (x,) = self.features(states, actions, returns, times, segments)
        return self.predictions(x)["action"]

    def features(
        self,
        states: Float[Tensor, "b n s"],
        actions: Float[Tensor, "b n a"] | None = None,
        returns: Float[Tensor, "b n 1"] | None = None,
        times: Int[Tensor, "b n"] | None = None,
        segments: Segments | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Float[Tensor, "b m c"]]:
        """Tokens, in turn of returns, states and actions, after the chosen blocks; as `run`."""
        return self.run(self.begin(states, actions, returns, times), spread(segments), layers)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random trajectories of `size` steps (10 unless given): states, actions, returns-to-go, times."""
        n = min(10 if size is None else example_length(size, self.max_time), self.max_time)
        widths = (self.state_dim, self.action_dim, 1)
        numbers = [torch.randn(batch, n, width, device=self.device) for width in widths]
        return *numbers, torch.arange(n, device=self.device).expand(batch, n).contiguous()


def spread(segments: Segments | None) -> Segments | None:
    """Segments of steps as those of their tokens."""
    return None if segments is None else Segments(segments.ids.repeat_interleave(KINDS, dim=1))


def trunk(heads: int, act: Spec = Spec("relu"), ratio: float = 4.0) -> Spec:
    """GPT-2's block, with the activation of the paper's continuous tasks."""
    return Spec("prenorm", mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=ratio, act=act))


def decision_transformer(state_dim: int, action_dim: int) -> Spec:
    """A Decision Transformer for a Gym task."""
    return Spec(
        "decision_transformer",
        state_dim=state_dim,
        action_dim=action_dim,
        dim=128,
        depth=3,
        block=trunk(1),
        heads=("action", "state", "return"),
        dropout=0.1,
    )


VARIANTS = {
    "decision_transformer_gym_hopper": decision_transformer(11, 3),
    "decision_transformer_gym_halfcheetah": decision_transformer(17, 6),
    "decision_transformer_gym_walker2d": decision_transformer(17, 6),
    # Ours, for small tasks and for tests.
    "decision_transformer_micro": Spec(
        "decision_transformer",
        state_dim=4,
        action_dim=2,
        dim=64,
        depth=2,
        block=trunk(2, ratio=2.0),
        max_time=64,
        init="fan_in",
    ),
}
