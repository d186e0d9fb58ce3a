"""Dissimilarities of people over time: from epochs, by sliding windows, or as they were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import assemble, concat, validate
from ..engine.dissimilarity import whiten
from .noise import given_noise, noise_covariance
from .pairs import check_enough
from .preparation import matched
from .rdms import rdm

#: elements of sliding windows that are laid out at once
CHUNK = 1 << 25


@dataclass(frozen=True)
class Options:
    """How epochs become dissimilarities over time.

    Attributes
    ----------
    metric, noise, cv
        As of :func:`cerebridge.encoding.rsa.rdm`.
    window, step
        Seconds; ``None``: single time bins, and one bin.
    average
        Whether the bins of a window are averaged, or make one long pattern.
    """

    metric: str = "correlation"
    noise: Any = None
    cv: str = "run"
    window: float | None = None
    step: float | None = None
    average: bool = False
    device: str | torch.device = "auto"

    def __post_init__(self) -> None:
        if self.step is not None and self.window is None:
            raise ValueError("step= is the distance of sliding windows; give their width as window=, too.")


@dataclass(frozen=True)
class Grid:
    """People × times, the times of a person one after the other; seconds."""

    people: list[str]
    start: NDArray[np.float64]
    end: NDArray[np.float64]

    @property
    def middle(self) -> NDArray[np.float64]:
        """Middles of the time bins."""
        return (self.start + self.end) / 2

    def labels(self) -> dict[str, NDArray[Any]]:
        """Labels of people × times."""
        n = len(self.start)
        return {
            "neuroid_id": np.array(
                [f"{name} | {start:.10g} s" for name in self.people for start in self.start]
            ),
            "subject": np.repeat(self.people, n),
            "time_bin_start": np.tile(self.start, len(self.people)),
            "time_bin_end": np.tile(self.end, len(self.people)),
        }

    def cube(self, values: NDArray[Any]) -> NDArray[Any]:
        """``values`` whose last axis is the grid, with people × times in its place."""
        return values.reshape(*values.shape[:-1], len(self.people), len(self.start))


@dataclass(frozen=True)
class TimedRDMs:
    """RDMs of all people at the same times, ``rdm × pair``, and the grid along ``rdm``."""

    rdms: xr.DataArray
    grid: Grid

    def count_missing(self, others: xr.DataArray | None = None) -> int:
        """Pairs that somebody, or one of ``others``, lacks at some time."""
        missing = self.rdms.isnull().any("rdm").values
        return int((missing if others is None else missing | others.isnull().any("rdm").values).sum())

    def by_person(self) -> list[xr.DataArray]:
        """The RDMs of each person."""
        n = len(self.grid.start)
        return [self.rdms.isel(rdm=slice(k * n, (k + 1) * n)) for k in range(len(self.grid.people))]


def timed_rdms(data: Any, options: Options, which: str = "data") -> TimedRDMs:
    """RDMs of all people and times, in one order.

    Parameters
    ----------
    data
        ``rdm × pair`` with ``time_bin_start`` and ``time_bin_end`` (and ``subject``) along ``rdm``; or
        ``presentation × neuroid × time_bin``, people told apart by ``subject`` along ``neuroid`` or ``presentation``;
        or several such arrays of one person each, in a list or by name.
    options
        For epochs.
    which
        What the data are called in messages.

    Raises
    ------
    ValueError
        If there is no time, people have other times or stimuli, or there are fewer than four stimuli.
    """
    people = person_arrays(data, which)
    parts = {name: _of_person(array, options, name, which) for name, array in people.items()}
    first_name, first = next(iter(parts.items()))
    start, end = (first.coords[f"time_bin_{side}"].values for side in ("start", "end"))
    rows = []
    for name, part in parts.items():
        other = part.coords["time_bin_start"].values
        if other.shape != start.shape or not np.allclose(other, start, rtol=0, atol=1e-6):
            raise ValueError(
                f"person {name!r} of {which} has {len(other)} times from {other[0]:g} to {other[-1]:g} s, and "
                f"{first_name!r} has {len(start)} from {start[0]:g} to {start[-1]:g} s; select or resample to common "
                "times first."
            )
        rows.append(matched(first, part, (f"person {first_name!r}", f"person {name!r}")).values)
    grid = Grid(list(parts), start, end)
    joined = assemble(
        np.concatenate(rows),
        rdm=grid.labels(),
        pair={name: first.coords[name].values for name in ("stimulus_a", "stimulus_b")},
        modality=first.attrs["modality"],
        units=first.attrs["units"],
        provenance=first.attrs.get("provenance", ""),
    )
    check_enough(joined, which)
    return TimedRDMs(joined, grid)


def slide(array: xr.DataArray, window: float, step: float | None, average: bool) -> list[xr.DataArray]:
    """Windows of epochs as their time bins, in blocks that memory holds; patterns are means or all samples."""
    start, end = (array.coords[f"time_bin_{side}"].values for side in ("start", "end"))
    width = (end[-1] - start[0]) / len(start)
    if not np.allclose(start, start[0] + width * np.arange(len(start)), rtol=0, atol=1e-3 * width):
        raise ValueError("sliding windows need time bins of one length without gaps; cut the epochs anew.")
    n_bins, hop = (round(seconds / width) for seconds in (window, width if step is None else step))
    if n_bins < 1 or hop < 1:
        raise ValueError(
            f"window={window:g} and step={step if step is None else f'{step:g}'} s must each be one time bin, "
            f"{width:g} s, at least."
        )
    if n_bins > len(start):
        raise ValueError(
            f"window={window:g} s is longer than the epochs, which last from {start[0]:g} to {end[-1]:g} s; "
            "choose a shorter one."
        )
    values = np.lib.stride_tricks.sliding_window_view(array.values, n_bins, axis=2)[:, :, ::hop]
    first = np.arange(values.shape[2]) * hop
    coords = {name: c for name, c in array.coords.items() if c.dims == ("presentation",)}
    neuroid = {str(name): c.values for name, c in array.coords.items() if c.dims == ("neuroid",)}
    if not average:
        neuroid = {"neuroid_id": np.arange(array.sizes["neuroid"] * n_bins)}
    size = max(1, CHUNK // (values.shape[0] * values.shape[1] * n_bins))
    blocks = []
    for begin in range(0, len(first), size):
        part, at = values[:, :, begin : begin + size], first[begin : begin + size]
        laid = part.mean(axis=3) if average else part.swapaxes(2, 3).reshape(len(part), -1, len(at))
        blocks.append(
            assemble(
                laid,
                presentation={str(name): c.values for name, c in coords.items()},
                neuroid=neuroid,
                time_bin={"time_bin_start": start[at], "time_bin_end": end[at + n_bins - 1]},
                modality=array.attrs["modality"],
                units=array.attrs["units"],
                provenance=array.attrs.get("provenance", ""),
            )
        )
    return blocks


def person_arrays(data: Any, which: str) -> dict[str, xr.DataArray]:
    """An array of each person by name."""
    if isinstance(data, Mapping):
        named = {str(name): validate(array) for name, array in data.items()}
    elif isinstance(data, xr.DataArray):
        named = _split(validate(data))
    elif isinstance(data, Sequence):
        named = {}
        for number, array in enumerate(data):
            for name, part in _split(validate(array)).items():
                named[str(number) if name == "" or name in named else name] = part
    else:
        raise TypeError(f"{which} is a {type(data).__name__}; give a labelled array, or one for each person.")
    if not named:
        raise ValueError(f"{which} is empty; give the array of at least one person.")
    for name, array in named.items():
        if "time_bin_start" not in array.coords:
            raise ValueError(
                f"{which}{f' of person {name!r}' if name else ''} has no time; give epochs "
                "(presentation × neuroid × time_bin), or RDMs with time_bin_start and time_bin_end along 'rdm'."
            )
    return named


def _split(array: xr.DataArray) -> dict[str, xr.DataArray]:
    """Parts of an array by ``subject``; the name is empty where nothing tells people apart."""
    if "subject" not in array.coords:
        return {"": array}
    labels = array.coords["subject"]
    if not labels.dims:
        return {str(labels.item()): array}
    dim = str(labels.dims[0])
    return {
        str(person): array.isel({dim: np.flatnonzero(labels.values == person)})
        for person in pd.unique(labels.values)
    }


def _of_person(array: xr.DataArray, options: Options, name: str, which: str) -> xr.DataArray:
    """RDMs of one person, one a time, in the order of time."""
    if array.dims == ("rdm", "pair"):
        found = array
        if options.window is not None:
            raise ValueError(f"window= slides over epochs, and {which} are RDMs already; give the epochs.")
    else:
        if array.dims != ("presentation", "neuroid", "time_bin"):
            raise ValueError(
                f"{which} of person {name!r} is {' × '.join(map(str, array.dims))}; give epochs "
                "(presentation × neuroid × time_bin) or RDMs (rdm × pair)."
            )
        found = _from_epochs(array, options)
    order = np.argsort(found.coords["time_bin_start"].values, kind="stable")
    times = found.coords["time_bin_start"].values[order]
    again = np.flatnonzero(times[1:] <= times[:-1])
    if again.size:
        raise ValueError(
            f"{which} has several RDMs of {'one person' if name == '' else f'person {name!r}'} at "
            f"{times[again[0]]:g} s; label the people by 'subject' along 'rdm', and give one region at a time."
        )
    return found.isel(rdm=order)


def _from_epochs(array: xr.DataArray, options: Options) -> xr.DataArray:
    metric, noise = options.metric, options.noise
    blocks = [array]
    if options.window is not None:
        if noise is not None and not options.average:
            # the noise is that of the units, whatever the time: each sample is whitened alike
            array, noise = whitened(array, noise), None
            metric = "euclidean" if metric == "mahalanobis" else metric
        blocks = slide(array, options.window, options.step, options.average)
    found = [rdm(block, metric, noise=noise, cv=options.cv, device=options.device) for block in blocks]
    return found[0] if len(found) == 1 else concat(found, "rdm")


def whitened(array: xr.DataArray, noise: Any) -> xr.DataArray:
    """Epochs whose units have uncorrelated noise of one size."""
    if isinstance(noise, str):
        if noise != "residual":
            raise ValueError(
                f"noise={noise!r} is unknown; use 'residual', a covariance (units × units) or variances."
            )
        covariance = noise_covariance(array).values
    else:
        label = str(array.name or array.attrs["modality"])
        covariance = given_noise(noise, array, np.arange(array.sizes["neuroid"]), label, np.empty(0))
    rows = torch.as_tensor(np.moveaxis(array.values, 1, -1), dtype=torch.float64)
    return array.copy(data=np.moveaxis(whiten(rows, torch.as_tensor(covariance)).numpy(), -1, 1))
