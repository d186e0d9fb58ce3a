"""Regions and layers meet times: known orders, loops as oracles, and shares of variance by regression."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import rankdata

from cerebridge import neuro
from cerebridge.encoding import Result, likeness, rsa
from cerebridge.encoding.plots.courses import plot_course_map, plot_courses

from .simulated import EARLY, LATE, N_STIMULI, features, model, people, person


def voxels(values: np.ndarray, seed: int, noise: float) -> xr.DataArray:
    rng = np.random.default_rng([seed, 11])
    signal = values @ rng.standard_normal((values.shape[1], 60))
    return neuro.assemble(
        signal + noise * rng.standard_normal(signal.shape),
        presentation={"stimulus_id": [f"s{k}" for k in range(len(values))]},
        neuroid={"neuroid_id": np.arange(60)},
        modality="fmri",
        units="a.u.",
    )


def regions(n: int = 5, noise: float = 1.0) -> xr.DataArray:
    """RDMs of two regions in several people, who are other people than those of the M/EEG."""
    early, late = features()
    parts = [
        rsa.rdm(voxels(values, 10 * k + place, noise)).assign_coords(
            neuroid_id=("rdm", [f"F{k} {name}"]), subject=("rdm", [f"F{k}"]), region=("rdm", [name])
        )
        for k in range(n)
        for place, (name, values) in enumerate((("EVC", early), ("IT", late)))
    ]
    return neuro.concat(parts, "rdm")


@pytest.fixture(scope="module")
def group() -> dict[str, xr.DataArray]:
    return people()


@pytest.fixture(scope="module")
def result(group) -> Result:
    return rsa.fuse(regions(), group, given={"late": model(features()[1], "late")}, random_state=0)


def test_early_region_is_early_and_late_region_late(result):
    dataset = result.dataset
    for name, (low, high) in (("EVC", EARLY), ("IT", LATE)):
        here = dataset.sel(model=name)
        when = here["time"].values[here["significant"].values]
        assert len(when) >= 6 and low - 0.02 <= when.min() and when.max() <= high + 0.02
        assert low <= float(here["peak"]) <= high
    draws = dataset["peak_draws"]
    assert (draws.sel(model="EVC") < draws.sel(model="IT")).all()
    assert result.audit["people"].startswith("12 of meg vary")
    assert (dataset["ceiling_region"] > 0.5).all()


def test_scores_against_a_loop(group):
    few = {name: group[name].isel(time_bin=slice(18, 22)) for name in ("P0", "P1", "P2")}
    fmri = regions(3)
    evc = fmri.isel(rdm=np.flatnonzero(fmri.region.values == "EVC"))
    times = {name: rsa.rdm(array) for name, array in few.items()}
    found = rsa.fuse(fmri, few, permutations=0).score.values[0, 0].reshape(3, 4)
    for k, rdms in enumerate(times.values()):
        for t in range(4):
            assert found[k, t] == pytest.approx(rsa.compare(evc.values.mean(0), rdms.values[t]))


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_commonality_is_the_difference_of_explained_variances(group, method):
    few = {name: group[name].isel(time_bin=slice(18, 21)) for name in ("P0", "P1")}
    given = {name: model(values, name) for name, values in zip(("a", "b"), features(3), strict=True)}
    fmri = regions(2)
    found = rsa.fuse(fmri, few, method, given=given, permutations=0).dataset["commonality"].values

    def explained(y: np.ndarray, *columns: np.ndarray) -> float:
        y, *columns = (rankdata(v) if method == "spearman" else v for v in (y, *columns))
        design = np.stack([*columns, np.ones_like(y)], 1)
        return 1 - np.var(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) / np.var(y)

    it = fmri.values[fmri.region.values == "IT"].mean(0)
    models = [array.values[0] for array in given.values()]
    for k, array in enumerate(few.values()):
        for t, y in enumerate(rsa.rdm(array).values):
            want = explained(y, it) + explained(y, *models) - explained(y, it, *models)
            assert found[1, 3 * k + t] == pytest.approx(want, abs=1e-10)


def test_the_late_model_is_shared_by_the_late_region_only(result):
    significant = result.dataset["significant_commonality"]
    inside = significant.sel(model="IT", time=slice(LATE[0] + 0.005, LATE[1] - 0.005))
    assert inside.all() and not significant.sel(model="EVC", time=slice(*LATE)).any()


def test_layers_go_in_order_over_time(group, tmp_path):
    early, late = features()
    layers = {
        f"layer {k}": model(np.hstack([np.sqrt(1 - w) * early, np.sqrt(w) * late]), f"layer {k}")
        for k, w in enumerate((0.0, 0.3, 0.7, 1.0))
    }
    result = rsa.fuse(layers, group, joint=True, random_state=0)
    peaks = result.dataset["peak"].values
    assert peaks[0] < EARLY[1] and peaks[3] > LATE[0] and (np.diff(peaks) >= -0.03).all()
    # layers that hold both are neighbours, so that one cluster reaches over them
    assert len(np.unique(result.dataset["cluster"].values[result.dataset["significant"].values])) <= 2
    assert likeness.layer_by_time(result).shape == (4, 50)
    result.save(tmp_path / "fusion.nc")
    assert Result.load(tmp_path / "fusion.nc").dataset.equals(result.dataset)
    assert isinstance(plot_course_map(result), Figure)


def test_pictures_of_regions_and_of_commonality(result):
    assert isinstance(plot_courses(result, ["IT", "EVC"]), Figure)
    figure = plot_courses(result, variable="commonality")
    assert figure.axes[0].get_ylabel() == "commonality (R²)"


def test_other_stimuli_have_no_clusters(group):
    rng = np.random.default_rng(2)
    shuffled = {}
    for name, array in group.items():
        names = np.array([f"s{k}" for k in rng.permutation(N_STIMULI)])
        shuffled[name] = array.assign_coords(stimulus_id=("presentation", np.tile(names, 4)))
    assert not rsa.fuse(regions(), shuffled, random_state=0).dataset["significant"].any()


def test_layers_of_alexnet_and_the_people_of_two_regions(data):
    """Fusion where the stages are regions: over 15 people, EVC is likest an earlier layer than IT is."""
    folder = data / "objects92"
    layers = scipy.io.loadmat(folder / "modelRDMs_A2020.mat", squeeze_me=True, struct_as_record=False)
    chosen = [m for m in layers["modelRDMs"] if m.measModelName == "smooth2rpwavgFeat"]
    a, b = np.triu_indices(92, 1)
    pair = {"stimulus_a": a, "stimulus_b": b}
    models = neuro.assemble(
        np.stack([m.RDM for m in chosen]),
        rdm={"neuroid_id": [m.reprName for m in chosen]},
        pair=pair,
        modality="model",
        units="1",
    )
    people = [
        np.load(folder / "cichy2014_92images" / f"fmri_{region}_RDMs.npz")["Net_RDM"][:, a, b]
        for region in ("EVC", "IT")
    ]
    stages = neuro.assemble(
        np.concatenate(people),
        rdm={
            "neuroid_id": np.arange(30),
            "subject": np.tile(np.arange(15), 2),
            "time_bin_start": np.repeat([0.0, 1.0], 15),
            "time_bin_end": np.repeat([1.0, 2.0], 15),
        },
        pair=pair,
        modality="rdm",
        units="1",
    )
    result = rsa.fuse(models, stages, joint=True, n_resamples=0, random_state=0)
    means = likeness.layer_by_time(result).values
    names = models["neuroid_id"].values
    assert [names[k] for k in means.argmax(axis=0)] == ["conv3", "conv4"]
    assert result.dataset["significant"].sel(model="conv4").all()
    ceilings = result.dataset["ceiling"].values.reshape(15, 2).mean(0)
    assert ceilings == pytest.approx([0.239, 0.449], abs=0.01)


def test_bad_input_is_named(group):
    few = {name: group[name].isel(time_bin=slice(18, 22)) for name in ("P0", "P1")}
    fmri = regions(2)
    given = {"late": model(features()[1], "late")}
    cases = [
        (
            lambda: rsa.fuse(fmri, few, by="area"),
            "by='area' is no label along 'rdm' of fmri; there are .*'region'",
        ),
        (lambda: rsa.fuse(fmri, few, "rho-a", given=given), "method='rho-a' has none of"),
        (lambda: rsa.fuse(fmri, fmri), "meg of person 'F0' has no time"),
        (lambda: rsa.fuse(fmri, person(*features(), seed=1)), "there is one person"),
        (lambda: rsa.fuse(fmri, few, "cosine"), "never negative"),
        (lambda: rsa.fuse(fmri, few, given=fmri.isel(rdm=[0, 0])), "collinear|unique|occurs"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
