"""Channels of M/EEG arrays: MNE's description of them as coordinates, and the way back to MNE."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import validate

if TYPE_CHECKING:
    import mne

#: SI units by FIFF unit code
UNITS = {107: "V", 112: "T", 201: "T/m", 202: "V/m^2", 116: "°C", 6: "M", 108: "Ω", 101: "Hz", 111: "S"}

#: what a channel type measures; a type that is not listed is its own modality
MODALITIES = {
    "mag": "meg",
    "grad": "meg",
    "ref_meg": "meg",
    "seeg": "ieeg",
    "ecog": "ieeg",
    "dbs": "ieeg",
    "hbo": "fnirs",
    "hbr": "fnirs",
    "fnirs_od": "fnirs",
    "fnirs_cw_amplitude": "fnirs",
}

#: presentation coordinates that are MNE's events; all others become ``metadata``
EVENTS = ("event", "event_code", "event_sample")


def choose_channels(
    info: mne.Info, picks: str | Sequence[str], bads: Literal["drop", "keep"]
) -> tuple[list[str], list[str]]:
    """Find the channels to keep, by MNE's own rules.

    Returns
    -------
    names : list of str
        The channels, in MNE's order.
    left_out : list of str
        What is left out, in words.

    Raises
    ------
    ValueError
        If no channel is left.
    """
    import mne

    if bads not in ("drop", "keep"):
        raise ValueError(f"bads is {bads!r}; it must be 'drop' or 'keep'.")
    probe = mne.EvokedArray(np.zeros((len(info["ch_names"]), 1)), info, verbose="error")
    try:
        picked = probe.pick(picks).ch_names
    except ValueError:
        types = some(sorted(set(info.get_channel_types())), most=20)
        raise ValueError(f"no channel fits picks={picks!r}; the recording has the types {types}.") from None
    names = [name for name in picked if bads == "keep" or name not in info["bads"]]
    if not names:
        raise ValueError(
            f"all {len(picked)} channels of picks={picks!r} are marked bad; bads='keep' keeps them."
        )
    others = [name for name in info["ch_names"] if name not in picked]
    dropped = [name for name in picked if name not in names]
    left_out = [f"{len(others)} channels that were not picked ({some(others)})"] if others else []
    return names, left_out + ([f"{len(dropped)} bad channels ({some(dropped)})"] if dropped else [])


def check_signals(values: NDArray[np.float64], names: list[str], axis: int | tuple[int, ...]) -> None:
    """Warn of channels whose values along ``axis`` never change; refuse a recording of nothing else."""
    if values.size <= len(names):
        return
    alive = np.fmax.reduce(values, axis=axis) > np.fmin.reduce(values, axis=axis)
    dead = [name for name, moves in zip(names, alive, strict=True) if not moves]
    if len(dead) == len(names):
        raise ValueError(
            f"all {len(names)} channels are constant or missing; nothing was recorded, or the file is damaged."
        )
    if dead:
        warnings.warn(
            f"constant or missing channels: {some(dead)}; mark them in info['bads'] to leave them out.",
            stacklevel=3,
        )


def some(names: Sequence[Any], most: int = 5) -> str:
    """The first few of many names."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def describe_channels(info: mne.Info, names: list[str], mark_bads: bool) -> dict[str, Any]:
    """Build the neuroid table of channels.

    Parameters
    ----------
    info
        MNE's description of the recording.
    names
        The channels, in the order of the array.
    mark_bads
        Whether to add the column ``bad``.

    Returns
    -------
    dict
        ``neuroid_id`` (the name), ``channel_type`` (mag, grad, eeg, …), ``units`` (V, T, T/m), ``x y z`` (mm,
        NaN where unknown; head coordinates, also for MEG sensors where the position of the head is known), and
        ``mne_channel``: MNE's own description (position, orientation, coil) as JSON text, one a channel, so that
        it follows every selection, every ``neuro.concat`` and every file.
    """
    import mne

    index = [info["ch_names"].index(name) for name in names]
    described = info.to_json_dict()["chs"]
    position = np.array([_position(info, info["chs"][k]) for k in index]).reshape(-1, 3)
    table: dict[str, Any] = {
        "neuroid_id": names,
        "channel_type": [mne.channel_type(info, k) for k in index],
        "units": [UNITS.get(int(info["chs"][k]["unit"]), "a.u.") for k in index],
        "x": position[:, 0],
        "y": position[:, 1],
        "z": position[:, 2],
        "mne_channel": [json.dumps(described[k]) for k in index],
    }
    if mark_bads:
        table["bad"] = [name in info["bads"] for name in names]
    return table


