"""Our metrics on the splits of Brain-Score's own: the same numbers, for every split and neuroid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from cerebridge import neuro
from cerebridge.encoding.brainscore import load_metric
from cerebridge.encoding.brainscore.splits import CrossValidation
from cerebridge.neuro.interchange import import_brainscore

pytest.importorskip("brainscore_vision", reason="Brain-Score is not installed (make test-brainscore)")
pytestmark = [
    pytest.mark.brainscore,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*iteration.*:UserWarning"),
]


def their_metric(name: str, **options: Any) -> Any:
    return import_brainscore("brainscore_vision").load_metric(name, **options)


def recordings(features: int = 12, n: int = 120, units: int = 9, seed: int = 0) -> tuple[Any, Any]:
    """A model and a noisy recording as assemblies, their stimuli and neuroids in different orders."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features)) * np.arange(1, features + 1) ** -0.4 + 1
    y = x @ rng.standard_normal((features, units)) + rng.standard_normal((n, units))
    ids = np.array([f"s{i:03d}" for i in rng.permutation(n)])

    def assembly(values: np.ndarray, prefix: str, rows: np.ndarray) -> Any:
        names = [f"{prefix}{i:02d}" for i in rng.permutation(values.shape[1])]
        objects = np.array([f"o{int(name[1:]) % 4}" for name in ids])
        return neuro.to_brainscore(
            neuro.assemble(
                values[rows],
                presentation={"stimulus_id": ids[rows], "object_name": objects[rows]},
                neuroid={"neuroid_id": names, "region": "IT"},
                modality="spikes",
                units="a.u.",
            )
        )

    return assembly(x, "f", rng.permutation(n)), assembly(y, "n", np.arange(n))


def assert_same(ours: Any, theirs: Any, tolerance: float = 1e-6) -> None:
    assert isinstance(ours, type(theirs))
    assert float(ours) == pytest.approx(float(theirs), abs=tolerance)
    assert ("error" in ours.attrs) == ("error" in theirs.attrs)
    if "error" in theirs.attrs:
        assert float(ours.attrs["error"]) == pytest.approx(float(theirs.attrs["error"]), abs=tolerance)
    assert ("raw" in ours.attrs) == ("raw" in theirs.attrs)
    if "raw" in theirs.attrs:
        raw = theirs.attrs["raw"]
        assert ours.attrs["raw"].dims == raw.dims
        np.testing.assert_allclose(ours.attrs["raw"].values, raw.values, atol=tolerance)
        if "neuroid" in raw.dims:
            assert ours.attrs["raw"]["neuroid_id"].values.tolist() == raw["neuroid_id"].values.tolist()


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("linear_predictivity", 30),  # of more features than stimuli theirs divides rounding by rounding
        *((name, n) for name in ("pls", "ridge", "neuron_to_neuron", "reverse_pls_cv") for n in (30, 300)),
    ],
)
def test_regressions_give_their_scores(name: str, features: int) -> None:
    model, brain = recordings(features, units=28)
    options = {"crossvalidation_kwargs": {"splits": 3}}
    assert_same(load_metric(name, **options)(model, brain), their_metric(name, **options)(model, brain))


def test_related_is_more_than_exchanged() -> None:
    model, brain = recordings()
    exchanged = brain.copy(data=np.roll(brain.values, 7, axis=0))
    metric = load_metric("ridge")
    assert float(metric(model, brain)) > 0.7
    assert abs(float(metric(model, exchanged))) < 0.2


@pytest.mark.parametrize("name", ["rdm", "cka", "cka_biased", "rdm_cv", "cka_cv"])
@pytest.mark.parametrize("features", [12, 300], ids=["narrow", "wide"])
def test_similarities_give_their_scores(name: str, features: int) -> None:
    model, brain = recordings(features)
    assert_same(load_metric(name)(model, brain), their_metric(name)(model, brain))


