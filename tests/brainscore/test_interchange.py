"""Arrays of ours as Brain-Score's own code sees them; run in the environment that has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from cerebridge import neuro
from cerebridge.neuro.interchange import import_brainscore

pytest.importorskip("brainscore_vision", reason="Brain-Score is not installed (make test-brainscore)")
pytestmark = pytest.mark.brainscore

CROSS_VALIDATION = {
    "splits": 3,
    "kfold": False,
    "test_size": 0.25,
    "train_size": None,
    "stratification_coord": None,
}


def timed(**columns: Any) -> xr.DataArray:
    rng = np.random.default_rng(0)
    return neuro.assemble(
        rng.standard_normal((4, 3, 2)),
        presentation={"stimulus_id": list("aabb"), "repetition": [0, 1, 0, 1], **columns},
        neuroid={"neuroid_id": [5, 6, 7], "region": ["V4", "IT", "IT"], "x": [1.0, np.nan, 3.0]},
        time_bin={"time_bin_start": [0.07, 0.17], "time_bin_end": [0.17, 0.27]},
        modality="spikes",
        units="spikes/s",
        provenance="made up",
        name="rates",
    )


def flat(array: xr.DataArray) -> xr.DataArray:
    return array.isel(time_bin=0, drop=True)


def test_the_assembly_is_brainscores_own() -> None:
    assembly = neuro.to_brainscore(timed())
    assert type(assembly) is import_brainscore("assemblies").NeuroidAssembly
    assembly.validate()
    assert assembly["time_bin_start"].values.tolist() == [70, 170]
    assert assembly["time_bin_start"].dtype == np.int64
    assert assembly["time_bin"].values.tolist() == [(70, 170), (170, 270)]
    assert assembly.sel(region="IT").sizes["neuroid"] == 2
    walked = {name for name, _, _ in import_brainscore("assemblies").walk_coords(assembly)}
    assert walked == set(timed().coords)


@pytest.mark.parametrize(
    "column",
    [
        np.array([True, False, True, False]),
        np.array(["2020-01-01", "NaT", "2021-01-01", "2022-01-01"], "datetime64[ns]"),
        np.array(["x", None, "y", "z"], dtype=object),
        np.array([1.5, np.nan, np.inf, -1]),
        np.array(["ü", "", "名前", "d"]),
        np.arange(4, dtype=np.uint8),
    ],
    ids=["flag", "date", "missing", "float", "unicode", "byte"],
)
def test_there_and_back_is_exact(column: np.ndarray) -> None:
    noise = ("presentation", "neuroid"), np.arange(12).reshape(4, 3)
    array = timed(column=column).assign_coords(session="first", depth=1.5, noise=noise)
    again = neuro.from_brainscore(neuro.to_brainscore(array))
    assert again.identical(array)
    assert type(again) is xr.DataArray
    assert again.coords["column"].dtype == array.coords["column"].dtype


def test_there_and_back_without_time_and_with_lone_labels() -> None:
    array = flat(timed()).drop_vars(["repetition", "region", "x"])
    assembly = neuro.to_brainscore(array)
    assert assembly["stimulus_id"].values.tolist() == list("aabb")
    assert neuro.from_brainscore(assembly[{"presentation": [2, 0]}]).identical(array[[2, 0]])


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=5, unique=True))
@settings(max_examples=50, deadline=None)
def test_microseconds_survive_exactly(microseconds: list[int]) -> None:
    start = np.array(sorted(microseconds)) / 1e6
    array = neuro.assemble(
        np.ones((1, 1, len(start))),
        presentation={"stimulus_id": ["a"]},
        neuroid={"neuroid_id": ["n"]},
        time_bin={"time_bin_start": start, "time_bin_end": start + 0.001},
        modality="eeg",
        units="V",
    )
    again = neuro.from_brainscore(neuro.to_brainscore(array))
    np.testing.assert_array_equal(again.time_bin_start.values, start)
    np.testing.assert_allclose(again.time_bin_end.values, start + 0.001, rtol=1e-15)


def test_a_squeezed_time_bin_stays_as_a_label() -> None:
    assembly = neuro.to_brainscore(timed())[{"time_bin": [1]}].squeeze("time_bin")
    array = neuro.from_brainscore(assembly)
    assert array.dims == ("presentation", "neuroid")
    assert (array.time_bin_start.item(), array.time_bin_end.item()) == (0.17, 0.27)
    np.testing.assert_array_equal(array.values, timed().values[..., 1])


def test_the_stimulus_set_goes_along(tmp_path: Path) -> None:
    stimuli = {
        "identifier": "letters",
        "table": {"stimulus_id": ["a", "b"], "object_name": ["first", "second"]},
        "paths": {"a": str(tmp_path / "a.png"), "b": str(tmp_path / "b.png")},
    }
    array = flat(timed())
    array.attrs["stimulus_set"] = stimuli
    assembly = neuro.to_brainscore(array)
    stimulus_set = assembly.attrs["stimulus_set"]
    assert isinstance(stimulus_set, import_brainscore("stimuli").StimulusSet)
    assert stimulus_set.get_stimulus("b") == stimuli["paths"]["b"]
    assert assembly.attrs["stimulus_set_identifier"] == stimulus_set.identifier == "letters"
    again = neuro.from_brainscore(assembly)
    assert again.attrs == array.attrs
    neuro.save(tmp_path / "a.nc", again)
    assert neuro.load(tmp_path / "a.nc").attrs["stimulus_set"] == stimuli


def test_a_wrong_stimulus_set_is_named() -> None:
    array = flat(timed())
    array.attrs["stimulus_set"] = {"paths": {}}
    with pytest.raises(ValueError, match=r"attrs\['stimulus_set'\] must be .*; correct or remove it"):
        neuro.to_brainscore(array)


def features_and_brain(seed: int = 0) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Features, units that read them out with noise, and the same units with the stimuli exchanged."""
    rng = np.random.default_rng(seed)
    n, p, units = 60, 8, 10
    x = rng.standard_normal((n, p))
    y = x @ rng.standard_normal((p, units)) + 0.5 * rng.standard_normal((n, units))
    ids = [f"s{i:02d}" for i in range(n)]
    labels = {"modality": "spikes", "units": "spikes/s"}

    def labelled(values: np.ndarray, prefix: str) -> xr.DataArray:
        neuroid = {"neuroid_id": [f"{prefix}{i}" for i in range(values.shape[1])], "region": "IT"}
        table = {"stimulus_id": ids, "object_name": [f"o{i % 4}" for i in range(n)]}
        return neuro.assemble(values, presentation=table, neuroid=neuroid, **labels)

    return labelled(x, "f"), labelled(y, "n"), labelled(y[rng.permutation(n)], "n")


