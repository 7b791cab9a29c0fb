"""Variants of attention, and what stands in its place, against the goldens of their authors' code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.kernels.sigmoid_attention import sigmoid_attention_plain, sigmoid_blocked
from anyformer.layers.attention.full import Attention
from anyformer.layers.attention.scoring.sigmoid import Sigmoid
from anyformer.layers.position.signed_distance import SignedAlibi
from anyformer.weights.layers import one_more, x_transformers_layer
from anyformer.weights.load import fill_state
from anyformer.weights.mapping import Table, table, translate
from golden import Golden


def load(part: torch.nn.Module, golden: Golden, names: Table) -> None:
    """The reference's state into a part, strictly; what our part computes by itself stays."""
    ours, left = translate(names, golden.state())
    kept = part.state_dict()
    ours |= {name: buffer for name, buffer in part.named_buffers() if name in kept}
    fill_state(part, ours, left, partial=False, what=golden.name)


COMPLEX = table(
    (("W_q.weight", "W_k.weight", "W_v.weight"), "qkv.weight"),
    ("W_o.weight", "out.weight"),
    ("delta_params", "scoring.a"),
    ("bias_params", "scoring.b"),
)


def test_complexformer():
    golden = Golden("complexformer--complex_attention_d256_h8--official")
    x = golden.inputs()["x"]
    options: dict[str, Any] = {"heads": 8, "bias": False, "out_bias": False, "scoring": Spec("complex_phase")}
    causal, both = (Attention(256, causal=c, **options).eval() for c in (True, False))
    assert sum(p.numel() for p in causal.parameters()) == golden.parameters
    load(causal, golden, COMPLEX)
    load(both, golden, COMPLEX)
    with torch.no_grad():
        q, k, v = causal.qkv(x)
        _, weights = causal.scoring(q, k, v, causal=True, with_map=True)
        _, state = causal.extend(x[:, :-3], causal.init_state(2, like=x))
        step, _ = causal.extend(x[:, -3:-2], state)
        golden.check({"causal": causal(x), "weights": weights, "step": step, "bidirectional": both(x)})


def test_dynamic_key_distributed_attention():
    golden = Golden("kd_gqa--dgqa_diff_384_h6_kv3--official")
    names = table(
        (tuple(f"{x}.{{p}}" for x in "qkv"), "qkv.{p}"),
        ("proj.{p}", "out.{p}"),
    )
    mixer = build(Spec("dynamic_key_distributed_attention", heads=6, kv_heads=3), "mixer", dim=384)
    assert sum(p.numel() for p in mixer.parameters()) == golden.parameters
    load(mixer, golden, names)
    mixer.train()  # where the shares follow the batch, as theirs always do
    out = mixer(golden.inputs()["x"])
    golden.check({"out": out, "splits": mixer.queries})


@pytest.mark.parametrize("block", [None, 1, 16, 64, 1000])
@pytest.mark.parametrize(
    "name", ["attention_L63", "attention_L100", "attention_alibi_causal_L63", "attention_alibi_causal_L100"]
)
def test_sigmoid_attention(name: str, block: int | None):
    golden = Golden(f"sigmoid_attention--sigmoid_{name}--ops")
    inputs = {name: x.requires_grad_() for name, x in golden.inputs().items()}
    q, k, v = inputs.values()
    causal = golden.data["kwargs"]["causal"]
    bias = SignedAlibi(4)(q.shape[2], k.shape[2], q.device) if causal else -torch.tensor(float(k.shape[2])).log()
    options = {"bias": bias, "causal": causal}
    form = sigmoid_attention_plain if block is None else sigmoid_blocked
    out = form(q, k, v, **options) if block is None else form(q, k, v, block=block, **options)
    if not causal:
        torch.testing.assert_close(Sigmoid()(q, k, v), out, rtol=1e-5, atol=1e-6)
    weights = torch.arange(out.numel(), dtype=out.dtype).view_as(out).cos()
    gradients = torch.autograd.grad((out * weights).sum(), list(inputs.values()))
    golden.check({"out": out} | {f"grad_{name}": g for name, g in zip(inputs, gradients, strict=True)})


