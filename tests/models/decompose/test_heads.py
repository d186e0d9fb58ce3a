"""Features of attention outputs: by head and by source, to the last digit, and where they were planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cerebridge.models.decompose import SparseAutoencoder, attribute_heads

HEADS, SIZE, TOKENS = 4, 8, 5


@pytest.fixture(scope="module")
def attended():
    """Attention over 40 sequences, values, and the concatenated outputs of the heads."""
    generator = torch.Generator().manual_seed(5)
    attention = torch.randn(40, HEADS, TOKENS, TOKENS, generator=generator).softmax(-1)
    values = torch.randn(40, HEADS, TOKENS, SIZE, generator=generator)
    outputs = (attention @ values).transpose(1, 2).reshape(40 * TOKENS, HEADS * SIZE)
    return attention, values, outputs


def test_heads_and_sources_add_up_to_the_pre_activation(attended):
    attention, values, outputs = attended
    sae = SparseAutoencoder(50, k=4, max_epochs=3, batch_size=64).fit(outputs)
    report = attribute_heads(
        sae, outputs, n_heads=HEADS, attention=attention, values=values, features=[3, 17, 40]
    )
    with torch.no_grad():
        z = sae.module().preactivations(outputs)[:, [3, 17, 40]].numpy()
    np.testing.assert_allclose(report["preactivation"], z, atol=1e-5)
    np.testing.assert_allclose(report["head_contribution"].sum("head") + report["constant"], z, atol=1e-5)
    np.testing.assert_allclose(
        report["source_contribution"].sum("source"), report["head_contribution"], atol=1e-5
    )
    # one number by hand: feature 17, sequence 2, query 1, head 3, source 4
    encoder = torch.from_numpy(sae.encoder_)[17].reshape(HEADS, SIZE)[3]
    by_hand = attention[2, 3, 1, 4] * (values[2, 3, 4] @ encoder)
    assert float(report["source_contribution"][2 * TOKENS + 1, 1, 3, 4]) == pytest.approx(
        float(by_hand), abs=1e-6
    )
    alone = attribute_heads(sae, n_heads=HEADS, attention=attention, values=values)
    np.testing.assert_allclose(alone["preactivation"].isel(feature=[3, 17, 40]), z, atol=1e-5)
    assert set(attribute_heads(sae, n_heads=HEADS).data_vars) == {"weight_share"}


def test_features_of_one_head_are_attributed_to_it():
    generator = torch.Generator().manual_seed(5)
    owner = torch.arange(32) % HEADS
    atoms = torch.zeros(32, HEADS, SIZE)
    atoms[torch.arange(32), owner] = torch.nn.functional.normalize(
        torch.randn(32, SIZE, generator=generator), dim=1
    )
    atoms = atoms.reshape(32, HEADS * SIZE)
    codes = torch.zeros(8000, 32)
    codes.scatter_(1, torch.rand(8000, 32, generator=generator).topk(2).indices, 1.0)
    codes *= torch.rand(8000, 32, generator=generator) + 0.5
    sae = SparseAutoencoder(64, k=2, max_epochs=20, batch_size=128, learning_rate=5e-3).fit(codes @ atoms)
    share = attribute_heads(sae, n_heads=HEADS)["weight_share"].values
    cosine, feature = (torch.from_numpy(sae.components_) @ atoms.T).max(0)
    assert (cosine > 0.9).sum() > 27
    ours = share[feature, owner][(cosine > 0.9).numpy()]
    assert ours.min() > 0.9 and np.median(ours) > 0.95
    untrained = SparseAutoencoder(32, k=2, max_epochs=1, learning_rate=1e-9).fit(codes @ atoms)
    assert attribute_heads(untrained, n_heads=HEADS)["weight_share"].max() < 0.6


def test_wrong_heads_are_said_in_a_sentence(attended):
    attention, values, outputs = attended
    sae = SparseAutoencoder(10, k=2, max_epochs=1).fit(outputs)
    with pytest.raises(ValueError, match="32 units do not divide into n_heads=5"):
        attribute_heads(sae, outputs, n_heads=5)
    with pytest.raises(ValueError, match="attention and values belong together"):
        attribute_heads(sae, outputs, n_heads=HEADS, values=values)
    with pytest.raises(ValueError, match="attention × values do not give X"):
        attribute_heads(sae, outputs, n_heads=HEADS, attention=attention.flip(0), values=values)
    with pytest.raises(ValueError, match=r"give sequences × 4 × queries × sources"):
        attribute_heads(sae, outputs, n_heads=HEADS, attention=attention[0], values=values)
    with pytest.raises(ValueError, match=r"features=\[10\] are not among the 10"):
        attribute_heads(sae, outputs, n_heads=HEADS, features=[10])
