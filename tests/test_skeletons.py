"""Every token mixer in every skeleton that it fits; where it does not, a sentence says why."""

from __future__ import annotations

import pytest
import torch

from anyformer import Spec, create_model
from anyformer.core.build import build
from anyformer.core.errors import AnyformerError, FitError, SizeError
from anyformer.core.registry import part_class
from parts import MIXERS, causal_mixers, tiny

DIM = 16
WHOLE = ("inception", "sliced")
"""Mixers of grids that are made of whole cells or slices, which 16 patches and a class token are not."""


def block(name: str, **options) -> Spec:
    return Spec("prenorm", mixer=tiny(name), ffn=Spec("mlp", ratio=2.0), **options)


def isotropic(name: str) -> Spec:
    return Spec(
        "isotropic", dim=DIM, depth=2, block=block(name), embed=Spec("patch", size=2), image_size=8, num_classes=3
    )


def isotropic_with_class_token(name: str) -> Spec:
    return isotropic(name).set(head=Spec("classifier", pool=Spec("class")), position=Spec("learned"))


def stages(name: str) -> list[Spec]:
    down = [None, Spec("merge")]
    return [Spec("stage", dim=DIM * (i + 1), depth=1, block=block(name), downsample=down[i]) for i in range(2)]


def pyramid(name: str) -> Spec:
    return Spec("pyramid", stages=stages(name), embed=Spec("patch", size=1), image_size=8, num_classes=3)


def ushape(name: str) -> Spec:
    return Spec("ushape", stages=stages(name), embed=Spec("patch", size=2), image_size=16, num_classes=3)


def volume(name: str) -> Spec:
    return Spec(
        "isotropic",
        dim=DIM,
        depth=1,
        block=block(name),
        embed=Spec("patch", size=2),
        image_size=(4, 8, 8),
        num_classes=3,
    )


def encoder(name: str) -> Spec:
    return Spec("encoder", dim=DIM, depth=2, block=block(name), norm=Spec("layernorm"), vocab_size=11, max_length=12)


def decoder(name: str) -> Spec:
    return Spec("decoder", dim=DIM, depth=2, block=block(name), vocab_size=11, max_length=12)


def encoder_decoder(name: str) -> Spec:
    cross = block(name, cross=Spec("cross_attention", heads=2))
    return Spec(
        "encoder_decoder",
        dim=DIM,
        encoder=block("attention"),
        decoder=cross,
        encoder_depth=1,
        decoder_depth=1,
        vocab_size=11,
        max_length=12,
        decoder_norm=Spec("layernorm"),
        encoder_norm=Spec("layernorm"),
    )


SKELETONS = {  # skeleton: (spec of a mixer, rank of its grid, whether it is causal)
    "isotropic": (isotropic, 2, False),
    "isotropic_with_class_token": (isotropic_with_class_token, 1, False),
    "pyramid": (pyramid, 2, False),
    "ushape": (ushape, 2, False),
    "volume": (volume, 3, False),
    "encoder": (encoder, 1, False),
    "decoder": (decoder, 1, True),
    "encoder_decoder": (encoder_decoder, 1, True),
}


def fits(name: str, skeleton: str) -> bool:
    _, rank, causal = SKELETONS[skeleton]
    cls = part_class(name)
    return rank in cls.ranks and (not causal or cls.causality != "never")


def inputs(model, name: str):
    length = {"size": 12} if hasattr(model, "vocab_size") else {}
    return model.example_inputs(batch=2, **length)


@pytest.mark.parametrize("skeleton", SKELETONS)
@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_in_every_skeleton(name: str, skeleton: str):
    spec, _, causal = SKELETONS[skeleton][0](name), *SKELETONS[skeleton][1:]
    if not fits(name, skeleton):
        with pytest.raises(FitError, match=name):
            build(spec, "model")
        return
    torch.manual_seed(0)
    if name in WHOLE and skeleton == "isotropic_with_class_token":
        with pytest.raises(SizeError, match=rf"{name}: .*17.* fit"):
            build(spec, "model")(torch.randn(1, 3, 8, 8))
        return
    model = create_model(Spec.from_yaml(spec.to_yaml()))
    given = inputs(model, name)
    output = model(*given)
    assert output.isfinite().all() and len(output) == 2
    output.square().mean().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert all(f.isfinite().all() for f in model.features(given[0]))
    if causal and skeleton == "decoder":
        model.eval()
        state, parts = model.init_state(2), []
        for ids in given[0].split(5, 1):
            logits, state = model.extend(ids, state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), model(*given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("skeleton", ["isotropic", "pyramid", "ushape", "encoder", "decoder", "encoder_decoder"])
def test_skeletons_compile_and_export(skeleton: str):
    model = create_model(SKELETONS[skeleton][0]("attention")).eval()
    given = inputs(model, "attention")
    expected = model(*given)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*given), expected)
    exported = torch.export.export(model, given).module()
    torch.testing.assert_close(exported(*given), expected)


def test_gradient_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    model = create_model(pyramid("attention"))
    (x,) = model.example_inputs(batch=2)
    model(x).square().sum().backward()
    plain = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing()(x).square().sum().backward()
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.grad, plain[n], msg=n)


def test_taps_give_named_intermediates_and_attention_maps():
    model = create_model(isotropic("attention")).eval()
    (x,) = model.example_inputs(batch=2)
    plain = model(x)
    output, taps = model(x, taps=["attention", "blocks.1.ffn"])
    torch.testing.assert_close(output, plain)
    assert set(taps) == {"blocks.0.mixer.attention", "blocks.1.mixer.attention", "blocks.1.ffn"}
    torch.testing.assert_close(taps["blocks.0.mixer.attention"].sum(-1), torch.ones(2, 2, 16))
    assert taps["blocks.1.ffn"].shape == (2, 4, 4, DIM)
    assert torch.equal(model(x), plain), "tapping leaves nothing behind"
    with pytest.raises(AnyformerError, match=r"nothing named 'blocks.9' to tap"):
        model(x, taps="blocks.9")


def test_a_padded_batch_gives_what_single_rows_give():
    from anyformer.core.segments import Segments

    for spec in (encoder("attention"), decoder("attention")):
        model = create_model(spec).eval()
        ids = torch.randint(0, 11, (2, 12))
        segments = Segments.from_lengths([12, 7], 12)
        tokens = model.tokens(ids, segments)
        torch.testing.assert_close(tokens[1, :7], model.tokens(ids[1:, :7])[0], rtol=1e-4, atol=1e-5)


def test_causal_mixers_are_in_the_decoder_matrix():
    assert {"attention", "mamba"} <= set(causal_mixers())
