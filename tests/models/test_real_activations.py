"""Real networks on real pictures: the figures that are known of them, and the memory promise."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.io
import scipy.stats
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from cerebridge import models

BLOCKS = ["features.3", "features.6", "features.10", "features.13", "features.17"]


@pytest.fixture(scope="module")
def mobilenet(weights):
    return models.load("mobilenet_v2", weights=weights / "mobilenetv2-imagenet")


@pytest.fixture(scope="module")
def objects92(data):
    path = data / "objects92" / "Kriegeskorte_Neuron2008_supplementalData.mat"
    content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
    stimuli = models.StimulusSet.from_arrays([thing.image for thing in content["stimuli_92objs"]])
    monkey, human = (entry.RDM for entry in content["RDMs_mIT_hIT_fig1"])
    return stimuli, {"monkey": monkey, "human": human}


def agreement(activations, layer, brain):
    values = activations.values[:, activations["layer"].values == layer]
    dissimilarity = 1 - np.corrcoef(values)[np.triu_indices(len(values), 1)]
    return scipy.stats.spearmanr(dissimilarity, brain).statistic


def test_a_deep_block_resembles_inferior_temporal_cortex_and_the_first_does_not(mobilenet, objects92):
    stimuli, brains = objects92
    activations = models.extract(mobilenet, stimuli, ["features.0", "features.13"], pool=7)
    assert agreement(activations, "features.13", brains["human"]) == pytest.approx(0.261, abs=0.02)
    assert agreement(activations, "features.13", brains["monkey"]) == pytest.approx(0.330, abs=0.02)
    assert agreement(activations, "features.0", brains["human"]) == pytest.approx(0.098, abs=0.01)
    shuffled = stimuli[np.random.default_rng(0).permutation(len(stimuli))]
    control = models.extract(mobilenet, shuffled, ["features.13"], pool=7)
    assert abs(agreement(control, "features.13", brains["human"])) < 0.1


def test_a_cifar_network_resembles_it_too(weights, objects92):
    stimuli, brains = objects92
    path = next((weights / "resnet-cifar10-torch").glob("resnet20-*.th"))
    activations = models.extract(models.load("cifar_resnet20", weights=path), stimuli, ["layer3"])
    assert agreement(activations, "layer3", brains["human"]) == pytest.approx(0.264, abs=0.02)
    assert agreement(activations, "layer3", brains["monkey"]) == pytest.approx(0.311, abs=0.02)


def test_blocks_of_mobilenet_on_photographs(mobilenet, data, tmp_path):
    stimuli = models.StimulusSet.read(data / "v4-macaque" / "images" / "images_210224.zip")[:9]
    stored = models.extract(mobilenet, stimuli, BLOCKS, pool=7, store=tmp_path / "store")
    sizes = dict(zip(*np.unique(stored["layer"].values, return_counts=True), strict=True))
    assert sizes == {block: 49 * n for block, n in zip(BLOCKS, (24, 32, 64, 96, 320), strict=True)}
    again = models.extract(mobilenet, stimuli, BLOCKS, pool=7)
    np.testing.assert_array_equal(stored.values, again.values)
    assert np.corrcoef(stored.values).max(initial=0, where=~np.eye(9, dtype=bool)) < 0.999


def median_correlation(features, responses):
    """README's protocol: 300 principal components, ridge, five shuffled folds, a penalty for every neuron."""
    components = PCA(300, random_state=0).fit_transform(features.astype(np.float64))
    components /= components[:, 0].std()
    correlations = []
    for alpha in np.logspace(-2, 4, 9):
        predicted = np.zeros_like(responses)
        for train, test in KFold(5, shuffle=True, random_state=0).split(components):
            predicted[test] = Ridge(alpha).fit(components[train], responses[train]).predict(components[test])
        pairs = zip(predicted.T, responses.T, strict=True)
        correlations.append([np.corrcoef(ours, theirs)[0, 1] for ours, theirs in pairs])
    return np.median(np.max(correlations, axis=0))


@pytest.mark.slow
def test_a_middle_block_predicts_v4_and_pixels_hardly_do(mobilenet, data):
    folder = data / "v4-macaque"
    stimuli = models.StimulusSet.from_zip(folder / "images" / "images_210224.zip")
    responses = np.load(folder / "responses_repeat_averaged" / "responses_210224.npy").T
    features = models.extract(mobilenet, stimuli, ["features.10"], pool=7)
    assert median_correlation(features.values, responses) == pytest.approx(0.536, abs=0.01)
    assert median_correlation(models.features.pixels(stimuli).values, responses) == pytest.approx(
        0.18, abs=0.02
    )
    permuted = responses[np.random.default_rng(0).permutation(len(responses))]
    assert median_correlation(features.values, permuted) < 0.1


MEASURED = """
    import sys, tempfile
    import numpy as np
    from cerebridge import models

    def bytes_of(quantity):
        with open("/proc/self/status") as status:
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith(quantity))

    net = models.load("cifar_resnet20", weights="random")
    pictures = np.random.default_rng(0).integers(0, 256, (int(sys.argv[1]), 32, 32, 3), dtype=np.uint8)
    stimuli = models.StimulusSet.from_arrays(pictures)
    with tempfile.TemporaryDirectory() as folder:
        models.extract(net, stimuli[:4], ["conv1"], pool=1, store=folder + "/first", memory="20MiB")
        before = bytes_of("VmRSS")
        models.extract(net, stimuli, ["layer1", "layer3"], store=folder + "/second", memory="48MiB")
    print(bytes_of("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_kept_and_does_not_grow_with_the_stimuli(tmp_path):
    used = {}
    for n in (400, 2400):
        command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(n)]
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        used[n] = int(finished.stdout)
    assert used[2400] <= 48 * 2**20
    # 2000 more stimuli are 164 MB of activations
    assert used[2400] - used[400] < 20e6
