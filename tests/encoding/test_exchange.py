"""What changes places when chance is measured."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from cerebridge import encoding, neuro
from cerebridge.encoding.exchange import find_exchange


def trials(values, ids=None, **labels):
    return neuro.assemble(
        values,
        presentation={"stimulus_id": np.arange(len(values)) if ids is None else ids, **labels},
        neuroid={"neuroid_id": np.arange(np.shape(values)[1])},
        modality="spikes",
        units="spikes",
    )


def recording(run, values=None, **labels):
    start = np.arange(len(run)) * 2.0
    values = np.zeros((len(run), 1)) if values is None else values
    return neuro.assemble(
        values,
        time_bin={"time_bin_start": start, "time_bin_end": start + 2, "run": run, **labels},
        neuroid={"neuroid_id": np.arange(values.shape[1])},
        modality="fmri",
        units="a.u.",
        sfreq=0.5,
    )


def orders(*args, n=20, **kwargs):
    rng = np.random.default_rng(0)
    found = find_exchange(*args, **kwargs)
    return [found.draw(rng) for _ in range(n)]


RUN = np.repeat([0, 1, 2], 20)
BLOCK = np.repeat(np.arange(12), 5)
LABELS = np.tile(np.repeat(["face", "house"], 5), 6)


def test_blocks_move_whole_within_their_run():
    for order in orders(recording(RUN, block=BLOCK), labels=LABELS):
        moved = BLOCK[order].reshape(-1, 5)
        assert (moved == moved[:, :1]).all(), "a block stays together"
        assert (RUN[order] == RUN).all(), "and within its run"
    assert any((order != np.arange(60)).any() for order in orders(recording(RUN, block=BLOCK), labels=LABELS))


@pytest.mark.parametrize("labels", [None, LABELS], ids=["responses", "labels"])
def test_what_is_continuous_is_rotated_within_runs(labels):
    for order in orders(recording(RUN), labels=labels):
        for run in range(3):
            part = order[run == RUN]
            assert set(np.diff(part) % 20) == {1}
            assert (RUN[part] == run).all()
            assert part[0] != 20 * run, "a rotation moves"


def test_runs_of_the_same_number_in_two_sessions_are_two_recordings():
    run, session = np.tile(np.repeat([0, 1], 6), 2), np.repeat([0, 1], 12)
    array = trials(np.zeros((24, 1)), run=run, session=session)
    for order in orders(array, labels=np.tile(["a", "b"], 12)):
        assert (session[order] == session).all() and (run[order] == run).all()


def test_repeats_of_a_stimulus_move_together_with_as_many_others():
    ids = np.repeat(np.arange(9), [1, 1, 1, 2, 2, 2, 3, 3, 4])
    found = orders(trials(np.zeros((len(ids), 1)), ids), groups=ids)
    for order in found:
        assert sorted(order) == list(range(len(ids)))
        for stimulus in range(9):
            assert len(set(ids[order][ids == stimulus])) == 1
    assert all((order[-4:] == np.arange(15, 19)).all() for order in found), (
        "there is no other with four repeats"
    )
    assert len({tuple(order) for order in found}) > 10


@pytest.mark.parametrize("name", [None, "subject", "run"], ids=["groups", "subject", "run"])
def test_labels_that_belong_to_whole_groups_move_with_them(name):
    sizes = [3, 4, 5, 6, 4, 3]
    group = np.repeat(np.arange(6), sizes)
    labels = np.array(["patient", "control"] * 3)[group]
    array = trials(np.zeros((25, 1)), **({} if name is None else {name: group}))
    seen = set()
    for order in orders(array, labels=labels, groups=group if name is None else None):
        moved = labels[order]
        seen.add(tuple(moved))
        assert all(len(set(moved[group == k])) == 1 for k in range(6))
        assert sorted(moved[np.cumsum(sizes) - 1]) == ["control"] * 3 + ["patient"] * 3
    assert len(seen) > 5


def test_labels_that_vary_within_groups_stay_in_them():
    group = np.repeat(np.arange(4), 6)
    labels = np.tile(["a", "b"], 12)
    for order in orders(trials(np.zeros((24, 1))), labels=labels, groups=group):
        assert (group[order] == group).all()


def test_a_named_coordinate_has_the_last_word():
    pair = np.repeat(np.arange(6), 2)
    array = trials(np.zeros((12, 1)), pair=pair, block=np.arange(12))
    for order in orders(array, "pair"):
        assert (np.diff(pair[order].reshape(-1, 2)) == 0).all()
    with pytest.raises(
        ValueError, match=r"no coordinate exchange='blok' along 'presentation'; there are \['block'"
    ):
        find_exchange(array, "blok")


def test_nothing_to_exchange_is_said():
    ids = np.repeat(np.arange(3), [1, 2, 3])
    with pytest.raises(
        ValueError, match="no two groups of rows hold as many rows, so none can change places"
    ):
        find_exchange(trials(np.zeros((6, 1)), ids), groups=ids)


def chance(study, n, permutations=19):
    """Share of replications of a study without effect with a p (of the first unit) of 0.05 or less."""
    rng = np.random.default_rng(0)
    return np.mean(
        [
            study(rng, permutations=permutations, random_state=k).dataset["p"].values.flat[0] <= 0.05
            for k in range(n)
        ]
    )


def categories(rng, **kwargs):
    """Stimuli of a category are alike in the model and in the brain, for different reasons."""
    category = np.repeat(np.arange(8), 12)
    x, y = (trials(rng.standard_normal((8, 3))[category] + 0.1 * rng.standard_normal((96, 3)), category=category)
            for _ in range(2))  # fmt: skip
    return encoding.evaluate(encoding.RidgeCV([10.0], cv=2), x, y, cv=4, groups="category", **kwargs)


def people(rng, **kwargs):
    """Two groups of people who do not differ more than any two people."""
    person = np.repeat(np.arange(10), 12)
    values = rng.standard_normal((10, 2))[person] + 0.1 * rng.standard_normal((120, 2))
    labels = np.tile(["patient", "control"], 5)[person]
    return encoding.evaluate(NearestCentroid(), values, labels, cv=2, groups=person, **kwargs)


def drifting(rng, **kwargs):
    """Two slow signals that have nothing to do with each other."""
    run = np.repeat([0, 1], 120)

    def slow(n):
        return recording(run, values=lfilter([1], [1, -0.9], rng.standard_normal((240, n)), axis=0))

    return encoding.evaluate(encoding.RidgeCV([10.0], cv=2), slow(3), slow(2), **kwargs)


@pytest.mark.parametrize("study", [categories, people, drifting])
def test_p_values_of_noise_that_hangs_together_hold_their_level(study):
    """Rows exchanged one by one would give 48, 25 and 35 % here."""
    assert chance(study, 40) <= 0.15


def test_the_control_is_left_out_where_nothing_can_be_exchanged():
    ids = np.repeat(np.arange(4), [1, 2, 3, 4])
    rng = np.random.default_rng(0)
    features, responses = trials(rng.standard_normal((4, 2))), trials(rng.standard_normal((10, 2)), ids)
    result = encoding.evaluate(Ridge(), features, responses, cv=2, repeats="keep", scoring="r2")
    assert result.audit["exchange"].startswith("none: no two groups")
    assert "shuffle_control" not in result.audit
    with pytest.raises(ValueError, match="no two groups of rows"):
        encoding.evaluate(Ridge(), features, responses, cv=2, repeats="keep", scoring="r2", permutations=9)
