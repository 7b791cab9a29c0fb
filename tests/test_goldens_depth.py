"""Models that reuse or average their layers, and memories of turns, against the goldens of those who made them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from anyformer import create_model
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.memory.slots import MemoryAttention
from anyformer.weights.load import fill_state
from anyformer.weights.mapping import table, translate
from golden import Golden
from variants import parameters


def test_denseformer():
    def outputs(model, inputs):
        ids = inputs["0"]
        logits = model(ids)
        return {"logits": logits, "loss": torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())}

    model = create_model("official:denseformer_12x768_dwa2x2")
    Golden("denseformer--denseformer_12x768_dwa2x2--official").hold(model, outputs)


UNIVERSAL = table(
    ("embedding_proj.weight", "0.weight"),
    (
        tuple(f"enc.multi_head_attention.{x}_linear.weight" for x in ("query", "key", "value")),
        "1.block.mixer.qkv.weight",
    ),
    ("enc.multi_head_attention.output_linear.weight", "1.block.mixer.out.weight"),
    ("enc.positionwise_feed_forward.layers.0.conv.{p}", "1.block.ffn.up.{p}"),
    ("enc.positionwise_feed_forward.layers.1.conv.{p}", "1.block.ffn.down.{p}"),
    # Its norm divides by the unbiased deviation.
    ("enc.layer_norm_mha.gamma", "1.block.norm1.weight", lambda gamma: gamma * (127 / 128) ** 0.5),
    ("enc.layer_norm_ffn.gamma", "1.block.norm2.weight", lambda gamma: gamma * (127 / 128) ** 0.5),
    ("enc.layer_norm_mha.beta", "1.block.norm1.bias"),
    ("enc.layer_norm_ffn.beta", "1.block.norm2.bias"),
    ignore=("layer_norm.gamma", "layer_norm.beta"),
)


def test_universal_transformer():
    golden = Golden("universal_transformer--ut_encoder_6steps--official")
    block = Spec(
        "prenorm",
        mixer=Spec("attention", heads=4, bias=False, out_bias=False),
        ffn=Spec("conv_mlp", hidden=256, out_act=Spec("relu")),
        norm=Spec("layernorm", eps=1e-12),
    )
    layer = build(Spec("universal", block=block, steps=6), "block", dim=128, grid=(None,))
    model = nn.Sequential(nn.Linear(128, 128, bias=False), layer).eval()
    idle = 2 * 128  # a norm that its forward never calls
    assert sum(p.numel() for p in model.parameters()) == golden.parameters - idle
    ours, left = translate(UNIVERSAL, golden.state())
    fill_state(model, ours, left, partial=False, what=golden.name)
    with torch.no_grad():
        golden.check({"output": model(golden.inputs()["x"])})


MEMORY = table(
    ("attention_layers.{i}.q_proj.weight", "{i}.attention.query.weight"),
    (tuple(f"attention_layers.{{i}}.{x}_proj.weight" for x in "kv"), "{i}.attention.key_value.weight"),
    ("attention_layers.{i}.out_proj.{p}", "{i}.attention.out.{p}"),
    ("memory_norm_layers.{i}.weight", "{i}.norm.weight"),
    ("memory_input_norm_layers.{i}.weight", "{i}.attention.norm.weight"),
    ("residual_gate_layers.{i}.gate", "{i}.gate"),
    prefixes=("model.",),
    ignore=("stm.memory",),
)


def test_memory_attention_of_the_reactive_transformer():
    golden = Golden("rxt--rxt_simple_memory_attention--official")
    norm = Spec("rmsnorm", eps=torch.finfo(torch.float32).eps)
    layers = nn.ModuleList(
        MemoryAttention(128, 24, heads=4, head_dim=16, gate="tanh", norm=norm) for _ in range(3)
    ).eval()
    assert sum(p.numel() for p in layers.parameters()) == golden.parameters
    ours, left = translate(MEMORY, golden.state())
    fill_state(layers, ours, left, partial=False, what=golden.name)
    slots, inputs = golden.state()["model.stm.memory"], golden.inputs()

    def written(segments: Segments | None) -> torch.Tensor:
        rows = zip(layers, slots, inputs["x"], strict=True)
        return torch.stack([layer(memory, encoded, segments) for layer, memory, encoded in rows])

    with torch.no_grad():
        valid = Segments.from_lengths(inputs["length"], inputs["x"].shape[2])
        golden.check({"memory": written(None), "masked": written(valid)})


def test_two_turns_of_an_rxt_alpha():
    golden = Golden("rxt--rxt_alpha_interlayer--official")
    heads = {f"{part}.head_dim": 4 for part in ("decoder.mixer", "decoder.cross", "encoder.mixer")}
    hidden = {"decoder.ffn.experts": 5, "decoder.ffn.hidden": 20, "encoder.ffn.hidden": 28}
    model = create_model(
        "official:RxT-Alpha-Nano", dim=32, depth=2, head_dim=4, vocab_size=97, slots=12, turn=24, **heads, **hidden
    )

    def found(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        ids, blank = inputs["ids"], model.init_memory(2)
        x, encoded = model.embedding(ids), []
        for block in model.encoder:
            x = block(x)
            encoded.append(x)
        memory = model.write(ids, blank)
        return {
            "logits": model.read(ids, blank),
            "encoded": torch.stack(encoded),
            "memory": memory.transpose(0, 1),
            "next": model.read(inputs["next"], memory),
        }

    golden.hold(model, found)


def test_the_published_size_of_rxt_alpha_nano():
    """About 12M of its card; 11,734,220 of the authors' library in the card's configuration."""
    assert parameters("rxt_alpha_nano") == 11_734_220
