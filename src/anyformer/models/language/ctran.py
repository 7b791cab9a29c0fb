"""CTRAN: the intent of a sentence, and a slot for each of its words.

Rafiepour and Sartakhti 2023, arXiv:2303.10606; sizes of the authors' notebook, which has BERT base; their results on
ATIS and SNIPS are with BERT large. They name no variants.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anyformer.blocks.freezing import Freezing
from anyformer.blocks.stack import Stack
from anyformer.blocks.text import TextEmbedding, check_ids, example_length
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State, check_batch
from anyformer.models.language.bert import VARIANTS as BERT

PAPERS = ("ctran",)


class CTRAN(Freezing):
    """Ids `(b, n)` and the tags before each word `(b, words)` to logits of its tag and of the sentence's intent.

    A language model's tokens go through convolutions of several widths and an encoder. The intent is read by attention
    and a mean over all tokens. Tags are written word by word by a decoder whose layers each give output i the tags
    before it, by causal self-attention, and word i, by aligned cross-attention; of other words it knows what earlier
    layers took from those before it. Of a word in several pieces the first one stands for it.

    The result is `(b, words, slots + intents)`: for each word the logits of its tag, and behind them those of the
    sentence's intent, the same for all words. Cost: the language model's, and tokens^2 dim a layer behind it.

    Args:
        language: an encoder of text, which embeds the words; None for vectors `(b, n, width)` in place of ids, such as
            ELMo's.
        width: channels of those vectors; a language model has its own.
        dim: channels behind the convolutions.
        windows: the convolutions; None for none: then the language model is the encoder, and `dim` is its channels.
        encoder, encoder_depth: blocks behind them.
        decoder, decoder_depth: blocks of the decoder; their `cross` says which words each tag looks at.
        intent: block that tokens go through before the intent's head.
        head: from tokens to the intent.
        position: absolute positions of tokens and tags.
        slots: ids of tags, the one that begins a sentence among them.
        intents: classes of sentences.
        start: id that stands before the first tag.
        vocab_size, max_length: of the language model; None for its own.
        dropout: share of values dropped in training, in encoder and decoder.
        head_dropout: the same before the tags' head.
        init: as `Isotropic`'s.

    Raises:
        OptionError: widths that do not fit, a `start` that is no tag.
        SizeError: tags that are not one for each word.
        DataError: ids or tags that there are not.
    """

    name = "ctran"
    papers = ("ctran",)
    pretrained = "language"

    @chooses_start
    def __init__(
        self,
        *,
        language: Spec | None,
        width: int | None = None,
        dim: int = 512,
        windows: Spec | None = Spec("window_features"),
        encoder: Spec = Spec("postnorm", mixer=Spec("attention", heads=2)),
        encoder_depth: int = 2,
        decoder: Spec = Spec("postnorm", mixer=Spec("attention", heads=2), cross=Spec("aligned_attention")),
        decoder_depth: int = 2,
        intent: Spec = Spec("respostnorm", mixer=Spec("attention", heads=8), ffn=None),
        head: Spec = Spec("classifier"),
        position: Spec | None = Spec("sinusoidal"),
        slots: int = 124,
        intents: int = 22,
        start: int = 2,
        vocab_size: int | None = None,
        max_length: int | None = None,
        dropout: float = 0.1,
        head_dropout: float = 0.5,
        init: Start = "published",
    ):
        super().__init__()
        if not 0 <= start < slots or intents < 1:
            raise OptionError(
                f"{self.name}: start is one of the tags' ids, and there is an intent; given start={start}, "
                f"slots={slots}, intents={intents}."
            )
        self.language = None
        if language is not None:
            given = {"vocab_size": vocab_size, "max_length": max_length, "num_classes": 0}
            self.language = build(language.set(**{k: v for k, v in given.items() if v is not None}), "model")
            width = language.options["dim"]
            max_length = self.language.max_length
        if width is None or (windows is None and width != dim):
            raise OptionError(
                f"{self.name} takes a language model, or the width of vectors; without windows their channels are dim; "
                f"given width={width}, dim={dim}."
            )
        self.width, self.slots, self.intents, self.start = width, slots, intents, start
        self.max_length = 512 if max_length is None else max_length
        self.scale = dim**0.5
        self.windows = None if windows is None else build(windows, "embed", dim=dim, in_channels=width)
        self.position = None
        if position is not None and encoder_depth:
            self.position = build(position, "position", dim=dim, grid=(self.max_length,))
        common = {"dim": dim, "grid": (self.max_length,), "dropout": dropout}
        self.encoder = Stack(encoder, encoder_depth, **common)
        self.intent = build(intent, "block", **{**common, "dropout": head_dropout})
        self.head = build(head, "head", dim=dim, num_classes=intents)
        embed = Spec("token", scale=dim**0.5, std=dim**-0.5)
        self.embedding = TextEmbedding(
            dim, vocab_size=slots, max_length=self.max_length, embed=embed, position=position, dropout=dropout
        )
        self.decoder = Stack(decoder, decoder_depth, causal=True, **common)
        self.tags = linear(dim, slots)
        self.dropout, self.head_dropout = nn.Dropout(dropout), nn.Dropout(head_dropout)

    # -- the sentence --------------------------------------------------------------------------------------

    def embed(self, ids: Tensor, segments: Segments | None = None) -> Float[Tensor, "b n w"]:
        """The language model's tokens; without one, vectors as they are."""
        if self.language is not None:
            return self.language.tokens(ids, segments)
        if not ids.is_floating_point() or ids.dim() != 3 or ids.shape[-1] != self.width:
            raise SizeError(
                f"without a language model {self.name} takes vectors (b, n, {self.width}); given {tuple(ids.shape)} of "
                f"{str(ids.dtype).removeprefix('torch.')}."
            )
        return ids

    def placed(self, x: Float[Tensor, "b n w"], segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        """What the encoder gets of embedded tokens: their windows, with positions."""
        x = x if self.windows is None else self.windows(x, segments)
        if not len(self.encoder):
            return x
        x = x * self.scale
        if self.position is not None:
            x = self.position(x, None if segments is None else segments.positions())
        return self.dropout(x)

    def encode(self, ids: Tensor, segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        """The encoder's tokens, which intent and tags are read from."""
        return self.encoder(self.placed(self.embed(ids, segments), segments), segments)

    def features(
        self, ids: Tensor, layers: Sequence[int] | None = None, segments: Segments | None = None
    ) -> list[Float[Tensor, "b n c"]]:
        """The encoder's tokens after the chosen blocks; with `layers=None`, its output."""
        if layers is None:
            return [self.encode(ids, segments)]
        return self.encoder.outputs(self.placed(self.embed(ids, segments), segments), layers, segments)

    def classify(self, tokens: Float[Tensor, "b n c"], segments: Segments | None = None) -> Float[Tensor, "b i"]:
        """Logits of the intent from the encoder's tokens."""
        return self.head(self.intent(tokens, segments), segments)

    # -- its words -----------------------------------------------------------------------------------------

    def words(
        self,
        tokens: Float[Tensor, "b n c"],
        starts: Bool[Tensor, "b n"] | None = None,
        segments: Segments | None = None,
    ) -> tuple[Float[Tensor, "b n c"], Segments | None]:
        """The first token of each word, one behind the other, zeros behind the last, and which of them are words.

        Without `starts` each token is one, and `segments` says which are no padding.
        """
        if starts is None:
            return tokens, segments
        order = starts.int().argsort(dim=1, descending=True, stable=True)
        packed = tokens.gather(1, order[..., None].expand_as(tokens))
        there = torch.arange(tokens.shape[1], device=tokens.device) < starts.sum(1, keepdim=True)
        return packed.masked_fill(~there[..., None], 0), Segments.from_mask(there)

    def decode(
        self, tags: Int[Tensor, "b t"], words: Float[Tensor, "b m c"], segments: Segments | None = None
    ) -> Float[Tensor, "b t s"]:
        """Logits of each word's tag, given the tags before it: `tags` begin with `start`; `segments` are the words'."""
        check_ids(tags, self.slots)
        return self.logits(self.decoder(self.embedding(tags), None, words, segments))

    def logits(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t s"]:
        """Logits of tags from the decoder's tokens."""
        return self.tags(self.head_dropout(x))

    def forward(
        self,
        ids: Tensor,
        tags: Int[Tensor, "b t"],
        starts: Bool[Tensor, "b n"] | None = None,
        segments: Segments | None = None,
    ) -> Float[Tensor, "b t o"]:
        """Args:
        ids: of the sentence, or its vectors.
        tags: `start`, then the tag of each word but the last; rows of fewer words are filled up with any tag.
        starts: true at the first token of each word; None: each token is a word.
        segments: which tokens are no padding.
        """
        self.check_tags(tags, ids, starts)
        tokens = self.encode(ids, segments)
        slots = self.decode(tags, *self.words(tokens, starts, segments))
        intent = self.classify(tokens, segments)
        return torch.cat([slots, intent[:, None].expand(-1, slots.shape[1], -1)], -1)

    def check_tags(self, tags: Tensor, ids: Tensor, starts: Tensor | None) -> None:
        """Raise `SizeError` unless there are as many tags as words (while compiling, the decoder's sizes alone say)."""
        if starts is not None and starts.shape != ids.shape[:2]:
            raise SizeError(
                f"starts says of each token whether a word begins: of shape {tuple(ids.shape[:2])}; given "
                f"{tuple(starts.shape)}."
            )
        if torch.compiler.is_compiling() or not len(ids):
            return
        words = ids.shape[1] if starts is None else int(starts.sum(1).max())
        if tags.shape != (len(ids), words):
            raise SizeError(
                f"there is one tag a word, here {(len(ids), words)} for (rows, words); given tags of shape "
                f"{tuple(tags.shape)}: mark with starts which tokens begin a word where words have several tokens."
            )

    # -- one tag after the other ---------------------------------------------------------------------------

    def init_state(self, words: Float[Tensor, "b m c"], segments: Segments | None = None) -> State:
        """The state before the first tag of these words."""
        blocks = self.decoder.init_state(len(words), like=words, memory=words, memory_segments=segments)
        return {"seen": torch.zeros(len(words), dtype=torch.long, device=words.device), "blocks": blocks}

    def extend(self, tags: Int[Tensor, "b t"], state: State) -> tuple[Float[Tensor, "b t s"], State]:
        """Logits behind `tags` after `state`, equal to `decode` of all, and the new state."""
        check_ids(tags, self.slots)
        check_batch(state, len(tags), self.name)
        positions = state["seen"][:, None] + torch.arange(tags.shape[1], device=tags.device)
        x, blocks = self.decoder.extend(self.embedding(tags, positions=positions), state["blocks"])
        return self.logits(x), {"seen": state["seen"] + tags.shape[1], "blocks": blocks}

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        length = example_length(size, self.max_length)
        tags = torch.randint(0, self.slots, (batch, length), device=self.device)
        if self.language is None:
            return torch.randn(batch, length, self.width, device=self.device), tags
        return *self.language.example_inputs(length, batch), tags


def ctran(
    language: Spec | None, *, dim: int = 512, heads: int = 2, hidden: int = 2048, decoder_hidden: int = 300
) -> Spec:
    """Post-norm blocks with ReLU on both sides; only the last layer of the tags' head has another width."""
    mixer = Spec("attention", heads=heads)
    mlp, short = (Spec("mlp", hidden=width, act=Spec("relu")) for width in (hidden, decoder_hidden))
    return Spec(
        "ctran",
        language=language,
        dim=dim,
        encoder=Spec("postnorm", mixer=mixer, ffn=mlp),
        decoder=Spec("postnorm", mixer=mixer, cross=Spec("aligned_attention"), ffn=short),
        head=Spec("classifier", dropout=0.5),
    )


def headless(name: str) -> Spec:
    """A BERT that gives tokens; its pooler would be idle."""
    return BERT[name].set(head=Spec("classifier"), num_classes=0)


def as_encoder(name: str) -> Spec:
    """BERT in place of all that is before the two decoders: what the paper compares "as word embeddings" with."""
    return ctran(headless(name), dim=BERT[name].options["dim"]).set(windows=None, encoder_depth=0)


EMBEDDINGS = Spec("encoder", dim=64, depth=0, block=Spec("prenorm", mixer="attention"), head=Spec("classifier"))
"""Learned vectors of words, and nothing more."""

VARIANTS = {
    "ctran_bert_base": ctran(headless("bert_base_uncased")),
    "ctran_bert_large": ctran(headless("bert_large_uncased")),
    "ctran_elmo": ctran(None).set(width=1024),
    "ctran_bert_base_as_encoder": as_encoder("bert_base_uncased"),
    "ctran_bert_large_as_encoder": as_encoder("bert_large_uncased"),
    # Ours, for small data and for tests.
    "ctran_micro": ctran(EMBEDDINGS, dim=64, hidden=128, decoder_hidden=64).set(
        slots=16, intents=4, head=Spec("classifier"), dropout=0.0, head_dropout=0.0, max_length=128, init="fan_in"
    ),
}
