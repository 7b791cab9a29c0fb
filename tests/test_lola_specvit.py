"""LoLA-SpecViT: its low-rank updates and their cycles, patches and parts of a scene, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.data.hyperspectral import (
    Cube,
    components,
    materials,
    patches,
    read_cube,
    split_pixels,
    split_windows,
)
from anyformer.methods.adaptation.adapt import adapt, merge, remove
from anyformer.methods.adaptation.lola import CyclicalStrength
from anyformer.tasks.hyperspectral import Hyperspectral
from parts import stirred


def small() -> nn.Module:
    torch.manual_seed(0)
    return stirred(create_model("lola_specvit_micro", num_classes=4), 0.05).eval()


def test_published_size():
    """Of the authors' model without what stands beside its dense layers."""
    with torch.device("meta"):
        assert create_model("lola_specvit").num_parameters() == 181_052_709


def test_few_parameters_train():
    with torch.device("meta"):
        model = create_model("lola_specvit")
        whole = model.num_parameters()
        adapt(model, "lola", rank=16, alpha=32.0)
    share = model.num_parameters(trainable=True) / whole
    assert 0.005 < share < 0.2
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lola." in name or name.startswith("head.") for name in trained)
    layers = {name.split(".parametrizations")[0] for name in trained if ".lola." in name}
    assert len(layers) == 4 * 26  # queries, keys and values; output; both layers of the MLP


def test_updates_start_without_effect_and_merge_into_the_weights():
    model, images = small(), torch.randn(3, 8, 9, 9)
    with torch.no_grad():
        before = model(images)
        adapt(model, "lola", rank=2, alpha=4.0)
        torch.testing.assert_close(model(images), before, rtol=0, atol=0)
        for name, p in model.named_parameters():
            if ".lola." in name:
                p.add_(0.3 * torch.randn_like(p))
        changed = model(images)
        assert (changed - before).abs().max() > 1e-3
        merge(model)
        torch.testing.assert_close(model(images), changed, rtol=1e-5, atol=1e-5)


def test_alpha_zero_is_the_frozen_model():
    model, images = small(), torch.randn(3, 8, 9, 9)
    with torch.no_grad():
        before = model(images)
        adapt(model, "lola", rank=2, alpha=0.0)
        for name, p in model.named_parameters():
            if ".lola." in name:
                p.add_(torch.randn_like(p))
        assert torch.equal(model(images), before)
        remove(model)
        assert torch.equal(model(images), before)


def test_strength_stays_in_its_limits_and_repeats():
    model, images = small(), torch.randn(1, 8, 9, 9)
    adapt(model, "lola", rank=2, alpha=4.0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".lola." in name:
                p.add_(0.3 * torch.randn_like(p))
    cycle = CyclicalStrength(model, low=0.2, high=1.5, period=10)
    factors = [cycle.at(t) for t in range(30)]
    assert factors[:10] == factors[10:20] == factors[20:] and factors[0] == 1.5
    assert all(0.2 <= f <= 1.5 for f in factors) and factors[:10] == sorted(factors[:10], reverse=True)
    assert cycle.at(5) == pytest.approx((0.2 + 1.5) / 2)
    with torch.no_grad():
        outputs = []
        for step in (0, 9, 10):
            assert cycle.set(step) == factors[step]
            outputs.append(model(images))
        assert torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[0], outputs[1])
    none = CyclicalStrength(model, low=0.0, high=0.0, period=1)
    with torch.no_grad():
        none.set(0)
        without = model(images)
        remove(model)
        torch.testing.assert_close(model(images), without)


def test_strength_wants_updates_and_limits():
    with pytest.raises(FitError, match='adapt\\(model, "lola"\\)'):
        CyclicalStrength(small())
    model = small()
    adapt(model, "lola")
    with pytest.raises(OptionError, match="from high down to low"):
        CyclicalStrength(model, low=2.0, high=1.0)
    with pytest.raises(OptionError, match="matches the pattern"):
        adapt(create_model("poolformer_micro"), "lola")


