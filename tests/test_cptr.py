"""CPTR: parity of both sides, what its decoder promises, the captioning task, and the likeliest misuses."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from torch import nn

from anyformer import Spec, create_model, load_reference
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.data.captions import COLOURS, Words, read_captions, scenes, words
from anyformer.tasks import create_task
from anyformer.tasks.captioning import Captioning, HeldPixels, Scenes
from anyformer.tasks.cider import Cider
from anyformer.tasks.task import IGNORE
from anyformer.tasks.translation import END, MARKS, PAD, START
from descent import descend
from golden import Golden
from parts import stirred


@pytest.fixture
def model():
    torch.manual_seed(0)
    return stirred(create_model("cptr_micro"), 0.05).eval()


@pytest.fixture(scope="module")
def task() -> Scenes:
    return Scenes(images=60)


# -- the model ------------------------------------------------------------------------------------------------


def test_the_encoder_is_timms_vit():
    golden = Golden("vit--vit_tiny_patch16_224--timm")
    model = create_model(
        "cptr", image_size=224, backbone="vit_tiny_patch16", dim=192, vocab_size=20, depth=1,
        **{"decoder.mixer.heads": 3, "decoder.cross.heads": 3, "embed.scale": 1.0},
    ).eval()  # fmt: skip
    report = load_reference(model, golden.state(), "timm", partial=True)
    assert all(name.startswith(("decoder.", "embedding.", "head")) for name in report.missing)
    assert all(name.startswith("head.") or "encoder.head" in name for name in report.unexpected)
    (images,) = golden.inputs().values()
    vit = create_model("timm:vit_tiny_patch16_224").eval()
    load_reference(vit, golden.state(), "timm")
    with torch.no_grad():
        tokens = vit.tokens(images)
        golden.check({"features": tokens, "logits": vit(images)})
        assert torch.equal(model.encode(images), tokens[:, 1:])  # all patches, without the class token


def test_the_decoder_is_torchs():
    torch.manual_seed(0)
    model = create_model("cptr_micro")
    theirs = nn.TransformerDecoder(nn.TransformerDecoderLayer(64, 4, 128, dropout=0.0, batch_first=True), 2).eval()
    report = load_reference(
        model, {f"decoder.{n}": 0.1 * torch.randn_like(p) for n, p in theirs.state_dict().items()}, "official",
        partial=True,
    )  # fmt: skip
    assert not report.unexpected and not any(n.startswith("decoder.") for n in report.missing)
    theirs.load_state_dict(_their_names(model, theirs))
    x, memory = torch.randn(2, 5, 64), torch.randn(2, 9, 64)
    with torch.no_grad():
        expected = theirs(x, memory, tgt_mask=nn.Transformer.generate_square_subsequent_mask(5))
        torch.testing.assert_close(model.eval().decode_tokens(x, memory), expected, rtol=1e-5, atol=1e-5)


def _their_names(model, theirs) -> dict[str, torch.Tensor]:
    """Our decoder under torch's names."""
    state, ours = {}, model.state_dict()
    names = {"norm1": "norm1", "norm_cross": "norm2", "norm2": "norm3", "ffn.up": "linear1", "ffn.down": "linear2"}
    names |= {"mixer.out": "self_attn.out_proj", "cross.out": "multihead_attn.out_proj"}
    for i in range(theirs.num_layers):
        for p in ("weight", "bias"):
            state |= {f"layers.{i}.{t}.{p}": ours[f"decoder.{i}.{o}.{p}"] for o, t in names.items()}
            state[f"layers.{i}.self_attn.in_proj_{p}"] = ours[f"decoder.{i}.mixer.qkv.{p}"]
            state[f"layers.{i}.multihead_attn.in_proj_{p}"] = torch.cat(
                [ours[f"decoder.{i}.cross.query.{p}"], ours[f"decoder.{i}.cross.key_value.{p}"]]
            )
    return state


