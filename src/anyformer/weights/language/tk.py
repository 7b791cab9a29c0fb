"""How the authors' code names the parameters of TK and of K-NRM, in its wrapper with the embeddings of words."""

from __future__ import annotations

from anyformer.weights.layers import torch_layer
from anyformer.weights.mapping import table

MODEL = "neural_ir_model"
TERMS = table(
    ("word_embeddings.token_embedder_tokens.weight", "embed.weight"),
    *torch_layer(f"{MODEL}.contextualizer.layers.{{i}}.", "blocks.{i}."),
    (f"{MODEL}.mixer", "mix"),
    # Centres and widths of the kernels are options here.
    ignore=(f"{MODEL}.mu", f"{MODEL}.sigma"),
)
OFFICIAL = table(
    (f"{MODEL}.kernel_alpha_scaler", "saturation.scales"),
    (f"{MODEL}.kernel_bin_weights.weight", "weigh.weight"),
    (f"{MODEL}.dense.weight", "weigh.weight"),
    ignore=(f"{MODEL}.positional_features_*",),
    parent=TERMS,
)
SOURCES = {"official": OFFICIAL}
NAMES = {"official": {"TK": "tk", "knrm": "knrm"}}
