"""Ridge of data that stay on disk: equal to that in memory, within the memory promised, coefficients in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from sklearn.model_selection import KFold, LeaveOneGroupOut, ShuffleSplit

import cerebridge
from cerebridge import neuro
from cerebridge.encoding import ondisk
from cerebridge.encoding.engine import tables
from cerebridge.encoding.ridge import RidgeCV

pytestmark = pytest.mark.filterwarnings("ignore:.* at the edge of the grid")

ROOT = Path(cerebridge.__file__).parent
ALPHAS = np.logspace(-2, 5, 6)
SHAPES = {"tall": (150, 12), "wide": (40, 90)}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Everything on disk stays there and is read some rows at a time."""
    monkeypatch.setattr(ondisk, "KEPT", 2**40)
    monkeypatch.setattr(tables, "PIECE", 2**12)


def simulate(n: int, p: int, targets: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) + 2
    noise = rng.standard_normal((n, targets)) * np.logspace(-1, 1, targets)
    return X, X @ rng.standard_normal((p, targets)) / np.sqrt(p) + noise + 4


def stored(kind: str, values: np.ndarray, path):
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["x"] = values
        return h5py.File(path, "r")["x"]
    if kind == "memmap":
        mapped = np.memmap(path, values.dtype, "w+", shape=values.shape)
        mapped[:] = values
        mapped.flush()
        return np.memmap(path, values.dtype, "r", shape=values.shape)
    array = neuro.assemble(
        values,
        presentation={
            "stimulus_id": [f"s{i}" for i in range(len(values))],
            "run": np.arange(len(values)) // 10,
        },
        neuroid={"neuroid_id": [f"u{i}" for i in range(values.shape[1])]},
        modality="spikes",
        units="spikes/s",
    )
    neuro.save(path, array)
    return neuro.load(path)


def assert_same_fit(one: RidgeCV, other: RidgeCV, tolerance: float = 1e-9) -> None:
    assert one.path_ == other.path_
    np.testing.assert_array_equal(np.asarray(one.alpha_), np.asarray(other.alpha_))
    for name in ("coef_", "intercept_", "cv_scores_"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", ["hdf5", "memmap", "netcdf"])
@pytest.mark.parametrize("on_disk", ["X and Y", "X", "Y"])
def test_equals_the_fit_in_memory(on_disk, kind, shape, tmp_path):
    X, Y = simulate(*shape)
    whole = RidgeCV(ALPHAS).fit(X, Y)
    given = [
        stored(kind, values, tmp_path / name) if name in on_disk else values
        for name, values in zip("XY", (X, Y), strict=True)
    ]
    ridge = RidgeCV(ALPHAS)
    assert_same_fit(ridge.fit(*given), whole)
    assert ridge.plan(*given).problem.streamed
    assert ridge.plan(*given).path == ridge.path_
    np.testing.assert_allclose(np.asarray(ridge.predict(given[0])), whole.predict(X), atol=1e-9)
    if kind == "netcdf":
        assert all(ondisk.on_disk(array) for array in given if isinstance(array, xr.DataArray))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "cv", [KFold(4, shuffle=True, random_state=0), ShuffleSplit(2, random_state=0), "loo"], ids=str
)
def test_equals_the_fit_in_memory_for_any_split(cv, fit_intercept, scoring, shape, tmp_path):
    X, Y = simulate(*shape)
    settings = {"cv": cv, "scoring": scoring, "fit_intercept": fit_intercept}
    on_disk = (stored("hdf5", X, tmp_path / "X"), stored("hdf5", Y, tmp_path / "Y"))
    assert_same_fit(RidgeCV(ALPHAS, **settings).fit(*on_disk), RidgeCV(ALPHAS, **settings).fit(X, Y))


@pytest.mark.parametrize("size", [1e9, 1e-12])
def test_units_far_from_one(size, tmp_path):
    X, Y = (values.astype(np.float32) for values in simulate(150, 12))
    X, Y = X * np.float32(size), Y * np.float32(1 / size)
    ridge = RidgeCV(ALPHAS * size**2).fit(
        stored("hdf5", X, tmp_path / "X"), stored("hdf5", Y, tmp_path / "Y")
    )
    whole = RidgeCV(ALPHAS * size**2).fit(X, Y)
    assert ridge.coef_.dtype == np.float32
    np.testing.assert_allclose(ridge.coef_ * size**2, whole.coef_ * size**2, atol=1e-4)


