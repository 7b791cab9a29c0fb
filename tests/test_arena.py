"""The Long Range Arena: its mixers' promises, its data, its tasks, and wide against deep."""

from __future__ import annotations

import copy
import math
import re
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anyformer import create_model, model_spec
from anyformer.core.build import build
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.data import listops, long_text, pathfinder
from anyformer.lab.compare import compare
from anyformer.lab.profile import activation_memory, count_operations
from anyformer.lab.train import TrainConfig, train
from anyformer.layers.attention.full import Attention
from anyformer.layers.attention.linear.favor import favor, normal_directions, positive_features
from anyformer.layers.attention.linear.linformer import LinformerAttention
from anyformer.layers.attention.linear.nystrom import NystromAttention, pseudo_inverse
from anyformer.models.language.lra import MIXERS
from anyformer.models.language.wide_attention import at_depth
from anyformer.tasks import create_task
from parts import stirred, tokens

# -- mixers --------------------------------------------------------------------------------------------------


def same_projections(mixer: Any) -> Attention:
    """Attention among all tokens with the projections of another mixer of 8 channels and 2 heads."""
    full = Attention(8, heads=2)
    full.qkv.load_state_dict(mixer.qkv.state_dict())
    full.out.load_state_dict(mixer.out.state_dict())
    return full


def test_linformer_is_attention_where_its_sums_are_the_tokens():
    mixer = stirred(LinformerAttention(8, heads=2, projected=12, grid=(12,)))
    with torch.no_grad():
        mixer.keys.copy_(torch.eye(12).expand(2, -1, -1))
    x = tokens((12,))
    torch.testing.assert_close(mixer(x), same_projections(mixer)(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("share", "numbers"), [("none", 4), ("key_value", 2), ("head", 2), ("all", 1)])
def test_linformer_shares_as_it_says(share: str, numbers: int):
    mixer: Any = build(Spec("linformer", heads=2, projected=3, share=share), "mixer", dim=8, grid=(10,))
    assert sum(p.numel() for n, p in mixer.named_parameters() if n in ("keys", "values")) == numbers * 3 * 10
    assert torch.isfinite(mixer(tokens((7,)))).all()
    with pytest.raises(SizeError, match=r"at most 10 tokens; given 11.*max_length=11"):
        mixer(tokens((11,)))


def test_layers_of_a_linformer_share_one_matrix():
    model: Any = create_model("linformer_micro")
    assert sum("keys" in name for name, _ in model.named_parameters()) == 1
    assert sum("keys" in name for name in model.state_dict()) == 1
    ids = torch.randint(0, 256, (2, 40))
    model(ids).sum().backward()
    assert model.blocks[0].mixer.keys.grad.abs().sum() > 0
    again = copy.deepcopy(model)
    with torch.no_grad():
        again.blocks[0].mixer.keys.add_(1)
        assert again.blocks[2].mixer.sums()[0] is again.blocks[0].mixer.keys
        assert not torch.equal(again(ids), model(ids))
    assert create_model("linformer_micro", mixer="pooling")(ids).shape == (2, 2)


def test_nystrom_is_attention_where_every_token_is_a_landmark():
    mixer = stirred(NystromAttention(8, heads=2, landmarks=12, conv=0))
    x = tokens((12,))
    torch.testing.assert_close(mixer(x), same_projections(mixer)(x), rtol=1e-5, atol=1e-6)


def test_nystrom_comes_nearer_to_attention_with_more_landmarks():
    torch.manual_seed(0)
    full = Attention(64, heads=2)
    with torch.no_grad():
        full.qkv.weight.mul_(8)
    smooth = torch.nn.functional.interpolate(torch.randn(2, 64, 16), size=128, mode="linear").mT
    errors = []
    for landmarks in (4, 16, 64):
        mixer = NystromAttention(64, heads=2, landmarks=landmarks, conv=0, iterations=20)
        mixer.load_state_dict(full.state_dict())
        with torch.no_grad():
            errors.append(float((mixer(smooth) - full(smooth)).norm() / full(smooth).norm()))
    assert errors[0] > 10 * errors[1] > 100 * errors[2] and errors[1] < 0.1


def test_the_map_of_nystrom_is_what_it_mixes_by():
    mixer = stirred(NystromAttention(8, heads=2, landmarks=4, conv=3))
    x, segments = tokens((21,)), Segments.from_lengths([21, 15], 21)
    y = mixer(x, segments)
    mixer.scoring.record = True
    torch.testing.assert_close(mixer(x, segments)[segments.valid], y[segments.valid], rtol=1e-4, atol=1e-5)
    assert mixer.scoring.map.shape == (2, 2, 21, 21) and not mixer.scoring.map[1, :, :, 15:].any()


@pytest.mark.parametrize("each", [True, False])
def test_pseudo_inverse(each: bool):
    a = (4 * torch.randn(3, 16, 16, dtype=torch.float64) + 8 * torch.eye(16)).softmax(-1)
    z = pseudo_inverse(a, 30, each)
    torch.testing.assert_close(a @ z @ a, a, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [17, 31, 100])
def test_nystrom_takes_any_length_and_padding_is_hidden_or_seen(n: int):
    x = tokens((n,), dim=16)
    mixer = stirred(NystromAttention(16, heads=2, landmarks=8, conv=5))
    assert torch.isfinite(mixer(x)).all()
    segments = Segments.from_lengths([n, n - 6], n)
    changed = x.clone()
    changed[1, n - 6 :] = 9
    mixed = mixer(x, segments) - mixer(changed, segments)
    assert mixed[segments.valid].abs().max() < 1e-5
    mixer.conv_padding = "seen"
    mixed = mixer(x, segments) - mixer(changed, segments)
    assert mixed[1, n - 8 : n - 6].abs().max() > 1e-3


def test_favor_features_stand_for_the_softmax():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 60, 16) / 2 for _ in range(3))
    features: Any = build(Spec("favor_features", features=4096), "features", head_dim=16)
    full = torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def error() -> float:
        found = favor(*(t.flatten(0, 1) for t in (features.queries(q), features.keys(k), v))).view_as(v)
        return float((found - full).norm() / full.norm())

    first = error()
    features.redraw()
    assert first < 0.15 and error() < 0.15 and error() != first


