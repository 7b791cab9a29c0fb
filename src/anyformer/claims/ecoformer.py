"""EcoFormer: do learned binary codes rank pairs of tokens as attention does, and can they take its place?

A small ViT learns the digits; in each of its blocks, codes of 16 bits for queries and keys are learned on training
images and compared on test images with what attention gives. The same ViT with hashed attention is trained alike.
"""

from __future__ import annotations

from statistics import fmean

import torch
from torch import Tensor, nn

from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.layers.attention.linear.kernel_hash import KernelHash, signs
from anyformer.models import model_spec

CLAIM = Claim(
    statement="A learned hash ranks pairs of tokens better than a random one, and attention by codes loses little.",
    baseline=(
        "Codes of as many bits from random hyperplanes through the origin; for accuracy, the same ViT with softmax "
        "attention, trained alike."
    ),
    expect=(
        Expect("rank_gain", at_least=0.1, unit="Spearman correlation with attention, mean over queries"),
        Expect("accuracy_loss", at_most=2.0, unit="points of test accuracy"),
    ),
    seeds=(1, 2, 3),
)
BITS, POINTS, EPOCHS, FITTED_ON = 16, 25, 20, 64


def tokens(module: nn.Module, images: Tensor) -> list[Tensor]:
    """Queries and keys of each block at length 1, `(b, h, 2 n, d)`, the queries first."""
    _, taps = module(images, taps=["blocks.*.mixer.qkv"])
    return [nn.functional.normalize(torch.cat([q, k], 2), dim=-1) for q, k, _ in taps.values()]


def ranks(x: Tensor) -> Tensor:
    """Ranks along the last axis; equal values share the mean of theirs."""
    below = (x[..., None] > x[..., None, :]).sum(-1)
    equal = (x[..., None] == x[..., None, :]).sum(-1)
    return below + (equal - 1) / 2


def spearman(a: Tensor, b: Tensor) -> float:
    """Correlation of ranks along the last axis, mean over the rest; a row without any order counts as 0."""
    a, b = (r - r.mean(-1, keepdim=True) for r in (ranks(a), ranks(b)))
    norms = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return float(((a * b).sum(-1) / norms.clamp(min=1e-9)).mean())


@torch.no_grad()
def rank_correlations(module: nn.Module, train: Tensor, test: Tensor) -> dict[str, float]:
    """How well products of learned and of random codes rank each query's keys as attention does; mean of blocks."""
    _, taps = module(test, taps="attention")
    found: dict[str, list[float]] = {"learned": [], "random": []}
    for x, known, weights in zip(tokens(module, test), tokens(module, train), taps.values(), strict=True):
        heads, dim, n = x.shape[1], x.shape[-1], weights.shape[-1]
        learned = KernelHash(dim, heads=heads, bits=BITS, points=POINTS)
        learned.fit(known)
        for name, code in (("learned", learned(x)), ("random", signs(x @ torch.randn(heads, dim, BITS)))):
            found[name].append(spearman(code[:, :, :n] @ code[:, :, n:].transpose(-1, -2), weights))
    return {name: fmean(values) for name, values in found.items()}


def measure(seed: int) -> dict[str, float]:
    """Rank correlations of both codes, and test accuracy with and without hashing."""
    parts = digits_at(8)
    task = images_task(parts, classes=10)
    hashed = Spec("kernel_hash", heads=4, bits=BITS, points=POINTS, fit_every=100)
    modules = {
        name: fit(spec, task, seed, EPOCHS)
        for name, spec in (("softmax", model_spec("vit_micro")), ("hashed", model_spec("vit_micro", mixer=hashed)))
    }
    found = {name: 100 * accuracy(module, task) for name, module in modules.items()}
    torch.manual_seed(seed)
    correlations = rank_correlations(modules["softmax"], parts["train"][0][:FITTED_ON], parts["test"][0][:64])
    return (
        found
        | correlations
        | {
            "rank_gain": correlations["learned"] - correlations["random"],
            "accuracy_loss": found["softmax"] - found["hashed"],
        }
    )