def test_sigmoid_attention_with_signed_alibi():
    golden = Golden("sigmoid_attention--apple_attention_sigmoid_alibi--official")
    names = table(("qkv.weight", "qkv.weight"), ("proj.weight", "out.weight"))
    found = {}
    for name, causal in {"causal": True, "full": False}.items():
        mixer = Attention(
            128,
            heads=4,
            causal=causal,
            bias=False,
            out_bias=False,
            distance=Spec("signed_alibi"),
            scoring=Spec("sigmoid", shift=0.0),
        ).eval()
        assert sum(p.numel() for p in mixer.parameters()) == golden.parameters
        load(mixer, golden, names)
        with torch.no_grad():
            found[name] = mixer(golden.inputs()["x"])
    golden.check(found)


X_TRANSFORMERS = table(
    ("token_emb.emb.weight", "embedding.embed.weight"),
    *(rule for i in range(3) for rule in x_transformers_layer(i, f"blocks.{i}.")),
    ("final_norm.gamma", "norm.weight", one_more),
    ("to_logits.weight", "head.weight"),
    prefixes=("attn_layers.",),
)


def test_an_encoder_of_sigmoid_attention():
    golden = Golden("sigmoid_attention--xt_encoder_sigmoid--x-transformers")
    norm = Spec("layernorm", bias=False)
    mixer = Spec(
        "attention",
        heads=4,
        causal=False,
        bias=False,
        out_bias=False,
        distance=Spec("alibi"),
        scoring=Spec("sigmoid", shift=0.0),
    )
    block = Spec("prenorm", mixer=mixer, ffn=Spec("mlp"), norm=norm)
    model = create_model(Spec("decoder", dim=128, depth=3, block=block, vocab_size=500, norm=norm, tie=False)).eval()
    assert model.num_parameters() == golden.parameters
    load(model, golden, X_TRANSFORMERS)
    with torch.no_grad():
        golden.check({"output": model(golden.inputs()["x"])})


GATED = {
    "bert_clipped_softmax_d64_h4": ({"scoring": Spec("clipped_softmax", gamma=-0.03, zeta=1.003)}, ()),
    "bert_gate_linear_d64_h4": (
        {"gate": Spec("head_gate")},
        (
            (tuple(f"alpha.{h}.weight" for h in range(4)), "gate.weight"),
            (tuple(f"alpha.{h}.bias" for h in range(4)), "gate.bias"),
        ),
    ),
    "bert_gate_mlp_d64_h4": (
        {"gate": Spec("head_mlp_gate")},
        (
            (tuple(f"alpha.{h}.0.weight" for h in range(4)), "gate.up", lambda x: x[None]),
            (tuple(f"alpha.{h}.0.bias" for h in range(4)), "gate.up_bias", lambda x: x[None]),
            (tuple(f"alpha.{h}.2.weight" for h in range(4)), "gate.down"),
            (tuple(f"alpha.{h}.2.bias" for h in range(4)), "gate.bias"),
        ),
    ),
    "bert_gate_all_heads_d64_h4": (
        {"gate": Spec("all_heads_gate", open=0.25, scale=4.0)},
        (("alpha.weight", "gate.weight"), ("alpha.bias", "gate.bias")),
    ),
}


@pytest.mark.parametrize("name", GATED)
def test_heads_that_can_do_nothing(name: str):
    golden = Golden(f"quantizable_transformers--{name}--official")
    options, names = GATED[name]
    mixer = Attention(64, heads=4, **options).eval()
    mixer.out = torch.nn.Identity()  # type: ignore[assignment]
    assert sum(p.numel() for p in mixer.parameters()) == golden.parameters
    rules = table((tuple(f"{x}.{{p}}" for x in ("query", "key", "value")), "qkv.{p}"), *names)
    load(mixer, golden, rules)
    x = golden.inputs()["x"]
    with torch.no_grad():
        _, weights = mixer.scoring(*mixer.qkv(x), with_map=True)
        golden.check({"context": mixer(x), "weights": weights})


def test_ponet():
    golden = Golden("ponet--lra_ponet_listops--official")

    def tokens(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        ids = inputs["ids"]
        segments = Segments.from_lengths(inputs["length"], ids.shape[1])
        return {"masked": segments.zero(model.tokens(ids, segments)), "full": model.tokens(ids)}

    golden.hold(create_model("official:lra_ponet_listops", num_classes=0), tokens)