def test_queries_too_large_for_the_exponential_are_finite():
    directions = normal_directions(32, 16)
    x = 60 * torch.randn(2, 5, 16)
    assert torch.isfinite(positive_features(x, directions, level=True)).all()
    assert positive_features(x, directions, level=True).amax(-1).mul(math.sqrt(32)).allclose(torch.ones(2, 5))
    blocks = normal_directions(40, 16)
    across = blocks[:16] @ blocks[:16].t()
    assert (across - across.diagonal().diag()).abs().max() < 1e-4


@pytest.mark.parametrize("features", ["favor_features", "relu_features"])
def test_a_performer_generates_as_it_reads(features: str):
    mixer = Spec("linear_attention", heads=4, features=Spec(features, features=32))
    model = create_model("llama_micro", mixer=mixer).eval()
    ids = torch.randint(0, 256, (2, 24))
    with torch.no_grad():
        expected, (first, state) = model(ids), model.extend(ids[:, :10], model.init_state(2))
        second, _ = model.extend(ids[:, 10:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), expected, rtol=1e-3, atol=1e-4)


SYNTHESIZERS = (
    "dense_synthesizer",
    "factorized_dense_synthesizer",
    "random_synthesizer",
    "factorized_random_synthesizer",
)


@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_synthesizers_compare_no_tokens(name: str):
    mixer: Any = stirred(build(Spec(name, heads=2), "mixer", dim=8, grid=(12,)))
    x = tokens((9,))
    mixer.scoring.record = True
    mixer(x)
    first = mixer.scoring.map
    changed = x.clone()
    changed[:, 4] += 1
    mixer(changed)
    moved = (mixer.scoring.map - first).abs().sum((0, 1, 3)) > 1e-6
    assert moved.tolist() == [("dense" in name) and i == 4 for i in range(9)]
    with pytest.raises(SizeError, match=rf"{name} has scores for sequences of at most 12 tokens; given 13"):
        mixer(tokens((13,)))


