"""The studies of real recordings that come with the package, and what they must show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding.study.archive import read_results
from cerebridge.encoding.study.format import read_study
from cerebridge.encoding.study.runner import Runner

STUDIES = Path(__file__).resolve().parents[2] / "tutorials" / "studies"

pytestmark = pytest.mark.slow


def run(name: str, root: Path, out: Path) -> tuple[dict[str, xr.Dataset], str]:
    report = Runner(read_study(STUDIES / f"{name}.toml", root), out, say=lambda line: None).run()
    return read_results(out / "results.nc")[0], report.read_text(encoding="utf-8")


def test_every_study_is_tested():
    assert {path.stem for path in STUDIES.glob("*.toml")} == {
        "audvis",
        "cocktail",
        "haxby",
        "haxby-encoding",
        "objects92",
        "reach",
        "v4",
        "v4-networks",
        "v4-readouts",
    }


def test_v4(shared, tmp_path):
    groups, report = run("v4", shared, tmp_path)
    least = {"210224": 0.51, "210325": 0.55}
    for session, bound in least.items():
        score = groups[f"encoding/{session}"]["score"]
        assert score.sizes["split"] == 25
        medians = score.groupby("seed").mean("split").median("unit").mean("seed").to_series()
        assert medians["mobilenet/features.10"] >= bound
        assert medians["pixels"] <= 0.30
        assert medians.idxmax() in ("mobilenet/features.6", "mobilenet/features.10", "mobilenet/features.13")
    assert "ceiling" not in groups["encoding/210224"]
    assert float(groups["encoding/210325"]["ceiling"].median()) == pytest.approx(0.87, abs=0.015)
    for group in groups.values():
        assert group.attrs["audit"]["stimulus_overlap"] == 0
        assert max(map(abs, group.attrs["audit"]["shuffle_control"].values())) < 0.05
    assert "There is no noise ceiling (the recording has no repeats)." in report


def test_v4_networks(shared, tmp_path):
    groups, report = run("v4-networks", shared, tmp_path)
    medians = groups["encoding/210325"]["score"].mean("split").median("unit").to_series()
    assert medians["pixels"] < 0.3 < medians["gabor"] < 0.5
    for network in ("mobilenet1", "mobilenet2"):
        layers = medians[medians.index.str.startswith(network)]
        assert layers.max() > 0.56 and layers.idxmax() not in (layers.index[0], layers.index[-1])
    assert float(groups["encoding/210325"]["ceiling"].median()) == pytest.approx(0.87, abs=0.015)
    exciting = groups["exciting/210325"]
    assert float(exciting["measured"].mean()) > 1.5
    assert (exciting["made_predicted"] > exciting["predicted"].max("rank")).all()
    assert "Most exciting pictures of the best units" in report


def test_objects92(shared, tmp_path):
    groups, report = run("objects92", shared, tmp_path)
    rho = groups["similarity/human-IT"]["score"].mean(["split", "unit"]).to_series()
    assert rho["monkey-IT"] == pytest.approx(0.439, abs=0.001)
    assert rho["mobilenet/features.13"] == pytest.approx(0.26, abs=0.02)
    assert rho.drop("monkey-IT").idxmax() == "mobilenet/features.13"
    for analysis, bounds in (("people", (0.4525, 0.5422)), ("people-mean-ceiling", (0.449, 0.535))):
        dataset = groups[f"{analysis}/IT-of-15"]
        assert float(dataset["ceiling"].mean()) == pytest.approx(bounds[0], abs=0.001)
        assert float(dataset["ceiling_upper"].mean()) == pytest.approx(bounds[1], abs=0.001)
    assert "human face" in set(groups["people/IT-of-15"]["stimulus_group"].values)
    assert "ceiling 0.453 to 0.542" in report and "ceiling 0.449 to 0.535" in report
    best = {"IT-of-15": "animacy", "IT-of-4": "animacy", "judgements": "animacy", "EVC-of-15": "Silhouette"}
    for recording, name in best.items():
        dataset = groups[f"hypotheses/{recording}"].isel(group=0)
        assert dataset["mean"].to_series().idxmax() == f"hypotheses/{name}"
        assert dataset.attrs["audit"]["models_among_data"] == [] and dataset.sizes["model"] == 7
    it = groups["hypotheses/IT-of-15"].isel(group=0)
    assert it["p_pair_fdr"].sel(model="hypotheses/animacy", model_b="hypotheses/V1") < 0.001
    assert it["p_zero"].sel(model="hypotheses/V1") > 0.05 and (it["p_ceiling"] < 0.01).all()
    layers = {
        area: groups[f"all-models/{area}"]["mean"].isel(group=0).to_series()
        for area in ("IT-of-15", "EVC-of-15")
    }
    assert all(len(means) == 76 for means in layers.values())
    early, late = "alexnet/conv2 | complete", "alexnet/conv5 | complete"
    assert layers["EVC-of-15"][early] > layers["EVC-of-15"][late]
    assert layers["IT-of-15"][late] > layers["IT-of-15"][early]


def test_haxby(shared, tmp_path):
    groups, report = run("haxby", shared, tmp_path)
    least = {
        "faces-or-houses/volumes": 0.97,
        "eight-categories/volumes": 0.68,
        "eight-categories/blocks": 0.85,
    }
    for name, bound in least.items():
        dataset = groups[name]
        assert float(dataset["score"].mean()) >= bound
        assert dataset.sizes["split"] == 12 and float(dataset["p"].item()) <= 0.05
        assert dataset.attrs["audit"]["split"] == "leave one run out"
    where = groups["faces-or-houses/volumes"]
    assert where["map"].sizes["place"] == 530
    values = where["map"].values
    assert values.max() > 0.85 and np.median(values) < 0.75, "some places tell faces from houses, most do not"
    assert "Accuracy around each unit" in report


def test_audvis(shared, tmp_path):
    groups, report = run("audvis", shared, tmp_path)
    dataset = groups["agreement/evoked"]
    assert dataset["model"].values.tolist() == ["grad – mag", "grad – eeg", "mag – eeg"]
    assert dataset["rdm"].dims == ("group", "unit", "pair") and dataset.sizes["pair"] == 6
    assert dataset["map"].sizes == {"moment": 2, "stimulus": 4, "place": 364}
    start = dataset["time_bin_start"].values
    score = dataset["score"].isel(split=0).mean("model").values
    evoked, before = (start >= 0.07) & (start < 0.2), start < 0
    assert score[evoked].mean() > 0.4 > abs(score[before].mean())
    pairs = list(zip(dataset["stimulus_a"].values, dataset["stimulus_b"].values, strict=True))
    mag = dataset["rdm"].values[1][evoked].mean(axis=0)
    alike = [mag[k] for k, (a, b) in enumerate(pairs) if a.split()[1] == b.split()[1]]
    unlike = [mag[k] for k, (a, b) in enumerate(pairs) if a.split()[1] != b.split()[1]]
    assert max(alike) < min(unlike), (
        "two tones, and two checkerboards, are more alike than a tone and a checkerboard"
    )
    assert "so there is no noise ceiling and no p" in report
    assert report.count("Head maps of") == 2


def test_cocktail(shared, tmp_path):
    groups, report = run("cocktail", shared, tmp_path)
    forward = groups["forward/eeg"]["score"].mean("split").median("unit").to_series()
    assert 0.02 < forward["attended"] < 0.06 and abs(forward["unattended"]) < 0.02
    backward = groups["backward/attended"]
    assert 0.06 < float(backward["score"].mean()) < 0.12
    assert float(backward["p"].item()) <= 0.05
    assert abs(backward.attrs["audit"]["shuffle_control"]["eeg"]) < 0.04
    attention = groups["attention/eeg"]
    accuracy = attention["score"].mean(["model", "split"]).values
    assert attention["window"].values.tolist() == [1, 5, 10, 30]
    assert accuracy[0] > 0.55 and accuracy[-1] >= 0.8
    assert np.abs(attention["shifted"].values - 0.5).max() < 0.05
    assert float(attention["p"].min()) <= 0.05
    assert float((attention["attended"] - attention["unattended"]).mean()) > 0.02
    assert "trials are decided rightly" in report


def test_haxby_encoding(shared, tmp_path):
    groups, _ = run("haxby-encoding", shared, tmp_path)
    shapes = groups["shapes/volumes"]["score"].mean("split").median("unit").to_series()
    free = groups["free/volumes"]["score"].mean("split").median("unit").item()
    # the events of these runs have the haemodynamic lag in them, so that a second one takes it away
    assert shapes["boxcar"] > 0.12 > shapes["spm"] > 0.05
    assert free > 0.12
    # blocks change places, so that chance still knows when something was seen, and not what
    control = groups["shapes/volumes"].attrs["audit"]["shuffle_control"]
    assert 0.05 < control["boxcar"] < shapes["boxcar"]


def test_reach(shared, tmp_path):
    groups, _ = run("reach", shared, tmp_path)
    by_name = {
        name: dataset["score"].mean("split").mean("unit", skipna=True).to_series()
        for name, dataset in groups.items()
    }
    velocity, past, both = (by_name[f"{name}/neurons"] for name in ("velocity", "past", "both"))
    assert velocity["velocity (poisson-lags)"] > velocity["velocity (poisson)"] > 0
    assert past["past"] > velocity["velocity (poisson-lags)"]
    assert both["joint"] > past["past"]
    for dataset in groups.values():
        assert max(dataset.attrs["audit"]["shuffle_control"].values()) < 0.01


def test_v4_readouts(shared, tmp_path):
    groups, _ = run("v4-readouts", shared, tmp_path)
    score = groups["readouts/210225"]["score"].mean("split").median("unit").to_series()
    block = "mobilenet/features.10"
    assert score[f"{block} (prf)"] > score[f"{block} (ridge)"] > 0.46
    assert score[f"{block} (factorised)"] > score[f"{block} (ridge)"] - 0.005
    assert score[f"{block} (attention)"] > score[f"{block} (ridge)"]
    joint = groups["bands/210225"]["score"].mean("split").median("unit").item()
    assert joint > score[f"{block} (ridge)"] - 0.02
    for dataset in groups.values():
        assert max(map(abs, dataset.attrs["audit"]["shuffle_control"].values())) < 0.06
