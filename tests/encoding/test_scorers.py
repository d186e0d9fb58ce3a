"""Scores of class labels against scikit-learn, and what they do where a class is missing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, mean_poisson_deviance, roc_auc_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from cerebridge import encoding
from cerebridge.encoding.scorers import SCORERS, score_units

RNG = np.random.default_rng(0)
LABELS = np.tile(list("abcd"), 20)
VALUES = RNG.standard_normal((80, 4)) + np.eye(4)[np.tile(np.arange(4), 20)]
FOLD = [(np.arange(60), np.arange(60, 80))]


def score(classifier, labels, scoring, cv=FOLD, **kwargs):
    return encoding.evaluate(classifier, VALUES, labels, scoring=scoring, cv=cv, control=False, **kwargs)


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(),
        KNeighborsClassifier(),
        LinearSVC(),
        SVC(),
        RidgeClassifier(),
        DecisionTreeClassifier(),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_roc_auc_of_many_classes(classifier):
    found = score(classifier, LABELS, "roc_auc").score.item()
    fitted = classifier.fit(VALUES[:60], LABELS[:60])
    respond = getattr(fitted, "decision_function", None) or fitted.predict_proba
    truth = LABELS[60:, None] == np.array(list("abcd"))
    assert found == pytest.approx(roc_auc_score(truth, respond(VALUES[60:])), abs=0.02)


def test_roc_auc_of_probabilities_is_scikit_learns():
    found = score(KNeighborsClassifier(), LABELS, "roc_auc").score.item()
    probabilities = KNeighborsClassifier().fit(VALUES[:60], LABELS[:60]).predict_proba(VALUES[60:])
    assert found == pytest.approx(roc_auc_score(LABELS[60:], probabilities, multi_class="ovr"))


def test_two_classes_of_any_kind():
    for labels in (LABELS < "c", np.where(LABELS < "c", 1, 2), np.where(LABELS < "c", "x", "y")):
        found = score(LinearDiscriminantAnalysis(), labels, "roc_auc").score.item()
        fitted = LinearDiscriminantAnalysis().fit(VALUES[:60], labels[:60])
        truth = labels[60:] == fitted.classes_[1]
        assert found == pytest.approx(roc_auc_score(truth, fitted.decision_function(VALUES[60:])))


def test_balanced_accuracy_is_scikit_learns():
    labels = np.where(LABELS == "a", "a", "b")
    result = score(LinearDiscriminantAnalysis(), labels, "balanced_accuracy")
    predicted = LinearDiscriminantAnalysis().fit(VALUES[:60], labels[:60]).predict(VALUES[60:])
    assert result.score.item() == pytest.approx(balanced_accuracy_score(labels[60:], predicted))
    assert result.dataset.attrs["chance"] == 0.5


def test_classes_that_are_not_tested_are_left_out_of_roc_auc():
    tested = np.flatnonzero(LABELS[60:] != "d") + 60
    found = score(KNeighborsClassifier(), LABELS, "roc_auc", [(np.arange(60), tested)]).score.item()
    probabilities = KNeighborsClassifier().fit(VALUES[:60], LABELS[:60]).predict_proba(VALUES[tested])
    expected = [roc_auc_score(LABELS[tested] == name, probabilities[:, k]) for k, name in enumerate("abc")]
    assert found == pytest.approx(np.mean(expected))


def test_a_fold_with_one_class_has_no_roc_auc_and_says_so():
    labels = np.array(["a", "b"] * 30 + ["a"] * 20)
    folds = [(np.arange(20, 80), np.arange(20)), *FOLD]
    with pytest.warns(UserWarning, match=r"first 'classifier'\) do not vary in the test rows of some folds"):
        result = score(LinearDiscriminantAnalysis(), labels, "roc_auc", folds)
    assert np.isfinite(result.score.values).ravel().tolist() == [True, False]
    with pytest.raises(ValueError, match="no unit has a score, because roc_auc is undefined in every fold"):
        score(LinearDiscriminantAnalysis(), labels, "roc_auc", FOLD)


def test_a_class_that_was_not_there_to_be_learned_is_named():
    labels = np.array(["a", "b"] * 30 + ["c", "b"] * 10)
    with pytest.warns(UserWarning, match="class 'c' is tested but not among the training rows of fold 0"):
        result = score(LinearDiscriminantAnalysis(), labels, "accuracy")
    assert result.score.item() <= 0.5
    with pytest.raises(ValueError, match="the training rows of fold 0 are all of class 'b'"):
        score(LinearDiscriminantAnalysis(), np.array(["b"] * 60 + ["a"] * 20), "accuracy")


def test_a_classifier_that_only_names_classes_has_no_roc_auc():
    class Namer(DecisionTreeClassifier):
        predict_proba = None

    with pytest.raises(
        ValueError, match="Namer only names classes; scoring='roc_auc' needs decision_function"
    ):
        score(Namer(), LABELS, "roc_auc")


def test_counts_are_scored_against_the_mean_rate_of_the_training_rows():
    rates = np.exp(0.5 * VALUES[:, :2])
    counts = np.random.default_rng(1).poisson(rates).astype(float)
    model = MultiOutputRegressor(PoissonRegressor(alpha=0.1))
    result = encoding.evaluate(model, VALUES, counts, scoring="pseudo_r2", cv=FOLD, permutations=19)
    predicted = model.fit(VALUES[:60], counts[:60]).predict(VALUES[60:])
    for unit in range(2):
        null = np.full(20, counts[:60, unit].mean())
        explained = 1 - mean_poisson_deviance(counts[60:, unit], predicted[:, unit]) / mean_poisson_deviance(
            counts[60:, unit], null
        )
        assert result.score.values[0, 0, unit] == pytest.approx(explained)
    assert (result.dataset["p"] <= 0.1).all()
    assert result.dataset.attrs["chance"] == 0
    plain = encoding.evaluate(
        model, VALUES, counts, scoring="neg_mean_poisson_deviance", cv=FOLD, control=False
    )
    assert plain.score.values[0, 0, 0] == pytest.approx(
        -mean_poisson_deviance(counts[60:, 0], predicted[:, 0])
    )
    with pytest.raises(ValueError, match="use counts, and an estimator that predicts rates"):
        encoding.evaluate(LinearRegression(), VALUES, counts, scoring="pseudo_r2", cv=FOLD)


def test_missing_counts_are_left_out_of_the_mean_rate_too():
    counts = np.random.default_rng(1).poisson(2.0, (80, 2)).astype(float)
    holes = counts.copy()
    holes[::3, 1] = np.nan
    training, null = SCORERS["pseudo_r2"].null, SCORERS["pseudo_r2"].null(holes[:60])
    np.testing.assert_allclose(null, [training(counts[:60, :1])[0], np.nanmean(holes[:60, 1])])
    rate = np.full((20, 2), 1.5)
    scores = score_units(SCORERS["pseudo_r2"], holes[60:], rate, null)
    rows = ~np.isnan(holes[60:, 1])
    alone = score_units(SCORERS["pseudo_r2"], holes[60:, 1:][rows], rate[rows, 1:], null[1:])
    np.testing.assert_allclose(scores[1:], alone)
