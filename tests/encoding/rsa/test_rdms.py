"""RDMs of labelled arrays: labels, groups, times, noise, and one sentence for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.covariance import ledoit_wolf

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa import metrics

STIMULI = ["cat", "dog", "car", "hat", "sun"]


def recording(values, **presentation):
    """presentation × neuroid [× time_bin] with two regions and three subjects."""
    values = np.asarray(values)
    n = values.shape[1]
    times = {}
    if values.ndim == 3:
        start = 0.1 * np.arange(values.shape[2])
        times = {"time_bin": {"time_bin_start": start, "time_bin_end": start + 0.1}}
    return neuro.assemble(
        values,
        presentation={"stimulus_id": STIMULI, **presentation},
        neuroid={
            "neuroid_id": [f"n{k}" for k in range(n)],
            "region": np.array(["V4", "IT"])[np.arange(n) % 2],
            "subject": np.arange(n) % 3,
            "species": "macaque",
        },
        modality="spikes",
        units="spikes/s",
        **times,
    )


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(5, 1, (5, 12))


@pytest.fixture
def runs():
    """15 presentations of the five stimuli in three unbalanced runs."""
    rng = np.random.default_rng(1)
    stimuli = np.array(STIMULI)[np.concatenate([rng.permutation(5) for _ in range(3)] + [[0, 3]])]
    run = np.array([*np.repeat([10, 20, 30], 5), 20, 30])
    return recording(rng.normal(size=(17, 12)), stimulus_id=stimuli, run=run, session=run // 20)


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32"])
def test_agrees_with_scipy(values, metric, dtype):
    values = (10 * values).astype(dtype)
    found = rsa.rdm(recording(values), metric)
    assert found.dtype == ("float32" if dtype.startswith("float") and dtype != "float64" else "float64")
    np.testing.assert_allclose(found.values[0], pdist(values.astype(float), metric), rtol=1e-4, atol=1e-6)


def test_is_a_labelled_array_of_pairs(values, tmp_path):
    found = rsa.rdm(recording(values), "euclidean")
    assert found.dims == ("rdm", "pair")
    rows, columns = np.triu_indices(5, 1)
    assert found.stimulus_a.values.tolist() == [STIMULI[k] for k in rows]
    assert found.stimulus_b.values.tolist() == [STIMULI[k] for k in columns]
    assert found.neuroid_id.values.tolist() == ["spikes"]
    assert found.species.values.tolist() == ["macaque"]
    assert "region" not in found.coords
    assert found.attrs["units"] == "spikes/s"
    assert found.attrs["metric"] == "euclidean"
    neuro.save(tmp_path / "rdms.nc", found)
    back = neuro.load(tmp_path / "rdms.nc")
    np.testing.assert_array_equal(back.values, found.values)
    assert back.stimulus_b.values.tolist() == found.stimulus_b.values.tolist()


def test_repeats_are_averaged_and_missing_repeats_left_out(values):
    twice = np.concatenate([values + 1, values - 1])
    found = rsa.rdm(recording(twice, stimulus_id=STIMULI * 2), "euclidean")
    np.testing.assert_allclose(found.values[0], pdist(values), rtol=1e-12)
    twice[0, 3] = np.nan
    values[0, 3] -= 1
    found = rsa.rdm(recording(twice, stimulus_id=STIMULI * 2), "euclidean")
    np.testing.assert_allclose(found.values[0], pdist(values), rtol=1e-12)


def test_groups_of_units_give_one_rdm_each(values):
    array = recording(values)
    found = rsa.rdm(array, "euclidean", by="region")
    assert found.neuroid_id.values.tolist() == found.region.values.tolist() == ["V4", "IT"]
    assert "subject" not in found.coords
    for k in (0, 1):
        np.testing.assert_allclose(found.values[k], pdist(values[:, k::2]), rtol=1e-12)
    both = rsa.rdm(array, "euclidean", by=["subject", "region"])
    assert both.neuroid_id.values.tolist()[:2] == ["0 | V4", "1 | IT"]
    assert both.sizes["rdm"] == 6
    np.testing.assert_allclose(both.values[0], pdist(values[:, [0, 6]]), rtol=1e-12)


@pytest.mark.parametrize("by", [None, "region"])
def test_every_time_bin_has_its_rdm(by, monkeypatch):
    values = np.random.default_rng(0).normal(size=(5, 12, 7))
    array = recording(values)
    found = rsa.rdm(array, by=by)
    assert found.sizes["rdm"] == 7 * (1 if by is None else 2)
    assert len(set(found.neuroid_id.values)) == found.sizes["rdm"]
    np.testing.assert_allclose(found.time_bin_end.values[:7], 0.1 * np.arange(1, 8))
    for k in range(7):
        units = slice(None) if by is None else slice(0, None, 2)
        np.testing.assert_allclose(found.values[k], pdist(values[:, units, k], "correlation"), atol=1e-12)
    monkeypatch.setitem(metrics.CHUNK, "cpu", 1)
    np.testing.assert_allclose(rsa.rdm(array, by=by).values, found.values, rtol=0, atol=1e-14)


def sorted_like_theirs(found):
    """Our pairs in the alphabetical order of rsatoolbox."""
    return rsa.square(found).sel(stimulus_a=sorted(STIMULI), stimulus_b=sorted(STIMULI)).values[0]


@pytest.mark.parametrize("noise", [None, "full", "variances"])
def test_crossnobis_agrees_with_rsatoolbox(runs, noise):
    peer = pytest.importorskip("rsatoolbox")
    root = np.random.default_rng(2).normal(size=(12, 30))
    covariance = {None: None, "full": root @ root.T, "variances": (root**2).sum(axis=1)}[noise]
    full = np.eye(12) if noise is None else np.diag(covariance) if covariance.ndim == 1 else covariance
    data = peer.data.Dataset(
        runs.values, obs_descriptors={"stimulus": list(runs.stimulus_id.values), "run": list(runs.run.values)}
    )
    expected = peer.rdm.calc_rdm(data, "crossnobis", "stimulus", np.linalg.inv(full), "run").get_matrices()[0]
    found = sorted_like_theirs(rsa.rdm(runs, "crossnobis", noise=covariance))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_crossnobis_follows_the_named_recordings(runs):
    by_session = rsa.rdm(runs, "crossnobis", cv="session")
    assert not np.allclose(by_session.values, rsa.rdm(runs, "crossnobis").values)
    renamed = runs.assign_coords(run=("presentation", runs.session.values))
    np.testing.assert_array_equal(rsa.rdm(renamed, "crossnobis").values, by_session.values)


def test_crossnobis_over_time_and_groups(runs):
    values = np.stack([runs.values, 2 * runs.values], axis=-1)
    array = recording(values, stimulus_id=runs.stimulus_id.values, run=runs.run.values)
    found = rsa.rdm(array, "crossnobis", by="region")
    single = [rsa.rdm(runs.isel(neuroid=slice(k, None, 2)), "crossnobis").values[0] for k in (0, 1)]
    np.testing.assert_allclose(found.values, [single[0], 4 * single[0], single[1], 4 * single[1]], atol=1e-12)


def test_crossnobis_of_noise_is_zero_on_average():
    rng = np.random.default_rng(0)
    array = recording(rng.normal(size=(20, 4000)), stimulus_id=STIMULI * 4, run=np.repeat(range(4), 5))
    values = rsa.rdm(
        array.assign_coords(group=("neuroid", np.arange(4000) // 10)), "crossnobis", by="group"
    ).values
    assert abs(values.mean()) < 4 * values.mean(axis=1).std() / 400**0.5
    assert rsa.rdm(array, "sqeuclidean").values.min() > 0.1


def test_residual_noise_is_the_shrunk_covariance_of_repeats(runs):
    means = {s: runs.values[runs.stimulus_id.values == s].mean(axis=0) for s in STIMULI}
    residuals = np.array(
        [row - means[s] for row, s in zip(runs.values, runs.stimulus_id.values, strict=True)]
    )
    covariance = ledoit_wolf(residuals, assume_centered=True)[0] * 17 / 12
    for metric in ("mahalanobis", "crossnobis"):
        found = rsa.rdm(runs, metric, noise="residual")
        np.testing.assert_allclose(found.values, rsa.rdm(runs, metric, noise=covariance).values, rtol=1e-10)
        assert found.attrs["units"] == "1"


def test_noise_of_a_group_is_its_block_of_the_covariance(values):
    root = np.random.default_rng(2).normal(size=(12, 30))
    covariance = root @ root.T
    found = rsa.rdm(recording(values), "mahalanobis", noise=covariance, by="region")
    for k in (0, 1):
        inverse = np.linalg.inv(covariance[k::2, k::2])
        np.testing.assert_allclose(
            found.values[k], pdist(values[:, k::2], "mahalanobis", VI=inverse), rtol=1e-10
        )


def test_square_form_can_be_selected_by_stimulus(values):
    found = rsa.rdm(recording(values), "euclidean", by="region")
    square = rsa.square(found)
    np.testing.assert_allclose(square.values[1], squareform(pdist(values[:, 1::2])), rtol=1e-12)
    assert square.sel(stimulus_a="cat", stimulus_b="hat").values[0] == found.values[0, 2]
    assert found.rsa.square.equals(square)
    order = np.random.default_rng(0).permutation(10)
    shuffled = found.isel(pair=order)
    swapped = shuffled.assign_coords(
        stimulus_a=("pair", shuffled.stimulus_b.values), stimulus_b=("pair", shuffled.stimulus_a.values)
    )
    same = rsa.square(swapped).sel(stimulus_a=STIMULI, stimulus_b=STIMULI)
    np.testing.assert_array_equal(same.values, square.values)


def test_average_over_all_and_by_label(values):
    found = rsa.rdm(recording(values), "euclidean", by=["subject", "region"])
    mean = rsa.average(found)
    np.testing.assert_allclose(mean.values[0], found.values.mean(axis=0))
    assert mean.n_rdms.values.tolist() == [6]
    by_region = rsa.average(found, by="region")
    assert by_region.neuroid_id.values.tolist() == by_region.region.values.tolist() == ["V4", "IT"]
    assert "subject" not in by_region.coords
    np.testing.assert_allclose(by_region.values[1], found.values[found.region.values == "IT"].mean(axis=0))


def test_shuffled_stimuli_leave_no_similarity():
    rng = np.random.default_rng(0)
    stimuli = [f"s{k:02d}" for k in range(30)]
    features = rng.normal(size=(30, 10))
    array = recording(features @ rng.normal(size=(10, 12)), stimulus_id=stimuli)
    model = rsa.rdm(recording(features @ rng.normal(size=(10, 12)), stimulus_id=stimuli))
    true = rsa.compare(rsa.rdm(array), model).item()
    chance = []
    for _ in range(60):
        shuffled = array.assign_coords(stimulus_id=("presentation", rng.permutation(stimuli)))
        chance.append(rsa.compare(rsa.rdm(shuffled), model).item())
    assert true > 0.4 > max(chance)
    assert abs(np.mean(chance)) < 4 * np.std(chance) / 60**0.5


def changed(array, at, value):
    values = np.array(array.values, dtype=float)
    values[at] = value
    return array.copy(data=values)


BAD = {
    "constant pattern": (
        lambda a: rsa.rdm(changed(a, 2, 7.0)),
        "pattern of stimulus 'car' is constant over the 12",
    ),
    "zero pattern": (lambda a: rsa.rdm(changed(a, 1, 0.0), "cosine"), "pattern of stimulus 'dog' is zero"),
    "one unit": (lambda a: rsa.rdm(a, by="neuroid_id"), "is constant over the 1 units of 'n0'"),
    "missing": (lambda a: rsa.rdm(changed(a, (3, 4), np.nan)), "1 missing .* stimulus 'hat', unit 'n4'"),
    "infinite": (lambda a: rsa.rdm(changed(a, (3, 4), np.inf)), "1 missing or infinite"),
    "metric": (lambda a: rsa.rdm(a, "euclid"), "metric='euclid' is unknown; use 'correlation'"),
    "by": (
        lambda a: rsa.rdm(a, by="area"),
        "by='area' is no coordinate along 'neuroid' or 'presentation'; along 'neuroid' there are 'neuroid_id'",
    ),
    "one stimulus": (lambda a: rsa.rdm(a[:1]), "^'spikes' has one stimulus, 'cat'"),
    "no runs": (lambda a: rsa.rdm(a, "crossnobis"), "needs the coordinate 'run' along 'presentation'"),
    "no noise": (lambda a: rsa.rdm(a, "mahalanobis"), "needs noise="),
    "noise name": (lambda a: rsa.rdm(a, noise="residuals"), "noise='residuals' is unknown"),
    "noise shape": (
        lambda a: rsa.rdm(a, noise=np.eye(3)),
        r"shape \(3, 3\); for 12 units it must be \(12, 12\)",
    ),
    "noise sign": (lambda a: rsa.rdm(a, noise=-np.ones(12)), "variances that are not positive"),
    "noise asymmetric": (lambda a: rsa.rdm(a, noise=np.eye(12) + np.eye(12, k=1)), "not symmetric"),
    "noise singular": (
        lambda a: rsa.rdm(a, noise=np.ones((12, 12))),
        "covariance of 12 units is singular; shrink",
    ),
    "no repeats": (lambda a: rsa.rdm(a, noise="residual"), "needs repeated stimuli"),
    "no presentations": (lambda a: rsa.rdm(rsa.rdm(a)), "between presentations, and the array is rdm × pair"),
    "average by": (lambda a: rsa.average(rsa.rdm(a), by="area"), "by='area' is no coordinate along 'rdm'"),
    "average what": (lambda a: rsa.average(a), "is presentation × neuroid, not rdm × pair"),
    "square of one": (lambda a: rsa.square(rsa.rdm(a)[0]), r"select it with isel\(rdm=\[0\]\)"),
    "square gap": (lambda a: rsa.square(rsa.rdm(a)[:, 1:]), "no dissimilarity of 'cat' and 'dog'"),
    "square twice": (
        lambda a: rsa.square(rsa.rdm(a)[:, [0, *range(10)]]),
        "11 pairs of 5 stimuli; each of the 10",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(values, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        call(recording(values))
    assert "\n" not in str(error.value)


def test_bad_runs_are_one_sentence(runs):
    with pytest.raises(ValueError, match="5 of 5 stimuli occur in one run only, the first 'sun'"):
        rsa.rdm(runs.isel(presentation=slice(0, 5)), "crossnobis")
    stimuli = np.array(["cat", "dog", "car"])
    apart = recording(
        np.random.default_rng(0).normal(size=(8, 12)),
        stimulus_id=stimuli[[0, 0, 1, 1, 2, 2, 2, 2]],
        run=[1, 2, 3, 4, 1, 2, 3, 4],
    )
    with pytest.raises(ValueError, match="'cat' and 'dog' of 'spikes' never occur in the same run"):
        rsa.rdm(apart, "crossnobis")
    with pytest.raises(ValueError, match="1 missing"):
        rsa.rdm(changed(runs, (0, 0), np.nan), "crossnobis")
    silent = changed(runs, (slice(None), 2), 1.0)
    with pytest.raises(ValueError, match="unit 'n2' of 'spikes' has no noise at all"):
        rsa.rdm(silent, "crossnobis", noise="residual")


def test_plain_values_are_refused():
    with pytest.raises(TypeError, match=r"neuro\.assemble"):
        rsa.rdm(np.ones((3, 4)))


def test_an_array_on_disk_gives_the_same(values, tmp_path):
    array = recording(values)
    neuro.save(tmp_path / "array.nc", array)
    opened = neuro.load(tmp_path / "array.nc")
    expected = rsa.rdm(array, by="region").values
    np.testing.assert_allclose(rsa.rdm(opened, by="region").values, expected, rtol=0, atol=1e-14)
