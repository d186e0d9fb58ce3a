"""First-level models of single runs: a response to every trial or condition, through nilearn's GLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .bids import read_events
from .cleaning import read_confounds
from .progress import track
from .runs import name_of, per_run, runs_of, unpack_events
from .trials import constant_labels, presentations

Model = Literal["single-trial", "condition", "lss"]
#: response functions of one regressor, for which the regressors of trials add up to that of all trials together
LINEAR_HRFS = ("spm", "glover", None)
INSEPARABLE = (
    "cannot be told from the others and the drift (too many events for the volumes, an event after the last volume, or "
    "events that cover all of the run); leave out events, or use model='lss' or 'condition'."
)


def betas(
    array: xr.DataArray,
    events: Any = None,
    *,
    model: Model = "single-trial",
    hrf_model: Any = "spm",
    noise_model: str = "ar1",
    drift_model: str | None = "cosine",
    high_pass: float = 0.01,
    confounds: Any = None,
    slice_time_ref: float = 0.0,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> xr.DataArray:
    """Estimate the response of every unit to every trial or condition, run by run, with nilearn's first-level GLM.

    Parameters
    ----------
    array
        Continuous, as :func:`read` gives it; ``standardize=None`` keeps the scanner's units, and the drift model
        here takes the place of detrending there.
    events
        One table or path a run (list in the runs' order, or ``{run: table}``); default those the array was read with.
    model
        ``"single-trial"``: all trials of a run in one model. ``"condition"``: one regressor a condition and run.
        ``"lss"``: least squares separate, for every trial a model of that trial and one regressor of all others
        (Mumford et al. 2012, NeuroImage), better where trials follow quickly.
    hrf_model, drift_model, high_pass
        As in ``nilearn.glm.first_level.make_first_level_design_matrix``; of a model with derivatives the main response
        is returned. ``"fir"`` has no single response and is refused.
    noise_model
        ``"ar1"``, ``"arN"`` or ``"ols"`` as in ``nilearn.glm.first_level.run_glm``. ``lss`` with ``"ols"`` and a plain
        response function is solved in closed form, with other noise by a model a trial.
    confounds
        One table, array or path a run; not those already regressed out by :func:`read`.
    slice_time_ref
        When within the repetition time a volume is taken, from 0 (start, default) to 1.
    n_jobs
        Processes for other noise than ``"ols"``.
    progress
        Whether to draw a progress bar; default on a terminal.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``, in the units of ``array``. Along ``presentation``: ``stimulus_id``, ``trial_type``,
        ``onset`` and ``duration`` (single trials), ``run``, labels that are constant in a run, ``repetition``.

    Raises
    ------
    ValueError
        If volumes are missing, events lie outside their run, or responses cannot be told apart.

    Examples
    --------
    >>> import nibabel, numpy as np, pandas as pd
    >>> from cerebridge import neuro
    >>> run = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(2, 2, 1, 60)), np.eye(4))
    >>> table = pd.DataFrame({"onset": [10.0, 50.0], "duration": 8.0, "trial_type": ["face", "house"]})
    >>> array = neuro.fmri.read(run, events=table, t_r=2.0, standardize=None)
    >>> neuro.fmri.betas(array, model="lss", noise_model="ols").stimulus_id.values.tolist()
    ['face', 'house']
    """
    if model not in ("single-trial", "condition", "lss"):
        raise ValueError(f"model is {model!r}; it must be 'single-trial', 'condition' or 'lss'.")
    if hrf_model == "fir":
        raise ValueError(
            "hrf_model 'fir' gives several values a response; use one with a single value, e.g. 'spm'."
        )
    keys, rows = map(list, zip(*runs_of(array), strict=True))
    broken = np.flatnonzero(~np.isfinite(array.values).all(axis=0))
    if broken.size:
        raise ValueError(
            f"{broken.size} of {array.sizes['neuroid']} units hold values that are not finite (the first is "
            f"{array.coords['neuroid_id'].values[broken[0]]}); leave them out first."
        )
    short = [key["run"] if len(key) == 1 else tuple(key.values()) for key in keys]
    if events is None:
        tables = unpack_events(array, keys)
    else:
        tables = per_run(events, short, len(keys) == 1, "events")
    nuisance = per_run(confounds, short, len(keys) == 1, "confounds")
    design = {"hrf_model": hrf_model, "drift_model": drift_model, "high_pass": high_pass}
    fit = {"noise_model": noise_model, "n_jobs": n_jobs, "random_state": 0}
    separately = _separate if model == "lss" else _together
    values, labels, constant = [], [], constant_labels(array, rows)
    work = list(zip(keys, rows, tables, nuisance, strict=True))
    for k, (key, at, table, regressors) in enumerate(track(work, "estimating responses", show=progress)):
        name = name_of(key)
        start, end = _volume_times(array, at, name)
        trials = _trials(read_events(table, where=name, duration=float(end[-1])), model, name)
        frames = {
            "frame_times": start + slice_time_ref * (end - start),
            "add_regs": read_confounds(regressors, len(at), name),
        }
        signal = array.values[at].astype(np.float64)
        values.append(separately(signal, trials, {**design, **frames}, fit, name))
        described = trials.drop_duplicates("regressor").drop(columns="regressor")
        own = {label: column[k] for label, column in constant.items() if label not in described}
        labels.append(described.assign(**own))
    table = pd.concat(labels, ignore_index=True)
    if model == "condition":
        table = table.drop(columns=["onset", "duration"])
    columns = {str(column): np.array(table[column].tolist()) for column in table}
    out = presentations(array, np.concatenate(values).astype(array.dtype), columns)
    out.attrs["provenance"] = (
        f"{array.attrs.get('provenance', '')}; {model} betas, {hrf_model} response, {noise_model} noise"
    )
    return out


def _volume_times(array: xr.DataArray, rows: NDArray[Any], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    start, end = (array.coords[f"time_bin_{which}"].values[rows].astype(float) for which in ("start", "end"))
    gap = np.flatnonzero(np.abs(start[1:] - end[:-1]) > 1e-3 * (end[0] - start[0]))
    if gap.size:
        raise ValueError(
            f"{name} lacks volumes after {end[gap[0]]:g} s; drifts and noise need whole runs: read it without "
            "sample_mask and give spikes as confounds."
        )
    return start, end


def _trials(events: pd.DataFrame, model: Model, name: str) -> pd.DataFrame:
    """The events, and in ``regressor`` the column of the design in which each of them stands."""
    if events.empty:
        raise ValueError(f"{name} has no events, so there is no response to estimate; select the other runs.")
    if model == "condition":
        events = events.assign(stimulus_id=events["trial_type"])
        codes = pd.factorize(events["trial_type"])[0]
    else:
        codes = np.arange(len(events))
    return events.assign(regressor=[f"response {code}" for code in codes])


def _design(
    trials: pd.DataFrame, regressor: Any, design: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """nilearn's design matrix, as the columns of ``regressor`` in order of appearance, and all others."""
    from nilearn.glm.first_level import make_first_level_design_matrix

    events = trials[["onset", "duration"]].assign(trial_type=regressor)
    matrix = make_first_level_design_matrix(events=events, **design)
    wanted = list(dict.fromkeys(regressor))
    return matrix[wanted].to_numpy(), matrix.drop(columns=wanted).to_numpy()


