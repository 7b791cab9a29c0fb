"""Generation against the goldens of its references: models through `load_reference`, samplers directly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.methods.decoding.diffusion import Diffusion
from anyformer.methods.decoding.flow import Polynomial, path_of
from golden import Golden


def official_dit(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"output": model(*inputs.values())}


def official_switch_dit(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    time = model.time(inputs["t"])
    every = model.time(torch.arange(1000))
    return {
        "out": model(*inputs.values()),
        "gate_probs": model.gates(time),
        "topk_mask_of_t": model.masks(time),
        "prior_loss": model.prior_loss(inputs["t"]),
        "masks_all_mean": model.masks(every).mean(0),
    }


CASES = {  # golden: (name for create_model, outputs, parameters that only the reference holds)
    "dit--dit_s_2--official": ("official:DiT-S/2", official_dit, 256 * 384),  # fixed positions, kept as a parameter
    "switch_dit--switch_dit_s_2--official": ("official:Switch-DiT-S/2", official_switch_dit, 256 * 384),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, outputs, unused = CASES[name]
    Golden(name).hold(create_model(ours), outputs, idle=unused)


def test_diffusion_golden():
    golden = Golden("diffusion--ddpm_cosine_1000_ddim50--official")
    given = golden.inputs()
    clean, noise, drawn = given["x0"], given["noise"], given["step_noise"]
    process = Diffusion("cosine", 1000, "ddim50", "fixed_small")
    step = torch.tensor(golden.data["kwargs"]["t"])
    x = process.add_noise(clean, step, noise)
    answer = given["out"][:, :3]
    back = process.reverse(answer, x, step)
    golden.check(
        {
            "use_timesteps": process.times,
            "betas": process.betas,
            "alphas_cumprod": process.share,
            "posterior_variance": process.posterior_variance,
            "posterior_log_variance_clipped": process.posterior_log_variance,
            "posterior_mean_coef1": process.of_clean,
            "posterior_mean_coef2": process.of_noisy,
            "x_t": x,
            "mean": back.mean,
            "log_variance": back.log_variance,
            "pred_xstart": back.clean,
            "p_sample": process.ddpm_step(answer, x, step, drawn),
            "ddim_eta0": process.ddim_step(answer, x, step, drawn),
            "ddim_eta0.5": process.ddim_step(answer, x, step, drawn, eta=0.5, clip=False),
            "ddim_reverse": process.ddim_inversion_step(answer, x, step),
            "loss": process.loss(answer, x, clean, step, noise),
        }
    )


def test_flow_matching_golden():
    golden = Golden("flow_matching--affine_paths--official")
    given = golden.inputs()
    noise, data, t, told = (given[name] for name in ("x0", "x1", "t", "pred"))
    paths = {
        "cond_ot": path_of("cond_ot"),
        "poly3": Polynomial(3),
        "vp": path_of("variance_preserving"),
        "linear_vp": path_of("linear_vp"),
        "cosine": path_of("cosine"),
    }
    theirs = {"target": "data", "epsilon": "noise", "velocity": "velocity"}
    found = {}
    for name, path in paths.items():
        rates, x = path.rates(t), path.place(noise, data, t)
        found |= {f"{name}.{what}": getattr(rates, what) for what in ("alpha", "sigma", "d_alpha", "d_sigma")}
        found |= {f"{name}.x_t": x, f"{name}.dx_t": path.velocity(noise, data, t)}
        for source in theirs:
            for target in theirs:
                if source != target:
                    converted = path.convert(told, x, t, theirs[source], theirs[target])
                    found[f"{name}.{source}_to_{target}"] = converted
        found[f"{name}.snr_inverse"] = path.time_of(rates.alpha / rates.sigma)
    golden.check(found)
