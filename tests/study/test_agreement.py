from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from cerebridge import neuro
from cerebridge.encoding.study.agreement import agree

SETTINGS = {
    "by": "channel_type",
    "dissimilarity": "correlation",
    "comparison": "spearman",
    "width": 0.02,
    "maps": [],
}


def sensors(shared: bool, n_conditions=8, n_repeats=1):
    """Two kinds of sensors that see the same three sources from 0.1 s on, or each its own."""
    rng = np.random.default_rng(1)
    times = np.arange(-20, 40) / 100
    sources = rng.normal(size=(2, n_conditions, 3))
    mixing = rng.normal(size=(2, 3, 40))
    on = (times >= 0.1)[None, None]
    parts = [(sources[0 if shared else k] @ mixing[k])[:, :, None] * on for k in range(2)]
    values = np.concatenate(parts, axis=1)
    values = np.tile(values, (n_repeats, 1, 1)) + 0.05 * rng.normal(size=(n_repeats * n_conditions, 80, 60))
    return neuro.assemble(
        values,
        presentation={"stimulus_id": [f"c{k}" for k in range(n_conditions)] * n_repeats},
        neuroid={
            "neuroid_id": np.arange(80),
            "channel_type": ["mag"] * 40 + ["eeg"] * 40,
            "x": 0.0,
            "y": 0.0,
            "z": 0.0,
        },
        time_bin={"time_bin_start": times, "time_bin_end": times + 0.01},
        modality="meg",
        units="T",
    )


def run(array, **settings):
    return agree({**SETTINGS, **settings}, {"recording": array}, Path())


def test_groups_agree_while_they_see_the_same():
    dataset = run(sensors(shared=True))
    score, start = dataset["score"].values[0, 0], dataset["time_bin_start"].values
    assert dataset["model"].values.tolist() == ["mag – eeg"]
    assert score[start >= 0.1].mean() > 0.4 > abs(score[start < 0.08].mean())
    assert abs(run(sensors(shared=False))["score"].values[0, 0][start >= 0.1].mean()) < 0.4


def test_values_are_those_of_scipy():
    array = sensors(shared=True)
    dataset = run(array, width=0.01)
    upper = np.triu_indices(8, 1)
    t = int(np.flatnonzero(np.isclose(dataset["time_bin_start"].values, 0.2))[0])
    patterns = array.values[:, :, int(np.flatnonzero(np.isclose(array.time_bin_start.values, 0.2))[0])]
    rdms = [1 - np.corrcoef(patterns[:, part])[upper] for part in (slice(0, 40), slice(40, 80))]
    np.testing.assert_allclose(dataset["rdm"].values[:, t], rdms, rtol=1e-8)
    assert dataset["score"].values[0, 0, t] == pytest.approx(spearmanr(*rdms).statistic)


def test_bins_have_an_edge_at_onset_and_the_width_asked_for():
    dataset = run(sensors(shared=True), width=0.04)
    start, end = dataset["time_bin_start"].values, dataset["time_bin_end"].values
    assert np.allclose(end - start, 0.04) and np.isclose(start, 0).any()
    assert start.min() >= -0.2 - 1e-9 and end.max() <= 0.4 + 1e-9


def test_it_says_that_there_is_no_ceiling():
    array = sensors(shared=True)
    averages = array.assign_coords(n_repeats=("presentation", [3, 6, 6, 6, 3, 3, 3, 3]))
    assert (
        "8 responses (averages of 3, 6, 6, 6, 3, 3, 3, 3 trials) without single repeats"
        in run(averages).attrs["no_ceiling"]
    )
    assert "no noise ceiling" in run(sensors(shared=True, n_repeats=2)).attrs["no_ceiling"]
    assert "ceiling" not in run(array)


def test_maps_are_the_bins_around_moments():
    array = sensors(shared=True)
    dataset = run(array, maps=[0.21])
    assert dataset["map"].dims == ("moment", "stimulus", "place")
    inside = (array.time_bin_start.values >= 0.2 - 1e-9) & (array.time_bin_start.values < 0.22 - 1e-9)
    np.testing.assert_allclose(dataset["map"].values[0], array.values[:, :, inside].mean(axis=2))
    with pytest.raises(ValueError, match=r"maps names 3.0 s, but the recording goes from -0.2 to 0.4 s"):
        run(array, maps=[3.0])


def test_what_cannot_agree_is_refused():
    array = sensors(shared=True)
    with pytest.raises(ValueError, match="has no label 'kind' of units; it has channel_type, neuroid_id"):
        run(array, by="kind")
    with pytest.raises(ValueError, match="all units have channel_type = 'mag'"):
        run(array.isel(neuroid=slice(0, 40)))
    with pytest.raises(ValueError, match="2 conditions have too few dissimilarities"):
        run(array.isel(presentation=[0, 1]))
    with pytest.raises(ValueError, match="needs a recording with time bins"):
        run(array.isel(time_bin=0, drop=True))
