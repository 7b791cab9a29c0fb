"""Text to token numbers and back: bytes, characters, subwords learned on the training part, and tokenizers of files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from anyformer.core.errors import DataError, OptionError, require, suggest


class Tokenizer(Protocol):
    """Both ways between text and token numbers in 0 to `vocab_size` - 1.

    Attributes:
        lossless: decoding gives back every text; otherwise spaces may differ, and what is unknown is lost.
        pieces: the text of each token, with a space in front where a token begins a word by itself.
    """

    vocab_size: int
    lossless: bool

    @property
    def pieces(self) -> list[str]: ...

    def encode(self, text: str) -> list[int]: ...

    def places(self, text: str) -> list[tuple[int, int]]:
        """For each token of `encode(text)` the first character that it stands for, and the one behind the last."""
        ...

    def decode(self, tokens: Sequence[int]) -> str: ...


class Bytes:
    """One token per byte of UTF-8: 256 tokens, nothing to train, nothing unknown."""

    vocab_size = 256
    lossless = True

    @property
    def pieces(self) -> list[str]:
        """Bytes beyond ASCII are parts of letters."""
        return [chr(byte) if byte < 128 else "é" for byte in range(256)]

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def places(self, text: str) -> list[tuple[int, int]]:
        return [(i, i + 1) for i, character in enumerate(text) for _ in character.encode("utf-8")]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; bytes that are no UTF-8 become the replacement character."""
        return bytes(tokens).decode("utf-8", errors="replace")


class Characters:
    """One token per character: 0 for characters that are not known, then the known ones, the most frequent first.

    Args:
        text: what the characters are taken from: the training part only.
    """

    lossless = False

    def __init__(self, text: str):
        counts = Counter(text)
        self.known = ("\ufffd", *sorted(counts, key=lambda c: (-counts[c], c)))
        self.numbers = {character: i for i, character in enumerate(self.known) if i}
        self.vocab_size = len(self.known)

    @property
    def pieces(self) -> list[str]:
        return list(self.known)

    def encode(self, text: str) -> list[int]:
        return [self.numbers.get(character, 0) for character in text]

    def places(self, text: str) -> list[tuple[int, int]]:
        return [(i, i + 1) for i in range(len(text))]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; unknown characters become the replacement character."""
        return "".join(self.known[token] for token in tokens)


class Subwords:
    """A tokenizer of the library `tokenizers` behind this module's interface."""

    lossless = False

    def __init__(self, inner: Any):
        self._inner = inner
        self.vocab_size: int = inner.get_vocab_size()

    @property
    def pieces(self) -> list[str]:
        """The text of each token, with a space in front where it begins a word: "Ġ", "▁", or no "##" in WordPiece."""
        raw = [self._inner.id_to_token(i) or "" for i in range(self.vocab_size)]
        if any(token.startswith("##") for token in raw):
            return [token[2:] if token.startswith("##") else f" {token}" for token in raw]
        return [token.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n") for token in raw]

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def places(self, text: str) -> list[tuple[int, int]]:
        return self._inner.encode(text, add_special_tokens=False).offsets

    def decode(self, tokens: Sequence[int]) -> str:
        return self._inner.decode(list(tokens))


class BytePairs(Subwords):
    """Byte-pair encoding that starts from bytes, so nothing is unknown and decoding gives back every text.

    Sennrich et al. 2015, arXiv:1508.07909, on bytes as in GPT-2. Needs the extra [text]. Training is cached.

    Args:
        text: what the merges are learned on: the training part only.
        vocab_size: tokens, at least the 256 bytes. A short text may give fewer.
    """

    lossless = True

    def __init__(self, text: str, vocab_size: int = 1024):
        if vocab_size < 256:
            raise OptionError(f"byte pairs start from 256 bytes, so vocab_size is at least 256; given {vocab_size}.")
        super().__init__(_learned("bpe", text, vocab_size))


class WordPieces(Subwords):
    """WordPiece: words are cut into the longest known pieces, those inside a word marked "##"; as in BERT.

    Wu et al. 2016, arXiv:1609.08144, section 4.1. Words with a character that the training part has not are unknown,
    and spaces are not kept. Needs the extra [text]. Training is cached. Arguments as `BytePairs`'s.
    """

    def __init__(self, text: str, vocab_size: int = 1024):
        _check_size("wordpiece", vocab_size)
        super().__init__(_learned("wordpiece", text, vocab_size))


class Unigrams(Subwords):
    """A unigram language model over pieces; a text is cut into the likeliest ones. Kudo 2018, arXiv:1804.10959.

    Pieces are of bytes, so nothing is unknown and decoding gives back every text. Needs the extra [text]. Training is
    cached. Arguments as `BytePairs`'s.
    """

    lossless = True

    def __init__(self, text: str, vocab_size: int = 1024):
        if vocab_size < 257:
            raise OptionError(
                f"unigram keeps 256 bytes and one mark, so vocab_size is at least 257; given {vocab_size}."
            )
        super().__init__(_learned("unigram", text, vocab_size))


MARKS = {
    "mask": ("[MASK]", "<mask>"),
    "pad": ("[PAD]", "<pad>", "<|padding|>"),
    "end": ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "[SEP]"),
    "class": ("[CLS]", "<s>", "<cls>", "<|endoftext|>"),
    "separator": ("[SEP]", "</s>", "<sep>", "<|endoftext|>"),
}
"""What marks are called in files of tokenizers; a sentinel is "<extra_id_0>", "<extra_id_1>", ..."""


