"""HMAX against correlations written out, and the tolerances that its maxima are there for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cerebridge import models, neuro
from cerebridge.models.features import hmax, learn_prototypes
from cerebridge.models.features.hierarchy import BANDS, HMAX, gabors

SIZE = 64


def pictures(n, seed=0, size=SIZE):
    """Smooth blobs and bars on grey."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    made = np.full((n, size, size), 128.0)
    for k in range(n):
        for _ in range(6):
            angle, cx, cy = rng.uniform(0, np.pi), *rng.uniform(10, size - 10, 2)
            across = (x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
            along = (x - cx) * np.cos(angle) - (y - cy) * np.sin(angle)
            made[k] += rng.choice([-100, 100]) * ((np.abs(across) < 3) & (np.abs(along) < 12))
    return made.clip(0, 255).astype(np.uint8)


def stimuli_of(arrays):
    return models.StimulusSet.from_arrays(arrays)


def object_at(row, column, size=SIZE, scale=1.0):
    """A cross with one long arm, on grey."""
    y, x = np.mgrid[:size, :size]
    x, y = (x - column) / scale, (y - row) / scale
    bars = ((np.abs(x) < 2) & (np.abs(y) < 9)) | ((np.abs(y - 3) < 2) & (x > -4) & (x < 9))
    return np.where(bars, 230, 128).astype(np.uint8)


@pytest.fixture(scope="module")
def prototypes():
    return learn_prototypes(stimuli_of(pictures(6)), count=40, sides=[4, 6], size=SIZE)


def test_simple_cells_are_normalised_correlations():
    frames = torch.rand(2, 40, 40, generator=torch.Generator().manual_seed(0))
    ours = HMAX(40, "S1").simple_1(frames, 9).numpy()
    filters = gabors(9).numpy()[:, 0]
    assert np.abs(filters.sum((1, 2))).max() < 1e-6
    for row, column in ((4, 4), (20, 13), (35, 30)):
        patch = frames[:, row - 4 : row + 5, column - 4 : column + 5].numpy()
        around = patch - patch.mean((1, 2), keepdims=True)
        norm = np.sqrt((around**2).sum((1, 2)))
        expected = np.abs(np.einsum("nyx,oyx->no", patch, filters)) / norm[:, None]
        np.testing.assert_allclose(ours[:, :, row, column], expected, rtol=1e-4)
    assert ours.max() <= 1


def test_complex_cells_are_maxima_over_places_and_sizes():
    network = HMAX(40, "C1")
    frames = torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(0))
    band = network.complex_1(frames)[1].numpy()
    (sides, pool) = BANDS[1]
    both = np.maximum(*(network.simple_1(frames, side).numpy() for side in sides))
    assert band.shape == (1, 4, 7, 7)
    for row, column in ((0, 0), (3, 5), (6, 6)):
        y, x = row * pool // 2, column * pool // 2
        np.testing.assert_array_equal(
            band[0, :, row, column], both[0, :, y : y + pool, x : x + pool].max((1, 2))
        )


