"""Controversial stimuli: models that differ in a known way, and a model against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cerebridge import models
from cerebridge.models.synthesis import LayerObjective, make_controversial, select_controversial

SIZE = 12


def linear(*seeds: int):
    """A model that adds up templates."""
    templates = sum(
        torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in seeds
    )

    def model(images):
        return (images * templates).flatten(1).sum(1)

    model.template = templates.movedim(0, -1).numpy()
    return model


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return np.random.default_rng(0).random((60, SIZE, SIZE, 3))


OPTIONS = {"size": SIZE, "space": "pixels", "steps": 60, "contrast": 0.2, "device": "cpu"}


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_images_show_what_only_one_of_two_models_looks_for(reference):
    """The models share a template, in which they agree, and have one each, in which they do not."""
    first, second = linear(0, 1), linear(0, 2)
    shared, own, other = (linear(seed).template for seed in (0, 1, 2))
    made = make_controversial(first, second, reference, high=("first", "second", "both"), n=2, **OPTIONS)
    assert made.table["high"].tolist() == ["first"] * 2 + ["second"] * 2 + ["both"] * 2
    assert (made.table["controversy"] > 3).all()
    for image, kind in zip(made.images, made.table["high"], strict=True):
        if kind == "both":
            assert alike(image, shared) > 0.5
        else:
            sign = 1 if kind == "first" else -1
            assert sign * alike(image, own) > 0.5 and sign * alike(image, other) < -0.5
            assert abs(alike(image, shared)) < 0.15
    scores = first(torch.from_numpy(np.concatenate([reference, made.images])).float().movedim(-1, 1)).numpy()
    z = (scores[60:] - scores[:60].mean()) / scores[:60].std()
    np.testing.assert_allclose(made.table["first"], z, rtol=1e-3, atol=1e-3)
    assert made.stimuli.table["high"].tolist() == made.table["high"].tolist()


def test_a_model_against_itself_or_its_multiple_has_no_controversy(reference):
    first = linear(0, 1)
    for second in (first, lambda images: 5 * first(images) - 3):
        made = make_controversial(first, second, reference, n=2, **OPTIONS)
        assert (made.table["controversy"] <= 1e-4).all()


def test_networks_disagree_and_are_left_as_they_were():
    nets = [models.load("tiny", weights="random", seed=seed) for seed in (1, 2)]
    before = [models.fingerprint(net) for net in nets]
    pictures = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    stimuli = models.StimulusSet.from_arrays(pictures)
    units = [LayerObjective(net, "readout", 0) for net in nets]
    made = make_controversial(*units, stimuli, size=32, steps=40, learning_rate=0.3, device="cpu")
    assert (made.table["controversy"] > 1).all()
    assert [models.fingerprint(net) for net in nets] == before
    chosen = select_controversial(*units, stimuli, n=1, device="cpu")
    assert (made.table["controversy"].to_numpy() > chosen["controversy"].to_numpy()).all()


def test_a_pool_is_searched_in_both_directions():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 50))
    second[7], first[7], second[11], first[11] = -9, 9, 9, -9
    pool = models.StimulusSet.from_arrays(np.zeros((50, 4, 4, 3), np.uint8))
    chosen = select_controversial(first, second, pool, n=3)
    assert chosen["row"].iloc[[0, 3]].tolist() == [7, 11]
    assert chosen["high"].tolist() == ["first"] * 3 + ["second"] * 3
    standard = [(x - x.mean()) / x.std() for x in (first, second)]
    brute = np.sort(np.minimum(standard[0], -standard[1]))[::-1][:3]
    np.testing.assert_allclose(chosen["controversy"].iloc[:3], brute)
    assert (select_controversial(first, first, pool, n=50)["controversy"] <= 0).all()


def test_bad_input_is_refused_in_one_sentence(reference):
    model, pool = linear(0), models.StimulusSet.from_arrays(np.zeros((3, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"high=\['third'\] must name"):
        make_controversial(model, model, reference, high=["third"], **OPTIONS)
    with pytest.raises(ValueError, match="the second model predicts the same for all"):
        make_controversial(model, lambda images: images[:, 0, 0, 0] * 0, reference, **OPTIONS)
    with pytest.raises(ValueError, match=r"first= has the shape \(2,\) for 3 stimuli"):
        select_controversial(np.zeros(2), np.arange(3), pool)
    with pytest.raises(ValueError, match="not differentiable"):
        detached = [lambda images, sign=sign: sign * model(images).detach() for sign in (1, -1)]
        make_controversial(*detached, reference, **OPTIONS)
