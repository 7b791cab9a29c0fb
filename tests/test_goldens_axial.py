"""Axial attention and the Axial Transformer against the goldens of their references."""

from __future__ import annotations

import torch

from anyformer import create_model
from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.weights.generation.axial_transformer import LUCIDRAINS
from anyformer.weights.load import fill_state
from anyformer.weights.mapping import translate
from golden import Golden


def test_attention_along_every_axis_gives_the_references_sum():
    golden = Golden("axial_transformer--axial_attention_3d_sum--official")
    part = build(Spec("axial", heads=4, bias=False), "mixer", dim=32, grid=(5, 8, 6)).eval()
    assert sum(p.numel() for p in part.parameters()) == golden.parameters
    ours, left = translate(LUCIDRAINS, golden.state())
    fill_state(part, ours, left, partial=False, what="axial attention")
    video = golden.inputs()["x"]  # (b, t, c, h, w)
    with torch.no_grad():
        golden.check({"output": part(video.movedim(2, -1)).movedim(-1, 2)})


def test_the_model_gives_the_authors_logits():
    golden = Golden("axial_transformer--transformer3d_small--official")
    theirs = golden.data["kwargs"]
    model = create_model(
        "axial_transformer_imagenet32",
        dim=theirs["emb_dim"],
        image_size=(theirs["img_height"], theirs["img_width"]),
        encoder=theirs["num_exterior_layers"],
        outer=theirs["num_outer_layers"],
        inner=theirs["num_inner_layers"],
        **{"block.mixer.heads": theirs["num_heads"]},
    )
    golden.hold(model, lambda model, inputs: {"logits": model(inputs["x"].movedim(-1, 1)).movedim(1, 3)})
