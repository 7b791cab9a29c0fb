"""Reading a golden: the reference's state by rule, its inputs, and the check of our outputs (goldens/README.md)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from anyformer import load_reference
from anyformer.blocks.model import Model

FOLDER = Path(__file__).parent / "goldens"


class Golden:
    """One golden by its file name without `.json`."""

    def __init__(self, name: str):
        self.name = name
        self.data: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        self.source: str = self.data["source"]
        self.parameters: int = self.data["parameters"]
        self.tolerance: float = self.data["tolerance"]

    def state(self) -> dict[str, Tensor]:
        """The reference's state; entries that it computes by itself ("kept") are left out."""
        return {name: _filled(name, *rule) for name, *rule in self.data["state"] if rule[1] != "kept"}

    def inputs(self) -> dict[str, Tensor]:
        return {name: _drawn(**rule) for name, rule in self.data["inputs"].items()}

    def hold(
        self,
        model: Model,
        outputs: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]],
        *,
        idle: int = 0,
        kept: dict[str, Tensor] | None = None,
    ) -> None:
        """The model has the reference's parameters, loads its state, and `outputs(model, inputs)` are its outputs.

        Args:
            idle: parameters that the reference holds and does not use.
            kept: entries of its state that it computes by itself and that are loaded all the same.
        """
        model.eval()
        assert model.num_parameters() == self.parameters - idle
        load_reference(model, {**self.state(), **(kept or {})}, self.source)
        with torch.no_grad():
            self.check(outputs(model, self.inputs()))

    def check(self, outputs: dict[str, Tensor]) -> None:
        """Every output of the golden is there, of its shape, and within the tolerance."""
        assert set(outputs) == set(self.data["outputs"]), "outputs to compare"
        for name, expected in self.data["outputs"].items():
            ours = outputs[name].detach().float()
            assert list(ours.shape) == expected["shape"], f"{self.name} {name}: shape"
            flat = ours.reshape(-1)
            if expected["every"] != "all":
                flat = flat[torch.linspace(0, flat.numel() - 1, 1024).long()]
            theirs = torch.tensor(expected["values"], dtype=torch.float32)
            error = float((flat - theirs).norm() / theirs.norm())
            assert error <= self.tolerance, f"{self.name} {name}: relative error {error:.2e} over {self.tolerance:.0e}"


def _filled(name: str, shape: list[int], offset: float, scale: float, dist: str) -> Tensor:
    n = numpy.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    n = numpy.abs(n) if dist == "abs" else n
    return torch.from_numpy(numpy.asarray(offset + scale * n, dtype=numpy.float32))


def _drawn(kind: str, shape: list[int], seed: int, **rule: float) -> Tensor:
    generator = numpy.random.default_rng(seed)
    if kind == "integers":
        return torch.from_numpy(generator.integers(rule["low"], rule["high"], shape))
    if kind == "uniform":
        return torch.from_numpy(generator.uniform(rule["low"], rule["high"], shape).astype(numpy.float32))
    return torch.from_numpy((rule["scale"] * generator.standard_normal(shape)).astype(numpy.float32))
