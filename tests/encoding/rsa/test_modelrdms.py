"""Model RDMs of categories, ratings and features, from every container, and one sentence for what cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from cerebridge import neuro
from cerebridge.encoding import rsa

STIMULI = ["cat", "dog", "car", "hat"]
KINDS = ["animal", "animal", "thing", "thing"]
ACROSS = [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "values", [KINDS, [True, True, False, False], np.array(KINDS), ["a", "a", "b", "b"]], ids=str
)
def test_categories_differ_or_not(values):
    found = rsa.model_rdm(values, STIMULI)
    assert found.dims == ("rdm", "pair")
    assert found.values.tolist() == [ACROSS]
    assert found.neuroid_id.values.tolist() == ["model"]
    assert found.stimulus_b.values.tolist() == ["dog", "car", "hat", "car", "hat", "hat"]
    assert found.attrs["metric"] == "category"


def test_ratings_differ_by_their_difference():
    ratings = {"cat": 1, "dog": 4, "car": 2.5, "hat": 0}
    found = rsa.model_rdm(ratings, name="size")
    np.testing.assert_allclose(found.values[0], pdist(np.array(list(ratings.values()))[:, None]))
    assert found.neuroid_id.values.tolist() == ["size"]
    assert rsa.model_rdm([1, 1, 2, 2], STIMULI, metric="category").values.tolist() == [ACROSS]
    assert rsa.model_rdm([True, True, False, False], STIMULI, metric="difference").values.tolist() == [ACROSS]


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "cosine", "sqeuclidean"])
def test_features_take_any_metric(metric):
    features = np.random.default_rng(0).normal(size=(4, 7))
    for values, stimuli in ((features, STIMULI), (dict(zip(STIMULI, features, strict=True)), None)):
        found = rsa.model_rdm(values, stimuli, metric)
        np.testing.assert_allclose(found.values[0], pdist(features, metric), rtol=1e-10)
    assert rsa.model_rdm(features, STIMULI).attrs["metric"] == "euclidean"
    rates = np.abs(features)
    assert rsa.model_rdm(rates, STIMULI, "jensen-shannon").values.max() < 1


def test_a_table_gives_one_rdm_a_column():
    table = pd.DataFrame({"kind": KINDS, "size": [1.0, 2.0, 4.0, 8.0]}, index=STIMULI)
    found = rsa.model_rdm(table)
    assert found.neuroid_id.values.tolist() == ["kind", "size"]
    assert found.values.tolist() == [ACROSS, [1, 3, 7, 2, 6, 4]]
    same = rsa.model_rdm(table.reset_index(names="stimulus_id"))
    np.testing.assert_array_equal(same.values, found.values)
    np.testing.assert_array_equal(rsa.model_rdm(table["size"]).values, found.values[1:])
    assert rsa.model_rdm(table["size"]).neuroid_id.values.tolist() == ["size"]


def test_labels_of_a_recording_are_a_model_of_its_stimuli():
    array = neuro.assemble(
        np.random.default_rng(0).normal(size=(8, 5)),
        presentation={"stimulus_id": STIMULI * 2, "kind": KINDS * 2},
        neuroid={"neuroid_id": range(5)},
        modality="spikes",
        units="spikes/s",
    )
    found = rsa.model_rdm(array.coords["kind"])
    assert found.values.tolist() == [ACROSS]
    assert found.neuroid_id.values.tolist() == ["kind"]
    features = rsa.model_rdm(array, name="brain")
    np.testing.assert_allclose(features.values, rsa.rdm(array, "euclidean").values)
    assert features.neuroid_id.values.tolist() == ["brain"]


def test_models_are_matched_to_the_brain_by_stimulus():
    ratings = dict(zip(STIMULI, [1.0, 2.0, 4.0, 8.0], strict=True))
    shuffled = {name: ratings[name] for name in ["hat", "cat", "car", "dog"]}
    assert rsa.compare(rsa.model_rdm(ratings), rsa.model_rdm(shuffled)).item() == pytest.approx(1)


BAD = {
    "no stimuli": (lambda: rsa.model_rdm([1, 2, 3]), "nothing says which stimuli .* give stimuli="),
    "lengths": (lambda: rsa.model_rdm([1, 2, 3], STIMULI), "has 3 values for 4 stimuli"),
    "missing": (
        lambda: rsa.model_rdm([1, np.nan, 3, 4], STIMULI),
        "no value for 1 of 4 stimuli, the first at row 1",
    ),
    "missing text": (lambda: rsa.model_rdm(["a", None, "b", "b"], STIMULI), "no value for 1 of 4"),
    "contradiction": (lambda: rsa.model_rdm([1, 2, 3], ["a", "b", "a"]), "several values for stimulus 'a'"),
    "contradicting features": (
        lambda: rsa.model_rdm(np.arange(6).reshape(3, 2), ["a", "b", "a"]),
        "several values for stimulus 'a'",
    ),
    "ragged": (lambda: rsa.model_rdm([[1, 2], [1, 2, 3]], ["a", "b"]), "must be vectors of one length"),
    "text features": (lambda: rsa.model_rdm([["a", "b"], ["c", "d"]], ["a", "b"]), "not all numbers"),
    "one stimulus": (lambda: rsa.model_rdm({"a": 1}), "is of 1 stimulus; a dissimilarity needs two"),
    "text difference": (
        lambda: rsa.model_rdm(KINDS, STIMULI, "difference"),
        "is of numbers, and model 'model' has text",
    ),
    "no features": (
        lambda: rsa.model_rdm(KINDS, STIMULI, "cosine"),
        "metric='cosine' does not fit model 'model'",
    ),
    "cross-validated": (
        lambda: rsa.model_rdm(np.eye(4), STIMULI, "crossnobis"),
        "metric='crossnobis' does not fit features",
    ),
    "name": (
        lambda: rsa.model_rdm(pd.DataFrame({"a": [1, 2], "b": [1, 2]}), name="c"),
        "name='c' is one name, and the table has 2 models",
    ),
    "empty": (lambda: rsa.model_rdm(pd.DataFrame(index=STIMULI)), "no column besides the stimuli"),
    "unnamed": (lambda: rsa.model_rdm([1, 2], ["a", None]), "stimulus 1 of model 'model' has no name"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
