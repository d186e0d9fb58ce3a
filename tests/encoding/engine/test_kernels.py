"""Kernel ridge from one decomposition gives what fitting every fold by itself gives; searches find the best kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise, r2_score
from sklearn.model_selection import KFold, ShuffleSplit, TimeSeriesSplit

from cerebridge.encoding.engine import kernels
from cerebridge.encoding.engine.moments import Split

ALPHAS = np.logspace(-4, 4, 9)
CV = {"folds": KFold(4), "overlapping": ShuffleSplit(3, random_state=0), "forward": TimeSeriesSplit(3)}


def simulate(n: int = 40, p: int = 5, targets: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) + 1
    Y = np.sin(X @ rng.standard_normal((p, targets))) + rng.standard_normal((n, targets)) * np.logspace(
        -2, 1, targets
    )
    return X, Y + 5


def to_splits(pairs) -> list[Split]:
    return [Split(*(torch.from_numpy(np.sort(part)) for part in pair)) for pair in pairs]


def one_by_one(K, Y, train, test, alpha, fit_intercept):
    """Predictions of one fold from a system of equations."""
    rows, cross, y = K[np.ix_(train, train)], K[np.ix_(test, train)], Y[train]
    if not fit_intercept:
        return cross @ np.linalg.solve(rows + alpha * np.eye(len(rows)), y)
    n = len(train)
    system = np.block([[rows + alpha * np.eye(n), np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    solved = np.linalg.solve(system, np.vstack([y, np.zeros((1, Y.shape[1]))]))
    return cross @ solved[:-1] + solved[-1]


@pytest.mark.parametrize("name", ["linear", "polynomial", "rbf"])
def test_kernels_are_those_of_scikit_learn(name):
    X, Z = simulate()[0], simulate(7)[0] * 1e3
    settings = {
        "linear": {},
        "polynomial": {"gamma": 0.3, "degree": 2, "coef0": 0.5},
        "rbf": {"gamma": 1e-7},
    }[name]
    ours = getattr(kernels, name)(*map(torch.from_numpy, (X, Z)), **settings)
    np.testing.assert_allclose(ours, getattr(pairwise, f"{name}_kernel")(X, Z, **settings), rtol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
@pytest.mark.parametrize("cv", CV)
def test_scores_and_coefficients_are_those_of_every_fit_by_itself(cv, scoring, fit_intercept, device):
    X, Y = simulate()
    K = pairwise.rbf_kernel(X, gamma=0.2)
    pairs = list(CV[cv].split(X))
    arguments = (torch.from_numpy(ALPHAS).to(device), scoring, fit_intercept)
    splits = [Split(*(part.to(device) for part in split)) for split in to_splits(pairs)]
    ridge = kernels.KernelRidge(torch.from_numpy(K).to(device), splits, *arguments)
    assert not ridge.is_rough
    scores = np.zeros((len(pairs), Y.shape[1], len(ALPHAS)))
    for k, (train, test) in enumerate(pairs):
        for a, alpha in enumerate(ALPHAS):
            predicted = one_by_one(K, Y, train, test, alpha, fit_intercept)
            if scoring == "r2":
                scores[k, :, a] = r2_score(Y[test], predicted, multioutput="raw_values")
            else:
                scores[k, :, a] = [
                    np.corrcoef(p, y)[0, 1] for p, y in zip(predicted.T, Y[test].T, strict=True)
                ]
    found = ridge.scores(torch.from_numpy(Y).to(device)).cpu()
    np.testing.assert_allclose(found, scores.mean(0), atol=1e-7)
    chosen = torch.arange(6, device=device)
    dual, intercept = (x.cpu().numpy() for x in ridge.fit(torch.from_numpy(Y).to(device), chosen))
    for t in range(6):
        everything = np.arange(len(Y))
        expected = one_by_one(K, Y[:, [t]], everything, everything, ALPHAS[t], fit_intercept)[:, 0]
        np.testing.assert_allclose(K @ dual[t] + intercept[t], expected, atol=1e-8)


def test_a_rough_kernel_is_decomposed_for_every_fold():
    X, Y = simulate()
    K, pairs = X @ X.T * 1e6, list(KFold(4).split(X))
    ridge = kernels.KernelRidge(
        torch.from_numpy(K), to_splits(pairs), torch.tensor([1e-6]).double(), "r2", True
    )
    assert ridge.is_rough
    expected = [
        r2_score(
            Y[te],
            Ridge(1e-6, solver="svd").fit(1e3 * X[tr], Y[tr]).predict(1e3 * X[te]),
            multioutput="raw_values",
        )
        for tr, te in pairs
    ]
    np.testing.assert_allclose(ridge.scores(torch.from_numpy(Y))[:, 0], np.mean(expected, 0), atol=1e-6)


def test_held_out_rows_do_not_reach_a_prediction():
    X, _ = simulate()
    K, splits = torch.from_numpy(pairwise.rbf_kernel(X)), to_splits(KFold(4).split(X))
    ridge = kernels.KernelRidge(K, splits, torch.tensor([0.1, 10.0]).double(), "r2", True)
    for predictor in ridge._predictors(splits[1]):
        assert predictor.shape == (10, 30)
        torch.testing.assert_close(predictor.sum(1), torch.ones(10).double())


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
def test_single_precision_is_near_double(scoring):
    X, Y = simulate()
    K, splits = torch.from_numpy(pairwise.rbf_kernel(X)), to_splits(KFold(4).split(X))
    ridge = kernels.KernelRidge(K, splits, torch.logspace(-3, 12, 5).double(), scoring, True)
    double, single = ridge.scores(torch.from_numpy(Y)), ridge.scores(torch.from_numpy(Y).float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, atol=1e-4, rtol=1e-4)


def test_a_search_takes_the_best_kernel_for_every_target_and_the_first_among_equals():
    X, _ = simulate(60, 2)
    rng = np.random.default_rng(1)
    wiggly, straight = np.sin(4 * X[:, :1]), X @ rng.standard_normal((2, 1))
    noise = rng.standard_normal((60, 1)) * 1e-3
    Y = torch.from_numpy(np.hstack([wiggly + noise, straight + noise, np.ones((60, 1))]))
    splits, alphas = to_splits(KFold(5).split(X)), torch.logspace(-3, 1, 3).double()
    candidates = [torch.from_numpy(K) for K in (X @ X.T, X @ X.T, pairwise.rbf_kernel(X, gamma=4.0))]
    found = kernels.search(candidates, Y, splits, alphas, "r2", True)
    assert found.candidate.tolist() == [2, 0, 0]
    for position, K in enumerate(candidates):
        alone = kernels.search([K], Y, splits, alphas, "r2", True)
        np.testing.assert_array_equal(found.scores[position], alone.scores[0])
        mine = found.candidate == position
        torch.testing.assert_close(found.dual[mine], alone.dual[mine])
        torch.testing.assert_close(found.intercept[mine], alone.intercept[mine])
    assert found.scores[:, 2].isnan().all()
    assert not found.dual[2].any()
    assert found.intercept[2] == 1


def test_a_kernel_used_once_is_not_kept():
    calls = []
    functions = [lambda b=b: calls.append(b) or torch.full((2, 2), float(b)) for b in range(3)]
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    sums = [float(kernel[0, 0]) for kernel in kernels.combinations(functions, weights)]
    assert sums == [0.5, 1.0, 2.0]
    assert calls == [1, 0, 2]
