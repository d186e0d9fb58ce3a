"""Models and geometries over time: when a model holds, and when one time's geometry is another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import xarray as xr

from ..clusters import Tail
from ..results import Result
from .ceilings import Ceiling
from .courses import Testing, add_ceiling, check_chance, course_result, score_cube
from .epochs import Options, timed_rdms
from .generalisation import generalise_geometry, generalise_patterns
from .models import MixtureModel
from .preparation import check_method, stack_named


def infer_over_time(
    models: Mapping[str, xr.DataArray] | xr.DataArray,
    data: Any,
    method: str = "spearman",
    *,
    metric: str = "correlation",
    noise: Any = None,
    cv: str = "run",
    window: float | None = None,
    step: float | None = None,
    average: bool = False,
    given: Any = None,
    ceiling: Ceiling = "rank",
    joint: bool = False,
    tail: Tail = "greater",
    threshold: float | Literal["tfce"] | None = None,
    permutations: int = 1000,
    n_resamples: int = 1000,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> Result:
    """Score model RDMs on the RDMs of several people at every time, and say when they hold.

    Parameters
    ----------
    models
        ``rdm × pair`` array, one model an RDM; or a mapping of name to such an array of one RDM.
    data
        RDMs over time, ``rdm × pair`` with ``subject``, ``time_bin_start`` and ``time_bin_end`` along ``rdm``; or
        epochs, ``presentation × neuroid × time_bin``, people told apart by ``subject`` along ``neuroid`` or
        ``presentation``; or one array a person, in a list or by name. Times must be the same in all people.
    method
        How RDMs are compared: see :func:`compare`.
    metric, noise, cv
        Of the dissimilarities of epochs: see :func:`rdm`.
    window, step
        Width of a sliding window over epochs, and the distance of windows (default one bin), in seconds. Default:
        every bin for itself.
    average
        Average the bins of a window; default: they make one spatio-temporal pattern. Noise is then that of the units,
        the same in every bin.
    given
        RDMs whose part is taken out of data and models first: partial correlation.
    ceiling
        How people are pooled for the noise ceiling at each time: see :func:`noise_ceiling`.
    joint
        Whether clusters extend over neighbouring models too, and p is corrected over all of them: for layers, in
        their order. Default: each model is tested for itself, over times.
    tail, threshold, permutations
        Of the cluster test over people: sign flips, see :func:`cerebridge.encoding.clusters.cluster_test`. Default:
        scores above 0, threshold p < 0.05. ``permutations=0``: no test, which one person needs.
    n_resamples
        Draws of people for the intervals of peak and onset.
    random_state
        Seeds both.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    Result
        Units are people × times, with ``subject``, ``time_bin_start`` and ``time_bin_end``; ``ceiling`` and
        ``ceiling_upper`` of each. Of ``model × time``: ``t``, ``p_cluster`` (1 outside of clusters), ``cluster``,
        ``p_max`` and ``significant``; ``time`` is the middle of a bin. Of each model: ``peak`` and ``onset`` (where
        the mean course last rises through half of its peak) in seconds, missing where it is nowhere above 0, with
        ``_low`` and ``_high``, 95 % intervals over people drawn again, and ``_draws``, the same people in all models.
        A significant cluster does not say when an effect begins. All of it generalises to other people with the same
        stimuli: of few stimuli, unrelated geometries may be alike by chance, and :func:`infer` resamples stimuli.

    Raises
    ------
    ValueError
        If there is no time, people have other times or stimuli, a window does not fit, or clusters are to be tested
        on one person.

    References
    ----------
    Cichy, Pantazis & Oliva (2014). Resolving human object recognition in space and time. Nat Neurosci 17.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> features = np.random.default_rng(0).standard_normal((12, 5))
    >>> people = [neuro.simulate(features, "eeg", snr=5, random_state=k) for k in range(6)]
    >>> model = rsa.rdm(neuro.simulate(features, "fmri", snr=100, random_state=0))
    >>> result = rsa.infer_over_time({"features": model}, people, random_state=0)
    >>> float(result.dataset["peak"].round(2)[0])
    0.1
    """
    for name, model in models.items() if isinstance(models, Mapping) else ():
        if isinstance(model, MixtureModel):
            raise ValueError(
                f"model {name!r} is to be fitted, and infer_over_time scores fixed models; fit it on other people and "
                "give its predict()."
            )
    testing = Testing(joint, tail, threshold, permutations, n_resamples, random_state)
    timed = timed_rdms(data, Options(metric, noise, cv, window, step, average, device))
    testing.check(len(timed.grid.people))
    check_chance(timed.rdms, method, testing)
    stacked = stack_named(models, timed.rdms, "models")
    covariates = None if given is None else stack_named(given, timed.rdms, "given")
    result = course_result(
        stacked,
        score_cube(stacked, timed, method, device, given=covariates),
        timed,
        testing,
        method=method,
        audit={"given": [] if covariates is None else covariates.coords["neuroid_id"].values.tolist()},
    )
    add_ceiling(result.dataset, timed, method, ceiling, device)
    return result


def generalise_over_time(
    data: Any,
    other: Any = None,
    method: str = "spearman",
    *,
    of: Literal["geometry", "patterns"] = "geometry",
    models: Mapping[str, xr.DataArray] | xr.DataArray | None = None,
    metric: str = "correlation",
    noise: Any = None,
    cv: str | None = None,
    window: float | None = None,
    step: float | None = None,
    average: bool = False,
    tail: Tail = "greater",
    threshold: float | Literal["tfce"] | None = None,
    permutations: int = 1000,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> xr.Dataset:
    """Whether what is represented at one time is represented at another: time × time, in every person.

    Noise that lasts makes neighbouring times alike, and one time equal to itself, whatever is represented. So a time
    is never compared with the same measurement: but with other people, other recordings, or other data.

    Parameters
    ----------
    data
        RDMs over time or epochs of people, as for :func:`infer_over_time`.
    other
        Data of the same people that rows (``data``) are compared with along columns: another task, half of the
        recordings. Its times may differ.
    method
        How RDMs are compared: see :func:`compare`.
    of
        ``"geometry"`` (default): similarity of the RDM of one time with that of another. The patterns may have changed.
        ``"patterns"``: cross-validated distances (crossnobis) along the pattern differences of one time, measured at
        another: whether the same code distinguishes the stimuli. Needs epochs.
    models
        With ``"patterns"``: model RDMs that the cross-temporal RDMs are compared with. Default: their mean over
        pairs, how well stimuli are told apart.
    metric, noise, window, step, average
        As for :func:`infer_over_time`; ``"patterns"`` average the bins of a window, and their metric is crossnobis.
    cv
        Coordinate along ``presentation`` that tells independent recordings apart. For ``"geometry"``, odd and even
        ones make an RDM each, which are compared, in both directions; without it (and without ``other``) people are
        compared with each other. ``"patterns"`` are cross-validated over it; default ``"run"``.
    tail, threshold, permutations, random_state
        Of the cluster test over people on time × time, as for :func:`infer_over_time`.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    xarray.Dataset
        ``score`` (subject × model × time × time_other; one model ``"geometry"`` or ``"mean distance"`` without
        models; of people compared with each other, the mean similarity of one with all others), and of the mean over
        people ``t``, ``p_cluster``, ``cluster``, ``p_max``, ``significant`` (model × time × time_other). Times are
        middles of bins in seconds; of ``"patterns"``, ``time`` is where differences were learned and ``time_other``
        where they were measured. The attribute ``compared`` says what with what, ``missing_pairs`` how many
        pairs somebody lacks, if any. Where people are compared with each
        other, signs are flipped by person in all pairs, because a person's similarities with others vary together.

    Raises
    ------
    ValueError
        If there is no time, one person has nothing independent to be compared with, or times or stimuli differ
        between people.

    References
    ----------
    King & Dehaene (2014). Characterizing the dynamics of mental representations. Trends Cogn Sci 18.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> features = np.random.default_rng(0).standard_normal((12, 5))
    >>> people = [neuro.simulate(features, "eeg", snr=5, random_state=k) for k in range(6)]
    >>> found = rsa.generalise_over_time(people, window=0.05, random_state=0)
    >>> bool(found["significant"].sel(model="geometry", time=0.1, time_other=0.1, method="nearest"))
    True
    """
    check_method(method)
    if of not in ("geometry", "patterns"):
        raise ValueError(f"of={of!r} is unknown; use 'geometry' or 'patterns'.")
    if of == "geometry" and models is not None:
        raise ValueError(
            "models= are for of='patterns'; infer_over_time scores models on the RDM of each time."
        )
    if of == "patterns" and other is not None:
        raise ValueError(
            "other= is for of='geometry'; patterns are compared between the runs of one recording."
        )
    testing = Testing(False, tail, threshold, permutations, 0, random_state)
    options = Options(metric, noise, cv or "run", window, step, average, device)
    if of == "patterns":
        maps = generalise_patterns(data, models, method, options)
    else:
        maps = generalise_geometry(data, other, method, options, cv, testing)
    return maps.dataset(testing, method if of == "geometry" or models is not None else "crossnobis distance")
