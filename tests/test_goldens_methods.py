"""Methods against the goldens of their references."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyformer import create_model, load_reference
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import QKV
from anyformer.methods.adaptation.adapt import adapt, merge
from anyformer.methods.optimization.adan import Adan
from golden import Golden


def test_adan_follows_the_authors_trajectory():
    golden = Golden("adan--adan_clip--official")
    options = dict(golden.data["kwargs"])
    assert options.pop("no_prox") is False
    steps = options.pop("steps")
    start, given = golden.state(), golden.inputs()
    x, y = nn.Parameter(start["x0"]), nn.Parameter(start["y0"])
    optimizer = Adan([x, y], options.pop("lr"), options.pop("betas"), **options)
    found: dict[str, list[torch.Tensor]] = {"x": [], "y": [], "loss": []}
    for _ in range(steps):
        loss = (0.5 * given["h"] * (x - given["c"]) ** 2 + 0.25 * given["q"] * x**4).sum()
        loss = loss + (0.5 * given["hy"] * (y - given["cy"]) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, value in (("x", x), ("y", y), ("loss", loss)):
            found[name].append(value.detach().clone())
    golden.check({name: torch.stack(values) for name, values in found.items()})


def test_adapters_and_prompts_give_the_authors_logits():
    golden = Golden("adaptformer--adaptformer_vit_tiny16_seq_ln_vpt--official")
    model = create_model("vit_tiny_patch16", depth=4, num_classes=100).eval()
    adapt(model, "adapter", width=16, place="sequential", scale=1.0, norm=Spec("layernorm", eps=1e-5))
    adapt(model, "visual_prompt", tokens=2)
    assert model.num_parameters() == golden.parameters
    load_reference(model, golden.state(), golden.source)
    with torch.no_grad():
        golden.check({"output": model(golden.inputs()["x"])})


def test_assembled_prompts_give_the_authors_logits():
    golden = Golden("coda_prompt--coda_prompt_vit_b16--official")
    (components, length, _), tasks = golden.data["kwargs"]["prompt_param"], golden.data["kwargs"]["n_tasks"]
    model = create_model("vit_base_patch16", num_classes=100).eval()
    adapt(model, "coda_prompt", tasks=tasks, components=components, length=length, task=2)
    assert model.num_parameters() == golden.parameters
    load_reference(model, golden.state(), golden.source)
    with torch.no_grad():
        golden.check({"output": model(golden.inputs()["0"])})


class Transposed(nn.Module):
    """A linear layer that stores its weight as (inputs, outputs)."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(48, 40)), nn.Parameter(torch.zeros(40))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def test_additions_of_low_rank_are_the_authors():
    golden = Golden("lora--loralib_layers--official")
    layers = nn.ModuleDict(
        {
            "linear": nn.Linear(48, 40),
            "linear_t": Transposed(),
            "embed": nn.Embedding(100, 48),
            "merged": QKV(48, heads=1),
            "conv": nn.Conv2d(6, 10, 3, stride=2, padding=1),
        }
    )
    for name, rank, alpha, options in (
        ("linear", 8, 16.0, {"slices": ""}),
        ("linear_t", 4, 1.0, {"slices": "", "transposed": True}),
        ("embed", 4, 8.0, {"slices": ""}),
        ("merged", 8, 16.0, {"slices": "qv"}),
        ("conv", 4, 8.0, {"slices": ""}),
    ):
        adapt(layers, "lora", name=f"lora_{name}", pattern=name, rank=rank, alpha=alpha, **options)
    assert sum(p.numel() for p in layers.parameters()) == golden.parameters

    state = golden.state()
    ours = layers.state_dict()
    for entry, tensor in state.items():
        layer, kind = entry.split(".", 1)
        kind = kind.removeprefix("conv.")
        place = {"weight": "parametrizations.weight.original", "bias": "bias"}.get(kind)
        place = place or f"parametrizations.weight.0.lora_{layer}.{kind.removeprefix('lora_')}"
        ours.pop(f"{layer}.{place}").copy_(tensor)
    assert not ours  # every entry was filled

    given = golden.inputs()
    inputs = dict.fromkeys(("linear", "linear_t"), given["x"]) | {"embed": given["ids"], "conv": given["img"]}
    with torch.no_grad():
        found = {name: layers[name](x) for name, x in inputs.items()}
        found["merged"] = torch.cat([t[:, 0] for t in layers["merged"](given["x"])], -1)
    for name in layers:
        merge(layers, f"lora_{name}")
        found[f"{name}_merged_weight"] = layers[name].weight
    golden.check(found)
