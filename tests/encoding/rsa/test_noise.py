"""Noise of units: estimates against scikit-learn and rsatoolbox, and what rdm makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn import covariance as peer

from cerebridge import neuro
from cerebridge.encoding import rsa

N_STIMULI, N_RUNS, N_UNITS = 5, 4, 6


@pytest.fixture
def array():
    """Two presentations of five stimuli in each of four runs; two regions."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2 * N_STIMULI * N_RUNS, N_UNITS)) @ rng.normal(size=(N_UNITS, N_UNITS))
    return neuro.assemble(
        values,
        presentation={
            "stimulus_id": np.tile(list("abcde"), 2 * N_RUNS),
            "run": np.repeat([f"run{k}" for k in range(N_RUNS)], 2 * N_STIMULI),
        },
        neuroid={"neuroid_id": [f"n{k}" for k in range(N_UNITS)], "region": ["V1", "IT"] * 3},
        modality="fmri",
        units="a.u.",
    )


def deviations(array):
    codes = array.stimulus_id.values
    means = {name: array.values[codes == name].mean(axis=0) for name in set(codes)}
    return array.values - np.stack([means[name] for name in codes])


@pytest.mark.parametrize("shrinkage", ["ledoit-wolf", "oas", 0.2, None])
def test_repeats_agree_with_scikit_learn(array, shrinkage):
    rows = deviations(array)
    plain = rows.T @ rows / len(rows)
    expected = {
        "ledoit-wolf": peer.ledoit_wolf(rows, assume_centered=True)[0],
        "oas": peer.oas(rows, assume_centered=True)[0],
        0.2: peer.shrunk_covariance(plain, 0.2),
        None: plain,
    }[shrinkage]
    found = rsa.noise_covariance(array, shrinkage=shrinkage)
    assert found.dims == ("neuroid", "neuroid_b")
    assert found.neuroid_id.values.tolist() == [f"n{k}" for k in range(N_UNITS)]
    np.testing.assert_allclose(found.values, expected * len(rows) / (len(rows) - N_STIMULI), rtol=1e-10)


def test_agrees_with_rsatoolbox(array):
    noise = pytest.importorskip("rsatoolbox.data.noise")
    data = pytest.importorskip("rsatoolbox.data").Dataset(
        array.values, obs_descriptors={"stimulus": list(array.stimulus_id.values)}
    )
    for shrinkage, method in (("ledoit-wolf", "shrinkage_eye"), (None, "full")):
        expected = noise.cov_from_unbalanced(data, "stimulus", method=method)
        np.testing.assert_allclose(
            rsa.noise_covariance(array, shrinkage=shrinkage).values, expected, rtol=1e-8
        )
        found = rsa.noise_covariance(array, "residuals", shrinkage=shrinkage)
        np.testing.assert_allclose(
            found.values, noise.cov_from_residuals(array.values, method=method), rtol=1e-8
        )


def test_residuals_of_a_continuous_recording_and_their_freedom(array):
    times = np.arange(len(array.values))
    left = neuro.assemble(
        array.values,
        time_bin={"time_bin_start": times, "time_bin_end": times + 1.0, "run": array.run.values},
        neuroid={"neuroid_id": array.neuroid_id.values},
        modality="fmri",
        units="a.u.",
        sfreq=1.0,
    )
    found = rsa.noise_covariance(left, "residuals", shrinkage=None)
    np.testing.assert_allclose(found.values, np.cov(array.values.T), rtol=1e-10)
    fewer = rsa.noise_covariance(left, "residuals", shrinkage=None, dof=13)
    np.testing.assert_allclose(fewer.values, found.values * 39 / 13, rtol=1e-10)
    runs = rsa.noise_covariance(left, "residuals", shrinkage=None, by="run")
    assert list(runs) == [f"run{k}" for k in range(N_RUNS)]
    np.testing.assert_allclose(runs["run1"].values, np.cov(array.values[10:20].T), rtol=1e-10)


def test_time_bins_are_pooled(array):
    values = np.stack([array.values, 3 * array.values[:, ::-1]], axis=-1)
    timed = array.expand_dims(time_bin=2, axis=2).copy(data=values)
    timed = timed.assign_coords(
        time_bin_start=("time_bin", [0.0, 1.0]), time_bin_end=("time_bin", [1.0, 2.0])
    )
    rows = deviations(array)
    expected = (np.cov(rows.T, ddof=0) + 9 * np.cov(rows[:, ::-1].T, ddof=0)) / 2 * 40 / 35
    np.testing.assert_allclose(rsa.noise_covariance(timed, shrinkage=None).values, expected, rtol=1e-10)


@pytest.mark.parametrize("metric", ["crossnobis", "mahalanobis", "ldt"])
def test_each_rdm_takes_its_own_noise(array, metric):
    noise = rsa.noise_covariance(array, by="region")
    assert list(noise) == ["V1", "IT"]
    found = rsa.rdm(array, metric, noise=noise, by="region")
    for name, row in zip(noise, found.values, strict=True):
        alone = rsa.rdm(array.isel(neuroid=array.region.values == name), metric, noise=noise[name].values)
        np.testing.assert_allclose(row, alone.values[0], rtol=1e-10)
    np.testing.assert_allclose(
        found.values, rsa.rdm(array, metric, noise="residual", by="region").values, rtol=1e-10
    )


def test_labelled_noise_follows_the_units(array):
    noise = rsa.noise_covariance(array)
    order = np.random.default_rng(0).permutation(N_UNITS)
    expected = rsa.rdm(array, "crossnobis", noise=noise).values
    np.testing.assert_allclose(
        rsa.rdm(array[:, order], "crossnobis", noise=noise).values, expected, rtol=1e-9
    )
    wrong = rsa.rdm(array[:, order], "crossnobis", noise=noise.values).values
    assert not np.allclose(wrong, expected)


