"""The linear recurrence against the goldens of those who run it: values, last states and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer.kernels.linear_recurrence import linear_recurrence
from golden import Golden

HEADS_SECOND = ("gated_deltanet", "gated_linear_attention", "hgrn2", "linear_transformer")
"""References whose tensors are `(b, n, h, d)`; the others have heads first."""
CASES = (
    "linear_transformer--linear_attn_L63",
    "linear_transformer--linear_attn_L100_state",
    "retnet--retention_L100",
    "gated_linear_attention--gla_L63",
    "gated_linear_attention--gla_L100_state",
    "hgrn2--hgrn2_L100_state",
    "rwkv6--rwkv6_L100_state",
    "deltanet--delta_rule_L63",
    "deltanet--delta_rule_L100_state",
    "gated_deltanet--gated_delta_rule_L100_state",
)


def given(inputs: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """A reference's inputs as ours: keys from forget gates, decays by their rule, queries at their scale."""
    second = name.split("--")[0] in HEADS_SECOND
    ours = {k: t.transpose(1, 2) if second and k not in ("u", "initial_state") else t for k, t in inputs.items()}
    if "f" in ours:
        ours |= {"k": 1 - ours["f"], "g": ours.pop("f").log()}
    if name.startswith("retnet"):
        heads, length = ours["q"].shape[1:3]
        ours["g"] = (1 - 2.0 ** (-5 - torch.arange(heads))).log()[None, :, None].expand(len(ours["q"]), -1, length)
    scale = 1.0 if name.startswith("rwkv6") else ours["q"].shape[-1] ** -0.5
    names = {"g": "log_decay", "gk": "log_decay", "w": "log_decay", "u": "bonus", "initial_state": "state"}
    return {names.get(k, k): t for k, t in ours.items()} | {"q": scale * ours["q"]}


@pytest.mark.parametrize("chunk", [1, 16, 64])
@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, chunk: int):
    golden = Golden(f"{name}--ops")
    inputs = {k: t.requires_grad_() for k, t in golden.inputs().items()}
    out, last = linear_recurrence(**given(inputs, name), chunk=chunk)
    out = out.transpose(1, 2) if name.split("--")[0] in HEADS_SECOND else out
    weights = torch.arange(out.numel(), dtype=out.dtype).view_as(out).cos()
    gradients = torch.autograd.grad((out * weights).sum(), list(inputs.values()))
    found = {"out": out} | {f"grad_{k}": g for k, g in zip(inputs, gradients, strict=True)}
    golden.check(found | ({"final_state": last} if "final_state" in golden.data["outputs"] else {}))
