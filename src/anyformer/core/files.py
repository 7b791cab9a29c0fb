"""Writing files so that a crash or a full disk leaves the previous one whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from anyformer.core.errors import AnyformerError


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then put it in place in one step.

    Raises:
        AnyformerError: the folder cannot be written or the disk is full; the previous file is untouched.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with open(partial, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError as error:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)
        raise AnyformerError(
            f"{path} could not be written ({error.strerror or error}); what was there before is untouched."
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
