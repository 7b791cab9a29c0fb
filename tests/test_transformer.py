"""Properties of the Transformer (arXiv:1706.03762): its layers, its positions, its sizes, its schedule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from anyformer import Spec, create_model
from anyformer.blocks.block import PostNorm
from anyformer.core.build import build
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.layers.position.absolute import SinusoidalPosition
from anyformer.methods.optimization.schedules import warmup_inverse_sqrt
from anyformer.weights.language.transformer import OFFICIAL
from anyformer.weights.mapping import translate

MIXER = Spec("attention", heads=4)
FFN = Spec("mlp", hidden=48, act=Spec("relu"))


def stirred(module: nn.Module) -> nn.Module:
    """Every parameter away from its first value, so that zeros and ones hide nothing."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module


def same_weights(block: nn.Module, theirs: nn.Module, side: str) -> nn.Module:
    """The block with a torch layer's weights."""
    state, left = translate(OFFICIAL, {f"{side}.layers.0.{name}": p for name, p in theirs.state_dict().items()})
    assert not left
    block.load_state_dict({name.removeprefix(f"{side}.0."): p for name, p in state.items()})
    return block


@pytest.fixture(scope="module")
def micro():
    return stirred(create_model("transformer_micro")).eval()


def test_encoder_layer_equals_torch():
    theirs = stirred(nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)).eval()
    block = same_weights(PostNorm(32, mixer=MIXER, ffn=FFN), theirs, "encoder").eval()
    x = torch.randn(2, 9, 32)
    lengths = torch.tensor([9, 5])
    segments = Segments.from_lengths(lengths, 9)
    valid = segments.valid
    ours = block(x, segments)[valid]
    torch.testing.assert_close(ours, theirs(x, src_key_padding_mask=~valid)[valid], atol=1e-6, rtol=1e-6)


def test_decoder_layer_equals_torch():
    theirs = stirred(nn.TransformerDecoderLayer(32, 4, 48, batch_first=True)).eval()
    cross = Spec("cross_attention", heads=4)
    block = same_weights(PostNorm(32, mixer=MIXER, ffn=FFN, cross=cross, causal=True), theirs, "decoder").eval()
    x, memory = torch.randn(2, 9, 32), torch.randn(2, 7, 32)
    segments = Segments.from_lengths([7, 4], 7)
    later = nn.Transformer.generate_square_subsequent_mask(9)
    expected = theirs(x, memory, tgt_mask=later, tgt_is_causal=True, memory_key_padding_mask=~segments.valid)
    torch.testing.assert_close(block(x, None, memory, segments), expected, atol=1e-6, rtol=1e-6)


def test_future_targets_change_nothing_earlier(micro):
    source, target = torch.randint(3, 259, (2, 8)), torch.randint(3, 259, (2, 10))
    changed = target.clone()
    changed[:, 6:] = torch.randint(3, 259, (2, 4))
    one, two = micro(source, target), micro(source, changed)
    torch.testing.assert_close(one[:, :6], two[:, :6], atol=1e-6, rtol=1e-6)
    assert (one[:, 6:] - two[:, 6:]).abs().max() > 1e-2


def test_padding_of_the_source_changes_nothing(micro):
    source, target = torch.randint(3, 259, (1, 6)), torch.randint(3, 259, (1, 5))
    padded = nn.functional.pad(source, (0, 4))
    ours = micro(padded, target, source_segments=Segments.from_lengths([6], 10))
    torch.testing.assert_close(ours, micro(source, target), atol=1e-5, rtol=1e-5)


def test_encoder_without_positions_is_permutation_equivariant():
    source, order = torch.randint(3, 259, (2, 8)), torch.randperm(8)
    bare = stirred(create_model("transformer_micro", position=None)).eval()
    torch.testing.assert_close(bare.encode(source[:, order]), bare.encode(source)[:, order], atol=1e-5, rtol=1e-5)
    placed = stirred(create_model("transformer_micro")).eval()
    assert (placed.encode(source[:, order]) - placed.encode(source)[:, order]).abs().max() > 1e-2


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_shifted_positions_are_a_linear_map(layout: str):
    position = SinusoidalPosition(32, layout=layout)
    places = {"interleaved": (range(0, 32, 2), range(1, 32, 2)), "halves": (range(16), range(16, 32))}[layout]
    table = position.table(torch.arange(200)).double()
    for shift in (1, 7, 50):
        turn = torch.zeros(32, 32, dtype=torch.float64)  # one matrix for all positions: a rotation of each pair
        for i, (sine, cosine) in enumerate(zip(*places, strict=True)):
            angle = shift / 10000 ** (2 * i / 32)
            turn[sine, sine] = turn[cosine, cosine] = math.cos(angle)
            turn[cosine, sine], turn[sine, cosine] = math.sin(angle), -math.sin(angle)
        torch.testing.assert_close(table[:-shift] @ turn, table[shift:], atol=1e-4, rtol=0)


