"""Reading the folder of a local benchmark: what it says of itself, its recordings and its stimuli."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ...models.names import nearest
from ...models.stimuli import StimulusSet
from ...neuro.assembly import assemble, quoted
from ...neuro.store import load
from .metrics import load_metric, score_kind
from .sides import STIMULUS

#: the file that makes a folder a benchmark
DESCRIPTION = "benchmark.toml"
#: what metrics the ceilings are bounds of
CEILINGS = {"internal_consistency": "variance", "rsa_ceiling": "rdm"}
#: seconds of a recording; who gives more means milliseconds
LONGEST = 60.0
#: entries by kind, and the kinds in words
ENTRIES: dict[str, type] = {
    **dict.fromkeys(
        ("identifier", "region", "recordings", "stimuli", "presentations", "neuroids", "modality"), str
    ),
    **dict.fromkeys(("units", "metric", "licence", "citation"), str),
    "metric_options": Mapping,
    "version": int,
    "time_bin": tuple,
}
WORDS = {str: "text", Mapping: "a table", int: "a whole number", tuple: "two numbers"}


@dataclass(frozen=True)
class Description:
    """What ``benchmark.toml`` says.

    Parameters
    ----------
    identifier, region
        Name of the benchmark, and where was recorded from.
    recordings, stimuli
        Paths, relative to the folder: a netCDF file of :func:`cerebridge.neuro.save`, or ``.npy``; and anything that
        :meth:`cerebridge.models.StimulusSet.read` takes.
    presentations, neuroids
        Tables beside an ``.npy`` file of presentations × neuroids.
    modality, units
        Of an ``.npy`` file.
    metric, metric_options
        As :func:`cerebridge.encoding.brainscore.load_metric` takes them; ``metric_options.crossvalidation_kwargs``
        holds the splits.
    ceiling
        ``"internal_consistency"`` from repeats, of metrics that predict the recording; ``"rsa_ceiling"`` from subjects,
        of the metric ``"rdm"``, which then is averaged over subjects; or a number above 0: the share of variance that
        can be explained, or the highest value of a metric that predicts nothing.
    visual_degrees
        That the images covered.
    time_bin
        Start and end of the recording in seconds.
    version, licence, citation
        Of the data; the citation in BibTeX.
    """

    identifier: str
    region: str
    recordings: str
    stimuli: str
    presentations: str = "presentations.csv"
    neuroids: str = ""
    modality: str = "spikes"
    units: str = "a.u."
    metric: str = "ridge"
    metric_options: Mapping[str, Any] = field(default_factory=dict)
    ceiling: str | float = "internal_consistency"
    visual_degrees: float = 8.0
    time_bin: tuple[float, float] = (0.07, 0.17)
    version: int = 1
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        """Refuse entries that mean nothing."""
        for entry in ENTRIES:
            if not isinstance(getattr(self, entry), ENTRIES[entry]):
                raise _unfit(entry, getattr(self, entry), WORDS[ENTRIES[entry]])
        if not _is_number(self.visual_degrees) or self.visual_degrees <= 0:
            raise _unfit("visual_degrees", self.visual_degrees, "a number above 0")
        if len(self.time_bin) != 2 or not all(map(_is_number, self.time_bin)):
            raise _unfit("time_bin", self.time_bin, "two numbers")
        start, end = self.time_bin
        if not start < end <= start + LONGEST:
            raise _unfit("time_bin", self.time_bin, "start and end in seconds")
        self._check_metric()

    def _check_metric(self) -> None:
        """Metric and ceiling must be there, and of one unit."""
        load_metric(self.metric)
        kind = score_kind(self.metric)
        if kind is None:
            raise _unfit("metric", self.metric, "a metric that compares a model with a recording")
        splits = self.metric_options.get("crossvalidation_kwargs", {})
        if not isinstance(splits, Mapping):
            raise _unfit("crossvalidation_kwargs", splits, WORDS[Mapping])
        if _is_number(self.ceiling):
            if not 0 < float(self.ceiling) < np.inf:
                raise _unfit("ceiling", self.ceiling, "a number above 0")
        elif self.ceiling not in CEILINGS:
            raise _unfit("ceiling", self.ceiling, f"{' or '.join(map(repr, CEILINGS))}, or a number")
        elif CEILINGS[str(self.ceiling)] != kind:
            raise ValueError(
                f"the ceiling {self.ceiling!r} is no bound of what the metric {self.metric!r} gives; give a number as "
                f"ceiling in {DESCRIPTION}{', or rsa_ceiling' if kind == 'rdm' else ''}."
            )

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read ``benchmark.toml`` of a folder.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it cannot be read, or an entry is missing or unknown.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no {DESCRIPTION}; write one with identifier, region, recordings and stimuli."
            )
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); correct it.") from None
        known = [each.name for each in fields(cls)]
        for name in entries:
            if name not in known:
                raise ValueError(f"{path} has the entry {name!r}, which is unknown; {nearest(name, known)}.")
        for name in ("identifier", "region", "recordings", "stimuli"):
            if not isinstance(entries.get(name), str) or not entries[name]:
                raise ValueError(f"{path} lacks the entry {name!r}; add it, as text.")
        if isinstance(entries.get("time_bin"), list):
            entries["time_bin"] = tuple(entries["time_bin"])
        return cls(**entries)


def read_stimuli(folder: Path, description: Description) -> StimulusSet:
    """Read the stimuli of a benchmark's folder.

    Raises
    ------
    FileNotFoundError, ValueError
        As :meth:`cerebridge.models.StimulusSet.read`.
    """
    return StimulusSet.read(folder / description.stimuli)


def read_recordings(folder: Path, description: Description, stimuli: StimulusSet) -> xr.DataArray:
    """Read the recordings of a benchmark's folder, of the stimuli that there are.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid`` with ``region``, columns of the stimuli's table and, where stimuli are repeated,
        ``repetition``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the recordings are of other dimensions or have no stimulus in common with the folder's.
    """
    path = folder / description.recordings
    if not path.exists():
        raise FileNotFoundError(
            f"{folder / DESCRIPTION} names the recordings {path}, but there is no such file."
        )
    array = _from_numpy(folder, path, description) if path.suffix == ".npy" else load(path).load()
    if array.dims != ("presentation", "neuroid"):
        raise ValueError(
            f"{path} is {' × '.join(map(str, array.dims))}; a benchmark takes presentation × neuroid, so average over "
            "a time window first."
        )
    array = _of_region(array, description, path)
    table = stimuli.table.set_index(stimuli.table["stimulus_id"].astype(str))
    ids = array["stimulus_id"].values.astype(str)
    known = np.isin(ids, table.index)
    if not known.all():
        missing = pd.unique(ids[~known])
        raise ValueError(
            f"{path} has {len(missing)} stimuli that are not among the {len(table)} of {description.stimuli} (first "
            f"{quoted(missing[0])}; there is {quoted(table.index[0])}, for instance); name them alike."
        )
    labels = {str(name): ("presentation", table[name].loc[ids].to_numpy()) for name in table.columns}
    array = array.assign_coords({name: each for name, each in labels.items() if name not in array.coords})
    array = array.assign_coords(stimulus_id=labels["stimulus_id"]).drop_vars("content_hash")
    if "repetition" not in array.coords and len(set(ids)) < len(ids):
        counts = pd.Series(ids).groupby(ids).cumcount().to_numpy()
        array = array.assign_coords(repetition=("presentation", counts))
    return array


def _of_region(array: xr.DataArray, description: Description, path: Path) -> xr.DataArray:
    """The neuroids of the benchmark's region; all of them where they have none."""
    if "region" not in array.coords or array["region"].dims != ("neuroid",):
        dropped = array.drop_vars("region", errors="ignore")
        return dropped.assign_coords(region=("neuroid", [description.region] * array.sizes["neuroid"]))
    here = array["region"].values == description.region
    if not here.any():
        regions = ", ".join(map(str, pd.unique(array["region"].values)))
        raise ValueError(f"{path} has no neuroids of the region {description.region!r}, but of {regions}.")
    return array.isel(neuroid=np.flatnonzero(here))


