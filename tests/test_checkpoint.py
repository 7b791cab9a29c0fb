"""Saving, loading, and everything that can be wrong with a checkpoint."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from anyformer import Spec, create_model, from_pretrained, load_reference, save_pretrained
from anyformer.core.errors import AnyformerError, CheckpointError
from anyformer.weights.checkpoint import read_state


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("swin_micro", num_classes=10, in_channels=1).eval()


def test_a_saved_model_comes_back_equal(model, tmp_path):
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(model(x), again(x))
    assert (again.built_from, again.family, again.variant) == (model.built_from, "swin", "swin_micro")
    assert Spec.from_yaml((tmp_path / "anyformer.yaml").read_text()) == model.built_from


def test_a_swapped_part_keeps_the_rest(model, tmp_path):
    save_pretrained(model, tmp_path)
    with pytest.raises(CheckpointError, match=r"pass partial=True"):
        from_pretrained(tmp_path, mixer="attention")
    other = from_pretrained(tmp_path, mixer="attention", partial=True)
    assert "stages.0.blocks.0.ffn.up.weight" in other.load_report.loaded
    assert any("mixer.bias.table" in name for name in other.load_report.unexpected)


def test_another_models_weights_are_refused_with_names_and_shapes(model):
    other = create_model("swin_micro", num_classes=7, in_channels=1)
    with pytest.raises(CheckpointError, match=r"head.linear.weight: given \[7, 64\], the model has \[10, 64\]"):
        load_reference(model, other.state_dict(), "anyformer")
    with pytest.raises(CheckpointError, match=r"unexpected: classifier.weight"):
        load_reference(model, {"classifier.weight": torch.zeros(3)}, "timm")
    with pytest.raises(CheckpointError, match=r"has no names of 'tim'; did you mean 'timm'"):
        load_reference(model, {}, "tim")


def test_a_failed_load_changes_nothing(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = {k: v + 1 for k, v in before.items()}
    state.pop("head.linear.bias")
    with pytest.raises(CheckpointError, match=r"missing: head.linear.bias"):
        load_reference(model, state, "anyformer")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("keep", [0, 4, 1000])
def test_a_truncated_file_is_named(model, tmp_path, keep):
    save_pretrained(model, tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"cut short"):
        from_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    (tmp_path / "model.pth").write_bytes((tmp_path / "model.pth").read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model.pth"):
        read_state(tmp_path / "model.pth")


def test_folders_and_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no model.safetensors"):
        from_pretrained(tmp_path)
    (tmp_path / "note.pth").write_text("hello")
    with pytest.raises(CheckpointError, match=r"note.pth"):
        read_state(tmp_path / "note.pth")
    with pytest.raises(CheckpointError, match=r"there is no file"):
        read_state(tmp_path / "none.pth")


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_no_code_is_run_from_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Trap()}, "trap.pth")
    with pytest.raises(CheckpointError, match=r"could run code"):
        read_state("trap.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(CheckpointError):
        read_state("raw.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_full_disk_leaves_the_previous_checkpoint_whole(model, tmp_path, monkeypatch):
    save_pretrained(model, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def full(tensors, path, metadata=None):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(AnyformerError, match=r"No space left on device"):
        save_pretrained(model, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*.partial"))


def test_an_unwritable_folder_is_named(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnyformerError, match=r"could not be written"):
        save_pretrained(model, tmp_path / "file" / "inside")
