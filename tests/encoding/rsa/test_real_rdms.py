"""Dissimilarities of real recordings: object categories over runs of fMRI, evoked fields over time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import detrend

from cerebridge import neuro
from cerebridge.encoding import rsa

ANIMATE, OBJECTS = ["face", "cat"], ["chair", "shoe", "bottle", "scissors"]
INANIMATE = ["house", *OBJECTS]


@pytest.fixture(scope="module")
def slice_(data):
    """Means of the blocks of one slice, and what the blocks leave of its volumes."""
    nibabel = pytest.importorskip("nibabel")
    folder = data / "haxby2001-slice"
    mask = nibabel.load(folder / "mask.nii.gz").get_fdata() > 0
    values = nibabel.load(folder / "bold.nii.gz").get_fdata()[mask].T
    table = pd.read_csv(folder / "attributes_literal.txt", sep=r"\s+", header=None, names=["label", "run"])
    for rows in table.groupby("run").indices.values():
        trend_free = detrend(values[rows], axis=0)
        values[rows] = trend_free / trend_free.std(axis=0)
    frame = pd.DataFrame(values)
    blocks = frame.groupby([table.run, table.label]).mean().drop("rest", level="label")
    residuals = frame - frame.groupby([table.run, table.label]).transform("mean")
    neuroid = {"neuroid_id": np.arange(values.shape[1])}
    means = neuro.assemble(
        blocks.to_numpy(),
        presentation={
            "stimulus_id": blocks.index.get_level_values("label").to_numpy(),
            "run": blocks.index.get_level_values("run").to_numpy(),
        },
        neuroid=neuroid,
        modality="fmri",
        units="z",
    )
    times = 2.5 * np.arange(len(values))
    left = neuro.assemble(
        residuals.to_numpy(),
        time_bin={"time_bin_start": times, "time_bin_end": times + 2.5, "run": table.run.to_numpy()},
        neuroid=neuroid,
        modality="fmri",
        units="z",
        sfreq=0.4,
    )
    return means, left


def contrast(rdms, inanimate=INANIMATE):
    """Mean distance between animate and inanimate categories, and within both."""
    square = rsa.square(rdms)
    between = square.sel(stimulus_a=ANIMATE, stimulus_b=inanimate).values
    within = [
        square.sel(stimulus_a=names, stimulus_b=names).values[0][np.triu_indices(len(names), 1)]
        for names in (ANIMATE, inanimate)
    ]
    return between.mean(), np.concatenate(within).mean()


def test_crossnobis_over_runs_separates_animate_from_inanimate(slice_):
    means, left = slice_
    noise = rsa.noise_covariance(left, "residuals", dof=1452 - 12 * 9)
    for given in (None, noise, "residual"):
        found = rsa.rdm(means, "crossnobis", noise=given)
        assert (found.values > 0).all()
        between, within = contrast(found)
        assert between > 1.05 * within
        between, within = contrast(found, OBJECTS)
        assert between > 1.2 * within
    model = rsa.model_rdm(
        {name: "animate" if name in ANIMATE else "inanimate" for name in ANIMATE + OBJECTS}, name="animacy"
    )
    some = means[np.isin(means.stimulus_id, ANIMATE + OBJECTS)]
    assert rsa.compare(rsa.rdm(some, "crossnobis"), model, "rho-a").item() > 0.25


def test_categories_shuffled_within_runs_are_no_distance_apart(slice_):
    means, _ = slice_
    rng = np.random.default_rng(0)
    true = rsa.rdm(means, "crossnobis").values.mean()
    chance = []
    for _ in range(20):
        order = np.concatenate([8 * run + rng.permutation(8) for run in range(12)])
        shuffled = means.assign_coords(stimulus_id=("presentation", means.stimulus_id.values[order]))
        chance.append(rsa.rdm(shuffled, "crossnobis").values.mean())
    assert true > 5 * np.abs(chance).max()
    assert abs(np.mean(chance)) < 0.05 * true


def test_decoding_and_mahalanobis_agree_with_crossnobis(slice_):
    means, left = slice_
    noise = rsa.noise_covariance(left, "residuals")
    reference = rsa.rdm(means, "crossnobis", noise=noise)
    decoded = rsa.rdm(means, "decoding")
    square = rsa.square(decoded)
    assert square.sel(stimulus_a="face", stimulus_b="house").item() == 1
    assert decoded.values.mean() > 0.9
    assert rsa.compare(decoded, reference).item() > 0.6
    assert rsa.compare(rsa.rdm(means, "mahalanobis", noise=noise), reference).item() > 0.9
    assert rsa.compare(rsa.rdm(means, "ldt", noise=noise), reference).item() > 0.9


def test_runs_whitened_by_their_own_residuals_show_the_same(slice_):
    means, left = slice_
    some = np.argsort(-means.values.std(axis=0))[:60]
    noise = rsa.noise_covariance(left[:, some], "residuals", by="run")
    own = rsa.rdm(means[:, some], "crossnobis", noise=noise)
    one = rsa.rdm(means[:, some], "crossnobis", noise=rsa.noise_covariance(left[:, some], "residuals"))
    assert rsa.compare(own, one, "pearson").item() > 0.9
    between, within = contrast(own, OBJECTS)
    assert between > within


def test_a_run_that_lacks_categories_is_an_unbalanced_design(slice_):
    means, _ = slice_
    gone = (means.run.values == 3) & np.isin(means.stimulus_id.values, ["cat", "shoe"])
    found = rsa.rdm(means[~gone], "crossnobis")
    assert np.isfinite(found.values).all()
    assert rsa.compare(found, rsa.rdm(means, "crossnobis")).item() > 0.95


def test_evoked_fields_over_time(data):
    mne = pytest.importorskip("mne")
    evokeds = mne.read_evokeds(
        data / "meg-evoked-audvis" / "test-ave.fif.gz", baseline=(None, 0), verbose="error"
    )
    values = np.stack([evoked.copy().pick("mag").data for evoked in evokeds])
    times = evokeds[0].times
    array = neuro.assemble(
        values,
        presentation={"stimulus_id": [evoked.comment for evoked in evokeds]},
        neuroid={"neuroid_id": evokeds[0].copy().pick("mag").ch_names},
        time_bin={"time_bin_start": times, "time_bin_end": times + 1 / evokeds[0].info["sfreq"]},
        modality="meg",
        units="T",
    )
    found = rsa.rdm(array)
    assert found.shape == (421, 6)
    middle = (times >= 0.08) & (times <= 0.18)
    for k in np.flatnonzero(middle)[::20]:
        np.testing.assert_allclose(
            found.values[k, 0], 1 - np.corrcoef(values[0, :, k], values[1, :, k])[0, 1]
        )
    # the whole channel × time pattern as one, of which the correlations are known
    whole = neuro.assemble(
        values[:, :, middle].reshape(4, -1),
        presentation={"stimulus_id": array.stimulus_id.values},
        neuroid={"neuroid_id": np.arange(values[0, :, middle].size)},
        modality="meg",
        units="T",
    )
    square = 1 - rsa.square(rsa.rdm(whole)).values[0]
    np.testing.assert_allclose([square[0, 1], square[2, 3]], [0.54, 0.50], atol=0.005)
    assert (square[:2, 2:] > -0.155).all() and (square[:2, 2:] < 0.145).all()
    modality = rsa.model_rdm(
        [name.split()[1].lower() for name in array.stimulus_id.values], array.stimulus_id.values
    )
    by_time = rsa.compare(found, modality, "pearson").values[:, 0]
    assert by_time[middle].mean() > by_time[times < 0].mean() + 0.25