def _from_numpy(folder: Path, path: Path, description: Description) -> xr.DataArray:
    """Values and tables beside them as a labelled array."""
    try:
        values = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} is no .npy file of numbers ({str(error).partition('.')[0]}).") from None
    if values.ndim != 2:
        raise ValueError(
            f"{path} has the shape {values.shape}; a benchmark takes presentations × neuroids, so average over a time "
            "window first."
        )
    presentations = _table(path, folder / description.presentations, "presentations", STIMULUS)
    neuroids: Any = {"neuroid_id": np.arange(values.shape[1])}
    if description.neuroids:
        neuroids = _table(path, folder / description.neuroids, "neuroids", "neuroid_id")
    return assemble(
        values,
        presentation=presentations,
        neuroid=neuroids,
        modality=description.modality,
        units=description.units,
        provenance=description.identifier,
    )


def _table(path: Path, table: Path, what: str, column: str) -> pd.DataFrame:
    """The table of what an ``.npy`` file holds along one of its dimensions."""
    if not table.is_file():
        raise FileNotFoundError(
            f"{path} needs a table of its {what} with a column {column}, but there is no {table}."
        )
    try:
        read = pd.read_csv(table, dtype={STIMULUS: str})
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{table} is no table ({str(error).strip().rstrip('.')}); write commas between columns."
        ) from None
    if column not in read:
        raise ValueError(
            f"{table} has no column {column!r}, only {', '.join(map(repr, read.columns))}; add it."
        )
    return read


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unfit(entry: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"the entry {entry!r} of {DESCRIPTION} is {value!r}; it must be {expected}.")
