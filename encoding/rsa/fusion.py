"""Where meets when: regions of fMRI, or layers of a network, with the times of M/EEG by their dissimilarities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ..clusters import Tail
from ..results import Result
from .ceilings import Ceiling, noise_ceiling
from .courses import Testing, add_ceiling, check_chance, course_result, score_cube
from .epochs import Options, timed_rdms
from .forms import average as mean_rdms
from .preparation import stack_named

Array = NDArray[np.float64]
#: ways of comparing whose squares are shares of variance
SHARES = ("pearson", "spearman")


def fuse(
    fmri: Mapping[str, xr.DataArray] | xr.DataArray,
    meg: Any,
    method: str = "spearman",
    *,
    by: str | None = None,
    given: Any = None,
    metric: str = "correlation",
    noise: Any = None,
    cv: str = "run",
    window: float | None = None,
    step: float | None = None,
    average: bool = False,
    ceiling: Ceiling = "rank",
    joint: bool = False,
    tail: Tail = "greater",
    threshold: float | Literal["tfce"] | None = None,
    permutations: int = 1000,
    n_resamples: int = 1000,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> Result:
    """Similarity of the RDMs of regions (or layers) with those of M/EEG at every time (Cichy, Pantazis & Oliva, 2014).

    Parameters
    ----------
    fmri
        RDMs of regions: ``rdm × pair`` with the label ``by`` along ``rdm``, and ``subject`` where there are several
        people; or RDMs of layers; or a mapping of name to an array of one RDM.
    meg
        RDMs over time, or epochs, of several people: as the data of :func:`infer_over_time`.
    method
        How RDMs are compared: see :func:`compare`.
    by
        Label along the RDMs of ``fmri`` that names regions; default ``"region"`` where there is one, else
        ``"neuroid_id"``.
    given
        Model RDMs. Beside the similarity there is then the commonality of region, time and these models: the share of
        variance of a time's dissimilarities that region and models explain alike, R²(region) + R²(models) - R²(both)
        (Hebart et al., 2018, eLife). It needs ``"spearman"`` (of ranks) or ``"pearson"``, and may be negative.
    metric, noise, cv, window, step, average
        Of the dissimilarities of M/EEG epochs: as for :func:`infer_over_time`.
    ceiling
        How people are pooled for noise ceilings: see :func:`noise_ceiling`.
    joint
        Whether clusters extend over neighbouring rows too: for layers in their order.
    tail, threshold, permutations, n_resamples, random_state
        As for :func:`infer_over_time`.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    Result
        As of :func:`infer_over_time`, regions in the place of models, each the mean RDM over people. ``ceiling`` is
        that of M/EEG at each time; ``ceiling_region`` (model), the mean similarity of a person's region with the pool
        of the others', where ``fmri`` has several people. The people of M/EEG vary in tests and intervals: at times
        without a response their noise differs, while that of a mean over them would be the same for everyone. With
        ``given``, ``commonality`` (model × unit), and of it ``t_commonality``, ``p_commonality`` and
        ``significant_commonality`` (model × time).

    Raises
    ------
    ValueError
        If ``by`` is no label, ``meg`` has no time, stimuli differ, or clusters are to be tested on one person.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> early, late = np.random.default_rng(0).standard_normal((2, 12, 5))
    >>> people = [neuro.simulate({"a": early, "b": late}, "eeg", snr=5, random_state=k) for k in range(6)]
    >>> voxels = neuro.simulate({"EVC": early, "IT": late}, "fmri", snr=50, random_state=0)
    >>> result = rsa.fuse(rsa.rdm(voxels, by="region"), people, random_state=0)
    >>> result.dataset["peak"].sel(model=["EVC", "IT"]).values.round(2).tolist()
    [0.11, 0.18]
    """
    if given is not None and method not in SHARES:
        raise ValueError(
            f"given= asks for shares of variance, which method={method!r} has none of; use 'spearman' or 'pearson'."
        )
    testing = Testing(joint, tail, threshold, permutations, n_resamples, random_state)
    timed = timed_rdms(meg, Options(metric, noise, cv, window, step, average, device), "meg")
    rows = stack_named(fmri, timed.rdms, "fmri")
    label = _label(rows, by)
    covariates = None if given is None else stack_named(given, timed.rdms, "given")
    regions = mean_rdms(rows, by=label)
    testing.check(len(timed.grid.people))
    check_chance(timed.rdms, method, testing)
    scores = score_cube(regions, timed, method, device)
    result = course_result(
        regions,
        scores,
        timed,
        testing,
        method=method,
        audit={
            "people": f"{len(timed.grid.people)} of meg vary; regions are means over people",
            "given": [] if covariates is None else covariates.coords["neuroid_id"].values.tolist(),
        },
    )
    add_ceiling(result.dataset, timed, method, ceiling, device)
    _add_region_ceilings(result.dataset, rows, label, method, ceiling, device)
    if covariates is not None:
        # what the region explains beyond the models is the square of its semi-partial correlation
        common = scores**2 - score_cube(regions, timed, method, device, given=covariates, semi="a") ** 2
        _add_commonality(result.dataset, common, testing)
    return result


def _label(rows: xr.DataArray, by: str | None) -> str:
    """The label that names regions."""
    name = by or ("region" if "region" in rows.coords else "neuroid_id")
    if name not in rows.coords or rows.coords[name].dims != ("rdm",):
        known = ", ".join(repr(str(n)) for n, c in rows.coords.items() if c.dims == ("rdm",))
        raise ValueError(f"by={name!r} is no label along 'rdm' of fmri; there are {known}.")
    return name


def _add_region_ceilings(
    dataset: xr.Dataset,
    rows: xr.DataArray,
    label: str,
    method: str,
    ceiling: Ceiling,
    device: str | torch.device,
) -> None:
    """How alike the people of ``fmri`` are in each region, where there are several."""
    codes, names = pd.factorize(rows.coords[label].values)
    if (np.bincount(codes) < 2).any():
        return
    bounds = [
        noise_ceiling(rows.isel(rdm=np.flatnonzero(codes == k)), method, ceiling, device=device).lower
        for k in range(len(names))
    ]
    dataset["ceiling_region"] = ("model", np.array(bounds))


def _add_commonality(dataset: xr.Dataset, common: Array, testing: Testing) -> None:
    dataset["commonality"] = (("model", "unit"), common.swapaxes(0, 1).reshape(common.shape[1], -1))
    if testing.permutations:
        names = {"t": "t_commonality", "p_cluster": "p_commonality", "significant": "significant_commonality"}
        tested = testing.apply(common)
        for name, variable in names.items():
            dataset[variable] = (("model", "time"), tested[name])
