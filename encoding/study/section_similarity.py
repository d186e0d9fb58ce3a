"""What the report says about a similarity analysis: models compared, matrices beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .. import plots
from ..plots.style import short_names
from ..results import Result
from .report_parts import Entry, Headline, Number, Picture, Section, Table, anchor, sentence

#: at most so many matrices are drawn beside each other
MATRICES = 12
Bounds = tuple[float, float]
#: what the results would hold for, by what was resampled
DRAWN = {"subjects": "people", "conditions": "stimuli", "both": "people and other stimuli"}


def similarity_section(entry: Entry, recording: str, group: str, result: Result) -> Section:
    """Write the section of one recording's dissimilarities."""
    dataset = result.dataset
    out = Section(anchor(group), f"{entry['name']}: {recording}", _about(entry, dataset))
    shown = short_names([str(name) for name in dataset["model"].values])
    rows: list[list[str | Number]] = []
    for number, (label, units) in enumerate(_parts(dataset, entry["by"])):
        here = dataset.isel({"unit": units, "group": number}, missing_dims="ignore")
        means = here["score"].mean(["split", "unit"]).values
        best = int(np.nanargmax(means))
        p, bounds = _p_of(here), _bounds(here)
        note = shown[best] + (f"; p {Number.p(p[best]).relation}" if p is not None else "")
        note += f"; ceiling {bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
        title = f"best {_name(entry)}{'' if label is None else f', {label}'}"
        key = f"{group}|best|{'all' if label is None else label}"
        out.headlines.append(Headline(title, Number.of(means[best]), note, key))
        out.meaning.append(_in_words(shown[best], means[best], label, bounds, len(units)))
        rows += [[*([] if label is None else [str(label)]), *row] for row in _rows(here, shown)]
        figure = plots.plot_inference(Result(here))
        where = "" if label is None else f" in {label}"
        alt = "; ".join(f"{name} {mean:.3f}" for name, mean in zip(shown, means, strict=True))
        out.pictures.append(Picture.of(figure, f"Models compared{where}.", f"Models{where}: {alt}."))
    out.meaning.append(_how_to_read(dataset))
    out.pictures.append(_matrices(entry, recording, dataset, shown))
    out.tables.append(Table(_columns(entry, dataset), rows))
    return out


def _rows(here: xr.Dataset, shown: list[str]) -> list[list[str | Number]]:
    """One row a model: its mean, the interval, p and the ceiling, as far as they are known."""
    means, p, bounds = here["score"].mean(["split", "unit"]).values, _p_of(here), _bounds(here)
    rows: list[list[str | Number]] = []
    for k, name in enumerate(shown):
        row: list[str | Number] = [name, Number.of(means[k])]
        if "mean_low" in here:
            row += [Number.of(here["mean_low"].values[k]), Number.of(here["mean_high"].values[k])]
        row += [] if p is None else [Number.p(p[k])]
        row += [] if bounds is None else [Number.of(bound) for bound in bounds]
        rows.append(row)
    return rows


def _name(entry: Entry) -> str:
    name = str(entry["comparison"])
    return {"spearman": "Spearman rho", "pearson": "Pearson r"}.get(name, name)


def _about(entry: Entry, dataset: xr.Dataset) -> str:
    n_models, n, n_pairs = (dataset.sizes[dim] for dim in ("model", "unit", "pair"))
    return (
        f"Dissimilarities of {'one model' if n_models == 1 else f'{n_models} models'} were compared with "
        f"{'one matrix' if n == 1 else f'{n} matrices'} of the recording by {_name(entry)}, over {n_pairs} pairs of "
        "stimuli. Nothing is fitted."
    )


def _how_to_read(dataset: xr.Dataset) -> str:
    text = "Chance is 0."
    if _bounds(dataset) is not None:
        text += (
            " Dots are single matrices. The noise ceiling is how similar each matrix is to the pool of the others "
            "(lower) and of all (upper): a model that reaches it is as good as these matrices can tell."
        )
    else:
        text += " There is one matrix a region, so there is no noise ceiling."
    if "p" in dataset:
        text += " p-values come from exchanging the models' stimuli."
    if "mean_low" in dataset:
        text += f" Intervals and tests of pairs speak about other {DRAWN[dataset.attrs['resample']]}."
    return text


def _in_words(name: str, value: float, label: Any, bounds: Bounds | None, n: int) -> str:
    text = f"most similar{'' if label is None else f' in {label}'}: {name}, {value:.3f}"
    if bounds is not None:
        text += f", where the noise ceiling of the {n} matrices goes from {bounds[0]:.3f} to {bounds[1]:.3f}"
    return sentence(text)


def _parts(dataset: xr.Dataset, by: str) -> list[tuple[Any, np.ndarray]]:
    """Units of each region; without regions all, and no name."""
    if by not in dataset.coords or dataset.coords[by].dims != ("unit",):
        return [(None, np.arange(dataset.sizes["unit"]))]
    labels = dataset.coords[by].values
    return [(label, np.flatnonzero(labels == label)) for label in pd.unique(labels)]


def _p_of(here: xr.Dataset) -> np.ndarray | None:
    if "p_group" in here:
        return np.asarray(here["p_group"].values)
    return np.asarray(here["p"].values[:, 0]) if "p" in here else None


def _bounds(here: xr.Dataset) -> Bounds | None:
    if "ceiling_upper" not in here or not np.isfinite(here["ceiling"].values).any():
        return None
    return float(here["ceiling"].mean()), float(here["ceiling_upper"].mean())


def _columns(entry: Entry, dataset: xr.Dataset) -> list[str]:
    columns = [] if _parts(dataset, entry["by"])[0][0] is None else [entry["by"]]
    columns += ["model", f"mean {_name(entry)}"]
    columns += ["95 % low", "high"] if "mean_low" in dataset else []
    columns += ["p"] if "p" in dataset else []
    return columns + ([] if _bounds(dataset) is None else ["ceiling, lower", "ceiling, upper"])


def _matrices(entry: Entry, recording: str, dataset: xr.Dataset, shown: list[str]) -> Picture:
    """The recording's matrices (their mean where there are many) beside the models'."""
    rows, names = [], []
    for label, units in _parts(dataset, entry["by"]):
        rows.append(dataset["rdm"].values[units].mean(axis=0))
        what = recording if label is None else str(label)
        names.append(what if len(units) == 1 else f"{what} (mean of {len(units)})")
    drawn = shown[: MATRICES - len(rows)]
    rows += list(dataset["model_rdm"].values[: len(drawn)])
    names += drawn
    pairs = {name: ("pair", dataset[name].values) for name in ("stimulus_a", "stimulus_b")}
    rdms = xr.DataArray(np.stack(rows), dims=("rdm", "pair"), coords={"neuroid_id": ("rdm", names), **pairs})
    groups = None
    if "stimulus_group" in dataset.coords:
        labels = dataset["stimulus_group"].values
        group_of = dict(zip(dataset["stimulus"].values.astype(str), labels, strict=True))
        stimuli = pd.unique(np.concatenate([dataset["stimulus_a"].values, dataset["stimulus_b"].values]))
        groups = [group_of[str(stimulus)] for stimulus in stimuli]
    caption = "Dissimilarity matrices. Dark is dissimilar; each has its own scale."
    return Picture.of(plots.plot_rdms(rdms, groups=groups), caption, f"Matrices of {', '.join(names)}.")