def test_blocks_of_targets_and_groups_by_name(tmp_path):
    X, Y = (
        stored("netcdf", values, tmp_path / name)
        for name, values in zip("XY", simulate(150, 12), strict=True)
    )
    plan = RidgeCV(ALPHAS, cv=LeaveOneGroupOut()).plan(X, Y, "run")
    memory = plan.bytes - 5 * plan.problem.bytes_per_target("primal")
    ridge = RidgeCV(ALPHAS, cv=LeaveOneGroupOut(), memory=memory)
    assert ridge.plan(X, Y, "run").targets_at_once == 2
    ridge.fit(X, Y, groups="run")
    assert list(ridge.coef_.neuroid_id.values) == [f"u{i}" for i in range(7)]
    assert_same_fit(ridge, RidgeCV(ALPHAS, cv=LeaveOneGroupOut()).fit(X.load(), Y.load(), groups="run"))


def test_constant_and_dependent_features(tmp_path):
    X, Y = simulate(150, 12)
    X[:, 3], X[:, 4] = 0.1, X[:, 5]
    whole = RidgeCV([1e-12, 1.0]).fit(X, Y)
    assert_same_fit(RidgeCV([1e-12, 1.0]).fit(stored("hdf5", X, tmp_path / "X"), Y), whole, 1e-6)
    np.testing.assert_allclose(whole.coef_[:, 3], 0, atol=1e-12)


def test_what_is_wrong_on_disk_is_named(tmp_path):
    X, Y = simulate(150, 12)
    bad = X.copy()
    bad[140, 5] = np.nan
    with pytest.raises(
        ValueError, match="Input X contains NaN in 1 of 12 features, first column 5; drop these"
    ):
        RidgeCV().fit(stored("hdf5", bad, tmp_path / "bad"), Y)
    bad[140, 5] = np.inf
    with pytest.raises(
        ValueError, match="Input y contains infinity .* in 1 of 12 targets, first neuroid_id 'u5'"
    ):
        RidgeCV().fit(X, stored("netcdf", bad, tmp_path / "bad.nc"))
    with pytest.raises(ValueError, match="X has 149 samples and y has 150: inconsistent"):
        RidgeCV().fit(X[1:], stored("hdf5", Y, tmp_path / "Y"))
    X, Y = simulate(40, 90)
    X[:, 0] *= 1e5
    with pytest.raises(ValueError, match="are lost in the rounding of the kernel of X; use larger alphas"):
        RidgeCV([1e-9]).fit(stored("hdf5", X, tmp_path / "X"), Y)
    Y[0, 0] = np.nan
    with pytest.raises(ValueError, match="y misses samples, which needs X in memory"):
        RidgeCV(ALPHAS).fit(stored("hdf5", X, tmp_path / "X2"), Y)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_coefficients_go_to_a_file(shape, tmp_path):
    X, Y = (
        stored("netcdf", values, tmp_path / name) for name, values in zip("XY", simulate(*shape), strict=True)
    )
    path = tmp_path / "coef.nc"
    whole = RidgeCV(ALPHAS).fit(X, Y)
    memory = RidgeCV(ALPHAS).plan(X, Y).bytes - 5 * RidgeCV(ALPHAS).plan(X, Y).problem.bytes_per_target(
        whole.path_
    )
    ridge = RidgeCV(ALPHAS, memory=memory).fit(X, Y, coef_to=path)
    assert ondisk.on_disk(ridge.coef_)
    predicted = ridge.predict(X)
    assert ondisk.on_disk(ridge.coef_), "a prediction must not load all coefficients"
    np.testing.assert_allclose(predicted, whole.predict(X), atol=1e-9)
    xr.testing.assert_allclose(ridge.coef_, whole.coef_)
    with xr.open_dataset(path, engine="h5netcdf") as seen:
        np.testing.assert_allclose(seen["coef"], whole.coef_, atol=1e-12)
        assert list(seen.neuroid_id.values) == [f"u{i}" for i in range(7)]


