"""Penalised regression from moments: solutions, folds that keep no trace, scores, patterns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge

from cerebridge.encoding.engine.lagged import Lagged, materialise, window
from cerebridge.encoding.engine.moments import Split
from cerebridge.encoding.engine.scoring import pearsonr, r2
from cerebridge.encoding.engine.temporal import (
    Penalty,
    Recording,
    choose_penalty,
    differences,
    leave_one_out,
    patterns,
    score,
    solve,
)


def simulated(n: int = 80, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, 2))) + 1, torch.from_numpy(
        rng.standard_normal((n, 3))
    ) - 2


def design_of(x: torch.Tensor, runs: torch.Tensor) -> torch.Tensor:
    parts = [materialise(window(x[runs == run], -2, 4, "mean")[0], 4) for run in runs.unique()]
    return torch.cat(parts).reshape(len(x), -1)


@pytest.mark.parametrize("rank", [6, 3])
def test_solve_gives_the_shortest_solution(rank):
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((rank, 6)))
    matrix, right = rows.T @ rows, rows.T @ torch.ones(rank, 2, dtype=torch.float64)
    torch.testing.assert_close(
        solve(matrix, right), torch.linalg.pinv(matrix, rtol=1e-12) @ right, atol=1e-7, rtol=1e-7
    )


@pytest.mark.parametrize("order", [1, 2])
def test_differences_penalise_what_is_not_straight(order):
    penalty = differences(7, order)
    straight = torch.arange(7.0, dtype=torch.float64) ** (order - 1)
    assert float(straight @ penalty @ straight) == pytest.approx(0)
    bent = torch.arange(7.0, dtype=torch.float64) ** order
    assert float(bent @ penalty @ bent) > 1


@pytest.mark.parametrize("n", [2, 3, 7])
def test_leaving_out_is_the_sum_of_the_others(n):
    x, y = simulated(10 * n)
    made = []

    def make(k: int) -> Lagged:
        made.append(k)
        rows = slice(10 * k, 10 * k + 10)
        return Lagged.of(window(x[rows], -1, 3, "mean")[0], y[rows], 3)

    found = dict(leave_one_out(make, n))
    assert sorted(found) == list(range(n))
    assert len(made) <= n * np.ceil(np.log2(n))
    for k, rest in found.items():
        others = [make(j) for j in range(n) if j != k]
        total = others[0]
        for other in others[1:]:
            total = total + other
        torch.testing.assert_close(rest.gram.products, total.gram.products)
        torch.testing.assert_close(rest.square, total.square)


def test_held_out_rows_leave_no_trace():
    x, y = simulated()
    runs = torch.arange(80) // 20
    splits = [Split((runs != k).nonzero()[:, 0], (runs == k).nonzero()[:, 0]) for k in range(4)]
    before = [pair[0].gram.products for pair in Recording(x, y, runs, -2, 4, "mean", True).folds(splits)]
    order = [
        int(held.gram.mean_a[0] * 1e9) for _, held in Recording(x, y, runs, -2, 4, "mean", True).folds(splits)
    ]
    for position in range(4):
        run = next(
            k
            for k in range(4)
            if int(design_of(x, runs)[runs == k].mean(0)[0] * 1e9) in (order[position], order[position] + 1)
        )
        changed = x.clone()
        changed[runs == run] = 1e12
        after = [
            pair[0].gram.products for pair in Recording(changed, y, runs, -2, 4, "mean", True).folds(splits)
        ]
        assert torch.equal(before[position], after[position])
        assert not torch.equal(before[position - 1], after[position - 1])


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("scoring", "function"), [("r2", r2), ("pearsonr", pearsonr)])
def test_scores_from_moments_are_those_of_predictions(scoring, function, fit_intercept):
    x, y = simulated()
    runs = torch.arange(80) // 20
    design = design_of(x, runs)
    train, test = (runs < 3).nonzero()[:, 0], (runs == 3).nonzero()[:, 0]
    recording = Recording(x, y, runs, -2, 4, "mean", fit_intercept)
    ((training, held),) = recording.folds([Split(train, test)])
    penalty = Penalty(torch.eye(4).double(), torch.tensor([5.0]).double(), torch.ones(1, 2).double())
    weights = penalty.fit(training, torch.zeros(3, dtype=torch.int64))
    ridge = Ridge(5.0, fit_intercept=fit_intercept).fit(design[train], y[train])
    np.testing.assert_allclose(weights.T, ridge.coef_, atol=1e-9)
    expected = function(y[test], torch.from_numpy(ridge.predict(design[test])))
    torch.testing.assert_close(score(weights, training, held, scoring), expected)


def test_one_penalty_for_all_targets_is_the_best_on_average():
    penalty = Penalty(torch.eye(1), torch.tensor([1.0, 2.0]), torch.ones(1, 1))
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.2], [0.0, 0.3]])
    assert choose_penalty(scores, penalty, per_target=True).tolist() == [0, 1, 1]
    assert choose_penalty(scores, penalty, per_target=False).tolist() == [0, 0, 0]


def test_patterns_are_the_regression_of_the_data_on_the_reconstruction():
    rng = np.random.default_rng(0)
    rows, weights = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 5)), rng.standard_normal((5, 2))
    rows -= rows.mean(0)
    found = patterns(torch.from_numpy(rows.T @ rows), torch.from_numpy(weights))
    np.testing.assert_allclose(found, LinearRegression().fit(rows @ weights, rows).coef_, atol=1e-9)


def test_pieces_within_a_run_are_refused():
    x, y = simulated()
    rows = torch.arange(80)
    split = Split(rows[rows % 2 == 0], rows[rows % 2 == 1])
    with pytest.raises(ValueError, match="holds out 40 pieces of 1 runs"):
        list(Recording(x, y, torch.zeros(80), -2, 4, "mean", True).folds([split]))
