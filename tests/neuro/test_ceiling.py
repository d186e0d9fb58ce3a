"""Noise ceilings against simulations whose ceiling is known, formulas by hand, and a real recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from cerebridge import neuro
from cerebridge.neuro import ceiling as module

METHODS = ["split-half", "leave-one-out", "variance"]


def of_values(values: np.ndarray, **labels: object) -> xr.DataArray:
    """An array from repeats × stimuli × units."""
    repeats, stimuli, units = values.shape
    return neuro.assemble(
        values.reshape(-1, units),
        presentation={"stimulus_id": np.tile(np.arange(stimuli), repeats), **labels},
        neuroid={"neuroid_id": np.arange(units)},
        modality="spikes",
        units="spikes",
    )


def with_gaps(array: xr.DataArray, seed: int = 0) -> xr.DataArray:
    """A third of the presentations left out, and a quarter of the cells missing."""
    rng = np.random.default_rng(seed)
    kept = array.isel(presentation=np.flatnonzero(rng.random(array.sizes["presentation"]) > 0.33))
    return kept.where(rng.random(kept.shape) > 0.25)


def scores_of_the_truth(array: xr.DataArray, truth: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """r and r² of the true response with the averages, unit by unit, by hand."""
    averaged = neuro.average_repeats(array)
    where = {i: row for row, i in enumerate(truth.coords["stimulus_id"].values.tolist())}
    expected = truth.values[[where[i] for i in averaged.coords["stimulus_id"].values.tolist()]]
    r, r2 = [], []
    for y, mu in zip(averaged.values.T, expected.T, strict=True):
        ok = ~np.isnan(y)
        r.append(np.corrcoef(y[ok], mu[ok])[0, 1])
        r2.append(1 - ((y[ok] - mu[ok]) ** 2).sum() / ((y[ok] - y[ok].mean()) ** 2).sum())
    return np.array(r), np.array(r2)


# the truth


@pytest.mark.parametrize("modality", ["spikes", "fmri"])
@pytest.mark.parametrize("method", METHODS)
def test_known_ceiling(method: str, modality: str) -> None:
    array = neuro.simulate(
        modality=modality,
        n_stimuli=300,
        n_units=80,
        n_repeats=5,
        snr=np.geomspace(0.1, 4, 80),
        random_state=1,
    )
    error = neuro.noise_ceiling(array, method) - array.true_ceiling
    assert abs(error.mean()) < 0.01
    assert abs(error).max() < 0.12
    single = neuro.noise_ceiling(array, method, n_repeats=1) - array.true_ceiling_single
    assert abs(single.mean()) < 0.012


@pytest.mark.parametrize("method", METHODS)
def test_known_ceiling_of_sensors_over_time(method: str) -> None:
    array, truth = neuro.simulate(
        modality="eeg", n_stimuli=150, n_units=16, n_repeats=4, sfreq=50, return_truth=True, random_state=0
    )
    ceiling = neuro.noise_ceiling(array, method)
    assert ceiling.dims == ("neuroid", "time_bin")
    assert {"x", "channel_type", "time_bin_start"} <= set(ceiling.coords)
    strong = truth.ceiling > 0.5
    assert strong.sum() > 40
    assert abs((ceiling - truth.ceiling).where(strong).mean()) < 0.02
    assert abs((ceiling - truth.ceiling).where(strong)).max() < 0.2
    assert ceiling.where(truth.ceiling == 0).mean() < 0.15


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("modality", ["spikes", "fmri"])
def test_it_is_what_the_truth_scores_though_repeats_are_unbalanced_and_missing(
    method: str, modality: str
) -> None:
    whole, truth = neuro.simulate(
        modality=modality, n_stimuli=250, n_units=100, n_repeats=6, snr=0.8, return_truth=True, random_state=2
    )
    array = with_gaps(whole)
    r, r2 = scores_of_the_truth(array, truth.response)
    assert abs((neuro.noise_ceiling(array, method).values - r).mean()) < 0.01
    assert abs((neuro.noise_ceiling(array, method, "r2").values - r2).mean()) < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_noise_alone_has_no_ceiling(method: str) -> None:
    noise = of_values(np.random.default_rng(0).standard_normal((6, 400, 200)))
    ceiling = neuro.noise_ceiling(noise, method, "r2")
    assert ceiling.min() == 0
    assert ceiling.median() < 0.03
    assert ceiling.max() < 0.3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_ends_of_the_scale(method: str, offset: float) -> None:
    rng = np.random.default_rng(0)
    values = np.empty((4, 20, 4))
    values[..., 0] = rng.standard_normal(20)  # repeats agree
    values[..., 1] = 0.1  # constant
    values[..., 2] = np.nan
    values[..., 3] = rng.standard_normal((4, 20))
    values[1:, 2:, 3] = np.nan  # two stimuli have repeats
    ceiling = neuro.noise_ceiling(of_values(values + offset), method)
    np.testing.assert_allclose(ceiling.values, [1, 0, np.nan, np.nan], atol=1e-7)


# formulas by hand


@pytest.mark.parametrize("gaps", [False, True])
def test_variance_components_by_hand(gaps: bool) -> None:
    array = neuro.simulate(n_stimuli=40, n_units=4, n_repeats=5, random_state=0)
    array = with_gaps(array) if gaps else array
    ceiling = neuro.noise_ceiling(array, "variance", "r2").values
    ids = array.coords["stimulus_id"].values
    for unit, got in enumerate(ceiling):
        y = array.values[:, unit]
        groups = [y[(ids == i) & ~np.isnan(y)] for i in dict.fromkeys(ids)]
        groups = [g for g in groups if g.size]
        noise = sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(g.size - 1 for g in groups)
        error = noise * np.mean([1 / g.size for g in groups])
        total = np.var([g.mean() for g in groups], ddof=1)
        assert got == pytest.approx(max(0, 1 - error / total), abs=1e-12)


def test_it_is_the_ceiling_of_the_natural_scenes_dataset() -> None:
    array = neuro.simulate(modality="fmri", n_stimuli=800, n_units=10, n_repeats=3, snr=0.6, random_state=0)
    trials = array.values.reshape(3, 800, 10)
    trials = (trials - trials.mean(axis=(0, 1))) / trials.std(axis=(0, 1))
    noise = trials.var(axis=0, ddof=1).mean(axis=0)
    ncsnr = np.sqrt(np.maximum(1 - noise, 0) / noise)
    for n_repeats in (1, 3):
        expected = ncsnr**2 / (ncsnr**2 + 1 / n_repeats)
        ceiling = neuro.noise_ceiling(array, "variance", "r2", n_repeats=n_repeats)
        np.testing.assert_allclose(ceiling.values, expected, atol=2e-3)


def hand_reliability(r: float, first: int, second: int, repeats: int) -> float:
    """Reliability of the average of all repeats, if averages of some and of others correlate with r."""
    ratio = brentq(lambda s: s / np.sqrt((s + 1 / first) * (s + 1 / second)) - r, 1e-9, 1e9)
    return ratio / (ratio + 1 / repeats)


@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_leave_one_out_by_hand(repeats: int) -> None:
    array = neuro.simulate(n_stimuli=50, n_units=6, n_repeats=repeats, snr=1, random_state=0)
    values = array.values.reshape(repeats, 50, 6)
    ceiling = neuro.noise_ceiling(array, "leave-one-out", "r2").values
    for unit, got in enumerate(ceiling):
        y = values[..., unit]
        r = np.mean([np.corrcoef(y[k], np.delete(y, k, 0).mean(0))[0, 1] for k in range(repeats)])
        assert got == pytest.approx(hand_reliability(r, 1, repeats - 1, repeats), abs=1e-6)


@pytest.mark.parametrize(("repeats", "half"), [(4, 2), (5, 2)])
def test_split_half_by_hand(repeats: int, half: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_repeats(cells, seeds):
        yield cells.present & (cells.ranks(np.arange(len(cells.values))) <= half)

    monkeypatch.setattr(module, "_halves", first_repeats)
    array = neuro.simulate(n_stimuli=50, n_units=6, n_repeats=repeats, snr=1, random_state=0)
    y = array.values.reshape(repeats, 50, 6)
    ceiling = neuro.noise_ceiling(array, "split-half", "r2").values
    for unit, got in enumerate(ceiling):
        r = np.corrcoef(y[:half, :, unit].mean(0), y[half:, :, unit].mean(0))[0, 1]
        assert got == pytest.approx(hand_reliability(r, half, repeats - half, repeats), abs=1e-6)
        if repeats == 2 * half:
            assert got == pytest.approx(2 * r / (1 + r), abs=1e-12)


@pytest.mark.parametrize("gaps", [False, True])
def test_halves_are_halves_of_what_is_there(gaps: bool) -> None:
    array = neuro.simulate(n_stimuli=30, n_units=5, n_repeats=5, random_state=0)
    array = with_gaps(array) if gaps else array
    order, starts = module._sorted_repeats(array)
    cells = module._Cells.of(array, order, starts)
    parts = list(module._halves(cells, np.arange(8)))
    assert any((parts[0] != part).any() for part in parts[1:])
    for part in parts:
        assert not (part & ~cells.present).any()
        first = cells.count(part)
        assert (abs(cells.counts - 2 * first) <= 1).all()


# invariances


@settings(max_examples=15, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    gaps=st.booleans(),
    scale=st.sampled_from([-3.0, 1e-6, 1e5]),
    offset=st.sampled_from([-100.0, 0.0, 7.0]),
    seed=st.integers(0, 100),
)
def test_scale_offset_and_order_do_not_matter(
    method: str, gaps: bool, scale: float, offset: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    array = neuro.simulate(n_stimuli=20, n_units=7, n_repeats=4, random_state=seed)
    array = with_gaps(array, seed) if gaps else array
    ceiling = neuro.noise_ceiling(array, method)
    units = rng.permutation(7)
    changed = (array * scale + offset * scale).assign_attrs(array.attrs).isel(neuroid=units)
    changed = changed.assign_coords(
        stimulus_id=("presentation", "x" + array.coords["stimulus_id"].to_series())
    )
    np.testing.assert_allclose(neuro.noise_ceiling(changed, method).values, ceiling.values[units], atol=1e-6)
    if method != "split-half":
        rows = rng.permutation(array.sizes["presentation"])
        shuffled = neuro.noise_ceiling(array.isel(presentation=rows), method)
        np.testing.assert_allclose(shuffled.values, ceiling.values, atol=1e-9)
    np.testing.assert_allclose(neuro.noise_ceiling(array, method, "r2").values, ceiling.values**2, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gaps", [False, True])
def test_chunks_do_not_matter(method: str, gaps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    array = neuro.simulate(n_stimuli=20, n_units=9, n_repeats=4, random_state=0)
    array = with_gaps(array) if gaps else array
    whole = neuro.noise_ceiling(array, method)
    monkeypatch.setattr(module, "CHUNK", 2 * array.sizes["presentation"])
    xr.testing.assert_allclose(neuro.noise_ceiling(array, method), whole, rtol=0, atol=1e-12)


def test_gaps_that_units_share_are_gaps_of_each() -> None:
    array = neuro.simulate(n_stimuli=30, n_units=3, n_repeats=5, random_state=0)
    array = array.where(xr.DataArray(np.random.default_rng(0).random(150) > 0.2, dims="presentation"))
    odd = array.copy()
    odd[0, 2] = 0.0 if np.isnan(odd[0, 2]) else np.nan
    for method in METHODS:
        shared, own = (neuro.noise_ceiling(a, method).values[:2] for a in (array, odd))
        np.testing.assert_allclose(shared, own, atol=1e-12)


def test_labels_and_seed() -> None:
    array = neuro.simulate(n_stimuli=30, n_units=3, n_repeats=4, random_state=0)
    ceiling = neuro.noise_ceiling(array)
    assert ceiling.name == "ceiling"
    assert ceiling.dims == ("neuroid",)
    assert ceiling.attrs == {"method": "split-half", "scoring": "pearsonr"}
    np.testing.assert_array_equal(ceiling.coords["neuroid_id"], array.coords["neuroid_id"])
    assert "stimulus_id" not in ceiling.coords
    xr.testing.assert_identical(ceiling, neuro.noise_ceiling(array))
    assert (ceiling != neuro.noise_ceiling(array, random_state=1)).any()
    assert (neuro.noise_ceiling(array.astype(int)) == ceiling).all()


# a real recording


def test_macaque_v4(data: Path) -> None:
    raw = np.load(data / "v4-macaque" / "responses_raw" / "responses_210325.npy").transpose(2, 1, 0)
    array = of_values(raw)
    assert np.isnan(raw).mean() == pytest.approx(0.24, abs=0.01)
    r2 = neuro.noise_ceiling(array, scoring="r2")
    assert r2.median() == pytest.approx(0.75, abs=0.02)
    assert r2.min() == pytest.approx(0.51, abs=0.03)
    assert r2.max() == pytest.approx(0.93, abs=0.01)
    r = neuro.noise_ceiling(array)
    assert r.median() == pytest.approx(0.87, abs=0.01)
    for method in ("leave-one-out", "variance"):
        assert abs(neuro.noise_ceiling(array, method) - r).max() < 0.02
    shuffled = np.stack([np.random.default_rng(k).permutation(run) for k, run in enumerate(raw)])
    assert neuro.noise_ceiling(of_values(shuffled)).median() < 0.2


# bad input


ARRAY = of_values(np.random.default_rng(0).random((3, 6, 2)))


@pytest.mark.parametrize(
    ("array", "options", "match"),
    [
        (neuro.average_repeats(ARRAY), {}, "this array has no repeats, each stimulus_id occurs once"),
        (ARRAY.isel(presentation=[0, 1, 2, 3, 6, 7]), {}, "only 2 stimuli are repeated; a ceiling needs 3"),
        (ARRAY, {"method": "odd-even"}, "method is 'odd-even'; it must be"),
        (ARRAY, {"scoring": "accuracy"}, "scoring is 'accuracy'; a ceiling is known for 'pearsonr' and 'r2'"),
        (ARRAY, {"n_splits": 0}, "n_splits is 0; it must be 1 at least"),
        (ARRAY, {"n_repeats": -1}, "n_repeats is -1"),
        (ARRAY.where(ARRAY[0, 1] != ARRAY, np.inf), {}, "neuroid 1 has infinite values; set them to NaN"),
        (
            neuro.simulate(modality="fmri", n_stimuli=4, n_units=2, output="continuous"),
            {},
            "needs presentations, and this array is time_bin × neuroid; cut it into trials",
        ),
        (ARRAY.drop_vars(["stimulus_id"]), {}, "'stimulus_id' along 'presentation' is missing"),
    ],
)
def test_what_has_no_ceiling(array: xr.DataArray, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        neuro.noise_ceiling(array, **options)