def test_coefficients_of_targets_that_miss_samples(tmp_path):
    X, Y = simulate(60, 5)
    Y[:7, [1, 4]] = np.nan
    with pytest.warns(UserWarning, match="2 of 7 targets miss samples"):
        whole = RidgeCV(ALPHAS).fit(X, Y)
    with pytest.warns(UserWarning, match="2 of 7 targets miss samples"):
        ridge = RidgeCV(ALPHAS).fit(X, Y, coef_to=str(tmp_path / "coef.nc"))
    np.testing.assert_array_equal(ridge.coef_.values, whole.coef_)


@pytest.mark.parametrize("labelled", [False, True])
def test_coefficients_of_a_single_series_on_disk(labelled, tmp_path):
    X, Y = simulate(60, 5)
    if labelled:
        X = stored("netcdf", X, tmp_path / "X")
    whole = RidgeCV(ALPHAS).fit(X, Y[:, 0])
    ridge = RidgeCV(ALPHAS).fit(X, Y[:, 0], coef_to=tmp_path / "coef.nc")
    assert ridge.coef_.shape == (5,)
    np.testing.assert_allclose(ridge.coef_.values, whole.coef_, atol=1e-12)
    predicted = ridge.predict(X)
    assert predicted.shape == (60,)
    np.testing.assert_allclose(predicted, whole.predict(X), atol=1e-9)


def test_no_file_where_a_fit_fails(tmp_path):
    X, Y = simulate(60, 5)
    with pytest.raises(ValueError, match="memory=100 is too little"):
        RidgeCV(ALPHAS, memory=100).fit(X, Y, coef_to=tmp_path / "coef.nc")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="the folder .* does not exist"):
        RidgeCV(ALPHAS).fit(X, Y, coef_to=tmp_path / "nowhere" / "coef.nc")


PEAK = """
import json, sys, warnings
import h5py, numpy as np, torch
from cerebridge.encoding.ridge import RidgeCV
from benchmarks import peak_memory, reset_peak_memory
warnings.simplefilter("ignore")
torch.set_num_threads(1)
n, p, t, folder, memory, cv, kept = *map(int, sys.argv[1:4]), sys.argv[4], int(sys.argv[5]), *sys.argv[6:]
rng = np.random.default_rng(0)
small = rng.standard_normal((200, 300))
RidgeCV([1.0, 10.0]).fit(small, small)
with h5py.File(folder + "/data.h5", "w") as file:
    for name, width in (("X", p), ("Y", t)):
        file.create_dataset(name, (n, width), "f4", chunks=(min(n, 500), min(width, 500)))
    for start in range(0, n, 500):
        for name, width in (("X", p), ("Y", t)):
            file[name][start : start + 500] = rng.standard_normal((min(500, n - start), width), dtype=np.float32)
with h5py.File(folder + "/data.h5") as file:
    ridge = RidgeCV([1.0, 100.0, 1e4], cv=cv if cv == "loo" else int(cv), memory=memory)
    X, Y = (file[name][()] if kept == "memory" else file[name] for name in "XY")
    reset_peak_memory()
    before = peak_memory()
    ridge.fit(X, Y, coef_to=folder + "/coef.nc")
    used = peak_memory() - before
    print(json.dumps({"used": used, "path": ridge.path_, "data": 4 * n * (p + t)}))
"""


@pytest.mark.parametrize(
    ("sizes", "cv", "path", "kept", "memory"),
    [
        ((150_000, 60, 400), 3, "primal", "disk", 240_000_000),
        ((500, 120_000, 100), 3, "dual", "disk", 200_000_000),
        pytest.param((3000, 400, 3000), 5, "primal", "memory", 60_000_000, marks=pytest.mark.slow),
        pytest.param((600, 2500, 4000), 5, "dual", "memory", 90_000_000, marks=pytest.mark.slow),
        pytest.param((1500, 300, 3000), "loo", "loo", "memory", 60_000_000, marks=pytest.mark.slow),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the peak of resident memory is read from /proc"
)
def test_the_memory_promised_is_what_is_resident(sizes, cv, path, kept, memory, tmp_path):
    arguments = [*map(str, sizes), str(tmp_path), str(memory), str(cv), kept]
    command = [sys.executable, "-c", PEAK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    measured = json.loads(done.stdout)
    assert measured["path"] == path
    assert measured["data"] > memory or kept == "memory"
    assert memory / 10 < measured["used"] <= memory
