"""Temporal response functions against MNE's ``ReceptiveField`` with ``TimeDelayingRidge``, its fastest estimator.

Both sides compute moments of the delayed features without the delayed features. MNE takes one inverse transform as
long as the recording for each pair of features and for each feature and channel; here products at all lags come from
cross-spectra of short frames, of which one inverse transform is left.

MNE fits one penalty at a time and has no cross-validation of its own, so that choosing one takes a loop over folds and
penalties (``chosen penalty``); each of its fits starts from the recording again.

One penalty on one long recording is MNE's best case: of 42 ms here (one thread, processor time, against 0.70 s) three
quarters are the products at each lag and a fifth the factorisation. With penalties to choose, factorisations take most.

What else was tried for the products: windows of a thousand samples written out and multiplied take 3 times as long,
one product of thin matrices a lag just as long, and one transform of all frames at once half as long again, since it
leaves the caches.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cerebridge.encoding.trf import TRF

from . import compete, versions

Array = NDArray[np.float64]

SFREQ, ALPHA, ALPHAS = 128.0, 100.0, 10.0 ** np.arange(0, 6)
#: seconds a trial, trials, features, channels, lags; repetitions at one penalty
MAIN = ((60, 5, 16, 64, 40), 3)
QUICK = ((4, 5, 3, 4, 8), 1)


def run(quick: bool) -> dict[str, Any]:
    """Fit one penalty to one long recording, then choose among several leaving one trial out."""
    (seconds, trials, features, channels, lags), repeats = QUICK if quick else MAIN
    X, Y = simulate(int(seconds * SFREQ), trials, features, channels, lags)
    whole = X.reshape(1, -1, features), Y.reshape(1, -1, channels)
    cases = {
        "one penalty": one_penalty(*whole, lags, repeats),
        "chosen penalty": chosen_penalty(X, Y, lags, 1),
    }
    return {
        "peer": "mne ReceptiveField(estimator=TimeDelayingRidge)",
        "dtype": "float64",
        "sizes": {
            "seconds": seconds * trials,
            "sfreq": SFREQ,
            "trials": trials,
            "features": features,
            "channels": channels,
            "lags": lags,
            "alphas": len(ALPHAS),
        },
        "ratio": cases["one penalty"]["ratio"],
        "cases": cases,
        "versions": versions("mne"),
    }


def one_penalty(X: Array, Y: Array, lags: int, repeats: int) -> dict[str, Any]:
    """Fit at the same penalty."""
    timings = compete(
        {
            "ours": lambda: ours(lags, ALPHA).fit(X, Y).coef_.transpose(2, 0, 1),
            "peer": lambda: peer(X, Y, lags, ALPHA).coef_,
        },
        repeats,
    )
    difference = float(np.abs(timings["ours"].result - timings["peer"].result).max())
    assert difference < 1e-8, f"coefficients differ from MNE's by {difference}"
    return _report(timings, {"largest_coef_difference": difference})


def chosen_penalty(X: Array, Y: Array, lags: int, repeats: int) -> dict[str, Any]:
    """Choose a penalty for every channel by leaving one trial out, and fit it to all trials."""

    def choose() -> tuple[Array, Array]:
        with warnings.catch_warnings():
            # the grid is short, and some channels are noise
            warnings.filterwarnings("ignore", ".* chose an alpha at the edge")
            trf = ours(lags, ALPHAS).fit(X, Y)
        return trf.alpha_, trf.coef_.transpose(2, 0, 1)

    timings = compete({"ours": choose, "peer": lambda: search_of_peer(X, Y, lags)}, repeats)
    (alpha, coef), (peer_alpha, peer_coef) = timings["ours"].result, timings["peer"].result
    different = int((~np.isclose(alpha, peer_alpha)).sum())
    difference = float(np.abs(coef - peer_coef).max())
    assert different == 0, (
        f"{different} of {len(alpha)} channels have another penalty than MNE's scores choose"
    )
    assert difference < 1e-8, f"coefficients differ from MNE's by {difference}"
    return _report(timings, {"different_alphas": different, "largest_coef_difference": difference})


def simulate(samples: int, trials: int, features: int, channels: int, lags: int) -> tuple[Array, Array]:
    """Smooth features with mean zero, and channels that follow them under more and more noise."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((trials, samples, features))
    for t in range(1, samples):
        X[:, t] += 0.8 * X[:, t - 1]
    X -= X.mean((0, 1))
    weights = rng.standard_normal((lags, features, channels)) * np.hanning(lags + 2)[1:-1, None, None]
    signal = np.zeros((trials, samples, channels))
    for lag in range(lags):
        signal[:, lag:] += X[:, : samples - lag] @ weights[lag]
    noise = rng.standard_normal(signal.shape) * np.logspace(0, 1.5, channels) * signal.std()
    Y = signal + noise
    return X, Y - Y.mean((0, 1))


def ours(lags: int, alphas: Any) -> TRF:
    """With zeros outside trials and without intercept, as MNE's is where series have mean zero."""
    return TRF(0.0, (lags - 1) / SFREQ, SFREQ, alphas=alphas, edges="zero", fit_intercept=False, device="cpu")


def peer(X: Array, Y: Array, lags: int, alpha: float) -> Any:
    """MNE's fit; it wants samples × trials × features."""
    import mne
    from mne.decoding import ReceptiveField, TimeDelayingRidge

    window = (0.0, (lags - 1) / SFREQ, SFREQ)
    ridge = TimeDelayingRidge(*window, alpha=alpha, fit_intercept=False)
    with mne.utils.use_log_level("ERROR"):
        return ReceptiveField(*window, estimator=ridge).fit(X.swapaxes(0, 1), Y.swapaxes(0, 1))


def search_of_peer(X: Array, Y: Array, lags: int) -> tuple[Array, Array]:
    """What MNE needs loops for: every fold and penalty, Pearson correlation of the trial left out."""
    scores = np.zeros((len(X), len(ALPHAS), Y.shape[2]))
    for k in range(len(X)):
        rest = np.arange(len(X)) != k
        for a, alpha in enumerate(ALPHAS):
            predicted = peer(X[rest], Y[rest], lags, alpha).predict(X[k])
            scores[k, a] = [np.corrcoef(*pair)[0, 1] for pair in zip(Y[k].T, predicted.T, strict=True)]
    chosen = scores.mean(0).argmax(0)
    fits = {a: peer(X, Y, lags, ALPHAS[a]).coef_ for a in np.unique(chosen)}
    return ALPHAS[chosen], np.stack([fits[a][channel] for channel, a in enumerate(chosen)])


def _report(timings: dict[str, Any], agreement: dict[str, Any]) -> dict[str, Any]:
    ours, peer = timings["ours"], timings["peer"]
    return {
        "ratio": round(peer.wall / ours.wall, 2),
        "ratio_cpu": round(peer.cpu / ours.cpu, 2),
        "agreement": agreement,
        "ours": ours.summary(),
        "peer": peer.summary(),
    }
