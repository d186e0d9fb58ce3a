"""Networks of ours in Brain-Score's experiments, and its models as functions of our stimuli."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cerebridge import models
from cerebridge.encoding.brainscore import (
    from_model,
    from_stimulus_set,
    load_metric,
    read_benchmark,
    score,
    to_benchmark,
    to_model,
    to_stimulus_set,
)
from cerebridge.models.compat import mend_torchvision
from cerebridge.neuro.interchange import import_brainscore

pytest.importorskip("brainscore_vision", reason="Brain-Score is not installed (make test-brainscore)")
pytestmark = [pytest.mark.brainscore, pytest.mark.filterwarnings("ignore")]

N = 60


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return models.load("tiny", weights="random")


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory) -> models.StimulusSet:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    table = {"stimulus_id": [f"s{i:02d}" for i in range(N)], "object_name": [f"o{i % 4}" for i in range(N)]}
    return models.StimulusSet.from_table({**table, "path": [f"{i:02d}.png" for i in range(N)]}, folder)


def wrapped(net: Any) -> Any:
    from brainscore_vision.model_helpers.activations.pytorch import PytorchWrapper

    def prepare(paths: list[str]) -> np.ndarray:
        return np.stack([net.preprocess(Image.open(path).convert("RGB")).numpy() for path in paths])

    return PytorchWrapper(net, prepare, identifier="tiny", batch_size=20)


def committed(net: Any) -> Any:
    from brainscore_vision.model_helpers.brain_transformation import ModelCommitment

    return ModelCommitment("tiny", wrapped(net), layers=["conv2"], region_layer_map={"V4": "conv2"})


def test_stimuli_go_there_and_back(stimuli: models.StimulusSet, tmp_path: Path) -> None:
    theirs = to_stimulus_set(stimuli, tmp_path / "unused", "set")
    assert isinstance(theirs, import_brainscore("stimuli").StimulusSet)
    assert theirs.identifier == "set" and not (tmp_path / "unused").exists()
    again = from_stimulus_set(theirs)
    assert again.hash == stimuli.hash
    assert again.table["object_name"].tolist() == stimuli.table["object_name"].tolist()


@pytest.mark.parametrize("kind", ["arrays", "zip"])
def test_stimuli_without_files_get_some(kind: str, stimuli: models.StimulusSet, tmp_path: Path) -> None:
    import zipfile

    if kind == "arrays":
        given = models.StimulusSet.from_arrays([stimuli[i] for i in range(3)])
    else:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for row in range(3):
                archive.writestr(f"{row}.png", stimuli.readers[row]())
        given = models.StimulusSet.from_zip(tmp_path / "a.zip")
    theirs = to_stimulus_set(given, tmp_path / "images")
    for row, stimulus in enumerate(given.table["stimulus_id"]):
        np.testing.assert_array_equal(np.asarray(Image.open(theirs.get_stimulus(stimulus))), stimuli[row])
    numbers = models.StimulusSet.from_arrays(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="stimulus '0000' is neither a file nor an image"):
        to_stimulus_set(numbers, tmp_path)
    with pytest.raises(ValueError, match="no stimulus_id or no stimulus_paths"):
        from_stimulus_set(given.table)


def test_a_network_is_a_brain_model(net: nn.Module, stimuli: models.StimulusSet, tmp_path: Path) -> None:
    subject = to_model(net, {"V4": "conv2", "IT": "conv3"}, identifier="toy")
    assert isinstance(subject, import_brainscore("brainscore_vision.model_interface").BrainModel)
    theirs, ours = committed(net), to_stimulus_set(stimuli, tmp_path)
    recordings = []
    for model in (subject, theirs):
        model.start_recording("V4", time_bins=[(70, 170)])
        recordings.append(model.look_at(ours))
    mine, other = recordings
    assert isinstance(mine, import_brainscore("assemblies").NeuroidAssembly)
    assert mine["stimulus_id"].values.tolist() == other["stimulus_id"].values.tolist()
    assert mine["object_name"].values.tolist() == other["object_name"].values.tolist()
    assert set(mine["region"].values) == {"V4"}
    np.testing.assert_allclose(
        np.sort(mine.values, 1), np.sort(other.transpose("presentation", "neuroid").values, 1), atol=1e-6
    )
    subject.start_recording("V4", time_bins=[(50, 100), (100, 150)])
    timed = subject.look_at([str(path) for path in ours.stimulus_paths.values()])
    assert timed.dims == ("presentation", "neuroid", "time_bin")
    assert timed["time_bin_start"].values.tolist() == [50, 100]


def test_what_is_shown_twice_is_recorded_twice(
    net: nn.Module, stimuli: models.StimulusSet, tmp_path: Path
) -> None:
    ours = to_stimulus_set(stimuli[:3], tmp_path)
    rows = ours.iloc[[0, 1, 0, 2]]
    rows.stimulus_paths = ours.stimulus_paths
    subject = to_model(net, {"V4": "conv2"}, pool="global")
    subject.start_recording("V4")
    found = subject.look_at(rows)
    assert found["stimulus_id"].values.tolist() == ["s00", "s01", "s00", "s02"]
    np.testing.assert_array_equal(found.values[0], found.values[2])


class Classifier(nn.Module):
    """A thousand classes from the mean of every colour."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.AdaptiveAvgPool2d(1)
        self.classes = nn.Linear(3, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.features(x).flatten(1))


