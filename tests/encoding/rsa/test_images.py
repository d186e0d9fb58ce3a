"""Maps of searchlights go back into volumes and onto surfaces, and come back as they were."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import xarray as xr
from nilearn.datasets import load_fsaverage

from cerebridge import neuro
from cerebridge.encoding import Result, rsa
from cerebridge.encoding.rsa.images import select_map

AFFINE = np.array([[0, -3.0, 0, 20], [3.75, 0, 0, -7], [0, 0, 5.0, 3], [0, 0, 0, 1]])


def result_of(values, attrs=None, **labels):
    """Scores are models × splits × units."""
    values = np.asarray(values, dtype=float)
    coords = {"model": [f"m{k}" for k in range(len(values))], "split": np.arange(values.shape[1])}
    coords |= {name: ("unit", np.asarray(label)) for name, label in labels.items()}
    return Result(xr.Dataset({"score": (("model", "split", "unit"), values)}, coords, attrs or {}))


def without_attributes(result):
    bare = result.dataset.copy()
    bare.attrs = {}
    return Result(bare)


@pytest.fixture
def volume():
    shape = (4, 3, 2)
    inside = np.random.default_rng(0).random(shape) < 0.7
    at = np.argwhere(inside)
    values = np.random.default_rng(1).normal(size=(2, 2, len(at)))
    values[0, :, 3] = np.nan
    attrs = {"affine": AFFINE.ravel().tolist(), "volume_shape": list(shape)}
    return result_of(values, attrs, **dict(zip("ijk", at.T, strict=True))), inside


@pytest.mark.parametrize("reference", ["stored", "image", "file", "array"])
def test_volumes_there_and_back(volume, reference, tmp_path):
    result, inside = volume
    like = nibabel.Nifti1Image(np.zeros(inside.shape), AFFINE)
    if reference == "file":
        like.to_filename(tmp_path / "mask.nii")
        like = tmp_path / "mask.nii"
    if reference == "array":
        run = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(*inside.shape, 4)), AFFINE)
        like = neuro.fmri.read(run, t_r=2.0)
    bare = result if reference == "stored" else without_attributes(result)
    image = rsa.to_image(bare, None if reference == "stored" else like, model="m0")
    image.to_filename(tmp_path / "map.nii.gz")
    back = nibabel.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(back.affine, AFFINE)
    np.testing.assert_array_equal(back.get_fdata()[inside], result.score.values[0].mean(axis=0))
    assert np.isnan(back.get_fdata()[~inside]).all()


def test_all_models_another_variable_and_another_fill(volume):
    result, inside = volume
    assert rsa.to_image(result).shape == (4, 3, 2, 2)
    filled = rsa.to_image(result, model="m0", fill=-1).get_fdata()
    assert (filled[~inside] == -1).all() and (filled[inside] == -1).sum() == 1
    dataset = result.dataset.assign(n=("unit", np.arange(inside.sum())))
    np.testing.assert_array_equal(
        rsa.to_image(dataset, variable="n").get_fdata()[inside], np.arange(inside.sum())
    )


def test_surfaces_there_and_back(tmp_path):
    sides, vertex = ["left"] * 3 + ["right"] * 2, [5, 1, 10241, 0, 7]
    result = result_of([[[1.0, 2, 3, 4, 5]]], hemisphere=sides, vertex=vertex)
    for like in (None, "fsaverage5", load_fsaverage("fsaverage5")["pial"]):
        surface = rsa.to_image(result, like)
        assert surface.data.parts["left"].shape == (10242,)
        assert surface.data.parts["left"][[5, 1, 10241]].tolist() == [1, 2, 3]
        assert surface.data.parts["right"][[0, 7]].tolist() == [4, 5]
        assert np.isnan(surface.data.parts["right"]).sum() == 10240
    surface.data.to_filename(tmp_path / "map.gii")
    left = nibabel.load(tmp_path / "map_hemi-L.gii").darrays[0].data
    np.testing.assert_array_equal(left, surface.data.parts["left"].astype(np.float32))


def test_people_are_selected(volume):
    one, inside = volume
    two = xr.concat(
        [one.dataset, one.dataset + 1], "unit", coords="minimal", compat="override", data_vars="minimal"
    )
    names = np.repeat(["ann", "bob"], int(inside.sum()))
    both = two.assign_coords(subject=("unit", names)).assign_attrs(one.dataset.attrs)
    with pytest.raises(ValueError, match="two of the scores lie at the same place; select one subject"):
        rsa.to_image(both)
    bob = rsa.to_image(both, subject="bob", model="m1").get_fdata()[inside]
    np.testing.assert_allclose(bob, one.score.values[1].mean(axis=0) + 1)
    people = both.rename(score="subject_scores").isel(unit=slice(0, int(inside.sum())), split=0, drop=True)
    people = people.drop_vars("subject").expand_dims(subject=["ann", "bob"])
    assert select_map(people, variable="subject_scores", subject="ann", model="m0").dims == ("unit",)


def test_what_is_not_there(volume):
    result, _ = volume
    with pytest.raises(ValueError, match="the result has no 'p' of units; there are score"):
        rsa.to_image(result, variable="p")
    with pytest.raises(ValueError, match="the result has no model 'faces'; there are 'm0', 'm1'"):
        rsa.to_image(result, model="faces")
    with pytest.raises(ValueError, match="the result has no subject 'ann'; there are none"):
        rsa.to_image(result, subject="ann")
    with pytest.raises(ValueError, match="do not say which image their voxels belong to"):
        rsa.to_image(without_attributes(result))
    with pytest.raises(ValueError, match="carry no place in the brain"):
        rsa.to_image(result_of(np.zeros((1, 1, 2)), neuroid_id=["a", "b"]))
