"""Diffusion and flow samplers: schedules, respacing, learned variance, exact answers come back, guidance, misuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.errors import OptionError, SizeError
from anyformer.methods.decoding.diffusion import (
    SCHEDULES,
    Diffusion,
    invert,
    sample_diffusion,
    shade_cost,
    spaced,
)
from anyformer.methods.decoding.flow import PATHS, QUANTITIES, SOLVERS, Polynomial, path_of, sample_flow, solve
from anyformer.methods.decoding.guidance import guided

MEAN, DEVIATION = 0.3, 0.5


class Exact(nn.Module):
    """The best denoiser for pixels that are independent and normal: it knows their mean and deviation."""

    def __init__(self, share: torch.Tensor):
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = self.share[t.long()].view(-1, 1, 1, 1).float()
        spread = a * DEVIATION**2 + 1 - a
        return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / spread


class Drift(nn.Module):
    """The exact velocity of a path between standard normal noise and those pixels; the model's time is (1 - t) 1000."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        r = self.path.rates(1 - time / 1000).over(x)
        spread = r.alpha**2 * DEVIATION**2 + r.sigma**2
        slope = r.alpha * r.d_alpha * DEVIATION**2 + r.sigma * r.d_sigma
        return r.d_alpha * MEAN + slope / spread * (x - r.alpha * MEAN)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("timesteps", [50, 1000])
def test_a_schedule_ends_in_noise_and_begins_with_the_image(schedule: str, timesteps: int):
    process = Diffusion(schedule, timesteps)
    assert (process.share[1:] < process.share[:-1]).all() and (process.betas > 0).all()
    assert process.share[0] > 0.99 * (1 - 1 / timesteps) - 0.01 and process.share[-1] < 1e-3
    x, noise = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    assert float(process.add_noise(x, torch.tensor([3]), noise).mean()) == pytest.approx(math.sqrt(process.share[3]))


def test_respacing_keeps_the_noise_of_the_times_that_it_keeps():
    whole = Diffusion("cosine", 100)
    for kept in (7, "ddim25", (3, 5), 100, 1):
        short = Diffusion("cosine", 100, kept)
        torch.testing.assert_close(short.share, whole.share[short.times])
        torch.testing.assert_close((1 - short.betas).cumprod(0), short.share)
    assert spaced(100, "ddim25") == list(range(0, 100, 4))
    assert spaced(300, (10, 15, 20))[::10][:2] == [0, 100] and len(spaced(300, (10, 15, 20))) == 45
    assert spaced(1000, 5) == [0, 250, 500, 749, 999]


def test_noise_and_image_tell_the_same():
    process = Diffusion("linear", 100)
    torch.manual_seed(0)
    clean, noise, step = torch.rand(3, 2, 4, 4), torch.randn(3, 2, 4, 4), torch.tensor([0, 40, 99])
    x = process.add_noise(clean, step, noise)
    torch.testing.assert_close(process.clean_of(x, step, noise), clean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(process.noise_of(x, step, clean), noise, rtol=1e-3, atol=1e-3)
    # Step 0 back ends at the image itself, whatever the draw.
    first = torch.zeros(3, dtype=torch.long)
    x = process.add_noise(clean, first, noise)
    for back in (process.ddpm_step, process.ddim_step):
        torch.testing.assert_close(back(noise, x, first, torch.randn_like(x)), clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 1.0)])
def test_an_exact_denoiser_draws_the_distribution(sampler, eta):
    process = Diffusion("cosine", 200)
    drawn = sample_diffusion(
        Exact(process.share), (2000, 1, 2, 2), diffusion=process, sampler=sampler, eta=eta, clip=False, seed=0
    )
    assert abs(float(drawn.mean()) - MEAN) < 0.03 and abs(float(drawn.std()) - DEVIATION) < 0.03


