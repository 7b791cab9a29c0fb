"""DiT: what the condition does, the null class, sizes, variance, the authors' names, misuse."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, load_reference, model_spec
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.spec import Spec
from anyformer.layers.position.sincos import SinCosGrid
from anyformer.models.generation.dit import VARIANTS
from parts import stirred


def small(**options):
    torch.manual_seed(0)
    return stirred(create_model("dit_micro", **options), 0.05)


def test_a_new_block_hands_its_input_on_and_a_new_model_tells_nothing():
    model = create_model("dit_micro")
    images, t, labels = model.example_inputs(batch=2)
    before = model.embedded(images)
    torch.testing.assert_close(model.blocks(before, None, *model.conditions(t, labels)), before)
    assert not model(images, t, labels).any()


def test_time_and_label_change_the_answer_and_no_label_is_the_null_class():
    model = small().eval()
    images, t, labels = model.example_inputs(batch=2)
    with torch.no_grad():
        answer = model(images, t, labels)
        assert not torch.allclose(answer, model(images, (t + 500) % 1000, labels))
        assert not torch.allclose(answer, model(images, t, (labels + 1) % 10))
        torch.testing.assert_close(model(images, t), model(images, t, torch.full_like(labels, 10)))
        torch.testing.assert_close(model(images, t.float()), model(images, t))


def test_labels_are_dropped_in_training_alone_in_their_share():
    model = small(label_dropout=0.3)
    labels = torch.zeros(4000, dtype=torch.long)
    model.label.table.weight.data[10] = 100.0
    torch.manual_seed(0)
    share = float((model.label(labels)[:, 0] > 50).float().mean())
    assert share == pytest.approx(0.3, abs=0.03)
    assert not (model.eval().label(labels)[:, 0] > 50).any()


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (16, 6)])
def test_images_of_other_sizes_are_served(size):
    model = small().eval()
    images, t, labels = model.example_inputs(size=size, batch=2)
    with torch.no_grad():
        assert model(images, t, labels).shape == (2, 1, *size)


def test_the_variance_doubles_the_channels_and_classes_are_left_out():
    model = small(learn_sigma=True, in_channels=3)
    assert model(*model.example_inputs(batch=2)).shape == (2, 6, 8, 8)
    plain = small(num_classes=0)
    images, t = plain.example_inputs(batch=2)
    assert plain(images, t).shape == (2, 1, 8, 8)
    with pytest.raises(OptionError, match="built without classes"):
        plain(images, t, torch.zeros(2, dtype=torch.long))


def test_positions_are_the_columns_first_and_tell_all_places_apart():
    table = SinCosGrid(16).table((3, 5))
    torch.testing.assert_close(table[0, 2, :8], table[2, 2, :8])
    torch.testing.assert_close(table[1, 0, 8:], table[1, 4, 8:])
    torch.testing.assert_close(table[0, 1, 0], torch.tensor(1.0).sin())
    assert (torch.cdist(table.flatten(0, 1), table.flatten(0, 1)) + torch.eye(15) > 1e-3).all()


def test_another_mixer_fits():
    model = create_model("dit_micro", mixer="pooling")
    assert model.blocks[0].mixer.name == "pooling"
    assert model(*model.example_inputs(batch=2)).shape == (2, 1, 8, 8)


def test_published_sizes_and_names():
    assert set(VARIANTS) == {f"dit_{s}_{p}" for s in ("s", "b", "l", "xl") for p in (2, 4, 8)} | {"dit_micro"}
    with torch.device("meta"):
        # Table 4 of the paper, without the fixed positions: 33, 130, 458 and 675 million.
        counts = [create_model(f"dit_{s}_2").num_parameters() / 1e6 for s in ("s", "b", "l", "xl")]
        large = create_model("official:DiT-XL-2-512x512")
    assert [round(n) for n in counts] == [33, 130, 458, 675]
    assert large.grid == (32, 32)
    assert model_spec("official:DiT-B/4")["embed.size"] == 4


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_the_authors_last_layer_loads_for_every_patch(patch: int):
    model = small(embed=Spec("patch", size=patch, rest="refuse"), in_channels=3, depth=1)
    names = {"time.up": "t_embedder.mlp.0", "time.down": "t_embedder.mlp.2", "embed.project": "x_embedder.proj"}
    theirs = {}
    for name, tensor in model.state_dict().items():
        for ours, other in (
            *names.items(),
            ("label.table", "y_embedder.embedding_table"),
            ("blocks.0.modulation.linear", "blocks.0.adaLN_modulation.1"),
            ("modulation.linear", "final_layer.adaLN_modulation.1"),
            ("blocks.0.mixer.qkv", "blocks.0.attn.qkv"),
            ("blocks.0.mixer.out", "blocks.0.attn.proj"),
            ("blocks.0.ffn.up", "blocks.0.mlp.fc1"),
            ("blocks.0.ffn.down", "blocks.0.mlp.fc2"),
            ("head", "final_layer.linear"),
        ):
            if name.startswith(f"{ours}."):
                theirs[name.replace(ours, other, 1)] = tensor.clone()
                break
    # A patch's numbers in the authors' order: row, column, channel.
    marks = torch.arange(3.0 * patch * patch)
    theirs["final_layer.linear.bias"] = marks
    theirs["final_layer.linear.weight"] = torch.zeros_like(theirs["final_layer.linear.weight"])
    load_reference(model, theirs, "official")
    with torch.no_grad():
        answer = model.eval()(*model.example_inputs(batch=1))[0, :, :patch, :patch]
    torch.testing.assert_close(answer, marks.view(patch, patch, 3).permute(2, 0, 1))


def test_misuse_is_said():
    model = small()
    images, t, labels = model.example_inputs(batch=4)
    with pytest.raises(SizeError, match=r"times are one number for each of the 4 images.*given \(3,\)"):
        model(images, t[:3], labels)
    with pytest.raises(SizeError, match=r"labels are one number.*given \(2,\)"):
        model(images, t, labels[:2])
    with pytest.raises(DataError, match="labels are classes 0 to 9, and the null class 10; given 11 to 11"):
        model(images, t, torch.full_like(labels, 11))
    with pytest.raises(SizeError, match="multiples of 2"):
        model(images[..., :7], t, labels)
    with pytest.raises(OptionError, match="without a null class"):
        small(label_dropout=0.0)(images, t)
    with pytest.raises(FitError, match="adaln_zero needs a condition"):
        create_model("vit_micro", block=model_spec("dit_micro")["block"])(torch.zeros(1, 3, 32, 32))
