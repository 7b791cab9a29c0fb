"""How transformers names Decision Transformer's parameters and variants; linear layers inside are (in, out)."""

from __future__ import annotations

from torch import Tensor

from anyformer.weights.mapping import table, transpose


def first(positions: Tensor) -> Tensor:
    """The row of their table of positions that is added to every token."""
    return positions[0]


TRANSFORMERS = table(
    ("encoder.wpe.weight", "shift", first),
    ("encoder.h.{i}.ln_{j}.{p}", "blocks.{i}.norm{j}.{p}"),
    ("encoder.h.{i}.attn.c_attn.weight", "blocks.{i}.mixer.qkv.weight", transpose),
    ("encoder.h.{i}.attn.c_attn.bias", "blocks.{i}.mixer.qkv.bias"),
    ("encoder.h.{i}.attn.c_proj.weight", "blocks.{i}.mixer.out.weight", transpose),
    ("encoder.h.{i}.attn.c_proj.bias", "blocks.{i}.mixer.out.bias"),
    ("encoder.h.{i}.mlp.c_fc.weight", "blocks.{i}.ffn.up.weight", transpose),
    ("encoder.h.{i}.mlp.c_fc.bias", "blocks.{i}.ffn.up.bias"),
    ("encoder.h.{i}.mlp.c_proj.weight", "blocks.{i}.ffn.down.weight", transpose),
    ("encoder.h.{i}.mlp.c_proj.bias", "blocks.{i}.ffn.down.bias"),
    ("encoder.ln_f.{p}", "norm.{p}"),
    ("embed_timestep.weight", "time"),
    ("embed_ln.{p}", "embed_norm.{p}"),
    ("embed_return.{p}", "embed_return.{p}"),
    ("embed_state.{p}", "embed_state.{p}"),
    ("embed_action.{p}", "embed_action.{p}"),
    ("predict_action.0.{p}", "heads.action.{p}"),
    ("predict_state.{p}", "heads.state.{p}"),
    ("predict_return.{p}", "heads.return.{p}"),
    # A vocabulary that no sequence uses, and masks.
    ignore=("encoder.wte.weight", "encoder.h.{i}.attn.bias", "encoder.h.{i}.attn.masked_bias"),
)
SOURCES = {"transformers": TRANSFORMERS}

_DATA = {
    "hopper": ("expert", "medium", "medium-replay"),
    "halfcheetah": ("expert", "medium", "medium-replay"),
    "walker2d": ("expert", "medium", "medium-replay"),
}
NAMES = {
    "transformers": {
        f"edbeeching/decision-transformer-gym-{task}-{data}": f"decision_transformer_gym_{task}"
        for task, known in _DATA.items()
        for data in known
    }
}
