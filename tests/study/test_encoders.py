from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cerebridge import encoding, neuro
from cerebridge.encoding.study.encoders import estimate_fit, evaluate_seed, join_seeds
from cerebridge.encoding.study.estimators import RIDGE

SETTINGS = {
    "cv": 3,
    "encoder": RIDGE,
    "joint": False,
    "scoring": "pearsonr",
    "ceiling": "auto",
    "permutations": 9,
    "control": True,
    "seed": 0,
    "alphas": [1.0, 100.0],
    "models": [{"name": "driver", "input": "model driver", "layer": None}],
}


@pytest.fixture(scope="module")
def inputs():
    driver = neuro.simulate(modality="fmri", n_stimuli=40, n_units=20, snr=50.0, random_state=1)
    return {
        "recording": neuro.simulate(driver, n_units=6, n_repeats=4, random_state=0),
        "model driver": driver,
    }


@pytest.fixture(scope="module")
def by_seed(inputs):
    return {
        f"seed {seed}": evaluate_seed("cpu", {**SETTINGS, "seed": seed}, inputs, Path()) for seed in (0, 7)
    }


def test_a_seed_is_one_evaluation(inputs, by_seed):
    direct = encoding.evaluate(
        encoding.RidgeCV(alphas=[1.0, 100.0], scoring="pearsonr", device="cpu"),
        {"driver": inputs["model driver"]},
        inputs["recording"],
        cv=3,
        permutations=9,
        random_state=7,
    )
    np.testing.assert_allclose(by_seed["seed 7"]["score"].values, direct.score.values)
    assert by_seed["seed 7"].attrs["place"] == {"modality": "spikes"}


def test_seeds_lie_side_by_side(by_seed):
    joined = join_seeds({"seeds": [0, 7]}, by_seed, Path())
    assert joined.sizes["split"] == 6 and joined["seed"].values.tolist() == [0, 0, 0, 7, 7, 7]
    for seed, part in by_seed.items():
        here = joined["score"].values[:, joined["seed"].values == int(seed.split()[1])]
        assert np.array_equal(here, part["score"].values)
    assert joined["alpha"].dims == ("model", "split", "unit")
    assert np.array_equal(joined["ceiling"].values, by_seed["seed 0"]["ceiling"].values)
    result = encoding.Result(joined)
    assert result.audit["seeds"] == [0, 7]
    first, second = (part.attrs["audit"]["selection"]["nested_score"]["driver"] for part in by_seed.values())
    assert result.audit["selection"]["nested_score"]["driver"] == pytest.approx((first + second) / 2)


def test_p_of_several_seeds_is_twice_their_median(by_seed):
    joined = join_seeds({"seeds": [0, 7]}, by_seed, Path())
    p = np.stack([part["p"].values for part in by_seed.values()])
    assert np.allclose(joined["p"].values, np.minimum(1, 2 * np.median(p, axis=0)))
    assert (joined["p_fdr"].values >= joined["p"].values).all()


def test_one_seed_stays_as_it_is(by_seed):
    joined = join_seeds({"seeds": [0]}, {"seed 0": by_seed["seed 0"]}, Path())
    for name in ("score", "p", "p_fdr", "p_max", "normalised"):
        assert np.array_equal(joined[name].values, by_seed["seed 0"][name].values)


def test_no_ceiling_where_none_is_wanted(inputs):
    dataset = evaluate_seed("cpu", {**SETTINGS, "ceiling": "none", "permutations": 0}, inputs, Path())
    assert "ceiling" not in dataset


def test_the_estimate_grows_with_permutations(inputs):
    few = estimate_fit("cpu", {**SETTINGS, "permutations": 0}, inputs)
    many = estimate_fit("cpu", {**SETTINGS, "permutations": 1000}, inputs)
    assert few["memory"] == many["memory"] > 0
    assert many["seconds"] > 10 * few["seconds"] > 0
