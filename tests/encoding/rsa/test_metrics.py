"""Every measure of rsa.rdm against its peers, over groups, times and gaps, with one sentence for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa import metrics

N_STIMULI, N_RUNS, N_UNITS = 5, 4, 12
STIMULI = np.array(list("abcde"))
OF_RUNS = ["crossnobis", "ldc", "ldt", "poisson-cv", "decoding"]
OF_MEANS = ["correlation", "cosine", "euclidean", "sqeuclidean", "mahalanobis", "poisson", "jensen-shannon"]


def recording(values, stimuli=None, run=None, **more):
    values = np.asarray(values)
    repeats = len(values) // N_STIMULI
    times = {}
    if values.ndim == 3:
        start = 0.1 * np.arange(values.shape[2])
        times = {"time_bin": {"time_bin_start": start, "time_bin_end": start + 0.1}}
    return neuro.assemble(
        values,
        presentation={
            "stimulus_id": np.tile(STIMULI, repeats) if stimuli is None else stimuli,
            "run": np.repeat(range(repeats), N_STIMULI) if run is None else run,
            **more,
        },
        neuroid={
            "neuroid_id": np.arange(values.shape[1]),
            "region": np.arange(values.shape[1]) * 3 // values.shape[1],
        },
        modality="spikes",
        units="spikes/s",
        **times,
    )


@pytest.fixture
def rates():
    """Five stimuli in each of four runs: rates of 12 units in three regions."""
    rng = np.random.default_rng(0)
    return recording(rng.poisson(np.tile(rng.gamma(2, 3, (N_STIMULI, N_UNITS)), (N_RUNS, 1))).astype(float))


def options(metric):
    return {"noise": np.linspace(0.5, 2, N_UNITS)} if metric in ("mahalanobis", "ldt") else {}


def dataset(array):
    return pytest.importorskip("rsatoolbox.data").Dataset(
        array.values,
        obs_descriptors={"stimulus": list(array.stimulus_id.values), "run": list(array.run.values)},
    )


def test_agrees_with_rsatoolbox(rates):
    calc = pytest.importorskip("rsatoolbox.rdm").calc_rdm
    root = np.random.default_rng(1).normal(size=(N_UNITS, 30))
    noise = root @ root.T
    data, inverse = dataset(rates), np.linalg.inv(noise)
    for found, expected in (
        (rsa.rdm(rates, "poisson"), calc(data, "poisson", "stimulus")),
        (
            rsa.rdm(rates, "poisson", prior=(2.0, 0.5)),
            calc(data, "poisson", "stimulus", prior_lambda=2.0, prior_weight=0.5),
        ),
        (rsa.rdm(rates, "crossnobis", noise=noise), calc(data, "crossnobis", "stimulus", inverse, "run")),
        (
            rsa.rdm(rates, "mahalanobis", noise=noise) ** 2 / N_UNITS,
            calc(data, "mahalanobis", "stimulus", inverse),
        ),
        (rsa.rdm(rates, "sqeuclidean") / N_UNITS, calc(data, "euclidean", "stimulus")),
    ):
        np.testing.assert_allclose(found.values, expected.get_vectors(), rtol=1e-9, atol=1e-10)


def test_agrees_with_the_unbalanced_ones_of_rsatoolbox(rates):
    calc = pytest.importorskip("rsatoolbox.rdm").calc_rdm_unbalanced
    balanced = calc(dataset(rates), "crossnobis", "stimulus", np.eye(N_UNITS), "run").get_vectors()
    np.testing.assert_allclose(rsa.rdm(rates, "crossnobis").values, balanced, rtol=1e-9, atol=1e-10)
    # of unbalanced designs it weighs presentations, not runs: other estimates with the same expectation
    rng = np.random.default_rng(0)
    kept = [*range(5), *np.sort(rng.choice(range(5, 20), 11, replace=False))]
    truth = np.tile(rng.normal(size=(N_STIMULI, N_UNITS)), (N_RUNS, 1))
    ours, theirs = [], []
    for _ in range(300):
        some = recording(truth + rng.normal(size=truth.shape)).isel(presentation=kept)
        ours.append(rsa.rdm(some, "crossnobis").values[0])
        theirs.append(calc(dataset(some), "crossnobis", "stimulus", np.eye(N_UNITS), "run").get_vectors()[0])
    expected = pdist(truth[:N_STIMULI], "sqeuclidean") / N_UNITS
    for found in (np.array(ours), np.array(theirs)):
        assert (np.abs(found.mean(axis=0) - expected) < 4 * found.std(axis=0) / 300**0.5).all()


def test_movies_agree_with_rsatoolbox():
    movie = pytest.importorskip("rsatoolbox.rdm").calc_rdm_movie
    temporal = pytest.importorskip("rsatoolbox.data").TemporalDataset
    values = np.random.default_rng(0).gamma(2, 3, size=(N_STIMULI * N_RUNS, N_UNITS, 6))
    array = recording(values)
    data = temporal(
        values,
        obs_descriptors={"stimulus": list(array.stimulus_id.values), "run": list(array.run.values)},
        time_descriptors={"time": np.arange(6)},
    )
    for metric in ("correlation", "crossnobis", "poisson"):
        expected = movie(data, metric, "stimulus", cv_descriptor="run").get_vectors()
        np.testing.assert_allclose(rsa.rdm(array, metric).values, expected, rtol=1e-9, atol=1e-10)


def test_contrasts_are_crossnobis_summed_over_units(rates):
    found = rsa.rdm(rates, "ldc")
    np.testing.assert_allclose(found.values, N_UNITS * rsa.rdm(rates, "crossnobis").values)
    assert found.attrs["units"] == "(spikes/s)^2"
    assert rsa.rdm(rates, "ldt", noise="residual").attrs["units"] == "1"


def test_contrasts_over_their_error_are_one_number_in_any_unit(rates):
    noise = rsa.noise_covariance(rates)
    found = rsa.rdm(rates, "ldt", noise=noise).values
    np.testing.assert_allclose(
        rsa.rdm(rates.copy(data=1000 * rates.values), "ldt", noise=1e6 * noise).values, found, rtol=1e-8
    )


@pytest.mark.filterwarnings("error")
def test_noise_that_may_not_be_written_to_is_read(rates):
    covariance = np.diag(np.linspace(0.5, 2, N_UNITS))
    found = rsa.rdm(rates, "mahalanobis", noise=covariance.diagonal())
    np.testing.assert_allclose(found.values, rsa.rdm(rates, "mahalanobis", noise=covariance).values)


def test_decoding_tells_apart_what_differs_and_nothing_else():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8 * N_STIMULI, 10))
    values[::N_STIMULI] += 4  # the first stimulus alone
    found = rsa.rdm(recording(values), "decoding").values[0]
    assert (found[:4] > 0.85).all()
    groups = recording(rng.normal(size=(20, 3000)))
    chance = rsa.rdm(
        groups.assign_coords(region=("neuroid", np.arange(3000) // 10)), "decoding", by="region"
    ).values
    assert abs(chance.mean() - 0.5) < 4 * chance.mean(axis=1).std() / 300**0.5


@pytest.mark.parametrize("metric", OF_MEANS + OF_RUNS)
def test_groups_and_chunks_change_nothing(rates, metric, monkeypatch):
    whole = rsa.rdm(rates, metric, by="region", **options(metric))
    assert whole.sizes == {"rdm": 3, "pair": 10}
    for k, row in enumerate(whole.values):
        units = rates.region.values == k
        noise = {name: value[units] for name, value in options(metric).items()}
        np.testing.assert_allclose(
            row, rsa.rdm(rates[:, units], metric, **noise).values[0], rtol=1e-9, atol=1e-12
        )
    monkeypatch.setitem(metrics.CHUNK, "cpu", 1)
    again = rsa.rdm(rates, metric, by="region", **options(metric))
    np.testing.assert_allclose(again.values, whole.values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", OF_MEANS + OF_RUNS)
def test_float32_stays_and_is_right(rates, metric):
    single = rsa.rdm(rates.astype(np.float32), metric, **options(metric))
    assert single.dtype == np.float32
    np.testing.assert_allclose(
        single.values, rsa.rdm(rates, metric, **options(metric)).values, rtol=1e-3, atol=2e-4
    )


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(OF_MEANS + OF_RUNS))
def test_order_of_units_presentations_and_runs_does_not_matter(seed, metric):
    rng = np.random.default_rng(seed)
    rates = recording(rng.gamma(2, 3, size=(N_STIMULI * N_RUNS, N_UNITS)))
    noise = {name: rsa.noise_covariance(rates) for name in options(metric)}
    rows, units = rng.permutation(N_STIMULI * N_RUNS), rng.permutation(N_UNITS)
    mixed = rates[rows][:, units].assign_coords(run=("presentation", 7 - rates.run.values[rows]))
    before, after = (
        rsa.square(rsa.rdm(each, metric, **noise)).sel(stimulus_a=STIMULI, stimulus_b=STIMULI)
        for each in (rates, mixed)
    )
    np.testing.assert_allclose(after.values, before.values, rtol=1e-7, atol=1e-7)


def test_people_who_share_channels_are_told_apart_by_presentation(rates):
    both = neuro.concat(
        [rates.assign_coords(subject=("presentation", [name] * 20)) for name in ("P1", "P2")], "presentation"
    )
    both = both.copy(data=np.concatenate([rates.values, rates.values[::-1]]))
    for metric in ("correlation", "crossnobis", "decoding"):
        found = rsa.rdm(both, metric, by=["subject", "region"])
        assert found.neuroid_id.values.tolist()[2:4] == ["P1 | 2", "P2 | 0"]
        assert found.subject.values.tolist() == ["P1"] * 3 + ["P2"] * 3
        alone = rsa.rdm(both[20:], metric, by="region")
        np.testing.assert_allclose(found.values[3:], alone.values, rtol=1e-10)


@pytest.mark.parametrize("metric", ["correlation", "crossnobis", "decoding"])
def test_a_condition_missing_in_a_person_is_missing_there_and_said(rates, metric):
    both = neuro.concat(
        [rates.assign_coords(subject=("presentation", [name] * 20)) for name in ("P1", "P2")], "presentation"
    )
    kept = ~((both.subject.values == "P2") & (both.stimulus_id.values == "b"))
    with pytest.warns(
        UserWarning, match="1 of 2 RDMs lack stimuli altogether, the first 'P2': 4 of their dissim"
    ):
        found = rsa.rdm(both[kept], metric, by="subject")
    with_b = (found.stimulus_a == "b") | (found.stimulus_b == "b")
    np.testing.assert_array_equal(np.isnan(found.values[1]), with_b.values)
    expected = rsa.rdm(rates[rates.stimulus_id.values != "b"], metric)
    np.testing.assert_allclose(found.values[1, ~with_b.values], expected.values[0], rtol=1e-10)
    assert not np.isnan(found.values[0]).any()
    assert rsa.average(found).values[0, 0] == found.values[0, 0]


def test_a_condition_missing_in_a_region_is_missing_there_and_said(rates):
    gap = rates.where((rates.stimulus_id != "c") | (rates.region != 1))
    for metric in ("euclidean", "crossnobis"):
        with pytest.warns(UserWarning, match="1 of 3 RDMs lack stimuli altogether, the first '1'"):
            found = rsa.rdm(gap, metric, by="region")
        known = ~np.isnan(found.values)
        assert known.sum(axis=1).tolist() == [10, 6, 10]
        np.testing.assert_allclose(
            found.values[known], rsa.rdm(rates, metric, by="region").values[known], rtol=1e-9
        )


def test_a_presentation_that_is_missing_altogether_is_left_out(rates):
    gap = rates.where(~((rates.stimulus_id == "c") & (rates.run == 2)))
    for metric in ("euclidean", "crossnobis", "decoding"):
        expected = rsa.rdm(gap[~np.isnan(gap.values[:, 0])], metric)
        np.testing.assert_allclose(rsa.rdm(gap, metric).values, expected.values, rtol=1e-10)


BAD = {
    "single repeat": (
        lambda a: rsa.rdm(a[:5], "ldc"),
        "5 of 5 stimuli occur in one run only, .* metric='ldc' needs",
    ),
    "one stimulus in one run": (lambda a: rsa.rdm(a[:6], "decoding"), "4 of 5 stimuli occur in one run only"),
    "no runs": (
        lambda a: rsa.rdm(a.drop_vars("run"), "decoding"),
        "metric='decoding' needs the coordinate 'run'",
    ),
    "no run here": (
        lambda a: rsa.rdm(a.assign_coords(run=("presentation", [np.nan, *range(19)])), "ldc"),
        "'run' is missing at presentation 0",
    ),
    "no noise": (lambda a: rsa.rdm(a, "ldt"), "metric='ldt' needs noise="),
    "noise of rates": (
        lambda a: rsa.rdm(a, "poisson", noise="residual"),
        "patterns as they are; leave noise= out",
    ),
    "negative": (
        lambda a: rsa.rdm(a.copy(data=a.values - 100), "poisson-cv"),
        "'spikes' has negative values, and metric='poisson-cv'",
    ),
    "empty": (
        lambda a: rsa.rdm(a.copy(data=0 * a.values), "jensen-shannon"),
        "stimulus 'a' is zero over the units of 'spikes'",
    ),
    "prior": (lambda a: rsa.rdm(a, "poisson", prior=(0, 0.1)), "prior=.* must be a positive rate"),
    "no repeats elsewhere": (
        lambda a: rsa.rdm(a[:10], "decoding"),
        "no repeats in the other runs; give noise=",
    ),
    "singular": (
        lambda a: rsa.rdm(a, "decoding", noise=np.ones((12, 12))),
        "12 units is singular; shrink it",
    ),
    "nothing there": (
        lambda a: rsa.rdm(a.where(a.region != 1), by="region"),
        "'1' has no values, all are missing",
    ),
    "partly missing": (lambda a: rsa.rdm(a.where(a.neuroid_id != 3), "ldc"), "20 missing .* unit 3"),
    "constant": (
        lambda a: rsa.rdm(a.copy(data=0 * a.values + 3)),
        "pattern of stimulus 'a' is constant over the 12 units of 'spikes'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(rates, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        call(rates)
    assert "\n" not in str(error.value)


def test_fewer_than_four_conditions_are_refused_for_inference(rates):
    from cerebridge.encoding.rsa.pairs import check_enough

    check_enough(rsa.rdm(rates[:4]), "data")
    with pytest.raises(ValueError, match="data has 3 stimuli; inference needs at least 4"):
        check_enough(rsa.rdm(rates[:3]), "data")
