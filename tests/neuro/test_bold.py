"""Volumes, surfaces and grayordinates as volumes × units, and back into the brain."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
from nibabel import cifti2
from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

from cerebridge.neuro import fmri

SIZES = {"left": 8, "right": 6}
N = 25


def surface(seed: int = 0, n: int = N) -> SurfaceImage:
    rng = np.random.default_rng(seed)
    mesh = PolyMesh(
        **{
            side: InMemoryMesh(
                coordinates=np.random.default_rng(size).normal(size=(size, 3)), faces=np.array([[0, 1, 2]])
            )
            for side, size in SIZES.items()
        }
    )
    return SurfaceImage(mesh, {side: rng.normal(size=(size, n)) for side, size in SIZES.items()})


def grayordinates() -> cifti2.BrainModelAxis:
    mask = np.zeros((3, 3, 2), bool)
    mask[1, :, 1] = True
    left = cifti2.BrainModelAxis.from_surface(np.array([0, 2, 5]), 10, name="CIFTI_STRUCTURE_CORTEX_LEFT")
    deep = cifti2.BrainModelAxis.from_mask(
        mask, affine=np.diag([2, 2, 2, 1.0]), name="CIFTI_STRUCTURE_THALAMUS_LEFT"
    )
    return left + deep


def cifti(seed: int = 0) -> nibabel.Cifti2Image:
    axis = grayordinates()
    series = cifti2.SeriesAxis(start=0, step=0.72, size=N, unit="SECOND")
    return nibabel.Cifti2Image(
        np.random.default_rng(seed).normal(size=(N, len(axis))), cifti2.Cifti2Header.from_axes((series, axis))
    )


def dense(values: np.ndarray, axis: cifti2.BrainModelAxis) -> nibabel.Cifti2Image:
    maps = cifti2.ScalarAxis(["map"])
    return nibabel.Cifti2Image(values[None].astype(float), cifti2.Cifti2Header.from_axes((maps, axis)))


def test_surfaces_are_read_hemisphere_by_hemisphere() -> None:
    runs = [surface(0), surface(1)]
    array = fmri.read(runs, t_r=2.0, standardize=None, dtype="float64")
    expected = np.concatenate([np.vstack([r.data.parts["left"], r.data.parts["right"]]).T for r in runs])
    np.testing.assert_array_equal(array.values, expected)
    assert array.hemisphere.values.tolist() == ["left"] * 8 + ["right"] * 6
    place = np.stack([array[axis].values for axis in "xyz"], 1)
    np.testing.assert_array_equal(place[8:], runs[0].mesh.parts["right"].coordinates)


def test_gifti_files_are_surfaces_and_need_a_mesh_only_for_places(tmp_path) -> None:
    image = surface()
    image.data.to_filename(tmp_path / "run.gii")
    files = {"left": tmp_path / "run_hemi-L.gii", "right": tmp_path / "run_hemi-R.gii"}
    plain = fmri.read(files, t_r=2.0, standardize=None)
    np.testing.assert_allclose(plain.values, fmri.read(image, t_r=2.0, standardize=None).values, atol=1e-6)
    assert "x" not in plain.coords
    assert "x" in fmri.read(files, t_r=2.0, mesh=image.mesh).coords


def test_surface_masks_and_atlases_choose_vertices() -> None:
    image = surface()
    label = {"left": np.repeat([0, 1], 4), "right": np.repeat([2, 0], 3)}
    array = fmri.read(image, t_r=2.0, atlas=SurfaceImage(image.mesh, label), region_names={1: "V1", 2: "V2"})
    assert array.vertex.values.tolist() == [4, 5, 6, 7, 0, 1, 2]
    assert array.region.values.tolist() == ["V1"] * 4 + ["V2"] * 3
    masked = fmri.read(image, t_r=2.0, mask={side: part == 0 for side, part in label.items()})
    assert masked.vertex.values.tolist() == [0, 1, 2, 3, 3, 4, 5]
    regions = fmri.read(image, t_r=2.0, atlas=label, unit="region", standardize=None)
    np.testing.assert_allclose(regions.values[:, 0], image.data.parts["left"][4:].mean(axis=0), atol=1e-6)


def test_cifti_is_read_with_structures_and_places() -> None:
    image = cifti()
    array = fmri.read(image, standardize=None, dtype="float64")
    np.testing.assert_array_equal(array.values, image.get_fdata())
    assert array.region.values.tolist() == ["CORTEX_LEFT"] * 3 + ["THALAMUS_LEFT"] * 3
    assert array.vertex.values.tolist() == [0, 2, 5, -1, -1, -1]
    assert np.isnan(array.x.values[:3]).all()
    np.testing.assert_array_equal(
        np.stack([array[a].values for a in "xyz"], 1)[3:], [[2, 0, 2], [2, 2, 2], [2, 4, 2]]
    )
    assert array.attrs["sfreq"] == pytest.approx(1 / 0.72)


def test_cifti_masks_and_atlases_are_matched_by_place(tmp_path) -> None:
    axis = grayordinates()
    cortex = dense(np.array([1.0, 0, 2.0]), axis[:3])
    nibabel.save(cifti(), tmp_path / "run.dtseries.nii")
    array = fmri.read(tmp_path / "run.dtseries.nii", atlas=cortex, region_names={1: "V1", 2: "V2"})
    assert array.vertex.values.tolist() == [0, 5]
    assert array.region.values.tolist() == ["V1", "V2"]
    assert fmri.read(cifti(), mask=dense(np.array([0, 0, 0, 0, 1, 1.0]), axis)).sizes["neuroid"] == 2


def test_a_file_without_repetition_time_asks_for_it() -> None:
    with pytest.raises(ValueError, match="pass t_r in seconds"):
        fmri.read(surface())


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ([surface(), cifti()], {}, "run 1 is of kind cifti, but run 0 of kind surface"),
        ([surface(), {"left": np.ones((8, N))}], {}, "other numbers of vertices"),
        (surface(), {"mask": {"left": np.ones(8)}}, "the mask has vertices {'left': 8}"),
        (surface(), {"smoothing_fwhm": 4.0}, "smooths volumes only"),
        (surface(), {"spheres": {"a": (0, 0, 0, 3)}}, "spheres are regions of volumes"),
        (
            [
                cifti(),
                nibabel.Cifti2Image(
                    np.ones((N, 3)),
                    cifti2.Cifti2Header.from_axes((cifti2.SeriesAxis(0, 0.72, N), grayordinates()[:3])),
                ),
            ],
            {},
            "other grayordinates",
        ),
    ],
    ids=["kinds", "vertices", "mask", "smoothing", "spheres", "grayordinates"],
)
def test_what_does_not_fit_together_is_refused(runs, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        fmri.read(runs, t_r=0.72, **options)


def test_a_table_of_regions_needs_its_columns() -> None:
    with pytest.raises(ValueError, match="needs index and name"):
        fmri.read(surface(), t_r=2.0, atlas={"left": np.ones(8)}, region_names=pd.DataFrame({"id": [1]}))
