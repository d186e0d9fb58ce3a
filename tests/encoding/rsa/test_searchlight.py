"""Searchlights against a loop over centres and against rsatoolbox, where structure was planted, and on real voxels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import neuro
from cerebridge.encoding import Result, rsa
from cerebridge.encoding.clusters import cluster_test
from cerebridge.encoding.engine import searchlight as engine
from cerebridge.encoding.group import group_statistics
from cerebridge.encoding.plots import plot_map
from cerebridge.encoding.rsa import searchlight as module
from cerebridge.encoding.rsa.images import select_map
from cerebridge.encoding.rsa.neighbourhoods import find_adjacency

SHAPE = (5, 4, 3)
N_STIMULI, N_RUNS = 6, 4
STIMULI = np.array([f"s{k}" for k in range(N_STIMULI)])


def recording(seed=0, shape=SHAPE, n_runs=N_RUNS, signal=None, dtype=float):
    """Presentations of six stimuli in some runs, voxels of 3 × 3 × 4 mm; ``signal`` is stimuli × voxels."""
    rng = np.random.default_rng(seed)
    at = np.argwhere(np.ones(shape))
    stimuli = np.tile(STIMULI, n_runs)
    values = 2 + rng.standard_normal((len(stimuli), len(at)))
    if signal is not None:
        values += np.tile(signal, (n_runs, 1))
    units = {"neuroid_id": np.arange(len(at)), **dict(zip("ijk", at.T, strict=True))}
    units |= dict(zip("xyz", (at * [3.0, 3.0, 4.0]).T, strict=True))
    array = neuro.assemble(
        values.astype(dtype),
        presentation={"stimulus_id": stimuli, "run": np.repeat(np.arange(n_runs), N_STIMULI)},
        neuroid=units,
        modality="fmri",
        units="a.u.",
    )
    affine = np.diag([3.0, 3.0, 4.0, 1.0]).ravel().tolist()
    return array.assign_attrs(affine=affine, volume_shape=list(shape))


def model_rdms(n=3, seed=1):
    source = recording(seed, shape=(n, 4, 1))
    return rsa.rdm(source.assign_coords(m=("neuroid", source["i"].values)), "sqeuclidean", by="m")


def one_by_one(array, models, around, centres, metric="correlation", method="spearman", noise=None):
    """Scores of some centres, models × centres, each from its own array of units."""
    found = []
    for centre in centres:
        units = around[centre]
        own = noise if noise is None or isinstance(noise, str) else noise[units]
        own = own[:, units] if own is not None and np.ndim(own) == 2 else own
        rdms = rsa.rdm(array.isel(neuroid=units), metric, noise=own)
        found.append(rsa.compare(rdms, models, method).values[0])
    return np.array(found).T


def noise_of(kind, n):
    full = np.cov(np.random.default_rng(3).standard_normal((n, 3 * n)))
    return {"none": None, "residual": "residual", "variances": np.diag(full), "covariance": full}[kind]


@pytest.mark.parametrize(
    ("metric", "noise"),
    [
        ("correlation", "none"),
        ("correlation", "covariance"),
        ("cosine", "none"),
        ("euclidean", "variances"),
        ("sqeuclidean", "none"),
        ("mahalanobis", "residual"),
        ("mahalanobis", "covariance"),
        ("crossnobis", "none"),
        ("crossnobis", "residual"),
        ("crossnobis", "variances"),
        ("crossnobis", "covariance"),
        ("ldc", "residual"),
        ("ldt", "residual"),
    ],
)
def test_every_metric_and_noise_is_that_of_a_loop(metric, noise):
    array, models = recording(), model_rdms()
    around = rsa.find_neighbours(array, radius=5, min_units=2)
    given = noise_of(noise, array.sizes["neuroid"])
    result = rsa.run_searchlight(array, models, around, metric=metric, method="pearson", noise=given)
    centres = np.arange(0, 60, 7)
    expected = one_by_one(array, models, around, centres, metric, "pearson", given)
    np.testing.assert_allclose(result.score.values[:, 0, centres], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "method",
    ["pearson", "spearman", "cosine", "rho-a", "tau-a", "tau-b", "whitened-pearson", "whitened-cosine"],
)
def test_every_way_of_comparing_is_that_of_a_loop(method):
    array, models = recording(), model_rdms()
    around = rsa.find_neighbours(array, radius=5)
    result = rsa.run_searchlight(array, models, around, metric="crossnobis", method=method)
    centres = np.arange(0, len(around), 5)
    expected = one_by_one(array, models, around, centres, "crossnobis", method)
    np.testing.assert_allclose(result.score.values[:, 0, centres], expected, rtol=0, atol=1e-10)


def test_distances_of_matrices():
    array, models = recording(), model_rdms()
    around = rsa.find_neighbours(array, radius=5)
    result = rsa.run_searchlight(array, models, around, metric="sqeuclidean", method="bures")
    expected = one_by_one(array, models, around, [0, 9], "sqeuclidean", "bures")
    # a root of what rounding left of zero
    np.testing.assert_allclose(result.score.values[:, 0, [0, 9]], expected, rtol=0, atol=1e-6)


def test_scores_of_rsatoolbox():
    pytest.importorskip("rsatoolbox")
    from rsatoolbox.rdm import RDMs, compare
    from rsatoolbox.util.searchlight import get_searchlight_RDMs, get_volume_searchlight

    array, models = recording(shape=(6, 6, 5)), model_rdms()
    array = array.assign_coords(z=("neuroid", 3.0 * array["k"].values))
    centres, neighbours = get_volume_searchlight(np.ones((6, 6, 5)), radius=2, threshold=1.0)
    values = array.values.reshape(N_RUNS, N_STIMULI, -1).mean(axis=0)
    rdms = get_searchlight_RDMs(values, centres, neighbours, np.arange(N_STIMULI), verbose=False)
    around = rsa.find_neighbours(array, radius=5.9, min_units=2)
    result = rsa.run_searchlight(array, models, around, method="pearson")
    expected = compare(rdms, RDMs(models.values), "corr").T
    np.testing.assert_allclose(result.score.values[:, 0], expected, rtol=0, atol=1e-10)


def test_pairs_that_one_model_lacks_are_left_out_of_its_comparisons_alone():
    array, models = recording(), model_rdms()
    lacking = models.copy()
    lacking.values[1, [2, 7]] = np.nan
    around = rsa.find_neighbours(array, radius=5)
    whole = rsa.run_searchlight(array, models, around).score.values
    found = rsa.run_searchlight(array, lacking, around).score.values
    np.testing.assert_allclose(found[[0, 2]], whole[[0, 2]], rtol=0, atol=1e-12)
    assert np.abs(found[1] - whole[1]).max() > 0.01
    known = np.flatnonzero(~np.isnan(lacking.values[1]))
    rdm = rsa.rdm(array.isel(neuroid=around[11])).values[0]
    assert found[1, 0, 11] == pytest.approx(
        pd.Series(rdm[known]).corr(pd.Series(models.values[1, known]), "spearman")
    )


def test_a_result_with_the_labels_of_its_centres(tmp_path):
    array = recording().assign_coords(region=("neuroid", ["V4", "IT"] * 30))
    models = {"first": model_rdms(1), "second": model_rdms(1, seed=5)}
    around = rsa.find_neighbours(array, radius=5, centres=[7, 3, 40], min_units=2)
    result = rsa.run_searchlight(array, models, around)
    assert result.score.sizes == {"model": 2, "split": 1, "unit": 3}
    assert result.dataset["region"].values.tolist() == ["IT", "IT", "V4"]
    assert result.dataset["x"].values.tolist() == array["x"].values[[7, 3, 40]].tolist()
    assert result.dataset["n_units"].values.tolist() == around.sizes.tolist()
    assert result.audit["centres"] == 3 and result.audit["not_scored"] == {}
    result.save(tmp_path / "map.nc")
    back = Result.load(tmp_path / "map.nc")
    np.testing.assert_array_equal(back.score.values, result.score.values)
    assert rsa.to_image(back, model="first").shape == SHAPE


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), cache=st.sampled_from([1, 10_000, 1 << 22]), block=st.integers(1, 70))
def test_order_of_units_and_stimuli_and_sizes_of_chunks_do_not_matter(seed, cache, block):
    rng = np.random.default_rng(seed)
    array, models = recording(seed), model_rdms()
    plain = rsa.run_searchlight(array, models, radius=5, metric="crossnobis", noise="residual")
    units, rows = rng.permutation(array.sizes["neuroid"]), rng.permutation(array.sizes["presentation"])
    pairs = rng.permutation(models.sizes["pair"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engine.CACHE, "cpu", cache)
        patch.setattr(module, "BLOCK", block)
        moved = rsa.run_searchlight(
            array.isel(neuroid=units, presentation=rows),
            models.isel(pair=pairs),
            radius=5,
            metric="crossnobis",
            noise="residual",
            device="cpu",
        )
    back = np.argsort(moved.dataset["neuroid_id"].values)
    order = np.argsort(plain.dataset["neuroid_id"].values)
    np.testing.assert_allclose(moved.score.values[..., back], plain.score.values[..., order], atol=1e-9)


def test_single_precision_is_that_of_rounding(device):
    models = model_rdms()
    scores = [
        rsa.run_searchlight(recording(dtype=dtype), models, radius=5, method="pearson", device=device).score
        for dtype in ("float32", "float64")
    ]
    assert scores[0].dtype == np.float64
    np.testing.assert_allclose(scores[0].values, scores[1].values, atol=1e-4)


def planted(seed, effect, shape=(7, 7, 4)):
    """A person in whose first corner the stimuli 0–2 and 3–5 differ in pattern."""
    rng = np.random.default_rng(1000 + seed)
    at = np.argwhere(np.ones(shape))
    inside = np.linalg.norm(at * [3, 3, 4], axis=1) <= 7
    signal = np.where(np.arange(N_STIMULI)[:, None] < 3, 1, -1) * rng.standard_normal(len(at)) * inside
    return recording(seed, shape, signal=effect * signal), inside


def two_kinds():
    kinds = dict(zip(STIMULI, [0, 0, 0, 1, 1, 1], strict=True))
    first, second = np.triu_indices(N_STIMULI, 1)
    return neuro.assemble(
        np.array(
            [[float(kinds[STIMULI[a]] != kinds[STIMULI[b]]) for a, b in zip(first, second, strict=True)]]
        ),
        rdm={"neuroid_id": ["two kinds"]},
        pair={"stimulus_a": STIMULI[first], "stimulus_b": STIMULI[second]},
        modality="model",
        units="1",
    )


def group_maps(seeds, effect):
    people = {f"p{seed}": planted(seed, effect)[0] for seed in seeds}
    around = rsa.find_neighbours(people[f"p{seeds[0]}"], radius=5, min_units=5)
    result = rsa.run_searchlight(
        people, two_kinds(), around, metric="crossnobis", method="rho-a", noise="residual"
    )
    return result, group_statistics(result, by=("i", "j", "k"))


def test_a_planted_blob_is_found_in_people_by_maximum_and_by_cluster():
    result, group = group_maps(range(8), effect=1.0)
    assert result.score.sizes["unit"] == 8 * 196
    assert set(result.audit["people"]) == {f"p{k}" for k in range(8)}
    inside = planted(0, 1.0)[1]
    significant = group["p_max"].values[0] < 0.05
    assert significant[inside].mean() > 0.5
    far = np.linalg.norm(np.argwhere(np.ones((7, 7, 4))) * [3, 3, 4], axis=1) > 13
    assert not significant[far].any()
    maps = group["subject_scores"].sel(model="two kinds") - group.attrs["chance"]
    test = cluster_test(maps, find_adjacency(group, connectivity=18), tail="greater", random_state=0)
    assert test["significant"].values[inside].mean() > 0.8
    assert np.nanargmax(rsa.to_image(group, variable="t").get_fdata()) in np.flatnonzero(inside)
    image = rsa.to_image(test, recording(shape=(7, 7, 4)), variable="significant")
    assert image.get_fdata()[0, 0, 0] == 1 and image.get_fdata()[6, 6, 3] == 0


@pytest.mark.slow
def test_without_a_blob_maxima_and_clusters_are_found_in_one_of_twenty():
    found = []
    for seed in range(40):
        group = group_maps(range(10 * seed, 10 * seed + 7), effect=0.0)[1]
        maps = group["subject_scores"].sel(model="two kinds")
        test = cluster_test(maps, find_adjacency(group), tail="greater", permutations=127, random_state=0)
        found.append([group["p_max"].min() <= 0.05, test["p"].min() <= 0.05])
    rates = np.mean(found, axis=0)
    # 40 draws of one in twenty: up to six
    assert (rates <= 6 / 40).all() and rates.sum() > 0


def test_several_people_in_one_array_are_searched_apart():
    parts = [
        recording(seed).assign_coords(subject=("neuroid", [name] * 60)) for seed, name in enumerate("ab")
    ]
    together = neuro.assemble(
        np.concatenate([part.values for part in parts], axis=1),
        presentation={"stimulus_id": parts[0]["stimulus_id"].values, "run": parts[0]["run"].values},
        neuroid={
            name: np.concatenate([part[name].values for part in parts]) for name in ("subject", "x", "y", "z")
        }
        | {"neuroid_id": np.arange(120)},
        modality="fmri",
        units="a.u.",
    )
    models = model_rdms()
    both = rsa.run_searchlight(together, models, radius=5)
    each = rsa.run_searchlight(dict(zip("ab", parts, strict=True)), models, radius=5)
    np.testing.assert_allclose(both.score.values, each.score.values, atol=1e-12)
    assert both.dataset["subject"].values.tolist() == each.dataset["subject"].values.tolist()


def test_geodesic_discs_of_vertices():
    n = 300
    rng = np.random.default_rng(0)
    array = neuro.assemble(
        rng.standard_normal((N_STIMULI, 2 * n)),
        presentation={"stimulus_id": STIMULI},
        neuroid={
            "neuroid_id": np.arange(2 * n),
            "hemisphere": np.repeat(["left", "right"], n),
            "vertex": np.tile(np.arange(n), 2),
        },
        modality="fmri",
        units="a.u.",
    )
    around = rsa.find_neighbours(array, n_neighbours=15)
    result = rsa.run_searchlight(array, model_rdms(), around)
    expected = one_by_one(array, model_rdms(), around, [0, 599])
    np.testing.assert_allclose(result.score.values[:, 0, [0, 599]], expected, atol=1e-10)
    assert result.dataset["hemisphere"].values[[0, 599]].tolist() == ["left", "right"]


def test_dask_gives_the_same():
    distributed = pytest.importorskip("distributed")
    array, models = recording(), model_rdms()
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = rsa.run_searchlight(array, models, radius=5, client=client)
    np.testing.assert_array_equal(
        found.score.values, rsa.run_searchlight(array, models, radius=5).score.values
    )


def test_centres_without_a_score_are_missing_and_counted():
    array = recording(n_runs=1)
    flat = np.asarray(array["x"].values <= 3)
    array = array.copy(data=np.where(flat, 0.0, array.values))
    around = rsa.find_neighbours(array, radius=4.3, min_units=2)
    with pytest.warns(
        UserWarning, match="12 of 60 centres of 'fmri' have no score: 12 because a pattern is constant"
    ):
        result = rsa.run_searchlight(array, model_rdms(), around)
    missing = np.isnan(result.score.values[0, 0])
    assert missing.tolist() == (array["x"].values == 0).tolist()
    assert result.audit["not_scored"] == {"a pattern is constant or zero over their units": 12}
    with pytest.warns(UserWarning, match="12 because their dissimilarities are all the same or zero"):
        rsa.run_searchlight(array, model_rdms(), around, metric="euclidean")
    with pytest.raises(
        ValueError, match="none of the 60 centres of 'fmri' can be scored: 60 because a pattern"
    ):
        rsa.run_searchlight(array.copy(data=np.ones_like(array.values)), model_rdms(), around)


def test_noise_that_is_singular_around_some_centres_only():
    array = recording()
    noise = np.eye(60)
    # two units next to each other with the very same noise
    noise[0, 3] = noise[3, 0] = 1.0
    around = rsa.find_neighbours(array, radius=3, min_units=2)
    both = [{0, 3} <= set(around[centre]) for centre in range(60)]
    with pytest.warns(UserWarning, match=f"{sum(both)} because the noise of their units is singular"):
        result = rsa.run_searchlight(array, model_rdms(), around, metric="crossnobis", noise=noise)
    assert np.isnan(result.score.values[0, 0]).tolist() == both and 0 < sum(both) < 60


def test_centres_with_too_few_units_are_counted():
    array = recording()
    around = rsa.find_neighbours(array, radius=4, min_units=6)
    result = rsa.run_searchlight(array, model_rdms(), around)
    assert result.score.sizes["unit"] + result.audit["left_out_for_too_few_units"] == 60
    assert result.audit["left_out_for_too_few_units"] > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "manhattan"}, "metric='manhattan' is unknown to searchlights; use 'correlation'"),
        ({"metric": "decoding"}, "metric='decoding' is unknown to searchlights"),
        ({"method": "mutual"}, "method='mutual' is unknown"),
        ({"metric": "mahalanobis"}, "metric='mahalanobis' needs noise="),
        ({"noise": "white"}, "noise='white' is unknown"),
        ({"noise": np.ones(3)}, r"noise has the shape \(3,\); for 60 units"),
        ({"metric": "crossnobis", "cv": "session"}, "needs the coordinate 'session' along 'presentation'"),
        ({"radius": None}, "give either radius= in mm or n_neighbours="),
        ({"radius": 0.5}, r"no centre has 10 units \(there are 1 at most\)"),
        ({"models": {}}, "models must be a mapping of names to RDMs with one at least"),
    ],
)
def test_impossible_requests(change, said):
    options = {"models": model_rdms(), "radius": 5, **change}
    with pytest.raises((ValueError, TypeError), match=said):
        rsa.run_searchlight(recording(), options.pop("models"), **options)


def test_arrays_that_do_not_fit():
    array, models = recording(), model_rdms()
    around = rsa.find_neighbours(array, radius=5)
    with pytest.raises(ValueError, match="the neighbourhoods are of 60 units, and the array has 30"):
        rsa.run_searchlight(array[:, :30], models, around)
    with pytest.raises(
        ValueError, match="60 units lie elsewhere than those of the neighbourhoods, the first 59"
    ):
        rsa.run_searchlight(array[:, ::-1], models, around)
    with pytest.raises(ValueError, match="the units of the array have no x, y, z by which"):
        rsa.run_searchlight(array.drop_vars("x"), models, around)
    with pytest.raises(ValueError, match="1 only in models"):
        rsa.run_searchlight(array[array["stimulus_id"].values != "s0"], models, around)
    with pytest.raises(ValueError, match="missing or infinite values, the first at stimulus 's0', unit 0"):
        rsa.run_searchlight(array.where(array["neuroid_id"] > 0), models, around)
    with pytest.raises(ValueError, match="6 of 6 stimuli occur in one run only"):
        rsa.run_searchlight(array[:6], models, around, metric="crossnobis")
    with pytest.raises(ValueError, match="has one presentation of each"):
        rsa.run_searchlight(array[:6], models, around, noise="residual")
    with pytest.raises(ValueError, match="'s0' and 's1' of 'fmri' never occur in the same run"):
        parity = (array["run"].values + (array["stimulus_id"].values == "s1")) % 2 == 0
        rsa.run_searchlight(array[parity], models, around, metric="crossnobis")
    with pytest.raises(ValueError, match="a searchlight takes presentation × neuroid"):
        rsa.run_searchlight(models, models, around)
    with pytest.raises(ValueError, match="array is empty"):
        rsa.run_searchlight({}, models, around)
    quiet = array.copy()
    quiet.values[:, 4] = 1.0
    with pytest.raises(ValueError, match="unit 4 of 'fmri' has no noise at all"):
        rsa.run_searchlight(quiet, models, around, noise="residual")
    constant = models.copy(data=np.ones_like(models.values))
    with pytest.raises(ValueError, match="of models is constant"):
        rsa.run_searchlight(array, constant, around)


@pytest.fixture(scope="module")
def haxby(data):
    """Block means of seven categories in 12 runs, detrended and z-scored in each run."""
    folder = data / "haxby2001-slice"
    runs, events = [], []
    for number in range(1, 13):
        run = folder / f"haxby2001/sub001/BOLD/task001_run{number:03d}"
        runs.append(str(run / "bold_1slice.nii.gz"))
        events.append(str(run / "bold_events.tsv"))
    array = neuro.fmri.read(
        runs, events=events, mask=str(folder / "mask.nii.gz"), detrend="linear", outside="crop", t_r=2.5
    )
    return neuro.fmri.block_means(array)


ANIMATE = ("face", "cat")
INANIMATE = ("house", "shoe", "bottle", "scissors", "chair")


def categories(names, together):
    """1 between what is in ``together`` and what is not."""
    names = np.array(names)
    first, second = np.triu_indices(len(names), 1)
    different = np.isin(names[first], together) != np.isin(names[second], together)
    return neuro.assemble(
        different[None].astype(float),
        rdm={"neuroid_id": ["model"]},
        pair={"stimulus_a": names[first], "stimulus_b": names[second]},
        modality="model",
        units="1",
    )


def decodability(blocks):
    """How well each voxel's own responses tell animate blocks from others: |t| of two samples."""
    kind = np.isin(blocks["stimulus_id"].values, ANIMATE)
    a, b = blocks.values[kind], blocks.values[~kind]
    pooled = np.sqrt(a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b))
    return np.abs(a.mean(axis=0) - b.mean(axis=0)) / pooled


