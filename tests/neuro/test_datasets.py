"""The real fetchers, run on files that lie where they would have put them, and without a network."""

from __future__ import annotations

import gzip
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cerebridge import neuro
from cerebridge.neuro import datasets, fetching

HAXBY_FILES = (
    "mask4_vt",
    "mask8b_face_vt",
    "mask8b_house_vt",
    "mask8_face_vt",
    "mask8_house_vt",
    "anat",
)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name of any server is known, wherever the tests run."""

    def unknown(*args: Any, **options: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)


@pytest.fixture
def haxby_folder(data: Path, tmp_path: Path) -> Path:
    """Subject 2's folder as nilearn lays it out, filled with the slice of one person."""
    source, folder = data / "haxby2001-slice", tmp_path / "haxby2001"
    (folder / "subj2").mkdir(parents=True)
    (folder / "MD5SUMS").write_text("")
    (folder / "mask.nii.gz").symlink_to(source / "mask.nii.gz")
    (folder / "subj2" / "bold.nii.gz").symlink_to(source / "bold.nii.gz")
    for name in HAXBY_FILES:
        (folder / "subj2" / f"{name}.nii.gz").symlink_to(source / "mask.nii.gz")
    labels = (source / "attributes_literal.txt").read_text()
    (folder / "subj2" / "labels.txt").write_text("labels chunks\n" + labels)
    return tmp_path


@pytest.mark.usefixtures("offline")
def test_haxby_is_the_same_recording_read_run_by_run(haxby_folder: Path, data: Path) -> None:
    array = datasets.haxby(2, data_dir=haxby_folder, detrend="linear")
    source = data / "haxby2001-slice"
    runs = sorted((source / "haxby2001" / "sub001" / "BOLD").glob("task001_run*"))
    expected = neuro.fmri.read(
        [run / "bold_1slice.nii.gz" for run in runs],
        events=[run / "bold_events.tsv" for run in runs],
        mask=source / "mask.nii.gz",
        t_r=2.5,
        detrend="linear",
        subject="2",
    )
    np.testing.assert_array_equal(array.values, expected.values)
    for name in expected.coords:
        np.testing.assert_array_equal(
            array.coords[name].values, expected.coords[name].values, err_msg=str(name)
        )
    truth = pd.read_csv(source / "attributes_literal.txt", sep=" ", names=["label", "run"])
    assert array.trial_type.values.tolist() == truth["label"].tolist()
    assert array.run.values.tolist() == truth["run"].tolist()
    assert array.attrs["provenance"].startswith("Haxby et al. (2001), subject 2: 12 runs by nilearn")


@pytest.mark.usefixtures("offline")
def test_haxby_with_other_masks_and_options(haxby_folder: Path) -> None:
    whole = datasets.haxby(2, mask=None, data_dir=haxby_folder, standardize=None)
    assert whole.sizes["neuroid"] + whole.attrs["dropped_constant"] == 40 * 20
    ventral = datasets.haxby(2, mask="vt", data_dir=haxby_folder, standardize=None)
    assert ventral.sizes["neuroid"] == 530


def test_events_of_labelled_volumes_leave_the_rest_out() -> None:
    labels = np.array(["rest", "face", "face", "cat", "rest", "cat"], dtype=object)
    table = datasets._blocks(labels, 2.5)
    assert table.to_dict("list") == {
        "onset": [2.5, 7.5, 12.5],
        "duration": [5.0, 2.5, 2.5],
        "trial_type": ["face", "cat", "cat"],
    }
    assert len(datasets._blocks(labels[:1], 2.5)) == 0


