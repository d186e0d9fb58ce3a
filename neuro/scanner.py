"""A simulated scanner: runs of events, what they look like in the blood, and the noise around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: seconds: an event lasts, a run waits before its first event and goes on after its last
EVENT, LEAD, TAIL = 2.0, 6.0, 20.0
#: seconds from one event's onset to the next, drawn at random
GAPS = (6.0, 7.0, 8.0)
#: lag-one autocorrelation of the noise, and the drift in standard deviations of the noise
AUTOCORRELATION, DRIFT = 0.4, 2.0


def schedule(
    ids: NDArray[Any], n_runs: int, sfreq: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, Array, NDArray[Any]]:
    """Events of all runs; when a run's scans start; and the stimulus during each scan of all runs."""
    n_scans = int(np.ceil((LEAD + max(GAPS) * len(ids) + TAIL) * sfreq))
    starts = np.arange(n_scans) / sfreq
    tables, labels = [], []
    for run in range(1, n_runs + 1):
        onsets = LEAD + np.cumsum([0.0, *rng.choice(GAPS, size=len(ids) - 1)])
        order = rng.permutation(ids)
        tables.append(pd.DataFrame({"run": run, "onset": onsets, "duration": EVENT, "trial_type": order}))
        during = np.full(n_scans, "", dtype=ids.dtype)
        event, scan = np.nonzero((onsets[:, None] < starts + 1 / sfreq) & (starts < onsets[:, None] + EVENT))
        during[scan] = order[event]
        labels.append(during)
    return pd.concat(tables, ignore_index=True), starts, np.concatenate(labels)


def design(run: pd.DataFrame, starts: Array, ids: NDArray[Any]) -> Array:
    """Scans × stimuli: each stimulus' events through nilearn's haemodynamic response."""
    from nilearn.glm.first_level import make_first_level_design_matrix

    columns = {stimulus: f"s{k}" for k, stimulus in enumerate(ids)}
    events = run[["onset", "duration"]].assign(trial_type=run["trial_type"].map(columns))
    matrix = make_first_level_design_matrix(starts, events, hrf_model="spm", drift_model=None)
    return matrix[list(columns.values())].to_numpy()


def noise_and_drift(n_runs: int, n_scans: int, n_units: int, rng: np.random.Generator) -> Array:
    """runs × scans × units: AR(1) noise of variance 1, and a drift of half a cycle and a slope a run."""
    from scipy.signal import lfilter

    white = rng.standard_normal((n_runs, n_scans, n_units))
    # all but the first value, so that the variance is the same from the start
    white[:, 1:] *= np.sqrt(1 - AUTOCORRELATION**2)
    noise = lfilter([1.0], [1.0, -AUTOCORRELATION], white, axis=1)
    phase = np.linspace(-1, 1, n_scans)[:, None]
    slopes, swings = rng.standard_normal((2, n_runs, 1, n_units))
    return noise + DRIFT * (slopes * phase + swings * np.cos(np.pi / 2 * phase))
