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


def test_patches_have_the_rows_and_columns_of_their_grid():
    layers = [Layer("block:patches", (16, 2), "<f4"), Layer("fc", (3,), "<f4")]
    table = label_features(layers, {"block:patches": (2, 8)})
    patches = table.iloc[:32]
    assert (8 * patches["row"] + patches["column"] == patches["token"]).all()
    assert (patches["row"].max(), patches["column"].max()) == (1, 7)
    assert table["row"].iloc[32:].isna().all()


def test_without_a_grid_or_with_that_of_other_tokens_patches_have_no_rows():
    assert "row" not in label_features([Layer("block:patches", (9, 2), "<f4")])
    assert "row" not in label_features(
        [Layer("block:patches:mean", (2,), "<f4")], {"block:patches:mean": (1, 2)}
    )
    assert "row" not in label_features([Layer("block:patches", (9, 2), "<f4")], {"block:patches": (2, 4)})
