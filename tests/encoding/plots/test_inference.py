"""What figures of tested models show: bars, people, ceiling, marks and pairs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding import plots
from cerebridge.encoding.results import Result


def compared(n_models=4, n_people=6, resampled=True, seed=0):
    """Models of which the first is best and at the ceiling, the last is at chance."""
    rng = np.random.default_rng(seed)
    mean = np.linspace(0.5, 0.0, n_models)
    score = mean[:, None, None] + 0.05 * rng.standard_normal((n_models, 1, n_people))
    names = [f"model {k}" for k in range(n_models)]
    dataset = xr.Dataset(
        {
            "score": (("model", "split", "unit"), score),
            "ceiling": ("unit", np.full(n_people, 0.5)),
            "ceiling_upper": ("unit", np.full(n_people, 0.6)),
        },
        {"model": names, "split": [0], "unit": [f"s{k}" for k in range(n_people)]},
        {"scoring": "rho-a", "chance": 0.0, "unit_kind": "rdm"},
    )
    if resampled:
        steps = np.abs(mean[:, None] - mean)
        dataset["mean"] = ("model", mean)
        dataset["mean_low"], dataset["mean_high"] = ("model", mean - 0.1), ("model", mean + 0.1)
        dataset["p_zero"] = ("model", np.where(mean > 0.1, 1e-4, 0.5))
        dataset["p_ceiling"] = ("model", np.where(mean < 0.45, 1e-4, 0.9))
        dataset["difference"] = (("model", "model_b"), mean[:, None] - mean)
        dataset["p_pair_fdr"] = (("model", "model_b"), np.where(steps > 0.2, 1e-4, 0.5))
        dataset = dataset.assign_coords(model_b=names).assign_attrs(resample="both")
    return Result(dataset.assign(normalised=dataset["score"] / dataset["ceiling"]))


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def stars(axis):
    return [text for text in axis.texts if text.get_text() == "*"]


def diamonds(axis):
    return [line for line in axis.lines if line.get_marker() == "D"]


def test_bars_are_means_with_intervals_people_and_ceiling():
    result = compared()
    figure = plots.plot_inference(result)
    wings, axis = figure.axes
    bars = [patch for patch in axis.patches if patch.get_width() == pytest.approx(0.64)]
    np.testing.assert_allclose([bar.get_height() for bar in bars], result.dataset["mean"])
    dots = [line.get_ydata() for line in axis.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, result.score.values[:, 0])
    segments = np.array(axis.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, :, 1].T, [result.dataset["mean_low"], result.dataset["mean_high"]])
    assert len(stars(axis)) == 3
    assert diamonds(axis)[0].get_xdata().tolist() == [0]
    assert axis.get_ylabel() == "similarity to people (rho-a)"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == [f"model {k}" for k in range(4)]
    low, high = axis.get_ylim()
    assert low < 0 and high > 0.6
    assert len(wings.lines) == 2  # 0 and 1 are better than others by more than 0.2
    shown = texts(figure)
    for part in ("6 RDMs", "people and stimuli", "noise ceiling", "false discovery rate of 5 %"):
        assert part in shown.replace("\n", " ")


def test_without_resampling_there_are_no_tests():
    figure = plots.plot_inference(compared(resampled=False))
    (axis,) = figure.axes
    assert not stars(axis) and not diamonds(axis) and "false discovery" not in texts(figure)
    bars = [patch.get_height() for patch in axis.patches if patch.get_width() == pytest.approx(0.64)]
    np.testing.assert_allclose(bars, compared().score.mean(("split", "unit")))


def test_caption_speaks_of_marks_that_are_there():
    one = Result(compared(n_models=1).dataset.assign(p_zero=("model", [0.5])))
    said = texts(plots.plot_inference(one))
    assert "none is above 0" in said and "better" not in said
    alike = compared()
    alike.dataset["p_pair_fdr"][:] = 1.0
    assert "none is better than another" in texts(plots.plot_inference(alike))


def test_models_are_sorted_on_request_and_where_they_are_many():
    result = compared()
    turned = Result(result.dataset.isel(model=slice(None, None, -1), model_b=slice(None, None, -1)))
    axis = plots.plot_inference(turned).axes[-1]
    assert axis.get_xticklabels()[0].get_text() == "model 3"
    axis = plots.plot_inference(turned, sort=True).axes[-1]
    assert axis.get_xticklabels()[0].get_text() == "model 0"
    assert diamonds(axis)[0].get_xdata().tolist() == [0]


def test_many_models_are_rows_with_a_matrix():
    result = compared(71)
    figure = plots.plot_inference(result)
    axis, matrix = figure.axes[:2]
    assert len(axis.get_yticklabels()) == 71 and len(stars(axis)) == (result.dataset["mean"] > 0.1).sum()
    shown = matrix.images[0].get_array()
    known = np.abs(result.dataset["difference"].values) > 0.2
    np.testing.assert_array_equal(np.isfinite(np.ma.filled(shown, np.nan)), known)
    np.testing.assert_allclose(shown[known], result.dataset["difference"].values[known])
    assert figure.get_figheight() > 10
    assert len(plots.plot_inference(compared(20, resampled=False)).axes) == 1


@pytest.mark.parametrize("n_models", [1, 8, 13])
def test_nothing_is_drawn_outside_the_figure(n_models):
    figure = plots.plot_inference(compared(n_models))
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 > -0.05 and box.y0 > -0.05 and box.x1 < width + 0.05 and box.y1 < height + 0.05


def test_results_of_rdms_are_plotted_so_and_others_as_before():
    result = compared()
    assert len(result.plot().axes) == 2
    several = result.dataset.assign_coords(region=("unit", ["V4"] * 3 + ["IT"] * 3))
    assert [axis.get_title(loc="left")[:2] for axis in Result(several).plot().axes] == ["V4", "IT"]
    assert len(Result(several.isel(unit=slice(3))).plot().axes) == 2
    neuroids = Result(result.dataset.assign_attrs(unit_kind="neuroid"))
    assert "similarity to people" not in texts(neuroids.plot())
