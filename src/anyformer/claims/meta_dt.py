"""Meta-DT: a context from a world model tells a Decision Transformer where an unseen goal is.

Robots on a plane look for goals on a circle, which they do not see; their reward is minus the distance. Recorded
robots find out early, late or never. Trained on 24 goals, measured on others, zero-shot: without a prompt.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from anyformer.claims._loop import one_cycle
from anyformer.data.trajectories import PointRobot, Trajectories, record
from anyformer.lab.claim import Claim, Expect
from anyformer.models.control.meta_dt import WorldModel
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="A world model's context identifies the task, and lets one policy act well in tasks that it never saw.",
    baseline="The world model with a context of zeros; a plain Decision Transformer, trained alike on the same data.",
    expect=(
        Expect("reward_error_saved", at_least=50.0, unit="percent of the error without context"),
        Expect("goal_r2", at_least=0.8, unit="of a linear regression from the context"),
        Expect("return_gain", at_least=10.0, unit="percent of the range from random to expert"),
    ),
    seeds=(1,),
)
HORIZON, TRAIN_GOALS, EPISODES, CONTEXT, WINDOW = 20, 24, 1200, 8, 8
TARGETS = (0.4, 0.6, 0.8, 1.0)
"""Returns that both models are asked for, from random (0) to expert (1); each takes its best on the training goals."""
WORLD_STEPS, POLICY_STEPS, BATCH = 4000, 500, 64
WORLD_RATE, POLICY_RATE = 1e-2, 3e-3  # of 3e-3 and 1e-2, the world model predicts rewards better with this on seed 0
SAMPLED = 2
"""Contexts of an episode that a training step looks at."""


def goals_at(angles: Tensor) -> Tensor:
    return torch.stack([angles.cos(), angles.sin()], -1)


def inputs(data: Trajectories) -> tuple[Tensor, Tensor, Tensor]:
    return data.states, data.actions, data.rewards


def descend(model: nn.Module, loss_of, steps: int, rate: float) -> None:
    """Train on random episodes; both arms of a comparison go through here."""
    one_cycle(
        model, lambda: loss_of(torch.randint(0, EPISODES, (BATCH,))), steps=steps, rate=rate, warm=0.3, decay=1e-4
    )


def world(data: Trajectories, told: float, seed: int) -> WorldModel:
    """A trained world model; `told` is 1, or 0 for one whose contexts are zeros."""
    torch.manual_seed(seed)
    model = WorldModel(2, 2, window=WINDOW, context_dim=CONTEXT, hidden=64)

    def loss(rows: Tensor) -> Tensor:
        return prediction_error(model, data.select(rows), told, torch.randint(1, HORIZON, (SAMPLED,))).sum()

    descend(model, loss, WORLD_STEPS, WORLD_RATE)
    return model


def prediction_error(model: WorldModel, data: Trajectories, told: float, steps: Tensor) -> Tensor:
    """Mean squared errors of rewards and of next states `(2,)`, by the contexts of these steps.

    A context predicts every transition of its episode: those beside it alone would ask it for the distance only.
    """
    states, actions, rewards = inputs(data)
    contexts = told * model.contexts(states, actions, rewards, steps)
    pairs = len(steps), HORIZON - 1

    def each(x: Tensor) -> Tensor:
        return x[:, None].expand(-1, *pairs, -1)

    known = contexts[:, :, None].expand(-1, *pairs, -1)
    reward, following = model(each(states[:, :-1]), each(actions[:, :-1]), each(states[:, 1:]), known)
    errors = reward - rewards[:, None, :-1], following - states[:, None, 1:]
    return torch.stack([error.square().mean() for error in errors])


def goal_r2(model: WorldModel, data: Trajectories, goals: Tensor, unseen: Trajectories, others: Tensor) -> float:
    """Share of the variance of unseen goals that a linear map of contexts explains, fitted on the training goals."""

    def last(episodes: Trajectories) -> np.ndarray:
        contexts = model.contexts(*inputs(episodes))[:, -1]
        return torch.cat([contexts, torch.ones(len(contexts), 1)], 1).numpy()

    weights, *_ = np.linalg.lstsq(last(data), goals.numpy(), rcond=None)
    truth = others.numpy()
    return float(1 - ((last(unseen) @ weights - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


def policy(data: Trajectories, model: WorldModel | None, seed: int) -> nn.Module:
    """A Decision Transformer, with contexts where there is a world model."""
    torch.manual_seed(seed)
    name = "decision_transformer_micro" if model is None else "meta_dt_micro"
    options = {} if model is None else {"context_dim": CONTEXT}
    made = create_model(name, state_dim=2, action_dim=2, max_time=HORIZON, **options)
    scaled = data.returns_to_go[..., None] / HORIZON
    with torch.no_grad():
        contexts = None if model is None else model.contexts(*inputs(data))

    def loss(rows: Tensor) -> Tensor:
        told = () if contexts is None else (contexts[rows],)
        guess = made(data.states[rows], *told, data.actions[rows], scaled[rows])
        return (guess - data.actions[rows]).square().mean()

    descend(made, loss, POLICY_STEPS, POLICY_RATE)
    return made


def reached(made: nn.Module, model: WorldModel | None, goals: Tensor, target: float, seed: int) -> float:
    """The mean return of acting, where `target` is asked for."""
    robots = PointRobot(goals, HORIZON)
    states, actions = torch.zeros(len(goals), HORIZON, 2), torch.zeros(len(goals), HORIZON, 2)
    rewards, asked = torch.zeros(len(goals), HORIZON), torch.full((len(goals), HORIZON), target)
    state, _ = robots.reset(seed)
    with torch.no_grad():
        for t in range(HORIZON):
            states[:, t] = state
            told = () if model is None else (model.contexts(states, actions, rewards)[:, : t + 1],)
            given = states[:, : t + 1], *told, actions[:, : t + 1], asked[:, : t + 1, None] / HORIZON
            actions[:, t] = made(*given)[:, t]
            state, rewards[:, t], _, _, _ = robots.step(actions[:, t])
            asked[:, t + 1 :] -= rewards[:, t, None]
    return float(rewards.sum(1).mean())


def measure(seed: int) -> dict[str, float]:
    """Errors of the world models, what the context says of goals, and returns on goals that were not trained on."""
    generator = torch.Generator().manual_seed(seed)
    known = 2 * torch.pi * torch.arange(TRAIN_GOALS) / TRAIN_GOALS
    goals = goals_at(known[torch.randint(0, TRAIN_GOALS, (EPISODES,), generator=generator)])
    others = goals_at(known.repeat(8) + torch.pi / TRAIN_GOALS)
    data = record(goals, torch.randint(0, HORIZON + 1, (EPISODES,), generator=generator), seed, HORIZON)
    unseen = record(others, torch.randint(0, HORIZON + 1, (len(others),), generator=generator), seed + 1, HORIZON)
    low, high = (float(record(others, torch.full((len(others),), n), 7).rewards.sum(1).mean()) for n in (HORIZON, 0))
    told, untold = world(data, 1.0, seed), world(data, 0.0, seed)
    with torch.no_grad():
        late = torch.arange(WINDOW, HORIZON)  # whole windows
        errors = [float(prediction_error(m, unseen, t, late)[0]) for m, t in ((told, 1.0), (untold, 0.0))]
        r2 = goal_r2(told, data, goals, unseen, others)
    returns = {}
    for name, model in (("meta_dt", told), ("decision_transformer", None)):
        made = policy(data, model, seed)
        targets = [low + share * (high - low) for share in TARGETS]
        target = max(targets, key=lambda asked: reached(made, model, goals[:200], asked, seed + 1))
        returns[name] = 100 * (reached(made, model, others, target, seed) - low) / (high - low)
    return returns | {
        "reward_error": errors[0],
        "reward_error_without": errors[1],
        "reward_error_saved": 100 * (1 - errors[0] / errors[1]),
        "goal_r2": r2,
        "return_gain": returns["meta_dt"] - returns["decision_transformer"],
    }
