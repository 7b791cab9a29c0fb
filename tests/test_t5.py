"""T5: buckets of distances, one bias for all blocks of a side, writing in steps, published sizes."""

from __future__ import annotations

import pytest
import torch

from anyformer import Spec, create_model
from anyformer.core.errors import FitError, OptionError
from anyformer.core.segments import Segments
from anyformer.layers.position.relative_buckets import RelativeBuckets
from anyformer.weights.language.t5 import NAMES
from golden import Golden
from variants import named, parameters

PUBLISHED = {
    "t5_small": 60_506_624,
    "t5_base": 222_903_552,
    "t5_large": 737_668_096,
    "t5_3b": 2_851_598_336,
    "t5_11b": 11_307_321_344,
    "t5_v1_1_small": 76_961_152,
    "flan_t5_base": 247_577_856,
    "flan_t5_large": 783_150_080,
    "flan_t5_xl": 2_849_757_184,
    "flan_t5_xxl": 11_135_332_352,
    "mt5_small": 300_176_768,
    "byt5_small": 299_637_760,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str):
    assert parameters(name) == PUBLISHED[name]


def test_every_published_variant_has_a_name_elsewhere():
    from anyformer.models.language.t5 import VARIANTS

    assert named(NAMES) == set(VARIANTS) - {"t5_micro"}


def test_buckets_near_and_far():
    two, one = RelativeBuckets(2), RelativeBuckets(2, causal=True)
    ahead = torch.arange(-300, 301)
    b = two.bucket(ahead)
    assert b.min() == 0 and b.max() == 31
    assert torch.equal(b[ahead < 0].flip(0) + 16, b[ahead > 0])  # both directions alike, in halves of their own
    assert len(b[(ahead <= 0) & (ahead > -8)].unique()) == 8  # near distances have buckets of their own
    assert len(b[ahead <= -128].unique()) == 1
    back = one.bucket(ahead)
    assert (back[ahead >= 0] == 0).all() and back.max() == 31
    assert (back[ahead <= 0].diff() <= 0).all()
    # equation of section 2.1: 16 exact buckets, then 16 to distance 128
    assert one.bucket(torch.tensor([-16, -20, -127, -128])).tolist() == [16, 17, 31, 31]


def test_a_bias_of_a_later_stretch_is_a_part_of_the_whole():
    part = RelativeBuckets(3, causal=True)
    device = torch.device("cpu")
    torch.testing.assert_close(part(5, 40, device), part(40, 40, device)[:, -5:])


def test_buckets_that_make_no_sense_are_an_error():
    with pytest.raises(OptionError, match="buckets are an even number"):
        RelativeBuckets(2, buckets=5)
    with pytest.raises(OptionError, match="max_distance lies above half the buckets, 16; given 16"):
        RelativeBuckets(2, max_distance=16)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = create_model("t5_micro").eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def test_steps_equal_the_whole(model):
    source, target = torch.randint(0, 259, (2, 2, 40))
    with torch.no_grad():
        state, found = model.init_state(source), []
        for part in target.split([3, 1, 1, 35], 1):
            logits, state = model.extend(part, state)
            found.append(logits)
        torch.testing.assert_close(torch.cat(found, 1), model(source, target), atol=2e-5, rtol=1e-5)


def test_generation_equals_running_anew(model):
    source = torch.randint(0, 259, (3, 12))
    target = torch.zeros(3, 1, dtype=torch.long)
    with torch.no_grad():
        for _ in range(10):
            target = torch.cat([target, model(source, target)[:, -1:].argmax(-1)], 1)
    assert torch.equal(model.generate(source, max_new_tokens=10, end=None), target)


def test_padding_of_the_source_changes_nothing(model):
    source, target = torch.randint(0, 259, (2, 9)), torch.randint(0, 259, (2, 5))
    padded = torch.cat([source, torch.randint(0, 259, (2, 4))], 1)
    segments = Segments.from_lengths([9, 9], 13)
    with torch.no_grad():
        torch.testing.assert_close(model(padded, target, segments), model(source, target), atol=1e-5, rtol=1e-5)


def test_one_bias_serves_all_blocks_and_reaches_both_sides(model):
    tables = [name for name, _ in model.named_parameters() if name.endswith("distance.table")]
    assert tables == ["encoder_distance.table", "decoder_distance.table"]
    model.zero_grad()
    model(*model.example_inputs(batch=2)).square().mean().backward()
    assert model.encoder_distance.table.grad.abs().sum() > 0 and model.decoder_distance.table.grad.abs().sum() > 0


def test_features_of_the_last_block_are_what_the_encoder_norms(model):
    source = torch.randint(0, 259, (2, 9))
    with torch.no_grad():
        last = model.features(source, [-1])[0]
        torch.testing.assert_close(model.encoder_norm(last), model.encode(source))


def test_a_mixer_without_a_place_for_the_bias_is_an_error():
    with pytest.raises(FitError, match="t5 tells its mixers how far apart tokens are, and hgrn has no place for that"):
        create_model("t5_micro", **{"encoder.mixer": "hgrn"})


def test_an_encoder_alone_with_normed_queries_and_keys():
    """Temperatures of the cosines are learned here and 10 there."""
    golden = Golden("t5--xt_encoder_t5_bias_qknorm--x-transformers")
    norm = Spec("layernorm", bias=False)
    attention = Spec("attention", heads=4, bias=False, out_bias=False, scoring=Spec("cosine"))
    block = Spec("prenorm", mixer=attention, ffn=Spec("mlp"), norm=norm)
    sizes = {"dim": 128, "encoder_depth": 3, "decoder_depth": 0, "vocab_size": 500, "tie": False}
    model = create_model("t5_micro", encoder=block, decoder=block, encoder_norm=norm, decoder_norm=None, **sizes)
    temperatures = {f"encoder.{i}.mixer.scoring.logit_scale": torch.full((4, 1, 1), 10.0).log() for i in range(3)}
    golden.hold(
        model, lambda model, inputs: {"output": model.logits(model.encode(inputs["x"]))}, idle=-12, kept=temperatures
    )


def test_the_bias_is_a_part_of_any_attention():
    model = create_model("llama_micro", **{"block.mixer.distance": "relative_buckets"}).eval()
    ids = torch.randint(0, 256, (2, 12))
    with torch.no_grad():
        logits, state = model.extend(ids[:, :7], model.init_state(2))
        more, _ = model.extend(ids[:, 7:], state)
        torch.testing.assert_close(torch.cat([logits, more], 1), model(ids), atol=1e-5, rtol=1e-5)
    assert all(block.mixer.distance.causal for block in model.blocks)
