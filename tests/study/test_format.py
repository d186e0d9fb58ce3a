from __future__ import annotations

import pytest

from cerebridge.encoding.study.format import Model, parse_study, read_study
from cerebridge.encoding.study.validation import StudyError


def test_a_file_is_read_and_its_paths_start_at_root(small, tmp_path):
    file = tmp_path / "studies" / "small.toml"
    file.parent.mkdir()
    file.write_text(small.replace("seed = 3", 'seed = 3\nroot = "../data"'))
    study = read_study(file)
    assert study.file == "small.toml" and study.name == "small" and study.seed == 3
    assert study.root == tmp_path / "data"
    assert study.files("x.npy") == [tmp_path / "data" / "x.npy"]
    assert read_study(file, root=tmp_path).root == tmp_path


def test_root_may_come_from_the_environment(small, tmp_path, monkeypatch):
    text = small.replace("seed = 3", 'seed = 3\nroot = "${SOMEWHERE:-there}/data"')
    monkeypatch.delenv("SOMEWHERE", raising=False)
    assert parse_study(text, "small.toml", tmp_path).root == tmp_path / "there" / "data"
    monkeypatch.setenv("SOMEWHERE", str(tmp_path / "elsewhere"))
    assert parse_study(text, "small.toml", tmp_path).root == tmp_path / "elsewhere" / "data"


def test_patterns_are_in_the_order_of_names(small_study, tmp_path, small):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.nii").touch()
    study = parse_study(small, "small.toml", root=tmp_path)
    assert [path.name for path in study.files("*.nii", pattern=True)] == ["a.nii", "b.nii", "c.nii"]


def test_models_are_layers_features_or_recordings(small_study):
    assert small_study.models(["tiny", "pixels", "neurons"]) == [
        Model("tiny/conv1", "networks", "tiny", "conv1"),
        Model("tiny/conv3", "networks", "tiny", "conv3"),
        Model("pixels", "features", "pixels"),
        Model("neurons", "recordings", "neurons"),
    ]
    assert small_study.models(["tiny/conv3"]) == [Model("tiny/conv3", "networks", "tiny", "conv3")]


WRONG = [
    (
        'recordings = ["neurons"]',
        'recordings = ["neuron"]',
        r"analyses 'encoding'.recordings\[0\] is 'neuron'; did you mean 'neurons'\? Allowed are neurons",
    ),
    (
        'models = ["pixels", "tiny"]',
        'models = ["pixel"]',
        r"analyses 'encoding'.models\[0\] is 'pixel'; did you mean 'pixels'\?",
    ),
    (
        'models = ["pixels", "tiny"]',
        'models = ["tiny/conv2"]',
        r"models\[0\] is 'tiny/conv2'; did you mean .* Allowed are tiny/conv1, tiny/conv3",
    ),
    (
        'models = ["pixels", "tiny"]',
        'models = ["pixels/conv2"]',
        r"models\[0\] is 'pixels/conv2'; there are none",
    ),
    (
        'stimuli = "pictures"',
        'stimuli = "picture"',
        "recordings.neurons.stimuli is 'picture'; did you mean 'pictures'",
    ),
    ('early = "tiny/conv1"', 'early = "tny/conv1"', "recordings.neurons.regions.early is 'tny/conv1'"),
    (
        'early = "tiny/conv1"',
        'early = "tiny"',
        "regions.early is 'tiny', a network; name one layer, such as 'tiny/conv1'",
    ),
    ("[features.pixels]", "[features.tiny]", "features.tiny has the name of networks.tiny"),
    ('name = "similarity"', 'name = "encoding"', "analyses 'encoding' is there twice"),
    (
        'layers = ["conv1", "conv3"]',
        'layers = ["conv1", "conv3"]\nweights = "no.safetensors"',
        "networks.tiny.weights is 'no.safetensors', but there is no such file below .*--root",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[message[:40] for _, _, message in WRONG])
def test_names_that_refer_to_nothing(small, old, new, message):
    text = small.replace(old, new, 1)
    assert text != small
    with pytest.raises(StudyError, match=message) as error:
        parse_study(text, "small.toml")
    assert str(error.value).startswith("small.toml: ") and "\n" not in str(error.value)


def test_a_recording_of_unknown_stimuli_cannot_have_networks(small, tmp_path):
    (tmp_path / "x.nc").touch()
    text = small.replace(
        "[[analyses]]", '[recordings.other]\nreader = "netcdf"\npath = "x.nc"\n\n[[analyses]]', 1
    )
    text = text.replace('recordings = ["neurons"]', 'recordings = ["other"]', 1)
    with pytest.raises(
        StudyError, match="recordings.other lacks the key 'stimuli', which analyses 'encoding' needs"
    ):
        parse_study(text, "small.toml", root=tmp_path)


def test_no_toml_and_no_file(tmp_path):
    with pytest.raises(StudyError, match=r"bad.toml: this is no TOML \(.*line 1"):
        parse_study("= 3", "bad.toml")
    with pytest.raises(FileNotFoundError, match="there is no study file"):
        read_study(tmp_path / "none.toml")
