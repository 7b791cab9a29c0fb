"""From an encoder that was pretrained on satellite tiles to a number for every pixel, also of other bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anyformer.core.errors import FitError, OptionError
from anyformer.core.spec import Spec
from anyformer.models.dense.geo_biomass import PixelRegressor
from anyformer.models.factory import create_model
from anyformer.models.vision.masked_image import encoder_spec
from anyformer.weights.load import fill_state


def regressor(
    pretrained: Any,
    *,
    bands: Sequence[str],
    pretrained_bands: Sequence[str],
    mapping: Mapping[str, str | None] | None = None,
    frozen: bool = True,
    **options: Any,
) -> PixelRegressor:
    """A regressor around the encoder of a model that masked image modelling has pretrained (`simmim`).

    Muszynski et al. 2024, arXiv:2406.19888, section 3.

    Args:
        pretrained: from `create_model`, with an encoder.
        bands: names of the input's bands, in their order.
        pretrained_bands: names of those that the encoder was pretrained on.
        mapping: for each band that is not among them, the one whose weights it takes; None for weights of zero.
        frozen: whether the encoder stays as it is.
        options: of `PixelRegressor` ("image_size", "head", "layers", ...).

    Raises:
        OptionError: bands that the encoder does not know, without a mapping; names that are not one for each channel.
    """
    spec = getattr(pretrained, "built_from", None)
    if spec is None or not hasattr(pretrained, "encoder"):
        raise OptionError("regressor takes a model of create_model with an encoder, such as simmim_micro.")
    rows = band_rows(bands, pretrained_bands, mapping or {})
    if len(pretrained_bands) != pretrained.in_channels:
        raise OptionError(
            f"the encoder was pretrained on {pretrained.in_channels} bands; pretrained_bands names "
            f"{len(pretrained_bands)}: {', '.join(pretrained_bands)}."
        )
    given = {"image_size": pretrained.image_size, **options}
    encoder = encoder_spec(spec.options["encoder"])
    if "init" in encoder.options:
        given.setdefault("init", encoder.options["init"])
    model = create_model(Spec("pixel_regressor", backbone=encoder, in_channels=len(bands), **given))
    state = pretrained.encoder.state_dict()
    name = first_layer(pretrained.encoder, pretrained.in_channels)
    state[name] = picked(state[name], rows)
    backbone: Any = model.backbone
    known = backbone.state_dict()
    fill_state(
        backbone, {k: v for k, v in state.items() if k in known}, [], partial=False, what="the pretrained encoder"
    )
    assert isinstance(model, PixelRegressor)
    return model.freeze(frozen)


def band_rows(bands: Sequence[str], pretrained: Sequence[str], mapping: Mapping[str, str | None]) -> list[int | None]:
    """For each band the number of the pretrained one whose weights it takes; None for none of them.

    Raises `OptionError` for a band that is neither among them nor mapped to one, and for one that is named twice.
    """
    for names in (bands, pretrained):
        if len(set(names)) < len(tuple(names)):
            raise OptionError(f"every band has a name of its own; given {', '.join(names)}.")
    rows: list[int | None] = []
    for band in bands:
        source = mapping.get(band, band)
        if source is not None and source not in pretrained:
            raise OptionError(
                f"the encoder was pretrained on the {len(pretrained)} bands {', '.join(pretrained)}; given "
                f"{len(bands)} with {band!r}, which is none of them: say whose weights it takes, as in "
                f"mapping={{{band!r}: {pretrained[0]!r}}}, or None for none."
            )
        rows.append(None if source is None else list(pretrained).index(source))
    return rows


def first_layer(encoder: torch.nn.Module, channels: int) -> str:
    """The name of the weight that reads the image. Raises `FitError` where none does as a convolution."""
    for name, weight in encoder.named_parameters():
        if weight.dim() == 4 and weight.shape[1] == channels:
            return name
    raise FitError("bands are mapped in the first convolution of an encoder; this one has none that reads the image.")


def picked(weight: Tensor, rows: Sequence[int | None]) -> Tensor:
    """A convolution's weight for other bands: those of the given inputs, and zeros."""
    zeros = torch.zeros_like(weight[:, 0])
    return torch.stack([zeros if row is None else weight[:, row] for row in rows], 1)


METHODS = {"regressor": regressor}
