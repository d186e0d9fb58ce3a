from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding.study.archive import read_results
from cerebridge.encoding.study.format import parse_study
from cerebridge.encoding.study.runner import Runner


def run(study, out) -> list[str]:
    lines: list[str] = []
    Runner(study, out, say=lines.append).run()
    return lines


def assert_equal_results(first: Path, second: Path) -> None:
    """Equal but for how long things took."""
    (a, _, index_a), (b, _, index_b) = (read_results(out / "results.nc") for out in (first, second))
    assert index_a == index_b and list(a) == list(b)
    for name, dataset in a.items():
        other = b[name]
        xr.testing.assert_equal(
            dataset.drop_vars("fit_seconds", errors="ignore"), other.drop_vars("fit_seconds", errors="ignore")
        )
        assert dataset.attrs["audit"] == other.attrs["audit"]
        facts, others = dataset.attrs["provenance"], other.attrs["provenance"]
        assert {**facts, "seconds": 0} == {**others, "seconds": 0}


def test_both_files_are_written_and_every_step_is_said(small_run, small_study):
    assert {path.name for path in small_run.iterdir()} == {"results.nc", "report.html", "cache"}
    groups, attrs, index = read_results(small_run / "results.nc")
    assert list(groups) == ["encoding/neurons", "similarity/neurons", "decoding/neurons"]
    assert index["encoding/neurons"] == {"kind": "encoding", "recording": "neurons"}
    assert attrs["title"] == "A small study" and attrs["study"] == small_study.text
    assert groups["encoding/neurons"].sizes["split"] == 6


def test_a_second_run_skips_everything_and_gives_the_same(small_study, small_run, tmp_path):
    first = run(small_study, tmp_path)
    second = run(small_study, tmp_path)
    assert not [line for line in first if "skipped" in line]
    steps = [line for line in second if line.startswith("[")]
    assert len(steps) == 8 and all(line.endswith("skipped, done before") for line in steps)
    assert_equal_results(small_run, tmp_path)


def test_only_what_changes_is_done_again(small, small_run, tmp_path):
    run(parse_study(small, "small.toml"), tmp_path)
    changed = parse_study(
        small.replace("permutations = 19", "permutations = 29").replace("A small", "Another"), "small.toml"
    )
    done = [line for line in run(changed, tmp_path) if ": done in" in line]
    assert len(done) == 1 and "similarity of neurons" in done[0]


#: a run that sends itself a signal as soon as it says something
SIGNALLED = """
    import os, sys
    from cerebridge.encoding.study.cli import main

    class Listening:
        def write(self, text):
            written = sys.__stdout__.write(text)
            if {said!r} in text:
                sys.__stdout__.flush()
                os.kill(os.getpid(), {number})
            return written

        def __getattr__(self, name):
            return getattr(sys.__stdout__, name)

    sys.stdout = Listening()
    main()
"""


def run_until(said: str, number: signal.Signals, file: Path, out: Path) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(SIGNALLED).format(said=said, number=int(number))
    command = [sys.executable, "-c", code, "run", str(file), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_killed_run_is_resumed_to_the_same_results(small, small_study, small_run, tmp_path):
    file, out = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(small)
    killed = run_until("encoding of neurons, seed 0: done", signal.SIGKILL, file, out)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "results.nc").exists() and not (out / "report.html").exists()
    lines = run(small_study, out)
    skipped = [line for line in lines if line.endswith("skipped, done before")]
    assert any("encoding of neurons, seed 0" in line for line in skipped)
    assert any("activations of tiny" in line for line in skipped)
    assert [line for line in lines if "decoding of neurons: done" in line]
    assert_equal_results(small_run, out)


def test_a_stopped_run_says_how_to_go_on(small, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(small)
    stopped = run_until("activations of tiny on pictures: done", signal.SIGINT, file, tmp_path / "out")
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr
    assert stopped.stderr.endswith("cerebridge: stopped; run the same command again to go on from here.\n")
    assert "activations of tiny" in stopped.stdout


def test_moving_the_data_and_other_words_repeat_nothing(small, tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 30))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", values)
    text = (
        small[: small.index("[recordings")]
        + """
[recordings.neurons]
reader = "array"
path = "x.npy"
dims = ["neuroid", "presentation"]
stimuli = "pictures"
modality = "spikes"
units = "spikes"

[[analyses]]
name = "encoding"
kind = "encoding"
recordings = ["neurons"]
models = ["pixels"]
cv = 3
"""
    )
    first = parse_study(text, "small.toml", root=tmp_path / "here")
    run(first, tmp_path / "out")
    other = text.replace("pictures", "images").replace("A small", "A")
    moved = parse_study(other, "other.toml", root=tmp_path / "there")
    assert not [line for line in run(moved, tmp_path / "out") if "done in" in line]


def test_a_damaged_result_is_made_again(small_study, small_run, tmp_path):
    run(small_study, tmp_path)
    (damaged,) = (tmp_path / "cache").glob("decoding-*.nc")
    damaged.write_bytes(damaged.read_bytes()[:1000])
    lines = run(small_study, tmp_path)
    assert any("It is made again." in line and damaged.name in line for line in lines)
    assert [line for line in lines if ": done in" in line and "decoding of neurons" in line]
    assert_equal_results(small_run, tmp_path)


def test_damaged_activations_are_mended_in_the_next_run(small_study, small, small_run, tmp_path):
    run(small_study, tmp_path)
    shard = next((tmp_path / "cache").glob("activations-*/shard-*.h5"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(bytes(content))
    changed = parse_study(small.replace("cv = 3\nseeds = [0, 1]", "cv = 3\nseeds = [0, 2]"), "small.toml")
    with pytest.raises(OSError, match="damaged"):
        run(changed, tmp_path)
    with pytest.warns(UserWarning, match="computed again"):
        lines = run(changed, tmp_path)
    assert any("activations of tiny on pictures: done" in line for line in lines)


def test_what_is_not_needed_any_more_need_not_be_there(small_study, small_run, tmp_path):
    run(small_study, tmp_path)
    for record in (tmp_path / "cache").glob("activations-*.json"):
        record.unlink()
    lines = run(small_study, tmp_path)
    assert not [line for line in lines if ": done in" in line]
    assert "activations of tiny" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_plan_says_what_is_to_do(small_study, small_run, tmp_path):
    before = Runner(small_study, tmp_path, say=lambda line: None).plan().splitlines()
    assert len(before) == 9 and before[0].startswith("activations of tiny on pictures: to do, about")
    assert before[-1].startswith("at least ")
    after = Runner(small_study, small_run, say=lambda line: None).plan().splitlines()
    assert all(line.endswith("done before") for line in after[:-1])
    assert not (tmp_path / "results.nc").exists()


def test_the_early_region_is_early_and_nothing_exceeds_its_ceiling_by_far(small_run):
    groups, _, _ = read_results(small_run / "results.nc")
    dataset = groups["encoding/neurons"]
    assert float((dataset["normalised"].mean(["split", "unit"])).max()) < 1.1
    assert np.isfinite(dataset["score"].values).all()