def shuffled(blocks, seed):
    """The blocks with other labels in each run."""
    rng, labels = np.random.default_rng(seed), blocks["stimulus_id"].values.copy()
    for run in np.unique(blocks["run"].values):
        rows = np.flatnonzero(blocks["run"].values == run)
        labels[rows] = rng.permutation(labels[rows])
    return blocks.assign_coords(stimulus_id=("presentation", labels))


@pytest.mark.parametrize(
    ("metric", "noise", "least"), [("crossnobis", "residual", 0.35), ("correlation", None, 0.5)]
)
def test_animate_objects_in_the_slice_of_haxby(haxby, metric, noise, least):
    """Where voxels tell animate objects in six runs, RDMs of the other six have them apart."""
    blocks = haxby[np.isin(haxby["stimulus_id"].values, ANIMATE + INANIMATE)]
    even = blocks["run"].values.astype(int) % 2 == 0
    around = rsa.find_neighbours(blocks, radius=9.5)
    own = decodability(blocks[~even])
    nearby = np.array([np.sqrt(np.square(own[around[k]]).mean()) for k in range(len(around))])
    model = {"animate": categories(ANIMATE + INANIMATE, ANIMATE)}

    def searched(some):
        result = rsa.run_searchlight(some, model, around, metric=metric, noise=noise, method="rho-a")
        return select_map(result).values

    animate = searched(blocks[even])
    agreement = np.corrcoef(animate, nearby)[0, 1]
    assert agreement > least and animate.max() > 0.5
    peak = np.argsort(animate)[-20:]
    assert (nearby[:, None] < nearby[peak]).mean() > 0.8
    chance = [np.corrcoef(searched(shuffled(blocks[even], seed)), nearby)[0, 1] for seed in range(19)]
    assert abs(np.mean(chance)) < 0.15 and np.sum(np.array(chance) >= agreement) <= 1


def test_faces_and_other_categories_have_their_own_maps(haxby, tmp_path):
    blocks = haxby[np.isin(haxby["stimulus_id"].values, ANIMATE + INANIMATE)]
    models = {name: categories(ANIMATE + INANIMATE, [name]) for name in ("face", "house")}
    around = rsa.find_neighbours(blocks, radius=9.5)
    result = rsa.run_searchlight(
        blocks, models, around, metric="crossnobis", noise="residual", method="rho-a"
    )
    # a category against six others is told from them in much of this slice
    assert (select_map(result).mean("unit") > 0.2).all()
    image = rsa.to_image(result)
    assert image.shape == (40, 20, 1, 2) and np.isfinite(image.get_fdata()[..., 0]).sum() == len(around)
    image.to_filename(tmp_path / "maps.nii.gz")
    assert plot_map(select_map(result)).axes
