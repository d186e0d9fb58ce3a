"""Models fitted to RDMs, against rsatoolbox's fitters and against searches."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from cerebridge.encoding import rsa

from .mixed import labelled, mixed

METHODS = {
    "cosine": "cosine",
    "pearson": "corr",
    "whitened-cosine": "cosine_cov",
    "whitened-pearson": "corr_cov",
}
RANKS = ("spearman", "rho-a", "tau-a", "tau-b")
MODELS = (rsa.WeightedModel, rsa.SelectionModel, rsa.InterpolationModel)


def similarity_to(model, people, method):
    return float(rsa.compare(model.predict(), people, method).mean())


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_weights_are_those_of_rsatoolbox(method, nonnegative):
    peer = pytest.importorskip("rsatoolbox")
    fitter = pytest.importorskip("rsatoolbox.model.fitter")
    bases, people = mixed(noise=2.0)
    fit = fitter.fit_regress_nn if nonnegative else fitter.fit_regress
    model = peer.model.ModelWeighted("w", peer.rdm.RDMs(bases.values))
    expected = fit(model, peer.rdm.RDMs(people.values), METHODS[method])
    found = rsa.WeightedModel(bases, nonnegative).fit(people, method)
    np.testing.assert_allclose(found.weights_, expected, atol=1e-6)
    predicted = model.predict(expected)
    np.testing.assert_allclose(found.predict().values[0], predicted, atol=1e-5)


@pytest.mark.parametrize("method", [*METHODS, "spearman", "rho-a", "tau-a"])
def test_the_rdm_selected_is_that_of_rsatoolbox(method):
    peer = pytest.importorskip("rsatoolbox")
    fitter = pytest.importorskip("rsatoolbox.model.fitter")
    bases, people = mixed(noise=6.0)
    model = peer.model.ModelSelect("s", peer.rdm.RDMs(bases.values))
    expected = fitter.fit_select(model, peer.rdm.RDMs(people.values), METHODS.get(method, method))
    found = rsa.SelectionModel(bases).fit(people, method)
    assert found.selected_ == f"b{expected}"
    np.testing.assert_array_equal(found.predict().values, bases.values[[expected]])


@pytest.mark.parametrize("method", METHODS)
def test_interpolation_is_that_of_rsatoolbox_but_exact(method):
    peer = pytest.importorskip("rsatoolbox")
    fitter = pytest.importorskip("rsatoolbox.model.fitter")
    bases, people = mixed()
    data = labelled(bases.values[1] + 2 * bases.values[2] + people.values)
    model = peer.model.ModelInterpolate("i", peer.rdm.RDMs(bases.values))
    expected = fitter.fit_interpolate(model, peer.rdm.RDMs(data.values), METHODS[method])
    found = rsa.InterpolationModel(bases).fit(data, method)
    np.testing.assert_allclose(found.weights_, expected, atol=1e-4)
    theirs = rsa.InterpolationModel(bases).fit(data, method)
    theirs.weights_ = found.weights_.copy(data=expected)
    assert similarity_to(found, data, method) >= similarity_to(theirs, data, method) - 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_no_other_weights_are_more_similar_on_average(method):
    bases, people = mixed(noise=3.0)
    for nonnegative in (True, False):
        model = rsa.WeightedModel(bases, nonnegative).fit(people, method)
        best, fitted = similarity_to(model, people, method), model.weights_
        rng = np.random.default_rng(1)
        for scale in (0.01, 0.3) * 10:
            weights = fitted.values + scale * rng.standard_normal(4)
            model.weights_ = fitted.copy(data=np.abs(weights) if nonnegative else weights)
            assert similarity_to(model, people, method) <= best + 1e-12


@pytest.mark.parametrize("method", RANKS)
def test_ranks_are_fitted_through_their_mean(method):
    bases, people = mixed(noise=3.0)
    ranks = labelled(people.values.argsort(axis=1).argsort(axis=1).astype(float).mean(axis=0)[None])
    for kind in (rsa.WeightedModel, rsa.InterpolationModel):
        found, expected = kind(bases).fit(people, method), kind(bases).fit(ranks, "pearson")
        np.testing.assert_allclose(found.weights_, expected.weights_, atol=1e-12)
    selected = rsa.SelectionModel(bases).fit(people, method)
    scores = rsa.compare(bases, people, method).mean("rdm_b")
    assert selected.selected_ == f"b{int(scores.values.argmax())}"


@pytest.mark.parametrize("method", [*METHODS, *RANKS])
def test_a_true_mixture_is_found(method):
    bases, people = mixed(n_stimuli=30, noise=0.05)
    weights = rsa.WeightedModel(bases).fit(people, method).weights_
    np.testing.assert_allclose(weights, np.array([1, 0, 2, 0]) / 5**0.5, atol=0.08)
    assert weights.neuroid_id.values.tolist() == ["b0", "b1", "b2", "b3"]


@pytest.mark.parametrize("kind", MODELS)
def test_stimuli_are_matched_whatever_their_order_and_number(kind):
    bases, people = mixed(noise=3.0)
    order = np.random.default_rng(0).permutation(66)
    expected = kind(bases).fit(people)
    found = kind(bases.isel(pair=order)).fit(people)
    np.testing.assert_allclose(found.weights_, expected.weights_, atol=1e-12)
    some = np.isin(people.stimulus_a.values, [f"i{k:02d}" for k in range(6)])
    some &= np.isin(people.stimulus_b.values, [f"i{k:02d}" for k in range(6)])
    part = kind(bases).fit(people[:, some])
    np.testing.assert_allclose(part.weights_, kind(bases[:, some]).fit(people[:, some]).weights_, atol=1e-12)
    assert part.predict().shape == (1, 66)
    few = part.predict(["i05", "i00", "i11"])
    full = rsa.square(part.predict()).values[0]
    np.testing.assert_allclose(few.values[0], [full[0, 5], full[5, 11], full[0, 11]])


@pytest.mark.parametrize("method", ["cosine", "whitened-cosine", "spearman"])
@pytest.mark.parametrize("kind", MODELS)
def test_missing_pairs_are_as_if_they_were_not_there(kind, method):
    bases, people = mixed(noise=3.0)
    gap = people.copy()
    gap.values[1, 3] = np.nan
    gap.values[0, 10] = np.nan
    found = kind(bases).fit(gap, method)
    assert found.n_missing_pairs_ == 2
    wild = gap.copy(data=np.where(np.isnan(gap.values), np.nan, people.values))
    wild.values[:, [3, 10]] = np.where(np.isnan(wild.values[:, [3, 10]]), np.nan, 1e3)
    np.testing.assert_allclose(kind(bases).fit(wild, method).weights_, found.weights_, atol=1e-12)


def test_parameters_are_as_in_scikit_learn():
    bases, people = mixed()
    model = rsa.WeightedModel(bases, nonnegative=False).fit(people)
    fresh = clone(model)
    assert fresh.get_params()["nonnegative"] is False
    with pytest.raises(NotFittedError, match="this WeightedModel is not fitted yet; call fit"):
        fresh.predict()


def test_shuffled_people_are_fitted_no_better_than_by_chance():
    rng = np.random.default_rng(0)
    bases, people = mixed(n_stimuli=40)
    square = rsa.square(people).values
    order = rng.permutation(40)
    shuffled = people.copy(data=square[:, order][:, :, order][:, *np.triu_indices(40, 1)])
    model = rsa.WeightedModel(bases, nonnegative=False)
    assert similarity_to(model.fit(people, "pearson"), people, "pearson") > 0.9
    assert similarity_to(model.fit(shuffled, "pearson"), shuffled, "pearson") < 0.2


def test_bad_input_is_one_sentence():
    bases, people = mixed()
    flat = bases.copy(data=np.concatenate([np.ones((1, 66)), bases.values[1:]]))
    other = labelled(people.values, stimuli=range(12))
    empty = people.isel(rdm=[])
    gone = people.copy(data=np.full_like(people.values, np.nan))
    for call, message in [
        (lambda: rsa.WeightedModel(bases.isel(rdm=[])).fit(people), "the dimension 'rdm' is empty"),
        (
            lambda: rsa.InterpolationModel(bases[:1]).fit(people),
            "has 1 RDM; InterpolationModel needs at least 2",
        ),
        (lambda: rsa.WeightedModel(bases).fit(empty), "the dimension 'rdm' is empty"),
        (lambda: rsa.WeightedModel(bases).fit(other), "no dissimilarities of 12 of the stimuli"),
        (lambda: rsa.WeightedModel(flat).fit(people, "pearson"), "RDM 'b0' of the model is constant"),
        (lambda: rsa.WeightedModel(bases).fit(people, "bures"), "cannot be fitted by method='bures'"),
        (lambda: rsa.WeightedModel(bases).fit(people, "kendall"), "method='kendall' is unknown"),
        (lambda: rsa.WeightedModel(bases).fit(gone), "0 pairs are known"),
        (lambda: rsa.WeightedModel(bases).fit(gone.fillna(np.inf)), "rdms has .* infinite dissimilarities"),
        (lambda: rsa.crossvalidate(bases, gone), "RDM .* of data is missing altogether"),
        (lambda: rsa.SelectionModel(bases).fit(people).predict(["i00"]), "1 is given; give two or more"),
        (lambda: rsa.WeightedModel(bases[0]).fit(people), "single RDM without the dimension"),
        (lambda: rsa.SelectionModel(bases).fit(people).predict(["i00", "x"]), "among them 'x'"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
