"""Networks and encoders as subjects: what they look at, and what is recorded from them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from cerebridge import encoding, models, neuro
from cerebridge.encoding.brainscore import from_model, score, to_model, to_stimulus_set
from cerebridge.encoding.brainscore.stimuli import place_on_screen


def stimuli(n: int = 12, size: int = 32) -> models.StimulusSet:
    pictures = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return models.StimulusSet.from_arrays(pictures, table={"object_name": [f"o{i % 3}" for i in range(n)]})


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return models.load("tiny", weights="random")


def test_a_recording_is_the_activations_of_its_layers(net: torch.nn.Module) -> None:
    subject = to_model(net, {"V4": "conv2", "IT": ["conv3", "readout"]}, pool="global", identifier="toy")
    subject.start_recording("IT")
    found = subject.look_at(stimuli())
    expected = models.extract(net, stimuli(), ["conv3", "readout"], pool="global")
    np.testing.assert_array_equal(found.values, expected.values)
    assert set(found["region"].values) == {"IT"} and set(found["layer"].values) == {"conv3", "readout"}
    assert found["object_name"].values.tolist() == stimuli().table["object_name"].tolist()
    assert (subject.identifier, subject.visual_degrees()) == ("toy", 8)


def test_several_time_bins_hold_the_same(net: torch.nn.Module) -> None:
    subject = to_model(net, {"V4": "conv2"}, pool="global")
    subject.start_recording("V4", time_bins=[(70, 120), np.array([120, 170])])
    found = neuro.validate(subject.look_at(stimuli()))
    assert found.dims == ("presentation", "neuroid", "time_bin")
    assert found["time_bin_start"].values.tolist() == [0.07, 0.12]
    np.testing.assert_array_equal(found.values[..., 0], found.values[..., 1])


@pytest.mark.parametrize("kind", ["ours", "pipeline"])
def test_the_recording_of_an_encoder_is_what_it_predicts(net: torch.nn.Module, kind: str) -> None:
    features = models.extract(net, stimuli(), ["conv2"], pool="global")
    brain = neuro.assemble(
        features.values[:, :4] + 1.0,
        presentation={"stimulus_id": features["stimulus_id"].values},
        neuroid={"neuroid_id": list("abcd")},
        modality="spikes",
        units="spikes/s",
    )
    encoder: Any = encoding.RidgeCV([1e-3]) if kind == "ours" else make_pipeline(PCA(8), Ridge(1e-3))
    encoder.fit(features, brain)
    subject = to_model(net, {"V4": "conv2"}, readouts={"V4": encoder}, pool="global")
    subject.start_recording("V4")
    found = subject.look_at(stimuli())
    np.testing.assert_allclose(found.values, encoder.predict(features), rtol=1e-6)
    names = list("abcd") if kind == "ours" else [f"V4.{i}" for i in range(4)]
    assert found["neuroid_id"].values.tolist() == names
    assert found.attrs["modality"] == "prediction"
    assert found["stimulus_id"].values.tolist() == stimuli().table["stimulus_id"].tolist()


def brightness(shown: models.StimulusSet) -> xr.DataArray:
    """Mean of every colour."""
    values = np.stack([picture.mean((0, 1)) for picture in shown])
    return neuro.assemble(
        values,
        presentation=shown.table,
        neuroid={"neuroid_id": list("rgb"), "layer": ["warm", "cold", "cold"]},
        modality="features",
        units="a.u.",
    )


def test_a_feature_space_is_a_model() -> None:
    subject = to_model(brightness, {"V1": None, "V4": "cold"})
    assert subject.identifier == "brightness"
    subject.start_recording("V1")
    np.testing.assert_array_equal(subject.look_at(stimuli()).values, brightness(stimuli()).values)
    subject.start_recording("V4")
    assert subject.look_at(stimuli())["neuroid_id"].values.tolist() == ["g", "b"]


def test_images_are_placed_in_grey_or_cut() -> None:
    shown = stimuli(2, size=10)
    larger = place_on_screen(shown, 16, 8)
    assert larger[0].shape == (20, 20, 3)
    np.testing.assert_array_equal(larger[0][5:15, 5:15], shown[0])
    assert (larger[0][:5] == 128).all()
    np.testing.assert_array_equal(place_on_screen(shown, 4, 8)[1], shown[1][2:7, 2:7])
    assert place_on_screen(shown, 8, 8) is shown
    assert len({shown.hash, larger.hash, place_on_screen(shown, 4, 8).hash}) == 3
    with pytest.raises(ValueError, match="degrees are 0 and 8; they must be above 0"):
        place_on_screen(shown, 0, 8)


def test_bad_models_are_one_sentence(net: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=r"for the region 'V4' the network has no layer 'conv22'; .*'conv2'"):
        to_model(net, {"V4": "conv22"})
    with pytest.raises(ValueError, match="for the region 'V4' the network has no layers given"):
        to_model(net, {"V4": []})
    with pytest.raises(ValueError, match="for behaviour the network has no layer 'logit'"):
        to_model(net, {"V4": "conv2"}, behavioural_layer="logit")
    with pytest.raises(ValueError, match="visual_degrees is 0; it must be above 0"):
        to_model(net, {"V4": "conv2"}, visual_degrees=0)
    with pytest.raises(ValueError, match="region_layer_map is empty"):
        to_model(net, {})
    with pytest.raises(ValueError, match="the readout of 'IT' has no layers"):
        to_model(net, {"V4": "conv2"}, readouts={"IT": None})
    with pytest.raises(TypeError, match="pool= is for networks"):
        to_model(brightness, {"V4": None}, pool=2)
    subject = to_model(net, {"V4": "conv2"})
    with pytest.raises(ValueError, match="nothing is recorded; call start_recording"):
        subject.look_at(stimuli())
    with pytest.raises(ValueError, match="TinyNet has no layers for the region 'IT', only for 'V4'"):
        subject.start_recording("IT")
    with pytest.raises(ValueError, match=r"time_bins are \(70, 170\); give pairs"):
        subject.start_recording("V4", time_bins=(70, 170))
    subject.start_recording("V4")
    for wrong in ("image.png", np.zeros((1, 3, 32, 32))):
        with pytest.raises(
            TypeError, match="a model looks at stimuli of ours or Brain-Score's, or a list of"
        ):
            subject.look_at(wrong)
    with pytest.raises(ValueError, match="responds the same in every trial"):
        subject.look_at(stimuli(), require_variance=True)
    other = to_model(brightness, {"V4": "green"})
    other.start_recording("V4")
    with pytest.raises(ValueError, match="the model's array has not all of the layers green"):
        other.look_at(stimuli())
    with pytest.raises(ValueError, match="one of the two"):
        from_model(net)
    with pytest.raises(ValueError, match="layers is empty"):
        from_model(net, layers=[])
    with pytest.raises(TypeError, match="a benchmark or the name of one is needed, got int"):
        score(3, net)
    with pytest.raises(ValueError, match="TinyNet has no regions to record from; give layers="):
        from_model(net, region="V4")


@pytest.mark.parametrize(
    "wanting",
    [
        lambda shown, folder: to_stimulus_set(shown, folder),
        lambda shown, folder: score("MajajHong2015public.IT-pls", None),
        lambda shown, folder: from_model("alexnet", region="IT"),
        lambda shown, folder: from_model(to_model(brightness, {"V1": None}), region="V1")(shown),
        lambda shown, folder: to_model(brightness, {"V1": None}).start_task("probabilities", shown),
    ],
    ids=["stimuli", "benchmark", "model", "recording", "task"],
)
def test_without_brainscore_one_sentence(
    wanting: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("brainscore_core", "brainscore_vision")
    ]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("brainscore_core", "brainscore_vision"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=r"Brain-Score is not installed; .* pip install 'cerebridge\[brainscore\]'"
    ):
        wanting(stimuli(2), tmp_path)