def describe_recording(info: mne.Info, table: dict[str, Any]) -> dict[str, Any]:
    """Summarise what holds for all channels of ``table``, as attributes that every file format can keep.

    Returns
    -------
    dict
        ``modality`` (``"meg"``, ``"eeg"``, ``"meg+eeg"``, …), ``units`` (all of them, ``"V, T, T/m"``),
        ``highpass`` and ``lowpass`` (Hz), ``projectors`` (their names and whether they were applied) and, where
        known, ``dev_head_t`` (the position of the head in the MEG device, JSON).
    """
    order = [*UNITS.values(), "a.u."]
    projectors = [f"{p['desc']} ({'applied' if p['active'] else 'not applied'})" for p in info["projs"]]
    attrs: dict[str, Any] = {
        "modality": "+".join(dict.fromkeys(MODALITIES.get(kind, kind) for kind in table["channel_type"])),
        "units": ", ".join(sorted(set(table["units"]), key=order.index)),
        "highpass": float(info["highpass"]),
        "lowpass": float(info["lowpass"]),
        "projectors": "; ".join(projectors) or "none",
    }
    if info["dev_head_t"] is not None:
        attrs["dev_head_t"] = json.dumps(info["dev_head_t"]["trans"].tolist())
    return attrs


def to_info(array: xr.DataArray, sfreq: float | None = None) -> mne.Info:
    """Give MNE's ``Info`` for the channels of an array or of scores, for head maps and everything else in MNE.

    Parameters
    ----------
    array
        Anything with one entry a channel along ``neuroid`` (or ``unit``, as scores have it). Channels read by
        :mod:`cerebridge.neuro.meeg` get back all that MNE knew, gradiometer orientations included; others need a
        coordinate ``channel_type`` (or ``modality`` "eeg") and, for maps, ``x y z`` in mm.
    sfreq
        Sampling rate in Hz; default ``attrs["sfreq"]``, or 1 for scores that have none.

    Returns
    -------
    mne.Info

    Raises
    ------
    ValueError
        If a channel occurs twice, or type or orientation of channels is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> eeg = neuro.assemble(
    ...     np.zeros((1, 2)),
    ...     presentation={"stimulus_id": ["a"]},
    ...     neuroid={"neuroid_id": ["C3", "C4"], "x": [-65, 65], "y": [-12, -12], "z": [68, 68]},
    ...     modality="eeg",
    ...     units="V",
    ... )
    >>> neuro.meeg.to_info(eeg).ch_names
    ['C3', 'C4']
    """
    import mne

    names, columns = _channels(array)
    rate = float(array.attrs.get("sfreq", 1.0)) if sfreq is None else float(sfreq)
    if "mne_channel" in columns:
        kinds: list[str] = ["misc"] * len(names)
    elif "channel_type" in columns:
        kinds = columns["channel_type"].astype(str).tolist()
    elif array.attrs.get("modality") == "eeg":
        kinds = ["eeg"] * len(names)
    else:
        raise ValueError(
            "the channels have no coordinate 'channel_type'; assign one (eeg, mag, grad, …) first."
        )
    described = mne.create_info(names, rate, kinds).to_json_dict()
    if "mne_channel" in columns:
        unknown = [name for name, text in zip(names, columns["mne_channel"], strict=True) if not text]
        if unknown:
            raise ValueError(
                f"'mne_channel' says nothing of {some(unknown)}; select the channels that it describes."
            )
        described["chs"] = [json.loads(text) for text in columns["mne_channel"]]
    else:
        _place(described["chs"], kinds, columns)
    for key in ("highpass", "lowpass"):
        described[key] = float(array.attrs.get(key, described[key]))
    info = mne.Info.from_json_dict(described)
    if "dev_head_t" in array.attrs:
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", _device_to_head(array))
    if "bad" in columns:
        info["bads"] = [name for name, bad in zip(names, columns["bad"], strict=True) if bad]
    return info


