"""Language models of transformers, and decoders and encoders of x-transformers: passes over texts, and generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from anyformer import create_model
from anyformer.core.spec import Spec
from anyformer.models.language.llama import llama
from anyformer.models.language.mamba import mamba
from anyformer.models.language.mamba2 import mamba2
from benchmarks.case import Case, peer

IDS = 30000
"""Ids that every vocabulary here has."""
LLAMA = llama(768, 12, 12, 2048, kv_heads=4)
"""A Llama of the size of the others."""
ROTARY = llama(768, 12, 12, 3072)
"""x-transformers' decoder with rotary positions: its gated channel mixer is as wide as a plain one."""


def ids(length: int, batch: int = 1) -> torch.Tensor:
    return torch.randint(5, IDS, (batch, length))


THEIRS: dict[str, dict[str, Any]] = {
    "GPT2": {},
    "Llama": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
    },
    "Mamba": {"num_hidden_layers": 24},
    "Mamba2": {
        "num_heads": 24,
        "head_dim": 64,
        "vocab_size": 50288,
        "hidden_size": 768,
        "state_size": 128,
        "num_hidden_layers": 24,
        "n_groups": 1,
    },
}
"""Options of transformers' configurations, by family."""


def peer_model(family: str, kind: str = "Model", **options: Any) -> Any:
    """The model of transformers whose class is FAMILY + `kind`, configured as `THEIRS` has it but for `options`."""
    transformers = peer("transformers")
    config = getattr(transformers, f"{family}Config")(**THEIRS[family] | options)
    return getattr(transformers, family + kind)(config).eval()


def theirs_bert() -> Any:
    transformers = peer("transformers")
    return transformers.BertModel(transformers.BertConfig(), add_pooling_layer=False).eval()


def text_case(name: str, ours: str | Spec, theirs: Any, length: int, trains: bool = True) -> Case:
    """Tokens of a text, without a head."""
    model, text = create_model(ours).eval(), ids(length)
    return Case(name, "transformers", lambda: model.tokens(text), lambda: theirs(text), trains)


def t5_case(length: int) -> Case:
    """As many tokens read as written."""
    transformers = peer("transformers")
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(decoder_start_token_id=0)).eval()
    ours, source, target = create_model("t5_small").eval(), ids(length), ids(length)
    return Case(
        f"t5_small, {length} tokens",
        "transformers",
        lambda: ours(source, target),
        lambda: theirs(input_ids=source, decoder_input_ids=target),
    )


def long_text_case(name: str, length: int) -> Case:
    """Longformer with its first token global, as for classification; Big Bird as transformers evaluates it."""
    transformers = peer("transformers")
    text = ids(length)
    if name == "longformer_base_4096":
        config = transformers.LongformerConfig(
            vocab_size=50265, max_position_embeddings=4098, type_vocab_size=1, attention_window=512
        )
        options = {"global_attention_mask": (torch.arange(length)[None] < 1).long()}
        theirs = transformers.LongformerModel(config, add_pooling_layer=False).eval()
    else:
        options = {}
        theirs = transformers.BigBirdModel(transformers.BigBirdConfig(), add_pooling_layer=False).eval()
    ours = create_model(name).eval()
    return Case(f"{name}, {length} tokens", "transformers", lambda: ours.tokens(text), lambda: theirs(text, **options))


def x_decoder(length: int) -> tuple[Any, Any]:
    """Ours and theirs: a causal decoder with root-mean-square norms, rotary positions and gated channel mixers."""
    x_transformers = peer("x_transformers")
    layers = x_transformers.Decoder(
        dim=768,
        depth=12,
        heads=12,
        attn_dim_head=64,
        rotary_pos_emb=True,
        rotary_emb_dim=64,
        use_rmsnorm=True,
        ff_glu=True,
        ff_swish=True,
        ff_no_bias=True,
        attn_flash=True,
    )
    theirs = x_transformers.TransformerWrapper(
        num_tokens=32000, max_seq_len=length, use_abs_pos_emb=False, attn_layers=layers
    )
    return create_model(ROTARY).eval(), theirs.eval()


def x_decoder_case(length: int) -> Case:
    ours, theirs = x_decoder(length)
    text = ids(length)
    return Case(f"rotary decoder, {length} tokens", "x-transformers", lambda: ours(text), lambda: theirs(text))


