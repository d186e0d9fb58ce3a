from __future__ import annotations

import tomllib

import pytest
from jsonschema import Draft202012Validator

from cerebridge.encoding.study.features import DERIVED, OF_PICTURES
from cerebridge.encoding.study.recordings import READERS
from cerebridge.encoding.study.stimuli import STIMULI
from cerebridge.encoding.study.validation import filled, first_problem, schema
from cerebridge.encoding.study.workflow import ANALYSES

VALID = """
[study]
name = "v4"
[stimuli.photos]
path = "photos.zip"
[recordings.spikes]
reader = "array"
path = "spikes.npy"
dims = ["neuroid", "presentation"]
stimuli = "photos"
modality = "spikes"
units = "spikes"
[networks.net]
name = "tiny"
layers = ["conv1"]
[[analyses]]
name = "enc"
kind = "encoding"
recordings = ["spikes"]
models = ["net"]
"""

WRONG = [
    (
        'path = "spikes.npy"',
        'pth = "spikes.npy"',
        "recordings.spikes has the unknown key 'pth'; did you mean 'path'? Allowed are reader, path, key",
    ),
    ("[study]", "stdy = 1\n[study]", "the study has the unknown key 'stdy'; did you mean 'study'?"),
    (
        'reader = "array"',
        'reader = "aray"',
        "recordings.spikes has reader = 'aray'; did you mean 'array'? Allowed are array, netcdf",
    ),
    ('reader = "array"', "", "recordings.spikes lacks the key 'reader'; it must be one of array, netcdf"),
    (
        'kind = "encoding"',
        'kind = "encodin"',
        "analyses 'enc' has kind = 'encodin'; did you mean 'encoding'?",
    ),
    (
        'kind = "encoding"',
        'kind = "encoding"\nscoring = "pearson"',
        "analyses 'enc'.scoring is 'pearson'; did you mean 'pearsonr'? Allowed are pearsonr, r2, pseudo_r2.",
    ),
    (
        'kind = "encoding"',
        'kind = "encoding"\ncv = 2.5',
        "analyses 'enc'.cv is 2.5, but must be a whole number or a text",
    ),
    (
        'kind = "encoding"',
        'kind = "encoding"\nalphas = [0]',
        "analyses 'enc'.alphas[0] is 0, but must be above 0",
    ),
    (
        'kind = "encoding"',
        'kind = "encoding"\nseeds = []',
        "analyses 'enc'.seeds is [], but needs at least 1 entries",
    ),
    (
        'kind = "encoding"',
        'kind = "encoding"\npermutations = -1',
        "permutations is -1, but must be at least 0",
    ),
    ('name = "enc"', 'name = "e nc"', "name is 'e nc', but must consist of letters, digits, '-' and '_'"),
    (
        "[recordings.spikes]",
        '[recordings."a b"]',
        "recordings has an entry called 'a b', but names must consist of letters",
    ),
    (
        "[recordings.spikes]",
        "[recordings]\nother = 1\n[recordings.spikes]",
        "recordings.other is 1, but must be a table",
    ),
    ('["neuroid", "presentation"]', '["neuroid", "neuron"]', "dims[1] is 'neuron'; did you mean 'neuroid'?"),
    ('models = ["net"]', 'models = ["net", "net"]', "but holds an entry twice"),
    ('models = ["net"]', 'models = "net"', "models is 'net', but must be a list"),
    ('models = ["net"]', "", "analyses 'enc' lacks the key 'models': networks"),
    ('units = "spikes"', "", "recordings.spikes lacks the key 'units'"),
    ('name = "v4"', 'name = "v4"\nseed = -1', "study.seed is -1, but must be at least 0"),
    ('name = "v4"', 'name = "v4"\nseed = true', "study.seed is True, but must be a whole number"),
    ('layers = ["conv1"]', 'layers = ["conv1"]\npool = 0', "networks.net.pool is 0, but must be at least 1"),
]


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(schema())


def test_a_valid_study_has_no_problem():
    assert first_problem(tomllib.loads(VALID)) is None


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[message[:40] for _, _, message in WRONG])
def test_wrong_keys_and_values_are_named(old, new, message):
    text = VALID.replace(old, new, 1)
    assert text != VALID
    problem = first_problem(tomllib.loads(text))
    assert problem is not None and problem.endswith(".") and "\n" not in problem
    assert message in problem


@pytest.mark.parametrize("section", ["study", "recordings", "analyses"])
def test_missing_sections_are_named(section):
    table = {name: part for name, part in tomllib.loads(VALID).items() if name != section}
    assert f"the study lacks the key '{section}'" in first_problem(table)


def test_defaults_are_filled_and_the_input_is_left_alone():
    table = tomllib.loads(VALID)
    full = filled(table)
    assert full["analyses"][0]["cv"] == 5 and full["analyses"][0]["scoring"] == "pearsonr"
    assert full["networks"]["net"]["weights"] == "random"
    assert full["stimuli"]["photos"]["reader"] == "images"
    assert full["features"] == {} and full["study"]["seed"] == 0
    assert table == tomllib.loads(VALID)
    assert first_problem(full) is None
    assert filled(full) == full


def variants(section: str) -> set[str]:
    return {name.removeprefix(f"{section}.") for name in schema()["$defs"] if name.startswith(f"{section}.")}


def test_every_variant_of_the_schema_can_be_run_and_no_other():
    assert variants("recordings") == set(READERS)
    assert variants("stimuli") == set(STIMULI)
    assert variants("analyses") == set(ANALYSES)
    assert variants("features") == {*OF_PICTURES, *DERIVED, "array", "timecourse"}
