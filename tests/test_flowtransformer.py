"""FlowTransformer: any encoding, core and head; what preprocessing knows; causal windows; misuse."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, SizeError
from anyformer.core.registry import parts
from anyformer.core.spec import Spec
from anyformer.data.flows import Flows, FlowScaler, generated_flows, read_flows, windows
from anyformer.tasks import create_task
from anyformer.tasks.flows import FlowDetection
from descent import descend

ENCODINGS = [name for name in parts("embed") if name.startswith("flow_")]
HEADS = [name for name in parts("head") if name.startswith("flow_")]
CORES = {
    "encoder": {},
    "decoder": {"causal": True},
    "state_space": {"block": Spec("prenorm", mixer=Spec("mamba"), ffn=None), "causal": True},
    "mean": {"block": Spec("prenorm", mixer=Spec("pooling"))},
}


def test_there_are_encodings_and_heads():
    assert set(ENCODINGS) == {"flow_one_hot", "flow_record", "flow_fields"}
    assert set(HEADS) == {"flow_last", "flow_mean", "flow_flatten", "flow_featurewise"}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("head", HEADS)
def test_any_encoding_core_and_head_trains_a_step(encoding: str, core: str, head: str):
    torch.manual_seed(0)
    model = create_model("flowtransformer_micro", embed=Spec(encoding), head=Spec(head, dropout=0.0), **CORES[core])
    given = model.example_inputs(batch=16)
    labels = torch.arange(16) % 2
    losses = descend(model, lambda: torch.nn.functional.cross_entropy(model(*given), labels), steps=2, rate=1e-3)
    assert losses[1] < losses[0]


def digest(scaler: FlowScaler) -> str:
    return hashlib.sha256(repr((dict(scaler.least), dict(scaler.spread), scaler.ranks)).encode()).hexdigest()


def test_preprocessing_knows_the_training_part_alone():
    flows = generated_flows(3000, seed=3)
    changed = Flows(
        {name: np.concatenate([c[:1800], c[1800:] * 1000 - 5]) for name, c in flows.numbers.items()},
        {name: np.concatenate([c[:1800], np.full(1200, "new")]) for name, c in flows.categories.items()},
        flows.labels,
    )
    one, other = FlowDetection(flows), FlowDetection(changed)
    assert digest(one.scaler) == digest(other.scaler)
    assert torch.equal(one.numbers["train"], other.numbers["train"])
    assert not torch.equal(one.numbers["test"], other.numbers["test"])
    # What training did not see has the reserved id, and the model takes it.
    assert not other.categories["test"].any() and (one.categories["test"] > 0).any()
    model = create_model("flowtransformer_micro", **other.model_options())
    assert other.evaluate(model, "test")["loss"] > 0
    scaled = other.numbers["test"]
    assert float(scaled.min()) >= 0 and float(scaled.max()) <= 1


def test_numbers_are_scaled_by_the_logarithm_of_their_range():
    train = Flows({"bytes": np.array([10.0, 1010.0]), "same": np.ones(2)}, {"kind": np.array(["a", "b"])}, ["0", "1"])
    scaler = FlowScaler.fit(train)
    new = Flows({"bytes": np.array([109.0, 5.0]), "same": np.zeros(2)}, {"kind": np.array(["b", "c"])}, ["0", "1"])
    np.testing.assert_allclose(scaler.numbers(new), [[np.log(100) / np.log(1001), 0], [0, 0]], rtol=1e-6)
    assert scaler.categories(new).tolist() == [[2], [0]]


def test_rare_categories_share_the_reserved_id():
    column = np.array(["a"] * 3 + ["b"] * 2 + ["c"])
    scaler = FlowScaler.fit(Flows({}, {"kind": column}, [""] * 6), most=2)
    assert scaler.levels == (2,)
    assert scaler.categories(Flows({}, {"kind": column}, [""] * 6))[:, 0].tolist() == [1, 1, 1, 2, 2, 0]


def test_a_causal_core_does_not_see_flows_after_the_one_it_judges():
    torch.manual_seed(0)
    model = create_model("flowtransformer_micro", causal=True, window=12).eval()
    numbers, ids = model.example_inputs(batch=2)
    later = numbers.clone()
    later[:, 8:] += 1
    with torch.no_grad():
        before, after = model.tokens(numbers, ids), model.tokens(later, ids)
        torch.testing.assert_close(after[:, :8], before[:, :8], rtol=1e-5, atol=1e-6)
        assert (after[:, 8:] - before[:, 8:]).abs().max() > 1e-3
        # The last-token head's answer for a window is thus the same whatever follows the window.
        short = create_model("flowtransformer_micro", causal=True, window=8).eval()
        short.load_state_dict(model.state_dict())
        torch.testing.assert_close(short(numbers[:, :8], ids[:, :8]), model.head(before[:, :8]), rtol=1e-5, atol=1e-5)


def test_featurewise_has_fewer_parameters_than_flatten():
    heads = {name: create_model("flowtransformer_shallow_encoder", head=Spec(name)).head for name in HEADS}
    count = {name: sum(p.numel() for p in head.parameters()) for name, head in heads.items()}
    assert count["flow_featurewise"] < 0.5 * count["flow_flatten"]


def test_misuse_is_said():
    with pytest.raises(DataError, match="a window of 9 flows takes as many; there are 5"):
        windows(5, 9)
    with pytest.raises(ValueError, match="a window of 900 flows"):
        FlowDetection(generated_flows(1000), window=900)
    model = create_model("flowtransformer_micro")
    numbers, ids = model.example_inputs(batch=2)
    with pytest.raises(SizeError, match="8 flows of 4 numeric and 2 categorical"):
        model(numbers[:, :5], ids[:, :5])
    with pytest.raises(DataError, match=r"categorical field 1 has ids 0 to 4.*given 9 to 9"):
        model(numbers, torch.full_like(ids, 9).minimum(torch.tensor([3, 9])))
    with pytest.raises(DataError, match="both kinds are needed"):
        FlowDetection(generated_flows(1000), benign=("benign", "attack"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,label\n1,0\n2\n", "row 3: 1 cells where the first row names 2"),
        ("a,b\n1,2\n", "no column of labels"),
        ("a,label\n1,0\ninf,1\n", "row 3, column 'a': 'inf' is no finite number"),
        ("a,label\n", "has 0 rows of values"),
    ],
)
def test_wrong_tables_are_named(text: str, message: str, tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_flows(path)
    with pytest.raises(DataError, match="no such file"):
        read_flows(tmp_path / "none.csv")


def test_a_table_of_flows_is_a_task(tmp_path: Path):
    flows = generated_flows(1200)
    names = [*flows.numbers, *flows.categories]
    columns = [*flows.numbers.values(), *flows.categories.values()]
    lines = [",".join([*names, "Label"])]
    lines += [",".join([*(str(c[i]) for c in columns), flows.labels[i]]) for i in range(1200)]
    path = tmp_path / "flows.csv"
    path.write_text("\n".join(lines))
    task = create_task(f"flow-table:{path}")
    assert task.size("train") == 720 - 7 and task.model_options()["numbers"] == 4
    model = create_model("flowtransformer_micro", **task.model_options())
    assert task.predict(model, [str(path)])[0]["flows"] == 1200
    truth = task.truth("valid")
    assert task.scores(truth, truth)["f1"] == 1 and task.baseline().value < 0.5
    assert task.examples("test", 2)[0]["truth"] in ("benign", "attack")
