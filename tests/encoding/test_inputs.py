"""Checked input: every wrong value, split or group is answered with one sentence that says where."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit, StratifiedKFold

from cerebridge.encoding import inputs


def labelled(values: np.ndarray, stimuli: list[str] | None = None) -> xr.DataArray:
    stimuli = [f"s{i}" for i in range(len(values))] if stimuli is None else stimuli
    names = [f"u{i}" for i in range(values.shape[1])]
    coords = {"stimulus_id": ("presentation", stimuli), "neuroid_id": ("neuroid", names)}
    return xr.DataArray(values, dims=("presentation", "neuroid"), coords=coords)


@pytest.mark.parametrize("container", [np.asarray, torch.as_tensor, labelled])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_of_every_kind(container, dtype):
    values = np.arange(6, dtype=dtype).reshape(3, 2)
    estimator = BaseEstimator()
    tensor = inputs.features(estimator, container(values), reset=True)
    np.testing.assert_array_equal(tensor.numpy(), values)
    assert tensor.numpy().dtype == dtype
    assert estimator.n_features_in_ == 2
    with pytest.raises(ValueError, match="X has 1 features, but BaseEstimator is expecting 2 features"):
        inputs.features(estimator, container(values[:, :1]), reset=False)


@pytest.mark.parametrize("container", [np.asarray, torch.as_tensor, labelled])
@pytest.mark.parametrize(("bad", "kind"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_values_that_are_missing_are_located(container, bad, kind):
    values = np.ones((5, 4))
    values[3, 1] = values[4, 1] = bad
    first = "stimulus_id 's3'" if container is labelled else "row 3"
    with pytest.raises(
        ValueError, match=f"Input X contains {kind}.*: in 2 of 5 samples, first {first}; drop"
    ):
        inputs.features(BaseEstimator(), container(values), reset=True)
    first = "neuroid_id 'u1'" if container is labelled else "column 1"
    with pytest.raises(
        ValueError, match=f"Input y contains {kind}.*: in 1 of 4 targets, first {first}; drop"
    ):
        inputs.targets(container(values), 5)


def test_values_whose_sum_overflows_are_fine():
    values = torch.full((3, 1), 1e308, dtype=torch.float64)
    assert values.sum().isinf()
    assert inputs.require_finite(values, None, "X", "samples", 0) is None


@pytest.mark.parametrize("container", [torch.as_tensor, lambda x: xr.DataArray(x)])
def test_features_of_wrong_shape(container):
    with pytest.raises(ValueError, match="samples × features, got 3 dimensions"):
        inputs.features(BaseEstimator(), container(np.ones((2, 3, 4))), reset=True)
    with pytest.raises(ValueError, match=r"X is empty: its shape is \(0, 3\)"):
        inputs.features(BaseEstimator(), container(np.ones((0, 3))), reset=True)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (np.ones(4), "X has 5 samples and y has 4"),
        (np.ones((5, 2, 2)), "got 3 dimensions"),
        (np.ones((5, 0)), "y is empty"),
        ([1.0, 2.0, np.nan, 4.0, np.nan], "in 2 of 5 samples, first row 2"),
    ],
)
def test_targets_that_do_not_fit(y, message):
    with pytest.raises(ValueError, match=message):
        inputs.targets(y, 5)


def test_targets_of_other_stimuli():
    x, y = labelled(np.ones((3, 2)), ["a", "b", "c"]), labelled(np.ones((3, 1)), ["a", "c", "b"])
    with pytest.raises(
        ValueError, match=r"different stimuli in 2 rows \(first 1: 'b' and 'c'\).*neuro.align"
    ):
        inputs.targets(y, 3, x)
    assert inputs.targets(x, 3, x) is not None


def test_targets_without_a_score_are_named():
    y = np.ones((5, 3))
    scores = torch.tensor([0.1, torch.nan, torch.nan])
    with pytest.warns(
        UserWarning, match="2 of 3 targets vary in no held-out set, first neuroid_id 'u1': they have"
    ):
        inputs.warn_of_missing_scores(scores, torch.from_numpy(y), labelled(y))
    with pytest.warns(UserWarning, match="1 of 1 targets vary in no held-out set: they"):
        inputs.warn_of_missing_scores(scores[1:2], torch.ones(5), np.ones(5))


def as_lists(splits: list) -> list:
    return [(split.train.tolist(), split.test.tolist()) for split in splits]


def test_an_integer_gives_contiguous_folds():
    assert [test for _, test in as_lists(inputs.splits(3, 6))] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(("cv", "n_folds"), [(2, 2), (5, 3)])
def test_an_integer_with_groups_keeps_groups_together(cv, n_folds):
    groups = np.array(["a", "b", "c"] * 4)
    found = as_lists(inputs.splits(cv, 12, None, groups))
    assert len(found) == n_folds
    for train, test in found:
        assert not set(groups[train]) & set(groups[test])


def test_groups_by_name():
    array = labelled(np.ones((4, 2))).assign_coords(run=("presentation", [1, 2, 1, 2]))
    expected = as_lists(inputs.splits(GroupKFold(2), 4, None, [1, 2, 1, 2]))
    assert as_lists(inputs.splits(GroupKFold(2), 4, None, "run", (np.ones(4), array))) == expected
    with pytest.raises(
        ValueError, match=r"no coordinate 'session' to group by; there are \['neuroid_id', 'run'"
    ):
        inputs.splits(2, 4, None, "session", (array,))


def test_pairs_of_indices_or_masks():
    mask = np.array([True, True, False, False])
    assert as_lists(inputs.splits([(mask, ~mask)], 4)) == [([0, 1], [2, 3])]
    assert as_lists(inputs.splits(iter([([3, 2], [1, 0])]), 4)) == [([2, 3], [0, 1])]


def test_a_splitter_may_look_at_the_responses():
    y = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    for _, test in as_lists(inputs.splits(StratifiedKFold(2), 8, y)):
        assert y[test].mean() == 0.5


@pytest.mark.parametrize(
    ("cv", "groups", "message"),
    [
        ([], None, "cv gives no splits"),
        ([([0, 1], [2, 3]), ([0, 1, 2, 3], [])], None, "split 2 of 2 holds out no samples; use fewer folds"),
        ([([], [2, 3])], None, "split 1 of 1 has no samples to train on"),
        ([([0, 1, 2], [2, 3])], None, r"split 1 of 1 trains on 1 samples that it holds out \(first 2\)"),
        ([([0, 1], [2, 4])], None, "names samples from 2 to 4, but there are 4"),
        ([([0, 0, 1], [2, 3])], None, "names a sample twice"),
        (KFold(4), None, "split 1 of 4 holds out a single sample"),
        (5, None, "cv=5 folds need at least 5 samples, but n_samples=4"),
        (2, ["a"] * 4, "n_splits=2 greater than the number of groups"),
        (2, ["a"] * 3, r"groups have shape \(3,\), but there are 4 samples"),
        (GroupKFold(2), None, "groups"),
        (PredefinedSplit([-1, -1, -1, -1]), None, "cv gives no splits"),
    ],
)
def test_splits_that_cannot_be_used(cv, groups, message):
    with pytest.raises(ValueError, match=message):
        inputs.splits(cv, 4, None, groups)
