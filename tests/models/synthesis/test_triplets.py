"""Triplets: bins, balance and the model of choices, by brute force and by choosers whose rule is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression

from cerebridge import models
from cerebridge.models.synthesis import fit_choices, select_triplets


def layers(
    n: int = 700, features: int = 60, shared: float = 0.7, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Two layers that share so much of their variance."""
    common, high, low = np.random.default_rng(seed).standard_normal((3, n, features))
    return tuple(np.sqrt(shared) * common + np.sqrt(1 - shared) * own for own in (high, low))


@pytest.fixture(scope="module")
def selected():
    return select_triplets(*layers(), bins=6)


def test_selection_takes_two_layers_apart_that_go_together(selected):
    report = selected.report
    assert 0.46 < report["random_correlation"] < 0.56
    assert abs(report["correlation"]) < 0.15
    assert report["n_triplets"] > 150 and 0.4 < report["positive_low"] < 0.6
    assert report["bins_filled"] > 0.9


def test_every_triplet_is_in_its_bin_and_no_image_is_used_twice(selected):
    table = selected.table
    used = table[["root", "image_1", "image_2"]].to_numpy().ravel()
    assert len(set(used)) == len(used)
    pairs = np.triu_indices(700, 1)
    for layer, name in zip(layers(), ("high", "low"), strict=True):
        matrix = np.corrcoef(layer)
        root, first, second = (table[column].to_numpy() for column in ("root", "image_1", "image_2"))
        difference = matrix[root, second] - matrix[root, first]
        np.testing.assert_allclose(difference, table[f"{name}_difference"], atol=1e-5)
        wanted = table[f"{name}_bin"] * 0.5 * matrix[pairs].std()
        assert np.abs(difference - wanted).max() <= 0.01 + 1e-5
    assert (table["high_bin"] > 0).all()


def test_all_pairs_are_found_that_brute_force_finds():
    from cerebridge.models.synthesis.triplets import _Search

    high, low = (np.corrcoef(layer).astype(np.float32) for layer in layers(40, 20))
    search = _Search(high, low, 0.5, 0.05, 0)
    search.free[[3, 8, 20]] = False
    first, second = search._pairs(5, 0.2, -0.1)
    expected = {
        (i, j)
        for i in np.flatnonzero(search.free)
        for j in np.flatnonzero(search.free)
        if len({i, j, 5}) == 3
        and abs(float(high[5, j]) - float(high[5, i]) - 0.2) <= 0.05
        and abs(float(low[5, j]) - float(low[5, i]) + 0.1) <= 0.05
    }
    assert len(expected) > 5 and set(zip(first, second, strict=True)) == expected


def test_seeds_reproduce():
    tables = [select_triplets(*layers(200), bins=3, random_state=seed).table for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0].equals(tables[2])


@pytest.mark.parametrize("uses", ["low_difference", "high_difference"])
def test_what_a_chooser_uses_is_told_from_what_it_does_not(selected, uses):
    table, rng = selected.table, np.random.default_rng(0)
    drive = table[uses] / table[uses].std()
    choices = rng.random(len(table)) < 1 / (1 + np.exp(-2 * (drive - drive.mean())))
    fit = fit_choices(table[["high_difference", "low_difference"]], choices)
    other = {"low_difference": "high_difference", "high_difference": "low_difference"}[uses]
    assert fit.table.loc[uses, "p"] < 1e-4 and fit.table.loc[uses, "weight"] > 1
    assert fit.table.loc[other, "p"] > 0.05
    guessed = fit_choices(table[["high_difference", "low_difference"]], rng.random(len(table)) < 0.5)
    assert (guessed.table["p"] > 0.01).all() and guessed.pseudo_r2 < 0.05


