"""Geometry of representations: codes whose geometry is known, oracles, and what networks learn."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC
from torch import nn

from cerebridge import neuro
from cerebridge.encoding import geometry
from cerebridge.models.training import train

LABEL, CONTEXT = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])


def code(kind, seed=0, n_units=100, n_repeats=20, noise=0.4):
    """Noisy repeats of four conditions, label × context, and which condition each row is."""
    rng = np.random.default_rng(seed)
    label, context = rng.normal(size=(2, n_units))
    means = {
        "factorised": np.outer(2 * LABEL - 1, label) + np.outer(2 * CONTEXT - 1, context),
        "random": rng.normal(size=(4, n_units)),
        "label": np.outer(2 * LABEL - 1, label),
    }[kind]
    condition = np.tile(np.arange(4), n_repeats)
    return means[condition] + noise * rng.normal(size=(len(condition), n_units)), condition


def measured(kind, seed):
    activity, condition = code(kind, seed)
    label, context = LABEL[condition], CONTEXT[condition]
    return [
        geometry.parallelism_score(activity, label, context),
        geometry.cross_condition_generalisation(activity, label, context),
        geometry.shattering_dimensionality(activity, condition),
    ]


def test_factorised_code_is_abstract_and_cannot_tell_everything():
    parallelism, generalisation, shattering = np.mean(
        [measured("factorised", seed) for seed in range(3)], axis=0
    )
    assert parallelism == pytest.approx(0.995, abs=0.005)
    assert generalisation == 1.0
    # the exclusive or cannot be read out on held-out rows: (1 + 1 + 0.5) / 3
    assert shattering == pytest.approx(0.83, abs=0.04)


def test_random_code_tells_everything_and_is_not_abstract():
    scores = np.array([measured("random", seed) for seed in range(24)])
    error = 4 * scores.std(axis=0) / len(scores) ** 0.5
    assert abs(scores[:, 0].mean()) < max(error[0], 0.05)
    assert abs(scores[:, 1].mean() - 0.5) < error[1]
    assert (scores[:, 2] > 0.98).all()


def test_label_code_is_aligned_with_the_label_alone():
    activity, condition = code("label", noise=0.05)
    assert geometry.kernel_alignment(activity, LABEL[condition]) == pytest.approx(1.0, abs=1e-3)
    assert geometry.kernel_alignment(activity, CONTEXT[condition]) < 0.01
    factorised, condition = code("factorised")
    assert 0.6 < geometry.kernel_alignment(factorised, LABEL[condition]) < 0.8
    shuffled = np.random.default_rng(0).permutation(LABEL[condition])
    assert geometry.kernel_alignment(factorised, shuffled) < 0.1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(3, 12), p=st.integers(1, 15), q=st.integers(1, 15))
def test_alignment_is_that_of_centred_kernels(seed, n, p, q):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    centring = np.eye(n) - 1 / n
    kernels = [centring @ x @ x.T @ centring for x in (a, b)]
    expected = (kernels[0] * kernels[1]).sum() / np.prod([np.linalg.norm(k) for k in kernels])
    rotation = np.linalg.qr(rng.normal(size=(p, p)))[0]
    assert geometry.kernel_alignment(a, b) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert geometry.kernel_alignment(3 * a @ rotation + 5, b) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_dichotomies_are_named_and_agree_with_given_labels():
    activity, condition = code("factorised")
    names = np.array(["a", "b", "c", "d"])[condition]
    scores = geometry.linear_separability(activity, condition=names)
    assert scores.dichotomy.values.tolist() == ["a d | b c", "a c | b d", "a b | c d"]
    assert (scores.values[1:] == 1).all() and scores.values[0] < 0.7
    parallel = geometry.parallelism_score(activity, condition=names)
    crossed = geometry.cross_condition_generalisation(activity, condition=names)
    label = LABEL[condition]
    assert parallel.values[2] == pytest.approx(
        geometry.parallelism_score(activity, label, condition=names), rel=1e-12
    )
    assert crossed.values[2] == geometry.cross_condition_generalisation(activity, label, condition=names)
    assert scores.values[2] == geometry.linear_separability(activity, label, condition=names)
    assert geometry.shattering_dimensionality(activity, names) == pytest.approx(scores.values.mean())
    np.testing.assert_array_less(parallel.values[0], 0)


def test_parallelism_takes_the_best_of_all_pairings():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 6))
    best = -1.0
    for order in permutations(range(4)):
        units = [d / np.linalg.norm(d) for d in b[list(order)] - a]
        best = max(best, np.mean([units[i] @ units[j] for i in range(4) for j in range(4) if i != j]))
    found = geometry.parallelism_score(np.vstack([a, b]), np.repeat([0, 1], 4))
    assert found == pytest.approx(best, rel=1e-10)
    moved = np.vstack([a, a[[2, 0, 3, 1]] + np.ones(6)])
    assert geometry.parallelism_score(moved, np.repeat([0, 1], 4)) == pytest.approx(1)
    wrong = geometry.parallelism_score(moved, np.repeat([0, 1], 4), np.tile(np.arange(4), 2))
    assert wrong < 0.9


def test_directions_of_no_length_are_parallel_to_none():
    same = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert geometry.parallelism_score(same, [0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0)
    assert geometry.parallelism_score(same, [0, 0, 1, 1]) == pytest.approx(0)


def test_generalisation_holds_out_conditions():
    activity, condition = code("random", n_repeats=5)
    label = LABEL[condition]
    model = SVC(kernel="linear")
    expected = []
    for a, b in ((0, 2), (0, 3), (1, 2), (1, 3)):
        test = np.isin(condition, (a, b))
        right = model.fit(activity[~test], label[~test]).predict(activity[test]) == label[test]
        expected.append(right.mean())
    found = geometry.cross_condition_generalisation(activity, label, condition=condition, classifier=model)
    assert found == pytest.approx(np.mean(expected))


def test_folds_are_groups_or_neighbouring_repeats():
    rng = np.random.default_rng(0)
    drift = np.cumsum(rng.normal(size=(60, 1)), axis=0)
    noise = np.hstack([drift, rng.normal(size=(60, 4))])
    label, run = np.tile([0, 1], 30), np.repeat(np.arange(6), 10)
    assert geometry.linear_separability(noise, label, groups=run) < 0.7
    array = neuro.assemble(
        noise,
        presentation={"stimulus_id": np.where(label, "face", "house"), "run": run, "animate": label == 1},
        neuroid={"neuroid_id": np.arange(5)},
        modality="fmri",
        units="1",
    )
    by_name = geometry.linear_separability(array, "animate", groups="run")
    assert by_name == geometry.linear_separability(noise, label, groups=run)
    assert geometry.kernel_alignment(array, label) == geometry.kernel_alignment(noise, label)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, lambda x: torch.as_tensor(x).float()])
def test_any_container_gives_the_same_numbers(convert):
    activity, condition = code("random")
    given = convert(activity)
    label = LABEL[condition]
    for function in (geometry.parallelism_score, geometry.cross_condition_generalisation):
        expected = function(activity, label, CONTEXT[condition])
        assert function(given, label, CONTEXT[condition]) == pytest.approx(expected, rel=1e-5)
    assert geometry.kernel_alignment(given, label) == pytest.approx(
        geometry.kernel_alignment(activity, label), rel=1e-5
    )


def task(in_input, seed, n_repeats=32, n_inputs=64):
    """Two variables in the input, and to a share ``in_input`` the target, which is their exclusive or."""
    rng = np.random.default_rng(seed)
    a, b = (np.repeat(values, n_repeats) for values in ([-1, -1, 1, 1], [-1, 1, -1, 1]))
    axes = np.linalg.qr(rng.normal(size=(n_inputs, 3)))[0].T
    x = np.sqrt((1 - in_input) / 2) * (np.outer(a, axes[0]) + np.outer(b, axes[1]))
    x += np.sqrt(in_input) * np.outer(a * b, axes[2]) + 0.3 / 8 * rng.normal(size=x.shape)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(a * b > 0)[:, None].float()


def learned(nonlinearity, in_input, seed):
    """Alignment of the hidden layer with target and with input, accuracy, alignment of input and target."""
    x, y = task(in_input, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(64, 128), nonlinearity(), nn.Linear(128, 1))
        for layer in (network[0], network[2]):
            nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    train(
        network,
        lambda module, batch: nn.functional.binary_cross_entropy_with_logits(module(batch["x"]), batch["y"]),
        {"x": x, "y": y},
        learning_rate=0.01,
        max_epochs=100,
        patience=None,
        batch_size=128,
        optimizer="adam",
        random_state=seed,
    )
    with torch.no_grad():
        hidden, accuracy = network[:2](x), ((network(x) > 0) == (y > 0)).float().mean().item()
    align = geometry.kernel_alignment
    exchanged = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))]
    return align(hidden, y), align(hidden, x), align(x, y), align(hidden, exchanged), accuracy


@pytest.mark.slow
def test_tanh_aligns_with_the_target_and_relu_keeps_the_geometry_of_the_input():
    graded = (0.1, 0.2, 0.3)
    found = {
        kind: np.mean([[learned(kind, share, seed) for share in graded] for seed in range(3)], axis=0)
        for kind in (nn.Tanh, nn.ReLU)
    }
    tanh, relu = found[nn.Tanh], found[nn.ReLU]
    target, source, given, exchanged, accuracy = range(5)
    for scores in (tanh, relu):
        assert (scores[:, accuracy] == 1).all() and (scores[:, exchanged] < 0.05).all()
        assert (np.diff(scores[:, given]) > 0.1).all()
    # tanh forgets what the target does not need, however little of it the input shows
    assert (tanh[:, target] > 0.97).all()
    assert (tanh[:, source] < tanh[:, given] + 0.1).all()
    assert (relu[:, source] > 0.85).all()
    assert (relu[:, target] < tanh[:, target] - 0.1).all()
    assert (np.diff(relu[:, target]) > 0.05).all()


X, Y = np.random.default_rng(0).normal(size=(12, 5)), np.tile([0, 1], 6)
BAD = {
    "shape": (lambda: geometry.kernel_alignment(X[0], Y), "has the shape (5,)"),
    "missing": (lambda: geometry.parallelism_score(np.where(X > 1.5, np.nan, X), Y), "missing or infinite"),
    "rows": (lambda: geometry.kernel_alignment(X, X[:5]), "activity has 12 rows and target 5"),
    "labels a row": (lambda: geometry.kernel_alignment(X, Y[:5]), "one for each of the 12 rows"),
    "flat": (lambda: geometry.kernel_alignment(X, np.ones((12, 2))), "the target is the same in all rows"),
    "three labels": (lambda: geometry.parallelism_score(X, np.arange(12) % 3, Y), "3 different values"),
    "one context": (lambda: geometry.parallelism_score(X, Y, np.ones(12)), "there is one context"),
    "half a context": (lambda: geometry.parallelism_score(X, Y, Y), "context 0 has one of the two"),
    "name": (lambda: geometry.linear_separability(X, "animate"), "labels='animate' is no coordinate"),
    "mixed": (
        lambda: geometry.parallelism_score(X, Y, condition=np.arange(12) // 3),
        "condition 0 has rows of both",
    ),
    "uneven": (
        lambda: geometry.parallelism_score(X[:7], np.arange(7) > 2),
        "3 conditions have one label and 4",
    ),
    "pairings": (lambda: geometry.parallelism_score(np.vstack([X, X]), np.tile(Y, 2)), "too many pairings"),
    "odd": (lambda: geometry.parallelism_score(X[:5]), "5 conditions; .* even number from 4"),
    "many": (lambda: geometry.parallelism_score(np.vstack([X, X])), "24 conditions have 1352078 balanced"),
    "single": (
        lambda: geometry.cross_condition_generalisation(X, Y, condition=Y),
        "a label has a single condition",
    ),
    "test context": (lambda: geometry.cross_condition_generalisation(X, Y, Y), "one of the two labels only"),
    "few repeats": (lambda: geometry.linear_separability(X, condition=np.arange(12) // 3), "0 has 3 rows"),
    "one group": (
        lambda: geometry.linear_separability(X, Y, groups=np.ones(12)),
        "all rows are of one group",
    ),
    "folds": (lambda: geometry.linear_separability(X, Y, cv=1), "cv must be a whole number from 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match.replace("(5,)", r"\(5,\)")) as error:
        call()
    assert "\n" not in str(error.value)
