"""Components and random projections: what is kept is what scikit-learn or the sparse matrix itself gives."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import sklearn.decomposition
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebridge import models
from cerebridge.models.incremental import IncrementalPCA

LAYERS = ["conv1", "conv3", "readout"]


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net():
    return models.load("tiny", weights="random", seed=0)


@pytest.fixture(scope="module")
def stimuli():
    return models.StimulusSet.from_arrays(pictures(29))


@pytest.fixture(scope="module")
def whole(net, stimuli):
    activations = models.extract(net, stimuli, LAYERS)
    return {layer: of(activations, layer) for layer in LAYERS}


def of(activations, layer):
    return activations.values[:, activations["layer"].values == layer]


def aligned(found, wanted):
    """``found`` with the signs of ``wanted``."""
    return found * np.sign((found * wanted).sum(0))


def test_components_of_one_block_are_those_of_scikit_learn(net, stimuli, whole):
    reduced = models.extract(net, stimuli, LAYERS, reduce=models.PCA(5, block_rows=29))
    assert reduced.sizes["neuroid"] == 15
    assert reduced["component"].values[:5].tolist() == [0, 1, 2, 3, 4]
    for layer in LAYERS:
        wanted = sklearn.decomposition.PCA(5, svd_solver="full").fit_transform(whole[layer].astype(float))
        found = aligned(of(reduced, layer), wanted)
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_blocks_are_merged_as_scikit_learn_merges_them(whole):
    values = whole["conv1"]
    peer = sklearn.decomposition.IncrementalPCA(4, batch_size=8)
    for start in range(0, 24, 8):
        peer.partial_fit(values[start : start + 8].astype(float))
    fit = IncrementalPCA(values.shape[1], 4, block_rows=8, device=torch.device("cpu"))
    for rows in np.split(values[:24], [3, 4, 15]):
        fit.add(torch.from_numpy(rows))
    found = fit.finish()
    signs = np.sign((found.components.numpy() * peer.components_).sum(1))
    np.testing.assert_allclose(found.components.numpy() * signs[:, None], peer.components_, atol=1e-5)
    np.testing.assert_allclose(found.mean.numpy(), peer.mean_, atol=1e-6)
    np.testing.assert_allclose(found.explained.numpy(), peer.explained_variance_ratio_, rtol=1e-4)


def test_components_recover_the_plane_that_rows_lie_in():
    rng = np.random.default_rng(0)
    plane, _ = np.linalg.qr(rng.standard_normal((50, 2)))
    rows = 3 + rng.standard_normal((60, 2)) @ plane.T
    fit = IncrementalPCA(50, 4, block_rows=7, device=torch.device("cpu"))
    fit.add(torch.from_numpy(rows).float())
    found = fit.finish()
    np.testing.assert_allclose(found.components[:2].T @ found.components[:2], plane @ plane.T, atol=1e-5)
    # there are no third and fourth directions, and none are made up
    assert (found.components[2:] == 0).all()
    assert found.explained[:2].sum() == pytest.approx(1)


def test_components_are_learned_from_the_training_stimuli_alone(net, stimuli, whole):
    train = np.arange(29) % 3 > 0
    wanted = sklearn.decomposition.PCA(3, svd_solver="full").fit(whole["conv3"][train].astype(float))
    wanted = wanted.transform(whole["conv3"].astype(float))
    for fit_on in (train, np.flatnonzero(train).tolist(), stimuli[np.flatnonzero(train)]):
        reduced = models.extract(net, stimuli, ["conv3"], reduce=models.PCA(3, fit_on=fit_on, block_rows=29))
        found = reduced.values
        np.testing.assert_allclose(aligned(found, wanted), wanted, atol=1e-4 * np.abs(wanted).max())
        assert json.loads(reduced.attrs["provenance"])["reduce"]["fitted_on"] == "19 stimuli"
    changed = pictures(29)
    changed[~train] = pictures(29, seed=5)[~train]
    other = models.StimulusSet.from_arrays(changed)
    again = models.extract(net, other, ["conv3"], reduce=models.PCA(3, fit_on=train, block_rows=29))
    np.testing.assert_allclose(again.values[train], found[train], atol=1e-4 * np.abs(wanted).max())
    everything = models.extract(net, stimuli, ["conv3"], reduce=models.PCA(3))
    assert json.loads(everything.attrs["provenance"])["reduce"]["fitted_on"] == "all 29 stimuli"


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 31), memory=st.sampled_from(["2MB", "3MB", "2GiB"]))
@pytest.mark.parametrize("reduce", [models.PCA(4, block_rows=8), models.RandomProjection(16)])
def test_batches_and_passes_change_nothing(net, stimuli, reduce, batch_size, memory):
    wanted = models.extract(net, stimuli, LAYERS, reduce=reduce).values
    options = {"batch_size": min(batch_size, 3) if memory != "2GiB" else batch_size, "memory": memory}
    found = models.extract(net, stimuli, LAYERS, reduce=reduce, **options).values
    np.testing.assert_allclose(found, wanted, atol=2e-4 * np.abs(wanted).max())


def test_a_projection_is_a_sparse_matrix_of_the_stated_kind():
    projection = models.RandomProjection(200, density=1 / 3, random_state=3)
    matrix = projection.reducer("fc", 3000, 10, torch.device("cpu"))(torch.eye(3000)).numpy()
    np.testing.assert_allclose(np.unique(matrix), [-math.sqrt(3 / 200), 0, math.sqrt(3 / 200)], rtol=1e-6)
    share = (matrix != 0).mean()
    assert share == pytest.approx(1 / 3, abs=5 * math.sqrt(2 / 9 / matrix.size))
    assert np.sign(matrix).mean() == pytest.approx(0, abs=5 * math.sqrt(1 / 3 / matrix.size))
    very_sparse = models.RandomProjection(200).reducer("fc", 3000, 10, torch.device("cpu"))
    assert (very_sparse(torch.eye(3000)).numpy() != 0).mean() == pytest.approx(3000**-0.5, rel=0.1)


def test_a_projection_is_the_product_with_its_matrix(net, stimuli, whole):
    projection = models.RandomProjection(40)
    reduced = models.extract(net, stimuli, LAYERS, reduce=projection)
    for layer in ("conv1", "conv3"):
        n = whole[layer].shape[1]
        matrix = projection.reducer(layer, n, 29, torch.device("cpu"))(torch.eye(n)).numpy()
        wanted = whole[layer] @ matrix
        np.testing.assert_allclose(of(reduced, layer), wanted, atol=1e-4 * np.abs(wanted).max())
    # the readout has ten features, fewer than the components
    np.testing.assert_allclose(of(reduced, "readout"), whole["readout"], atol=1e-5)


def test_a_projection_depends_on_its_seed_and_on_the_layer_and_on_nothing_else(net, stimuli):
    both = models.extract(net, stimuli, ["conv1", "conv3"], reduce=models.RandomProjection(8))
    alone = models.extract(net, stimuli[:5], ["conv3"], reduce=models.RandomProjection(8))
    scale = np.abs(alone.values).max()
    np.testing.assert_allclose(of(both, "conv3")[:5], alone.values, atol=1e-5 * scale)
    other = models.extract(net, stimuli[:5], ["conv3"], reduce=models.RandomProjection(8, random_state=1))
    assert np.abs(other.values - alone.values).max() > 0.1 * scale


def test_distances_are_kept_within_the_bound():
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((40, 6000))).float()
    projection = models.RandomProjection(eps=0.4)
    reduced = projection.reducer("fc", 6000, 40, torch.device("cpu"))(rows)
    assert reduced.shape[1] == projection.width(6000, 40) < 6000
    ratio = torch.nn.functional.pdist(reduced) ** 2 / torch.nn.functional.pdist(rows) ** 2
    assert (ratio - 1).abs().max() < 0.4
    # far fewer dimensions than the bound asks for do not keep it
    few = models.RandomProjection(10).reducer("fc", 6000, 40, torch.device("cpu"))(rows)
    ratio = torch.nn.functional.pdist(few) ** 2 / torch.nn.functional.pdist(rows) ** 2
    assert (ratio - 1).abs().max() > 0.4


def test_the_bound_is_that_of_johnson_and_lindenstrauss():
    projection = models.RandomProjection(eps=0.1, failure=0.01)
    k = math.ceil((4 * math.log(1000) + 2 * math.log(100)) / (0.1**2 / 2 - 0.1**3 / 3))
    assert projection.width(10**6, 1000) == k
    assert models.RandomProjection(k).distortion(1000) == pytest.approx(0.1, abs=1e-4)
    assert models.RandomProjection(3).distortion(1000) == math.inf


def test_the_distortion_is_in_the_provenance(net, stimuli):
    reduced = models.extract(net, stimuli, ["conv1"], reduce=models.RandomProjection(eps=0.5))
    facts = json.loads(reduced.attrs["provenance"])["reduce"]
    assert facts["distortion"] == 0.5
    assert facts["failure"] == 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.PCA(0), "n_components=0 must be a positive whole number"),
        (lambda: models.PCA(5, block_rows=4), "block_rows=4 is less than n_components=5"),
        (lambda: models.RandomProjection(), "takes n_components= or eps=; give one"),
        (lambda: models.RandomProjection(3, eps=0.1), "takes n_components= or eps=; give one"),
        (lambda: models.RandomProjection(eps=1.5), "eps=1.5 must lie between 0 and 1"),
        (lambda: models.RandomProjection(3, density=0), "density=0 must be 'auto'"),
        (lambda: models.RandomProjection(3, failure=0), "failure=0 is a probability"),
    ],
)
def test_bad_reductions_are_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("reduce", "message"),
    [
        (models.PCA(30), "30 components cannot be learned from 29 stimuli"),
        (models.PCA(3, fit_on=[1, 2]), "3 components cannot be learned from 2 stimuli"),
        (models.PCA(2, fit_on=[1, 2, 40]), "fit_on must be different rows from 0 to 28"),
        (models.PCA(2, fit_on=[True, False]), "fit_on is a mask of 2 for 29 stimuli"),
    ],
)
def test_stimuli_to_fit_on_are_checked(net, stimuli, reduce, message):
    with pytest.raises(ValueError, match=message):
        models.extract(net, stimuli, ["conv1"], reduce=reduce)


def test_a_reduction_that_does_not_fit_is_named(net, stimuli):
    with pytest.raises(
        ValueError, match="the reduction of the layer 'conv1' takes .* more than is left of memory="
    ):
        models.extract(net, stimuli, ["conv1"], reduce=models.PCA(20), memory="1MB")


def test_values_that_are_not_finite_are_named_while_fitting():
    class Spoil(torch.nn.Module):
        def forward(self, rows):
            return torch.where(rows == 5, torch.inf, rows)

    stimuli = models.StimulusSet.from_arrays(np.arange(16.0).reshape(8, 2), list("abcdefgh"))
    with pytest.raises(ValueError, match="'0' gives NaN or infinite values for stimulus 'c'"):
        models.extract(torch.nn.Sequential(Spoil()), stimuli, ["0"], reduce=models.PCA(1))
