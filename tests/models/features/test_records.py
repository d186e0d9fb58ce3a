"""Records of hand-built features: every option that changes values changes the provenance, and nothing else does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cerebridge import models
from cerebridge.models import features

RNG = np.random.default_rng(0)
FILM = RNG.integers(0, 256, (12, 16, 16, 3), np.uint8)
SOUND = RNG.standard_normal(4000).astype(np.float32)
PICTURES = models.StimulusSet.from_arrays(RNG.integers(0, 256, (3, 40, 40, 3), np.uint8))


def energy(bank):
    return features.motion_energy(FILM, 24, bank=bank)


def small_bank(**options):
    return features.MotionBank(24, **{"size": 16, "frequencies": [2, 4], **options})


def path(**options):
    return features.MotionPathway(16, scales=1, downscale=1, **options)


def matches(**options):
    return features.hmax(
        PICTURES, prototypes=features.learn_prototypes(PICTURES, 4, sides=[2], size=40, **options), size=40
    )


def letters(text):
    return [ord(c) % 8 for c in text], [(k, k + 1) for k in range(len(text))]


def unlikely(shift, **options):
    return features.surprisal(
        "a dog", lambda tokens: torch.arange(8.0).expand(*tokens.shape, 8) * shift, letters, **options
    )


VARIANTS = {
    "motion bank": [
        lambda: energy(small_bank()),
        lambda: energy(small_bank(compression="log")),
        lambda: energy(small_bank(frequencies=[2, 3])),
        lambda: energy(small_bank(window=0.3)),
    ],
    "motion path": [
        lambda: energy(path()),
        lambda: energy(path(gain=2.0)),
        lambda: energy(path(front=features.LocalContrast(2.0))),
        lambda: energy(path(front=lambda film: film.abs())),
        lambda: energy(path(front=lambda film: -film)),
        lambda: energy(features.MTPooling(path())),
        lambda: energy(features.MTPooling(path(), concentration=3.0)),
    ],
    "envelope": [
        lambda: features.envelope(SOUND, 16000),
        lambda: features.envelope(SOUND, 16000, exponent=1.0),
        lambda: features.envelope(SOUND, 16000, bands=2),
        lambda: features.envelope(SOUND, 16000, bands=2, lowest=200),
    ],
    "spectrogram": [
        lambda: features.spectrogram(SOUND, 16000),
        lambda: features.spectrogram(SOUND, 16000, lowest=100),
        lambda: features.spectrogram(SOUND, 16000, compression="none"),
        lambda: features.onsets(features.spectrogram(SOUND, 16000)),
        lambda: features.onsets(features.spectrogram(SOUND, 16000, lowest=100)),
    ],
    "hmax": [lambda: matches(), lambda: matches(random_state=1)],
    "gabor": [
        lambda: features.gabor_pyramid(PICTURES, frequencies=[2], size=40),
        lambda: features.gabor_pyramid(PICTURES, frequencies=[2], size=40, cells="simple"),
        lambda: features.gabor_pyramid(PICTURES.transform(features.UniformBlur(2)), frequencies=[2], size=40),
        lambda: features.gabor_pyramid(PICTURES.transform(features.UniformBlur(3)), frequencies=[2], size=40),
    ],
    "surprisal": [
        lambda: features.surprisal("a dog", features.NGram("a dog a cat")),
        lambda: features.surprisal("a dog", features.NGram("a dog a dog")),
        lambda: features.surprisal("a dog", features.NGram("a dog a cat", order=2)),
        lambda: unlikely(1.0, start=0),
        lambda: unlikely(2.0, start=0),
        lambda: unlikely(1.0, start=1),
        lambda: unlikely(1.0, start=0, max_length=3),
    ],
    "words": [
        lambda: features.word_statistics("a dog", "a dog a cat"),
        lambda: features.word_statistics("a dog", "a dog a dog"),
    ],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_options_are_written_down(name):
    texts = [variant().attrs["provenance"] for variant in VARIANTS[name]]
    assert all(json.loads(text) for text in texts)
    assert len(set(texts)) == len(texts)
    assert [variant().attrs["provenance"] for variant in VARIANTS[name]] == texts
