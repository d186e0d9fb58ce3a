"""HRF convolution: nilearn's regressors, any rate, references, runs, labels, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.glm.first_level import compute_regressor

from cerebridge import neuro
from cerebridge.encoding.hrf import convolve_hrf

T_R = 2.0


def volumes(n: int = 100, runs: int = 1):
    start = np.tile(T_R * np.arange(n), runs)
    labels = {"run": np.repeat(np.arange(runs), n)} if runs > 1 else {}
    return neuro.assemble(
        np.zeros((n * runs, 1)),
        time_bin={"time_bin_start": start, "time_bin_end": start + T_R, **labels},
        neuroid={"neuroid_id": ["voxel"]},
        modality="fmri",
        units="a.u.",
        sfreq=1 / T_R,
    )


def shown(onset, duration, values, **labels):
    values = np.asarray(values, dtype=float).reshape(len(onset), -1)
    ids = {"stimulus_id": [f"s{k}" for k in range(len(onset))], "onset": onset, "duration": duration}
    return neuro.assemble(
        values,
        presentation={**ids, **labels},
        neuroid={"neuroid_id": [f"f{k}" for k in range(values.shape[1])], "layer": "conv1"},
        modality="activation",
        units="a.u.",
    )


EVENTS = ([10.0, 33.3, 61.0, 190.0], [5.0, 12.0, 1.0, 30.0], [1.0, 2.0, -1.0, 0.5])


@pytest.mark.parametrize("reference", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_regressors_are_nilearns_up_to_its_time_steps(hrf, reference):
    ours = convolve_hrf(shown(*EVENTS), volumes(), hrf, reference=reference).values
    frames = T_R * (np.arange(100) + reference)
    differences = []
    for oversampling in (10, 100, 1000):
        theirs, _ = compute_regressor(np.array(EVENTS), hrf, frames, oversampling=oversampling)
        differences.append(np.abs(ours - theirs).max())
    assert differences[2] < 0.0005
    assert differences[2] < differences[1] / 5 < differences[0] / 25


@pytest.mark.parametrize("hrf", ["spm + derivative", "glover + derivative + dispersion"])
def test_derivatives_span_what_nilearns_do(hrf):
    ours = convolve_hrf(shown(*EVENTS), volumes(), hrf)
    theirs, _ = compute_regressor(np.array(EVENTS), hrf, T_R * (np.arange(100) + 0.5), oversampling=500)
    assert ours.shape == theirs.shape
    fitted = ours.values @ np.linalg.lstsq(ours.values, theirs, rcond=None)[0]
    assert np.abs(fitted - theirs).max() < 0.02 * np.abs(theirs).max()
    assert ours.hrf.values.tolist() == hrf.split(" + ")
    assert ours.neuroid_id.values[:2].tolist() == [f"f0 {hrf.split()[0]}", "f0 derivative"]


@pytest.mark.parametrize("rate", [0.5, 4.0, 60.0])
def test_features_over_time_are_presentations_that_follow_each_other(rate):
    n = round(200 * rate)
    values = np.random.default_rng(0).standard_normal((n, 2))
    start = np.arange(n) / rate
    continuous = neuro.assemble(
        values, time_bin={"time_bin_start": start, "time_bin_end": start + 1 / rate},
        neuroid={"neuroid_id": ["f0", "f1"]}, modality="feature", units="a.u.",
    )  # fmt: skip
    found = convolve_hrf(continuous, volumes())
    one_by_one = convolve_hrf(shown(start, np.full(n, 1 / rate), values), volumes())
    np.testing.assert_allclose(found.values, one_by_one.values, atol=1e-12)


def test_a_feature_that_stays_is_reached_and_chunks_do_not_matter(monkeypatch):
    from cerebridge.encoding import hrf

    features = shown(np.arange(0.0, 200.0), np.ones(200), np.full(200, 3.0))
    found = convolve_hrf(features, volumes())
    np.testing.assert_allclose(found.values[20:, 0], 3.0, atol=1e-6)
    monkeypatch.setattr(hrf, "AT_ONCE", 1)
    np.testing.assert_allclose(convolve_hrf(features, volumes()).values, found.values, atol=1e-12)


def test_an_impulse_is_the_response_itself():
    given = np.array([0.0, 1.0, 4.0, 2.0, 0.0])
    impulse = convolve_hrf(shown([10.0], [0.0], [2.0]), volumes(12), given, reference=0.0)
    np.testing.assert_allclose(impulse.values[5:10, 0], 2 * given, atol=0.02)
    assert np.abs(impulse.values[:5]).max() == 0


def test_a_later_reference_sees_a_later_response():
    early, late = (convolve_hrf(shown(*EVENTS), volumes(), reference=r).values[:, 0] for r in (0.0, 1.0))
    np.testing.assert_allclose(early[1:], late[:-1], atol=1e-9)


def test_runs_are_apart_and_labels_kept():
    features = shown([190.0, 10.0], [8.0, 8.0], [[1.0, 2.0], [3.0, 4.0]], run=[0, 1])
    recording = volumes(runs=2)
    found = convolve_hrf(features, recording)
    neuro.validate(found)
    assert found.run.values.tolist() == recording.run.values.tolist()
    assert found.layer.values.tolist() == ["conv1"] * 2
    assert found.attrs["sfreq"] == 1 / T_R
    assert "0.5 of their bins" in found.attrs["provenance"]
    second = convolve_hrf(features.isel(presentation=[1]).drop_vars("run"), volumes())
    np.testing.assert_allclose(found.values[100:], second.values)
    # the end of the first run does not reach into the second
    assert np.abs(found.values[99]).max() > 0.1
    assert np.abs(found.values[100:105]).max() == 0


def test_wrong_input_is_named():
    features = shown(*EVENTS)
    for call, message in [
        (lambda: convolve_hrf(features, volumes(), "fir"), "hrf='fir' is unknown"),
        (lambda: convolve_hrf(features, volumes(), [1.0]), "at least two finite values"),
        (lambda: convolve_hrf(features, volumes(), reference=2.0), "reference must be from 0"),
        (lambda: convolve_hrf(features.drop_vars("onset"), volumes()), "have no onset"),
        (lambda: convolve_hrf(shown([1.0], [-1.0], [1.0]), volumes()), "negative duration"),
        (lambda: convolve_hrf(shown([np.nan], [1.0], [1.0]), volumes()), "onset is missing in row 0"),
        (lambda: convolve_hrf(shown([1.0], [1.0], [np.nan]), volumes()), "1 features are missing"),
        (lambda: convolve_hrf(features, features), "must begin with 'time_bin'"),
        (lambda: convolve_hrf(features, volumes(runs=2)), "several runs; label the rows of the features"),
        (
            lambda: convolve_hrf(shown([1.0], [1.0], [1.0], run=[0]), volumes(runs=2)),
            "there are no features of run 1",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_without_a_response_a_volume_sees_what_is_shown():
    features = shown([3.0, 9.0], [4.0, 2.0], [1.0, 2.0])
    recording = volumes()
    seen = convolve_hrf(features, recording, None)
    middle = (recording.time_bin_start.values + recording.time_bin_end.values) / 2
    expected = 1.0 * ((middle >= 3) & (middle < 7)) + 2.0 * ((middle >= 9) & (middle < 11))
    np.testing.assert_allclose(seen.values[:, 0], expected)
