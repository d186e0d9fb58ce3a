"""Whose or what an RDM is: known truth, chance, people and regions that were recorded."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from cerebridge import neuro
from cerebridge.encoding import Result, plots, rsa


def people_and_regions(n_people=5, n_regions=3, noise=1.0, seed=0, n_stimuli=12):
    """RDMs of regions with geometries of their own, seen through people's noise."""
    rng = np.random.default_rng(seed)
    geometry = rng.normal(size=(n_regions, n_stimuli, 6))
    shape = (n_people, n_regions, n_stimuli, 6)
    patterns = (geometry + noise * rng.normal(size=shape)).reshape(-1, n_stimuli, 6)
    a, b = np.triu_indices(n_stimuli, 1)
    return neuro.assemble(
        [pdist(part) for part in patterns],
        rdm={
            "neuroid_id": np.arange(len(patterns)),
            "subject": np.repeat([f"p{k}" for k in range(n_people)], n_regions),
            "region": np.tile(["V1", "V4", "IT"][:n_regions], n_people),
        },
        pair={"stimulus_a": a, "stimulus_b": b},
        modality="simulated",
        units="1",
    )


def shuffled(rdms, seed):
    """Regions exchanged among all RDMs."""
    regions = np.random.default_rng(seed).permutation(rdms.region.values)
    return rdms.assign_coords(region=("rdm", regions))


@pytest.mark.parametrize("method", ["pearson", "cosine", "spearman"])
def test_regions_are_told_by_the_mean_of_others(method):
    rdms = people_and_regions(noise=1.5)
    result = rsa.identify(rdms, method=method, permutations=0)
    scale = {"pearson": lambda d: (d - d.mean()) / d.std(), "cosine": lambda d: d / np.linalg.norm(d)}
    rank = np.vectorize(lambda d: scale["pearson"](d.argsort().argsort()), signature="(n)->(n)")
    rows = {"spearman": rank}.get(method, lambda values: np.array([scale[method](d) for d in values]))(
        rdms.values
    )
    regions, owners = rdms.region.values, rdms.subject.values
    right = []
    for k, row in enumerate(rows):
        means = [
            rows[(regions == region) & (owners != owners[k])].mean(axis=0) for region in ("IT", "V1", "V4")
        ]
        similar = [row @ mean / np.linalg.norm(mean) / np.linalg.norm(row) for mean in means]
        np.testing.assert_allclose(result.dataset.similarity.values[0, k], similar, rtol=1e-10)
        right.append(("IT", "V1", "V4")[np.argmax(similar)] == regions[k])
    assert result.score.mean().item() == pytest.approx(np.mean(right))
    assert result.dataset.subject.values.tolist() == ["p0", "p1", "p2", "p3", "p4"]
    assert result.dataset.confusion.values.sum() == 15
    assert np.trace(result.dataset.confusion.values[0]) == sum(right)


def test_fingerprints_find_the_same_person():
    first, second = people_and_regions(6, 1, 0.3), people_and_regions(6, 1, 0.3)
    noise = np.random.default_rng(1).normal(0, 0.2, first.shape)
    second = (first + noise).assign_attrs(first.attrs).isel(rdm=[3, 1, 0, 5, 2, 4])
    result = rsa.identify(first, second, random_state=0)
    assert result.score.values.ravel().tolist() == [1.0] * 6
    assert result.dataset.p.item() < 0.01
    assert result.dataset.subject.values.tolist() == [f"p{k}" for k in range(6)]
    np.testing.assert_array_equal(result.dataset.confusion.values[0], np.eye(6))
    compared = rsa.compare(first, second, "pearson").values[:, np.argsort([3, 1, 0, 5, 2, 4])]
    np.testing.assert_allclose(result.dataset.similarity.values[0], compared, rtol=1e-12)
    stimuli = first.assign_coords(subject=("rdm", np.roll(first.subject.values, 1)))
    assert rsa.identify(stimuli, second, random_state=0).score.mean().item() == 0


def test_references_of_one_label_are_averaged():
    rdms = people_and_regions(7)
    queries, references = rdms.isel(rdm=slice(3)), rdms.isel(rdm=slice(3, None))
    found = rsa.identify(queries, references, by="region", permutations=0)
    held_out = rsa.identify(rdms, permutations=0)
    np.testing.assert_allclose(
        found.dataset.similarity.values[0], held_out.dataset.similarity.values[0, :3], rtol=1e-10
    )


@pytest.mark.filterwarnings("ignore:.*missing")
def test_missing_pairs_are_left_out_of_both():
    rdms = people_and_regions(4, noise=0.5)
    holed = rdms.copy(data=np.where(np.arange(66) % 9 == 0, np.nan, rdms.values))
    known = rdms.isel(pair=np.arange(66) % 9 != 0)
    found = rsa.identify(holed, permutations=0).dataset.similarity.values
    rows = known.values - known.values.mean(axis=1, keepdims=True)
    alone = rsa.compare(known.values, method="pearson")
    regions, owners = rdms.region.values, rdms.subject.values
    for k in range(len(rows)):
        others = (regions == "V4") & (owners != owners[k])
        expected = alone[k, others].sum() / np.sqrt(alone[np.ix_(others, others)].sum())
        assert found[0, k, 2] == pytest.approx(expected, rel=1e-9)


