"""Noise ceilings and tests of model RDMs, against rsatoolbox and against loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import squareform
from scipy.stats import kstest, spearmanr

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.results import Result
from cerebridge.encoding.rsa import permutation
from cerebridge.encoding.rsa.pairs import pair_table

METHODS = {
    "pearson": "corr",
    "spearman": "spearman",
    "cosine": "cosine",
    "tau-a": "tau-a",
    "tau-b": "tau-b",
    "rho-a": "rho-a",
    "whitened-pearson": "corr_cov",
    "whitened-cosine": "cosine_cov",
}


def labelled(vectors, ids=None, stimuli=None, **rdm):
    n = (1 + int((1 + 8 * len(vectors[0])) ** 0.5)) // 2
    ids = [f"s{k}" for k in range(len(vectors))] if ids is None else ids
    stimuli = np.array([f"i{k:02d}" for k in range(n)] if stimuli is None else stimuli)
    return neuro.assemble(
        vectors, rdm={"neuroid_id": ids, **rdm}, pair=pair_table(stimuli), modality="fmri", units="1"
    )


def people(n_people=6, n_stimuli=12, noise=1.0, seed=0):
    """A true RDM, and those of people who see it through noise."""
    rng = np.random.default_rng(seed)
    truth = rng.random((1, n_stimuli * (n_stimuli - 1) // 2))
    return labelled(truth, ["truth"]), labelled(
        truth + noise * rng.random((n_people, truth.size)), subject=range(n_people)
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
def test_ceilings_agree_with_rsatoolbox(method, tied):
    peer = pytest.importorskip("rsatoolbox")
    their_ceiling = pytest.importorskip("rsatoolbox.inference.noise_ceiling").boot_noise_ceiling
    _, data = people()
    if tied:
        data = data.copy(data=np.round(4 * data.values))
    lower, upper = their_ceiling(peer.rdm.RDMs(data.values), METHODS[method])
    found = rsa.noise_ceiling(data, method)
    assert found.lower == pytest.approx(lower, abs=1e-10)
    assert found.upper == pytest.approx(upper, abs=1e-10)


def test_plain_means_are_the_other_way_to_pool():
    _, data = people()
    found = rsa.noise_ceiling(data, "spearman", ceiling="mean")
    rows = data.values
    lower = [spearmanr(row, np.delete(rows, k, axis=0).mean(axis=0)).statistic for k, row in enumerate(rows)]
    upper = [spearmanr(row, rows.mean(axis=0)).statistic for row in rows]
    np.testing.assert_allclose(found.by_rdm["lower"], lower, atol=1e-12)
    np.testing.assert_allclose(found.by_rdm["upper"], upper, atol=1e-12)
    assert found.by_rdm.subject.values.tolist() == list(range(6))
    assert (found.lower, found.upper) == (pytest.approx(np.mean(lower)), pytest.approx(np.mean(upper)))


@pytest.mark.parametrize("ceiling", ["rank", "mean"])
def test_the_true_model_lies_between_the_ceilings(ceiling):
    found, reached = [], []
    for seed in range(20):
        truth, data = people(n_people=10, noise=2.0, seed=seed)
        bounds = rsa.noise_ceiling(data, "rho-a", ceiling)
        found.append((bounds.lower, bounds.upper))
        reached.append(float(rsa.compare(truth, data, "rho-a").mean()))
    lower, upper = np.mean(found, axis=0)
    assert lower < np.mean(reached) < upper


def test_people_who_share_nothing_have_no_lower_ceiling():
    rng = np.random.default_rng(0)
    lower = [rsa.noise_ceiling(labelled(rng.random((5, 45)))).lower for _ in range(40)]
    assert abs(np.mean(lower)) < 4 * np.std(lower) / 40**0.5


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_comparisons_with_labels_and_ceilings(method):
    truth, data = people()
    wrong = labelled(np.random.default_rng(9).random((1, 66)), ["wrong"])
    result = rsa.infer({"true": truth, "wrong": wrong}, data, method)
    assert isinstance(result, Result)
    dataset = result.dataset
    assert dataset["score"].dims == ("model", "split", "unit")
    np.testing.assert_allclose(
        result.score.sel(model="true").values[0], rsa.compare(truth, data, method).values[0]
    )
    bounds = rsa.noise_ceiling(data, method).by_rdm
    np.testing.assert_allclose(dataset["ceiling"].values, bounds["lower"].values)
    np.testing.assert_allclose(dataset["ceiling_upper"].values, bounds["upper"].values)
    np.testing.assert_allclose(dataset["normalised"].values, dataset["score"].values / bounds["lower"].values)
    assert dataset.subject.values.tolist() == list(range(6))
    assert dataset.attrs["unit_kind"] == "rdm" and dataset.attrs["scoring"] == method
    assert "p" not in dataset
    assert result.summary()["score"].iloc[0] > result.summary()["score"].iloc[1]


def test_models_may_be_one_array_and_in_another_order(tmp_path):
    truth, data = people()
    models = labelled(np.concatenate([truth.values, data.values[:1]]), ["truth", "person"])
    order = np.random.default_rng(0).permutation(66)
    result = rsa.infer(models.isel(pair=order), data, permutations=20, random_state=1)
    assert result.score.model.values.tolist() == ["truth", "person"]
    same = rsa.infer(models, data, permutations=20, random_state=1)
    for name in ("score", "p", "p_fdr", "p_max", "p_group"):
        np.testing.assert_allclose(result.dataset[name].values, same.dataset[name].values)
    assert result.audit["models_among_data"] == ["person"]
    result.save(tmp_path / "result.nc")
    back = Result.load(tmp_path / "result.nc")
    np.testing.assert_array_equal(back.score.values, result.score.values)
    assert back.provenance["random_state"] == 1


@pytest.mark.parametrize("method", [*METHODS, "bures"])
def test_permutation_moves_rows_and_columns_of_the_models(method, monkeypatch):
    truth, data = people(n_people=3)
    tied = labelled(np.round(3 * truth.values), ["tied"])
    models = {"truth": truth, "tied": tied}
    rng = np.random.default_rng(5)
    orders = rng.permuted(np.tile(np.arange(12), (30, 1)), axis=1)
    null = np.empty((30, 2, 3))
    for k, order in enumerate(orders):
        for m, model in enumerate(models.values()):
            moved = squareform(squareform(model.values[0])[np.ix_(order, order)])
            null[k, m] = rsa.compare(moved, data.values, method)
    result = rsa.infer(models, data, method, permutations=30, random_state=5)
    score = result.score.values[:, 0]
    np.testing.assert_array_equal(result.dataset["p"].values, (1 + (null >= score).sum(axis=0)) / 31)
    largest = null.max(axis=2)[..., None]
    np.testing.assert_array_equal(result.dataset["p_max"].values, (1 + (largest >= score).sum(axis=0)) / 31)
    group = (1 + (null.mean(axis=2) >= score.mean(axis=1)).sum(axis=0)) / 31
    np.testing.assert_array_equal(result.dataset["p_group"].values, group)
    monkeypatch.setattr(permutation, "CHUNK", 500)
    again = rsa.infer(models, data, method, permutations=30, random_state=5)
    np.testing.assert_array_equal(again.dataset["p"].values, result.dataset["p"].values)


def test_a_true_model_is_found():
    truth, data = people(noise=3.0)
    result = rsa.infer({"true": truth}, data, permutations=200, random_state=0)
    assert result.dataset["p_group"].item() == 1 / 201


def test_p_values_of_unrelated_models_are_uniform():
    rng = np.random.default_rng(0)
    models = labelled(rng.random((150, 66)))
    data = labelled(rng.random((1, 66)), ["only"])
    result = rsa.infer(models, data, permutations=199, random_state=0)
    assert kstest(result.dataset["p"].values.ravel(), "uniform").pvalue > 0.001
    assert "ceiling" not in result.dataset
    assert "one RDM" in result.dataset.attrs["no_ceiling"]


def test_bad_input_is_one_sentence():
    truth, data = people()
    other = labelled(truth.values, ["truth"], stimuli=range(12))
    for call, message in [
        (lambda: rsa.noise_ceiling(truth), "at least two people"),
        (
            lambda: rsa.noise_ceiling(data, ceiling="median"),
            "ceiling='median' is unknown; use 'rank' or 'mean'",
        ),
        (lambda: rsa.noise_ceiling(data, "kendall"), "method='kendall' is unknown"),
        (lambda: rsa.infer({}, data), "models is empty"),
        (lambda: rsa.infer({"m": truth}, data, permutations=-5), "permutations is -5; give how many"),
        (lambda: rsa.infer({"m": truth}, truth, ceiling="median"), "ceiling='median' is unknown"),
        (lambda: rsa.infer({"two": data}, data), "models\\['two'\\] has 6 RDMs; give one a name"),
        (lambda: rsa.infer({"other": other}, data), "12 only in data .* and 12 only in models\\['other'\\]"),
        (
            lambda: rsa.infer({"flat": truth.copy(data=np.ones_like(truth))}, data, "spearman"),
            "RDM 'flat' of models is constant",
        ),
        (
            lambda: rsa.infer({"gap": truth[:, 1:]}, data[:, 1:], permutations=5),
            "no dissimilarity of 'i00' and 'i01'",
        ),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="models is a list; give a mapping of name to RDM"):
        rsa.infer([truth], data)


def test_people_may_be_a_list_of_arrays_whatever_their_order_of_stimuli():
    brains = [neuro.simulate(n_stimuli=8, n_units=20, random_state=k) for k in range(3)]
    people = [rsa.rdm(brain) for brain in brains]
    turned = [people[0], rsa.rdm(brains[1].isel(presentation=slice(None, None, -1))), people[2]]
    model = {"first": people[0]}
    found = rsa.infer(model, turned, "spearman").score.values.ravel()
    expected = [rsa.compare(people[0], person).item() for person in people]
    np.testing.assert_allclose(found, expected)
    assert rsa.noise_ceiling(turned).lower == pytest.approx(rsa.noise_ceiling(people).lower)
    assert rsa.crossvalidate(model, turned, "cosine").score.sizes["unit"] == 3
    with pytest.raises(ValueError, match="data is an empty list"):
        rsa.infer(model, [])
    with pytest.raises(ValueError, match=r"the RDMs have different stimuli.*data\[1\]"):
        rsa.infer(model, [people[0], rsa.rdm(neuro.simulate(n_stimuli=9, n_units=5, random_state=0))])
