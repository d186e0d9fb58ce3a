"""SemiNMF: planted features, what sparsity is good for, scikit-learn's contract, labels, and every bad input."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import encoding, neuro
from cerebridge.models import decompose
from cerebridge.models.decompose import SemiNMF


@parametrize_with_checks(
    [SemiNMF(1, max_iter=30, n_restarts=1), SemiNMF(2, density=None, init="svd", max_iter=30)]
)
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def planted(seed, units=200, rows=400, rank=8, density=0.05, active=0.3):
    rng = np.random.default_rng(seed)
    features = np.zeros((rank, units))
    for row in features:
        used = rng.choice(units, int(density * units), replace=False)
        row[used] = rng.standard_normal(len(used))
    loadings = rng.exponential(size=(rows, rank)) * (rng.uniform(size=(rows, rank)) < active)
    return loadings @ features + 0.01 * rng.standard_normal((rows, units)), features, loadings


def recovered(found, truth):
    """The best correlation of each planted feature with one that was found."""
    return np.abs(np.corrcoef(found, truth)[: len(found), len(found) :]).max(axis=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sparse_features_are_recovered_by_the_best_of_five_starts(seed):
    X, features, _ = planted(seed)
    model = SemiNMF(8, density=0.05, max_iter=1000).fit(X)
    assert recovered(model.components_, features).min() > 0.99
    assert model.loss_ == model.losses_.min() < 0.005
    assert ((model.components_ != 0).sum(axis=1) == 10).all()


def test_without_sparsity_the_loss_falls_all_the_way_and_features_are_not_identified():
    X, features, _ = planted(0)
    model = SemiNMF(8, density=None, max_iter=500, patience=500, n_restarts=2).fit(X)
    assert (np.diff(model.loss_curve_) < 1e-9).all()
    assert model.loss_ < 0.005
    assert recovered(model.components_, features).min() < 0.7


def test_noise_has_no_features():
    noise = np.random.default_rng(0).standard_normal((400, 200))
    model = SemiNMF(8, density=0.05, max_iter=200).fit(noise)
    assert model.loss_ > 0.9
    assert recovered(model.components_, planted(0)[1]).max() < 0.5


@pytest.mark.parametrize("init", ["kmeans", "svd"])
def test_other_starts_reach_as_far(init):
    X, features, _ = planted(0)
    model = SemiNMF(8, density=0.05, init=init, max_iter=800).fit(X)
    assert recovered(model.components_, features).min() > 0.99


def test_loadings_are_least_squares_that_never_cancel():
    X, _, _ = planted(3, rows=60)
    model = SemiNMF(8, density=None, n_restarts=1, max_iter=50).fit(X)
    expected = np.array([nnls(model.components_.T, row)[0] for row in X])
    np.testing.assert_allclose(model.transform(X), expected, atol=1e-4 * expected.max())


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 59))
def test_order_and_number_of_rows_do_not_matter_to_their_loadings(random, part):
    X, _, _ = planted(3, rows=60)
    model = fitted()
    order = list(range(60))
    random.shuffle(order)
    all_of_them = model.transform(X)
    np.testing.assert_allclose(model.transform(X[order]), all_of_them[order], atol=1e-6)
    np.testing.assert_allclose(model.transform(X[:part]), all_of_them[:part], atol=1e-6)


def fitted():
    return SemiNMF(4, density=0.05, n_restarts=1, max_iter=40).fit(planted(3, rows=60)[0])


def test_the_order_of_units_is_of_no_account():
    X, _, _ = planted(1)
    order = np.random.default_rng(0).permutation(X.shape[1])
    options = {"density": 0.05, "n_restarts": 3, "max_iter": 300}
    one, other = SemiNMF(8, **options).fit(X), SemiNMF(8, **options).fit(X[:, order])
    assert recovered(one.components_[:, order], other.components_).min() > 0.999


def test_features_are_factored_again():
    rng = np.random.default_rng(0)
    shared = np.zeros((2, 100))
    shared[0, :20], shared[1, 50:70] = rng.standard_normal((2, 20))
    members = np.repeat(np.eye(2), 4, axis=0)
    features = members @ shared * rng.uniform(1, 2, (8, 1))
    model = SemiNMF(8, density=0.2, n_restarts=1, max_iter=5)
    model.fit(np.eye(8) @ features)
    model.components_ = features
    coarse = model.set_params(max_iter=300).coarsen(2)
    belongs = coarse.transform(features).argmax(axis=1)
    assert len(set(belongs[:4])) == len(set(belongs[4:])) == 1 and belongs[0] != belongs[4]
    with pytest.raises(ValueError, match="8 features to factor into 8; ask for fewer"):
        model.coarsen(8)


def test_steering_goes_through_the_weights_without_their_bias():
    X, _, _ = planted(0, rows=50)
    model = SemiNMF(3, max_iter=20, n_restarts=1).fit(X)
    down = torch.nn.Linear(200, 7, dtype=torch.float64)
    vectors = model.steering_vectors(down)
    expected = model.components_ @ down.weight.detach().numpy().T
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-12)
    unembed = torch.nn.Linear(7, 11, dtype=torch.float64)
    words = model.steering_vectors(torch.nn.Sequential(down, unembed))
    np.testing.assert_allclose(words.numpy(), expected @ unembed.weight.detach().numpy().T, atol=1e-12)


def test_containers_dtypes_and_labels():
    X, _, _ = planted(0, rows=60)
    options = {"density": 0.05, "n_restarts": 1, "max_iter": 60}
    array = neuro.assemble(
        X.astype(np.float32),
        presentation={"stimulus_id": [f"s{k}" for k in range(60)], "word": "cat"},
        neuroid={"neuroid_id": [f"u{k}" for k in range(200)], "layer": "mlp.act"},
        modality="activation",
        units="a.u.",
    )
    model = SemiNMF(4, **options).fit(array)
    features = model.transform(array)
    assert features.dtype == np.float32 and features.dims == ("presentation", "neuroid")
    assert set(features["layer"].values) == {"mlp.act"} and features["feature"].values.tolist() == [
        0,
        1,
        2,
        3,
    ]
    assert set(features["decomposition"].values) == {"SemiNMF"} and features["word"].values[3] == "cat"
    assert json.loads(features.attrs["provenance"])["parameters"]["n_components"] == "4"
    back = model.inverse_transform(features)
    assert back["neuroid_id"].values[5] == "u5" and back.attrs["modality"] == "activation"
    np.testing.assert_allclose(back.values, features.values @ model.components_, rtol=1e-5, atol=1e-6)
    top = model.top_rows(array, 2)
    assert top.groupby("feature").size().tolist() == [2] * 4 and top["stimulus_id"][0].startswith("s")
    assert (top["loading"] == features.values[top["row"], top["feature"]]).all()
    tensor = torch.from_numpy(X.astype(np.float32))
    ours = SemiNMF(4, **options).fit(tensor)
    assert isinstance(ours.components_, torch.Tensor)
    np.testing.assert_allclose(ours.transform(tensor).numpy(), features.values, rtol=1e-4, atol=1e-5)


def test_features_go_straight_into_encoding_and_representational_similarity():
    X, _, loadings = planted(0)
    stimuli = {"stimulus_id": np.arange(len(X))}
    array = neuro.assemble(
        X,
        presentation=stimuli,
        neuroid={"neuroid_id": np.arange(200), "layer": "mlp.act"},
        modality="activation",
        units="a.u.",
    )
    brain = neuro.assemble(
        loadings @ np.random.default_rng(1).standard_normal((8, 5)),
        presentation=stimuli,
        neuroid={"neuroid_id": np.arange(5)},
        modality="fmri",
        units="a.u.",
    )
    found = SemiNMF(8, density=0.05, max_iter=600, n_restarts=3).fit_transform(array)
    train, test = slice(0, 300), slice(300, None)
    ridge = encoding.RidgeCV(1e-3).fit(found[train], brain[train])
    assert (np.asarray(ridge.score(found[test], brain[test])) > 0.95).all()
    dissimilarities = encoding.rsa.rdm(found[:20])
    assert dissimilarities.dims == ("rdm", "pair") and dissimilarities.sizes["pair"] == 190


def test_the_same_seed_gives_the_same_and_global_generators_stay():
    X, _, _ = planted(0, rows=60)
    state = torch.get_rng_state()
    drawn = np.random.mtrand._rand.get_state()[1].copy()
    one, other = (SemiNMF(3, init="kmeans", n_restarts=2, max_iter=30).fit(X) for _ in range(2))
    np.testing.assert_array_equal(one.components_, other.components_)
    np.testing.assert_array_equal(np.random.mtrand._rand.get_state()[1], drawn)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        ({"n_components": 0}, np.ones((4, 3)), "n_components=0 must be a whole number of at least 1"),
        ({"density": 0}, np.ones((4, 3)), "density=0 must be None or a share"),
        ({"init": "nndsvd"}, np.ones((4, 3)), "init='nndsvd' is unknown; use 'random', 'kmeans', 'svd'"),
        ({}, np.zeros((4, 3)), "zero everywhere"),
        ({}, torch.ones(2, 3, 4), r"takes rows × units, got the shape \(2, 3, 4\)"),
        ({}, torch.tensor([[1.0, torch.nan]] * 4), "contains NaN: in 4 of 4 rows, first row 0"),
        ({"n_components": 5}, np.ones((4, 3)), "n_samples=4, fewer than n_components=5"),
    ],
)
def test_bad_input(options, values, message):
    with pytest.raises(ValueError, match=message):
        SemiNMF(**{"n_components": 2, **options}).fit(values)


def test_other_units_than_were_fitted():
    model = fitted()
    with pytest.raises(ValueError, match="X has 3 features, but SemiNMF is expecting 200"):
        model.transform(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"shape \(2, 3\); give rows × 4 features"):
        model.inverse_transform(np.ones((2, 3)))


def test_the_public_name_leads_here():
    assert decompose.SemiNMF is SemiNMF
