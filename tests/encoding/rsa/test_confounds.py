"""What low-level models and features carry: simulations in which similarity misleads, and the pictures of objects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, ttest_1samp

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa.pairs import pair_table

N = 40


def labelled(vectors, names, n=N):
    return neuro.assemble(
        vectors, rdm={"neuroid_id": names}, pair=pair_table(np.arange(n)), modality="fmri", units="1"
    )


def of_patterns(patterns, names):
    """RDMs of squared distances."""
    rows, columns = np.triu_indices(patterns[0].shape[0], 1)
    return labelled([((p[rows] - p[columns]) ** 2).sum(1) for p in patterns], names, len(patterns[0]))


def coded(a, b, units_a, units_b, noise=0.0, seed=0):
    """A representation with so many units for each of two features."""
    units = np.column_stack([np.repeat(a[:, None], units_a, 1), np.repeat(b[:, None], units_b, 1)])
    return units + noise * np.random.default_rng(seed).normal(size=units.shape)


def factorial(n=40):
    """Two binary features, independent in every fold of contiguous rows."""
    return np.tile([-1.0, -1.0, 1.0, 1.0], n // 4), np.tile([-1.0, 1.0, -1.0, 1.0], n // 4)


def test_features_share_the_variance_by_their_units_and_are_decoded_alike():
    a, b = factorial()
    found = rsa.share_variance({"a": a, "b": b}, coded(a, b, 9, 1))
    np.testing.assert_allclose(found.share.values, [0.9, 0.1], atol=1e-12)
    np.testing.assert_allclose(found.decoding.values, 1, atol=1e-6)
    np.testing.assert_allclose(found.by_unit.values, [[1] * 9 + [0], [0] * 9 + [1]], atol=1e-12)


def test_categories_count_as_columns():
    a, b = factorial()
    named = {"a": np.where(a > 0, "big", "small"), "b": b}
    np.testing.assert_allclose(
        rsa.share_variance(named, coded(a, b, 9, 1)).share.values, [0.9, 0.1], atol=1e-12
    )


def test_features_that_are_not_there_carry_nothing():
    rng = np.random.default_rng(0)
    units = rng.normal(size=(400, 6))
    found = rsa.share_variance({"other": rng.normal(size=400), "first": units[:, 0]}, units)
    assert -0.02 < found.share.values[0] < 0.005 and found.decoding.values[0] < 0.02
    assert found.share.values[1] == pytest.approx(1 / 6, abs=0.03)


def test_labelled_representations_keep_stimuli_together_and_their_units():
    brain = neuro.simulate(n_stimuli=20, n_units=5, n_repeats=3, random_state=0)
    feature = {"first": brain.values[:, 0]}
    found = rsa.share_variance(feature, brain)
    assert found.by_unit.dims == ("feature", "neuroid")
    assert found.neuroid_id.values.tolist() == brain.neuroid_id.values.tolist()
    assert found.by_unit.values[0, 0] == pytest.approx(1)


def test_a_pair_that_one_model_lacks_is_left_out_before_and_after():
    rng = np.random.default_rng(2)
    models = labelled(rng.random((3, 45)), ["low", "a", "b"], 10)
    data = labelled(rng.random((4, 45)), list("wxyz"), 10)
    lacking = models.copy(deep=True)
    lacking[0, :5] = np.nan
    found = rsa.report_confounds(lacking, data, ["low"], n_resamples=10)
    rest = data.where(np.arange(45) >= 5)
    want = rsa.report_confounds(models, rest, ["low"], n_resamples=10)
    assert found.attrs["missing_pairs"] == 5 and found.equals(want)


def test_similarity_misranks_models_of_the_same_task_and_the_report_shows_it():
    rng = np.random.default_rng(1)
    easy, hard = rng.normal(size=(2, N))
    people = [coded(easy, hard, 9, 2, 0.5, seed) for seed in range(12)]
    other = rng.normal(size=N)
    # the first model computes what the brain does, with other shares of variance; the second lacks a feature
    same_task, lacking = coded(easy, hard, 2, 9), coded(easy, other, 9, 2)
    models = of_patterns([same_task, lacking, easy[:, None]], ["same task", "lacking", "easy"])
    data = of_patterns(people, [f"p{k}" for k in range(12)])
    report = rsa.report_confounds(models, data, lower=["easy"], method="pearson")
    assert report.raw.sel(model="lacking") > report.raw.sel(model="same task")
    assert report.after.sel(model="same task") > report.after.sel(model="lacking") + 0.2
    assert report.carried.sel(model="lacking") > 0.95
    assert report.carried_high.sel(model="same task") < report.carried_low.sel(model="lacking")
    assert report.after_p_fdr.sel(model="same task") < 1e-6
    shares = rsa.share_variance({"easy": easy, "hard": hard}, np.mean(people, axis=0))
    assert shares.share[0] > 3 * shares.share[1]
    assert (shares.decoding > 0.9).all()


def test_values_are_those_of_compare_and_their_tests_those_of_scipy():
    rng = np.random.default_rng(2)
    models, data = labelled(rng.random((3, 780)), list("abc")), labelled(rng.random((5, 780)), list("pqrst"))
    report = rsa.report_confounds(models, data, ["b"], n_resamples=50)
    assert report.model.values.tolist() == ["a", "c"] and report["lower"].values.tolist() == ["b"]
    raw = rsa.compare(models[[0, 2]], data).values
    after = rsa.compare(models[[0, 2]], data, given=models[[1]]).values
    np.testing.assert_allclose(report.raw_by_rdm.values, raw)
    np.testing.assert_allclose(report.after_by_rdm.values, after)
    for name, values in (("raw", raw), ("after", after)):
        test = ttest_1samp(values, 0, axis=1, alternative="greater")
        np.testing.assert_allclose(report[f"{name}_p"].values, test.pvalue)
        ends = ttest_1samp(values, 0, axis=1).confidence_interval()
        np.testing.assert_allclose(report[f"{name}_low"].values, ends.low)
        np.testing.assert_allclose(report[f"{name}_high"].values, ends.high)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    models = labelled(rng.normal(size=(201, 780)), [f"m{k}" for k in range(201)])
    data = labelled(rng.normal(size=(8, 780)), [f"p{k}" for k in range(8)])
    report = rsa.report_confounds(models, data, ["m200"], n_resamples=0)
    outside = (report.after_low > 0) | (report.after_high < 0)
    assert 0.01 < outside.mean().item() < 0.11
    assert (report.after_p < 0.05).mean().item() < 0.1
    assert "carried_low" not in report


def test_one_rdm_has_no_interval():
    rng = np.random.default_rng(4)
    report = rsa.report_confounds(
        labelled(rng.random((2, 780)), list("ab")), labelled(rng.random((1, 780)), ["p"]), "b"
    )
    assert "after_p" not in report and report.attrs["no_interval"].startswith("there is one RDM")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lower": ["x"]}, "lower='x' names no model; there are 'a', 'b', 'c'"),
        ({"lower": []}, r"lower=\[\] names no model"),
        ({"lower": ["a", "b", "c"]}, "all models are low-level"),
        ({"lower": ["a"], "method": "tau-a"}, "method='tau-a' cannot take out models; use 'pearson'"),
        ({"lower": ["a"], "n_resamples": -1}, "n_resamples is -1"),
    ],
)
def test_bad_requests_are_one_sentence(arguments, message):
    rng = np.random.default_rng(5)
    models, data = labelled(rng.random((3, 780)), list("abc")), labelled(rng.random((2, 780)), list("pq"))
    with pytest.raises(ValueError, match=message) as error:
        rsa.report_confounds(models, data, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "features is empty"),
        ({"a": np.ones(40)}, "feature 'a' is constant"),
        ({"a": np.arange(39)}, r"feature 'a' has the shape \(39,\); give one row for each of the 40 samples"),
        ({"a": np.r_[np.nan, np.ones(39)]}, "feature 'a' has missing or infinite values"),
        ({"a": np.full((40, 2), "x")}, "feature 'a' has several columns that are not numbers"),
    ],
)
def test_bad_features_are_one_sentence(features, message):
    with pytest.raises(ValueError, match=message) as error:
        rsa.share_variance(features, np.random.default_rng(0).normal(size=(40, 3)))
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def objects(data):
    folder = data / "objects92"
    people = {"region": "IT", "subject": np.arange(15)}
    models = rsa.read_rdms(folder / "92_modelRDMs.mat")
    # monkeyIT is the monkey's recording itself, not a model
    models = models.isel(rdm=models.neuroid_id.values != "monkeyIT")
    return models, rsa.read_rdms(folder / "cichy2014_92images" / "fmri_IT_RDMs.npz", rdm=people)


LOWER = ["V1", "HMAX", "Silhouette"]


def test_animacy_of_human_it_is_not_low_level(objects):
    models, it = objects
    report = rsa.report_confounds(models, it, LOWER)
    raw, after = report.raw.sel(model="animacy").item(), report.after.sel(model="animacy").item()
    assert after > 0.9 * raw > 0.2
    assert report.after_p_fdr.sel(model="animacy") < 1e-6
    assert report.carried_high.sel(model="animacy") < 0.25
    # by hand: ranks of one person, the low-level models regressed out of both
    ranks = dict(zip(models.neuroid_id.values.tolist(), rankdata(models.values, axis=1), strict=True))
    X = np.column_stack([np.ones(4186), *(ranks[name] for name in LOWER)])
    left = [
        row - X @ np.linalg.lstsq(X, row, rcond=None)[0] for row in (ranks["animacy"], rankdata(it.values[3]))
    ]
    expected = pearsonr(*left).statistic
    assert report.after_by_rdm.sel(model="animacy").values[3] == pytest.approx(expected, abs=1e-10)


def test_categories_share_what_they_explain_of_human_it(objects):
    models, it = objects
    chosen = models.isel(
        rdm=np.isin(models.neuroid_id.values, ["animacy", "FaceBodyManmadeNatobj", "V1", "RADON"])
    )
    parts = rsa.partition_variance(chosen, it).mean("neuroid")
    assert parts.venn.sel(set="animacy+FaceBodyManmadeNatobj").item() > 0.5 * parts.total.item() > 0.02
    unique = dict(zip(parts.band.values.tolist(), parts.unique.values, strict=True))
    assert unique["animacy"] > 3 * unique["V1"] and unique["FaceBodyManmadeNatobj"] > 3 * unique["RADON"]


def test_shuffled_pictures_leave_nothing_to_report(objects):
    models, it = objects
    order = np.random.default_rng(0).permutation(92)
    square = rsa.square(it).values[:, order][:, :, order]
    shuffled = it.copy(data=square[:, *np.triu_indices(92, 1)])
    report = rsa.report_confounds(models, shuffled, LOWER, n_resamples=0)
    assert np.abs(report.after).max() < 0.06
