"""Simulated brains: what is known of them is true of them."""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import make_first_level_design_matrix
from nilearn.glm.first_level.first_level import run_glm

from cerebridge import neuro
from cerebridge.neuro.headmodel import DEPTH, dipoles, sphere

MODALITIES = ["spikes", "fmri", "eeg", "meg"]


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Column by column."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


def standardised(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(axis=0)) / features.std(axis=0)


# every modality


@pytest.mark.parametrize("modality", MODALITIES)
def test_form_labels_and_seed(modality: str) -> None:
    def run(seed: int) -> xr.DataArray:
        return neuro.simulate(modality=modality, n_stimuli=5, n_units=8, n_repeats=3, random_state=seed)

    array = run(0)
    assert neuro.validate(array).sizes["presentation"] == 15
    assert array.sizes["neuroid"] == 8
    assert array.attrs["units"] == {"spikes": "spikes", "fmri": "a.u.", "eeg": "V", "meg": "T"}[modality]
    assert array.coords["repetition"].values.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert len(set(array.coords["stimulus_id"].values.tolist())) == 5
    if modality != "spikes":
        assert {"x", "y", "z"} <= set(array.coords)
        assert len({tuple(place) for place in np.stack([array[axis] for axis in "xyz"], axis=1)}) == 8
    xr.testing.assert_identical(array, run(0))
    assert not np.array_equal(array.values, run(1).values)


@pytest.mark.parametrize("modality", MODALITIES)
def test_response_is_the_expectation_of_repeats(modality: str) -> None:
    array, truth = neuro.simulate(
        modality=modality, n_stimuli=6, n_units=5, n_repeats=500, return_truth=True, random_state=0
    )
    trials = array.values.reshape(500, *truth.response.shape)
    z = (trials.mean(axis=0) - truth.response.values) / (trials.std(axis=0) / np.sqrt(500))
    assert abs(z).max() < 5
    assert z.std() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("kind", ["array", "torch", "labelled"])
def test_features_are_read_as_the_truth_says(modality: str, kind: str) -> None:
    values = np.random.default_rng(0).standard_normal((30, 14)) * 5 + 3
    features = {
        "array": values,
        "torch": torch.tensor(values),
        "labelled": neuro.assemble(
            values,
            presentation={"stimulus_id": [f"img{k}" for k in range(30)], "category": ["x", "y"] * 15},
            neuroid={"neuroid_id": np.arange(14), "layer": "conv1"},
            modality="activation",
            units="a.u.",
        ),
    }[kind]
    array, truth = neuro.simulate(
        features, modality, n_units=16, n_repeats=2, return_truth=True, random_state=1
    )
    drive = standardised(values) @ truth.weights.values.T
    if modality == "spikes":
        gain = np.log(truth.response.values) - drive
        np.testing.assert_allclose(gain, np.broadcast_to(gain[0], gain.shape), atol=1e-9)
    elif modality == "fmri":
        np.testing.assert_allclose(truth.response.values, 1 + drive, atol=1e-9)
    else:
        peak = truth.response.values[:, :, [19, 20]].mean(axis=2)  # either side of 0.1 s
        np.testing.assert_allclose(correlations(peak, drive), 1, atol=1e-9)
        np.testing.assert_allclose(peak, drive * np.exp(-0.5 * (0.005 / 0.03) ** 2), rtol=1e-6, atol=1e-18)
    np.testing.assert_array_equal(truth.features.values, values)
    if kind == "labelled":
        assert array.coords["stimulus_id"].values.tolist() == [f"img{k}" for k in range(30)] * 2
        assert array.coords["category"].values.tolist() == ["x", "y"] * 30
        assert set(truth.weights.coords["feature_layer"].values.tolist()) == {"conv1"}


