"""Model and recording brought to the same stimuli, and scores labelled as the caller's own kind."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ...neuro.assembly import duplicated, quoted
from ...neuro.interchange import import_brainscore, is_brainscore, read_columns
from ..containers import to_tensor

STIMULUS = "stimulus_id"


@dataclass(frozen=True)
class Sides:
    """Values of both sides in the rows of the target, ``(stimuli, neuroids)``, and what labels the target."""

    source: torch.Tensor
    target: torch.Tensor
    labels: xr.DataArray


def match_sides(source: Any, target: Any, device: str | torch.device = "auto") -> Sides:
    """Bring the rows of the source into the order of the target's stimuli, each of which occurs once on either side.

    Parameters
    ----------
    source, target
        Labelled arrays or assemblies of Brain-Score, ``presentation × neuroid`` in either order; a single time bin is
        left out.
    device
        Where it will be computed.

    Returns
    -------
    Sides
        ``source`` in its own precision, ``target`` in float64.

    Raises
    ------
    ValueError, TypeError
        If a side has other dimensions, missing values or a stimulus twice, or if the stimuli differ.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.brainscore.sides import match_sides
    >>> brain = neuro.simulate(n_stimuli=4, n_units=3, random_state=0)
    >>> sides = match_sides(brain[::-1], brain)
    >>> bool((sides.source == sides.target).all())
    True
    """
    source, target = as_table(source, "source"), as_table(target, "target")
    ids, wanted = source[STIMULUS].values, target[STIMULUS].values
    for name, given in (("source", ids), ("target", wanted)):
        twice = duplicated(given)
        if twice:
            raise ValueError(
                f"the {name} has the stimulus {quoted(twice[0])} more than once; average repeats first "
                "(neuro.average_repeats)."
            )
    place = {stimulus: row for row, stimulus in enumerate(ids.tolist())}
    missing = [stimulus for stimulus in wanted.tolist() if stimulus not in place]
    if missing or len(ids) != len(wanted):
        raise ValueError(
            f"source and target must have the same stimuli, but {len(wanted) - len(missing)} of {len(ids)} and "
            f"{len(wanted)} are common (first of the source {quoted(ids[0])}, of the target {quoted(wanted[0])}); "
            "select them with neuro.align, or correct the ids."
        )
    rows = [place[stimulus] for stimulus in wanted.tolist()]
    where = resolve_device(device)
    features, responses = finite_values(source, "source", where), finite_values(target, "target", where)
    return Sides(features[rows], responses.double(), target)


def as_table(array: Any, name: str) -> xr.DataArray:
    """Check that an array is ``presentation × neuroid``, and bring it into this order.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.brainscore.sides import as_table
    >>> as_table(neuro.simulate(n_stimuli=4, n_units=3, random_state=0).T, "source").dims
    ('presentation', 'neuroid')
    """
    if not isinstance(array, xr.DataArray):
        raise TypeError(f"the {name} is a {type(array).__name__}; give a labelled array (neuro.assemble).")
    if array.sizes.get("time_bin") == 1:
        array = array.squeeze("time_bin")
    if set(array.dims) != {"presentation", "neuroid"}:
        raise ValueError(
            f"the {name} is {' × '.join(map(str, array.dims))}; select a time bin, so that it is "
            "presentation × neuroid."
        )
    for dim, count in array.sizes.items():
        if not count:
            raise ValueError(f"the {name} has no {dim}s; give some.")
    if labels_along(array, STIMULUS, "presentation") is None:
        raise ValueError(
            f"the {name} has no coordinate {STIMULUS!r} along 'presentation', which its rows are found by; add it."
        )
    return array.transpose("presentation", "neuroid")


def labels_along(array: xr.DataArray, name: str, dim: str) -> NDArray[Any] | None:
    """Labels of one name along one dimension, levels of indexes among them; ``None`` where there are none.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.brainscore.sides import labels_along
    >>> brain = neuro.simulate(n_stimuli=2, n_units=3, random_state=0)
    >>> labels_along(brain, "stimulus_id", "presentation").size, labels_along(brain, "subject", "neuroid")
    (2, None)
    """
    try:
        labels = array[name]
    except KeyError:
        return None
    return np.asarray(labels.values) if labels.dims == (dim,) else None


def finite_values(array: xr.DataArray, name: str, device: torch.device) -> torch.Tensor:
    """Values of a table as a tensor; missing ones are refused.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.brainscore.sides import finite_values
    >>> brain = neuro.simulate(n_stimuli=4, n_units=3, random_state=0)
    >>> finite_values(brain, "target", torch.device("cpu")).shape
    torch.Size([4, 3])
    """
    values = to_tensor(array.values, device=device)
    if not bool(torch.isfinite(values.sum())):
        wrong = ~torch.isfinite(values).all(1)
        if bool(wrong.any()):
            first = quoted(array[STIMULUS].values[int(wrong.nonzero()[0])])
            raise ValueError(
                f"the {name} has missing or infinite values at {int(wrong.sum())} of {len(wrong)} stimuli, first "
                f"{first}; fill them, or leave these stimuli or neuroids out."
            )
    return values


def neuroid_labels(array: xr.DataArray) -> dict[str, NDArray[Any]]:
    """Labels along the neuroids.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.brainscore.sides import neuroid_labels
    >>> neuroid_labels(neuro.simulate(n_stimuli=4, n_units=2, random_state=0))["neuroid_id"].shape
    (2,)
    """
    return {
        name: values for name, (dims, values) in read_columns(array).items() if tuple(dims) == ("neuroid",)
    }


def unit_scores(values: NDArray[np.float64], labels: xr.DataArray) -> Any:
    """Scores of every split and neuroid, sorted by ``neuroid_id`` as Brain-Score's are.

    Parameters
    ----------
    values
        ``(splits, neuroids)``.
    labels
        The recording whose neuroids were scored; the scores are of its kind.

    Returns
    -------
    xarray.DataArray or Score
        ``split × neuroid``.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.brainscore.sides import unit_scores
    >>> unit_scores(np.ones((2, 3)), neuro.simulate(n_stimuli=4, n_units=3, random_state=0)).dims
    ('split', 'neuroid')
    """
    table = neuroid_labels(labels)
    if "neuroid_id" not in table:
        raise ValueError(
            "the recording has no coordinate 'neuroid_id' along 'neuroid', which scores are labelled by; add it."
        )
    order = np.argsort(table["neuroid_id"], kind="stable")
    coords: dict[str, Any] = {name: ("neuroid", column[order]) for name, column in table.items()}
    coords["split"] = ("split", np.arange(len(values)))
    return score_class(labels)(values[:, order], coords=coords, dims=("split", "neuroid"))


def average_units(raw: Any) -> Any:
    """Mean over splits of the median over neuroids, with ``raw`` and ``error`` as attributes, as Brain-Score has it.

    Scores that are missing are left out, with a warning.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.brainscore.sides import average_units, unit_scores
    >>> raw = unit_scores(np.array([[1.0, 2.0, 6.0]]), neuro.simulate(n_stimuli=4, n_units=3, random_state=0))
    >>> average_units(raw).item()
    2.0
    """
    if np.isnan(raw.values).all(axis=1).any():
        raise ValueError(
            "no neuroid has a score in some split, because none of them varies in its test stimuli; use fewer splits."
        )
    missing = np.isnan(raw.values).any(axis=0)
    if missing.any():
        first = quoted(raw["neuroid_id"].values[missing.argmax()])
        warnings.warn(
            f"{int(missing.sum())} of {missing.size} neuroids (first {first}) or their predictions do not vary in some "
            "splits, so that their correlation is missing there (NaN); the median leaves them out.",
            stacklevel=3,
        )
    medians = np.nanmedian(raw.values, axis=1)
    return average_splits(medians, raw, raw)


def average_splits(values: Sequence[float] | NDArray[np.float64], raw: Any, like: xr.DataArray) -> Any:
    """Mean over splits, with its standard error as Brain-Score has it (no correction for the mean).

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.brainscore.sides import average_splits
    >>> average_splits([1.0, 3.0], None, xr.DataArray(0.0)).attrs["error"].item()
    0.7071067811865475
    """
    kind = score_class(like)
    splits = np.asarray(values, dtype=np.float64)
    score = kind(splits.mean())
    score.attrs["raw"] = (
        kind(splits, dims=("split",), coords={"split": np.arange(len(splits))}) if raw is None else raw
    )
    score.attrs["error"] = kind(splits.std() / np.sqrt(len(splits)))
    return score


def score_class(like: Any) -> Any:
    """``Score`` of Brain-Score for its own assemblies, else a plain array.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.brainscore.sides import score_class
    >>> score_class(xr.DataArray(0.0)).__name__
    'DataArray'
    """
    return import_brainscore("brainscore_core.metrics").Score if is_brainscore(like) else xr.DataArray