def test_draws_follow_their_seed_and_their_noise():
    process = Diffusion("cosine", 50)
    model, noise = Exact(process.share), torch.randn(2, 1, 4, 4)
    options = {"diffusion": process, "sampler": "ddpm"}
    one, again, other = (sample_diffusion(model, noise, seed=s, **options) for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    same = [sample_diffusion(model, noise, diffusion=process, seed=s) for s in (1, 2)]
    assert torch.equal(*same), "DDIM with eta 0 draws nothing"
    assert not one.is_inference()


def test_ddim_comes_back_from_its_inversion():
    process = Diffusion("cosine", 500)
    model = Exact(process.share)
    torch.manual_seed(0)
    images = MEAN + DEVIATION * torch.randn(4, 1, 3, 3)
    code = invert(model, images, diffusion=process)
    assert 0.7 < float(code.std()) < 1.3
    back = sample_diffusion(model, code, diffusion=process, clip=False)
    assert float((back - images).norm() / images.norm()) < 0.02


def test_a_learned_variance_lies_between_its_bounds():
    process = Diffusion("cosine", 100, variance="learned_range")
    x, step = torch.randn(2, 1, 3, 3), torch.tensor([20, 60])
    for place, bound in ((-1.0, process.posterior_log_variance), (1.0, process.betas.log())):
        answer = torch.cat([torch.zeros_like(x), torch.full_like(x, place)], 1)
        found = process.reverse(answer, x, step).log_variance[:, 0, 0, 0]
        torch.testing.assert_close(found, bound[step].float())


def test_the_variance_learns_and_does_not_move_the_mean():
    process = Diffusion("linear", 100, variance="learned_range")
    torch.manual_seed(0)
    clean, noise = torch.rand(4, 1, 4, 4) * 2 - 1, torch.randn(4, 1, 4, 4)
    step = torch.tensor([0, 1, 50, 99])
    x = process.add_noise(clean, step, noise)
    told, place = torch.randn_like(x, requires_grad=True), torch.zeros_like(x, requires_grad=True)
    loss = process.loss(torch.cat([told, place], 1), x, clean, step, noise)
    plain = Diffusion("linear", 100).loss(told, x, clean, step, noise)
    assert (loss > plain).all()
    (mean_gradient,) = torch.autograd.grad(loss.sum(), told, retain_graph=True)
    (alone,) = torch.autograd.grad(plain.sum(), told)
    torch.testing.assert_close(mean_gradient, alone)
    (gradient,) = torch.autograd.grad(loss.sum(), place)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()


def test_the_bound_is_the_divergence_of_two_normals():
    process = Diffusion("cosine", 100, variance="learned_range")
    torch.manual_seed(0)
    clean, noise, step = torch.rand(3, 1, 2, 2), torch.randn(3, 1, 2, 2), torch.tensor([5, 30, 80])
    x = process.add_noise(clean, step, noise)
    told, place = torch.randn_like(x), torch.rand_like(x)
    answer = torch.cat([told, place], 1)
    back = process.reverse(answer, x, step, clip=False)
    truth = torch.distributions.Normal(
        process.posterior_mean(x, step, clean),
        (process.posterior_log_variance[step] / 2).exp().view(-1, 1, 1, 1).float(),
    )
    guess = torch.distributions.Normal(back.mean, (back.log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(truth, guess).flatten(1).mean(1) / math.log(2) * len(process) / 1000
    error = (noise - told).square().flatten(1).mean(1)
    torch.testing.assert_close(process.loss(answer, x, clean, step, noise) - error, expected, rtol=1e-3, atol=1e-4)


def test_chances_of_all_shades_add_up_to_one():
    shades = torch.arange(256) / 127.5 - 1
    for mean, deviation in ((0.2, 0.1), (-0.95, 0.3)):
        cost = shade_cost(shades, torch.tensor(mean), torch.tensor(deviation).log())
        assert float((-cost).exp().sum()) == pytest.approx(1.0, abs=1e-3)


def test_guidance_leans_and_leaves_the_variance():
    def model(x, t, labels):
        return torch.cat([x * 0 + labels.view(-1, 1, 1, 1), x * 0 + 10 + labels.view(-1, 1, 1, 1)], 1)

    x, t, labels = torch.zeros(2, 1, 1, 1), torch.zeros(2), torch.tensor([1, 4])
    for scale in (0.0, 1.0, 3.0):
        answer = guided(model, scale, null=2, channels=1)(x, t, labels)
        torch.testing.assert_close(answer[:, 0, 0, 0], 2 + scale * (labels - 2.0))
        torch.testing.assert_close(answer[:, 1, 0, 0], 10 + labels.float())


def test_samplers_take_a_dit_with_labels_and_guidance():
    torch.manual_seed(0)
    model = create_model("dit_micro")
    nn.init.normal_(model.head.weight, std=0.1)
    nn.init.normal_(model.blocks[0].modulation.linear.weight, std=0.5)
    nn.init.normal_(model.modulation.linear.weight, std=0.5)
    labels, noise = torch.tensor([1, 2]), torch.randn(2, 1, 8, 8)
    short = Diffusion(respacing=3)
    plain = sample_diffusion(model, noise, labels, diffusion=short)
    strong = sample_diffusion(model, noise, labels, diffusion=short, scale=4.0)
    assert plain.shape == (2, 1, 8, 8) and not torch.allclose(plain, strong) and model.training
    flows = [sample_flow(model, noise, labels, steps=2, scale=s) for s in (1.0, 4.0)]
    assert flows[0].shape == (2, 1, 8, 8) and not torch.allclose(*flows)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_goes_from_noise_to_data_and_its_rates_are_derivatives(name: str):
    path = path_of(name)
    ends = path.rates(torch.tensor([1e-4, 1 - 1e-4], dtype=torch.float64))
    assert ends.alpha[0] < 0.02 and ends.alpha[1] > 0.99 and ends.sigma[0] > 0.99 and ends.sigma[1] < 0.02
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64, requires_grad=True)
    rates = path.rates(t)
    for value, slope in ((rates.alpha, rates.d_alpha), (rates.sigma, rates.d_sigma)):
        (expected,) = torch.autograd.grad(value.sum(), t, retain_graph=True)
        torch.testing.assert_close(slope, expected)
    torch.testing.assert_close(path.time_of(rates.alpha / rates.sigma), t)


@pytest.mark.parametrize("name", PATHS)
def test_what_a_model_tells_is_one_thing_in_three_ways(name: str):
    path = path_of(name)
    generator = torch.Generator().manual_seed(0)
    noise, data = (torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    x = path.place(noise, data, t)
    truth = {"noise": noise, "data": data, "velocity": path.velocity(noise, data, t)}
    for source in QUANTITIES:
        for target in QUANTITIES:
            torch.testing.assert_close(path.convert(truth[source], x, t, source, target), truth[target])


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_have_their_order_and_go_back(solver: str):
    def field(x, t):
        return -2 * x + t

    def error(steps: int) -> float:
        exact = (1 + 0.25) * math.exp(-2) + 0.5 - 0.25
        found = solve(field, torch.ones(1, dtype=torch.float64), solver=solver, steps=steps)
        return abs(float(found) - exact)

    order = math.log2(error(40) / error(80))
    assert order == pytest.approx(1.0 if solver == "euler" else 2.0, abs=0.1)
    there = solve(field, torch.ones(1), solver=solver, steps=500)
    assert float(solve(field, there, solver=solver, steps=500, start=1.0, end=0.0)) == pytest.approx(1.0, abs=2e-2)


@pytest.mark.parametrize("name", ["cond_ot", "polynomial", "cosine"])
@pytest.mark.parametrize("tells", QUANTITIES)
def test_an_exact_velocity_draws_the_distribution(name: str, tells):
    path = path_of(name)
    drift = Drift(path)

    class Tells(nn.Module):
        def forward(self, x, time):
            t = (1 - time / 1000).clamp(1e-3, 1 - 1e-3)
            return path.convert(drift(x, (1 - t) * 1000), x, t, "velocity", tells)

    drawn = sample_flow(Tells(), (2000, 1, 2, 2), path=name, tells=tells, steps=100, seed=0)
    assert abs(float(drawn.mean()) - MEAN) < 0.03 and abs(float(drawn.std()) - DEVIATION) < 0.03


def test_misuse_is_said():
    for options, message in (
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"variance": "learned"}, "did you mean 'learned_range'"),
        ({"respacing": "ddim300"}, "'ddimN' where a whole stride takes N of 1000"),
        ({"respacing": 1001}, "keeps 1 to 1000 of them; given 1001"),
        ({"timesteps": 1}, "two steps or more; given timesteps=1"),
    ):
        with pytest.raises(OptionError, match=message):
            Diffusion(**options)
    process = Diffusion("cosine", 50)
    model = Exact(process.share)
    with pytest.raises(SizeError, match="models that tell noise and variance go with 'learned_range'"):
        sample_diffusion(model, (1, 1, 2, 2), diffusion=Diffusion("cosine", 50, variance="learned_range"))
    with pytest.raises(OptionError, match="no sampler 'ddpn'; did you mean 'ddpm'"):
        sample_diffusion(model, (1, 1, 2, 2), sampler="ddpn")
    with pytest.raises(OptionError, match="leans towards a label"):
        sample_diffusion(model, (1, 1, 2, 2), diffusion=process, scale=2.0)
    with pytest.raises(OptionError, match="without a null class"):
        sample_diffusion(
            create_model("dit_micro", label_dropout=0.0), (1, 1, 8, 8), torch.tensor([1]), diffusion=process, scale=2.0
        )
    with pytest.raises(OptionError, match="no path 'cond'; did you mean 'cond_ot'"):
        path_of("cond")
    with pytest.raises(OptionError, match="n of a polynomial path is above 0"):
        Polynomial(0)
    with pytest.raises(OptionError, match="no solver 'heum'"):
        solve(lambda x, t: x, torch.ones(1), solver="heum")
    with pytest.raises(OptionError, match="one step or more; given 0"):
        solve(lambda x, t: x, torch.ones(1), steps=0)
    with pytest.raises(OptionError, match="velocity, noise or data; given 'score'"):
        sample_flow(model, (1, 1, 2, 2), tells="score")
