"""Swin V2: does a position bias computed from log-spaced offsets survive a larger window better than a table?

Digits at 32x32 with patches of 4 and windows of 4 in training; tested at 64x64 with windows of 8 and no tuning. The
table of the baseline is enlarged by bicubic interpolation, as Swin's was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.core.init import starting
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

CLAIM = Claim(
    statement="A log-spaced continuous position bias transfers to larger windows better than a table of biases.",
    baseline="The same model with a bias table, enlarged by bicubic interpolation; trained alike.",
    expect=(
        Expect("saved", at_least=0.02, unit="accuracy lost less at 64x64"),
        Expect("postnorm_change", at_most=1e-3, unit="relative change of a block as a branch's last layer grows 100x"),
        Expect("prenorm_growth", at_least=99, at_most=101, unit="growth of that branch under pre-norm"),
    ),
)


def model(distance: Spec, window: int) -> Spec:
    """Two stages of two blocks over patches of 4."""

    def block(heads: int, shift: str) -> Spec:
        mixer = Spec("window", heads=heads, window=window, shift=shift, cap=True, qkv_bias="qv", distance=distance)
        return Spec("respostnorm", mixer=mixer.set(scoring=Spec("cosine")), ffn=Spec("mlp", ratio=2.0))

    stages = [
        Spec(
            "stage",
            dim=32 * (i + 1),
            depth=2,
            block=[block(2 * (i + 1), "none"), block(2 * (i + 1), "half")],
            downsample=Spec("merge", order="project_first") if i else None,
        )
        for i in range(2)
    ]
    return Spec("pyramid", embed=Spec("patch", size=4, norm=Spec("layernorm")), stages=stages)


def enlarged(table: Tensor, rows: int) -> Tensor:
    """A bias table `(rows, heads)` of a square of offsets, made larger by bicubic interpolation."""
    side, target = round(len(table) ** 0.5), round(rows**0.5)
    square = table.t().view(1, -1, side, side)
    return nn.functional.interpolate(square, size=(target, target), mode="bicubic").view(-1, rows).t()


def lost(small: Spec, large: Spec, seed: int) -> tuple[float, float]:
    """Accuracy at 32x32, and how much of it is lost at 64x64."""
    task, wide = (images_task(digits_at(side), classes=10, crop=crop) for side, crop in ((32, 4), (64, 0)))
    trained = fit(small, task, seed, epochs=15)
    grown = create_model(large, **wide.model_options()).eval()
    wanted = {n: p.shape for n, p in grown.state_dict().items()}
    state = {n: p if p.shape == wanted[n] else enlarged(p, wanted[n][0]) for n, p in trained.state_dict().items()}
    grown.load_state_dict(state)
    before = accuracy(trained, task)
    return before, before - accuracy(grown, wide)


def branch_growth(block: str, seed: int) -> float:
    """Relative change of what a block adds when the last layer of its MLP branch grows a hundredfold."""
    from anyformer.core.build import build

    torch.manual_seed(seed)
    with starting("fan_in"):  # branches as large as trained ones
        module = build(Spec(block, mixer=Spec("attention", heads=2)), "block", dim=16, grid=(8,)).eval()
    x = torch.randn(4, 8, 16)
    with torch.no_grad():
        y = module.norm1(module.mixer(x)) if block == "respostnorm" else module.mixer(module.norm1(x))
        before = module(x) - x - y
        module.ffn.down.weight.mul_(100)
        module.ffn.down.bias.mul_(100)
        after = module(x) - x - y
    return float(after.norm() / before.norm()) if block == "prenorm" else float((after - before).norm() / before.norm())


def measure(seed: int) -> dict[str, float]:
    """What each position bias loses at the larger size, and how branches grow under both norms."""
    log, table = Spec("log_cpb", hidden=64), Spec("relative_table")
    log_before, log_lost = lost(model(log, 4), model(log.set(pretrained_window=4), 8), seed)
    table_before, table_lost = lost(model(table, 4), model(table, 8), seed)
    return {
        "saved": table_lost - log_lost,
        "log_cpb_accuracy": log_before,
        "log_cpb_lost": log_lost,
        "table_accuracy": table_before,
        "table_lost": table_lost,
        "postnorm_change": branch_growth("respostnorm", seed),
        "prenorm_growth": branch_growth("prenorm", seed),
    }
