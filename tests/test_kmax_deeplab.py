"""kMaX-DeepLab: one centre a pixel, Lloyd's step, masks that follow their queries, and what it refuses."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from anyformer import create_model, model_spec
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.layers.attention.axial.position_sensitive import PositionSensitiveAxial
from anyformer.layers.attention.cross.kmeans import KMeansCrossAttention, cluster_sums
from anyformer.layers.embedding.odd_grid import OddDownsample, OddPatchEmbedding
from anyformer.models.dense.kmax_pixels import PixelDecoder
from anyformer.models.dense.mask_matching import MaskPredictions, MaskSetLoss, MaskTruth
from parts import stirred


def identity(dim: int) -> KMeansCrossAttention:
    """K-means whose projections and norms change nothing."""
    cross = KMeansCrossAttention(dim).eval()
    with torch.no_grad():
        for part in (cross.value, cross.out):
            part.weight.copy_(torch.eye(dim))
        for norm in (cross.norm_value, cross.norm_sum, cross.norm_out):
            norm.weight.fill_(1)
            norm.running_var.fill_(1 - norm.eps)
    return cross


def perfect(truth: MaskTruth, queries: int, classes: int, sure: float = 20.0) -> MaskPredictions:
    """Predictions that say the truth, its segments at queries in reverse order."""
    b, m = truth.labels.shape
    logits = torch.zeros(b, queries, classes + 1)
    logits[..., -1] = sure
    masks = torch.zeros(b, queries, *truth.segments.shape[1:])
    for i in range(b):
        for s in range(m):
            query = queries - 1 - s
            logits[i, query, -1], logits[i, query, truth.labels[i, s]] = 0, sure
            masks[i, query] = sure * (truth.segments[i] == s)
    return MaskPredictions(logits, masks, torch.nn.functional.normalize(torch.randn(b, 4, *masks.shape[2:]), dim=1))


def truth(count: int = 2) -> MaskTruth:
    segments = torch.zeros(count, 8, 8, dtype=torch.int64)
    segments[:, :3, :5], segments[:, 5:, 2:], segments[0, 4] = 1, 2, -1
    return MaskTruth(torch.tensor([[0, 2, 1]] * count), segments)


def test_every_pixel_has_one_centre():
    """The sums of unit vectors, one a pixel, are the assignment matrix."""
    logits = torch.randn(3, 5, 40, requires_grad=True)
    chosen = cluster_sums(logits, torch.eye(40).expand(3, -1, -1))
    assert torch.equal(chosen.sum(1), torch.ones(3, 40)) and set(chosen.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(chosen.argmax(1), logits.argmax(1)) and not chosen.requires_grad


def test_the_update_is_a_lloyd_step():
    """With identity projections: the sums, per cluster, of the pixels nearest to each centre, as NumPy has them."""
    torch.manual_seed(0)
    centres, pixels = torch.randn(2, 4, 6), torch.randn(2, 30, 6)
    with torch.no_grad():
        found = centres + identity(6)(centres, pixels, centres @ pixels.transpose(1, 2))
    for c, p, y in zip(centres.numpy(), pixels.numpy(), found.numpy(), strict=True):
        expected = c.copy()
        nearest = (c @ p.T).argmax(0)
        for pixel, centre in zip(p, nearest, strict=True):
            expected[centre] += pixel
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_permuted_queries_permute_the_masks():
    torch.manual_seed(0)
    model = stirred(create_model("kmax_micro"), 0.05).eval()
    (images,) = model.example_inputs(batch=2)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model.predictions(images)
        model.centres.copy_(model.centres[order])
        after = model.predictions(images)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a.masks[:, order], b.masks, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a.logits[:, order], b.logits, rtol=1e-4, atol=1e-4)


def test_masks_are_supervised_at_every_layer_and_argmax_gives_no_gradient():
    torch.manual_seed(0)
    model = create_model("kmax_micro", decoder_depths=(2, 1)).train()
    (images,) = model.example_inputs(batch=2)
    answers = model(images, layers=True)
    assert len(answers) == 4 and {a.masks.shape for a in answers} == {(2, 8, 16, 16)}
    assert model(images).shape == (2, 4 * 8, 5 + 256) and model.eval()(images).shape == (2, 8, 5 + 256)
    first = model.decoder[0].predict.kernels.conv.weight
    (gradient,) = torch.autograd.grad(answers[-1].masks.square().sum(), first, retain_graph=True, allow_unused=True)
    assert gradient is None, "nothing reaches the first layer's masks from the last ones"
    loss = model.loss.total(
        answers, MaskTruth(torch.tensor([[0, 1], [2, 3]]), torch.arange(32).view(1, 1, 32).expand(2, 32, 32) // 16)
    )
    assert torch.autograd.grad(loss, first)[0].abs().sum() > 0


def test_matching_finds_the_best_total_and_the_truth_costs_nothing_but_contrast():
    loss, given = MaskSetLoss(), truth()
    torch.manual_seed(0)
    found = MaskPredictions(torch.randn(2, 5, 5), torch.randn(2, 5, 8, 8), torch.randn(2, 4, 8, 8))
    overlap = loss.overlap(found, given)
    gains = overlap.masks * overlap.classes
    for rows, (query, which) in zip(gains, loss.match(overlap, given.labels), strict=True):
        best = max(sum(float(rows[q, s]) for s, q in enumerate(p)) for p in permutations(range(5), 3))
        assert float(rows[query, which].sum()) == pytest.approx(best, abs=1e-6)
    right = perfect(given, 5, 4)
    overlap = loss.overlap(right, given)
    matches = loss.match(overlap, given.labels)
    assert [dict(zip(q.tolist(), s.tolist(), strict=True)) for q, s in matches] == [{2: 2, 3: 1, 4: 0}] * 2
    parts = loss.parts(right, given, overlap, matches)
    assert all(float(parts[name]) < 1e-3 for name in ("classes", "dice", "pixels")), parts


def test_the_weight_of_a_loss_is_what_is_right_in_the_other_respect():
    """MaX-DeepLab's equations 6 to 8: no class probability, no gradient for a mask; no overlap, none for a class."""
    loss, given = MaskSetLoss(), truth(1)
    right = perfect(given, 5, 4)
    wrong = right._replace(logits=torch.full_like(right.logits, 0.0).index_fill(2, torch.tensor([4]), 40.0))
    overlap = loss.overlap(wrong, given)
    matches = loss.match(overlap, given.labels)
    flat = wrong._replace(masks=(0 * wrong.masks).requires_grad_())
    dice = loss.parts(flat, given, overlap, matches)["dice"]
    assert torch.autograd.grad(dice, flat.masks)[0].abs().max() < 1e-5


