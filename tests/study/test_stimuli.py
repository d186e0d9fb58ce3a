from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cerebridge.encoding.study.stimuli import patterns, read_stimuli


def test_patterns_are_pictures_of_categories_that_can_be_told_apart():
    pictures, labels = patterns(categories=4, per_category=5, size=24, seed=0)
    assert pictures.shape == (20, 24, 24, 3) and pictures.dtype == np.uint8
    assert labels == [f"category {k + 1}" for k in range(4) for _ in range(5)]
    colours = pictures.reshape(20, -1, 3).mean(axis=1)
    means = colours.reshape(4, 5, 3).mean(axis=1)
    nearest = np.linalg.norm(colours[:, None] - means, axis=2).argmin(axis=1)
    assert np.mean(nearest == np.repeat(np.arange(4), 5)) > 0.9


def test_patterns_follow_the_seed():
    first, again, other = (patterns(2, 3, 16, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(np.unique(first.reshape(6, -1), axis=0)) == 6


def test_a_folder_of_pictures_and_a_pattern(tmp_path):
    for name in ("b.png", "a.png", "c.jpg"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    assert read_stimuli({"reader": "images"}, tmp_path, 0).table["stimulus_id"].tolist() == [
        "a.png",
        "b.png",
        "c.jpg",
    ]
    only = read_stimuli({"reader": "images", "pattern": "*.png"}, tmp_path, 0)
    assert only.table["stimulus_id"].tolist() == ["a.png", "b.png"]


def structs(path):
    cells = np.empty(2, dtype=[("image", "O"), ("category", "O"), ("number", "O")])
    for k, name in enumerate(("face", "house")):
        cells[k] = (np.full((6, 6, 3), 40 * k, np.uint8), name, k)
    savemat(path, {"things": cells})


def test_structs_of_a_matlab_file(tmp_path):
    structs(tmp_path / "x.mat")
    entry = {"reader": "mat", "variable": "things", "image": "image"}
    stimuli = read_stimuli(entry, tmp_path / "x.mat", 0)
    assert stimuli.table["category"].tolist() == ["face", "house"]
    assert stimuli.table["number"].tolist() == [0, 1]
    assert stimuli[1].shape == (6, 6, 3) and stimuli[1].max() == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variable": "thing"}, "x.mat has no variable 'thing'; it has things"),
        ({"image": "picture"}, "has no field 'picture'; it has image, category, number"),
    ],
)
def test_wrong_names_in_a_matlab_file(tmp_path, change, message):
    structs(tmp_path / "x.mat")
    with pytest.raises(ValueError, match=message):
        read_stimuli(
            {"reader": "mat", "variable": "things", "image": "image", **change}, tmp_path / "x.mat", 0
        )
