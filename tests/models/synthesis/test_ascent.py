"""Ascent: optima that are known, budgets that are kept, seeds, and objectives that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cerebridge import models
from cerebridge.models.synthesis import Features, LayerObjective, maximise

SIZE = 16


def template(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def along(direction: torch.Tensor):
    """The objective that is largest in one direction."""
    return lambda images: (images * direction).flatten(1).sum(1)


def alike(made: np.ndarray, direction: torch.Tensor) -> float:
    shown = direction.movedim(0, -1).numpy() if direction.ndim == 3 else direction.numpy()
    return float(np.corrcoef(made.ravel(), shown.ravel())[0, 1])


def test_a_linear_objective_is_climbed_to_its_direction_within_the_budget():
    made = maximise(along(template()), size=SIZE, space="pixels", steps=60, contrast=0.1)
    assert alike(made.images[0], template()) > 0.95
    np.testing.assert_allclose(made.images.std(), 0.1, rtol=0.01)
    assert made.images.min() >= 0 and made.images.max() <= 1
    assert made.scores[0] > made.before[0]
    np.testing.assert_allclose(
        made.scores[0], float((made.images[0] * template().movedim(0, -1).numpy()).sum()), rtol=1e-4
    )


def test_a_single_optimum_is_found():
    goal = torch.sigmoid(template())
    made = maximise(
        lambda images: -(images - goal).square().flatten(1).sum(1), size=SIZE, space="pixels", steps=300
    )
    np.testing.assert_allclose(made.images[0], goal.movedim(0, -1), atol=0.02)


def test_an_objective_of_vectors_without_bounds(device):
    goal = torch.tensor([3.0, -40.0, 700.0])
    made = maximise(
        lambda x: -(x - goal.to(x.device)).square().sum(1),
        np.zeros((2, 3)),
        bounds=None,
        steps=400,
        learning_rate=10,
        device=device,
    )
    np.testing.assert_allclose(made.images, goal.expand(2, 3), atol=1)


def test_images_of_one_run_are_independent_and_seeds_reproduce_them():
    options = {"size": SIZE, "steps": 10, "jitter": 2}
    two, again = (maximise(along(template()), n=2, **options) for _ in range(2))
    one = maximise(along(template()), n=1, **options)
    other = maximise(along(template()), n=1, random_state=1, **options)
    assert np.array_equal(two.images, again.images)
    np.testing.assert_allclose(two.images[0], one.images[0], atol=1e-6)
    assert not np.allclose(two.images[0], two.images[1]) and not np.allclose(one.images, other.images)
    assert two.course.shape == (10, 2)


def test_the_random_generators_of_others_are_left_alone():
    before = torch.get_rng_state()
    maximise(along(template()), size=SIZE, steps=3, jitter=2)
    assert torch.get_rng_state().equal(before)


def test_steps_in_fourier_space_are_smooth_and_grey_as_pictures_are():
    made = [
        maximise(along(template()), size=SIZE, steps=20, space=s).images[0] for s in ("fourier", "pixels")
    ]
    rough = [np.abs(np.diff(image, axis=0)).mean() / image.std() for image in made]
    colour = [image.std(axis=2).mean() / image.std() for image in made]
    assert rough[0] < 0.7 * rough[1] and colour[0] < 0.5 * colour[1]


def test_grey_images_have_no_colour_and_are_driven_all_the_same():
    made = maximise(along(template()), size=SIZE, steps=20, space="pixels", grey=True)
    assert np.ptp(made.images, axis=3).max() < 1e-6 and made.scores[0] > made.before[0]
    assert alike(made.images[0], template().mean(0, keepdim=True).expand(3, -1, -1)) > 0.9


def test_total_variation_makes_images_smoother():
    made = [
        maximise(along(template()), size=SIZE, steps=40, space="pixels", total_variation=weight).images[0]
        for weight in (0.0, 500.0)
    ]
    rough = [np.abs(np.diff(image, axis=0)).mean() for image in made]
    assert rough[1] < 0.7 * rough[0]


def test_centre_bias_begins_in_the_middle_and_ends_everywhere():
    everywhere = along(torch.ones(3, SIZE, SIZE))
    flat = np.full((1, SIZE, SIZE, 3), 0.5)

    def change(steps: int, until: int) -> np.ndarray:
        """How far each pixel is from grey after the first steps of many."""
        states = []

        def watching(images):
            states.append(images[0, 0].detach().numpy().copy())
            return everywhere(images)

        maximise(watching, flat, steps=steps, space="pixels", centre_bias=True)
        return np.abs(states[until] - 0.5)

    early, late = change(30, 3), change(30, 31) - change(30, 22)
    assert early[6:10, 6:10].mean() > 20 * early[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert late[[0, 0, -1, -1], [0, -1, 0, -1]].min() > 0.5 * late.max() > 0
    plain = maximise(everywhere, flat, steps=30, space="pixels").images[0]
    np.testing.assert_allclose(plain, plain[0, 0, 0], atol=1e-3)


def test_jitter_moves_what_is_shown_and_not_what_is_made():
    seen = []

    def watching(images):
        seen.append(images.detach().clone())
        return along(template())(images)

    start = template(1).sigmoid().movedim(0, -1).numpy()
    made = maximise(watching, start, steps=3, learning_rate=1e-6, jitter=3)
    np.testing.assert_allclose(made.images[0], start, atol=2e-3)
    assert any(not torch.allclose(shown, seen[0], atol=0.01) for shown in seen[1:-1])


@pytest.mark.parametrize("kind", ["uint8", "float", "torch", "stimuli", "one image"])
def test_images_of_every_kind_may_be_where_it_starts(kind):
    picture = np.random.default_rng(0).integers(5, 250, (2, SIZE, SIZE, 3)).astype(np.uint8)
    start = {
        "uint8": picture,
        "float": picture / 255,
        "torch": torch.from_numpy(picture / 255).movedim(-1, 1),
        "stimuli": models.StimulusSet.from_arrays(picture),
        "one image": picture[0],
    }[kind]
    made = maximise(along(template()), start, size=SIZE, steps=1, learning_rate=1e-9)
    np.testing.assert_allclose(made.images, picture[: len(made.images)] / 255, atol=1e-3)


def test_a_unit_of_a_network_is_driven_and_the_network_left_as_it_was():
    net = models.load("tiny", weights="random")
    before = models.fingerprint(net)
    with torch.no_grad():
        unit = int(Features(net.eval(), "conv3", pool="global")(torch.full((1, 3, 32, 32), 0.5)).argmax())
    made = maximise(
        LayerObjective(net.train(), "conv3", unit), size=32, n=2, steps=40, learning_rate=0.5, jitter=2
    )
    assert (made.scores > 2 * made.before).all()
    assert net.training and models.fingerprint(net) == before
    assert all(parameter.grad is None for parameter in net.parameters())
    again = LayerObjective(net.eval(), "conv3", unit)(torch.from_numpy(made.images).movedim(-1, 1))
    np.testing.assert_allclose(made.scores, again.detach(), rtol=1e-4)
    stimuli = made.stimuli
    assert stimuli[0].shape == (32, 32, 3) and stimuli.table["score"].tolist() == made.scores.tolist()


class Scalar(nn.Module):
    def forward(self, images):
        return images.mean()


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (lambda images: torch.ones(len(images)), {}, "not differentiable"),
        (lambda images: images.detach().mean((1, 2, 3)), {}, "not differentiable"),
        (lambda images: 0.0, {}, "gives float; give a tensor"),
        (Scalar(), {"n": 2}, r"shape \(\) for 2 images; give one score an image"),
        (lambda images: images[:, :, 0], {}, "one score an image"),
        (lambda images: (images - images).sum((1, 2, 3)).sqrt(), {}, "NaN or infinite"),
        (lambda images: nn.functional.relu(images - 5).sum((1, 2, 3)), {}, "flat where the images begin"),
        (along(template()), {"steps": 0}, "steps=0 must be a positive whole number"),
        (along(template()), {"learning_rate": -1.0}, "learning_rate=-1.0"),
        (along(template()), {"space": "wavelets"}, "space='wavelets' is unknown"),
        (along(template()), {"contrast": 0.0}, "contrast=0.0 must be positive"),
        (along(template()), {"bounds": (1, 0)}, "are empty"),
        (along(template()), {"start": np.full((1, 4, 4, 3), np.nan)}, "start= has NaN"),
        (along(template()), {"start": np.full((1, 4, 4, 3), 100.0)}, "outside bounds"),
        (along(template()), {"start": np.zeros((1, 4, 4, 1))}, "three channels"),
        (along(template()), {"start": np.zeros((1, 4)), "jitter": 2}, "are for images"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(objective, options, message):
    with pytest.raises(ValueError, match=message):
        maximise(objective, **{"size": SIZE, **options})
