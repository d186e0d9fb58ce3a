"""Ensembles of layers: units trust the layers that predict them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import BaseEstimator, clone
from sklearn.utils import estimator_checks

from cerebridge import encoding
from cerebridge.encoding import readouts

pytestmark = pytest.mark.filterwarnings("ignore:.*at the edge of the grid")


class Fixed(BaseEstimator):
    """Predicts a constant that it says to be so good."""

    def fit(self, X, y):
        self.value, self.best_score_ = float(X[0, 0]), np.asarray(X)[:, 1][: y.shape[1]]
        return self

    def predict(self, X):
        return np.full((len(X), len(self.best_score_)), self.value)


def layers(n=80, random_state=0):
    """Two layers of three features, and units that read the first, the second, and both."""
    rng = np.random.default_rng(random_state)
    values = rng.standard_normal((n, 6))
    noise = rng.standard_normal((n, 3))
    responses = np.stack([values[:, 0], values[:, 3], values[:, 1] + values[:, 4]], axis=1) + 0.1 * noise
    stimuli = {"stimulus_id": ("presentation", [f"image{k}" for k in range(n)])}
    neuroids = {"neuroid_id": ("neuroid", np.arange(6)), "layer": ("neuroid", ["early"] * 3 + ["late"] * 3)}
    attrs = {"modality": "activations", "units": "a.u.", "provenance": "test"}
    X = xr.DataArray(values, stimuli | neuroids, ("presentation", "neuroid"), attrs=attrs)
    units = {"neuroid_id": ("neuroid", ["a", "b", "c"])}
    return X, xr.DataArray(responses, stimuli | units, ("presentation", "neuroid"), attrs=attrs)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
    ],
)
def test_the_checks_of_scikit_learn_that_need_no_fit(check):
    # the others fit tables at once, which name no layers
    estimator = readouts.LayerEnsemble(encoding.RidgeCV())
    check(type(estimator).__name__, estimator)


def test_weights_are_the_softmax_of_forty_times_the_scores():
    first = np.array([[1.0, 0.50], [0, 0.20], [0, np.nan]])
    second = np.array([[3.0, 0.55], [0, 0.20], [0, -0.3]])
    ensemble = readouts.LayerEnsemble(Fixed()).fit({"one": first, "two": second}, np.zeros((3, 3)))
    share = 1 / (1 + np.exp(-40 * 0.05))
    np.testing.assert_allclose(ensemble.layer_weights_[1], [share, 0.5, np.exp(-12) / (1 + np.exp(-12))])
    expected = ensemble.layer_weights_[0] + 3 * ensemble.layer_weights_[1]
    np.testing.assert_allclose(ensemble.predict({"one": first, "two": second}), np.tile(expected, (3, 1)))


def test_units_trust_the_layer_that_they_read():
    X, Y = layers()
    ensemble = readouts.LayerEnsemble(encoding.RidgeCV(scoring="pearsonr")).fit(X, Y)
    assert ensemble.layers_ == ["early", "late"]
    np.testing.assert_allclose(ensemble.layer_weights_.sum(axis=0), 1)
    assert ensemble.layer_weights_[0, 0] > 0.99
    assert ensemble.layer_weights_[1, 1] > 0.99
    others, truth = layers(random_state=1)
    predicted = ensemble.predict(others)
    assert predicted["neuroid_id"].values.tolist() == ["a", "b", "c"]
    assert np.corrcoef(predicted[:, 0], truth[:, 0])[0, 1] > 0.95


def test_it_runs_through_evaluate():
    X, Y = layers()
    result = encoding.evaluate(readouts.LayerEnsemble(encoding.RidgeCV()), X, Y, cv=2, control=False)
    assert (result.dataset["score"].values[..., :2] > 0.9).all()


def test_a_dictionary_of_tensors_gives_a_tensor():
    X, Y = (torch.from_numpy(array.values) for array in layers())
    parts = {"early": X[:, :3], "late": X[:, 3:]}
    predicted = readouts.LayerEnsemble(encoding.RidgeCV()).fit(parts, Y).predict(parts)
    assert isinstance(predicted, torch.Tensor)
    assert predicted.shape == Y.shape


def test_every_layer_has_a_checkpoint_of_its_own(tmp_path):
    maps = np.random.default_rng(0).standard_normal((2, 20, 3, 2, 2))
    readout = readouts.StaticMapReadout(max_epochs=1, checkpoint=tmp_path / "static.ckpt")
    ensemble = readouts.LayerEnsemble(readout)
    parts = {"early": maps[0], "late": maps[1]}
    ensemble.fit(parts, maps[0, :, :, 0, 0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["static-0.ckpt", "static-1.ckpt"]
    again = clone(ensemble).fit(parts, maps[0, :, :, 0, 0])
    np.testing.assert_array_equal(again.predict(parts), ensemble.predict(parts))


def test_a_folder_takes_the_checkpoints_of_all_layers_and_folds(tmp_path):
    maps = np.random.default_rng(0).standard_normal((2, 40, 3, 2, 2))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    ensemble = readouts.LayerEnsemble(readouts.StaticMapReadout(max_epochs=1, checkpoint=folder))
    for rows in (slice(30), slice(10, 40)):
        ensemble.fit({"early": maps[0, rows], "late": maps[1, rows]}, maps[0, rows, :, 0, 0])
    assert len(list(folder.iterdir())) == 4
    assert list(tmp_path.iterdir()) == [folder]


def test_it_is_saved_without_pickle(tmp_path):
    X, Y = layers()
    ensemble = readouts.LayerEnsemble(encoding.RidgeCV()).fit(X, Y)
    encoding.save(tmp_path / "ensemble.skops", ensemble)
    xr.testing.assert_equal(encoding.load(tmp_path / "ensemble.skops").predict(X), ensemble.predict(X))


def test_what_cannot_be_fitted_is_named():
    X, Y = layers()
    ensemble = readouts.LayerEnsemble(encoding.RidgeCV())
    with pytest.raises(ValueError, match="X names no layers"):
        ensemble.fit(X.values, Y.values)
    with pytest.raises(ValueError, match="layer 'late': X has 79 samples"):
        ensemble.fit({"early": X.values[:, :3], "late": X.values[:79, 3:]}, Y.values)
    with pytest.raises(TypeError, match="keeps no best_score_"):
        from sklearn.linear_model import LinearRegression

        readouts.LayerEnsemble(LinearRegression()).fit({"early": X.values}, Y.values)
    with pytest.raises(ValueError, match="lacks layer 'late'"):
        ensemble.fit(X, Y).predict(X[:, :3])
