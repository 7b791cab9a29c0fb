"""Sparse labels, frozen encoders, bands that differ, and rasters that do not say what is unlabelled."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch

from anyformer import Spec, create_model
from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.biomass import BANDS, read_raster, tiles
from anyformer.methods.adaptation.regressor import band_rows, regressor
from anyformer.tasks.biomass import Biomass, masked_mse
from parts import stirred


@pytest.fixture(scope="module")
def task() -> Biomass:
    return Biomass(samples=32)


def pretrained(channels: int = 6):
    backbone = create_model("biomass_micro").built_from["backbone"]
    return stirred(create_model(Spec("simmim", encoder=backbone), in_channels=channels, image_size=32), 0.1)


def test_unlabelled_pixels_have_exactly_no_gradient():
    found, truth = torch.randn(2, 8, 8, requires_grad=True), torch.randn(2, 8, 8)
    labelled = torch.rand(2, 8, 8) < 0.1
    masked_mse(found, truth, labelled).backward()
    assert (found.grad[~labelled] == 0).all() and (found.grad[labelled] != 0).all()
    expected = 2 * (found - truth).detach()[labelled] / labelled.sum()
    torch.testing.assert_close(found.grad[labelled], expected)
    unknown = truth.masked_fill(~labelled, float("nan"))
    assert masked_mse(found, unknown, labelled).isfinite()
    assert torch.autograd.grad(masked_mse(found, unknown, labelled), found)[0].isfinite().all()


def test_the_loss_of_a_tile_without_labels_is_zero(task):
    model = create_model("biomass_micro")
    batch = task.sample("train", torch.arange(2))
    batch["labelled"][:] = False
    loss = task.loss(model, batch)
    loss.backward()
    assert loss == 0 and task.count(batch) == 0
    assert all((p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("backbone", ["swin_micro", "resnet_micro"])
def test_a_frozen_encoder_stays_bit_for_bit(task, backbone):
    model = create_model("biomass_micro", backbone=backbone).freeze().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        task.loss(model, task.sample("train", torch.arange(4))).backward()
        optimizer.step()
    after = model.state_dict()
    same = {k for k in before if torch.equal(before[k], after[k])}
    encoder = {k for k in before if k.startswith("backbone.")}
    assert same == encoder and len(encoder) > 10
    model.freeze(False).train()
    assert model.backbone.training and all(p.requires_grad for p in model.parameters())


def test_a_frozen_encoder_trains_far_fewer_parameters_than_a_unet():
    for ours, unet in (("biomass_micro", "biomass_unet_micro"), ("biomass_swin_base", "biomass_unet")):
        with torch.device("meta"):
            trained = create_model(ours).freeze().num_parameters(trainable=True)
            assert create_model(unet).num_parameters() >= 5 * trained


def test_a_regressor_takes_the_pretrained_encoder():
    source = pretrained()
    model = regressor(source, bands=BANDS, pretrained_bands=BANDS).eval()
    images = torch.randn(2, 6, 32, 32)
    for ours, theirs in zip(model.features(images), source.eval().features(images), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert model(images).shape == (2, 1, 32, 32)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(
        p.requires_grad for p in regressor(source, bands=BANDS, pretrained_bands=BANDS, frozen=False).parameters()
    )


def test_bands_are_matched_by_their_names():
    source = pretrained(6)
    images = torch.randn(2, 6, 32, 32)
    order = [3, 0, 5, 1, 2, 4]
    model = regressor(source, bands=[BANDS[i] for i in order], pretrained_bands=BANDS).eval()
    source.eval()
    torch.testing.assert_close(model.features(images[:, order])[0], source.features(images)[0])
    fewer = regressor(source, bands=BANDS[:3], pretrained_bands=BANDS).eval()
    padded = torch.cat([images[:, :3], torch.zeros(2, 3, 32, 32)], 1)
    torch.testing.assert_close(fewer.features(images[:, :3])[1], source.features(padded)[1], rtol=1e-4, atol=1e-5)
    mapping = {"red edge": "red", "thermal": None}
    more = regressor(source, bands=(*BANDS, "red edge", "thermal"), pretrained_bands=BANDS, mapping=mapping)
    weight, before = more.backbone.embed.project.weight, source.encoder.embed.project.weight
    assert torch.equal(weight[:, 6], before[:, 2]) and (weight[:, 7] == 0).all()


def test_bands_without_a_declared_mapping_are_refused():
    with pytest.raises(
        OptionError, match=r"given 7 with 'thermal', which is none of them: .*mapping=\{'thermal': 'blue'\}"
    ):
        regressor(pretrained(), bands=(*BANDS, "thermal"), pretrained_bands=BANDS)
    with pytest.raises(OptionError, match="pretrained on 6 bands; pretrained_bands names 3"):
        regressor(pretrained(), bands=BANDS[:3], pretrained_bands=BANDS[:3])
    with pytest.raises(OptionError, match="a name of its own"):
        band_rows(("red", "red"), BANDS, {})
    with pytest.raises(OptionError, match="takes a model of create_model with an encoder"):
        regressor(create_model("swin_micro"), bands=BANDS, pretrained_bands=BANDS)


def test_generated_tiles_hold_biomass_in_their_bands():
    images, biomass, known = tiles(16, 32, 0)
    assert all(torch.equal(a, b) for a, b in zip(tiles(16, 32, 0), (images, biomass, known), strict=True))
    assert (known.sum((1, 2)) == 20).all() and biomass.min() >= 0 and biomass.max() <= 300
    red, near = images[:, 2].flatten(), images[:, 3].flatten()
    index = (near - red) / (near + red)
    assert torch.corrcoef(torch.stack([index, biomass.flatten()]))[0, 1] > 0.6
    other = tiles(16, 32, 0, region=1)[0]
    assert (images.mean((0, 2, 3)) - other.mean((0, 2, 3))).abs().max() > 0.01


def test_rmse_is_over_labelled_pixels(task):
    class Constant(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 1, *x.shape[2:]), 1.5)

    found = task.evaluate(Constant(), "test")
    _, biomass, known = task.parts["test"]
    assert found["rmse"] == pytest.approx(float((biomass[known] - 150).square().mean() ** 0.5), rel=1e-5)
    assert found["bias"] == pytest.approx(float((150 - biomass[known]).mean()), rel=1e-4)


def test_what_the_task_shows(task):
    model = create_model("biomass_micro", **task.model_options())
    assert task.pictures(model, n=2)[0].pixels.shape == (160, 488, 3)
    (answer,) = task.predict(model, [torch.rand(6, 20, 24)])
    assert np.array(answer["biomass"]).shape == (20, 24)
    assert task.facts()["labelled"]["train"] == 32 * 20
    with pytest.raises(FitError, match="one number for each pixel"):
        task.loss(create_model("swin_micro", in_channels=6), task.sample("train", torch.arange(1)))


def rasters(folder, number=8, bands=6, nodata=-9999.0):
    (folder / "images").mkdir(), (folder / "biomass").mkdir()
    random = np.random.default_rng(0)
    for i in range(number):
        np.save(folder / "images" / f"{i}.npy", random.uniform(0, 1, (bands, 16, 16)))
        label = np.full((16, 16), nodata)
        label[3, :5] = random.uniform(0, 200, 5)
        np.save(folder / "biomass" / f"{i}.npy", label)
    return folder


def test_rasters_are_read_with_their_unlabelled_pixels(tmp_path):
    task = Biomass(rasters(tmp_path), nodata=-9999)
    assert [task.size(s) for s in ("train", "valid", "test")] == [6, 1, 1]
    batch = task.sample("train", torch.arange(6))
    assert batch["labelled"].sum() == 30 and batch["biomass"].min() == 0
    assert batch["images"].mean().abs() < 1e-4


def test_geotiffs_may_have_their_bands_first_or_last(tmp_path):
    values = np.random.default_rng(0).uniform(0, 1, (6, 16, 20)).astype(np.float32)
    tifffile.imwrite(tmp_path / "first.tif", values, photometric="minisblack", planarconfig="separate")
    tifffile.imwrite(tmp_path / "last.tif", values.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig")
    for name in ("first", "last"):
        assert torch.equal(read_raster(tmp_path / f"{name}.tif"), torch.from_numpy(values))
    (tmp_path / "broken.tif").write_bytes(b"II*")
    with pytest.raises(DataError, match=r"the raster .*broken.tif cannot be read .*repair or remove it"):
        read_raster(tmp_path / "broken.tif")


def test_rasters_that_do_not_fit_are_named(tmp_path, task):
    rasters(tmp_path)
    with pytest.raises(OptionError, match="set nodata=, as in nodata=-9999"):
        Biomass(tmp_path)
    with pytest.raises(DataError, match="holds -9999 beside nodata=-1"):
        Biomass(tmp_path, nodata=-1)
    with pytest.raises(DataError, match=r"0.npy has the shape \(6, 16, 16\); .* the 2 bands red, nir"):
        Biomass(tmp_path, nodata=-9999, bands=("red", "nir"))
    (tmp_path / "biomass" / "3.npy").unlink()
    with pytest.raises(DataError, match="every image has its biomass under the same name"):
        Biomass(tmp_path, nodata=-9999)
    with pytest.raises(DataError, match="holds no rasters"):
        Biomass(tmp_path / "nothing", nodata=-9999)
    with pytest.raises(DataError, match=r"6 bands blue, .*; given \(4, 9, 9\)"):
        task.prepare(torch.rand(4, 9, 9))
    with pytest.raises(OptionError, match="a share above 0 and up to 1"):
        Biomass(labelled=0.0)
    with pytest.raises(OptionError, match="odd"):
        create_model("biomass_micro", head=Spec("conv_decoder", kernel=2))
