"""Rankers of long documents: chunks, regions, padding, cost, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anyformer import create_model
from anyformer.core.build import build
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.lab.profile import count_operations
from anyformer.layers.pooling.kernels import GaussianKernels
from anyformer.models.language.tk import sines
from parts import stirred


def ranker(name: str = "tkl_micro", **options: Any):
    torch.manual_seed(0)
    return stirred(create_model(name, **options), 0.05).eval()


def texts(batch: int, terms: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, terms), generator=generator)


def test_a_term_beyond_a_chunk_s_extension_changes_none_of_its_states():
    model = ranker()  # chunks of 20 with 5 terms on either side
    ids = texts(1, 70)
    states = model.read(ids)
    for place in (0, 19, 24, 25, 30, 47, 69):
        changed = ids.clone()
        changed[0, place] = (changed[0, place] + 1) % 256
        moved = (model.read(changed) - states).abs().sum(-1)[0] > 1e-6
        chunk = [c for c in range(4) if 20 * c - 5 <= place < 20 * c + 25]
        theirs = [t for c in chunk for t in range(20 * c, min(20 * c + 20, 70))]
        assert moved.nonzero()[:, 0].tolist() == theirs


@pytest.mark.parametrize("terms", [1, 3, 14, 21, 40, 63])
@pytest.mark.parametrize("name", ["tkl_micro", "tk_micro"])
def test_padding_and_empty_chunks_leave_the_score(name: str, terms: int):
    model = ranker(name)
    query, document = texts(2, 6), texts(2, terms, seed=1)
    expected = model(query, document)
    for more in (1, 7, 20, 90):
        padded = torch.cat([document, texts(2, more, seed=2)], 1)
        segments = Segments.from_lengths([terms, terms], terms + more)
        torch.testing.assert_close(model(query, padded, document_segments=segments), expected, rtol=1e-5, atol=1e-5)
    longer = torch.cat([query, texts(2, 4, seed=3)], 1)
    segments = Segments.from_lengths([6, 6], 10)
    torch.testing.assert_close(model(longer, document, segments), expected, rtol=1e-5, atol=1e-5)


def test_rows_of_several_lengths_are_as_if_alone():
    model = ranker()
    query, document = texts(3, 6), texts(3, 100, seed=1)
    lengths = [100, 7, 41]
    together = model(query, document, document_segments=Segments.from_lengths(lengths, 100))
    alone = [model(query[i : i + 1], document[i : i + 1, :n]) for i, n in enumerate(lengths)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_packing_reads_only_chunks_that_hold_a_term():
    model = ranker()
    rows = []
    model.blocks[0].register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    model.read(texts(3, 100), Segments.from_lengths([100, 7, 41], 100))
    assert rows == [5 + 1 + 3]


def test_cost_is_linear_in_the_document():
    model = create_model("tkl", vocab_size=50).eval()
    query = texts(1, 8) % 50
    few, many = (count_operations(model, query, texts(1, terms) % 50) for terms in (520, 4160))
    assert 8 * 0.7 <= many / few <= 8 * 1.3
    quadratic = create_model("tk", vocab_size=50).eval()
    few, many = (count_operations(quadratic, query, texts(1, terms) % 50) for terms in (520, 4160))
    assert many / few > 8 * 1.3


def test_the_best_regions_do_not_overlap_and_bring_their_neighbours():
    model = ranker(window=4, stride=2, top=2)
    with torch.no_grad():
        model.regions.copy_(torch.tensor([1.0, 10, 100, 1000, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]))
    scores = torch.tensor([[0.0, 5, 9, 8, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]])
    # best: places 2 and 6 (3 overlaps 2); then those before, behind, two before, two behind each
    expected = 9 * 1 + 7 * 10 + 5 * 100 + 8 * 1e4 + 0 + 0 * 1e6 + 0
    torch.testing.assert_close(model.best(scores, scores > -1), torch.tensor([expected]))


def test_regions_are_sums_over_the_window():
    model = ranker(window=6, stride=2)
    x = torch.rand(1, 2, 25)
    slid = model._slide(x)
    for place in range(13):
        torch.testing.assert_close(slid[..., place], x[..., 2 * place : 2 * place + 6].sum(-1))
    assert not slid[..., 13:].any()


def test_kernels_are_gaussians_and_knrm_counts_exact_matches():
    kernels = GaussianKernels([1.0, 0.5], [0.1, 0.2])
    found = kernels(torch.tensor([[1.0, 0.5, 0.3]]))
    expected = torch.tensor([[[1.0, 3.7267e-06, 2.2898e-11], [0.0439, 1.0, 0.6065]]])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-9)
    model = ranker("knrm", vocab_size=50, dim=40)
    query, document = torch.tensor([[3, 4]]), torch.tensor([[3, 3, 9, 3, 8]])
    sums = model.matches(model.embed(query), model.embed(document), torch.ones(1, 5, dtype=torch.bool)).sum(-1)
    torch.testing.assert_close(sums[0, :, 0], torch.tensor([3.0, 0.0]))


def test_learned_saturation_starts_as_a_logarithm():
    torch.manual_seed(0)
    saturation: Any = build(Spec("learned_saturation"), "saturation", dim=8, kernels=3)
    sums = torch.rand(2, 4, 3, 5) * 20 + 0.1
    y = saturation(sums, torch.randn(2, 4, 8), torch.full((2, 5), 30.0))
    torch.testing.assert_close(y, sums.log(), rtol=0.06, atol=0.2)
    assert (saturation(2 * sums, torch.zeros(2, 4, 8), torch.ones(2, 5)) - y < 2).all()


def test_positions_have_both_ends_of_the_periods():
    table = sines(torch.arange(4), 6)
    torch.testing.assert_close(table[:, 0], torch.arange(4).float().sin())
    torch.testing.assert_close(table[:, 5], (torch.arange(4) / 10000).cos())


@pytest.mark.parametrize("name", ["tkl_micro", "tk_micro"])
def test_empty_texts_are_refused(name: str):
    model = ranker(name)
    query, document = texts(2, 6), texts(2, 30)
    with pytest.raises(ValueError, match=r"one term or more; of 2 given, those numbered \[1\] are empty"):
        model(query, document, document_segments=Segments.from_lengths([30, 0], 30))
    with pytest.raises(DataError, match=r"a query has one term or more; of 2 given, those numbered \[0, 1\]"):
        model(query, document, Segments.from_lengths([0, 0], 6))
    with pytest.raises(DataError, match="a document has one term or more"):
        model(query, document[:, :0])
    with pytest.raises(DataError, match="token ids lie between 0 and 255; given"):
        model(query, document + 256)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(SizeError, match=r"a query has up to 30 terms; given 31.*query_length=31"):
        ranker()(texts(1, 31), texts(1, 40))
    with pytest.raises(OptionError, match="a window no shorter than its stride; given chunk=20"):
        create_model("tkl_micro", window=2, stride=3)
    with pytest.raises(OptionError, match="a centre and a positive width each; given 2 centres"):
        create_model("tk_micro", centres=[1.0, 0.5], widths=[0.1])


def test_a_mixer_is_swapped_in_the_chunks():
    assert ranker(mixer="pooling")(texts(2, 6), texts(2, 50)).shape == (2,)
