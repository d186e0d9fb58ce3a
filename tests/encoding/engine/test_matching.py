"""Matched units: assignments by brute force, transport against one large linear program."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from cerebridge.encoding.engine import matching as engine
from cerebridge.encoding.engine.matching import assign, matched_correlation, transport


def similarity(seed, p, q):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (p, q)))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_assignment_is_the_best_of_all(shape):
    values = similarity(0, *shape)
    match = assign(values)
    wide = values.numpy() if shape[0] <= shape[1] else values.numpy().T
    rows = np.arange(len(wide))
    best = max(wide[rows, list(columns)].sum() for columns in permutations(range(wide.shape[1]), len(wide)))
    assert float(values[match.rows, match.columns].sum()) == pytest.approx(best)
    torch.testing.assert_close(match.weights, torch.full((min(shape),), 1 / min(shape), dtype=torch.float64))


@pytest.mark.parametrize("shape", [(6, 6), (3, 5), (12, 30), (31, 20), (1, 7), (8, 4)])
def test_transport_is_optimal_and_weighs_all_units_alike(shape, monkeypatch):
    monkeypatch.setattr(engine, "PARTNERS", 2)
    p, q = shape
    values = similarity(1, p, q)
    match = transport(values)
    plan = np.zeros(shape)
    np.add.at(plan, (match.rows.numpy(), match.columns.numpy()), match.weights.numpy())
    np.testing.assert_allclose(plan.sum(1), 1 / p, atol=1e-9)
    np.testing.assert_allclose(plan.sum(0), 1 / q, atol=1e-9)
    sums = np.r_[np.kron(np.eye(p), np.ones(q)), np.kron(np.ones(p), np.eye(q))].reshape(p + q, p * q)
    wanted = linprog(-values.numpy().ravel(), A_eq=sums, b_eq=np.r_[np.full(p, 1 / p), np.full(q, 1 / q)])
    assert (plan * values.numpy()).sum() == pytest.approx(-wanted.fun, abs=1e-9)


def test_transport_splits_a_unit_between_its_copies():
    match = transport(torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]))
    assert sorted(zip(match.rows.tolist(), match.columns.tolist(), strict=True)) == [
        (0, 0),
        (0, 2),
        (1, 1),
        (1, 3),
    ]
    torch.testing.assert_close(match.weights, torch.full((4,), 0.25))


def units(seed, n=20, p=5):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, p)))


@pytest.mark.parametrize("soft", [False, True])
def test_in_sample_correlation_by_brute_force(soft):
    x, y, order = units(0), units(1), torch.arange(20)[None]
    r = np.corrcoef(x.T, y.T)[:5, 5:]
    best = max(r[range(5), list(columns)].mean() for columns in permutations(range(5)))
    assert float(matched_correlation([x], [y], order, soft=soft)) == pytest.approx(best)
    distance = matched_correlation([x], [y], order, soft=soft, distance=True)
    assert float(distance) == pytest.approx(np.sqrt(2 - 2 * best))


def test_held_out_correlation_uses_the_matching_of_the_training_stimuli():
    x, y = units(0), units(1, p=7)
    order = torch.arange(20)[None]
    folds = [(torch.arange(10, 20), torch.arange(10)), (torch.arange(10), torch.arange(10, 20))]
    found = float(matched_correlation([x], [y], order, folds))
    wanted = []
    for train, test in folds:
        rows, columns, _ = assign(torch.from_numpy(np.corrcoef(x[train].T, y[train].T)[:5, 5:]))
        r = np.corrcoef(x[test].T, y[test].T)[:5, 5:]
        wanted.append(r[rows, columns].mean())
    assert found == pytest.approx(np.mean(wanted))
    assert found < float(matched_correlation([x], [y], order))


def test_pairs_among_themselves_are_computed_once_and_mirrored():
    sides = [units(k, p=4 + k) for k in range(3)]
    orders = torch.arange(20)[None]
    torch.testing.assert_close(
        matched_correlation(sides, sides, orders, soft=True),
        matched_correlation(sides, list(sides), orders, soft=True),
    )


def test_a_unit_that_is_still_in_a_fold_counts_as_uncorrelated():
    x = units(0, p=2)
    x[:10, 1] = 0
    folds = [(torch.arange(10, 20), torch.arange(10))]
    assert float(matched_correlation([x], [x], torch.arange(20)[None], folds)) == pytest.approx(0.5)
