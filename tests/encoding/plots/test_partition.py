"""The figure of a variance partition: bars of the right height, a panel a region, what is not there."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from cerebridge.encoding.partition import partition_variance
from cerebridge.encoding.plots.partition import plot_partition


def parts(targets: int = 12, bootstrap: int = 50):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 6))
    Y = X[:, :3].sum(1, keepdims=True) + X[:, [3]] + rng.standard_normal((200, targets))
    found = partition_variance(
        LinearRegression(), X, Y, {"form": slice(3), "meaning": slice(3, 6)}, bootstrap=bootstrap
    )
    return found.assign_coords(region=("neuroid", np.where(np.arange(targets) < targets / 2, "V4", "IT")))


@pytest.mark.parametrize("show", ["unique", "product", "r2", "venn"])
def test_bars_are_medians_over_the_units_of_a_region(show):
    found = parts()
    figure = plot_partition(found, show)
    assert [axis.get_title(loc="left").split()[0] for axis in figure.axes] == ["V4", "IT"]
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    expected = np.median(found[show].values[:, 6:], axis=1)
    np.testing.assert_allclose(heights[: len(expected)], expected)
    names = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert names[:2] == ["form", "meaning"]
    assert ("total" in names) == (show in ("unique", "product"))


def test_a_single_unit_has_the_interval_of_its_rows():
    found = parts(1)
    figure = plot_partition(found)
    (line,) = figure.axes[0].collections[1].get_segments()
    low, high = found.unique_interval.values[:, 0, 0]
    np.testing.assert_allclose(line[:, 1], [low, high])


def test_what_is_not_there():
    found = parts(2, bootstrap=0).drop_vars("venn")
    assert plot_partition(found).axes
    with pytest.raises(
        ValueError, match="show='venn' is not in this partition; use 'unique' or 'product' or 'r2'"
    ):
        plot_partition(found, "venn")
