"""Models and geometries over time: loops as oracles, windows in which the truth lies, and baselines without any."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d
from scipy.stats import rankdata

from cerebridge import neuro
from cerebridge.encoding import Result, rsa
from cerebridge.encoding.clusters import cluster_test
from cerebridge.encoding.plots import plot_timecourse
from cerebridge.encoding.plots.courses import plot_course_map, plot_courses
from cerebridge.encoding.rsa.epochs import Options, slide, timed_rdms
from cerebridge.encoding.rsa.latencies import find_latencies, latency_table

from .simulated import EARLY, LATE, N_STIMULI, WIDTH, features, model, people, person, small


@pytest.fixture(scope="module")
def group() -> dict[str, xr.DataArray]:
    return people()


@pytest.fixture(scope="module")
def models() -> dict[str, xr.DataArray]:
    return {name: model(values, name) for name, values in zip(("early", "late"), features(), strict=True)}


@pytest.fixture(scope="module")
def result(models, group) -> Result:
    return rsa.infer_over_time(models, group, random_state=0)


@pytest.mark.parametrize("method", ["spearman", "cosine", "rho-a", "tau-a"])
def test_scores_and_ceilings_against_a_loop_over_times(models, method):
    group = small()
    found = rsa.infer_over_time(models, group, method, permutations=0, n_resamples=0).dataset
    for t in range(6):
        rdms = neuro.concat(
            [
                rsa.rdm(a.isel(time_bin=t, drop=True)).assign_coords(neuroid_id=("rdm", [name]))
                for name, a in group.items()
            ],
            "rdm",
        )
        here = found.isel(unit=np.arange(t, 18, 6), split=0)
        for name, one in models.items():
            want = rsa.compare(one, rdms, method).values[0]
            assert here["score"].sel(model=name).values == pytest.approx(want)
        bounds = rsa.noise_ceiling(rdms, method).by_rdm
        assert here["ceiling"].values == pytest.approx(bounds["lower"].values)
        assert here["ceiling_upper"].values == pytest.approx(bounds["upper"].values)
        assert here["subject"].values.tolist() == list(group)


def test_both_windows_are_found_and_nothing_before_the_stimulus(result):
    dataset = result.dataset
    for name, (low, high) in (("early", EARLY), ("late", LATE)):
        here = dataset.sel(model=name)
        when = here["time"].values[here["significant"].values]
        # noise beside a window may join its cluster
        assert low - 2 * WIDTH <= when.min() and when.max() <= high + 2 * WIDTH
        assert len(when) >= 0.9 * (high - low) / WIDTH
        assert low <= float(here["peak_low"]) <= float(here["peak"]) <= float(here["peak_high"]) <= high
        assert abs(float(here["onset"]) - low) < WIDTH
        assert float(here["onset_low"]) <= float(here["onset"]) <= float(here["onset_high"])
    assert not dataset["significant"].sel(time=slice(None, 0)).any()


def test_stimuli_exchanged_in_every_person_have_no_clusters(models, group):
    rng = np.random.default_rng(3)
    shuffled = {}
    for name, array in group.items():
        names = np.array([f"s{k}" for k in rng.permutation(N_STIMULI)])
        shuffled[name] = array.assign_coords(stimulus_id=("presentation", np.tile(names, 4)))
    assert not rsa.infer_over_time(models, shuffled, random_state=0).dataset["significant"].any()


def test_significance_is_that_of_the_cluster_test(models, result):
    dataset = result.dataset
    maps = dataset["score"].values[0, 0].reshape(12, -1)
    want = cluster_test(maps, tail="greater", random_state=0)
    assert dataset["p_cluster"].values[0] == pytest.approx(want["p"].values)
    joint = rsa.infer_over_time(models, people(6), joint=True, n_resamples=0, random_state=0).dataset
    cube = joint["score"].values[:, 0].reshape(2, 6, -1).swapaxes(0, 1)
    assert joint["p_cluster"].values == pytest.approx(
        cluster_test(cube, tail="greater", random_state=0)["p"].values
    )


def test_forms_of_data_are_one(models):
    group = small()
    want = rsa.infer_over_time(models, group, permutations=0).dataset
    rdms = [
        rsa.rdm(array.assign_coords(subject=("neuroid", [name] * 24)), by="subject")
        for name, array in group.items()
    ]
    joined = neuro.concat(rdms, "rdm")
    labelled = [array.assign_coords(subject=name) for name, array in group.items()]
    trials = neuro.concat(labelled, "presentation")
    sensors = [
        array.assign_coords(
            neuroid_id=("neuroid", [f"{name} {k}" for k in range(24)]), subject=("neuroid", [name] * 24)
        )
        for name, array in group.items()
    ]
    shuffled = joined.isel(rdm=np.random.default_rng(0).permutation(joined.sizes["rdm"]))
    for data in (rdms, joined, shuffled, labelled, trials, neuro.concat(sensors, "neuroid")):
        found = rsa.infer_over_time(models, data, permutations=0).dataset
        scores = found["score"].sortby("subject").values if data is shuffled else found["score"].values
        assert scores == pytest.approx(want["score"].values)
        assert sorted(set(found["subject"].values)) == list(group)


def test_covariates_are_taken_out(models):
    group = small()
    found = rsa.infer_over_time(models["early"], group, given=models["late"], permutations=0).dataset
    first = rsa.rdm(group["P0"])
    want = rsa.compare(models["early"], first, given=models["late"]).values[0]
    assert found["score"].values[0, 0, :6] == pytest.approx(want)


def test_missing_pairs_count_for_nothing(models):
    rdms = timed_rdms(small(), Options()).rdms
    lacking = rdms.copy(
        data=np.where((np.arange(120) < 7) & (rdms.subject.values == "P1")[:, None], np.nan, rdms.values)
    )
    found = rsa.infer_over_time(models, lacking, permutations=0).dataset
    assert found.attrs["audit"]["missing_pairs"].startswith("7 of 120 that some model or person lacks")
    whole = rsa.infer_over_time(models, rdms, permutations=0).dataset
    fewer = rsa.compare(models["early"].values[0, 7:], rdms.values[6:12, 7:])
    assert found["score"].values[0, 0, 6:12] == pytest.approx(fewer)
    assert found["score"].values[0, 0, :6] == pytest.approx(whole["score"].values[0, 0, :6])
    rest = rdms.values[:, 7:].reshape(3, 6, -1)
    ranks = rankdata(rest, axis=-1)
    want = rsa.compare(ranks[[0, 2], 3].sum(0), rest[1, 3])
    assert found["ceiling"].values[6 + 3] == pytest.approx(want)


@pytest.mark.parametrize("average", [False, True])
def test_windows_against_patterns_cut_by_hand(average):
    array = person(*features(), seed=1)
    timed = timed_rdms(array, Options(window=0.03, step=0.02, average=average))
    starts = np.arange(0, 48, 2)
    assert timed.grid.start == pytest.approx(array.time_bin_start.values[starts])
    assert timed.grid.end == pytest.approx(array.time_bin_end.values[starts + 2])
    mean = neuro.average_repeats(array).values
    for k, at in enumerate(starts):
        part = mean[:, :, at : at + 3]
        patterns = part.mean(2) if average else part.reshape(len(part), -1)
        want = 1 - np.corrcoef(patterns)[np.triu_indices(N_STIMULI, 1)]
        assert timed.rdms.values[k] == pytest.approx(want)


def test_blocks_of_windows_do_not_matter(monkeypatch):
    array = person(*features(), seed=1)
    whole = timed_rdms(array, Options(window=0.03)).rdms
    monkeypatch.setattr("cerebridge.encoding.rsa.epochs.CHUNK", 1)
    assert len(slide(array, 0.03, None, average=False)) == 48
    assert timed_rdms(array, Options(window=0.03)).rdms.equals(whole)


def test_noise_is_that_of_the_sensors_in_every_sample():
    array = person(*features(), seed=1)
    variances = np.linspace(1, 4, 24)
    timed = timed_rdms(array, Options("mahalanobis", variances, window=0.02))
    patterns = neuro.average_repeats(array).values[:, :, :2] / np.sqrt(variances)[:, None]
    difference = patterns[0] - patterns[1]
    assert timed.rdms.values[0, 0] == pytest.approx(np.linalg.norm(difference))
    whitened = timed_rdms(array, Options("mahalanobis", "residual", window=0.02)).rdms
    assert whitened.values[0].mean() < timed.rdms.values[0].mean()


def test_crossvalidated_distances_over_time(models, group):
    found = rsa.infer_over_time(
        models, group, "cosine", metric="crossnobis", window=0.02, average=True, random_state=0
    )
    dataset = found.dataset
    assert EARLY[0] < dataset["peak"].sel(model="early") < EARLY[1]
    assert (
        abs(dataset["score"].mean("split").sel(model="early")[dataset["time_bin_end"].values <= 0].mean())
        < 0.05
    )


def test_noise_has_clusters_in_one_of_twenty_groups(models):
    found = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal((6 * 25, N_STIMULI * (N_STIMULI - 1) // 2))
        smooth = values.reshape(6, 25, -1)
        smooth[:, 1:] += smooth[:, :-1]
        rdms = neuro.assemble(
            smooth.reshape(150, -1),
            rdm={
                "neuroid_id": np.arange(150),
                "subject": np.repeat(np.arange(6), 25),
                "time_bin_start": np.tile(np.arange(25) / 100, 6),
                "time_bin_end": np.tile(np.arange(1, 26) / 100, 6),
            },
            pair={side: models["early"].coords[side].values for side in ("stimulus_a", "stimulus_b")},
            modality="rdm",
            units="1",
        )
        dataset = rsa.infer_over_time(models["early"], rdms, n_resamples=0).dataset
        found.append(bool(dataset["significant"].any()))
    assert 0 < np.mean(found) < 0.13


def test_one_person_has_courses_without_a_test(models):
    alone = person(*features(), seed=1)
    dataset = rsa.infer_over_time(models, alone, permutations=0).dataset
    assert (
        "p_cluster" not in dataset
        and "ceiling" not in dataset
        and "one person" in dataset.attrs["no_ceiling"]
    )
    assert dataset["peak"].sizes == {"model": 2}


def test_results_are_saved_and_drawn(result, tmp_path):
    result.save(tmp_path / "result.nc")
    again = Result.load(tmp_path / "result.nc")
    assert again.dataset.equals(result.dataset)
    assert again.audit["times"] == "50 from -0.1 to 0.4 s"
    for figure in (plot_timecourse(again), plot_courses(again), plot_course_map(again)):
        assert isinstance(figure, Figure)
    (axis,) = plot_courses(result, ["late"]).axes
    names = [text.get_text() for text in plot_courses(result, ["late"]).legends[0].get_texts()]
    assert names == ["noise ceiling", "late"] and axis.get_xlabel() == "time (ms)"
    with pytest.raises(ValueError, match="no model 'deep'; there are 'early', 'late'"):
        plot_courses(result, ["deep"])
    with pytest.raises(ValueError, match="no 'commonality' over time"):
        plot_courses(result, variable="commonality")


# latencies


def test_latencies_of_known_courses():
    times = np.arange(100) / 100
    courses = np.exp(-0.5 * ((times - np.array([[0.3], [0.6]])) / 0.05) ** 2)
    peak, onset = find_latencies(courses, times)
    assert peak == pytest.approx([0.3, 0.6])
    # a Gaussian has risen half 1.177 standard deviations before its peak
    assert onset == pytest.approx(np.array([0.3, 0.6]) - 1.1774 * 0.05, abs=1e-3)
    assert np.isnan(find_latencies(-courses, times)[0]).all()
    assert find_latencies(np.ones(5), np.arange(5.0)) == (0.0, 0.0)


def test_courses_below_zero_have_no_latency():
    table = latency_table(np.full((4, 2, 5), -1.0) + np.eye(2, 5)[1] * [[0], [3]], np.arange(5.0), 50, 0)
    for name in ("peak", "peak_low", "onset_high"):
        assert np.isnan(table[name][1]).tolist() == [True, False]
    assert table["peak_low"][1][1] == table["peak_high"][1][1] == 1


def test_intervals_of_latencies_hold_the_truth():
    times = np.arange(60) / 100
    true = np.exp(-0.5 * ((times - 0.3) / 0.05) ** 2)
    inside = []
    for seed in range(100):
        noise = gaussian_filter1d(np.random.default_rng(seed).standard_normal((12, 1, 60)), 2)
        table = latency_table(true + 0.5 * noise / noise.std(), times, 200, seed)
        low, high = (float(table[f"onset_{side}"][1][0]) for side in ("low", "high"))
        inside.append(low <= 0.3 - 1.1774 * 0.05 <= high)
    assert 0.85 < np.mean(inside) < 1


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_stimuli_people_and_pairs_does_not_matter(models, seed):
    group = small()
    rng = np.random.default_rng(seed)
    with pytest.warns(UserWarning, match="3 people"):
        want = rsa.infer_over_time(models, group, random_state=0).dataset
    mixed = {
        name: group[name].isel(presentation=rng.permutation(4 * N_STIMULI))
        for name in rng.permutation(list(group))
    }
    turned = {name: one.isel(pair=rng.permutation(one.sizes["pair"])) for name, one in models.items()}
    with pytest.warns(UserWarning, match="3 people"):
        found = rsa.infer_over_time(turned, mixed, random_state=0).dataset
    assert found.sortby("subject")["score"].values == pytest.approx(want["score"].values)
    assert found["p_cluster"].values == pytest.approx(want["p_cluster"].values)


# bad input


def test_bad_input_is_named(models):
    group = small()
    flat = group["P0"].isel(time_bin=0, drop=True)
    cases = [
        (lambda: rsa.infer_over_time(models, flat), "data has no time; give epochs"),
        (
            lambda: rsa.infer_over_time(models, {"A": group["P0"], "B": flat}),
            "data of person 'B' has no time",
        ),
        (lambda: rsa.infer_over_time(models, models["early"]), "data has no time"),
        (
            lambda: rsa.infer_over_time(models, group["P0"]),
            "there is one person, and clusters are tested over people",
        ),
        (
            lambda: rsa.infer_over_time(models, {"A": group["P0"], "B": group["P1"][:, :, :4]}),
            "person 'B' of data has 4 times from 0.05 to 0.08 s, and 'A' has 6",
        ),
        (lambda: rsa.infer_over_time(models, group, "cosine"), "never negative is not 0 by chance"),
        (lambda: rsa.infer_over_time(models, {}), "data is empty"),
        (lambda: rsa.infer_over_time({}, group), "models is empty"),
        (
            lambda: rsa.infer_over_time({"mixed": rsa.WeightedModel(models["early"])}, group),
            "model 'mixed' is to be fitted, and infer_over_time scores fixed models",
        ),
        (lambda: rsa.infer_over_time(models, group, window=0.5), "window=0.5 s is longer than the epochs"),
        (lambda: rsa.infer_over_time(models, group, window=0.001), "must each be one time bin, 0.01 s"),
        (
            lambda: rsa.infer_over_time(models, rsa.rdm(group["P0"]), window=0.02),
            "are RDMs already; give the epochs",
        ),
        (lambda: rsa.infer_over_time(models, group, step=0.02), "give their width as window="),
        (
            lambda: rsa.infer_over_time(
                models,
                {
                    name: one.isel(presentation=np.flatnonzero(one.stimulus_id.isin(["s0", "s1", "s2"])))
                    for name, one in group.items()
                },
            ),
            "data has 3 stimuli; inference needs at least 4",
        ),
        (lambda: rsa.infer_over_time(models, group, noise="loud", window=0.02), "noise='loud' is unknown"),
        (lambda: rsa.infer_over_time(models, group, permutations=-1), "permutations is -1"),
        (
            lambda: rsa.infer_over_time(
                models, rsa.rdm(group["P0"].assign_coords(half=("neuroid", [0, 1] * 12)), by="half")
            ),
            "several RDMs of one person at 0.05 s",
        ),
        (
            lambda: rsa.infer_over_time(models, group["P0"].isel(time_bin=[0, 1, 3]), window=0.02),
            "time bins of one length without gaps",
        ),
    ]
    for call, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            call()
    with pytest.raises(TypeError, match="data is a int"):
        rsa.infer_over_time(models, 3)


def test_a_result_over_time_draws_itself_as_courses(result):
    (axis,) = result.plot().axes
    assert axis.get_xlabel() == "time (ms)" and len(axis.get_lines()) >= 2


def test_messages_name_models_and_data(models, group):
    constant = {"flat": models["early"].copy(data=np.ones(models["early"].shape))}
    with pytest.raises(ValueError, match=r"RDM .* of models is constant"):
        rsa.infer_over_time(constant, group)
    for call in (rsa.infer_over_time, rsa.fuse):
        with pytest.raises(ValueError, match="method='spearmann' is unknown"):
            call(models["early"], group, "spearmann")
    with pytest.raises(ValueError, match="method='spearmann' is unknown"):
        rsa.generalise_over_time(group, method="spearmann")
