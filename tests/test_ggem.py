"""GGeM and GeM pooling: between mean and maximum, one exponent for each group of channels."""

from __future__ import annotations

import pytest
import torch

from anyformer import Spec, create_model
from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.layers.pooling.generalized import GeneralizedMeanPool


def positive(*shape: int, low: float = 0.1) -> torch.Tensor:
    return low + (1 - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_with_an_exponent_of_one_it_is_the_mean_of_the_clamped_tokens():
    x = torch.randn(3, 7, 7, 12)
    pool = GeneralizedMeanPool(12, groups=3, p=1.0)
    torch.testing.assert_close(pool(x), x.clamp(min=1e-6).mean((1, 2)), rtol=1e-6, atol=1e-6)


def test_with_a_large_exponent_it_is_nearly_the_maximum():
    x = positive(4, 49, 8)
    y, top = GeneralizedMeanPool(8, p=64.0)(x), x.amax(1)
    assert ((top - y) <= 0.1 * top).all() and (y <= top + 1e-6).all()
    small = GeneralizedMeanPool(8, p=64.0)(1e-3 * x)  # powers of such values are no numbers of single precision
    torch.testing.assert_close(small, 1e-3 * y, rtol=1e-5, atol=0)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 10.0])
def test_it_lies_between_mean_and_maximum(p: float):
    x = positive(4, 16, 8)
    y = GeneralizedMeanPool(8, groups=4, p=p)(x)
    assert (y >= x.mean(1) - 1e-6).all() and (y <= x.amax(1) + 1e-6).all()


def test_one_group_is_gem_and_groups_have_exponents_of_their_own():
    x = positive(2, 25, 6)
    expected = (x**3).mean(1) ** (1 / 3)
    torch.testing.assert_close(GeneralizedMeanPool(6)(x), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(GeneralizedMeanPool(6, groups=2)(x), expected, rtol=1e-5, atol=1e-6)
    grouped = GeneralizedMeanPool(6, groups=2)
    with torch.no_grad():
        grouped.p[1] = 1.0
    torch.testing.assert_close(grouped(x)[:, :3], expected[:, :3], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grouped(x)[:, 3:], x.mean(1)[:, 3:], rtol=1e-5, atol=1e-6)


def test_the_order_of_tokens_does_not_matter():
    x = torch.randn(2, 20, 6)
    pool = GeneralizedMeanPool(6, groups=3)
    torch.testing.assert_close(pool(x), pool(x[:, torch.randperm(20)]), rtol=1e-5, atol=1e-6)


def test_gradient_reaches_every_exponent_and_agrees_with_differences():
    pool = GeneralizedMeanPool(6, groups=3).double()
    x = positive(2, 9, 6).double()
    (pool(x) * torch.randn(2, 6).double()).sum().backward()
    assert pool.p.grad is not None and (pool.p.grad != 0).all()

    def at(x, p):
        return torch.func.functional_call(pool, {"p": p}, (x,))

    assert torch.autograd.gradcheck(at, (x.requires_grad_(), pool.p.detach().requires_grad_()))


def test_padding_and_class_tokens_are_left_out():
    pool = GeneralizedMeanPool(4, groups=2)
    x = torch.randn(2, 10, 4)
    valid = torch.ones(2, 10, dtype=torch.bool)
    valid[:, 7:] = False
    other = torch.where(valid[..., None], x, 9.0 + x)
    torch.testing.assert_close(pool(other, Segments.from_mask(valid)), pool(x[:, :7]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pool(x, prefix=3), pool(x[:, 3:]))
    assert pool(x, Segments.from_mask(torch.zeros(2, 10, dtype=torch.bool))).isfinite().all()


def test_it_pools_the_tokens_of_any_image_model():
    head = Spec("classifier", pool=Spec("generalized_mean", groups=4))
    for name in ("vit_micro", "swin_micro", "pvt_micro"):
        stages = {"stages.1.prefix": 0} if name == "pvt_micro" else {}
        model = create_model(name, num_classes=3, head=head, **stages)
        model(torch.rand(2, 3, *model.image_size)).sum().backward()
        assert model.head.pool.p.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 4}, "4 groups do not divide 6 channels; groups that fit: 1, 2, 3, 6"),
        ({"groups": 0}, "groups that fit"),
        ({"p": 0.0}, "above 0 .*given p=0.0"),
        ({"p": -3.0}, "above 0"),
        ({"eps": 0.0}, "eps=0.0"),
    ],
)
def test_groups_and_exponents_that_make_no_sense_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        GeneralizedMeanPool(6, **options)
