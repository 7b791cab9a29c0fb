"""Models by their published names. `create_model(name, **options)` builds one."""

from __future__ import annotations

from anyformer.models.factory import create_model, model_spec

__all__ = ["create_model", "model_spec"]
