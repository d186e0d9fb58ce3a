"""What BIDS says of a recording: tables of events, the volumes they label, and the files of an fMRIPrep folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: columns that may name the stimulus of an event, the first present one counts
STIMULUS_COLUMNS = ("stimulus_id", "stim_id", "stim_file")
#: entities that tell versions of one run apart, not runs
VERSION_ENTITIES = ("space", "res", "den", "desc", "hemi")
BOLD_FILES = {"nii.gz": "NIfTI", "nii": "NIfTI", "func.gii": "GIFTI", "dtseries.nii": "CIFTI"}

Outside = Literal["raise", "crop"]


def read_events(source: Any, *, where: str, duration: float, outside: Outside = "raise") -> pd.DataFrame:
    """Read and check the events of one run.

    Parameters
    ----------
    source
        Path of a BIDS ``events.tsv`` or a ``DataFrame`` with ``onset``, ``duration`` (seconds), ``trial_type`` and
        optionally one of ``stimulus_id``, ``stim_id``, ``stim_file``.
    where
        The run's name, for messages.
    duration
        How long the run is, in seconds.
    outside
        ``"raise"`` refuses events that are not wholly inside the run; ``"crop"`` cuts them to it.

    Returns
    -------
    pandas.DataFrame
        ``onset``, ``duration``, ``trial_type``, ``stimulus_id`` in order of onset; ``attrs["cropped"]`` counts events
        that were cut or left out.

    Raises
    ------
    ValueError
        If a column or value is missing, or an event lies outside the run.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"onset": [4.0], "duration": [2.0], "trial_type": ["face"]})
    >>> read_events(table, where="run 0", duration=10).stimulus_id.tolist()
    ['face']
    """
    if source is None:
        raise ValueError(
            f"{where} has no events, but other runs have; give it a table too, without rows if need be."
        )
    table = source if isinstance(source, pd.DataFrame) else pd.read_csv(source, sep="\t", na_values="n/a")
    missing = [column for column in ("onset", "duration", "trial_type") if column not in table]
    if missing:
        raise ValueError(
            f"the events of {where} lack the column {missing[0]!r} (they have {', '.join(map(str, table.columns))}); "
            "BIDS asks for onset, duration and trial_type, separated by tabs."
        )
    events = pd.DataFrame(
        {column: pd.to_numeric(table[column], errors="coerce") for column in ("onset", "duration")}
    )
    events["trial_type"] = table["trial_type"].astype(object)
    named = next((column for column in STIMULUS_COLUMNS if column in table), "trial_type")
    events["stimulus_id"] = table[named].astype(object).where(table[named].notna(), table["trial_type"])
    wrong = np.flatnonzero(events.isna().any(axis=1) | (events["duration"] < 0))
    if wrong.size:
        raise ValueError(
            f"event {wrong[0]} of {where} has onset {table['onset'].iloc[wrong[0]]}, duration "
            f"{table['duration'].iloc[wrong[0]]} and trial_type {table['trial_type'].iloc[wrong[0]]}; each needs an "
            "onset and a duration >= 0 in seconds and a trial_type."
        )
    for column in ("trial_type", "stimulus_id"):
        events[column] = [str(label) for label in events[column]]
    events = events.sort_values("onset", kind="stable", ignore_index=True)
    return _inside(events, where, duration, outside)


def _inside(events: pd.DataFrame, where: str, duration: float, outside: Outside) -> pd.DataFrame:
    tolerance = 1e-6 * max(duration, 1.0)
    onset, end = events["onset"].to_numpy(float), (events["onset"] + events["duration"]).to_numpy(float)
    wrong = (onset < -tolerance) | (onset >= duration - tolerance) | (end > duration + tolerance)
    events.attrs["cropped"] = int(wrong.sum())
    if not wrong.any():
        return events
    if outside == "raise":
        k = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"event {k} of {where} ({events['trial_type'][k]!r}, {onset[k]:g} to {end[k]:g} s) lies outside the run, "
            f"which lasts from 0 to {duration:g} s; correct the events (or t_r), or cut them with outside='crop'."
        )
    kept = (end > 0) & (onset < duration - tolerance)
    onset = np.clip(onset, 0, None)
    cropped = events.assign(onset=onset, duration=np.minimum(end, duration) - onset)
    return cropped[kept].reset_index(drop=True)


def label_volumes(
    events: pd.DataFrame, n_volumes: int, t_r: float, *, where: str, delay: float = 0.0
) -> dict[str, NDArray[Any]]:
    """Give each volume the label of the event it lies in.

    Volume ``v`` is taken at ``t = v * t_r`` and belongs to an event if ``onset + delay <= t < onset + delay +
    duration``.

    Parameters
    ----------
    events
        As :func:`read_events` gives them.
    n_volumes, t_r
        Length of the run, and seconds between volumes.
    where
        The run's name, for messages.
    delay
        Seconds by which labels come later than events, for the haemodynamic lag.

    Returns
    -------
    dict of numpy.ndarray
        ``trial_type`` and ``stimulus_id`` (``"rest"`` outside events) and ``block``, the row of the event (-1).

    Raises
    ------
    ValueError
        If events overlap or hold no volume, so that labels would be lost.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"onset": [4.0], "duration": [4.0], "trial_type": ["face"], "stimulus_id": ["a"]})
    >>> label_volumes(table, 5, 2.0, where="run 0")["trial_type"].tolist()
    ['rest', 'rest', 'face', 'face', 'rest']
    """
    advice = "pass design='event' and estimate responses with fmri.betas"
    block = np.full(n_volumes, -1)
    shifted = events["onset"].to_numpy(float) + delay
    starts = np.ceil(shifted / t_r - 1e-6).clip(0).astype(int)
    stops = np.ceil((shifted + events["duration"].to_numpy(float)) / t_r - 1e-6).clip(0).astype(int)
    for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        event = f"event {k} of {where} ({events['trial_type'][k]!r} at {events['onset'][k]:g} s)"
        if start >= min(stop, n_volumes):
            raise ValueError(f"{event} holds no volume at a repetition time of {t_r:g} s; {advice}.")
        if block[start:stop].max() >= 0:
            raise ValueError(
                f"{event} overlaps with event {block[start:stop].max()}, so volumes have two labels; {advice}."
            )
        block[start:stop] = k
    labels = {column: np.array([*events[column], "rest"])[block] for column in ("trial_type", "stimulus_id")}
    return {**labels, "block": block}


@dataclass(frozen=True)
class Run:
    """The files of one preprocessed run, called ``run`` or ``(session, run)``; GIFTI has one file a hemisphere."""

    key: Any
    bold: Any
    mask: Path | None = None
    events: Path | None = None


def find_runs(
    folder: str | Path,
    task: str,
    subject: str,
    *,
    space: str | None = None,
    session: str | None = None,
    entities: Mapping[str, str] | None = None,
    derivatives: str | Path | None = None,
    events: bool = True,
) -> list[Run]:
    """Find the preprocessed runs of one subject and task in a BIDS folder.

    Parameters
    ----------
    folder
        The BIDS data set; it may be the fMRIPrep folder itself if there are no events to be found.
    task, subject, space, session
        Entities of the file names, without ``task-`` and the like.
    entities
        Further entities, e.g. ``{"res": "2"}``.
    derivatives
        fMRIPrep's output; default ``folder/derivatives/fmriprep`` where it exists, else ``folder``.
    events
        Whether every run must have a table of events.

    Returns
    -------
    list of Run
        In order of session and run.

    Raises
    ------
    FileNotFoundError
        If there is no run, mask or events table.
    ValueError
        If the files hold several versions of a run, so that a space must be chosen.

    Examples
    --------
    >>> find_runs("/no/such/folder", "rest", "01")
    Traceback (most recent call last):
        ...
    FileNotFoundError: there is no folder /no/such/folder.
    """
    from nilearn.interfaces.bids import get_bids_files, parse_bids_filename

    root = Path(folder)
    preprocessed = root / "derivatives" / "fmriprep" if derivatives is None else Path(derivatives)
    if derivatives is None and not preprocessed.is_dir():
        preprocessed = root
    for place in (root, preprocessed):
        if not place.is_dir():
            raise FileNotFoundError(f"there is no folder {place}.")
    subject, task = subject.removeprefix("sub-"), task.removeprefix("task-")
    asked = {"task": task, "space": space, "ses": session, **(entities or {})}
    filters = [(key, value) for key, value in asked.items() if value is not None]
    found = get_bids_files(
        preprocessed, "bold", "*", sub_label=subject, modality_folder="func", filters=filters
    )
    files = [parse_bids_filename(path) for path in found]
    files = [f for f in files if f["extension"] in BOLD_FILES and f["entities"]["sub"] == subject]
    files = [
        f for f in files if f["entities"].get("desc") in ("preproc", None if _on_surface(f) else "preproc")
    ]
    if not files:
        raise FileNotFoundError(
            f"{preprocessed} holds no preprocessed bold file of sub-{subject} with "
            f"{', '.join(f'{key}-{value}' for key, value in filters)}; check the entities."
        )
    tables: list[Any] = [
        *get_bids_files(root, "events", "tsv", sub_label=subject, modality_folder="func"),
        *map(str, sorted(root.glob("*_events.tsv"))),
    ]
    return [_run(group, tables, events) for group in _grouped(files)]


def _on_surface(file: Any) -> bool:
    return BOLD_FILES[file["extension"]] != "NIfTI"


def _identity(file: Any) -> dict[str, Any]:
    return {key: value for key, value in file["entities"].items() if key not in VERSION_ENTITIES}


def _grouped(files: list[Any]) -> list[list[Any]]:
    """The files of each run, after checking that there is one version of it."""
    versions: set[tuple[Any, ...]] = {
        (BOLD_FILES[f["extension"]], *((key, f["entities"].get(key)) for key in ("space", "res", "den")))
        for f in files
    }
    if len(versions) > 1:
        listed = sorted(
            kind + "".join(f" {key}-{value}" for key, value in entities if value)
            for kind, *entities in versions
        )
        raise ValueError(f"the folder holds {' and '.join(listed)}; choose one with space= or entities=.")
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for file in files:
        groups.setdefault(tuple(sorted(_identity(file).items())), []).append(file)
    ordered = sorted(
        groups.values(),
        key=lambda group: tuple(str(_label(group[0], key)).zfill(8) for key in ("ses", "run")),
    )
    places = [tuple(_label(group[0], key) for key in ("ses", "run")) for group in ordered]
    if len(set(places)) < len(places):
        names = " and ".join(str(group[0]["file_basename"]) for group in ordered[:2])
        raise ValueError(f"several files are the same run, e.g. {names}; choose one with entities=.")
    return ordered


def _label(file: Any, key: str) -> Any:
    value = file["entities"].get(key)
    return int(value) if value is not None and value.isdigit() and key == "run" else value


def _run(group: list[Any], tables: list[Any], events: bool) -> Run:
    from nilearn.interfaces.bids import parse_bids_filename

    first, identity = group[0], _identity(group[0])
    number = 1 if _label(first, "run") is None else _label(first, "run")
    key = number if identity.get("ses") is None else (identity["ses"], number)
    bold: Any = Path(first["file_path"])
    mask = None
    if BOLD_FILES[first["extension"]] == "GIFTI":
        sides = {"L": "left", "R": "right"}
        bold = {sides[f["entities"]["hemi"]]: Path(f["file_path"]) for f in group}
    elif BOLD_FILES[first["extension"]] == "NIfTI":
        mask = Path(str(bold).replace("desc-preproc_bold", "desc-brain_mask"))
        if not mask.is_file():
            raise FileNotFoundError(
                f"the brain mask {mask} of {bold.name} is missing; fMRIPrep writes it beside the run."
            )
    applying = [
        (len(parsed), path)
        for path in tables
        if (parsed := parse_bids_filename(path)["entities"]).items() <= identity.items()
    ]
    if events and not applying:
        raise FileNotFoundError(
            f"no events.tsv applies to {first['file_basename']}; add it to the BIDS folder, or pass events=False."
        )
    table = Path(max(applying)[1]) if applying and events else None
    return Run(key=key, bold=bold, mask=mask, events=table)
