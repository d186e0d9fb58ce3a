"""The files of public data sets, by fetchers of others; without a network they fail at once and in one sentence."""

from __future__ import annotations

import importlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse

from .interchange import import_brainscore

T = TypeVar("T")

HAXBY_URL = "http://data.pymvpa.org/datasets/haxby2001/"
EEGBCI_URL = "https://physionet.org/files/eegmmidb/1.0.0/"
SAMPLE_URL = "https://osf.io"
BRAINSCORE_URL = "https://brainscore-storage.s3.amazonaws.com"
#: stands for the many servers of moabb's sets where one does not name its own
MOABB_URL = "https://zenodo.org"
MOABB_PARADIGMS = {"imagery": "MotorImagery", "p300": "P300", "ssvep": "SSVEP", "cvep": "CVEP"}


def haxby_files(subject: int, data_dir: str | Path | None) -> Any:
    """Paths of one person's images, masks and labels, as nilearn names them."""
    from nilearn import datasets

    folders = [Path(parent) / "haxby2001" for parent in datasets.get_data_dirs(data_dir)]
    folder = next((folder for folder in folders if folder.is_dir()), folders[-1])
    present = (folder / f"subj{subject}" / "bold.nii.gz").exists()
    return fetched(
        "Haxby et al. (2001)",
        HAXBY_URL,
        folder,
        present,
        lambda: datasets.fetch_haxby(data_dir=data_dir, subjects=[subject], verbose=0),
    )


def eegbci_recordings(subject: int, runs: Sequence[int], data_dir: str | Path | None) -> list[Any]:
    """One person's runs as MNE reads them, with standard names and places of electrodes."""
    import mne
    from mne.datasets import eegbci

    parent = mne_folder("MNE_DATASETS_EEGBCI_PATH", data_dir)
    folder = parent / "MNE-eegbci-data" / "files" / "eegmmidb" / "1.0.0" / f"S{subject:03d}"
    present = all((folder / f"S{subject:03d}R{run:02d}.edf").exists() for run in runs)
    paths = fetched(
        "EEGBCI",
        EEGBCI_URL,
        folder,
        present,
        lambda: eegbci.load_data(subject, list(runs), path=str(parent), update_path=False, verbose="error"),
    )
    known = mne.channels.get_builtin_montages()
    montage = next(name for name in ("colin27_1005", "standard_1005") if name in known)
    recordings = []
    for path in paths:
        raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
        eegbci.standardize(raw)
        recordings.append(raw.set_montage(montage))
    return recordings


def sample_folder(data_dir: str | Path | None) -> Path:
    """The recordings of MNE's sample."""
    from mne.datasets import sample

    parent = mne_folder("MNE_DATASETS_SAMPLE_PATH", data_dir)
    folder = parent / "MNE-sample-data"
    path = fetched(
        "MNE sample",
        SAMPLE_URL,
        folder,
        folder.is_dir(),
        lambda: sample.data_path(path=str(parent), update_path=False, verbose="error"),
    )
    return Path(path) / "MEG" / "sample"


def moabb_epochs(name: str, subjects: Sequence[int] | None, paradigm: Any) -> tuple[Any, Any, Any]:
    """Epochs, classes and a table of people, sessions and runs, as a paradigm of moabb cuts them."""
    sets, paradigms = (_import_moabb(part) for part in ("datasets", "paradigms"))
    if not hasattr(sets, name):
        raise ValueError(f"moabb.datasets has no {name!r}; dir(moabb.datasets) lists what there is.")
    dataset = getattr(sets, name)()
    people = list(dataset.subject_list)
    subjects = people[:1] if subjects is None else list(subjects)
    if not subjects or not set(subjects) <= set(people):
        raise ValueError(f"subjects are {subjects}; {name} has {people}.")
    if paradigm is None:
        if dataset.paradigm not in MOABB_PARADIGMS:
            raise ValueError(
                f"{name} is made for {dataset.paradigm!r}, for which there is no usual paradigm; give paradigm=."
            )
        paradigm = getattr(paradigms, MOABB_PARADIGMS[dataset.paradigm])()
    texts = (
        value for value in vars(sys.modules[type(dataset).__module__]).values() if isinstance(value, str)
    )
    url = next((text for text in texts if text.startswith("http")), MOABB_URL)
    folder = mne_folder("MNE_DATA", None)
    return fetched(
        name,
        url,
        folder,
        _filled(folder),
        lambda: paradigm.get_data(dataset, subjects=subjects, return_epochs=True),
    )


def brainscore_assembly(identifier: str) -> Any:
    """An assembly of Brain-Score's."""
    vision = import_brainscore("brainscore_vision")
    folder = Path(os.environ.get("BRAINIO_HOME", "~/.brainio")).expanduser()
    return fetched(
        identifier, BRAINSCORE_URL, folder, _filled(folder), lambda: vision.load_dataset(identifier)
    )


def mne_folder(key: str, data_dir: str | Path | None) -> Path:
    """Where MNE would look for its data, without its making the folder.

    Examples
    --------
    >>> from cerebridge.neuro.fetching import mne_folder
    >>> mne_folder("MNE_DATASETS_SAMPLE_PATH", "recordings").name
    'recordings'
    """
    import mne

    found = data_dir or mne.get_config(key) or mne.get_config("MNE_DATA") or "~/mne_data"
    return Path(found).expanduser()


def fetched(what: str, url: str, folder: Path, present: bool, fetch: Callable[[], T]) -> T:
    """Fetch a data set; without a network say so in one sentence, and leave no empty folders behind.

    Parameters
    ----------
    what
        The data set's name.
    url
        Where it comes from.
    folder
        Where it lies or goes.
    present
        Whether it seems to be there, so that no network is needed.
    fetch
        The fetcher, called without arguments.

    Returns
    -------
    object
        What ``fetch`` gives.

    Raises
    ------
    ConnectionError
        If it is not there and the server cannot be reached.

    Examples
    --------
    >>> from pathlib import Path
    >>> from cerebridge.neuro.fetching import fetched
    >>> fetched("Toy", "https://example.org", Path(), present=True, fetch=lambda: "data")
    'data'
    """
    sentence = (
        f"the data set {what} is not complete in {folder}, and {urlparse(url).hostname} cannot be reached to fetch "
        "it; connect to the network, or copy the folder from a machine that has it."
    )
    if not present and not _reachable(url):
        raise ConnectionError(sentence)
    existed = folder.exists()
    try:
        return fetch()
    except Exception:
        if not existed:
            _remove_empty(folder)
        if _reachable(url):
            raise
        raise ConnectionError(sentence) from None


def _reachable(url: str) -> bool:
    """Whether the server answers, be it with an error; proxies are used as fetchers do."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _remove_empty(folder: Path) -> None:
    for inner in (*sorted(folder.rglob("*"), reverse=True), folder):
        if inner.is_dir() and not any(inner.iterdir()):
            inner.rmdir()


def _import_moabb(part: str) -> Any:
    try:
        return importlib.import_module(f"moabb.{part}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("moabb"):
            raise
        raise ImportError("moabb is not installed; pip install 'cerebridge[bci]'.") from None
