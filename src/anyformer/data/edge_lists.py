"""Graphs from CSV files: lists of edges, and labels of nodes and of graphs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anyformer.core.errors import DataError
from anyformer.data.graphs import Graph
from anyformer.data.splits import FOLDERS, SPLITS, check_splits, stratified
from anyformer.data.text import read_text

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class LabelledGraphs:
    """What a folder holds.

    Attributes:
        graphs: in the order of graphs.csv.
        labels: each graph's, as written.
        splits: indices of each part.
        node_labels, edge_labels: names of the categories, in the order of their numbers.
    """

    graphs: list[Graph]
    labels: list[str]
    splits: dict[str, np.ndarray]
    node_labels: tuple[str, ...]
    edge_labels: tuple[str, ...]


def read_graphs(folder: Path, seed: int = 0) -> LabelledGraphs:
    """Read graphs.csv, edges.csv and, where it is there, nodes.csv.

    graphs.csv has the columns graph and label, and may have split (train, valid, test); edges.csv has graph, source and
    target, and may have label; nodes.csv has graph, node and label. Edges lead both ways. Names are free text.

    Raises `DataError` naming the file, and the line where there is one.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give one with graphs.csv and edges.csv.")
    by_graph = _rows(folder / "graphs.csv", ("graph", "label"))
    listed: dict[str, dict[str, str]] = {}
    for line, row in enumerate(by_graph, start=2):
        if row["graph"] in listed:
            raise DataError(f"{folder / 'graphs.csv'}, line {line}: the graph {row['graph']!r} is there twice.")
        listed[row["graph"]] = row
    edges = _rows(folder / "edges.csv", ("graph", "source", "target"))
    has_nodes = (folder / "nodes.csv").exists()
    nodes = _rows(folder / "nodes.csv", ("graph", "node", "label")) if has_nodes else []
    for rows, name in ((edges, "edges.csv"), (nodes, "nodes.csv")):
        for line, row in enumerate(rows, start=2):
            if row["graph"] not in listed:
                raise DataError(
                    f"{folder / name}, line {line}: the graph {row['graph']!r} is not in graphs.csv, which gives every "
                    "graph its label."
                )
    node_labels = tuple(sorted({row["label"] for row in nodes})) or ("",)
    edge_labels = tuple(sorted({row.get("label") or "" for row in edges})) or ("",)
    own_nodes, own_edges = _grouped(nodes), _grouped(edges)
    graphs = [
        _graph(own_nodes.get(name, []), own_edges.get(name, []), node_labels, edge_labels, f"{folder}, graph {name!r}")
        for name in listed
    ]
    labels = [row["label"] for row in listed.values()]
    return LabelledGraphs(graphs, labels, _splits(list(listed.values()), folder, seed), node_labels, edge_labels)


def _grouped(rows: Rows) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["graph"], []).append(row)
    return found


def _graph(nodes: Rows, edges: Rows, node_labels: Sequence[str], edge_labels: Sequence[str], where: str) -> Graph:
    """One graph of rows; nodes are numbered in the order in which they come up."""
    given = {row["node"]: node_labels.index(row["label"]) for row in nodes}
    ends = [(row["source"], row["target"]) for row in edges]
    place = {name: i for i, name in enumerate(dict.fromkeys([*given, *(n for pair in ends for n in pair)]))}
    if not place:
        raise DataError(f"{where} has no edge and no node: add them, or take it out of graphs.csv.")
    if given and len(given) < len(place):
        raise DataError(f"{where}: the node {next(n for n in place if n not in given)!r} has no label in nodes.csv.")
    categories = np.array([[given.get(name, 0)] for name in place], dtype=np.int64)
    kinds = np.array([[edge_labels.index(row.get("label") or "")] for row in edges], dtype=np.int64).reshape(-1, 1)
    return Graph.undirected([(place[a], place[b]) for a, b in ends], len(place), categories, kinds)


def _splits(rows: Rows, folder: Path, seed: int) -> dict[str, np.ndarray]:
    """The parts that graphs.csv names, or drawn ones, with each label in the same proportions."""
    if "split" not in rows[0]:
        labels = [row["label"] for row in rows]
        few = len(set(labels)) * 4 > len(labels)  # numbers, of which each is rare
        return stratified([0] * len(rows) if few else np.unique(labels, return_inverse=True)[1], seed=seed)
    found: dict[str, list[int]] = {split: [] for split in SPLITS}
    for i, row in enumerate(rows):
        if row["split"] not in FOLDERS:
            raise DataError(
                f"{folder / 'graphs.csv'}, line {i + 2}: a split is one of {', '.join(SPLITS)}; given {row['split']!r}."
            )
        found[FOLDERS[row["split"]]].append(i)
    check_splits(found, folder)
    return {split: np.array(members) for split, members in found.items()}


def _rows(path: Path, columns: Sequence[str]) -> Rows:
    """The rows of a CSV file that has these columns, filled."""
    reader = csv.DictReader(read_text(path, "utf-8").splitlines())
    missing = [c for c in columns if c not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{path} has the columns {', '.join(reader.fieldnames or ()) or 'none'}; it needs {', '.join(columns)}."
        )
    rows = list(reader)
    for line, row in enumerate(rows, start=2):
        empty = [c for c in columns if not (row[c] or "").strip()]
        if empty:
            raise DataError(f"{path}, line {line}: {', '.join(empty)} is empty.")
    if not rows:
        raise DataError(f"{path} has no rows.")
    return rows
