"""How transformers names Llama's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

TRANSFORMERS = table(
    ("embed_tokens.weight", "embedding.embed.weight"),
    (tuple(f"layers.{{i}}.self_attn.{x}_proj.{{p}}" for x in "qkv"), "blocks.{i}.mixer.qkv.{p}"),
    ("layers.{i}.self_attn.o_proj.{p}", "blocks.{i}.mixer.out.{p}"),
    (("layers.{i}.mlp.gate_proj.{p}", "layers.{i}.mlp.up_proj.{p}"), "blocks.{i}.ffn.gate_up.{p}"),
    ("layers.{i}.mlp.down_proj.{p}", "blocks.{i}.ffn.down.{p}"),
    ("layers.{i}.input_layernorm.{p}", "blocks.{i}.norm1.{p}"),
    ("layers.{i}.post_attention_layernorm.{p}", "blocks.{i}.norm2.{p}"),
    ("norm.{p}", "norm.{p}"),
    ("lm_head.weight", "head.weight"),
    prefixes=("model.",),
    ignore=("layers.{i}.self_attn.rotary_emb.inv_freq",),
)
SOURCES = {"transformers": TRANSFORMERS}

_LLAMA2 = {
    f"meta-llama/Llama-2-{size}{kind}-hf": f"llama2_{size}" for size in ("7b", "13b", "70b") for kind in ("", "-chat")
}
_CODE = {
    f"codellama/CodeLlama-{size}{kind}-hf": f"code_llama_{size}"
    for size in ("7b", "13b", "34b")
    for kind in ("", "-Instruct")
}
_LLAMA3 = {
    f"meta-llama/Meta-Llama-3-{size}{kind}": f"llama3_{size.lower()}"
    for size in ("8B", "70B")
    for kind in ("", "-Instruct")
}
_LLAMA31 = {
    f"meta-llama/{owner}Llama-3.1-{size}{kind}": f"llama3.1_{size.lower()}"
    for size in ("8B", "70B", "405B")
    for kind in ("", "-Instruct")
    for owner in ("", "Meta-")
}
_LLAMA32 = {
    f"meta-llama/Llama-3.2-{size}{kind}": f"llama3.2_{size.lower()}"
    for size in ("1B", "3B")
    for kind in ("", "-Instruct")
}
NAMES = {
    "transformers": {f"huggyllama/llama-{size}": f"llama_{size}" for size in ("7b", "13b", "30b", "65b")}
    | _LLAMA2
    | _CODE
    | _LLAMA3
    | _LLAMA31
    | _LLAMA32
    | {
        "meta-llama/Llama-3.3-70B-Instruct": "llama3.1_70b",
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "tinyllama_1.1b",
        "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T": "tinyllama_1.1b",
    }
}
