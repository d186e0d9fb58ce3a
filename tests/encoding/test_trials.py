"""Trials and runs: what is given in which form, where borders are, and that everything comes back in the same form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cerebridge import neuro
from cerebridge.encoding.trials import Trials, join, recordings, split_runs


def recording(starts, **labels):
    starts = np.asarray(starts, dtype=float)
    return neuro.assemble(
        np.zeros((len(starts), 2)), time_bin={"time_bin_start": starts, "time_bin_end": starts + 1, **labels},
        neuroid={"neuroid_id": ["a", "b"]}, modality="eeg", units="V",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("starts", "labels", "runs", "groups"),
    [
        ([0, 1, 2, 3], {}, [0, 0, 0, 0], None),
        ([0, 1, 5, 6], {}, [0, 0, 1, 1], None),
        ([0, 1, 2, 3], {"run": [0, 0, 1, 1]}, [0, 0, 1, 1], [0, 0, 1, 1]),
        ([0, 1, 0, 1], {"trial": [0, 0, 0, 1]}, [0, 0, 1, 2], [0, 0, 0, 1]),
        ([0, 1, 2, 3], {"run": [0, 0, 1, 1], "session": [0, 1, 1, 1]}, [0, 1, 2, 2], [0, 1, 2, 2]),
        ([0, 1, 2, 3], {"run": [1, 2, 1, 2]}, [0, 1, 2, 3], [0, 1, 0, 1]),
        ([0, 1, 2, 3], {"run": [5, 5, 5, 5]}, [0, 0, 0, 0], None),
    ],
)
def test_borders_are_where_labels_change_and_time_jumps(starts, labels, runs, groups):
    found, kept = recordings(4, None, [recording(starts, **labels), None])
    assert found.tolist() == runs
    assert (None if kept is None else kept.tolist()) == groups


def test_groups_given_are_borders_too():
    array = recording([0, 1, 2, 3], run=[0, 0, 1, 1])
    found, kept = recordings(4, ["x", "y", "y", "y"], [array])
    assert found.tolist() == [0, 1, 2, 2]
    assert kept.tolist() == [0, 1, 1, 1]
    assert recordings(4, "run", [array])[1].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="no coordinate 'trial'"):
        recordings(4, "trial", [array])


@pytest.mark.parametrize("kind", ["list", "numpy", "torch", "xarray"])
def test_tables_come_apart_and_together(kind):
    table = np.arange(12.0).reshape(6, 2)
    given = {"list": table.tolist(), "numpy": table, "torch": torch.from_numpy(table)}.get(kind)
    if kind == "xarray":
        given = recording(range(6)).copy(data=table)
    parts = split_runs(given, np.array([0, 0, 1, 2, 2, 2]))
    assert [len(part) for part in parts] == [2, 1, 3]
    np.testing.assert_array_equal(join(parts), table)


def test_nested_lists_of_numbers_are_a_table():
    assert Trials.of([[1.0, 2.0], [3.0, 4.0]]).form == "table"
    assert Trials.of([[[1.0], [2.0]], [[3.0], [4.0]]]).form == "list"
    assert Trials.of(np.zeros((2, 3, 4))).form == "stack"
    assert Trials.of(np.zeros((2, 3, 4))).labels().tolist() == [0, 0, 0, 1, 1, 1]
    assert Trials.of([np.zeros((1, 4)), np.zeros((2, 4))]).labels().tolist() == [0, 1, 1]
