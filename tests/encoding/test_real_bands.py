"""Blocks of a network as bands, on spike counts of macaque V4."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import KFold

from cerebridge import models
from cerebridge.encoding.banded import BandedRidgeCV
from cerebridge.encoding.partition import partition_variance
from cerebridge.encoding.ridge import RidgeCV

BLOCKS = ["features.3", "features.10", "features.17"]
ALPHAS = np.logspace(-1, 6, 8)


@pytest.fixture(scope="module")
def v4(data, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of three blocks, averaged over space, the block of each, and responses."""
    stimuli = models.StimulusSet.from_zip(data / "v4-macaque" / "images" / "images_210224.zip")
    network = models.load("mobilenet_v2", weights=weights / "mobilenetv2-imagenet")
    features = models.extract(network, stimuli, BLOCKS, pool=1)
    responses = np.load(data / "v4-macaque" / "responses_repeat_averaged" / "responses_210224.npy").T
    return features.values.astype(np.float64), features["layer"].values, responses


@pytest.mark.slow
def test_a_middle_block_explains_most_of_v4_by_itself(v4):
    X, blocks, Y = v4
    cv = KFold(3, shuffle=True, random_state=0)
    model = BandedRidgeCV(blocks, ALPHAS, n_candidates=6, polish=0)
    parts = partition_variance(model, X, Y, cv=cv, bootstrap=200)
    total, unique = float(parts.total.median()), parts.unique.median("neuroid")
    assert total > 0.17
    assert unique.idxmax("band") == "features.10"
    assert unique.max() > 0.02 > 0.01 > unique.sel(band="features.3") > -0.01
    assert parts.shared.median() > 0.5 * total  # blocks of one network know much the same
    np.testing.assert_allclose(parts["product"].sum("band"), parts.total, atol=1e-10)
    significant = (parts.unique_interval.sel(end="low") > 0).sum("neuroid")
    assert significant.sel(band="features.10") > 3 * significant.sel(band="features.3")
    plain = partition_variance(RidgeCV(ALPHAS), X, Y, blocks, cv=cv, bootstrap=0)
    assert total > float(plain.total.median())
    permuted = np.random.default_rng(0).permutation(Y)
    control = partition_variance(RidgeCV(ALPHAS), X, permuted, blocks, cv=cv, bootstrap=0)
    assert abs(float(control.total.median())) < 0.01
    assert abs(control.unique.median("neuroid")).max() < 0.01
