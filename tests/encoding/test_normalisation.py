"""Ceilings beside scores: in the unit of what is scored, so that the perfect model comes out at 1."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cerebridge import encoding, neuro


class Perfect(RegressorMixin, BaseEstimator):
    """Is told the expected responses."""

    def fit(self, x, y):
        return self

    def predict(self, x):
        return x


def noisy(repeats, n_units=20, n_times=None, seed=0):
    """What units respond to 300 stimuli, and noisy repeats of it."""
    rng = np.random.default_rng(seed)
    shape = (300, n_units) if n_times is None else (300, n_units, n_times)
    signal = rng.standard_normal(shape)
    ids = np.repeat(np.arange(300), np.resize(repeats, 300))
    noise = np.linspace(0.4, 1, n_units).reshape(1, n_units, *[1] * (len(shape) - 2))
    values = signal[ids] + noise * rng.standard_normal((len(ids), *shape[1:]))
    bins = (
        {"time_bin": {"time_bin_start": np.arange(n_times), "time_bin_end": np.arange(1, n_times + 1)}}
        if n_times
        else {}
    )
    make = {"neuroid": {"neuroid_id": np.arange(n_units)}, "modality": "spikes", "units": "spikes", **bins}
    return (
        neuro.assemble(signal, presentation={"stimulus_id": np.arange(300)}, **make),
        neuro.assemble(values, presentation={"stimulus_id": ids}, **make),
    )


@pytest.mark.parametrize("scoring", ["pearsonr", "r2"])
@pytest.mark.parametrize("repeats", ["average", "keep"])
@pytest.mark.parametrize("n", [[4], [1, 2, 3, 6]], ids=["balanced", "unbalanced"])
def test_the_perfect_model_reaches_the_ceiling(n, repeats, scoring):
    signal, responses = noisy(n)
    result = encoding.evaluate(Perfect(), signal, responses, repeats=repeats, scoring=scoring, control=False)
    share = result.unit_scores(normalised=True).values
    assert abs(np.median(share) - 1) < 0.03
    assert abs(share - 1).max() < 0.35
    assert result.audit["ceiling"].endswith("single presentations") == (repeats == "keep")


def test_ceilings_lie_at_their_unit_and_time():
    signal, responses = noisy([3], n_units=2, n_times=3)
    responses.values[:, 1, 2] = np.random.default_rng(1).standard_normal(len(responses))
    result = encoding.evaluate(Perfect(), signal, responses, control=False).dataset
    worst = int(result["ceiling"].values.argmin())
    assert (result["neuroid_id"].values[worst], result["time_bin_start"].values[worst]) == (1, 2)
    assert result["ceiling"].values[worst] < 0.2 < np.delete(result["ceiling"].values, worst).min()


def test_too_few_repeats_give_no_ceiling_by_themselves_and_an_error_when_asked_for():
    signal, responses = noisy([1])
    responses = neuro.concat([responses, responses[:2]], "presentation")
    result = encoding.evaluate(Perfect(), signal, responses, control=False)
    assert result.audit["ceiling"] == "none: the recording has no repeats"
    with pytest.raises(ValueError, match="only 2 stimuli are repeated"):
        encoding.evaluate(Perfect(), signal, responses, ceiling="variance")


def test_given_ceilings_count_for_every_scoring():
    def half(truth, prediction):
        return np.full(truth.shape[1], 0.5)

    signal, responses = noisy([1])
    result = encoding.evaluate(
        Perfect(), signal, responses, scoring=half, ceiling=np.full(20, 0.8), control=False
    )
    np.testing.assert_allclose(result.dataset["normalised"], 0.625)


@pytest.mark.parametrize(
    ("ceiling", "message"),
    [
        ("median", "method is 'median'; it must be 'split-half'"),
        (np.ones(3), "the ceiling has 3 values for 20 units"),
    ],
)
def test_wrong_ceilings_are_refused_before_anything_is_fitted(ceiling, message):
    class Expensive(Perfect):
        def fit(self, x, y):
            raise AssertionError("fitted")

    signal, responses = noisy([2])
    with pytest.raises(ValueError, match=message):
        encoding.evaluate(Expensive(), signal, responses, ceiling=ceiling)


def test_a_ceiling_of_what_has_none_is_refused():
    labels = np.tile([0, 1], 150)
    with pytest.raises(ValueError, match="accuracy is not bounded by a noise ceiling; give values or None"):
        encoding.evaluate(LinearDiscriminantAnalysis(), noisy([1])[0], labels, ceiling="split-half")
    with pytest.raises(ValueError, match="the recording has no repeats; give values or None"):
        encoding.evaluate(Perfect(), np.eye(20), np.eye(20), ceiling="split-half")