def test_positions_are_those_of_the_paper():
    table = SinusoidalPosition(8).table(torch.arange(20))
    for p, i in ((0, 0), (5, 1), (19, 3)):
        angle = p / 10000 ** (2 * i / 8)
        assert float(table[p, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-5)
        assert float(table[p, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-5)


@pytest.mark.parametrize(("name", "millions"), [("transformer_base", 65), ("transformer_big", 213)])
def test_sizes_of_the_paper(name: str, millions: int):
    with torch.device("meta"):
        parameters = create_model(name).num_parameters()
    assert parameters == pytest.approx(millions * 1e6, rel=0.05)


def test_step_by_step_equals_at_once(micro):
    source, target = torch.randint(3, 259, (2, 8)), torch.randint(3, 259, (2, 10))
    segments = Segments.from_lengths([8, 5], 8)
    state, steps = micro.init_state(source, segments), []
    for ids in target.split(1, 1):
        logits, state = micro.extend(ids, state)
        steps.append(logits)
    whole = micro(source, target, source_segments=segments)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-5)


def test_padded_rows_have_finite_gradients():
    model = create_model("transformer_micro")
    source, target = torch.randint(3, 259, (2, 6)), torch.randint(3, 259, (2, 5))
    segments, targets = Segments.from_lengths([6, 2], 6), Segments.from_lengths([5, 3], 5)
    model(source, target, source_segments=segments, target_segments=targets)[targets.valid].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_embedded_sequences():
    model = create_model("official:transformer_base_torch", dim=32, encoder_depth=1, decoder_depth=1)
    source, target = model.example_inputs(5)
    assert model(source, target).shape == (1, 5, 32)


def test_schedule_rises_then_falls_as_the_root():
    rate = warmup_inverse_sqrt(512, 4000)
    assert rate(0) == pytest.approx(512**-0.5 * 4000**-1.5)
    assert max(range(20000), key=rate) == 3999
    assert rate(3999) == pytest.approx((512 * 4000) ** -0.5)
    assert rate(4 * 4000 - 1) == pytest.approx(rate(3999) / 2)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    assert schedule.get_last_lr()[0] == pytest.approx(rate(0))


def test_bad_input_is_explained():
    with pytest.raises(OptionError, match="7 heads do not divide 48 channels; heads that fit: 1, 2, 3, 4, 6, 8"):
        create_model("transformer_micro", **{"encoder.mixer.heads": 7})
    with pytest.raises(OptionError, match="dim and warmup of at least 1"):
        warmup_inverse_sqrt(512, 0)
    model = create_model("transformer_micro", position="learned", max_length=16).eval()
    with pytest.raises(SizeError, match="end at 16 and the sequence has 17 tokens"):
        model.encode(torch.ones(1, 17, dtype=torch.long))
    with pytest.raises(DataError, match="between 0 and 258; given 3 to 300"):
        model.encode(torch.tensor([[3, 300]]))
    with pytest.raises(DataError, match="token ids are integers; given float32"):
        model.encode(torch.ones(1, 3))


def test_rotary_by_parts_keeps_fast_pairs_and_slows_slow_ones():
    plain = build(Spec("rotary", base=500000.0), "rotation", head_dim=64).frequencies(torch.device("cpu"))
    rotation = build(Spec("rotary_by_parts", base=500000.0, factor=8.0), "rotation", head_dim=64)
    ratio = rotation.frequencies(torch.device("cpu")) / plain
    turns = 8192 * plain / (2 * math.pi)
    torch.testing.assert_close(ratio[turns > 4], torch.ones_like(ratio[turns > 4]))
    torch.testing.assert_close(ratio[turns < 1], torch.full_like(ratio[turns < 1], 1 / 8))
    assert ((ratio[(turns > 1) & (turns < 4)] > 1 / 8) & (ratio[(turns > 1) & (turns < 4)] < 1)).all()
    with pytest.raises(OptionError, match="0 < slow < fast"):
        build(Spec("rotary_by_parts", slow=4.0, fast=1.0), "rotation", head_dim=8)
