"""Time courses of features: clips one after the other, values averaged over bins, labels of time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import assemble
from ...neuro.progress import track
from ..clips import Clip
from ..stimuli import StimulusSet

#: of a bin: what rounding may add to or take from its edge
ROUNDING = 1e-6


@dataclass(frozen=True)
class Clips:
    """Sounds or films in order, read one by one.

    Parameters
    ----------
    given
        A stimulus set of them, a :class:`models.Clip`, or values with a ``rate``.
    rate
        Samples or frames a second of plain values.
    convert
        Turns plain values and their rate into a clip.
    kind
        ``"sound"`` or ``"film"``: what is wanted.

    Raises
    ------
    ValueError
        If plain values lack their rate, or a clip brings its own.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.clips import as_sound
    >>> from cerebridge.models.features.courses import Clips
    >>> [(name, len(clip)) for name, clip in Clips(np.zeros(80), 8000, as_sound, "sound").read("reading")]
    [(None, 80)]
    """

    given: Any
    rate: float | None
    convert: Callable[[Any, float], Any]
    kind: str
    labelled: bool = field(init=False)

    def __post_init__(self) -> None:
        """Check that a rate is given where it is needed, and only there."""
        object.__setattr__(self, "labelled", isinstance(self.given, StimulusSet))
        own = self.labelled or isinstance(self.given, Clip)
        if own == (self.rate is not None):
            problem = "bring their own rate; leave rate= out" if own else "have no rate; give rate= in Hz"
            raise ValueError(f"the {self.kind}s {problem}.")

    def read(self, description: str, progress: bool | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield each with its ``stimulus_id``, which a single one lacks.

        Raises
        ------
        ValueError
            If a stimulus is none of the kind wanted.
        """
        if not self.labelled:
            clip = self.given if self.rate is None else self.convert(self.given, self.rate)
            yield None, self._checked(clip, f"the {self.kind}")
            return
        ids = self.given.table["stimulus_id"].tolist()
        for stimulus_id, clip in zip(
            ids, track(self.given, description, total=len(ids), show=progress), strict=True
        ):
            yield stimulus_id, self._checked(clip, f"stimulus {stimulus_id!r}")

    def _checked(self, clip: Any, name: str) -> Any:
        if getattr(clip, "kind", None) != self.kind:
            found = clip.kind if isinstance(clip, Clip) else type(clip).__name__
            raise ValueError(
                f"{name} is no {self.kind} but a {found}; build it with StimulusSet.from_{self.kind}s."
            )
        return clip

    @property
    def hash(self) -> str:
        """Of a stimulus set; plain values have none."""
        return self.given.hash if self.labelled else ""


def bin_edges(length: int, rate: float, sfreq: float) -> NDArray[np.int64]:
    """First sample of each bin of 1 / ``sfreq`` seconds, and behind them the number of samples.

    Raises
    ------
    ValueError
        If there are more bins than samples, or ``sfreq`` is not positive.

    Examples
    --------
    >>> from cerebridge.models.features.courses import bin_edges
    >>> bin_edges(10, 8.0, 2.0).tolist()
    [0, 4, 8, 10]
    """
    if not 0 < sfreq <= rate * (1 + ROUNDING):
        raise ValueError(
            f"sfreq is {sfreq:g} Hz, but the stimulus has {rate:g} values a second; give at most so many."
        )
    bins = int(np.ceil(length * sfreq / rate - ROUNDING))
    starts = np.ceil(np.arange(max(bins, 1)) * rate / sfreq - ROUNDING).astype(np.int64)
    # a bin that begins behind the last sample has none
    return np.append(starts[starts < length], length)


def average_bins(values: NDArray[Any], rate: float, sfreq: float) -> NDArray[np.float32]:
    """Average values (samples × units) over bins of 1 / ``sfreq`` seconds; the last may be cut short.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features.courses import average_bins
    >>> average_bins(np.arange(4.0)[:, None], rate=4, sfreq=2).ravel().tolist()
    [0.5, 2.5]
    """
    edges = bin_edges(len(values), rate, sfreq)
    sums = np.add.reduceat(values, edges[:-1], axis=0, dtype=np.float64)
    return (sums / np.diff(edges)[:, None]).astype(np.float32)


def assemble_course(
    parts: Sequence[tuple[Any, NDArray[Any]]],
    sfreq: float,
    neuroid: pd.DataFrame | Mapping[str, Any],
    *,
    units: str,
    facts: Mapping[str, Any],
) -> xr.DataArray:
    """Lay the courses of clips one after the other; time starts anew with each.

    Parameters
    ----------
    parts
        For each clip its ``stimulus_id`` (or ``None``) and values, bins × units.
    sfreq
        Bins a second.
    neuroid
        The neuroid table.
    units
        Of the values.
    facts
        What made them, for the provenance.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``, with ``stimulus_id`` along time where clips have one.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features.courses import assemble_course
    >>> course = assemble_course([("a", np.ones((2, 1)))], 10, {"neuroid_id": ["x"]}, units="a.u.", facts={})
    >>> course["time_bin_end"].values.tolist(), course["stimulus_id"].values.tolist()
    ([0.1, 0.2], ['a', 'a'])
    """
    number = np.concatenate([np.arange(len(values)) for _, values in parts])
    time: dict[str, Any] = {"time_bin_start": number / sfreq, "time_bin_end": (number + 1) / sfreq}
    if parts[0][0] is not None:
        time["stimulus_id"] = np.repeat([name for name, _ in parts], [len(values) for _, values in parts])
    return assemble(
        np.concatenate([values for _, values in parts]),
        time_bin=time,
        neuroid=neuroid,
        modality="activation",
        units=units,
        sfreq=sfreq,
        provenance=json.dumps(dict(facts)),
    )
