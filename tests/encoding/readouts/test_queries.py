"""Regions and hemispheres as queries."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding.readouts.queries import region_queries, unit_queries


def labelled(labels, name="region"):
    return xr.DataArray(
        np.zeros((2, len(labels))), {name: ("neuroid", labels)}, dims=("presentation", "neuroid")
    )


@pytest.mark.parametrize("given", ["labels", "coordinate", "masks", "named masks"])
def test_regions_are_the_same_however_they_are_given(given):
    labels = np.array(["V4", "V1", "V4"])
    masks = np.array([[True, False, True], [False, True, False]])
    named = xr.DataArray(masks, {"region": ["V4", "V1"]}, dims=("region", "neuroid"))
    regions = {"labels": labels, "coordinate": "area", "masks": masks.astype(int), "named masks": named}[
        given
    ]
    found = region_queries(regions, labelled(labels, "area"), 3)
    assert found.names.tolist() == (["0", "1"] if given == "masks" else ["V4", "V1"])
    np.testing.assert_array_equal(found.masks, masks)


@pytest.mark.parametrize("missing", [None, "", np.nan])
def test_units_without_a_region_share_the_last_query(missing):
    found = region_queries(np.array(["V1", missing, "V1"], dtype=object), None, 3)
    assert found.names.tolist() == ["V1", "none"]
    np.testing.assert_array_equal(found.masks, [[True, False, True], [False, True, False]])


def test_masks_may_overlap_and_leave_units_out():
    found = region_queries([[1, 1, 0, 0], [0, 1, 1, 0]], None, 4)
    assert found.names.tolist() == ["0", "1", "none"]
    np.testing.assert_array_equal(found.masks.sum(axis=0), [1, 2, 1, 1])


def test_units_are_named_as_they_are_labelled():
    assert unit_queries(labelled(["a", "b"], "neuroid_id"), 2).names.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ("region", "no label 'region' along their units.*mode='unit'"),
        (["V1", "V4"], r"shape \(2,\), but there are 3 units"),
        ([[1, 1, 1], [0, 0, 0]], r"region 1 has no units \(1 of 2"),
        ([[0.5, 1, 1]], "true or false"),
    ],
)
def test_what_cannot_be_regions_is_refused(regions, message):
    with pytest.raises(ValueError, match=message):
        region_queries(regions, np.zeros((5, 3)), 3)
