"""Reactive Transformer: turns of constant cost, a memory that is a set of slots, and conversations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.penalty import take_penalties
from anyformer.core.segments import Segments
from anyformer.core.state import select_rows
from anyformer.lab.profile import activation_memory, count_operations
from anyformer.methods.decoding.conversation import answer as answer_to
from parts import stirred


def reactive(**options: Any) -> Any:
    torch.manual_seed(0)
    return stirred(create_model("rxt_micro", **options), 0.1).eval()


def ids(length: int, seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randint(0, 256, (batch, length), generator=torch.Generator().manual_seed(seed))


def test_the_fiftieth_turn_costs_what_the_first_does():
    model, memory = reactive(), None
    costs = []
    for turn in range(50):
        query = ids(16, seed=turn)
        before = model.init_memory(2) if memory is None else memory
        if turn in (0, 49):
            costs.append((count_operations(model.read, query, before), activation_memory(model, query)))
        with torch.no_grad():
            memory = model.update(query[:, :8], query[:, 8:], before)
    assert costs[0] == costs[1] and memory.isfinite().all()
    plain = create_model("llama_micro")
    whole = [count_operations(plain, ids(16 * (turn + 1))) for turn in (0, 49)]
    assert whole[1] > 10 * whole[0]


def test_a_closed_gate_keeps_the_memory_bit_for_bit_and_an_open_one_replaces_it():
    model = reactive()
    memory = torch.randn(2, 2, 16, 48)
    with torch.no_grad():
        for layer in model.memory:
            layer.gate.fill_(-torch.inf)
        assert torch.equal(model.update(ids(5), ids(4, 1), memory), memory)
        for layer in model.memory:
            layer.gate.fill_(torch.inf)
        new = model.update(ids(5), ids(4, 1), memory)
        encoded = model.embedding(torch.cat([ids(5), ids(4, 1)], 1))
        for block, layer, slots, found in zip(
            model.encoder, model.memory, memory.unbind(1), new.unbind(1), strict=True
        ):
            encoded = block(encoded)
            torch.testing.assert_close(found, layer.attention(layer.norm(slots), encoded))


def test_slots_have_no_order():
    model, order = reactive(), torch.randperm(16)
    memory = torch.randn(2, 2, 16, 48)
    with torch.no_grad():
        torch.testing.assert_close(model.read(ids(9), memory), model.read(ids(9), memory[:, :, order]))
        for layer in model.memory:
            layer.gate.fill_(0.7)
        written = model.update(ids(5), ids(4), memory)[:, :, order]
        torch.testing.assert_close(model.update(ids(5), ids(4), memory[:, :, order]), written)


def test_a_row_is_its_turns_one_after_the_other():
    model, row = reactive(), ids(32 + 32 + 7)
    memory, found = model.init_memory(2), []
    with torch.no_grad():
        for piece in row.split(32, 1):
            found.append(model.read(piece, memory))
            memory = model.write(piece, memory)
        torch.testing.assert_close(model(row), torch.cat(found, 1))
        changed = row.clone()
        changed[:, 20] = (changed[:, 20] + 1) % 256
        apart = (model(changed) - model(row)).abs().amax((0, 2))
    assert (apart[:20] == 0).all() and apart[64:].max() > 1e-4  # two turns later, by memory alone


def test_padding_is_not_read_and_not_written():
    model, row = reactive(), ids(12)
    other = torch.cat([row[:, :9], ids(3, seed=5)], 1)
    segments = Segments.from_lengths([9, 9], 12)
    memory = torch.randn(2, 2, 16, 48)
    with torch.no_grad():
        torch.testing.assert_close(model.read(row, memory, segments)[:, :9], model.read(other, memory)[:, :9])
        alone = model.write(row[:, :9], memory)
        torch.testing.assert_close(model.write(other, memory, segments), alone, rtol=1e-4, atol=1e-5)


def test_a_turn_goes_on_as_it_began():
    model, row, memory = reactive(), ids(12), torch.randn(2, 2, 16, 48)
    with torch.no_grad():
        state, found = model.init_state(2, memory), []
        for piece in row.split([5, 1, 6], 1):
            y, state = model.extend(piece, state)
            found.append(y)
        torch.testing.assert_close(torch.cat(found, 1), model.read(row, memory), rtol=1e-4, atol=1e-5)
        turned = select_rows(state, torch.tensor([1, 0]))
        first = model.extend(row[:, :1].flip(0), turned)[0]
        torch.testing.assert_close(first.flip(0), model.extend(row[:, :1], state)[0], rtol=1e-4, atol=1e-5)


def test_a_conversation():
    model, query = reactive(), ids(6)
    answer, memory = answer_to(model, query, max_new_tokens=5)
    assert answer.shape == (2, 5) and memory.shape == (2, 2, 16, 48)
    torch.testing.assert_close(memory, model.update(query, answer, model.init_memory(2)))
    expected = query
    for _ in range(5):
        expected = torch.cat([expected, model.read(expected, model.init_memory(2))[:, -1:].argmax(-1)], 1)
    assert torch.equal(answer, expected[:, 6:])
    again, _ = answer_to(model, query, memory, max_new_tokens=5)
    assert again.shape == (2, 5)
    with pytest.raises(FitError, match="keeps no memory of turns"):
        answer_to(create_model("gpt2_micro"), query, max_new_tokens=1)


def test_wrong_memories_and_turns_say_what_fits():
    model = reactive()
    for wrong in ((3, 2, 16, 48), (2, 2, 15, 48), (2, 2, 16, 47), (2, 1, 16, 48)):
        with pytest.raises(SizeError, match=r"\(2, 2, 16, 48\); given \(" + ", ".join(map(str, wrong))):
            model.read(ids(5), torch.zeros(wrong))
        with pytest.raises(SizeError, match="init_memory"):
            model.init_state(2, torch.zeros(wrong))
        with pytest.raises(SizeError, match="init_memory"):
            model.update(ids(5), ids(2), torch.zeros(wrong))
    with pytest.raises(DataError, match=r"query of shape \(2, 5\) and an answer of shape \(2, 0\)"):
        model.update(ids(5), ids(0), model.init_memory(2))
    with pytest.raises(SizeError, match="32 ids at most; given 33"):
        model.read(ids(33), model.init_memory(2))
    with pytest.raises(OptionError, match="a slot"):
        reactive(slots=0)


def test_an_alpha_mixes_layers_and_experts():
    torch.manual_seed(0)
    names = ("decoder.mixer.head_dim", "decoder.cross.head_dim", "encoder.mixer.head_dim")
    hidden = {"decoder.ffn.hidden": 12, "decoder.ffn.experts": 3, "encoder.ffn.hidden": 24}
    small = dict.fromkeys(names, 4) | hidden
    model = create_model("rxt_alpha_nano", dim=32, depth=2, head_dim=4, slots=6, turn=12, vocab_size=256, **small)
    model = stirred(model, 0.1).eval()
    first, second = ids(12), ids(12, 1)
    with torch.no_grad():
        memory = model.write(first, model.init_memory(2))
        whole = model(torch.cat([first, second], 1))
        turns = [model.read(first, model.init_memory(2)), model.read(second, memory)]
        torch.testing.assert_close(whole, torch.cat(turns, 1))
        y, state = model.extend(second[:, :5], model.init_state(2, memory))
        rest, _ = model.extend(second[:, 5:], state)
        torch.testing.assert_close(torch.cat([y, rest], 1), whole[:, 12:], rtol=1e-4, atol=1e-4)
        changed = memory.clone()
        changed[:, 1] += 1
        moved = model.write(second, changed)[:, 0] - model.write(second, memory)[:, 0]
        assert moved.abs().max() > 1e-4  # a layer's slots hear of the other layer's
        with torch.autocast("cpu", torch.bfloat16):
            assert model(torch.cat([first, second], 1)).isfinite().all()
    model.train()(first).sum().backward()
    assert take_penalties(model) is not None
