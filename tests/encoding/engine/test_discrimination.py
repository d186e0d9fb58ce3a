"""Pairwise decoding against scikit-learn's discriminant, one a pair and run, and at chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cerebridge.encoding.engine.discrimination import pairwise_accuracy


class Known:
    """A covariance that is known already, in the form scikit-learn asks for."""

    def __init__(self, covariance):
        self.covariance_ = covariance

    def get_params(self, deep=True):
        return {"covariance": self.covariance_}

    def fit(self, values):
        return self


def one_by_one(values, conditions, runs):
    """A classifier of scikit-learn for each pair and run."""
    n = conditions.max() + 1
    out = []
    for i, j in zip(*np.triu_indices(n, 1), strict=True):
        right = {i: [], j: []}
        for run in np.unique(runs):
            seen = runs != run
            means = np.stack([values[seen & (conditions == c)].mean(axis=0) for c in range(n)])
            residuals = values[seen] - means[conditions[seen]]
            scale = (residuals**2).mean(axis=0) ** 0.5
            covariance = ledoit_wolf(residuals / scale, assume_centered=True)[0] * np.outer(scale, scale)
            pair = np.isin(conditions, (i, j))
            lda = LinearDiscriminantAnalysis(
                solver="lsqr", priors=[0.5, 0.5], covariance_estimator=Known(covariance)
            )
            lda.fit(values[seen & pair], conditions[seen & pair])
            for c in (i, j):
                test = values[~seen & (conditions == c)]
                if len(test):
                    right[c] += (lda.predict(test) == c).tolist()
        out.append((np.mean(right[i]) + np.mean(right[j])) / 2)
    return np.array(out)


def design(unbalanced, n=5, k=4, units=8):
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 4, (n, k)) if unbalanced else np.full((n, k), 2)
    if unbalanced:
        counts[1, 2] = counts[3, 0] = 0
    conditions, runs = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices((n, k)))
    centres = rng.normal(size=(n, units))
    mixing = rng.normal(size=(units, units))
    return centres[conditions] + rng.normal(size=(len(runs), units)) @ mixing / 2, conditions, runs


@pytest.mark.parametrize("unbalanced", [False, True])
def test_agrees_with_a_classifier_for_each_pair_and_run(unbalanced):
    values, conditions, runs = design(unbalanced)
    found = pairwise_accuracy(*map(torch.tensor, (values, conditions, runs)))
    expected = one_by_one(values, conditions, runs)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert 0.5 < expected.mean() < 1


def test_many_recordings_at_once_and_known_noise(dtype):
    values, conditions, runs = (torch.tensor(part) for part in design(True))
    noise = torch.eye(8, dtype=torch.float64) * 2
    for covariance in (None, noise):
        many = torch.stack([values, values.flip(-1), 3 * values]).to(dtype)
        batched = None if covariance is None else covariance.expand(3, 8, 8)
        found = pairwise_accuracy(many, conditions, runs, batched)
        for each, row in zip(many, found, strict=True):
            np.testing.assert_array_equal(row, pairwise_accuracy(each, conditions, runs, covariance))


def test_accuracy_is_half_without_a_difference():
    rng = np.random.default_rng(0)
    conditions, runs = (torch.tensor(np.tile(axis.ravel(), 2)) for axis in np.indices((4, 5)))
    found = pairwise_accuracy(torch.tensor(rng.normal(size=(300, 40, 6))), conditions, runs)
    error = found.std(dim=0) / 300**0.5
    assert ((found.mean(dim=0) - 0.5).abs() < 4 * error).all()
    apart = torch.tensor(rng.normal(size=(40, 6))) + 20 * torch.eye(6)[conditions]
    assert pairwise_accuracy(apart, conditions, runs).tolist() == [1] * 6


def test_noise_needs_repeats_in_the_other_runs():
    values = torch.randn(4, 3)
    with pytest.raises(ValueError, match="no repeats in the other runs"):
        pairwise_accuracy(values, torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
