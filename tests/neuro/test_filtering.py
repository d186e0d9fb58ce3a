"""Filters keep what they should, run by run."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge import neuro
from cerebridge.neuro.filtering import band_pass, standardize

SFREQ = 100.0


def recording(values, runs=None):
    n = len(values)
    start = np.arange(n) / SFREQ
    labels = {} if runs is None else {"run": runs}
    return neuro.assemble(
        values,
        time_bin={"time_bin_start": start, "time_bin_end": start + 1 / SFREQ, **labels},
        neuroid={"neuroid_id": np.arange(values.shape[1])},
        modality="eeg",
        units="V",
        sfreq=SFREQ,
    )


@pytest.fixture
def sines():
    t = np.arange(1000) / SFREQ
    return np.stack([np.sin(2 * np.pi * f * t) for f in (1, 10, 40)], axis=1)


def test_the_band_stays_and_the_rest_goes(sines):
    kept = band_pass(recording(sines), 5, 20).values[200:800]
    np.testing.assert_allclose(kept[:, 1], sines[200:800, 1], atol=0.02)
    assert np.abs(kept[:, [0, 2]]).max() < 0.02


def test_runs_do_not_reach_into_each_other(sines):
    runs = np.repeat([0, 1], 500)
    changed = sines.copy()
    changed[500:] *= 1000
    for function in (lambda a: band_pass(a, 5, 20), standardize):
        np.testing.assert_array_equal(
            function(recording(sines, runs)).values[:500], function(recording(changed, runs)).values[:500]
        )
        assert not np.array_equal(
            function(recording(sines)).values[:500], function(recording(changed)).values[:500]
        )


def test_standardized_runs_and_constant_units(sines):
    sines[:500, 2] = 3
    found = standardize(recording(sines + 7, np.repeat([0, 1], 500)))
    for rows in (slice(0, 500), slice(500, None)):
        np.testing.assert_allclose(found.values[rows].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.values[500:].std(axis=0), 1)
    assert (found.values[:500, 2] == 0).all() and found.attrs["units"] == "z"


def test_bands_that_do_not_fit_and_trials_are_refused(sines):
    with pytest.raises(ValueError, match="high=60 Hz is not between 0 and 50 Hz"):
        band_pass(recording(sines), 1, 60)
    brain = neuro.simulate(n_stimuli=5, n_units=3, random_state=0)
    with pytest.raises(ValueError, match="not time_bin × neuroid"):
        standardize(brain)