@pytest.mark.parametrize(
    "name",
    [
        "pls_split",
        "ridge_split",
        "ridgecv_split",
        "dual_ridgecv_split",
        "neuron_to_neuron_split",
        "linear_predictivity_split",
    ],
)
def test_given_splits_give_their_scores(name: str) -> None:
    model, brain = recordings(30, units=28)
    ids = brain["stimulus_id"].values
    train = np.isin(brain["stimulus_id"].values, ids[:90])
    inside = np.isin(model["stimulus_id"].values, ids[:90])
    arrays = {
        "source_train": model[{"presentation": np.flatnonzero(inside)}],
        "source_test": model[{"presentation": np.flatnonzero(~inside)}],
        "target_train": brain[{"presentation": np.flatnonzero(train)}],
        "target_test": brain[{"presentation": np.flatnonzero(~train)}],
    }
    assert_same(load_metric(name)(**arrays), their_metric(name)(**arrays))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"splits": 4, "train_size": 0.5},
        {"splits": 3, "train_size": None, "test_size": 0.25, "stratification_coord": None},
        {"splits": 4, "kfold": True},
        {"splits": 4, "kfold": True, "stratification_coord": None},
        {"random_state": 7},
        {"splits": 2, "train_size": 30, "test_size": 20},
    ],
    ids=str,
)
def test_the_splits_are_theirs(options: dict[str, Any]) -> None:
    from brainscore_vision.metric_helpers.transformations import Split

    _, brain = recordings()
    _, drawn = Split(**{"train_size": 0.9, "test_size": None, **options}).build_splits(brain)
    ours = CrossValidation.of(options, train_size=0.9).draw(brain)
    assert len(ours) == len(drawn)
    for split, (train, test) in zip(ours, drawn, strict=True):
        assert split.train.tolist() == sorted(train)
        assert split.test.tolist() == sorted(test)


def repeated(missing: float = 0.0, units: int = 6, seed: int = 0) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    n, repeats = 40, 8
    signal = rng.standard_normal((n, 1, units))
    values = signal + rng.standard_normal((n, repeats, units))
    values[rng.random(values.shape) < missing] = np.nan
    table = {
        "stimulus_id": np.repeat([f"s{i:02d}" for i in range(n)], repeats),
        "object_name": np.repeat([f"o{i % 4}" for i in range(n)], repeats),
        "repetition": np.tile(np.arange(repeats), n),
    }
    neuroid = {"neuroid_id": [f"n{i}" for i in range(units)], "region": "V4"}
    return neuro.assemble(
        values.reshape(-1, units), presentation=table, neuroid=neuroid, modality="spikes", units="a.u."
    )


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_internal_consistency_is_theirs(missing: float) -> None:
    assembly = neuro.to_brainscore(repeated(missing))
    ours, theirs = (
        load(name)(assembly) for load in (load_metric, their_metric) for name in ["internal_consistency"]
    )
    assert_same(ours, theirs)
    assert 0.8 < float(ours) < 0.97  # eight repeats of as much noise as signal: 8 / 9


def test_the_ceiling_of_rdms_is_theirs() -> None:
    assembly = neuro.to_brainscore(
        neuro.average_repeats(repeated(units=30)).assign_coords(
            subject=("neuroid", np.repeat(list("abc"), 10))
        )
    )
    ours, theirs = (load("rsa_ceiling")(assembly) for load in (load_metric, their_metric))
    assert_same(ours, theirs)
    assert ours.attrs["lower_bound_loo"] == pytest.approx(theirs.attrs["lower_bound_loo"], abs=1e-9)


def test_single_precision_is_computed_in_double() -> None:
    model, brain = recordings(30)
    single = model.astype(np.float32)
    options = {"crossvalidation_kwargs": {"splits": 2}}
    for name in ("pls", "ridge"):
        ours = load_metric(name, **options)(single, brain)
        theirs = their_metric(name, **options)(single.astype(np.float64), brain)
        assert_same(ours, theirs)
