"""Neighbourhoods: spheres in mm, discs along the cortex, what touches what, and the cache."""

from __future__ import annotations

from dataclasses import fields

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.datasets import load_fsaverage
from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa import neighbourhoods as module
from cerebridge.encoding.rsa.geodesics import geodesic_graph, mesh_edges
from cerebridge.encoding.rsa.neighbourhoods import find_adjacency

AFFINE = np.array([[0, -3.0, 0, 20], [3.75, 0, 0, -7], [0, 0, 5.0, 3], [0, 0, 0, 1]])


def mask_image(shape=(6, 5, 4), seed=0, affine=AFFINE):
    inside = np.random.default_rng(seed).random(shape) < 0.8
    return nibabel.Nifti1Image(inside.astype(np.uint8), affine)


def located(points, **labels):
    """An array of one presentation whose units lie at ``points``."""
    points = np.asarray(points, dtype=float)
    neuroid = {"neuroid_id": [f"v{k}" for k in range(len(points))], **labels}
    neuroid |= dict(zip("xyz", points.T, strict=True))
    values = np.zeros((1, len(points)))
    return neuro.assemble(
        values, presentation={"stimulus_id": ["s"]}, neuroid=neuroid, modality="fmri", units="1"
    )


def vertices(sides, numbers, **labels):
    neuroid = {"neuroid_id": np.arange(len(numbers)), "hemisphere": sides, "vertex": numbers, **labels}
    values = np.zeros((1, len(numbers)))
    return neuro.assemble(
        values, presentation={"stimulus_id": ["s"]}, neuroid=neuroid, modality="fmri", units="1"
    )


def plane(n=15):
    """Vertices of a flat triangular grid with sides of 1."""
    row, column = np.divmod(np.arange(n * n), n)
    points = np.stack([column + 0.5 * row, np.sqrt(0.75) * row, np.zeros(n * n)], axis=1)
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + n], 1), np.stack([corner + 1, corner + n + 1, corner + n], 1)]
    )
    return points, faces


def same(a, b):
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))


@pytest.mark.parametrize("radius", [3.0, 3.75, 7.5, 9.1])
def test_spheres_of_oblong_voxels_against_all_distances(radius):
    mask = mask_image()
    found = rsa.find_neighbours(mask, radius=radius, min_units=1)
    points = nibabel.affines.apply_affine(AFFINE, np.argwhere(mask.get_fdata() > 0))
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    assert len(found) == len(points)
    for centre in range(len(found)):
        assert found[centre].tolist() == np.flatnonzero(distance[centre] <= radius + 1e-9).tolist()


def test_centres_and_neighbours_of_rsatoolbox():
    peer = pytest.importorskip("rsatoolbox.util.searchlight")
    mask = np.pad(np.random.default_rng(0).random((8, 8, 6)) < 0.97, 2).astype(int)
    centres, neighbours = peer.get_volume_searchlight(mask, radius=2, threshold=1.0)
    image = nibabel.Nifti1Image(mask.astype(np.uint8), np.diag([3.0, 3.0, 3.0, 1.0]))
    # theirs are nearer than two voxels, of which there are 27 in full
    ours = rsa.find_neighbours(image, radius=5.99, min_units=27)
    inside = np.flatnonzero(mask)
    assert len(centres) > 20
    assert inside[ours.centres].tolist() == centres.tolist()
    assert all(set(inside[ours[k]]) == set(neighbours[k]) for k in range(len(ours)))


def test_a_mask_and_the_array_that_was_read_with_it_agree(tmp_path):
    mask = mask_image()
    mask.to_filename(tmp_path / "mask.nii.gz")
    run = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(6, 5, 4, 9)), AFFINE)
    array = neuro.fmri.read(run, mask=mask, t_r=2.0)
    assert same(
        rsa.find_neighbours(array, radius=6, min_units=4),
        rsa.find_neighbours(tmp_path / "mask.nii.gz", radius=6, min_units=4),
    )


