"""Brain-likeness: planted orders of layers are found, reversed ones too, and noise gets no layer."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge import neuro
from cerebridge.encoding import Result, RidgeCV, evaluate
from cerebridge.encoding.layermatrices import layer_by_area, layer_by_time
from cerebridge.encoding.likeness import encoding_score, half_time, spatial_score, temporal_score
from cerebridge.encoding.ordering import order_p
from cerebridge.encoding.plots import plot_layer_matrix, plot_order

N_STIMULI, N_LAYERS = 160, 6
POSITIONS = {"V1": 0.0, "V2": 1.0, "V4": 2.0, "PIT": 3.0, "AIT": 4.0, "nothing": 2.5}


def layers(seed: int = 0) -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(seed)
    return {
        f"layer {k}": neuro.assemble(
            rng.standard_normal((N_STIMULI, 4)),
            presentation={"stimulus_id": np.arange(N_STIMULI)},
            neuroid={"neuroid_id": [f"{k}.{i}" for i in range(4)]},
            modality="activation",
            units="a.u.",
        )
        for k in range(N_LAYERS)
    }


def regions(features: dict[str, xr.DataArray], shuffled: bool = False) -> xr.DataArray:
    rng = np.random.default_rng(1)
    columns, names = [], []
    for area, position in POSITIONS.items():
        layer = features[f"layer {int(np.ceil(position * (N_LAYERS - 1) / 4))}"].values
        for _ in range(5):
            signal = layer @ rng.standard_normal(4) if area != "nothing" else 0
            columns.append(signal + rng.standard_normal(N_STIMULI))
            names.append(area)
    values = np.array(columns).T
    return neuro.assemble(
        rng.permutation(values) if shuffled else values,
        presentation={"stimulus_id": np.arange(N_STIMULI)},
        neuroid={
            "neuroid_id": [f"u{i}" for i in range(len(names))],
            "region": names,
            "x": [POSITIONS[name] for name in names],
            "y": np.zeros(len(names)),
            "z": np.zeros(len(names)),
        },
        modality="fmri",
        units="a.u.",
    )


def sensors(features: dict[str, xr.DataArray]) -> xr.DataArray:
    rng = np.random.default_rng(2)
    starts = 0.04 + 0.01 * np.arange(18)
    values = rng.standard_normal((N_STIMULI, 3, len(starts)))
    for k, layer in enumerate(features.values()):
        course = np.exp(-0.5 * ((starts + 0.005 - (0.05 + 0.02 * k)) / 0.008) ** 2)
        values += (layer.values @ rng.standard_normal((4, 3)))[:, :, None] * course
    return neuro.assemble(
        values,
        presentation={"stimulus_id": np.arange(N_STIMULI)},
        neuroid={"neuroid_id": ["a", "b", "c"]},
        time_bin={"time_bin_start": starts, "time_bin_end": starts + 0.01},
        modality="meg",
        units="T",
    )


def reverse(features: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    return dict(reversed(list(features.items())))


@pytest.fixture(scope="module")
def spatial() -> Result:
    return evaluate(RidgeCV(), layers(), regions(layers()), cv=3, permutations=150, ceiling=None)


@pytest.fixture(scope="module")
def temporal() -> Result:
    return evaluate(RidgeCV(), layers(), sensors(layers()), cv=3, permutations=150, ceiling=None)


def test_spatial_score_finds_the_planted_hierarchy(spatial):
    table = spatial_score(spatial, POSITIONS)
    assert float(table["correlation"]) > 0.95
    assert float(table["low"]) > 0.9
    assert float(table["p_order"]) == pytest.approx(2 / 120)
    assert table["best_layer"].values.tolist()[:5] == ["layer 0", "layer 2", "layer 3", "layer 4", "layer 5"]


def test_an_area_that_reads_no_layer_is_left_out(spatial):
    table = spatial_score(spatial, POSITIONS, n_bootstrap=0)
    assert dict(zip(table["area"].values, table["used"].values, strict=True)) == {
        name: name != "nothing" for name in POSITIONS
    }
    everything = spatial_score(spatial, POSITIONS, alpha=None, n_bootstrap=0)
    assert bool(everything["used"].all())


def test_distances_from_the_first_area_are_positions_too(spatial):
    assert float(spatial_score(spatial, "V1", n_bootstrap=0)["correlation"]) == pytest.approx(
        float(spatial_score(spatial, POSITIONS, n_bootstrap=0)["correlation"])
    )


def test_temporal_score_finds_the_planted_order(temporal):
    table = temporal_score(temporal)
    assert float(table["correlation"]) > 0.95
    assert np.abs(table["time"].values - (0.05 + 0.02 * np.arange(N_LAYERS))).max() <= 0.011
    assert bool(table["used"].all())


def test_reversed_layers_reverse_both_scores():
    features = reverse(layers())
    by_area = evaluate(RidgeCV(), features, regions(layers()), cv=3, control=False, ceiling=None)
    over_time = evaluate(RidgeCV(), features, sensors(layers()), cv=3, control=False, ceiling=None)
    places = {name: place for name, place in POSITIONS.items() if name != "nothing"}
    kept = Result(by_area.dataset.isel(unit=by_area.score["region"].values != "nothing"))
    assert float(spatial_score(kept, places, alpha=None, n_bootstrap=0)["correlation"]) < -0.95
    assert float(temporal_score(over_time, alpha=None, n_bootstrap=0)["correlation"]) < -0.95


def test_shuffled_images_predict_nothing():
    result = evaluate(
        RidgeCV(), layers(), regions(layers(), shuffled=True), cv=3, permutations=150, ceiling=None
    )
    assert np.abs(layer_by_area(result).values).max() < 0.2
    with pytest.raises(ValueError, match="0 of 6 are predicted by any layer, and an order needs three"):
        spatial_score(result, POSITIONS)


def test_encoding_score_is_not_inflated_by_choosing_the_layer(spatial):
    table = encoding_score(spatial).set_index("region")
    assert (table["layer_score"] >= table["score"] - 1e-12).all()
    assert table.loc["V4", "layer"] == "layer 3"
    # of noise the best of six layers looks better than it is
    assert table.loc["nothing", "score"] < table.loc["nothing", "layer_score"] + 1e-12


def test_matrices_are_means_over_units_and_folds(spatial, temporal):
    matrix = layer_by_area(spatial)
    here = spatial.score.isel(unit=spatial.score["region"].values == "V2").sel(model="layer 2")
    assert float(matrix.sel(model="layer 2", area="V2")) == pytest.approx(float(here.mean()))
    times = layer_by_time(temporal)
    assert times.dims == ("model", "time_bin")
    assert float(times[1, 3]) == pytest.approx(
        float(temporal.score[1].mean("split").values.reshape(3, -1)[:, 3].mean())
    )


def test_people_are_drawn_with_all_their_units(spatial):
    dataset = spatial.dataset.assign_coords(
        subject=("unit", np.where(np.arange(spatial.score.sizes["unit"]) % 5 < 2, "one", "two"))
    )
    table = spatial_score(Result(dataset), POSITIONS)
    assert float(table["low"]) <= float(table["correlation"]) <= float(table["high"])


def test_p_of_an_order_is_exact_for_few_and_drawn_for_many():
    a = np.arange(4.0)
    assert order_p(a, a) == pytest.approx(2 / 24)
    assert order_p(np.arange(10.0), np.arange(10.0)) < 0.001
    rng = np.random.default_rng(0)
    p = [order_p(np.arange(5.0), rng.standard_normal(5)) for _ in range(400)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


def test_half_time():
    assert half_time([1, 2, 3], [0.1, 0.2, 0.3]) == 2
    assert np.isnan(half_time([1, 2], [0.0, -0.1]))
    with pytest.raises(ValueError, match="steps increasing"):
        half_time([2, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="score at step 2 is missing"):
        half_time([1, 2], [0.1, np.nan])


def test_bad_input(spatial, temporal):
    with pytest.raises(ValueError, match="no place for the area 'V2'"):
        spatial_score(spatial, {"V1": 0.0})
    with pytest.raises(ValueError, match="no area 'MT' to measure from"):
        spatial_score(spatial, "MT")
    with pytest.raises(ValueError, match="no label 'lobe'"):
        layer_by_area(spatial, by="lobe")
    with pytest.raises(ValueError, match="no label 'time_bin_start'"):
        temporal_score(spatial)
    with pytest.raises(ValueError, match="one number each"):
        temporal_score(temporal, depths=[1, 2])
    bare = Result(spatial.dataset.drop_vars(["p", "p_fdr", "p_max"]))
    with pytest.raises(ValueError, match="has no p_max"):
        spatial_score(bare, POSITIONS)
    with pytest.raises(ValueError, match="at least two splits"):
        encoding_score(Result(spatial.dataset.isel(split=[0])))


def test_figures(spatial, temporal):
    assert len(plot_layer_matrix(layer_by_area(spatial)).axes) == 2
    assert plot_layer_matrix(layer_by_time(temporal)).axes[0].get_xlabel() == "time (ms)"
    figure = plot_order(spatial_score(spatial, POSITIONS, n_bootstrap=50))
    assert figure.axes[0].get_title(loc="left").startswith("r = 0.9")
    with pytest.raises(ValueError, match="give model × area"):
        plot_layer_matrix(spatial.unit_scores())
