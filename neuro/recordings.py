"""M/EEG files: opened by MNE, told apart by their content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sensors import some

if TYPE_CHECKING:
    import mne


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
    import mne

    holds = "raw"
    try:
        if path.name.endswith((".fif", ".fif.gz")):
            holds = mne.what(path)
        if holds == "epochs":
            return mne.read_epochs(path, proj=proj is not False, verbose="warning")
        if holds == "evoked":
            return mne.read_evokeds(path, proj=proj is not False, verbose="warning")
        if holds == "raw":
            recording = _open_raw(path)
            return recording.apply_proj(verbose="warning") if proj else recording
    except Exception as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ValueError(
            f"MNE cannot read {path.name} ({reason}); check that it is whole and of a format that MNE knows."
        ) from error
    if holds == "unknown":
        raise ValueError(f"MNE finds nothing that it knows in {path.name}; the file may be cut off.")
    raise ValueError(
        f"{path.name} holds {holds}, not signals; name the file with the recording, epochs or averages."
    )


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


def _open_raw(path: Path) -> Any:
    """A continuous recording; EEGLAB has one suffix for recordings and for epochs."""
    import mne

    if path.suffix != ".set":
        return mne.io.read_raw(path, verbose="warning")
    try:
        return mne.io.read_raw_eeglab(path, verbose="warning")
    except TypeError:
        return mne.read_epochs_eeglab(path, verbose="warning")
