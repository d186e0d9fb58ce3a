from __future__ import annotations

import numpy as np
import pytest

from cerebridge.encoding.results import Result
from cerebridge.encoding.study.archive import read_results
from cerebridge.encoding.study.cli import main


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--out", str(out)])
    assert stop.value.code == 0
    assert (out / "report.html").stat().st_size > 100_000
    return read_results(out / "results.nc")[0]


def test_the_best_layer_is_the_one_that_drives_the_region(groups):
    table = Result(groups["encoding/neurons"]).summary("region")
    best = {region: rows.loc[rows["score"].idxmax(), "model"] for region, rows in table.groupby("region")}
    assert best == {"early": "tiny/conv1", "late": "tiny/conv3"}
    assert (table["normalised"] < 1).all() and (table["ceiling"] > 0.7).all()


def test_electrodes_see_the_early_region_first(groups):
    score = groups["encoding/electrodes"]["score"].mean("split")
    means = score.groupby("time_bin_start").mean("unit").transpose("time_bin_start", "model")
    start = means["time_bin_start"].values
    best = {
        when: str(means["model"].values[means.values[np.abs(start - when) < 0.015].mean(axis=0).argmax()])
        for when in (0.1, 0.19)
    }
    assert best == {0.1: "tiny/conv1", 0.19: "tiny/conv3"}
    assert np.abs(means.values[start < 0]).max() < 0.1


def test_the_most_similar_layer_too(groups):
    score = groups["similarity/neurons"]["score"].mean("split")
    best = score["model"].values[score.values.argmax(axis=0)]
    assert dict(zip(score["region"].values, best, strict=True)) == {
        "early": "tiny/conv1",
        "late": "tiny/conv3",
    }


def test_categories_are_decoded_from_new_pictures(groups):
    dataset = groups["decoding/neurons"]
    assert (dataset["score"].mean("split").values > 2 * dataset.attrs["chance"]).all()
    assert (dataset["p"].values < 0.05).all()
    assert dataset.attrs["audit"]["stimulus_overlap"] == 0
