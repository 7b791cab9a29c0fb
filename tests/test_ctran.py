"""Properties of CTRAN (arXiv:2303.10606): windows that keep places, a decoder aligned with the words, and intents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anyformer import Spec, create_model, load_reference
from anyformer.blocks.block import PostNorm
from anyformer.core.errors import AnyformerError, DataError, FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.state import select_rows
from anyformer.kernels.attention import attend
from anyformer.layers.attention.cross.aligned import AlignedAttention
from anyformer.layers.attention.cross.cross import CrossAttention
from anyformer.layers.convolution.window_features import WindowFeatures
from anyformer.methods.decoding.generate import generate
from anyformer.tasks.intents_slots import understand
from golden import Golden
from parts import stirred
from variants import parameters


@pytest.fixture(scope="module")
def micro():
    torch.manual_seed(0)
    return stirred(create_model("ctran_micro"), 0.1).eval()


def sentence(batch: int = 2, pieces: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Segments]:
    """Ids, where words begin (five in each row), and the valid tokens of rows of which the second is padded."""
    ids = torch.randint(0, 256, (batch, pieces), generator=torch.Generator().manual_seed(seed))
    starts = torch.zeros(batch, pieces, dtype=torch.bool)
    starts[:, 1:6] = True
    starts[0, [3, 7]] = torch.tensor([False, True])
    return ids, starts, Segments.from_lengths([pieces, pieces - 2], pieces)


def tags(rows: int, words: int, model) -> Tensor:
    drawn = torch.randint(0, model.slots, (rows, words), generator=torch.Generator().manual_seed(3))
    drawn[:, 0] = model.start
    return drawn


# -- the aligned decoder -----------------------------------------------------------------------------------


def test_aligned_attention_is_cross_attention_with_a_diagonal_mask():
    full, aligned = stirred(CrossAttention(16, heads=4)), AlignedAttention(16)
    with torch.no_grad():
        aligned.value.weight.copy_(full.key_value.weight[16:])
        aligned.value.bias.copy_(full.key_value.bias[16:])
        aligned.out.load_state_dict(full.out.state_dict())
    x, memory = torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    known, mask = full.remember(memory), torch.eye(7, dtype=torch.bool)
    q = full.query(x).unflatten(-1, (4, 4)).transpose(1, 2)
    masked = full.out(attend(q, known["k"], known["v"], mask=mask).transpose(1, 2).flatten(2))
    torch.testing.assert_close(aligned(x, memory), masked, rtol=1e-5, atol=1e-6)
    longer = torch.cat([memory, torch.randn(2, 3, 16)], 1)
    assert torch.equal(aligned(x, longer), aligned(x, memory))


def test_a_decoder_layer_is_torchs_with_the_mask_of_the_paper():
    torch.manual_seed(0)
    theirs = stirred(nn.TransformerDecoderLayer(16, 2, 24, batch_first=True), 0.1).eval()
    ffn = Spec("mlp", hidden=24, act=Spec("relu"))
    block = PostNorm(16, mixer=Spec("attention", heads=2), cross=Spec("aligned_attention"), ffn=ffn, causal=True).eval()
    with torch.no_grad():
        for ours, own in ((block.mixer.qkv, theirs.self_attn), (block.cross.value, theirs.multihead_attn)):
            rows = slice(None) if ours is block.mixer.qkv else slice(32, None)
            ours.weight.copy_(own.in_proj_weight[rows])
            ours.bias.copy_(own.in_proj_bias[rows])
    for ours, own in (
        (block.mixer.out, theirs.self_attn.out_proj), (block.cross.out, theirs.multihead_attn.out_proj),
        (block.norm1, theirs.norm1), (block.norm_cross, theirs.norm2), (block.norm2, theirs.norm3),
        (block.ffn.up, theirs.linear1), (block.ffn.down, theirs.linear2),
    ):  # fmt: skip
        ours.load_state_dict(own.state_dict())
    x, memory = torch.randn(2, 6, 16), torch.randn(2, 6, 16)
    later = nn.Transformer.generate_square_subsequent_mask(6)
    diagonal = torch.full((6, 6), -torch.inf).fill_diagonal_(0)
    expected = theirs(x, memory, tgt_mask=later, memory_mask=diagonal)
    torch.testing.assert_close(block(x, None, memory), expected, rtol=1e-5, atol=1e-5)


def test_a_slot_is_of_its_own_word(micro):
    """Exactly so in one layer; behind it, self-attention brings what the layer before took from earlier words."""
    words, given = torch.randn(2, 8, 64), tags(2, 8, micro)
    torch.manual_seed(0)
    for model in (micro, stirred(create_model("ctran_micro", decoder_depth=1), 0.1).eval()):
        expected, single = model.decode(given, words), len(model.decoder) == 1
        for place in range(8):
            changed = words.clone()
            changed[:, place] += 1
            moved = (model.decode(given, changed) != expected).any(2).any(0)
            assert moved[place] and not moved[:place].any()
            assert moved[place + 1 :].any() == (not single and place < 7)


def test_step_by_step_equals_teacher_forced(micro):
    words, given = torch.randn(2, 12, 64), tags(2, 12, micro)
    state, found = micro.init_state(words), []
    for part in given.split([5, 1, 1, 5], 1):
        logits, state = micro.extend(part, state)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, 1), micro.decode(given, words), rtol=1e-5, atol=1e-5)
    with pytest.raises(SizeError, match=r"query i place i of the other sequence, which has 12; given 13 queries"):
        micro.extend(given[:, :1], state)


def test_tags_follow_their_words_when_rows_are_reordered(micro):
    words, given = torch.randn(3, 6, 64), tags(3, 6, micro)
    _, state = micro.extend(given[:, :2], micro.init_state(words))
    order = torch.tensor([2, 0])
    logits, _ = micro.extend(given[order, 2:], select_rows(state, order))
    torch.testing.assert_close(logits, micro.decode(given, words)[order, 2:], rtol=1e-5, atol=1e-5)


def test_understanding_writes_each_tag_behind_the_likeliest_before_it(micro):
    ids, starts, segments = sentence()
    chances, written = understand(micro, ids, starts, segments)
    with torch.no_grad():
        words, _ = micro.words(micro.encode(ids, segments), starts)
        given = torch.full((2, 1), micro.start)
        for _ in range(5):
            given = torch.cat([given, micro.decode(given, words)[:, -1:].argmax(-1)], 1)
        assert torch.equal(written, given[:, 1:])
        expected = micro(ids, given[:, :-1], starts, segments)
        torch.testing.assert_close(chances, expected[:, 0, micro.slots :], rtol=1e-5, atol=1e-5)
        beams = understand(micro, ids, starts, segments, beams=3)[1]

        def likelihood(row: Tensor) -> Tensor:
            shifted = torch.cat([given[:, :1], row[:, :-1]], 1)
            return micro.decode(shifted, words).log_softmax(-1).gather(2, row[..., None]).sum((1, 2))

        assert (likelihood(beams) >= likelihood(written) - 1e-4).all()
    with pytest.raises(FitError, match="cannot read intents and write tags; ctran can"):
        understand(create_model("bert_micro"), ids, starts)


# -- windows, words, and what they are read from -----------------------------------------------------------


def test_windows_of_one_token_with_identity_weights_change_nothing():
    windows = WindowFeatures(8, kernels=(1,))
    with torch.no_grad():
        windows.convs[0].weight.copy_(torch.eye(8)[..., None])
    x = torch.rand(2, 5, 8)
    torch.testing.assert_close(windows(x), x)


def test_windows_keep_places_and_see_as_far_as_their_kernels():
    windows = WindowFeatures(8, in_channels=3, kernels=(1, 2, 3, 5), act=Spec("leaky_relu"))
    x = torch.randn(1, 9, 3)
    changed = x.clone()
    changed[:, 4] += 1
    moved = (windows(x) - windows(changed)).abs()[0] > 0
    reach = [[i for i in range(9) if moved[i, 2 * k : 2 * k + 2].any()] for k in range(4)]
    assert reach == [[4], [3, 4], [3, 4, 5], [2, 3, 4, 5, 6]]
    theirs = nn.Conv1d(3, 2, 5, padding="same")
    theirs.load_state_dict(windows.convs[3].state_dict())
    expected = nn.functional.leaky_relu(theirs(x.transpose(1, 2)).transpose(1, 2), windows.act.slope)
    torch.testing.assert_close(windows(x)[..., 6:], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cross", [Spec("aligned_attention"), Spec("cross_attention", heads=2)])
def test_padding_changes_nothing(cross: Spec):
    torch.manual_seed(0)
    model = stirred(create_model("ctran_micro", **{"decoder.cross": cross}), 0.1).eval()
    ids, starts, segments = sentence()
    given = tags(2, 5, model)
    short = model(ids[1:, :7], given[1:], starts[1:, :7])
    torch.testing.assert_close(model(ids, given, starts, segments)[1:], short, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        alone = understand(model, ids[1:, :7], starts[1:, :7])
        for ours, expected in zip(understand(model, ids, starts, segments), alone, strict=True):
            torch.testing.assert_close(ours[1:], expected, rtol=1e-5, atol=1e-5)


def test_the_first_piece_stands_for_its_word(micro):
    tokens = torch.randn(2, 6, 64)
    starts = torch.tensor([[0, 1, 0, 1, 1, 0], [0, 1, 1, 0, 0, 0]], dtype=torch.bool)
    words, there = micro.words(tokens, starts)
    assert there.valid.sum(1).tolist() == [3, 2]
    assert torch.equal(words[0, :3], tokens[0, [1, 3, 4]]) and torch.equal(words[1, :2], tokens[1, [1, 2]])
    assert not words[0, 3:].any() and not words[1, 2:].any()
    assert micro.words(tokens)[0] is tokens and micro.words(tokens)[1] is None


def test_a_frozen_language_model_stays_and_the_rest_trains():
    torch.manual_seed(0)
    language = Spec("encoder", dim=32, depth=1, block=Spec("prenorm", mixer=Spec("attention", heads=2)), dropout=0.5)
    model = create_model("ctran_micro", language=language).train().freeze()
    ids, starts, segments = sentence()
    before = model.language.embedding.embed.weight.clone()
    assert not model.language.training and model.encoder.training
    assert torch.equal(model.embed(ids), model.embed(ids))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(ids, tags(2, 5, model), starts, segments).square().mean().backward()
    optimizer.step()
    assert torch.equal(model.language.embedding.embed.weight, before)
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.startswith("language."))
    model.freeze(False)
    assert model.language.training and all(p.requires_grad for p in model.parameters())
    with pytest.raises(FitError, match="built without its language: there is nothing to freeze"):
        create_model("ctran_micro", language=None, width=8).freeze()


def test_vectors_in_place_of_a_language_model():
    model = create_model("ctran_elmo", dim=16, width=10).eval()
    vectors, given = model.example_inputs(5, batch=2)
    assert vectors.shape == (2, 5, 10) and model(vectors, given).shape == (2, 5, 124 + 22)
    with pytest.raises(SizeError, match=r"takes vectors \(b, n, 10\); given \(2, 5, 9\) of float32"):
        model(vectors[..., 1:], given)


def test_the_language_model_as_the_encoder():
    language = Spec("encoder", dim=64, depth=1, block=Spec("prenorm", mixer=Spec("attention", heads=2)))
    model = create_model("ctran_micro", language=language, windows=None, encoder_depth=0).eval()
    ids, starts, segments = sentence()
    assert torch.equal(model.encode(ids, segments), model.language.tokens(ids, segments))
    assert model(ids, tags(2, 5, model), starts, segments).isfinite().all()
    with pytest.raises(OptionError, match=r"without windows their channels are dim; given width=64, dim=32"):
        create_model("ctran_micro", language=language, windows=None, dim=32)


# -- sizes, weights, mistakes ------------------------------------------------------------------------------


def test_sizes_of_the_published_models():
    """The notebook's own classes, less the idle ones of its golden, and BERT without its pooler."""
    golden = {name: p.numel() for name, p in Golden("ctran--ctran_bert_base--official").state().items()}
    idle = sum(n for name, n in golden.items() if name.startswith("decoder.decoder_layer."))
    rest = sum(golden.values()) - idle - 2 * 2 * (512 * 512 + 512)
    assert parameters("ctran_bert_base") == rest + 109482240 - (768 * 768 + 768)
    wider = 128 * (1 + 2 + 3 + 5) * (1024 - 768)
    assert parameters("ctran_bert_large") == rest + wider + 335141888 - (1024 * 1024 + 1024)
    assert parameters("ctran_elmo") == rest + wider


