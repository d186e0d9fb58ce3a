from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

from cerebridge import neuro
from cerebridge.encoding.study.graph import Cache, Record, Step, file_hash, format_seconds, in_order


def numbers(settings, inputs, folder):
    return xr.Dataset(
        {"x": ("n", np.arange(settings["n"]) + sum(float(d["x"].sum()) for d in inputs.values()))}
    )


def step(n=3, **options) -> Step:
    return Step(f"numbers {n}", "numbers", numbers, {"n": n}, **options)


def test_equal_work_has_one_key_whatever_it_is_called():
    assert step(3).key == Step("another title", "numbers", numbers, {"n": 3}).key


@pytest.mark.parametrize(
    "other",
    [
        step(4),
        Step("numbers 3", "other", numbers, {"n": 3}),
        step(3, inputs={"before": step(1)}),
        Step("numbers 3", "numbers", numbers, {"n": 3, "m": None}),
    ],
)
def test_everything_that_matters_changes_the_key(other):
    assert other.key != step(3).key


def test_inputs_change_the_key_of_what_rests_on_them():
    assert step(3, inputs={"a": step(1)}).key != step(3, inputs={"a": step(2)}).key


def test_the_content_of_files_counts_and_their_place_does_not(tmp_path):
    for folder, content in (("one", "x"), ("two", "x"), ("three", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(content)
    keys = [step(3, files=(tmp_path / name / "a.txt",)).key for name in ("one", "two", "three")]
    assert keys[0] == keys[1] != keys[2]
    assert file_hash(tmp_path / "one") == file_hash(tmp_path / "two") != file_hash(tmp_path / "three")


def test_inputs_come_first_and_equal_steps_once():
    shared = step(1)
    ends = [step(5, inputs={"a": shared}), step(6, inputs={"a": step(1)})]
    assert [each.title for each in in_order(ends)] == ["numbers 1", "numbers 5", "numbers 6"]


def test_results_are_kept_with_what_they_took(tmp_path):
    cache, work = Cache(tmp_path / "cache"), step(4)
    assert not cache.has(work) and cache.record(work) is None
    record = cache.make(work, {}, {"seconds": 2.0})
    assert cache.has(work) and record.planned_seconds == 2.0 and record.planned_bytes is None
    assert cache.record(work) == record and record.bytes == cache.place(work).stat().st_size
    assert cache.load(work)["x"].values.tolist() == [0, 1, 2, 3]
    cache.forget(work)
    assert not cache.has(work)


def test_arrays_are_kept_lazily(tmp_path):
    brain = neuro.simulate(n_stimuli=5, n_units=3, random_state=0)
    work = Step("brain", "recording", lambda settings, inputs, folder: brain, {}, form="array")
    cache = Cache(tmp_path)
    cache.make(work, {}, {})
    assert cache.load(work).identical(brain)


def test_a_failing_step_leaves_nothing(tmp_path):
    def fail(settings, inputs, folder):
        raise ValueError("no")

    cache, work = Cache(tmp_path), Step("fail", "fail", fail, {})
    with pytest.raises(ValueError, match="no"):
        cache.make(work, {}, {})
    assert not cache.has(work) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "0.012 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (75, "1 min 15 s"),
        (3600, "1 h"),
        (7384, "2 h 3 min"),
    ],
)
def test_durations_for_people(seconds, text):
    assert format_seconds(seconds) == text


def test_warnings_are_shown_and_noted(tmp_path):
    flat, old = ("one unit is flat", UserWarning), ("old", DeprecationWarning)

    def warn(settings, inputs, folder):
        for message, category in (flat, flat, old):
            warnings.warn(message, category, stacklevel=1)
        return xr.Dataset({"x": ("n", [1.0])})

    cache, work = Cache(tmp_path), Step("warn", "warn", warn, {})
    with pytest.warns(UserWarning, match="one unit is flat"):
        record = cache.make(work, {}, {})
    assert record.notes == ("one unit is flat",) == cache.record(work).notes


def test_records_are_plain():
    assert Record(1.0, 2.0) == Record(seconds=1.0, bytes=2.0, planned_seconds=None)
