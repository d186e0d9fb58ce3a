"""What the report says about exciting pictures: those of the best units, with what was predicted and measured."""

from __future__ import annotations

import numpy as np

from .. import plots
from ..results import Result
from .report_parts import Entry, Headline, Number, Picture, Section, Table, anchor


def exciting_section(entry: Entry, recording: str, group: str, result: Result) -> Section:
    """Write the section of one recording's most exciting pictures."""
    dataset = result.dataset
    n_pictures, names = dataset.sizes["rank"], [str(name) for name in dataset["best_neuroid"].values]
    scores = result.unit_scores().sel(model=str(dataset["model"].values[0]))
    score_of = dict(zip(map(str, dataset["neuroid_id"].values), scores.values, strict=True))
    about = (
        f"For the {len(names)} units of {recording} that {dataset['model'].values[0]} predicts best, the {n_pictures} "
        f"pictures with the highest predictions; {result.audit['split']}, each predicted by a fit that did not see it."
    )
    out = Section(anchor(group), f"{entry['name']}: {recording}", about)
    mean, possible = float(dataset["measured"].mean()), float(dataset["highest"].mean())
    out.headlines.append(
        Headline(
            f"measured response to the {n_pictures} pictures chosen by the model",
            Number.of(mean),
            f"standard deviations above the mean picture; the {n_pictures} best pictures: {possible:.3f}; chance 0",
            f"{group}|measured",
        )
    )
    out.meaning.append(
        "Below each picture stand its predicted and measured response, in standard deviations of the unit over all "
        "pictures. Chosen at random, pictures would measure 0. Units were picked by their held-out scores."
    )
    rows: list[list[str | Number]] = []
    for k, name in enumerate(names):
        here = dataset.isel(best_unit=k)
        cells: list[str | Number] = [name, Number.of(score_of[name]), Number.of(here["measured"].mean())]
        cells.append(Number.of(here["highest"].mean()))
        rows.append([*cells, Number.of(here["made_predicted"])] if "made" in dataset else cells)
    out.pictures.append(_pictures(result, names))
    if "made" in dataset:
        out.meaning.append(
            "The framed picture of each row was made for the unit, by ascent on the predictions of an encoder of all "
            "pictures, with the contrast of those that were shown, and grey if they were. Nothing was measured for it, "
            "so that its prediction is untested."
        )
    columns = ["unit", "held-out r", "measured, chosen pictures", "measured, best pictures"]
    out.tables.append(Table([*columns, *(["predicted, made picture"] if "made" in dataset else [])], rows))
    return out


def _pictures(result: Result, names: list[str]) -> Picture:
    dataset = result.dataset
    images, captions = [], []
    for k in range(len(names)):
        here = dataset.isel(best_unit=k)
        images += list(here["picture"].values)
        values = zip(here["predicted"].values, here["measured"].values, strict=True)
        captions += [f"{predicted:.1f} | {measured:.1f}" for predicted, measured in values]
        if "made" in dataset:
            images.append(here["made"].values)
            captions.append(f"made: {float(here['made_predicted']):.1f}")
    columns = len(images) // len(names)
    figure = plots.plot_pictures(
        np.stack(images),
        captions,
        columns=columns,
        rows=[f"unit {name}" for name in names],
        marked=[caption.startswith("made") for caption in captions],
    )
    caption = (
        "Most exciting pictures of the best units: predicted | measured response, in standard deviations."
    )
    return Picture.of(figure, caption, f"Rows of pictures for the units {', '.join(names)}.")