def _together(
    signal: NDArray[Any], trials: pd.DataFrame, design: Mapping[str, Any], fit: Mapping[str, Any], name: str
) -> NDArray[Any]:
    """All responses of a run in one model, responses × units."""
    wanted, others = _design(trials, trials["regressor"].tolist(), design)
    return _fit(signal, wanted, others, fit, name)


def _separate(
    signal: NDArray[Any], trials: pd.DataFrame, design: Mapping[str, Any], fit: Mapping[str, Any], name: str
) -> NDArray[Any]:
    """Least squares separate: every response in a model of its own, responses × units."""
    if fit["noise_model"] == "ols" and design["hrf_model"] in LINEAR_HRFS:
        weights = _lss_weights(*_design(trials, trials["regressor"].tolist(), design), name)
        return weights.T @ signal
    responses = []
    for k in range(len(trials)):
        roles = ["trial" if row == k else "other trials" for row in range(len(trials))]
        order = np.argsort([role != "trial" for role in roles], kind="stable")
        wanted, others = _design(trials.iloc[order], [roles[row] for row in order], design)
        responses.append(_fit(signal, wanted, others, fit, name)[0])
    return np.stack(responses)


def _lss_weights(trials: NDArray[Any], nuisance: NDArray[Any], name: str) -> NDArray[Any]:
    """Weights of the volumes that give each trial's response in a model of it, the sum of the others, and ``nuisance``.

    With the nuisance projected out, each model has two regressors, and its normal equations are solved by hand.
    """
    from scipy.linalg import orth

    basis = orth(nuisance)
    trial = trials - basis @ (basis.T @ trials)
    others = trial.sum(axis=1, keepdims=True) - trial
    tt, oo, to = (trial**2).sum(axis=0), (others**2).sum(axis=0), (trial * others).sum(axis=0)
    if trials.shape[1] == 1:
        oo, to = np.ones(1), np.zeros(1)
    determinant = tt * oo - to**2
    size = (trials**2).sum(axis=0)
    lost = np.flatnonzero((size < 1e-12 * size.max()) | (tt < 1e-10 * size) | (determinant < 1e-10 * tt * oo))
    if lost.size:
        raise ValueError(f"the response to event {lost[0]} of {name} {INSEPARABLE}")
    return (trial * oo - others * to) / determinant


def _fit(
    signal: NDArray[Any], wanted: NDArray[Any], others: NDArray[Any], fit: Mapping[str, Any], name: str
) -> NDArray[Any]:
    """Coefficients of the columns ``wanted``, columns × units."""
    from nilearn.glm.first_level import run_glm

    matrix = np.hstack([wanted, others])
    scale = np.linalg.norm(matrix, axis=0)
    # a response after the last volume leaves only rounding in its column
    scale[scale < 1e-6 * scale[: wanted.shape[1]].max()] = np.inf
    rank, rank_of_others = (
        np.linalg.matrix_rank(part, tol=1e-7) for part in (matrix / scale, others / scale[wanted.shape[1] :])
    )
    if rank - rank_of_others < wanted.shape[1]:
        raise ValueError(f"one of the {wanted.shape[1]} responses of {name} {INSEPARABLE}")
    labels, results = run_glm(signal, matrix, **fit)
    coefficients = np.empty((wanted.shape[1], signal.shape[1]))
    for label, result in results.items():
        coefficients[:, labels == label] = result.theta[: wanted.shape[1]]
    return coefficients