def test_exchanged_labels_are_at_chance():
    rdms = people_and_regions(8, 3, 0.5)
    assert rsa.identify(rdms, random_state=0).dataset.p.item() == pytest.approx(1 / 1001)
    scores, p = [], []
    for seed in range(60):
        result = rsa.identify(shuffled(rdms, seed), permutations=99, random_state=seed)
        scores.append(result.score.mean().item())
        p.append(result.dataset.p.item())
    # held-out means repel what was left out of them, so accuracy lies at chance or below
    assert 0.2 < np.mean(scores) < 1 / 3 + 4 * np.std(scores) / 60**0.5
    assert 0.35 < np.mean(p) < 0.7
    assert np.mean(np.array(p) < 0.05) < 0.15


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_rdms_and_pairs_does_not_matter(seed):
    rdms = people_and_regions(noise=2, seed=seed)
    rng = np.random.default_rng(seed)
    rows, pairs = rng.permutation(rdms.sizes["rdm"]), rng.permutation(rdms.sizes["pair"])
    moved = rsa.identify(rdms.isel(rdm=rows, pair=pairs), permutations=0).dataset
    still = rsa.identify(rdms, permutations=0).dataset
    np.testing.assert_array_equal(moved.confusion.values, still.confusion.values)
    np.testing.assert_allclose(moved.similarity.values[0], still.similarity.values[0][rows], rtol=1e-9)


def test_the_result_is_drawn_and_comes_back_from_disk(tmp_path):
    result = rsa.identify(people_and_regions(), random_state=0)
    result.save(tmp_path / "identified.nc")
    back = Result.load(tmp_path / "identified.nc")
    np.testing.assert_array_equal(back.score.values, result.score.values)
    np.testing.assert_array_equal(back.dataset.confusion.values, result.dataset.confusion.values)
    assert back.audit == result.audit
    assert len(plots.plot_confusion(back).axes) == 1
    assert "chance 0.333" in repr(back)


def connectomes(folder, name, half):
    rdms = []
    for person in sorted((folder / "subjects").iterdir()):
        volumes = scipy.io.loadmat(person / "functional" / name)["tc"]
        middle = volumes.shape[1] // 2
        volumes = volumes[
            :, {"first": slice(middle), "second": slice(middle, None), "all": slice(None)}[half]
        ]
        recording = neuro.assemble(
            volumes,
            presentation={"stimulus_id": np.arange(94)},
            neuroid={"neuroid_id": np.arange(volumes.shape[1]), "subject": person.name},
            modality="fmri",
            units="a.u.",
        )
        rdms.append(rsa.rdm(recording, by="subject"))
    return neuro.concat(rdms, "rdm")


@pytest.mark.parametrize(
    ("site", "name", "right", "between"),
    [("hcp", "TC_rsfMRI_REST1_LR.mat", 7, 0.708), ("gw", "BOLD_rsfMRI.mat", 4, 0.504)],
)
def test_connectomes_are_fingerprints(data, site, name, right, between):
    first, second, whole = (
        connectomes(data / "rest-aal2" / site, name, half) for half in ("first", "second", "all")
    )
    result = rsa.identify(first, second, random_state=0)
    assert result.score.sum().item() == right
    assert result.dataset.p.item() < 0.05
    similar = rsa.compare(whole, method="pearson").values
    assert similar[np.triu_indices(len(similar), 1)].mean() == pytest.approx(between, abs=0.001)
    others = second.assign_coords(subject=("rdm", np.roll(second.subject.values, 1)))
    assert rsa.identify(first, others, permutations=0).score.sum().item() <= 1


BAD = {
    "no region": (lambda r: rsa.identify(r.drop_vars("region")), "no coordinate 'region' along 'rdm'"),
    "one region": (lambda r: rsa.identify(r[r.region.values == "V1"]), "the same 'region', 'V1'"),
    "one person": (lambda r: rsa.identify(r[:4]), "'IT' is known of one value of 'subject' only"),
    "no reference": (lambda r: rsa.identify(r[:3], r[3:]), "'subject' have no reference, the first 'p0'"),
    "one reference": (
        lambda r: rsa.identify(r[:1], r[:1]),
        "all references have the same 'subject', 'p0'",
    ),
    "method": (lambda r: rsa.identify(r, method="kendall"), "method='kendall' is unknown"),
    "no mean": (lambda r: rsa.identify(r, method="bures"), "no mean in the sense of method='bures'"),
    "permutations": (lambda r: rsa.identify(r, permutations=-1), "permutations is -1"),
    "form": (lambda r: rsa.identify(r[0]), "single RDM without the dimension 'rdm'"),
    "missing label": (
        lambda r: rsa.identify(r.assign_coords(region=("rdm", np.r_[np.nan, np.ones(14)]))),
        "'region' is missing at rdm 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match) as error:
        call(people_and_regions())
    assert "\n" not in str(error.value)
