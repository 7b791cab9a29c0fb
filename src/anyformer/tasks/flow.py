"""Optical flow: where every pixel of a frame goes in the next."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.flow import GeneratedPairs, Motion
from anyformer.data.flow_files import FlowFiles, filled, read_frame, up
from anyformer.data.pictures import Picture, beside, colour, enlarge, flow_wheel
from anyformer.data.seeds import combine, sample_seeds
from anyformer.data.splits import SPLITS
from anyformer.tasks.task import Baseline, Batch, Task, measuring, to_device

PIXELS = 1 << 20
"""Whole frames are measured in batches of about this many pixels."""


def sequence_loss(
    flows: Float[Tensor, "b n 2 h w"],
    truth: Float[Tensor, "b 2 h w"],
    valid: Bool[Tensor, "b h w"],
    gamma: float = 0.8,
    longest: float = 400.0,
) -> Tensor:
    """sum_i gamma^(n - i) mean |flow_i - truth| over valid pixels and both directions, for n flows that improve.

    Teed and Deng 2020 (RAFT), arXiv:2003.12039, equation 7. Motions longer than `longest` are left out, as by the
    authors.
    """
    known = valid & (truth.square().sum(1) < longest**2)
    count = flows.shape[1]
    weights = gamma ** torch.arange(count - 1, -1, -1, device=flows.device, dtype=torch.float32)
    error = (flows - truth[:, None]).abs().sum(2) * known[:, None]
    return (error.sum((0, 2, 3)) / (2 * known.sum()).clamp(min=1) * weights).sum()


def end_point_errors(flow: Float[Tensor, "b 2 h w"], truth: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b h w"]:
    """Distances, in pixels, between where each pixel goes and where it is said to go."""
    return (flow - truth).square().sum(1).sqrt()


def outliers(errors: Float[Tensor, "b h w"], truth: Float[Tensor, "b 2 h w"]) -> Bool[Tensor, "b h w"]:
    """KITTI's: pixels that are wrong by more than 3 pixels and by more than a twentieth of their motion."""
    return (errors > 3) & (errors > 0.05 * truth.square().sum(1).sqrt())