def run_noise(array):
    return {run: covariance.values for run, covariance in rsa.noise_covariance(array, by="run").items()}


def test_runs_are_whitened_by_the_symmetric_root_of_their_own_noise(array):
    noise = run_noise(array)
    white = array.values.copy()
    for run, covariance in noise.items():
        here = array.run.values == run
        white[here] = white[here] @ np.linalg.inv(sqrtm(covariance).real)
    for metric in ("crossnobis", "mahalanobis", "ldt", "decoding"):
        plain = {"mahalanobis": "euclidean"}.get(metric, metric)
        unit = np.ones(N_UNITS) if metric in ("ldt", "decoding") else None
        expected = rsa.rdm(array.copy(data=white), plain, noise=None if metric == "decoding" else unit).values
        np.testing.assert_allclose(
            rsa.rdm(array, metric, noise=noise).values, expected, rtol=1e-8, atol=1e-12
        )
    stacked = rsa.rdm(array, "crossnobis", noise=np.stack(list(noise.values()))).values
    np.testing.assert_allclose(stacked, rsa.rdm(array, "crossnobis", noise=noise).values, rtol=1e-12)


def test_the_same_noise_in_every_run_is_that_noise(array):
    noise = rsa.noise_covariance(array).values
    every = dict.fromkeys(run_noise(array), noise)
    expected = rsa.rdm(array, "crossnobis", noise=noise).values
    np.testing.assert_allclose(rsa.rdm(array, "crossnobis", noise=every).values, expected, rtol=1e-9)
    both = {"V1": dict.fromkeys(every, noise[::2, ::2]), "IT": noise[1::2, 1::2]}
    found = rsa.rdm(array.isel(neuroid=[0, 2, 4]), "crossnobis", noise={"V1": both["V1"]}, by="region").values
    alone = rsa.rdm(array, "crossnobis", noise={"V1": noise[::2, ::2], "IT": both["IT"]}, by="region").values
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-9)


def test_known_per_run_noise_beats_one_for_all():
    rng = np.random.default_rng(0)
    scale = np.repeat([1.0, 12.0], 2)  # two quiet and two loud runs
    truth = rng.normal(size=(2, 20))
    error = {}
    values = truth[np.tile([0, 1], 4)][None] + np.repeat(scale, 2)[:, None] * rng.normal(size=(200, 8, 20))
    array = neuro.assemble(
        values.transpose(1, 0, 2).reshape(8, -1),
        presentation={"stimulus_id": ["a", "b"] * 4, "run": np.repeat(range(4), 2)},
        neuroid={"neuroid_id": range(4000), "group": np.arange(4000) // 20},
        modality="fmri",
        units="a.u.",
    )
    for name, noise in (
        ("own", dict(enumerate(scale**2))),
        ("one", dict.fromkeys(range(4), (scale**2).mean())),
    ):
        given = {run: np.full(20, variance) for run, variance in noise.items()}
        found = rsa.rdm(array, "crossnobis", noise={str(k): given for k in range(200)}, by="group").values
        error[name] = found.mean() / found.std()
    assert error["own"] > 1.3 * error["one"] > 0


BAD = {
    "of": (lambda a: rsa.noise_covariance(a, "runs"), "of='runs' is unknown; use 'repeats' or 'residuals'"),
    "shrinkage": (lambda a: rsa.noise_covariance(a, shrinkage="lw"), "shrinkage='lw' is unknown"),
    "too much": (lambda a: rsa.noise_covariance(a, shrinkage=1.5), "shrinkage=1.5 is unknown"),
    "by": (lambda a: rsa.noise_covariance(a, by="area"), "by='area' is no coordinate along 'neuroid' or"),
    "dims": (lambda a: rsa.noise_covariance(rsa.rdm(a)), "cannot come from rdm × pair"),
    "no repeats": (lambda a: rsa.noise_covariance(a[:5]), "has one presentation of each"),
    "freedom": (lambda a: rsa.noise_covariance(a, dof=0), "dof must be a whole number from 1"),
    "one row": (lambda a: rsa.noise_covariance(a[:1], "residuals"), "has one row of residuals"),
    "silent": (
        lambda a: rsa.noise_covariance(a.copy(data=a.values * [1, 0, 1, 1, 1, 1])),
        "unit 'n1' of 'fmri' has no noise",
    ),
    "missing": (lambda a: rsa.noise_covariance(a.where(a.run != "run1")), "missing or infinite"),
    "keys": (
        lambda a: rsa.rdm(a, noise={"V1": np.eye(3)}, by="region"),
        "mapping without 'IT' and without run 'run0'",
    ),
    "runs": (lambda a: rsa.rdm(a, noise=np.ones((3, 6, 6))), r"shape \(3, 6, 6\); for 4 runs give 4 of them"),
    "units": (
        lambda a: rsa.rdm(a, noise=rsa.noise_covariance(a[:, :3])),
        "the noise of 'fmri' lacks unit 'n3'",
    ),
    "group shape": (lambda a: rsa.rdm(a, noise=np.eye(3), by="region"), r"shape \(3, 3\); for 6 units"),
    "singular run": (
        lambda a: rsa.rdm(a, "crossnobis", noise=dict.fromkeys(run_noise(a), np.ones((6, 6)))),
        "covariance of 6 units is singular; shrink it, e.g. by rsa.noise_covariance",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(array, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        call(array)
    assert "\n" not in str(error.value)
