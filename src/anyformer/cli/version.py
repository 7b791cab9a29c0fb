"""Versions."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

import tyro

import anyformer
from anyformer.cli.output import columns, show_json

EXAMPLES = """examples:
  anyformer version
  anyformer version --json"""

LIBRARIES = ("torch", "numpy", "einops", "jaxtyping", "safetensors", "huggingface_hub", "tyro")


@dataclass
class Options:
    """Versions of anyformer, of Python, and of the libraries that it runs on."""

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run(options: Options) -> int:
    versions = {"anyformer": anyformer.__version__, "python": platform.python_version()}
    versions |= {name: installed(name) for name in LIBRARIES}
    if options.as_json:
        show_json(versions)
    else:
        print(columns(versions.items()))
    return 0


def installed(library: str) -> str:
    """The installed version of a library, without importing it."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"
