"""Document rankers against the goldens of their reference: scores and gradients, through `load_reference`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.core.segments import Segments
from golden import Golden

IDLE = 1 + 1 + 11 + 11 + 2000 * 300
"""Of TKL: two mixers that nothing uses, centres and widths of kernels, positions behind those of a chunk."""
SATURATION = 300 + 4 + 3 * 3
GAINS = 4 * 11
CASES = {  # golden: (name, options, parameters that the reference holds and does not use)
    "tkl--tkl--official": ("official:TKL", {}, IDLE + GAINS),
    "tkl--tkl_log--official": (
        "official:TKL",
        {"saturation": "scaled_log_saturation"},
        IDLE + SATURATION + GAINS - 11,
    ),
    "tkl--tk--official": ("official:TK", {}, 0),
    "tkl--knrm--official": ("official:knrm", {}, 0),
}
GRADIENTS = {
    "grad_terms": "embed.weight",
    "grad_qkv": "blocks.0.mixer.qkv.weight",
    "grad_mix": "mix",
    "grad_weigh": "weigh.weight",
    "grad_regions": "regions",
    "grad_position": "position",
    "grad_root": "saturation.root.weight",
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, options, idle = CASES[name]
    golden = Golden(name)

    def found(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        texts = [
            (inputs[text], Segments.from_lengths(inputs[f"{text}_length"], inputs[text].shape[1]))
            for text in ("query", "document")
        ]
        (query, query_segments), (document, document_segments) = texts
        with torch.enable_grad():
            # the reference's rows hold 0 where a text has ended, and its embedding of 0 gets no gradient
            score = model(query, document, query_segments, document_segments)
            weights = torch.arange(len(score), dtype=torch.float32).cos()
            wanted = [g for g in golden.data["outputs"] if g != "score"]
            of = dict(model.named_parameters())
            gradients = torch.autograd.grad((score * weights).sum(), [of[GRADIENTS[g]] for g in wanted])
        shapes = [golden.data["outputs"][g]["shape"] for g in wanted]
        return {"score": score} | {g: t.view(s) for g, t, s in zip(wanted, gradients, shapes, strict=True)}

    golden.hold(create_model(ours, vocab_size=500, **options), found, idle=idle)
