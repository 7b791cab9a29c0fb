"""Meta-DT: a world model's context tells a Decision Transformer which task it is in, and a prompt what that leaves out.

Wang et al. 2024, arXiv:2410.11448, sections 4.1 to 4.3; sizes of the authors' configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.errors import SizeError
from anyformer.core.init import chooses_start, linear, trunc_normal
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.models.control.decision_transformer import KINDS, DecisionTransformer, spread, trunk

PAPERS = ("meta_dt",)


class WorldModel(nn.Module):
    """A context of the last `window` transitions, and from it the reward and the next state of a transition.

    Equations 2 to 4: reward from (s, a, s', z), next state from (s, a, z). As the policy that recorded the data does
    not change either, z keeps what differs between tasks. Cost: n windows of `window` steps of a GRU.

    Args:
        state_dim, action_dim: numbers of a state and of an action.
        window: transitions that a context looks back.
        context_dim: numbers of a context, and channels of embedded states, actions and rewards.
        hidden: channels of the GRU and of the decoders.
    """

    def __init__(self, state_dim: int, action_dim: int, *, window: int = 4, context_dim: int = 16, hidden: int = 128):
        super().__init__()
        self.state_dim, self.action_dim, self.window = state_dim, action_dim, window
        widths = (state_dim, action_dim, 1)
        self.encoders = nn.ModuleList(nn.Linear(width, context_dim) for width in widths)
        self.gru = nn.GRU(3 * context_dim, hidden, batch_first=True)
        self.context = nn.Linear(hidden, context_dim)
        self.reward = _decoder(2 * state_dim + action_dim + context_dim, hidden, 1)
        self.following = _decoder(state_dim + action_dim + context_dim, hidden, state_dim)

    def check(self, states: Tensor, actions: Tensor) -> None:
        """Raise `SizeError` for a trajectory shorter than the window, and for states or actions of another size."""
        for what, tensor, width in (("states", states, self.state_dim), ("actions", actions, self.action_dim)):
            if tensor.shape[-1] != width:
                raise SizeError(
                    f"all tasks have {what} of {width} numbers here; given {tensor.shape[-1]}: tasks may differ in "
                    "rewards and dynamics alone."
                )
        if states.shape[1] < self.window:
            raise SizeError(
                f"a trajectory has {self.window} steps or more, as many as the context's window; given "
                f"{states.shape[1]}: fill it up with zeros behind its end, or build the model with a smaller window."
            )

    def contexts(
        self,
        states: Float[Tensor, "b n s"],
        actions: Float[Tensor, "b n a"],
        rewards: Float[Tensor, "b n"],
        steps: Int[Tensor, " m"] | None = None,
    ) -> Float[Tensor, "b m z"]:
        """The contexts of these steps (None: of all), each from the `window` transitions before its step alone.

        Zeros stand before the first transition.
        """
        self.check(states, actions)
        parts = zip(self.encoders, (states, actions, rewards[..., None]), strict=True)
        x = torch.cat([encode(part).relu() for encode, part in parts], -1)
        x = nn.functional.pad(x, (0, 0, self.window, 0))[:, :-1]
        windows = x.unfold(1, self.window, 1).transpose(2, 3)
        windows = windows if steps is None else windows[:, steps]
        found, _ = self.gru(windows.flatten(0, 1))
        return self.context(found[:, -1]).unflatten(0, windows.shape[:2])

    def forward(
        self, states: Tensor, actions: Tensor, following: Tensor, contexts: Tensor
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n s"]]:
        """Predicted rewards and next states."""
        reward = self.reward(torch.cat([states, actions, following, contexts], -1))[..., 0]
        return reward, self.following(torch.cat([states, actions, contexts], -1))

    def errors(
        self, states: Float[Tensor, "b n s"], actions: Float[Tensor, "b n a"], rewards: Float[Tensor, "b n"]
    ) -> Float[Tensor, "b m"]:
        """Squared errors of reward and next state of each transition but the last, m = n - 1."""
        contexts = self.contexts(states, actions, rewards)
        reward, following = self(states[:, :-1], actions[:, :-1], states[:, 1:], contexts[:, :-1])
        return (reward - rewards[:, :-1]).square() + (following - states[:, 1:]).square().mean(-1)


def _decoder(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)]
    return nn.Sequential(*layers)


def hardest_segment(errors: Float[Tensor, "b n"], length: int) -> Int[Tensor, " b"]:
    """Where the `length` successive steps with the largest sum of errors begin: what a context tells least (eq. 7)."""
    if not 1 <= length <= errors.shape[1]:
        raise SizeError(f"a segment has 1 to {errors.shape[1]} steps, as many as there are errors; given {length}.")
    return errors.unfold(1, length, 1).sum(-1).argmax(1)


class MetaDT(DecisionTransformer):
    """`DecisionTransformer` whose states come with a context of their task, `(b, n, context_dim)`, behind a prompt.

    A prompt is a segment of an earlier episode of the task, `k` steps of states, actions, returns-to-go and times; it
    has embeddings of its own. Without one the model acts zero-shot. Cost: attention over 3 (k + n) tokens.

    Args:
        context_dim: numbers of a context.
        options: as `DecisionTransformer`'s.
    """

    name = "meta_dt"
    papers = ("meta_dt",)

    @chooses_start
    def __init__(
        self, *, state_dim: int, action_dim: int, dim: int, context_dim: int = 16, max_time: int = 200, **options: Any
    ):
        super().__init__(state_dim=state_dim, action_dim=action_dim, dim=dim, max_time=max_time, **options)
        self.context_dim = context_dim
        self.encode_state = linear(state_dim, context_dim)
        self.embed_state = linear(2 * context_dim, dim)
        widths = {"returns": 1, "states": state_dim, "actions": action_dim}
        self.prompt = nn.ModuleDict({name: linear(width, dim) for name, width in widths.items()})
        self.prompt_time = nn.Parameter(trunc_normal(torch.empty(max_time, dim)))

    def begin_told(
        self,
        states: Tensor,
        contexts: Tensor | None,
        actions: Tensor | None,
        returns: Tensor | None,
        times: Tensor | None,
        prompt: Sequence[Tensor],
    ) -> Tensor:
        """Tokens before the first block, the prompt's first."""
        actions, returns, times = self.filled(states, actions, returns, times)
        self.check(states, actions, times)
        if contexts is None:
            contexts = states.new_zeros(*states.shape[:2], self.context_dim)
        told = self.embed_state(torch.cat([self.encode_state(states), contexts], -1))
        tokens = self.embed_return(returns), told, self.embed_action(actions)
        x = self.embed_norm(self.interleaved(*tokens, times, self.time)) + self.shift
        if prompt:
            earlier, done, asked, when = prompt
            self.check(earlier, done, when)
            tokens = self.prompt["returns"](asked), self.prompt["states"](earlier), self.prompt["actions"](done)
            x = torch.cat([self.interleaved(*tokens, when, self.prompt_time), x], 1)
        return self.dropout(x)

    def forward(  # type: ignore[override]
        self,
        states: Float[Tensor, "b n s"],
        contexts: Float[Tensor, "b n z"] | None = None,
        actions: Float[Tensor, "b n a"] | None = None,
        returns: Float[Tensor, "b n 1"] | None = None,
        times: Int[Tensor, "b n"] | None = None,
        *prompt: Tensor,
        segments: Segments | None = None,
    ) -> Float[Tensor, "b n a"]:
        """Actions; `prompt` is empty, or states, actions, returns-to-go and times of a segment."""
        (x,) = self.features(states, contexts, actions, returns, times, *prompt, segments=segments)
        return self.predictions(x[:, -KINDS * states.shape[1] :])["action"]

    def features(  # type: ignore[override]
        self,
        states: Float[Tensor, "b n s"],
        contexts: Float[Tensor, "b n z"] | None = None,
        actions: Float[Tensor, "b n a"] | None = None,
        returns: Float[Tensor, "b n 1"] | None = None,
        times: Int[Tensor, "b n"] | None = None,
        *prompt: Tensor,
        segments: Segments | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Float[Tensor, "b m c"]]:
        """Tokens, the prompt's first, after the chosen blocks; as `run`."""
        x = self.begin_told(states, contexts, actions, returns, times, prompt)
        known = spread(segments)
        if known is not None:
            known = Segments(nn.functional.pad(known.ids, (x.shape[1] - known.ids.shape[1], 0), value=1))
        return self.run(x, known, layers)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """A random trajectory with contexts, and a random prompt of five steps."""
        states, *others = super().example_inputs(size, batch)
        contexts = torch.randn(batch, states.shape[1], self.context_dim, device=self.device)
        return states, contexts, *others, *super().example_inputs(min(5, self.max_time), batch)


def meta_dt(state_dim: int, action_dim: int) -> Spec:
    """A Meta-DT of the authors' configurations."""
    return Spec("meta_dt", state_dim=state_dim, action_dim=action_dim, dim=128, depth=3, block=trunk(1), dropout=0.1)


VARIANTS = {
    "meta_dt_point_robot": meta_dt(2, 2).set(max_time=20),
    "meta_dt_half_cheetah": meta_dt(20, 6),
    "meta_dt_ant_dir": meta_dt(27, 8),
    "meta_dt_walker": meta_dt(17, 6),
    "meta_dt_reach": meta_dt(39, 4).set(max_time=500),
    # Ours, for small tasks and for tests.
    "meta_dt_micro": Spec(
        "meta_dt",
        state_dim=2,
        action_dim=2,
        dim=64,
        depth=2,
        block=trunk(2, ratio=2.0),
        context_dim=8,
        max_time=64,
        init="fan_in",
    ),
}
