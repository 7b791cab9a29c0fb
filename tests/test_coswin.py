"""CoSwin: Swin where the convolutions are silent, what crosses a window, its maps, sizes, and what does not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyformer import create_model, load_reference
from anyformer.core.build import build
from anyformer.core.errors import SizeError
from anyformer.core.spec import Spec
from anyformer.models.vision.coswin import coswin
from anyformer.models.vision.swin import swin
from golden import Golden
from parts import stirred

SMALL = {"depths": (2, 2), "heads": (2, 4)}


def silent(model: nn.Module) -> nn.Module:
    """The last layer of every convolution branch at zero."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "beside.narrow." in name:
                p.zero_()
    return model


def same_weights(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """Those of a Swin in a CoSwin of the same sizes."""
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected and missing and all(".beside." in name for name in missing)
    return ours


def test_with_silent_branches_it_is_timms_swin():
    golden = Golden("swin--swin_tiny_patch4_window7_224--timm")
    theirs = create_model("timm:swin_tiny_patch4_window7_224")
    load_reference(theirs, golden.state(), "timm")
    spec = coswin(96, (2, 2, 6, 2), (3, 6, 12, 24), window=7, patch=4, ratio=4.0, image_size=224)
    ours = silent(same_weights(create_model(spec), theirs)).eval()
    images = golden.inputs()
    with torch.no_grad():
        maps = ours.features(*images.values())
        golden.check({f"stages.{i}": m for i, m in enumerate(maps)} | {"logits": ours(*images.values())})


def test_in_small_too_and_not_where_they_speak():
    torch.manual_seed(0)
    theirs = stirred(create_model(swin(16, **SMALL, windows=2, patch=2, ratio=2.0, image_size=16)), 0.1)
    ours = same_weights(create_model(coswin(16, **SMALL, window=2, image_size=16)), theirs)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert (ours(images) - theirs(images)).abs().max() > 1e-3
        torch.testing.assert_close(silent(ours)(images), theirs(images), rtol=1e-5, atol=1e-5)


def block(shift: str = "none") -> nn.Module:
    """One block of windows of 4 on a grid of 8x8."""
    mixer = Spec("window", heads=2, window=4, shift=shift)
    spec = Spec("beside_prenorm", mixer=mixer, beside=Spec("local_enhancement"), ffn=Spec("mlp", ratio=2.0))
    torch.manual_seed(0)
    return stirred(build(spec, "block", dim=8, grid=(8, 8)))


def reached(module: nn.Module) -> torch.Tensor:
    """Which tokens of an 8x8 grid see the last one of the first window."""
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[0, 3, 3] = torch.randn(8)
    with torch.no_grad():
        return (module(changed) - module(x))[0].abs().sum(-1) > 1e-6


def test_a_pixel_reaches_the_next_window_through_the_branch_alone():
    speaking = block()
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[:4, :4] = True
    across = inside.clone()
    across[1:6, 1:6] = True  # two 3x3 convolutions
    assert torch.equal(reached(speaking), across)
    assert torch.equal(reached(silent(speaking)), inside)


def test_the_branch_sees_the_stream_before_the_norm():
    """As the authors' weights expect: a shift that a norm takes off arrives."""
    module = block()
    x = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        before, after = (module.norm1(t) for t in (x, x + 1))
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
        assert (module.beside(x) - module.beside(x + 1)).abs().max() > 1e-2
        assert (module(x + 1) - module(x) - 1).abs().max() > 1e-2


@pytest.mark.parametrize(("name", "size"), [("coswin_32", (32, 32)), ("coswin_32", (40, 24)), ("coswin_64", (64, 64))])
def test_grids_are_swins(name: str, size: tuple[int, int]):
    model = create_model(name, num_classes=3, **{f"stages.{i}.depth": 1 for i in range(3)}).eval()
    patch = 2 if name == "coswin_32" else 4
    images = torch.randn(1, 3, *size)
    theirs = create_model(swin(96, (1, 1, 1), (3, 6, 12), windows=4, patch=patch, ratio=2.0, image_size=32)).eval()
    assert [m.shape for m in model.features(images)] == [m.shape for m in theirs.features(images)]
    assert model(images).shape == (1, 3)


def test_images_that_patches_and_windows_do_not_divide_can_be_refused():
    options = {f"stages.{i}.block.{j}.mixer.rest": "refuse" for i in range(3) for j in range(2)}
    model = create_model("coswin_32", **options, **{f"stages.{i}.depth": 1 for i in range(3)})
    assert model(torch.randn(1, 3, 64, 32)).shape == (1, 1000)
    with pytest.raises(SizeError, match=r"map of 18x16 tokens is not made of whole windows of 4x4.*multiples of 4x4"):
        model(torch.randn(1, 3, 36, 32))
    with pytest.raises(SizeError, match=r"not made of whole 2x2 patches; sizes that fit are multiples of 2"):
        create_model("coswin_32", **{"embed.rest": "refuse"})(torch.randn(1, 3, 33, 32))