def test_a_dense_synthesizer_is_its_equation():
    mixer: Any = stirred(build(Spec("dense_synthesizer", heads=2, hidden=3), "mixer", dim=8, grid=(10,)))
    x = tokens((6,))
    hidden = mixer.to_hidden(x).relu().unflatten(-1, (2, 3)).transpose(1, 2)
    scores = hidden @ mixer.weight.mT[..., :6] + mixer.place[..., :6]
    values = mixer.value(x).unflatten(-1, (2, 4)).transpose(1, 2)
    expected = mixer.out((scores.softmax(-1) @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixer(x), expected, rtol=1e-5, atol=1e-6)


def test_a_random_synthesizer_that_is_not_trained():
    mixer: Any = build(Spec("random_synthesizer", heads=2, trained=False), "mixer", dim=8, grid=(10,))
    assert not mixer.matrix.requires_grad


@pytest.mark.parametrize("shape", [(2, 7, 5), (1, 8, 6), (2, 5, 4, 7), (1, 2, 3, 4, 2), (1, 1, 3), (1, 3, 1)])
def test_fourier_mixing_is_the_real_part_for_every_size(shape: tuple[int, ...]):
    mixer: Any = build(Spec("fourier"), "mixer", dim=shape[-1])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    expected = torch.fft.fftn(x, dim=tuple(range(1, len(shape)))).real
    torch.testing.assert_close(mixer(x), expected)
    weights = torch.arange(x.numel(), dtype=x.dtype).view(shape).cos()
    ours, theirs = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (mixer(x), expected))
    torch.testing.assert_close(ours, theirs)


def test_fourier_mixing_is_the_transform_and_has_nothing_to_learn():
    mixer: Any = build(Spec("fourier"), "mixer", dim=6)
    assert not list(mixer.parameters())
    x = tokens((5,), dim=6)
    n, c = (np.exp(-2j * np.pi * np.outer(np.arange(k), np.arange(k)) / k) for k in (5, 6))
    expected = np.einsum("ij,bjk,kl->bil", n, x.numpy(), c).real
    torch.testing.assert_close(mixer(x), torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-4)
    half: Any = build(Spec("fourier", norm="ortho"), "mixer", dim=6)
    torch.testing.assert_close(half(x), mixer(x) / math.sqrt(30))


def test_mistakes_in_mixers_are_named():
    cases = [
        (Spec("nystrom", heads=2, conv=4), "nystrom.conv is odd"),
        (Spec("nystrom", heads=2, landmarks=0), "1 landmark and 1 iteration or more; given 0"),
        (Spec("linformer", heads=2, projected=0), "projected is 1 or more; given 0"),
        (Spec("factorized_random_synthesizer", heads=2, rank=0), "rank is 1 or more; given 0"),
        (Spec("dense_synthesizer", heads=2, hidden=0), "hidden is 1 or more; given 0"),
        (Spec("factorized_dense_synthesizer", heads=2, block=0), "block is 1 or more; given 0"),
        (Spec("linear_attention", heads=2, features=Spec("relu_features", features=0)), "features is 1 or more"),
    ]
    for spec, said in cases:
        with pytest.raises(OptionError, match=said):
            build(spec, "mixer", dim=8, grid=(10,))
    with pytest.raises(OptionError, match="linformer has weights for every token of one grid"):
        build(Spec("linformer", heads=2), "mixer", dim=8, grid=(None,))


# -- models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_stands_in_the_arena(name: str):
    model = create_model(f"lra_{name}_listops").eval()
    ids = torch.randint(1, 32, (2, 200))
    with torch.no_grad():
        assert model(ids).shape == (2, 10)
        assert torch.isfinite(model(ids, Segments.from_lengths([200, 150], 200))).all()


