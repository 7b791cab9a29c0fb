"""The claim runner: expectations first, means over seeds, honest verdicts, and results that are kept whole."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
import types

import numpy
import pytest
import torch

from anyformer import papers
from anyformer.cli.main import main
from anyformer.core.errors import AnyformerError, OptionError, UnknownName
from anyformer.core.registry import index
from anyformer.lab import claim as runner
from anyformer.lab.claim import Claim, Expect, find_claims, keep, measure_claim

MEAN = Claim(
    statement="The mean of many uniform numbers is close to a half.",
    baseline="a single number",
    expect=(Expect("mean", at_least=0.45, at_most=0.55), Expect("gain", at_least=0.05, unit="distance")),
    seeds=(0, 1, 2),
)


def measure_mean(seed: int) -> dict[str, float]:
    many, single = float(torch.rand(1000).mean()), float(torch.rand(()))
    return {"mean": many, "gain": abs(single - 0.5) - abs(many - 0.5), "numpy": numpy.random.rand()}


@pytest.fixture
def claims(monkeypatch):
    """An index with three claims: one that holds, one that does not, one that breaks."""

    def broken(seed: int) -> dict[str, float]:
        raise RuntimeError("no such luck")

    never = Claim("Half is more than one.", "one", (Expect("half", at_least=1.0),), seeds=(7,))
    modules = {
        "swin": (MEAN, measure_mean),
        "convnext": (never, lambda seed: {"half": 0.5, "seed": seed}),
        "mamba": (never, broken),
    }
    for slug, (claim, measure) in modules.items():
        module = types.ModuleType(f"claims_for_test.{slug}")
        module.CLAIM, module.measure = claim, measure
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(index(), "claims", {slug: f"claims_for_test.{slug}" for slug in sorted(modules)})
    return modules


def test_a_claim_is_held_against_its_expectations():
    result = measure_claim("swin", MEAN, measure_mean)
    assert [len(values) for values in result.measured.values()] == [3, 3, 3]
    mean = sum(result.measured["mean"]) / 3
    assert result.findings[0].mean == pytest.approx(mean)
    assert result.findings[0].low == min(result.measured["mean"]) and result.findings[0].held
    assert result.findings[0].expectation == "0.45 <= mean <= 0.55"
    assert result.findings[1].expectation == "0.05 <= gain (distance)"
    assert result.held == all(finding.held for finding in result.findings)
    assert result.seconds >= 0 and result.within_limit
    assert {"python", "torch"} <= set(result.versions) and result.machine["cores"] >= 1 and result.time


def test_the_same_seeds_measure_the_same_numbers():
    first, second = (measure_claim("swin", MEAN, measure_mean, seeds=[3, 4]) for _ in range(2))
    assert first.seeds == (3, 4) and first.measured == second.measured
    assert first.measured["numpy"][0] != first.measured["numpy"][1]


@pytest.mark.parametrize(
    ("limits", "value", "held"),
    [
        ({"at_least": 1.0}, 1.0, True),
        ({"at_least": 1.0}, 0.99, False),
        ({"at_most": 1.0}, 1.0, True),
        ({"at_most": 1.0}, 1.01, False),
        ({"at_least": 0.0, "at_most": 1.0}, 0.5, True),
        ({"at_least": 0.0, "at_most": 1.0}, -0.5, False),
    ],
)
def test_limits_include_their_ends(limits, value, held):
    assert Expect("x", **limits).holds(value) is held


def test_one_expectation_that_fails_fails_the_claim():
    expect = (Expect("x", at_least=0), Expect("y", at_least=0))
    result = measure_claim("swin", Claim("s", "b", expect), lambda seed: {"x": 1, "y": -1 if seed == 0 else 0})
    assert [f.held for f in result.findings] == [True, False] and not result.held


def test_what_is_no_claim_is_refused():
    with pytest.raises(OptionError, match="needs at_least=, at_most= or both"):
        Expect("x")
    with pytest.raises(OptionError, match="expects something"):
        Claim("s", "b", ())
    with pytest.raises(OptionError, match="one seed or more"):
        measure_claim("swin", MEAN, measure_mean, seeds=[])
    with pytest.raises(AnyformerError, match="expects gain but measured only mean"):
        measure_claim("swin", MEAN, lambda seed: {"mean": 0.5})
    with pytest.raises(AnyformerError, match="measured mean = nan with seed 1"):
        measure_claim("swin", MEAN, lambda seed: {"mean": float("nan") if seed else 0.5, "gain": 1.0})


def test_claims_are_found_by_slug_and_room(claims):
    assert find_claims() == ["convnext", "mamba", "swin"]
    assert find_claims(["swin"]) == ["swin"]
    assert find_claims(room="models/vision") == ["convnext", "swin"]
    assert find_claims(["swin", "mamba"], room="layers/recurrence") == ["mamba"]
    with pytest.raises(UnknownName, match="there is no claim 'swn'; did you mean 'swin'"):
        find_claims(["swn"])
    with pytest.raises(UnknownName, match="the paper 'bigbench' has no claim here yet"):
        find_claims(["bigbench"])
    with pytest.raises(UnknownName, match="no paper of the room 'methods/quantization' has a claim"):
        find_claims(room="methods/quantization")
    with pytest.raises(UnknownName, match="there is no room"):
        find_claims(room="models/visoin")


def test_a_result_is_kept_whole_and_read_by_its_card(claims, tmp_path, monkeypatch):
    monkeypatch.setattr(papers, "RESULTS", tmp_path)
    assert papers.here("swin").claim == "claims_for_test.swin" and papers.here("swin").held is None
    result = runner.run_claim("swin")
    path = keep(result)
    assert path == tmp_path / "swin.json" and list(tmp_path.iterdir()) == [path]
    assert json.loads(path.read_text()) == json.loads(json.dumps(result.to_dict()))
    assert papers.here("swin").held is result.held

    def full(self, data, *rest, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(AnyformerError, match="No space left on device"):
        keep(result)
    assert json.loads(path.read_text())["paper"] == "swin"


def test_the_command_reports_and_keeps(claims, tmp_path, capsys):
    def run(command: str) -> tuple[int, str, str]:
        code = main(shlex.split(f"claim {command} --out {tmp_path}"))
        return code, *capsys.readouterr()

    code, out, _ = run("swin convnext")
    assert code == 0
    assert "The mean of many uniform numbers" in out and "baseline: a single number" in out
    assert "not held  expected 1 <= half  measured 0.5 [0.5, 0.5]" in out and "does not hold: 1 seeds" in out
    assert {p.name for p in tmp_path.iterdir()} == {"swin.json", "convnext.json"}

    assert run("convnext --strict")[0] == 1
    code, out, _ = run("convnext --seeds 5 6 --json")
    assert code == 0 and json.loads(out)[0]["measured"]["seed"] == [5, 6]

    code, out, err = run("--all")
    assert code == 1 and "no such luck" in err and "the claim 'mamba' broke" in err
    assert "convnext: " in out and "swin: " in out  # the others went on


def test_an_unwritable_folder_is_told_before_anything_is_measured(claims, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["claim", "swin", "--out", str(tmp_path / "file" / "results")]) == 2
    captured = capsys.readouterr()
    assert "cannot be written" in captured.err and captured.out == ""


def test_claims_state_what_they_expect():
    for slug, name in index()["claims"].items():
        module = importlib.import_module(name)
        assert slug in papers.cards(), slug
        assert isinstance(module.CLAIM, Claim) and callable(module.measure), slug
        assert module.CLAIM.statement.endswith(".") and module.CLAIM.baseline, slug


def test_kept_results_are_of_claims_and_say_whether_they_held():
    for path in papers.RESULTS.glob("*.json"):
        result = json.loads(path.read_text())
        assert result["paper"] == path.stem and path.stem in index()["claims"]
        assert result["held"] == all(finding["held"] for finding in result["findings"])
        assert all(len(values) == len(result["seeds"]) for values in result["measured"].values())
