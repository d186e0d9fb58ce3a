"""Rows brought together: containers, kinds of labels, several models, and one sentence for what does not fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from cerebridge import encoding, neuro

RNG = np.random.default_rng(0)
N = 40
IDS = np.array([f"s{k:02d}" for k in range(N)])
VALUES = RNG.standard_normal((N, 6))
TRUTH = VALUES @ RNG.standard_normal((6, 5)) + 0.5 * RNG.standard_normal((N, 5))
LABELS = np.tile(["a", "b"], N // 2)


def trials(values, ids=IDS, neuroid=None, **labels):
    values = np.asarray(values)
    return neuro.assemble(
        values,
        presentation={"stimulus_id": ids, **labels},
        neuroid={"neuroid_id": np.arange(values.shape[1]), **(neuroid or {})},
        modality="spikes",
        units="spikes",
    )


def recording(values, start=0.0, run=0):
    start = start + np.arange(len(values)) * 2.0
    return neuro.assemble(
        values,
        time_bin={"time_bin_start": start, "time_bin_end": start + 2, "run": run},
        neuroid={"neuroid_id": np.arange(np.shape(values)[1])},
        modality="fmri",
        units="a.u.",
        sfreq=0.5,
    )


X, Y = trials(VALUES), trials(TRUTH)
CLASSES = trials(VALUES + 2 * (LABELS == "a")[:, None], label=LABELS, run=np.repeat(np.arange(4), 10))


def scores(estimator, x, y, **kwargs):
    kwargs = {"control": False, "cv": 4, **kwargs}
    return encoding.evaluate(estimator, x, y, **kwargs).score.values


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: torch.tensor(x).float().numpy().astype(np.float64),
        pd.DataFrame,
        lambda x: x.tolist(),
        lambda x: x.astype(object),
    ],
    ids=["torch", "float32", "DataFrame", "list", "object"],
)
def test_every_container_gives_the_same_scores(convert):
    expected = scores(encoding.RidgeCV(), VALUES, TRUTH)
    np.testing.assert_allclose(
        scores(encoding.RidgeCV(), convert(VALUES), convert(TRUTH)), expected, rtol=1e-5
    )


def test_counts_and_booleans_are_responses_too():
    counts = np.round(4 * TRUTH).astype(int)
    np.testing.assert_array_equal(
        scores(Ridge(), VALUES, counts), scores(Ridge(), VALUES, counts.astype(float))
    )
    assert scores(Ridge(), VALUES, TRUTH > 0).shape == (1, 4, 5)
    assert scores(Ridge(), VALUES, TRUTH[:, 0]).shape == (1, 4, 1)


@pytest.mark.parametrize(
    "labels",
    [LABELS.tolist(), LABELS == "a", (LABELS == "a").astype(int), (LABELS == "a").astype(float),
     torch.tensor(LABELS == "a"), LABELS.astype(object), CLASSES.label],
    ids=["list", "bool", "int", "float", "torch", "object", "DataArray"],
)  # fmt: skip
def test_class_labels_of_every_kind(labels, tmp_path):
    result = encoding.evaluate(LinearDiscriminantAnalysis(), CLASSES, labels, control=False)
    expected = scores(LinearDiscriminantAnalysis(), CLASSES, "label")
    np.testing.assert_array_equal(result.score.values, expected)
    result.save(tmp_path / "result.nc")
    assert encoding.Result.load(tmp_path / "result.nc").dataset.identical(result.dataset)


def test_models_are_compared_on_the_stimuli_that_all_of_them_have():
    models = {"first": X[:30], "second": X[10:, :3]}
    result = encoding.evaluate(Ridge(), models, Y, cv=4, control=False)
    swapped = encoding.evaluate(Ridge(), dict(reversed(models.items())), Y, cv=4, control=False)
    for name in models:
        np.testing.assert_array_equal(result.score.sel(model=name), swapped.score.sel(model=name))
    alone = encoding.evaluate(Ridge(), X[10:30], Y[10:30], cv=4, control=False)
    np.testing.assert_array_equal(result.score[0], alone.score[0])
    assert result.audit["stimuli"] == "20 of the recording's 40 stimuli have features in every model"


def test_ids_of_several_types_are_matched():
    ids = np.array(["a", *range(1, N)], dtype=object)
    expected = scores(encoding.RidgeCV(), X, Y, cv=[(np.arange(30), np.arange(30, 40))])
    found = scores(
        encoding.RidgeCV(), trials(VALUES, ids), trials(TRUTH, ids), cv=[(np.arange(30), np.arange(30, 40))]
    )
    np.testing.assert_array_equal(found, expected)


def test_labels_of_units_never_hide_the_names_of_a_result():
    names = ("model", "split", "unit", "score", "ceiling", "p", "alpha")
    responses = trials(TRUTH, neuroid={name: np.arange(5) for name in names})
    result = encoding.evaluate(encoding.RidgeCV(), X, responses, ceiling=np.ones(5), permutations=2)
    assert result.score.coords["model"].values.tolist() == ["model"]
    for name in names:
        assert result.dataset[f"unit_{name}"].values.tolist() == [0, 1, 2, 3, 4]


def changed(values, at, value):
    values = np.array(values, dtype=object if value is None else None)
    values[at] = value
    return values


BAD_RESPONSES = {
    "text": (VALUES.astype(str), TRUTH, TypeError, "model 'model': The values are of type <U"),
    "complex": (VALUES + 1j, TRUTH, TypeError, "Complex data not supported"),
    "missing": (VALUES, changed(TRUTH, (3, 2), np.nan), ValueError, r"1 of 5 units .* \(first: unit 2 in row 3\)"),
    "None": (VALUES, changed(TRUTH, (3, 2), None), ValueError, r"first: unit 2 in row 3"),
    "infinite": (VALUES, changed(TRUTH, (3, 2), np.inf), ValueError, "missing or infinite responses"),
    "constant": (VALUES, np.ones((N, 5)), ValueError, "the responses do not vary at all"),
    "three axes": (VALUES, TRUTH[:, :, None], ValueError, "Y has 3 dimensions; give rows × units"),
    "no array": (5.0, TRUTH, TypeError, "model 'model' is a float"),
    "numbers as text": (trials(VALUES, np.arange(N).astype(str)), trials(TRUTH, np.arange(N)), ValueError,
                        r"share no stimulus_id \(model: \['0', '1', '2'\], recording: \[0, 1, 2\]\)"),
    "apart": ({"a": X[:10], "b": X[20:]}, Y, ValueError, "model 'b' and the recording share no stimulus_id"),
    "turned": (X.T, Y, ValueError, "the dimensions are neuroid × presentation"),
    "RDMs": (X, encoding.rsa.rdm(Y), ValueError, "compared by rsa.compare and rsa.infer"),
    "RDMs as features": (encoding.rsa.rdm(X), Y, ValueError, "is rdm × pair and the recording presentation"),
    "continuous features": (recording(VALUES), Y, ValueError, "both must begin with 'presentation'"),
    "other times": (recording(VALUES, 1.5), recording(TRUTH), ValueError, r"another time_bin_start .* in 40 rows"),
    "other runs": (recording(VALUES, run=1), recording(TRUTH), ValueError, r"first row 0: 1 and 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_RESPONSES)
def test_responses_that_do_not_fit_are_one_sentence(case):
    x, y, error, message = BAD_RESPONSES[case]
    with pytest.raises(error, match=message) as raised:
        encoding.evaluate(Ridge(), x, y)
    assert "\n" not in str(raised.value)


SHUFFLED = CLASSES[RNG.permutation(N)]
BAD_LABELS = {
    "other order": (CLASSES, SHUFFLED.label, "'Y' has another stimulus_id than the first model in .* rows"),
    "models in other order": ({"a": CLASSES, "b": SHUFFLED}, "label", "'b' has another stimulus_id"),
    "other labels": ({"a": CLASSES, "b": CLASSES.assign_coords(label=CLASSES.label[::-1].variable)}, "label",
                     "'b' has another label than the first model"),
    "fewer rows": ({"a": CLASSES, "b": CLASSES[:30]}, "label", "'b' has 30 rows along 'presentation'"),
    "too few": (VALUES, LABELS[:30], "has 40 rows, Y has 30"),
    "NaN": (VALUES, changed((LABELS == "a").astype(float), 3, np.nan), "class label of row 3 is missing"),
    "None": (VALUES, changed(LABELS, 3, None), "class label of row 3 is missing"),
    "several types": (VALUES, changed(LABELS.astype(object), 3, 1), r"of several types \(int, str\)"),
    "fractions": (VALUES, VALUES[:, 0], "Y holds fractions, which are no class labels"),
    "one class": (VALUES, np.ones(N), "all rows have the same class label"),
    "a column": (VALUES, LABELS[:, None], "Y has 2 dimensions; a classifier needs one class label a row"),
    "responses": (CLASSES, CLASSES, "a classifier needs one class label a row, or the name"),
    "unknown name": (CLASSES, "category", "there is no coordinate 'category' along the rows"),
    "name along units": (CLASSES, "neuroid_id", "there is no coordinate 'neuroid_id' along the rows"),
    "unlabelled": (xr.DataArray(VALUES), LABELS, "the dimensions are dim_0 × dim_1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LABELS)
def test_class_labels_that_do_not_fit_are_one_sentence(case):
    x, y, message = BAD_LABELS[case]
    with pytest.raises(ValueError, match=message) as raised:
        encoding.evaluate(LinearDiscriminantAnalysis(), x, y)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("estimator", [Ridge, None, "ridge"])
def test_what_is_no_estimator_is_refused(estimator):
    with pytest.raises(TypeError, match="not an estimator with fit and predict"):
        encoding.evaluate(estimator, VALUES, TRUTH)
