"""GC ViT: do global queries let a window know of the others?

Images of 32x32 pixels, 8x8 tokens and windows of 2x2 tokens. Two marks, crosses or rings, lie in different windows; the
label says whether they are the same. A window that sees itself alone cannot tell, and neither can the mean over all of
them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="Attention with global queries relates marks in different windows, without shifting windows.",
    baseline="As many blocks of equal width and training whose attention is local in all of them.",
    expect=(Expect("gain", at_least=0.15, unit="accuracy"),),
    seeds=(1, 2, 3),
)
GRID, PATCH, SPLITS = 8, 4, 4
CROSS = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]])
RING = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]])


def marks(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 32, 32)` of zeros with two marks, each a patch of another window; whether they are the same."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(2, (n, 2), generator=generator)
    windows = torch.rand(n, SPLITS**2, generator=generator).argsort(1)[:, :2]
    inside = torch.randint(GRID // SPLITS, (2, n, 2), generator=generator)
    rows = GRID // SPLITS * (windows // SPLITS) + inside[0]
    columns = GRID // SPLITS * (windows % SPLITS) + inside[1]
    patches = torch.zeros(n, GRID, GRID, PATCH, PATCH)
    patches[torch.arange(n)[:, None], rows, columns] = torch.stack([CROSS, RING])[kinds]
    return patches.transpose(2, 3).reshape(n, 1, GRID * PATCH, GRID * PATCH), (kinds[:, 0] == kinds[:, 1]).long()


def model(second: Spec, stage: str, **windows: int) -> Spec:
    """One stage of a local block and one with the mixer `second`."""
    blocks = [
        Spec("global_query_prenorm", mixer=mixer, ffn=Spec("mlp", ratio=2.0))
        for mixer in (Spec("even_window", heads=2, splits=SPLITS), second)
    ]
    return Spec(
        "pyramid", embed=Spec("patch", size=PATCH), stages=[Spec(stage, dim=32, depth=2, block=blocks, **windows)]
    )


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with global queries in the second block, and with local attention in both."""
    parts = {"train": marks(2048, 3 * seed), "valid": marks(64, 3 * seed + 1), "test": marks(512, 3 * seed + 2)}
    task = images_task(parts, classes=2)
    shared = Spec("global_query", heads=2, splits=SPLITS, queries="stage")
    arms = {
        "global": model(shared, "global_query_stage", splits=SPLITS),
        "local": model(Spec("even_window", heads=2, splits=SPLITS), "stage"),
    }
    found = {
        name: accuracy(fit(spec, task, seed, epochs=8, batch_size=32, learning_rate=3e-3), task)
        for name, spec in arms.items()
    }
    return {"gain": found["global"] - found["local"], **found}