def to_mne(array: xr.DataArray) -> mne.io.RawArray | mne.EpochsArray | list[mne.EvokedArray]:
    """Turn an M/EEG array back into MNE's own object.

    Parameters
    ----------
    array
        ``time_bin × neuroid`` becomes a ``RawArray`` (labels ``trial_type`` become annotations);
        ``presentation × neuroid × time_bin`` becomes ``EpochsArray``, or, where ``n_repeats`` says that each
        presentation is an average, a list of ``EvokedArray``.

    Returns
    -------
    mne.io.RawArray, mne.EpochsArray or list of mne.EvokedArray
        Values, channels, times and events as they were read. Projectors are not kept (``attrs["projectors"]``
        says which there were); apply them before reading where they are wanted.

    Raises
    ------
    ValueError
        If there is no time axis, its bins are not evenly spaced, or the channels cannot be described.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> eeg = neuro.assemble(
    ...     np.zeros((100, 2)),
    ...     time_bin={"time_bin_start": np.arange(100) / 50, "time_bin_end": np.arange(1, 101) / 50},
    ...     neuroid={"neuroid_id": ["C3", "C4"]},
    ...     modality="eeg",
    ...     units="V",
    ...     sfreq=50,
    ... )
    >>> neuro.meeg.to_mne(eeg).info["sfreq"]
    50.0
    """
    import mne

    if "time_bin" not in validate(array).dims:
        raise ValueError(
            f"the array is {' × '.join(map(str, array.dims))} and has no times; use to_info for head maps of it."
        )
    start = array.coords["time_bin_start"].values
    rate = _rate(array)
    info = to_info(array, rate)
    if "presentation" not in array.dims:
        first = int(array.attrs.get("first_sample", 0)) + round(start[0] * rate)
        raw = mne.io.RawArray(array.values.T, info, first_samp=first, verbose="warning")
        return raw.set_annotations(_annotations(array, rate))
    if "n_repeats" in array.coords:
        labels = zip(array.coords["stimulus_id"].values, array.coords["n_repeats"].values, strict=True)
        return [
            mne.EvokedArray(
                values, info, tmin=start[0], nave=int(n), comment=str(stimulus), verbose="warning"
            )
            for values, (stimulus, n) in zip(array.values, labels, strict=True)
        ]
    table = pd.DataFrame({name: c.values for name, c in array.coords.items() if c.dims == ("presentation",)})
    events, event_id = _events(table)
    metadata = table.drop(columns=[name for name in EVENTS if name in table])
    return mne.EpochsArray(
        array.values, info, events, start[0], event_id, metadata=metadata, proj=False, verbose="warning"
    )


def _position(info: mne.Info, channel: dict[str, Any]) -> NDArray[np.float64]:
    """Position in mm; NaN where the file gives none (MNE writes zeros or NaN)."""
    from mne.io.constants import FIFF
    from mne.transforms import apply_trans

    where = np.asarray(channel["loc"][:3], dtype=float)
    if not np.isfinite(where).all() or not where.any():
        return np.full(3, np.nan)
    if channel["coord_frame"] == FIFF.FIFFV_COORD_DEVICE and info["dev_head_t"] is not None:
        where = apply_trans(info["dev_head_t"], where)
    return 1000 * where


