"""The 92 object images: correlations and ceilings that are known of these recordings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.io import loadmat

from cerebridge import models, neuro
from cerebridge.encoding import rsa

NEAR = 0.001


@pytest.fixture(scope="module")
def rdms(data):
    folder = data / "objects92"
    cichy = folder / "cichy2014_92images"
    people = {"subject": np.arange(15)}
    named = ("region", "subject", "session")
    return {
        "2008": rsa.read_rdms(
            folder / "Kriegeskorte_Neuron2008_supplementalData.mat", rdm={"region": ["mIT", "hIT"]}
        ),
        "sessions": rsa.read_rdms(folder / "92_brainRDMs.mat", parts=named),
        "judgements": rsa.read_rdms(folder / "92_behavRDMs.mat", parts=("task", "subject")),
        "models": rsa.read_rdms(folder / "92_modelRDMs.mat"),
        "networks": rsa.read_rdms(folder / "modelRDMs_A2020.mat"),
        "IT": rsa.read_rdms(cichy / "fmri_IT_RDMs.npz", rdm={"region": "IT", **people}),
        "EVC": rsa.read_rdms(cichy / "fmri_EVC_RDMs.npz", rdm={"region": "EVC", **people}),
    }


def test_all_files_are_read_with_their_labels(rdms):
    sizes = {"2008": 2, "sessions": 8, "judgements": 16, "models": 8, "networks": 63, "IT": 15, "EVC": 15}
    assert {name: array.shape for name, array in rdms.items()} == {
        name: (n, 4186) for name, n in sizes.items()
    }
    assert rdms["2008"].neuroid_id.values.tolist() == ["mIT_674neurons", "hITvisStim_316vx"]
    assert rdms["sessions"].subject.values.tolist() == ["BE", "BE", "KO", "KO", "SN", "SN", "TI", "TI"]
    assert rdms["judgements"].subject.values.tolist()[-1] == "subject16"
    assert rdms["models"].neuroid_id.values.tolist()[::7] == ["animacy", "RADON"]
    assert rdms["networks"].reprName.values.tolist()[-1] == "prob"
    both = neuro.concat([rdms["IT"], rdms["EVC"]], "rdm")
    assert both.shape == (30, 4186)


def test_correlations_of_regions_species_and_models(rdms):
    human = rdms["2008"].isel(rdm=[1])
    monkey = rdms["2008"].isel(rdm=[0])
    it, evc, judged = (rsa.average(rdms[name]) for name in ("IT", "EVC", "judgements"))
    models = rdms["models"].isel(rdm=[0, 5])
    assert models.neuroid_id.values.tolist() == ["animacy", "V1"]
    for a, b, rho in [
        (human, monkey, [0.439]),
        (human, it, [0.557]),
        (monkey, it, [0.486]),
        (human, evc, [0.132]),
        (human, models, [0.588, 0.039]),
        (monkey, models, [0.453, 0.074]),
        (judged, rdms["2008"], [0.394, 0.392]),
    ]:
        np.testing.assert_allclose(rsa.compare(a, b).values[0], rho, rtol=0, atol=NEAR)


def test_the_sessions_average_to_the_published_rdm(rdms):
    np.testing.assert_allclose(rsa.average(rdms["sessions"]).values[0], rdms["2008"].values[1], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "ceiling", "lower", "upper"),
    [
        ("IT", "mean", 0.449, 0.535),
        ("IT", "rank", 0.4525, 0.5422),
        ("EVC", "mean", 0.239, 0.386),
        ("sessions", "mean", 0.379, 0.661),
        ("judgements", "mean", 0.478, None),
    ],
)
def test_noise_ceilings_of_people(rdms, name, ceiling, lower, upper):
    data = rsa.average(rdms[name], by="subject")
    found = rsa.noise_ceiling(data, ceiling=ceiling)
    assert found.lower == pytest.approx(lower, abs=NEAR)
    assert upper is None or found.upper == pytest.approx(upper, abs=NEAR)


def test_inference_tells_models_apart_and_names_the_data_among_them(rdms):
    result = rsa.infer(rdms["models"], rdms["IT"], permutations=200, random_state=0)
    p = dict(zip(result.score.model.values.tolist(), result.dataset["p_group"].values, strict=True))
    assert p["animacy"] == p["FaceBodyManmadeNatobj"] == 1 / 201
    assert p["V1"] > 0.05 and p["RADON"] > 0.05
    assert result.audit["models_among_data"] == []
    assert (result.dataset["ceiling"] <= result.dataset["ceiling_upper"]).all()
    assert rsa.infer(rdms["models"], rdms["2008"]).audit["models_among_data"] == ["monkeyIT"]


def test_shuffled_pictures_relate_to_nothing(rdms):
    rng = np.random.default_rng(0)
    square = rsa.square(rdms["2008"]).values[1]
    shuffled = []
    for _ in range(50):
        order = rng.permutation(92)
        shuffled.append(square[np.ix_(order, order)][np.triu_indices(92, 1)])
    chance = rsa.compare(np.array(shuffled), rdms["2008"].values[0])
    assert abs(chance.mean()) < 4 * chance.std() / 50**0.5
    assert np.abs(chance).max() < 0.439 / 2


def test_blocks_of_a_network_resemble_the_three_recordings_as_far_as_is_known(rdms, data, weights):
    """With the bilinear resizing behind these figures; the network's own, bicubic, gives up to 0.01 more."""
    path = data / "objects92" / "Kriegeskorte_Neuron2008_supplementalData.mat"
    pictures = loadmat(path, squeeze_me=True, struct_as_record=False)["stimuli_92objs"]
    stimuli = models.StimulusSet.from_arrays([picture.image for picture in pictures], np.arange(92))
    network = models.load("mobilenet_v2", weights=weights / "mobilenetv2-imagenet" / "model.safetensors")
    bilinear = replace(network.preprocess, resample="bilinear")
    layers = ["features.0", "features.13"]
    found = models.extract(network, stimuli, layers, pool=7, preprocess=bilinear, progress=False)
    recordings = neuro.concat([rdms["2008"], rsa.average(rdms["IT"])], "rdm")
    rho = rsa.compare(rsa.rdm(found, by="layer"), recordings).values
    np.testing.assert_allclose(rho, [[0.068, 0.098, 0.078], [0.330, 0.261, 0.266]], rtol=0, atol=0.002)
