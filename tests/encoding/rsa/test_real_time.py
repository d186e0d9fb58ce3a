"""Similarity over time in real recordings: evoked fields of four stimuli, and the P300 of five recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.signal import butter, sosfiltfilt

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa.epochs import Options, timed_rdms


@pytest.fixture(scope="module")
def magnetometers(data: Path) -> xr.DataArray:
    read = neuro.meeg.read(data / "meg-evoked-audvis" / "test-ave.fif.gz", baseline=(None, 0))
    return read.isel(neuroid=np.flatnonzero(read.channel_type.values == "mag"))


def test_patterns_of_a_window_are_as_alike_as_the_readme_says(magnetometers):
    timed = timed_rdms(magnetometers, Options(window=0.1))
    first = int(np.abs(timed.grid.start - 0.08).argmin())
    alike = xr.DataArray(1 - timed.rdms.values[first], dims="pair")
    names = magnetometers.stimulus_id.values
    assert names.tolist() == ["Left Auditory", "Right Auditory", "Left visual", "Right visual"]
    # pairs in the order of triu_indices: the first is both sounds, the last both pictures
    assert float(alike[0]) == pytest.approx(0.54, abs=0.03)
    assert float(alike[-1]) == pytest.approx(0.50, abs=0.03)
    assert alike[1:5].min() > -0.17 and alike[1:5].max() < 0.16


def test_modality_is_in_the_geometry_after_the_stimulus(magnetometers):
    """One person and six dissimilarities: a course, but neither a ceiling nor a test."""
    names = magnetometers.stimulus_id.values
    heard = np.array(["uditory" in name for name in names])
    a, b = np.triu_indices(4, 1)
    modality = neuro.assemble(
        (heard[a] != heard[b]).astype(float)[None],
        rdm={"neuroid_id": ["modality"]},
        pair={"stimulus_a": names[a], "stimulus_b": names[b]},
        modality="model",
        units="1",
    )
    result = rsa.infer_over_time(modality, magnetometers, "pearson", window=0.1, permutations=0)
    course = result.dataset["score"].isel(model=0, split=0)
    times = result.dataset["time"].values
    assert 0.1 < result.dataset["peak"].item() < 0.2
    late, early = (
        float(course[(low < times) & (times < high)].mean()) for low, high in ((0.1, 0.2), (-0.15, -0.1))
    )
    assert late > 0.75 and early < 0.4
    assert "ceiling" not in result.dataset and "p_cluster" not in result.dataset


def recording(folder: Path, name: str) -> xr.DataArray:
    """Flashes of one recording, 1 to 20 Hz, less those with more than 100 microvolt."""
    band = butter(4, [1, 20], "band", fs=256, output="sos")
    values, labels, runs = [], [], []
    for run, path in enumerate(sorted(folder.glob(f"p300_{name}_run*.csv.gz"))):
        table = pd.read_csv(path)
        signal = sosfiltfilt(band, table.iloc[:, 1:5].to_numpy(), axis=0)
        marker = table.iloc[:, -1].to_numpy()
        onsets = np.flatnonzero(marker > 0)
        onsets = onsets[(onsets >= 26) & (onsets < len(signal) - 205)]
        epochs = np.stack([signal[at - 26 : at + 205].T for at in onsets])
        kept = np.abs(epochs).max((1, 2)) < 100
        values.append(epochs[kept])
        labels += marker[onsets][kept].astype(int).tolist()
        runs += [run] * int(kept.sum())
    start = np.arange(-26, 205) / 256
    return neuro.assemble(
        np.concatenate(values),
        presentation={"stimulus_id": labels, "run": runs},
        neuroid={"neuroid_id": ["TP9", "AF7", "AF8", "TP10"]},
        time_bin={"time_bin_start": start, "time_bin_end": start + 1 / 256},
        modality="eeg",
        units="uV",
    )


def test_targets_differ_at_300_ms_and_turn_around_later(data):
    """Targets against others, cross-validated over runs; five recordings of three people are too few for a claim."""
    names = [f"subject{s}_session{k}" for s, k in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1))]
    people = {name: recording(data / "erp-muse", name) for name in names}
    found = rsa.generalise_over_time(people, of="patterns", window=0.05, step=0.025, random_state=0)
    score = found["score"].sel(model="mean distance")
    course = score.mean("subject").values.diagonal()
    times = found["time"].values
    assert 0.3 < times[course.argmax()] < 0.4
    assert abs(course[times < 0.2].mean()) < 0.2 < 2 < course.max()
    at = {"time": 0.346, "method": "nearest"}
    assert (score.sel(time_other=0.346, **at) > 0).all()
    # what is positive at 350 ms is negative at 580 ms, so that the distance along it changes its sign
    assert score.mean("subject").sel(time_other=0.58, **at) < -0.5
    assert not found["significant"].sel(time=slice(None, 0.2), time_other=slice(None, 0.2)).any()


def test_exchanged_targets_do_not_differ(data):
    rng = np.random.default_rng(0)
    people = {}
    for name in ("subject1_session1", "subject1_session2", "subject2_session1", "subject2_session2"):
        array = recording(data / "erp-muse", name)
        labels = array.stimulus_id.values.copy()
        for run in np.unique(array.run.values):
            labels[array.run.values == run] = rng.permutation(labels[array.run.values == run])
        people[name] = array.assign_coords(stimulus_id=("presentation", labels))
    found = rsa.generalise_over_time(people, of="patterns", window=0.05, step=0.025, permutations=0)
    course = found["score"].mean("subject").values[0].diagonal()
    assert np.abs(course).max() < 1