class OpticalFlow(Task):
    """The motion of every pixel from one frame to the next. Metric: mean end-point error in pixels.

    "epe", lower is better; "f1_all" beside it is the percentage of outliers as KITTI counts them. Both are over all
    pixels whose motion is known. Loss: `sequence_loss`. Models take two frames `(b, c, h, w)` in [-1, 1] and give
    `(b, 2, h, w)`, (right, down) in pixels; in training, where there are several, all estimates `(b, n, 2, h, w)`.

    Args:
        path: a folder of frames with their flow, as `data.flow_files.FlowFiles` takes it. None: pairs generated from
            photographs that ship with scikit-image.
        image_size: side of the squares for training; None: 32 for generated pairs, else the largest that fits, up to
            256. Generated pairs are measured at this size too, files whole.
        reach: longest generated motion, in pixels.
        motion: of generated pairs: "smooth" or "shift"; see `data.flow.GeneratedPairs`.
        channels: 3 for colour, 1 for grey.
        samples: generated pairs of an epoch.
        gamma: of the loss.
        seed: of the dealing out of files.

    Raises:
        OptionError, DataError: what `GeneratedPairs` and `FlowFiles` raise.
    """

    name = "flow"
    metric = "epe"
    higher_is_better = False
    default_model = "raft_micro"
    margin = 0.7

    def __init__(
        self,
        path: str | Path | None = None,
        image_size: int | None = None,
        reach: float = 6.0,
        motion: Motion = "smooth",
        channels: int = 3,
        samples: int = 1536,
        gamma: float = 0.8,
        seed: int = 0,
    ):
        self.pairs: GeneratedPairs | FlowFiles
        if path is None:
            self.pairs = GeneratedPairs(32 if image_size is None else image_size, reach, motion, channels, samples)
        else:
            self.pairs, self.ahead = FlowFiles(Path(path), image_size, channels, seed), 2
        self.generated, self.channels, self.gamma = path is None, channels, gamma

    def model_options(self) -> dict[str, Any]:
        return {"in_channels": self.channels, "image_size": self.pairs.side}

    def size(self, split: str) -> int:
        return self.pairs.sizes[self.check_split(split)]

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "first", "second" `(b, c, h, w)` in [-1, 1], "flow" `(b, 2, h, w)` in pixels, "valid" `(b, h, w)`."""
        # Outside training, places and motions are those of the sample, whatever the run.
        seeds = sample_seeds(seed if train else combine(SPLITS.index(self.check_split(split))), indices)
        return self.pairs.batch(self.check_split(split), indices, seeds, train)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        if label_smoothing:
            raise OptionError("label_smoothing is for classes; flow has none: set it to 0.")
        flows = estimates(model, batch)
        return sequence_loss(flows, batch["flow"], batch["valid"], self.gamma)

    def count(self, batch: Batch) -> int:
        return int(batch["valid"].sum())

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """ "epe" in pixels, "f1_all" in percent, and "loss", that of the last estimate alone."""
        return self.measure(split, lambda batch: estimates(model, batch)[:, -1], model, batch_size)

    def measure(self, split: str, answer: Any, model: nn.Module, batch_size: int = 256) -> dict[str, Any]:
        """The same of any function from a batch to flow."""
        total = torch.zeros(4, dtype=torch.float64)
        pixels = self.sample(split, torch.arange(1))["valid"].numel()
        with measuring(model) as device:
            for _, batch in self.batches(split, max(1, min(batch_size, PIXELS // pixels)), device):
                flow, truth, valid = answer(batch), batch["flow"], batch["valid"]
                errors = end_point_errors(flow, truth)
                wrong = outliers(errors, truth)[valid].sum()
                loss = sequence_loss(flow[:, None], truth, valid) * valid.sum()
                total += torch.stack([valid.sum(), errors[valid].sum(), wrong, loss]).double().cpu()
        _, error, wrong, loss = (total / total[0].clamp(min=1)).tolist()
        return {"epe": error, "f1_all": 100 * wrong, "loss": loss}

    def baseline(self, split: str = "valid") -> Baseline:
        """No motion, or the mean motion of training pairs, whichever is nearer the truth."""
        seen = self.sample("train", torch.arange(min(64, self.size("train"))), train=True)
        mean = seen["flow"].movedim(1, -1)[seen["valid"]].mean(0)[None, :, None, None]
        answers = {"no motion": torch.zeros_like(mean), "the mean motion of training": mean}
        found = {
            what: self.measure(split, lambda batch, f=flow: f.to(batch["flow"]).expand_as(batch["flow"]), nn.Identity())
            for what, flow in answers.items()
        }
        what = min(found, key=lambda name: found[name][self.metric])
        return Baseline(what, found[what][self.metric], self.margin if self.generated else 0.0)

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """Both frames, the true and the estimated motion; hues are directions, white is rest."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        drawn = []
        with measuring(model) as device:
            flows = [estimates(model, to_device(one, device))[0, -1].cpu() for one in each(batch)]
        for flow, one in zip(flows, each(batch), strict=True):
            truth, valid = one["flow"][0], one["valid"][0]
            error = float(end_point_errors(flow[None], one["flow"])[0][valid].mean()) if valid.any() else 0.0
            longest = float((truth.square().sum(0).sqrt() * valid).max())
            frames = [colour((one[name][0].numpy() + 1) / 2) for name in ("first", "second")]
            fields = [flow_wheel((f * valid).numpy(), longest) for f in (truth, flow)]
            factor = max(1, 160 // max(truth.shape[1:]))
            panels = beside([enlarge(x, factor) for x in (*frames, *fields)])
            caption = f"first and second frame, true motion (up to {longest:.1f} px), estimate ({error:.2f} px off)"
            drawn.append(Picture(caption, panels))
        return drawn

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """The motion between the frames of each pair.

        A pair is two paths of images, also written "FIRST,SECOND", or two tensors `(c, h, w)` in [-1, 1]. "flow" is
        rows of columns of (right, down) in pixels; "mean_right" and "mean_down" are their means.
        """
        answers = []
        with measuring(model) as device:
            for given in inputs:
                frames = self.prepare(given)
                height, width = frames["first"].shape[1:]
                whole = {n: x[None] for n, x in filled(frames, (up(height), up(width))).items()}
                flow = estimates(model, to_device(whole, device))[0, -1].cpu()[:, :height, :width]
                right, down = flow.mean((1, 2)).tolist()
                answers.append(
                    {
                        "input": given if isinstance(given, str) else None,
                        "mean_right": right,
                        "mean_down": down,
                        "height": height,
                        "width": width,
                        "flow": flow.permute(1, 2, 0).tolist(),
                    }
                )
        return answers

    def prepare(self, given: Any) -> dict[str, Tensor]:
        """The frames "first" and "second" of what `predict` takes."""
        pair = given.split(",") if isinstance(given, str) else given
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise DataError(f"flow is between two frames, as in first.png,second.png; given {given!r}.")
        first, second = (x if isinstance(x, Tensor) else read_frame(Path(str(x).strip()), self.channels) for x in pair)
        if first.shape != second.shape or first.dim() != 3 or first.shape[0] != self.channels:
            raise DataError(
                f"the two frames are images ({self.channels}, h, w) of one size; given {tuple(first.shape)} and "
                f"{tuple(second.shape)}."
            )
        return {"first": first, "second": second}

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Both frames beside each other, and the true motion as colours, `(h, w, 3)` uint8."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        found = []
        for one in each(batch):
            frames = beside([colour((one[name][0].numpy() + 1) / 2) for name in ("first", "second")])
            found.append({"input": frames, "truth": flow_wheel((one["flow"][0] * one["valid"][0]).numpy())})
        return found

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "pairs": self.pairs.what,
            "square": self.pairs.side,
            "channels": self.channels,
            "gamma": self.gamma,
            "sizes": {split: self.size(split) for split in SPLITS},
        }


def each(batch: Batch) -> list[Batch]:
    """A batch of every sample by itself."""
    return [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in range(len(batch["first"]))]


def estimates(model: nn.Module, batch: Batch) -> Float[Tensor, "b n 2 h w"]:
    """All flows that a model gives, in float32, the last being its answer.

    Raises `FitError` for a model that does not take two frames and give a motion for every pixel.
    """
    first, second = batch["first"], batch["second"]
    advice = "take raft_micro or another model of optical flow"
    taken = list(inspect.signature(model.forward).parameters.values())
    if len(taken) < 2 and not any(p.kind is p.VAR_POSITIONAL for p in taken):
        raise FitError(f"flow takes a model of two frames; this one takes {len(taken)} input: {advice}.")
    found = model(first, second)
    wanted = (len(first), 2, *first.shape[2:])
    if found.shape not in (wanted, (len(first), found.shape[1], *wanted[1:])):
        raise FitError(
            f"flow takes a model that gives a motion for every pixel, {wanted}; this one gives {tuple(found.shape)}: "
            f"{advice}."
        )
    return (found if found.dim() == 5 else found[:, None]).float()


TASKS = {"flow": OpticalFlow}
