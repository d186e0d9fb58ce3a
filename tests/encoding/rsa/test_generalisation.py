"""One time's geometry and patterns at another time: loops as oracles, noise that lasts, and codes that turn."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding import rsa
from cerebridge.encoding.plots import plot_time_matrix
from cerebridge.encoding.rsa.epochs import Options, timed_rdms

from .simulated import EARLY, LATE, N_STIMULI, WIDTH, features, model, people, person, small


@pytest.fixture(scope="module")
def models() -> dict[str, xr.DataArray]:
    return {name: model(values, name) for name, values in zip(("early", "late"), features(), strict=True)}


@pytest.fixture(scope="module")
def geometry() -> xr.Dataset:
    return rsa.generalise_over_time(people(), step=2 * WIDTH, window=2 * WIDTH, average=True, random_state=0)


@pytest.mark.parametrize("options", [{}, {"cv": "run"}, {"of": "patterns"}])
def test_people_without_anything_in_common_have_clusters_in_one_of_twenty_groups(options):
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        one = person(*features(), seed=0, n_runs=2, n_sensors=5).isel(time_bin=slice(0, 4))
        lasting = rng.standard_normal((6, *one.shape[:2], 1))
        group = {f"P{k}": one.copy(data=lasting[k] + rng.standard_normal(one.shape)) for k in range(6)}
        found.append(bool(rsa.generalise_over_time(group, **options)["significant"].any()))
    assert np.mean(found) < 0.13


def test_geometry_generalises_within_windows_and_not_between_them(geometry):
    mean = geometry["score"].mean("subject").sel(model="geometry")
    significant = geometry["significant"].sel(model="geometry")
    inside = {"time": slice(*EARLY), "time_other": slice(*EARLY)}
    assert significant.sel(inside).mean() > 0.9
    assert significant.sel(time=slice(0.21, 0.29), time_other=slice(0.21, 0.29)).all()
    between = {"time": slice(*EARLY), "time_other": slice(*LATE)}
    assert abs(mean.sel(between)).max() < 0.05 and significant.sel(between).mean() < 0.25
    assert significant.sel(time=slice(None, 0)).mean() < 0.05
    assert mean.values == pytest.approx(mean.values.T)
    figure = plot_time_matrix(geometry)
    assert figure.axes[0].get_aspect() == 1


def test_geometry_against_a_loop_over_people_and_times():
    group = small(4)
    found = rsa.generalise_over_time(group, permutations=0)["score"].values[:, 0]
    rdms = np.stack([rsa.rdm(array).values for array in group.values()])
    for p in range(4):
        ways = [
            [[rsa.compare(rdms[p, s], rdms[q, t]) for t in range(6)] for s in range(6)]
            for q in range(4)
            if q != p
        ]
        way = np.mean(ways, axis=0)
        assert found[p] == pytest.approx((way + way.T) / 2)


def test_noise_that_lasts_makes_no_diagonal():
    rng = np.random.default_rng(0)
    group = {}
    for k in range(8):
        array = person(*features(), seed=k)
        drift = rng.standard_normal((*array.shape[:2], 1)) * 10
        group[f"P{k}"] = array.copy(data=drift + rng.standard_normal(array.shape))
    group = {name: array.isel(time_bin=slice(0, 12)) for name, array in group.items()}
    own = rsa.infer_over_time(
        rsa.rdm(group["P0"].isel(time_bin=0, drop=True)), group["P0"].isel(time_bin=[5]), permutations=0
    )
    assert own.score.values.item() > 0.9  # the naive comparison of one recording's times
    for options in ({}, {"cv": "run"}):
        found = rsa.generalise_over_time(group, permutations=0, **options)
        assert abs(found["score"].mean()) < 0.05


def test_halves_and_other_data_are_compared_as_said():
    group = small(2)
    odd, even = (
        {name: array[np.isin(array.run.values, runs)] for name, array in group.items()}
        for runs in ([0, 2], [1, 3])
    )
    halves = rsa.generalise_over_time(group, cv="run", permutations=0)
    other = rsa.generalise_over_time(odd, even, permutations=0)
    way = other["score"].values
    assert halves["score"].values == pytest.approx((way + way.swapaxes(-1, -2)) / 2)
    assert way[0, 0, 1, 2] == pytest.approx(
        rsa.compare(rsa.rdm(odd["P0"]).values[1], rsa.rdm(even["P0"]).values[2])
    )
    late = {name: array.isel(time_bin=slice(0, 4)) for name, array in even.items()}
    assert rsa.generalise_over_time(odd, late, permutations=0)["score"].shape == (2, 1, 6, 4)
    rdms = timed_rdms(even, Options()).rdms
    lacking = rdms.where(rdms.stimulus_a != "s0").isel(pair=slice(None, None, -1))
    some = rsa.generalise_over_time(odd, lacking, permutations=0)
    assert some.attrs["missing_pairs"] == 15 and "missing_pairs" not in other.attrs
    assert "both ways" in halves.attrs["compared"] and "other (time_other)" in other.attrs["compared"]


def test_patterns_on_the_diagonal_are_crossnobis_and_off_it_a_loop(models):
    group = small(2)
    found = rsa.generalise_over_time(group, of="patterns", permutations=0)["score"].values[:, 0]
    array = group["P0"]
    rdms = rsa.rdm(array, metric="crossnobis").values
    assert np.diag(found[0]) == pytest.approx(rdms.mean(1))
    runs = np.stack([array.values[array.run.values == run] for run in range(4)])
    total = 0.0
    for i, j in zip(*np.triu_indices(N_STIMULI, 1), strict=True):
        difference = runs[:, i] - runs[:, j]
        for k in range(4):
            train = np.delete(difference, k, 0).mean(0)[:, 1]
            total += train @ difference[k, :, 4] / 24 / 4
    assert found[0, 1, 4] == pytest.approx(total / 120)
    fitted = rsa.generalise_over_time(group, of="patterns", models=models, method="cosine", permutations=0)
    want = rsa.compare(models["late"], rsa.rdm(array, metric="crossnobis"), "cosine").values[0]
    assert np.diag(fitted["score"].values[0, 1]) == pytest.approx(want)


def test_a_code_that_turns_keeps_its_geometry():
    rng = np.random.default_rng(0)
    early, _ = features()
    group = {}
    for k in range(8):
        array = person(early, early, seed=k, noise=3.0).isel(time_bin=slice(15, 45, 3))
        group[f"P{rng.integers(10**6)}"] = array
    geometry = rsa.generalise_over_time(group, random_state=0)["significant"].sel(model="geometry")
    patterns = rsa.generalise_over_time(group, of="patterns", random_state=0)["significant"].sel(
        model="mean distance"
    )
    across = {"time": slice(*EARLY), "time_other": slice(0.21, 0.29)}
    assert geometry.sel(across).mean() > 0.7
    assert not patterns.sel(across).any()


def test_bad_input_is_named(models):
    group = small()
    cases = [
        (lambda: rsa.generalise_over_time(group, method="cosine"), "never negative is not 0 by chance"),
        (lambda: rsa.generalise_over_time(group["P0"]), "there is one person, whose noise"),
        (lambda: rsa.generalise_over_time(group, group), "other holds the very measurements"),
        (
            lambda: rsa.generalise_over_time(group, small(2)),
            "other has the people P0, P1, and data P0, P1, P2",
        ),
        (lambda: rsa.generalise_over_time(group, group, cv="run"), "cv= and other= both"),
        (lambda: rsa.generalise_over_time(group, cv="session"), "cv='session' is no coordinate"),
        (lambda: rsa.generalise_over_time(group, of="codes"), "of='codes' is unknown"),
        (lambda: rsa.generalise_over_time(group, models=models), "models= are for of='patterns'"),
        (lambda: rsa.generalise_over_time(group, group, of="patterns"), "other= is for of='geometry'"),
        (
            lambda: rsa.generalise_over_time(rsa.rdm(group["P0"]), of="patterns"),
            "patterns generalise between times",
        ),
        (lambda: rsa.generalise_over_time(group, of="patterns", cv="session"), "'session'"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="no score over time × time"):
        plot_time_matrix(xr.Dataset())