@pytest.mark.parametrize(
    ("metric", "options", "related", "unrelated"),
    [
        ("rdm", {}, 0.4, 0.15),
        ("cka", {}, 0.6, 0.2),
        ("ridge", {"crossvalidation_kwargs": CROSS_VALIDATION}, 0.8, 0.3),
        ("linear_predictivity", {"crossvalidation_kwargs": CROSS_VALIDATION}, 0.8, 0.3),
    ],
)
def test_brainscores_metrics_run_on_our_arrays(
    metric: str, options: dict[str, Any], related: float, unrelated: float
) -> None:
    features, brain, exchanged = (neuro.to_brainscore(array) for array in features_and_brain())
    load_metric = import_brainscore("brainscore_vision").load_metric
    scores = [float(load_metric(metric, **options)(features, target)) for target in (brain, exchanged)]
    assert scores[0] > related
    assert abs(scores[1]) < unrelated


def test_the_rdm_metric_says_what_scipy_says() -> None:
    features, brain, _ = features_and_brain()
    upper = np.triu_indices(features.sizes["presentation"], 1)
    expected = spearmanr(*((1 - np.corrcoef(array.values))[upper] for array in (features, brain)))[0]
    metric = import_brainscore("brainscore_vision").load_metric("rdm")
    assert float(metric(neuro.to_brainscore(features), neuro.to_brainscore(brain))) == pytest.approx(
        expected, abs=1e-6
    )


def test_real_repeats_reach_brainscores_ceiling(data: Path) -> None:
    """Single repeats of macaque V4: split-half reliability as Brain-Score computes it, and none after exchange."""
    raw = np.load(data / "v4-macaque" / "responses_raw" / "responses_210325.npy")[:10, :80, :6]
    units, images, repeats = raw.shape
    table = pd.DataFrame(
        {
            "stimulus_id": np.repeat(np.arange(images), repeats),
            "repetition": np.tile(np.arange(repeats), images),
        }
    )
    values = raw.transpose(1, 2, 0).reshape(-1, units)
    array = neuro.assemble(
        values, presentation=table, neuroid={"neuroid_id": np.arange(units)}, modality="spikes", units="a.u."
    )
    complete = array[np.isfinite(values).all(axis=1)]
    ceiling = import_brainscore("brainscore_vision").load_metric("internal_consistency")
    assert 0.4 < float(ceiling(neuro.to_brainscore(complete))) < 1
    order = np.random.default_rng(0).permutation(complete.sizes["presentation"])
    assert abs(float(ceiling(neuro.to_brainscore(complete.copy(data=complete.values[order]))))) < 0.3


def test_nothing_is_installed_or_pickled_behind_the_users_back() -> None:
    code = (
        "import os; from cerebridge.neuro.interchange import import_brainscore as load; load('brainscore_vision');"
        "print(os.environ['BS_INSTALL_DEPENDENCIES'], os.environ['RESULTCACHING_DISABLE'])"
    )
    for wish, expected in [({}, "no 1\n"), ({"BS_INSTALL_DEPENDENCIES": "yes"}, "yes 1\n")]:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in ("BS_INSTALL_DEPENDENCIES", "RESULTCACHING_DISABLE")
        }
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=inherited | wish, check=True
        )
        assert done.stdout == expected