def test_contrast_is_lowest_for_pixels_alike_inside_and_apart_between_segments():
    loss, given = MaskSetLoss(), truth(1)
    apart = torch.nn.functional.one_hot(given.segments.clamp(min=0), 3).movedim(-1, 1).float()
    alike = torch.ones(1, 3, 8, 8) / 3**0.5
    assert loss.contrast(apart, given) < loss.contrast(alike, given)
    changed = apart.clone()
    changed[0, :, 4] = torch.randn(3, 8)  # pixels of no segment
    torch.testing.assert_close(loss.contrast(changed, given), loss.contrast(apart, given))
    x = torch.nn.functional.normalize(torch.randn(1, 3, 8, 8), dim=1)
    segments, vectors = given.segments.flatten(), x.flatten(2)[0]
    segments, vectors = segments[segments >= 0], vectors[:, segments >= 0]
    same = (segments[:, None] == segments).float()
    by_pairs = -(same / same.sum(1, keepdim=True) * (vectors.T @ vectors / 0.3).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss.contrast(x, given), by_pairs, rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    few = MaskSetLoss(sampled=20)
    assert 0 < few.contrast(apart, given) < few.contrast(alike, given)


def test_position_sensitive_axis_is_its_equation():
    """Wang et al. 2020, arXiv:2003.07853, equation 4, written out for one head, norms that change nothing."""
    torch.manual_seed(0)
    axis = PositionSensitiveAxial(4, heads=1, span=6).width.eval()
    with torch.no_grad():
        for norm in (axis.norm_qkv, axis.norm_scores, axis.norm_values):
            norm.running_var.fill_(1 - norm.eps)
        x = torch.randn(1, 5, 4)
        q, k, v = (x[0] @ axis.qkv.weight.T).split((2, 2, 4), -1)
        table = [axis.query_positions.weight, axis.key_positions.weight, axis.value_positions.weight]
        for i in range(5):
            r = [t[torch.arange(5) - i + 5] for t in table]
            weights = (k @ q[i] + r[0] @ q[i] + (k * r[1]).sum(1)).softmax(0)
            torch.testing.assert_close(axis(x)[0, i], weights @ (v + r[2]), rtol=1e-4, atol=1e-4)
    with pytest.raises(SizeError, match="rows that fit have 1 to 6"):
        axis(torch.randn(1, 7, 4))


def test_odd_grids_keep_corners_on_corners():
    assert OddPatchEmbedding(8, size=4)(torch.randn(1, 3, 33, 129)).shape == (1, 9, 33, 8)
    assert OddPatchEmbedding(8, size=4)(torch.randn(1, 3, 32, 30)).shape == (1, 8, 8, 8)
    down = OddDownsample(8, 4, kernel=2, stride=2)
    x = torch.randn(1, 9, 8, 8)
    assert down(x).shape == (1, 5, 4, 4)
    moved = down(torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 1)))
    torch.testing.assert_close(down(x), moved)


@pytest.mark.parametrize("name", ["kmax_resnet50", "kmax_convnext_tiny", "kmax_resnet50_cityscapes"])
def test_published_variants_have_maps_of_their_strides(name: str):
    with torch.device("meta"):
        model = create_model(name, image_size=129)
        sizes = [m.shape[2] for m in model.features(torch.empty(1, 3, 129, 129))]
        assert sizes == ([33, 33] if model.stem else [33]) + [17, 9, 5]
        last = model.predictions(torch.empty(1, 3, 129, 129))[-1]
    assert last.masks.shape == (1, model.queries, 33, 33)
    assert last.logits.shape == (1, model.queries, model.num_classes + 1)


def test_mistakes_are_sentences():
    model = create_model("kmax_micro", queries=2)
    (images,) = model.example_inputs(batch=2)
    many = MaskTruth(torch.tensor([[0, 1, 2], [0, -100, -100]]), torch.zeros(2, 32, 32, dtype=torch.int64))
    with pytest.raises(DataError, match="an image has 3 segments, and the model finds at most 2: give it queries=3"):
        model.loss.total(model(images, layers=True), many)
    with pytest.raises(SizeError, match="takes 2 maps, the finest first; given 8x8, 16x16"):
        create_model("kmax_micro", maps=(1, 0))(images)
    with pytest.raises(SizeError, match="the finest first; given 16x16"):
        model.decode(model.features(images)[:1])
    with pytest.raises(OptionError, match="given queries=0"):
        create_model("kmax_micro", queries=0)
    with pytest.raises(OptionError, match="backbone's 2 maps; given 3, 2 and 2"):
        create_model("kmax_micro", widths=(16, 8, 8))
    with pytest.raises(OptionError, match="3 heads do not divide"):
        create_model(model_spec("kmax_micro").set(heads=3))
    assert isinstance(model.pixels, PixelDecoder)
