"""Two groups of people: permutation by hand, known differences, and groups that do not differ."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa.pairs import pair_table


def labelled(vectors, ids=None, stimuli=None):
    n = (1 + int((1 + 8 * len(vectors[0])) ** 0.5)) // 2
    ids = [f"s{k}" for k in range(len(vectors))] if ids is None else ids
    stimuli = np.array([f"i{k:02d}" for k in range(n)] if stimuli is None else stimuli)
    return neuro.assemble(
        vectors, rdm={"neuroid_id": ids}, pair=pair_table(stimuli), modality="fmri", units="1"
    )


def mixed(n_bases=4, n_people=5, n_stimuli=12, noise=0.3, seed=0):
    """Bases, and people who see a mixture of the first and the third through noise."""
    rng = np.random.default_rng(seed)
    bases = rng.random((n_bases, n_stimuli * (n_stimuli - 1) // 2))
    people = bases[0] + 2 * bases[2] + noise * rng.random((n_people, bases.shape[1]))
    return labelled(bases, [f"b{k}" for k in range(n_bases)]), labelled(people)


def groups(n_first=5, n_second=6, n_stimuli=12, shift=0.0, noise=2.0, seed=0):
    """A model, and two groups that see it through noise; ``shift`` mixes something else into the second."""
    rng = np.random.default_rng(seed)
    model, other = rng.random((2, n_stimuli * (n_stimuli - 1) // 2))
    truths = model, (1 - shift) * model + shift * other
    first, second = (
        labelled(truth + noise * rng.random((n, len(model))), [f"{name}{k}" for k in range(n)]).assign_coords(
            subject=("rdm", [f"{name}{k}" for k in range(n)])
        )
        for truth, n, name in ((truths[0], n_first, "a"), (truths[1], n_second, "b"))
    )
    return labelled(np.stack([model, other]), ["model", "other"]), first, second


def test_the_test_is_all_exchanges_of_labels():
    models, first, second = groups(3, 4)
    found = rsa.compare_groups(models, first, second, "spearman")
    scores = np.concatenate([rsa.compare(models, x, "spearman").values for x in (first, second)], axis=1)
    among = rsa.compare(np.concatenate([first.values, second.values]), method="spearman")
    differences, separations = [], []
    for chosen in combinations(range(7), 4):
        b = np.isin(np.arange(7), chosen)
        differences.append(scores[:, b].mean(axis=1) - scores[:, ~b].mean(axis=1))
        within = [among[np.ix_(x, x)][np.triu_indices(x.sum(), 1)].mean() for x in (~b, b)]
        separations.append(np.mean(within) - among[np.ix_(b, ~b)].mean())
        if chosen == (3, 4, 5, 6):
            own, own_separation = differences[-1], separations[-1]
    np.testing.assert_allclose(found["difference"], own, atol=1e-12)
    np.testing.assert_allclose(found["mean_second"] - found["mean_first"], own, atol=1e-12)
    np.testing.assert_allclose(found["p"], (np.abs(differences) >= np.abs(own) - 1e-9).mean(axis=0))
    assert float(found["separation"]) == pytest.approx(own_separation)
    assert float(found["p_separation"]) == pytest.approx(
        np.mean(np.array(separations) >= own_separation - 1e-9)
    )
    assert found.attrs["permutations"] == 35
    assert (found["p_max"] >= found["p"]).all() and (found["p_fdr"] >= found["p"]).all()
    assert found["group"].values.tolist() == ["first"] * 3 + ["second"] * 4


@pytest.mark.parametrize("resample", ["subjects", "both"])
def test_a_true_difference_is_found_with_its_sign(resample):
    models, first, second = groups(10, 9, n_stimuli=20, shift=0.7, noise=1.0)
    found = rsa.compare_groups(
        models, first, second, resample=resample, permutations=500, n_resamples=200
    ).sel(model="model")
    assert found["p"] == pytest.approx(1 / 501) and found["difference"] < 0
    assert found["difference_low"] < found["difference"] < found["difference_high"] < 0
    assert found["p_separation"] == pytest.approx(1 / 501) and found["separation"] > 0


def test_conditions_widen_the_interval():
    models, first, second = groups(8, 8, n_stimuli=14, noise=0.5, shift=0.3)
    width = {}
    for resample in ("subjects", "both"):
        found = rsa.compare_groups(models, first, second, "cosine", resample=resample, n_resamples=300)
        width[resample] = (found["difference_high"] - found["difference_low"]).values
    assert (width["both"] > width["subjects"]).all()


def test_one_group_split_at_random_differs_as_often_as_the_level_says():
    p, separated, covered = [], [], []
    for seed in range(60):
        models, first, second = groups(6, 6, n_stimuli=8, seed=seed)
        found = rsa.compare_groups(
            models[:1], first, second, permutations=200, n_resamples=200, random_state=seed
        )
        p.append(found["p"].item())
        separated.append(found["p_separation"].item())
        covered.append(found["difference_low"].item() <= 0 <= found["difference_high"].item())
    # 60 draws of 5 %: more than 8 have a probability below 0.5 %
    assert np.sum(np.array(p) <= 0.05) <= 8 and np.sum(np.array(separated) <= 0.05) <= 8
    assert 0.35 < np.mean(p) < 0.65 and 0.35 < np.mean(separated) < 0.65
    assert np.mean(covered) > 0.8


def test_exchanging_the_groups_turns_the_sign_and_order_does_not_matter():
    models, first, second = groups(4, 5, shift=0.4)
    found = rsa.compare_groups(models, first, second, "pearson")
    turned = rsa.compare_groups(models, second[::-1], first, "pearson")
    np.testing.assert_allclose(turned["difference"], -found["difference"], atol=1e-12)
    np.testing.assert_allclose(turned["p"], found["p"])
    order = np.random.default_rng(0).permutation(66)
    moved = rsa.compare_groups(models, first, second.isel(pair=order), "pearson")
    np.testing.assert_allclose(moved["similarity"], found["similarity"], atol=1e-12)


def test_sessions_are_averaged_and_stay_with_their_person():
    models, first, second = groups(6, 4)
    sessions = first.assign_coords(subject=("rdm", list("uuvvww")))
    found = rsa.compare_groups(models, sessions, second, "pearson")
    scores = rsa.compare(models, first, "pearson").values.reshape(2, 3, 2).mean(axis=2)
    np.testing.assert_allclose(found["score"].sel(person=found["group"] == "first"), scores, atol=1e-12)
    assert found.attrs["permutations"] == 35


def test_fitted_models_are_crossvalidated_over_both_groups():
    bases, people = mixed(n_people=8, n_stimuli=24, noise=1.0)
    first, second = (
        people[part].assign_coords(subject=("rdm", [f"{name}{k}" for k in range(4)]))
        for part, name in ((slice(4), "a"), (slice(4, 8), "b"))
    )
    models = {"mixture": rsa.WeightedModel(bases), "part": bases[:1]}
    found = rsa.compare_groups(models, first, second, "pearson", permutations=20)
    assert found["mean_first"].sel(model="mixture") > found["mean_first"].sel(model="part")
    assert found["p"].sel(model="mixture") > 0.05
    with pytest.raises(ValueError, match="'mixture' is to be fitted, and conditions are resampled"):
        rsa.compare_groups(models, first, second, "pearson", resample="both")


def test_bad_input_is_one_sentence():
    models, first, second = groups()
    for call, message in [
        (lambda: rsa.compare_groups(models, first[:1], second), "first has the RDMs of 1 person"),
        (lambda: rsa.compare_groups(models, first, first), "'a0' is in both groups"),
        (lambda: rsa.compare_groups(models, first, second[:, 1:]), "same stimuli, but not the same pairs"),
        (lambda: rsa.compare_groups(models, first, second, resample="all"), "resample='all' is unknown"),
        (lambda: rsa.compare_groups(models, first, second, "kendall"), "method='kendall' is unknown"),
        (
            lambda: rsa.compare_groups(models, first, second, "bures", resample="both"),
            "cannot be resampled under method='bures'",
        ),
        (lambda: rsa.compare_groups(models, first, second, permutations=0), "permutations must be"),
        (lambda: rsa.compare_groups({}, first, second), "models is empty"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
