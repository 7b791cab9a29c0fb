"""PredFormer: what space and time blocks see, what layouts cost, patches that come back, names, misuse."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, load_reference
from anyformer.core.errors import SizeError
from anyformer.core.spec import Spec
from anyformer.lab.profile import count_operations
from anyformer.layers.attention.axial.space_time import SpaceAttention, TimeAttention
from anyformer.models.science.predformer import LAYOUTS, of, predformer
from anyformer.weights.science.predformer import official


def seen(layout: str, frames: int = 4) -> torch.Tensor:
    """Which tokens `(t, y, x)` reach the token at time 1, place (1, 1): true where a gradient does."""
    torch.manual_seed(0)
    spec = predformer(layout, 1, dim=8, heads=2, patch=2).set(frames=frames, image_size=6, depth=1, init="fan_in")
    model = create_model(spec)
    x = torch.randn(1, frames, 3, 3, 8, requires_grad=True)
    (model.blocks[0](x)[0, 1, 1, 1] * torch.arange(8)).sum().backward()  # a norm follows: the mere sum is constant
    assert x.grad is not None
    return x.grad[0].abs().sum(-1) > 0


def test_a_space_block_sees_its_frame_alone_and_a_time_block_its_place():
    space, time, full = seen("binary_st"), seen("binary_ts"), seen("fullattention")
    assert space[1].all() and space.sum() == 9
    assert time[:, 1, 1].all() and time.sum() == 4
    assert full.all()


@pytest.mark.parametrize("mixer", [SpaceAttention, TimeAttention])
def test_each_row_of_a_mixer_is_attention_over_it(mixer):
    torch.manual_seed(0)
    one = mixer(8, heads=2).eval()
    x = torch.randn(2, 3, 4, 5, 8)
    y = one(x)
    if mixer is SpaceAttention:
        expected = one.attention(x[1, 2][None])[0]
        torch.testing.assert_close(y[1, 2], expected, rtol=1e-5, atol=1e-6)
    else:
        expected = one.attention(x[1, :, 2, 3][None])[0]
        torch.testing.assert_close(y[1, :, 2, 3], expected, rtol=1e-5, atol=1e-6)


def test_factorised_attention_costs_less_than_full():
    # Products of queries and keys, and weights and values, are all that grows faster than the number of tokens.
    def mixing(kind: str, frames: int, side: int) -> int:
        model = create_model(predformer(kind, 2, dim=8, heads=1, patch=1).set(frames=frames, image_size=side))
        linear = count_operations(create_model(predformer(kind, 2, dim=8, heads=1, patch=1).set(
            frames=1, image_size=1)), torch.zeros(1, 1, 1, 1, 1))  # fmt: skip
        attention_of_one = 2 * 2 * 8  # two blocks, two products, 8 channels
        tokens = frames * side * side
        return count_operations(model, torch.zeros(1, frames, 1, side, side)) - tokens * (linear - attention_of_one)

    for frames, side in ((4, 4), (8, 4), (4, 8)):
        t, n = frames, side * side
        assert mixing("facts", frames, side) == 2 * 8 * (t * n**2 + n * t**2)
        assert mixing("fullattention", frames, side) == 2 * 2 * 8 * (t * n) ** 2


def test_patches_come_back_where_they_were():
    model = create_model("predformer_micro", in_channels=3, image_size=(8, 16), depth=0, position=None, norm=None)
    size = model.embed.stride
    with torch.no_grad():  # the identity: the embedding keeps all values of a patch, the head reads them off
        width = 3 * size**2
        model.embed.project.weight.zero_().flatten(1)[:width] = torch.eye(width)
        model.embed.project.bias.zero_()
        model.head.weight.copy_(torch.eye(width, 64))
        model.head.bias.zero_()
        video = torch.randn(2, 5, 3, 8, 16)
        torch.testing.assert_close(model(video), video)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 4, 1, 16, 16), "5 frames"), ((1, 5, 2, 16, 16), "1 channels"), ((1, 5, 1, 16, 12), "16, 16")],
)
def test_another_video_than_configured_raises(shape: tuple[int, ...], message: str):
    with pytest.raises(SizeError, match=message):
        create_model("predformer_micro")(torch.zeros(shape))


def test_frames_that_patches_do_not_divide_raise():
    with pytest.raises(SizeError, match=r"multiples of 4, the nearest 16x20"):
        create_model("predformer_micro", image_size=(16, 19))


def their_names(layout: str, layers: int) -> list[str]:
    """Names of the authors' norms that close gated transformers, in the order in which they act."""
    order = LAYOUTS[layout]
    if layout == "fullattention":
        return ["space_temporal_transformer"]
    if "|" in order:
        return [f"{'space' if k == 'S' else 'temporal'}_transformer" for k in order.split("|")]
    names = {
        "binary_ts": ["ts_temporal", "ts_space"],
        "binary_st": ["st_space", "st_temporal"],
        "triplet_tst": ["temporal_transformer_first", "space", "temporal_transformer_second"],
        "triplet_sts": ["space_transformer_first", "temporal", "space_transformer_second"],
        "quadruplet_tsst": ["ts_temporal", "ts_space", "st_space", "st_temporal"],
        "quadruplet_stts": ["st_space", "st_temporal", "ts_temporal", "ts_space"],
    }[layout]
    names = [n if "_transformer_" in n else f"{n}_transformer" for n in names]
    return [f"blocks.{i}.{n}" for i in range(layers) for n in names]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_the_authors_names(layout: str):
    blocks = {"triplet_tst": 6, "triplet_sts": 6}.get(layout, 8)
    torch.manual_seed(0)
    spec = predformer(layout, blocks, dim=16, heads=2, patch=4).set(frames=2, image_size=8, in_channels=2)
    model = create_model(spec)
    model.family = "predformer"
    order = LAYOUTS[layout]
    names = their_names(layout, blocks // len(order))
    depth = blocks // len(names)
    state = {
        "to_patch_embedding.1.weight": torch.randn(16, 32),
        "to_patch_embedding.1.bias": torch.randn(16),
        "mlp_head.0.weight": torch.randn(16),
        "mlp_head.0.bias": torch.randn(16),
        "mlp_head.1.weight": torch.randn(32, 16),
        "mlp_head.1.bias": torch.randn(32),
    }
    for name in names:
        state |= {f"{name}.norm.{p}": torch.randn(16) for p in ("weight", "bias")}
        for j in range(depth):
            state |= {f"{name}.layers.{j}.{k}.norm.{p}": torch.randn(16) for k in (0, 1) for p in ("weight", "bias")}
            state[f"{name}.layers.{j}.0.fn.to_qkv.weight"] = torch.randn(48, 16)
            state[f"{name}.layers.{j}.0.fn.to_out.0.weight"] = torch.randn(16, 16)
            state[f"{name}.layers.{j}.0.fn.to_out.0.bias"] = torch.randn(16)
            for k in ("fc1_g", "fc1_x"):
                state[f"{name}.layers.{j}.1.fn.{k}.weight"] = torch.randn(64, 16)
                state[f"{name}.layers.{j}.1.fn.{k}.bias"] = torch.randn(64)
            state[f"{name}.layers.{j}.1.fn.fc2.weight"] = torch.randn(16, 64)
            state[f"{name}.layers.{j}.1.fn.fc2.bias"] = torch.randn(16)
    assert load_reference(model, state, "official").complete
    # Each gated transformer lies where it acts: their closing norms follow each other in ours.
    for i, name in enumerate(names):
        assert torch.equal(model.blocks[(i + 1) * depth - 1].closing.weight, state[f"{name}.norm.weight"])
    # A patch with the channels last, as they flatten it, embeds alike.
    image = torch.randn(1, 2, 4, 4)
    theirs = image.permute(0, 2, 3, 1).flatten(1) @ state["to_patch_embedding.1.weight"].T
    ours = model.embed(image)[0, 0] - state["to_patch_embedding.1.bias"]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_published_sizes():
    with torch.device("meta"):
        assert create_model("official:predformer_quadruplet_tsst_mmnist").num_parameters() == 25285952 + 23 * 2 * 256
        assert len(create_model("predformer_triplet_sts_taxibj").blocks) == 9
        assert create_model("predformer_facts_weather").grid == (12, 8, 16)
    assert of("binary_ts", "human").options["image_size"] == 256
    assert isinstance(of("facst", "mmnist").options["block"], tuple)


def test_other_mixers_fit_where_attention_over_space_stood():
    model = create_model("predformer_micro", mixer=Spec("window", heads=4, window=2))
    assert model(*model.example_inputs(batch=2)).shape == (2, 5, 1, 16, 16)


def test_official_names_depend_on_the_layout():
    model = create_model("predformer_micro")
    assert any("ts_space_transformer" in str(rule.theirs) for rule in official(model).rules)
