"""Inner products in place of features: the same RDMs and alignments, and a sentence where they do not suffice."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from torch import nn

from cerebridge import models
from cerebridge.encoding import rsa

LAYERS = ["conv1", "conv3", "readout"]


@pytest.fixture(scope="module")
def both():
    """Inner products and features of the same layers."""
    net = models.load("tiny", weights="random", seed=0)
    pictures = np.random.default_rng(0).integers(0, 256, (17, 32, 32, 3), dtype=np.uint8)
    stimuli = models.StimulusSet.from_arrays(pictures)
    features = models.extract(net, stimuli, LAYERS).astype(np.float64)
    return models.extract_gram(net, stimuli, LAYERS, memory="3MB"), features


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("by", ["layer", None])
def test_rdms_are_those_of_the_features(both, metric, by):
    found, wanted = (rsa.rdm(array, metric, by=by) for array in both)
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-4, atol=1e-6)
    assert found["stimulus_a"].values.tolist() == wanted["stimulus_a"].values.tolist()
    assert found.attrs["units"] == wanted.attrs["units"]
    if by:
        assert found["layer"].values.tolist() == LAYERS
        assert found["neuroid_id"].values.tolist() == wanted["neuroid_id"].values.tolist()


def test_some_stimuli_in_another_order(both):
    grams, features = (array.isel(presentation=[4, 1, 9, 7]) for array in both)
    found, wanted = (rsa.rdm(array, by="layer") for array in (grams, features))
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", ["jensen-shannon", "poisson"])
def test_metrics_that_need_the_features_say_so(both, metric):
    with pytest.raises(
        ValueError, match=f"metric={metric!r} needs the features themselves.*'correlation', 'cosine'"
    ):
        rsa.rdm(both[0], metric)
    with pytest.raises(ValueError, match="noise= needs the features themselves"):
        rsa.rdm(both[0], noise=np.eye(3))


def test_inner_products_that_are_missing_are_named(both):
    grams = both[0]
    some = grams.isel(neuroid=np.flatnonzero(grams["stimulus_b"].values != "0003"))
    with pytest.raises(ValueError, match="'conv1' lacks inner products .*those of '0003' are missing"):
        rsa.rdm(some, by="layer")
    with pytest.raises(ValueError, match="needs the coordinate 'feature_mean'"):
        rsa.rdm(grams.drop_vars("feature_mean"), by="layer")


def test_a_constant_pattern_is_named():
    rows = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
    rows[2] = 3
    stimuli = models.StimulusSet.from_arrays(rows, list("abcde"))
    grams = models.extract_gram(nn.Sequential(nn.Identity()), stimuli, ["0"])
    with pytest.raises(ValueError, match="the pattern of stimulus 'c' is constant over the features of '0'"):
        rsa.rdm(grams, by="layer")
    assert np.isfinite(rsa.rdm(grams, "cosine", by="layer")).all()


@pytest.mark.parametrize(
    "method", ["linear-cka", "debiased-linear-cka", "rbf-cka", "procrustes", "knn-overlap"]
)
def test_representations_are_compared_by_their_inner_products(both, method):
    grams, features = both
    options = {"n_neighbours": 3} if method == "knn-overlap" else {}
    wanted = rsa.compare_representations(features, method=method, by="layer", **options)
    found = rsa.compare_representations(grams, method=method, by="layer", **options)
    # roots of what is left of rounding are larger than it
    tolerance = 1e-4 if method == "procrustes" else 1e-5
    np.testing.assert_allclose(found.values, wanted.values, atol=tolerance)
    mixed = rsa.compare_representations(grams, features, method, by="layer", **options)
    np.testing.assert_allclose(mixed.values, wanted.values, atol=tolerance)
    assert isinstance(found, xr.DataArray)


@pytest.mark.parametrize("method", ["one-to-one", "soft-matching", "pwcca", "predictivity"])
def test_methods_that_look_at_units_are_refused(both, method):
    with pytest.raises(
        ValueError, match=f"method={method!r} looks at single units, and of 'conv1' only inner"
    ):
        rsa.compare_representations(both[0], method=method, by="layer")
