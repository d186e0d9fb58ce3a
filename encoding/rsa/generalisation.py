"""One time's geometry, or patterns, at another time: person by person."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ...neuro.assembly import assemble, concat
from ..engine.generalisation import cross_temporal
from ..engine.similarity import similarities
from .comparison import compare
from .courses import Testing, check_chance, prepared_rows
from .epochs import Options, TimedRDMs, person_arrays, slide, timed_rdms, whitened
from .pairs import pair_table
from .patterns import run_patterns
from .preparation import matched, precision, stack_named

Array = NDArray[np.float64]
#: cross-temporal dissimilarities that are held at once
CHUNK = 1 << 24


@dataclass(frozen=True)
class TimeMaps:
    """People × models × times × times, and what was compared with what."""

    people: list[str]
    models: list[str]
    values: Array
    time: Array
    time_other: Array
    compared: str
    #: pairs that somebody lacks
    missing_pairs: int = 0
    #: similarities of two people each, and who they are, where the values are means of these
    between: tuple[Array, Array] | None = None

    def dataset(self, testing: Testing, scoring: str) -> xr.Dataset:
        """The maps with their cluster tests, one a model."""
        dims = ("model", "time", "time_other")
        coords = {
            "subject": self.people,
            "model": self.models,
            "time": self.time,
            "time_other": self.time_other,
        }
        variables: dict[str, Any] = {"score": (("subject", *dims), self.values)}
        testing.check(len(self.people))
        if testing.permutations:
            tested = testing.apply(*(self.between or (self.values,)))
            variables |= {name: (dims, values) for name, values in tested.items()}
        attrs = {"scoring": scoring, "chance": 0.0, "compared": self.compared}
        attrs |= {"missing_pairs": self.missing_pairs} if self.missing_pairs else {}
        return xr.Dataset(variables, coords, attrs)


def generalise_geometry(
    data: Any, other: Any, method: str, options: Options, cv: str | None, testing: Testing
) -> TimeMaps:
    """RDMs of one time compared with independent ones of another."""
    if other is not None:
        if cv is not None:
            raise ValueError(
                "cv= and other= both say what data are compared with; give the halves as data and other, or cv alone."
            )
        first, second = timed_rdms(data, options), timed_rdms(other, options, "other")
        if first.grid.people != second.grid.people:
            raise ValueError(
                f"other has the people {', '.join(second.grid.people)}, and data "
                f"{', '.join(first.grid.people)}; give the same in the same order."
            )
        if np.array_equal(first.rdms.values, second.rdms.values, equal_nan=True):
            raise ValueError(
                "other holds the very measurements of data, so their noise would make every time like itself; give "
                "independent ones, or leave other out."
            )
        values, compared = _between(first, second, method, options), "data (time) with other (time_other)"
    elif cv is not None:
        first, second = (timed_rdms(half, options) for half in _halves(data, cv))
        values, compared = (
            _both_ways(_between(first, second, method, options)),
            f"odd with even {cv}, both ways",
        )
    else:
        return _among_people(timed_rdms(data, options), method, options, testing)
    check_chance(first.rdms, method, testing)
    times = first.grid.middle, second.grid.middle
    missing = first.count_missing(matched(first.rdms, second.rdms, ("data", "other")))
    return TimeMaps(first.grid.people, ["geometry"], values[:, None], *times, compared, missing)


def _among_people(timed: TimedRDMs, method: str, options: Options, testing: Testing) -> TimeMaps:
    """Every two people, one time of one with one of the other, both ways averaged."""
    people, n_times = timed.grid.people, len(timed.grid.start)
    if len(people) < 2:
        raise ValueError(
            "there is one person, whose noise would make each time like its neighbours; give other=, or cv= to "
            "compare halves of the recordings."
        )
    check_chance(timed.rdms, method, testing)
    ready = prepared_rows(timed, method, options.device)[1].unflatten(0, (len(people), n_times))
    pairs = np.array(list(combinations(range(len(people)), 2)))
    maps = np.stack([similarities(ready[a], ready[b], method).cpu().numpy() for a, b in pairs])
    maps = _both_ways(maps)[:, None]
    values = np.stack([maps[(pairs == k).any(axis=1)].mean(axis=0) for k in range(len(people))])
    middle = timed.grid.middle
    compared = "each person with every other, both ways"
    missing = timed.count_missing()
    return TimeMaps(people, ["geometry"], values, middle, middle, compared, missing, (maps, pairs))


def _between(first: TimedRDMs, second: TimedRDMs, method: str, options: Options) -> Array:
    pairs = zip(first.by_person(), second.by_person(), strict=True)
    return np.stack([compare(a, b, method, device=options.device).values for a, b in pairs])


def _both_ways(maps: Array) -> Array:
    return np.asarray((maps + maps.swapaxes(-1, -2)) / 2)


def _halves(data: Any, cv: str) -> tuple[dict[str, xr.DataArray], dict[str, xr.DataArray]]:
    """Odd and even recordings of every person, by a coordinate along ``presentation``."""
    sides: tuple[dict[str, xr.DataArray], dict[str, xr.DataArray]] = ({}, {})
    for name, array in person_arrays(data, "data").items():
        if cv not in array.coords or array.coords[cv].dims != ("presentation",):
            raise ValueError(
                f"cv={cv!r} is no coordinate along 'presentation' of person {name!r}, so there are no halves to "
                "compare; give epochs with it, or leave cv out to compare people with each other."
            )
        codes, values = pd.factorize(array.coords[cv].values, sort=True)
        if len(values) < 2:
            raise ValueError(f"all epochs of person {name!r} have one {cv}; two halves need two at least.")
        for k, side in enumerate(sides):
            side[name] = array.isel(presentation=np.flatnonzero(codes % 2 == k))
    return sides


def generalise_patterns(data: Any, models: Any, method: str, options: Options) -> TimeMaps:
    """Cross-temporal crossnobis of every person: its mean over pairs, or its similarity to models."""
    maps: dict[str, Array] = {}
    names, times = ["mean distance"], (np.empty(0), np.empty(0))
    for name, array in person_arrays(data, "data").items():
        patterns, counts, stimuli, own = _windowed(array, options, name)
        if maps and (own[0].shape != times[0].shape or not np.allclose(own[0], times[0], rtol=0, atol=1e-6)):
            raise ValueError(
                f"person {name!r} has other times than {next(iter(maps))!r}; select or resample to common times first."
            )
        times = own
        n_times = len(patterns)
        step = max(1, CHUNK // (n_times * len(stimuli) ** 2))
        blocks = []
        for part in patterns.split(step):
            found = cross_temporal(part, patterns, counts)
            if models is None:
                blocks.append(found.mean(dim=-1).cpu().numpy()[None])
                continue
            rdms = _labelled(found, stimuli)
            stacked = stack_named(models, rdms, "models")
            names = [str(label) for label in stacked.coords["neuroid_id"].values]
            similar = compare(stacked, rdms, method, device=options.device).values
            blocks.append(similar.reshape(len(names), -1, n_times))
        maps[name] = np.concatenate(blocks, axis=1)
    middle = (times[0] + times[1]) / 2
    compared = f"differences learned at time, measured at time_other in other {options.cv}"
    return TimeMaps(list(maps), names, np.stack(list(maps.values())), middle, middle, compared)


def _windowed(
    array: xr.DataArray, options: Options, name: str
) -> tuple[torch.Tensor, torch.Tensor, NDArray[Any], tuple[Array, Array]]:
    """Mean patterns of runs in every window, ``(times, stimuli, runs, units)``, whitened."""
    if array.dims != ("presentation", "neuroid", "time_bin"):
        raise ValueError(
            f"the array of person {name!r} is {' × '.join(map(str, array.dims))}; patterns generalise between times "
            "of epochs, presentation × neuroid × time_bin."
        )
    if options.window is not None:
        array = concat(slide(array, options.window, options.step, average=True), "time_bin")
    if options.noise is not None:
        array = whitened(array, options.noise)
    patterns, counts, stimuli = run_patterns(array, options.cv, name, resolve_device(options.device))
    patterns = patterns.to(precision(patterns.device))
    times = array.coords["time_bin_start"].values, array.coords["time_bin_end"].values
    return patterns, counts, stimuli, times


def _labelled(found: torch.Tensor, stimuli: NDArray[Any]) -> xr.DataArray:
    values = found.flatten(0, 1).cpu().numpy()
    return assemble(
        values,
        rdm={"neuroid_id": np.arange(len(values))},
        pair=pair_table(stimuli),
        modality="rdm",
        units="1",
    )
