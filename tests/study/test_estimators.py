"""Encoders of a study: any public class by its name, joined models, features over time and of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cerebridge import encoding
from cerebridge.encoding.study.archive import read_results
from cerebridge.encoding.study.estimators import build_encoder
from cerebridge.encoding.study.format import parse_study
from cerebridge.encoding.study.runner import Runner
from cerebridge.encoding.study.validation import StudyError

STUDY = """
[study]
name = "time"

[recordings.sensors]
reader = "array"
path = "sound.npz"
key = "sensors"
dims = ["run", "neuroid", "time_bin"]
sfreq = 50
modality = "eeg"
units = "V"

[features.envelope]
kind = "timecourse"
path = "sound.npz"
key = "envelope"
dims = ["run", "time_bin"]
sfreq = 50

[features.other]
kind = "timecourse"
path = "sound.npz"
key = "other"
dims = ["run", "time_bin"]
sfreq = 50

[encoders.lagged]
name = "RidgeCV"
delays = [0, 1, 2, 3]

[encoders.trf]
name = "TRF"
options = { tmin = 0.0, tmax = 0.06, sfreq = 50, alphas = [0.1, 1.0, 10.0] }

[encoders.banded]
name = "BandedRidgeCV"
options = { bands = "band", n_candidates = 10 }

[[analyses]]
name = "each"
kind = "encoding"
recordings = ["sensors"]
models = ["envelope", "other"]
encoders = ["ridge", "lagged", "trf"]
cv = "run"

[[analyses]]
name = "together"
kind = "encoding"
recordings = ["sensors"]
models = ["envelope", "other"]
encoders = ["banded"]
joint = true
cv = "run"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Sensors hear the envelope two samples later; the other sound is not heard."""
    rng = np.random.default_rng(0)
    envelope, other = rng.standard_normal((2, 4, 300))
    heard = np.concatenate([np.zeros((4, 2)), envelope[:, :-2]], axis=1)
    sensors = heard[:, None] * np.array([1.0, -0.5, 0.8])[:, None] + rng.standard_normal((4, 3, 300))
    path = tmp_path_factory.mktemp("time")
    np.savez(path / "sound.npz", sensors=sensors, envelope=envelope, other=other)
    return path


@pytest.fixture(scope="module")
def groups(folder, tmp_path_factory) -> dict[str, xr.Dataset]:
    out = tmp_path_factory.mktemp("results")
    Runner(parse_study(STUDY, "time.toml", folder), out, say=lambda line: None).run()
    assert (
        "Each of the encoders ridge, lagged, trf predicted 3 units from 2 models"
        in (out / "report.html").read_text()
    )
    return read_results(out / "results.nc")[0]


def test_models_of_several_encoders_lie_side_by_side(groups):
    score = groups["each/sensors"]["score"].mean(["split", "unit"]).to_series()
    assert list(score.index) == [
        f"{model} ({encoder})" for encoder in ("ridge", "lagged", "trf") for model in ("envelope", "other")
    ]
    assert score["envelope (lagged)"] > 0.4
    assert score["envelope (trf)"] > 0.4
    assert score.drop(["envelope (lagged)", "envelope (trf)"]).abs().max() < 0.15
    audit = encoding.Result(groups["each/sensors"]).audit
    assert list(audit["shuffle_control"]) == list(score.index)
    assert max(map(abs, audit["shuffle_control"].values())) < 0.15


def test_joined_models_are_one(groups):
    assert groups["together/sensors"]["model"].values.tolist() == ["joint"]


def test_the_score_that_is_reported_chooses_hyperparameters():
    ridge = build_encoder({"name": "RidgeCV", "options": {}}, {"scoring": "r2", "seed": 3}, "cpu")
    assert (ridge.scoring, ridge.device) == ("r2", "cpu")
    banded = build_encoder(
        {"name": "BandedRidgeCV", "options": {"n_candidates": 7}}, {"scoring": "pearsonr", "seed": 3}, "cpu"
    )
    assert (banded.scoring, banded.random_state, banded.n_candidates) == ("pearsonr", 3, 7)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "TRF"', 'name = "TFR"', "encoders.trf.name is 'TFR'; did you mean 'TRF'"),
        ("tmin = 0.0", "tmim = 0.0", "encoders.trf.options has the unknown key 'tmim'; did you mean 'tmin'"),
        ('"lagged", "trf"]', '"laged", "trf"]', r"encoders\[1\] is 'laged'; did you mean 'lagged'"),
        ('name = "TRF"', 'name = "evaluate"', "encoders.trf.name is 'evaluate'; Allowed are"),
    ],
)
def test_unknown_encoders_and_options_are_named(folder, old, new, message):
    with pytest.raises(StudyError, match=message):
        parse_study(STUDY.replace(old, new), "time.toml", folder)


def test_time_needs_a_rate(folder, tmp_path):
    study = parse_study(STUDY.replace("sfreq = 50\nmodality", "modality"), "time.toml", folder)
    with pytest.raises(ValueError, match="which needs 'sfreq'"):
        Runner(study, tmp_path, say=lambda line: None).run()
