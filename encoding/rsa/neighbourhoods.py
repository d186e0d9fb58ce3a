"""Neighbourhoods of voxels and vertices: spheres in mm, geodesic discs on the cortex, and what touches what."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ...neuro.files import aside
from ...neuro.progress import track
from .geodesics import geodesic_graph, mesh_edges
from .places import Part, Places, places_of

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
#: positions of centres in a part -> row and unit of each neighbour, in order
Search = Callable[[Indices], tuple[Indices, Indices]]

#: centres whose neighbours are sought at once: rows of distances then stay in the processor's cache
BLOCK = 256
#: part of a file's name that changes when other neighbours would be found
VERSION = 1
#: voxels on a sphere's surface belong to it, whatever rounding says
ROUNDING = 1e-9
#: how many steps along the axes of the grid lead to a neighbour
STEPS = {6: 1, 18: 2, 26: 3}


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """The units around each centre, one list after the other, as :func:`find_neighbours` finds them.

    Parameters
    ----------
    indptr, indices
        ``indices[indptr[c]:indptr[c + 1]]`` are the units around centre ``c``, in rising order.
    centres
        The unit that each centre is.
    places
        Where the units lie, units × 3: x, y, z in mm, or on surfaces the hemisphere (0 left, 1 right), the vertex, 0.
    kind
        ``"volume"`` or ``"surface"``.
    radius, n_neighbours
        What was asked for: mm, or how many; the other is 0.
    n_left_out
        Centres that have too few units.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> line = {"neuroid_id": list("abc"), "x": [0.0, 3.0, 6.0], "y": 0.0, "z": 0.0}
    >>> array = neuro.assemble(np.zeros((1, 3)), presentation={"stimulus_id": ["s"]}, neuroid=line,
    ...                        modality="fmri", units="a.u.")
    >>> rsa.find_neighbours(array, radius=3, min_units=1).sizes.tolist()
    [2, 3, 2]
    """

    indptr: Indices
    indices: NDArray[np.int32]
    centres: Indices
    places: Array
    kind: Literal["volume", "surface"]
    radius: float
    n_neighbours: int
    n_left_out: int

    @property
    def sizes(self) -> Indices:
        """How many units each centre has."""
        return np.diff(self.indptr)

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, centre: int) -> NDArray[np.int32]:
        return self.indices[self.indptr[centre] : self.indptr[centre + 1]]

    def __repr__(self) -> str:
        around = f"{self.n_neighbours} nearest" if self.n_neighbours else f"within {self.radius:g} mm"
        few, many = (int(of(self.sizes)) for of in (np.min, np.max))
        return f"Neighbourhoods: {len(self)} centres in a {self.kind}, {few} to {many} units each, {around}"


def find_neighbours(
    source: Any,
    *,
    radius: float | None = None,
    n_neighbours: int | None = None,
    min_units: int = 10,
    centres: Any = None,
    mesh: Any = "fsaverage5",
    cache: str | Path | None = None,
    progress: bool | None = None,
) -> Neighbourhoods:
    """Find the units around every voxel or vertex, for searchlights.

    Parameters
    ----------
    source
        Where the units lie: a labelled array with ``x``, ``y``, ``z`` in mm along its units, or with ``hemisphere``
        and ``vertex`` of ``mesh``; the image or path of a mask, of which every voxel above 0 is a unit, in the order in
        which :func:`cerebridge.neuro.fmri.read` reads them; a nilearn ``SurfaceImage`` as such a mask; or a mesh, of
        which every vertex is. Units of several ``subject`` are never neighbours, nor are hemispheres.
    radius
        Distance in mm up to which a unit belongs (its limit included). In volumes a straight line, so that spheres
        are spheres whatever the sides of voxels; on surfaces along the cortex.
    n_neighbours
        Instead: so many nearest units, the centre one of them.
    min_units
        Centres with fewer units are left out, and counted in ``n_left_out``.
    centres
        Positions or a mask of the units that are centres; default all.
    mesh
        Of surfaces: a name of nilearn's (its package holds ``"fsaverage5"``, others are downloaded), for which the
        distance is that halfway between white matter and pial surface; or a ``PolyMesh``.
    cache
        Folder where neighbourhoods are kept under a hash of all that they depend on, and found again. fsaverage5 takes
        a second, meshes of 160,000 vertices minutes.
    progress
        Whether to draw a progress bar; default on a terminal.

    Returns
    -------
    Neighbourhoods

    Raises
    ------
    ValueError
        If the units have no place, or no centre has enough of them.

    References
    ----------
    Kriegeskorte, Goebel & Bandettini (2006). Information-based functional brain mapping. PNAS 103.
    Oosterhof et al. (2011). A comparison of volume-based and surface-based multi-voxel pattern analysis. NeuroImage 56.

    Examples
    --------
    >>> import nibabel, numpy as np
    >>> from cerebridge.encoding import rsa
    >>> mask = nibabel.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.diag([2.0, 2.0, 4.0, 1.0]))
    >>> rsa.find_neighbours(mask, radius=4)
    Neighbourhoods: 89 centres in a volume, 10 to 15 units each, within 4 mm
    """
    _check_request(radius, n_neighbours, min_units)
    places = places_of(source, mesh)
    wanted = _centres(centres, len(places.keys))
    path = None
    if cache is not None:
        path = Path(cache) / f"neighbours-{_digest(places, wanted, radius, n_neighbours, min_units)}.npz"
        if (known := _load(path)) is not None:
            return known
    indptr, indices = _searched(places, wanted, radius, n_neighbours, progress)
    sizes = np.diff(indptr)
    kept = np.flatnonzero(sizes >= min_units)
    if not kept.size:
        raise ValueError(
            f"no centre has {min_units} units (there are {sizes.max()} at most); use a larger radius, or lower "
            "min_units."
        )
    indptr, indices = take_rows(indptr, indices, kept)
    neighbourhoods = Neighbourhoods(
        indptr=indptr,
        indices=indices,
        centres=wanted[kept],
        places=places.keys,
        kind=places.kind,
        radius=float(radius or 0),
        n_neighbours=int(n_neighbours or 0),
        n_left_out=len(wanted) - len(kept),
    )
    if path is not None:
        _save(path, neighbourhoods)
    return neighbourhoods


def find_adjacency(source: Any, *, connectivity: Literal[6, 18, 26] = 18, mesh: Any = "fsaverage5") -> Any:
    """Which voxels or vertices touch each other, for clusters.

    Parameters
    ----------
    source
        As for :func:`find_neighbours`; arrays of voxels, results and statistics of groups with their ``i``, ``j``
        and ``k``.
    connectivity
        Voxels touch by faces (6), also by edges (18) or also by corners (26). Vertices touch along an edge of ``mesh``.
    mesh
        As for :func:`find_neighbours`.

    Returns
    -------
    scipy.sparse.csr_array
        units × units, true for units that touch, in the order of the units.

    Raises
    ------
    ValueError
        If the units have no place on a grid or a mesh.

    Examples
    --------
    >>> import nibabel, numpy as np
    >>> from cerebridge.encoding import rsa
    >>> mask = nibabel.Nifti1Image(np.ones((2, 2, 1), np.uint8), np.eye(4))
    >>> rsa.find_adjacency(mask, connectivity=6).sum(axis=1).tolist()
    [2, 2, 2, 2]
    """
    from scipy.sparse import coo_array

    if connectivity not in STEPS:
        raise ValueError(f"connectivity is {connectivity!r}; voxels touch by 6, 18 or 26 neighbours.")
    places = places_of(source, mesh, on_grid=True)
    pairs = np.concatenate([_touching(part, STEPS[connectivity]) for part in places.parts])
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    n = len(places.keys)
    return coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(n, n)).tocsr()


def _touching(part: Part, steps: int) -> Indices:
    """Pairs of units that touch."""
    from scipy.spatial import cKDTree

    if part.faces is None:
        found: Indices = cKDTree(part.points).query_pairs(steps**0.5 + ROUNDING, output_type="ndarray")
        return part.units[found]
    edges = _unit_of_vertex(part)[mesh_edges(part.faces)]
    return edges[(edges >= 0).all(axis=1)]


def _unit_of_vertex(part: Part) -> Indices:
    """The unit at each vertex of the mesh, -1 where there is none."""
    assert part.vertices is not None
    units = np.full(len(part.points), -1)
    units[part.vertices] = part.units
    return units


def take_rows(
    indptr: Indices, indices: NDArray[np.int32], rows: Indices
) -> tuple[Indices, NDArray[np.int32]]:
    """Some lists of many, in the order of ``rows``.

    Examples
    --------
    >>> import numpy as np
    >>> take_rows(np.array([0, 2, 3]), np.array([4, 5, 6]), np.array([1, 0]))[1].tolist()
    [6, 4, 5]
    """
    if np.array_equal(rows, np.arange(len(indptr) - 1)):
        return indptr, indices
    start = np.concatenate([[0], np.cumsum(np.diff(indptr)[rows])])
    shift = np.repeat(indptr[rows] - start[:-1], np.diff(start))
    return start, indices[shift + np.arange(len(shift))]


def _searched(
    places: Places, centres: Indices, radius: float | None, n: int | None, progress: bool | None
) -> tuple[Indices, NDArray[np.int32]]:
    """The units around each of ``centres``, sought part by part and block by block."""
    at = np.full(len(places.keys), -1)
    at[centres] = np.arange(len(centres))
    jobs, order = [], []
    for part in places.parts:
        own = np.flatnonzero(at[part.units] >= 0)
        if not len(own):
            continue
        if n is not None and n > len(part.units):
            raise ValueError(
                f"n_neighbours is {n}, and there are {len(part.units)} units in one {places.kind}; ask for fewer."
            )
        order.append(at[part.units[own]])
        search = (_in_volume if part.faces is None else _on_surface)(part, radius, n)
        jobs += [(part, search, own[start : start + BLOCK]) for start in range(0, len(own), BLOCK)]
    sizes, lists = [], []
    for part, search, block in track(jobs, "finding neighbours", show=progress):
        rows, columns = search(block)
        sizes.append(np.bincount(rows, minlength=len(block)))
        lists.append(part.units[columns].astype(np.int32))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return take_rows(indptr, np.concatenate(lists), np.argsort(np.concatenate(order)))


def _in_volume(part: Part, radius: float | None, n: int | None) -> Search:
    from scipy.spatial import cKDTree

    tree, n_units = cKDTree(part.points), len(part.points)

    def search(block: Indices) -> tuple[Indices, Indices]:
        points = part.points[block]
        if n is not None:
            nearest = np.asarray(tree.query(points, n)[1]).reshape(len(points), n)
            return np.repeat(np.arange(len(points)), n), np.sort(nearest, axis=1).ravel()
        assert radius is not None
        near = cKDTree(points).sparse_distance_matrix(tree, radius * (1 + ROUNDING), output_type="ndarray")
        rows, columns = np.divmod(np.sort(near["i"].astype(np.int64) * n_units + near["j"]), n_units)
        return rows, columns

    return search


def _on_surface(part: Part, radius: float | None, n: int | None) -> Search:
    from scipy.sparse.csgraph import dijkstra

    assert part.vertices is not None and part.faces is not None
    vertices, graph = part.vertices, geodesic_graph(part.points, part.faces)
    # about the radius of a disc of so many vertices, each of which has six edges
    limit = radius * (1 + ROUNDING) if radius is not None else float(graph.data.mean()) * (n or 1) ** 0.5
    farthest = float(graph.data.sum())

    def search(block: Indices) -> tuple[Indices, Indices]:
        nonlocal limit
        ways = dijkstra(graph, indices=vertices[block], limit=limit)[:, vertices]
        while n is not None and limit < farthest and np.isfinite(ways).sum(axis=1).min() < n:
            limit *= 2
            ways = dijkstra(graph, indices=vertices[block], limit=limit)[:, vertices]
        rows, columns = np.nonzero(np.isfinite(ways))
        if n is None:
            return rows, columns
        nearest = np.lexsort((ways[rows, columns], rows))
        start = np.searchsorted(rows, np.arange(len(block)))
        rank = np.arange(len(rows)) - start[rows]
        kept = np.sort(nearest[rank < n])
        return rows[kept], columns[kept]

    return search


def _check_request(radius: float | None, n_neighbours: int | None, min_units: int) -> None:
    if (radius is None) == (n_neighbours is None):
        raise ValueError("give either radius= in mm or n_neighbours=, one of the two.")
    if radius is not None and not 0 < radius < np.inf:
        raise ValueError(f"radius is {radius!r}; it must be above 0, in mm.")
    for name, number in (("n_neighbours", n_neighbours), ("min_units", min_units)):
        if number is not None and (not isinstance(number, int | np.integer) or number < 1):
            raise ValueError(f"{name} is {number!r}; it must be a whole number above 0.")
    if n_neighbours is not None and n_neighbours < min_units:
        raise ValueError(
            f"n_neighbours is {n_neighbours}, fewer than min_units={min_units}; lower min_units."
        )


def _centres(centres: Any, n_units: int) -> Indices:
    if centres is None:
        return np.arange(n_units)
    chosen = np.asarray(centres)
    if chosen.dtype == bool and chosen.shape == (n_units,):
        chosen = np.flatnonzero(chosen)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not chosen.size:
        raise ValueError(f"centres must be a mask of the {n_units} units or positions among them.")
    if chosen.min() < 0 or chosen.max() >= n_units or len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"centres must be different positions among the {n_units} units, from 0 on.")
    return chosen.astype(np.int64)


def _digest(places: Places, centres: Indices, *request: Any) -> str:
    """Hash of all that neighbourhoods depend on."""
    digest = hashlib.blake2b(f"{VERSION}{places.kind}{request}".encode(), digest_size=16)
    for array in (centres, *chain.from_iterable(vars(part).values() for part in places.parts)):
        digest.update(b"" if array is None else f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


def _load(path: Path) -> Neighbourhoods | None:
    """What :func:`_save` wrote; ``None`` where there is nothing, or something damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
        scalars = {name: value.item() for name, value in values.items() if value.ndim == 0}
        return Neighbourhoods(**{**values, **scalars})
    except (OSError, ValueError, TypeError, EOFError, BadZipFile, zlib.error):
        return None


def _save(path: Path, neighbourhoods: Neighbourhoods) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {field.name: getattr(neighbourhoods, field.name) for field in fields(neighbourhoods)}
    with aside(path) as part, part.open("wb") as file:
        np.savez(file, **values)
