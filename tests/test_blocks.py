"""Blocks: what they are told of their place reaches their parts."""

from __future__ import annotations

import pytest
import torch

from anyformer.blocks.block import Place
from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.spec import Spec
from parts import stirred

ATTENTION = Spec("attention", heads=2)
CAUSAL = {
    "prenorm": Spec("prenorm", mixer=ATTENTION),
    "respostnorm_main": Spec("respostnorm_main", mixer=ATTENTION),
    "single_branch": Spec("single_branch", mixer=ATTENTION),
    "meta_path": Spec("meta_path", choices=(Spec("prenorm", mixer=ATTENTION),)),
    "prenorm_closed": Spec("prenorm_closed", mixer=ATTENTION),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_block_sees_no_later_token(name: str):
    block = stirred(build(CAUSAL[name], "block", dim=8, grid=(6,), causal=True)).eval()
    x = torch.randn(2, 6, 8)
    other = torch.cat([x[:, :4], torch.randn(2, 2, 8)], 1)
    with torch.no_grad():
        torch.testing.assert_close(block(x)[:, :4], block(other)[:, :4], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(block(x)[:, 4:], block(other)[:, 4:])


@pytest.mark.parametrize("name", ["respostnorm_main", "prenorm_closed"])
def test_a_block_with_a_last_norm_continues_as_it_began(name: str):
    block = stirred(build(CAUSAL[name], "block", dim=8, grid=(6,), causal=True)).eval()
    x = torch.randn(2, 6, 8)
    with torch.no_grad():
        first, state = block.extend(x[:, :4], block.init_state(2, like=x))
        second, _ = block.extend(x[:, 4:], state)
        torch.testing.assert_close(torch.cat([first, second], 1), block(x), rtol=1e-5, atol=1e-6)


def test_a_block_that_cannot_be_causal_says_so():
    with pytest.raises(FitError, match="cannot be causal"):
        build(Spec("global_perception", unit=4), "block", dim=16, grid=(6, 6), causal=True)


ALL_SEE_ALL = {
    "nested": Spec("nested", inner=Spec("prenorm", mixer=ATTENTION), outer=Spec("prenorm", mixer=ATTENTION)),
    **{
        name: Spec(name)
        for name in ("basic_block", "bottleneck", "detection_encoder", "detection_decoder", "deformable_decoder")
    },
}


@pytest.mark.parametrize("name", ALL_SEE_ALL)
def test_a_block_that_is_not_told_of_causality_refuses_it(name: str):
    with pytest.raises(FitError, match=f"{name} has no order among its tokens and cannot be causal"):
        build(ALL_SEE_ALL[name], "block", dim=16, grid=(4, 4), causal=True)
    build(ALL_SEE_ALL[name], "block", dim=16, grid=(4, 4), causal=False)


def test_a_place_tells_each_kind_of_part_what_concerns_it():
    place = Place(8, (6,), causal=True, layer=2, layers=3, drop_path=0.5, dropout=0.25)
    assert place.build(ATTENTION, "mixer").causal
    assert place.build("add", "residual").dropout == 0.25
    assert place.build("layernorm", "norm").weight.shape == (8,)
    inner = place.build(Spec("prenorm", mixer=ATTENTION), "block", dim=16)
    assert inner.place == Place(16, (6,), True, 2, 3, 0.5, 0.25)


def test_a_mid_norm_block_takes_a_channel_mixer_that_sees_neighbours():
    """Its second branch joins the normed stream, whatever is told the channel mixer."""
    block = stirred(build(Spec("midnorm", mixer="identity", ffn=Spec("leff", ratio=1.0)), "block", dim=8, grid=(4, 6)))
    x = torch.randn(2, 4, 6, 8)
    y = block.norm2(x + block.mixer(block.norm1(x)))
    torch.testing.assert_close(block.eval()(x), y + block.ffn(y))
