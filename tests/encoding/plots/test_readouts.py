"""Figures of attention: every query over every image, on one scale."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from cerebridge import models
from cerebridge.encoding.plots.readouts import plot_attention_maps


def attention(n=2, queries=("V1", "V4"), heads=2, places=(3, 4)):
    values = np.random.default_rng(0).random((n, len(queries), heads, *places))
    values /= values.sum(axis=(-2, -1), keepdims=True)
    coords = {"query": list(queries), "stimulus_id": ("presentation", [f"image{k}.png" for k in range(n)])}
    return xr.DataArray(values, coords, ("presentation", "query", "head", "row", "column"))


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())


def shown(figure, panel) -> np.ndarray:
    return np.asarray(figure.axes[panel].images[-1].get_array())


def test_a_row_an_image_and_a_column_a_query_on_one_scale():
    given = attention()
    figure = plot_attention_maps(given)
    assert len(figure.axes) == 2 * 2 + 1
    np.testing.assert_allclose(shown(figure, 1), 12 * given[0, 1].mean("head"))
    assert len({axis.images[0].get_clim() for axis in figure.axes[:4]}) == 1
    for word in ("V1", "V4", "image0.png", "image1.png", "spread evenly"):
        assert word in texts(figure)


@pytest.mark.parametrize("kind", ["arrays", "stimuli", "grey"])
def test_images_are_drawn_beside_and_below_the_maps(kind):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 10, 3), dtype=np.uint8)
    images = {
        "arrays": list(pictures),
        "stimuli": models.StimulusSet.from_arrays(pictures),
        "grey": pictures[..., 0],
    }
    figure = plot_attention_maps(attention(), images[kind])
    assert len(figure.axes) == 2 * 3 + 1
    np.testing.assert_array_equal(shown(figure, 3), np.asarray(images[kind][1]))
    assert [len(axis.images) for axis in figure.axes[:3]] == [1, 2, 2]
    # the map covers the image from edge to edge
    assert figure.axes[1].images[1].get_extent() == list(figure.axes[1].images[0].get_extent())
    content = io.BytesIO()
    figure.savefig(content, dpi=50)
    assert np.asarray(Image.open(content).convert("L")).std() > 10


def test_one_head_names_and_numbered_queries():
    given = attention(queries=(3, 5))
    figure = plot_attention_maps(given, head=1, names=["first", "second"])
    np.testing.assert_allclose(shown(figure, 2), 12 * given.values[1, 0, 1])
    assert "query 3" in texts(figure)
    assert "second" in texts(figure)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (attention().rename(row="token").isel(column=0), {}, "tokens need a grid"),
        (attention(n=13), {}, "13 images × 2 queries are too many"),
        (attention(queries=range(9)), {}, "2 images × 9 queries are too many"),
        (attention(), {"images": np.zeros((3, 4, 4))}, "3 images and attention to 2"),
        (attention(), {"names": ["one"]}, "1 names and attention to 2"),
    ],
)
def test_what_cannot_be_drawn_is_named(given, options, message):
    with pytest.raises(ValueError, match=message):
        plot_attention_maps(given, **options)