def test_bands_and_patches_of_another_size():
    model = small()
    with pytest.raises(SizeError, match="built for 8 bands; the patch has 9"):
        model(torch.randn(1, 9, 9, 9))
    for side in (5, 15, 31):
        assert model(torch.randn(2, 8, side, side)).shape == (2, 4)
    assert [tuple(m.shape[1:]) for m in model.features(torch.randn(1, 8, 15, 15))] == [(16, 7, 7), (32, 4, 4)]


def test_whole_bands_are_dropped_in_training_alone():
    model = create_model("lola_specvit_micro", **{"embed.band_dropout": 0.5})
    dropout = model.embed.band_dropout
    x = torch.ones(4, 8, 3, 3, 16)
    torch.manual_seed(0)
    y = dropout.train()(x)
    flat = y.flatten(2, 3)
    assert set(y.unique().tolist()) == {0.0, 2.0} and torch.equal(flat.amin(2), flat.amax(2))
    assert torch.equal(dropout.eval()(x), x)


def scene(side: int = 6, bands: int = 2) -> Cube:
    pixels = torch.arange(side * side * bands, dtype=torch.float32).view(side, side, bands)
    return Cube(pixels, torch.ones(side, side, dtype=torch.long))


def test_patches_are_mirrored_at_the_border_and_labelled_by_their_centre():
    cube = scene()
    cube.labels[0, 0] = 3
    found, labels = patches(cube, 3, torch.tensor([[0, 0], [2, 3]]))
    assert labels.tolist() == [2, 0] and found.shape == (2, 2, 3, 3)
    assert torch.equal(found[:, :, 1, 1], torch.stack([cube.pixels[0, 0], cube.pixels[2, 3]]))
    assert torch.equal(found[1], cube.pixels[1:4, 2:5].movedim(-1, 0))
    assert torch.equal(found[0, :, 0, 0], cube.pixels[1, 1]) and torch.equal(found[0, :, 0, 2], cube.pixels[1, 1])


def test_even_patches_and_cubes_without_labels_are_refused(tmp_path):
    with pytest.raises(OptionError, match="its side is odd; given 8: take 9"):
        patches(scene(), 8, torch.tensor([[0, 0]]))
    with pytest.raises(OptionError, match="given 8: take 9"):
        Hyperspectral(patch=8)
    with pytest.raises(OptionError, match="larger than twice the scene"):
        patches(scene(), 13, torch.tensor([[0, 0]]))
    with pytest.raises(DataError, match="one number for each pixel"):
        Cube(torch.randn(4, 4, 2), torch.ones(4, 5, dtype=torch.long))
    empty = scene()
    empty.labels[1, 1] = 0
    with pytest.raises(DataError, match="label map has 0"):
        patches(empty, 3, torch.tensor([[1, 1]]))
    np.save(tmp_path / "scene.npy", np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match=r"has no label map: there is no .*scene_gt.npy"):
        Hyperspectral(tmp_path / "scene.npy")


def test_scenes_from_files(tmp_path):
    import scipy.io

    cube = materials(side=24, classes=3, bands=5)
    np.save(tmp_path / "scene.npy", cube.pixels.numpy())
    np.save(tmp_path / "scene_gt.npy", cube.labels.numpy().astype(np.uint8))
    read = read_cube(tmp_path / "scene.npy")
    assert torch.equal(read.pixels, cube.pixels) and torch.equal(read.labels, cube.labels) and read.classes == 3
    scipy.io.savemat(tmp_path / "scene.mat", {"scene": cube.pixels.numpy()})
    scipy.io.savemat(tmp_path / "known.mat", {"gt": cube.labels.numpy()})
    again = read_cube(tmp_path / "scene.mat", tmp_path / "known.mat")
    assert torch.equal(again.pixels, cube.pixels) and torch.equal(again.labels, cube.labels)
    with pytest.raises(DataError, match=r"ends with \.txt"):
        read_cube(tmp_path / "scene.txt", tmp_path / "known.mat")
    with pytest.raises(DataError, match="0 arrays of 3 axes"):
        read_cube(tmp_path / "scene_gt.npy", tmp_path / "known.mat")
    task = Hyperspectral(tmp_path / "scene.npy", patch=5, bands=3, per_class=10)
    assert task.model_options() == {"num_classes": 3, "in_channels": 3, "image_size": 5}


