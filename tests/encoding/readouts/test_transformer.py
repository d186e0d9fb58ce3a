"""Routed readouts as estimators: they find what moves, and behave like every other encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import encoding
from cerebridge.encoding import readouts

#: a network that learns a toy in seconds
SMALL = {"heads": 1, "feedforward": 32, "dropout": 0.0, "learning_rate": 2e-3}
#: one that learns nothing, fast
QUICK = {"heads": 2, "feedforward": 8, "max_epochs": 1}


def moving(n, places=36, features=16, units=10, random_state=0):
    """Random tokens, of which a marker tags one for each of two regions, whose units read it linearly."""
    rng = np.random.default_rng(random_state)
    weights = np.random.default_rng(99).standard_normal((2, units // 2, features)) / np.sqrt(features)
    weights[:, :, :2] = 0
    tokens = rng.standard_normal((n, places, features)).astype(np.float32)
    tokens[:, :, :2] = 0
    tagged = np.stack([rng.permutation(places)[:2] for _ in range(n)])
    responses = []
    for region in range(2):
        tokens[np.arange(n), tagged[:, region], region] = 3
        responses.append(tokens[np.arange(n), tagged[:, region]] @ weights[region].T)
    return tokens, np.hstack(responses).astype(np.float32), tagged


REGIONS = ["A"] * 5 + ["B"] * 5


def correlation(truth, predicted):
    pairs = zip(truth.T, np.asarray(predicted).T, strict=True)
    return float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs]))


def labelled(maps, responses, regions):
    """Maps ``(n, channels, rows, columns)`` and responses as labelled arrays."""
    n, *shape = maps.shape
    places = [values.ravel() for values in np.indices(shape)]
    stimuli = [f"image{k:03}" for k in range(n)]
    names = ("channel", "row", "column")
    coords = {name: ("neuroid", values) for name, values in zip(names, places, strict=True)}
    X = xr.DataArray(
        maps.reshape(n, -1),
        {
            "stimulus_id": ("presentation", stimuli),
            "neuroid_id": ("neuroid", np.arange(maps[0].size)),
            **coords,
        },
        dims=("presentation", "neuroid"),
        attrs={"modality": "activations", "units": "a.u.", "provenance": "test"},
    )
    units = {
        "neuroid_id": ("neuroid", [f"u{k}" for k in range(len(regions))]),
        "region": ("neuroid", regions),
    }
    Y = xr.DataArray(responses, {"stimulus_id": X["stimulus_id"], **units}, ("presentation", "neuroid"))
    Y.attrs.update(modality="spikes", units="spikes/s", provenance="test")
    return X, Y


@pytest.mark.filterwarnings("ignore:Can't test estimator")
@parametrize_with_checks([readouts.TransformerReadout(**QUICK), readouts.StaticMapReadout(max_epochs=1)])
def test_the_checks_of_scikit_learn_that_apply(estimator, check):
    # all others feed tables, which readouts of maps refuse
    check(estimator)


@pytest.mark.slow
def test_attention_follows_what_moves_and_static_maps_and_ridge_cannot():
    tokens, responses, _ = moving(2000)
    others, truth, tagged = moving(500, random_state=1)
    attention = readouts.TransformerReadout("roi", REGIONS, max_epochs=12, width=32, **SMALL)
    attention.fit(tokens, responses)
    assert correlation(truth, attention.predict(others)) > 0.95
    maps = attention.attention(others)
    flat = maps.values[:, :, 0].reshape(500, 2, 36)
    mass = np.take_along_axis(flat, tagged[:, :, None], axis=2)
    assert mass.mean() > 0.9
    # the map of the other region is no better than chance at that place
    assert np.take_along_axis(flat, tagged[:, ::-1, None], axis=2).mean() < 0.1
    static = readouts.StaticMapReadout("roi", REGIONS, max_epochs=8).fit(tokens, responses)
    assert correlation(truth, static.predict(others)) < 0.3
    ridge = encoding.RidgeCV().fit(tokens.reshape(2000, -1), responses)
    assert correlation(truth, ridge.predict(others.reshape(500, -1))) < 0.1


def test_attention_learns_where_a_small_marker_is():
    tokens, responses, _ = moving(600, places=9, features=6, units=4)
    others, truth, _ = moving(200, places=9, features=6, units=4, random_state=1)
    readout = readouts.TransformerReadout(
        "roi", ["A", "A", "B", "B"], max_epochs=20, width=16, **SMALL | {"learning_rate": 5e-3}
    )
    assert correlation(truth, readout.fit(tokens, responses).predict(others)) > 0.9
    assert readout.best_score_.shape == (4,)
    assert readout.history_["loss"][-1] < 0.3 * readout.history_["loss"][0]
    shuffled = readout.fit(tokens, np.random.default_rng(0).permutation(responses)).predict(others)
    assert abs(correlation(truth, shuffled)) < 0.3


def test_a_static_map_finds_the_place_that_a_unit_reads():
    maps = np.random.default_rng(0).standard_normal((500, 2, 3, 4))
    static = readouts.StaticMapReadout(learning_rate=0.05, max_epochs=10).fit(maps, maps[:, :, 2, 1])
    where = static.attention(maps[:2])
    assert where.dims == ("presentation", "query", "head", "row", "column")
    assert (where.values[..., 2, 1] > 0.8).all()
    assert correlation(maps[:, :, 2, 1], static.predict(maps)) > 0.95


@pytest.mark.parametrize("kind", [readouts.TransformerReadout, readouts.StaticMapReadout])
@pytest.mark.parametrize("mode", ["unit", "roi"])
def test_queries_start_where_ridge_reads_their_units_best(kind, mode):
    maps = np.random.default_rng(0).standard_normal((120, 4, 3, 5))
    responses = np.hstack([maps[:, :2, 2, 1], maps[:, :2, 0, 4]])
    options = {"mode": mode, "regions": ["A", "A", "B", "B"], "learning_rate": 1e-9, "max_epochs": 1}
    readout = kind(start="prf", **options).fit(maps, responses)
    first = readout.weights_["map"].reshape(-1, 3, 5)
    places = [np.unravel_index(where.argmax(), where.shape) for where in first]
    repeats = 2 if mode == "unit" else 1
    assert places == [(2, 1)] * repeats + [(0, 4)] * repeats
    assert "map" not in readouts.TransformerReadout(**options).fit(maps, responses).weights_


def test_queries_started_at_a_place_learn_to_look_elsewhere():
    tokens, responses, _ = moving(600, places=9, features=6, units=4)
    others, truth, tagged = moving(200, places=9, features=6, units=4, random_state=1)
    options = SMALL | {"learning_rate": 5e-3, "max_epochs": 10, "start": "prf"}
    readout = readouts.TransformerReadout("roi", ["A", "A", "B", "B"], width=16, **options)
    assert correlation(truth, readout.fit(tokens, responses).predict(others)) > 0.95
    flat = readout.attention(others).values[:, :, 0].reshape(200, 2, 9)
    assert np.take_along_axis(flat, tagged[:, :, None], axis=2).mean() > 0.9


def test_tokens_on_a_line_have_a_start_too():
    tokens = np.random.default_rng(0).standard_normal((60, 5, 4))
    readout = readouts.TransformerReadout(start="prf", **QUICK | {"learning_rate": 1e-9})
    readout.fit(tokens, tokens[:, 3, :2])
    assert readout.weights_["map"].argmax(axis=1).tolist() == [3, 3]


@pytest.mark.parametrize("mode", ["unit", "roi", "hemisphere"])
def test_every_mode_runs_through_evaluate_with_the_labels_of_units(mode):
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((40, 3, 2, 2))
    X, Y = labelled(maps, maps[:, :, 0, 0], ["V1", "V4", "V1"])
    Y = Y.assign_coords(hemisphere=("neuroid", ["left", "right", "left"]))
    result = encoding.evaluate(readouts.TransformerReadout(mode, **QUICK), X, Y, cv=2, control=False)
    assert result.dataset["score"].shape == (1, 2, 3)


def test_plain_maps_run_through_evaluate_with_regions_given():
    maps = np.random.default_rng(0).standard_normal((40, 3, 2, 2))
    readout = readouts.TransformerReadout("roi", ["V1", "V4", "V1"], **QUICK)
    result = encoding.evaluate(readout, maps, maps[:, :, 0, 0], cv=2, control=False)
    assert np.isfinite(result.dataset["score"].values).all()


def test_numpy_torch_and_labelled_arrays_come_back_as_they_were():
    maps = np.random.default_rng(0).standard_normal((20, 3, 2, 2)).astype(np.float32)
    responses = maps[:, :, 0, 0]
    X, Y = labelled(maps, responses, ["V1", "V4", "V1"])
    readout = readouts.TransformerReadout("roi", ["V1", "V4", "V1"], **QUICK)
    stimuli = X["stimulus_id"].values
    plain = readout.fit(maps, responses).predict(maps)
    tensor = readout.fit(torch.from_numpy(maps), torch.from_numpy(responses)).predict(torch.from_numpy(maps))
    array = clone(readout).set_params(regions="region").fit(X, Y).predict(X)
    assert plain.dtype == np.float32
    np.testing.assert_array_equal(tensor.numpy(), plain)
    # labels of stimuli make groups of the inner validation
    grouped = clone(readout).fit(maps, responses, groups=stimuli).predict(maps)
    np.testing.assert_allclose(array.values, grouped, atol=1e-5)
    assert array["region"].values.tolist() == ["V1", "V4", "V1"]
    assert array["stimulus_id"].values.tolist() == stimuli.tolist()


def test_a_single_series_comes_back_as_one():
    maps = np.random.default_rng(0).standard_normal((20, 3, 2, 2))
    assert readouts.TransformerReadout(**QUICK).fit(maps, maps[:, 0, 0, 0]).predict(maps).shape == (20,)


def test_attention_is_labelled_and_selects_queries():
    maps = np.random.default_rng(0).standard_normal((20, 4, 2, 3))
    X, Y = labelled(maps, maps[:, :3, 0, 0], ["V1", "V4", "V1"])
    readout = readouts.TransformerReadout("roi", **QUICK).fit(X, Y)
    attention = readout.attention(X[:5])
    assert attention.dims == ("presentation", "query", "head", "row", "column")
    assert attention.shape == (5, 2, 2, 2, 3)
    np.testing.assert_allclose(attention.sum(("row", "column")), 1, rtol=1e-5)
    assert attention["query"].values.tolist() == ["V1", "V4"]
    assert attention["stimulus_id"].values.tolist() == X["stimulus_id"].values[:5].tolist()
    selected = readout.attention(X[:5], queries=["V4"])
    np.testing.assert_allclose(selected.values, attention.sel(query=["V4"]).values, rtol=1e-5)


@pytest.mark.parametrize(
    ("grid", "places"), [(None, {"row": 2, "column": 2}), ((1, 4), {"row": 1, "column": 4})]
)
def test_tokens_have_the_grid_that_they_are_given(grid, places):
    tokens = np.random.default_rng(0).standard_normal((20, 4, 4))
    sizes = readouts.TransformerReadout(grid=grid, **QUICK).fit(tokens, tokens[:, 0]).attention(tokens).sizes
    assert {name: sizes[name] for name in places} == places


def test_tokens_without_a_grid_lie_on_a_line():
    tokens = np.random.default_rng(0).standard_normal((20, 5, 4))
    readout = readouts.TransformerReadout(**QUICK).fit(tokens, tokens[:, 0])
    assert readout.attention(tokens).dims[-1] == "token"
    with pytest.raises(ValueError, match=r"grid=\(2, 2\) has 4 places, but there are 5 tokens"):
        readouts.TransformerReadout(grid=(2, 2), **QUICK).fit(tokens, tokens[:, 0])


def test_the_loss_counts_hemispheres_alike():
    maps = np.random.default_rng(0).standard_normal((20, 3, 2, 2))
    readout = readouts.TransformerReadout(hemispheres=["left", "right", "right"], **QUICK)
    readout.fit(maps, maps[:, :, 0, 0])
    np.testing.assert_allclose(readout.unit_weights_, [1, 0.5, 0.5])
    batch = {"maps": torch.zeros(4, 3, 4), "responses": torch.zeros(4, 3)}
    biases = torch.tensor([0.0, 2.0, 4.0])
    loss = readout._loss(lambda maps: biases.expand(len(maps), -1), batch)
    assert float(loss) == pytest.approx((4 + 16) / 2)


def test_equal_seeds_give_equal_readouts_and_others_do_not():
    maps = np.random.default_rng(0).standard_normal((30, 3, 2, 2))
    readout = readouts.TransformerReadout(dropout=0.3, **QUICK)
    first, again = (readout.fit(maps, maps[:, :, 0, 0]).predict(maps) for _ in range(2))
    other = clone(readout).set_params(random_state=1).fit(maps, maps[:, :, 0, 0]).predict(maps)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_training_resumes_from_its_checkpoint_to_the_same_result(tmp_path):
    maps = np.random.default_rng(0).standard_normal((30, 3, 2, 2))
    whole = readouts.TransformerReadout(**QUICK | {"max_epochs": 4}).fit(maps, maps[:, :, 0, 0])
    part = (
        clone(whole)
        .set_params(checkpoint=tmp_path / "readout.ckpt", max_epochs=2)
        .fit(maps, maps[:, :, 0, 0])
    )
    assert len(part.history_["loss"]) == 2
    resumed = part.set_params(max_epochs=4).fit(maps, maps[:, :, 0, 0])
    np.testing.assert_array_equal(resumed.predict(maps), whole.predict(maps))
    with pytest.raises(ValueError, match="checkpoint"):
        clone(resumed).set_params(feedforward=9).fit(maps, maps[:, :, 0, 0])


@pytest.mark.parametrize(
    "change",
    [{"regions": ["a", "b", "b"]}, {"hemispheres": ["left", "right", "right"]}, {"heads": 1}],
    ids=["regions", "hemispheres", "heads"],
)
def test_a_checkpoint_of_other_queries_is_of_another_training(change, tmp_path):
    maps = np.random.default_rng(0).standard_normal((30, 3, 2, 2))
    same = {"mode": "roi", "regions": ["a", "a", "b"], "hemispheres": ["left", "left", "right"], "width": 4}
    readout = readouts.TransformerReadout(**QUICK | same, checkpoint=tmp_path / "readout.ckpt")
    readout.fit(maps, maps[:, :, 0, 0])
    with pytest.raises(ValueError, match="belongs to other settings"):
        readout.set_params(**change).fit(maps, maps[:, :, 0, 0])


def test_it_is_saved_without_pickle(tmp_path):
    maps = np.random.default_rng(0).standard_normal((20, 3, 2, 2))
    readout = readouts.TransformerReadout("roi", ["V1", "V4", "V1"], **QUICK).fit(maps, maps[:, :, 0, 0])
    encoding.save(tmp_path / "readout.skops", readout)
    loaded = encoding.load(tmp_path / "readout.skops")
    np.testing.assert_array_equal(loaded.predict(maps), readout.predict(maps))
    np.testing.assert_array_equal(loaded.attention(maps), readout.attention(maps))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "voxel"}, "mode='voxel' is unknown; use 'unit', 'roi', 'hemisphere'"),
        ({"mode": "roi"}, "no label 'region' along their units"),
        ({"mode": "hemisphere"}, "no label 'hemisphere' along their units"),
        ({"mode": "roi", "regions": np.eye(2, 3) * [[0], [1]]}, "region 0 has no units"),
        ({"width": 5}, "width=5 is no multiple of heads=2"),
        ({"heads": 0}, "heads must be a whole number"),
        ({"start": "grid"}, "start='grid' is unknown; use None or 'prf'"),
        ({"queries_at_once": 0}, "queries_at_once must be a whole number"),
    ],
)
def test_wrong_parameters_are_named(options, message):
    maps = np.random.default_rng(0).standard_normal((20, 3, 2, 2))
    with pytest.raises(ValueError, match=message):
        readouts.TransformerReadout(**QUICK | options).fit(maps, maps[:, :, 0, 0])


def test_wrong_input_is_named():
    maps = np.random.default_rng(0).standard_normal((20, 3, 2, 2))
    readout = readouts.TransformerReadout(**QUICK).fit(maps, maps[:, :, 0, 0])
    with pytest.raises(ValueError, match="TransformerReadout takes feature maps, but X is 20 × 12"):
        readout.fit(maps.reshape(20, -1), maps[:, :, 0, 0])
    readout.fit(maps, maps[:, :, 0, 0])
    with pytest.raises(ValueError, match="fitted to 3 channels × 2 rows × 2 columns"):
        readout.attention(maps[:, :, :1])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        readout.attention(np.full_like(maps, np.nan))
    with pytest.raises(ValueError, match="no query 'V9'; there are 3: 0, 1, 2"):
        readout.attention(maps, queries=["V9"])
