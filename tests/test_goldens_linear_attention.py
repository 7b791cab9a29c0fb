"""Layers of linear attention against the goldens of those who run them, by tables of names kept here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.weights.language import rwkv6, rwkv7
from anyformer.weights.load import fill_state
from anyformer.weights.mapping import Rule, Table, table, translate
from golden import Golden

JOINED = table(
    (("q_proj.weight", "k_proj.weight", "v_proj.weight"), "qkv.weight"),
    (("q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"), "conv.weight"),
    ("g_proj.weight", "gate.weight"),
    ("o_proj.weight", "out.weight"),
    ("g_norm_swish_gate.weight", "norm.weight"),
    ("{p}_norm.weight", "norm.weight"),
    ("norm.weight", "norm.weight"),
)
GATED = table(
    ("gk_proj.0.weight", "decay_down.weight"),
    ("gk_proj.1.weight", "decay_up.weight"),
    ("gk_proj.1.bias", "decay_up.bias"),
    parent=JOINED,
)
DELTA = table(
    ("b_proj.weight", "beta.weight"),
    ("a_proj.weight", "decay.weight"),
    ("A_log", "A_log"),
    ("dt_bias", "dt_bias"),
    parent=JOINED,
)
HGRN = table((("i_proj.weight", "f_proj.weight"), "input_forget.weight"), parent=JOINED)
HGRN2 = table((("q_proj.weight", "f_proj.weight", "i_proj.weight"), "qkv.weight"), parent=JOINED)
LINEAR = table((("q_proj.weight", "k_proj.weight", "v_proj.weight"), "qkv.weight"), parent=JOINED)


def layer(names: Table) -> Table:
    """A family's names of a layer, for one that stands alone."""
    mixer = "blocks.{i}.mixer."
    rules = [
        Rule(tuple(t.removeprefix("layers.{i}.attn.") for t in r.sources), r.targets[0].removeprefix(mixer), r.change)
        for r in names.all_rules()
        if r.targets[0].startswith(mixer)
    ]
    return Table(rules)


PLAIN = Spec(
    "linear_attention", heads=4, divide="root", norm=Spec("rmsnorm", eps=1e-5), bias=False, out_bias=False, causal=True
)
CASES = {
    "retnet--retention_layer_d256_h4": (Spec("retention"), JOINED),
    "gated_linear_attention--gla_layer_d256_h4": (Spec("gated_linear_attention"), GATED),
    "gated_linear_attention--gla_layer_d256_h4_conv_gqa": (Spec("gated_linear_attention", kv_heads=2, conv=4), GATED),
    "rwkv6--rwkv6_layer_d256_h4": (Spec("rwkv6", heads=4, expand_k=0.5, eps=1e-5), layer(rwkv6.FLA)),
    "hgrn--hgrn_layer_d256": (Spec("hgrn"), HGRN),
    "hgrn2--hgrn2_layer_d256_h2": (Spec("hgrn2"), HGRN2),
    "hgrn2--hgrn2_layer_d256_h4_lower_bound": (Spec("hgrn2", heads=4, expand=64), HGRN2),
    "deltanet--deltanet_layer_d256_h4": (Spec("deltanet"), DELTA),
    "gated_deltanet--gated_deltanet_layer_d256_h4": (Spec("gated_deltanet", head_dim=48), DELTA),
    "gated_deltanet--gated_deltanet_layer_d256_h2_v4": (
        Spec("gated_deltanet", heads=2, value_heads=4, head_dim=48, expand_v=1.0, negative=True),
        DELTA,
    ),
    "linear_transformer--linear_attention_layer_d256_h4_elu": (PLAIN, LINEAR),
}


@pytest.mark.parametrize("name", CASES)
def test_layers_of_flash_linear_attention(name: str):
    spec, names = CASES[name]
    golden = Golden(f"{name}--fla")
    mixer: Any = build(spec, "mixer", dim=256).eval()
    assert sum(p.numel() for p in mixer.parameters()) == golden.parameters
    load(mixer, golden, names)
    inputs = golden.inputs()
    if "lower_bound" in inputs:
        mixer.lower_bound.copy_(inputs["lower_bound"])
    x = inputs["hidden_states"]
    with torch.no_grad():
        golden.check({"output": mixer(x)})
        state, steps = mixer.init_state(len(x), like=x), []
        for token in x.unbind(1):
            y, state = mixer.step(token, state)
            steps.append(y)
        golden.check({"output": torch.stack(steps, 1)})


def load(mixer: torch.nn.Module, golden: Golden, names: Table) -> None:
    """The reference's state into a part, strictly."""
    ours, left = translate(names, golden.state())
    fill_state(mixer, ours, left, partial=False, what=golden.name)


@pytest.mark.parametrize("number", [0, 1])
def test_layers_of_rwkv7(number: int):
    """The first layer keeps its values, the second one is given them; whole, and token by token."""
    golden = Golden(f"rwkv7--rwkv7_layer_d256_layer{number}--fla")
    ranks = {"decay_rank": 32, "rate_rank": 32, "gate_rank": 64, "value_rank": 32}
    mixer: Any = build(Spec("rwkv7", **ranks), "mixer", dim=256, layer=number, layers=4).eval()
    assert sum(p.numel() for p in mixer.parameters()) == golden.parameters
    load(mixer, golden, layer(rwkv7.FLA))
    inputs = golden.inputs()
    x, first = inputs["hidden_states"], inputs.get("v_first")
    with torch.no_grad():
        golden.check({"output": mixer(x, values={} if first is None else {"first": [first]})})
        state, steps = mixer.init_state(len(x), like=x), []
        for t, token in enumerate(x.split(1, 1)):
            values = {} if first is None else {"first": [first[:, t : t + 1]]}
            y, state = mixer.extend(token, state, values=values)
            steps.append(y)
        golden.check({"output": torch.cat(steps, 1)})