def test_each_region_reads_its_own_features() -> None:
    rng = np.random.default_rng(0)
    layers = {"early": rng.standard_normal((60, 12)), "late": rng.standard_normal((60, 15))}
    array, truth = neuro.simulate(layers, n_units=9, snr=5, n_repeats=3, return_truth=True, random_state=0)
    assert array.coords["region"].values.tolist() == ["early"] * 5 + ["late"] * 4
    own = truth.weights.coords["region"].values[:, None] == truth.weights.coords["feature_region"].values
    assert ((truth.weights.values != 0).sum(axis=1) == 10).all()
    assert (truth.weights.values[~own] == 0).all()
    averaged = neuro.average_repeats(array)
    for region, other in [("early", "late"), ("late", "early")]:
        y = averaged.values[:, averaged.coords["region"].values == region]
        explained = {}
        for name in (region, other):
            x = np.column_stack([layers[name], np.ones(60)])
            rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
            explained[name] = 1 - (rest**2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
        assert explained[region] > 0.7
        assert explained[other] < 0.5


# ceilings


@settings(max_examples=15, deadline=None)
@given(
    modality=st.sampled_from(["spikes", "fmri"]),
    snr=st.floats(0.01, 50),
    n_repeats=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_signal_to_noise_ratio_is_exact(modality: str, snr: float, n_repeats: int, seed: int) -> None:
    array, truth = neuro.simulate(
        modality=modality,
        n_stimuli=8,
        n_units=3,
        n_repeats=n_repeats,
        snr=snr,
        return_truth=True,
        random_state=seed,
    )
    if modality == "spikes":
        ratio = truth.response.var("presentation", ddof=1) / truth.response.mean("presentation")
        np.testing.assert_allclose(ratio, snr)
    np.testing.assert_allclose(array.true_ceiling, np.sqrt(snr * n_repeats / (1 + snr * n_repeats)))
    np.testing.assert_allclose(array.true_ceiling_single, np.sqrt(snr / (1 + snr)))
    np.testing.assert_array_equal(truth.ceiling, array.true_ceiling)


@pytest.mark.parametrize("modality", ["spikes", "fmri"])
@pytest.mark.parametrize("n_repeats", [1, 4])
def test_ceiling_is_what_the_truth_scores(modality: str, n_repeats: int) -> None:
    snr = np.geomspace(0.05, 2, 150)
    array, truth = neuro.simulate(
        modality=modality,
        n_stimuli=400,
        n_units=150,
        n_repeats=n_repeats,
        snr=snr,
        return_truth=True,
        random_state=0,
    )
    scores = correlations(neuro.average_repeats(array).values, truth.response.values)
    assert abs((scores - array.true_ceiling.values).mean()) < 0.01
    assert abs(scores - array.true_ceiling.values).max() < 0.2


@pytest.mark.parametrize("modality", ["eeg", "meg"])
def test_ceiling_of_sensors_is_what_the_truth_scores(modality: str) -> None:
    array, truth = neuro.simulate(
        modality=modality, n_stimuli=300, n_units=20, n_repeats=2, snr=1.5, return_truth=True, random_state=0
    )
    known = truth.ceiling.values
    strong = known > 0.2
    scores = correlations(neuro.average_repeats(array).values[:, strong], truth.response.values[:, strong])
    assert abs((scores - known[strong]).mean()) < 0.01
    assert abs(scores - known[strong]).max() < 0.25
    assert (known[:, truth.ceiling.time_bin_end.values <= 0] == 0).all()
    signal = truth.response.var("presentation", ddof=1).mean("neuroid").max()
    noise = (array.values.reshape(2, *truth.response.shape) - truth.response.values).var()
    assert float(signal) / noise == pytest.approx(1.5, rel=0.02)


# neurons


def test_neurons_count_as_poisson_processes_do() -> None:
    array, truth = neuro.simulate(n_stimuli=4, n_units=6, n_repeats=4000, return_truth=True, random_state=0)
    assert (array.values >= 0).all()
    assert (array.values == np.round(array.values)).all()
    trials = array.values.reshape(4000, 4, 6)
    np.testing.assert_allclose(trials.var(axis=0) / truth.response.values, 1, atol=0.15)
    pairs = np.corrcoef((trials - trials.mean(axis=0))[:, 0].T)
    assert abs(pairs[np.triu_indices(6, 1)]).max() < 0.08


# voxels, continuous


@pytest.fixture(scope="module")
def scanned() -> tuple[xr.DataArray, neuro.simulation.Truth]:
    return neuro.simulate(
        modality="fmri",
        n_stimuli=12,
        n_units=27,
        n_repeats=3,
        snr=4,
        output="continuous",
        return_truth=True,
        random_state=0,
    )


def glm(run: xr.DataArray, events: pd.DataFrame) -> pd.DataFrame:
    """nilearn's estimate of each stimulus' response: stimuli × voxels."""
    design = make_first_level_design_matrix(
        run.time_bin_start.values, events, hrf_model="spm", drift_model="polynomial", drift_order=4
    )
    labels, results = run_glm(run.values, design.to_numpy(), noise_model="ols")
    assert set(labels) == {0.0}
    return pd.DataFrame(results[0.0].theta, index=design.columns)


def test_scans_are_labelled_with_events_and_runs(scanned) -> None:
    array, truth = scanned
    assert array.dims == ("time_bin", "neuroid")
    assert array.attrs["sfreq"] == 0.5
    assert list(truth.events.columns) == ["run", "onset", "duration", "trial_type"]
    orders = []
    for run, events in truth.events.groupby("run"):
        scans = array.isel(time_bin=array.run.values == run)
        assert scans.time_bin_start.values[0] == 0
        assert sorted(events["trial_type"]) == sorted(truth.response.stimulus_id.values)
        assert (np.diff(events["onset"]) >= 6).all()
        assert events["onset"].iloc[-1] + 20 <= scans.time_bin_end.values[-1]
        labelled = pd.Series(scans.stimulus_id.values)
        seen = labelled[(labelled != "") & (labelled != labelled.shift())]
        assert seen.tolist() == events["trial_type"].tolist()
        first = scans.time_bin_start.values[seen.index]
        assert (first <= events["onset"]).all()
        assert (events["onset"] < first + 2).all()
        orders.append(seen.tolist())
    assert len(orders) == 3
    assert orders[0] != orders[1]


def test_a_general_linear_model_recovers_the_responses(scanned) -> None:
    array, truth = scanned
    ids = truth.response.stimulus_id.values
    estimates, control = [], []
    for run, events in truth.events.groupby("run"):
        scans = array.isel(time_bin=array.run.values == run)
        events = events.drop(columns="run")
        estimates.append(glm(scans, events).loc[ids].to_numpy())
        shuffled = events.assign(trial_type=np.roll(events["trial_type"], 1))
        control.append(glm(scans, shuffled).loc[ids].to_numpy())
    expected = truth.response.values
    assert np.median(correlations(np.mean(estimates, axis=0), expected)) > 0.9
    assert np.mean(estimates) == pytest.approx(1, abs=0.1)
    assert abs(np.median(correlations(np.mean(control, axis=0), expected))) < 0.5


def test_noise_of_scans_is_autocorrelated_and_as_strong_as_promised() -> None:
    array, truth = neuro.simulate(
        modality="fmri",
        n_stimuli=60,
        n_units=100,
        n_repeats=2,
        snr=np.linspace(0.5, 2, 100),
        output="continuous",
        return_truth=True,
        random_state=0,
    )
    scores = []
    for run, events in truth.events.groupby("run"):
        scans = array.isel(time_bin=array.run.values == run)
        design = make_first_level_design_matrix(
            scans.time_bin_start.values, events.drop(columns="run"), hrf_model="spm", drift_model=None
        )
        clean = design[truth.response.stimulus_id.values].to_numpy() @ truth.response.values
        rest = scans.values - clean
        time = np.linspace(-1, 1, len(rest))
        drift = np.column_stack([np.ones_like(time), time, np.cos(np.pi / 2 * time)])
        noise = rest - drift @ np.linalg.lstsq(drift, rest, rcond=None)[0]
        lagged = correlations(noise[1:], noise[:-1])
        assert lagged.mean() == pytest.approx(0.4, abs=0.03)
        assert rest.std() > 1.5 * noise.std()
        scores.append(correlations(clean + noise, clean))
    error = np.mean(scores, axis=0) - array.true_ceiling.values
    assert abs(error.mean()) < 0.01
    assert abs(error).max() < 0.1


# sensors


@pytest.mark.parametrize("modality", ["eeg", "meg"])
def test_gains_are_those_of_mne_for_single_dipoles(modality: str) -> None:
    n_sensors = {"eeg": 32, "meg": 102}[modality]
    gain, neuroid = sphere(modality, n_sensors, n_regions=2, n_dipoles=3, rng=np.random.default_rng(3))
    outward, along = dipoles(2, 3, np.random.default_rng(3))
    np.testing.assert_allclose((outward * along).sum(axis=1), 0, atol=1e-12)
    if modality == "eeg":
        montage = mne.channels.make_standard_montage("biosemi32")
        info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
        model = mne.make_sphere_model("auto", "auto", info, verbose=False)
    else:
        info = mne.channels.read_meg_canonical_info("neuromag", verbose=False)
        info = mne.pick_info(info, mne.pick_types(info, meg="mag"))
        model = mne.make_sphere_model((0.0, 0.0, 0.0), None, verbose=False)
    ones = np.ones(6)
    single = mne.Dipole(np.arange(6.0), model["r0"] + DEPTH * outward, ones, along, ones, verbose=False)
    forward, _ = mne.make_forward_dipole(single, model, info, verbose=False)
    np.testing.assert_allclose(
        gain.transpose(1, 0, 2).reshape(n_sensors, 6), forward["sol"]["data"], rtol=1e-6, atol=1e-12
    )
    assert neuroid["neuroid_id"] == info["ch_names"]
    np.testing.assert_allclose(neuroid["x"], [channel["loc"][0] * 1000 for channel in info["chs"]])


def test_later_regions_peak_later_and_elsewhere() -> None:
    rng = np.random.default_rng(0)
    layers = {name: rng.standard_normal((40, 12)) for name in ("first", "second", "third")}
    _, truth = neuro.simulate(layers, "eeg", n_units=32, return_truth=True, random_state=0)
    z = {name: standardised(values) for name, values in layers.items()}
    middle = (truth.response.time_bin_start.values + truth.response.time_bin_end.values) / 2
    patterns, maps = [], []
    for name, features in z.items():
        own = truth.weights.values[:, truth.weights.coords["feature_region"].values == name]
        maps.append(np.linalg.norm(own, axis=1))
        patterns.append((features @ own.T).ravel())
    courses = np.linalg.lstsq(
        np.stack(patterns, axis=1), truth.response.values.reshape(40 * 32, -1), rcond=None
    )[0]
    peaks = middle[courses.argmax(axis=1)]
    np.testing.assert_allclose(peaks, [0.1, 0.18, 0.26], atol=0.011)
    centres = [np.average(truth.response.x.values, weights=m**2) for m in maps]
    assert centres[0] < centres[1] < centres[2]


def test_there_is_one_ratio_for_all_sensors() -> None:
    with pytest.raises(ValueError, match="snr of sensors is one number"):
        neuro.simulate(modality="eeg", n_stimuli=3, n_units=2, snr=[1.0, 2.0])


# bad input

FEATURES = np.random.default_rng(0).standard_normal((5, 4))
LABELLED = neuro.assemble(
    FEATURES,
    presentation={"stimulus_id": list("abcde")},
    neuroid={"neuroid_id": np.arange(4)},
    modality="activation",
    units="a.u.",
)


@pytest.mark.parametrize(
    ("features", "options", "match"),
    [
        (None, {"modality": "ecog"}, "modality is 'ecog'; it must be one of 'spikes', 'fmri', 'eeg', 'meg'"),
        (None, {"output": "betas"}, "output is 'betas'; it must be 'trials' or 'continuous'"),
        (None, {"output": "continuous"}, "only 'fmri' can be continuous"),
        (None, {"n_units": 0}, "n_units is 0; it must be 1 at least"),
        (None, {"n_repeats": -1}, "n_repeats is -1"),
        (None, {"n_stimuli": 1}, "are of one stimulus; give two at least"),
        (None, {"snr": 0}, "snr must be above 0"),
        (None, {"snr": np.inf}, "snr must be above 0 and finite"),
        (
            None,
            {"snr": [1.0, 2.0], "n_units": 3},
            r"snr has the shape \(2,\); give one number, or one for each of the 3",
        ),
        (None, {"modality": "eeg", "sfreq": -1.0}, "sfreq is -1.0 Hz; it must be above 0"),
        (
            None,
            {"modality": "fmri", "output": "continuous", "sfreq": 0.1},
            "sfreq is 0.1 Hz; it must be above 0.17",
        ),
        (
            None,
            {"modality": "eeg", "n_units": 300},
            "n_units is 300, but the largest eeg set-up has 256 sensors",
        ),
        (None, {"modality": "meg", "n_units": 103}, "the largest meg set-up has 102 sensors"),
        (FEATURES, {"n_stimuli": 5}, "both features and n_stimuli"),
        (FEATURES[0], {}, "have 1 axes; give stimuli × features"),
        (np.ones((5, 3)), {}, "are the same for all stimuli"),
        (
            np.where(np.arange(5)[:, None] == 3, np.inf, FEATURES),
            {},
            "are not finite for the stimulus 's0003'; leave it out",
        ),
        ({}, {}, "empty mapping"),
        (
            {"V1": FEATURES, "IT": FEATURES[:4]},
            {},
            "'IT' and 'V1' are of different stimuli; align them first",
        ),
        ({"V1": LABELLED, "IT": LABELLED[::-1]}, {}, "'IT' and 'V1' are of different stimuli"),
        ({"V1": FEATURES, "IT": FEATURES}, {"n_units": 1}, "n_units is 1, but there are 2 regions"),
        (LABELLED.isel(presentation=[0, 1, 1]), {}, "name the stimulus 'b' twice; average them first"),
        (LABELLED.drop_vars(["stimulus_id"]), {}, "'stimulus_id' along 'presentation' is missing"),
    ],
)
def test_what_cannot_be_simulated(features: object, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        neuro.simulate(features, **options)