def test_the_published_size():
    with torch.device("meta"):
        model = create_model("cptr", vocab_size=100)
    assert model.encoder.image_size == (384, 384) and model.project is None
    assert len(model.encoder.blocks) == 12 and len(model.decoder) == 4 and model.dim == 768


def test_step_by_step_equals_the_whole(model):
    images, ids = model.example_inputs(batch=2)
    with torch.no_grad():
        expected, state, outputs = model(images, ids), model.init_state(images), []
        for part in ids.split([3, 1, 4], 1):
            logits, state = model.extend(part, state)
            outputs.append(logits)
    torch.testing.assert_close(torch.cat(outputs, 1), expected, rtol=1e-4, atol=1e-5)


def test_future_words_change_no_logit_and_the_image_changes_all(model):
    images, ids = model.example_inputs(batch=2)
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % model.vocab_size
    with torch.no_grad():
        expected = model(images, ids)
        torch.testing.assert_close(model(images, other)[:, :5], expected[:, :5], rtol=1e-5, atol=1e-6)
        moved = (model(images.flip(-1), ids) - expected).abs().amax(-1)
    assert (moved > 1e-4).all()


def test_padded_words_change_no_valid_logit(model):
    images, ids = model.example_inputs(batch=2)
    valid = Segments.from_lengths([8, 5], 8)
    with torch.no_grad():
        alone = model(images[1:], ids[1:, :5])
        together = model(images, ids, target_segments=valid)[1:, :5]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_words_to_patches_are_shares(model):
    images, ids = model.example_inputs(batch=2)
    with torch.no_grad():
        _, found = model(images, ids, taps="decoder.*.cross.attention")
    assert set(found) == {"decoder.0.cross.attention", "decoder.1.cross.attention"}
    for shares in found.values():
        assert shares.shape == (2, 4, 8, 64)
        torch.testing.assert_close(shares.sum(-1), torch.ones(2, 4, 8))


def test_beams_find_captions_at_least_as_likely(model):
    images, _ = model.example_inputs(batch=3)

    def likelihood(rows: torch.Tensor) -> torch.Tensor:
        chances = model(images, rows[:, :-1]).log_softmax(-1)
        ended = (rows[:, :-1] == model.end).cumsum(1) > 0
        return chances.gather(2, rows[:, 1:, None])[..., 0].masked_fill(ended, 0).sum(1)

    with torch.no_grad():
        greedy = model.generate(images, max_new_tokens=4)
        wide = model.generate(images, max_new_tokens=4, beams=64)
        assert (greedy[:, 0] == model.start).all()
        assert (likelihood(wide) >= likelihood(greedy) - 1e-4).all()


@pytest.mark.parametrize("backbone", ["convnext_micro", "swin_micro"])
def test_any_backbone_reads_the_image(backbone: str):
    model = create_model("cptr_micro", backbone=backbone)
    images, ids = model.example_inputs(batch=2)
    assert model(images, ids).shape == (2, 8, 64)
    assert model.project is None or model.project.out_features == 64


def test_images_and_captions_that_do_not_fit(model):
    images, ids = model.example_inputs()
    with pytest.raises(SizeError, match="multiples of 4"):
        model(images[..., :30], ids)
    long = torch.zeros(1, 17, dtype=torch.long)
    with pytest.raises(SizeError, match=r"at most 16 words.*has 17.*max_length=17"):
        model(images, long)
    with pytest.raises(ValueError, match="at most 16 words"):
        model.generate(images, max_new_tokens=20)
    with pytest.raises(DataError, match="between 0 and 63"):
        model(images, ids + 64)


def test_parts_that_do_not_fit():
    with pytest.raises(FitError, match="reads patches through cross="):
        create_model("cptr_micro", **{"decoder": Spec("prenorm", mixer=Spec("attention", heads=4))})
    with pytest.raises(FitError, match="a backbone is an image model"):
        create_model("cptr_micro", backbone="gpt2_micro")


# -- the task -------------------------------------------------------------------------------------------------


