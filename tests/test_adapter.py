"""Adapters and what all adaptations share: no effect at the start, what trains, saving, taking out, misuse."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from anyformer import create_model, from_pretrained, save_pretrained
from anyformer.core.errors import CheckpointError, FitError, OptionError, UnknownName
from anyformer.core.spec import Spec
from anyformer.lab.train import TrainConfig, train
from anyformer.methods.adaptation.adapt import (
    adapt,
    adaptations,
    load_adaptation,
    merge,
    parameters_of,
    remove,
    save_adaptation,
)
from anyformer.methods.adaptation.adapter import Bottleneck
from anyformer.tasks.classification import Digits

DIGITS = {"num_classes": 10, "in_channels": 1}
PLACES = ("stream", "parallel", "sequential")
METHODS = [("adapter", {"place": place, "width": 4}) for place in PLACES]
METHODS += [("lora", {"rank": 2}), ("visual_prompt", {"tokens": 2}), ("coda_prompt", {"tasks": 2, "components": 4})]


def vit(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("vit_micro", depth=2, head=Spec("classifier", pool=Spec("class")), **DIGITS).eval()


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def disturb(model: nn.Module) -> None:
    """What training does: other values in the adaptations."""
    with torch.no_grad():
        for name in adaptations(model):
            for p in parameters_of(model, name).values():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["vit_micro", "swin_micro", "convnext_micro", "mixer_micro"])
def test_right_after_insertion_the_outputs_are_the_same_bit_for_bit(name, place):
    model = create_model(name, image_size=8, **DIGITS).eval()
    with torch.no_grad():  # torch has another attention kernel for biases that train
        before = model(images())
        adapt(model, "adapter", width=4, place=place)
        assert torch.equal(model(images()), before)
        disturb(model)
        after = model(images())
    assert (after - before).abs().max() > 1e-4
    with torch.inference_mode():  # where residuals write their sums over what they are given
        torch.testing.assert_close(model(images()), after, atol=1e-5, rtol=1e-5)


def test_each_place_is_its_equation():
    """One pre-norm block, written out."""
    for place in PLACES:
        model = vit()
        adapt(model, "adapter", width=4, place=place, scale=0.3, pattern="blocks.1.ffn")
        disturb(model)
        block = model.blocks[1]
        (adapter,) = (m for m in block.modules() if isinstance(m, Bottleneck))
        x = torch.randn(2, 5, 64)
        middle = x + block.mixer(block.norm1(x))
        read = block.norm2(middle)
        mlp = block.ffn.down(block.ffn.act(block.ffn.up(read)))
        source = {"stream": middle, "parallel": read, "sequential": mlp}[place]
        added = 0.3 * adapter.up(adapter.down(source).relu())
        torch.testing.assert_close(block(x), middle + mlp + added, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("method", "options"), METHODS, ids=lambda v: str(v))
def test_only_the_adaptation_and_the_head_train(method, options):
    model = vit().train()
    adapt(model, method, **options)
    model(images()).square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    own = {name for name, p in parameters_of(model, method).items() if p.requires_grad}
    assert own and trained == own | {"head.linear.weight", "head.linear.bias"}


@pytest.mark.parametrize(("method", "options"), METHODS, ids=lambda v: str(v))
def test_taking_out_restores_state_and_what_trains(method, options):
    model = vit()
    model.embed.requires_grad_(False)
    before, output = state(model), model(images())
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    adapt(model, method, **options)
    disturb(model)
    assert not torch.allclose(model(images()), output, atol=1e-4)
    remove(model)
    assert same(state(model), before) and torch.equal(model(images()), output)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trains
    assert adaptations(model) == {}


@pytest.mark.parametrize(("method", "options"), METHODS, ids=lambda v: str(v))
def test_a_copy_a_folder_and_a_file_hold_the_same_model(method, options, tmp_path):
    model = vit()
    adapt(model, method, **options)
    disturb(model)
    with torch.no_grad():
        model.head.linear.bias.add_(1.0)
        expected = model(images())
        copied = copy.deepcopy(model)
        assert torch.equal(copied(images()), expected)
        save_pretrained(model, tmp_path / "folder")
        again = from_pretrained(tmp_path / "folder")
        assert torch.equal(again(images()), expected) and adaptations(again) == adaptations(model)
        path = save_adaptation(model, tmp_path / "adaptation.safetensors")
        fresh = load_adaptation(vit(), path)
        assert torch.equal(fresh(images()), expected)
        disturb(copied)  # a copy has adapters of its own
        assert torch.equal(model(images()), expected)
        remove(copied)
        assert torch.equal(model(images()), expected)


def test_what_is_saved_is_small_and_of_one_model(tmp_path):
    model = vit()
    with pytest.raises(CheckpointError, match="has no adaptation to save"):
        save_adaptation(model, tmp_path / "none")
    save_pretrained(model, tmp_path / "whole")
    adapt(model, "adapter", width=4)
    path = save_adaptation(model, tmp_path / "small")
    assert path.stat().st_size < (tmp_path / "whole" / "model.safetensors").stat().st_size / 10
    with pytest.raises(CheckpointError, match="was not written by save_adaptation"):
        load_adaptation(vit(), tmp_path / "whole" / "model.safetensors")
    other = create_model("vit_micro", dim=32, depth=2, **DIGITS)
    with pytest.raises(CheckpointError, match="is the adaptation of another model"):
        load_adaptation(other, path)


def test_width_64_adds_less_than_two_percent_to_vit_base():
    with torch.device("meta"):
        model = create_model("vit_base_patch16", num_classes=100)
        whole = model.num_parameters()
        adapt(model, "adapter", width=64)
    assert model.num_parameters() - whole == 12 * (2 * 768 * 64 + 64 + 768) < 0.02 * whole


def test_adaptations_under_several_names_add_up():
    model = vit()
    adapt(model, "adapter", width=4)
    adapt(model, "adapter", name="second", width=2, place="parallel")
    adapt(model, "lora", rank=2)
    disturb(model)
    whole = model(images())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"blocks.0.residual2.adapter.up.weight", "blocks.1.ffn.second.up.weight"} <= trained
    remove(model, "second")
    assert not torch.allclose(model(images()), whole, atol=1e-4)
    with pytest.raises(OptionError, match=r"name= is one of this model's adaptations; known: adapter, lora"):
        remove(model)
    merge(model, "lora")
    with pytest.raises(FitError, match="adapter is no change of weights"):
        merge(model, "adapter")
    assert list(adaptations(model)) == ["adapter"]


class TheirMlp(nn.Module):
    """A channel mixer of another codebase."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x).relu())


