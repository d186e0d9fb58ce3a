"""Features as a scanner sees them: convolved with a haemodynamic response, at the times of the volumes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..neuro.assembly import validate
from ..neuro.runs import RUN_LABELS, name_of, runs_of
from .containers import labels_along

Array = NDArray[np.float64]
#: seconds between samples of a response function, and how long it is
STEP, LENGTH = 0.001, 32.0
#: volumes times feature samples that are weighted at a time
AT_ONCE = 1 << 23


def convolve_hrf(
    features: xr.DataArray,
    recording: xr.DataArray,
    hrf: str | Any | None = "spm",
    *,
    reference: float = 0.5,
    hrf_step: float | None = None,
) -> xr.DataArray:
    """Convolve features with a haemodynamic response, and take the result at the volumes of a recording.

    A feature holds its value from the start to the end of its bin (or presentation); the response to such a step is
    integrated exactly, so that features may have any rate. Nothing is learned from the data.

    Parameters
    ----------
    features
        ``time_bin × neuroid`` (features over time at any rate), or ``presentation × neuroid`` with coordinates
        ``onset`` and ``duration`` in seconds (0: an impulse of the feature's size times one second). Where the
        recording has several runs, features have the same labels ``subject``, ``session``, ``run``, and times count
        from the start of the run as those of the recording do.
    recording
        Continuous recording, or any labelled array with its ``time_bin`` coordinates.
    hrf
        ``"spm"``, ``"glover"``; these with ``" + derivative"`` or ``" + derivative + dispersion"``, for two or three
        columns a feature; or the values of a response function; or ``None``: the feature itself at each volume, the
        boxcar that :class:`Delays` makes finite impulse responses of.
    reference
        Where in its time bin a volume is taken: 0 start, 0.5 middle (default), 1 end. With slice-timing correction it
        is the slice that was corrected to.
    hrf_step
        Seconds between given values; default: those of a volume.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``, with the labels of the recording along ``time_bin`` and of the features along
        ``neuroid``; ``hrf`` names the response where there are several.

    Raises
    ------
    ValueError
        If times are missing, a run has no features, or the response is unknown.

    Notes
    -----
    Named responses are nilearn's, with an area of one: a feature that stays at 1 ends at 1. Given values are taken as
    they are, per second. Unlike nilearn's regressors, derivatives are not made orthogonal to the main response.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding, neuro
    >>> volumes = neuro.assemble(
    ...     np.zeros((30, 1)),
    ...     time_bin={"time_bin_start": 2.0 * np.arange(30), "time_bin_end": 2.0 * np.arange(1, 31)},
    ...     neuroid={"neuroid_id": ["voxel"]}, modality="fmri", units="a.u.",
    ... )
    >>> shown = neuro.assemble(
    ...     [[1.0]], presentation={"stimulus_id": ["face"], "onset": [10.0], "duration": [1.0]},
    ...     neuroid={"neuroid_id": ["faces"]}, modality="feature", units="a.u.",
    ... )
    >>> response = encoding.convolve_hrf(shown, volumes)
    >>> float(response.time_bin_start[response.values.argmax()])
    14.0
    """
    if not 0 <= reference <= 1:
        raise ValueError(f"reference must be from 0 (start of a volume) to 1 (its end), got {reference}.")
    validate(features)
    validate(recording)
    if recording.dims[0] != "time_bin":
        raise ValueError(
            f"the recording is {' × '.join(map(str, recording.dims))}; it must begin with 'time_bin'."
        )
    start, end = _bins(features)
    values = np.asarray(features.values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{int((~np.isfinite(values)).sum())} features are missing or infinite; fill them in first."
        )
    volumes = _times(recording, "time_bin_start", "time_bin_end")
    steps = _step_responses(hrf, float(np.median(volumes[1] - volumes[0])) if hrf_step is None else hrf_step)
    taken = volumes[0] + reference * (volumes[1] - volumes[0])
    out = np.zeros((recording.sizes["time_bin"], len(steps), features.sizes["neuroid"]))
    whole: list[tuple[dict[str, Any], NDArray[np.intp]]] = [({}, np.arange(len(out)))]
    for key, at in runs_of(recording) if "run" in recording.coords else whole:
        rows = _same_run(features, recording, key)
        if not len(rows):
            raise ValueError(
                f"there are no features of {name_of(key) or 'the recording'}; give it some (zeros count)."
            )
        for number, step in enumerate(steps.values()):
            out[at, number] = _response(taken[at], start[rows], end[rows], values[rows], step)
    return _labelled(out, features, recording, list(steps), reference)


def _response(taken: Array, start: Array, end: Array, values: Array, step: Array) -> Array:
    """Response at some times to values that last from start to end, from the response to a step."""
    order = np.argsort(taken, kind="stable")
    out = np.zeros((len(taken), values.shape[1]))
    impulse = end == start
    # an impulse is a short step, scaled to one second
    end, scale = np.where(impulse, end + STEP, end), np.where(impulse, 1 / STEP, 1.0)
    for some in np.array_split(order, min(len(taken), 1 + len(taken) * len(start) // AT_ONCE)):
        near = np.flatnonzero((start <= taken[some[-1]]) & (end > taken[some[0]] - STEP * len(step)))
        weights = _at(step, taken[some, None] - start[near]) - _at(step, taken[some, None] - end[near])
        out[some] = (weights * scale[near]) @ values[near]
    return out


def _at(step: Array, time: Array) -> Array:
    """The response to a step, so many seconds after it."""
    return np.interp(time, STEP * np.arange(len(step)), step, left=0.0)


def _step_responses(hrf: Any, hrf_step: float) -> dict[str, Array]:
    """Integral of each response function, every ``STEP`` seconds."""
    if hrf is None:
        return {"none": np.array([1.0])}
    if not isinstance(hrf, str):
        given = np.asarray(hrf, dtype=np.float64)
        if given.ndim != 1 or len(given) < 2 or not np.isfinite(given).all() or not hrf_step > 0:
            raise ValueError("hrf must be a name or at least two finite values, hrf_step seconds apart.")
        times = np.arange(0, hrf_step * (len(given) - 1) + STEP / 2, STEP)
        return {"given": _integral(np.interp(times, hrf_step * np.arange(len(given)), given))}
    from nilearn.glm.first_level import hemodynamic_models as models

    name, *more = (part.strip() for part in hrf.split("+"))
    if name not in ("spm", "glover") or more not in ([], ["derivative"], ["derivative", "dispersion"]):
        raise ValueError(
            f"hrf={hrf!r} is unknown; use 'spm' or 'glover', with ' + derivative' or ' + derivative + dispersion' "
            "added, or give its values."
        )
    functions = {name: f"{name}_hrf", "derivative": f"{name}_time_derivative"}
    functions["dispersion"] = f"{name}_dispersion_derivative"
    sampled = {part: getattr(models, functions[part])(1.0, round(1 / STEP), LENGTH) for part in (name, *more)}
    # nilearn's sum to one whatever their step
    return {part: _integral(values / STEP) for part, values in sampled.items()}


def _integral(values: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2)]) * STEP


def _bins(features: xr.DataArray) -> tuple[Array, Array]:
    """When each sample of the features begins and ends."""
    if features.ndim == 2 and features.dims[0] == "time_bin":
        start, end = _times(features, "time_bin_start", "time_bin_end")
        return start, end
    if features.ndim != 2 or features.dims[0] != "presentation":
        raise ValueError(
            f"features are {' × '.join(map(str, features.dims))}; give time_bin × neuroid or presentation × neuroid."
        )
    missing = [name for name in ("onset", "duration") if name not in features.coords]
    if missing:
        raise ValueError(
            f"presentations have no {' and no '.join(missing)}; add them as coordinates, in seconds."
        )
    onset, duration = _times(features, "onset", "duration")
    if (duration < 0).any():
        raise ValueError(
            f"presentation {int(np.argmax(duration < 0))} has a negative duration; check the events."
        )
    return onset, onset + duration


def _times(array: xr.DataArray, *names: str) -> tuple[Array, ...]:
    times = tuple(np.asarray(array.coords[name].values, dtype=np.float64) for name in names)
    for name, values in zip(names, times, strict=True):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name} is missing in row {int(np.argmin(np.isfinite(values)))}; give every row one."
            )
    return times


def _same_run(features: xr.DataArray, recording: xr.DataArray, key: dict[str, Any]) -> NDArray[np.intp]:
    """Rows of the features that belong to a run of the recording."""
    same = np.ones(len(features), dtype=bool)
    for name in RUN_LABELS:
        if name in features.coords and features.coords[name].dims == features.dims[:1] and name in key:
            same &= features.coords[name].values == key[name]
        elif name in key and len(np.unique(recording.coords[name].values)) > 1:
            raise ValueError(
                f"the recording has several {name}s; label the rows of the features by {name!r} too."
            )
    return np.flatnonzero(same)


def _labelled(
    out: Array, features: xr.DataArray, recording: xr.DataArray, responses: list[str], reference: float
) -> xr.DataArray:
    labels: dict[Hashable, Any] = dict(labels_along(recording, "time_bin"))
    for name, (dim, values) in labels_along(features, "neuroid").items():
        labels.setdefault(name, (dim, np.tile(values, len(responses))))
    if len(responses) > 1:
        names = np.repeat(responses, features.sizes["neuroid"])
        ids = [f"{key} {name}" for key, name in zip(labels["neuroid_id"][1], names, strict=True)]
        labels |= {"hrf": ("neuroid", names), "neuroid_id": ("neuroid", np.array(ids))}
    attrs = dict(features.attrs)
    source = attrs.get("provenance", "")
    attrs["provenance"] = (
        f"{source}; {' + '.join(responses)} response, volumes taken at {reference:g} of their bins"
    )
    attrs.pop("sfreq", None)
    if "sfreq" in recording.attrs:
        attrs["sfreq"] = recording.attrs["sfreq"]
    return xr.DataArray(out.reshape(len(out), -1), labels, ("time_bin", "neuroid"), attrs=attrs)
