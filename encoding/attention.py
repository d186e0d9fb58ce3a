"""Who is listened to: temporal response functions decide between two talkers, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.cross_decomposition import CCA

from ..neuro.progress import track
from . import parameters
from .containers import to_tensor
from .delays import Delays
from .trf import ALPHAS, TRF
from .trials import Trials, recordings, split_runs

Array = NDArray[np.float64]
Method = Literal["backward", "forward", "cca"]
#: components of canonical correlation
COMPONENTS = 5
#: share of a window's power below which what varies is rounding
ROUNDING = 1e-12


def decode_attention(
    neural: Any,
    attended: Any,
    unattended: Any,
    sfreq: float | None = None,
    *,
    groups: Any = None,
    method: Method = "backward",
    tmin: float = 0.0,
    tmax: float = 0.25,
    alphas: ArrayLike = ALPHAS,
    windows: Sequence[float] = (1.0, 5.0, 10.0, 30.0),
    n_shifts: int = 200,
    random_state: int | None = 0,
    progress: bool | None = None,
) -> xr.Dataset:
    """Decide in windows of several lengths which of two talkers is attended, each trial by a model of all others.

    The talker whose features go better with the recording is chosen. Chance comes from the same models and the same
    recording, against features of both talkers that are rotated in time within each trial.

    Parameters
    ----------
    neural
        Recording: trials as a list of ``(samples, channels)`` or ``(trials, samples, channels)``; or one table of all
        samples with ``groups`` (a labelled array with ``trial`` or ``run``).
    attended, unattended
        Features of the talkers (envelopes, spectrograms), ``(samples,)`` or ``(samples, features)`` a trial, in the
        form of ``neural``.
    sfreq
        Samples a second; default: what a labelled recording says.
    groups
        Trial of each sample of a table, or the name of a coordinate.
    method
        ``"backward"``: the attended features are reconstructed from the recording. ``"forward"``: the recording is
        predicted from either talker (correlation averaged over channels). ``"cca"``: canonical correlation of the
        recording now with features at the lags before (sum over components).
    tmin, tmax
        Lags in seconds by which the recording follows.
    alphas
        Penalties of the response functions, chosen within the training trials; a single number is taken as it is.
    windows
        Lengths in seconds. Windows do not overlap; what is left at the end of a trial is not used.
    n_shifts
        Rotations for chance.
    random_state
        Seeds them.
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Returns
    -------
    xarray.Dataset
        Along ``window`` (seconds): ``accuracy``, its ``chance`` (mean over rotations), ``p`` (share of rotations at
        least as good, one added above and below), ``d_prime`` (mean over standard deviation of the differences of
        correlation), ``bits_per_minute`` (information transfer rate), ``n_windows``. Along ``trial``: the correlations
        ``attended`` and ``unattended`` over the whole trial, and ``trial_accuracy`` in windows of every length. Along
        ``decision``, every window of every length: ``decision_window``, ``decision_trial``, ``decision_start``
        (seconds) and ``confidence``, the difference of correlations (positive: attended).

    Raises
    ------
    ValueError
        If there is one trial only, shapes differ, or no trial is as long as a window.

    References
    ----------
    O'Sullivan et al. (2015), Cerebral Cortex 25; Wolpaw et al. (2002), Clinical Neurophysiology 113.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> heard, ignored = rng.standard_normal((2, 4, 640))
    >>> brain = np.roll(heard, 6, axis=1)[:, :, None] + rng.standard_normal((4, 640, 8))
    >>> found = encoding.decode_attention(brain, heard, ignored, 64.0, alphas=1.0, windows=[1.0, 5.0], n_shifts=20)
    >>> found.accuracy.values.tolist()
    [1.0, 1.0]
    """
    if method not in get_args(Method):
        raise ValueError(f"method={method!r} is unknown; use {', '.join(map(repr, get_args(Method)))}.")
    lengths = parameters.positive(list(windows), "windows")
    trials, talkers = _trials(neural, (attended, unattended), groups)
    sfreq = sfreq if sfreq is not None else getattr(neural, "attrs", {}).get("sfreq")
    if sfreq is None or not sfreq > 0:
        raise ValueError("sfreq is not known: give samples a second.")
    samples = [round(length * sfreq) for length in lengths]
    longest = max(len(trial) for trial in trials)
    if min(samples) < 3 or max(samples) > longest:
        raise ValueError(
            f"windows must be from 3 samples to the longest trial, {longest / sfreq:g} s; got {lengths.tolist()} s."
        )
    rng = np.random.default_rng(random_state)
    shifts = [rng.integers(1, len(trial), n_shifts) for trial in trials]
    real, null = _Differences(samples), _Differences(samples)
    whole = np.empty((2, len(trials)))
    for k in track(range(len(trials)), "decoding attention", show=progress):
        rest = [j for j in range(len(trials)) if j != k]
        model = _Model(method, tmin, tmax, sfreq, alphas).fit(
            [trials[j] for j in rest], [talkers[0][j] for j in rest]
        )
        pairs = [model.project(trials[k], talker[k]) for talker in talkers]
        whole[:, k] = [_correlations(*pair, [len(pair[0])])[0][0] for pair in pairs]
        real.add(pairs, [0])
        null.add(pairs, shifts[k].tolist())
    return _dataset(real, null, whole, lengths, sfreq)


class _Model:
    """What brings the recording and a talker's features to series that correlate where the talker is attended."""

    def __init__(self, method: Method, tmin: float, tmax: float, sfreq: float, alphas: ArrayLike) -> None:
        self.method = method
        if method == "cca":
            self.delays = Delays(range(round(tmin * sfreq), round(tmax * sfreq) + 1), edges="mean")
        else:
            self.trf = TRF(tmin, tmax, sfreq, method, alphas=alphas)

    def fit(self, neural: list[Array], features: list[Array]) -> _Model:
        if self.method == "backward":
            self.trf.fit(neural, features)
        elif self.method == "forward":
            self.trf.fit(features, neural)
        else:
            delayed = np.concatenate([self.delays.fit_transform(trial) for trial in features])
            recorded = np.concatenate(neural)
            self.cca = CCA(min(COMPONENTS, delayed.shape[1], recorded.shape[1])).fit(recorded, delayed)
        return self

    def project(self, neural: Array, features: Array) -> tuple[Array, Array]:
        """Two series, ``(samples, columns)``, whose correlations are averaged."""
        if self.method == "backward":
            return self.trf.predict(neural), features
        if self.method == "forward":
            return neural, self.trf.predict(features)
        recorded, heard = self.cca.transform(neural, self.delays.transform(features))
        return recorded, heard


