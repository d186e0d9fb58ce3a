"""When a course peaks and begins, with intervals over people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: share of its peak at which a course has begun
ONSET = 0.5


def find_latencies(courses: Array, times: Array) -> tuple[Array, Array]:
    """Peak and onset of courses.

    Parameters
    ----------
    courses
        … × times, chance level at 0.
    times
        Seconds.

    Returns
    -------
    peak
        Time of the highest value.
    onset
        Where the course last rises through half of its peak on the way to it, interpolated between bins; the first
        time if it never was below. Both are NaN where a course is nowhere above 0. A criterion relative to the peak is
        that of event-related potentials (Kiesel et al., 2008, Psychophysiology); the first significant time would
        come earlier with every person more.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.rsa.latencies import find_latencies
    >>> [round(float(when), 3) for when in find_latencies(np.array([0.0, 0.1, 0.3, 0.4, 0.2]), np.arange(5) / 10)]
    [0.3, 0.15]
    """
    at = courses.argmax(axis=-1)
    height = np.take_along_axis(courses, at[..., None], -1)
    place = np.arange(courses.shape[-1])
    low = (courses < ONSET * height) & (place < at[..., None])
    before = np.where(low, place, -1).max(axis=-1)
    left, right = (
        np.take_along_axis(courses, k[..., None], -1)[..., 0] for k in (np.maximum(before, 0), before + 1)
    )
    rise = np.where(before < 0, 1.0, right - left)
    share = np.where(before < 0, 0.0, (ONSET * height[..., 0] - left) / np.where(rise > 0, rise, 1.0))
    start = np.maximum(before, 0)
    after = np.minimum(start + 1, len(times) - 1)
    onset = times[start] + share * (times[after] - times[start])
    risen = height[..., 0] > 0
    return np.where(risen, times[at], np.nan), np.where(risen, onset, np.nan)


def latency_table(
    scores: Array, times: Array, n_resamples: int, random_state: int | None
) -> dict[str, tuple[tuple[str, ...], Array]]:
    """Latencies of the mean over people, and the middle 95 % of them when people are drawn again.

    Parameters
    ----------
    scores
        people × models × times, chance level at 0.
    times
        Seconds.
    n_resamples
        Draws of people with replacement, the same for all models, so that their draws can be subtracted; 0, or one
        person: no intervals.

    Returns
    -------
    dict
        ``peak`` and ``onset`` along ``model`` with ``_low`` and ``_high``, and ``peak_draws``, ``onset_draws``
        (draw × model).
    """
    table: dict[str, tuple[tuple[str, ...], Array]] = {}
    for name, when in zip(("peak", "onset"), find_latencies(scores.mean(axis=0), times), strict=True):
        table[name] = (("model",), when)
    if n_resamples and len(scores) > 1:
        rng = np.random.default_rng(random_state)
        n = len(scores)
        counts = rng.multinomial(n, np.full(n, 1 / n), n_resamples) / n
        draws = (counts @ scores.reshape(n, -1)).reshape(n_resamples, *scores.shape[1:])
        for name, when in zip(("peak", "onset"), find_latencies(draws, times), strict=True):
            low, high = np.full((2, scores.shape[1]), np.nan)
            risen = np.isfinite(when).any(axis=0)
            low[risen], high[risen] = np.nanquantile(when[:, risen], [0.025, 0.975], axis=0)
            table |= {f"{name}_low": (("model",), low), f"{name}_high": (("model",), high)}
            table[f"{name}_draws"] = (("draw", "model"), when)
    return table
