"""Closed forms of leave-one-out: what refitting without each sample gives, and scikit-learn's choices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.linear_model import RidgeCV as PeerRidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneOut as Splitter

from cerebridge.encoding.engine.leaveout import LeaveOneOut

ALPHAS = np.logspace(-2, 4, 7)
SHAPES = {"tall": (30, 6), "square": (16, 16), "wide": (15, 40)}


def simulate(n: int, p: int, targets: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 3
    noise = rng.standard_normal((n, targets)) * np.logspace(-1, 1, targets)
    return X, X @ rng.standard_normal((p, targets)) / np.sqrt(p) + noise - 2


def fit(X, Y, scoring="r2", fit_intercept=True, generalised=False, alphas=ALPHAS):
    ridge = LeaveOneOut(torch.from_numpy(X), torch.from_numpy(alphas), scoring, fit_intercept, generalised)
    return ridge.fit(torch.from_numpy(Y))


def by_refitting(X, Y, alpha, fit_intercept):
    predictions = np.empty_like(Y)
    for train, test in Splitter().split(X):
        model = Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(X[train], Y[train])
        predictions[test] = model.predict(X[test])
    return predictions


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equals_refitting_without_each_sample(shape, scoring, fit_intercept):
    X, Y = simulate(*shape)
    fitted = fit(X, Y, scoring, fit_intercept)
    for a, alpha in enumerate(ALPHAS):
        predictions = by_refitting(X, Y, alpha, fit_intercept)
        if scoring == "r2":
            expected = r2_score(Y, predictions, multioutput="raw_values")
        else:
            expected = [np.corrcoef(y, p)[0, 1] for y, p in zip(Y.T, predictions.T, strict=True)]
        np.testing.assert_allclose(fitted.scores[:, a], expected, atol=1e-8)
    np.testing.assert_array_equal(fitted.chosen, fitted.scores.argmax(1))
    for t, choice in enumerate(fitted.chosen):
        model = Ridge(ALPHAS[choice], fit_intercept=fit_intercept, solver="svd").fit(X, Y[:, t])
        np.testing.assert_allclose(fitted.coef[t], model.coef_, atol=1e-9)
        assert fitted.intercept[t].item() == pytest.approx(model.intercept_, abs=1e-8)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_chooses_as_scikit_learn_does(shape, fit_intercept):
    X, Y = simulate(*shape, targets=12)
    peer = PeerRidgeCV(ALPHAS, alpha_per_target=True, fit_intercept=fit_intercept, scoring="r2").fit(X, Y)
    fitted = fit(X, Y, fit_intercept=fit_intercept)
    np.testing.assert_array_equal(ALPHAS[fitted.chosen], peer.alpha_)
    np.testing.assert_allclose(fitted.coef, peer.coef_, atol=1e-9)
    best = fitted.scores.gather(1, fitted.chosen[:, None])[:, 0]
    np.testing.assert_allclose(best, peer.best_score_, atol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_generalised_scores_are_those_of_the_hat_matrix(shape, fit_intercept):
    X, Y = simulate(*shape)
    fitted = fit(X, Y, fit_intercept=fit_intercept, generalised=True)
    for a, alpha in enumerate(ALPHAS):
        hat = np.column_stack(
            [
                Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(X, e).predict(X)
                for e in np.eye(len(X))
            ]
        )
        residual = (Y - hat @ Y) / (1 - np.trace(hat) / len(X))
        expected = 1 - (residual**2).sum(0) / ((Y - Y.mean(0)) ** 2).sum(0)
        np.testing.assert_allclose(fitted.scores[:, a], expected, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("alpha", [1e-7, 1e9])
def test_rough_kernels_and_huge_penalties(shape, alpha):
    X, Y = simulate(*shape)
    X[:, -1] = X[:, 0]
    X[:, 1] *= 1e4
    for scoring in ("r2", "pearsonr"):
        scores = fit(X, Y, scoring, alphas=np.array([alpha])).scores[:, 0].numpy()
        predictions = by_refitting(X, Y, alpha, True)
        expected = r2_score(Y, predictions, multioutput="raw_values")
        if scoring == "pearsonr":
            expected = [np.corrcoef(y, p)[0, 1] for y, p in zip(Y.T, predictions.T, strict=True)]
        np.testing.assert_allclose(scores, expected, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(list(SHAPES.values())), st.integers(0, 50), st.integers(0, 1000))
def test_order_of_samples_does_not_matter(shape, seed, order):
    X, Y = simulate(*shape, seed=seed)
    index = np.random.default_rng(order).permutation(len(X))
    torch.testing.assert_close(fit(X[index], Y[index]).scores, fit(X, Y).scores, rtol=1e-8, atol=1e-8)


def test_the_choice_sees_no_target_that_is_noise_as_signal():
    rng = np.random.default_rng(0)
    X, noise = rng.standard_normal((80, 10)), rng.standard_normal((80, 50))
    signal = X @ rng.standard_normal((10, 50)) + noise
    for generalised in (False, True):
        assert fit(X, noise, generalised=generalised).scores.amax(1).median() < 0.05
        assert fit(X, signal, generalised=generalised).scores.amax(1).median() > 0.7
