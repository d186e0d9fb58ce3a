"""The runs of a recording: how they are given, opened, named and timed, and found again in an array."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .bids import label_volumes

HEMISPHERES = ("left", "right")
#: labels along time_bin that tell runs apart
RUN_LABELS = ("subject", "session", "run")


@dataclass(frozen=True)
class Runs:
    """Opened runs of one kind.

    Parameters
    ----------
    images
        Their images; values of volumes and CIFTI stay on disk until they are read.
    labels
        ``run`` (and ``session``) of each.
    sizes
        Number of volumes of each.
    t_r
        Seconds between volumes.
    kind
        ``"nifti"``, ``"surface"`` or ``"cifti"``.
    single
        Whether one run was given by itself, not in a list.
    mesh
        Mesh of surface runs, if they came with one.
    """

    images: list[Any]
    labels: list[dict[str, Any]]
    sizes: list[int]
    t_r: float
    kind: Literal["nifti", "surface", "cifti"]
    single: bool
    mesh: Any = None

    @property
    def names(self) -> list[str]:
        """Names of the runs in messages."""
        return [name_of(labels) for labels in self.labels]

    def each(self, given: Any, what: str) -> list[Any]:
        """What belongs to each run (events, confounds, …), given in the same form as the runs."""
        keys = [tuple(labels.values()) if len(labels) > 1 else labels["run"] for labels in self.labels]
        return per_run(given, keys, self.single, what)


def per_run(given: Any, keys: Sequence[Any], single: bool, what: str) -> list[Any]:
    """One item a run out of a list in the runs' order, a mapping by their labels, or an item for a single run."""
    if given is None:
        return [None] * len(keys)
    if isinstance(given, Mapping):
        if set(given) != set(keys):
            wrong = sorted(map(repr, set(given) ^ set(keys)))[0]
            raise ValueError(
                f"the {what} are given by run, but {wrong} is only among the {what} or only among the runs."
            )
        return [given[key] for key in keys]
    if single and not isinstance(given, list):
        return [given]
    if not isinstance(given, (list, tuple)) or len(given) != len(keys):
        count = len(given) if isinstance(given, (list, tuple)) else f"one {type(given).__name__}"
        raise ValueError(f"there are {len(keys)} runs, but {what} for {count}; give a list with one a run.")
    return list(given)


def name_of(labels: Mapping[str, Any]) -> str:
    """How messages call a run.

    Examples
    --------
    >>> name_of({"session": "01", "run": 2})
    'session 01 run 2'
    """
    return " ".join(f"{column} {value}" for column, value in labels.items())


def is_surface(run: Any) -> bool:
    """Whether ``run`` is a nilearn ``SurfaceImage`` or one GIFTI file (or array) a hemisphere."""
    return hasattr(run, "mesh") or (
        isinstance(run, Mapping) and len(run) > 0 and set(run) <= set(HEMISPHERES)
    )


