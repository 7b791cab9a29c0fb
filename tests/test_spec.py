"""Specs: equality, editing by path, YAML round trip, and every error that names what was given and what is accepted."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anyformer import Spec, create_model, model_spec
from anyformer.core.build import accepts, build
from anyformer.core.errors import AnyformerError, FitError, OptionError, UnknownName
from anyformer.core.registry import index
from anyformer.layers.attention.local.window import WindowAttention

names = st.text("abcdefgh_", min_size=1, max_size=8).filter(lambda n: n != "part")
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=6)
specs = st.recursive(
    st.builds(lambda n, o: Spec(n, **o), names, st.dictionaries(names, scalars, max_size=3)),
    lambda inner: st.builds(
        lambda n, o: Spec(n, **o),
        names,
        st.dictionaries(names, scalars | inner | st.lists(inner, max_size=2), max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs)
def test_yaml_round_trip(spec: Spec):
    again = Spec.from_yaml(spec.to_yaml())
    assert again == spec and hash(again) == hash(spec)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_spec_does_not_change():
    spec = Spec("mlp", ratio=4)
    with pytest.raises(AttributeError, match="does not change"):
        spec.name = "other"
    assert spec.set(ratio=2) == Spec("mlp", ratio=2) and spec == Spec("mlp", ratio=4)


def test_every_published_variant_round_trips():
    for name in index()["variants"]:
        spec = model_spec(name)
        assert Spec.from_yaml(spec.to_yaml()) == spec, name


def test_replace_by_path_keeps_what_both_parts_have():
    spec = model_spec("swin_micro")
    changed = spec.replace("stages.1.block.*.mixer", "attention")
    assert changed["stages.1.block.0.mixer"] == Spec("attention", heads=4)
    assert changed["stages.0.block.0.mixer"].name == "window"
    deeper = spec.replace("stages.0.block.0.mixer.window", 2)
    assert deeper["stages.0.block.0.mixer.window"] == 2
    assert spec.replace("stages.0.norm", "rmsnorm")["stages.0.norm"] == Spec("rmsnorm")


def test_heads_that_are_carried_over_fit_the_kinds_of_the_new_part():
    swapped = model_spec("swin_tiny", mixer="cross_shaped")
    assert [swapped[f"stages.{i}.block.0.mixer.heads"] for i in range(4)] == [4, 6, 12, 24]
    given = model_spec("swin_tiny", mixer=Spec("cross_shaped", heads=3))
    assert given["stages.0.block.0.mixer.heads"] == 3  # and building it says why that does not do


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("stages.0.blok.mixer", "stage .* sets no 'blok'; did you mean 'block'"),
        ("stages.7.dim", "stages has 2 entries, 0 to 1; given '7'"),
        ("stages.0.dim.x", "goes on at 'x'"),
        ("stages.0.dimm", "stage has no option 'dimm' .*did you mean 'dim'"),
        ("", "given an empty one"),
    ],
)
def test_paths_that_lead_nowhere(path: str, message: str):
    with pytest.raises(OptionError, match=message):
        model_spec("swin_micro").replace(path, 1)


def test_swap_reaches_every_place_and_defaults_too():
    spec = model_spec("vit_micro").swap("norm", "rmsnorm")
    assert spec["norm"] == Spec("rmsnorm", eps=1e-6) and spec["block.norm"].name == "rmsnorm"
    assert create_model("swin_micro", norm="rmsnorm").stages[0].blocks[0].norm1.name == "rmsnorm"
    only = spec.swap("mixer", "pooling", where=lambda path, old: path.startswith("nothing"))
    assert only == spec


def test_a_part_gives_its_spec_and_checks_it():
    assert WindowAttention.spec(heads=3) == Spec("window", heads=3)
    with pytest.raises(OptionError, match=r"window has no option 'head'; did you mean 'heads'"):
        WindowAttention.spec(head=3)
    with pytest.raises(OptionError, match=r"window.shift takes one of 'none', 'half', 'always'; given 'third' \(str\)"):
        WindowAttention.spec(heads=3, shift="third")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: create_model("swin_tinny"), UnknownName, "no model 'swin_tinny'; did you mean 'swin_tiny'"),
        (
            lambda: create_model("swin_tiny_patch4_window7_224"),
            UnknownName,
            "write 'timm:swin_tiny_patch4_window7_224'",
        ),
        (lambda: create_model("tim:swin"), UnknownName, "no source 'tim' of model names; did you mean 'timm'"),
        (lambda: create_model("timm:swin_tin"), UnknownName, "no model of ours has the timm name 'swin_tin'"),
        (lambda: create_model("swin_micro", classes=3), OptionError, "no option 'classes'; did you mean 'num_classes'"),
        (
            lambda: create_model("swin_micro", num_classes="ten"),
            OptionError,
            r"num_classes takes int; given 'ten' \(str\)",
        ),
        (lambda: create_model("swin_micro", mixer="windoww"), UnknownName, "no part 'windoww'; did you mean 'window'"),
        (
            lambda: create_model("swin_micro", mixer="mlp"),
            FitError,
            "mlp is a channel mixer; this place takes a token mixer",
        ),
        (
            lambda: create_model("gpt2_micro", mixer="window"),
            FitError,
            "window looks at all tokens and cannot be causal",
        ),
        (lambda: build(Spec("mlp"), "ffn"), OptionError, r"mlp needs dim: give it as Spec\('mlp', dim=...\) \(int\)"),
        (
            lambda: build(Spec("attention", heads=3), "mixer", dim=8),
            OptionError,
            "3 heads do not divide 8 channels; heads",
        ),
        (lambda: Spec.from_yaml("a: ["), OptionError, "not YAML"),
        (lambda: Spec.from_yaml("a: 1"), OptionError, "keys 'anyformer' .version. and 'spec'"),
        (lambda: Spec.from_yaml("anyformer: 99\nspec: {part: mlp}"), OptionError, "upgrade anyformer"),
        (lambda: Spec("mlp", ratio=object()), OptionError, "holds numbers, strings, booleans, lists and Specs only"),
        (lambda: Spec(3), OptionError, "starts with the name of a part"),
    ],
)
def test_mistakes_are_one_sentence_that_teaches(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert isinstance(caught.value, AnyformerError) and isinstance(caught.value, ValueError)


def test_types_that_options_accept():
    assert accepts(3, float) and not accepts(True, int) and not accepts(3.5, int)
    assert accepts((1, 2), tuple[int, ...]) and not accepts("12", tuple[int, ...])
    assert accepts((1, 2), tuple[int, int]) and not accepts((1, 2, 3), tuple[int, int])
    assert accepts(Spec("mlp"), Spec | None) and accepts(None, Spec | None) and not accepts(4, Spec)
