"""anyformer: any part in any model. The ideas of 306 papers about transformers and their alternatives, composable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyformer.core.spec import Spec
    from anyformer.models.factory import create_model, model_spec
    from anyformer.weights.checkpoint import from_pretrained, save_pretrained
    from anyformer.weights.load import load_reference

__version__ = "0.1.0"

_WHERE = {
    "Spec": "anyformer.core.spec",
    "create_model": "anyformer.models.factory",
    "model_spec": "anyformer.models.factory",
    "load_reference": "anyformer.weights.load",
    "from_pretrained": "anyformer.weights.checkpoint",
    "save_pretrained": "anyformer.weights.checkpoint",
}
__all__ = ["Spec", "create_model", "from_pretrained", "load_reference", "model_spec", "save_pretrained"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import anyformer` needs no torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'anyformer' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
