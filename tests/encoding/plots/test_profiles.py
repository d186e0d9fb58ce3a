from __future__ import annotations

import io
import sys

import matplotlib
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from cerebridge import neuro
from cerebridge.encoding import Result, plots
from cerebridge.encoding.plots.maps import place_of
from cerebridge.encoding.plots.style import short_names


def result(n_models=3, n_units=20, regions=("V1", "IT"), ceiling=True, **attrs) -> Result:
    rng = np.random.default_rng(0)
    score = np.linspace(0.2, 0.6, n_models)[:, None, None] + 0.05 * rng.normal(size=(n_models, 4, n_units))
    dataset = xr.Dataset(
        {"score": (("model", "split", "unit"), score)},
        {
            "model": ["pixels", *(f"net/layer{k}" for k in range(1, n_models))],
            "region": ("unit", np.repeat(regions, n_units // len(regions))),
        },
        {"scoring": "pearsonr", "chance": 0.0, **attrs},
    )
    if ceiling:
        dataset["ceiling"] = ("unit", rng.uniform(0.7, 0.9, n_units))
        dataset["normalised"] = dataset["score"] / dataset["ceiling"]
    return Result(dataset)


def drawn(figure) -> np.ndarray:
    """The figure as grey pixels."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=60)
    return np.asarray(Image.open(content).convert("L"))


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())


def rdms(n=6, m=2):
    rng = np.random.default_rng(0)
    a, b = np.triu_indices(n, 1)
    return neuro.assemble(
        rng.random((m, len(a))),
        rdm={"neuroid_id": [f"matrix {k}" for k in range(m)]},
        pair={"stimulus_a": a, "stimulus_b": b},
        modality="rdm",
        units="a.u.",
    )


@pytest.mark.parametrize("ceiling", [True, False])
def test_a_profile_shows_every_model_in_every_region(ceiling):
    figure = plots.plot_profile(result(ceiling=ceiling))
    assert len(figure.axes) == 2 and drawn(figure).std() > 5
    said = texts(figure)
    assert "V1 (10 units)" in said and "IT (10 units)" in said and "layer2" in said and "chance" in said
    assert ("noise ceiling" in said) is ceiling


def test_the_points_of_a_profile_are_the_summary():
    one = result(regions=("V1",))
    figure = plots.plot_profile(one)
    table = one.summary().set_index("model")
    points = {
        float(bar.lines[0].get_xdata()[0]): float(bar.lines[0].get_ydata()[0])
        for bar in figure.axes[0].containers
    }
    assert list(points.values()) == pytest.approx(table["score"].tolist())
    highest = figure.axes[0].containers[-1].lines[0]
    assert highest.get_label() == "best" or figure.axes[0].containers[-1].get_label() == "best"


def test_a_result_plots_itself_by_any_label():
    assert len(result().plot().axes) == 2
    assert len(result().plot(by="no such label").axes) == 1


def test_many_units_are_drawn_as_a_sample():
    figure = plots.plot_profile(result(n_units=2000))
    assert (
        max(
            len(points.get_offsets())
            for points in figure.axes[0].collections
            if hasattr(points, "get_offsets")
        )
        <= plots.profiles.DOTS
    )


def test_a_comparison_has_bars_and_the_band_of_the_ceiling():
    one = result(regions=("IT",), ceiling=False)
    one.dataset["ceiling"] = ("unit", np.full(20, 0.5))
    one.dataset["ceiling_upper"] = ("unit", np.full(20, 0.7))
    figure = plots.plot_comparison(one)
    heights = [bar.get_height() for bar in figure.axes[0].patches if bar.get_width() == pytest.approx(0.62)]
    assert heights == pytest.approx(one.unit_scores().mean("unit").values.tolist())
    assert "noise ceiling" in texts(figure)


def test_a_comparison_of_one_unit_has_no_dots():
    figure = plots.plot_comparison(result(n_units=1, regions=("IT",), ceiling=False))
    assert not [
        each for each in figure.axes[0].collections if isinstance(each, matplotlib.collections.PathCollection)
    ]


def test_matrices_are_sorted_by_groups_and_named():
    groups = ["b", "a", "b", "a", "b", "a"]
    figure = plots.plot_rdms(rdms(), groups=groups, names=["one", "two"])
    matrix = figure.axes[0].images[0].get_array()
    assert matrix.shape == (6, 6) and np.isnan(np.asarray(matrix.filled(np.nan))[0, 0])
    square = np.full((6, 6), np.nan)
    square[np.triu_indices(6, 1)] = rdms().values[0]
    assert float(matrix[0, 1]) == square[0, 2], "the two first of group b are neighbours"
    assert "one" in texts(figure) and " b |" in f"{texts(figure)} |"


def test_wrong_matrices():
    with pytest.raises(ValueError, match="groups has 2 entries for 6 stimuli"):
        plots.plot_rdms(rdms(), groups=["a", "b"])
    with pytest.raises(ValueError, match="give rdm × pair"):
        plots.plot_rdms(rdms().rename(rdm="other"))


def test_confusions_are_shares_of_the_true_class():
    one = result(n_units=1, regions=("IT",), ceiling=False)
    counts = np.array([[[8, 2], [5, 15]]] * 3)
    one.dataset = one.dataset.assign(confusion=(("model", "true", "predicted"), counts)).assign_coords(
        true=["face", "house"], predicted=["face", "house"]
    )
    figure = plots.plot_confusion(one, model="pixels")
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.8, 0.2], [0.25, 0.75]])
    assert "80" in texts(figure) and "house" in texts(figure)
    assert len(plots.plot_confusion(one).axes) == 3
    with pytest.raises(ValueError, match="this result has no confusions"):
        plots.plot_confusion(result())


def timed(dim="unit"):
    times = {"time_bin_start": (dim, [-0.1, 0.0, 0.1]), "time_bin_end": (dim, [0.0, 0.1, 0.2])}
    values = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    return xr.DataArray(
        values, dims=("model", dim), coords={"model": ["one", "two"], **times}, attrs={"chance": 0.5}
    )


def test_a_time_course_has_a_line_a_row():
    axis = plots.plot_timecourse(timed("time_bin"), ylabel="agreement").axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    assert lines["two"].get_ydata().tolist() == [3, 4, 5]
    assert np.allclose(lines["two"].get_xdata(), [-50, 50, 150])
    assert lines["chance"].get_ydata()[0] == 0.5 and axis.get_ylabel() == "agreement"


def test_units_of_one_time_are_averaged():
    array = xr.concat([timed(), timed() + 2], "unit")
    one = Result(
        xr.Dataset(
            {"score": array.expand_dims(split=1, axis=1)}, attrs={"scoring": "pearsonr", "chance": 0.0}
        )
    )
    line = plots.plot_timecourse(one).axes[0].lines[0]
    assert line.get_ydata().tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="no 'time_bin_start' in what should be drawn over time"):
        plots.plot_timecourse(result())


def voxels(shape=(5, 4, 3)):
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    coords = {axis: ("unit", at[:, k]) for k, axis in enumerate("ijk")}
    coords |= {axis: ("unit", 3.0 * at[:, k]) for k, axis in enumerate("xyz")}
    attrs = {"affine": np.diag([3.0, 3.0, 3.0, 1.0]).ravel().tolist(), "volume_shape": list(shape)}
    return xr.DataArray(np.linspace(0.1, 0.9, len(at)), dims="unit", coords=coords, attrs=attrs)


def test_voxels_lie_on_slices():
    scores = voxels()
    assert place_of(scores) == "brain"
    figure = plots.plot_map(scores, label="accuracy")
    assert "accuracy" in texts(figure) and drawn(figure).std() > 5
    two = xr.concat([scores, scores], "map").assign_coords(map=["first", "second"])
    said = texts(plots.plot_map(two, label="r"))
    assert "first — r" in said and "second — r" in said


def test_tilted_maps_are_cut_at_the_same_slices_where_they_have_values():
    scores = voxels((8, 8, 7))
    affine = np.array([[3, 0.2, 0, 0], [-0.2, 3, 0.4, 0], [0, -0.4, 3, 5.9], [0, 0, 0, 1]])
    scores = scores.assign_attrs(affine=affine.ravel().tolist())
    scores = scores.drop_vars(list("xyz")).where((scores.k > 1) & (scores.k < 5))
    two = xr.concat([scores, -scores], "map").assign_coords(map=["up", "down"])
    shown = [part for part in texts(plots.plot_map(two)).split(" | ") if part.startswith("z=")]
    middles = [affine[2] @ [3.5, 3.5, k, 1] for k in (2, 3, 4)]
    assert shown == 2 * [f"z={int(middle)}" for middle in middles]


def test_one_slice_is_one_picture():
    figure = plots.plot_map(voxels((5, 4, 1)), limits=(0.0, 1.0))
    assert "z=0" in texts(figure).replace(" ", "") and drawn(figure).std() > 5


def test_sensors_lie_on_heads():
    eeg = neuro.simulate(modality="eeg", n_stimuli=3, random_state=0).isel(time_bin=30)
    assert place_of(eeg) == "head"
    maps = eeg.assign_coords(presentation=["one", "two", "three"])
    figure = plots.plot_map(maps)
    said = texts(figure)
    assert all(name in said for name in ("one", "two", "three", "EEG", "µV")) and drawn(figure).std() > 5


def test_simulated_magnetometers_lie_on_a_head():
    meg = neuro.simulate(modality="meg", n_stimuli=2, random_state=0).isel(presentation=0, time_bin=30)
    figure = plots.plot_map(meg)
    assert "fT" in texts(figure) and drawn(figure).std() > 5


def test_three_kinds_of_real_sensors(data):
    evoked = neuro.meeg.read(data / "meg-evoked-audvis" / "test-ave.fif.gz").isel(
        time_bin=180, presentation=[0, 1]
    )
    figure = plots.plot_map(evoked.assign_coords(presentation=evoked.stimulus_id.values))
    said = texts(figure)
    assert all(
        name in said for name in ("magnetometers", "gradiometers", "EEG", "fT/cm", "µV", "Left Auditory")
    )


def test_units_without_a_place_are_refused():
    with pytest.raises(ValueError, match="the units have no place that can be drawn"):
        plots.plot_map(result().unit_scores().isel(model=0))


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["net/a", "net/b", "pixels"], ["a", "b", "pixels"]),
        (["net/a", "other/a"], ["net/a", "other/a"]),
        (["net/blocks/3", "net/blocks/4"], ["blocks/3", "blocks/4"]),
        (["a" * 40], ["aaaaaaaaaaaa…aaaaaaaaaaaa"]),
    ],
)
def test_names_are_short(models, names):
    assert short_names(models) == names


def test_nothing_is_left_behind():
    before = dict(matplotlib.rcParams)
    plots.plot_profile(result())
    plots.plot_map(voxels())
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
