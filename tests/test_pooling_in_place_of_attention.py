"""PoNet and token pairs beyond the contract: what each token sees, sections, streams, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import nbytes
from anyformer.layers.pooling.ponet import PoNet, section_maximum
from anyformer.layers.pooling.token_pair import TokenPair, TokenPairMean
from anyformer.methods.decoding.generate import generate
from anyformer.methods.pretraining.sentence_structure import NEXT, OTHER, PREVIOUS, sentence_pairs


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ponet(**options: int) -> PoNet:
    torch.manual_seed(0)
    return PoNet(8, heads=2, **options).eval()


def test_ponet_is_the_published_composition():
    mixer, x = ponet(section=4), draw(2, 10, 8)
    q, k, o, s, around = (part(x) for part in (mixer.q, mixer.k, mixer.o, mixer.section_map, mixer.local_map))
    g = []
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        weights = (q[..., own].mean(1, keepdim=True) @ k[..., own].mT / 2).softmax(-1)
        g.append(weights @ k[..., own])
    sections = torch.cat([s[:, i : i + 4].amax(1, keepdim=True).expand(-1, min(4, 10 - i), -1) for i in (0, 4, 8)], 1)
    local = torch.stack([around[:, max(0, t - 1) : t + 2].amax(1) for t in range(10)], 1)
    expected = mixer.out((torch.cat(g, -1) + sections) * o + local)
    torch.testing.assert_close(mixer(x), expected, rtol=1e-5, atol=1e-6)


def test_numbered_sections_are_blocks_where_they_number_blocks():
    mixer, x = ponet(section=4), draw(2, 10, 8)
    numbers = (torch.arange(10) // 4).expand(2, -1)
    torch.testing.assert_close(mixer(x, sections=numbers), mixer(x))
    sentences = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2, 3]] * 2)
    assert not torch.allclose(mixer(x, sections=sentences), mixer(x))
    found = section_maximum(x, sentences)
    torch.testing.assert_close(found[:, 3], x[:, 3:5].amax(1))
    torch.testing.assert_close(found[:, 9], x[:, 9])


def test_one_section_is_one_vector():
    mixer, x = ponet(section=100), draw(2, 10, 8)
    found = mixer.blocks(x)
    assert torch.equal(found, x.amax(1, keepdim=True).expand_as(x))


def test_a_window_of_one_is_the_token_itself():
    mixer, x = ponet(window=1, section=4), draw(2, 10, 8)
    q, k, o, s, around = (part(x) for part in (mixer.q, mixer.k, mixer.o, mixer.section_map, mixer.local_map))
    expected = mixer.out((mixer.whole(q.mean(1, keepdim=True), k, None) + mixer.blocks(s)) * o + around)
    torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize("valid", [6, 7, 1])
def test_padding_behind_a_text_changes_nothing_in_it(valid: int):
    mixer, x = ponet(section=4), draw(1, valid, 8)
    padded = torch.cat([x, draw(1, 10 - valid, 8, seed=2) * 100], 1).requires_grad_()
    found = mixer(padded, Segments.from_lengths([valid], 10))
    torch.testing.assert_close(found[:, :valid], mixer(x), rtol=1e-5, atol=1e-6)
    found[:, :valid].sum().backward()
    assert padded.grad is not None and padded.grad.isfinite().all() and not padded.grad[:, valid:].any()


def test_operations_of_ponet_grow_with_the_tokens():
    counts = []
    for length in (1024, 16384):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            ponet(section=16)(draw(1, length, 8))
        counts.append(counter.get_total_flops())
    assert 16 / 1.5 <= counts[1] / counts[0] <= 16 * 1.5


def test_sections_that_are_none_are_refused():
    mixer, x = ponet(), draw(2, 10, 8)
    with pytest.raises(SizeError, match=r"\(2, 10\) numbers for these tokens; given \(2, 9\)"):
        mixer(x, sections=torch.zeros(2, 9, dtype=torch.long))
    with pytest.raises(DataError, match="from the first token on; given numbers from 1 to 1"):
        mixer(x, sections=torch.ones(2, 10, dtype=torch.long))
    with pytest.raises(OptionError, match=r"ponet\.window is odd"):
        PoNet(8, heads=2, window=4)
    with pytest.raises(OptionError, match="1 or more"):
        PoNet(8, heads=2, section=0)


def test_published_ponets_build():
    for task, classes in (("listops", 10), ("image", 10), ("pathfinder32", 2), ("text", 2)):
        model = create_model(f"official:lra_ponet_{task}").eval()
        ids = torch.randint(32, (1, 40))
        assert model(ids).shape == (1, classes)
    # 213,760 of the reference's encoder, and the authors' head of 128 hidden channels
    assert create_model("ponet_lra_listops").num_parameters() == 213_760 + 64 * 128 + 128 + 128 * 10 + 10


@pytest.mark.parametrize("depth", [1, 3])
def test_blocks_of_pairs_see_as_many_tokens_back(depth: int):
    model = create_model("causal_generation_micro", depth=depth, **{"position": None}).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    reach = set()
    for seed in range(20):
        ids = torch.randint(256, (1, 12), generator=torch.Generator().manual_seed(seed))
        for t in range(12):
            changed = ids.clone()
            changed[0, t] = (ids[0, t] + 7) % 256
            moved = (model.tokens(ids) - model.tokens(changed)).abs().sum(-1)[0] > 1e-6
            reach |= {int(i) - t for i in moved.nonzero()}
    assert reach == set(range(depth + 1))


def test_pairs_have_nothing_to_learn_and_keep_one_token():
    pair, mean = TokenPair(causal=True), TokenPairMean(causal=True)
    assert not list(pair.parameters()) + list(mean.parameters())
    x = draw(1, 500, 8)
    _, one = pair.extend(x, pair.init_state(1, like=x))
    _, other = mean.extend(x, mean.init_state(1, like=x))
    assert nbytes(one) == 8 * 4 and nbytes(other) == (8 + 8 + 1) * 4
    attention, ours = (create_model(n, depth=3).num_parameters() for n in ("gpt2_micro", "causal_generation_micro"))
    assert ours == create_model("gpt2_micro", depth=3, mixer="token_pair", **{"block.ffn.ratio": 4.0}).num_parameters()
    assert attention > 0


def test_the_mean_is_a_sum_over_a_count_in_every_document():
    x = draw(2, 12, 8)
    means = x.cumsum(1) / torch.arange(1, 13)[:, None]
    before = torch.cat([x[:, :1], x[:, :-1]], 1)
    torch.testing.assert_close(TokenPairMean(causal=True)(x), torch.maximum(x, before) + means, rtol=1e-6, atol=1e-6)
    packed = TokenPairMean(causal=True)(x, Segments(torch.tensor([[0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 0, 0]] * 2)))
    for start, end in ((2, 5), (5, 9), (9, 10)):
        alone = TokenPairMean(causal=True)(x[:, start:end])
        torch.testing.assert_close(packed[:, start:end], alone, rtol=1e-5, atol=1e-6)


def test_sums_of_half_precision_are_wide():
    x = torch.ones(1, 3000, 4, dtype=torch.bfloat16)
    mixer = TokenPairMean(causal=True)
    y, state = mixer.extend(x, mixer.init_state(1, like=x))
    assert y.dtype == torch.bfloat16 and bool((y == 2).all()) and state["sum"].dtype == torch.float32


def test_pairs_in_an_encoder_are_refused():
    with pytest.raises(FitError, match="token_pair looks back only, and this model sees both sides"):
        create_model("bert_micro", mixer="token_pair")
    both = create_model("bert_micro", mixer=Spec("bidirectional", mixer=Spec("token_pair")))
    assert both(torch.randint(256, (1, 9))).shape == (1, 2)


@pytest.mark.parametrize("name", ["causal_generation_micro", "causal_generation_mean_micro", "complexformer_micro"])
def test_prompts_of_several_lengths_are_continued_as_if_alone(name: str):
    torch.manual_seed(0)
    model = create_model(name)
    prompts = [[5, 6, 7, 8], [9], [1, 2]]
    texts = generate(model, prompts, max_new_tokens=6)
    for prompt, text in zip(prompts, texts, strict=True):
        assert torch.equal(generate(model, [prompt], max_new_tokens=6)[0], text)
    torch.manual_seed(1)
    ids = torch.randint(256, (1, 30))
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), ids], 1)
    left = Segments.from_lengths([30], 35, side="left")
    torch.testing.assert_close(model.eval()(padded, left)[:, 5:], model(ids), rtol=1e-4, atol=1e-5)


def test_pairs_of_sentences_are_what_they_are_called():
    documents = [[(d, i) for i in range(n)] for d, n in enumerate((5, 1, 30, 0, 2))]
    pairs = sentence_pairs(documents, 3000, seed=3)
    assert pairs == sentence_pairs(documents, 3000, seed=3) != sentence_pairs(documents, 3000, seed=4)
    counts = [sum(pair.label == label for pair in pairs) for label in (NEXT, PREVIOUS, OTHER)]
    assert all(900 < count < 1100 for count in counts)
    for pair in pairs:
        apart = pair.second[1] - pair.first[1]
        same = pair.first[0] == pair.second[0]
        assert (same, apart) == {NEXT: (True, 1), PREVIOUS: (True, -1)}.get(pair.label, (False, apart))
    # 4 + 29 + 1 neighbours
    assert 29 / 34 - 0.05 < sum(pair.first[0] == 2 for pair in pairs) / 3000 < 29 / 34 + 0.05
    assert {pair.second[0] for pair in pairs if pair.label == OTHER} == {0, 1, 2, 4}


@pytest.mark.parametrize("documents", [[["a", "b"]], [["a"], ["b"]], [["a", "b"], []]])
def test_pairs_need_another_text_and_neighbours(documents: list[list[str]]):
    with pytest.raises(DataError, match="two documents or more, one of which has two sentences"):
        sentence_pairs(documents, 3)
