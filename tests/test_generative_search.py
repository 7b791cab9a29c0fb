"""Generative search: limits are never broken, better designs become likelier, infeasible limits are named."""

from __future__ import annotations

import pytest

from anyformer.core.errors import BudgetError, OptionError
from anyformer.methods.search.generative import Design, DesignGenerator, Limit, generative_search

CHOICES = {"width": (8, 16, 32, 64), "depth": (1, 2, 3, 4), "kernel": (3, 5, 7)}


def operations(design: Design) -> float:
    return design["width"] ** 2 * design["depth"]


def worth(design: Design) -> float:
    return design["width"] + 3 * design["depth"] + (design["kernel"] == 5)


def test_every_design_that_is_measured_keeps_the_limits():
    limits = (Limit("operations", operations, 1500), Limit("depth", lambda d: d["depth"], 3))
    measured = []
    found = generative_search(CHOICES, lambda d: measured.append(d) or worth(d), limits, rounds=5, proposals=4)
    assert [t.design for t in found.trials] == measured and measured
    assert all(operations(d) <= 1500 and d["depth"] <= 3 for d in measured)
    assert found.best.score == max(worth(d) for d in measured)
    assert all(measured.count(d) == 1 for d in measured)


def test_it_finds_the_best_feasible_design_of_a_small_space():
    best = {"width": 32, "depth": 1, "kernel": 5}
    for seed in range(5):
        found = generative_search(CHOICES, worth, [Limit("operations", operations, 1500)], rounds=6, seed=seed)
        assert found.best.design == best


def test_the_generator_moves_towards_what_is_good():
    found = generative_search({"x": tuple(range(20)), "y": (0, 1)}, lambda d: float(d["x"]), rounds=4, proposals=5)
    rising = [sum(t.score for t in found.trials if t.round == r) / 5 for r in (0, 3)]
    assert sum(found.probabilities["x"][15:]) > 0.6 and sum(found.probabilities["x"]) == pytest.approx(1)
    assert rising[0] < 15


def test_learning_moves_towards_shares_and_makes_nothing_impossible():
    generator = DesignGenerator({"a": ("p", "q")})
    generator.learn([{"a": "p"}, {"a": "p"}, {"a": "p"}, {"a": "q"}], rate=0.5)
    assert generator.weights["a"].tolist() == pytest.approx([0.5 * 0.5 + 0.5 * 3.5 / 5, 0.5 * 0.5 + 0.5 * 1.5 / 5])
    for _ in range(50):
        generator.learn([{"a": "p"}], rate=0.9)
    assert generator.weights["a"][1] == pytest.approx(0.25)


def test_the_same_seed_gives_the_same_search():
    first, second, third = (generative_search(CHOICES, worth, rounds=2, proposals=3, seed=s).trials for s in (1, 1, 2))
    assert first == second != third


def test_infeasible_limits_name_the_tightest():
    limits = (Limit("depth", lambda d: d["depth"], 2), Limit("multiply-adds", operations, 50))
    with pytest.raises(BudgetError, match=r"tightest is multiply-adds of at most 50: 0 of them .* the least is 64"):
        generative_search(CHOICES, worth, limits)


def test_a_space_that_is_used_up_ends_the_search():
    found = generative_search({"x": (1, 2)}, lambda d: d["x"], rounds=3, proposals=4, tries=50)
    assert len(found.trials) == 2 and found.best.design == {"x": 2}


def test_misuse_is_a_sentence():
    with pytest.raises(OptionError, match="none for depth"):
        generative_search({"depth": ()}, worth)
    with pytest.raises(OptionError, match="none for any choice"):
        generative_search({}, worth)
    with pytest.raises(OptionError, match=r"elite=2"):
        generative_search(CHOICES, worth, elite=2.0)
