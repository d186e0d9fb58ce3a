from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, LeavePGroupsOut

from cerebridge import neuro
from cerebridge.encoding.splits import make_splits, stretches, time_neighbours


def presentations(n_stimuli=12, n_repeats=1, **labels):
    ids = np.repeat(np.arange(n_stimuli), n_repeats)
    return neuro.assemble(
        np.zeros((len(ids), 2)),
        presentation={"stimulus_id": ids, **labels},
        neuroid={"neuroid_id": [0, 1]},
        modality="spikes",
        units="spikes",
    )


def recording(n=60, **labels):
    start = np.arange(n) * 0.5
    return neuro.assemble(
        np.zeros((n, 2)),
        time_bin={"time_bin_start": start, "time_bin_end": start + 0.5, **labels},
        neuroid={"neuroid_id": [0, 1]},
        modality="fmri",
        units="a.u.",
        sfreq=2.0,
    )


@given(
    n_stimuli=st.integers(5, 30),
    n_repeats=st.integers(1, 4),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_default_folds_partition_rows_and_keep_repeats_together(n_stimuli, n_repeats, n_folds, seed):
    array = presentations(n_stimuli, n_repeats)
    splits = make_splits(array, n_folds, random_state=seed)
    assert sorted(np.concatenate([test for _, test in splits.folds])) == list(
        range(array.sizes["presentation"])
    )
    ids = array.stimulus_id.values
    for train, test in splits.folds:
        assert not np.intersect1d(ids[train], ids[test]).size
        assert len(train) + len(test) == len(ids)


def test_seed_moves_stimuli_between_folds():
    first, again, other = (make_splits(presentations(40), 5, random_state=seed) for seed in (0, 0, 1))
    assert all((a[1] == b[1]).all() for a, b in zip(first.folds, again.folds, strict=True))
    assert any(set(a[1]) != set(b[1]) for a, b in zip(first.folds, other.folds, strict=True))


def test_recording_without_runs_is_cut_into_contiguous_pieces():
    array = recording()
    for train, test in make_splits(array).folds:
        assert (np.diff(test) == 1).all()
        assert time_neighbours(array, train, test) in (1, 2)


def test_runs_are_left_out_one_at_a_time_and_have_no_neighbours():
    array = recording(run=np.repeat([0, 1, 2], 20))
    splits = make_splits(array)
    assert splits.description == "leave one run out"
    assert [len(test) for _, test in splits.folds] == [20, 20, 20]
    assert all(time_neighbours(array, *fold) == 0 for fold in splits.folds)


def test_classifiers_leave_out_sessions_but_not_stimuli():
    array = presentations(4, 6, session=np.tile([0, 0, 1, 1, 2, 2], 4))
    splits = make_splits(array, labels=array.stimulus_id.values)
    assert splits.description == "leave one session out"


@pytest.mark.parametrize(
    ("array", "kwargs", "message"),
    [
        (
            presentations(6, 2),
            {"cv": KFold(3, shuffle=True, random_state=0)},
            "repeats of a stimulus must stay together",
        ),
        (recording(), {"cv": KFold(5, shuffle=True, random_state=0)}, "cuts the time series"),
        (
            recording(run=np.repeat([0, 1], 30)),
            {"cv": KFold(5, shuffle=True, random_state=0)},
            "cuts the time series",
        ),
        (presentations(), {"cv": [([0, 1, 2], [2, 3])]}, "1 rows in both training and test"),
        (presentations(), {"cv": [([0, 1, 2], [])]}, "fold 0 has no test rows"),
        (presentations(), {"cv": []}, "no folds"),
        (presentations(3), {"cv": 5}, "a fold would be empty"),
        (presentations(run=1), {"cv": "run"}, "fold 0 has no training rows"),
        (presentations(), {"cv": "session"}, "no coordinate 'session'"),
        (presentations(), {"groups": np.arange(3)}, "groups have shape"),
        (presentations(), {"cv": 0.5}, "is no number, coordinate name"),
        (
            presentations(),
            {"cv": [([0, 1], [2, 40])]},
            "test part of fold 0 names row 40, but the 12 rows count from 0",
        ),
        (presentations(), {"cv": [([0, 1], [-1])]}, "names row -1"),
        (
            presentations(),
            {"cv": [([0, 1], [2]), ([0, 1, 1], [2])]},
            "training part of fold 1 names a row twice",
        ),
        (presentations(), {"cv": [([0.5, 1], [2])]}, "neither row numbers nor a mask of the 12 rows"),
        (presentations(), {"cv": [1, 2]}, "fold 0 of cv is 1, not a pair"),
        (
            presentations(),
            {"groups": np.where(np.arange(12) == 3, np.nan, 1)},
            "the group of row 3 is missing",
        ),
        (presentations(run=[*"aabb", *[None] * 8]), {"groups": "run"}, "the run of row 4 is missing"),
        (
            presentations(),
            {"groups": np.arange(12) % 2},
            "cv=5 must be from 2 to 2, because there are 2 groups;",
        ),
        (
            presentations(),
            {"cv": GroupKFold(5), "groups": np.arange(12) % 3},
            "cannot split 12 rows in 3 groups: ",
        ),
        (presentations(), {"cv": LeavePGroupsOut(12)}, "cannot split 12 rows in 12 groups by stimulus_id: "),
        (
            presentations(),
            {"labels": np.array(["a", "b"] * 5 + ["b", "c"])},
            "class 'c' has 1 rows, so it would be",
        ),
        (
            presentations(6, 2),
            {"cv": [(np.arange(0, 11), np.arange(11, 12))], "groups": "stimulus_id"},
            "both training",
        ),
    ],
)
def test_leaks_and_empty_folds_are_refused(array, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_splits(array, **kwargs)


def test_scikit_learn_splitters_get_the_groups():
    array = presentations(6, 2)
    assert len(make_splits(array, GroupKFold(3), "stimulus_id")) == 3
    assert len(make_splits(presentations(6), KFold(3, shuffle=True, random_state=0))) == 3


def test_masks_are_folds_too():
    mask = np.arange(12) < 9
    ((train, test),) = make_splits(presentations(), [(mask, ~mask)]).folds
    assert train.tolist() == list(range(9)) and test.tolist() == [9, 10, 11]


def test_ids_of_several_types_are_told_apart():
    ids = np.array(["1", 1, "2", 2, "3", 3], dtype=object)
    array = presentations(6).assign_coords(stimulus_id=("presentation", ids))
    assert len(make_splits(array, [([0, 2, 4], [1, 3, 5])])) == 1
    with pytest.raises(ValueError, match="1 stimuli .first 'b'. in both"):
        make_splits(array.assign_coords(stimulus_id=("presentation", [*"abcdeb"])), [([0, 1], [5])])


@pytest.mark.parametrize("label", ["trial", "run", "session", "subject"])
def test_a_stretch_ends_where_a_label_of_recordings_changes(label):
    start = np.arange(6.0)
    recording = xr.DataArray(
        np.zeros((6, 1)),
        {
            "time_bin_start": ("time_bin", start),
            "time_bin_end": ("time_bin", start + 1),
            label: ("time_bin", [0, 0, 0, 1, 1, 1]),
        },
        ("time_bin", "neuroid"),
    )
    assert stretches(recording, np.arange(6)).tolist() == [0, 0, 0, 1, 1, 1]
    assert stretches(recording.drop_vars(label), np.arange(6)).tolist() == [0] * 6