def test_nearest_units_and_centres_that_are_left_out():
    points = np.random.default_rng(0).normal(size=(40, 3))
    found = rsa.find_neighbours(located(points), n_neighbours=12)
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    assert all(found[k].tolist() == sorted(np.argsort(distance[k])[:12]) for k in range(40))
    some = rsa.find_neighbours(located(points), radius=1.2, min_units=8)
    sizes = (distance <= 1.2).sum(axis=1)
    assert some.centres.tolist() == np.flatnonzero(sizes >= 8).tolist()
    assert some.n_left_out == (sizes < 8).sum() > 0
    chosen = rsa.find_neighbours(located(points), n_neighbours=12, centres=[5, 2])
    assert chosen.centres.tolist() == [5, 2] and chosen[1].tolist() == found[2].tolist()
    flags = np.isin(np.arange(40), [2, 5])
    assert rsa.find_neighbours(located(points), n_neighbours=12, centres=flags).centres.tolist() == [2, 5]


def test_people_are_never_neighbours():
    points = np.random.default_rng(0).normal(size=(15, 3))
    both = located(np.repeat(points, 2, axis=0), subject=["a", "b"] * 15)
    alone = rsa.find_neighbours(located(points), radius=1, min_units=1)
    together = rsa.find_neighbours(both, radius=1, min_units=1)
    for centre in range(30):
        assert together[centre].tolist() == (2 * alone[centre // 2] + centre % 2).tolist()


def test_ways_along_a_plane_are_straight_lines_within_some_percent():
    from scipy.sparse.csgraph import dijkstra

    points, faces = plane()
    middle = len(points) // 2
    true = np.linalg.norm(points - points[middle], axis=1)
    far = true > 0
    ratio = dijkstra(geodesic_graph(points, faces), indices=middle)[far] / true[far]
    assert ratio.min() > 1 - 1e-9 and ratio.max() < 1.04
    edges = mesh_edges(faces)
    lengths = np.zeros((len(points),) * 2)
    lengths[tuple(edges.T)] = 1
    assert (dijkstra(lengths, directed=False, indices=middle)[far] / true[far]).max() > 1.15


def test_ways_around_a_sphere_are_arcs():
    from scipy.sparse.csgraph import dijkstra

    part = load_fsaverage("fsaverage5")["sphere"].parts["left"]
    points = np.asarray(part.coordinates, dtype=float)
    points *= 100 / np.linalg.norm(points, axis=1, keepdims=True)
    along = dijkstra(geodesic_graph(points, part.faces), indices=[0, 700], limit=30)
    arcs = 100 * np.arccos(np.clip(points[[0, 700]] @ points.T / 1e4, -1, 1))
    near = np.isfinite(along) & (arcs > 5)
    ratio = along[near] / arcs[near]
    assert near.sum() > 200
    assert ratio.min() > 0.999 and ratio.max() < 1.06


def test_discs_do_not_jump_over_a_sulcus():
    """Two banks 1 mm apart and 20 mm deep: near through the gap, far along the surface."""
    n = 41
    depth = np.abs(np.arange(n) - n // 2)
    line = np.stack([np.where(np.arange(n) < n // 2, -0.5, 0.5), np.zeros(n), depth], axis=1)
    line[n // 2, 0] = 0
    points = np.concatenate([line, line + np.array([0.0, 1.0, 0.0])])
    start = np.arange(n - 1)
    faces = np.concatenate(
        [np.stack([start, start + 1, start + n], 1), np.stack([start + 1, start + n + 1, start + n], 1)]
    )
    mesh = PolyMesh(left=InMemoryMesh(points, faces), right=InMemoryMesh(points, faces))
    found = rsa.find_neighbours(mesh, radius=5, min_units=1)
    lip = found[0]
    assert set(lip) <= set(range(7)) | set(range(n, n + 7))
    assert n - 1 not in lip and 2 * n not in lip
    assert found.places[lip].max(axis=0)[0] == 0


def test_vertices_of_an_array_are_a_part_of_the_mesh():
    whole = rsa.find_neighbours("fsaverage5", radius=8, min_units=1, centres=[3, 20000])
    left, right = whole[0], whole[1] - 10242
    assert (whole.kind, len(whole)) == ("surface", 2) and left.max() < 10242 and right.min() >= 0
    kept = np.sort(np.concatenate([left[::2], [3]]))
    kept = np.unique(kept)
    array = vertices(["left"] * len(kept) + ["right"] * len(right), np.concatenate([kept, right]))
    part = rsa.find_neighbours(array, radius=8, min_units=1, centres=[int(np.searchsorted(kept, 3))])
    assert kept[part[0]].tolist() == kept.tolist()
    surface = SurfaceImage(
        load_fsaverage("fsaverage5")["pial"],
        {"left": np.isin(np.arange(10242), kept), "right": np.zeros(10242, bool)},
    )
    folded = rsa.find_neighbours(surface, radius=8, min_units=1)
    assert len(folded.places) == len(kept)


def test_nearest_vertices_are_those_of_the_shortest_ways():
    points, faces = plane(9)
    mesh = PolyMesh(left=InMemoryMesh(points, faces), right=InMemoryMesh(points, faces))
    found = rsa.find_neighbours(mesh, n_neighbours=20, centres=[40, 81 + 40, 0])
    assert found.sizes.tolist() == [20, 20, 20]
    assert (found[1] - 81).tolist() == found[0].tolist()
    distance = np.linalg.norm(points - points[40], axis=1)
    assert distance[found[0]].max() < 1.04 * np.sort(distance)[19] + 1e-9


@pytest.mark.parametrize(("connectivity", "n"), [(6, 6), (18, 18), (26, 26)])
def test_voxels_touch_by_faces_edges_and_corners(connectivity, n):
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), AFFINE)
    found = find_adjacency(image, connectivity=connectivity)
    assert found.dtype == bool and (found != found.T).nnz == 0
    assert found.sum(axis=1).max() == n == found.toarray()[13].sum()


def test_vertices_touch_along_edges_and_voxels_of_one_person_only():
    found = find_adjacency("fsaverage5")
    degrees = np.asarray(found.sum(axis=1)).ravel()
    assert found.shape == (20484, 20484) and found.nnz == 4 * 30720
    assert set(degrees) == {5, 6} and found[:10242, 10242:].nnz == 0
    grid = np.argwhere(np.ones((2, 2, 1)))
    grid = np.concatenate([grid, grid])
    array = located(3.0 * grid, subject=["a"] * 4 + ["b"] * 4, **dict(zip("ijk", grid.T, strict=True)))
    assert find_adjacency(array, connectivity=6).nnz == 2 * 8


def test_what_is_cached_is_found_again_and_what_is_damaged_is_made_anew(tmp_path, monkeypatch):
    mask, folder = mask_image(), tmp_path / "not there yet"
    first = rsa.find_neighbours(mask, radius=6, min_units=3, cache=folder)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    searched = module._searched
    monkeypatch.setattr(module, "_searched", None)
    assert same(first, rsa.find_neighbours(mask, radius=6, min_units=3, cache=folder))
    monkeypatch.setattr(module, "_searched", searched)
    for broken in (content[: len(content) // 2], b"", content[:700] + b"?" + content[701:]):
        path.write_bytes(broken)
        assert same(first, rsa.find_neighbours(mask, radius=6, min_units=3, cache=folder))
        assert path.read_bytes() == content or len(path.read_bytes()) == len(content)
    for change in ({"radius": 7}, {"radius": 6, "min_units": 4}, {"n_neighbours": 10}):
        rsa.find_neighbours(mask, **{"min_units": 3, **change}, cache=folder)
    rsa.find_neighbours(mask_image(seed=1), radius=6, min_units=3, cache=folder)
    assert len(list(folder.iterdir())) == 5
    assert not list(folder.glob("*.part"))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), block=st.integers(1, 40))
def test_order_of_units_and_size_of_blocks_do_not_matter(seed, block):
    rng = np.random.default_rng(seed)
    points, order = rng.normal(size=(30, 3)), rng.permutation(30)
    plain = rsa.find_neighbours(located(points), radius=1.5, min_units=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        shuffled = rsa.find_neighbours(located(points[order]), radius=1.5, min_units=1)
    for centre in range(30):
        assert set(order[shuffled[centre]]) == set(plain[order[centre]])


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "either radius= in mm or n_neighbours="),
        ({"radius": 3, "n_neighbours": 5}, "either radius= in mm or n_neighbours="),
        ({"radius": 0}, "radius is 0; it must be above 0"),
        ({"radius": float("nan")}, "radius is nan"),
        ({"n_neighbours": 2.5}, "n_neighbours is 2.5; it must be a whole number"),
        ({"n_neighbours": 5}, "n_neighbours is 5, fewer than min_units=10"),
        ({"n_neighbours": 500}, "n_neighbours is 500, and there are 40 units in one volume"),
        ({"radius": 1e-3}, r"no centre has 10 units \(there are 1 at most\)"),
        ({"radius": 3, "centres": [0, 0]}, "centres must be different positions"),
        ({"radius": 3, "centres": [40]}, "centres must be different positions among the 40"),
        ({"radius": 3, "centres": [True]}, "centres must be a mask of the 40 units"),
    ],
)
def test_impossible_requests(request_, said):
    array = located(np.random.default_rng(0).normal(size=(40, 3)))
    with pytest.raises(ValueError, match=said):
        rsa.find_neighbours(array, **request_)


def test_units_without_places():
    array = located(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="the units have no x, y, z, nor hemisphere and vertex"):
        rsa.find_neighbours(array.drop_vars("x"), radius=3)
    with pytest.raises(ValueError, match="the units have no i, j, k"):
        find_adjacency(array)
    with pytest.raises(ValueError, match="1 units have no place, the first 'v1'"):
        rsa.find_neighbours(located([[0, 0, 0], [np.nan, 0, 0], [0, 0, 0]]), radius=3)
    with pytest.raises(ValueError, match="connectivity is 8; voxels touch by 6, 18 or 26"):
        find_adjacency(mask_image(), connectivity=8)
    with pytest.raises(TypeError, match="the source is a int; give a labelled array"):
        rsa.find_neighbours(3, radius=3)


def test_masks_and_meshes_that_do_not_fit():
    empty = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    with pytest.raises(ValueError, match="0 voxels above 0; give one volume with some"):
        rsa.find_neighbours(empty, radius=3)
    with pytest.raises(ValueError, match=r"the mask has the shape \(3, 3, 3, 2\)"):
        rsa.find_neighbours(nibabel.Nifti1Image(np.ones((3, 3, 3, 2)), np.eye(4)), radius=3)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        rsa.find_neighbours("/no/mask.nii.gz", radius=3)
    with pytest.raises(ValueError, match=r"vertices 1 to 20000, and the left mesh has 10242"):
        rsa.find_neighbours(vertices(["left"] * 2, [1, 20000]), radius=3)
    with pytest.raises(ValueError, match="the units lie on 'cerebellum'"):
        rsa.find_neighbours(vertices(["cerebellum"], [1]), radius=3)
    mesh = load_fsaverage("fsaverage5")["pial"]
    nothing = SurfaceImage(mesh, {side: np.zeros(10242) for side in ("left", "right")})
    with pytest.raises(ValueError, match="no vertex of the surface is above 0"):
        rsa.find_neighbours(nothing, radius=3)


def test_it_says_what_it_is():
    found = rsa.find_neighbours(mask_image(), radius=6, min_units=3)
    assert repr(found).startswith(f"Neighbourhoods: {len(found)} centres in a volume, ")
    assert repr(found).endswith("units each, within 6 mm")
    assert repr(rsa.find_neighbours(mask_image(), n_neighbours=12)).endswith(
        "12 to 12 units each, 12 nearest"
    )
