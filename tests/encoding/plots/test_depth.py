"""Values over layers and tokens as pictures: lines, maps, masks, names of layers."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from cerebridge.encoding import plots


def layers(n, form="blocks.{}.mlp"):
    return [form.format(k) for k in range(n)]


def test_one_line_and_the_names_that_differ(tmp_path):
    figure = plots.plot_depth(xr.DataArray([0.5, 0.2, 0.4], [("layer", layers(3))], name="active_share"))
    (axis,) = figure.axes
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), [[0, 0.5], [1, 0.2], [2, 0.4]])
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("active share", "blocks.k.mlp")
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0", "1", "2"]
    assert axis.get_ylim()[0] == 0 and not figure.legends
    figure.savefig(tmp_path / "depth.png")


def test_a_line_for_each_rule_and_shades_for_numbers():
    values = np.arange(1.0, 9).reshape(2, 4)
    rules = plots.plot_depth(
        xr.DataArray(values, [("rule", ["cett", "top_k"]), ("layer", layers(4))]), logarithmic=True
    )
    assert [text.get_text() for text in rules.legends[0].get_texts()] == ["cett", "top_k"]
    assert rules.axes[0].get_yscale() == "log"
    steps = xr.DataArray(values.T, [("layer", layers(4)), ("checkpoint", [10, 1000])])
    lines = plots.plot_depth(steps, label="largest / median").axes[0].lines
    np.testing.assert_array_equal(lines[1].get_ydata(), values[1])
    assert lines[0].get_color()[0] > lines[1].get_color()[0]


def test_masks_and_maps_of_tokens(tmp_path):
    mask = xr.DataArray(
        np.array([[True, True, True, False], [True, False, False, False]]),
        {"layer": ["embeddings", "pooler"], "sequence": ("token", [0, 0, 1, 1])},
        ("layer", "token"),
        name="active",
    )
    figure = plots.plot_depth(mask.transpose("token", "layer"), tokens=list("abcd"))
    (axis,) = figure.axes
    np.testing.assert_array_equal(axis.images[0].get_array(), mask.values)
    assert [text.get_text() for text in axis.get_xticklabels()] == list("abcd")
    assert [text.get_text() for text in axis.get_yticklabels()] == ["embeddings", "pooler"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["active", "not active"]
    # one line between the two sequences
    assert [segment[:, 0].tolist() for segment in axis.collections[0].get_segments()] == [[1.5, 1.5]]
    figure.savefig(tmp_path / "mask.png")
    change = plots.plot_depth(mask.astype(float) - 0.25, label="change")
    image = change.axes[0].images[0]
    # white where nothing changes
    assert image.get_clim() == (-0.75, 0.75) and to_hex(image.cmap(0.5)) > "#f0f0f0"
    assert change.axes[1].get_ylabel() == "change"


def test_many_layers_have_some_names():
    figure = plots.plot_depth(xr.DataArray(np.ones(60), [("layer", layers(60))]))
    assert len(figure.axes[0].get_xticklabels()) <= 24


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (xr.DataArray(np.ones(3), dims="token"), {}, "values are token; give layer, layer × token"),
        (xr.DataArray(1.0), {}, "values are a number"),
        (
            xr.DataArray(np.ones((20, 2)), dims=("rule", "layer")),
            {},
            "20 lines along 'rule' cannot be told apart",
        ),
        (xr.DataArray(np.ones((2, 3)), dims=("layer", "token")), {"tokens": ["a"]}, "1 names for 3 tokens"),
    ],
)
def test_bad_input(values, options, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_depth(values, **options)
