"""LayerSelectionCV: the right layer, fits by hand, and a choice that is nested where scores must be unbiased."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import encoding, neuro
from cerebridge.encoding.layers import LayerSelectionCV
from cerebridge.encoding.ridge import RidgeCV

LAYERS = np.repeat(["conv1", "conv2", "fc"], [4, 6, 10])


@parametrize_with_checks(
    [LayerSelectionCV(RidgeCV(cv=2), by=None), LayerSelectionCV(Ridge(), by=None, scoring="pearsonr")]
)
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(n: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A target of each layer."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 20)) + 1
    Y = np.stack([X[:, layer == LAYERS].sum(1) for layer in ("fc", "conv1", "conv2")], 1)
    return X, Y + rng.standard_normal(Y.shape)


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
def test_agrees_with_fits_by_hand(scoring):
    X, Y = simulate(60)
    model = LayerSelectionCV(Ridge(2.0), LAYERS, KFold(3), scoring).fit(X, Y)
    assert model.layer_.tolist() == ["fc", "conv1", "conv2"]
    for t, layer in enumerate(model.layer_):
        for number, name in enumerate(["conv1", "conv2", "fc"]):
            of_layer, scores = X[:, name == LAYERS], []
            for train, test in KFold(3).split(X):
                y, predicted = (
                    Y[test, t],
                    Ridge(2.0).fit(of_layer[train], Y[train, t]).predict(of_layer[test]),
                )
                r2 = 1 - np.square(y - predicted).sum() / np.square(y - y.mean()).sum()
                scores.append(r2 if scoring == "r2" else np.corrcoef(y, predicted)[0, 1])
            assert model.cv_scores_[number, t] == pytest.approx(np.mean(scores))
        np.testing.assert_allclose(
            model.coef_[t, layer == LAYERS], Ridge(2.0).fit(X[:, layer == LAYERS], Y[:, t]).coef_
        )
        assert not model.coef_[t, layer != LAYERS].any()
    np.testing.assert_array_equal(model.best_score_, model.cv_scores_.max(0))


def test_one_layer_for_all_targets():
    X, Y = simulate()
    one = LayerSelectionCV(by=LAYERS, per_target=False).fit(X, Y[:, [1, 1, 0]] + [0, 1, 2])
    assert set(one.layer_.tolist()) == {"conv1"}
    assert not one.independent_targets
    assert LayerSelectionCV().independent_targets


def test_selection_on_noise_is_biased_and_evaluation_is_not():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((200, 60)), rng.standard_normal((200, 150))
    model = LayerSelectionCV(Ridge(10.0), np.arange(60) // 3, scoring="pearsonr")
    assert np.mean(model.fit(X, Y).best_score_) > 0.08
    result = encoding.evaluate(model, X, Y, cv=4)
    assert abs(float(result.score.mean())) < 0.02
    chosen = result.dataset.attrs["audit"]["selection"]
    assert (
        next(iter(chosen["selection_score"].values()))
        > 0.08
        > abs(next(iter(chosen["nested_score"].values())))
    )


def test_labels_and_files(tmp_path):
    X, Y = simulate()
    features = neuro.assemble(
        X,
        presentation={"stimulus_id": [f"s{i}" for i in range(150)]},
        neuroid={"neuroid_id": [f"f{i}" for i in range(20)], "layer": LAYERS},
        modality="activation",
        units="a.u.",
    )
    responses = neuro.assemble(
        Y,
        presentation={"stimulus_id": features.stimulus_id.values},
        neuroid={"neuroid_id": ["a", "b", "c"], "region": ["IT", "V1", "V4"]},
        modality="spikes",
        units="spikes/s",
    )
    model = LayerSelectionCV().fit(features, responses)
    assert model.layer_.dims == ("neuroid",)
    assert dict(zip(model.layer_.region.values, model.layer_.values, strict=True)) == {
        "IT": "fc",
        "V1": "conv1",
        "V4": "conv2",
    }
    assert model.cv_scores_.layer.values.tolist() == ["conv1", "conv2", "fc"]
    encoding.save(tmp_path / "layers.skops", model)
    for again in (copy.deepcopy(model), encoding.load(tmp_path / "layers.skops")):
        xr.testing.assert_identical(again.predict(features), model.predict(features))
        xr.testing.assert_identical(again.layer_, model.layer_)
    single = LayerSelectionCV().fit(features, responses[:, 0])
    assert single.layer_ == "fc"
    assert single.coef_.dims == ("feature",)


@pytest.mark.parametrize(
    ("by", "match"),
    [("layer", "by='layer' names a coordinate, but X has no labels"), (LAYERS[:3], "have 3 labels")],
)
def test_layers_that_are_wrong(by, match):
    with pytest.raises(ValueError, match=match):
        LayerSelectionCV(by=by).fit(*simulate())
