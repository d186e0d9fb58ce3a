"""Distributions of counts: scipy's probabilities, slopes of their own likelihoods, and scores of rates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import d2_tweedie_score, mean_poisson_deviance

from cerebridge.encoding.engine.counts import (
    Bernoulli,
    NegativeBinomial,
    Poisson,
    explained,
    mean_rate,
    poisson_deviance,
    pseudo_r2,
)
from cerebridge.encoding.engine.dispersion import moment_dispersion, update_dispersion

DISPERSION = torch.tensor([0.3, 2.0], dtype=torch.float64)
FAMILIES = [Poisson(), Poisson("softplus"), NegativeBinomial(DISPERSION), Bernoulli()]


def data(binary: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (50, 2)).astype(float)
    return torch.from_numpy(np.minimum(counts, 1) if binary else counts), torch.from_numpy(
        rng.normal(0, 2, (50, 2))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_potential_slope_and_curvature_are_those_of_the_likelihood(family):
    counts, predictor = data(isinstance(family, Bernoulli))
    predictor.requires_grad_()
    loss = -family.log_likelihood(counts, family.inverse_link(predictor))
    (slope,) = torch.autograd.grad(loss.sum(), predictor, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), predictor)
    potential, ours = family.potential(predictor, counts)
    torch.testing.assert_close(ours - counts, slope)
    torch.testing.assert_close(family.curvature(predictor, counts), curvature)
    constants = potential - counts * predictor - loss
    # what is left may depend on the counts only
    again = family.potential(predictor + 1, counts)[0] - counts * (predictor + 1)
    torch.testing.assert_close(
        again + family.log_likelihood(counts, family.inverse_link(predictor + 1)), constants
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_links_are_inverted_and_rates_are_finite(family):
    predictor = torch.linspace(-8, 4, 24, dtype=torch.float64).reshape(12, 2)
    torch.testing.assert_close(family.link(family.rate(predictor)), predictor, rtol=1e-6, atol=1e-6)
    for dtype in (torch.float32, torch.float64):
        extreme = family.rate(torch.tensor([[-1e6, 1e6]], dtype=dtype))
        assert torch.isfinite(extreme).all()
        assert (extreme > 0).all()
        assert torch.isfinite(family.log_likelihood(torch.ones(1, 2, dtype=dtype), extreme.to(dtype))[0, 1])


def test_probabilities_are_those_of_scipy():
    counts, predictor = data()
    rate = predictor.exp()
    np.testing.assert_allclose(
        Poisson().log_likelihood(counts, rate), stats.poisson.logpmf(counts.numpy(), rate.numpy())
    )
    size = 1 / DISPERSION
    expected = stats.nbinom.logpmf(counts.numpy(), size.numpy(), (size / (size + rate)).numpy())
    np.testing.assert_allclose(NegativeBinomial(DISPERSION).log_likelihood(counts, rate), expected)
    counts, predictor = data(binary=True)
    expected = stats.bernoulli.logpmf(counts.numpy(), torch.sigmoid(predictor).numpy())
    np.testing.assert_allclose(Bernoulli().log_likelihood(counts, torch.sigmoid(predictor)), expected)


def test_deviance_and_its_share_are_those_of_scikit_learn():
    counts, predictor = data()
    rate = predictor.exp()
    for k in range(2):
        assert poisson_deviance(counts, rate)[k] == pytest.approx(
            mean_poisson_deviance(counts[:, k], rate[:, k])
        )
        expected = d2_tweedie_score(counts[:, k], rate[:, k], power=1)
        assert pseudo_r2(counts, rate)[k] == pytest.approx(expected)
    assert pseudo_r2(counts, counts).tolist() == [1, 1]
    null = torch.tensor([0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        pseudo_r2(counts, null.expand(50, 2), null), torch.zeros(2, dtype=torch.float64)
    )
    worse = pseudo_r2(counts, counts.mean(0).expand(50, 2), null)
    assert (worse > 0).all()
    torch.testing.assert_close(
        pseudo_r2(counts, rate, kind="mcfadden"),
        1
        - Poisson().log_likelihood(counts, rate).sum(0)
        / Poisson().log_likelihood(counts, counts.mean(0)).sum(0),
    )


def test_what_has_no_likelihood_is_refused():
    counts, predictor = data()
    with pytest.raises(ValueError, match="predicted rates are negative in 2 of 2 columns"):
        pseudo_r2(counts, predictor)
    with pytest.raises(ValueError, match="counts are negative"):
        poisson_deviance(-counts, counts)
    with pytest.raises(ValueError, match="scoring='r2' is unknown"):
        explained(*torch.zeros(3, 1), "r2")


def test_rates_of_silence_are_positive():
    assert mean_rate(torch.zeros(10, 1)).item() == 0.05
    assert mean_rate(torch.ones(10, 1), 1.0).item() == 0.95
    assert mean_rate(torch.ones(10, 1)).item() == 1


def test_dispersion_maximises_the_likelihood():
    rng = np.random.default_rng(0)
    rate = torch.from_numpy(rng.uniform(0.5, 4, (3000, 2)))
    counts = torch.from_numpy(rng.poisson(rate * rng.gamma([2.0, 0.5], [0.5, 2.0], (3000, 2))).astype(float))
    family = NegativeBinomial(moment_dispersion(counts, counts.mean(0)))
    for _ in range(10):
        family = update_dispersion(
            family, [(slice(0, 2000), rate[:2000]), (slice(2000, None), rate[2000:])], counts
        )
    np.testing.assert_allclose(family.dispersion, [0.5, 2.0], rtol=0.15)
    best = family.log_likelihood(counts, rate).sum(0)
    for factor in (0.98, 1.02):
        other = NegativeBinomial(family.dispersion * factor)
        assert (other.log_likelihood(counts, rate).sum(0) < best).all()
