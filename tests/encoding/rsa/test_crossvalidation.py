"""Models fitted and scored on different stimuli and people: rsatoolbox on the same folds, and simulations."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge.encoding import rsa
from cerebridge.encoding.rsa import crossvalidation, moments
from cerebridge.encoding.rsa import folds as folding
from cerebridge.encoding.rsa.crossvalidation import corrected_covariance, crossvalidate_samples

from .mixed import labelled, mixed

METHODS = {
    "cosine": "cosine",
    "pearson": "corr",
    "whitened-cosine": "cosine_cov",
    "whitened-pearson": "corr_cov",
}
PEERS = {**METHODS, "spearman": "spearman", "rho-a": "rho-a", "tau-a": "tau-a"}


def their_sets(rdms, sample, folds):
    """Our folds as (training, test, ceiling) sets of rsatoolbox, and which part and people each is."""
    sets, which = [], []
    for people_train, people_test in zip(folds.train, folds.test, strict=True):
        train, test = (
            rdms.subsample("index", list(np.repeat(sample.people[here], sample.counts[here])))
            for here in (people_train, people_test)
        )
        for part, (seen, unseen) in enumerate(folds.stimuli):
            sets.append(
                [
                    (rows.subsample_pattern("index", list(stimuli)), list(stimuli))
                    for rows, stimuli in ((train, seen), (test, unseen), (train, unseen))
                ]
            )
            which.append((part, sample.people[people_test]))
    return zip(*sets, strict=True), which


@pytest.mark.parametrize("n_people", [3, 1])
@pytest.mark.parametrize("method", PEERS)
@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
def test_scores_and_ceilings_are_those_of_rsatoolbox_on_the_same_folds(method, n_people):
    toolbox = pytest.importorskip("rsatoolbox")
    inference = pytest.importorskip("rsatoolbox.inference")
    fitter = pytest.importorskip("rsatoolbox.model.fitter")
    bases, data = mixed(n_people=7, noise=5.0)
    models = {
        "fixed": bases[:1],
        "selected": rsa.SelectionModel(bases),
        "free": rsa.WeightedModel(bases, False),
    }
    theirs = [toolbox.model.ModelFixed("f", bases.values[0]), toolbox.model.ModelSelect("s", bases.values)]
    fitters = [fitter.fit_mock, fitter.fit_select]
    if method in METHODS:
        theirs, fitters = (
            [*theirs, toolbox.model.ModelWeighted("w", bases.values)],
            [*fitters, fitter.fit_regress],
        )
    else:
        models.pop("free")
    result = rsa.crossvalidate(models, data, method, subjects=n_people, conditions=3, random_state=5)
    sample = folding.Sample(np.arange(7), np.ones(7, int), np.arange(12))
    folds = folding.draw_folds(np.arange(7), sample, n_people, 3, np.random.default_rng(5))
    rdms = toolbox.rdm.RDMs(data.values, pattern_descriptors={"index": np.arange(12)})
    (train, test, ceiling), which = their_sets(rdms, sample, folds)
    ceiling = ceiling if n_people > 1 else None
    peer = inference.crossval(theirs, rdms, train, test, ceiling, PEERS[method], fitters)
    scores = result.score.values
    ours = [[scores[m, part, people].mean() for part, people in which] for m in range(len(models))]
    np.testing.assert_allclose(ours, peer.evaluations[0], atol=1e-6)
    dataset = result.dataset
    weights = 1 / folds.test.sum(axis=1)[folds.of_person]
    if "whitened" in method:
        return  # the toolbox pools by the plain length there
    bounds = np.mean(peer.noise_ceiling, axis=-1) if n_people == 1 else peer.noise_ceiling
    lower = np.average(dataset["ceiling"].values, weights=weights)
    assert lower == pytest.approx(bounds[0], abs=1e-6)
    if n_people > 1:
        upper = np.average(dataset["ceiling_upper"].values, weights=weights)
        assert upper == pytest.approx(bounds[1], abs=1e-6)


@pytest.mark.parametrize("method", ["cosine", "spearman", "whitened-cosine"])
def test_samples_are_those_of_rsatoolbox_copies_included(method):
    toolbox = pytest.importorskip("rsatoolbox")
    inference = pytest.importorskip("rsatoolbox.inference")
    fitter = pytest.importorskip("rsatoolbox.model.fitter")
    bases, data = mixed(n_people=6, noise=5.0)
    rng = np.random.default_rng(0)
    stimuli = np.bincount(rng.integers(0, 12, 12), minlength=12)
    people = np.array([2, 0, 1, 1, 2, 0])
    found, _ = crossvalidate_samples(
        {"s": rsa.SelectionModel(bases), "fixed": bases[:1]},
        data,
        method,
        people[None],
        stimuli[None],
        subjects=2,
        conditions=2,
        repeats=1,
        random_state=3,
    )
    rdms = toolbox.rdm.RDMs(data.values, pattern_descriptors={"index": np.arange(12)})
    drawn = np.flatnonzero(people)
    sample = folding.Sample(drawn, people[drawn], np.repeat(np.arange(12), stimuli))
    folds = folding.draw_folds(np.arange(6), sample, 2, 2, np.random.default_rng(3))
    (train, test, _), _ = their_sets(rdms, sample, folds)
    theirs = [toolbox.model.ModelSelect("s", bases.values), toolbox.model.ModelFixed("f", bases.values[0])]
    peer = inference.crossval(
        theirs,
        rdms,
        train,
        test,
        method=PEERS[method],
        fitter=[fitter.fit_select, fitter.fit_mock],
        calc_noise_ceil=False,
    )
    np.testing.assert_allclose(found[0, :, 0], peer.evaluations[0].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(("n_people", "n_stimuli"), [(3, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_inner_products_of_all_samples_give_what_one_at_a_time_gives(
    method, n_people, n_stimuli, monkeypatch
):
    bases, data = mixed(n_people=7, n_stimuli=20, noise=5.0)
    data = data.assign_coords(subject=("rdm", list("aabcdef")))
    models = {
        "selected": rsa.SelectionModel(bases),
        "fixed": bases[:1],
        "kept": rsa.WeightedModel(bases),
        "free": rsa.WeightedModel(bases, False),
        "between": rsa.InterpolationModel(bases),
    }
    rng = np.random.default_rng(0)
    counts = (rng.multinomial(n, np.full(n, 1 / n), 9) for n in (7, 20))
    options = {"subjects": n_people, "conditions": n_stimuli, "random_state": 3}
    draws = list(counts)
    found = crossvalidate_samples(models, data, method, *draws, **options)
    monkeypatch.setattr(moments, "CHUNK", 1)
    again = crossvalidate_samples(models, data, method, *draws, **options)
    monkeypatch.setattr(crossvalidation, "is_linear", lambda material: False)
    expected = crossvalidate_samples(models, data, method, *draws, **options)
    for ours, chunked, theirs in zip(found, again, expected, strict=True):
        assert np.isfinite(theirs).any()
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
        np.testing.assert_allclose(chunked, theirs, atol=1e-9)


def test_copies_and_people_are_never_on_both_sides():
    rng = np.random.default_rng(0)
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    people = np.array([0, 1, 3, 4, 6, 7])
    sample = folding.Sample(people, np.array([2, 1, 1, 2, 1, 1]), np.sort(rng.integers(0, 20, 20)))
    folds = folding.draw_folds(groups, sample, 2, 3, rng)
    for train, test in zip(folds.train, folds.test, strict=True):
        assert (train != test).all()
        assert not set(groups[people[train]]) & set(groups[people[test]])
    for train, test in folds.stimuli:
        assert not set(train) & set(test)
        assert len(train) + len(test) == 20
    assert sorted(np.concatenate([test for _, test in folds.stimuli])) == sample.stimuli.tolist()
    assert folds.test.sum() == 6


def test_nothing_is_learned_from_noise_however_many_weights():
    rng = np.random.default_rng(0)
    test, training = [], []
    for seed in range(12):
        bases = labelled(rng.random((40, 190)))
        data = labelled(rng.random((4, 190)))
        result = rsa.crossvalidate(
            {"many": rsa.WeightedModel(bases, nonnegative=False)},
            data,
            "pearson",
            subjects=2,
            conditions=2,
            random_state=seed,
        )
        test.append(float(result.score.mean()))
        training.append(float(result.dataset["training_score"].mean()))
    assert np.mean(training) > 0.5
    assert abs(np.mean(test)) < 4 * np.std(test) / 12**0.5 and abs(np.mean(test)) < 0.1


def test_the_test_part_has_no_influence_on_what_is_fitted():
    bases, data = mixed(n_people=6, n_stimuli=12, noise=4.0)
    model = {"m": rsa.WeightedModel(bases, False)}
    material = folding.gather(model, data, "cosine")
    sample = material.everything
    folds = folding.draw_folds(material.groups, sample, 2, 2, np.random.default_rng(0))
    pool = folding.pooled(material, sample)
    before = folding.evaluate(material, sample, folds, 0, pool, training=True)[-1]
    seen = folds.stimuli[0][0]
    changed = material.data.numpy() + np.random.default_rng(1).random((6, 66))
    for row, person in enumerate(folds.train[0]):
        if person:
            pairs = material.index[np.ix_(seen, seen)][np.triu_indices(len(seen), 1)]
            changed[row, pairs] = material.data.numpy()[row, pairs]
    other = folding.gather(model, data.copy(data=changed), "cosine")
    after = folding.evaluate(other, sample, folds, 0, pool, training=True)[-1]
    of_first = folds.test[0]
    np.testing.assert_array_equal(after[of_first], before[of_first])
    assert (after[~of_first] != before[~of_first]).all()


def test_a_true_mixture_reaches_the_ceiling_and_a_wrong_one_does_not():
    bases, data = mixed(n_people=10, n_stimuli=24, noise=2.0)
    wrong = labelled(np.random.default_rng(9).random((3, 276)))
    models = {"true": rsa.WeightedModel(bases), "part": bases[2:3], "wrong": rsa.WeightedModel(wrong)}
    result = rsa.crossvalidate(models, data, "pearson", repeats=2)
    true, part, wrong = result.score.mean(("split", "unit")).values
    ceiling = float(result.dataset["ceiling"].mean())
    assert true > ceiling - 0.05 and true > part > abs(wrong)
    assert result.score.sizes == {"model": 3, "split": 8, "unit": 10}
    assert result.dataset["repeat"].values.tolist() == [0] * 4 + [1] * 4
    assert (result.dataset["ceiling"] <= result.dataset["ceiling_upper"]).all()


def test_order_of_stimuli_and_sessions_of_a_person():
    bases, data = mixed(n_people=6, noise=3.0)
    expected = rsa.crossvalidate({"m": rsa.WeightedModel(bases)}, data, random_state=2)
    moved = bases.isel(pair=np.random.default_rng(1).permutation(66))
    found = rsa.crossvalidate({"m": rsa.WeightedModel(moved)}, data, random_state=2)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-12)
    sessions = data.assign_coords(subject=("rdm", list("aabbcc")))
    result = rsa.crossvalidate({"m": bases[:1]}, sessions, subjects=3)
    assert "over 3 people" in result.audit["fitted_on"]
    assert result.audit["overlap"] == "none" and result.audit["fixed_models"] == ["m"]
    with pytest.raises(ValueError, match="there are 3 people for 4 folds; use at most subjects=3"):
        rsa.crossvalidate({"m": bases[:1]}, sessions, subjects=4)


def test_missing_pairs_are_left_out_of_fit_and_score():
    bases, data = mixed(n_people=4, n_stimuli=14, noise=3.0)
    gap = data.copy()
    gap.values[1, :5] = np.nan
    wild = gap.copy()
    found = rsa.crossvalidate({"m": rsa.WeightedModel(bases), "f": bases[:1]}, gap, "whitened-cosine")
    assert np.isfinite(found.score).all() and found.audit["missing_pairs"] == 5
    full = rsa.crossvalidate({"f": bases[:1]}, data, "whitened-cosine").score.values[0]
    np.testing.assert_allclose(found.score.values[1][:, [0, 2, 3]], full[:, [0, 2, 3]], atol=1e-12)
    assert not np.allclose(found.score.values[1][:, 1], full[:, 1])
    assert wild.isnull().sum() == 5


def test_samples_without_resampling_are_the_crossvalidation_itself():
    bases, data = mixed(n_people=6, noise=3.0)
    models = {"m": rsa.WeightedModel(bases), "f": bases[:1]}
    expected = rsa.crossvalidate(models, data, subjects=2, conditions=2, random_state=4)
    once = np.ones((1, 6), int), np.ones((1, 12), int)
    options = {"subjects": 2, "conditions": 2, "repeats": 1, "random_state": 4}
    found, ceilings = crossvalidate_samples(models, data, "cosine", *once, **options)
    np.testing.assert_allclose(found[0, :, 0], expected.score.mean(("split", "unit")), atol=1e-12)
    np.testing.assert_allclose(ceilings[0, 0, 0], expected.dataset["ceiling"].mean(), atol=1e-12)
    few = once[0], np.eye(1, 12, dtype=int) * 12
    assert np.isnan(crossvalidate_samples(models, data, "cosine", *few, **options)[0]).all()


def test_the_correction_takes_out_what_folds_add():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((20_000, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    values = truth[..., None] + 2 * rng.standard_normal((20_000, 2, 3))
    expected = np.array([[1.0, 0.5], [0.5, 1.25]])
    np.testing.assert_allclose(corrected_covariance(values), expected, atol=0.1)
    assert np.cov(values.mean(-1), rowvar=False)[0, 0] > 2
    with pytest.raises(ValueError, match="there are 1 repeats of the folds"):
        corrected_covariance(values[..., :1])


def test_bad_input_is_one_sentence():
    bases, data = mixed()
    other = labelled(bases.values, stimuli=range(12))
    odd = labelled((np.triu_indices(12, 1)[0] == 0)[None] * 1.0)
    for call, message in [
        (lambda: rsa.crossvalidate({}, data), "models is empty"),
        (lambda: rsa.crossvalidate({"b": bases}, data), "model 'b' has 4 RDMs; wrap them in a WeightedModel"),
        (lambda: rsa.crossvalidate({"b": other[:1]}, data), "model 'b' has no dissimilarities of 12"),
        (lambda: rsa.crossvalidate(bases, data, subjects=9), "5 people for 9 folds"),
        (lambda: rsa.crossvalidate(bases, data, conditions=5), "12 stimuli for 5 folds of at least 3"),
        (lambda: rsa.crossvalidate(bases, data, repeats=0), "repeats must be a whole number from 1"),
        (lambda: rsa.crossvalidate(bases, data, "riemannian"), "cannot be fitted by method='riemannian'"),
        (
            lambda: rsa.crossvalidate({"b": odd}, data, "pearson", conditions=4),
            "similarity of model 'b' to 's.' is undefined on 3 test stimuli",
        ),
        (
            lambda: rsa.crossvalidate({"w": rsa.InterpolationModel(bases[:1])}, data),
            "model 'w' has 1 RDM; InterpolationModel needs at least 2",
        ),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="models is a list; give a mapping of name to RDM or model"):
        rsa.crossvalidate([bases], data)
