"""Exciting pictures: chosen by fits that did not see them, and truly exciting where the model is right."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge.encoding.study.archive import read_results
from cerebridge.encoding.study.format import parse_study
from cerebridge.encoding.study.runner import Runner
from cerebridge.encoding.study.validation import StudyError

STUDY = """
[study]
name = "exciting"

[stimuli.pictures]
reader = "patterns"
categories = 4
per_category = 15
size = 32

[networks.tiny]
name = "tiny"
layers = ["conv1", "conv3"]
pool = 2

[recordings.neurons]
reader = "simulation"
stimuli = "pictures"
regions = { late = "tiny/conv3" }
n_units = 12
n_repeats = 4

[[analyses]]
name = "exciting"
kind = "exciting"
recordings = ["neurons"]
model = "tiny/conv3"
units = 3
pictures = 5
steps = 100
cv = 3
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("exciting")
    report = Runner(parse_study(STUDY, "exciting.toml"), out, say=lambda line: None).run()
    (dataset,) = read_results(out / "results.nc")[0].values()
    return dataset, report.read_text(encoding="utf-8")


@pytest.fixture
def pictures_of_noise(tmp_path):
    """The same study of responses that have nothing to do with the pictures."""
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).standard_normal((60, 40)))
    start, end = STUDY.index('reader = "simulation"'), STUDY.index("[[analyses]]")
    text = f"""{STUDY[:start]}reader = "array"
path = "noise.npy"
dims = ["presentation", "neuroid"]
stimuli = "pictures"
modality = "spikes"
units = "spikes/s"

{STUDY[end:]}"""
    text = text.replace("units = 3", "units = 40").replace("steps = 100", "steps = 0")
    return parse_study(text, "noise.toml", tmp_path)


def test_the_chosen_pictures_excite_more_than_others_and_not_more_than_the_best(run):
    dataset, _ = run
    assert float(dataset["measured"].mean()) > 0.4
    assert (dataset["measured"].mean("rank") <= dataset["highest"].mean("rank") + 1e-9).all()
    assert (np.diff(dataset["predicted"].values, axis=1) <= 0).all()
    assert (np.diff(dataset["highest"].values, axis=1) <= 0).all()


def test_units_are_those_with_the_best_held_out_scores(run):
    dataset, _ = run
    scores = dataset["score"].mean("split").isel(model=0).values
    best = dataset["neuroid_id"].values[np.argsort(-scores)[:3]]
    assert dataset["best_neuroid"].values.tolist() == best.tolist()


def test_pictures_are_made_that_the_encoder_holds_more_exciting_than_all_that_were_shown(run):
    dataset, report = run
    assert dataset["made"].shape == (3, 112, 112, 3)
    assert dataset["made_predicted"].mean() > dataset["predicted"].max("rank").mean()
    assert "Most exciting pictures of the best units" in report


def test_without_steps_none_are_made(tmp_path):
    text = STUDY.replace("steps = 100", "steps = 0")
    Runner(parse_study(text, "exciting.toml"), tmp_path, say=lambda line: None).run()
    (dataset,) = read_results(tmp_path / "results.nc")[0].values()
    assert "made" not in dataset


def test_pictures_chosen_for_noise_do_not_excite(pictures_of_noise, tmp_path):
    Runner(pictures_of_noise, tmp_path, say=lambda line: None).run()
    (dataset,) = read_results(tmp_path / "results.nc")[0].values()
    assert abs(float(dataset["measured"].mean())) < 0.35
    assert (dataset["highest"].mean("rank") > 1).all()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny", r"model is 'tiny', a network; name one layer, such as 'tiny/conv1'"),
        ("neurons", r"model is 'neurons'; .*Allowed are tiny"),
        ("tiny/conv2", r"model is 'tiny/conv2'; did you mean 'tiny/conv"),
    ],
)
def test_the_model_is_one_layer_of_a_network(model, message):
    with pytest.raises(StudyError, match=message):
        parse_study(STUDY.replace('model = "tiny/conv3"', f'model = "{model}"'), "exciting.toml")
