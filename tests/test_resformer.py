"""ResFormer: positions by convolutions, any grid without resizing, several sizes in one loss, published sizes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from anyformer import create_model
from anyformer.core.errors import FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.lab.profile import count_operations
from anyformer.lab.train import TrainConfig, train
from anyformer.layers.attention.full import Attention
from anyformer.layers.attention.local_position import LocalPositionAttention
from anyformer.layers.position.global_position import GlobalPosition
from anyformer.layers.position.sine_map import SineMap
from anyformer.methods.augmentation.multi_resolution import MultiResolution, resized, scale_consistency
from anyformer.models.vision.resformer import VARIANTS
from anyformer.tasks.classification import Digits
from anyformer.weights.vision.resformer import NAMES
from parts import stirred

PUBLISHED = {"resformer_tiny": 5_689_192, "resformer_small": 21_986_536, "resformer_base": 86_431_720}
"""Parameters of the authors' code: DeiT's, less its positions, and the convolutions."""
DEIT = {"resformer_tiny": 5_717_416, "resformer_small": 22_050_664, "resformer_base": 86_567_656}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str):
    with torch.device("meta"):
        model = create_model(name)
        assert model.num_parameters() == PUBLISHED[name]
        deit = create_model(name.replace("resformer", "deit"))
        # 3x3 filters and a bias for each channel of the map, and for each channel of a head in each of 12 blocks
        width = model.stages[0].dim
        assert deit.num_parameters() == DEIT[name]
        assert model.num_parameters() - deit.num_parameters() == 10 * width + 12 * 10 * 64 - 197 * width
        least = count_operations(deit, torch.empty(1, 3, 224, 224))
        assert count_operations(model, torch.empty(1, 3, 224, 224)) == least + 9 * 196 * width * 13


def test_every_name_stands_for_a_variant():
    assert set(NAMES["official"].values()) == set(VARIANTS) - {"resformer_micro"}


@pytest.mark.parametrize("size", [(32, 32), (48, 16), (96, 160)])
def test_any_grid_with_the_same_weights(size: tuple[int, int]):
    model = create_model("resformer_tiny", num_classes=3, **{"stages.0.depth": 2}).eval()
    images = torch.randn(2, 3, *size)
    (image_map,) = model.features(images)
    assert image_map.shape == (2, 192, size[0] // 16, size[1] // 16)
    assert model(images).isfinite().all()


def test_nothing_is_made_for_one_grid():
    shapes = [
        {n: p.shape for n, p in create_model("resformer_tiny", image_size=side).named_parameters()}
        for side in (224, 96)
    ]
    assert shapes[0] == shapes[1]


def test_sizes_that_are_not_whole_patches_are_refused():
    with pytest.raises(SizeError, match=r"sizes that fit are multiples of 16, the nearest 224x192"):
        create_model("resformer_tiny", num_classes=3)(torch.randn(1, 3, 224, 200))


def test_global_positions_are_filtered_sines_of_the_share_of_the_side():
    part = stirred(GlobalPosition(8))
    x = torch.randn(2, 5, 7, 8)
    sines = SineMap(8).table(torch.ones(1, 5, 7, dtype=torch.bool))
    rows = (torch.arange(5) + 1) / (5 + 1e-6) * 2 * torch.pi
    torch.testing.assert_close(sines[0, :, 0, 0], rows.sin())  # half of the channels are the row's
    expected = F.conv2d(sines.movedim(-1, 1), part.conv.weight, part.conv.bias, padding=1, groups=8).movedim(1, -1)
    torch.testing.assert_close(part(x), x + expected)
    behind = torch.cat([torch.randn(2, 1, 8), x.flatten(1, 2)], 1)
    found = part(behind, grid=(5, 7))
    torch.testing.assert_close(found[:, 0], behind[:, 0])
    torch.testing.assert_close(found[:, 1:], (x + expected).flatten(1, 2))


@pytest.mark.parametrize("grid", [(12,), (4, 6), (2, 3, 4)])
def test_local_positions_start_as_plain_attention(grid):
    ours, plain = LocalPositionAttention(8, heads=2, grid=grid), Attention(8, heads=2)
    plain.qkv.load_state_dict(ours.qkv.state_dict())
    plain.out.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, *grid, 8)
    torch.testing.assert_close(ours(x), plain(x), rtol=1e-5, atol=1e-6)


def test_heads_share_the_filters_and_the_class_token_skips_them():
    mixer = stirred(LocalPositionAttention(8, heads=2, prefix=1, grid=(4, 6))).eval()
    plain = LocalPositionAttention(8, heads=2, prefix=1, grid=(4, 6)).eval()
    plain.load_state_dict({n: t if "local" not in n else torch.zeros_like(t) for n, t in mixer.state_dict().items()})
    for m in (mixer, plain):
        m.out = torch.nn.Identity()
    x = torch.randn(1, 25, 8)
    added = mixer(x, grid=(4, 6)) - plain(x, grid=(4, 6))
    v = mixer.qkv(x)[2][:, :, 1:]  # (1, heads, 24, 4)
    for head in range(2):
        image = v[:, head].mT.unflatten(-1, (4, 6))
        near = F.conv2d(image, mixer.local.weight, mixer.local.bias, padding=1, groups=4).flatten(2).mT
        torch.testing.assert_close(added[:, 1:, 4 * head : 4 * head + 4], near, rtol=1e-5, atol=1e-5)
    assert not added[:, 0].any()


def test_padding_is_as_if_the_map_ended_there():
    mixer = stirred(LocalPositionAttention(8, heads=2, grid=(4, 8))).eval()
    x = torch.randn(1, 4, 8, 8)
    valid = torch.ones(1, 4, 8, dtype=torch.bool)
    valid[:, :, 5:] = False
    padded = mixer(x, Segments.from_mask(valid))[:, :, :5]
    torch.testing.assert_close(padded, mixer(x[:, :, :5]), rtol=1e-5, atol=1e-5)


def test_sequences_that_are_not_class_token_and_map_are_refused():
    mixer = LocalPositionAttention(8, heads=2, prefix=1, grid=(4, 6))
    for tokens, grid in ((24, (4, 6)), (25, ())):
        with pytest.raises(SizeError, match=r"prefix \+ height \* width tokens"):
            mixer(torch.randn(1, tokens, 8), grid=grid)


def batch() -> dict[str, torch.Tensor]:
    return Digits().sample("train", torch.arange(8))


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("resformer_micro", in_channels=1, num_classes=10).train()


def test_equal_sizes_are_consistent_exactly():
    model, task = small(), Digits()
    once = task.loss(model, batch())
    assert torch.equal(MultiResolution(task, sizes=(8, 8), weight=10.0).loss(model, batch()), once)
    assert not scale_consistency(torch.zeros(2, 4), torch.ones(2, 4))  # a normed constant is zero


def test_the_loss_is_the_mean_over_sizes_and_the_larger_image_teaches():
    model, task, given = small(), Digits(), batch()
    large, little = ({**given, "images": resized(given["images"], s)} for s in (8, 4))
    vectors = {s: model.tokens(b["images"]).mean((1, 2)) for s, b in ((8, large), (4, little))}
    teacher = F.layer_norm(vectors[8], (64,), eps=1e-6)
    expected = (task.loss(model, large) + task.loss(model, little) + 2 * F.smooth_l1_loss(vectors[4], teacher)) / 2
    found = MultiResolution(task, sizes=(4, 8), weight=2.0).loss(model, given)
    torch.testing.assert_close(found, expected)


def test_the_teacher_gets_no_gradient():
    student, teacher = torch.randn(3, 8, requires_grad=True), torch.randn(3, 8, requires_grad=True)
    scale_consistency(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_it_trains_and_all_else_is_the_tasks():
    task = MultiResolution(Digits(), sizes=(8, 6, 4))
    config = TrainConfig(budget="30steps", learning_rate=3e-3, evaluations=1, log_every=10, device="cpu")
    result = train("resformer_micro", task, config, progress=False)
    losses = [line["loss"] for line in result.history if "loss" in line]
    assert losses[-1] < losses[0] and result.task["sizes"] == [8, 6, 4]
    assert task.metric == "accuracy" and task.size("test") == Digits().size("test")


def test_mistakes_are_named():
    for sizes, weight in (((), 1.0), ((0, 8), 1.0), ((8,), -1.0)):
        with pytest.raises(OptionError, match="one size of 1 pixel or more"):
            MultiResolution(Digits(), sizes=sizes, weight=weight)
    with pytest.raises(FitError, match="num_classes above 0"):
        MultiResolution(Digits(), sizes=(8, 4)).loss(create_model("resformer_micro", num_classes=0), batch())
    with pytest.raises(OptionError, match="the task 'digits' has none"):
        MultiResolution(Digits(), sizes=(8, 4)).loss(small(), {"labels": torch.zeros(1)})
    with pytest.raises(SizeError, match="multiples of 2"):
        MultiResolution(Digits(), sizes=(8, 5)).loss(small(), batch())
