"""Scores of models on people over time made a result: ceilings, cluster tests, latencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ..audit import fingerprint, versions
from ..clusters import Tail, cluster_test
from ..engine.similarity import paired_similarities
from ..results import Result
from ..significance import check_count
from .ceilings import Ceiling, check_ceiling, scale_rows
from .comparison import CALLED, compare_labelled
from .epochs import TimedRDMs
from .latencies import latency_table
from .partial import check_partial
from .preparation import check_method, is_above_zero, ordered, prepare_checked, vectors

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Testing:
    """How courses are tested over people.

    Attributes
    ----------
    joint
        One test over models × times, in which neighbouring models are neighbours too; else one over times a model.
    tail, threshold, permutations
        As of :func:`cerebridge.encoding.clusters.cluster_test`; no permutations: no test.
    n_resamples
        Draws of people for the intervals of latencies.
    random_state
        Seeds both.
    """

    joint: bool = False
    tail: Tail = "greater"
    threshold: float | Literal["tfce"] | None = None
    permutations: int = 1000
    n_resamples: int = 1000
    random_state: int | None = 0

    def check(self, n_people: int) -> None:
        """Refuse counts that are none, and tests over one person."""
        check_count(self.permutations, "permutations")
        check_count(self.n_resamples, "n_resamples")
        if self.permutations and n_people < 2:
            raise ValueError(
                "there is one person, and clusters are tested over people; add people, or pass permutations=0 for "
                "the courses alone."
            )

    def apply(self, scores: Array, pairs: Any = None) -> dict[str, Array]:
        """Cluster tests of people (or pairs of them) × models × …: each variable is models × …."""
        parts = [scores] if self.joint else [scores[:, k : k + 1] for k in range(scores.shape[1])]
        tests = [
            cluster_test(
                part,
                pairs=pairs,
                threshold=self.threshold,
                tail=self.tail,
                permutations=self.permutations,
                random_state=self.random_state,
            )
            for part in parts
        ]
        names = {
            "t": "t",
            "p_cluster": "p",
            "cluster": "cluster",
            "p_max": "p_max",
            "significant": "significant",
        }
        return {
            name: np.concatenate([test[variable].values for test in tests])
            for name, variable in names.items()
        }


def add_ceiling(
    dataset: xr.Dataset, timed: TimedRDMs, method: str, ceiling: Ceiling, device: str | torch.device
) -> None:
    """Similarity of each person, at each time, with the pool of the others and with that of all."""
    if len(timed.grid.people) < 2:
        dataset.attrs["no_ceiling"] = "there is one person, so no noise ceiling over people"
        return
    rows, ready, known = prepared_rows(timed, method, device)
    check_ceiling(ceiling)
    scaled = scale_rows(rows, method) if ceiling == "rank" else rows
    by_person = scaled.view(len(timed.grid.people), len(timed.grid.start), -1)
    total = by_person.sum(dim=0)
    for name, pool in (("ceiling", total - by_person), ("ceiling_upper", total.expand_as(by_person))):
        pools = prepare_checked(pool.reshape(len(rows), -1), method, "the pooled RDMs", known=known)
        dataset[name] = ("unit", paired_similarities(pools, ready, method).cpu().numpy())
    lower = dataset["ceiling"]
    dataset["normalised"] = dataset["score"] / lower.where(lower > 0)


def prepared_rows(
    timed: TimedRDMs, method: str, device: str | torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Dissimilarities known at all times in all people, as they are and prepared, and which (``None``: all)."""
    rows = vectors(ordered(timed.rdms, method, "data"), resolve_device(device))
    known = rows.isfinite().all(dim=0)
    pairs = None if bool(known.all()) else known
    rows = rows if pairs is None else rows[:, pairs]
    labels = timed.rdms.coords["neuroid_id"].values
    return rows, prepare_checked(rows, method, "data", labels, known=pairs), pairs


def check_chance(rdms: xr.DataArray, method: str, testing: Testing) -> None:
    """Refuse to test against 0 what is above 0 whatever it holds."""
    if testing.permutations and is_above_zero(method, rdms.values):
        raise ValueError(
            f"the {method} similarity of dissimilarities that are never negative is not 0 by chance, so people cannot "
            "be tested against it; use method='spearman', metric='crossnobis', or permutations=0."
        )


def score_cube(
    models: xr.DataArray,
    timed: TimedRDMs,
    method: str,
    device: str | torch.device,
    *,
    given: xr.DataArray | None = None,
    semi: Literal[False, "a", "b"] = False,
) -> Array:
    """Similarity of models (``a``) with the data (``b``), people × models × times."""
    sides = {"a": models, "b": timed.rdms} | ({} if given is None else {"given": given})
    check_method(method)
    check_partial(method, given, semi)
    called = CALLED | {"a": "models", "b": "data"}
    found = compare_labelled(sides, method, semi=semi, device=device, called=called).values
    return np.ascontiguousarray(timed.grid.cube(found).swapaxes(0, 1))


def course_result(
    models: xr.DataArray,
    scores: Array,
    timed: TimedRDMs,
    testing: Testing,
    *,
    method: str,
    audit: dict[str, Any],
) -> Result:
    """A result of people × models × times, tested; units are people × times."""
    grid = timed.grid
    names = [str(name) for name in models.coords["neuroid_id"].values]
    flat = scores.swapaxes(0, 1).reshape(len(names), 1, -1)
    variables: dict[str, Any] = {"score": (("model", "split", "unit"), flat)}
    if testing.permutations:
        variables |= {name: (("model", "time"), values) for name, values in testing.apply(scores).items()}
    variables |= latency_table(scores, grid.middle, testing.n_resamples, testing.random_state)
    coords = {
        "model": names,
        "split": [0],
        "time": grid.middle,
        **{name: ("unit", values) for name, values in grid.labels().items()},
    }
    missing = timed.count_missing(models)
    over = "models × times" if testing.joint else "the times of each model"
    attrs = {
        "scoring": method,
        "chance": 0.0,
        "unit_kind": "person and time",
        "audit": {
            "fitted_on": "nothing is fitted: the model RDMs are fixed",
            "clusters": f"{testing.permutations} sign flips of {len(grid.people)} people, corrected over {over}, "
            f"tail {testing.tail!r}"
            if testing.permutations
            else "not tested",
            "latencies": f"of the mean over people; {testing.n_resamples} draws of people",
            "missing_pairs": f"{missing} of {models.sizes['pair']} that some model or person lacks: each score is over "
            "those that both have, ceilings over those that all people have at all times"
            if missing
            else "none",
            "times": f"{len(grid.start)} from {grid.start[0]:g} to {grid.end[-1]:g} s",
            **audit,
        },
        "provenance": {
            "models": fingerprint(models.values),
            "responses": fingerprint(timed.rdms.values),
            "random_state": testing.random_state,
            "versions": versions(),
        },
    }
    return Result(xr.Dataset(variables, coords, attrs))
