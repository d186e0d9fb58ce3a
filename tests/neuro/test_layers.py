"""Labels of features: where in a layer each of them lies."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge.neuro.layers import Layer, label_features


@pytest.mark.parametrize(
    ("name", "shape", "labels"),
    [
        ("fc", (4,), ["channel"]),
        ("block", (3, 4), ["token", "channel"]),
        ("conv", (2, 3, 4), ["channel", "row", "column"]),
        ("attn.proj:heads", (5, 2, 3), ["token", "head", "channel"]),
        ("attn.proj:heads(2):cls", (2, 3), ["head", "channel"]),
        ("lstm:steps", (5, 3), ["step", "channel"]),
        ("cell:steps", (2, 3, 4, 4), ["step", "channel", "row", "column"]),
        ("lstm:steps:last", (3,), ["channel"]),
    ],
)
def test_each_axis_has_its_name(name, shape, labels):
    table = label_features([Layer(name, shape, "<f4")])
    assert list(table.columns) == ["neuroid_id", "layer", *labels]
    places = np.ravel_multi_index([table[label] for label in labels], shape)
    assert (places == np.arange(np.prod(shape))).all()


def test_square_patches_have_rows_and_columns():
    table = label_features([Layer("block:patches", (9, 2), "<f4")])
    assert (3 * table["row"] + table["column"] == table["token"]).all()
    assert table["row"].max() == table["column"].max() == 2
    assert "row" not in label_features([Layer("block:patches(1)", (6, 2), "<f4")])
    assert "row" not in label_features([Layer("block", (9, 2), "<f4")])
