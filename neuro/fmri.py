"""fMRI in and out: images, events and masks become labelled arrays, and results become images again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import assemble
from .bids import Outside, find_runs, read_events
from .bold import grid, read_atlas, sphere_atlas
from .brainmaps import to_img
from .cleaning import STANDARDIZATIONS, clean_runs, raw_values, read_confounds, region_means
from .firstlevel import betas
from .runs import Runs, open_runs, pack_events, time_table
from .trials import block_means, select_reliable

__all__ = ["betas", "block_means", "read", "read_bids", "select_reliable", "to_img"]

#: what the options of read may be
CHOICES: dict[str, Sequence[Any]] = {
    "design": ("block", "event"),
    "outside": ("raise", "crop"),
    "unit": ("voxel", "region"),
    "invalid": ("raise", "drop"),
    "filter": (None, "cosine", "butterworth"),
    "detrend": ("linear", True, None, False),
    "standardize": tuple(STANDARDIZATIONS),
}
#: units of the values after each standardization
UNITS = {None: "a.u.", "zscore_sample": "z", "psc": "%"}


def read(
    runs: Any,
    *,
    events: Any = None,
    design: Literal["block", "event"] = "block",
    delay: float = 0.0,
    outside: Outside = "raise",
    mask: Any = None,
    atlas: Any = None,
    region_names: Any = None,
    spheres: Mapping[str, Sequence[float]] | None = None,
    unit: Literal["voxel", "region"] = "voxel",
    mesh: Any = None,
    smoothing_fwhm: float | None = None,
    detrend: Literal["linear"] | bool | None = None,
    high_pass: float | None = None,
    low_pass: float | None = None,
    filter: Literal["cosine", "butterworth"] | None = None,
    confounds: Any = None,
    sample_mask: Any = None,
    standardize: Literal["zscore", "psc"] | bool | None = "zscore",
    invalid: Literal["raise", "drop"] = "raise",
    t_r: float | None = None,
    subject: str | None = None,
    dtype: str = "float32",
    progress: bool | None = None,
) -> xr.DataArray:
    """Read one or several runs into one continuous array, cleaned run by run through nilearn.

    Parameters
    ----------
    runs
        One run or a list of runs, or ``{label: run}`` to name them (else they are 0, 1, …). A run is the path or
        image of a 4-D NIfTI, of a CIFTI ``dtseries``, a nilearn ``SurfaceImage``, or GIFTI files
        ``{"left": …, "right": …}``.
    events, confounds, sample_mask
        One a run, in the same form as ``runs``. Events: BIDS ``events.tsv`` or ``DataFrame``. Confounds: table,
        array or text file, volumes × regressors, regressed out. Sample mask: indices of the volumes kept
        (scrubbing), as ``nilearn.interfaces.fmriprep.load_confounds`` gives them.
    design
        ``"block"`` labels every volume by the event it lies in. ``"event"`` labels none, for events that overlap
        or are shorter than a volume. Either way the events travel in ``attrs["events"]`` to :func:`betas`.
    delay
        Seconds by which the labels of volumes come later than the events (haemodynamic lag); default none.
    outside
        Events not wholly inside their run are refused (``"raise"``) or cut to it (``"crop"``).
    mask
        Image of what to keep. Brought, as ``atlas``, to the grid of the runs by nearest neighbour.
    atlas, region_names
        Label image (or what nilearn's atlas fetchers give) and names ``{label: name}`` or a table with ``index``
        and ``name``. Without a mask only labelled units are kept.
    spheres
        Instead of an atlas, ``{name: (x, y, z, radius)}`` in mm.
    unit
        ``"voxel"``: every voxel, vertex or grayordinate; ``"region"``: the mean of every region before cleaning.
    mesh
        Mesh of GIFTI runs, for the places of vertices; a ``SurfaceImage`` has its own.
    smoothing_fwhm
        Gaussian smoothing of volumes in mm.
    detrend, high_pass, low_pass, standardize
        As in ``nilearn.signal.clean``, in each run by itself: linear trend removed; filter limits in Hz; ``"zscore"``
        (``True``) with the sample standard deviation, ``"psc"`` percent signal change.
    filter
        ``"cosine"`` regresses out slow cosines, as SPM and fMRIPrep do, and is much faster; ``"butterworth"``. Default
        the first for a high-pass alone, the second where ``low_pass`` is given.
    invalid
        Voxels that are constant or not finite in any run are refused (``"raise"``) or left out (``"drop"``, counted in
        ``attrs["dropped_constant"]`` and ``attrs["dropped_nonfinite"]``).
    t_r
        Repetition time in seconds; default what the files say.
    subject
        Label of all units, also put before their ids.
    dtype
        Precision of the result; cleaning itself is in double precision.
    progress
        Whether to draw a progress bar; default on a terminal.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``. Along ``time_bin``: ``time_bin_start`` and ``time_bin_end`` in seconds **within the
        run**, ``run``, and with events ``trial_type``, ``stimulus_id`` (``"rest"`` between events) and ``block``
        (number of the event over all runs, -1 between). Along ``neuroid``: ``neuroid_id``, ``x`` ``y`` ``z`` (mm),
        ``i`` ``j`` ``k`` (or ``hemisphere`` ``vertex``; or ``structure``), ``region`` and ``label`` with an atlas.

    Raises
    ------
    ValueError, TypeError, OSError
        Naming run, event or voxel that is wrong.

    Examples
    --------
    >>> import nibabel, numpy as np, pandas as pd
    >>> from cerebridge import neuro
    >>> run = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(3, 2, 2, 9)), np.eye(4))
    >>> table = pd.DataFrame({"onset": [4.0], "duration": [4.0], "trial_type": ["face"]})
    >>> array = neuro.fmri.read([run, run], events=[table, table], t_r=2.0, detrend="linear")
    >>> array.dims, array.shape, int((array.trial_type == "face").sum())
    (('time_bin', 'neuroid'), (18, 12), 4)
    """
    chosen = {"design": design, "outside": outside, "unit": unit, "invalid": invalid}
    _check_choices(**chosen, filter=filter, detrend=detrend, standardize=standardize)
    scan = open_runs(runs, t_r)
    regions = _atlas(scan, atlas, region_names, spheres)
    tables = _events(scan, events, outside)
    nuisance = [
        read_confounds(table, size, name)
        for table, name, size in zip(scan.each(confounds, "confounds"), scan.names, scan.sizes, strict=True)
    ]
    units = grid(scan, mask=mask, atlas=regions, mesh=mesh)
    values, neuroid, dropped = raw_values(
        scan, units, smoothing_fwhm=smoothing_fwhm, invalid=invalid, dtype=dtype, progress=progress
    )
    if unit == "region":
        values, neuroid = region_means(values, neuroid)
    method = STANDARDIZATIONS[standardize]
    options = {"detrend": bool(detrend), "standardize": method, **_filter(filter, high_pass, low_pass)}
    values, volumes = clean_runs(values, scan, nuisance, scan.each(sample_mask, "sample_mask"), options)
    array = assemble(
        values,
        time_bin=time_table(scan, volumes, tables, delay if design == "block" else None),
        neuroid=_of_subject(neuroid, subject),
        modality="fmri",
        units=UNITS[method],
        sfreq=1 / scan.t_r,
        provenance=_provenance(len(scan.sizes), nuisance, smoothing_fwhm, options),
    )
    array.attrs.update(units.attrs, **dropped, n_censored=sum(scan.sizes) - len(values))
    if tables is not None:
        array.attrs["events"] = pack_events(scan, tables)
        array.attrs["events_cropped"] = sum(table.attrs["cropped"] for table in tables)
    return array


def _check_choices(**given: Any) -> None:
    for name, value in given.items():
        if value not in CHOICES[name]:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, CHOICES[name]))}.")


def _atlas(scan: Runs, atlas: Any, region_names: Any, spheres: Mapping[str, Sequence[float]] | None) -> Any:
    if spheres is None:
        return read_atlas(atlas, region_names)
    if atlas is not None or scan.kind != "nifti":
        raise ValueError(
            "spheres are regions of volumes and take the place of an atlas; give one of the two."
        )
    return sphere_atlas(spheres, scan.images[0])


def _events(scan: Runs, events: Any, outside: Outside) -> list[pd.DataFrame] | None:
    if events is None:
        return None
    return [
        read_events(table, where=name, duration=size * scan.t_r, outside=outside)
        for table, name, size in zip(scan.each(events, "events"), scan.names, scan.sizes, strict=True)
    ]


def _filter(name: str | None, high_pass: float | None, low_pass: float | None) -> dict[str, Any]:
    """nilearn's filter options; none where no limit is given."""
    if high_pass is None and low_pass is None:
        return {"filter": False}
    if name == "cosine" and low_pass is not None:
        raise ValueError(
            "cosines cannot filter above low_pass; pass filter='butterworth', or leave low_pass out."
        )
    chosen = name or ("cosine" if low_pass is None else "butterworth")
    return {"filter": chosen, "high_pass": high_pass, "low_pass": low_pass}


