"""Profile models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from anyformer.cli.output import show_json
from anyformer.cli.settings import read_settings, use_threads
from anyformer.core.errors import SizeError

EXAMPLES = """examples:
  anyformer profile deit_tiny
  anyformer profile deit_tiny swin_tiny --sizes 224 448 --plot growth.html
  anyformer profile deit_tiny --sizes 112 224 448 --threads 1 --json
  anyformer profile swin_tiny --set mixer=pooling num_classes=10"""


@dataclass
class Options:
    """Parameters, multiply-adds, activation memory, latency and throughput of models, and how each grows."""

    models: Positional[tuple[str, ...]]
    """Names of models."""
    sizes: tuple[int, ...] = ()
    """Image sides or sequence lengths; two or more give growth exponents. Default: each model's own."""
    batch: int = 8
    """Inputs at once for the throughput; the rest is at batch 1."""
    seconds: float = 0.5
    """Least time for each timing."""
    threads: int = 0
    """Threads on the CPU; 0 leaves torch's choice."""
    device: str = "cpu"
    """Where to run: cpu, cuda, ..., or auto for a GPU where there is one."""
    plot: Path | None = None
    """Write the growth as one HTML file here."""
    set: tuple[str, ...] = ()
    """Options for the models, as option=value."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run(options: Options) -> int:
    from anyformer.lab.profile import profile, table, write_html

    if not options.models:
        raise SizeError("profile takes the name of a model or more; 'anyformer models' lists them.")
    use_threads(options.threads)
    profiles = [
        profile(
            name,
            options.sizes,
            batch=options.batch,
            seconds=options.seconds,
            device=options.device,
            **read_settings(options.set),
        )
        for name in options.models
    ]
    if options.as_json:
        show_json([p.to_dict() for p in profiles])
    else:
        from rich.console import Console

        console = Console()
        Console(width=None if console.is_terminal else 200).print(table(profiles))  # a file has no edge to fit
    if options.plot is not None:
        write_html(profiles, options.plot)
    return 0