class _Differences:
    """Differences of correlation, attended minus unattended, of every window and rotation."""

    def __init__(self, samples: list[int]) -> None:
        self.samples = samples
        self.found: list[list[Array]] = [[] for _ in samples]

    def add(self, pairs: list[tuple[Array, Array]], shifts: list[int]) -> None:
        """Windows of one trial, once for each rotation of the talkers."""
        rotated = [
            [_correlations(one, np.roll(other, shift, axis=0), self.samples) for shift in shifts]
            for one, other in pairs
        ]
        for k, found in enumerate(self.found):
            attended, unattended = (np.stack([of_shift[k] for of_shift in talker]) for talker in rotated)
            found.append(attended - unattended)


def _correlations(one: Array, other: Array, lengths: list[int]) -> list[Array]:
    """Correlations in windows of each length, mean over columns; a series that does not vary has none (0)."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    products = [one, other, one * other, one**2, other**2]
    found = []
    for length in lengths:
        n = len(one) // length
        a, b, ab, aa, bb = (
            series[: n * length].reshape(n, length, series.shape[1]).sum(axis=1) for series in products
        )
        scale = np.sqrt(np.maximum((aa - a**2 / length) * (bb - b**2 / length), 0))
        known = scale > ROUNDING * np.sqrt(aa * bb)
        found.append(np.divide(ab - a * b / length, scale, out=np.zeros_like(ab), where=known).mean(axis=1))
    return found


def _trials(
    neural: Any, talkers: tuple[Any, Any], groups: Any
) -> tuple[list[Array], tuple[list[Array], list[Array]]]:
    """Trials of the recording and of both talkers, checked against each other."""
    recording = Trials.of(neural)
    table = recording.table()
    codes = recording.labels()
    if codes is None:
        codes, _ = recordings(len(table), groups, [table])
    if codes.max() < 1:
        raise ValueError(
            "there is one trial only, but each is decoded by a model of the others; give groups."
        )
    tables = [
        _plain(table, "neural"),
        *(_plain(recording.responses(talker), "talkers") for talker in talkers),
    ]
    for name, other in zip(("attended", "unattended"), tables[1:], strict=True):
        if len(other) != len(codes):
            raise ValueError(f"neural has {len(codes)} samples and {name} has {len(other)}; give one each.")
    if tables[1].shape != tables[2].shape:
        raise ValueError(
            f"the talkers have {tables[1].shape[1]} and {tables[2].shape[1]} features; give the same."
        )
    first, *others = (split_runs(values, codes) for values in tables)
    return first, (others[0], others[1])


def _plain(x: Any, name: str) -> Array:
    values: Array = to_tensor(x, "cpu").double().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} holds {int((~np.isfinite(values)).sum())} missing or infinite values; drop them."
        )
    return values.reshape(len(values), -1)


def _dataset(
    real: _Differences, null: _Differences, whole: Array, lengths: Array, sfreq: float
) -> xr.Dataset:
    columns: dict[str, list[Any]] = {name: [] for name in ("accuracy", "chance", "p", "d_prime", "n_windows")}
    by_trial: list[list[float]] = []
    decisions: dict[str, list[Array]] = {name: [] for name in ("window", "trial", "start", "confidence")}
    for found, shifted, length in zip(real.found, null.found, lengths, strict=True):
        differences = np.concatenate(found, axis=1)[0]
        accuracy = _accuracy(differences)
        by_shift = _accuracy(np.concatenate(shifted, axis=1))
        columns["accuracy"].append(accuracy)
        columns["chance"].append(by_shift.mean() if by_shift.size else np.nan)
        columns["p"].append((1 + (by_shift >= accuracy).sum()) / (1 + by_shift.size))
        columns["d_prime"].append(_d_prime(differences))
        columns["n_windows"].append(len(differences))
        decisions["window"].append(np.full(len(differences), length))
        decisions["confidence"].append(differences)
        counts = [part.shape[1] for part in found]
        by_trial.append([float(_accuracy(part[0])) if part.size else np.nan for part in found])
        decisions["trial"].append(np.repeat(np.arange(len(counts)), counts))
        decisions["start"].append(np.concatenate([np.arange(count) * length for count in counts]))
    accuracy = np.array(columns["accuracy"])
    variables: dict[str, Any] = {name: ("window", values) for name, values in columns.items()}
    variables["bits_per_minute"] = ("window", _bits(accuracy) * 60 / lengths)
    variables |= {"attended": ("trial", whole[0]), "unattended": ("trial", whole[1])}
    variables["trial_accuracy"] = (("trial", "window"), np.transpose(by_trial))
    variables["confidence"] = ("decision", np.concatenate(decisions["confidence"]))
    coords: dict[str, Any] = {"window": lengths, "trial": np.arange(whole.shape[1])}
    for name in ("window", "trial", "start"):
        coords[f"decision_{name}"] = ("decision", np.concatenate(decisions[name]))
    return xr.Dataset(variables, coords, {"sfreq": sfreq})


def _accuracy(differences: Array) -> Array:
    """Share of windows in which the attended talker wins; a draw is half a win."""
    return np.asarray(((np.sign(differences) + 1) / 2).mean(axis=-1))


def _d_prime(differences: Array) -> float:
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return float(differences.mean() / spread) if spread > 0 else float("nan")


def _bits(accuracy: Array) -> Array:
    """Information in a decision between two (Wolpaw et al., 2002); none at or below chance."""
    right = np.clip(accuracy, 0.5, 1.0)
    wrong = 1 - right
    return 1 + right * np.log2(right) + wrong * np.log2(np.where(wrong > 0, wrong, 1.0))
