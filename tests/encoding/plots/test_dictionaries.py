"""Dictionaries and their dark matter as pictures."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding import plots
from cerebridge.models.decompose import SparseAutoencoder, report_dark_matter


def report(frequency, explained, l0):
    frequency = np.atleast_2d(frequency)
    names = ["size", "gradient"][: len(frequency)]
    per = {"explained_variance": explained, "l0": l0, "dead_share": (frequency == 0).mean(1)}
    return xr.Dataset(
        {"frequency": (("selection", "feature"), frequency), **{k: ("selection", v) for k, v in per.items()}},
        {"selection": names},
    )


def test_frequencies_and_the_trade_of_sparsity(tmp_path):
    one = report([[0.0, 0.1, 0.1, 0.5], [0.2, 0.2, 0.2, 0.2]], [0.8, 0.6], [4.0, 4.0])
    figure = plots.plot_dictionaries({"wide": one, "narrow": report([0.25, 0.75], [0.5], [1.0])})
    left, right = figure.axes
    dots = {line.get_label(): line.get_xydata().tolist() for line in right.lines}
    assert dots == {"wide, by size": [[4.0, 0.8]], "wide, by gradient": [[4.0, 0.6]], "narrow": [[1.0, 0.5]]}
    assert "wide, by size (25% never on)" in [text.get_text() for text in left.get_legend().get_texts()]
    assert left.get_xscale() == "log"
    figure.savefig(tmp_path / "dictionaries.png")


def test_dark_matter_of_one_dictionary_and_over_widths(tmp_path):
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 600, 5))
    single = plots.plot_dark_matter(report_dark_matter(x, 0.8 * x + 0.1 * noise))
    heights = [bar.get_height() for bar in single.axes[0].patches]
    assert heights == pytest.approx([0.04, 0.01], rel=0.2)
    widths = {w: x - 4 * w**-0.5 * x + 0.1 * noise for w in (16, 64, 256)}
    figure = plots.plot_dark_matter(report_dark_matter(x, widths, predictors={"chance": rng.random(600)}))
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == "linear: width$^{-1.00}$"
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["16", "64", "256"]
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == [
        "activations",
        "activation norm",
        "chance",
    ]
    figure.savefig(tmp_path / "dark.png")


def test_other_datasets_are_refused():
    for plot in (plots.plot_dictionaries, plots.plot_dark_matter):
        with pytest.raises(ValueError, match="the dataset .*has no"):
            plot(xr.Dataset({"score": ("layer", [1.0])}))


def test_a_report_of_an_estimator_is_drawn():
    x = np.random.default_rng(0).standard_normal((60, 4))
    assert len(plots.plot_dictionaries(SparseAutoencoder(6, k=2, max_epochs=1).fit(x).report(x)).axes) == 2
