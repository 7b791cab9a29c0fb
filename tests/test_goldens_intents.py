"""CTRAN against the golden of its authors' notebook."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from anyformer import create_model
from anyformer.core.segments import Segments
from anyformer.layers.position.absolute import SinusoidalPosition
from golden import Golden


class RowPosition(nn.Module):
    """The notebook indexes its table of sines by the row of the batch: all tokens of a row get one position."""

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        return x + SinusoidalPosition(x.shape[-1]).table(torch.arange(len(x)))[:, None]


def outputs(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    hidden, tags, length = inputs["hidden"], inputs["tags"], inputs["length"]
    place = torch.arange(hidden.shape[1])
    segments = Segments.from_lengths(length, hidden.shape[1])
    starts = (place > 0) & (place % 5 != inputs["drop"][:, None]) & segments.valid
    # its convolutions read BERT's vectors at padding too
    features = model.windows(hidden)
    x = model.position(features * math.sqrt(512))
    tokens = model.encoder(x, segments)
    # its padded queries attend to the valid keys; nothing of theirs is used
    hidden_keys = torch.zeros(2, 1, 1, 60).masked_fill(~segments.valid[:, None, None], -torch.inf)
    context = model.encoder(x, None, None, None, hidden_keys.expand(-1, 2, 60, -1))
    torch.testing.assert_close(tokens[segments.valid], context[segments.valid], rtol=1e-5, atol=1e-5)
    words, there = model.words(tokens, starts)
    assert torch.equal(there.valid.sum(1), starts.sum(1))
    shifted = torch.cat([torch.full((2, 1), model.start), tags[:, :-1]], 1)
    state, following, greedy = model.init_state(words), shifted[:, :1], []
    for _ in range(60):
        logits, state = model.extend(following, state)
        following = logits.argmax(-1)
        greedy.append(logits.log_softmax(-1))
    return {
        "features": features,
        "context": context,
        "slot_log_probs": model.decode(shifted, words).log_softmax(-1),
        "intent": model.classify(tokens, segments),
        "slot_log_probs_greedy": torch.cat(greedy, 1),
    }


def test_ctran():
    golden = Golden("ctran--ctran_bert_base--official")
    model = create_model("official:ctran_bert_base", language=None, width=768)
    model.position = model.embedding.position = RowPosition()
    # a layer that its decoder's layers are copies of, and queries and keys of attention to one place
    prototype = sum(p.numel() for name, p in golden.state().items() if name.startswith("decoder.decoder_layer."))
    aligned = 2 * 2 * (512 * 512 + 512)
    golden.hold(model, outputs, idle=prototype + aligned)
