"""Events tables and the files of a small fMRIPrep folder, made here."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds
from nilearn.maskers import NiftiMasker

from cerebridge.neuro import fmri
from cerebridge.neuro.bids import find_runs, label_volumes, read_events

N = 40
SPACE = "MNI152NLin2009cAsym"


def write_run(
    root: Path, subject: str, task: str, run: int, session: str | None = None, space: str = SPACE
) -> None:
    """One raw events table, and what fMRIPrep makes of the run."""
    rng = np.random.default_rng(run)
    between = f"sub-{subject}" if session is None else f"sub-{subject}/ses-{session}"
    name = f"{between.replace('/', '_')}_task-{task}_run-{run}"
    raw, made = root / between / "func", root / "derivatives" / "fmriprep" / between / "func"
    raw.mkdir(parents=True, exist_ok=True)
    made.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(100 + rng.normal(size=(3, 3, 2, N)), np.diag([3, 3, 3, 1.0]))
    image.header.set_zooms((3, 3, 3, 2.0))
    nibabel.save(image, made / f"{name}_space-{space}_desc-preproc_bold.nii.gz")
    inside = np.ones((3, 3, 2), np.uint8)
    inside[run % 3, 0, 0] = 0
    nibabel.save(
        nibabel.Nifti1Image(inside, image.affine), made / f"{name}_space-{space}_desc-brain_mask.nii.gz"
    )
    motion = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    table = pd.DataFrame(rng.normal(size=(N, 6)), columns=motion)
    for column in motion:
        table[f"{column}_derivative1"] = table[column].diff()
    table["framewise_displacement"] = np.where(np.arange(N) == 11, 2.0, 0.1)
    table["std_dvars"] = 1.0
    confounds = made / f"{name}_desc-confounds_timeseries.tsv"
    table.to_csv(confounds, sep="\t", index=False, na_rep="n/a")
    confounds.with_suffix(".json").write_text(json.dumps({}))
    pd.DataFrame({"onset": [4.0, 30.0], "duration": 10.0, "trial_type": ["face", "house"]}).to_csv(
        raw / f"{name}_events.tsv", sep="\t", index=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for run in (1, 2):
        write_run(tmp_path, "01", "faces", run)
    write_run(tmp_path, "01", "rest", 1)
    write_run(tmp_path, "02", "faces", 1)
    return tmp_path


STRATEGY = {"motion": "derivatives"}


def test_a_folder_is_read_in_one_call(folder: Path) -> None:
    array = fmri.read_bids(folder, "faces", "sub-01", confounds=STRATEGY, detrend="linear", dtype="float64")
    assert array.run.values.tolist() == [1] * N + [2] * N
    assert array.sizes["neuroid"] == 16
    assert set(array.subject.values) == {"01"}
    assert (array.trial_type == "house").sum() == 10
    made = folder / "derivatives" / "fmriprep" / "sub-01" / "func"
    for run in (1, 2):
        path = made / f"sub-01_task-faces_run-{run}_space-{SPACE}_desc-preproc_bold.nii.gz"
        regressors, _ = load_confounds(str(path), strategy=("motion",), motion="derivatives")
        inside = np.ones((3, 3, 2), np.uint8)
        inside[[1, 2], 0, 0] = 0
        masker = NiftiMasker(nibabel.Nifti1Image(inside, np.diag([3, 3, 3, 1.0])), detrend=True).fit()
        masker.set_params(standardize="zscore_sample")
        expected = masker.transform(str(path), confounds=regressors)
        np.testing.assert_allclose(array.values[array.run.values == run], expected, atol=1e-8)


def test_scrubbed_volumes_are_left_out(folder: Path) -> None:
    array = fmri.read_bids(folder, "faces", "01", confounds={"motion": "basic", "scrub": 0})
    assert array.sizes["time_bin"] == 2 * (N - 1)
    assert 22.0 not in array.time_bin_start.values
    with pytest.raises(ValueError, match=r"run 1 lacks volumes after 22 s"):
        fmri.betas(array)


def test_rest_has_no_events(folder: Path) -> None:
    (folder / "sub-01" / "func" / "sub-01_task-rest_run-1_events.tsv").unlink()
    array = fmri.read_bids(folder, "rest", "01", events=False, confounds=None)
    assert array.sizes["time_bin"] == N
    assert "trial_type" not in array.coords
    with pytest.raises(FileNotFoundError, match=r"no events.tsv applies to sub-01_task-rest.*events=False"):
        fmri.read_bids(folder, "rest", "01", confounds=None)


def test_sessions_are_told_apart(tmp_path: Path) -> None:
    for session in ("a", "b"):
        write_run(tmp_path, "01", "faces", 1, session)
    array = fmri.read_bids(tmp_path, "faces", "01", confounds=None)
    assert array.session.values.tolist() == ["a"] * N + ["b"] * N
    assert fmri.betas(array, model="condition", high_pass=0.001).session.values.tolist() == [
        "a",
        "a",
        "b",
        "b",
    ]
    assert len(find_runs(tmp_path, "faces", "01", session="b")) == 1


def test_events_common_to_runs_are_inherited(folder: Path) -> None:
    for path in folder.glob("sub-01/func/*task-faces*_events.tsv"):
        path.unlink()
    common = folder / "task-faces_events.tsv"
    common.write_text("onset\tduration\ttrial_type\n0\t4\tcat\n")
    assert [run.events for run in find_runs(folder, "faces", "01")] == [common, common]
    own = folder / "sub-01" / "func" / "sub-01_task-faces_run-2_events.tsv"
    own.write_text(common.read_text())
    assert [run.events for run in find_runs(folder, "faces", "01")] == [common, own]


def test_versions_of_a_run_must_be_chosen(folder: Path) -> None:
    for run in (1, 2):
        write_run(folder, "01", "faces", run, space="T1w")
    with pytest.raises(ValueError, match=f"NIfTI space-{SPACE} and NIfTI space-T1w; choose one with space="):
        find_runs(folder, "faces", "01")
    assert len(find_runs(folder, "faces", "01", space="T1w")) == 2


def test_the_same_run_twice_is_refused(folder: Path) -> None:
    made = folder / "derivatives" / "fmriprep" / "sub-01" / "func"
    path = next(made.glob("*faces_run-1*preproc_bold.nii.gz"))
    (made / path.name.replace("_run-1", "_acq-x_run-1")).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="several files are the same run"):
        find_runs(folder, "faces", "01")


def test_gifti_and_cifti_runs_are_found(folder: Path) -> None:
    made = folder / "derivatives" / "fmriprep" / "sub-01" / "func"
    rng = np.random.default_rng(0)
    for run in (1, 2):
        for hemi in "LR":
            arrays = [nibabel.gifti.GiftiDataArray(rng.normal(size=5).astype("f4")) for _ in range(N)]
            nibabel.save(
                nibabel.gifti.GiftiImage(darrays=arrays),
                made / f"sub-01_task-faces_run-{run}_hemi-{hemi}_space-fsaverage_bold.func.gii",
            )
    array = fmri.read_bids(folder, "faces", "01", space="fsaverage", t_r=2.0, confounds={"motion": "basic"})
    assert array.shape == (2 * N, 10)
    assert array.hemisphere.values.tolist() == ["left"] * 5 + ["right"] * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("faces", "03"), "no preprocessed bold file of sub-03 with task-faces"),
        (("words", "01"), "task-words"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, arguments, message) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        find_runs(folder, *arguments)


def test_a_missing_mask_is_named(folder: Path) -> None:
    next(folder.glob("derivatives/fmriprep/sub-01/func/*faces_run-2*brain_mask.nii.gz")).unlink()
    with pytest.raises(FileNotFoundError, match=r"run-2.*brain_mask.nii.gz .* is missing"):
        find_runs(folder, "faces", "01")


def test_events_keep_numbers_as_names_and_fill_missing_stimuli(tmp_path: Path) -> None:
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\ttrial_type\tstim_file\n9\t1\t2\tn/a\n0\t1\t1\ta.png\n")
    table = read_events(path, where="run 0", duration=20)
    assert table["trial_type"].tolist() == ["1", "2"]
    assert table["stimulus_id"].tolist() == ["a.png", "2"]


@pytest.mark.parametrize("value", ["n/a", "soon"])
def test_events_without_times_are_named(tmp_path: Path, value) -> None:
    path = tmp_path / "events.tsv"
    path.write_text(f"onset\tduration\ttrial_type\n0\t1\ta\n{value}\t1\tb\n")
    with pytest.raises(ValueError, match="event 1 of run 7 has onset"):
        read_events(path, where="run 7", duration=20)


def test_a_volume_on_the_edge_belongs_to_the_later_event() -> None:
    table = read_events(
        pd.DataFrame({"onset": [0.0, 2.4], "duration": [2.4, 2.4], "trial_type": ["a", "b"]}),
        where="run 0",
        duration=8,
    )
    labels = label_volumes(table, 10, 0.8, where="run 0")["trial_type"].tolist()
    assert labels == ["a"] * 3 + ["b"] * 3 + ["rest"] * 4
