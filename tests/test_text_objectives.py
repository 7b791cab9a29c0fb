"""Objectives for text: hidden tokens and words, missing spans, and causal and masked epochs in turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.around import AroundTask
from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.core.registry import index, part_class, parts
from anyformer.core.spec import Spec
from anyformer.data.seeds import sample_seeds
from anyformer.data.tokenizers import Bytes
from anyformer.lab.train import TrainConfig, train
from anyformer.lab.train.distributed import joined
from anyformer.lab.train.feed import Feed
from anyformer.methods.pretraining.antlm import read_schedule, set_causal
from anyformer.methods.pretraining.text_masking import choose_tokens, corrupt_spans, mask_tokens, word_starts
from anyformer.tasks import create_task
from anyformer.tasks.antlm import AntLM
from anyformer.tasks.masked_text import MaskedText
from anyformer.tasks.span_corruption import SpanCorruption
from anyformer.tasks.task import IGNORE
from parts import tiny, tokens

SEEDS = sample_seeds(0, torch.arange(200))


# -- hidden tokens ------------------------------------------------------------------------------------------


def test_of_the_chosen_tokens_most_are_masked_some_changed_and_some_stay():
    ids = torch.randint(0, 1000, (200, 100))
    chosen = choose_tokens(SEEDS, torch.ones_like(ids, dtype=torch.bool))
    assert (chosen.sum(1) == 15).all()
    spoiled = mask_tokens(ids, SEEDS, chosen=chosen, mask=1000, ordinary=1000)
    assert torch.equal(spoiled[~chosen], ids[~chosen])
    share = (spoiled == 1000)[chosen].float().mean()
    kept = (spoiled == ids)[chosen].float().mean()
    assert abs(share - 0.8) < 0.03 and abs(kept - 0.1) < 0.02
    assert spoiled[chosen & (spoiled != 1000)].max() < 1000
    again = choose_tokens(SEEDS[7:8], torch.ones(1, 100, dtype=torch.bool))
    assert torch.equal(again, chosen[7:8])  # a row does not depend on those beside it


def test_whole_words_are_hidden_whole():
    text = "some words, and others: 12 of them"
    ids = torch.tensor([Bytes().encode(text)]).expand(50, -1)
    starts = word_starts(ids, Bytes().pieces)
    words = "".join("|" * bool(s) + c for s, c in zip(starts[0], text, strict=True))
    assert words == "|some| |words|,| |and| |others|:| |12| |of| |them"
    chosen = choose_tokens(SEEDS[:50], starts, 0.2)
    group = starts.cumsum(1)
    for row, numbers in zip(chosen, group, strict=True):
        assert all(len(row[numbers == k].unique()) == 1 for k in numbers.unique())
    assert (chosen.sum(1) >= round(0.2 * len(text))).all() and (chosen.float().mean(1) < 0.45).all()


def test_a_masked_batch_asks_for_hidden_tokens_alone():
    task = MaskedText(length=64)
    batch = task.sample("train", torch.arange(8), seed=3, train=True)
    asked = batch["targets"] != IGNORE
    assert (asked.sum(1) == round(0.15 * 64)).all() and task.count(batch) == int(asked.sum())
    model = create_model("bert_micro", **task.model_options())
    logits = model(batch["ids"]).detach().requires_grad_()
    task.loss(lambda ids: logits, batch).backward()
    assert (logits.grad.abs().sum(-1) > 0).equal(asked)


def test_masked_text_restores_what_it_learned():
    task = MaskedText(length=32)
    with torch.no_grad():
        found = task.predict(create_model("bert_micro", **task.model_options()), ["the statement is executed"])
    assert "_" in found[0]["masked"] and len(found[0]["restored"].encode("utf-8", "ignore")) >= 20


# -- missing spans ------------------------------------------------------------------------------------------


def test_spans_and_texts_are_the_whole_again():
    ids = torch.randint(0, 1000, (200, 50))
    sentinels = list(range(1000, 1010))
    source, target = corrupt_spans(ids, SEEDS, sentinels=sentinels)
    assert source.shape == (200, 50 - 8 + 3) and target.shape == (200, 8 + 3)
    places = set()
    for row, given, missing in zip(ids.tolist(), source.tolist(), target.tolist(), strict=True):
        spans = {}
        for token in missing:
            if token >= 1000:
                spans[token] = current = []
            else:
                current.append(token)
        assert list(spans) == [1000, 1001, 1002] and all(spans.values())
        whole = [t for token in given for t in spans.get(token, [token])]
        assert whole == row
        places.add(given.index(1000))
    assert len(places) > 20


def test_too_few_sentinels_are_an_error():
    with pytest.raises(OptionError, match="a window of 50 tokens has 3 hidden spans, and there are 2 sentinels"):
        corrupt_spans(torch.zeros(1, 50, dtype=torch.long), SEEDS[:1], sentinels=[7, 8])


def test_span_corruption_feeds_what_it_asks_for_shifted():
    task = SpanCorruption(length=40)
    batch = task.sample("train", torch.arange(4), seed=1, train=True)
    assert torch.equal(batch["target"][:, 1:], batch["labels"][:, :-1])
    assert (batch["target"][:, 0] == task.pad).all() and (batch["labels"][:, -1] == task.end).all()
    model = create_model("t5_micro", **task.model_options())
    assert model.start == task.pad and model.end == task.end
    task.loss(model, batch).backward()
    with pytest.raises(FitError, match="trains an encoder-decoder, such as t5_micro; given gpt2_micro"):
        task.loss(create_model("gpt2_micro"), batch)
    (shown,) = task.examples("test", 1)
    assert "<0>" in shown["input"] and shown["truth"].startswith("<0>")


# -- in turn ------------------------------------------------------------------------------------------------


def test_a_schedule_gives_exactly_its_epochs():
    assert read_schedule("4c16m4c") == (True,) * 4 + (False,) * 16 + (True,) * 4
    task = AntLM(length=64, schedule="1c2m")
    assert [task.at(epoch).causal for epoch in range(6)] == [True, False, False, True, False, False]


@pytest.mark.parametrize("schedule", ["4c", "4c0m", "16m"])
def test_a_schedule_without_one_kind_is_an_error(schedule: str):
    with pytest.raises(ValueError, match=r"has no (masked|causal) epochs: alternation needs both kinds"):
        read_schedule(schedule)


@pytest.mark.parametrize("schedule", ["", "c4", "4x", "4c 4m"])
def test_a_schedule_of_another_form_is_an_error(schedule: str):
    with pytest.raises(ValueError, match=r"followed by c .causal. or m .masked., as in '4c16m4c'"):
        read_schedule(schedule)


def test_the_loop_trains_each_epoch_under_its_objective():
    task = AntLM(length=64, schedule="1c1m")
    with joined("cpu") as group:
        feed = Feed(task, TrainConfig(batch_size=256), group)
        kinds = [bool(feed.make(step)[0]["causal"].all()) for step in range(0, 4 * feed.epoch_steps, feed.epoch_steps)]
    assert kinds == [True, False, True, False]


def test_both_modes_share_all_weights_and_differ_in_what_they_see():
    model = create_model("llama_micro", vocab_size=257).eval()
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    for causal in (True, False):
        set_causal(model, causal)
        tokens = model.embedding(torch.randint(0, 256, (1, 12))).detach().requires_grad_()
        model.logits(model.norm(model.blocks(tokens, None)))[0, 5].square().sum().backward()
        later = tokens.grad[0, 6:].abs()
        assert (later == 0).all() if causal else (later.sum(-1) > 0).all()
    assert before == {name: p.data_ptr() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", [n for n in parts("mixer") if part_class(n).switchable])
def test_a_mixer_that_is_switched_is_one_that_was_built_so(name: str):
    from anyformer.core.build import build

    def made(causal: bool) -> nn.Module:
        torch.manual_seed(0)
        return build(tiny(name), "mixer", dim=12, grid=(16,), causal=causal).eval()

    x = tokens((16,))[..., :12] if tokens((16,)).shape[-1] >= 12 else torch.randn(2, 16, 12)
    for causal in (True, False):
        switched = made(not causal)
        set_causal(switched, causal)
        with torch.no_grad():
            torch.testing.assert_close(switched(x), made(causal)(x))


def test_a_model_that_cannot_be_switched_is_an_error():
    with pytest.raises(FitError, match="mamba cannot be switched between looking back and looking to both sides"):
        set_causal(create_model("mamba_micro"), False)


def test_a_base_without_a_mask_token_is_an_error():
    task = AntLM(length=64)
    batch = task.reading(False).sample("valid", torch.arange(2))
    with pytest.raises(ValueError, match="takes scores of 257 words at every token"):
        task.loss(create_model("llama_micro", vocab_size=256), {**batch, "ids": batch["ids"].clamp(max=255)})


@pytest.mark.parametrize("name", ["text", "documents"])
def test_an_encoder_is_not_measured_by_tokens_that_it_sees(name: str):
    task: Any = create_task(name, length=32)
    model = create_model("bert_micro", **task.model_options(), head=Spec("masked_lm"))
    with pytest.raises(FitError, match="an encoder sees the tokens that are to be predicted: take a decoder"):
        task.loss(model, task.sample("train", torch.arange(2)))


def test_a_model_without_scores_of_words_is_an_error():
    task = create_task("masked_text", length=32)
    model = create_model("bert_micro", **{**task.model_options(), "head": Spec("classifier"), "num_classes": 2})
    with pytest.raises(FitError, match=r"takes scores of 257 words at every token; this model gives \(2, 2\)"):
        task.loss(model, task.sample("train", torch.arange(2)))


def test_antlm_measures_both_objectives_and_leaves_the_model_causal():
    task = AntLM(length=64)
    result = train("llama_micro", task, TrainConfig(budget="3steps", batch_size=8, evaluations=1), progress=False)
    found = result.metrics
    assert found["mean_loss"] == pytest.approx((found["next_token_loss"] + found["masked_loss"]) / 2)
    assert all(block.mixer.causal for block in result.model.blocks)
    answer = task.predict(result.model, ["the statement"], tokens=4)[0]
    assert {"continuation", "masked", "restored"} <= set(answer)


@pytest.mark.parametrize(("name", "model"), [("masked_text", "bert_micro"), ("span_corruption", "t5_micro")])
def test_a_text_that_is_too_short_to_lose_anything_is_named(name: str, model: str):
    task = create_task(name, length=32)
    with pytest.raises(DataError, match=f"the task '{name}' takes texts of two tokens or more; given 'a'"):
        task.predict(create_model(model, **task.model_options()), ["a"])


def test_the_tasks_are_known():
    assert {"masked_text", "span_corruption", "antlm", "documents", "multiple_choice"} <= set(index()["tasks"])


def test_what_is_put_around_a_task_stays_there_in_every_epoch():
    class Halved(AroundTask):
        def loss(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.task.loss(model, batch) / 2

    task = AntLM(length=16, schedule="1c1m")
    around = Halved(task)
    for epoch, causal in enumerate((True, False)):
        now = around.at(epoch)
        assert type(now) is Halved and now.causal is causal and now.task.causal is causal


def test_an_encoder_that_only_looks_back_may_predict():
    task: Any = create_task("text", length=32)
    mamba = Spec("prenorm", mixer=Spec("mamba"), ffn=Spec("mlp"))
    model = create_model("bert_micro", **task.model_options(), block=mamba, head=Spec("masked_lm"))
    assert task.loss(model, task.sample("train", torch.arange(2))).isfinite()
