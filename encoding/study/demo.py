"""The demonstration: a small network and a simulated brain whose truth is known, as an ordinary study."""

from __future__ import annotations

from .format import Study, parse_study

DEMO = """\
[study]
name = "demo"
title = "A small network and a simulated brain"
description = \"\"\"
Generated pictures of six categories were shown to a small convolutional network with random weights and to a
simulated brain. Neurons of the region "early" read the network's first layer, neurons of the region "late" its third;
both fire with Poisson noise. Electrodes see the same two regions through the head, the late one 80 ms after the early.

Because the truth is known, the report must find it again: the early region best predicted by and most similar to
conv1, the late region by conv3, and no score above the noise ceiling.
\"\"\"
seed = 1

[stimuli.pictures]
reader = "patterns"
categories = 6
per_category = 30
size = 64

[networks.tiny]
name = "tiny"
weights = "random"
layers = ["conv1", "conv2", "conv3"]
pool = 4

[features.pixels]
kind = "pixels"
size = 16

[recordings.neurons]
reader = "simulation"
stimuli = "pictures"
regions = { early = "tiny/conv1", late = "tiny/conv3" }
modality = "spikes"
n_units = 160
n_repeats = 6
snr = 1.0

[recordings.electrodes]
reader = "simulation"
stimuli = "pictures"
regions = { early = "tiny/conv1", late = "tiny/conv3" }
modality = "eeg"
n_units = 32
n_repeats = 6
snr = 1.0

[[analyses]]
name = "encoding"
kind = "encoding"
recordings = ["neurons", "electrodes"]
models = ["pixels", "tiny"]
cv = 5

[[analyses]]
name = "similarity"
kind = "similarity"
recordings = ["neurons"]
models = ["pixels", "tiny"]
permutations = 200
sort = "category"

[[analyses]]
name = "decoding"
kind = "decoding"
recordings = ["neurons"]
target = "category"
by = "region"
groups = "stimulus_id"
cv = 5
permutations = 50
"""


def demo_study() -> Study:
    """The study of the demonstration.

    Examples
    --------
    >>> from cerebridge.encoding.study.demo import demo_study
    >>> demo_study().name
    'demo'
    """
    return parse_study(DEMO, "demo.toml")
