"""Weighted similarities and ceilings against RDMs with their conditions and people written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.encoding.engine.ranks import midranks
from cerebridge.encoding.engine.reweighting import LINEAR, METHODS, reweight
from cerebridge.encoding.engine.similarity import prepare, similarities, unit_length

N = 9


def case(seed=0, tied=False, people=4, models=3, samples=6):
    """Models, people, pairs, and counts of conditions and people."""
    rng = np.random.default_rng(seed)
    truth = rng.random(N * (N - 1) // 2)
    data = truth + rng.random((people, truth.size))
    fixed = truth + 2 * rng.random((models, truth.size))
    if tied:
        data, fixed = np.round(3 * data), np.round(3 * fixed)
    conditions = rng.multinomial(N, np.full(N, 1 / N), samples)
    counts = rng.multinomial(people, np.full(people, 1 / people), samples)
    sides = (torch.from_numpy(x) for x in (fixed, data))
    return *sides, torch.triu_indices(N, N, 1), torch.from_numpy(conditions), torch.from_numpy(counts)


def written_out(rows, pairs, conditions):
    """Dissimilarities of conditions as often as they count, and which of all pairs are no copies."""
    order = torch.repeat_interleave(torch.arange(N), conditions)
    square = torch.full((len(rows), N, N), torch.nan, dtype=rows.dtype)
    square[:, pairs[0], pairs[1]] = square[:, pairs[1], pairs[0]] = rows
    first, second = torch.triu_indices(len(order), len(order), 1)
    long = square[:, order[first], order[second]]
    known = long[0].isfinite()
    return long[:, known], known


def scaled(rows, method, ceiling):
    if ceiling == "mean":
        return rows
    if method.endswith("cosine"):
        return unit_length(rows)
    return (
        unit_length(rows - rows.mean(dim=1, keepdim=True)) if method.endswith("pearson") else midranks(rows)
    )


def compared(a, b, method, known):
    """Similarity over all pairs of conditions written out that are no copies."""
    return similarities(prepare(a, method, known=known), prepare(b, method, known=known), method)


def ceilings(rows, counts, method, ceiling, known):
    """Mean over different people of the similarity with the others and with all."""
    scale, who = scaled(rows, method, ceiling), counts.nonzero()[:, 0]
    found = []
    for k in who:
        others = counts.clone()
        if len(who) > 1:
            others[k] = 0
        pools = [(side[:, None] * scale).sum(dim=0, keepdim=True) for side in (others, counts)]
        found.append([compared(pool, rows[k : k + 1], method, known).item() for pool in pools])
    return np.mean(found, axis=0)


@pytest.mark.parametrize("ceiling", ["rank", "mean"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_agrees_with_rdms_written_out(method, tied, ceiling):
    models, data, pairs, conditions, people = case(tied=tied)
    ways = torch.stack([people, torch.ones_like(people)])
    found = reweight(models, data, pairs, conditions, ways, method, ceiling)
    for n, counts in enumerate(conditions):
        long, known = written_out(torch.cat([models, data]), pairs, counts)
        expected = compared(long[:3], long[3:], method, known)
        np.testing.assert_allclose(found.scores[n], expected, atol=1e-12)
        for k, way in enumerate(ways[:, n]):
            lower, upper = ceilings(long[3:], way, method, ceiling, known)
            assert found.lower[k, n].item() == pytest.approx(lower, abs=1e-12)
            assert found.upper[k, n].item() == pytest.approx(upper, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_pairs_that_are_not_listed_are_left_out(method):
    models, data, pairs, conditions, people = case(seed=3)
    some = torch.from_numpy(np.random.default_rng(1).random(pairs.shape[1]) < 0.7)
    found = reweight(models[:, some], data[:, some], pairs[:, some], conditions, people[None], method)
    for n, counts in enumerate(conditions):
        gaps = torch.where(some, torch.cat([models, data]), torch.nan)
        long, known = written_out(gaps, pairs, counts)
        np.testing.assert_allclose(found.scores[n], compared(long[:3], long[3:], method, known), atol=1e-12)
        lower, _ = ceilings(long[3:], people[n], method, "rank", known)
        assert found.lower[0, n].item() == pytest.approx(lower, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_everything_once_is_the_plain_comparison_and_serves_all_people(method):
    models, data, pairs, conditions, people = case(seed=1)
    once = torch.ones_like(conditions[:1])
    found = reweight(models, data, pairs, once, people[None], method)
    np.testing.assert_allclose(found.scores[0], compared(models, data, method, None), atol=1e-12)
    spread = reweight(models, data, pairs, once.expand(len(people), -1), people[None], method)
    np.testing.assert_allclose(found.lower, spread.lower, atol=1e-14)
    np.testing.assert_allclose(found.upper, spread.upper, atol=1e-14)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(N)), st.permutations(range(4)), st.sampled_from(METHODS))
def test_the_order_of_conditions_and_people_does_not_matter(order, who, method):
    models, data, pairs, conditions, people = case(seed=2)
    found = reweight(models, data, pairs, conditions, people[None], method)
    moved = torch.empty(N, dtype=torch.int64)
    moved[torch.tensor(order)] = torch.arange(N)
    other = reweight(
        models, data[list(who)], moved[pairs], conditions[:, order], people[None, :, list(who)], method
    )
    np.testing.assert_allclose(other.scores, found.scores[:, :, list(who)], atol=1e-12)
    np.testing.assert_allclose(other.lower, found.lower, atol=1e-12)
    np.testing.assert_allclose(other.upper, found.upper, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_person_alone_is_its_own_pool(method):
    models, data, pairs, conditions, people = case()
    alone = torch.zeros_like(people)
    alone[:, 2] = 4
    found = reweight(models, data, pairs, conditions, alone[None], method)
    np.testing.assert_array_equal(found.lower, found.upper)
    if method not in ("rho-a", "tau-a"):
        np.testing.assert_allclose(found.lower, 1, atol=1e-12)


@pytest.mark.parametrize("method", [m for m in METHODS if "cosine" not in m])
def test_a_model_that_is_constant_in_a_resample_has_no_similarity_there(method):
    _, data, pairs, conditions, people = case()
    animate = torch.arange(N) < 4
    model = (animate[pairs[0]] != animate[pairs[1]]).double()[None] + 0.1
    some = conditions.clone()
    some[:, 4:] = 0
    some[:, :4] += 1
    found = reweight(model, data, pairs, some, people[None], method).scores
    assert bool((found == 0).all())


def test_float32_is_close():
    models, data, pairs, conditions, people = case()
    for method in LINEAR:
        precise = reweight(models, data, pairs, conditions, people[None], method).scores
        rough = reweight(models.float(), data.float(), pairs, conditions, people[None], method).scores
        np.testing.assert_allclose(rough, precise, atol=1e-4)


def test_people_who_are_constant_in_a_resample_are_no_pool_for_another():
    # only three pairs are left, and of the rounding of the first and third person nothing may follow
    data = torch.tensor(
        [[3, 3, 3, 2, 3, 1, 1, 2, 2, 1], [2, 3, 3, 2, 3, 1, 3, 2, 3, 3], [3, 1, 1, 2, 1, 3, 3, 2, 2, 3]]
    ).double()
    conditions, people = torch.tensor([[0, 3, 0, 1, 1]]), torch.ones(1, 1, 3, dtype=torch.int64)
    found = reweight(data[:1], data, torch.triu_indices(5, 5, 1), conditions, people, "pearson")
    assert found.lower.item() == 0
