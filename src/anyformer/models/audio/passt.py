"""PaSST: a ViT on spectrograms that is trained on a part of its patches (Patchout).

Koutini et al. 2021, arXiv:2110.05069, section 2; as an extractor of embeddings Koutini et al. 2022, arXiv:2211.13956
(`models/audio/hear.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.isotropic import Isotropic
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec

PAPERS = ("passt_hear",)


class PaSST(Isotropic):
    """An `Isotropic` model that leaves out patches in training: whole times, whole bands, or single ones.

    Positions are added before, so that the patches that stay keep theirs. With t times and f bands left out of a grid
    F x T, the sequence has (T - t)(F - f) tokens beside the prefix; attention costs its square. In evaluation nothing
    is left out. Spectrograms `(b, in_channels, mels, frames)` to logits. arXiv:2110.05069, section 2.2.

    Args:
        times, bands: columns and rows of patches that are left out (structured Patchout).
        patches: patches that are left out of those that stay (unstructured Patchout).
        options: as `Isotropic`'s.

    Raises:
        OptionError: no patch would stay.
        SizeError: a spectrogram of other bands, or longer than the position table.
    """

    name = "passt"
    papers = ("passt_hear",)

    def __init__(
        self,
        *,
        position: Spec | None = Spec("time_frequency"),
        head: Spec = Spec("classifier", pool=Spec("class_pair")),
        image_size: int | Sequence[int] = (128, 998),
        in_channels: int = 1,
        num_classes: int = 527,
        times: int = 0,
        bands: int = 0,
        patches: int = 0,
        **options: Any,
    ):
        super().__init__(
            position=position,
            head=head,
            image_size=image_size,
            in_channels=in_channels,
            num_classes=num_classes,
            **options,
        )
        self.times, self.bands, self.patches = times, bands, patches
        self.staying(*self.grid)

    def staying(self, rows: int, columns: int) -> int:
        """Patches of such a grid that stay in training. Raises `OptionError` where none would."""
        rest = (rows - self.bands, columns - self.times)
        stay = rest[0] * rest[1] - self.patches
        if min(self.times, self.bands, self.patches) < 0 or min(rest) < 1 or stay < 1:
            raise OptionError(
                f"Patchout leaves out 0 or more of {rows}x{columns} patches and one has to stay; given "
                f"times={self.times}, bands={self.bands}, patches={self.patches}."
            )
        return stay

    def kept(self, grid: Sequence[int], device: torch.device) -> Tensor:
        """Numbers of the patches that stay, drawn anew, in their order."""
        rows, columns = grid
        stay = self.staying(rows, columns)
        bands = torch.randperm(rows, device=device)[: rows - self.bands].sort().values
        times = torch.randperm(columns, device=device)[: columns - self.times].sort().values
        numbers = (bands[:, None] * columns + times).flatten()
        return numbers[torch.randperm(len(numbers), device=device)[:stay].sort().values]

    def tokens(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b n c"]:
        """Tokens after the last block and norm, the prefix first; in training, of the patches that stay."""
        x, grid = self.embedded(images)
        if self.training and (self.times or self.bands or self.patches):
            prefix, rest = x[:, : self.num_prefix], x[:, self.num_prefix :]
            x = torch.cat([prefix, rest[:, self.kept(grid, x.device)]], 1)
        x = self.blocks(x)
        return x if self.norm is None else self.norm(x)

    def penultimate(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b c"]:
        """What the head's norm and linear layer are given: the pooled tokens."""
        return self.head.pool(self.tokens(images), prefix=self.num_prefix)


def passt(
    dim: int = 768,
    depth: int = 12,
    heads: int = 12,
    *,
    ratio: float = 4.0,
    patch: int = 16,
    stride: int = 10,
    size: tuple[int, int] = (128, 998),
    num_classes: int = 527,
) -> Spec:
    """A PaSST; its time table has frames / stride columns, which may be one more than there are patches."""
    norm = Spec("layernorm", eps=1e-6)
    return Spec(
        "passt",
        dim=dim,
        depth=depth,
        embed=Spec("patch", size=patch, stride=stride, rest="drop"),
        position=Spec("time_frequency", times=size[1] // stride),
        block=Spec("prenorm", mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=ratio), norm=norm),
        norm=norm,
        head=Spec("classifier", pool=Spec("class_pair"), norm=Spec("layernorm", eps=1e-5)),
        image_size=size,
        num_classes=num_classes,
    )


VARIANTS = {
    "passt_s_p16": passt(),
    "passt_l_p16": passt(depth=7),
    "passt_s_p16_s12": passt(stride=12),
    "passt_s_p16_s14": passt(stride=14),
    "passt_s_p16_s16": passt(stride=16),
    "passt_s_stfthop100_p16": passt(size=(128, 3200)),
    "passt_s_stfthop160_p16": passt(size=(128, 2000)),
    "passt_s_20sec_p16": passt(size=(128, 2000)),
    "passt_s_30sec_p16": passt(size=(128, 3000)),
    # Ours, for half a second of sound and for tests.
    "passt_micro": passt(64, 3, 4, ratio=2.0, patch=8, stride=6, size=(64, 48), num_classes=8).set(init="fan_in"),
}
VARIANTS["passt_micro"] = VARIANTS["passt_micro"].set(position=Spec("time_frequency"))
