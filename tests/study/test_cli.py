from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

import cerebridge
from cerebridge import neuro
from cerebridge.encoding.study.cli import _show_warning, main
from cerebridge.encoding.study.validation import schema


def call(*arguments: str) -> int:
    """The exit code; 0 where nothing was raised."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_version_and_help(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"cerebridge {cerebridge.__version__}\n"
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("run", "demo", "inspect", "schema"))
    assert call("run", "--help") == 0
    assert "--plan" in capsys.readouterr().out


def test_help_loads_no_heavy_library():
    heavy = ("torch", "sklearn", "xarray", "pandas", "mne", "nilearn", "matplotlib", "jsonschema", "jinja2")
    code = f"""
import sys
from cerebridge.encoding.study.cli import _show_warning, main
try:
    main(["--help"])
except SystemExit:
    pass
sys.exit(", ".join(name for name in {heavy!r} if name in sys.modules) or None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "cerebridge: there is no study file none.toml.\n"),
        (["inspect", "none.nc"], "cerebridge: there is no file none.nc.\n"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err == message and captured.out == ""
    with pytest.raises(FileNotFoundError):
        main([*arguments, "--debug"])


def test_a_wrong_study_names_file_and_key(capsys, tmp_path, small):
    file = tmp_path / "study.toml"
    file.write_text(small.replace("cv = 3", "cvs = 3", 1))
    assert call("run", file, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "cerebridge: study.toml: analyses 'encoding' has the unknown key 'cvs'; did you mean 'cv'?"
    )
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_device_that_is_not_there(capsys, tmp_path, small):
    file = tmp_path / "study.toml"
    file.write_text(small)
    assert call("run", file, "--out", tmp_path / "out", "--device", "cuda:99") == 1
    assert "cuda:99" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_warnings_are_lines_for_people(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _show_warning
        warnings.warn("two units are flat.", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "cerebridge: warning: two units are flat.\n"


@pytest.mark.parametrize("arguments", [["run"], ["run", "x.toml", "--nonsense"], ["nonsense"]])
def test_wrong_usage(arguments):
    assert call(*arguments) == 2


def test_schema_and_its_tables(capsys):
    assert call("schema") == 0
    assert json.loads(capsys.readouterr().out) == schema()
    assert call("schema", "--markdown") == 0
    assert capsys.readouterr().out.startswith("## `[study]`")


def test_run_and_plan(capsys, tmp_path, small, small_run):
    file = tmp_path / "study.toml"
    file.write_text(small)
    assert call("run", file, "--out", small_run, "--plan") == 0
    assert "encoding of neurons: done before" in capsys.readouterr().out


def test_inspect(capsys, tmp_path):
    neuro.save(tmp_path / "x.nc", neuro.simulate(n_stimuli=5, n_units=3, random_state=0))
    assert call("inspect", tmp_path / "x.nc") == 0
    assert "presentation 5 × neuroid 3" in capsys.readouterr().out
