"""Trained networks of two depths and untrained ones of several seeds, seeing the 92 objects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import loadmat

from cerebridge import models
from cerebridge.encoding import rsa

STAGES = ["conv1", "layer1", "layer2", "layer3"]
METHODS = ["linear-cka", "debiased-linear-cka"]


@pytest.fixture(scope="module")
def seen(data, weights):
    """Activations of all stages: ResNet-20, ResNet-56, and four untrained ResNet-20."""
    path = data / "objects92" / "Kriegeskorte_Neuron2008_supplementalData.mat"
    objects = loadmat(path, squeeze_me=True, struct_as_record=False)["stimuli_92objs"]
    stimuli = models.StimulusSet.from_arrays(np.stack([each.image for each in objects]))
    nets = {
        depth: models.load(
            f"cifar_resnet{depth}", next((weights / "resnet-cifar10-torch").glob(f"resnet{depth}-*"))
        )
        for depth in (20, 56)
    }
    nets |= {f"seed {seed}": models.load("cifar_resnet20", "random", seed=seed) for seed in range(4)}
    return {name: models.extract(net, stimuli, STAGES) for name, net in nets.items()}


def alike(a, b, method):
    return rsa.compare_representations(a, b, method, by="layer").values


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_stages_that_correspond_agree_most_across_depths(seen, method):
    between = alike(seen[20], seen[56], method)
    diagonal = np.diag(between)
    assert (between.argmax(0) == np.arange(4)).all() and (between.argmax(1) == np.arange(4)).all()
    assert (diagonal[:3] > 0.95).all() and diagonal[3] > 0.7
    # the further apart two stages lie, the less they agree
    assert (np.diff(between[0]) < 0).all() and (np.diff(between[-1]) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_untrained_networks_agree_less_with_a_trained_one_than_another_trained_depth_does(seen, method):
    trained = np.diag(alike(seen[20], seen[56], method))
    untrained = np.stack([np.diag(alike(seen[20], seen[f"seed {seed}"], method)) for seed in range(4)])
    assert (untrained.max(0) < trained - 0.08).all()
    assert (untrained.mean(0)[1:] < trained[1:] - 0.3).all()


@pytest.mark.slow
def test_untrained_networks_tell_their_stages_hardly_apart(seen):
    """Seeds agree with each other, but every later stage with every other one: there is no depth to speak of."""
    between = alike(seen["seed 0"], seen["seed 1"], "linear-cka")
    trained = alike(seen[20], seen[56], "linear-cka")
    assert between[1:, 1:].min() > 0.85
    assert trained[1:, 1:].min() < between[1:, 1:].min() - 0.1


@pytest.mark.slow
def test_shuffled_objects_agree_with_nothing(seen):
    shuffled = seen[56].copy()
    order = np.random.default_rng(0).permutation(shuffled.sizes["presentation"])
    shuffled.values = shuffled.values[order]
    assert alike(seen[20], shuffled, "debiased-linear-cka").max() < 0.15
