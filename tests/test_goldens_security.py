"""Watermarks against the goldens of their references."""

from __future__ import annotations

import torch
from torch import nn

from anyformer import load_reference
from anyformer.methods.security.neuralmark import NeuralMark
from golden import Golden


def test_neuralmark():
    golden = Golden("neuralmark--neuralmark_128x64_r2--official")
    host = nn.Sequential()
    host.conv = nn.Conv2d(96, 128, 3, bias=False)
    assert sum(p.numel() for p in host.parameters()) == golden.parameters
    load_reference(host, golden.state(), "anyformer")  # one plain layer: its name is its name
    mark = NeuralMark(golden.inputs()["key"], "conv.weight", rounds=2)
    with torch.no_grad():
        golden.check(
            {
                "watermark_bits": mark.bits,
                "extracted_weights": mark.extract(host),
                "logits": mark.logits(host),
                "loss": 0.5 * mark.loss(host),
                "bit_accuracy": torch.tensor(mark.accuracy(host)),
            }
        )
