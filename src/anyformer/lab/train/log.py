"""What a run says of itself: lines of JSON, a progress bar on a terminal, and TensorBoard's files if asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyformer.core.errors import AnyformerError, require
from anyformer.core.files import write_whole


class Log:
    """The history of a run: dictionaries with a "step", kept in memory and, with a folder, in `log.jsonl`.

    Args:
        out: the folder, or None.
        upto: lines after this step are dropped: a resumed run writes them again.
        tensorboard: also write TensorBoard's files.
    """

    def __init__(self, out: Path | None, upto: int, tensorboard: bool):
        self.history: list[dict[str, Any]] = []
        self._file = self._board = None
        if out is None:
            return
        if tensorboard:
            require("tensorboard", "logging")
        path = out / "log.jsonl"
        self.history = [line for line in read(path) if line["step"] <= upto] if path.is_file() else []
        write_whole(path, lambda partial: partial.write_text("".join(json.dumps(line) + "\n" for line in self.history)))
        self._file = path.open("a", buffering=1, encoding="utf-8")
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=upto + 1)

    def write(self, line: dict[str, Any]) -> None:
        """Keep a line; numbers in it go to TensorBoard too."""
        self.history.append(line)
        if self._file is not None:
            try:
                self._file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise AnyformerError(f"the log {self._file.name} cannot be written ({error.strerror}).") from error
        if self._board is not None:
            for name, value in {**line, **line.get("valid", {})}.items():
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(f"valid/{name}" if "valid" in line else name, value, line["step"])

    def measured(self, step: int, seconds: float, metrics: dict[str, Any]) -> None:
        """Keep the numbers of a measurement, once per step: a run that had ended may be measured again."""
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        if not any(line["step"] == step and "valid" in line for line in self.history):
            self.write({"step": step, "seconds": seconds, "valid": numbers})

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in (self._file, self._board):
            if handle is not None:
                handle.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


class Silent:
    """A progress bar where nobody watches."""

    def show(self, progress: float, text: str) -> None:
        """Show this share of the work as done, and a few words."""


class Bar(Silent):
    """A progress bar on standard error."""

    def __init__(self, bar: Any, task: Any):
        self._bar, self._task = bar, task

    def show(self, progress: float, text: str) -> None:
        self._bar.update(self._task, completed=progress, text=text)


@contextmanager
def progress_bar(title: str, wanted: bool) -> Iterator[Silent]:
    """A bar with the loss, the rate and the time left inside, if wanted and standard error is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Bar(bar, bar.add_task(title, total=1.0, text=""))
