"""Statistics over people: exact signs, family-wise errors, common places, and the cortex they are drawn on."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from cerebridge.encoding import Result
from cerebridge.encoding.group import group_statistics, roi_summary
from cerebridge.encoding.plots import plot_cortex, plot_group


def result(scores: np.ndarray, **labels: list) -> Result:
    """A result of one fold; scores are models × units."""
    units = scores.shape[1]
    coords = {
        "model": [f"m{k}" for k in range(len(scores))],
        "neuroid_id": ("unit", np.arange(units)),
        **{name: ("unit", np.array(values)) for name, values in labels.items()},
    }
    data = xr.Dataset({"score": (("model", "split", "unit"), scores[:, None])}, coords)
    return Result(data.assign_attrs(scoring="pearsonr", chance=0.0))


def people(n: int, effect: float = 0.0, seed: int = 0, places: int = 4) -> dict[str, Result]:
    rng = np.random.default_rng(seed)
    labels = {"region": [f"r{k}" for k in range(places)]}
    return {f"S{i}": result(effect + rng.standard_normal((2, places)), **labels) for i in range(n)}


def test_t_and_p_against_scipy_and_a_loop():
    group = group_statistics(people(6, effect=1.0))
    scores = group["subject_scores"].values
    assert group["t"].values == pytest.approx(stats.ttest_1samp(scores, 0.0).statistic)
    assert group["sem"].values == pytest.approx(stats.sem(scores))
    draws = np.array(
        [
            stats.ttest_1samp(scores[:, 0] * np.array(s)[:, None], 0.0).statistic
            for s in product([1, -1], repeat=6)
        ]
    )
    own = draws[0]
    assert group["p"].values[0] == pytest.approx((draws >= own - 1e-9).mean(0))
    assert group["p_max"].values[0] == pytest.approx((draws.max(1)[:, None] >= own - 1e-9).mean(0))


@pytest.mark.parametrize("n", [6, 14])
def test_noise_is_called_significant_in_one_of_twenty(n):
    found = [
        bool((group_statistics(people(n, seed=seed), permutations=400)["p_max"].values[0] <= 0.05).any())
        for seed in range(150)
    ]
    assert 0.0 < np.mean(found) < 0.11


def test_people_who_lack_a_place_do_not_count_there():
    both = people(5, effect=2.0)
    both["S0"] = Result(both["S0"].dataset.isel(unit=[0, 1, 2]))
    group = group_statistics(both)
    assert group["n_subjects"].sel(model="m0").values.tolist() == [5, 5, 5, 4]
    last = group["subject_scores"].values[1:, 0, 3]
    assert float(group["t"][0, 3]) == pytest.approx(stats.ttest_1samp(last, 0.0).statistic)


def test_units_of_a_place_are_averaged_and_places_may_have_several_labels():
    scores = np.arange(8.0).reshape(1, 8)
    labels = {"i": [0, 0, 1, 1, 0, 0, 1, 1], "j": [0, 1, 0, 1, 0, 1, 0, 1], "subject": ["a"] * 4 + ["b"] * 4}
    group = group_statistics(result(scores, **labels), by=("i", "j"))
    assert group["subject_scores"].values[:, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert group["i"].values.tolist() == [0, 0, 1, 1]
    by_row = group_statistics(result(scores, **labels), by="i")
    assert by_row["subject_scores"].values[:, 0].tolist() == [[0.5, 2.5], [4.5, 6.5]]


def test_the_order_of_people_changes_nothing():
    forward = people(7, effect=0.5)
    backward = dict(reversed(list(forward.items())))
    one, other = group_statistics(forward), group_statistics(backward)
    assert one["p_max"].values == pytest.approx(other["p_max"].values)


def test_summary_of_regions():
    table = roi_summary(people(2, places=3))
    assert list(table.columns) == ["subject", "model", "region", "mean", "median", "n_units"]
    assert len(table) == 2 * 2 * 3


def test_bad_input():
    one = people(1)
    with pytest.raises(ValueError, match="there is 1 person"):
        group_statistics(one)
    with pytest.raises(ValueError, match="no label 'subject'"):
        group_statistics(one["S0"])
    other = people(2)
    other["S1"] = Result(other["S1"].dataset.isel(model=[0]))
    with pytest.raises(ValueError, match="'S1' has other models than 'S0'"):
        group_statistics(other)
    with pytest.raises(ValueError, match="no label 'lobe'"):
        plot_group(group_statistics(people(3)), by="lobe")


def test_figure_of_people():
    figure = plot_group(group_statistics(people(6, effect=3.0)))
    assert len(figure.axes) == 4
    assert [text.get_text() for text in figure.axes[0].texts] == ["*", "*"]


def test_values_of_vertices_stay_at_their_vertices():
    from matplotlib.collections import PolyCollection
    from nilearn.datasets import load_fsaverage

    places = {"hemisphere": ("unit", ["left", "left", "left"]), "vertex": ("unit", [0, 1, 2])}
    mesh = load_fsaverage("fsaverage5")["flat"].parts["left"]
    triangle = mesh.faces[0]
    places["vertex"] = ("unit", np.asarray(triangle))
    figure = plot_cortex(xr.DataArray([1.0, 1.0, 1.0], places, "unit"), surfaces=("flat",))
    shapes = next(part for part in figure.axes[0].collections if isinstance(part, PolyCollection))
    coloured = [k for k, colour in enumerate(shapes.get_facecolors()) if np.ptp(colour[:3]) > 0.05]
    centres = np.array([path.vertices[:3].mean(0) for path in shapes.get_paths()])
    target = mesh.coordinates[triangle, :2].mean(0)
    assert np.linalg.norm(centres[coloured] - target, axis=1).min() < 1e-4
    assert len(coloured) <= 8


def test_values_of_both_signs_have_colours_on_two_sides_of_zero():
    places = {"hemisphere": ("unit", ["left"] * 4), "vertex": ("unit", [0, 1, 2, 3])}
    figure = plot_cortex(xr.DataArray([-0.5, 0.1, 0.3, 0.4], places, "unit"), surfaces=("flat",))
    assert figure.axes[-1].get_ylim() == pytest.approx((-0.5, 0.5))
    positive = plot_cortex(xr.DataArray([0.2, 0.1, 0.3, 0.4], places, "unit"), surfaces=("flat",))
    assert positive.axes[-1].get_ylim() == pytest.approx((0, 0.4))


def test_voxels_are_seen_where_they_lie():
    affine = np.array([[4.0, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
    places = np.argwhere(np.ones((46, 55, 46)))
    left = (places @ affine[:3, :3].T + affine[:3, 3])[:, 0] < 0
    voxels = xr.DataArray(
        np.ones(left.sum()),
        {
            "neuroid_id": ("neuroid", np.arange(left.sum())),
            **{n: ("neuroid", places[left, a]) for a, n in enumerate("ijk")},
        },
        ("neuroid",),
        attrs={"affine": affine.tolist(), "volume_shape": [46, 55, 46]},
    )
    figure = plot_cortex(voxels, surfaces=("flat",))
    coloured = [
        np.mean(np.ptp(axis.collections[0].get_facecolors()[:, :3], axis=1) > 0.05)
        for axis in figure.axes[:2]
    ]
    assert coloured[0] > 0.95
    assert coloured[1] < 0.05


def test_bad_maps():
    with pytest.raises(ValueError, match="neither on a surface nor in a volume"):
        plot_cortex(xr.DataArray([1.0], {"x": ("unit", [1.0])}, "unit"))
    places = {"hemisphere": ("unit", ["left"]), "vertex": ("unit", [20_000])}
    with pytest.raises(ValueError, match="vertex 20000 lies outside the left mesh"):
        plot_cortex(xr.DataArray([1.0], places, "unit"))
    places["vertex"] = ("unit", [5])
    with pytest.raises(ValueError, match="all values are missing"):
        plot_cortex(xr.DataArray([np.nan], places, "unit"))