def test_two_towers_compare_what_one_encoder_made_of_each():
    model = create_model("lra_retrieval_micro").eval()
    first, second = torch.randint(0, 256, (2, 30)), torch.randint(0, 256, (2, 40))
    with torch.no_grad():
        u, v = model.encoder(first), model.encoder(second)
        expected = model.linear(model.hidden(torch.cat([u, v, u * v, u - v], -1)).relu())
        torch.testing.assert_close(model(first, second), expected)
    assert create_model("lra_retrieval_micro", num_classes=0)(first, second).shape == (2, 256)
    assert create_model("lra_retrieval_micro", mixer="fourier")(first, second).shape == (2, 2)
    with pytest.raises(FitError, match=r"both towers are one encoder.*given decoder"):
        create_model("lra_retrieval_micro", encoder=model_spec("gpt2_micro"))


@pytest.mark.parametrize("mixer", ["attention", "linear_attention", "linformer", "nystrom"])
def test_wide_models_keep_heads_and_lose_one_channel_mixer_a_layer(mixer: str):
    deep = model_spec("wide_attention_deep_micro")
    options = {"attention": {}, "linear_attention": {}, "linformer": {"projected": 8, "share": "all"}, "nystrom": {}}
    spec = Spec(mixer, heads=4, out_bias=False, **options[mixer])
    deep = deep.set(block=deep["block"].set(mixer=spec))

    def count(part: Any) -> int:
        return sum(p.numel() for p in part.parameters())

    before: Any = create_model(deep)
    block = before.blocks[0]
    own = sum(count(getattr(block, name)) for name in ("ffn", "norm1", "norm2"))
    if mixer == "linformer":
        own += block.mixer.keys.numel()
    if mixer == "nystrom":
        assert block.mixer.conv is not None
    for layers in (4, 2, 1):
        model: Any = create_model(at_depth(deep, layers))
        mixers = [b.mixer for b in model.blocks]
        assert sum(m.qkv.heads for m in mixers) == 16
        assert sum(count(m.qkv) + count(m.out) for m in mixers) == 4 * (count(block.mixer.qkv) + count(block.mixer.out))
        assert count(before) - count(model) == (4 - layers) * own


def test_heads_that_layers_do_not_divide_and_models_without_heads_are_named():
    deep = model_spec("wide_attention_deep_micro")
    with pytest.raises(OptionError, match=r"16 heads in all cannot be dealt out evenly to 3 layers.* 1, 2, 4, 8, 16"):
        at_depth(deep, 3)
    with pytest.raises(OptionError, match="no one mixer with heads and head_dim"):
        at_depth(model_spec("fnet_micro"), 1)
    assert at_depth(deep, 4).options["depth"] == 4
    sizes = {name: create_model(f"wide_attention_{name}").num_parameters() for name in ("6x8", "1x48")}
    assert 0.4 < sizes["1x48"] / sizes["6x8"] < 0.6  # "half the size"


# -- data ----------------------------------------------------------------------------------------------------

BY_HAND = {"MIN": min, "MAX": max, "MED": lambda v: int(statistics.median(v)), "SM": lambda v: sum(v) % 10}


def by_hand(expression: str) -> int:
    """The value, with Python as the evaluator."""
    code = re.sub(r"\[(\w+)", r"BY_HAND['\1']([", expression).replace(" ]", "])")
    code = re.sub(r"(?<=[\d)]) (?=[\dB])", ", ", code)
    return eval(code)


def test_listops_obeys_its_grammar():
    drawn = listops.expressions(1000, shortest=8, longest=64, seed=3)
    assert len({e for e, _ in drawn}) == 1000
    for expression, value in drawn:
        assert listops.evaluate(expression) == value == by_hand(expression)
        assert 8 <= len(expression.split()) <= 64
        arguments, level = [], 0
        for token in expression.split():
            if token in listops.OPERATORS:
                arguments.append(0)
                level = max(level, len(arguments))
                continue
            if token == listops.END:
                assert 2 <= arguments.pop() <= 10
            if arguments:
                arguments[-1] += 1
        assert level < 10
    assert {value for _, value in drawn} == set(range(10))
    assert drawn == listops.expressions(1000, shortest=8, longest=64, seed=3)
    assert drawn != listops.expressions(1000, shortest=8, longest=64, seed=4)
    assert all(500 <= len(e.split()) <= 2000 for e, _ in listops.expressions(3, seed=0))


