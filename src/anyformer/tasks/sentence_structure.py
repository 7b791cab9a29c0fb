"""What a sentence is to another one: the objectives over pairs that BERT, ALBERT and StructBERT are pretrained by."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from anyformer.core.errors import OptionError
from anyformer.data.diaries import diaries
from anyformer.data.documents import deal, read_documents, sentences
from anyformer.data.labelled_text import Labelled
from anyformer.data.seeds import parts_to_draw
from anyformer.methods.pretraining.sentence_structure import NEXT, OTHER, PREVIOUS, sentence_pairs
from anyformer.tasks.text_classification import Overlong, TextRows

NAMES = {NEXT: "next", PREVIOUS: "previous", OTHER: "other"}
KINDS = {"structure": (NEXT, PREVIOUS, OTHER), "next": (NEXT, OTHER), "order": (NEXT, PREVIOUS)}


class SentenceStructure(TextRows):
    """Whether a sentence comes after another one, before it, or from another text. Metric: accuracy.

    "structure" tells all three apart (StructBERT, arXiv:1908.04577, section 2.2; PoNet, arXiv:2110.02442, section 3.3),
    "next" the first and the last (BERT, arXiv:1810.04805, section 3.1, task 2), "order" the first two (ALBERT,
    arXiv:1909.11942, section 3.1). No text has sentences in two parts.

    Args:
        path: texts as `data.documents.read_documents` takes them; diaries that are generated where not given.
        tokenizer, length, vocab_size, overlong: as `TextRows`'s; texts whose sentences are too long are cut by default.
        objective: "structure", "next" or "order".
        pairs: to train on; an eighth as many are in each other part.
        encoding: of the files.
        seed: by which texts are dealt out, and pairs drawn.

    Raises:
        OptionError: another objective, or no pairs.
        DataError: texts without neighbouring sentences.
    """

    name = "sentence_structure"
    papers = ("ponet",)
    margin = 0.1

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "bytes",
        length: int = 128,
        vocab_size: int = 1024,
        objective: Literal["structure", "next", "order"] = "structure",
        pairs: int = 4000,
        overlong: Overlong = "cut",
        encoding: str = "utf-8",
        seed: int = 0,
    ):
        if objective not in KINDS or pairs < 1:
            raise OptionError(
                f"an objective is one of {', '.join(KINDS)}, over 1 pair or more; given {objective!r}, {pairs}."
            )
        given = diaries(max(20, pairs // 8), seed) if path is None else read_documents(path, encoding)
        source = "data.diaries" if path is None else str(path)
        documents = deal(given, source, seed=seed)
        self.objective = objective
        parts = {
            split: [
                Labelled((pair.first, pair.second), NAMES[pair.label])
                for pair in sentence_pairs(
                    [sentences(document) for document in documents[split]],
                    count,
                    kinds=KINDS[objective],
                    seed=own,
                )
            ]
            for split, count, own in parts_to_draw(pairs, max(1, pairs // 8), seed)
        }
        super().__init__(
            parts,
            [NAMES[kind] for kind in KINDS[objective]],
            source=source,
            tokenizer=tokenizer,
            length=length,
            vocab_size=vocab_size,
            overlong=overlong,
        )

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "objective": self.objective}


TASKS = {"sentence_structure": SentenceStructure}
