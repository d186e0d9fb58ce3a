"""Covariance of distances against simulations and rsatoolbox."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge import neuro
from cerebridge.encoding import rsa

N_RUNS, N_UNITS, N_STIMULI = 4, 30, 4


def experiments(n, centres, deviation=1.0, n_runs=N_RUNS):
    """RDM arrays of repetitions of one experiment: each repetition is a group of units."""
    rng = np.random.default_rng(0)
    units = n * N_UNITS
    values = np.tile(centres, (n_runs, n)) + deviation * rng.normal(size=(n_runs * N_STIMULI, units))
    return neuro.assemble(
        values,
        presentation={"stimulus_id": list("abcd") * n_runs, "run": np.repeat(range(n_runs), N_STIMULI)},
        neuroid={"neuroid_id": range(units), "repetition": np.arange(units) // N_UNITS},
        modality="fmri",
        units="a.u.",
    )


@pytest.mark.parametrize("metric", ["crossnobis", "ldc", "sqeuclidean"])
@pytest.mark.parametrize("size", [0, 0.8], ids=["no signal", "signal"])
def test_repeated_experiments_vary_as_predicted(metric, size):
    centres = size * np.random.default_rng(1).normal(size=(N_STIMULI, N_UNITS))
    found = rsa.rdm(experiments(3000, centres), metric, by="repetition")
    truth = rsa.rdm(experiments(1, centres, deviation=0), metric)
    if metric == "sqeuclidean":
        truth = truth + 2 * N_UNITS / N_RUNS  # what noise adds, and the prediction takes off
        truth.attrs["metric"] = metric
    predicted = rsa.distance_covariance(
        truth.assign_attrs(found.attrs), n_runs=N_RUNS, n_units=N_UNITS
    ).values[0]
    observed = np.cov(found.values.T)
    np.testing.assert_allclose(observed, predicted, rtol=0, atol=0.1 * predicted.max())
    # the negative control: distances that were independent of one another would not fit
    assert np.abs(observed - np.diag(observed.diagonal())).max() > 0.2 * predicted.max()


def test_correlated_units_and_stimuli():
    rng = np.random.default_rng(0)
    units, stimuli = (rng.normal(size=(n, n)) / n**0.5 for n in (N_UNITS, N_STIMULI))
    array = experiments(3000, np.zeros((N_STIMULI, N_UNITS)))
    values = np.einsum(
        "ij,rjpu,vu->ripv", stimuli, array.values.reshape(N_RUNS, N_STIMULI, -1, N_UNITS), units
    )
    found = rsa.rdm(array.copy(data=values.reshape(array.shape)), "crossnobis", by="repetition")
    predicted = rsa.distance_covariance(
        found.isel(rdm=[0]),
        n_runs=N_RUNS,
        noise=units @ units.T,
        stimulus_noise=stimuli @ stimuli.T,
        signal=False,
    ).values[0]
    np.testing.assert_allclose(np.cov(found.values.T), predicted, rtol=0, atol=0.12 * predicted.max())


def test_without_signal_it_is_that_of_rsatoolbox():
    peer = pytest.importorskip("rsatoolbox.util.matrix")
    rdms = rsa.rdm(experiments(2, np.ones((N_STIMULI, N_UNITS))), "crossnobis", by="repetition")
    root = np.random.default_rng(0).normal(size=(N_STIMULI, N_STIMULI))
    for noise in (None, root @ root.T):
        found = rsa.distance_covariance(rdms, n_runs=3, n_units=5, stimulus_noise=noise, signal=False)
        expected = peer.get_v(N_STIMULI, noise).toarray() * 2 / (3 * 2 * 5)
        np.testing.assert_allclose(found.values, [expected, expected], rtol=1e-10)


def test_pairs_keep_their_order_and_labels():
    rdms = rsa.rdm(
        experiments(2, np.random.default_rng(0).normal(size=(4, N_UNITS))), "crossnobis", by="repetition"
    )
    found = rsa.distance_covariance(rdms, n_runs=N_RUNS, n_units=N_UNITS)
    assert found.dims == ("rdm", "pair", "pair_b")
    assert found.stimulus_a_b.values.tolist() == rdms.stimulus_a.values.tolist()
    order = np.random.default_rng(0).permutation(6)
    mixed = rdms.isel(pair=order)
    mixed = mixed.assign_coords(
        stimulus_a=("pair", mixed.stimulus_b.values), stimulus_b=("pair", mixed.stimulus_a.values)
    )
    again = rsa.distance_covariance(mixed, n_runs=N_RUNS, n_units=N_UNITS)
    np.testing.assert_allclose(again.values, found.values[:, order][:, :, order], atol=1e-12)


def test_bad_input_is_one_sentence():
    array = experiments(1, np.random.default_rng(0).normal(size=(N_STIMULI, N_UNITS)))
    rdms = rsa.rdm(array, "crossnobis")
    for call, message in (
        (lambda: rsa.distance_covariance(rsa.rdm(array), n_runs=4, n_units=5), "metric='correlation'"),
        (
            lambda: rsa.distance_covariance(rdms, n_runs=1, n_units=5),
            "n_runs=1, but crossnobis .* at least 2",
        ),
        (lambda: rsa.distance_covariance(rdms, n_runs=4), "give n_units="),
        (
            lambda: rsa.distance_covariance(rdms, n_runs=4, noise=np.ones((3, 4))),
            r"noise has the shape \(3, 4\)",
        ),
        (lambda: rsa.distance_covariance(rdms, n_runs=4, n_units=5, noise=np.eye(3)), "all the units behind"),
        (
            lambda: rsa.distance_covariance(rdms, n_runs=4, n_units=5, stimulus_noise=np.ones(3)),
            r"for 4 stimuli it must be \(4, 4\) or \(4,\)",
        ),
        (
            lambda: rsa.distance_covariance(rdms.where(rdms.stimulus_b != "d"), n_runs=4, n_units=5),
            "missing dissimilarities",
        ),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_too_many_pairs_are_refused(monkeypatch):
    monkeypatch.setattr("cerebridge.encoding.rsa.distances.MOST", 10)
    rdms = rsa.rdm(experiments(1, np.random.default_rng(0).normal(size=(N_STIMULI, N_UNITS))), "crossnobis")
    with pytest.raises(ValueError, match="1 covariances of 6 distances take"):
        rsa.distance_covariance(rdms, n_runs=4, n_units=5)