def _of_subject(neuroid: dict[str, NDArray[Any]], subject: str | None) -> dict[str, NDArray[Any]]:
    if subject is None:
        return neuroid
    ids = np.array([f"{subject}-{place}" for place in neuroid["neuroid_id"]])
    return {**neuroid, "neuroid_id": ids, "subject": np.full(len(ids), subject)}


def _provenance(
    n_runs: int, nuisance: Sequence[Any], smoothing_fwhm: float | None, options: Mapping[str, Any]
) -> str:
    import nilearn

    columns = [table.shape[1] for table in nuisance if table is not None]
    done = {"smoothing_fwhm": smoothing_fwhm, "confounds": max(columns, default=None), **options}
    said = ", ".join(f"{name} {value}" for name, value in done.items() if value not in (None, False))
    return f"{n_runs} runs by nilearn {nilearn.__version__}; in each run: {said or 'nothing done'}"


def read_bids(
    folder: str | Path,
    task: str,
    subject: str,
    *,
    space: str | None = None,
    session: str | None = None,
    entities: Mapping[str, str] | None = None,
    derivatives: str | Path | None = None,
    events: bool = True,
    confounds: Sequence[str] | Mapping[str, str] | None = ("motion", "high_pass", "wm_csf"),
    mask: Any = None,
    **options: Any,
) -> xr.DataArray:
    """Read all runs of one subject and task from a BIDS folder with fMRIPrep's output, in one call.

    Parameters
    ----------
    folder
        The BIDS data set, with the events beside the raw runs.
    task, subject, space, session
        Entities of the file names, without ``task-`` and the like. ``space`` is needed where fMRIPrep wrote several.
    entities
        Further entities that choose among versions, e.g. ``{"res": "2"}``.
    derivatives
        fMRIPrep's output; default ``folder/derivatives/fmriprep`` where it exists, else ``folder``.
    events
        ``False`` for rest: no events are looked for.
    confounds
        Strategy of ``nilearn.interfaces.fmriprep.load_confounds``, e.g. ``("motion", "scrub")``, or with the option
        of each part ``{"motion": "basic", "wm_csf": "full"}``; ``None`` regresses nothing out.
    mask
        Default what fMRIPrep's brain masks of all runs have in common.
    **options
        As in :func:`read`.

    Returns
    -------
    xarray.DataArray
        As :func:`read` gives it, with ``subject``, the runs' own numbers as ``run``, and ``session`` where there are
        sessions.

    Raises
    ------
    FileNotFoundError, ValueError
        If runs, masks, events or confounds are missing, or a space must be chosen.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> neuro.fmri.read_bids("/no/such/folder", "faces", "01")
    Traceback (most recent call last):
        ...
    FileNotFoundError: there is no folder /no/such/folder.
    """
    from nilearn.masking import intersect_masks

    runs = find_runs(
        folder,
        task,
        subject,
        space=space,
        session=session,
        entities=entities,
        derivatives=derivatives,
        events=events,
    )
    if mask is None and runs[0].mask is not None:
        mask = intersect_masks([str(run.mask) for run in runs], threshold=1, connected=False)
    tables, masks = zip(*(_fmriprep_confounds(run.bold, confounds) for run in runs), strict=True)
    return read(
        {run.key: run.bold for run in runs},
        events=[run.events for run in runs] if events else None,
        confounds=list(tables),
        sample_mask=list(masks),
        mask=mask,
        subject=subject.removeprefix("sub-"),
        **options,
    )


def _fmriprep_confounds(bold: Any, strategy: Sequence[str] | Mapping[str, str] | None) -> tuple[Any, Any]:
    """Confounds and kept volumes of one run, beside which fMRIPrep wrote its table."""
    from nilearn.interfaces.fmriprep import load_confounds

    if strategy is None:
        return None, None
    files = [str(path) for path in bold.values()] if isinstance(bold, Mapping) else str(bold)
    settings = dict(strategy) if isinstance(strategy, Mapping) else {}
    return load_confounds(files, strategy=tuple(strategy), **settings)
