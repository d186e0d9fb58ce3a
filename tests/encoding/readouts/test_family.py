"""What the readouts of feature maps share: containers, labels, validation, state, seeds, one sentence for bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import encoding, neuro
from cerebridge.encoding import readouts
from cerebridge.neuro.layers import Layer, label_features

SHORT = {"max_epochs": 3, "learning_rate": 1e-2, "device": "cpu"}
FAMILY = {
    "prf": readouts.PRFReadout(positions=3, device="cpu"),
    "gaussian": readouts.GaussianReadout(**SHORT),
    "factorised": readouts.FactorisedReadout(**SHORT),
    "transformer, gaussian": readouts.SpatialTransformerReadout("gaussian", **SHORT),
    "transformer, factorised": readouts.SpatialTransformerReadout("factorised", **SHORT),
    "response-optimised": readouts.ResponseOptimised("factorised", channels=4, blocks=1, **SHORT),
}
every = pytest.mark.parametrize("name", FAMILY)


def stimuli(n=60, seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((n, 3, 4, 5)).astype(np.float32)
    meaning = rng.standard_normal((n, 2)).astype(np.float32)
    responses = np.stack([maps[:, 0, 1, 2], 10 + 5 * maps[:, 1, 3, 4]], 1)
    return maps, meaning, responses


def given(name, maps, meaning):
    return (maps, meaning) if name.startswith("transformer") else maps


def labelled(maps, meaning=None, ids=None):
    values, layers = maps.reshape(len(maps), -1), [Layer("conv", maps.shape[1:], "<f4")]
    if meaning is not None:
        values = np.hstack([values, meaning])
        layers.append(Layer("semantics", meaning.shape[1:], "<f4"))
    presentation = {"stimulus_id": np.arange(len(maps)) if ids is None else ids}
    neuroid = label_features(layers)
    return neuro.assemble(
        values, presentation=presentation, neuroid=neuroid, modality="activation", units="a.u."
    )


def recording(responses, ids=None):
    return neuro.assemble(
        responses,
        presentation={"stimulus_id": np.arange(len(responses)) if ids is None else ids},
        neuroid={"neuroid_id": ["a", "b"], "region": "V4"},
        modality="spikes",
        units="spikes/s",
    )


@every
def test_kinds_agree_and_labels_stay(name):
    maps, meaning, responses = stimuli()
    plain = clone(FAMILY[name]).fit(given(name, maps, meaning), responses)
    predicted = plain.predict(given(name, maps, meaning))
    assert isinstance(predicted, np.ndarray) and predicted.shape == responses.shape
    assert predicted.dtype == np.float32
    tensors = [torch.from_numpy(part) for part in (maps, meaning, responses)]
    torched = clone(FAMILY[name]).fit(given(name, *tensors[:2]), tensors[2])
    np.testing.assert_allclose(torched.predict(given(name, *tensors[:2])), predicted, rtol=1e-5, atol=1e-5)
    array = labelled(maps, meaning if name.startswith("transformer") else None)
    shuffled = array.isel(neuroid=np.random.default_rng(0).permutation(array.sizes["neuroid"]))
    fitted = clone(FAMILY[name])
    fitted.fit(shuffled, recording(responses), groups=np.arange(len(maps)) * 10 // len(maps))
    ours = fitted.predict(array)
    assert ours.dims == ("presentation", "neuroid") and ours["neuroid_id"].values.tolist() == ["a", "b"]
    np.testing.assert_allclose(ours, fitted.predict(shuffled), rtol=1e-5, atol=1e-5)
    assert fitted.best_score_["region"].values.tolist() == ["V4", "V4"]


@every
def test_state_goes_through_a_file(name, tmp_path):
    maps, meaning, responses = stimuli()
    X = given(name, maps, meaning)
    fitted = clone(FAMILY[name]).fit(X, responses[:, 1])
    assert fitted.predict(X).shape == (60,)
    encoding.save(tmp_path / "readout.skops", fitted)
    restored = encoding.load(tmp_path / "readout.skops")
    np.testing.assert_array_equal(restored.predict(X), fitted.predict(X))


@every
def test_the_same_seed_gives_the_same_fit_and_does_not_ask_for_units(name):
    maps, meaning, responses = stimuli()
    X = given(name, maps, meaning)
    first, second = (clone(FAMILY[name]).fit(X, responses).predict(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    scaled = clone(FAMILY[name]).fit(X, 1024 * responses).predict(X)
    np.testing.assert_allclose(scaled / 1024, first, rtol=1e-5, atol=1e-5)


@every
def test_evaluate_takes_plain_and_labelled_maps(name):
    maps, meaning, responses = stimuli()
    array = labelled(maps, meaning if name.startswith("transformer") else None)
    estimator = clone(FAMILY[name])
    result = encoding.evaluate(estimator, array, recording(responses), cv=3, control=False)
    assert result.dataset["score"].shape == (1, 3, 2)
    if not name.startswith("transformer"):
        plain = encoding.evaluate(estimator, maps, responses, cv=3, control=False)
        np.testing.assert_allclose(plain.dataset["score"], result.dataset["score"], atol=1e-4)


@every
def test_flattened_features_and_other_maps_are_refused(name):
    maps, meaning, responses = stimuli()
    estimator = clone(FAMILY[name])
    with pytest.raises(
        ValueError, match="takes feature maps, but X is 60 × 60 without labels of channel, row"
    ):
        estimator.fit(maps.reshape(60, -1), responses)
    tokens = given(name, maps.reshape(60, 3, 20), meaning)
    with pytest.raises(ValueError, match=r"reads places of a map, but X holds tokens \(3 × 20\)"):
        estimator.fit(tokens, responses)
    fitted = clone(estimator).fit(given(name, maps, meaning), responses)
    with pytest.raises(
        ValueError, match="X holds maps of 3 channels × 5 rows × 4 columns, but .* was fitted to 3"
    ):
        fitted.predict(given(name, maps.swapaxes(2, 3), meaning))
    maps[7, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN: in 1 of 60 samples, first row 7"):
        fitted.predict(given(name, maps, meaning))


@pytest.mark.filterwarnings("ignore:Can't test estimator")
@parametrize_with_checks(list(FAMILY.values()))
def test_the_checks_of_scikit_learn_that_apply(estimator, check):
    # all others feed tables, which readouts of maps refuse
    check(estimator)


def test_repeats_of_a_stimulus_are_never_on_both_sides_of_the_validation():
    maps, _, responses = stimuli()
    ids = np.tile(np.arange(20), 3)
    gaussian = readouts.GaussianReadout(validation=0.2)
    split, inner = gaussian._split(labelled(maps, ids=ids), recording(responses, ids), None)
    for train, test, known in [
        (*split, ids),
        *((*pair, ids[split.train.numpy()]) for pair in inner),
    ]:
        assert not set(known[train.numpy()]) & set(known[test.numpy()])
        assert len(train) + len(test) == len(known)
    assert len(inner) == 3
    held_out = gaussian._split(maps, responses, None)[0].test
    assert held_out.tolist() == list(range(48, 60))


def test_validation_rows_move_nothing_but_the_choice_of_the_epoch():
    maps, _, responses = stimuli()
    changed = responses.copy()
    changed[54:] = changed[54:][::-1]
    settings = {"validation": 0.1, "patience": None, "max_epochs": 1, "device": "cpu"}
    for readout in (readouts.GaussianReadout(**settings), readouts.FactorisedReadout(**settings)):
        first, second = (clone(readout).fit(maps, y).predict(maps) for y in (responses, changed))
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(*(clone(readout).fit(maps, y).best_score_ for y in (responses, changed)))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (readouts.GaussianReadout(validation=1.5), "validation=1.5 must be a share of the samples"),
        (readouts.PRFReadout(sizes=[0.0]), r"sizes=\[0.0\] must be positive"),
        (readouts.PRFReadout(positions=0), "positions=0 must be a whole number"),
        (readouts.PRFReadout(scoring="mse"), "scoring='mse' is unknown"),
        (readouts.SpatialTransformerReadout(), "needs a semantic vector for each image; give X as"),
        (readouts.ResponseOptimised(base="ridge"), "base='ridge' is unknown; use 'gaussian' or 'factorised'"),
        (readouts.ResponseOptimised(turns=4), "turns=4 needs square maps .* got 4 × 5"),
        (readouts.ResponseOptimised(turns=2), "turns=2 must be 4"),
        (readouts.ResponseOptimised(kernel=4), "kernel=4 must be odd"),
        (readouts.ResponseOptimised(halvings=3), "halvings=3 is not possible for maps of 4 × 5 and 2 blocks"),
    ],
)
def test_wrong_parameters_are_said_in_a_sentence(estimator, message):
    maps, _, responses = stimuli()
    with pytest.raises(ValueError, match=message):
        estimator.fit(maps, responses)


def test_a_fit_resumes_and_refuses_the_checkpoint_of_another(tmp_path):
    maps, _, responses = stimuli()
    readout = readouts.GaussianReadout(checkpoint=tmp_path / "fit.ckpt", **SHORT)
    first = clone(readout).fit(maps, responses).predict(maps)
    np.testing.assert_array_equal(clone(readout).fit(maps, responses).predict(maps), first)
    other = readouts.FactorisedReadout(checkpoint=tmp_path / "fit.ckpt", **SHORT)
    with pytest.raises(
        ValueError, match="fit.ckpt belongs to another architecture; delete it or name another"
    ):
        other.fit(maps, responses)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("FactorisedReadout", {"l1": 1.0}),
        ("FactorisedReadout", {"smoothness": 1.0}),
        ("GaussianReadout", {"spread": 0.5}),
    ],
)
def test_a_checkpoint_of_other_penalties_is_of_another_training(name, change, tmp_path):
    maps, _, responses = stimuli()
    readout = getattr(readouts, name)(checkpoint=tmp_path, **SHORT).fit(maps, responses)
    other = clone(readout).set_params(**change).fit(maps, responses)
    alone = clone(other).set_params(checkpoint=None).fit(maps, responses)
    np.testing.assert_array_equal(other.predict(maps), alone.predict(maps))
    with pytest.raises(ValueError, match="fit.ckpt belongs to other settings"):
        for model in (readout, other):
            model.set_params(checkpoint=tmp_path / "fit.ckpt").fit(maps, responses)
