"""Guided diffusion: a generator whose answer is exact, those of diffusers, and one that is trained here."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cerebridge.models.compat import mend_torchvision
from cerebridge.models.synthesis import Denoiser, DiffusersGenerator, guide
from cerebridge.models.synthesis.guidance import _draw
from cerebridge.models.training import train

mend_torchvision()
diffusers = pytest.importorskip("diffusers")

SIZE = 8


def normal(features: int = 12, **options) -> Denoiser:
    """Standard normal samples, by the exact noise."""
    made = Denoiser(
        lambda noisy, time: (1 - made.signal(time)) ** 0.5 * noisy, (features,), bounds=None, **options
    )
    return made


def direction(features: int = 12) -> torch.Tensor:
    weights = torch.randn(features, generator=torch.Generator().manual_seed(1))
    return weights / weights.norm()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_mean_of_a_gaussian_moves_by_the_strength_and_nothing_else_does(eta):
    weights = direction()
    samples = {
        strength: guide(normal(eta=eta), lambda x: x @ weights, n=2000, strength=strength, batch_size=2000)
        for strength in (0.0, 0.5, 1.0, 2.0)
    }
    along = {strength: found.images @ weights.numpy() for strength, found in samples.items()}
    for strength, expected in ((0.0, 0.0), (0.5, 0.53), (1.0, 1.08), (2.0, 2.15)):
        assert abs(along[strength].mean() - expected) < 0.08
        across = samples[strength].images - np.outer(along[strength], weights)
        assert abs(across.mean(axis=0)).max() < 0.1
        assert abs(along[strength].std() - along[0.0].std()) < 0.02
        np.testing.assert_allclose(
            across.std(), (samples[0.0].images - np.outer(along[0.0], weights)).std(), atol=0.02
        )


def test_without_strength_samples_are_the_generators_own_bit_for_bit():
    source = normal()
    samples = guide(source, lambda x: x[:, 0], n=3, strength=0.0, steps=20)
    for image, seed in zip(samples.images, samples.seeds, strict=True):
        draw = _draw(0, int(seed))
        noisy = torch.randn(1, 12, generator=draw)
        for time in source.begin(20, torch.device("cpu")):
            noisy = source.step(source.noise(noisy, time), time, noisy, [draw])
        assert np.array_equal(image, noisy[0].numpy())


def test_samples_are_ranked_and_batches_and_seeds_do_what_they_should():
    options = {"n": 7, "strength": 1.5, "steps": 15}
    found, again, cut, other = (
        guide(normal(), lambda x: x[:, 0], **options, **extra)
        for extra in ({"batch_size": 7}, {"batch_size": 7}, {"batch_size": 3}, {"random_state": 1})
    )
    assert (np.diff(found.scores) <= 0).all() and sorted(found.seeds) == list(range(7))
    np.testing.assert_allclose(found.scores, found.images[:, 0], rtol=1e-5)
    assert np.array_equal(found.images, again.images)
    np.testing.assert_allclose(found.images, cut.images, atol=1e-5)
    assert not np.allclose(found.images, other.images)
    assert found.stimuli.table["seed"].tolist() == found.seeds.tolist()


def network(channels: int = 3, **options) -> nn.Module:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=SIZE,
        in_channels=channels,
        out_channels=options.pop("out_channels", channels),
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=2,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()


def bright(images: torch.Tensor) -> torch.Tensor:
    return images.mean((1, 2, 3))


@pytest.mark.parametrize("kind", ["DDIM", "DDPM"])
def test_pipelines_of_diffusers_draw_what_they_draw_by_themselves(kind):
    pipeline = getattr(diffusers, f"{kind}Pipeline")(network(), getattr(diffusers, f"{kind}Scheduler")())
    pipeline.set_progress_bar_config(disable=True)
    options = {"use_clipped_model_output": True} if kind == "DDIM" else {}
    options |= {"num_inference_steps": 4, "output_type": "np"}
    (own,) = pipeline(batch_size=1, generator=_draw(0, 0), **options).images
    ours = guide(pipeline, bright, n=1, strength=0.0, steps=4, device="cpu")
    assert ours.images.shape == (1, SIZE, SIZE, 3)
    np.testing.assert_array_equal(ours.images[0], own)


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"]
)
def test_guidance_raises_the_objective_with_every_scheduler(scheduler):
    pipeline = SimpleNamespace(unet=network(), scheduler=getattr(diffusers, scheduler)())
    before, up, down = (
        guide(pipeline, bright, n=2, strength=strength, steps=6, device="cpu").scores.mean()
        for strength in (0.0, 100.0, -100.0)
    )
    assert up > before + 0.02 and down < before - 0.02


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_networks_that_predict_something_else_than_noise_give_the_same_samples(prediction):
    def pipeline(kind: str):
        scheduler = diffusers.DDIMScheduler(prediction_type=kind, clip_sample=False)

        class Net(nn.Module):
            config = SimpleNamespace(sample_size=SIZE, in_channels=3)

            def forward(self, noisy, time):
                signal = float(scheduler.alphas_cumprod[int(time)])
                noise = 0.8 * (1 - signal) ** 0.5 * noisy
                clean = (noisy - (1 - signal) ** 0.5 * noise) / signal**0.5
                velocity = signal**0.5 * noise - (1 - signal) ** 0.5 * clean
                return SimpleNamespace(
                    sample={"epsilon": noise, "v_prediction": velocity, "sample": clean}[kind]
                )

        return SimpleNamespace(unet=Net(), scheduler=scheduler)

    expected, given = (
        guide(pipeline(kind), bright, n=2, strength=20.0, steps=8, device="cpu").images
        for kind in ("epsilon", prediction)
    )
    np.testing.assert_allclose(given, expected, atol=1e-3)


class Tokenizer:
    model_max_length = 4

    def __call__(self, text, padding, max_length, return_tensors):
        assert text == ""
        return SimpleNamespace(input_ids=torch.zeros(1, max_length, dtype=torch.long))


def test_latents_are_decoded_and_the_text_is_empty():
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8, 8), "norm_num_groups": 2, "layers_per_block": 1}
    unet = diffusers.UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=6,
        attention_head_dim=4,
        **sizes,
    ).eval()
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = diffusers.AutoencoderKL(latent_channels=4, **blocks, **sizes).eval()
    embedding = nn.Embedding(3, 6)
    encoder = nn.Sequential(embedding)
    encoder.forward = lambda tokens: (embedding(tokens),)
    pipeline = SimpleNamespace(
        unet=unet,
        vae=vae,
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
        tokenizer=Tokenizer(),
        text_encoder=encoder,
    )
    generator = DiffusersGenerator(pipeline)
    assert generator.shape == (4, 4, 4) and generator.condition.shape == (1, 4, 6)
    latent = torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        expected = vae.decode(latent / vae.config.scaling_factor).sample / 2 + 0.5
        torch.testing.assert_close(generator.decode(latent), expected)
    plain, guided = (guide(pipeline, bright, n=2, strength=s, steps=5, device="cpu") for s in (0.0, 100.0))
    assert plain.images.shape == (2, 8, 8, 3)
    assert guided.scores.mean() > plain.scores.mean()
    assert not unet.training and all(parameter.grad is None for parameter in unet.parameters())


class Estimate(nn.Module):
    """The noise in small pictures: what is left of them besides what a network takes for the picture."""

    def __init__(self, signals: list[float]):
        super().__init__()
        self.register_buffer("signals", torch.tensor(signals))
        pixels = 3 * SIZE * SIZE
        self.clean = nn.Sequential(
            nn.Linear(pixels + 1, 256),
            nn.SiLU(),
            nn.Linear(256, 256),
            nn.SiLU(),
            nn.Linear(256, pixels),
            nn.Tanh(),
        )

    def forward(self, noisy, time):
        signal = self.signals[torch.as_tensor(time).expand(len(noisy))][:, None]
        flat = noisy.flatten(1)
        clean = self.clean(torch.cat([flat, (1 - signal).sqrt()], 1))
        return ((flat - signal.sqrt() * clean) / (1 - signal).sqrt()).reshape(noisy.shape)


def squares(n: int, seed: int = 0) -> np.ndarray:
    """Bright squares on the left or on the right half, at random heights."""
    rng = np.random.default_rng(seed)
    pictures = np.full((n, SIZE, SIZE, 3), 0.1, np.float32)
    for picture in pictures:
        top, left = rng.integers(0, 5), rng.choice((0, 4))
        picture[top : top + 4, left : left + 4] = rng.uniform(0.8, 1.0)
    return pictures


def right(images: torch.Tensor) -> torch.Tensor:
    """The region of interest: it answers to the right half of the field."""
    return images[..., SIZE // 2 :].mean((1, 2, 3)) - images[..., : SIZE // 2].mean((1, 2, 3))


@pytest.mark.slow
def test_a_trained_generator_is_guided_to_what_a_region_prefers_and_stays_with_what_it_knows():
    clean = torch.from_numpy(squares(1000)).movedim(-1, 1) * 2 - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = Denoiser(nn.Identity(), (3, SIZE, SIZE), times=200, betas=(1e-3, 0.05))
        denoiser.estimate = Estimate(denoiser.signals)

    def loss(module, batch):
        times = torch.randint(200, (len(batch["x"]),))
        return module.loss(batch["x"], times, torch.randn_like(batch["x"]))

    train(denoiser, loss, {"x": clean}, learning_rate=2e-3, max_epochs=200, batch_size=64, device="cpu")
    drawn = {
        strength: guide(denoiser, right, n=60, strength=strength, steps=50, batch_size=60, device="cpu")
        for strength in (0.0, 20.0, -20.0)
    }
    known = squares(400, seed=1)
    misfit = {
        strength: np.mean([np.abs(known - image).mean(axis=(1, 2, 3)).min() for image in samples.images])
        for strength, samples in drawn.items()
    }
    share = {strength: np.mean(samples.scores > 0) for strength, samples in drawn.items()}
    assert 0.25 < share[0.0] < 0.8
    assert share[20.0] > 0.95 and share[-20.0] < 0.05
    noise = np.random.default_rng(0).random((60, SIZE, SIZE, 3))
    random = np.mean([np.abs(known - image).mean(axis=(1, 2, 3)).min() for image in noise])
    assert max(misfit.values()) < 0.4 * random


class Wrong(Denoiser):
    """Decodes to pictures with one channel."""

    def decode(self, clean):
        return clean.reshape(len(clean), 1, 3, 4)


@pytest.mark.parametrize(
    ("source", "objective", "options", "message"),
    [
        (normal(), lambda x: x[:, 0].detach(), {}, "not differentiable"),
        (normal(), lambda x: x, {}, "give one score an image"),
        (normal(), lambda x: (x[:, 0] * 0).sqrt(), {}, "NaN or infinite at time 999"),
        (normal(), lambda x: x[:, 0], {"n": 0}, "n=0 must be a positive whole number"),
        (normal(), lambda x: x[:, 0], {"steps": 2000}, "more than the 1000 times"),
        (normal(), lambda x: x[:, 0], {"strength": float("nan")}, "strength=nan"),
        (
            Denoiser(lambda noisy, time: noisy[:, :3], (5,)),
            bright,
            {},
            r"estimates noise of the shape \(4, 3\)",
        ),
        (
            Wrong(lambda noisy, time: noisy, (12,)),
            bright,
            {},
            r"decodes 4 samples to the shape \(4, 1, 3, 4\)",
        ),
        (SimpleNamespace(scheduler=None), bright, {}, "has no unet"),
        (
            SimpleNamespace(unet=network(), scheduler=diffusers.EulerDiscreteScheduler()),
            bright,
            {},
            "EulerDiscreteScheduler does not scale noise by alpha-bar; use DDIMScheduler",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(source, objective, options, message):
    with pytest.raises(ValueError, match=message):
        guide(source, objective, **{"steps": 5, "n": 4, "strength": 1.0, "device": "cpu", **options})


def test_schedules_must_make_sense():
    with pytest.raises(ValueError, match="betas"):
        Denoiser(lambda noisy, time: noisy, (2,), betas=(0.5, 0.1))
    with pytest.raises(ValueError, match="eta"):
        Denoiser(lambda noisy, time: noisy, (2,), eta=-1)
