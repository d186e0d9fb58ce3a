"""Runs as they are given, named, timed and found again."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pandas as pd
import pytest

from cerebridge import neuro
from cerebridge.neuro.runs import open_runs, pack_events, per_run, runs_of, time_table, unpack_events


def image(n: int = 6, t_r: float = 2.0) -> nibabel.Nifti1Image:
    made = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(2, 2, 1, n)), np.eye(4))
    made.header.set_zooms((1, 1, 1, t_r))
    return made


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (image(), ["run 0"]),
        ([image(), image()], ["run 0", "run 1"]),
        ({"a": image(), "b": image()}, ["run a", "run b"]),
        ({("s1", 4): image(), ("s2", 4): image()}, ["session s1 run 4", "session s2 run 4"]),
    ],
    ids=["one", "list", "named", "sessions"],
)
def test_runs_have_names(runs, names) -> None:
    assert open_runs(runs).names == names


def test_each_run_gets_its_own_by_order_or_name() -> None:
    assert per_run(None, [0, 1], False, "events") == [None, None]
    assert per_run(["x", "y"], [0, 1], False, "events") == ["x", "y"]
    assert per_run({1: "y", 0: "x"}, [0, 1], False, "events") == ["x", "y"]
    assert per_run("x", [0], True, "events") == ["x"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({0: "x"}, "1 is only among the events or only among the runs"),
        (["x"], "there are 2 runs, but events for 1"),
        ("x.tsv", "there are 2 runs, but events for one str"),
        (pd.DataFrame(), "events for one DataFrame"),
    ],
)
def test_too_few_are_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        per_run(given, [0, 1], False, "events")


def test_times_lie_within_the_run_and_blocks_go_on() -> None:
    runs = open_runs([image(), image(4)])
    table = pd.DataFrame({"onset": [2.0], "duration": [4.0], "trial_type": ["a"], "stimulus_id": ["s"]})
    time = time_table(runs, [np.arange(6), np.array([1, 3])], [table, table], 0.0)
    assert time["time_bin_start"].tolist() == [0, 2, 4, 6, 8, 10, 2, 6]
    assert time["block"].tolist() == [-1, 0, 0, -1, -1, -1, 1, -1]
    assert "block" not in time_table(runs, [np.arange(6), np.arange(4)], [table, table], None)


def test_events_travel_as_text() -> None:
    runs = open_runs({("s", np.int64(1)): image(), ("s", np.int64(2)): image()})
    table = pd.DataFrame({"onset": [2.5], "duration": [4.0], "trial_type": ["a"], "stimulus_id": ["ä"]})
    packed = pack_events(runs, [table, table.iloc[:0]])
    assert len(json.loads(packed)) == 2
    time = {"time_bin_start": [0.0], "time_bin_end": [1.0], "run": 1, "session": "s"}
    array = neuro.assemble([[1.0]], time_bin=time, neuroid={"neuroid_id": ["v"]}, modality="fmri", units="z")
    array.attrs["events"] = packed
    found = unpack_events(array, [labels for labels, _ in runs_of(array)])
    pd.testing.assert_frame_equal(found[0], table, check_dtype=False)
    with pytest.raises(ValueError, match="no events of session s run 3"):
        unpack_events(array, [{"session": "s", "run": 3}])


def test_runs_are_told_apart_by_session() -> None:
    time = {
        "time_bin_start": [0, 1, 0, 1],
        "time_bin_end": [1, 2, 1, 2],
        "run": [1, 1, 1, 1],
        "session": ["b", "b", "a", "a"],
    }
    array = neuro.assemble(
        np.eye(4), time_bin=time, neuroid={"neuroid_id": [*"abcd"]}, modality="fmri", units="z"
    )
    found = [(labels, rows.tolist()) for labels, rows in runs_of(array)]
    assert found == [({"session": "b", "run": 1}, [0, 1]), ({"session": "a", "run": 1}, [2, 3])]
