"""GMML: connected corruption, what stays, the model's head, training and mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from anyformer import create_model, load_reference, model_spec
from anyformer.core.errors import FitError, OptionError, SizeError
from anyformer.lab.train import TrainConfig, train
from anyformer.methods.pretraining.gmml import corrupt
from anyformer.methods.pretraining.masking import fine_tune, masked_l1
from anyformer.tasks import create_task


def corrupted(seed: int, **options):
    image = torch.randn(3, 112, 112, generator=torch.Generator().manual_seed(seed))
    return image, *corrupt(image, np.random.RandomState(seed), **{"align": 8, **options})


@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.75])
def test_the_corrupted_share_is_near_the_request(ratio: float):
    for seed in range(20):
        wanted = np.random.RandomState(seed).uniform(min(0.5, ratio), ratio)
        _, _, mask = corrupted(seed, ratio=ratio, largest=0.2)
        assert wanted <= float(mask.float().mean()) <= wanted + 0.05


def test_corrupted_patches_are_connected():
    sizes = []
    for seed in range(20):
        _, _, mask = corrupted(seed, ratio=0.5)
        patches = mask.unflatten(0, (14, 8)).unflatten(2, (14, 8)).float().mean((1, 3))
        assert set(patches.unique().tolist()) <= {0.0, 1.0}  # whole patches
        components, count = label(patches.numpy())
        sizes.append(np.bincount(components.ravel())[1:].sum() / count)
    assert np.mean(sizes) >= 4 and min(sizes) >= 4


@pytest.mark.parametrize("fill", ["noise", "zeros", "copy"])
def test_uncorrupted_pixels_stay_and_carry_no_loss(fill):
    image, spoiled, mask = corrupted(1, fills=(fill,))
    assert torch.equal(spoiled[:, ~mask], image[:, ~mask])
    assert (spoiled[:, mask] != image[:, mask]).float().mean() > 0.8
    assert (spoiled[:, mask] == 0).all() == (fill == "zeros")
    restored = image[None].clone().requires_grad_()
    masked_l1(restored, image[None] + 1, mask[None, None]).backward()
    assert (restored.grad[0][:, ~mask] == 0).all() and (restored.grad[0][:, mask] != 0).all()


def test_blocks_of_another_image():
    other = torch.full((3, 112, 112), 7.0)
    _, spoiled, mask = corrupted(2, other=other)
    assert (spoiled[:, mask] == 7).all() and not (spoiled[:, ~mask] == 7).any()


def test_the_head_sees_the_normed_mean_of_blocks():
    torch.manual_seed(0)
    model = create_model("gmml_micro", layers=(1, 3), image_size=8, in_channels=1).eval()
    x = torch.randn(2, 1, 8, 8)
    seen = []
    model.head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        model(x)
        tokens = torch.stack(model.encoder.features(x, layers=[1, 3])).mean(0).movedim(1, -1)
        torch.testing.assert_close(seen[0], model.encoder.norm(tokens))
    with pytest.raises(FitError, match="a pyramid has several: leave layers out"):
        create_model("gmml_micro", encoder=model_spec("swin_micro"), layers=(0, 1))


def test_the_authors_names_load_strictly():
    with torch.device("meta"):
        large = create_model("gmml_vit_small")
    vit = model_spec("vit_small_patch16", num_classes=0)
    assert large.num_parameters() == create_model(vit).num_parameters() + 3 * (384 * 384 + 384) + 384 * 3 * 256 + 3
    model = create_model("gmml_micro")
    renamed = {"encoder.embed.project.": "backbone.patch_embed.proj.", "encoder.position.table": "backbone.pos_embed"}
    renamed |= {"encoder.": "backbone.", "head.": "head_recons.mlp.", "pixels.": "head_recons.convTrans."}
    renamed |= {".mixer.qkv": ".attn.qkv", ".mixer.out": ".attn.proj", ".ffn.up": ".mlp.fc1", ".ffn.down": ".mlp.fc2"}
    state = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        state[name] = torch.full_like(tensor, 0.5)
    assert load_reference(model, state, "official").complete
    assert all((p == 0.5).all() for p in model.parameters())


@pytest.mark.parametrize("encoder", ["vit_micro", "swin_micro"])
def test_trains_with_any_encoder_and_is_fine_tuned(encoder: str):
    task = create_task("pretraining_gmml")
    model = create_model("gmml_micro", encoder=model_spec(encoder), **task.model_options())
    before = task.evaluate(model)["masked_l1"]
    config = TrainConfig(budget="60steps", learning_rate=3e-3, evaluations=1, device="cpu")
    result = train(model, task, config, progress=False)
    assert result.metrics["masked_l1"] < 0.9 * before
    assert fine_tune(model, num_classes=10)(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_mistakes_are_sentences():
    image = torch.randn(1, 8, 8)
    for ratio in (0.0, 1.0, 1.5):
        with pytest.raises(OptionError, match="between 0 and 1"):
            corrupt(image, np.random.RandomState(0), ratio=ratio, align=2)
    with pytest.raises(SizeError, match=r"blocks are aligned to 1 to 8 pixels in an image of 8x8; given align=16"):
        corrupt(image, np.random.RandomState(0))
    with pytest.raises(SizeError, match=r"largest block is a share of the image of 8x8.*given 1.5"):
        corrupt(image, np.random.RandomState(0), align=2, largest=1.5)
    with pytest.raises(SizeError, match=r"smaller than align=4 pixels: take largest=0.5 or more"):
        corrupt(image, np.random.RandomState(0), align=4, largest=0.3)
    with pytest.raises(OptionError, match="one of noise, zeros, copy; given 'blur'"):
        corrupt(image, np.random.RandomState(0), align=2, fills=("blur",))  # type: ignore[arg-type]
