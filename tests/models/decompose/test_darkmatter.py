"""Dark matter of dictionaries: the share of errors that is linear, against theory, and only on held-out samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from cerebridge.models.decompose import SparseAutoencoder, report_dark_matter
from cerebridge.models.decompose.pursuit import pursue

N, UNITS, ATOMS = 6000, 20, 60


@pytest.fixture(scope="module")
def planted():
    """Sums of few directions, the directions, and how much of each is in a sample."""
    rng = np.random.default_rng(3)
    atoms = rng.standard_normal((ATOMS, UNITS))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = rng.exponential(size=(N, ATOMS)) * (rng.random((N, ATOMS)) < 0.1)
    return codes @ atoms, atoms, codes


def test_a_linear_error_is_all_linear_and_noise_is_not(planted):
    x = planted[0]
    rng = np.random.default_rng(0)
    linear = report_dark_matter(x, x + x @ rng.standard_normal((UNITS, UNITS)) + 3)
    assert float(linear["r2_error"][0]) == pytest.approx(1, abs=1e-9)
    assert float(linear["unexplained_nonlinear"][0]) == pytest.approx(0, abs=1e-9)
    noise = report_dark_matter(x, x + rng.standard_normal(x.shape))
    assert float(noise["r2_error"][0]) == pytest.approx(0, abs=0.02)
    assert float(noise["r2_norm"][0]) == pytest.approx(0, abs=0.02)


def test_missing_directions_and_shrinkage_are_linear_as_far_as_theory_says(planted):
    x, atoms, codes = planted
    found = np.arange(ATOMS) < 45
    x_hat = 0.9 * codes[:, found] @ atoms[found]
    report = report_dark_matter(x, x_hat)
    # e = x_hat - x is -A' c with known covariances, since the codes of all directions are independent and alike
    weights = np.where(found, 0.1, 1.0)
    cross = atoms.T @ (weights[:, None] * atoms)
    own = atoms.T @ (weights[:, None] ** 2 * atoms)
    explained = np.diag(cross @ np.linalg.solve(atoms.T @ atoms, cross)) / np.diag(own)
    assert float(report["r2_error"][0]) == pytest.approx(explained.mean(), abs=0.02)
    assert float(report["r2_error"][0]) == pytest.approx(0.53, abs=0.06)
    assert float(report["unexplained"][0]) == pytest.approx(
        np.square(x_hat - x)[report["held_out"]].sum() / np.square(x - x.mean(0))[report["held_out"]].sum(),
        rel=0.02,
    )


def test_it_equals_scikit_learn_on_the_same_samples(planted):
    x, atoms, codes = planted
    x_hat = 0.8 * codes[:, :30] @ atoms[:30]
    train, test = np.arange(2000), np.arange(2500, 4000)
    report = report_dark_matter(x, x_hat, train=train, test=test, keep_parts=True)
    error = x_hat - x
    predicted = LinearRegression().fit(x[train], error[train]).predict(x[test])
    assert float(report["r2_error"][0]) == pytest.approx(r2_score(error[test], predicted))
    np.testing.assert_allclose(report["linear_error"][0], predicted, atol=1e-5)
    np.testing.assert_allclose(
        report["linear_error"][0] + report["nonlinear_error"][0], error[test], atol=1e-5
    )
    norms = np.linalg.norm(error, axis=1)
    sized = LinearRegression().fit(x[train], norms[train]).predict(x[test])
    assert float(report["r2_norm"][0]) == pytest.approx(r2_score(norms[test], sized))


def test_baselines_predict_what_they_may(planted):
    x = planted[0]
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 30, N)
    size = rng.exponential(size=30)[tokens]
    direction = rng.standard_normal(x.shape)
    x_hat = x + size[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    report = report_dark_matter(
        x, x_hat, tokens=[f"t{t}" for t in tokens], predictors={"size": size, "none": rng.random(N)}
    )
    r2 = dict(zip(report["baseline"].values.tolist(), report["r2_baseline"].values[0], strict=True))
    assert r2["token"] == pytest.approx(1) and r2["size"] == pytest.approx(1)
    assert abs(r2["none"]) < 0.01 and abs(r2["activation_norm"]) < 0.01


def test_errors_follow_power_laws_in_width(planted):
    x = planted[0]
    direction = np.random.default_rng(0).standard_normal(x.shape)
    floor = np.random.default_rng(1).standard_normal(x.shape)
    widths = {w: x - 4 * w**-0.5 * x + 0.1 * floor for w in (16, 64, 256)}
    report = report_dark_matter(x, widths)
    exponent = dict(zip(report["part"].values.tolist(), report["exponent"].values, strict=True))
    assert exponent["linear"] == pytest.approx(-1, abs=0.02)
    assert exponent["nonlinear"] == pytest.approx(0, abs=0.02)
    exact = report_dark_matter(x, {w: x + w**-0.3 * direction for w in widths})
    np.testing.assert_allclose(exact["sample_exponent"], -0.3, atol=1e-9)


def test_what_is_put_back_restores_the_loss(planted):
    x = planted[0]
    x_hat = 0.5 * x + 0.3 * np.random.default_rng(0).standard_normal(x.shape)
    report = report_dark_matter(
        x, x_hat, loss=lambda given, rows: float((given - torch.from_numpy(x[rows]).float()).square().mean())
    )
    loss = dict(zip(report["put_back"].values.tolist(), report["loss"].values[0], strict=True))
    assert loss["everything"] == 0 and loss["nothing"] == pytest.approx(
        np.square(x_hat - x)[report["held_out"]].mean(), rel=1e-4
    )
    assert loss["linear"] == pytest.approx(0.09, rel=0.02)
    assert loss["nonlinear"] == pytest.approx(loss["nothing"] - 0.09, rel=0.05)


def test_fits_are_never_judged_where_they_were_made(planted):
    x = planted[0]
    with pytest.raises(
        ValueError, match="10 samples are both fitted to and judged on, and an in-sample fit says nothing"
    ):
        report_dark_matter(x, 0.9 * x, train=np.arange(100), test=np.arange(90, 300))
    with pytest.raises(ValueError, match="groups are both fitted to and judged on"):
        report_dark_matter(
            x, 0.9 * x, groups=np.arange(N) // 2, train=np.arange(101), test=np.arange(101, 300)
        )
    with pytest.raises(ValueError, match="are too few; give more samples, or fewer units"):
        report_dark_matter(x[:30], 0.9 * x[:30])
    with pytest.raises(ValueError, match="train and test belong together"):
        report_dark_matter(x, x, train=[0])
    with pytest.raises(ValueError, match="does not vary over the held-out samples"):
        report_dark_matter(x, x)
    with pytest.raises(ValueError, match="x_hat is 6000 samples × 19 units, but x is 6000 × 20"):
        report_dark_matter(x, x[:, 1:])
    with pytest.raises(ValueError, match="the predictor 'l0' must be one finite number for each of 6000"):
        report_dark_matter(x, 0.9 * x, predictors={"l0": np.full(N, np.nan)})
    grouped = report_dark_matter(x, 0.9 * x, groups=np.arange(N) // 10)
    assert set(np.unique(grouped["held_out"] // 10, return_counts=True)[1]) == {10}


def test_pursuit_finds_codes_that_an_encoder_misses(planted):
    _, atoms, _ = planted
    rng = np.random.default_rng(0)
    codes = np.zeros((500, ATOMS))
    for row in codes:
        row[rng.choice(ATOMS, 3, replace=False)] = 1 + rng.random(3)
    x = torch.from_numpy(codes @ atoms)
    found = pursue(x, torch.from_numpy(atoms), 6)
    assert (found > 0).sum(1).max() <= 6 and found.min() >= 0
    one_shot = torch.zeros_like(found).scatter_(1, (x @ torch.from_numpy(atoms).T).topk(6).indices, 1.0)
    one_shot *= (x @ torch.from_numpy(atoms).T).relu()
    errors = [
        float((given @ torch.from_numpy(atoms) - x).square().sum() / x.square().sum())
        for given in (found, one_shot)
    ]
    assert errors[0] < 0.1 < errors[1]
    signed = pursue(-x, torch.from_numpy(atoms), 6, positive=False)
    assert signed.min() < 0
    # directions at right angles: exactly what matching pursuit finds
    square = torch.linalg.qr(
        torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )[0]
    given = torch.tensor([[3.0, 0, 1, 0, 2, 0]], dtype=torch.float64)
    torch.testing.assert_close(pursue(given @ square, square, 2), given * (given > 1), atol=1e-9, rtol=0)


def test_the_estimator_takes_pursuit_for_its_encoder(planted):
    x = planted[0].astype(np.float32)
    sae = SparseAutoencoder(60, k=6, max_epochs=20, batch_size=256, learning_rate=5e-3).fit(x)
    encoder = sae.score(x)
    pursuit = sae.set_params(inference="pursuit").score(x)
    assert pursuit > encoder + 0.02
