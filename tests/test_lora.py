"""LoRA: no effect at the start, merged as unmerged, slices, misuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.errors import OptionError
from anyformer.methods.adaptation.adapt import adapt, merge, parameters_of, remove

DIGITS = {"num_classes": 10, "in_channels": 1, "image_size": 8}


def disturb(model: nn.Module, name: str = "lora") -> None:
    with torch.no_grad():
        for p in parameters_of(model, name).values():
            p.add_(torch.randn(p.shape), alpha=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_micro", {}),
        ("swin_micro", {"slices": "qkv"}),
        ("convnext_micro", {"pattern": "*.ffn.up", "slices": ""}),
        ("mamba_micro", {"pattern": "*.in_proj", "slices": ""}),
        ("llama_micro", {"slices": "kv"}),
        ("gpt2_micro", {}),
    ],
)
@torch.no_grad()
def test_it_starts_without_effect_and_merges_exactly(name, options):
    torch.manual_seed(0)
    model = create_model(name).eval()
    inputs = model.example_inputs(batch=2)
    before = model(*inputs)
    names, modules = set(model.state_dict()), [type(m) for m in model.modules()]
    adapt(model, "lora", rank=2, alpha=4.0, **options)
    assert torch.equal(model(*inputs), before)
    disturb(model)
    adapted = model(*inputs)
    assert (adapted - before).abs().max() > 1e-4
    merge(model)
    torch.testing.assert_close(model(*inputs), adapted, atol=1e-4, rtol=1e-4)
    assert set(model.state_dict()) == names and [type(m) for m in model.modules()] == modules
    assert all(p.requires_grad for p in model.parameters())


def test_slices_leave_the_others_as_they_were():
    model = create_model("vit_micro", **DIGITS)
    weight = model.blocks[0].mixer.qkv.weight.detach().clone()
    adapt(model, "lora", rank=2, slices="qv")
    disturb(model)
    q, k, v = (model.blocks[0].mixer.qkv.weight - weight).split(64)
    assert torch.equal(k, torch.zeros_like(k)) and q.abs().max() > 1e-3 and v.abs().max() > 1e-3
    assert torch.linalg.matrix_rank(q) == torch.linalg.matrix_rank(v) == 2
    assert sum(p.numel() for p in parameters_of(model, "lora").values()) == 4 * 2 * (2 * 64 + 2 * 64)


def test_two_on_one_weight_come_out_alone():
    model = create_model("vit_micro", **DIGITS).eval()
    x = model.example_inputs()[0]
    adapt(model, "lora", rank=2)
    disturb(model)
    first = model(x)
    adapt(model, "lora", name="second", rank=1, slices="k")
    disturb(model, "second")
    both = model(x)
    merge(model, "second")
    torch.testing.assert_close(model(x), both, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(first, both, atol=1e-5)
    remove(model, "lora")
    adapt(model, "lora", rank=2)
    assert not torch.allclose(model(x), both, atol=1e-5)


def test_misuse_is_one_sentence():
    model = create_model("vit_micro", **DIGITS)
    with pytest.raises(OptionError, match=r"matches the pattern '\*.query'; candidates: "):
        adapt(model, "lora", pattern="*.query")
    with pytest.raises(OptionError, match=r"ffn.up is no fused weight.*give slices=''"):
        adapt(model, "lora", pattern="*.ffn.up")
    with pytest.raises(OptionError, match="letters of 'qkv'"):
        adapt(model, "lora", slices="qx")
    with pytest.raises(OptionError, match="rank is 1 or more"):
        adapt(model, "lora", rank=0)
