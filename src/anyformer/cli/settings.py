"""Options that several commands share: `--set option=value` and `--threads`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyformer.core.errors import OptionError


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`["num_classes=10", "mixer=pooling"]` to `{"num_classes": 10, "mixer": "pooling"}`.

    Values are read as YAML, so numbers, true, null, lists and `{part: window, heads: 3}` can be written. Raises
    `OptionError` for anything else, and for an option that is set twice.
    """
    import yaml

    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise OptionError(f"--set takes option=value, as in --set num_classes=10; given {setting!r}.")
        if name in found:
            raise OptionError(f"--set gives {name!r} twice; give it once.")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise OptionError(f"--set {name}={value}: the value is no YAML ({str(error).splitlines()[0]}).") from error
    return found


def use_threads(threads: int) -> None:
    """Let torch use so many threads on the CPU; 0 leaves its choice. Raises `OptionError` for fewer."""
    import torch

    if threads < 0:
        raise OptionError(f"--threads takes 1 or more, or 0 for torch's choice; given {threads}.")
    if threads:
        torch.set_num_threads(threads)