def _channels(array: xr.DataArray) -> tuple[list[str], dict[str, NDArray[Any]]]:
    dim = next((dim for dim in ("neuroid", "unit") if dim in array.dims), None)
    if dim is None:
        raise ValueError(
            f"the array is {' × '.join(map(str, array.dims))}; channels lie along 'neuroid' or 'unit'."
        )
    columns = {str(name): coord.values for name, coord in array.coords.items() if coord.dims == (dim,)}
    ids = columns.get("neuroid_id", columns.get(dim))
    if ids is None:
        raise ValueError(f"the coordinate 'neuroid_id' along {dim!r} is missing; it names the channels.")
    names = [str(name) for name in ids]
    twice = pd.Series(names).duplicated()
    if twice.any():
        name = names[int(np.flatnonzero(twice)[0])]
        raise ValueError(
            f"the channel {name!r} occurs {names.count(name)} times; select one subject and one time first."
        )
    return names, columns


def _place(channels: list[dict[str, Any]], kinds: list[str], columns: dict[str, NDArray[Any]]) -> None:
    """Write positions into channels that MNE does not know yet."""
    oriented = sorted({kind for kind in kinds if MODALITIES.get(kind) == "meg"})
    if oriented:
        raise ValueError(
            f"channels of type {' and '.join(oriented)} need an orientation, which x, y, z do not give; read them "
            "with neuro.meeg, which keeps it in 'mne_channel'."
        )
    if {"x", "y", "z"} <= set(columns):
        for channel, *where in zip(channels, columns["x"], columns["y"], columns["z"], strict=True):
            channel["loc"] = [float(value) / 1000 for value in where] + [0.0] * 9


def _device_to_head(array: xr.DataArray) -> NDArray[np.float64]:
    try:
        return np.array(json.loads(array.attrs["dev_head_t"]), dtype=float).reshape(4, 4)
    except ValueError:
        raise ValueError(
            "attrs['dev_head_t'] is no single 4 × 4 matrix, so the array joins several head positions; select one "
            "recording and set its matrix, or delete the attribute."
        ) from None


def _rate(array: xr.DataArray) -> float:
    """The sampling rate that the bins have; the exact one of the recording if they still have it."""
    start, end = array.coords["time_bin_start"].values, array.coords["time_bin_end"].values
    steps = np.diff(start) if len(start) > 1 else end - start
    rate = 1.0 / float(np.median(steps))
    if np.abs(steps * rate - 1).max() > 1e-3:
        k = int(np.abs(steps * rate - 1).argmax())
        raise ValueError(
            f"the time bins are not evenly spaced: {steps[k]:g} s from bin {k} to the next, else {1 / rate:g} s; "
            "MNE needs one sampling rate."
        )
    recorded = float(array.attrs.get("sfreq", rate))
    return recorded if abs(recorded / rate - 1) < 1e-6 else rate


def _annotations(array: xr.DataArray, rate: float) -> mne.Annotations:
    """The labels along time; ``block`` keeps neighbours of one label apart."""
    import mne

    if "trial_type" not in array.coords:
        return mne.Annotations([], [], [])
    labels = array.coords["trial_type"].values.astype(str)
    changes = labels[1:] != labels[:-1]
    if "block" in array.coords:
        changes |= np.diff(array.coords["block"].values) != 0
    begins = np.flatnonzero(np.r_[True, changes])
    lengths = np.diff(np.r_[begins, len(labels)])
    named = labels[begins] != ""
    return mne.Annotations(begins[named] / rate, lengths[named] / rate, labels[begins][named])


def _events(table: pd.DataFrame) -> tuple[NDArray[np.int64], dict[str, int]]:
    """MNE's events; numbered where the array has none or joins recordings whose samples collide."""
    names = table["event" if "event" in table else "stimulus_id"].astype(str)
    codes = table["event_code"].to_numpy() if "event_code" in table else pd.factorize(names)[0] + 1
    samples = table["event_sample"].to_numpy() if "event_sample" in table else np.arange(len(table))
    if len(set(samples)) < len(samples):
        samples = np.arange(len(table))
    events = np.column_stack([samples, np.zeros(len(table)), codes]).astype(np.int64)
    return events, dict(zip(names, map(int, codes), strict=True))
