"""Bands of features: every way to say them, and one sentence for every way to get them wrong."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge import encoding, neuro
from cerebridge.encoding.bands import find_bands, labels_of, names_of

X = np.ones((4, 6))
LABELLED = xr.DataArray(
    X,
    dims=("presentation", "neuroid"),
    coords={
        "band": ("neuroid", list("aabbba")),
        "layer": ("neuroid", ["late", "early"] * 3),
        "run": ("presentation", [0, 0, 1, 1]),
    },
)


@pytest.mark.parametrize(
    ("bands", "given", "expected"),
    [
        (None, LABELLED, {"a": [0, 1, 5], "b": [2, 3, 4]}),
        ("layer", LABELLED, {"late": [0, 2, 4], "early": [1, 3, 5]}),
        (None, X, {0: list(range(6))}),
        ([slice(2), slice(2, None)], X, {0: [0, 1], 1: [2, 3, 4, 5]}),
        ([[5, 0], [1, 2, 3, -2]], X, {0: [5, 0], 1: [1, 2, 3, 4]}),
        ([np.arange(6) < 2, np.arange(6) >= 2], X, {0: [0, 1], 1: [2, 3, 4, 5]}),
        ({"x": slice(3), "y": [3, 4, 5]}, X, {"x": [0, 1, 2], "y": [3, 4, 5]}),
        (np.array([2, 2, 1, 1, 1, 2]), X, {2: [0, 1, 5], 1: [2, 3, 4]}),
        (list("xxyyyy"), X, {"x": [0, 1], "y": [2, 3, 4, 5]}),
    ],
)
def test_every_way_to_say_them(bands, given, expected):
    found = find_bands(bands, given, 6)
    assert {name: columns.tolist() for name, columns in found.items()} == expected
    assert list(found) == list(expected)
    labels = labels_of(found)
    for number, columns in enumerate(expected.values()):
        assert set(np.flatnonzero(labels == number)) == set(columns)
    assert len(names_of(found)) == len(expected)


@pytest.mark.parametrize(
    ("bands", "given", "match"),
    [
        ([slice(2), slice(3, 6)], X, r"do not cover 1 of 6 features \(first column 2\)"),
        ([slice(3), slice(2, 6)], X, r"overlap in 1 of 6 features \(first column 2\)"),
        ([slice(6), []], X, "band 1 is empty"),
        ([slice(2), slice(2, 9)], X, "X has 6 features"),
        ([[0, 1, 2], [3, 4, 7]], X, "names columns from 3 to 7, but X has 6"),
        (list("ab"), X, "bands have 2 labels, but X has 6 features"),
        (["a", "a", None, "b", "b", "b"], X, "band of feature 2 is missing"),
        ("layer", X, "bands='layer' names a coordinate, but X has no labels"),
        ("run", LABELLED, "no coordinate 'run' along its features"),
        (None, LABELLED.drop_vars("band"), r"no coordinate 'band' .* there are \['layer'\]"),
    ],
)
def test_bands_that_are_wrong(bands, given, match):
    with pytest.raises(ValueError, match=match):
        find_bands(bands, given, 6)


def test_bands_of_something_else():
    with pytest.raises(TypeError, match="band 0 is no slice, list of columns or mask"):
        find_bands([[0.5, 1.5], [2]], X, 6)


@pytest.mark.parametrize(
    "of_bands",
    [
        lambda bands: encoding.KernelRidgeCV("linear", bands=bands, n_candidates=4, cv=2),
        lambda bands: encoding.GroupLassoCV(bands, alphas=5, cv=2),
        lambda bands: encoding.BandedRidgeCV(bands, n_candidates=4, cv=2),
        lambda bands: encoding.StackedEncoder(bands=bands, cv=2),
        lambda bands: encoding.LayerSelectionCV(by=bands, cv=2),
    ],
    ids=["kernel", "group", "banded", "stacked", "layers"],
)
@pytest.mark.filterwarnings("ignore:.*grid")
def test_labels_of_features_name_bands_within_an_evaluation(of_bands):
    brain = neuro.simulate(n_stimuli=40, n_units=4, n_repeats=1, random_state=0)
    labelled = brain.assign_coords(part=("neuroid", ["b", "a", "b", "a"]))
    named, given = (
        encoding.evaluate(of_bands(bands), labelled, brain, cv=3, control=False).unit_scores().values
        for bands in ("part", ["b", "a", "b", "a"])
    )
    np.testing.assert_array_equal(named, given)
