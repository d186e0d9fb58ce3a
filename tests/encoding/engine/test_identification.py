"""Similarity to group means without the means, against means that are formed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.encoding.engine.identification import group_similarities


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n_people=st.integers(2, 6), n_groups=st.integers(2, 4))
def test_agrees_with_correlations_with_means(seed, n_people, n_groups):
    rng = np.random.default_rng(seed)
    m = n_people * n_groups * 2
    items = rng.normal(size=(m, 9))
    items -= items.mean(axis=1, keepdims=True)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    owners = rng.permutation(np.arange(m) % n_people)
    groups = rng.integers(0, n_groups, m)
    members = torch.eye(n_groups, dtype=torch.float64)[torch.tensor(groups)]
    found = group_similarities(torch.tensor(items @ items.T), members, torch.tensor(owners) * 7 - 3)
    for i, group in np.ndindex(m, n_groups):
        others = items[(groups == group) & (owners != owners[i])]
        if len(others) == 0:
            assert found[i, group].isnan()
        else:
            expected = np.corrcoef(items[i], others.mean(axis=0))[0, 1]
            assert found[i, group].item() == pytest.approx(expected, abs=1e-9)


def test_a_batch_of_similarities_or_of_memberships_is_done_at_once():
    rng = np.random.default_rng(0)
    items = torch.tensor(rng.normal(size=(3, 8, 5)))
    similarity = items @ items.mT
    members = torch.eye(2, dtype=torch.float64)[torch.tensor(rng.permuted(np.tile([0, 1], (3, 4)), axis=1))]
    owners = torch.arange(8) // 2
    both = group_similarities(similarity, members, owners)
    for k in range(3):
        torch.testing.assert_close(
            both[k], group_similarities(similarity[k], members[k], owners), equal_nan=True
        )
    one = group_similarities(similarity[0], members, owners)
    torch.testing.assert_close(one[0], both[0], equal_nan=True)
