"""Values back into the brain: what was read comes out where it was."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import cifti2
from nilearn.masking import unmask
from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

from cerebridge import neuro
from cerebridge.neuro import fmri

AFFINE = np.array([[-3.0, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]])
SHAPE = (4, 3, 2)
INSIDE = np.random.default_rng(9).random(SHAPE) > 0.4


def image(n: int = 12) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(*SHAPE, n)), AFFINE)


@pytest.fixture(scope="module")
def volumes() -> xr.DataArray:
    mask = nibabel.Nifti1Image(INSIDE.astype(np.uint8), AFFINE)
    return fmri.read(image(), mask=mask, t_r=2.0, standardize=None, dtype="float64")


def test_volumes_come_back_as_they_were_and_missing_elsewhere(volumes) -> None:
    back = fmri.to_img(volumes)
    np.testing.assert_array_equal(back.affine, AFFINE)
    np.testing.assert_array_equal(back.get_fdata()[INSIDE], image().get_fdata()[INSIDE])
    assert np.isnan(back.get_fdata()[~INSIDE]).all()


def test_it_equals_nilearns_unmask(volumes) -> None:
    expected = unmask(volumes.values, nibabel.Nifti1Image(INSIDE.astype(np.uint8), AFFINE))
    np.testing.assert_array_equal(fmri.to_img(volumes, fill=0.0).get_fdata(), expected.get_fdata())


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_voxels_does_not_matter(volumes, random) -> None:
    order = list(range(volumes.sizes["neuroid"]))
    random.shuffle(order)
    np.testing.assert_array_equal(
        fmri.to_img(volumes.isel(neuroid=order)).get_fdata(), fmri.to_img(volumes).get_fdata()
    )


def test_scores_of_a_result_go_back_along_unit(volumes) -> None:
    scores = xr.DataArray(
        np.arange(volumes.sizes["neuroid"]),
        dims="unit",
        coords={axis: ("unit", volumes[axis].values) for axis in "ijk"},
    )
    with pytest.raises(ValueError, match="pass like= the array that was read"):
        fmri.to_img(scores)
    for like in (volumes, image()):
        made = fmri.to_img(scores, like=like)
        assert made.shape == SHAPE
        np.testing.assert_array_equal(made.get_fdata()[INSIDE], scores.values)


def test_means_of_regions_fill_their_atlas(tmp_path) -> None:
    label = np.zeros(SHAPE, np.int16)
    label[:2], label[3] = 3, 7
    atlas = nibabel.Nifti1Image(label, AFFINE)
    array = fmri.read(image(), atlas=atlas, unit="region", t_r=2.0)
    nibabel.save(atlas, tmp_path / "atlas.nii.gz")
    made = fmri.to_img(array, like=tmp_path / "atlas.nii.gz").get_fdata()
    np.testing.assert_array_equal(made[0, 0, 0], array.values[:, 0])
    np.testing.assert_array_equal(made[3, 2, 1], array.values[:, 1])
    assert np.isnan(made[2]).all()
    with pytest.raises(ValueError, match="pass it with like="):
        fmri.to_img(array)


def surface() -> SurfaceImage:
    rng = np.random.default_rng(0)
    mesh = {
        side: InMemoryMesh(coordinates=rng.normal(size=(size, 3)), faces=np.array([[0, 1, 2]]))
        for side, size in (("left", 8), ("right", 6))
    }
    return SurfaceImage(
        PolyMesh(**mesh), {side: rng.normal(size=(part.n_vertices, 9)) for side, part in mesh.items()}
    )


def test_surfaces_come_back_on_their_mesh() -> None:
    made = surface()
    array = fmri.read(made, t_r=2.0, standardize=None, dtype="float64").isel(neuroid=[13, 2, 5])
    back = fmri.to_img(array, like=made)
    np.testing.assert_array_equal(back.data.parts["right"][5], made.data.parts["right"][5])
    np.testing.assert_array_equal(back.data.parts["left"][[2, 5]], made.data.parts["left"][[2, 5]])
    assert np.isnan(back.data.parts["left"][0]).all()
    with pytest.raises(ValueError, match="needs a mesh"):
        fmri.to_img(array)
    with pytest.raises(ValueError, match="lacks the right hemisphere"):
        fmri.to_img(array, like={"left": made.mesh.parts["left"]})
    with pytest.raises(ValueError, match="vertex 7 lies outside the left mesh of 6 vertices"):
        fmri.to_img(
            fmri.read(made, t_r=2.0),
            like={"left": made.mesh.parts["right"], "right": made.mesh.parts["right"]},
        )


def test_surface_regions_fill_their_atlas() -> None:
    made = surface()
    atlas = SurfaceImage(made.mesh, {"left": np.repeat([0, 1], 4), "right": np.repeat([2, 0], 3)})
    array = fmri.read(made, t_r=2.0, atlas=atlas, unit="region").mean("time_bin")
    back = fmri.to_img(array + np.array([1.0, 2.0]), like=atlas).data.parts
    np.testing.assert_allclose(back["left"][4:], 1.0, atol=1e-6)
    np.testing.assert_allclose(back["right"][:3], 2.0, atol=1e-6)
    assert np.isnan(back["left"][:4]).all()


def test_grayordinates_come_back_as_cifti(tmp_path) -> None:
    inside = np.zeros((3, 3, 2), bool)
    inside[1, :, 1] = True
    left = cifti2.BrainModelAxis.from_surface(np.array([0, 2, 5]), 10, name="CIFTI_STRUCTURE_CORTEX_LEFT")
    deep = cifti2.BrainModelAxis.from_mask(
        inside, affine=np.diag([2, 2, 2, 1.0]), name="CIFTI_STRUCTURE_THALAMUS_LEFT"
    )
    axis = left + deep
    values = np.random.default_rng(0).normal(size=(9, 6))
    header = cifti2.Cifti2Header.from_axes((cifti2.SeriesAxis(0, 0.7, 9, unit="SECOND"), axis))
    array = fmri.read(nibabel.Cifti2Image(values, header), standardize=None, dtype="float64")
    nibabel.save(fmri.to_img(array), tmp_path / "map.dscalar.nii")
    back = nibabel.load(tmp_path / "map.dscalar.nii")
    assert back.header.get_axis(1) == axis
    np.testing.assert_allclose(back.get_fdata(), values, atol=1e-6)
    cortex = fmri.to_img(array.isel(neuroid=slice(0, 3), time_bin=0))
    assert cortex.header.get_axis(1) == left
    bare = array.isel(time_bin=0).assign_attrs(surface_vertices=None)
    bare.attrs.clear()
    with pytest.raises(ValueError, match="pass like= the CIFTI image"):
        fmri.to_img(bare)
    assert fmri.to_img(bare, like=nibabel.Cifti2Image(values, header)).header.get_axis(1) == axis
    regions = dense_atlas(axis)
    means = fmri.read(nibabel.Cifti2Image(values, header), atlas=regions, unit="region", standardize=None)
    painted = fmri.to_img(means.isel(time_bin=0), like=regions).get_fdata()[0]
    np.testing.assert_allclose(painted[[0, 1]], values[0, :2].mean(), atol=1e-6)
    assert np.isnan(painted[-1])


def dense_atlas(axis: cifti2.BrainModelAxis) -> nibabel.Cifti2Image:
    header = cifti2.Cifti2Header.from_axes((cifti2.ScalarAxis(["atlas"]), axis))
    return nibabel.Cifti2Image(np.array([[1.0, 1, 2, 2, 0, 0]]), header)


def test_what_has_no_place_is_refused(volumes) -> None:
    with pytest.raises(ValueError, match="carry no place in the brain"):
        fmri.to_img(volumes.drop_vars("i"))
    with pytest.raises(ValueError, match=r"lies outside the image of shape \(2, 2, 2\)"):
        fmri.to_img(volumes, like=nibabel.Nifti1Image(np.zeros((2, 2, 2)), AFFINE))
    with pytest.raises(ValueError, match="select one subject"):
        fmri.to_img(volumes.isel(neuroid=[0, 0]))
    with pytest.raises(ValueError, match="must lie along neuroid"):
        fmri.to_img(volumes.isel(neuroid=0))
    with pytest.raises(TypeError, match="give a DataArray"):
        fmri.to_img(volumes.values)


def test_subjects_of_different_spaces_ask_for_one(volumes) -> None:
    other = volumes.assign_coords(neuroid_id=("neuroid", [f"b{k}" for k in volumes.neuroid_id.values]))
    other.attrs["affine"] = np.eye(4).ravel().tolist()
    both = neuro.concat([volumes, other], "neuroid")
    first = both.isel(neuroid=slice(0, volumes.sizes["neuroid"]))
    with pytest.raises(ValueError, match="pass like="):
        fmri.to_img(first)
    np.testing.assert_array_equal(fmri.to_img(first, like=volumes).affine, AFFINE)
