"""Thresholds of topological RSA: nested choice, layers of networks, regions of people."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from cerebridge import neuro
from cerebridge.encoding import Result, rsa
from cerebridge.models.training import train

N_LAYERS, N_SEEDS = 4, 10


def labelled(rows, by, people):
    rows = np.asarray(rows)
    a, b = np.triu_indices((1 + int(np.sqrt(1 + 8 * rows.shape[1]))) // 2, 1)
    return neuro.assemble(
        rows,
        rdm={"neuroid_id": np.arange(len(rows)), "region": by, "subject": people},
        pair={"stimulus_a": a, "stimulus_b": b},
        modality="simulated",
        units="1",
    )


def clustered(seed=0, n_people=6, spread=6.0):
    """Two regions that differ in who is whose neighbour, people in all large distances."""
    rng = np.random.default_rng(seed)
    a, b = np.triu_indices(16, 1)
    rows = []
    for _ in range(n_people):
        for groups in (np.arange(16) // 4, np.arange(16) % 4):
            near = groups[a] == groups[b]
            rows.append(np.where(near, rng.uniform(0.5, 1.5, len(a)), 2 + spread * rng.pareto(1, len(a))))
    return labelled(rows, ["V1", "IT"] * n_people, np.repeat(np.arange(n_people), 2))


def test_thresholds_are_chosen_on_other_people_alone():
    rdms = clustered()
    levels = [0, 0.1, 0.3, 0.6, 1]
    result = rsa.select_thresholds(rdms, grid=levels)
    data = result.dataset
    thresholds = list(zip(data.threshold_lower.values, data.threshold_upper.values, strict=True))
    assert thresholds == [
        (low, high)
        for low in levels
        for high in levels
        if low <= high and (low, high) not in ((0, 0), (1, 1))
    ]
    for pair, accuracy in zip(thresholds, data.grid_accuracy.values, strict=True):
        bent = rsa.transform_rdms(rdms, *pair)
        assert rsa.identify(bent, permutations=0).score.mean().item() == pytest.approx(accuracy)
    for person in range(6):
        others = rdms.isel(rdm=rdms.subject.values != person)
        alone = rsa.select_thresholds(others, grid=levels).dataset.attrs
        chosen = [data[name].sel(model="selected").values[person, 0] for name in ("lower", "upper")]
        assert chosen == [alone["lower"], alone["upper"]]
        bent = rsa.identify(rsa.transform_rdms(rdms, *chosen), permutations=0).dataset
        rows = np.flatnonzero(rdms.subject.values == person)
        np.testing.assert_allclose(
            data.similarity.sel(model="selected").values[rows], bent.similarity.values[0, rows], rtol=1e-10
        )
    plain = rsa.identify(rdms, permutations=0)
    np.testing.assert_array_equal(data.confusion.values[0], plain.dataset.confusion.values[0])
    assert np.isnan(data.lower.values[0]).all()


def test_idiosyncrasy_of_large_distances_is_bent_away():
    result = rsa.select_thresholds(clustered(n_people=10, spread=50.0), permutations=50, random_state=0)
    plain, selected = result.score.mean(("split", "unit")).values
    assert selected == 1.0 > plain
    assert result.dataset.p.values[1, 0] < 0.05
    assert result.audit["selection"] == {"selection_score": 1.0, "nested_score": 1.0}


def test_choosing_thresholds_on_exchanged_labels_finds_nothing():
    scores, best, p = [], [], []
    for seed in range(16):
        rdms = clustered(seed)
        mixed = rdms.assign_coords(
            region=("rdm", np.random.default_rng(seed).permutation(rdms.region.values))
        )
        try:
            result = rsa.select_thresholds(mixed, grid=[0, 0.2, 0.8, 1], permutations=40, random_state=seed)
        except ValueError:
            continue
        scores.append(result.score.sel(model="selected").mean().item())
        best.append(result.dataset.grid_accuracy.values.max())
        p.append(result.dataset.p.values[1, 0])
    assert len(scores) > 10
    assert np.mean(scores) < 0.5 + 4 * np.std(scores) / len(scores) ** 0.5 < 0.75
    assert np.mean(best) > np.mean(scores) + 0.05
    assert np.mean(p) > 0.3


def test_other_kinds_and_files(tmp_path):
    rdms = clustered()
    geodesic = rsa.select_thresholds(rdms, kind="relative-geodesic", grid=[0, 0.1, 0.2, 0.5]).dataset
    assert geodesic.threshold_upper.values.tolist() == [0.1, 0.2, 0.5]
    assert set(geodesic.threshold_lower.values) == {0.0}
    result = rsa.select_thresholds(rdms, kind="absolute", grid=[1.0, 1.5, 4.0], method="cosine")
    assert result.score.sel(model="selected").mean().item() > 0.8
    result.save(tmp_path / "thresholds.nc")
    back = Result.load(tmp_path / "thresholds.nc")
    assert back.dataset.attrs["upper"] == result.dataset.attrs["upper"]
    np.testing.assert_array_equal(back.dataset.lower.values, result.dataset.lower.values)


@pytest.fixture(scope="module")
def layers():
    """Activations of digits in the layers of networks trained from different seeds."""
    images, digits = load_digits(return_X_y=True)
    images, digits = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
    shown = images[np.random.default_rng(0).choice(np.arange(1200, 1797), 80, replace=False)]
    activations = []
    for seed in range(N_SEEDS):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            widths = [nn.Linear(64, 64) for _ in range(N_LAYERS)]
            network = nn.Sequential(*(part for w in widths for part in (w, nn.ReLU())), nn.Linear(64, 10))
        train(
            network,
            lambda module, batch: nn.functional.cross_entropy(module(batch["x"]), batch["y"]),
            {"x": images[:1200], "y": digits[:1200]},
            learning_rate=2e-3,
            max_epochs=15,
            patience=None,
            random_state=seed,
        )
        hidden = shown
        with torch.no_grad():
            for layer, rectifier in zip(network[:-1:2], network[1::2], strict=True):
                hidden = rectifier(layer(hidden))
                activations.append(hidden.numpy())
    return activations


def layer_rdms(layers, noise, n_units, seed=0):
    """RDMs of some units with noise, one a layer and network."""
    rng = np.random.default_rng(seed)
    a, b = np.triu_indices(80, 1)
    rows = []
    for hidden in layers:
        some = hidden[:, rng.choice(64, n_units, replace=False)]
        some = some + noise * some.std() * rng.normal(size=some.shape)
        rows.append(np.linalg.norm(some[a] - some[b], axis=1))
    return labelled(rows, np.tile(np.arange(N_LAYERS), N_SEEDS), np.repeat(np.arange(N_SEEDS), N_LAYERS))


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "n_units"), [(0.0, 64), (0.25, 48)])
def test_layers_of_networks_are_identified_across_seeds(layers, noise, n_units):
    rdms = layer_rdms(layers, noise, n_units)
    result = rsa.select_thresholds(rdms, permutations=50, random_state=0)
    plain, selected = result.score.values[..., 0]
    assert plain.mean() > 0.45
    assert (result.dataset.p.values == 1 / 51).all()
    error = (selected - plain).std(ddof=1) / N_SEEDS**0.5
    assert selected.mean() > plain.mean() - 2 * error - 1 / (N_SEEDS * N_LAYERS)


@pytest.mark.slow
def test_of_few_units_topology_tells_more_than_geometry(layers):
    few = [rsa.select_thresholds(layer_rdms(layers, 0.0, 16, draw)).score for draw in range(4)]
    plain, selected = np.mean([score.values[..., 0] for score in few], axis=(0, 2))
    assert 0.35 < plain < selected


@pytest.mark.slow
def test_exchanged_layers_are_identified_by_chance(layers):
    rdms = layer_rdms(layers, 0, 64)
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(20):
        order = np.concatenate([k * N_LAYERS + rng.permutation(N_LAYERS) for k in range(N_SEEDS)])
        exchanged = rdms.assign_coords(region=("rdm", rdms.region.values[order]))
        found = rsa.select_thresholds(exchanged, grid=[0, 0.2, 0.5, 0.8, 1]).score
        scores.append(found.mean(("split", "unit")).values)
    assert (np.mean(scores, axis=0) < 0.3).all()


@pytest.fixture(scope="module")
def areas(data):
    folder = data / "objects92" / "cichy2014_92images"
    people = {"subject": np.arange(15)}
    return neuro.concat(
        [
            rsa.read_rdms(folder / f"fmri_{name}_RDMs.npz", rdm={"region": name, **people})
            for name in ("EVC", "IT")
        ],
        "rdm",
    )


def test_early_cortex_and_it_are_told_apart_across_people(areas):
    result = rsa.select_thresholds(areas)
    plain, selected = result.score.mean(("split", "unit")).values
    # 28 of 30 for both; thresholds chosen on all people would claim 30
    assert plain == pytest.approx(28 / 30) and selected == pytest.approx(28 / 30)
    assert result.audit["selection"]["selection_score"] == 1.0
    assert (result.dataset.p.values <= 1 / 201 + 1e-12).all()
    default = rsa.identify(rsa.transform_rdms(areas, 0.2, 0.8), permutations=0)
    assert default.score.mean().item() == pytest.approx(28 / 30)


BAD = {
    "two people": (lambda r: rsa.select_thresholds(r[:4]), "known of 2 values of 'subject'; .* needs three"),
    "no levels": (lambda r: rsa.select_thresholds(r, kind="absolute"), "give their levels, grid="),
    "range": (lambda r: rsa.select_thresholds(r, grid=[0, 2]), "from 0 to 1"),
    "one level": (lambda r: rsa.select_thresholds(r, grid=[1]), "leaves no two thresholds"),
    "constant": (
        lambda r: rsa.select_thresholds(r, kind="absolute", grid=[-2, -1]),
        "thresholds -2 and -2 leave RDM 0 constant",
    ),
    "method": (lambda r: rsa.select_thresholds(r, method="riemannian"), "no mean in the sense"),
    "kind": (lambda r: rsa.select_thresholds(r, kind="ranks"), "kind='ranks' is unknown"),
    "people": (lambda r: rsa.select_thresholds(r, people="person"), "no coordinate 'person'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match) as error:
        call(clustered())
    assert "\n" not in str(error.value)
