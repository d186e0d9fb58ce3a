"""Means of regions, tables of confounds, and cleaning that knows one run only."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.neuro.bold import UNLABELLED, grid
from cerebridge.neuro.cleaning import clean_runs, raw_values, read_confounds, region_means
from cerebridge.neuro.runs import open_runs

OPTIONS = {"detrend": True, "standardize": "zscore_sample", "high_pass": None, "low_pass": None}


def opened(seeds: tuple[int, ...] = (0, 1)):
    images = [
        nibabel.Nifti1Image(100 + np.random.default_rng(seed).normal(size=(3, 2, 1, 20)), np.eye(4))
        for seed in seeds
    ]
    return open_runs(images, t_r=2.0)


def test_regions_are_means_of_their_voxels_at_their_centre() -> None:
    values = np.random.default_rng(0).normal(size=(4, 5))
    table = {
        "neuroid_id": np.array([*"abcde"]),
        "region": np.array(["V2", "V1", UNLABELLED, "V2", "V2"]),
        "label": np.array([2, 1, 0, 2, 2]),
        "x": np.array([0.0, 1, 2, 3, 6]),
    }
    means, regions = region_means(values, table)
    np.testing.assert_allclose(means, np.stack([values[:, [0, 3, 4]].mean(1), values[:, 1]], 1))
    assert regions["region"].tolist() == ["V2", "V1"]
    assert regions["label"].tolist() == [2, 1]
    assert regions["x"].tolist() == [3.0, 1.0]
    assert regions["n_voxels"].tolist() == [3, 1]
    with pytest.raises(ValueError, match="no voxel of the runs lies in a region"):
        region_means(values[:, [2]], {"region": np.array([UNLABELLED])})


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.tsv", "a\tb\n1\t2\n3\t4\n"), ("c.csv", "a,b\n1,2\n3,4\n"), ("c.txt", "1 2 \n3  4 \n")],
)
def test_confounds_come_from_tables_and_text(tmp_path, name, text) -> None:
    (tmp_path / name).write_text(text)
    assert read_confounds(tmp_path / name, 2, "run 0").tolist() == [[1, 2], [3, 4]]


def test_a_gap_in_the_confounds_is_named() -> None:
    table = pd.DataFrame({"csf": [1.0, 2.0], "framewise_displacement": [np.nan, 0.1]})
    with pytest.raises(ValueError, match="'framewise_displacement' of run 3 is missing at volume 0"):
        read_confounds(table, 2, "run 3")
    with pytest.raises(ValueError, match="are not all numbers"):
        read_confounds(pd.DataFrame({"a": ["x", "y"]}), 2, "run 3")


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.5, 1e3), shift=st.floats(-100, 100))
def test_z_scores_know_no_gain_and_no_offset(scale, shift) -> None:
    runs = opened()
    values = np.random.default_rng(0).normal(size=(40, 6))
    plain, _ = clean_runs(values.copy(), runs, [None, None], [None, None], OPTIONS)
    other, _ = clean_runs(values * scale + shift, runs, [None, None], [None, None], OPTIONS)
    np.testing.assert_allclose(plain, other, atol=1e-6)


def test_the_order_of_voxels_does_not_change_their_signals() -> None:
    runs = opened()
    values = np.random.default_rng(0).normal(size=(40, 6))
    order = [3, 1, 5, 0, 2, 4]
    plain, _ = clean_runs(values.copy(), runs, [None, None], [None, None], OPTIONS)
    other, _ = clean_runs(values[:, order], runs, [None, None], [None, None], OPTIONS)
    np.testing.assert_allclose(other, plain[:, order], atol=1e-12)


def test_voxels_that_are_still_in_one_run_leave_all_runs() -> None:
    runs = opened()
    data = runs.images[1].get_fdata().copy()
    data[2, 1] = 5
    runs.images[1] = nibabel.Nifti1Image(data, np.eye(4))
    values, neuroid, dropped = raw_values(runs, grid(runs), invalid="drop")
    assert values.shape == (40, 5)
    assert "2-1-0" not in neuroid["neuroid_id"]
    assert dropped == {"dropped_constant": 1, "dropped_nonfinite": 0}


@pytest.mark.filterwarnings("ignore:psc standardization", "ignore:invalid value", "ignore:divide by zero")
def test_percent_change_of_a_signal_without_mean_is_refused() -> None:
    runs = opened()
    values = np.zeros((40, 6))
    values[::2], values[1::2] = 1, -1
    with pytest.raises(ValueError, match="cleaning leaves no signal in 6 of 6 voxels of run 0"):
        clean_runs(
            values, runs, [None, None], [None, None], {**OPTIONS, "detrend": False, "standardize": "psc"}
        )
