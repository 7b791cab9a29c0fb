"""How the authors' code names TKL's parameters, in its wrapper with the embeddings of words."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from anyformer.weights.language.tk import MODEL, TERMS
from anyformer.weights.mapping import Table, table

_LEARNED = ("sat_emb_reduce1", "sat_normer", "saturation_linear", "saturation_linear2", "saturation_linear3")
_OURS = ("reduce", "norm", "factor", "root", "shift")
SATURATIONS = {
    "learned_saturation": table(
        *((f"{MODEL}.{a}.{{p}}", f"saturation.{b}.{{p}}") for a, b in zip(_LEARNED, _OURS, strict=True)),
        ignore=(f"{MODEL}.kernel_mult",),
        parent=TERMS,
    ),
    "scaled_log_saturation": table(
        (f"{MODEL}.kernel_mult", "saturation.scales", lambda kinds: kinds[0]),
        ignore=tuple(f"{MODEL}.{theirs}.*" for theirs in _LEARNED),
        parent=TERMS,
    ),
}
"""Theirs holds the parameters of all kinds of saturation, and uses those of one."""


def names(model: Any) -> Table:
    """The table of a model, by its saturation and its chunks."""

    def placed(positions: Tensor) -> Tensor:
        """The positions of one chunk, which are all that it reads with."""
        return positions[0, : len(model.position)]

    return table(
        (f"{MODEL}.positional_features_q", "query_position"),
        (f"{MODEL}.positional_features_d", "position", placed),
        (f"{MODEL}.chunk_scoring", "regions"),
        (f"{MODEL}.dense.weight", "weigh.weight"),
        ignore=(f"{MODEL}.mixer_sat", f"{MODEL}.mixer_end"),
        parent=SATURATIONS[model.saturation.name],
    )


SOURCES = {"official": names}
NAMES = {"official": {"TKL": "tkl"}}
