"""Variance partitioning: known shares, sums that are exact, intervals that hold the truth, labels, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cerebridge import neuro
from cerebridge.encoding.banded import BandedRidgeCV
from cerebridge.encoding.partition import partition_variance
from cerebridge.encoding.ridge import RidgeCV

BANDS = [slice(0, 3), slice(3, 6), slice(6, 20)]


def simulate(n: int = 2000, targets: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two bands of three features of which one is common to both, a band of noise; a third of it all is noise.

    Of the response's variance a third is the first band's alone, a sixth the second's, a sixth both bands'.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 20)) + 1
    X[:, 3] = X[:, 0]
    Y = np.sqrt(2) * X[:, [1]] + X[:, [4]] + X[:, [0]] + np.sqrt(2) * rng.standard_normal((n, targets))
    return X, Y + 5


@pytest.fixture(scope="module")
def parts() -> xr.Dataset:
    X, Y = simulate()
    # least squares of columns that are twice there, which scikit-learn before 1.6 does not solve
    return partition_variance(Ridge(1e-6), X, Y, BANDS, bootstrap=300)


def test_known_shares_are_found(parts):
    assert parts.total.mean() == pytest.approx(2 / 3, abs=0.02)
    np.testing.assert_allclose(parts.unique.mean("neuroid"), [1 / 3, 1 / 6, 0], atol=0.03)
    assert parts.shared.mean() == pytest.approx(1 / 6, abs=0.03)
    venn = parts.venn.mean("neuroid")
    for name, share in {"0": 1 / 3, "1": 1 / 6, "0+1": 1 / 6, "2": 0, "0+2": 0, "1+2": 0, "0+1+2": 0}.items():
        assert venn.sel(set=name) == pytest.approx(share, abs=0.03)
    assert (parts.r2.sel(set="0").mean(), parts.r2.sel(set="1").mean()) == (
        pytest.approx(1 / 2, abs=0.03),
        pytest.approx(1 / 3, abs=0.03),
    )


def test_sums_are_exact(parts):
    np.testing.assert_allclose(parts["product"].sum("band"), parts.total, atol=1e-12)
    np.testing.assert_allclose(parts.venn.sum("set"), parts.total, atol=1e-12)
    np.testing.assert_allclose(parts.unique.sum("band") + parts.shared, parts.total, atol=1e-12)
    np.testing.assert_array_equal(parts.r2.sel(set="0+1+2"), parts.total)
    np.testing.assert_allclose(parts.venn.sel(set=["0", "1", "2"]), parts.unique, atol=1e-12)


def test_equals_fits_by_hand():
    X, Y = simulate(60, targets=2)
    parts = partition_variance(Ridge(2.0), X, Y, BANDS, cv=KFold(3), bootstrap=0)
    assert not [name for name in parts.data_vars if name.endswith("interval")]
    for name, columns in {"0+1": slice(0, 6), "2": slice(6, 20), "0+1+2": slice(0, 20)}.items():
        error, variation = 0, 0
        for train, test in KFold(3).split(X):
            predicted = Ridge(2.0).fit(X[train, columns], Y[train]).predict(X[test, columns])
            error = error + np.square(Y[test] - predicted).sum(0)
            variation = variation + np.square(Y[test] - Y[train].mean(0)).sum(0)
        np.testing.assert_allclose(parts.r2.sel(set=name), 1 - error / variation)


def test_a_band_of_noise_has_no_unique_share():
    X, Y = simulate(400, targets=40, seed=1)
    parts = partition_variance(BandedRidgeCV(n_candidates=20), X, Y, BANDS, bootstrap=300)
    low, high = parts.unique_interval.sel(band=2).values
    assert ((low <= 0) & (high >= 0)).mean() > 0.8
    assert abs(parts.unique.sel(band=2)).max() < 0.03
    informative, _ = parts.unique_interval.sel(band=0).values
    assert (informative > 0.1).all()


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    X, _ = simulate(400)
    truth = X[:, [1]] @ np.ones((1, 200))
    Y = truth + np.random.default_rng(2).standard_normal(truth.shape)
    parts = partition_variance(
        LinearRegression(), X, Y, [slice(0, 3), slice(3, 6), slice(6, 20)], bootstrap=500
    )
    # what these models explain of endlessly many new rows, estimated on as many targets
    expected = float(parts.total.mean())
    low, high = parts.total_interval.values
    assert 0.88 < ((low <= expected) & (expected <= high)).mean() <= 1
    assert np.median(high - low) == pytest.approx(2 * 1.96 * float(parts.total.std()), rel=0.35)


def recording(n: int = 60):
    X, Y = simulate(n, targets=3)
    features = neuro.assemble(
        X,
        presentation={"stimulus_id": [f"s{i // 2}" for i in range(n)], "repetition": np.arange(n) % 2},
        neuroid={
            "neuroid_id": [f"f{i}" for i in range(20)],
            "band": ["low"] * 3 + ["mid"] * 3 + ["high"] * 14,
        },
        modality="activation",
        units="a.u.",
    )
    responses = neuro.assemble(
        Y,
        presentation={"stimulus_id": features.stimulus_id.values, "repetition": np.arange(n) % 2},
        neuroid={"neuroid_id": ["a", "b", "c"], "region": ["V1", "V4", "IT"]},
        modality="spikes",
        units="spikes/s",
    )
    return features, responses


def test_labels_and_repeats():
    features, responses = recording()
    parts = partition_variance(BandedRidgeCV(n_candidates=4, polish=0), features, responses, bootstrap=50)
    assert parts.unique.dims == ("band", "neuroid")
    assert parts.band.values.tolist() == ["low", "mid", "high"]
    assert parts["set"].values.tolist()[-1] == "low+mid+high"
    assert parts.venn_interval.dims == ("end", "set", "neuroid")
    assert parts.unique["region"].values.tolist() == ["V1", "V4", "IT"]
    assert parts.attrs["blocks"] == "groups of rows"  # repeats of a stimulus stay together
    plain = partition_variance(
        RidgeCV(), features.values, responses.values, features.band.values, groups=features.stimulus_id.values
    )
    assert plain.attrs["blocks"] == "groups of rows"


def test_time_series_are_drawn_in_stretches():
    rng = np.random.default_rng(0)
    slow, fast = rng.standard_normal((1000, 4)).cumsum(0) / 10, rng.standard_normal((1000, 4))
    lengths = []
    for X in (slow, fast):
        Y = X[:, :1] + X[rng.permutation(1000)][:, :3]
        parts = partition_variance(RidgeCV(), X, Y, [slice(2), slice(2, 4)], bootstrap=50)
        lengths.append(int(parts.attrs["blocks"].split()[2]))
    assert lengths[0] > 5 >= 2 >= lengths[1]


def test_many_bands_are_left_out_one_at_a_time():
    X, Y = simulate(300, targets=2)
    parts = partition_variance(RidgeCV(), X, Y, np.arange(20) // 4, bootstrap=20)
    assert parts.sizes["set"] == 6
    assert "venn" not in parts
    np.testing.assert_allclose(parts.unique.sum("band") + parts.shared, parts.total)


def test_models_without_parts():
    X, Y = simulate(60, targets=2)
    with pytest.warns(UserWarning, match="predictions of KNeighborsRegressor are no sum over bands"):
        parts = partition_variance(KNeighborsRegressor(), X, Y, BANDS, bootstrap=0)
    assert "product" not in parts
    parts = partition_variance(make_pipeline(StandardScaler(), Ridge()), X, Y, BANDS, bootstrap=0)
    np.testing.assert_allclose(parts["product"].sum("band"), parts.total)


def test_single_precision_and_a_single_series():
    X, Y = simulate(100, targets=1)
    single = partition_variance(RidgeCV(), X.astype("f4"), Y[:, 0].astype("f4"), BANDS, bootstrap=0)
    double = partition_variance(RidgeCV(), X, Y, BANDS, bootstrap=0)
    np.testing.assert_allclose(single.unique, double.unique, atol=1e-4)
    np.testing.assert_allclose(single["product"].sum("band"), single.total, atol=1e-5)


@pytest.mark.parametrize(
    ("bands", "options", "match"),
    [
        ([slice(None)], {}, "one band only"),
        ([slice(3), slice(3, 6)], {}, "bands do not cover 14 of 20"),
        (BANDS, {"bootstrap": -1}, "bootstrap must be a whole number from 0"),
        (BANDS, {"groups": np.arange(60) // 15, "cv": 2}, "4 blocks that move together"),
    ],
)
def test_bad_input(bands, options, match):
    X, Y = simulate(60, targets=1)
    with pytest.raises(ValueError, match=match):
        partition_variance(RidgeCV(), X, Y, bands, **options)