@pytest.mark.parametrize(
    "text", ["", "7", "[MAX ]", "[MAX 1 2", "[MAX 1 2 ] 3", "[MAX 1 two ]", "[MAX 1 2 ] ]", "1 [MAX 2 3 ]"]
)
def test_what_is_no_expression_is_named(text: str):
    with pytest.raises(DataError, match="is no expression"):
        listops.evaluate(text)


def test_files_of_listops(tmp_path):
    rows = "Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\t9\n[SM 7 [MIN 5 3 ] ]\t0\n"
    for name in ("train", "val", "test"):
        (tmp_path / f"basic_{name}.tsv").write_text(rows)
    task = create_task(f"listops:{tmp_path}", length=2000)
    assert task.size("train") == 2 and task.examples("test", 2)[0] == {"input": "[MAX 2 9 ]", "truth": "9"}
    (tmp_path / "basic_val.tsv").write_text(rows + "[MIN 3 4 ]\t4\n")
    with pytest.raises(DataError, match=r"basic_val.tsv, line 4: the expression is 3, and Target says '4'"):
        create_task(f"listops:{tmp_path}")
    (tmp_path / "basic_val.tsv").write_text("Sauce,Target\n")
    with pytest.raises(DataError, match="its first line names the columns Source and Target"):
        create_task(f"listops:{tmp_path}")
    with pytest.raises(DataError, match=r"basic_train.tsv cannot be read"):
        create_task(f"listops:{tmp_path / 'nowhere'}")
    with pytest.raises(OptionError, match="hardly any expression"):
        listops.expressions(10, shortest=1990, longest=2000, depth=2, arguments=2)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_pathfinder_labels_what_a_flood_finds(size: int):
    joined = []
    for seed in range(60 if size < 64 else 10):
        drawing = pathfinder.draw(size, distractors=2, seed=seed)
        reached = pathfinder.flooded(drawing.paths, drawing.dots[0])
        assert bool(reached[drawing.dots[1]]) == drawing.joined
        assert not reached[drawing.paths > 2].any()
        drawn = (drawing.pixels > 0) & (drawing.pixels < pathfinder.DOT)
        assert (drawing.paths[drawn] > 0).all() and drawn.sum() < (drawing.paths > 0).sum()
        assert np.array_equal(drawing.pixels, pathfinder.draw(size, distractors=2, seed=seed).pixels)
        joined.append(drawing.joined)
    assert 0.2 < sum(joined) / len(joined) < 0.8


def test_languages_are_the_same_for_all_seeds_and_texts_are_not():
    (first, kinds), (second, _) = (long_text.languages(8, 64, seed) for seed in (0, 1))
    assert kinds == [0, 1, 2, 3] * 2 and first != second and {len(text) for text in first} == {64}
    syllables = [{text[i : i + 2] for text in (a, b) for i in range(63)} for a, b in zip(first, second, strict=True)]
    assert len(syllables[0] & syllables[4]) > len(syllables[0] & syllables[1])


def test_paths_that_do_not_fit_are_named():
    with pytest.raises(OptionError, match="do not fit into 16 pixels"):
        pathfinder.draw(16, length=40, distractors=12)
    with pytest.raises(OptionError, match="8 pixels a side"):
        pathfinder.draw(4)


