"""Decision Transformer and Meta-DT: what an action may see, contexts from the past, prompts, and the task."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.data.trajectories import PointRobot, Trajectories, read_trajectories, record
from anyformer.models.control.meta_dt import WorldModel, hardest_segment
from anyformer.tasks import create_task
from parts import stirred


def small(name: str, **options):
    torch.manual_seed(0)
    return stirred(create_model(name, **options), 0.05).eval()


@pytest.mark.parametrize("name", ["decision_transformer_micro", "meta_dt_micro"])
def test_an_action_depends_on_nothing_behind_its_state(name: str):
    model = small(name)
    given = model.example_inputs(batch=2)
    with torch.no_grad():
        before = model(*given)
        for place, tensor in enumerate(given[:-1][: 4 + (name == "meta_dt_micro")]):
            if not tensor.is_floating_point():
                continue
            changed = [t.clone() for t in given]
            changed[place][:, 6:] += 1.0
            after = model(*changed)
            own = tensor.shape[-1] == model.action_dim and place == len(given[:4]) - (3 if name[0] == "d" else 2)
            torch.testing.assert_close(after[:, : 7 if own else 6], before[:, : 7 if own else 6], rtol=0, atol=1e-6)
            assert (after[:, 7:] - before[:, 7:]).abs().max() > 1e-4


def test_padded_steps_change_nothing():
    from anyformer.core.segments import Segments

    model = small("decision_transformer_micro")
    given = model.example_inputs(size=6, batch=2)
    wide = [torch.cat([torch.full_like(t[:, :3], 7), t], 1) for t in given]
    with torch.no_grad():
        padded = model(*wide, segments=Segments.from_lengths([6, 6], 9, side="left"))
        torch.testing.assert_close(padded[:, 3:], model(*given), rtol=1e-5, atol=1e-5)


def test_a_context_knows_only_transitions_before_its_step():
    torch.manual_seed(0)
    world = WorldModel(2, 2, window=4)
    states, actions, rewards = torch.randn(3, 12, 2), torch.randn(3, 12, 2), torch.randn(3, 12)
    before = world.contexts(states, actions, rewards)
    for part in (states, actions, rewards):
        part[:, 5] += 1.0
    moved = (world.contexts(states, actions, rewards) - before).abs().amax((0, 2)) > 0
    assert moved.tolist() == [6 <= i <= 9 for i in range(12)]


def test_the_prompt_is_the_segment_with_the_largest_error():
    errors = torch.rand(5, 17, generator=torch.Generator().manual_seed(0))
    found = hardest_segment(errors, 4)
    for row, begin in zip(errors, found.tolist(), strict=True):
        assert begin == max(range(14), key=lambda i: float(row[i : i + 4].sum()))
    with pytest.raises(SizeError, match=r"1 to 17 steps.*given 18"):
        hardest_segment(errors, 18)


def test_a_prompt_is_optional_and_is_read():
    model = small("meta_dt_micro")
    *given, a, b, c, d = model.example_inputs(batch=2)
    with torch.no_grad():
        shot, more, other = model(*given), model(*given, a, b, c, d), model(*given, a + 1, b, c, d)
    assert shot.shape == more.shape == (2, 10, 2)
    assert (shot - more).abs().max() > 1e-4 and (other - more).abs().max() > 1e-4


def test_trajectories_that_do_not_fit_are_refused():
    world = WorldModel(2, 2, window=4)
    with pytest.raises(ValueError, match=r"4 steps or more.*given 3"):
        world.contexts(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"all tasks have states of 2 numbers here; given 3"):
        world.contexts(torch.zeros(1, 5, 3), torch.zeros(1, 5, 2), torch.zeros(1, 5))
    model = small("decision_transformer_micro")
    with pytest.raises(SizeError, match=r"actions have 2 numbers here; given 3"):
        model(torch.zeros(1, 2, 4), torch.zeros(1, 2, 3))
    with pytest.raises(SizeError, match=r"times run from 0 to 63; given 64.*max_time=65"):
        model(torch.zeros(1, 1, 4), times=torch.tensor([[64]]))
    with pytest.raises(OptionError, match=r"heads are action and"):
        create_model("decision_transformer_micro", heads=("state",))


def test_the_robot_and_its_records():
    goals = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    best = record(goals, torch.zeros(2), seed=0)
    assert torch.allclose(best.states[:, -1], goals, atol=1e-5)
    assert (best.rewards.sum(1) > record(goals, torch.full((2,), 20), seed=0).rewards.sum(1)).all()
    assert torch.allclose(best.returns_to_go[:, 0], best.rewards.sum(1))
    robots = PointRobot(goals, horizon=2)
    place, _ = robots.reset(3)
    after, reward, _, truncated, _ = robots.step(torch.tensor([[5.0, 0.0], [0.0, -1.0]]))
    assert torch.allclose(after - place, torch.tensor([[0.1, 0.0], [0.0, -0.1]]))
    assert torch.allclose(reward, -(after - goals).norm(dim=-1)) and not truncated.any()
    assert robots.step(torch.zeros(2, 2))[3].all()


def test_offline_rl_samples_plays_and_states_its_baseline():
    task = create_task("offline-rl", episodes=100)
    batch = task.sample("train", torch.tensor([3, 5]), seed=1, train=True)
    part = task.parts["train"]
    for row, episode in enumerate((3, 5)):
        times = batch["times"][row]
        assert torch.equal(batch["actions"][row], part.actions[episode, times])
        assert torch.allclose(batch["returns"][row, :, 0] * task.scale, part.returns_to_go[episode, times])
    again = task.sample("train", torch.tensor([5]), seed=1, train=True)
    assert all(torch.equal(again[name][0], batch[name][1]) for name in batch)
    assert 0.2 < task.baseline().value < 0.8

    class Best(torch.nn.Module):
        """Goes straight to the goal from the last state."""

        def forward(self, states, actions, returns, times, segments=None):
            return ((torch.tensor(task.goal) - states) / 0.1).clamp(-1, 1)

    model = create_model("decision_transformer_micro", **task.model_options())
    assert task.evaluate(Best())["normalized_return"] > 0.9
    assert task.evaluate(model)["normalized_return"] < 0.6
    pictures = task.pictures(model, n=2)
    assert len(pictures) == 2 and pictures[0].pixels.shape == (160, 160, 3)


def test_recorded_steps_are_read_and_played(tmp_path):
    lengths, path = [4, 7, 5], tmp_path / "steps.npz"
    count = sum(lengths)
    ends = np.zeros(count, bool)
    ends[np.cumsum(lengths) - 1] = True
    arrays = {
        "observations": np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32),
        "actions": np.arange(count) % 2, "rewards": np.arange(count, dtype=np.float32), "terminals": ends,
    }  # fmt: skip
    np.savez(path, **arrays)
    found = read_trajectories(path)
    assert found.lengths.tolist() == lengths and found.states.shape == (3, 7, 4) and found.actions.shape == (3, 7, 2)
    assert found.rewards[1].tolist() == [4, 5, 6, 7, 8, 9, 10] and found.rewards[0, 4:].sum() == 0
    task = create_task("trajectories", path=str(path), environment="CartPole-v1", context=3)
    model = create_model("decision_transformer_micro", **task.model_options())
    assert 0 < task.evaluate(model)["return"] <= 7
    np.savez(path, **{k: v for k, v in arrays.items() if k != "rewards"})
    with pytest.raises(DataError, match=r"steps.npz holds .*it needs observations, actions, rewards, terminals"):
        read_trajectories(path)
    (tmp_path / "no.npz").write_text("text")
    with pytest.raises(DataError, match=r"no.npz cannot be read"):
        read_trajectories(tmp_path / "no.npz")
    with pytest.raises(SizeError, match="same episodes and steps"):
        Trajectories(torch.zeros(2, 3, 1), torch.zeros(2, 4, 1), torch.zeros(2, 3), torch.tensor([3, 3]))
