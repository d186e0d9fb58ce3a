"""The information plane as a picture: layers, epochs, the bound, and what is saturated."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding import information, plots


def plane(saturated):
    values = np.arange(6.0).reshape(2, 3)
    dims = ("layer", "epoch")
    variables = {"I_XT": (dims, values), "I_TY": (dims, values / 6), "saturated": (dims, saturated)}
    return xr.Dataset(variables, {"layer": ["one", "two"], "epoch": [0, 10, 20]})


def test_layers_epochs_and_the_bound(tmp_path):
    saturated = np.zeros((2, 3), dtype=bool)
    saturated[1, 2] = True
    curve = information.bottleneck_curve([[0.4, 0.1], [0.1, 0.4]], betas=[2.0, 50.0])
    figure = plots.plot_information_plane(plane(saturated), curve)
    axis, bar = figure.axes
    lines = {line.get_label(): line.get_xydata() for line in axis.lines}
    assert list(lines) == ["bottleneck", "one", "two"]
    np.testing.assert_allclose(lines["two"], [[3, 0.5], [4, 4 / 6], [5, 5 / 6]])
    # the bound begins at nothing known and goes on as far as the layers do
    assert lines["bottleneck"][0].tolist() == [0, 0]
    assert lines["bottleneck"][-1, 0] == 5
    white = [dots for dots in axis.collections if np.allclose(dots.get_facecolor(), 1)]
    assert [dots.get_offsets().tolist() for dots in white if len(dots.get_offsets())] == [[[5.0, 5 / 6]]]
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "20"]
    figure.savefig(tmp_path / "plane.png")


def test_lines_of_many_layers_differ_and_are_named_outside_of_the_axes():
    two = plane(np.zeros((2, 3), dtype=bool))
    many = xr.concat([two] * 5, "layer").assign_coords(layer=[f"layer {k}" for k in range(10)])
    figure = plots.plot_information_plane(many)
    axis = figure.axes[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in axis.lines}
    assert len(looks) == 10 and axis.get_legend() is None
    assert [text.get_text() for text in figure.legends[0].get_texts()] == many.layer.values.tolist()


def test_other_datasets_are_refused():
    with pytest.raises(ValueError, match="make one with information_plane"):
        plots.plot_information_plane(xr.Dataset({"score": ("layer", [1.0])}))
