"""Every notebook runs from top to bottom, and says what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"


def executed(name: str, folder: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(TUTORIALS / name, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    return notebook


def texts(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs)


def test_one_array_ends_in_a_layer_profile(tmp_path):
    notebook = executed("01_one_array.ipynb", tmp_path)
    assert any(
        "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "shuffle_control" in texts(notebook)


@pytest.mark.slow
def test_encoding_models_find_what_was_simulated(tmp_path):
    said = texts(executed("02_encoding_models.ipynb", tmp_path))
    score = {
        name: float(value) for name, value in re.findall(r"^(\w[\w ]*):? (\d\.\d+)$", said, re.MULTILINE)
    }
    assert score["BandedRidgeCV"] > score["RidgeCV"] + 0.05
    assert score["factorised"] > score["ridge on all places"] + 0.1
    assert "correlation 1.00" in said
    medians = dict(re.findall(r"^(tiny/conv\d) +(\d\.\d+ +\d\.\d+)$", said, re.MULTILINE))
    early, late = zip(*(map(float, medians[f"tiny/conv{k}"].split()) for k in (1, 3)), strict=True)
    assert early[0] > early[1]
    assert late[0] < late[1]


@pytest.mark.slow
def test_similarity_of_real_and_simulated_brains(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("CEREBRIDGE_DATA", str(shared))
    said = texts(executed("02_similarity.ipynb", tmp_path))
    score = {
        name: float(value) for name, value in re.findall(r"^(\w[\w ]*?) +(\d\.\d+)$", said, re.MULTILINE)
    }
    assert score["weighted hypotheses"] > score["animacy"] > score["best of 63"]
    found = re.findall(r"^t?RSA (\d\.\d+) p (\d\.\d+)$", said, re.MULTILINE)
    assert len(found) == 2 and all(float(accuracy) > 0.85 and float(p) < 0.01 for accuracy, p in found)
    peaks = dict(re.findall(r"^(EVC|IT) +(\d\.\d+)", said, re.MULTILINE))
    assert float(peaks["EVC"]) < 0.12 < float(peaks["IT"])
    factorised, random = map(float, re.search(r"CCGP\) +(\d\.\d+) +(\d\.\d+)", said).groups())
    assert factorised > 0.9 > 0.65 > random


@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("*.ipynb")), ids=lambda path: path.name)
def test_stored_outputs_hold_no_errors_and_no_paths_of_a_machine(path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs, "a tutorial is stored with its outputs"
    assert not [
        output for output in outputs if output.output_type in ("error", "stream") and "Error" in str(output)
    ]
    assert "/tmp/" not in texts(notebook) and "site-packages" not in texts(notebook)