def test_files_of_pathfinder(tmp_path):
    from PIL import Image

    (tmp_path / "metadata").mkdir()
    (tmp_path / "imgs").mkdir()
    lines = []
    for i in range(20):
        drawing = pathfinder.draw(16, distractors=1, seed=i)
        Image.fromarray(drawing.pixels).save(tmp_path / "imgs" / f"{i}.png")
        lines.append(f"imgs {i}.png {i} {i % 2} 1 2")
    (tmp_path / "metadata" / "1.npy").write_text("\n".join(lines) + "\n")
    task = create_task(f"pathfinder:{tmp_path}", size=16)
    assert sum(task.size(s) for s in ("train", "valid", "test")) == 20 and task.length == 256
    (tmp_path / "imgs" / "3.png").write_bytes(b"")
    assert len(pathfinder.read_pathfinder(tmp_path)[0]) == 19
    (tmp_path / "metadata" / "1.npy").write_text("imgs 1.png 1 joined\n")
    with pytest.raises(DataError, match=r"1.npy, line 1: a line is folder, name, number and label"):
        pathfinder.read_pathfinder(tmp_path)
    with pytest.raises(DataError, match="needs metadata"):
        pathfinder.read_pathfinder(tmp_path / "imgs")


def test_files_of_texts_and_pairs(tmp_path):
    for split, kind in ((s, k) for s in ("train", "test") for k in ("neg", "pos")):
        (tmp_path / split / kind).mkdir(parents=True)
        for i in range(8):
            (tmp_path / split / kind / f"{i}.txt").write_text(f"{kind} {split} {i}")
    task = create_task(f"byte_text:{tmp_path}", length=1000)
    assert task.classes == ("neg", "pos") and task.size("test") == 16 and task.examples("test", 1)[0]["truth"] == "neg"
    (tmp_path / "train" / "neg" / "0.txt").write_text(" ")
    with pytest.raises(DataError, match=r"0.txt is empty"):
        create_task(f"byte_text:{tmp_path}")
    (tmp_path / "train" / "unsup").mkdir()
    with pytest.raises(DataError, match="texts without a class"):
        create_task(f"byte_text:{tmp_path}")
    row = '1.0\ta\tb\tone "text"\tanother\n0\ta\tc\tone\tmore\n'
    for name in ("train", "eval", "test"):
        (tmp_path / f"new_aan_pairs.{name}.tsv").write_text(row)
    pairs = create_task(f"byte_matching:{tmp_path}", length=4000)
    assert pairs.size("valid") == 2 and pairs.examples("valid", 1)[0] == {
        "input": 'one "text"\n\nanother',
        "truth": "together",
    }
    (tmp_path / "new_aan_pairs.eval.tsv").write_text("2\ta\tb\tx\ty\n")
    with pytest.raises(DataError, match=r"eval.tsv, line 1: a line is label 0 or 1"):
        create_task(f"byte_matching:{tmp_path}")
    (tmp_path / "new_aan_pairs.eval.tsv").unlink()
    with pytest.raises(DataError, match=r"one file \*.eval.tsv of pairs; it has 0"):
        create_task(f"byte_matching:{tmp_path}")


def test_stretches_of_source_are_in_one_part_only():
    parts = long_text.stretches(128)
    texts = {split: set(found[0]) for split, found in parts.items()}
    assert len(texts["train"] & texts["test"]) <= 2 and len(texts["train"]) > 2000
    first, second, same = long_text.paired(*parts["valid"], 100, 0)
    assert sum(same) == 50 and len(first) == len(second) == 100


# -- tasks ---------------------------------------------------------------------------------------------------

SMALL = {
    "listops": {"samples": 60},
    "byte_text": {},
    "byte_matching": {"samples": 60},
    "pixel_images": {},
    "pathfinder": {"samples": 60},
}


