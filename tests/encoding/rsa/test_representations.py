"""Representations compared: matched by stimulus, invariant to what each method claims, and tested against chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold

from cerebridge import models, neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa.representations import METHODS

compare = rsa.compare_representations
N = 40


def patterns(seed, p=6, n=N, noise=1.0):
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).standard_normal((n, 4))
    return shared @ rng.standard_normal((4, p)) + noise * rng.standard_normal((n, p)) + 1


def labelled(values, stimuli=None, **units):
    return neuro.assemble(
        values,
        presentation={"stimulus_id": np.arange(len(values)) if stimuli is None else stimuli},
        neuroid={"neuroid_id": [f"u{k}" for k in range(values.shape[1])], **units},
        modality="spikes",
        units="1",
    )


def rotation(rng, p):
    return np.linalg.qr(rng.standard_normal((p, p)))[0]


CHANGES = {
    "rotation": lambda x, rng: x @ rotation(rng, x.shape[1]),
    "permutation": lambda x, rng: x[:, rng.permutation(x.shape[1])],
    "scale": lambda x, rng: 7 * x,
    "scale of units": lambda x, rng: x * np.geomspace(0.05, 20, x.shape[1]),
    "sign of units": lambda x, rng: x * np.resize([1, -1], x.shape[1]),
    "linear map": lambda x, rng: x @ rotation(rng, x.shape[1]) * np.geomspace(0.05, 20, x.shape[1]),
    "shift": lambda x, rng: x + 10 * rng.standard_normal(x.shape[1]),
}
ROTATION = {"rotation", "permutation", "sign of units"}
TURNED = {*ROTATION, "scale", "shift"}
MATCHED = {"permutation", "scale", "scale of units", "shift"}
#: what leaves a method as it is, done to the first and to the second representation
INVARIANCES = {
    **dict.fromkeys(
        ("linear-cka", "rv", "debiased-linear-cka", "rbf-cka", "debiased-rbf-cka"), (TURNED, TURNED)
    ),
    "adjusted-rv": ({*MATCHED, "sign of units"},) * 2,
    "cca": (set(CHANGES), set(CHANGES)),
    "svcca": (TURNED, TURNED),
    "pwcca": ({"permutation", "sign of units", "scale", "shift"}, set(CHANGES)),
    **dict.fromkeys(("procrustes", "procrustes-distance", "shape-angular"), (TURNED, TURNED)),
    "shape-euclidean": (TURNED - {"scale"},) * 2,
    **dict.fromkeys(("one-to-one", "soft-matching", "soft-matching-distance"), (MATCHED, MATCHED)),
    "predictivity": (TURNED - {"scale"}, {*MATCHED, "sign of units"}),
    "knn-overlap": (TURNED - {"shift"},) * 2,
}


def test_every_method_is_tested_for_what_it_is_invariant_to():
    assert set(INVARIANCES) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", [0, 1])
def test_invariances_are_those_claimed_and_no_others(method, change, side):
    options = {"variance": 0.8} if method == "svcca" else {}
    pair = [patterns(0), patterns(1)]
    before = compare(*pair, method, **options)
    rng = np.random.default_rng(2)
    pair[side] = CHANGES[change](pair[side], rng)
    after = compare(*pair, method, **options)
    if change in INVARIANCES[method][side]:
        assert after == pytest.approx(before, abs=1e-6)
    else:
        assert abs(after - before) > 1e-4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(sorted(set(METHODS) - {"predictivity"})))
def test_symmetry_and_the_order_of_stimuli(seed, method):
    a, b = patterns(seed), patterns(seed + 1, p=5)
    order = np.random.default_rng(seed).permutation(N)
    found = compare(a, b, method)
    assert compare(a[order], b[order], method) == pytest.approx(found, abs=1e-9)
    if METHODS[method].symmetric:
        assert compare(b, a, method) == pytest.approx(found, abs=1e-9)
    itself = compare(a, a, method)
    assert itself == pytest.approx(0 if METHODS[method].kind == "distance" else 1, abs=1e-6)


def test_soft_matching_is_a_metric_and_does_not_mind_copies():
    sides = {k: patterns(k, p=p) for k, p in enumerate((4, 6, 9))}
    d = compare(sides, method="soft-matching-distance").values
    for i, j, k in ((0, 1, 2), (1, 0, 2), (0, 2, 1)):
        assert d[i, k] <= d[i, j] + d[j, k] + 1e-9
    copied = np.repeat(sides[0], 2, axis=1)
    assert compare(copied, sides[1], "soft-matching") == pytest.approx(
        compare(sides[0], sides[1], "soft-matching")
    )
    assert compare(copied, sides[0], "soft-matching-distance") == pytest.approx(0, abs=1e-6)


def test_layers_against_areas_in_one_call_with_labels():
    rng = np.random.default_rng(0)
    layers = labelled(
        patterns(0, p=12), layer=np.repeat(["conv", "fc"], [5, 7]), depth=np.repeat([1, 2], [5, 7])
    )
    order = rng.permutation(2 * N)
    brain = labelled(
        np.concatenate([patterns(1, p=10), patterns(2, p=10)])[order],
        stimuli=np.tile(np.arange(N), 2)[order],
        region=np.tile(["V4", "IT"], 5),
    )
    found = compare(layers, brain, by=["layer", "region"])
    assert found.dims == ("representation_a", "representation_b")
    assert found.layer_a.values.tolist() == ["conv", "fc"]
    assert found.depth_a.values.tolist() == [1, 2]
    assert found.region_b.values.tolist() == ["V4", "IT"]
    mean = (patterns(1, p=10) + patterns(2, p=10)) / 2
    wanted = compare(patterns(0, p=12)[:, 5:], mean[:, ::2])
    assert found.sel(representation_a="fc", representation_b="V4").item() == pytest.approx(wanted)
    one = compare(layers, brain, by="layer")
    assert one.dims == ("representation_a",)
    assert one.attrs["fit"] == "nothing is fitted"


def test_names_lists_and_nothing_on_the_other_side():
    named = {"one": patterns(0), "two": patterns(1, p=3)}
    among = compare(named)
    assert among.representation_a.values.tolist() == among.representation_b.values.tolist() == ["one", "two"]
    np.testing.assert_allclose(among, compare(named, named))
    np.testing.assert_allclose(compare(list(named.values())), among)
    networks = {name: labelled(x, layer=np.resize(["a", "b"], x.shape[1])) for name, x in named.items()}
    found = compare(networks, by="layer")
    assert found.representation_a.values.tolist() == ["one | a", "one | b", "two | a", "two | b"]
    assert found.layer_b.values.tolist() == ["a", "b", "a", "b"]


def test_containers_agree():
    a, b = patterns(0), patterns(1)
    wanted = compare(a, b)
    assert isinstance(wanted, float)
    assert compare(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(wanted)
    assert compare(labelled(a), labelled(b)) == pytest.approx(wanted)
    assert compare(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(wanted, rel=1e-5)
    shuffled = np.random.default_rng(0).permutation(N)
    assert compare(labelled(a), labelled(b)[shuffled]) == pytest.approx(wanted)


@pytest.mark.parametrize("method", METHODS)
def test_devices_agree(method, device):
    a, b = patterns(0), patterns(1, p=5)
    options = {"cv": 4} if METHODS[method].fits else {}
    wanted = compare(a, b, method, permutations=3, device="cpu", **options)
    found = compare(
        {"a": torch.from_numpy(a).to(device)}, [b], method, permutations=3, device=device, **options
    )
    np.testing.assert_allclose(found["score"].values.item(), wanted["score"].item(), atol=1e-9)
    np.testing.assert_allclose(found["chance"].values.item(), wanted["chance"].item(), atol=1e-9)


def test_predictivity_is_ridge_on_held_out_stimuli():
    a, b = patterns(0), patterns(1, p=3)
    alphas = np.logspace(-1, 3, 5)
    wanted = []
    for train, test in KFold(5).split(a):
        for unit in b.T:
            search = GridSearchCV(Ridge(), {"alpha": alphas[::-1]}, cv=KFold(5), scoring="r2")
            predicted = search.fit(a[train], unit[train]).predict(a[test])
            wanted.append(np.corrcoef(predicted, unit[test])[0, 1])
    assert compare(a, b, "predictivity", alphas=alphas) == pytest.approx(np.mean(wanted), abs=1e-8)


def test_predictivity_tells_which_way_it_goes():
    wide = patterns(0, p=12, noise=2.0)
    both = compare({"wide": wide, "narrow": wide[:, :2]}, method="predictivity")
    assert both.sel(representation_a="wide", representation_b="narrow") > 0.99
    assert both.sel(representation_a="narrow", representation_b="wide") < 0.8


FITTED = [name for name, chosen in METHODS.items() if chosen.fits]


@pytest.mark.parametrize("method", FITTED)
def test_held_out_stimuli_do_not_reward_overfitting(method):
    rng = np.random.default_rng(0)
    options = {"variance": 0.3} if method == "svcca" else {}
    a, b = (labelled(rng.standard_normal((60, 12))) for _ in range(2))
    found = compare(a, b, method, cv=4, **options)
    groups = compare({"a": a}, b, method, cv=4, **options)
    assert groups.item() == found
    assert "4 folds over stimuli, shuffled" in groups.attrs["fit"]
    chance = {"shape-angular": np.pi / 2, "shape-euclidean": None, "predictivity": 0.0}
    if METHODS[method].kind == "similarity":
        assert abs(found) < 0.2
    elif chance.get(method, np.sqrt(2)) is not None:
        assert found == pytest.approx(chance.get(method, np.sqrt(2)), abs=0.2)
    if method != "predictivity":
        in_sample = compare(a, b, method, **options)
        assert in_sample > found if METHODS[method].kind == "similarity" else in_sample < found


def test_p_of_what_is_shared_and_of_what_is_not():
    a, b = patterns(0), patterns(1)
    noise = np.random.default_rng(0).standard_normal((N, 5))
    for method in ("linear-cka", "procrustes-distance", "knn-overlap"):
        found = compare({"a": a, "noise": noise}, {"b": b}, method, permutations=99)
        assert found["p"].sel(representation_a="a").item() == pytest.approx(0.01)
        assert found["p"].sel(representation_a="noise").item() > 0.05
        again = compare({"a": a, "noise": noise}, {"b": b}, method, permutations=99)
        xr.testing.assert_identical(found, again)
        other = compare({"a": a, "noise": noise}, {"b": b}, method, permutations=99, random_state=1)
        assert not other["chance"].equals(found["chance"])
        assert found.attrs["permutations"] == 99


def test_p_is_uniform_without_relation():
    rng = np.random.default_rng(0)
    sides = [{k: rng.standard_normal((20, 4)) for k in range(12)} for _ in range(2)]
    p = compare(*sides, "linear-cka", permutations=99)["p"].values
    assert (p <= 0.05).mean() < 0.12
    assert abs(p.mean() - 0.5) < 0.1


def test_representations_with_themselves_are_no_test():
    p = compare({"a": patterns(0), "b": patterns(1)}, permutations=19)["p"].values
    assert np.isnan(np.diag(p)).all()
    assert p[0, 1] == p[1, 0] == 0.05
    single = compare(patterns(0), patterns(1), permutations=19)
    assert single["p"].item() == 0.05


def drifting(seed, n=300, p=4):
    """Slow, stationary and unrelated to anything."""
    steps = np.random.default_rng(seed).standard_normal((n, p))
    for k in range(1, n):
        steps[k] += 0.95 * steps[k - 1]
    return steps


def recording(values, start=0.0):
    start = start + np.arange(len(values)) * 0.1
    return neuro.assemble(
        values,
        time_bin={"time_bin_start": start, "time_bin_end": start + 0.1},
        neuroid={"neuroid_id": np.arange(values.shape[1])},
        modality="meg",
        units="T",
        sfreq=10.0,
    )


def test_moments_are_shifted_not_shuffled():
    sides = [{k: drifting(10 * side + k) for k in range(5)} for side in (1, 2)]
    shuffled = compare(*sides, permutations=99)["p"].values
    times = [{k: recording(x) for k, x in side.items()} for side in sides]
    shifted = compare(*times, permutations=99)["p"].values
    assert (shuffled <= 0.05).mean() > 0.4
    assert (shifted <= 0.05).mean() < 0.15


def test_recordings_are_cut_into_contiguous_folds():
    a, b = recording(drifting(0)), recording(drifting(1))
    assert compare({"a": a}, b, "procrustes", cv=4).attrs["fit"] == "4 contiguous folds"
    with pytest.raises(ValueError, match="other time bins"):
        compare(a, recording(drifting(1), start=1.0))
    with pytest.raises(ValueError, match="another representation 300"):
        compare(a, b[:-1])


def test_shared_directions_of_few_stimuli_are_said():
    a, b = patterns(0, p=25), patterns(1, p=25)
    with pytest.warns(UserWarning, match="25 and 25 dimensions share some directions of 40 stimuli"):
        compare(a, b, "cca")
    with pytest.raises(ValueError, match="fits any data"):
        compare(patterns(0, p=39), b, "cca")
    with pytest.raises(ValueError, match="not determined by 30 training stimuli"):
        compare(a, b, "cca", cv=4)


GOOD = patterns(0)
HOLE = np.where(np.arange(6) == 2, np.where(np.arange(N) == 3, np.nan, GOOD.T[2])[:, None], GOOD)
STILL = np.where(np.arange(6) == 2, 5.0, GOOD)


@pytest.mark.parametrize(
    ("a", "b", "options", "match"),
    [
        (GOOD, GOOD, {"method": "cka"}, "method='cka' is unknown; use 'linear-cka'"),
        (GOOD, GOOD, {"bandwidth": 1}, "'bandwidth' is no option of method='linear-cka', which has: none"),
        (GOOD, GOOD, {"method": "shape-angular", "alpha": 2}, "alpha=2 must lie between 0 and 1"),
        (GOOD, GOOD, {"method": "shape-angular", "group": "scaling"}, "group='scaling' is unknown"),
        (
            GOOD,
            GOOD[:, :3],
            {"method": "shape-angular", "group": "permutation"},
            "needs equal numbers of units",
        ),
        (
            GOOD,
            GOOD,
            {"method": "knn-overlap", "n_neighbours": N},
            "n_neighbours=40 needs at least 41 stimuli",
        ),
        (GOOD, GOOD, {"method": "knn-overlap", "n_neighbours": 0}, "n_neighbours must be a whole number"),
        (GOOD, np.repeat(np.eye(2), [N - 1, 1], 0), {"method": "rbf-cka"}, "more than half of the distances"),
        (GOOD[:3], GOOD[:3], {"method": "debiased-linear-cka"}, "needs at least 4 stimuli, and there are 3"),
        (GOOD[:2], GOOD[:2], {}, "'a' has 2 stimuli"),
        (GOOD, GOOD, {"cv": 5}, "fits nothing, so that cv=5 has no use"),
        (GOOD, GOOD, {"method": "procrustes", "cv": 20}, "cv leaves 2 stimuli"),
        (GOOD, GOOD, {"permutations": -1}, "permutations is -1"),
        (GOOD, GOOD[:-1], {}, "'b' has 39 rows"),
        (GOOD, GOOD[:, 0], {}, "'b' has the shape"),
        (GOOD, HOLE, {}, "'b' has 1 missing or infinite values, the first at stimulus 3, unit 2"),
        (GOOD, 0 * GOOD, {}, "'b' is the same for all stimuli"),
        (GOOD, STILL, {"method": "one-to-one"}, "1 of 6 units of 'b' do not vary"),
        ({}, GOOD, {}, "a holds no representation"),
        (labelled(GOOD), labelled(GOOD), {"by": "layer"}, "by='layer' is no coordinate"),
        (labelled(GOOD), labelled(GOOD, np.arange(1, N + 1)), {}, "do not have the same stimuli"),
        (labelled(GOOD), labelled(GOOD[:-1]), {}, "only one of them has 39"),
    ],
)
def test_bad_input(a, b, options, match):
    with pytest.raises(ValueError, match=match):
        compare(a, b, **options)


def test_labelled_and_plain_are_not_mixed():
    with pytest.raises(TypeError, match="label all or pass the values of all"):
        compare(labelled(GOOD), GOOD)


def test_still_units_do_not_matter_where_nothing_is_correlated():
    assert compare(GOOD, STILL) == pytest.approx(compare(GOOD, np.delete(STILL, 2, axis=1)))


def test_two_halves_of_a_behavioural_embedding_agree(data):
    embedding = np.loadtxt(data / "things-spose49" / "spose_embedding_49d_sorted.txt")[::3]
    halves = embedding[:, ::2], embedding[:, 1::2]
    n, k = len(embedding), 20
    shared = compare(*halves, "knn-overlap", n_neighbours=k)
    control = np.random.default_rng(0).permutation(n)
    shuffled = compare(halves[0], halves[1][control], "knn-overlap", n_neighbours=k)
    assert shuffled == pytest.approx(k / (n - 1), abs=0.01)
    assert shared > 3 * shuffled
    debiased = compare(*halves, "debiased-linear-cka")
    assert abs(compare(halves[0], halves[1][control], "debiased-linear-cka")) < 0.02 < 0.1 < debiased


@pytest.mark.slow
def test_a_middle_block_is_more_like_v4_than_pixels_are(data, weights):
    folder = data / "v4-macaque"
    stimuli = models.StimulusSet.read(folder / "images" / "images_210224.zip")[:200]
    responses = np.load(folder / "responses_repeat_averaged" / "responses_210224.npy").T[:200]
    network = models.load("mobilenet_v2", weights=weights / "mobilenetv2-imagenet")
    features = models.extract(network, stimuli, ["features.10"], pool=7)
    pixels = models.features.pixels(stimuli)
    brain = neuro.assemble(
        responses,
        presentation={"stimulus_id": features["stimulus_id"].values},
        neuroid={"neuroid_id": np.arange(responses.shape[1])},
        modality="spikes",
        units="spikes",
    )
    sides = {"features.10": features, "pixels": pixels}
    for method in ("debiased-linear-cka", "predictivity"):
        found = compare(sides, brain, method)
        assert found.sel(representation_a="features.10") > found.sel(representation_a="pixels") + 0.05
    tested = compare(sides, brain, "debiased-linear-cka", permutations=199)
    assert tested["p"].sel(representation_a="features.10").item() == 0.005
    assert abs(tested["chance"].sel(representation_a="features.10").item()) < 0.01
    # with as many units as these, the biased one finds shuffled images alike
    biased = compare(sides, brain, permutations=20)["chance"]
    assert biased.sel(representation_a="features.10").item() > 0.1


@pytest.mark.parametrize("method", ["debiased-linear-cka", "debiased-rbf-cka", "adjusted-rv"])
def test_equal_distances_have_no_alignment_without_bias(method):
    codes, other = np.eye(12), np.random.default_rng(0).standard_normal((12, 3))
    for pair in ((codes, other), (other, 3 * codes + 7)):
        with pytest.raises(ValueError, match=r"undefined for 'a' and 'b', because .*; leave it out"):
            rsa.compare_representations(*pair, method)
