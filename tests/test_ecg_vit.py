"""Pictures of electrocardiograms: drawing, patients, metrics, three backbones, and scans that are none."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support

from anyformer import create_model, load_reference
from anyformer.core.errors import DataError, OptionError
from anyformer.data.ecg import FINDINGS, RATE, by_patient, recordings, render, trace
from anyformer.tasks.ecg import ECGImages


def strip(finding: str, seed: int = 0, seconds: float = 2.4, leads: int = 1) -> np.ndarray:
    return trace(np.random.RandomState(seed), finding, seconds, leads)


def test_the_same_trace_gives_the_same_picture():
    values = strip("normal", leads=2)
    first = render(values, 64, [0.02, -0.05])
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert np.array_equal(first, render(values.copy(), 64, [0.02, -0.05]))
    assert not np.array_equal(first, render(values, 64, [0.0, -0.05]))
    assert all(torch.equal(a, b) for a, b in zip(recordings(8, 2, 32, 3), recordings(8, 2, 32, 3), strict=True))


def test_ink_lies_where_the_trace_is():
    flat = np.zeros((1, 500))
    dark = (render(flat, 50).astype(int).sum(-1) < 300).mean(1)
    assert dark.argmax() == 30 and dark[30] > 0.9 and dark[:28].sum() == 0
    raised = (render(flat + 1.0, 50).astype(int).sum(-1) < 300).mean(1)
    assert raised.argmax() == 18  # a millivolt is 0.24 of the side


def test_findings_are_in_the_traces():
    def beats(values: np.ndarray) -> np.ndarray:
        inner = values[1:-1]
        return 1 + np.flatnonzero((inner > 0.6 * values.max()) & (inner >= values[:-2]) & (inner > values[2:]))

    def level(values: np.ndarray, after: float) -> float:
        places = beats(values) + round(after * RATE)
        places = places[(places >= 0) & (places < len(values))]
        return float(np.mean([values[max(0, p - 3) : p + 4].mean() for p in places]))

    long = {f: [strip(f, seed, seconds=20.0)[0] for seed in range(6)] for f in FINDINGS}
    p_wave = {f: np.mean([level(v, -0.17) - level(v, -0.09) for v in long[f]]) for f in FINDINGS}
    assert p_wave["no P wave"] < 0.03 < 0.1 < p_wave["normal"]
    segment = {f: np.mean([level(v, 0.12) for v in long[f]]) for f in FINDINGS}
    assert segment["ST elevation"] > segment["normal"] + 0.2
    varies = {f: np.mean([np.diff(beats(v)).std() / np.diff(beats(v)).mean() for v in long[f]]) for f in FINDINGS}
    assert varies["irregular"] > 0.15 > 0.06 > varies["normal"]


def test_no_patient_is_in_two_parts_and_findings_keep_their_shares():
    patients = torch.arange(60).repeat_interleave(3)[torch.randperm(180, generator=torch.Generator().manual_seed(0))]
    labels = patients % 4
    rows = by_patient(labels, patients)
    owners = {part: set(patients[chosen].tolist()) for part, chosen in rows.items()}
    assert not owners["train"] & owners["test"] and not owners["train"] & owners["valid"]
    assert not owners["valid"] & owners["test"] and len(set.union(*owners.values())) == 60
    for chosen in rows.values():
        counts = labels[chosen].bincount(minlength=4)
        assert counts.max() == counts.min() and len(chosen) % 3 == 0
    assert by_patient(labels, patients, seed=1)["test"].tolist() != rows["test"].tolist()
    with pytest.raises(DataError, match="leaves no samples"):
        by_patient(torch.tensor([0, 1]), torch.tensor([0, 1]))


@pytest.fixture(scope="module")
def task() -> ECGImages:
    return ECGImages(image_size=32)


def test_metrics_are_scikit_learns(task):
    torch.manual_seed(0)
    model = create_model("ecg_vit_micro", **task.model_options())
    found = task.evaluate(model, "test")
    truth = task.parts["test"].labels.tolist()
    guesses = [FINDINGS.index(g) for g in found["guesses"]]
    expected = precision_recall_fscore_support(truth, guesses, average="macro", zero_division=0)
    assert [found["precision"], found["recall"], found["f1"]] == pytest.approx(expected[:3], abs=1e-6)
    assert found["accuracy"] == pytest.approx(np.mean(np.array(truth) == np.array(guesses)))


@pytest.mark.parametrize("name", ["ecg_vit_micro", "ecg_beit_micro", "ecg_swin_micro"])
def test_three_backbones_behind_one_interface(task, name):
    model = create_model(name, **task.model_options())
    batch = task.sample("train", torch.arange(4), train=True)
    task.loss(model, batch).backward()
    assert all(p.grad is not None for p in model.parameters())
    (answer,) = task.predict(model, [torch.rand(3, 20, 60)])
    assert answer["label"] in FINDINGS and sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert task.pictures(model, n=2)[1].pixels.shape == (192, 192, 3)


@pytest.mark.parametrize(
    ("name", "plain", "entry"),
    [
        ("ecg_vit_base", "vit_base_patch16", "blocks.0.attn.proj.bias"),
        ("ecg_beit_base", "beit_base", "blocks.0.attn.relative_position_bias_table"),
        ("ecg_swin_tiny", "swin_tiny", "layers.0.blocks.0.attn.relative_position_bias_table"),
    ],
)
def test_weights_come_by_the_names_of_each_backbone(name, plain, entry):
    with torch.device("meta"):
        assert create_model(name).num_parameters() == create_model(plain, num_classes=4).num_parameters()
    micro = name.rsplit("_", 1)[0] + "_micro"
    model = create_model(micro)
    ours = {"blocks.0.attn.proj.bias": "blocks.0.mixer.out.bias"}.get(
        entry, "blocks.0.mixer.distance.table" if "beit" in name else "stages.0.blocks.0.mixer.bias.table"
    )
    value = torch.randn_like(model.get_parameter(ours))
    assert load_reference(model, {entry: value}, "timm", partial=True).loaded == [ours]
    assert torch.equal(model.get_parameter(ours), value)


def scans(folder, rows, columns=("path", "label", "patient")):
    with (folder / "scans.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        for i, row in enumerate(rows):
            path = folder / f"{i}.png"
            Image.new("RGB", (40, 24), (200, i, 90)).save(path)
            writer.writerow([path.name, *row])
    return folder / "scans.csv"


def test_tables_of_scans_are_read_whole_and_dealt_out_by_patient(tmp_path):
    rows = [(("sick", "well")[p % 2], f"p{p}") for p in range(24) for _ in range(2)]
    task = ECGImages(scans(tmp_path, rows), image_size=16)
    assert task.classes == ("sick", "well") and task.shape == (3, 16, 16)
    owners = [set(p.tolist()) for p in task.patients.values()]
    assert sum(len(o) for o in owners) == 24 == len(set.union(*owners))


def test_scans_that_are_none_are_named(tmp_path, task):
    with pytest.raises(DataError, match=r"a picture in colour, \(3, h, w\); given a tensor of shape \(1, 32, 32\)"):
        task.prepare(torch.rand(1, 32, 32))
    with pytest.raises(DataError, match=r"values from 0 to 255; they lie in \[0, 1\]: divide bytes by 255"):
        task.prepare(torch.tensor([0.0, 255.0]).repeat(3, 4, 4))
    with pytest.raises(DataError, match="values from nan"):
        task.prepare(torch.full((3, 4, 4), float("nan")))
    with pytest.raises(DataError, match="label 'MI' is none of the 2 classes"):
        ECGImages(scans(tmp_path, [("MI", "p1"), ("normal", "p2")]), classes=("normal", "abnormal"))
    with pytest.raises(DataError, match="the column patient is needed too"):
        ECGImages(scans(tmp_path, [("a",), ("b",)], ("path", "label")))
    with pytest.raises(DataError, match="line 3: the patient is not named"):
        ECGImages(scans(tmp_path, [("a", "p1"), ("b", "")]))
    with pytest.raises(DataError, match="dealt out by patient"):
        ECGImages(tmp_path)
    with pytest.raises(OptionError, match="findings of their own"):
        ECGImages(classes=("a", "b"))
    with pytest.raises(OptionError, match="a trace shows one of normal"):
        strip("flutter")
    with pytest.raises(OptionError, match="one offset for each of 1 leads"):
        render(strip("normal"), 64, [0.1, 0.1])
