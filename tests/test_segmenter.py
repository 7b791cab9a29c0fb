"""Segmenters: every backbone with every decode head, volumes, sizes, and the decode heads' own promises."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, model_spec
from anyformer.blocks.dcfam import DCFAM
from anyformer.blocks.decode import FPNDecoder, MLPDecoder, resized
from anyformer.core.errors import AnyformerError, FitError, OptionError, SizeError
from anyformer.core.registry import index
from anyformer.core.spec import Spec
from anyformer.layers.feedforward.mix_ffn import MixFFN
from anyformer.models.dense.segmenter import segmenter
from parts import stirred

BACKBONES = [n for n in index()["variants"] if n.endswith("_micro") and model_spec(n).name in ("isotropic", "pyramid")]


@pytest.mark.parametrize("head", ["mlp_decoder", "fpn_decoder"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_takes_every_head(backbone: str, head: str):
    torch.manual_seed(0)
    model = create_model(segmenter(backbone, Spec(head, dim=8), num_classes=5, image_size=16, in_channels=2))
    scores = model(torch.randn(2, 2, 16, 16))
    assert scores.shape == (2, 5, 16, 16) and scores.isfinite().all()
    (scores * torch.randn_like(scores)).sum().backward()
    assert all(p.grad is not None for p in model.head.parameters())
    first = next(model.backbone.parameters())
    assert first.grad is not None and first.grad.abs().sum() > 0


def test_a_backbone_by_its_name_is_its_spec():
    named = create_model("segmenter_micro", backbone="swin_micro", image_size=16)
    spelled = create_model("segmenter_micro", backbone=model_spec("swin_micro"), image_size=16)
    assert {n: p.shape for n, p in named.named_parameters()} == {n: p.shape for n, p in spelled.named_parameters()}


def test_layers_choose_maps_of_an_isotropic_backbone():
    model = create_model(segmenter("vit_micro", Spec("fpn_decoder", dim=8), layers=(0, -1), image_size=16))
    assert len(model.norms) == 2 and len(model.features(torch.randn(1, 3, 16, 16))) == 2
    assert model(torch.randn(1, 3, 16, 16)).shape == (1, 2, 16, 16)


def test_only_what_features_need_is_built():
    model = create_model(segmenter("convnext_micro", image_size=16))
    model(torch.randn(2, 3, 16, 16)).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_what_is_no_backbone_is_refused():
    with pytest.raises(FitError, match="a backbone is an image model, such as swin_tiny or vit_small; given decoder"):
        create_model(segmenter("gpt2_micro"))
    with pytest.raises(FitError, match="given mlp"):
        create_model(Spec("segmenter", backbone=Spec("mlp")))
    with pytest.raises(FitError, match="classifier is a head; this place takes a decode head"):
        create_model(segmenter("swin_micro", "classifier", image_size=16))
    with pytest.raises(OptionError, match="at least one class; given num_classes=0"):
        create_model("segmenter_micro", num_classes=0)


def test_images_of_other_sizes_are_filled_up_and_cut_back():
    model = create_model("segmenter_micro", multiple=8).eval()
    assert model(torch.randn(1, 3, 19, 30)).shape == (1, 2, 19, 30)
    refusing = create_model("segmenter_micro", multiple=8, rest="refuse")
    with pytest.raises(SizeError, match=r"multiples of 8.*given 19x30, the nearest is 16x32"):
        refusing(torch.randn(1, 3, 19, 30))
    with pytest.raises(SizeError, match=r"given a tensor of shape \(1, 3, 8, 8, 8\)"):
        model(torch.randn(1, 3, 8, 8, 8))


@pytest.mark.parametrize("make", [MLPDecoder, FPNDecoder])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_decode_heads_join_any_maps_of_any_rank(make, rank: int):
    head = stirred(make((6, 4, 3), dim=8, num_classes=2, rank=rank)).eval()
    maps = [torch.randn(1, c, *(s,) * rank) for c, s in ((6, 5), (4, 3), (3, 2))]
    before = head(maps)
    assert before.shape == (1, 2, *(5,) * rank)
    for i in range(3):  # every level counts
        changed = [m + (i == j) for j, m in enumerate(maps)]
        assert (head(changed) - before).abs().max() > 1e-4


def test_the_mlp_decoder_is_its_equation():
    torch.manual_seed(0)
    head = MLPDecoder((6, 4), dim=5, num_classes=3).eval()
    fine, coarse = torch.randn(1, 6, 4, 4), torch.randn(1, 4, 2, 2)
    first, second = (
        torch.einsum("oc,bchw->bohw", level.weight, x) + level.bias.view(1, -1, 1, 1)
        for level, x in zip(head.levels, (fine, coarse), strict=True)
    )
    joined = torch.cat([resized(second, (4, 4)), first], 1)
    fused = torch.einsum("oc,bchw->bohw", head.fuse.weight, joined) / (1 + head.norm.eps) ** 0.5
    expected = torch.einsum("oc,bchw->bohw", head.classify.weight, fused.relu()) + head.classify.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(head([fine, coarse]), expected, rtol=1e-4, atol=1e-5)


def test_mix_ffn_tells_tokens_at_the_border_from_those_inside():
    torch.manual_seed(0)
    ffn = stirred(MixFFN(4, ratio=2.0))
    flat = ffn(torch.ones(1, 6, 6, 4))
    torch.testing.assert_close(flat[:, 2:4, 2:4], flat[:, 2:3, 2:3].expand(-1, 2, 2, -1))
    assert (flat[:, 0, 0] - flat[:, 2, 2]).abs().max() > 1e-3
    with pytest.raises(OptionError, match="odd"):
        MixFFN(4, kernel=2)


def test_dcfam_takes_four_halved_maps_and_says_so():
    with pytest.raises(OptionError, match="dcfam joins four maps; this backbone gives 2"):
        create_model(segmenter("swin_micro", "dcfam", image_size=16))
    head = DCFAM((4, 6, 8, 10))
    with pytest.raises(OptionError, match="halved from one to the next; this backbone's are 8x8, 8x8"):
        head([torch.randn(1, c, s, s) for c, s in ((4, 8), (6, 8), (8, 4), (10, 2))])
    assert head([torch.randn(2, c, s, s) for c, s in ((4, 9), (6, 5), (8, 3), (10, 2))]).shape == (2, 2, 9, 9)


@pytest.mark.parametrize("name", ["segformer_micro", "segmenter_micro", "segformer3d_micro", "dcswin_micro"])
def test_errors_stay_errors_of_ours(name: str):
    with pytest.raises(AnyformerError):
        create_model(name, head=Spec("classifier"))