def test_the_notebooks_weights_with_its_bert():
    small = Spec("encoder", dim=16, depth=1, vocab_size=50, max_length=60, types=2, position=Spec("learned"),
                 embed_norm=Spec("layernorm"), block=Spec("postnorm", mixer=Spec("attention", heads=2)),
                 head=Spec("classifier"))  # fmt: skip
    model = create_model("ctran_bert_base", language=small)
    state = Golden("ctran--ctran_bert_base--official").state()
    state |= {n: p[:, :16] for n, p in state.items() if n.startswith("encoder.conv") and p.dim() == 3}
    bert = "bert_layer.bert_model."
    layer = bert + "encoder.layer.0."
    for name, rows in {
        "attention.self.query": (16, 16), "attention.self.key": (16, 16), "attention.self.value": (16, 16),
        "attention.output.dense": (16, 16), "intermediate.dense": (64, 16), "output.dense": (16, 64),
    }.items():  # fmt: skip
        state |= {f"{layer}{name}.weight": torch.randn(rows), f"{layer}{name}.bias": torch.randn(rows[0])}
    for name in (f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm", f"{bert}embeddings.LayerNorm"):
        state |= {f"{name}.weight": torch.randn(16), f"{name}.bias": torch.randn(16)}
    for name, rows in (("word", 50), ("position", 60), ("token_type", 2)):
        state[f"{bert}embeddings.{name}_embeddings.weight"] = torch.randn(rows, 16)
    state |= {f"{bert}pooler.dense.weight": torch.randn(16, 16), "decoder.intent_out_cls.bias": torch.randn(22)}
    load_reference(model, state, "official")
    query = state[f"{layer}attention.self.query.weight"]
    assert torch.equal(model.language.blocks[0].mixer.qkv.weight[:16], query)


def test_bad_input_is_explained(micro):
    ids, starts, segments = sentence()
    with pytest.raises(ValueError, match=r"one tag a word, here \(2, 5\) .* tags of shape \(2, 9\): mark with starts"):
        micro(ids, tags(2, 9, micro), starts, segments)
    with pytest.raises(SizeError, match=r"one tag a word, here \(2, 9\) .* given tags of shape \(2, 5\)"):
        micro(ids, tags(2, 5, micro))
    with pytest.raises(SizeError, match=r"starts says of each token whether a word begins: of shape \(2, 9\)"):
        micro(ids, tags(2, 5, micro), starts[:, :6])
    with pytest.raises(DataError, match="between 0 and 15; given 0 to 16"):
        micro.decode(torch.tensor([[0, 16]]), torch.randn(1, 2, 64))
    with pytest.raises(OptionError, match="start=16, slots=16, intents=4"):
        create_model("ctran_micro", start=16)
    with pytest.raises(OptionError, match=r"8 channels out evenly among kernels of 1 or more; given \(1, 2, 3\)"):
        WindowFeatures(8, kernels=(1, 2, 3))
    with pytest.raises(AnyformerError, match="3 rows with 2 rows"):
        micro.extend(tags(2, 1, micro), micro.init_state(torch.randn(3, 4, 64)))


def test_generate_takes_the_state_of_words(micro):
    words = torch.randn(2, 4, 64)
    begin = torch.full((2, 1), micro.start)
    out = generate(micro, begin, max_new_tokens=4, state=micro.init_state(words))
    assert out.shape == (2, 5) and int(out.max()) < micro.slots
