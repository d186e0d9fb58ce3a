"""M/EEG files: opened by MNE, told apart by their content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .sensors import some

if TYPE_CHECKING:
    import mne


def existing(path: Any) -> Path:
    """The path of a file or folder that is there."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"path is a {type(path).__name__}; give the path of a file, or take from_raw, from_epochs or from_evoked."
        )
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path.")
    return path


def open_recording(path: Path, proj: bool | None) -> Any:
    """Open whatever MNE finds in a file.

    Parameters
    ----------
    path
        An existing file or folder of any format that MNE reads.
    proj
        Whether to apply the projectors that the file holds; ``None``: to epochs and averages, not to raw.

    Returns
    -------
    mne.io.BaseRaw, mne.BaseEpochs or list of mne.Evoked

    Raises
    ------
    ValueError
        If MNE cannot read it, or it holds something else than signals.
    """
    if path.name.endswith((".fif", ".fif.gz")):
        recording = _open_fif(path, proj is not False)
    else:
        try:
            recording = _open_raw(path)
        except Exception as error:
            raise ValueError(
                f"MNE cannot read {path.name} ({_reason(error)}); check that it is whole and of a known format."
            ) from None
    return recording.apply_proj(verbose="warning") if proj and not isinstance(recording, list) else recording


def load_samples(raw: mne.io.BaseRaw, names: list[str]) -> NDArray[np.float64]:
    """Load channels of a recording, ``time × channel``; refuse one whose file ends too early."""
    try:
        return np.asarray(raw.get_data(picks=[raw.ch_names.index(name) for name in names])).T
    except Exception as error:
        raise ValueError(
            f"the samples of the recording cannot be read ({_reason(error)}); its file is cut off or damaged."
        ) from None


def set_montage(recording: Any, montage: str | mne.channels.DigMontage) -> None:
    """Give the electrodes of a recording their positions, in place.

    Parameters
    ----------
    recording
        Raw, epochs or evoked. Channels take the montage's names, found without regard to case and trailing dots.
    montage
        The name of one of MNE's montages, or a montage.

    Raises
    ------
    ValueError
        If an electrode is not in the montage.
    """
    import mne

    if isinstance(montage, str):
        montage = mne.channels.make_standard_montage(montage)
    known = {name.lower(): name for name in montage.ch_names}
    renamed = {name: known.get(name.rstrip(".").lower(), name) for name in recording.ch_names}
    types = dict(zip(recording.ch_names, recording.get_channel_types(), strict=True))
    absent = [name for name, kind in types.items() if kind == "eeg" and renamed[name] not in montage.ch_names]
    if absent:
        raise ValueError(
            f"the montage has no position for {some(absent)}; rename the channels, set their type, or choose "
            "another montage."
        )
    recording.rename_channels(renamed)
    recording.set_montage(montage, on_missing="ignore", verbose="warning")


def _open_fif(path: Path, proj: bool) -> Any:
    """What the file holds, whatever it is called; what its name suggests is tried first."""
    import mne

    readers: dict[str, Callable[[], Any]] = {
        "raw": lambda: mne.io.read_raw_fif(path, verbose="warning"),
        "epo": lambda: mne.read_epochs(path, proj=proj, verbose="warning"),
        "ave": lambda: mne.read_evokeds(path, proj=proj, verbose="warning"),
    }
    for kind in sorted(readers, key=lambda kind: kind not in path.name):
        try:
            return readers[kind]()
        except Exception:
            continue
    holds = mne.what(path)
    if holds in (None, "unknown"):
        raise ValueError(f"MNE finds nothing that it knows in {path.name}; the file may be cut off.")
    raise ValueError(
        f"{path.name} holds {holds}, not signals; name the file with the recording, epochs or averages."
    )


def _open_raw(path: Path) -> Any:
    """A continuous recording; EEGLAB has one suffix for recordings and for epochs."""
    import mne

    if path.suffix != ".set":
        return mne.io.read_raw(path, verbose="warning")
    try:
        return mne.io.read_raw_eeglab(path, verbose="warning")
    except TypeError:
        return mne.read_epochs_eeglab(path, verbose="warning")


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
