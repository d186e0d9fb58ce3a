from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cerebridge import encoding, neuro
from cerebridge.encoding.splits import make_splits
from cerebridge.encoding.study.decoding import CLASSIFIERS, accuracy_map, chosen_rows, decode

SETTINGS = {
    "target": "kind",
    "classifier": "lda",
    "scoring": "accuracy",
    "permutations": 0,
    "seed": 0,
    "cv": "run",
}


def voxels(strength=3.0, n_runs=4, per_run=12):
    """Two kinds of stimuli; only the voxels with x < 3 mm tell them apart."""
    rng = np.random.default_rng(0)
    n = n_runs * per_run
    kind = np.tile(["face", "house", "rest"], n // 3)
    place = np.stack(np.meshgrid(np.arange(6), np.arange(4), [0], indexing="ij"), -1).reshape(-1, 3)
    values = rng.normal(size=(n, len(place)))
    values += strength * (kind == "face")[:, None] * (place[:, 0] < 3)
    return neuro.assemble(
        values,
        presentation={
            "stimulus_id": [f"s{k}" for k in range(n)],
            "kind": kind,
            "run": np.repeat(np.arange(n_runs), per_run),
        },
        neuroid={
            "neuroid_id": np.arange(len(place)),
            **{axis: place[:, k].astype(float) for k, axis in enumerate("xyz")},
            **{axis: place[:, k] for k, axis in enumerate("ijk")},
        },
        modality="fmri",
        units="z",
    ).assign_attrs(affine=np.eye(4).ravel().tolist(), volume_shape=[6, 4, 1])


def run(array, **settings):
    return decode({**SETTINGS, **settings}, {"recording": array}, Path())


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_classes_are_read_from_the_recording(classifier):
    dataset = run(voxels(), classifier=classifier)
    assert float(dataset["score"].mean()) > 0.9
    assert dataset["true"].values.tolist() == ["face", "house"]
    assert dataset.sizes["split"] == 4 and dataset.attrs["chance"] == 0.5


def test_nothing_is_read_from_noise():
    dataset = run(voxels(strength=0.0), permutations=19)
    assert float(dataset["score"].mean()) < 0.8 and float(dataset["p"].item()) > 0.05


def test_a_group_of_units_each():
    array = voxels()
    array = array.assign_coords(side=("neuroid", np.where(array.x.values < 3, "left", "right")))
    dataset = run(array, by="side")
    means = dataset["score"].mean(["split", "unit"]).to_series()
    assert means["left"] > 0.9 > 0.75 > means["right"]


def test_the_map_shows_where():
    dataset = run(voxels(), radius=1.0)
    scores = dataset["map"].values
    left = dataset["place_x"].values < 2
    right = dataset["place_x"].values > 3
    assert scores[left].min() > scores[right].max()
    assert dataset["map"].attrs["volume_shape"] == [6, 4, 1] and dataset["map"].attrs["radius"] == 1.0


def test_the_map_is_what_evaluation_gives_for_each_neighbourhood():
    array = chosen_rows(voxels(0.7), "kind", None)
    labels = array.kind.values
    splits = make_splits(array, "run", labels=labels)
    values = accuracy_map(CLASSIFIERS["lda"](), array, labels, splits, 1.0, "accuracy")
    for unit in (0, 13, 23):
        place = np.stack([array[axis].values for axis in "xyz"], axis=1)
        near = np.flatnonzero(np.linalg.norm(place - place[unit], axis=1) <= 1.0)
        result = encoding.evaluate(
            CLASSIFIERS["lda"](), array.isel(neuroid=near), "kind", cv="run", control=False
        )
        assert values[unit] == pytest.approx(float(result.score.mean()))


def test_epochs_are_classified_as_they_are():
    array = voxels()
    epochs = array.expand_dims(time_bin=2, axis=2).assign_coords(
        time_bin_start=("time_bin", [0.0, 0.1]), time_bin_end=("time_bin", [0.1, 0.2])
    )
    assert float(run(epochs)["score"].mean()) > 0.9


def test_rows_are_chosen_by_class():
    array = voxels()
    assert set(chosen_rows(array, "kind", None).kind.values) == {"face", "house"}
    assert set(chosen_rows(array, "kind", ["rest", "face"]).kind.values) == {"rest", "face"}
    with pytest.raises(ValueError, match="no row has kind = 'cat'; there are face, house, rest"):
        chosen_rows(array, "kind", ["face", "cat"])
    with pytest.raises(ValueError, match="has no label 'sort' along its rows; it has kind, run, stimulus_id"):
        chosen_rows(array, "sort", None)


def test_a_map_needs_positions():
    with pytest.raises(ValueError, match="a map needs the positions x, y, z of the units, and z is missing"):
        run(voxels().drop_vars("z"), radius=2.0)
