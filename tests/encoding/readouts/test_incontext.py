"""In-context encoding: as good as the Bayes estimate where the prior is known, and an encoder like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from cerebridge import encoding
from cerebridge.encoding import readouts

TINY = {"width": 16, "layers": 1, "heads": 2, "feedforward": 16, "context": (4, 8), "queries": 8}
PRIOR, NOISE = np.array([1, 0.02, 0.02, 0.02]), 0.5


def subject(images, voxels, random_state):
    """Embeddings, responses, and responses without noise; weights are drawn from the prior."""
    rng = np.random.default_rng(random_state)
    embeddings = rng.standard_normal((images, 4))
    signal = embeddings @ (rng.standard_normal((4, voxels)) * np.sqrt(PRIOR)[:, None])
    return embeddings, signal + NOISE * rng.standard_normal(signal.shape), signal


@pytest.fixture(scope="module")
def trained():
    """Meta-trained for an epoch: knows how, not well."""
    encoder = readouts.InContextEncoder(**TINY, max_epochs=(0, 0, 1), random_state=0)
    return encoder.meta_fit([subject(40, 32, 0)[:2], subject(50, 32, 1)[:2]])


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
    ],
)
def test_the_checks_of_scikit_learn_that_need_no_fit(check):
    # the others fit tables at once, which needs meta-training first
    estimator = readouts.InContextEncoder(**TINY)
    check(type(estimator).__name__, estimator)


@pytest.mark.slow
def test_a_few_examples_are_worth_what_the_prior_makes_them_worth():
    encoder = readouts.InContextEncoder(
        32,
        2,
        4,
        64,
        dropout=0.0,
        context=(6, 12),
        queries=48,
        max_epochs=(0, 0, 40),
        batch_size=128,
        learning_rate=3e-3,
        weight_decay=0.01,
        standardise=False,
    )
    encoder.meta_fit([subject(400, 1600, seed)[:2] for seed in range(4)])
    embeddings, responses, signal = subject(200, 1000, 9)
    isotropic = (0.3, 0.5, 1, 2, 3)
    errors = {name: [] for name in ("network", "bayes", "mismatched", *isotropic)}

    def score(name, weights, rest, intercept=0.0):
        errors[name].append(np.mean((embeddings[rest] @ weights + intercept - signal[rest]) ** 2))

    for draw in range(10):
        shown, rest = np.split(np.random.default_rng(draw).permutation(200), [8])
        gram, moment = embeddings[shown].T @ embeddings[shown], embeddings[shown].T @ responses[shown]
        score("bayes", np.linalg.solve(gram + NOISE**2 * np.diag(1 / PRIOR), moment), rest)
        for alpha in isotropic:
            score(alpha, np.linalg.solve(gram + alpha * np.eye(4), moment), rest)
        encoder.fit(embeddings[shown], responses[shown])
        score("network", encoder.coef_.T, rest, encoder.intercept_)
        in_order = encoder.coef_
        encoder.fit(embeddings[shown[::-1]], responses[shown[::-1]])
        np.testing.assert_allclose(encoder.coef_, in_order, atol=1e-5)
        encoder.fit(embeddings[shown], responses[np.roll(shown, 1)])
        score("mismatched", encoder.coef_.T, rest, encoder.intercept_)
    mean = {name: np.mean(values) for name, values in errors.items()}
    assert mean["network"] < 1.15 * mean["bayes"]
    assert mean["network"] < 0.7 * min(mean[alpha] for alpha in isotropic)
    assert mean["mismatched"] > 0.5 * np.mean(signal**2)


def test_fitting_takes_no_step_and_the_order_of_examples_does_not_matter(trained):
    embeddings, responses, _ = subject(8, 5, 3)
    before = {name: value.copy() for name, value in trained.meta_weights_.items()}
    coef = trained.fit(embeddings, responses).coef_
    assert coef.shape == (5, 4)
    np.testing.assert_allclose(trained.fit(embeddings[::-1], responses[::-1]).coef_, coef, atol=1e-5)
    for name, value in trained.meta_weights_.items():
        np.testing.assert_array_equal(value, before[name])


def test_a_voxel_alone_and_in_blocks_gets_the_same_weights(trained):
    embeddings, responses, _ = subject(8, 5, 3)
    together = trained.fit(embeddings, responses).coef_
    in_blocks = clone(trained).set_params(batch_size=2).fit(embeddings, responses).coef_
    alone = clone(trained).fit(embeddings, responses[:, 1])
    np.testing.assert_allclose(in_blocks, together, atol=1e-6)
    np.testing.assert_allclose(alone.coef_, together[1], atol=1e-6)
    assert alone.predict(embeddings).shape == (8,)


def test_standardised_weights_follow_the_units_of_responses(trained):
    embeddings, responses, _ = subject(8, 5, 3)
    plain = trained.fit(embeddings, responses).predict(embeddings)
    scaled = trained.fit(7 * embeddings, 100 + 3 * responses).predict(7 * embeddings)
    np.testing.assert_allclose(scaled, 100 + 3 * plain, rtol=1e-4)


def test_it_runs_through_evaluate_and_clones_keep_what_meta_training_taught(trained):
    embeddings, responses, _ = subject(40, 5, 3)
    copy = clone(trained)
    assert copy.meta_weights_ is trained.meta_weights_
    assert not hasattr(copy, "coef_")
    result = encoding.evaluate(trained, embeddings, responses, cv=2, permutations=3)
    assert result.dataset["score"].shape == (1, 2, 5)


@pytest.mark.parametrize("kind", ["numpy", "torch", "xarray"])
def test_every_kind_of_array_comes_back_as_it_was(trained, kind):
    embeddings, responses, _ = subject(8, 3, 3)
    X, Y = embeddings.astype(np.float32), responses.astype(np.float32)
    expected = clone(trained).fit(X, Y).predict(X)
    assert expected.dtype == np.float32
    if kind == "torch":
        X, Y = torch.from_numpy(X), torch.from_numpy(Y)
    if kind == "xarray":
        ids = {"neuroid_id": ("neuroid", ["a", "b", "c"])}
        X, Y = (
            xr.DataArray(X, dims=("presentation", "feature")),
            xr.DataArray(Y, ids, ("presentation", "neuroid")),
        )
    predicted = clone(trained).fit(X, Y).predict(X)
    assert type(predicted) is type(X)
    np.testing.assert_allclose(np.asarray(predicted), expected, atol=1e-6)


def test_a_query_tells_the_response_of_every_voxel(trained):
    embeddings, responses, _ = subject(8, 3, 3)
    ids = {"neuroid_id": ("neuroid", ["a", "b", "c"])}
    trained.fit(embeddings, xr.DataArray(responses, ids, ("presentation", "neuroid")))
    answer = trained.query(embeddings[:2], ["a face", "a house"])
    assert answer.dims == ("query", "neuroid")
    np.testing.assert_allclose(answer.values, trained.predict(embeddings[:2]))
    assert float(answer.sel(query="a face")[1]) == pytest.approx(float(trained.predict(embeddings[:1])[0, 1]))
    assert answer["neuroid_id"].values.tolist() == ["a", "b", "c"]
    assert trained.query(embeddings[0]).shape == (1, 3)
    with pytest.raises(ValueError, match="2 embeddings and 1 labels"):
        trained.query(embeddings[:2], ["a face"])


def test_meta_training_is_deterministic_resumes_and_refuses_other_networks(tmp_path):
    people = [subject(40, 64, 0)[:2]]
    encoder = readouts.InContextEncoder(**TINY, max_epochs=(1, 1, 2))
    first, again = (clone(encoder).meta_fit(people) for _ in range(2))
    other = clone(encoder).set_params(random_state=1).meta_fit(people)
    assert first.meta_history_["stage"].tolist() == ["short", "long", "recorded", "recorded"]
    resumed = clone(encoder).set_params(checkpoint=tmp_path, max_epochs=(1, 1, 1)).meta_fit(people)
    resumed = clone(resumed).set_params(max_epochs=(1, 1, 2)).meta_fit(people)
    for name, value in first.meta_weights_.items():
        np.testing.assert_array_equal(again.meta_weights_[name], value)
        np.testing.assert_array_equal(resumed.meta_weights_[name], value)
    assert any((other.meta_weights_[name] != value).any() for name, value in first.meta_weights_.items())
    with pytest.raises(ValueError, match="checkpoint"):
        clone(encoder).set_params(checkpoint=tmp_path, feedforward=8).meta_fit(people)


def test_subjects_that_are_held_out_choose_the_epoch():
    people = [subject(40, 32, seed)[:2] for seed in range(2)]
    encoder = readouts.InContextEncoder(**TINY, max_epochs=(0, 0, 1))
    within, across = clone(encoder).meta_fit(people[:1]), clone(encoder).meta_fit(people[:1], people[1:])
    assert within.meta_history_["score"][0] != across.meta_history_["score"][0]


def test_it_is_saved_without_pickle_before_and_after_fit(trained, tmp_path):
    embeddings, responses, _ = subject(8, 3, 3)
    encoding.save(tmp_path / "meta.skops", clone(trained))
    loaded = encoding.load(tmp_path / "meta.skops").fit(embeddings, responses)
    np.testing.assert_array_equal(loaded.coef_, trained.fit(embeddings, responses).coef_)
    encoding.save(tmp_path / "fitted.skops", loaded)
    again = encoding.load(tmp_path / "fitted.skops")
    np.testing.assert_array_equal(again.predict(embeddings), loaded.predict(embeddings))


def test_what_cannot_be_fitted_is_named(trained):
    embeddings, responses, _ = subject(8, 3, 3)
    with pytest.raises(NotFittedError, match="call meta_fit before fit"):
        readouts.InContextEncoder(**TINY).fit(embeddings, responses)
    with pytest.raises(ValueError, match="have 3 values, but the network was meta-trained on 4"):
        clone(trained).fit(embeddings[:, :3], responses)
    with pytest.raises(ValueError, match="width is 32, but the network was meta-trained with 16"):
        clone(trained).set_params(width=32).fit(embeddings, responses)
    with pytest.raises(ValueError, match="8 samples and y has 7"):
        clone(trained).fit(embeddings, responses[:7])
    with pytest.raises(NotFittedError):
        clone(trained).predict(embeddings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "width=16 is no multiple of heads=3"),
        ({"layers": 0}, "layers must be a whole number"),
        ({"context": (8, 4)}, "fewest and the most examples"),
        ({"max_epochs": (0, 0, 0)}, "must be three numbers"),
        ({"validation": 1.0}, "between 0 and 1"),
        ({"queries": 40}, "subject 0 has 40 images, and 8 examples with 40 queries need 48"),
    ],
)
def test_wrong_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        readouts.InContextEncoder(**TINY | options).meta_fit([subject(40, 8, 0)[:2]])


def test_wrong_subjects_are_named():
    encoder = readouts.InContextEncoder(**TINY)
    good = subject(40, 8, 0)[:2]
    with pytest.raises(ValueError, match="no subjects to learn from"):
        encoder.meta_fit([])
    with pytest.raises(ValueError, match="subject 1: the embeddings have 3 values"):
        encoder.meta_fit([good, (good[0][:, :3], good[1])])
    with pytest.raises(ValueError, match="subject 1: Input y contains NaN"):
        encoder.meta_fit([good, (good[0], np.where(good[1] > 1, np.nan, good[1]))])
    with pytest.raises(ValueError, match="subject 0 has a single voxel"):
        encoder.meta_fit([(good[0], good[1][:, :1])])
