"""Facets: two families of images that one unit answers to, and one that it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from cerebridge import models
from cerebridge.models.synthesis import find_facets, maximise

SIZE = 12


class TwoFaced(torch.nn.Module):
    """The larger of the answers to two templates."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.templates = torch.randn(2, 3 * SIZE * SIZE, generator=generator)

    def forward(self, images):
        return ((images - 0.5).flatten(1) @ self.templates.to(images.device).T).max(1).values

    def pictures(self) -> np.ndarray:
        return self.templates.reshape(2, 3, SIZE, SIZE).movedim(1, -1).numpy()


def families(unit: TwoFaced, n: int, which: tuple[int, ...] = (0, 1)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    family = np.repeat(which, n)
    images = 0.5 + 0.05 * unit.pictures()[family] + 0.08 * rng.standard_normal((len(family), SIZE, SIZE, 3))
    order = rng.permutation(len(family))
    return images[order].clip(0, 1), family[order]


def alike(image: np.ndarray, template: np.ndarray) -> float:
    return float(np.corrcoef(image.ravel(), template.ravel())[0, 1])


#: templates are white and reach the border, so that steps must too
OPTIONS = {"space": "pixels", "steps": 60, "contrast": 0.15, "centre_bias": False}


def test_the_facets_of_a_unit_with_two_are_found_and_an_image_is_made_for_each():
    unit = TwoFaced()
    images, family = families(unit, 60)
    facets = find_facets(unit, images, images.reshape(len(images), -1), **OPTIONS)
    assert len(facets.table) == 2 and facets.table["n_images"].tolist() == [60, 60]
    assert facets.purity(family) > 0.95
    for facet, image in enumerate(facets.synthesis.images):
        own = family[facets.facet == facet][0]
        assert alike(image, unit.pictures()[own]) > 0.9
        assert alike(image, unit.pictures()[1 - own]) < 0.3
    assert (facets.table["gain"] > 0).all() and (facets.table["share_of_best"] > 1).all()
    assert facets.means.shape == facets.synthesis.images.shape == (2, SIZE, SIZE, 3)


def test_a_single_start_finds_only_one_of_them():
    unit = TwoFaced()
    made = maximise(unit, size=SIZE, n=1, **OPTIONS).images[0]
    likeness = sorted(alike(made, template) for template in unit.pictures())
    assert likeness[1] > 0.9 and likeness[0] < 0.3


def test_a_unit_with_one_facet_has_one():
    unit = TwoFaced()
    images, _ = families(unit, 80, which=(0,))
    facets = find_facets(unit, images, images.reshape(len(images), -1), **OPTIONS)
    assert len(facets.table) == 1 and alike(facets.synthesis.images[0], unit.pictures()[0]) > 0.9


def test_seeds_reproduce_and_only_images_that_drive_the_unit_are_taken():
    unit = TwoFaced()
    images, _ = families(unit, 30)
    rows = images.reshape(len(images), -1)
    first, again = (find_facets(unit, images, rows, n_images=50, **OPTIONS) for _ in range(2))
    assert np.array_equal(first.synthesis.images, again.synthesis.images)
    assert np.array_equal(first.facet, again.facet) and (first.facet >= 0).sum() == 50
    with torch.no_grad():
        scores = unit(torch.tensor(images).float().movedim(-1, 1)).numpy()
    assert scores[first.facet < 0].max() <= scores[first.facet >= 0].min()
    assert np.isnan(first.plane[first.facet < 0]).all()


def test_a_stimulus_set_and_its_extracted_layer():
    net = models.load("tiny", weights="random")
    pictures = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    stimuli = models.StimulusSet.from_arrays(pictures)
    unit = models.synthesis.LayerObjective(net, "conv1", 3)
    values = np.random.default_rng(0).standard_normal((20, 5))
    embedding = xr.DataArray(
        values,
        dims=("presentation", "neuroid"),
        coords={"stimulus_id": ("presentation", stimuli.table["stimulus_id"])},
    )
    facets = find_facets(unit, stimuli, embedding, n_facets=2, size=32, steps=2, n_nearest=5)
    assert facets.synthesis.images.shape == (2, 32, 32, 3)
    with pytest.raises(ValueError, match="another order"):
        find_facets(unit, stimuli, embedding[::-1], n_facets=2, size=32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": np.zeros((5, 3))}, r"embedding= has the shape \(5, 3\) for 40 stimuli"),
        ({"embedding": np.full((40, 3), np.nan)}, "finite numbers"),
        ({"n_facets": 30}, "n_facets=30 is impossible"),
        ({"n_images": 10}, "give at least 15"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change, message):
    unit = TwoFaced()
    images, _ = families(unit, 20)
    options = {"embedding": images.reshape(40, -1), **change}
    with pytest.raises(ValueError, match=message):
        find_facets(unit, images, **options)
