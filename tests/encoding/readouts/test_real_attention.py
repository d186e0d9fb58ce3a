"""Routed readouts of a real network against ridge on real neurons."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge import encoding, models, neuro
from cerebridge.encoding import readouts


@pytest.mark.slow
def test_routed_readouts_predict_v4_at_least_as_well_as_ridge(data, weights):
    folder, n = data / "v4-macaque", 800
    stimuli = models.StimulusSet.from_zip(folder / "images" / "images_210225.zip")[:n]
    net = models.load("mobilenet_v2", weights=weights / "mobilenetv2-imagenet")
    X = models.extract(net, stimuli, ["features.10"], pool=7)
    Y = neuro.assemble(
        np.load(folder / "responses_repeat_averaged" / "responses_210225.npy")[:, :n].T,
        presentation={"stimulus_id": X["stimulus_id"].values},
        neuroid={"neuroid_id": np.arange(55), "region": "V4"},
        modality="spikes",
        units="spikes/100 ms",
    )
    folds = [(np.arange(640), np.arange(640, n))]

    def median_r(estimator, Y=Y):
        result = encoding.evaluate(estimator, X, Y, cv=folds, control=False)
        return float(result.dataset["score"].mean("split").median())

    attention = readouts.TransformerReadout(
        start="prf",
        heads=2,
        width=64,
        feedforward=64,
        dropout=0.3,
        learning_rate=2e-3,
        weight_decay=0.1,
        batch_size=64,
        max_epochs=25,
        patience=5,
    )
    static = readouts.StaticMapReadout(start="prf", batch_size=64, patience=5)
    ridge = median_r(encoding.RidgeCV())
    assert 0.4 < ridge < median_r(attention)
    assert ridge - 0.02 < median_r(static)
    permuted = Y.copy(data=np.random.default_rng(0).permutation(Y.values))
    assert abs(median_r(static, permuted)) < 0.1
