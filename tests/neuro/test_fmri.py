"""Reading fMRI: against nilearn's own maskers, on made images and on one real person's recording."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker, NiftiSpheresMasker
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from cerebridge import neuro
from cerebridge.neuro import fmri

AFFINE = np.array([[-3.0, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]])
SHAPE = (4, 3, 2)


def image(
    seed: int = 0, n: int = 30, shape: tuple[int, ...] = SHAPE, t_r: float = 2.0
) -> nibabel.Nifti1Image:
    rng = np.random.default_rng(seed)
    trend = np.linspace(0, 5, n) * rng.normal(size=(*shape, 1))
    made = nibabel.Nifti1Image(100 + trend + rng.normal(size=(*shape, n)), AFFINE)
    made.header.set_zooms((3, 3, 4, t_r))
    made.header.set_xyzt_units("mm", "sec")
    return made


def events(*rows: tuple[float, float, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])


def labels_image(labels: np.ndarray, affine: np.ndarray = AFFINE) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(labels.astype(np.int16), affine)


@pytest.fixture
def mask() -> nibabel.Nifti1Image:
    inside = np.random.default_rng(9).random(SHAPE) > 0.4
    return labels_image(inside)


@pytest.fixture
def atlas() -> nibabel.Nifti1Image:
    label = np.zeros(SHAPE, int)
    label[:2], label[3] = 3, 7
    return labels_image(label)


@pytest.mark.parametrize("standardize", ["zscore", "psc", None])
@pytest.mark.parametrize(
    ("options", "kind"),
    [({}, False), ({"high_pass": 0.02}, "cosine"), ({"high_pass": 0.02, "low_pass": 0.2}, "butterworth")],
    ids=["unfiltered", "high-pass", "band-pass"],
)
def test_read_equals_nilearns_masker_run_by_run(mask, standardize, options, kind) -> None:
    runs = [image(0, n=60), image(1, n=60)]
    nuisance = [np.random.default_rng(seed).normal(size=(60, 2)) for seed in (5, 6)]
    array = fmri.read(
        runs,
        mask=mask,
        detrend="linear",
        confounds=nuisance,
        standardize=standardize,
        dtype="float64",
        **options,
    )
    names = {"zscore": "zscore_sample", "psc": "psc", None: None}
    masker = NiftiMasker(mask, detrend=True, standardize=names[standardize], t_r=2.0, **options)
    masker.set_params(clean_args={"filter": kind}).fit()
    expected = np.concatenate([masker.transform(r, confounds=c) for r, c in zip(runs, nuisance, strict=True)])
    np.testing.assert_allclose(array.values, expected, atol=1e-6)
    assert array.attrs["units"] == {"zscore": "z", "psc": "%", None: "a.u."}[standardize]


def test_coordinates_tell_place_and_time(mask) -> None:
    array = fmri.read([image(0), image(1, n=20)], mask=mask, subject="07")
    at = np.argwhere(mask.get_fdata() > 0)
    np.testing.assert_array_equal(np.stack([array[c].values for c in "ijk"], 1), at)
    np.testing.assert_allclose(
        np.stack([array[c].values for c in "xyz"], 1), nibabel.affines.apply_affine(AFFINE, at)
    )
    assert array.neuroid_id.values[0] == "07-" + "-".join(map(str, at[0]))
    assert set(array.subject.values) == {"07"}
    assert array.run.values.tolist() == [0] * 30 + [1] * 20
    assert array.time_bin_start.values[30:33].tolist() == [0.0, 2.0, 4.0]
    assert array.attrs["sfreq"] == 0.5


@settings(max_examples=15, deadline=None)
@given(
    t_r=st.sampled_from([0.72, 0.8, 2.0, 2.5]),
    starts=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
    delay=st.sampled_from([0.0, 3.7]),
)
def test_volumes_are_labelled_by_the_event_they_lie_in(t_r, starts, delay) -> None:
    n = 120
    table = events(*((12 * k * t_r, 7.3 * t_r, f"c{k}") for k in starts))
    array = fmri.read(image(n=n, shape=(2, 1, 1), t_r=t_r), t_r=t_r, events=table, delay=delay)
    for volume in range(n):
        t = volume * t_r
        inside = [
            c for o, d, c in table.itertuples(index=False) if o + delay - 1e-9 <= t < o + delay + d - 1e-9
        ]
        assert array.trial_type.values[volume] == (inside[0] if inside else "rest")
    assert len(set(array.block.values) - {-1}) == len(starts)


def test_blocks_are_numbered_over_runs_and_stimuli_named() -> None:
    tables = [events((4, 4, "face"), (20, 6, "house")), events((0, 4, "house"))]
    tables[0]["stim_file"] = ["a.png", None]
    array = fmri.read([image(0), image(1)], events=tables)
    assert array.block.values[[2, 10, 30, 40]].tolist() == [0, 1, 2, -1]
    assert array.stimulus_id.values[[2, 10, 30, 40]].tolist() == ["a.png", "house", "house", "rest"]


def test_runs_may_be_named_and_come_from_files(tmp_path, mask) -> None:
    for k in (0, 1):
        nibabel.save(image(k), tmp_path / f"{k}.nii.gz")
        events((4, 4, "face")).to_csv(tmp_path / f"{k}.tsv", sep="\t", index=False)
        pd.DataFrame(np.random.default_rng(k).normal(size=(30, 2))).to_csv(
            tmp_path / f"{k}.txt", sep=" ", index=False, header=False
        )
    nibabel.save(mask, tmp_path / "mask.nii.gz")
    keys = [("a", 1), ("b", 1)]
    array = fmri.read(
        {key: tmp_path / f"{k}.nii.gz" for k, key in enumerate(keys)},
        events={key: tmp_path / f"{k}.tsv" for k, key in reversed(list(enumerate(keys)))},
        confounds=[tmp_path / "0.txt", str(tmp_path / "1.txt")],
        mask=str(tmp_path / "mask.nii.gz"),
    )
    assert array.session.values.tolist() == ["a"] * 30 + ["b"] * 30
    assert (array.trial_type == "face").sum() == 4


def test_a_run_is_cleaned_without_the_others() -> None:
    both = fmri.read([image(0), image(1)], detrend="linear")
    other = fmri.read([image(0), image(2)], detrend="linear")
    np.testing.assert_array_equal(both.values[:30], other.values[:30])
    assert np.abs(both.values[30:] - other.values[30:]).max() > 0.1


def test_censored_volumes_leave_with_their_labels() -> None:
    kept = [np.delete(np.arange(30), [3, 10]), None]
    array = fmri.read([image(0), image(1)], events=[events((4, 8, "face"))] * 2, sample_mask=kept)
    assert array.sizes["time_bin"] == 58
    assert (array.trial_type == "face").sum() == 7
    assert array.attrs["n_censored"] == 2
    masker = NiftiMasker(labels_image(np.ones(SHAPE)), standardize="zscore_sample").fit()
    np.testing.assert_allclose(array.values[:28], masker.transform(image(0), sample_mask=kept[0]), atol=1e-4)


@pytest.mark.parametrize("smoothing", [None, 5.0])
def test_regions_equal_nilearns_labels_masker(mask, atlas, smoothing) -> None:
    array = fmri.read(
        image(),
        mask=mask,
        atlas=atlas,
        region_names={3: "V1", 7: "V2"},
        unit="region",
        smoothing_fwhm=smoothing,
    )
    masker = NiftiLabelsMasker(atlas, mask_img=mask, standardize="zscore_sample", smoothing_fwhm=smoothing)
    np.testing.assert_allclose(array.values, masker.fit_transform(image()), atol=1e-4)
    assert array.region.values.tolist() == ["V1", "V2"]


def test_spheres_equal_nilearns_spheres_masker() -> None:
    centres = {"left": (10.0, -20.0, 5.0), "right": (1.0, -14.0, 9.0)}
    spheres = {name: (*centre, 3.5) for name, centre in centres.items()}
    means = fmri.read(image(), spheres=spheres, unit="region")
    everywhere = labels_image(np.ones(SHAPE))
    masker = NiftiSpheresMasker(
        list(centres.values()), radius=3.5, mask_img=everywhere, standardize="zscore_sample"
    )
    np.testing.assert_allclose(means.values, masker.fit_transform(image()), atol=1e-4)
    voxels = fmri.read(image(), spheres=spheres)
    place = np.stack([voxels[c].values for c in "xyz"], 1)
    centre = np.array([centres[name] for name in voxels.region.values])
    assert (np.linalg.norm(place - centre, axis=1) <= 3.5).all()
    assert means.n_voxels.values.sum() == voxels.sizes["neuroid"]


def test_an_atlas_names_voxels_and_a_mask_decides_which_there_are(mask, atlas) -> None:
    named = fmri.read(
        image(), atlas=atlas, region_names=pd.DataFrame({"index": [3, 7], "name": ["V1", "V2"]})
    )
    assert named.sizes["neuroid"] == int((atlas.get_fdata() > 0).sum())
    assert set(named.region.values) == {"V1", "V2"}
    masked = fmri.read(image(), atlas=atlas, mask=mask)
    assert masked.sizes["neuroid"] == int(mask.get_fdata().sum())
    assert set(masked.region.values) == {"3", "7", "unlabelled"}


def test_mask_and_atlas_of_another_grid_are_brought_to_the_runs(atlas) -> None:
    finer = np.repeat(atlas.get_fdata(), 2, axis=0)
    affine = AFFINE.copy()
    affine[0] = [-1.5, 0, 0, 10.75]
    array = fmri.read(image(), mask=labels_image(finer, affine))
    np.testing.assert_array_equal(
        np.stack([array[c].values for c in "ijk"], 1), np.argwhere(atlas.get_fdata() > 0)
    )


@pytest.mark.parametrize(("value", "word"), [(0.0, "constant"), (np.nan, "not finite")])
def test_voxels_without_signal_are_refused_or_dropped(value, word) -> None:
    bad = image(1)
    data = bad.get_fdata().copy()
    data[0, 1, :] = value
    runs = [image(0), nibabel.Nifti1Image(data, AFFINE, bad.header)]
    with pytest.raises(
        ValueError, match=rf"2 of 24 voxels are {word} in run 1 \(the first is 0-1-0\).*invalid='drop'"
    ):
        fmri.read(runs)
    array = fmri.read(runs, invalid="drop")
    assert array.sizes["neuroid"] == 22
    assert np.isfinite(array.values).all()
    assert array.attrs["dropped_constant"] + array.attrs["dropped_nonfinite"] == 2
    with pytest.raises(ValueError, match="no signal"):
        fmri.read(nibabel.Nifti1Image(np.ones((*SHAPE, 9)), AFFINE), t_r=1.0, invalid="drop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"events": events((58, 4, "face"))},
            r"event 0 of run 0 \('face', 58 to 62 s\) lies outside the run",
        ),
        (
            {"events": events((90, 4, "face"))},
            r"'face', 90 to 94 s\) lies outside the run, which lasts from 0 to 60 s",
        ),
        ({"events": events((-3, 9, "face"))}, r"-3 to 6 s\) lies outside"),
        ({"events": events((4, 8, "face"), (8, 4, "house"))}, "overlaps with event 0.*design='event'"),
        ({"events": events((4.5, 1, "face"))}, "holds no volume.*design='event'"),
        ({"events": events((4, -1, "face"))}, "duration >= 0"),
        ({"events": events((4, 1, "face")).drop(columns="trial_type")}, "lack the column 'trial_type'"),
        ({"events": [events((4, 4, "a"))] * 2}, "there are 1 runs, but events for 2"),
        ({"confounds": np.ones((29, 1))}, "29 rows, but the run has 30 volumes"),
        ({"confounds": np.full((30, 1), np.nan)}, "missing at volume 0"),
        ({"confounds": np.random.default_rng(0).normal(size=(30, 29))}, "leaves no signal"),
        ({"mask": labels_image(np.zeros(SHAPE))}, "leave no voxel"),
        ({"mask": image()}, "give one volume"),
        ({"unit": "region"}, "needs an atlas or spheres"),
        ({"atlas": labels_image(np.ones(SHAPE)), "region_names": {2: "V1"}}, "label 1, which has no name"),
        ({"spheres": {"V1": (900, 0, 0, 3)}}, "'V1' holds no voxel"),
        ({"spheres": {"V1": (1, 2, 3)}}, "give x, y, z and a radius"),
        ({"spheres": {"a": (10, -20, 5, 9), "b": (7, -20, 5, 9)}}, "'a' and 'b' share voxels"),
        ({"t_r": 0.0}, "pass t_r in seconds"),
        ({"high_pass": 0.01, "low_pass": 0.1}, "nilearn cannot clean run 0"),
        ({"low_pass": 0.1, "filter": "cosine"}, "cosines cannot filter above low_pass"),
        ({"filter": "boxcar", "high_pass": 0.1}, "filter is 'boxcar'"),
        ({"standardize": "unit"}, "standardize is 'unit'"),
        ({"unit": "cluster"}, "unit is 'cluster'"),
        ({"design": "mixed"}, "design is 'mixed'"),
        ({"outside": "keep"}, "outside is 'keep'"),
        ({"invalid": "keep"}, "invalid is 'keep'"),
        ({"detrend": "quadratic"}, "detrend is 'quadratic'"),
    ],
)
def test_bad_input_gets_one_sentence(options, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        fmri.read(image(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([image(0), image(1, shape=(4, 3, 3))], r"run 1 has voxels \(4, 3, 3\), but run 0 has \(4, 3, 2\)"),
        (
            [image(0), nibabel.Nifti1Image(image(1).get_fdata(), AFFINE + np.eye(4, k=3), image(1).header)],
            "lies elsewhere",
        ),
        ([image(0), image(1, t_r=3.0)], "run 1 has a repetition time of 3 s, run 0 one of 2 s"),
        ([nibabel.Nifti1Image(np.ones(SHAPE), AFFINE)], "a run is x × y × z × volumes"),
        ([], "no runs"),
    ],
    ids=["shape", "affine", "repetition time", "one volume", "none"],
)
def test_runs_that_do_not_belong_together_are_refused(runs, message) -> None:
    with pytest.raises(ValueError, match=message):
        fmri.read(runs)


def test_files_that_are_no_images_are_named(tmp_path) -> None:
    broken = tmp_path / "run.nii.gz"
    broken.write_bytes(b"not an image")
    with pytest.raises(OSError, match=r"run.nii.gz cannot be read"):
        fmri.read(broken)
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere.*; check the path"):
        fmri.read(tmp_path / "nowhere.nii.gz")
    with pytest.raises(TypeError, match="given as int"):
        fmri.read(3)


def test_a_truncated_file_is_named(tmp_path) -> None:
    path = tmp_path / "run.nii.gz"
    nibabel.save(image(n=200), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(OSError, match="run 0 cannot be read to its end"):
        fmri.read(path)


def test_events_may_be_cut_to_the_run() -> None:
    table = events((4, 4, "face"), (52, 20, "house"), (70, 4, "cat"))
    array = fmri.read(image(), events=table, outside="crop")
    assert (array.trial_type == "house").sum() == 4
    assert array.attrs["events_cropped"] == 2


def test_every_run_has_a_table_of_events_which_may_be_empty() -> None:
    table = events((4, 8, "face"))
    with pytest.raises(ValueError, match="run 1 has no events, but other runs have"):
        fmri.read([image(0), image(1)], events=[table, None])
    array = fmri.read([image(0), image(1)], events=[table, table.iloc[:0]])
    assert set(array.trial_type.values[30:]) == {"rest"}
    with pytest.raises(ValueError, match="run 1 has no events, so there is no response"):
        fmri.betas(array)


def test_event_designs_keep_their_events_for_the_model() -> None:
    table = events((4, 0.5, "face"), (5, 0.5, "house"))
    array = fmri.read(image(), events=table, design="event")
    assert "trial_type" not in array.coords
    assert '"house"' in array.attrs["events"]


def test_the_file_tells_the_repetition_time_in_its_unit() -> None:
    made = image()
    made.header.set_xyzt_units("mm", "msec")
    made.header.set_zooms((3, 3, 4, 1500))
    assert fmri.read(made).attrs["sfreq"] == pytest.approx(1 / 1.5)


def test_an_array_that_was_saved_still_goes_back_into_the_brain(tmp_path, mask) -> None:
    array = fmri.read(image(), mask=mask, events=events((4, 8, "face"), (30, 8, "house")))
    path = tmp_path / "run.nc"
    neuro.save(path, array)
    loaded = neuro.load(path)
    again = fmri.to_img(loaded.isel(time_bin=0))
    np.testing.assert_array_equal(again.get_fdata(), fmri.to_img(array.isel(time_bin=0)).get_fdata())
    np.testing.assert_array_equal(fmri.betas(loaded).values, fmri.betas(array).values)


@pytest.fixture(scope="module")
def haxby(data: Path) -> Path:
    return data / "haxby2001-slice"


def haxby_runs(folder: Path, name: str) -> list[Path]:
    return sorted((folder / "haxby2001" / "sub001" / "BOLD").glob(f"*/{name}"))


@pytest.fixture(scope="module")
def slice_array(haxby: Path):
    return fmri.read(
        haxby_runs(haxby, "bold_1slice.nii.gz"),
        events=haxby_runs(haxby, "bold_events.tsv"),
        mask=haxby / "mask.nii.gz",
        detrend="linear",
    )


def decoded(values: np.ndarray, labels: np.ndarray, runs: np.ndarray) -> np.ndarray:
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    return cross_val_predict(model, values, labels, groups=runs, cv=LeaveOneGroupOut())


def test_a_real_slice_is_read_and_labelled_whole(haxby: Path, slice_array) -> None:
    assert slice_array.shape == (1452, 530)
    truth = pd.read_csv(haxby / "attributes_literal.txt", sep=r"\s+", header=None, names=["label", "run"])
    np.testing.assert_array_equal(slice_array.trial_type.values, truth["label"])
    np.testing.assert_array_equal(slice_array.run.values, truth["run"])
    whole = nibabel.load(haxby / "bold.nii.gz").get_fdata()
    raw = fmri.read(
        haxby_runs(haxby, "bold_1slice.nii.gz"), mask=haxby / "mask.nii.gz", standardize=None, dtype="float64"
    )
    np.testing.assert_array_equal(raw.values, whole[nibabel.load(haxby / "mask.nii.gz").get_fdata() > 0].T)
    means = slice_array.groupby("run").mean().values
    np.testing.assert_allclose(means, 0, atol=1e-5)


def test_categories_are_decoded_from_the_real_slice(slice_array) -> None:
    seen = slice_array[(slice_array.trial_type != "rest").values]
    labels, runs = seen.trial_type.values, seen.run.values
    pair = np.isin(labels, ["face", "house"])
    assert (decoded(seen.values[pair], labels[pair], runs[pair]) == labels[pair]).mean() >= 0.97
    assert (decoded(seen.values, labels, runs) == labels).mean() >= 0.68


def test_categories_are_decoded_from_real_block_means_and_not_when_shuffled(slice_array) -> None:
    blocks = fmri.block_means(slice_array)
    labels, runs = blocks.stimulus_id.values, blocks.run.values
    assert blocks.sizes["presentation"] == 96
    assert (decoded(blocks.values, labels, runs) == labels).mean() >= 0.85
    some = blocks.values[:, ::6]
    assert (decoded(some, labels, runs) == labels).mean() > 0.5
    rng = np.random.default_rng(0)
    chance = []
    for _ in range(10):
        shuffled = np.concatenate([rng.permutation(labels[runs == run]) for run in range(12)])
        chance.append((decoded(some, shuffled, runs) == shuffled).mean())
    assert 0.08 < np.mean(chance) < 0.17


def test_real_voxels_outside_the_mask_are_refused(haxby: Path) -> None:
    runs = haxby_runs(haxby, "bold_1slice.nii.gz")[:2]
    with pytest.raises(ValueError, match="270 of 800 voxels are constant in run 0"):
        fmri.read(runs)
    assert fmri.read(runs, invalid="drop").sizes["neuroid"] == 530


def test_the_real_whole_brain_is_read_with_regions_and_motion(haxby: Path) -> None:
    masks = haxby / "haxby2001" / "sub001" / "masks" / "25mm"
    array = fmri.read(
        haxby_runs(haxby, "bold_25mm.nii.gz"),
        events=haxby_runs(haxby, "bold_events.tsv"),
        confounds=haxby_runs(haxby, "bold_moest.txt"),
        mask=masks / "brain.nii.gz",
        atlas=masks / "hoc.nii.gz",
        detrend="linear",
        dtype="float64",
    )
    assert array.sizes["neuroid"] == 129
    labels = nibabel.load(masks / "hoc.nii.gz").get_fdata()[
        nibabel.load(masks / "brain.nii.gz").get_fdata() > 0
    ]
    assert [r != "unlabelled" for r in array.region.values] == (labels > 0).tolist()
    motion = np.loadtxt(haxby_runs(haxby, "bold_moest.txt")[0])
    motion -= motion.mean(axis=0)
    detrended = motion - np.outer(t := np.linspace(-1, 1, 121), t @ motion / (t @ t))
    np.testing.assert_allclose(detrended.T @ array.values[:121], 0, atol=1e-8)
    regions = fmri.read(
        haxby_runs(haxby, "bold_25mm.nii.gz"),
        mask=masks / "brain.nii.gz",
        atlas=masks / "hoc.nii.gz",
        unit="region",
    )
    assert regions.sizes["neuroid"] == len(np.unique(labels[labels > 0]))