def open_runs(runs: Any, t_r: float | None = None) -> Runs:
    """Open the runs of a recording and check that they belong together.

    Parameters
    ----------
    runs
        One run, a list of runs, or ``{label: run}``, where a label may be ``(session, run)``.
    t_r
        Seconds between volumes; default what the files say.

    Raises
    ------
    ValueError
        If a run has no volumes, kinds or repetition times differ, or the repetition time is unknown.

    Examples
    --------
    >>> import nibabel, numpy as np
    >>> open_runs(nibabel.Nifti1Image(np.ones((2, 2, 1, 5)), np.eye(4)), t_r=2.0).sizes
    [5]
    """
    single = False
    if isinstance(runs, Mapping) and not is_surface(runs):
        keys, sources = list(runs), list(runs.values())
    elif isinstance(runs, (list, tuple)):
        keys, sources = list(range(len(runs))), list(runs)
    else:
        keys, sources, single = [0], [runs], True
    if not sources:
        raise ValueError("no runs were given.")
    labels = [
        dict(zip(("session", "run"), key, strict=True)) if isinstance(key, tuple) else {"run": key}
        for key in keys
    ]
    images = [load(source) for source in sources]
    kinds = [_kind(image) for image in images]
    names = [name_of(label) for label in labels]
    for image, kind, name in zip(images, kinds, names, strict=True):
        if kind != kinds[0]:
            raise ValueError(
                f"{name} is of kind {kind}, but {names[0]} of kind {kinds[0]}; read each kind by itself."
            )
        if kind == "nifti" and len(image.shape) != 4:
            raise ValueError(f"the image of {name} has shape {image.shape}; a run is x × y × z × volumes.")
    periods = [_repetition_time(image, t_r, name) for image, name in zip(images, names, strict=True)]
    if len(set(periods)) > 1:
        other = next(k for k, period in enumerate(periods) if period != periods[0])
        raise ValueError(
            f"{names[other]} has a repetition time of {periods[other]:g} s, {names[0]} one of {periods[0]:g} s; read "
            "them apart, or pass t_r if a file is wrong."
        )
    axis = {"nifti": 3, "surface": 1, "cifti": 0}[kinds[0]]
    return Runs(
        images=images,
        labels=labels,
        sizes=[int(image.shape[axis]) for image in images],
        t_r=periods[0],
        kind=kinds[0],
        single=single,
        mesh=getattr(sources[0], "mesh", None),
    )


def load(run: Any) -> Any:
    """Open the image of one run; the values of volumes stay on disk until they are needed."""
    from xml.parsers.expat import ExpatError

    import nibabel
    from nilearn.surface import PolyData

    if is_surface(run):
        try:
            data = run.data if hasattr(run, "mesh") else PolyData(**{side: _part(run[side]) for side in run})
        except ExpatError as error:
            files = " or ".join(map(str, run.values()))
            raise OSError(f"{files} cannot be read as GIFTI ({error}); fetch or export it again.") from None
        return PolyData(
            **{side: part if part.ndim == 2 else part[:, None] for side, part in data.parts.items()}
        )
    if isinstance(run, (str, Path)):
        if not Path(run).exists():
            raise FileNotFoundError(f"there is no file {run}; check the path.")
        try:
            run = nibabel.load(run)
        except (nibabel.filebasedimages.ImageFileError, EOFError) as error:
            raise OSError(f"{run} cannot be read as an image ({error}); fetch or export it again.") from None
    if not isinstance(run, nibabel.Cifti2Image) and not hasattr(run, "affine"):
        raise TypeError(
            f"a run is given as {type(run).__name__}; give a NIfTI or CIFTI path or image, a SurfaceImage, or one "
            "GIFTI file a hemisphere as {'left': …, 'right': …}."
        )
    return run


def _part(source: Any) -> Any:
    """Data of one hemisphere.

    A GIFTI run has one array a volume. nilearn writes it as one array, vertices × volumes, but would read that turned
    round.
    """
    import nibabel

    if isinstance(source, (str, Path)) and str(source).endswith(".gii"):
        arrays = nibabel.gifti.GiftiImage.from_filename(source).darrays
        if len(arrays) == 1 and arrays[0].data.ndim == 2:
            return arrays[0].data
    return source


def _kind(image: Any) -> Literal["nifti", "surface", "cifti"]:
    import nibabel

    if hasattr(image, "parts"):
        return "surface"
    return "cifti" if isinstance(image, nibabel.Cifti2Image) else "nifti"


def _repetition_time(image: Any, t_r: float | None, name: str) -> float:
    if t_r is None:
        kind, t_r = _kind(image), 0.0
        if kind == "cifti":
            axis = image.header.get_axis(0)
            t_r = float(axis.step) if getattr(axis, "unit", "") == "SECOND" else 0.0
        elif kind == "nifti":
            seconds = {"msec": 1e-3, "usec": 1e-6}.get(image.header.get_xyzt_units()[1], 1.0)
            t_r = float(image.header.get_zooms()[3]) * seconds
    if not t_r > 0:
        raise ValueError(
            f"the repetition time of {name} is {t_r:g} s in its file or call; pass t_r in seconds."
        )
    return round(float(t_r), 6)


