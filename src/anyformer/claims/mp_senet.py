"""Lu, Ai and Ling 2023, arXiv:2308.08926: estimating phases beside magnitudes gives more than magnitudes alone."""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.models import create_model
from anyformer.models.audio.mp_senet import MPSENet
from anyformer.tasks.enhancement import Enhancement

CLAIM = Claim(
    statement="On speech-like sounds in noise, a small MP-SENet gains 3 dB of SI-SDR, 0.3 dB more than the same net "
    "that keeps the noisy phase; its phase decoder turns the noisy phase, as a short training needs.",
    baseline="The noisy sound; and the same net, trained alike, whose sounds have the noisy phase.",
    expect=(
        Expect("gain", at_least=3.0, unit="dB of SI-SDR over the noisy sound"),
        Expect("gain_of_phase", at_least=0.3, unit="dB of SI-SDR over the noisy phase"),
    ),
    seeds=(1,),
)

STEPS = 60


class NoisyPhase(MPSENet):
    """The net with its mask alone."""

    name = ""

    def estimate(self, magnitude: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        return super().estimate(magnitude, phase)[0], phase


def measure(seed: int) -> dict[str, float]:
    """SI-SDR on the test part of the noisy sound and of both nets."""
    task = Enhancement(piece=0.128, seed=seed)
    noisy = task.baseline("test").value
    found = {}
    for name in ("phase", "magnitude"):
        torch.manual_seed(seed)
        spec = create_model("mp_senet_micro", **task.model_options()).built_from
        assert spec is not None
        torch.manual_seed(seed)
        model = create_model(spec) if name == "phase" else NoisyPhase(**spec.options)
        config = TrainConfig(
            budget=f"{STEPS}steps", batch_size=32, learning_rate=5e-3, seed=seed, evaluations=1, device="cpu"
        )
        result = train(model, task, config, progress=False)
        found[name] = task.evaluate(result.model, "test")["si_sdr"]
    return {
        "noisy": noisy,
        **found,
        "gain": found["phase"] - noisy,
        "gain_of_phase": found["phase"] - found["magnitude"],
    }