def test_scenes_are_what_their_captions_say():
    images, captions, masks = scenes(60, 32, 3)
    again = scenes(60, 32, 3)
    assert torch.equal(images, again[0]) and captions == again[1]
    for image, caption, (first, second) in zip(images, captions, masks, strict=True):
        said = words(caption)
        assert not (first & second).any()
        for name, place in ((said[1], first), (said[-2], second)):
            apart = {n: (image[:, place].mean(1) - torch.tensor(c)).norm() for n, c in COLOURS.items()}
            assert min(apart, key=lambda n: apart[n]) == name
        middle = [
            torch.stack([axis.float().mean() for axis in place.nonzero(as_tuple=True)]) for place in (first, second)
        ]
        down, across = (middle[1] - middle[0]).tolist()
        assert (across > abs(down)) if "left" in said else (down > abs(across))


def test_batches_are_marked_and_padded(task):
    batch = task.sample("train", torch.arange(60))
    above = next(i for i in range(60) if "above" in task.captions["train"][i][0])
    left = next(i for i in range(60) if "left" in task.captions["train"][i][0])
    assert batch["target"].shape == batch["labels"].shape == (60, 9)
    assert (batch["target"][:, 0] == START).all()
    assert batch["target"][above, -1] == PAD and batch["labels"][above, -1] == IGNORE
    assert batch["labels"][left, -1] == END and batch["labels"][above, -2] == END
    assert task.count(batch) == int((batch["target"] != PAD).sum())
    assert (
        task.model_options()["max_length"] == 9
        and task.model_options()["vocab_size"] == task.tokenizer.vocab_size + MARKS
    )


def test_measuring_predicting_and_pictures(task):
    torch.manual_seed(0)
    model = create_model("cptr_micro", **task.model_options())
    found = task.evaluate(model, "valid")
    assert len(found["guesses"]) == 400 and 0 <= found["exact_match"] <= 1 and 0 <= found["cider"] <= 10
    images, _ = task._pixels("test", 2)
    answers = task.predict(model, list(images))
    drawn = task.pictures(model, "test", 2)
    assert [f"{a['output']} (truth: {c[0]})" for a, c in zip(answers, task.captions["test"], strict=False)] == [
        d.caption for d in drawn
    ]
    assert drawn[0].pixels.shape == (144, 144, 3)
    assert task.baseline().value <= 0.05 < task.baseline().margin
    with pytest.raises(FitError, match="such as cptr_micro; given encoder_decoder"):
        task.evaluate(create_model("transformer_micro"))


def test_it_learns_a_few_captions():
    images, captions, _ = scenes(8, 32, 0)
    same = {s: HeldPixels(images) for s in ("train", "valid", "test")}
    task = type("Few", (Captioning,), {"name": "few", "metric": "exact_match"})(
        same, {s: [[c] for c in captions] for s in same}, (3, 32, 32)
    )
    torch.manual_seed(0)
    model = create_model("cptr_micro", **task.model_options())
    batch = task.sample("train", torch.arange(8))
    descend(model, lambda: task.loss(model, batch), steps=80)
    assert task.evaluate(model, "test")["exact_match"] == 1.0


def test_training_draws_among_captions():
    captions = {s: [["one", "two two", "three three three"]] * 50 for s in ("train", "valid", "test")}
    parts = {s: HeldPixels(torch.zeros(50, 3, 32, 32)) for s in captions}
    task = type("Several", (Captioning,), {"name": "several", "metric": "cider"})(parts, captions, (3, 32, 32))
    at = torch.arange(50)
    lengths = (task.sample("train", at, seed=1, train=True)["labels"] != IGNORE).sum(1)
    assert set(lengths.tolist()) == {2, 3, 4}
    assert torch.equal(lengths, (task.sample("train", at, seed=1, train=True)["labels"] != IGNORE).sum(1))
    assert (task.sample("train", at)["labels"][:, 1] == END).all()


