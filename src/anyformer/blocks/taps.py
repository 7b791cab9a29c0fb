"""Named intermediates of any model: outputs of its modules and its attention maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from anyformer.core.errors import UnknownName, suggest
from anyformer.layers.attention.scoring.softmax import Scoring

MAPS = "attention"


def tap_names(model: nn.Module) -> list[str]:
    """Everything that can be tapped: modules by their path, attention maps as `<mixer>.attention`."""
    names = []
    for name, module in model.named_modules():
        if name:
            names.append(_map_name(name) if isinstance(module, Scoring) else name)
    return names


@contextmanager
def tapping(model: nn.Module, patterns: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the named outputs of the calls made inside; patterns may use `*`. "attention" means every map.

    Maps are computed by the explicit path while tapped, whichever kernel runs otherwise. Raises `UnknownName`.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    patterns = [f"*.{MAPS}" if p == MAPS else p for p in patterns]
    known = tap_names(model)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UnknownName(f"{type(model).__name__} has nothing named {pattern!r} to tap; {suggest(pattern, known)}")
    found: dict[str, Tensor] = {}
    handles, recording = [], []

    def keep(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(module, Scoring):
                found[name], module.map = module.map, None
            else:
                # In inference a residual may write its sum over a branch's output.
                found[name] = output.clone() if isinstance(output, Tensor) else output

        return hook

    try:
        for name, module in model.named_modules():
            shown = _map_name(name) if isinstance(module, Scoring) else name
            if name and any(fnmatchcase(shown, pattern) for pattern in patterns):
                if isinstance(module, Scoring):
                    module.record = True
                    recording.append(module)
                handles.append(module.register_forward_hook(keep(shown, module)))
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for module in recording:
            module.record = False


def _map_name(name: str) -> str:
    return f"{name.rsplit('.', 1)[0]}.{MAPS}" if "." in name else MAPS
