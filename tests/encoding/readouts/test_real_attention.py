"""Routed readouts of a real network against ridge on real neurons."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge import encoding, models, neuro
from cerebridge.encoding import readouts


@pytest.mark.slow
def test_routed_readouts_predict_v4_nearly_as_well_as_ridge_from_few_images(data, weights):
    folder, n = data / "v4-macaque", 400
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

    def median_r(estimator, Y=Y):
        result = encoding.evaluate(estimator, X, Y, cv=2, control=False)
        return float(result.dataset["score"].mean("split").median())

    attention = readouts.TransformerReadout(
        heads=2, width=64, feedforward=64, dropout=0.5, weight_decay=1.0, learning_rate=2e-3, max_epochs=25
    )
    static = readouts.StaticMapReadout(max_epochs=15)
    reached = {"attention": median_r(attention), "static": median_r(static)}
    # 200 images to learn from are few for gradients: ridge is ahead
    assert 0.4 < median_r(encoding.RidgeCV()) < min(reached.values()) + 0.08
    permuted = Y.copy(data=np.random.default_rng(0).permutation(Y.values))
    assert abs(median_r(static, permuted)) < 0.1