def test_tasks_are_brainscores_behaviours(stimuli: models.StimulusSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Classifier()
    subject = to_model(net, {"IT": "features"}, preprocess=models.Preprocessing(32, (0.5,) * 3, (0.5,) * 3))
    task = import_brainscore("brainscore_vision.model_interface").BrainModel.Task
    ours = to_stimulus_set(stimuli[:6], tmp_path)
    subject.start_task(task.label, "imagenet")
    labels = subject.look_at(ours)
    expected = models.extract(
        net, stimuli[:6], ["classes"], preprocess=models.Preprocessing(32, (0.5,) * 3, (0.5,) * 3)
    )
    assert labels["logit"].values.tolist() == expected.values.argmax(1).tolist()
    fitting = to_stimulus_set(stimuli, tmp_path)
    fitting["image_label"] = ["bright" if stimuli[i].mean() > 127.5 else "dark" for i in range(N)]
    subject.start_task(task.probabilities, fitting)
    probabilities = subject.look_at(ours)
    assert set(probabilities["choice"].values) == {"bright", "dark"}
    np.testing.assert_allclose(probabilities.sum("choice"), 1)
    subject.start_task(task.odd_one_out)
    assert subject.look_at(ours).sizes["presentation"] == 2
    subject.start_task(task.passive)
    with pytest.raises(ValueError, match="nothing is recorded"):
        subject.look_at(ours)
    with pytest.raises(ValueError, match="there is no task 'sleep'"):
        subject.start_task("sleep")


def test_their_models_give_labelled_arrays(net: nn.Module, stimuli: models.StimulusSet) -> None:
    expected = models.extract(net, stimuli, ["conv2"])
    by_layer = from_model(wrapped(net), layers=["conv2"])
    found = by_layer(stimuli)
    assert by_layer.identifier == "tiny" and found.attrs["modality"] == "activation"
    assert found["content_hash"].values.tolist() == stimuli.table["content_hash"].tolist()
    np.testing.assert_allclose(np.sort(found.values, 1), np.sort(expected.values, 1), atol=1e-6)
    for extractor in (from_model(committed(net), region="V4"), from_model(committed(net), layers="conv2")):
        np.testing.assert_array_equal(extractor(stimuli).values, found.values)
    mapped = import_brainscore("brainscore_vision.model_helpers.brain_transformation").LayerMappedModel
    timeless = from_model(mapped("tiny", wrapped(net), region_layer_map={"V4": "conv2"}), region="V4")
    np.testing.assert_array_equal(timeless(stimuli).values, found.values)
    subject = to_model(from_model(wrapped(net), layers=["conv2"]), {"V4": "conv2"})
    subject.start_recording("V4")
    np.testing.assert_array_equal(subject.look_at(stimuli).values, found.values)
    with pytest.raises(ValueError, match="tiny cannot record the layers conv9 .*No submodule found"):
        from_model(wrapped(net), layers=["conv9"])(stimuli)
    with pytest.raises(ValueError, match="tiny cannot record the region 'V9'"):
        from_model(committed(net), region="V9")(stimuli)


@pytest.fixture(scope="module")
def folder(net: nn.Module, stimuli: models.StimulusSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark whose units read out conv2."""
    folder = tmp_path_factory.mktemp("benchmark")
    rng = np.random.default_rng(0)
    table = stimuli.table.assign(path=[str(reader.__self__) for reader in stimuli.readers])
    table.drop(columns="content_hash").to_csv(folder / "stimuli.csv", index=False)
    x = models.extract(net, stimuli, ["conv2"]).values
    y = (x - x.mean(0)) @ rng.standard_normal((x.shape[1], 7))
    y = np.repeat(y / y.std(0), 5, axis=0) + rng.standard_normal((5 * N, 7))
    np.save(folder / "responses.npy", y)
    rows = "\n".join(["stimulus_id", *np.repeat(stimuli.table["stimulus_id"], 5)])
    (folder / "presentations.csv").write_text(rows)
    people = "\n".join(f"n{i},{subject}" for i, subject in enumerate("aaaabbb"))
    (folder / "neuroids.csv").write_text(f"neuroid_id,subject\n{people}\n")
    (folder / "benchmark.toml").write_text(
        'identifier = "toy.V4-pls"\nregion = "V4"\nrecordings = "responses.npy"\nstimuli = "stimuli.csv"\n'
        'neuroids = "neuroids.csv"\nmetric = "pls"\n[metric_options]\nn_components = 5\n'
    )
    return folder


def test_a_folder_is_a_benchmark_of_theirs(net: nn.Module, folder: Path, tmp_path: Path) -> None:
    local = read_benchmark(folder)
    theirs = to_benchmark(local, tmp_path)
    helpers = import_brainscore("brainscore_vision.benchmark_helpers.neural_common")
    assert isinstance(theirs, helpers.NeuralBenchmark)
    assert (theirs.identifier, theirs.region) == ("toy.V4-pls", "V4")
    values = [
        float(benchmark(model))
        for benchmark in (local, theirs)
        for model in (to_model(net, {"V4": "conv2"}), committed(net))
    ]
    np.testing.assert_allclose(values, values[0], rtol=1e-9)
    assert values[0] > 0
    assert float(theirs.ceiling) == pytest.approx(float(local.ceiling))
    name = theirs._assembly.stimulus_set.identifier
    assert name == theirs._assembly.attrs["stimulus_set_identifier"] == f"toy.V4-pls.{local.stimuli.hash[:8]}"


def test_their_metric_in_the_place_of_ours_gives_the_same(
    net: nn.Module, folder: Path, tmp_path: Path
) -> None:
    theirs = to_benchmark(read_benchmark(folder), tmp_path)
    metric = import_brainscore("brainscore_vision.metrics.regression_correlation.metric")
    ours = theirs(committed(net))
    theirs._similarity_metric = metric.CrossRegressedCorrelation(
        metric.pls_regression({"n_components": 5}), metric.pearsonr_correlation()
    )
    again = theirs(committed(net))
    assert float(again) == pytest.approx(float(ours), abs=1e-6)
    np.testing.assert_allclose(again.raw.raw.values, ours.raw.raw.values, atol=1e-6)


def test_scores_of_their_benchmarks_are_results(net: nn.Module, folder: Path, tmp_path: Path) -> None:
    local = read_benchmark(folder)
    theirs = to_benchmark(local, tmp_path)
    results = [
        score(theirs, committed(net)),
        score(theirs, net, {"V4": "conv2"}, identifier="tiny"),
        score(local, committed(net)),
    ]
    for result in results:
        assert result.score.sizes == {"model": 1, "split": 10, "unit": 7}
        assert result.score.model.values.tolist() == ["tiny"]
        np.testing.assert_allclose(result.score, results[0].score, atol=1e-9)
        np.testing.assert_allclose(result.dataset["ceiling"], results[0].dataset["ceiling"], atol=1e-9)
        assert result.dataset["benchmark_score"].item() == pytest.approx(float(theirs(committed(net))))
    results[0].save(tmp_path / "result.nc")


def test_a_benchmark_that_gives_one_number_is_a_result(net: nn.Module, folder: Path, tmp_path: Path) -> None:
    helpers = import_brainscore("brainscore_vision.benchmark_helpers.neural_common")
    assembly = to_benchmark(read_benchmark(folder), tmp_path)._assembly
    benchmark = helpers.RSABenchmark(
        "toy.V4-rdm", 1, assembly, "V4", 8, 1, "", ceiler=load_metric("rsa_ceiling"), parent="V4"
    )
    result = score(benchmark, committed(net))
    assert result.score.shape == (1, 1, 1)
    ratio = result.score.item() / result.dataset["ceiling"].item()
    assert result.dataset["benchmark_score"].item() == pytest.approx(ratio)


@pytest.mark.parametrize("metric", ["rdm", "cka"])
def test_metrics_that_predict_nothing_are_divided_by_the_ceiling(
    metric: str, net: nn.Module, folder: Path, tmp_path: Path
) -> None:
    """Brain-Score's class would square the value of any metric."""
    text = (folder / "benchmark.toml").read_text().partition("[metric_options]")[0]
    ceiling = '"rsa_ceiling"' if metric == "rdm" else "0.5"
    text = text.replace('"pls"', f'"{metric}"\nceiling = {ceiling}').replace(
        '"responses.npy"', f'"{folder}/responses.npy"'
    )
    text = text.replace('"stimuli.csv"', f'"{folder}/stimuli.csv"').replace(
        '"neuroids.csv"', f'"{folder}/neuroids.csv"'
    )
    (tmp_path / "benchmark.toml").write_text(f'{text}presentations = "{folder}/presentations.csv"\n')
    local = read_benchmark(tmp_path)
    theirs = to_benchmark(local, tmp_path / "images")
    model = committed(net)
    values = [float(local(model)), float(theirs(model))]
    if metric == "rdm":
        helpers = import_brainscore("brainscore_vision.benchmark_helpers.neural_common")
        values.append(float(helpers.RSABenchmark("toy", 1, theirs._assembly, "V4", 8, 1, "")(model)))
    np.testing.assert_allclose(values, values[0], rtol=1e-9)
    assert float(theirs(model).raw) == pytest.approx(values[0] * float(local.ceiling))


def test_their_preprocessing_runs_beside_a_torch_without_gpu(
    stimuli: models.StimulusSet, tmp_path: Path
) -> None:
    """torchvision is imported where its build is for another torch, and Brain-Score's loading then works."""
    mend_torchvision()
    from brainscore_vision.model_helpers.activations.pytorch import load_preprocess_images

    paths = list(to_stimulus_set(stimuli[:2], tmp_path).stimulus_paths.values())
    prepared = load_preprocess_images(paths, image_size=16)
    assert np.asarray(prepared).shape == (2, 3, 16, 16)
    mean, std = (np.reshape(three, (3, 1, 1)) for three in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    values = np.asarray(load_preprocess_images(paths, image_size=32)) * std + mean
    np.testing.assert_allclose(values[1], stimuli[1].transpose(2, 0, 1) / 255, atol=1e-5)