class FromFile(Subwords):
    """A tokenizer of the Hugging Face format, `tokenizer.json`. Needs the extra [text].

    Args:
        path: of the file.
    """

    def __init__(self, path: str | Path):
        library = require("tokenizers", "text")
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"there is no tokenizer {path}: give the path of a tokenizer.json.")
        try:
            inner = library.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain exceptions
            raise DataError(f"{path} is no tokenizer of the Hugging Face format (tokenizer.json): {error}.") from error
        super().__init__(inner)

    def mark(self, name: str) -> int:
        """The number of a mark. Raises `DataError` where the file has none."""
        number = name.removeprefix("sentinel")
        names = (f"<extra_id_{number}>",) if number != name else MARKS[name]
        found = next((i for i in map(self._inner.token_to_id, names) if i is not None), None)
        if found is None:
            raise DataError(
                f"the tokenizer {self.path} has no token for {name!r} ({' or '.join(names)}), which this task needs: "
                "take a tokenizer that has one."
            )
        return found


class Marked:
    """A tokenizer with marks that no text contains, such as "mask", "end", or "sentinel0".

    A tokenizer of a file brings its own; any other gets them behind its tokens. `marks` is name to number.

    Args:
        inner: the tokenizer.
        marks: their names.
    """

    def __init__(self, inner: Tokenizer, marks: Sequence[str]):
        self.inner = inner
        self.lossless = inner.lossless
        self.marks: dict[str, int] = {}
        self.vocab_size = inner.vocab_size
        for name in marks:
            if isinstance(inner, FromFile):
                self.marks[name] = inner.mark(name)
            else:
                self.marks[name] = self.vocab_size
                self.vocab_size += 1

    @property
    def pieces(self) -> list[str]:
        return self.inner.pieces + [""] * (self.vocab_size - self.inner.vocab_size)

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def places(self, text: str) -> list[tuple[int, int]]:
        return self.inner.places(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of all but the marks."""
        hidden = set(self.marks.values())
        return self.inner.decode([token for token in tokens if token not in hidden])


LEARNED = {"characters": Characters, "bpe": BytePairs, "wordpiece": WordPieces, "unigram": Unigrams}


def make_tokenizer(name: str, text: str, vocab_size: int) -> Tokenizer:
    """A tokenizer by its name: "bytes"; "characters", "words" (all that there are, without punctuation), "bpe",
    "wordpiece" or "unigram" learned on this text; or a file.

    Raises `OptionError` for another name, `DataError` for a file (its name ends with .json) that is no tokenizer.
    """
    if name == "bytes":
        return Bytes()
    if name.endswith(".json"):
        return FromFile(name)
    if name == "words":
        from anyformer.data.captions import Words

        return Words([text])
    if name not in LEARNED:
        raise OptionError(
            f"there is no tokenizer {name!r}; {suggest(name, ['bytes', 'words', *LEARNED])} "
            "Or give the path of a tokenizer.json."
        )
    return Characters(text) if name == "characters" else LEARNED[name](text, vocab_size)


def cache_folder() -> Path:
    """Where what can be made again is kept: $ANYFORMER_CACHE, else anyformer/ in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ANYFORMER_CACHE") or Path(home) / "anyformer")


def _check_size(name: str, vocab_size: int) -> None:
    if vocab_size < 2:
        raise OptionError(f"{name} has two tokens or more; given vocab_size={vocab_size}.")


def _learned(kind: str, text: str, vocab_size: int) -> Any:
    """A trained tokenizer of the library, out of the cache where it was trained before."""
    library = require("tokenizers", "text")
    digest = hashlib.sha256(f"{vocab_size}\n{text}".encode()).hexdigest()[:16]
    at = cache_folder() / f"{kind}-{digest}.json"
    return library.Tokenizer.from_file(str(at)) if at.is_file() else _train(library, kind, text, vocab_size, at)


def _untrained(library: Any, kind: str, vocab_size: int) -> tuple[Any, Any]:
    """A tokenizer, and what trains it."""
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    common = {"vocab_size": vocab_size, "show_progress": False}
    if kind == "wordpiece":
        tokenizer = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = library.decoders.WordPiece()
        return tokenizer, library.trainers.WordPieceTrainer(special_tokens=["[UNK]"], **common)
    if kind == "unigram":
        tokenizer = library.Tokenizer(library.models.Unigram())
        trainer = library.trainers.UnigramTrainer(
            special_tokens=["<unk>"], unk_token="<unk>", initial_alphabet=alphabet, **common
        )
    else:
        tokenizer = library.Tokenizer(library.models.BPE())
        trainer = library.trainers.BpeTrainer(initial_alphabet=alphabet, **common)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer, trainer


def _train(library: Any, kind: str, text: str, vocab_size: int, keep_at: Path) -> Any:
    tokenizer, trainer = _untrained(library, kind, vocab_size)
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
