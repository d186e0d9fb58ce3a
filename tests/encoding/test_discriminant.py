from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.utils.estimator_checks import check_estimator

from cerebridge.encoding.discriminant import ShrinkageLDA


def problem(n, p, k, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    means = rng.normal(0, 1, (k, p))
    return (means[y] + rng.normal(0, 1, (n, p)) @ rng.normal(0, 1, (p, p))) * rng.uniform(0.1, 10, p) + 5, y


@pytest.mark.parametrize(
    ("n", "p", "k"), [(40, 5, 2), (60, 5, 4), (30, 50, 2), (48, 90, 8), (20, 1, 3), (400, 30, 3)]
)
def test_equal_to_scikit_learn(n, p, k):
    X, y = problem(n, p, k)
    ours, theirs = (
        ShrinkageLDA().fit(X, y),
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, y),
    )
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-7, atol=1e-9 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-6, atol=1e-6)
    assert np.array_equal(ours.predict(X), theirs.predict(X))


def test_constant_features_do_no_harm():
    X, y = problem(40, 5, 2)
    X[:, 2] = 7.0
    ours, theirs = (
        ShrinkageLDA().fit(X, y),
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, y),
    )
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert np.isfinite(ours.coef_).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_features_and_names_of_classes_do_not_matter(seed):
    X, y = problem(36, 6, 3, seed)
    order = np.random.default_rng(seed).permutation(6)
    names = np.array(["zebra", "ant", "mole"])
    first = ShrinkageLDA().fit(X, y)
    other = ShrinkageLDA().fit(X[:, order], names[y])
    np.testing.assert_allclose(
        other.coef_[np.argsort(np.argsort(names))][:, np.argsort(order)], first.coef_, rtol=1e-6, atol=1e-8
    )
    assert np.array_equal(other.predict(X[:, order]), names[first.predict(X)])


def test_nothing_is_told_apart_where_nothing_differs():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 10)), np.arange(400) % 2
    accuracy = ShrinkageLDA().fit(X[:200], y[:200]).score(X[200:], y[200:])
    assert 0.35 < accuracy < 0.65


def test_keeps_the_contract_of_scikit_learn():
    check_estimator(ShrinkageLDA())
    assert clone(ShrinkageLDA()).get_params() == {}


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="all rows are of one class, 'a'"):
        ShrinkageLDA().fit(np.eye(3), ["a", "a", "a"])