def test_best_matches_are_those_of_all_places(prototypes):
    network = HMAX(SIZE, "C2", prototypes)
    bands = network.complex_1(torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    ours = network.complex_2(bands, 6)[0].numpy()
    nearest = np.full(20, np.inf)
    for band in bands:
        maps = band[0].numpy()
        for row in range(maps.shape[1] - 5):
            for column in range(maps.shape[2] - 5):
                patch = maps[:, row : row + 6, column : column + 6]
                away = ((prototypes.patches[6].numpy() - patch) ** 2).sum((1, 2, 3))
                nearest = np.minimum(nearest, away)
    np.testing.assert_allclose(ours, np.exp(-4 * nearest / 36), rtol=1e-4)


@pytest.mark.parametrize("orientation", [0, 45, 90, 135])
def test_bars_drive_cells_of_their_orientation(orientation):
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    angle = np.deg2rad(orientation)
    bar = np.abs(x * np.sin(angle) + y * np.cos(angle)) < 3
    found = hmax(stimuli_of(np.where(bar, 255, 0).astype(np.uint8)[None]), size=SIZE)
    neuro.validate(found)
    sums = {o: found.values[0, found["orientation"].values == o].sum() for o in (0, 45, 90, 135)}
    assert max(sums, key=sums.get) == orientation


def respond(stage, *frames):
    with torch.no_grad():
        return HMAX(SIZE, stage)(torch.from_numpy(np.stack(frames)).float() / 255).numpy()


def alike(stage, *frames):
    return np.corrcoef(respond(stage, *frames))[0, 1]


@pytest.mark.parametrize("change", ["shift", "scale"])
def test_complex_cells_tolerate_what_simple_cells_do_not(change):
    other = object_at(32, 35) if change == "shift" else object_at(32, 32, scale=1.15)
    simple, complex_ = (alike(stage, object_at(32, 32), other) for stage in ("S1", "C1"))
    assert 1 - complex_ < 0.7 * (1 - simple)
    assert complex_ > 0.85


def test_prototypes_are_found_wherever_they_are(prototypes):
    places = [(28, 24), (28, 40), (36, 32), (40, 40)]
    cross = [object_at(*place) for place in places]
    features = hmax(stimuli_of(np.stack(cross)), prototypes=prototypes, size=SIZE).values
    maps = hmax(stimuli_of(np.stack(cross)), size=SIZE)
    others = hmax(stimuli_of(pictures(8, seed=9)), prototypes=prototypes, size=SIZE).values
    moved = np.linalg.norm(features - features.mean(0), axis=1).mean()
    changed = np.linalg.norm(others - others.mean(0), axis=1).mean()
    assert moved < changed / 2
    # the same places are far apart in C1
    between = np.corrcoef(maps.values)[np.triu_indices(4, 1)]
    assert between.mean() < 0.6


def test_a_prototype_matches_its_own_picture_perfectly():
    training = stimuli_of(pictures(3))
    own = learn_prototypes(training, count=30, sides=[4], size=SIZE)
    best = hmax(training, prototypes=own, size=SIZE).values.max(0)
    np.testing.assert_allclose(best, 1, atol=1e-4)
    rng = np.random.default_rng(0)
    noise = stimuli_of(rng.integers(0, 256, (2, SIZE, SIZE), np.uint8))
    assert hmax(noise, prototypes=own, size=SIZE).values.max() < 0.99


def test_grey_matches_nothing():
    for stage in ("S1", "C1"):
        assert np.abs(respond(stage, np.full((SIZE, SIZE), 90))).max() == 0


def test_contrast_and_lightness_change_little():
    picture = pictures(1)[0].astype(float)
    assert alike("C1", picture, 0.5 * (picture - 128) + 100) > 0.97


def test_prototypes_are_drawn_by_their_seed_from_training_pictures_alone():
    training = stimuli_of(pictures(4))
    first, again, other = (
        learn_prototypes(training, 12, sides=[4, 8], size=SIZE, random_state=seed) for seed in (0, 0, 1)
    )
    assert len(first) == 12 and first.source == training.hash
    for side in (4, 8):
        torch.testing.assert_close(first.patches[side], again.patches[side], rtol=0, atol=0)
        assert not torch.equal(first.patches[side], other.patches[side])


def test_labels(prototypes):
    stimuli = stimuli_of(pictures(2))
    found = hmax(stimuli, prototypes=prototypes, size=SIZE)
    assert found.shape == (2, 40) and found.dtype == np.float32
    assert set(found["layer"].values) == {"hmax.C2"}
    assert found["patch_size"].values.tolist() == [4] * 20 + [6] * 20
    facts = json.loads(found.attrs["provenance"])
    assert prototypes.source in facts["prototypes"]
    assert len(HMAX(40, "S1").units) == 16 * 4 * 40**2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "C2"}, "C2 needs prototypes=; make them by learn_prototypes"),
        ({"stage": "C3"}, "stage is 'C3'"),
        ({"size": 32}, "the largest filters have 37 pixels"),
        ({"size": 128, "prototypes": True}, "of pictures of 64 pixels, but size is 128"),
        ({"size": 64, "prototypes": True, "sharpness": 0}, "sharpness is 0"),
    ],
)
def test_bad_options_are_one_sentence(options, message, prototypes):
    options = {**options, **({"prototypes": prototypes} if "prototypes" in options else {})}
    with pytest.raises(ValueError, match=message):
        hmax(stimuli_of(pictures(1)), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": []}, "give at least one of each side"),
        ({"count": 1, "sides": [4, 8]}, "give at least one of each side"),
        ({"sides": [30]}, "no map of C1 has 30 × 30 places in pictures of 64 pixels"),
    ],
)
def test_prototypes_that_cannot_be_cut(options, message):
    with pytest.raises(ValueError, match=message):
        learn_prototypes(stimuli_of(pictures(1)), size=SIZE, **options)
