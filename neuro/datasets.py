"""Named public data sets by the field's own fetchers, as labelled arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from . import fetching, fmri, meeg
from .assembly import concat
from .interchange import from_brainscore

__all__ = ["brainscore", "eegbci", "haxby", "mne_sample", "moabb"]

HAXBY_MASKS = ("brain", "vt", "face", "house", "face_little", "house_little")
EEGBCI_FISTS = (3, 4, 7, 8, 11, 12)
EEGBCI_IMAGINED = (4, 6, 8, 10, 12, 14)
SAMPLE_EVENTS = {"auditory/left": 1, "auditory/right": 2, "visual/left": 3, "visual/right": 4}
SAMPLE_REJECT = {"grad": 4000e-13, "mag": 4e-12, "eog": 150e-6}


def haxby(
    subject: int = 2, mask: str | None = "brain", *, data_dir: str | Path | None = None, **options: Any
) -> xr.DataArray:
    """Fetch one person of Haxby et al. (2001): twelve runs of pictures of eight categories, by nilearn.

    Parameters
    ----------
    subject
        1 to 6.
    mask
        ``"brain"``, ``"vt"``, ``"face"``, ``"house"``, ``"face_little"``, ``"house_little"``; ``None`` keeps all.
    data_dir
        Where the data lie or go (310 MB a person); default nilearn's folder.
    options
        For :func:`cerebridge.neuro.fmri.read`, such as ``detrend="linear"``. Constant voxels are left out and
        counted unless ``invalid="raise"``.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid`` with ``run`` and ``trial_type`` (the category, ``"rest"`` between).

    Raises
    ------
    ValueError
        If there is no such person or mask.
    ConnectionError
        If the data are not there and cannot be fetched.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> array = neuro.datasets.haxby(2, mask="vt", detrend="linear")  # doctest: +SKIP
    """
    _check(subject in range(1, 7), f"subject is {subject!r}; Haxby's data have subjects 1 to 6.")
    _check(mask is None or mask in HAXBY_MASKS, f"mask is {mask!r}; it must be one of {HAXBY_MASKS} or None.")
    files = fetching.haxby_files(subject, data_dir)
    runs, events = _haxby_runs(files)
    image = None if mask is None else files.mask if mask == "brain" else files[f"mask_{mask}"][0]
    usual = {"invalid": "drop", "subject": str(subject), "t_r": files.t_r}
    array = fmri.read(runs, events=events, mask=image, **{**usual, **options})
    return _described(array, f"Haxby et al. (2001), subject {subject}")


def eegbci(
    subject: int = 1,
    runs: Sequence[int] = (6, 10, 14),
    *,
    window: tuple[float, float] | None = None,
    band: tuple[float, float] | None = None,
    data_dir: str | Path | None = None,
) -> xr.DataArray:
    """Fetch movements made and imagined in 64 EEG channels (Schalk et al. 2004, PhysioNet), by MNE.

    Parameters
    ----------
    subject
        1 to 109.
    runs
        3, 7, 11 move and 4, 8, 12 imagine the left or right fist; 5, 9, 13 move and 6, 10, 14 imagine both fists or
        both feet; 1 and 2 are rest with open and closed eyes.
    window
        Seconds around the beginning of each movement, for epochs. Default: the continuous recording.
    band
        Lower and upper edge in Hz of MNE's default band-pass filter, before anything is cut.
    data_dir
        Where the data lie or go (2.6 MB a run); default MNE's folder.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``, with ``trial_type`` and ``run``; or ``presentation × neuroid × time_bin`` without
        the rest. ``task`` says ``"move"``, ``"imagine"`` or ``"baseline"``.

    Raises
    ------
    ValueError
        If there is no such person or run.
    ConnectionError
        If the data are not there and cannot be fetched.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> array = neuro.datasets.eegbci(1, [6, 10], window=(0.5, 3.5), band=(7, 30))  # doctest: +SKIP
    """
    _check(subject in range(1, 110), f"subject is {subject!r}; EEGBCI has subjects 1 to 109.")
    known = len(runs) > 0 and set(runs) <= set(range(1, 15)) and len(set(runs)) == len(runs)
    _check(known, f"runs are {list(runs)}; give some of EEGBCI's runs 1 to 14, each once.")
    _check(window is None or min(runs) > 2, "runs 1 and 2 are rest, of which no movements can be cut.")
    recordings = dict(zip(runs, fetching.eegbci_recordings(subject, runs, data_dir), strict=True))
    for run, raw in recordings.items():
        raw.annotations.rename(_eegbci_events(run))
        if band is not None:
            raw.filter(*band, verbose="error")
    array = _eegbci_continuous(recordings) if window is None else _eegbci_epochs(recordings, window)
    return _described(array, f"EEGBCI (Schalk et al. 2004), subject {subject}")


def mne_sample(
    kind: Literal["epochs", "evoked"] = "epochs",
    *,
    tmin: float = -0.2,
    tmax: float = 0.5,
    data_dir: str | Path | None = None,
) -> xr.DataArray:
    """Fetch MNE's sample: one person hears tones and sees checkerboards, left and right (MEG and EEG).

    Parameters
    ----------
    kind
        ``"epochs"`` of the recording filtered at 40 Hz, those with artefacts left out; or ``"evoked"``, the averages
        that come with it.
    tmin, tmax
        Seconds around each event; the baseline is what lies before it.
    data_dir
        Where the data lie or go (1.5 GB); default MNE's folder.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid × time_bin``; ``stimulus_id`` is ``"auditory/left"``, … (of averages, their
        comment).

    Raises
    ------
    ConnectionError
        If the data are not there and cannot be fetched.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> array = neuro.datasets.mne_sample("evoked")  # doctest: +SKIP
    """
    _check(kind in ("epochs", "evoked"), f"kind is {kind!r}; it must be 'epochs' or 'evoked'.")
    folder = fetching.sample_folder(data_dir)
    if kind == "evoked":
        array = meeg.read(folder / "sample_audvis-ave.fif")
    else:
        array = meeg.from_epochs(_sample_epochs(folder, tmin, tmax))
    return _described(array, "MNE sample data")


def moabb(name: str, subjects: Sequence[int] | None = None, paradigm: Any = None) -> xr.DataArray:
    """Fetch any set of the Mother of all BCI benchmarks (extra ``bci``).

    Parameters
    ----------
    name
        A class of ``moabb.datasets``, such as ``"BNCI2014_001"``.
    subjects
        Which of its people; default the first.
    paradigm
        An object of ``moabb.paradigms``, for bands, classes and times of one's own; default the one that the set
        is made for, as it comes.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid × time_bin`` with ``subject``, ``session`` and ``run``; ``stimulus_id`` is the
        class.

    Raises
    ------
    ImportError
        If moabb is not installed.
    ValueError
        If there is no such set or person.
    ConnectionError
        If the data are not there and cannot be fetched.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> array = neuro.datasets.moabb("BNCI2014_001", subjects=[1])  # doctest: +SKIP
    """
    epochs, labels, table = fetching.moabb_epochs(name, subjects, paradigm)
    epochs.metadata = table.reset_index(drop=True)
    array = meeg.from_epochs(epochs, stimulus_id=[str(label) for label in labels])
    return _described(array, f"{name} by moabb")


def brainscore(identifier: str, *, modality: str, units: str) -> xr.DataArray:
    """Fetch a Brain-Score data set (extra ``brainscore``).

    Parameters
    ----------
    identifier
        Brain-Score's name for it, such as ``"MajajHong2015.public"``.
    modality, units
        What was measured, which Brain-Score's sets do not say themselves.

    Returns
    -------
    xarray.DataArray
        As :func:`cerebridge.neuro.from_brainscore` gives it, its stimulus set in ``attrs["stimulus_set"]``.

    Raises
    ------
    ImportError
        If Brain-Score is not installed.
    ConnectionError
        If the data are not there and cannot be fetched.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> array = neuro.datasets.brainscore("Papale2025.train", modality="spikes", units="a.u.")  # doctest: +SKIP
    """
    array = from_brainscore(fetching.brainscore_assembly(identifier), modality=modality, units=units)
    return _described(array, f"Brain-Score {identifier}")


def _check(right: bool, sentence: str) -> None:
    if not right:
        raise ValueError(sentence)


def _described(array: xr.DataArray, name: str) -> xr.DataArray:
    earlier = array.attrs.get("provenance")
    array.attrs["provenance"] = f"{name}: {earlier}" if earlier else name
    return array


def _haxby_runs(files: Any) -> tuple[dict[int, Any], dict[int, pd.DataFrame]]:
    """The runs that lie end to end in one image, and the events of each from the labels of its volumes."""
    import nibabel

    image: Any = nibabel.load(files.func[0])
    table = pd.read_csv(files.session_target[0], sep=r"\s+")
    runs, events = {}, {}
    for run, volumes in table.groupby("chunks").indices.items():
        runs[int(run)] = image.slicer[..., volumes[0] : volumes[-1] + 1]
        events[int(run)] = _blocks(table["labels"].to_numpy(dtype=object)[volumes], files.t_r)
    return runs, events


def _blocks(labels: NDArray[Any], t_r: float) -> pd.DataFrame:
    """Events of stretches of volumes with one label, the rest left out."""
    edges = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1], True])
    starts = edges[:-1]
    table = pd.DataFrame(
        {"onset": starts * t_r, "duration": np.diff(edges) * t_r, "trial_type": labels[starts]}
    )
    return table[table["trial_type"] != "rest"].reset_index(drop=True)


def _eegbci_events(run: int) -> dict[str, str]:
    if run < 3:
        return {"T0": "rest"}
    first, second = ("left fist", "right fist") if run in EEGBCI_FISTS else ("both fists", "both feet")
    return {"T0": "rest", "T1": first, "T2": second}


def _eegbci_task(run: int) -> str:
    return "baseline" if run < 3 else "imagine" if run in EEGBCI_IMAGINED else "move"


def _eegbci_continuous(recordings: dict[int, Any]) -> xr.DataArray:
    arrays = []
    for run, raw in recordings.items():
        array = meeg.from_raw(raw)
        labels = {"run": run, "task": _eegbci_task(run)}
        n = array.sizes["time_bin"]
        arrays.append(
            array.assign_coords({name: ("time_bin", [label] * n) for name, label in labels.items()})
        )
    return concat(arrays, "time_bin")


def _eegbci_epochs(recordings: dict[int, Any], window: tuple[float, float]) -> xr.DataArray:
    import mne

    names = {name for run in recordings for name in _eegbci_events(run).values()} - {"rest"}
    codes = {name: code for code, name in enumerate(sorted(names), start=1)}
    parts = []
    for run, raw in recordings.items():
        events, found = mne.events_from_annotations(raw, event_id=codes, verbose="error")
        table = pd.DataFrame({"run": run, "task": _eegbci_task(run)}, index=range(len(events)))
        options = {"baseline": None, "metadata": table, "preload": True, "verbose": "error"}
        parts.append(mne.Epochs(raw, events, found, *window, **options))
    return meeg.from_epochs(mne.concatenate_epochs(parts, verbose="error"))


def _sample_epochs(folder: Path, tmin: float, tmax: float) -> Any:
    import mne

    raw = mne.io.read_raw_fif(folder / "sample_audvis_filt-0-40_raw.fif", verbose="error")
    events = mne.read_events(folder / "sample_audvis_filt-0-40_raw-eve.fif", verbose="error")
    reject = {kind: limit for kind, limit in SAMPLE_REJECT.items() if kind in raw}
    options = {"baseline": (None, 0), "reject": reject, "preload": True, "verbose": "error"}
    return mne.Epochs(raw, events, SAMPLE_EVENTS, tmin, tmax, **options)