class Theirs(nn.Module):
    def __init__(self, mlp: type[nn.Module] = TheirMlp):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"mlp": mlp()}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer["mlp"](x)
        return x


def test_modules_of_others_are_adapted_by_a_pattern():
    model, x = Theirs(), torch.randn(3, 8)
    before, output = state(model), model(x)
    adapt(model, "adapter", width=2, place="parallel", pattern="*.mlp", head="")
    assert torch.equal(model(x), output) and len(parameters_of(model, "adapter")) == 8
    assert same(state(remove(model)), before)
    with pytest.raises(FitError, match=r"layers.0.mlp is no block's ffn.*place='parallel' fits"):
        adapt(model, "adapter", pattern="*.mlp")
    with pytest.raises(FitError, match=r"layers.0.mlp is an nn.Sequential, which would run the adapter"):
        adapt(Theirs(lambda: nn.Sequential(nn.Linear(8, 8))), "adapter", place="parallel", pattern="*.mlp")


def test_misuse_is_one_sentence():
    model = vit()
    with pytest.raises(OptionError, match=r"matches the pattern '\*.mlp'; candidates: .*blocks.0.ffn"):
        adapt(model, "adapter", pattern="*.mlp")
    with pytest.raises(OptionError, match=r"matches the pattern '\*.ffn'; candidates"):
        adapt(create_model("mamba_micro"), "adapter")
    with pytest.raises(UnknownName, match="there is no adaptation 'adaptr'; did you mean 'adapter'"):
        adapt(model, "adaptr")
    with pytest.raises(OptionError, match=r"adapter has no option 'widht'; did you mean 'width'"):
        adapt(model, "adapter", widht=3)
    with pytest.raises(OptionError, match="width is 1 or more"):
        adapt(model, "adapter", width=0)
    assert adaptations(model) == {} and all(p.requires_grad for p in model.parameters())
    adapt(model, "adapter", width=4)
    with pytest.raises(OptionError, match=r"adapted under the name 'adapter' already.*name="):
        adapt(model, "adapter", width=4)
    with pytest.raises(FitError, match="one sequence of tokens"):
        adapt(create_model("vit_micro", **DIGITS), "visual_prompt")(images())


def test_a_run_trains_and_keeps_an_adapted_model(tmp_path):
    model = vit()
    before = state(model)
    adapt(model, "adapter", width=4)
    config = TrainConfig(budget="6steps", evaluations=1, checkpoint_every=3, optimizer="adan", learning_rate=5e-3)
    result = train(model, Digits(), config, out=tmp_path / "run", progress=False)
    again = from_pretrained(tmp_path / "run")
    assert torch.equal(again(images()), result.model.eval()(images()))
    after = state(remove(result.model))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "head.linear.weight",
        "head.linear.bias",
    }
