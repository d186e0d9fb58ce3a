"""Regressions refitted to overlapping training sets against scikit-learn, one fit a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold, ShuffleSplit

from cerebridge.encoding.engine import pls, refits
from cerebridge.encoding.engine.moments import Moments, Split


def table(n: int = 80, p: int = 20, t: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -0.5 + 3
    y = x @ rng.standard_normal((p, t)) + rng.standard_normal((n, t))
    return torch.from_numpy(x), torch.from_numpy(y)


def shuffled(n: int, splits: int, seed: int = 0, test_size: float = 0.1) -> list[Split]:
    drawn = ShuffleSplit(splits, test_size=test_size, random_state=seed).split(np.zeros(n))
    return [Split(*(torch.from_numpy(np.sort(side)) for side in sides)) for sides in drawn]


@given(st.integers(1, 12), st.integers(0, 1000), st.floats(0.05, 0.9))
@settings(max_examples=20, deadline=None)
def test_shared_moments_are_those_of_every_training_set(splits: int, seed: int, test_size: float) -> None:
    x, y = table(seed=seed)
    drawn = shuffled(len(x), splits, seed, test_size)
    found = list(refits.training_moments(x, y, drawn))
    assert len(found) == splits
    for moments, split in zip(found, drawn, strict=True):
        expected = Moments.of(x[split.train], torch.cat([x, y], 1)[split.train])
        assert moments.n == len(split.train)
        torch.testing.assert_close(moments.mean_b, expected.mean_b, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(moments.products, expected.products, rtol=1e-10, atol=1e-10)


def test_a_held_out_row_leaves_no_trace() -> None:
    """A row as large as the rounding of everything else: taken off a sum, it would ruin it."""
    x, y = table()
    splits = [Split(*map(torch.from_numpy, sides)) for sides in KFold(8).split(x)]
    outlying = x.clone()
    outlying[3] *= 1e14
    for clean, wild, split in zip(
        refits.ridge_predictions(x, y, splits, 1.0),
        refits.ridge_predictions(outlying, y, splits, 1.0),
        splits,
        strict=True,
    ):
        if 3 in split.test.tolist():
            rows = split.test != 3
            torch.testing.assert_close(wild[rows], clean[rows], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("p", [20, 200], ids=["narrow", "wide"])
@pytest.mark.parametrize("kind", ["pls", "ridge", "ridge_cv"])
def test_predictions_are_scikit_learns(kind: str, p: int) -> None:
    x, y = table(p=p)
    splits = shuffled(len(x), 4)
    alphas = np.logspace(-2, 3, 9)
    ours: dict[str, Any] = {
        "pls": lambda: refits.pls_predictions(x, y, splits, 6),
        "ridge": lambda: refits.ridge_predictions(x, y, splits, 2.5),
        "ridge_cv": lambda: refits.ridge_cv_predictions(x, y, splits, torch.from_numpy(alphas)),
    }
    theirs = {"pls": PLSRegression(6, scale=False), "ridge": Ridge(2.5), "ridge_cv": RidgeCV(alphas)}[kind]
    for predicted, split in zip(ours[kind](), splits, strict=True):
        theirs.fit(x[split.train].numpy(), y[split.train].numpy())
        np.testing.assert_allclose(predicted, theirs.predict(x[split.test].numpy()), atol=1e-7)


@pytest.mark.parametrize("p", [20, 200], ids=["narrow", "wide"])
def test_least_squares_has_minimal_norm(p: int) -> None:
    x, y = table(p=p)
    splits = shuffled(len(x), 3)
    for predicted, split in zip(refits.linear_predictions(x, y, splits), splits, strict=True):
        train, mean = x[split.train].numpy(), x[split.train].numpy().mean(0)
        coef = np.linalg.pinv(train - mean, rcond=1e-12) @ (y[split.train] - y[split.train].mean(0)).numpy()
        expected = (x[split.test].numpy() - mean) @ coef + y[split.train].mean(0).numpy()
        np.testing.assert_allclose(predicted, expected, atol=1e-7)


def test_the_best_unit_is_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = table(p=60)
    x[:, 5] = 1.0  # a unit that does not vary is never the best
    splits = shuffled(len(x), 3)
    whole = list(refits.best_unit_predictions(x, y, splits))
    monkeypatch.setattr(refits, "BLOCK", 2)
    for predicted, again, split in zip(
        whole, refits.best_unit_predictions(x, y, splits), splits, strict=True
    ):
        assert torch.equal(predicted, again)
        train = np.delete(x[split.train].numpy(), 5, 1)
        r = np.corrcoef(train.T, y[split.train].numpy().T)[: train.shape[1], train.shape[1] :]
        expected = np.delete(x[split.test].numpy(), 5, 1)[:, r.argmax(0)]
        np.testing.assert_array_equal(predicted, expected)


def test_narrowing_keeps_inner_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refits, "BLOCK", 16)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 200)).astype(np.float32))
    small = refits.narrowed(x)
    assert small.shape == (9, 9) and small.dtype == torch.float64
    torch.testing.assert_close(small @ small.T, x.double() @ x.double().T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(60, 12, 5), (60, 12, 40), (40, 6, 1)])
def test_components_from_products_are_those_from_samples(shape: tuple[int, int, int]) -> None:
    x, y = (side - side.mean(0) for side in table(*shape))
    components = pls.fit(x, y, 5, 1e-6, 500)
    expected = components.rotations @ components.loadings.T
    found = pls.coefficients(x.T @ x, x.T @ y, 5, 1e-6, 500)
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("noise", [1e-9, 1e-7, 1e-5, "float32", "outlier"])
def test_components_that_hardly_vary_keep_their_digits(noise: float | str) -> None:
    """Ten strong directions and many faint ones, which products of features alone would mistake for rounding."""
    rng = np.random.default_rng(0)
    strong = rng.standard_normal((120, 10)) @ rng.standard_normal((10, 60))
    x = strong + (noise if isinstance(noise, float) else 0.0) * rng.standard_normal((120, 60))
    if noise == "float32":
        x = strong.astype(np.float32).astype(np.float64)
    if noise == "outlier":
        x = rng.standard_normal((120, 60))
        x[5] *= 1e6
    y = x @ rng.standard_normal((60, 30)) / np.abs(x).max() + rng.standard_normal((120, 30))
    splits = shuffled(120, 2)
    sides = [torch.from_numpy(side) for side in (x, y)]
    for split, predicted in zip(splits, refits.pls_predictions(*sides, splits, 25), strict=True):
        train, test = (np.asarray(rows) for rows in split)
        expected = PLSRegression(25, scale=False).fit(x[train], y[train]).predict(x[test])
        np.testing.assert_allclose(predicted.numpy(), expected, rtol=0, atol=1e-5)
    if noise == 1e-7:
        x, y = (side - side.mean(0) for side in sides)
        assert pls.coefficients(x.T @ x, x.T @ y, 25, 1e-6, 500) is None
        found = pls.fit(x, y, 25, 1e-6, 500)
        peer = PLSRegression(25, scale=False).fit(x.numpy(), y.numpy()).predict(x.numpy())
        np.testing.assert_allclose((x @ found.rotations @ found.loadings.T).numpy(), peer, atol=1e-6)


def test_where_nothing_is_left_components_end() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((30, 3)))
    x = x - x.mean(0)
    y = x[:, :1] @ torch.ones(1, 4, dtype=torch.float64)
    found = pls.coefficients(x.T @ x, x.T @ y, 10, 0.0, 500)
    assert found is not None
    assert bool(found.isfinite().all())
    torch.testing.assert_close(x @ found, y, rtol=1e-6, atol=1e-8)


def test_without_penalty_dependent_features_share_their_weight() -> None:
    x, y = table(p=4)
    x = torch.cat([x, x], 1)
    splits = shuffled(len(x), 2)
    for doubled, single in zip(
        refits.ridge_predictions(x, y, splits, 0.0),
        refits.ridge_predictions(x[:, :4], y, splits, 0.0),
        strict=True,
    ):
        torch.testing.assert_close(doubled, single, rtol=1e-6, atol=1e-6)