def x_encoder_case(length: int) -> Case:
    x_transformers = peer("x_transformers")
    layers = x_transformers.Encoder(dim=768, depth=12, heads=12, attn_dim_head=64, attn_flash=True)
    theirs = x_transformers.TransformerWrapper(num_tokens=30522, max_seq_len=512, attn_layers=layers).eval()
    block = Spec("prenorm", mixer=Spec("attention", heads=12, bias=False, out_bias=False), ffn=Spec("mlp", ratio=4.0))
    spec = Spec("encoder", dim=768, depth=12, block=block, vocab_size=30522, max_length=512, position=Spec("learned"))
    ours, text = create_model(spec).eval(), ids(length)
    return Case(
        f"encoder, {length} tokens",
        "x-transformers",
        lambda: ours.tokens(text),
        lambda: theirs(text, return_embeddings=True),
    )


def x_generation_case(new_tokens: int) -> Case:
    ours, theirs = x_decoder(1024)
    writer = peer("x_transformers").AutoregressiveWrapper(theirs)
    prompt = ids(16)
    return Case(
        f"rotary decoder generates {new_tokens}",
        "x-transformers",
        lambda: ours.generate(prompt, max_new_tokens=new_tokens),
        lambda: writer.generate(prompt, new_tokens, temperature=0.0, cache_kv=True),
        trains=False,
    )


def generation_case(name: str, ours: str | Spec, theirs: Any, new_tokens: int, **options: Any) -> Case:
    """The likeliest tokens after a prompt of sixteen; nothing ends a text early."""
    model, prompt = create_model(ours).eval(), ids(16)
    greedy = {"max_new_tokens": new_tokens, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return Case(
        f"{name} generates {new_tokens}",
        "transformers",
        lambda: model.generate(prompt, max_new_tokens=new_tokens, **options),
        lambda: theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **greedy),
        trains=False,
    )


def t5_generation_case(new_tokens: int) -> Case:
    transformers = peer("transformers")
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(decoder_start_token_id=0)).eval()
    return generation_case("t5_small", "t5_small", theirs, new_tokens, end=None)


def cases() -> dict[str, Callable[[], Case]]:
    """Every case by name, made when its turn comes."""
    made: dict[str, Callable[[], Case]] = {
        "gpt2": lambda: text_case("gpt2, 512 tokens", "gpt2", peer_model("GPT2"), 512),
        "llama": lambda: text_case("llama of 110M, 512 tokens", LLAMA.set(num_classes=0), peer_model("Llama"), 512),
        "bert_base_uncased": lambda: text_case(
            "bert_base_uncased, 128 tokens", "bert_base_uncased", theirs_bert(), 128
        ),
        "t5_small": lambda: t5_case(256),
        "longformer_base_4096": lambda: long_text_case("longformer_base_4096", 4096),
        "bigbird_roberta_base": lambda: long_text_case("bigbird_roberta_base", 4096),
        # Backward, theirs keeps the states of all tokens, tens of gigabytes in all layers: so in six of them.
        "mamba_130m": lambda: text_case(
            "mamba_130m, 2048 tokens", "mamba_130m", peer_model("Mamba"), 2048, trains=False
        ),
        "mamba_6_layers": lambda: text_case(
            "mamba_130m, six layers, 2048 tokens", mamba(768, 6), peer_model("Mamba", num_hidden_layers=6), 2048
        ),
        "mamba2_130m": lambda: text_case(
            "mamba2_130m, 2048 tokens", "mamba2_130m", peer_model("Mamba2"), 2048, trains=False
        ),
        "mamba2_6_layers": lambda: text_case(
            "mamba2_130m, six layers, 2048 tokens", mamba2(768, 6), peer_model("Mamba2", num_hidden_layers=6), 2048
        ),
        "x_decoder": lambda: x_decoder_case(512),
        "x_encoder": lambda: x_encoder_case(512),
        "generate_gpt2": lambda: generation_case("gpt2", "gpt2", peer_model("GPT2", "LMHeadModel"), 128),
        "generate_llama": lambda: generation_case("llama of 110M", LLAMA, peer_model("Llama", "ForCausalLM"), 128),
        "generate_t5": lambda: t5_generation_case(128),
        "generate_mamba": lambda: generation_case("mamba_130m", "mamba_130m", peer_model("Mamba", "ForCausalLM"), 128),
        "generate_mamba2": lambda: generation_case(
            "mamba2_130m", "mamba2_130m", peer_model("Mamba2", "ForCausalLM"), 128
        ),
        "generate_x_decoder": lambda: x_generation_case(128),
    }
    return made
