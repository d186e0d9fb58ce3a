"""A small study that runs in seconds, and the same once for all tests that only look at what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from cerebridge.encoding.study.format import Study, parse_study
from cerebridge.encoding.study.runner import Runner

SMALL = """
[study]
name = "small"
title = "A small study"
seed = 3

[stimuli.pictures]
reader = "patterns"
categories = 3
per_category = 10
size = 32

[networks.tiny]
name = "tiny"
layers = ["conv1", "conv3"]
pool = 2

[features.pixels]
kind = "pixels"
size = 8

[recordings.neurons]
reader = "simulation"
stimuli = "pictures"
regions = { early = "tiny/conv1", late = "tiny/conv3" }
n_units = 24
n_repeats = 4

[[analyses]]
name = "encoding"
kind = "encoding"
recordings = ["neurons"]
models = ["pixels", "tiny"]
cv = 3
seeds = [0, 1]
permutations = 9

[[analyses]]
name = "similarity"
kind = "similarity"
recordings = ["neurons"]
models = ["pixels", "tiny/conv3"]
permutations = 19
sort = "category"

[[analyses]]
name = "decoding"
kind = "decoding"
recordings = ["neurons"]
target = "category"
groups = "stimulus_id"
cv = 3
permutations = 9
"""


@pytest.fixture(scope="session")
def small() -> str:
    """The text of the small study."""
    return SMALL


@pytest.fixture(scope="session")
def small_study() -> Study:
    """The small study, checked."""
    return parse_study(SMALL, "small.toml")


@pytest.fixture(scope="session")
def small_run(small_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the results of the small study; not to be changed."""
    out = tmp_path_factory.mktemp("small")
    Runner(small_study, out, say=lambda line: None).run()
    return out
