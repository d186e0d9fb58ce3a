"""Plugins install nothing, write nothing to the home folder, and say in one sentence what they lack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cerebridge.encoding.brainscore import from_model, score
from cerebridge.encoding.brainscore.plugins import load_plugin

pytest.importorskip("brainscore_vision", reason="Brain-Score is not installed (make test-brainscore)")
pytestmark = pytest.mark.brainscore

SESSION = """
import numpy as np
from PIL import Image
from cerebridge import encoding, models
from cerebridge.encoding.brainscore.plugins import load_plugin

for name in ("pls", "rdm", "internal_consistency", "cka"):
    load_plugin("metric", name)
pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
stimuli = models.StimulusSet.from_arrays(pictures)
array = encoding.brainscore.from_model("pixels", layers=["pixels"])(stimuli)
assert array.sizes["presentation"] == 4

from brainscore_vision.benchmark_helpers.screen import place_on_screen
import tempfile
theirs = encoding.brainscore.to_stimulus_set(stimuli, tempfile.mkdtemp(), "set")
placed = place_on_screen(theirs, target_visual_degrees=8, source_visual_degrees=4)
assert Image.open(placed.get_stimulus("0000")).size == (64, 64)
model = encoding.brainscore.to_model(models.load("tiny", weights="random"), {"V4": "conv2"})
model.start_recording("V4")
assert model.look_at(placed).sizes["presentation"] == 4
"""


def test_no_pip_runs_and_nothing_is_written_to_the_home_folder(tmp_path: Path) -> None:
    home, path, temporary = (tmp_path / name for name in ("home", "bin", "tmp"))
    for folder in (home, path, temporary):
        folder.mkdir()
    for name in ("pip", "pip3"):
        (path / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "pip.log"}\n')
        (path / name).chmod(0o755)
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("BS_", "BRAIN", "RESULTCACHING", "XDG_"))
    }
    environment = inherited | {
        "HOME": str(home),
        "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(temporary),
    }
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "pip.log").exists()
    assert list(home.rglob("*")) == []
    assert not list(temporary.glob("brainscore-*/stimuli_on_screen")), "resized stimuli stay behind"


def test_the_stand_in_would_be_called(tmp_path: Path) -> None:
    """Without the adapter the same plugin does run pip, so that the test above can fail."""
    (tmp_path / "pip").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "pip.log"}\n')
    (tmp_path / "pip").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BS_")}
    environment |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    code = "from brainscore_vision import load_metric; load_metric('pls')"
    subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, cwd=tmp_path
    )
    assert "install -r" in (tmp_path / "pip.log").read_text()


def test_unknown_plugins_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="Brain-Score has no metric 'plss'"):
        load_plugin("metric", "plss")
    with pytest.raises(ValueError, match="Brain-Score has no benchmark 'Nobody1999.IT-pls'"):
        score("Nobody1999.IT-pls", None)
    with pytest.raises(ValueError, match="Brain-Score has no model 'brainnet'"):
        from_model("brainnet", region="IT")


def failing(error: BaseException) -> Any:
    def load(identifier: str) -> Any:
        raise error

    return load


@pytest.mark.parametrize(
    ("error", "expected", "sentence"),
    [
        (
            OSError("NoCredentialsError: Unable to locate credentials"),
            ConnectionError,
            "wants its recordings and",
        ),
        (ConnectionResetError("reset"), ConnectionError, "cannot be reached from here; load it once"),
        (
            ModuleNotFoundError("No module named 'sesame'", name="sesame"),
            ImportError,
            "needs the package 'sesame'",
        ),
        (RuntimeError("first line\nsecond"), ValueError, r"cannot be loaded \(first line\)"),
    ],
)
def test_what_a_plugin_lacks_is_one_sentence(
    error: BaseException, expected: type[Exception], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainscore_vision.load_benchmark", failing(error))
    with pytest.raises(expected, match=sentence):
        load_plugin("benchmark", "MajajHong2015.IT-pls")


def test_a_benchmark_that_wants_the_network_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    def unknown(*args: Any, **options: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("BRAINIO_HOME", str(tmp_path / "brainio"))
    monkeypatch.setattr("brainscore_core.supported_data_standards.brainio.fetch._local_data_path", None)
    with pytest.raises(
        ConnectionError, match=r"benchmark 'MajajHong2015public.IT-pls' wants its recordings and stimuli"
    ):
        score("MajajHong2015public.IT-pls", None)