@pytest.mark.parametrize("name", SMALL)
def test_tasks_sample_measure_and_show(name: str):
    task = create_task(name, **SMALL[name])
    rows = torch.tensor([5, 3, 7, 0])
    batch, again, alone = task.sample("train", rows), task.sample("train", rows), task.sample("train", rows[1:2])
    for key, tensor in batch.items():
        assert torch.equal(tensor, again[key])
        width = alone[key].shape[1] if alone[key].ndim > 1 else None
        assert torch.equal(tensor[1:2, :width] if width else tensor[1:2], alone[key])
    model = create_model(task.default_model, **task.model_options()).eval()
    model.train()
    task.loss(model, batch).backward()
    assert all(p.grad is not None for p in model.parameters())
    found = task.evaluate(model, "valid")
    assert 0 <= found["accuracy"] <= 1 and len(found["guesses"]) == task.size("valid")
    assert found["loss"] == pytest.approx(math.log(len(task.classes)), abs=2)
    baseline = task.baseline()
    assert 0 < baseline.value < 1 - baseline.margin
    assert task.facts()["length"] == task.length and task.facts()["task"] == name
    examples = task.examples("test", 2)
    assert len(examples) == 2 and examples[0]["truth"] in task.classes
    if name in ("pixel_images", "pathfinder"):
        assert examples[0]["input"].shape == (task.side, task.side, 3)
        assert [p.pixels.dtype for p in task.pictures(model, n=2)] == [np.uint8] * 2
        pixels = task.parts["test"][0][0][0][:1].view(1, task.side, task.side)
        said = task.predict(model, [pixels[0]])
        assert said[0]["label"] in task.classes
        with pytest.raises(DataError, match=f"pictures of {task.side} x {task.side} grey pixels"):
            task.predict(model, [torch.zeros(3, 3)])


def test_tasks_predict_texts():
    task = create_task("listops", samples=60)
    model = create_model("lra_micro", **task.model_options())
    said = task.predict(model, ["[MAX 2 9 [MIN 4 7 ] 0 ]"])[0]
    assert said["label"] in task.classes and sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    with pytest.raises(DataError, match="is no expression"):
        task.predict(model, ["[MAX 2"])
    pairs = create_task("byte_matching", samples=60)
    towers = create_model("lra_retrieval_micro", **pairs.model_options())
    assert pairs.predict(towers, ["def a():\tdef b():"])[0]["label"] in ("apart", "together")
    with pytest.raises(DataError, match="takes two texts, with a tab between them; given 1"):
        pairs.predict(towers, ["alone"])


def test_padding_changes_no_answer():
    task = create_task("listops", samples=60)
    model = create_model("lra_micro", **task.model_options()).eval()
    rows = torch.arange(10)
    with torch.no_grad():
        together = task.logits(model, task.sample("valid", rows))
        alone = torch.cat([task.logits(model, task.sample("valid", row[None])) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_model_that_is_too_short_is_named_before_it_trains():
    task = create_task("listops", samples=120)
    model = create_model("lra_micro", vocab_size=16, max_length=32, num_classes=10)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SizeError, match="up to 64 tokens, and the model takes 32: build it with max_length=64"):
        train(model, task, TrainConfig(budget="2steps"), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    with pytest.raises(SizeError, match="max_length=64"):
        task.evaluate(model)


def test_any_mixer_runs_by_name_and_twice_the_same(tmp_path):
    task = create_task("listops", samples=120)
    names = ["lra_micro", "lra_micro+mixer=fourier", "lra_micro+mixer={part: linear_attention, heads: 4}"]
    results = []
    for out in ("first", "second"):
        found = compare(names, task, "3steps", seeds=1, rates=(1e-3,), out=tmp_path / out)
        assert found.succeeded
        results.append(found.to_dict())
    rows = [{r["model"]: r for r in found["rows"]} for found in results]
    for name in names:
        first, second = rows[0][name], rows[1][name]
        assert first["metric"]["mean"] == second["metric"]["mean"]
        assert first["memory"] > 0 and first["memory"] == second["memory"]
        assert first["steps"] > 0 and first["seconds"] > 0


def test_operations_and_memory_grow_as_they_should():
    def grown(mixer: str, measure: Any) -> float:
        found = []
        for n in (1024, 2048):
            part: Any = build(Spec(mixer, heads=2), "mixer", dim=8, grid=(n,))
            found.append(measure(part, torch.randn(1, n, 8, requires_grad=True)))
        return found[1] / found[0]

    for mixer in ("linear_attention", "linformer", "nystrom"):
        assert grown(mixer, lambda part, x: count_operations(part, x)) < 2.2

    def attention_map(part: Any, x: Tensor) -> int:
        part.scoring.record = True
        return activation_memory(part, x)

    assert grown("attention", attention_map) == pytest.approx(4, rel=0.1)
