"""Three ways to one answer: primal, dual and rotated ridge give what fitting everything by itself gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, ShuffleSplit, TimeSeriesSplit

from cerebridge.encoding.engine.dual import Dual, Rotated, contrast, expand
from cerebridge.encoding.engine.moments import Split
from cerebridge.encoding.engine.paths import binary_scale, cross_validate, prepare
from cerebridge.encoding.engine.primal import Primal

ALPHAS = np.logspace(-3, 5, 9)
SHAPES = {"tall": (60, 10), "tall, small folds": (60, 25), "wide": (36, 90)}
CV = {
    "folds": KFold(4),
    "halves": KFold(2),
    "shuffled": KFold(4, shuffle=True, random_state=0),
    "overlapping": ShuffleSplit(3, random_state=0),
    "forward": TimeSeriesSplit(3),
}


def simulate(n: int, p: int, targets: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 5
    Y = X @ rng.standard_normal((p, targets)) / np.sqrt(p) + rng.standard_normal((n, targets)) * np.logspace(
        -1, 1, targets
    )
    return X, Y - 3


def to_splits(pairs: Sequence[tuple[np.ndarray, np.ndarray]], device: str = "cpu") -> list[Split]:
    return [Split(*(torch.from_numpy(np.sort(part)).to(device) for part in pair)) for pair in pairs]


def one_by_one(X, Y, pairs, alphas, scoring, fit_intercept):
    """Scores, positions and coefficients from scikit-learn, everything fitted by itself."""
    scores = np.zeros((len(pairs), Y.shape[1], len(alphas)))
    for k, (train, test) in enumerate(pairs):
        for a, alpha in enumerate(alphas):
            model = Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(X[train], Y[train])
            predicted = model.predict(X[test])
            if scoring == "r2":
                scores[k, :, a] = r2_score(Y[test], predicted, multioutput="raw_values")
            else:
                scores[k, :, a] = [
                    np.corrcoef(p, y)[0, 1] for p, y in zip(predicted.T, Y[test].T, strict=True)
                ]
    scores = scores.mean(0)
    chosen = scores.argmax(1)
    model = Ridge(alphas[chosen], fit_intercept=fit_intercept, solver="svd").fit(X, Y)
    return scores, chosen, model.coef_, np.broadcast_to(model.intercept_, Y.shape[1])


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
@pytest.mark.parametrize("cv", CV)
@pytest.mark.parametrize("shape", SHAPES)
def test_all_ways_give_what_fitting_everything_by_itself_gives(shape, cv, scoring, fit_intercept, device):
    X, Y = simulate(*SHAPES[shape])
    pairs = list(CV[cv].split(X))
    expected = one_by_one(X, Y, pairs, ALPHAS, scoring, fit_intercept)
    for way in (Primal, Dual, Rotated):
        if way is Dual and cv == "forward":
            continue  # its training sets are not all that is outside the block
        arguments = (torch.from_numpy(ALPHAS).to(device), scoring, fit_intercept)
        ridge = way(torch.from_numpy(X).to(device), to_splits(pairs, device), *arguments)
        fitted = ridge.fit(torch.from_numpy(Y).to(device))
        scores, chosen, coef, intercept = (x.cpu().numpy() for x in fitted)
        np.testing.assert_allclose(scores, expected[0], atol=1e-8)
        np.testing.assert_array_equal(chosen, expected[1])
        np.testing.assert_allclose(coef, expected[2], atol=1e-9)
        np.testing.assert_allclose(intercept, expected[3], atol=1e-8)


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
@pytest.mark.parametrize("shape", SHAPES)
def test_single_precision_is_near_double(shape, scoring, device):
    X, Y = (torch.from_numpy(x).to(device) for x in simulate(*SHAPES[shape]))
    splits = to_splits(list(KFold(4).split(X)), device)
    alphas = torch.from_numpy(ALPHAS).to(device)
    for way in (Primal, Dual, Rotated):
        single = way(X.float(), splits, alphas, scoring, True).fit(Y.float())
        double = way(X, splits, alphas, scoring, True).fit(Y)
        assert {x.dtype for x in (single.scores, single.coef, single.intercept)} == {torch.float32}
        torch.testing.assert_close(single.scores.double(), double.scores, atol=3e-5, rtol=1e-4)
        # the choice may differ where penalties are equally good to single precision
        loss = double.scores.amax(1) - double.scores.gather(1, single.chosen[:, None])[:, 0]
        assert loss.max() < 1e-5


@pytest.mark.parametrize("way", [Primal, Dual, Rotated])
def test_blocks_of_targets_do_not_change_the_answer(way):
    X, Y = (torch.from_numpy(x) for x in simulate(30, 12, targets=7))
    arguments = (to_splits(list(KFold(3).split(X))), torch.from_numpy(ALPHAS), "r2", True)
    together = way(X, *arguments).fit(Y)
    for at_once in (1, 3, 100):
        path, blocks = cross_validate(way.__name__.lower(), X, Y, *arguments, at_once)
        assert path == way.__name__.lower()
        for found, expected in zip(blocks, together, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("path", ["primal", "dual", "rotated"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("size_x", "size_y"), [(2.0**-40, 2.0**-40), (2.0**40, 2.0**-40), (2.0**-40, 2.0**60)]
)
@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
def test_the_units_of_either_side_change_nothing(path, dtype, size_x, size_y, scoring):
    X, Y = (torch.from_numpy(x).to(dtype) for x in simulate(30, 12))
    splits, alphas = to_splits(list(KFold(3).split(X))), torch.from_numpy(ALPHAS)
    _, plain = cross_validate(path, X, Y, splits, alphas, scoring, True, 10)
    _, scaled = cross_validate(path, X * size_x, Y * size_y, splits, alphas * size_x**2, scoring, True, 10)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(scaled.scores, plain.scores, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(scaled.coef * (size_x / size_y), plain.coef, rtol=tolerance, atol=tolerance)


def test_scales_are_powers_of_two_and_only_where_needed():
    x = torch.tensor([[1e-30, 5.0, 1e30, 0.0], [-3e-30, 700.0, 1.0, 0.0]], dtype=torch.float64)
    scales = binary_scale(x, 0)
    assert scales[1] == scales[3] == 1
    assert (torch.frexp(scales).mantissa == 0.5).all()
    assert ((x * scales).abs().amax(0)[[0, 2]] - 1.5).abs().max() <= 0.5
    assert binary_scale(x) == scales[2]


def test_held_out_rows_change_nothing_that_is_fitted_without_them():
    X = torch.from_numpy(simulate(40, 8)[0])
    splits = to_splits(list(KFold(4).split(X)))
    changed = X.clone()
    changed[splits[1].test] = 1e9 * torch.rand(10, 8).double()
    alphas = torch.from_numpy(ALPHAS)
    before, after = (Primal(x, splits, alphas, "r2", True).held_out for x in (X, changed))
    for name in ("vectors", "inverse"):
        assert torch.equal(getattr(before[1], name), getattr(after[1], name))
        assert not torch.equal(getattr(before[0], name), getattr(after[0], name))


@pytest.mark.parametrize("way", [Primal, Rotated])
@pytest.mark.parametrize("shape", SHAPES)
def test_features_of_very_different_size(shape, way):
    X, Y = simulate(*SHAPES[shape])
    X *= np.logspace(0, 7, X.shape[1])
    alphas = np.array([1e-4, 1e-1, 1e2])
    pairs = list(KFold(4).split(X))
    scores, _, coef, _ = one_by_one(X, Y, pairs, alphas, "r2", True)
    fitted = way(torch.from_numpy(X), to_splits(pairs), torch.from_numpy(alphas), "r2", True).fit(
        torch.from_numpy(Y)
    )
    np.testing.assert_allclose(fitted.scores.numpy(), scores, atol=1e-4)
    np.testing.assert_allclose(fitted.coef.numpy() @ X.T, coef @ X.T, atol=1e-4)


def test_a_rough_kernel_is_not_trusted():
    X, _ = simulate(*SHAPES["wide"])
    X[:, 0] *= 1e9
    arguments = (torch.from_numpy(X), to_splits(list(KFold(4).split(X))))
    assert isinstance(prepare("dual", *arguments, torch.tensor([1e13]).double(), "r2", True)[1], Dual)
    assert isinstance(prepare("dual", *arguments, torch.tensor([1e-9]).double(), "r2", True)[1], Rotated)
    assert isinstance(prepare("primal", *arguments, torch.tensor([1.0]).double(), "r2", True)[1], Primal)


@pytest.mark.parametrize("way", [Primal, Dual, Rotated])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_correlation_survives_penalties_that_flatten_the_prediction(way, dtype):
    X, Y = simulate(40, 12)
    pairs = list(KFold(4).split(X))
    limit = [  # an infinite penalty predicts X X'Y, up to scale
        [
            np.corrcoef((X[te] - X[tr].mean(0)) @ (X[tr] - X[tr].mean(0)).T @ (y[tr] - y[tr].mean()), y[te])[
                0, 1
            ]
            for y in Y.T
        ]
        for tr, te in pairs
    ]
    alphas = torch.tensor([1e9, 1e15, 1e60], dtype=torch.float64)
    fitted = way(torch.from_numpy(X).to(dtype), to_splits(pairs), alphas, "pearsonr", True).fit(
        torch.from_numpy(Y).to(dtype)
    )
    expected = np.broadcast_to(np.mean(limit, 0)[:, None], (6, 3))
    np.testing.assert_allclose(fitted.scores.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("way", [Primal, Dual, Rotated])
def test_constant_targets_and_features(way):
    X, Y = simulate(30, 5)
    X[:, 2] = 0.1
    Y[:, 0] = 0.1
    Y[:10, 1] = 0.1  # does not vary in the first fold only
    pairs = list(KFold(3).split(X))
    fitted = way(torch.from_numpy(X), to_splits(pairs), torch.from_numpy(ALPHAS), "r2", True).fit(
        torch.from_numpy(Y)
    )
    assert not fitted.coef[0].any()
    assert fitted.intercept[0] == 0.1
    assert fitted.scores[0].isnan().all()
    assert fitted.chosen[0] == len(ALPHAS) - 1
    assert not fitted.coef[:, 2].abs().max() > 1e-12
    scores, chosen, _, _ = one_by_one(X, Y[:, 1:2], pairs[1:], ALPHAS, "r2", True)
    np.testing.assert_allclose(fitted.scores[1].numpy(), scores[0], atol=1e-9)
    assert fitted.chosen[1] == chosen[0]


@pytest.mark.parametrize("way", [Primal, Dual, Rotated])
def test_features_that_never_vary_predict_the_mean(way):
    _, Y = simulate(20, 3)
    X = torch.full((20, 3), 0.1, dtype=torch.float64)
    fitted = way(X, to_splits(list(KFold(4).split(X))), torch.ones(1).double(), "pearsonr", True).fit(
        torch.from_numpy(Y)
    )
    assert fitted.coef.abs().max() == 0
    np.testing.assert_allclose(fitted.intercept.numpy(), Y.mean(0))
    assert fitted.scores.abs().max() < 1e-12


def test_contrasts_lose_nothing_but_the_mean():
    rows = torch.rand(7, 4, dtype=torch.float64)
    contrasts = contrast(rows)
    assert contrasts.shape == (6, 4)
    torch.testing.assert_close(expand(contrasts), rows - rows.mean(0))
    torch.testing.assert_close(contrasts.T @ contrasts, (rows - rows.mean(0)).T @ (rows - rows.mean(0)))
