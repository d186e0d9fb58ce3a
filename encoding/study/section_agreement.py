"""What the report says about agreement over time: courses, matrices at a few times, heads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from .. import plots
from ..results import Result
from .report_parts import Entry, Headline, Number, Picture, Section, Table, anchor, placed, sentence

#: matrices are drawn at so many times
MOMENTS = 4
#: names of conditions are written beside matrices of at most so many
NAMED = 12


def agreement_section(entry: Entry, recording: str, group: str, result: Result) -> Section:
    """Write the section of one recording's agreement over time."""
    dataset = result.dataset
    times = (dataset["time_bin_start"].values + dataset["time_bin_end"].values) / 2
    conditions = result.audit["pairs"].split(" of ")[1]
    about = (
        f"At each time, dissimilarities ({entry['dissimilarity']}) between {conditions} in each "
        f"{entry['by'].replace('_', ' ')} of {recording}, and the {entry['comparison']} similarity of each two of them."
    )
    out = Section(anchor(group), f"{entry['name']}: {recording}", about)
    rows: list[list[str | Number]] = []
    after, before = np.flatnonzero(times > 0), np.flatnonzero(times < 0)
    for k, name in enumerate(str(model) for model in dataset["model"].values):
        values = dataset["score"].values[k, 0]
        peak = after[int(np.nanargmax(values[after]))]
        early = Number.of(values[before].mean() if before.size else np.nan)
        late = Number.of(values[after].mean())
        rows.append([name, late, Number.of(values[peak]), f"{1000 * times[peak]:.0f} ms", early])
        note = f"mean after 0 ms; before 0 ms {early}"
        out.headlines.append(Headline(f"agreement {name}", late, note, f"{group}|after|{name}"))
    out.meaning.append(_in_words(dataset))
    scores = dataset["score"].isel(split=0).assign_attrs(chance=dataset.attrs["chance"])
    course = plots.plot_timecourse(scores, ylabel=f"{entry['comparison']} similarity")
    out.pictures.append(Picture.of(course, "Agreement over time.", "Lines of agreement over time."))
    strength = plots.plot_timecourse(_strength(dataset), ylabel="mean dissimilarity (1 is its mean)")
    caption = "How different the conditions are over time, each group relative to its own mean."
    out.pictures.append(Picture.of(strength, caption, "Lines of mean dissimilarity over time."))
    out.pictures.append(_moments(dataset, times))
    if "map" in dataset:
        out.pictures.extend(_heads(dataset))
    columns = ["groups", "mean after 0 ms", "highest", "at", "mean before 0 ms"]
    out.tables.append(Table(columns, rows))
    return out


def _in_words(dataset: xr.Dataset) -> str:
    n = dataset.sizes["pair"]
    few = ", so single times say little: look at stretches of time" if n < 20 else ""
    return (
        f"Each value compares {n} dissimilarities with {n}{few}. Chance is 0, but groups that share "
        "noise also agree about noise: compare with the time before onset. "
        f"{sentence(str(dataset.attrs['no_ceiling']))}"
    )


def _strength(dataset: xr.Dataset) -> xr.DataArray:
    """Mean dissimilarity of each group over time, relative to its mean."""
    means = dataset["rdm"].mean("pair").values
    times = {name: ("unit", dataset[name].values) for name in ("time_bin_start", "time_bin_end")}
    coords = {"group": dataset["group"].values, **times}
    return xr.DataArray(means / means.mean(axis=1, keepdims=True), dims=("group", "unit"), coords=coords)


def _moments(dataset: xr.Dataset, times: np.ndarray) -> Picture:
    """Matrices of each group at a few times."""
    after = np.flatnonzero(times > 0)
    chosen = after[np.linspace(0, len(after) - 1, min(MOMENTS, len(after))).round().astype(int)]
    groups = [str(name) for name in dataset["group"].values]
    rows = [dataset["rdm"].values[g, t] for g in range(len(groups)) for t in chosen]
    names = [f"{name}, {1000 * times[t]:.0f} ms" for name in groups for t in chosen]
    pairs = {name: ("pair", dataset[name].values) for name in ("stimulus_a", "stimulus_b")}
    rdms = xr.DataArray(np.stack(rows), dims=("rdm", "pair"), coords={"neuroid_id": ("rdm", names), **pairs})
    stimuli = pd.unique(np.concatenate([dataset["stimulus_a"].values, dataset["stimulus_b"].values]))
    labels = [str(name) for name in stimuli] if len(stimuli) <= NAMED else None
    caption = "Dissimilarities at a few times. Dark is dissimilar; each has its own scale."
    return Picture.of(plots.plot_rdms(rdms, groups=labels), caption, f"Matrices of {', '.join(names)}.")


def _heads(dataset: xr.Dataset) -> list[Picture]:
    out = []
    conditions = dataset["stimulus"].values
    for moment, values in zip(dataset["moment"].values, dataset["map"], strict=True):
        maps = placed(dataset, values).rename(stimulus="map").assign_coords(map=conditions)
        caption = f"What was measured {1000 * float(moment):.0f} ms after onset."
        out.append(Picture.of(plots.plot_map(maps), caption, f"Head maps of {', '.join(conditions)}."))
    return out
