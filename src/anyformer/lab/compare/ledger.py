"""What has been done already: one line of JSON per finished piece of work, found again by what it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from anyformer.core.errors import AnyformerError, CheckpointError
from anyformer.lab.train.checkpoint import prepare_folder, write_atomically

Record = dict[str, Any]


def key(**facts: Any) -> str:
    """A short name for a piece of work: equal facts have equal keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Ledger:
    """A file of records, appended to and never changed; each has a "key" and reaches the disk before the next begins.

    A line that a kill cut short is dropped. Records that nobody asks for any more stay: what was measured is kept.

    Raises `AnyformerError` for a folder that cannot be written, `CheckpointError` for a damaged line.
    """

    def __init__(self, path: Path):
        prepare_folder(path.parent)
        self.path = path
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole, _, rest = text.rpartition("\n")
        if rest:
            write_atomically(path, whole + "\n" if whole else "")
        self.records: dict[str, Record] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self.records[record["key"]] = record
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(f"{path}, line {number} is damaged ({error!r}): remove that line.") from error

    def find(self, key: str) -> Record | None:
        """The record of this work, if it is done; failures do not count, they are tried again."""
        record = self.records.get(key)
        return None if record is None or "error" in record else record

    def add(self, record: Record) -> Record:
        """Write a record to the disk. Raises `AnyformerError` where that fails; what stood there before is whole."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AnyformerError(
                f"{self.path} cannot be written ({error.strerror}); what is finished is kept: make room and run again."
            ) from error
        self.records[record["key"]] = record
        return record