def time_table(
    runs: Runs, volumes: Sequence[NDArray[Any]], events: Sequence[pd.DataFrame] | None, delay: float | None
) -> pd.DataFrame:
    """One row a volume: its times within the run, the run, and what its event was.

    Parameters
    ----------
    runs
        As :func:`open_runs` gives them.
    volumes
        Indices of the volumes kept, one array a run.
    events
        Checked events of each run, or ``None``.
    delay
        Haemodynamic lag of the labels in seconds; ``None`` gives volumes no labels.
    """
    tables, n_events = [], 0
    for k, (labels, name, size, kept) in enumerate(
        zip(runs.labels, runs.names, runs.sizes, volumes, strict=True)
    ):
        columns = {"time_bin_start": kept * runs.t_r, "time_bin_end": (kept + 1) * runs.t_r, **labels}
        if events is not None and delay is not None:
            volume_labels = label_volumes(events[k], size, runs.t_r, where=name, delay=delay)
            block = volume_labels["block"]
            volume_labels["block"] = np.where(block >= 0, block + n_events, -1)
            n_events += len(events[k])
            columns.update({column: values[kept] for column, values in volume_labels.items()})
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def pack_events(runs: Runs, events: Sequence[pd.DataFrame]) -> str:
    """The events of all runs as JSON, so that they travel with the array."""
    packed = [{**labels, **table.to_dict("list")} for labels, table in zip(runs.labels, events, strict=True)]
    return json.dumps(packed, default=lambda value: value.item())


def unpack_events(array: xr.DataArray, keys: Sequence[Mapping[str, Any]]) -> list[pd.DataFrame]:
    """The events of the runs ``keys`` that travelled with ``array``."""
    try:
        packed = json.loads(array.attrs["events"])
    except (KeyError, ValueError):
        raise ValueError(
            "the array carries no events of its own (it was read without, or joined from several); pass events=, one "
            "table a run."
        ) from None
    columns = ["onset", "duration", "trial_type", "stimulus_id"]
    found = {name_of({k: v for k, v in entry.items() if k in RUN_LABELS}): entry for entry in packed}
    tables = []
    for key in keys:
        name = name_of({k: v for k, v in key.items() if k != "subject"})
        if name not in found:
            raise ValueError(f"attrs['events'] holds no events of {name}; pass events=, one table a run.")
        tables.append(pd.DataFrame({column: found[name][column] for column in columns}))
    return tables


def runs_of(array: xr.DataArray) -> Iterator[tuple[dict[str, Any], NDArray[np.intp]]]:
    """The runs of a continuous array in order: their labels, and their rows.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> time = {"time_bin_start": [0, 1, 0], "time_bin_end": [1, 2, 1], "run": [0, 0, 1]}
    >>> array = neuro.assemble([[1.0]] * 3, time_bin=time, neuroid={"neuroid_id": ["v"]}, modality="fmri", units="z")
    >>> [(labels, rows.tolist()) for labels, rows in runs_of(array)]
    [({'run': 0}, [0, 1]), ({'run': 1}, [2])]
    """
    present = [c for c in RUN_LABELS if c in array.coords and array.coords[c].dims == ("time_bin",)]
    if array.dims != ("time_bin", "neuroid") or "run" not in present:
        raise ValueError(
            f"expected time_bin × neuroid with a coordinate 'run' along time_bin, as neuro.fmri.read gives it; got "
            f"{' × '.join(map(str, array.dims))}."
        )
    table = pd.DataFrame({column: array.coords[column].values for column in present})
    codes = table.groupby(present, sort=False).ngroup().to_numpy()
    for code in range(codes.max() + 1):
        rows = np.flatnonzero(codes == code)
        yield {column: array.coords[column].values[rows[0]].item() for column in present}, rows