@pytest.fixture
def eegbci_folder(data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "MNE-eegbci-data" / "files" / "eegmmidb" / "1.0.0" / "S001"
    folder.mkdir(parents=True)
    for run in range(3, 11):
        name = f"S001R{run:02d}.edf"
        (folder / name).symlink_to(data / "mi-eegmmidb-s001" / name)
    return tmp_path


@pytest.mark.usefixtures("offline")
def test_eegbci_is_the_recording_in_volts_with_named_movements(eegbci_folder: Path, data: Path) -> None:
    array = datasets.eegbci(1, [4, 6], data_dir=eegbci_folder)
    raws = [
        mne.io.read_raw_edf(data / "mi-eegmmidb-s001" / f"S001R{run:02d}.edf", verbose="error")
        for run in (4, 6)
    ]
    np.testing.assert_array_equal(array.values, np.concatenate([raw.get_data() for raw in raws], axis=1).T)
    assert array.attrs["units"] == "V" and array.attrs["sfreq"] == 160
    assert {"C3", "Cz", "Fp1"} <= set(array.neuroid_id.values.tolist())
    assert np.isfinite(array.x.values).all()
    kinds = pd.Series(array.trial_type.values).groupby(array.run.values).unique()
    assert set(kinds[4]) - {""} == {"rest", "left fist", "right fist"}
    assert set(kinds[6]) - {""} == {"rest", "both fists", "both feet"}
    assert set(array.task.values) == {"imagine"}
    assert (np.diff(array.run.values) != 0).sum() == 1


@pytest.mark.usefixtures("offline")
def test_eegbci_epochs_are_what_mne_cuts(eegbci_folder: Path, data: Path) -> None:
    array = datasets.eegbci(1, [5, 8], window=(0.5, 1.5), band=(7, 30), data_dir=eegbci_folder)
    assert array.sizes["presentation"] == 30
    assert array.run.values.tolist() == [5] * 15 + [8] * 15
    assert array.task.values.tolist() == ["move"] * 15 + ["imagine"] * 15
    counts = pd.Series(array.stimulus_id.values).value_counts().to_dict()
    assert set(counts) == {"both fists", "both feet", "left fist", "right fist"} and set(counts.values()) == {
        7,
        8,
    }
    assert sorted(array.repetition.values[array.stimulus_id.values == "left fist"]) == list(
        range(counts["left fist"])
    )
    raw = mne.io.read_raw_edf(data / "mi-eegmmidb-s001" / "S001R08.edf", preload=True, verbose="error")
    raw.filter(7, 30, verbose="error")
    events, codes = mne.events_from_annotations(raw, event_id={"T1": 1, "T2": 2}, verbose="error")
    epochs = mne.Epochs(raw, events, codes, 0.5, 1.5, baseline=None, preload=True, verbose="error")
    np.testing.assert_allclose(array.values[15:], epochs.get_data(), rtol=0, atol=1e-12)
    assert array.stimulus_id.values[15:].tolist() == [
        {1: "left fist", 2: "right fist"}[code] for code in events[:, 2]
    ]


@pytest.fixture
def sample_folder(data: Path, tmp_path: Path) -> Path:
    """MNE's folder with real averages, and a raw file of noise with real channels, 8 events and one artefact."""
    folder = tmp_path / "MNE-sample-data" / "MEG" / "sample"
    folder.mkdir(parents=True)
    packed = data / "meg-evoked-audvis" / "test-ave.fif.gz"
    (folder / "sample_audvis-ave.fif").write_bytes(gzip.decompress(packed.read_bytes()))
    evoked = mne.read_evokeds(packed, 0, verbose="error")
    info = mne.pick_info(evoked.info, mne.pick_types(evoked.info, meg=True, eeg=True, exclude=())[::9])
    with info._unlock():
        info["sfreq"] = 100.0
    values = np.random.default_rng(0).standard_normal((len(info["ch_names"]), 1000)) * 1e-13
    gradiometer = mne.pick_types(info, meg="grad", exclude="bads")[0]
    values[gradiometer, 310] = 1e-9
    raw = mne.io.RawArray(values, info, verbose="error")
    raw.save(folder / "sample_audvis_filt-0-40_raw.fif", verbose="error")
    samples = np.arange(100, 900, 100)
    events = np.c_[samples, np.zeros_like(samples), [1, 2, 3, 4, 5, 32, 1, 2]]
    mne.write_events(folder / "sample_audvis_filt-0-40_raw-eve.fif", events, verbose="error")
    return tmp_path


@pytest.mark.filterwarnings("ignore:This filename:RuntimeWarning")
@pytest.mark.usefixtures("offline")
def test_mne_sample_gives_epochs_without_artefacts(sample_folder: Path) -> None:
    array = datasets.mne_sample(data_dir=sample_folder, tmin=-0.1, tmax=0.2)
    assert array.stimulus_id.values.tolist() == [
        "auditory/left",
        "auditory/right",
        "visual/right",
        "auditory/left",
        "auditory/right",
    ]
    assert array.sizes["time_bin"] == 31
    before = array.time_bin_start.values <= 1e-9
    np.testing.assert_allclose(array.values[:, :, before].mean(axis=2), 0, atol=1e-20)
    assert "1 rejected epochs" in array.attrs["provenance"]


@pytest.mark.usefixtures("offline")
def test_mne_sample_gives_its_averages(sample_folder: Path, data: Path) -> None:
    array = datasets.mne_sample("evoked", data_dir=sample_folder)
    expected = neuro.meeg.read(data / "meg-evoked-audvis" / "test-ave.fif.gz")
    np.testing.assert_array_equal(array.values, expected.values)
    assert array.attrs["provenance"].startswith("MNE sample data: ")


class Tiny:
    """A set in the manner of moabb's."""

    subject_list = (1, 2, 3)
    paradigm = "imagery"


class Paradigm:
    """A paradigm in the manner of moabb's: noise for each person in two sessions."""

    def get_data(self, dataset: Tiny, subjects: list[int], return_epochs: bool) -> tuple[Any, Any, Any]:
        assert isinstance(dataset, Tiny) and return_epochs
        info = mne.create_info(["C3", "C4"], 100.0, "eeg")
        n = 4 * len(subjects)
        events = np.c_[np.arange(n) * 100, np.zeros(n, int), np.tile([1, 2], n // 2)]
        values = np.random.default_rng(0).standard_normal((n, 2, 50)) * 1e-6
        epochs = mne.EpochsArray(
            values, info, events, event_id={"left_hand": 1, "right_hand": 2}, verbose="error"
        )
        table = pd.DataFrame(
            {"subject": np.repeat(subjects, 4), "session": ["0", "0", "1", "1"] * len(subjects), "run": "0"},
            index=np.arange(n) + 7,
        )
        return epochs, np.tile(["left_hand", "right_hand"], n // 2), table


@pytest.fixture
def moabb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Stands for moabb, which may not be installed."""
    package = ModuleType("moabb")
    package.datasets = SimpleNamespace(Tiny=Tiny)  # type: ignore[attr-defined]
    package.paradigms = SimpleNamespace(MotorImagery=Paradigm)  # type: ignore[attr-defined]
    for name, module in {"": package, ".datasets": package.datasets, ".paradigms": package.paradigms}.items():  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"moabb{name}", module)
    monkeypatch.setenv("MNE_DATA", str(tmp_path / "mne_data"))
    return package


def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_reachable", lambda url: True)


def test_moabb_gives_labelled_trials(moabb: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    reachable(monkeypatch)
    array = datasets.moabb("Tiny", subjects=[1, 3])
    assert array.dims == ("presentation", "neuroid", "time_bin") and array.shape == (8, 2, 50)
    assert array.stimulus_id.values.tolist() == ["left_hand", "right_hand"] * 4
    assert array.subject.values.tolist() == [1] * 4 + [3] * 4
    assert array.session.values.tolist() == ["0", "0", "1", "1"] * 2
    assert array.attrs["units"] == "V" and array.attrs["provenance"].startswith("Tiny by moabb")
    assert datasets.moabb("Tiny").subject.values.tolist() == [1] * 4
    np.testing.assert_array_equal(datasets.moabb("Tiny", [1, 3], Paradigm()).values, array.values)


def test_what_moabb_lacks_is_named(moabb: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"moabb\.datasets has no 'Huge'"):
        datasets.moabb("Huge")
    with pytest.raises(ValueError, match=r"subjects are \[9\]; Tiny has \[1, 2, 3\]"):
        datasets.moabb("Tiny", [9])
    monkeypatch.setattr(Tiny, "paradigm", "rstate")
    with pytest.raises(ValueError, match="Tiny is made for 'rstate', for which there is no usual paradigm"):
        datasets.moabb("Tiny")


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moabb.datasets", None)
    monkeypatch.setitem(sys.modules, "moabb", None)
    with pytest.raises(ImportError, match=r"moabb is not installed; pip install 'cerebridge\[bci\]'"):
        datasets.moabb("BNCI2014_001")
    monkeypatch.setitem(sys.modules, "brainscore_vision", None)
    with pytest.raises(ImportError, match=r"pip install 'cerebridge\[brainscore\]'"):
        datasets.brainscore("MajajHong2015.public", modality="spikes", units="a.u.")


def test_brainscore_sets_come_through_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    reachable(monkeypatch)
    labels = {"stimulus_id": ("presentation", ["a", "b"]), "neuroid_id": ("neuroid", [1, 2])}
    assembly = xr.DataArray(np.eye(2), labels, dims=("presentation", "neuroid"), attrs={"identifier": "toy"})
    vision = SimpleNamespace(load_dataset=lambda identifier: {"toy.public": assembly}[identifier])
    monkeypatch.setitem(sys.modules, "brainscore_vision", vision)
    array = datasets.brainscore("toy.public", modality="spikes", units="spikes/s")
    np.testing.assert_array_equal(array.values, np.eye(2))
    assert array.attrs["provenance"] == "Brain-Score toy.public"


@pytest.mark.parametrize(
    ("fetch", "name", "host"),
    [
        (lambda folder: datasets.haxby(data_dir=folder), r"Haxby et al\. \(2001\)", r"data\.pymvpa\.org"),
        (lambda folder: datasets.eegbci(data_dir=folder), "EEGBCI", r"physionet\.org"),
        (lambda folder: datasets.mne_sample(data_dir=folder), "MNE sample", r"osf\.io"),
        (lambda folder: datasets.moabb("Tiny"), "Tiny", r"zenodo\.org"),
    ],
    ids=["haxby", "eegbci", "mne_sample", "moabb"],
)
@pytest.mark.usefixtures("offline", "moabb")
def test_without_a_network_one_sentence_and_no_folders(
    fetch: Any, name: str, host: str, tmp_path: Path
) -> None:
    sentence = f"the data set {name} is not complete in .*, and {host} cannot be reached to fetch it; connect"
    with pytest.raises(ConnectionError, match=sentence) as raised:
        fetch(tmp_path / "folder")
    assert raised.value.__cause__ is None and "\n" not in str(raised.value)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.usefixtures("offline")
def test_a_run_that_is_not_there_needs_the_network(eegbci_folder: Path) -> None:
    with pytest.raises(ConnectionError, match=r"EEGBCI is not complete in .*S001, and physionet\.org cannot"):
        datasets.eegbci(1, [6, 14], data_dir=eegbci_folder)


@pytest.mark.usefixtures("offline")
def test_a_fetcher_that_fails_for_want_of_a_network_is_translated(haxby_folder: Path) -> None:
    """The images are there, but nilearn wants a further file."""
    (haxby_folder / "haxby2001" / "mask.nii.gz").unlink()
    with pytest.raises(ConnectionError, match=r"Haxby et al\. \(2001\) is not complete in .*haxby2001, and"):
        datasets.haxby(2, data_dir=haxby_folder)


def test_a_fetcher_that_fails_leaves_no_empty_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reachable(monkeypatch)
    folder = tmp_path / "set"

    def fetch() -> None:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "c").mkdir()
        raise ValueError("the hash is wrong")

    with pytest.raises(ValueError, match="the hash is wrong"):
        fetching.fetched("Toy", "https://example.org", folder, False, fetch)
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(ValueError, match="the hash is wrong"):
        fetching.fetched("Toy", "https://example.org", folder, False, fetch)
    assert folder.exists()


def test_wrong_requests_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    wrong = [
        (lambda: datasets.haxby(7), "subject is 7; Haxby's data have subjects 1 to 6"),
        (lambda: datasets.haxby(mask="ear"), "mask is 'ear'; it must be one of"),
        (lambda: datasets.eegbci(110), "subject is 110; EEGBCI has subjects 1 to 109"),
        (lambda: datasets.eegbci(1, [15]), r"runs are \[15\]; give some of EEGBCI's runs 1 to 14, each once"),
        (lambda: datasets.eegbci(1, [3, 3]), "each once"),
        (lambda: datasets.eegbci(1, []), "each once"),
        (lambda: datasets.eegbci(1, [1, 4], window=(0, 1)), "runs 1 and 2 are rest"),
        (lambda: datasets.mne_sample("raw"), "kind is 'raw'; it must be 'epochs' or 'evoked'"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
