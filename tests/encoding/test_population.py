"""Populations of spiking neurons: simulated ones whose couplings are known, and motor cortex while reaching."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import special

from cerebridge import neuro
from cerebridge.encoding import PoissonGLM, bases

ALPHAS = np.logspace(-5, -1, 5)
PAST = bases.RaisedCosine(4, spacing="log", window=12)


def simulate(
    coupled: bool, bins: int = 6000, neurons: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of neurons with refractory histories that excite and inhibit others, and all filters."""
    rng = np.random.default_rng(seed)
    signs = (-1) ** np.add.outer(np.arange(neurons), np.arange(neurons) // 2)
    weights = (rng.uniform(0.2, 0.4, (neurons, neurons)) * signs)[..., None]
    weights = weights * [0.6, 1.0, 0.6, 0.2] * (~np.eye(neurons, dtype=bool))[..., None] * coupled
    weights[np.arange(neurons), np.arange(neurons)] = [-2.0, -0.8, 0.0, 0.1]
    filters = weights @ PAST.kernel().T
    counts = np.zeros((bins + 12, neurons))
    for t in range(12, bins + 12):
        past = counts[t - 12 : t][::-1]
        counts[t] = rng.poisson(np.exp(-1.0 + np.einsum("nsl,ls->n", filters, past)).clip(0, 5))
    return counts[12:], filters


def test_the_couplings_of_a_simulated_population_are_found():
    counts, truth = simulate(coupled=True)
    glm = PoissonGLM(ALPHAS).fit(bases.design({"coupling": (PAST, counts)}), counts)
    found = bases.filters(glm.coef_, PAST, "coupling").values
    other = ~np.eye(5, dtype=bool)
    assert np.corrcoef(found[other].ravel(), truth[other].ravel())[0, 1] > 0.9
    assert np.corrcoef(found[~other].ravel(), truth[~other].ravel())[0, 1] > 0.9
    assert (np.asarray(glm.best_score_) > 0.02).all()


def held_out(
    features: np.ndarray,
    counts: np.ndarray,
    folds: np.ndarray,
    alphas: object,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Pseudo-R² of every neuron over all held-out samples, against the mean rate of the training samples."""
    rates, null = np.zeros_like(counts), np.zeros_like(counts)
    for fold in np.unique(folds):
        test = folds == fold
        glm = PoissonGLM(alphas, feature_mask=mask).fit(features[~test], counts[~test])
        rates[test], null[test] = glm.predict(features[test]), glm.baseline_
    lost, lost_by_null = (
        (special.xlogy(counts, counts / rate) - counts + rate).sum(0) for rate in (rates, null)
    )
    return 1 - lost / lost_by_null


def gains(counts: np.ndarray) -> np.ndarray:
    """Held-out pseudo-R² with coupling, less that with the neuron's own history only."""
    features = bases.design({"past": (PAST, counts)})
    mask = bases.own_history(features, np.arange(counts.shape[1]), "past")
    halves = np.arange(len(counts)) * 2 // len(counts)
    everything, own = (held_out(features.values, counts, halves, 1e-3, used) for used in (None, mask))
    return everything - own


def test_coupling_helps_only_where_there_is_some():
    assert (gains(simulate(coupled=True)[0]) > 0.01).all()
    assert (gains(simulate(coupled=False)[0]) < 0.003).all()


def test_nothing_explains_shuffled_counts():
    counts, _ = simulate(coupled=True, bins=4000)
    features = bases.design({"past": (PAST, counts)}).values
    shuffled = np.random.default_rng(1).permutation(counts)
    halves = np.arange(4000) // 2000
    assert (held_out(features, counts, halves, 1e-3) > 0.02).all()
    assert (held_out(features, shuffled, halves, 1e-3) <= 0).all()


@pytest.fixture(scope="module")
def reaching(data: Path) -> tuple[xr.DataArray, xr.DataArray]:
    """Hand velocity and counts of the units that fire, in bins of 100 ms, with the trials."""
    with np.load(data / "spikes-m1-reach" / "chewie_20131003_100ms.npz") as stored:
        counts, velocity, trial = (stored[name] for name in ("spike_counts", "velocity", "trial"))
    time = {"time_bin_start": np.arange(len(trial)) * 0.1, "time_bin_end": np.arange(1, len(trial) + 1) * 0.1}
    firing = np.flatnonzero(counts.sum(0))
    units = neuro.assemble(
        counts[:, firing].astype(np.float64),
        time_bin=time | {"trial": trial},
        neuroid={"neuroid_id": [f"unit{k}" for k in firing]},
        modality="spikes",
        units="spikes/bin",
        sfreq=10.0,
    )
    hand = neuro.assemble(
        velocity,
        time_bin=time | {"trial": trial},
        neuroid={"neuroid_id": ["vx", "vy"]},
        modality="behavior",
        units="cm/s",
        sfreq=10.0,
    )
    return hand, units


def movement(hand: xr.DataArray) -> xr.DataArray:
    """Velocity and speed from 200 ms before to 200 ms after each bin of a trial, in 2.5 cm/s."""
    around = []
    for _, trial in hand.groupby("trial"):
        full = np.c_[trial.values, np.hypot(*trial.values.T)] / 2.5
        bins = np.arange(len(full))
        around.append(np.hstack([full[np.clip(bins + lag, 0, len(full) - 1)] for lag in range(-2, 3)]))
    values = np.concatenate(around)
    return xr.DataArray(values, {"trial": ("time_bin", hand.trial.values)}, dims=("time_bin", "neuroid"))


def blocks_of_trials(units: xr.DataArray, n: int = 5) -> np.ndarray:
    """Contiguous folds of whole trials."""
    trials = np.unique(units.trial.values)
    return np.searchsorted(trials, units.trial.values) * n // len(trials)


@pytest.mark.filterwarnings("ignore:.*have no counts", "ignore:.*are told apart")
def test_motor_cortex_is_tuned_to_velocity(reaching):
    hand, units = reaching
    features = bases.design({"velocity": (bases.Identity(), movement(hand))}).values
    folds, counts = blocks_of_trials(units), units.values
    assert counts.shape == (1640, 163)
    score = held_out(features, counts, folds, 0.2)
    assert np.median(score) > 0.045
    assert np.mean(score > 0) > 0.8
    shuffled = np.random.default_rng(0).permutation(counts)
    assert np.median(held_out(features, shuffled, folds, 0.2)) <= 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*have no counts", "ignore:.*are told apart")
def test_history_and_coupling_add_to_velocity(reaching):
    hand, units = reaching
    folds = blocks_of_trials(units)
    velocity = {"velocity": (bases.Identity(), movement(hand))}
    most = np.argsort(-units.values.mean(0))[:40]
    some = units[:, most]
    features = bases.design({**velocity, "past": (bases.History(3), some)}, groups="trial")
    mask = bases.own_history(features, some.neuroid_id.values, "past")
    alone = held_out(bases.design(velocity).values, units.values, folds, 0.2)
    own = held_out(features.values, some.values, folds, 0.2, mask)
    assert own.mean() > alone[most].mean() + 0.01
    past = bases.RaisedCosine(2, width=1, window=4)
    coupled = bases.design({**velocity, "past": (past, units)}, groups="trial")
    score = held_out(coupled.values, units.values, folds, 0.4)
    assert np.median(score) > np.median(alone) + 0.005
    assert np.mean(score > alone) > 0.55
    shuffled = np.random.default_rng(0).permutation(len(units))
    assert np.median(held_out(coupled.values, units.values[shuffled], folds, 0.4)) <= 0
