"""Language models and attention against the goldens of their references, through `load_reference`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.core.segments import Segments
from anyformer.kernels.attention import attend, attention_plain
from anyformer.layers.position.distance import Alibi
from golden import Golden


def encoder(model, input_ids: Tensor, length: Tensor, token_type_ids: Tensor | None = None) -> dict[str, Tensor]:
    """All tokens; the pooled vector where there is a pooler; and the valid tokens of a padded run."""
    padded = Segments.from_lengths(length, input_ids.shape[1])
    masked = model.tokens(input_ids, padded, token_type_ids)[:, : int(length)]
    outputs = {"last_hidden_state": model.tokens(input_ids, types=token_type_ids), "masked": masked}
    pooled = model(input_ids, types=token_type_ids)
    return outputs | ({"pooler_output": pooled} if hasattr(model.head, "dense") else {})


def decoder(model, input_ids: Tensor) -> dict[str, Tensor]:
    return {"last_hidden_state": model.tokens(input_ids)}


def logits(model, ids: Tensor) -> dict[str, Tensor]:
    return {"output": model(ids)}


def encoder_decoder(model, input_ids: Tensor, decoder_input_ids: Tensor, length: Tensor) -> dict[str, Tensor]:
    """Both sides' tokens, without and with padding of the source."""

    def both(segments: Segments | None) -> tuple[Tensor, Tensor]:
        memory = model.encode(input_ids, segments)
        return memory, model.decode_tokens(model.embed(decoder_input_ids), memory, memory_segments=segments)

    memory, out = both(None)
    memory_masked, masked = both(Segments.from_lengths(length, input_ids.shape[1]))
    return {
        "encoder_last_hidden_state": memory,
        "last_hidden_state": out,
        "encoder_masked": memory_masked[:, : int(length)],
        "masked": masked,
    }


def embedded(model, src: Tensor, tgt: Tensor, length: Tensor) -> dict[str, Tensor]:
    """Both sides for tokens that are embedded already; padded places of the memory are zero."""
    segments = Segments.from_lengths(length, src.shape[1])
    memory = model.encode(src, segments)
    return {"memory": segments.zero(memory), "out": model(src, tgt, source_segments=segments)}


LLAMA = {
    "dim": 256,
    "depth": 4,
    "vocab_size": 8192,
    "num_classes": 0,
    "block.mixer.heads": 8,
    "block.mixer.kv_heads": 4,
    "block.ffn.hidden": 688,
}
CASES = {  # golden: (name for create_model, options, outputs under the golden's names)
    "bert--bert-base-uncased--transformers": ("transformers:google-bert/bert-base-uncased", {}, encoder),
    "minilm--minilm-l6-h384--transformers": ("transformers:nreimers/MiniLM-L6-H384-uncased", {}, encoder),
    "bioformer--bioformer-8l--transformers": ("transformers:bioformers/bioformer-8L", {}, encoder),
    "bioformer--bioformer-16l--transformers": ("transformers:bioformers/bioformer-16L", {}, encoder),
    "distilbert--distilbert-base-uncased--transformers": ("transformers:distilbert-base-uncased", {}, encoder),
    "roberta--roberta-base--transformers": ("transformers:FacebookAI/roberta-base", {}, encoder),
    "gpt2--gpt2--transformers": ("transformers:openai-community/gpt2", {}, decoder),
    "opt--opt-125m--transformers": ("transformers:facebook/opt-125m", {}, decoder),
    "llama--llama-tiny--transformers": ("llama_7b", LLAMA, decoder),
    "mamba--mamba-130m--transformers": ("transformers:state-spaces/mamba-130m-hf", {}, decoder),
    "mamba--mamba_130m--official": ("official:state-spaces/mamba-130m", {}, logits),
    "transformer--transformer-base--transformers": (
        "transformer_base",
        {"vocab_size": 8192, "position.layout": "halves"},
        encoder_decoder,
    ),
    "transformer--transformer_base_torch--official": ("official:transformer_base_torch", {}, embedded),
    "t5--t5-small--transformers": ("transformers:google-t5/t5-small", {}, encoder_decoder),
}
FIXED = {"transformer--transformer-base--transformers": 2 * 512 * 512}
"""Numbers that a reference counts among its parameters and that nobody learns: a table of sines for each side."""


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, options, outputs = CASES[name]

    def found(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return outputs(model, *inputs.values()) if "0" in inputs else outputs(model, **inputs)

    Golden(name).hold(create_model(ours, **options), found, idle=FIXED.get(name, 0))


def with_gradients(out: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
    """The output and the gradients of sum(out * cos(0, 1, 2, ...)), as the goldens of operations have them."""
    weights = torch.arange(out.numel(), dtype=out.dtype).view_as(out).cos()
    gradients = torch.autograd.grad((out * weights).sum(), list(inputs.values()))
    return {"out": out} | {f"grad_{name}": g for name, g in zip(inputs, gradients, strict=True)}


@pytest.mark.parametrize("form", [attend, attention_plain])
def test_golden_causal_grouped_attention(form):
    golden = Golden("attention--causal_gqa_L100--ops")
    inputs = {name: x.requires_grad_() for name, x in golden.inputs().items()}
    q, k, v = (inputs[name].transpose(1, 2) for name in "qkv")
    outputs = with_gradients(form(q, k, v, causal=True).transpose(1, 2), **inputs)
    keys = k.repeat_interleave(2, dim=1)
    scores = (q @ keys.transpose(-2, -1)) * q.shape[-1] ** -0.5
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    outputs["max_logits"] = scores.masked_fill(~seen, float("-inf")).amax(-1).transpose(1, 2)
    golden.check(outputs)


@pytest.mark.parametrize("form", [attend, attention_plain])
@pytest.mark.parametrize("name", ["alibi_causal_6heads_L63", "alibi_causal_6heads_L100", "alibi_causal_8heads_L100"])
def test_golden_alibi(name: str, form):
    golden = Golden(f"alibi--{name}--ops")
    inputs = {name: x.requires_grad_() for name, x in golden.inputs().items()}
    q, k, v = inputs.values()
    bias = Alibi(golden.data["kwargs"]["heads"])(q.shape[2], k.shape[2], q.device)
    golden.check(with_gradients(form(q, k, v, bias=bias, causal=True), **inputs))
