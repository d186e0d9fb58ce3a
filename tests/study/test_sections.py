from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding.study.sections import SECTIONS, section
from cerebridge.encoding.study.workflow import ANALYSES

ENTRY = {"encoders": ["ridge"], "joint": False, "name": "a", "by": "region"}


def dataset(n_models=2, n_units=6, **attrs) -> xr.Dataset:
    score = np.linspace(0.1, 0.6, n_models)[:, None, None] * np.ones((1, 3, n_units))
    score = score + 0.01 * np.random.default_rng(0).normal(size=score.shape)
    return xr.Dataset(
        {"score": (("model", "split", "unit"), score)},
        {"model": ["pixels", "net/conv1", "net/conv2"][:n_models]},
        {
            "scoring": "pearsonr",
            "chance": 0.0,
            "audit": {
                "split": "3 folds",
                "ceiling": "none: the recording has no repeats",
                "pairs": "6 dissimilarities of 4 conditions",
            },
            "provenance": {"versions": {"numpy": np.__version__}},
            **attrs,
        },
    )


def titles(part) -> list[str]:
    return [picture.caption for picture in part.pictures]


def test_every_analysis_has_a_section():
    assert set(SECTIONS) == set(ANALYSES)


def test_an_encoding_without_regions_ceiling_or_place():
    part = section({**ENTRY, "kind": "encoding"}, "rec", "a/rec", dataset())
    assert [(head.label, head.key) for head in part.headlines] == [("best median r", "a/rec|best|all")]
    assert "conv1" in part.headlines[0].note and "ceiling" not in part.headlines[0].note
    assert part.tables[0].columns[0] == "model" and len(part.pictures) == 1
    assert "There is no noise ceiling (the recording has no repeats)." in part.meaning[-1]


def test_scores_of_sensors_over_time_get_a_course_and_a_head():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(8, 3))
    places = 90 * np.abs(places) / np.linalg.norm(places, axis=1, keepdims=True)
    timed = dataset(n_units=16, place={"modality": "eeg"}).assign_coords(
        neuroid_id=("unit", np.repeat([f"E{k}" for k in range(8)], 2)),
        channel_type=("unit", ["eeg"] * 16),
        time_bin_start=("unit", np.tile([0.1, 0.2], 8)),
        time_bin_end=("unit", np.tile([0.2, 0.3], 8)),
        **{axis: ("unit", np.repeat(places[:, k], 2)) for k, axis in enumerate("xyz")},
    )
    timed["score"] = timed["score"] + 0.3 * (timed["time_bin_start"] == 0.2)
    part = section({**ENTRY, "kind": "encoding"}, "rec", "a/rec", timed)
    assert "Mean score of all units over time." in titles(part)
    assert "Score of conv1 in every unit, 200 ms after onset." in titles(part)
    assert part.headlines[0].label == "best median r, 200 ms after onset"
    late = timed["score"].isel(model=1).mean("split").values[1::2]
    assert part.headlines[0].number.value == pytest.approx(np.median(late))
    assert "a little too good" in part.meaning[0]


def similarity_dataset(n_units, **variables) -> xr.Dataset:
    a, b = np.triu_indices(4, 1)
    rng = np.random.default_rng(0)
    return (
        dataset(n_units=n_units)
        .assign(
            rdm=(("unit", "pair"), rng.random((n_units, 6))),
            model_rdm=(("model", "pair"), rng.random((2, 6))),
            **variables,
        )
        .assign_coords(stimulus_a=("pair", a), stimulus_b=("pair", b))
    )


SIMILARITY = {**ENTRY, "kind": "similarity", "comparison": "rho-a"}


def test_one_matrix_has_no_ceiling_and_says_so():
    part = section(SIMILARITY, "rec", "a/rec", similarity_dataset(1))
    assert "so there is no noise ceiling" in " ".join(part.meaning)
    assert part.tables[0].columns == ["model", "mean rho-a"]


def test_people_have_one_and_the_mean_p():
    people = similarity_dataset(
        5,
        ceiling=("unit", np.full(5, 0.4)),
        ceiling_upper=("unit", np.full(5, 0.5)),
        p=(("model", "unit"), np.full((2, 5), 0.5)),
        p_group=(("group", "model"), np.full((1, 2), 0.0001)),
    )
    part = section(SIMILARITY, "rec", "a/rec", people)
    assert part.headlines[0].note == "conv1; p < 0.001; ceiling 0.400 to 0.500"
    assert part.tables[0].columns == ["model", "mean rho-a", "p", "ceiling, lower", "ceiling, upper"]
    assert "(mean of 5)" in part.pictures[1].alt


def decoding_dataset(**attrs) -> xr.Dataset:
    return (
        dataset(n_models=1, n_units=1, **attrs)
        .assign(confusion=(("model", "true", "predicted"), [[[3, 1], [0, 4]]]))
        .assign_coords(true=["face", "house"], predicted=["face", "house"], model=["all units"])
    )


DECODING = {"name": "a", "kind": "decoding", "classifier": "lda", "scoring": "accuracy", "by": None}


def test_decoding_without_permutations_says_so():
    part = section(DECODING, "rec", "a/rec", decoding_dataset())
    assert part.headlines[0].note == "chance 0.000; no permutations"
    assert "No permutations were asked for, so there is no p." in part.meaning[0]


@pytest.mark.parametrize(
    ("attrs", "n_pictures"), [({"affine": np.eye(4).ravel(), "volume_shape": [2, 2, 1]}, 2), ({}, 1)]
)
def test_a_map_is_drawn_where_there_is_an_image(attrs, n_pictures):
    mapped = decoding_dataset().assign(map=("place", [0.4, 0.6, 0.8, 0.9], {**attrs, "radius": 4.0}))
    at = {"i": [0, 0, 1, 1], "j": [0, 1, 0, 1], "k": [0, 0, 0, 0], "z": [0.0] * 4}
    mapped = mapped.assign_coords({f"place_{name}": ("place", values) for name, values in at.items()})
    part = section(DECODING, "rec", "a/rec", mapped)
    assert len(part.pictures) == n_pictures and "within 4 mm of each unit" in " ".join(part.meaning)


def test_few_pairs_are_a_warning():
    timed = dataset(n_units=4, no_ceiling="because").assign_coords(
        model=["a – b", "a – c"],
        group=["a", "b"],
        time_bin_start=("unit", [-0.1, 0.0, 0.1, 0.2]),
        time_bin_end=("unit", [0.0, 0.1, 0.2, 0.3]),
        stimulus_a=("pair", [0, 0, 0, 1, 1, 2]),
        stimulus_b=("pair", [1, 2, 3, 2, 3, 3]),
    )
    timed["rdm"] = (("group", "unit", "pair"), np.random.default_rng(0).random((2, 4, 6)))
    entry = {
        "name": "a",
        "kind": "agreement",
        "by": "kind",
        "dissimilarity": "correlation",
        "comparison": "spearman",
    }
    part = section(entry, "rec", "a/rec", timed)
    assert "single times say little" in part.meaning[0] and part.meaning[0].endswith("Because.")
    late = timed["score"].values[0, 0]
    assert part.headlines[0].number.value == pytest.approx(late[[1, 2, 3]].mean())
