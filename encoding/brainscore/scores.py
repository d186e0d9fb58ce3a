"""Scores of Brain-Score's kind: of their benchmarks and ours, normalised as theirs are, and as results of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from ..audit import versions
from ..normalisation import attach_ceiling
from ..results import Result
from .models import to_model
from .plugins import load_plugin
from .sides import neuroid_labels

if TYPE_CHECKING:
    from .benchmarks import LocalBenchmark

Array = NDArray[np.float64]


def score(
    benchmark: Any,
    model: Any,
    region_layer_map: Mapping[str, str | Sequence[str]] | None = None,
    **options: Any,
) -> Result:
    """Score a model on a benchmark of Brain-Score's or of one's own.

    Parameters
    ----------
    benchmark
        A benchmark object, or the identifier of one that Brain-Score can load.
    model
        A ``BrainModel``, the identifier of one that Brain-Score can load, or a torch network.
    region_layer_map, options
        For a network: as :func:`~cerebridge.encoding.brainscore.to_model` takes them.

    Returns
    -------
    Result
        ``score``: model × split × neuroid before the ceiling (one split and unit where the benchmark says no more),
        ``ceiling`` in the same unit, ``normalised``; ``benchmark_score`` and ``benchmark_error``: what the benchmark
        itself says.

    Raises
    ------
    ValueError
        If there is no such benchmark or model, or the network has no layers for the region.
    ConnectionError
        If a plugin wants the network.

    Examples
    --------
    >>> from cerebridge import encoding
    >>> result = encoding.brainscore.score(benchmark, net, {"V4": "features.6"})  # doctest: +SKIP
    """
    if isinstance(benchmark, str):
        benchmark = load_plugin("benchmark", benchmark)
    if isinstance(model, str):
        model = load_plugin("model", model)
    if not callable(benchmark) or not hasattr(benchmark, "identifier"):
        raise TypeError(f"a benchmark or the name of one is needed, got {type(benchmark).__name__}.")
    if isinstance(model, nn.Module):
        region = getattr(benchmark, "region", "the benchmark's region")
        if region_layer_map is None:
            raise ValueError(
                f"say which layer of the network stands for {region!r}: region_layer_map={{{region!r}: …}}."
            )
        model = to_model(model, region_layer_map, **options)
    elif region_layer_map is not None or options:
        raise TypeError("region_layer_map and options are for networks; this model brings its own.")
    elif not hasattr(model, "look_at"):
        raise TypeError(f"a BrainModel, the name of one or a network is needed, got {type(model).__name__}.")
    return to_result({str(model.identifier): benchmark(model)}, benchmark)


def normalise(score: Any, ceiling: Any, *, squared: bool) -> Any:
    """Divide a score by its ceiling, as Brain-Score does.

    Parameters
    ----------
    score
        A correlation, with ``raw`` and ``error`` where there are any.
    ceiling
        The share of variance that can be explained (``squared``), or the highest value.
    squared
        Whether the score is squared first.

    Returns
    -------
    xarray.DataArray or Score
        With ``raw`` (the score as it was), ``ceiling`` and ``error``.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.brainscore.scores import normalise
    >>> normalise(xr.DataArray(0.5), xr.DataArray(0.5), squared=True).item()
    0.5
    """
    found = type(score)((score.values**2 if squared else score.values) / ceiling.values)
    found.attrs.update({key: score.attrs[key] for key in ("error",) if key in score.attrs})
    found.attrs.update(raw=score, ceiling=ceiling)
    return found


def to_result(scores: Mapping[str, Any], benchmark: Any | LocalBenchmark) -> Result:
    """Bring scores of one benchmark into a result.

    Parameters
    ----------
    scores
        By model: what the benchmark gave, with ``raw`` and ``ceiling``.
    benchmark
        The benchmark.

    Raises
    ------
    ValueError
        If the models were scored on different neuroids.
    """
    units = {name: _unit_scores(found) for name, found in scores.items()}
    first, labels = next(iter(units.values()))
    for name, (values, other) in units.items():
        if values.shape != first.shape or list(other["neuroid_id"]) != list(labels["neuroid_id"]):
            raise ValueError(
                f"the model {name!r} was scored on other neuroids or splits; score it by itself."
            )
    coords: dict[str, Any] = {name: ("unit", column) for name, column in labels.items()}
    dataset = xr.Dataset(
        {"score": (("model", "split", "unit"), np.stack([values for values, _ in units.values()]))},
        {**coords, "model": list(units), "split": np.arange(len(first))},
    )
    given = [np.asarray(found.values).item() for found in scores.values()]
    dataset["benchmark_score"] = ("model", given)
    errors = [found.attrs.get("error") for found in scores.values()]
    if all(error is not None for error in errors):
        dataset["benchmark_error"] = ("model", [np.asarray(error).item() for error in errors])
    bound, source = _ceiling(next(iter(scores.values())), labels)
    if bound is not None:
        attach_ceiling(dataset, bound)
    dataset.attrs.update(
        scoring="pearsonr" if "squared" in source else str(getattr(benchmark, "identifier", "score")),
        chance=0.0,
        unit_kind="neuroid",
        audit={"ceiling": source},
        provenance={
            "benchmark": str(benchmark.identifier),
            "version": str(getattr(benchmark, "version", "")),
            "citation": str(getattr(benchmark, "bibtex", "") or ""),
            "models": json.dumps(list(units)),
            "versions": versions(),
        },
    )
    return Result(dataset)


def _unit_scores(score: Any) -> tuple[Array, dict[str, Any]]:
    """Scores before the ceiling of every split and neuroid, with the labels of neuroids; one of each if need be."""
    raw = score.attrs.get("raw", score)
    rawest = raw.attrs.get("raw", raw)
    if set(rawest.dims) in ({"neuroid"}, {"split", "neuroid"}):
        values = np.asarray(rawest.transpose(..., "neuroid").values, dtype=np.float64)
        return values.reshape(-1, values.shape[-1]), neuroid_labels(rawest)
    if rawest.dims != ("split",):
        rawest = raw
    values = np.asarray(rawest.values, dtype=np.float64).reshape(-1, 1)
    return values, {"neuroid_id": np.array(["all"])}


def _ceiling(score: Any, labels: Mapping[str, Any]) -> tuple[Array | None, str]:
    """The ceiling of every unit in the unit of its score, and what was done with the score, in words."""
    ceiling, raw = score.attrs.get("ceiling"), score.attrs.get("raw")
    if ceiling is None or raw is None:
        return None, "the benchmark gives none"
    value, before, bound = (float(np.asarray(each.values).mean()) for each in (score, raw, ceiling))
    squared = bool(np.isclose(value, before**2 / bound))
    rawest = ceiling.attrs.get("raw")
    values = np.full(len(labels["neuroid_id"]), bound)
    if rawest is not None and set(rawest.dims) == {"split", "neuroid"}:
        by_unit = dict(zip(neuroid_labels(rawest)["neuroid_id"], rawest.mean("split").values, strict=True))
        values = np.array([by_unit.get(unit, bound) for unit in labels["neuroid_id"]])
    if squared:
        return np.sqrt(np.clip(values, 0, None)), "root of the share of variance; the score is squared first"
    if np.isclose(value, before / bound):
        return values, "the highest value; the score is divided by it"
    return None, "the benchmark normalises in a way of its own"
