"""How the authors name Switch-DiT's parameters; its variants bear DiT's names at theirs."""

from __future__ import annotations

from anyformer.models.generation.switch_dit import SwitchDiT
from anyformer.weights.generation.dit import around, block
from anyformer.weights.mapping import Table, table


def official(model: SwitchDiT) -> Table:
    """The authors' names for a model with patches of this size."""
    return table(
        *around(model),
        ("routers.{i}.f_gate.1.{p}", "blocks.{i}.experts.gate.linear.{p}"),
        ("routers.{i}.experts.w", "blocks.{i}.experts.weight"),
        ("routers.{i}.experts.b", "blocks.{i}.experts.bias"),
        *block("blocks.{i}", "blocks.{i}.block"),
        ignore=("pos_embed", "full_time", "prior._unit_mapping"),
    )


SOURCES = {"official": official}
NAMES = {
    "official": {
        f"Switch-DiT-{size}/{patch}": f"switch_dit_{size.lower()}_{patch}"
        for size in ("S", "B", "L", "XL")
        for patch in (2, 4, 8)
    }
}
