"""The task of graphs: its generated question, folders of edge lists, metrics, pictures, and mistakes in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.graphs import Graph, diameter
from anyformer.tasks import create_task


def test_generated_graphs_have_the_property_that_is_asked_for():
    task = create_task("graph", graphs=20)
    assert [float(diameter(g)) for g in task.graphs["valid"][:20]] == task.targets["valid"][:20].tolist()
    ring = create_task("graph", question="ring", graphs=20)
    line = Graph.undirected([(0, 1), (1, 2)], 3)
    model = create_model("graph_transformer_micro", **ring.model_options())
    (said,) = ring.predict(model, [line])
    assert 0 < said["number"] < 12
    with pytest.raises(OptionError, match=r"question is diameter or ring; given 'girth'"):
        create_task("graph", question="girth")
    with pytest.raises(DataError, match=r"takes graphs, as Graph.undirected"):
        ring.predict(model, ["0-1"])


@pytest.mark.parametrize("name", ["graphormer_micro", "graph_transformer_micro"])
def test_error_and_baseline_are_what_they_say(name: str):
    task = create_task("graph", graphs=64)
    model = create_model(name, **task.model_options())
    found = task.evaluate(model, "test", batch_size=100)
    error = (torch.tensor(found["guesses"]) - task.targets["test"]).abs().mean()
    assert found["mae"] == pytest.approx(float(error), rel=1e-5)
    median = task.targets["train"].median()
    assert task.baseline("test").value == pytest.approx(float((task.targets["test"] - median).abs().mean()))
    picture = task.pictures(model, n=2)[1]
    assert picture.pixels.shape == (160, 160, 3) and picture.caption.endswith("hops")


def folder(path: Path, labels: dict[str, str]) -> Path:
    """Triangles and lines, with names for nodes."""
    path.mkdir(exist_ok=True)
    (path / "graphs.csv").write_text("graph,label\n" + "".join(f"{g},{k}\n" for g, k in labels.items()))
    edges = [f"{g},a,b,single\n{g},b,c,double\n" + (f"{g},c,a,single\n" if int(g) % 2 else "") for g in labels]
    (path / "edges.csv").write_text("graph,source,target,label\n" + "".join(edges))
    nodes = [f"{g},{n},{'C' if n == 'a' else 'O'}\n" for g in labels for n in "abc"]
    (path / "nodes.csv").write_text("graph,node,label\n" + "".join(nodes))
    return path


def test_edge_lists_are_read_with_labels_of_graphs_nodes_and_edges(tmp_path: Path):
    where = folder(tmp_path / "set", {str(g): "ring" if g % 2 else "line" for g in range(20)})
    task = create_task(f"graphs:{where}")
    assert task.classes == ("line", "ring") and task.metric == "accuracy"
    assert task.model_options() == {
        "num_classes": 2, "node_features": 1, "node_values": 2, "edge_features": 1, "edge_values": 2
    }  # fmt: skip
    for graph, target in zip(task.graphs["train"], task.targets["train"].tolist(), strict=True):
        assert len(graph.links) == (6 if target else 4) and graph.nodes[:, 0].tolist() == [0, 1, 1]
    assert task.baseline().value == pytest.approx(0.5, abs=0.2)
    model = create_model("graphormer_micro", **task.model_options())
    assert task.evaluate(model)["guesses"][0] in task.classes
    numbers = create_task(f"graphs:{folder(tmp_path / 'set', {str(g): f'{g}.5' for g in range(20)})}")
    assert numbers.metric == "mae" and sorted(numbers.targets["train"].tolist())[0] % 1 == 0.5


def test_models_of_something_else_are_refused():
    task = create_task("graph", graphs=8)
    batch = task.sample("train", torch.arange(2))
    with pytest.raises(FitError, match=r"takes models of graphs"):
        task.loss(create_model("vit_micro"), batch)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("graphs.csv", "graph\n1\n", r"graphs.csv has the columns graph; it needs graph, label"),
        ("graphs.csv", "graph,label\n1,x\n1,y\n", r"graphs.csv, line 3: the graph '1' is there twice"),
        ("edges.csv", "graph,source,target\n77,a,b\n", r"edges.csv, line 2: the graph '77' is not in graphs.csv"),
        ("edges.csv", "graph,source,target\n1,a,\n", r"edges.csv, line 2: target is empty"),
        ("nodes.csv", "graph,node,label\n1,a,C\n", r"the node 'b' has no label in nodes.csv"),
    ],
)
def test_mistakes_in_files_are_named(tmp_path: Path, name: str, text: str, message: str):
    where = folder(tmp_path / "set", {str(g): "ring" if g % 2 else "line" for g in range(20)})
    (where / name).write_text(text)
    with pytest.raises(DataError, match=message):
        create_task(f"graphs:{where}")
    with pytest.raises(DataError, match="is no folder"):
        create_task(f"graphs:{tmp_path / 'none'}")