def test_words_and_unknown_ones():
    known = Words(["A dog's ball.", "a ball"], least=2)
    assert known.known == ("unknown", "a", "ball")
    assert known.decode(known.encode("A cat, a BALL!")) == "a unknown a ball"


def test_cider_knows_what_is_said_of_an_image():
    references = [[words("a red disc above a blue square")], [words("a dog sleeps on the green grass")]]
    cider = Cider(references)
    same = cider([r[0] for r in references])
    torch.testing.assert_close(same, torch.full((2,), 10.0))
    assert cider([references[1][0], references[0][0]]).max() == 0  # "a" alone is shared, and said of every image
    half = float(cider([words("a red disc")], [0])[0])
    assert 0 < half < 10
    # the same words as often as they are said: saying them twice brings nothing
    assert float(cider([words("red red red red red red")], [0])[0]) < float(cider([words("red disc")], [0])[0])


# -- files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for i in range(20):
        Image.new("RGB", (40, 30), (10 * i, 0, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


def table(folder, rows, header="path,caption"):
    (folder / "captions.csv").write_text("\n".join([header, *rows]) + "\n")


def test_a_table_of_captions(folder):
    table(folder, [f'{i}.png,"A picture, number {i % 3}"' for i in range(20)] + ["0.png,another one"])
    task = create_task(f"captioned_images:{folder}", image_size=16)
    assert sum(task.size(s) for s in ("train", "valid", "test")) == 20
    assert sum(task.facts()["captions"].values()) == 21
    batch = task.sample("train", torch.arange(2))
    assert batch["images"].shape == (2, 3, 16, 16)
    assert {"cider", "bleu4", "exact_match"} <= set(task.scores("test", ["a picture number 1"] * task.size("test")))
    perfect = task.scores("test", [own[0] for own in task.captions["test"]])
    assert perfect["exact_match"] == 1.0 and perfect["bleu4"] == pytest.approx(1.0)


def test_cocos_json(folder):
    (folder / "train2017").mkdir()
    (folder / "annotations").mkdir()
    for i in range(20):
        (folder / f"{i}.png").rename(folder / "train2017" / f"{i}.png")
    held = {
        "images": [{"id": 7 + i, "file_name": f"{i}.png"} for i in range(20)],
        "annotations": [{"image_id": 7 + i, "caption": f"picture {i}"} for i in range(20)],
    }
    path = folder / "annotations" / "captions_train2017.json"
    path.write_text(json.dumps(held))
    listing, said = read_captions(path)
    assert len(listing.paths) == 20 and said[folder / "train2017" / "3.png"] == ["picture 3"]
    held["annotations"][0]["image_id"] = 1
    path.write_text(json.dumps(held))
    with pytest.raises(DataError, match=r"annotation 0.*image 1"):
        read_captions(path)
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(DataError, match="annotations"):
        read_captions(path)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["0.png,hello"], "picture,words", "columns picture, words.*path and caption"),
        (["99.png,hello"], "path,caption", "line 2: there is no image .*99.png.*images="),
        (["0.png,..."], "path,caption", "line 2.*no word"),
        ([",hello"], "path,caption", "line 2.*empty"),
        (["0.png,hello,mine"], "path,caption,split", "line 2: the split is 'mine'"),
        (["0.png,hello,train", "0.png,hi,test"], "path,caption,split", "line 3.*two parts"),
        ([], "path,caption", "holds no captions"),
    ],
)
def test_wrong_tables(folder, rows, header, message):
    table(folder, rows, header)
    with pytest.raises(DataError, match=message):
        read_captions(folder)


def test_wrong_places_and_options(folder):
    with pytest.raises(DataError, match=r"holds no captions\.csv"):
        read_captions(folder)
    with pytest.raises(DataError, match="there is no folder, table or JSON"):
        read_captions(folder / "none.json")
    with pytest.raises(OptionError, match="at least 16 pixels"):
        scenes(1, 8, 0)
    with pytest.raises(OptionError, match="beams is 1 or more"):
        Scenes(images=1, beams=0)
