"""How the authors' Long Range Arena names PoNet's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

_MAPS = {"W_q": "q", "W_k": "k", "W_v": "o", "W_segment": "section_map", "W_local": "local_map"}
"""What they call values is what the pooled vectors are multiplied with."""
OFFICIAL = table(
    ("embeddings.word_embeddings.weight", "embedding.embed.weight"),
    ("embeddings.position_embeddings.weight", "embedding.position.table"),
    ("transformer_{i}.norm{n}.{p}", "blocks.{i}.norm{n}.{p}"),
    *((f"transformer_{{i}}.mha.{theirs}.{{p}}", f"blocks.{{i}}.mixer.{ours}.{{p}}") for theirs, ours in _MAPS.items()),
    ("transformer_{i}.mha.ff.{p}", "blocks.{i}.mixer.out.{p}"),
    ("transformer_{i}.mlpblock.0.{p}", "blocks.{i}.ffn.up.{p}"),
    ("transformer_{i}.mlpblock.3.{p}", "blocks.{i}.ffn.down.{p}"),
    ("norm.{p}", "norm.{p}"),
    ("seq_classifer.mlpblock.0.{p}", "head.hidden.{p}"),
    ("seq_classifer.mlpblock.2.{p}", "head.linear.{p}"),
    prefixes=("model.",),
)
SOURCES = {"official": OFFICIAL}
NAMES = {
    "official": {f"lra_ponet_{task}": f"ponet_lra_{task}" for task in ("listops", "image", "pathfinder32", "text")}
}