def test_the_model_of_choices_is_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3)) * [1, 5, 0.1]
    y = rng.random(400) < 1 / (1 + np.exp(-(x @ [1.0, -0.2, 3.0] + 0.4)))
    fit = fit_choices({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}, y)
    standard = (x - x.mean(0)) / x.std(0)
    oracle = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(standard, y)
    np.testing.assert_allclose(fit.table["weight"], [*oracle.coef_[0], oracle.intercept_[0]], rtol=1e-4)
    likelihood = np.log(oracle.predict_proba(standard)[np.arange(400), y.astype(int)]).sum()
    np.testing.assert_allclose(fit.log_likelihood, likelihood, rtol=1e-8)
    # standard errors are right if estimates spread so over new choices
    drawn = [
        fit_choices({"a": x[:, 0], "b": x[:, 1]}, rng.random(400) < 1 / (1 + np.exp(-x[:, 0]))).table
        for _ in range(200)
    ]
    spread = np.std([table["weight"] for table in drawn], axis=0)
    np.testing.assert_allclose(spread, np.mean([t["standard_error"] for t in drawn], axis=0), rtol=0.2)


def test_labelled_layers_name_the_stimuli():
    names = [f"image {k}" for k in range(200)]
    high, low = (
        xr.DataArray(
            values, dims=("presentation", "neuroid"), coords={"stimulus_id": ("presentation", names)}
        )
        for values in layers(200)
    )
    table = select_triplets(high, low, bins=3).table
    assert set(table["root"]) <= set(names)
    with pytest.raises(ValueError, match="of another order"):
        select_triplets(high, low[::-1], bins=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": np.zeros((50, 3))}, "of other images"),
        ({"low": np.zeros((100, 3))}, "low= is constant for image 0"),
        ({"high": np.full((100, 3), np.nan)}, "all of them finite"),
        ({"bins": 0}, "bins=0 must be"),
        ({"bins": [1, 1]}, "several different ones"),
        ({"bins": [40]}, "no triplet of 100 images"),
        ({"tolerance": 0.0}, "tolerance=0.0 must be positive"),
        ({"memory": "1KB"}, "correlations between 100 images take"),
    ],
)
def test_bad_selections_are_refused_in_one_sentence(change, message):
    high, low = layers(100)
    with pytest.raises(ValueError, match=message):
        select_triplets(**{"high": high, "low": low, **change})


@pytest.mark.parametrize(
    ("differences", "choices", "message"),
    [
        ({"a": [1.0, 2, 3]}, [1, 0], r"choices= has the shape \(2,\) for 3"),
        ({"a": [1.0, 2, 3]}, [1, 0, 2], "1 where image_2 was chosen"),
        ({"a": [1.0, 2, np.nan]}, [1, 0, 1], "missing or infinite"),
        ({"a": [1.0, 2, 3]}, [1, 1, 1], "all alike"),
        ({"a": [1.0, 1, 1]}, [1, 0, 1], "'a' is constant"),
        ({"a": [1.0, 2, 3, 5], "b": [2.0, 4, 6, 10]}, [1, 0, 1, 0], "determine each other"),
        ({"a": [1.0, 2, 3, 4]}, [0, 0, 1, 1], "without an error"),
    ],
)
def test_bad_choices_are_refused_in_one_sentence(differences, choices, message):
    with pytest.raises(ValueError, match=message):
        fit_choices(differences, choices)


@pytest.mark.slow
def test_triplets_of_real_pictures_take_two_layers_of_a_network_apart(data, weights):
    import scipy.io

    content = scipy.io.loadmat(
        data / "objects92" / "Kriegeskorte_Neuron2008_supplementalData.mat",
        squeeze_me=True,
        struct_as_record=False,
    )
    stimuli = models.StimulusSet.from_arrays([each.image for each in content["stimuli_92objs"]])
    net = models.load("mobilenet_v2", weights / "mobilenetv2-imagenet")
    layers = ["features.3", "features.17"]
    activations = models.extract(net, stimuli, layers, pool=7, device="cpu")
    high, low = (activations[:, activations.layer.values == layer] for layer in layers[::-1])
    reports = [
        select_triplets(high, low, bins=3, tolerance=0.03, random_state=seed).report for seed in range(10)
    ]
    # of 30 triplets a correlation is known to 0.19 only
    assert np.mean([report["random_correlation"] for report in reports]) > 0.4
    assert abs(np.mean([report["correlation"] for report in reports])) < 0.15
    assert min(report["n_triplets"] for report in reports) >= 29