def pixels_of(places: torch.Tensor) -> set[tuple[int, int]]:
    return {(r, c) for r, c in places.tolist()}


def test_parts_share_no_pixel():
    labels = materials(side=32).labels
    parts = split_pixels(labels, 10, seed=1)
    sets = {split: pixels_of(places) for split, places in parts.items()}
    assert sum(len(s) for s in sets.values()) == labels.numel() == len(set.union(*sets.values()))
    assert labels[tuple(parts["train"].t())].bincount().tolist() == [0] + [10] * 6
    with pytest.raises(DataError, match="take fewer per class"):
        split_pixels(labels, 500)


def test_windows_keep_even_the_patches_of_parts_apart():
    labels = materials(side=32).labels
    parts = split_windows(labels, 8, margin=2, seed=1)
    half = 2
    covered = {
        split: {
            (r + a, c + b) for r, c in places.tolist() for a in range(-half, half + 1) for b in range(-half, half + 1)
        }
        for split, places in parts.items()
    }
    assert all(len(places) > 0 for places in parts.values())
    assert not covered["train"] & covered["test"] and not covered["train"] & covered["valid"]
    with pytest.raises(OptionError, match="a margin leaves a pixel"):
        split_windows(labels, 4, margin=2)
    with pytest.raises(DataError, match="three windows or more"):
        split_windows(labels, 32)


def test_components_are_uncorrelated_and_explain_most():
    cube = materials(side=32, bands=20, noise=0.1)
    first = components(cube, 20)
    flat = first.pixels.flatten(0, 1).double()
    torch.testing.assert_close(flat.t() @ flat / (len(flat) - 1), torch.eye(20).double(), rtol=1e-3, atol=1e-3)
    centred = cube.pixels.flatten(0, 1).double()
    centred = centred - centred.mean(0)
    fitted = flat[:, :5] @ (flat[:, :5].t() @ centred / (len(flat) - 1))
    assert (centred - fitted).square().sum() < 0.05 * centred.square().sum()
    with pytest.raises(OptionError, match="1 to 20 components; given 21"):
        components(cube, 21)


class Knows(nn.Module):
    """Says the class whose number is in the middle of the patch, every fifth time the next one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = x[:, 0, x.shape[2] // 2, x.shape[3] // 2]
        ranks = middle.argsort().argsort()
        return torch.nn.functional.one_hot((ranks * 6 // len(ranks)).clamp(max=5), 6).float()


def test_the_task_measures_average_accuracy_and_kappa():
    from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

    task = Hyperspectral(per_class=20)
    model = Knows()
    found = task.evaluate(model, "valid")
    truth = task.parts["valid"].labels.numpy()
    guess = [task.classes.index(g) for g in found["guesses"]]
    assert found["kappa"] == pytest.approx(cohen_kappa_score(truth, guess), abs=1e-6)
    assert found["average_accuracy"] == pytest.approx(balanced_accuracy_score(truth, guess), abs=1e-6)
    (picture,) = task.pictures(model)
    assert picture.pixels.shape == (128, 3 * 128 + 2 * 8, 3)
    with pytest.raises(DataError, match="takes patches as tensors"):
        task.predict(model, ["somewhere.png"])
    assert len(task.examples("test", 2)) == 2
    assert Hyperspectral(split="windows").size("train") > 0
