"""Saving a model to a folder and reading it back: spec as YAML, weights as safetensors. No code is unpickled."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import CheckpointError, UnknownName
from anyformer.core.files import write_whole
from anyformer.core.registry import index, resolve
from anyformer.core.spec import Spec
from anyformer.models.factory import create_model, with_options
from anyformer.weights.load import fill_state, load_reference

SPEC, WEIGHTS = "anyformer.yaml", "model.safetensors"
REPOSITORIES = {"timm": "timm/{name}", "transformers": "{name}"}
"""Where each source keeps its weights on the Hugging Face hub."""


def save_pretrained(model: nn.Module, folder: str | Path) -> Path:
    """Write `anyformer.yaml` (spec, family) and `model.safetensors` into a folder; each file whole or not at all.

    The weights carry the spec too, so that either file alone says what it is.
    Raises `CheckpointError` for a model without a spec, `AnyformerError` where the folder cannot be written.
    """
    from safetensors.torch import save_file

    text = spec_card(model)
    if text is None:
        raise CheckpointError("this model was not built from a Spec, so none can be saved: build it with create_model.")
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    folder = Path(folder)
    write_whole(folder / WEIGHTS, lambda path: save_file(state, path, metadata={"format": "pt", "anyformer": text}))
    write_whole(folder / SPEC, lambda path: path.write_text(text))
    return folder


def spec_card(model: nn.Module) -> str | None:
    """What a model was built from, as YAML: spec, family, variant, adaptations. None where it was built otherwise."""
    spec = getattr(model, "built_from", None)
    if spec is None:
        return None
    card = {k: v for k in ("family", "variant") if (v := getattr(model, k, None)) is not None}
    text = spec.to_yaml() + "".join(f"{k}: {v}\n" for k, v in card.items())
    if adapted := getattr(model, "adaptations", {}):
        import yaml

        text += yaml.safe_dump({"adaptations": {n: s.to_dict() for n, s in adapted.items()}}, sort_keys=False)
    return text


def adapt_again(model: nn.Module, card: str) -> None:
    """Adapt a model as its card says that it was; the method is found by its name, as it stands above this room."""
    import yaml

    for name, data in (yaml.safe_load(card).get("adaptations") or {}).items():
        spec = Spec.from_dict(data)
        resolve(index()["methods"]["adapt"]["target"])(model, spec.name, name=name, **spec.options)


def from_pretrained(name: str | Path, *, partial: bool = False, **options: Any) -> nn.Module:
    """A model with its weights, in evaluation mode.

    Args:
        name: a folder written by `save_pretrained`; a hub repository that holds one; or another codebase's name,
            "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k" or "transformers:google/vit-base-patch16-224", whose
            weights come from the hub under their names.
        partial: load what fits (after swapping a part, or for another number of classes) and report the rest in
            `model.load_report`.
        options: as `create_model`'s.

    Raises:
        CheckpointError: nothing there, no checkpoint, cut short, or weights of another model.
    """
    name = str(name)
    source, _, theirs = name.partition(":")
    if not Path(name).exists() and source in REPOSITORIES:
        model = create_model(name, **options)
        state = read_state(_download(REPOSITORIES[source].format(name=theirs.removeprefix("timm/")), WEIGHTS))
        model.load_report = load_reference(model, state, source, partial=partial)
        return model.eval()
    weights = Path(name) / WEIGHTS if Path(name).exists() else _download(name, WEIGHTS)
    if not weights.exists():
        raise CheckpointError(f"{name} holds no {WEIGHTS}: give a folder that save_pretrained wrote.")
    state, metadata = read_safetensors(weights)
    if "anyformer" not in metadata:
        raise CheckpointError(
            f"{weights} was not written by save_pretrained: build the model with create_model and use load_reference."
        )
    spec = with_options(Spec.from_yaml(metadata["anyformer"]), options)
    model = build(spec, "model")
    model.built_from = spec
    card = dict(
        line.split(": ", 1) for line in metadata["anyformer"].splitlines() if line.startswith(("family", "variant"))
    )
    model.family, model.variant = card.get("family"), card.get("variant")
    adapt_again(model, metadata["anyformer"])
    model.load_report = fill_state(model, state, [], partial=partial, what=f"weights of the model in {name}")
    return model.eval()


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.pth`, `.pt` or `.bin` file; nested ones ("model", "state_dict") are found.

    Pickled files are read with `weights_only=True`: what holds more than tensors is refused.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"there is no file {path}.")
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, and loading it could run code of a stranger, so it is refused. "
            "Save its state_dict alone, best as safetensors."
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no checkpoint, or is cut short ({_line(error)}).") from error
    for key in ("state_dict", "model", "model_state", "ema"):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if not isinstance(data, Mapping) or not data or not all(isinstance(v, Tensor) for v in data.values()):
        raise CheckpointError(f"{path} holds no state_dict (names to tensors).")
    return {name.removeprefix("module."): tensor for name, tensor in data.items()}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no safetensors file, or is cut short ({error}).") from error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _download(repository: str, file: str) -> Path:
    """A file of a hub repository, from the cache where `HF_HUB_OFFLINE` is set."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # the hub's client raises many kinds: all mean that the file is not to be had
        raise UnknownName(
            f"{repository} is no folder here, and the hub did not give {repository}/{file} ({_line(error)})."
        ) from error
