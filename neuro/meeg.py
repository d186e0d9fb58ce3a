"""M/EEG through MNE: raw recordings, epochs and averages become labelled arrays, and go back.

Values are MNE's own, in SI units (V, T, T/m), unchanged. Sample k, measured at t_k, is the time bin from t_k to
t_(k+1), so ``time_bin_start`` holds exactly MNE's ``times``. Gradiometers (T/m), magnetometers (T) and electrodes
(V) differ by many orders of magnitude: correlating, averaging or decoding them jointly without scaling shows the
largest unit alone. Select one sensor type by the coordinate ``channel_type``, or standardise each channel first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import assemble
from .recordings import existing, load_samples, open_recording, set_montage
from .sensors import (
    EVENTS,
    check_signals,
    choose_channels,
    describe_channels,
    describe_recording,
    some,
    to_info,
    to_mne,
)

if TYPE_CHECKING:
    import mne

__all__ = ["from_epochs", "from_evoked", "from_raw", "read", "to_info", "to_mne"]

Bads = Literal["drop", "keep"]


def read(
    path: str | Path,
    *,
    stimulus_id: str | Sequence[Any] | None = None,
    picks: str | Sequence[str] = "data",
    bads: Bads = "drop",
    montage: str | mne.channels.DigMontage | None = None,
    proj: bool | None = None,
    baseline: tuple[float | None, float | None] | None = None,
) -> xr.DataArray:
    """Read any recording, epochs or averages that MNE reads; what a file holds is found out from its content.

    Parameters
    ----------
    path
        ``.fif`` (raw, epochs or evoked), ``.edf``, ``.bdf``, ``.vhdr``, ``.set``, ``.ds``, … Of a long recording
        only the picked channels are loaded.
    stimulus_id
        For epochs, as in :func:`from_epochs`.
    picks, bads
        Which channels, as in :func:`from_raw`.
    montage
        Electrode positions for files without them (``"standard_1005"``, …). Names are matched without regard to
        case and trailing dots, and become the montage's names.
    proj
        Whether to apply the projectors that the file holds. Default as in MNE: to epochs and averages, not to
        raw recordings. ``attrs["projectors"]`` says which there are and which were applied.
    baseline
        For epochs and averages: seconds from and to, ``None`` for the beginning or the end; the mean over this
        interval is taken off each channel. Default: as stored. ``attrs["baseline"]`` says what was applied.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid`` (raw) or ``presentation × neuroid × time_bin`` (epochs, averages).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, MNE cannot read it, it holds no signals, an electrode is not in the montage, or
        ``stimulus_id`` or ``baseline`` does not apply.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import mne, numpy as np
    >>> from cerebridge import neuro
    >>> evoked = mne.EvokedArray(np.eye(2, 5), mne.create_info(["Cz", "Pz"], 100.0, "eeg"), comment="tone")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "tone-ave.fif"
    ...     evoked.save(path, verbose=False)
    ...     neuro.meeg.read(path).dims
    ('presentation', 'neuroid', 'time_bin')
    """
    import mne

    path = existing(path)
    source = open_recording(path, proj)
    is_epochs, is_raw = isinstance(source, mne.BaseEpochs), isinstance(source, mne.io.BaseRaw)
    if (baseline is not None and is_raw) or (stimulus_id is not None and not is_epochs):
        holds = "a continuous recording" if is_raw else "averages"
        raise ValueError(
            f"{path.name} holds {holds}: stimulus_id is for epochs, baseline for epochs and averages; leave it out."
        )
    for recording in source if isinstance(source, list) else [source]:
        if montage is not None:
            set_montage(recording, montage)
        if baseline is not None:
            recording.apply_baseline(baseline, verbose="warning")
    if is_epochs:
        array = from_epochs(source, stimulus_id=stimulus_id, picks=picks, bads=bads)
    else:
        array = (from_evoked if isinstance(source, list) else from_raw)(source, picks=picks, bads=bads)
    array.attrs["provenance"] = f"{path.name}: {array.attrs['provenance']}"
    return array


def from_raw(
    raw: mne.io.BaseRaw, *, picks: str | Sequence[str] = "data", bads: Bads = "drop"
) -> xr.DataArray:
    """Turn a continuous recording into an array.

    Parameters
    ----------
    raw
        A recording, loaded or not. Filter and re-reference it with MNE before.
    picks
        Channels by MNE's rules: ``"data"`` (default; MEG, EEG, intracranial, fNIRS), ``"all"``, types or names.
    bads
        ``"drop"`` (default) leaves out ``info["bads"]`` and names them in ``attrs["bads"]``; ``"keep"`` keeps them
        and adds the coordinate ``bad``.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``; bins begin at ``raw.times`` (0 is the first sample). Along ``neuroid``: name,
        ``channel_type``, ``units``, ``x y z`` in mm (NaN where unknown). Annotations lie along ``time_bin``:
        ``trial_type`` (the description; ``""`` where there is none; overlapping ones joined by ``"; "``) and
        ``block`` (row of the annotation that began last, -1 where there is none). ``attrs``: ``sfreq``,
        ``first_sample`` (MNE's event samples count from there), ``projectors``, ``highpass``, ``lowpass``.

    Raises
    ------
    ValueError
        If no channel is left or all channels are constant or missing; some such channels are a warning.

    Examples
    --------
    >>> import mne, numpy as np
    >>> from cerebridge import neuro
    >>> raw = mne.io.RawArray(np.eye(2, 300), mne.create_info(["Cz", "Pz"], 100.0, "eeg"), verbose=False)
    >>> array = neuro.meeg.from_raw(raw.set_annotations(mne.Annotations(1.0, 0.5, "tone")))
    >>> array.dims, int((array.trial_type == "tone").sum())
    (('time_bin', 'neuroid'), 50)
    """
    names, left_out = choose_channels(raw.info, picks, bads)
    values = load_samples(raw, names)
    check_signals(values, names, axis=0)
    times = _bins(raw.times, raw.info["sfreq"])
    array = _label(
        values, raw.info, names, left_out, bads, type(raw).__name__, time_bin=times | _annotations(raw)
    )
    array.attrs["first_sample"] = int(raw.first_samp)
    return array


def from_epochs(
    epochs: mne.BaseEpochs,
    *,
    stimulus_id: str | Sequence[Any] | None = None,
    picks: str | Sequence[str] = "data",
    bads: Bads = "drop",
) -> xr.DataArray:
    """Turn epochs into an array.

    Parameters
    ----------
    epochs
        Epochs of any kind; rejected ones are left out, and ``provenance`` counts them.
    stimulus_id
        What identifies the stimulus: a column of ``epochs.metadata``, ``"event"`` (the event's name), or one id an
        epoch. Default: the metadata's ``stimulus_id`` if there is one, else the event's name.
    picks, bads
        Which channels, as in :func:`from_raw`.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid × time_bin``, equal to ``epochs.get_data()``. Along ``presentation``:
        ``stimulus_id``, ``repetition`` (0, 1, … within a stimulus), ``event`` (name), ``event_code``,
        ``event_sample``, ``onset`` (s, on the clock of the event samples; an ``onset`` of the metadata wins) and every
        column of the metadata.

    Raises
    ------
    ValueError
        If no epoch or channel is left, ``stimulus_id`` names no column, or a column has a name that is taken.

    Examples
    --------
    >>> import mne, numpy as np
    >>> from cerebridge import neuro
    >>> info = mne.create_info(["Cz", "Pz"], 100.0, "eeg")
    >>> events = np.array([[10, 0, 1], [50, 0, 2]])
    >>> epochs = mne.EpochsArray(np.random.rand(2, 2, 5), info, events, event_id={"cat": 1, "dog": 2}, verbose=False)
    >>> neuro.meeg.from_epochs(epochs).stimulus_id.values.tolist()
    ['cat', 'dog']
    """
    if not epochs.preload:
        epochs = epochs.copy().load_data()
    if len(epochs) == 0:
        raise ValueError(f"no epochs are left of {len(epochs.drop_log)} events; check the rejection limits.")
    names, left_out = choose_channels(epochs.info, picks, bads)
    values = epochs.get_data(picks=[epochs.ch_names.index(name) for name in names])
    check_signals(values, names, axis=(0, 2))
    dropped = sum(bool(reasons) and reasons != ("IGNORED",) for reasons in epochs.drop_log)
    if dropped:
        left_out = [*left_out, f"{dropped} rejected epochs"]
    array = _label(
        values,
        epochs.info,
        names,
        left_out,
        bads,
        type(epochs).__name__,
        presentation=_presentations(epochs, stimulus_id),
        time_bin=_bins(epochs.times, epochs.info["sfreq"]),
    )
    array.attrs["baseline"] = _interval(epochs.baseline)
    return array


def from_evoked(
    evoked: mne.Evoked | Sequence[mne.Evoked], *, picks: str | Sequence[str] = "data", bads: Bads = "drop"
) -> xr.DataArray:
    """Turn one average or several into an array.

    Parameters
    ----------
    evoked
        Averages with the same channels and times. A channel that is bad in one of them is bad in the array.
    picks, bads
        Which channels, as in :func:`from_raw`.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid × time_bin``; ``stimulus_id`` is the ``comment``, ``n_repeats`` is ``nave``.

    Raises
    ------
    ValueError
        If channels or times differ, a comment is missing, or averages and standard errors are mixed.

    Examples
    --------
    >>> import mne, numpy as np
    >>> from cerebridge import neuro
    >>> evoked = mne.EvokedArray(np.eye(2, 5), mne.create_info(["Cz", "Pz"], 100.0, "eeg"), comment="tone", nave=9)
    >>> neuro.meeg.from_evoked(evoked).n_repeats.item()
    9
    """
    averages: list[Any] = list(evoked) if isinstance(evoked, Sequence) else [evoked]
    if not averages:
        raise ValueError("from_evoked was given no averages.")
    first = averages[0]
    for number, average in enumerate(averages):
        if average.ch_names != first.ch_names:
            raise ValueError(
                f"average {number} has other channels than the first; use mne.channels.equalize_channels."
            )
        if not np.array_equal(average.times, first.times):
            raise ValueError(f"average {number} has other times than the first; crop or resample it.")
        if average.kind != first.kind:
            raise ValueError(
                f"average {number} is of kind {average.kind!r}, the first {first.kind!r}; select one kind."
            )
        if not average.comment:
            raise ValueError(
                f"average {number} has no comment; set evoked.comment, which becomes its stimulus_id."
            )
    info = first.info.copy()
    bad = {name for average in averages for name in average.info["bads"]}
    info["bads"] = [name for name in first.ch_names if name in bad]
    names, left_out = choose_channels(info, picks, bads)
    rows = [info["ch_names"].index(name) for name in names]
    values = np.stack([average.data[rows] for average in averages])
    check_signals(values, names, axis=(0, 2))
    array = _label(
        values,
        info,
        names,
        left_out,
        bads,
        f"{type(first).__name__} ({first.kind})",
        presentation={
            "stimulus_id": [average.comment for average in averages],
            "n_repeats": [int(average.nave) for average in averages],
        },
        time_bin=_bins(first.times, info["sfreq"]),
    )
    array.attrs["baseline"] = "; ".join(dict.fromkeys(_interval(average.baseline) for average in averages))
    return array


def _bins(times: NDArray[np.float64], sfreq: float) -> dict[str, Any]:
    return {"time_bin_start": times, "time_bin_end": np.r_[times[1:], times[-1] + 1 / sfreq]}


def _interval(baseline: tuple[float, float] | None) -> str:
    return "none" if baseline is None else f"{baseline[0]:g} to {baseline[1]:g} s"


def _annotations(raw: mne.io.BaseRaw) -> dict[str, Any]:
    """Labels along time; an annotation without duration labels the sample it falls on."""
    sfreq = raw.info["sfreq"]
    labels = np.full(raw.n_times, "", dtype=object)
    block = np.full(raw.n_times, -1)
    notes = raw.annotations
    for number, (onset, duration, text) in enumerate(
        zip(notes.onset - raw.first_time, notes.duration, notes.description, strict=True)
    ):
        begin = max(round(onset * sfreq), 0)
        within = slice(begin, max(round((onset + duration) * sfreq), begin + 1))
        labels[within] = [f"{label}; {text}" if label else str(text) for label in labels[within]]
        block[within] = number
    return {"trial_type": labels.astype(str), "block": block} if len(notes) else {}


def _presentations(epochs: mne.BaseEpochs, stimulus_id: str | Sequence[Any] | None) -> pd.DataFrame:
    names = {code: name for name, code in epochs.event_id.items()}
    # event samples count at the rate of the recording, which differs from the epochs' after decimation
    rate = getattr(epochs, "_raw_sfreq", None) or epochs.info["sfreq"]
    table = pd.DataFrame(
        {
            "event": [names[code] for code in epochs.events[:, 2]],
            "event_code": epochs.events[:, 2],
            "event_sample": epochs.events[:, 0],
            "onset": epochs.events[:, 0] / rate,
        }
    )
    if epochs.metadata is not None:
        columns = epochs.metadata.reset_index(drop=True)
        taken = [name for name in EVENTS if name in columns]
        if taken:
            raise ValueError(
                f"the metadata column {taken[0]!r} is also a coordinate of the events; rename it."
            )
        table = table.assign(**{str(name): columns[name] for name in columns})
    if stimulus_id is None:
        stimulus_id = "stimulus_id" if "stimulus_id" in table else "event"
    if isinstance(stimulus_id, str):
        if stimulus_id not in table:
            raise ValueError(
                f"stimulus_id={stimulus_id!r} is no column of the metadata; there are {some(list(table), 20)}."
            )
        table["stimulus_id"] = table[stimulus_id]
    elif len(stimulus_id) != len(table):
        raise ValueError(
            f"stimulus_id has {len(stimulus_id)} entries for {len(table)} epochs; give one an epoch."
        )
    else:
        table["stimulus_id"] = list(stimulus_id)
    if "repetition" not in table:
        table["repetition"] = table.groupby("stimulus_id").cumcount()
    return table


def _label(
    values: NDArray[np.float64],
    info: mne.Info,
    names: list[str],
    left_out: list[str],
    bads: Bads,
    source: str,
    **tables: Any,
) -> xr.DataArray:
    import mne

    channels = describe_channels(info, names, mark_bads=bads == "keep")
    attrs = describe_recording(info, channels)
    provenance = f"{source} read by MNE {mne.__version__}"
    if left_out:
        provenance += f", without {' and '.join(left_out)}"
    array = assemble(
        values,
        neuroid=channels,
        modality=attrs["modality"],
        units=attrs["units"],
        sfreq=info["sfreq"],
        provenance=provenance,
        **tables,
    )
    array.attrs.update(attrs)
    if bads == "drop":
        dropped = [name for name in info["ch_names"] if name in info["bads"] and name not in names]
        array.attrs["bads"] = ", ".join(dropped)
    return array
