"""What the report says about an attention analysis: accuracy by window, correlations by trial."""

from __future__ import annotations

import xarray as xr

from .. import plots
from ..results import Result
from .report_parts import Entry, Headline, Number, Picture, Section, Table, anchor

METHODS = {
    "backward": "reconstructs the envelope that is listened to from the recording",
    "forward": "predicts the recording from either envelope",
    "cca": "finds what recording and envelope have in common",
}


def attention_section(entry: Entry, recording: str, group: str, result: Result) -> Section:
    """Write the section of one recording's attention decoder."""
    dataset = result.dataset
    n_trials = dataset.sizes["split"]
    about = (
        f"A model {METHODS[entry['method']]}; each of {n_trials} trials was decided by a model of the others. In every "
        f"window the talker wins whose envelope goes better with {recording}."
    )
    out = Section(anchor(group), f"{entry['name']}: {recording}", about)
    rows: list[list[str | Number]] = []
    for k, window in enumerate(dataset["neuroid_id"].values):
        here = dataset.isel(unit=k)
        accuracy, p = float(here["score"].mean()), float(here["p"][0])
        note = f"chance 0.500; p {Number.p(p).relation}; {int(here['n_windows'])} windows"
        out.headlines.append(
            Headline(f"right in windows of {window}", Number.of(accuracy), note, f"{group}|score|{window}")
        )
        cells = [Number.of(float(here[name])) for name in ("shifted", "d_prime", "bits_per_minute")]
        rows.append([str(window), str(int(here["n_windows"])), Number.of(accuracy), *cells, Number.p(p)])
    attended, unattended = dataset["attended"].values, dataset["unattended"].values
    won = int((attended > unattended).sum())
    out.meaning.append(
        f"Over whole trials the attended talker goes with the recording at r = {attended.mean():.3f}, the other at "
        f"r = {unattended.mean():.3f}; {won} of {n_trials} trials are decided rightly."
    )
    out.meaning.append(
        "Guessing is right in half of the windows. p is the share of rotations of both talkers in time that do as well "
        "with the same models, the true one counted."
    )
    caption = "Share of windows decided rightly, by trial and length of the window."
    alt = "; ".join(f"{row[0]}: {row[2]}" for row in rows)
    found = xr.Dataset(
        {
            "accuracy": ("window", dataset["score"].values[0].mean(axis=0)),
            "chance": ("window", dataset["shifted"].values),
            "p": ("window", dataset["p"].values[0]),
            "trial_accuracy": (("trial", "window"), dataset["score"].values[0]),
        },
        {"window": dataset["window"].values},
    )
    out.pictures.append(Picture.of(plots.plot_attention(found), caption, f"Accuracy by window: {alt}."))
    columns = ["window", "windows", "accuracy", "against rotated talkers", "d′", "bits a minute", "p"]
    out.tables.append(Table(columns, rows))
    trials: list[list[str | Number]] = [
        [str(trial), Number.of(a), Number.of(b)]
        for trial, a, b in zip(dataset["split"].values, attended, unattended, strict=True)
    ]
    out.tables.append(Table(["trial", "r attended", "r unattended"], trials))
    return out
