"""Text to token numbers and back: bytes, and byte-pair encoding trained on the training part."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from anyformer.core.errors import OptionError, require


class Tokenizer(Protocol):
    """Both ways between text and token numbers in 0 to `vocab_size` - 1."""

    vocab_size: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...


class Bytes:
    """One token per byte of UTF-8: 256 tokens, nothing to train, nothing unknown."""

    vocab_size = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; bytes that are no UTF-8 become the replacement character."""
        return bytes(tokens).decode("utf-8", errors="replace")


class BytePairs:
    """Byte-pair encoding that starts from bytes, so nothing is unknown and decoding gives back every text.

    Sennrich et al. 2015, arXiv:1508.07909, on bytes as in GPT-2. Needs the extra [text]. Training is cached.

    Args:
        text: what the merges are learned on: the training part only.
        vocab_size: tokens, at least the 256 bytes. A short text may give fewer.
    """

    def __init__(self, text: str, vocab_size: int = 1024):
        if vocab_size < 256:
            raise OptionError(f"byte pairs start from 256 bytes, so vocab_size is at least 256; given {vocab_size}.")
        library = require("tokenizers", "text")
        digest = hashlib.sha256(f"{vocab_size}\n{text}".encode()).hexdigest()[:16]
        at = cache_folder() / f"bpe-{digest}.json"
        known = at.is_file()
        self._inner: Any = library.Tokenizer.from_file(str(at)) if known else _train(library, text, vocab_size, at)
        self.vocab_size = self._inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text).ids

    def decode(self, tokens: Sequence[int]) -> str:
        return self._inner.decode(list(tokens))


def make_tokenizer(name: str, text: str, vocab_size: int) -> Tokenizer:
    """The tokenizer "bytes", or "bpe" trained on this text."""
    if name == "bytes":
        return Bytes()
    if name == "bpe":
        return BytePairs(text, vocab_size)
    raise OptionError(f"a tokenizer is 'bytes' or 'bpe'; given {name!r}.")


def cache_folder() -> Path:
    """Where what can be made again is kept: $ANYFORMER_CACHE, else anyformer/ in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ANYFORMER_CACHE") or Path(home) / "anyformer")


def _train(library: Any, text: str, vocab_size: int, keep_at: Path) -> Any:
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(text.split("\n\n"), trainer)
    try:
        keep_at.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=keep_at.parent)
        os.close(handle)
        tokenizer.save(temporary)
        os.replace(temporary, keep_at)
    except OSError:
        return tokenizer  # a cache that cannot be written costs the next run a second, and this one nothing
    return tokenizer
