"""What the report says about a decoding analysis: accuracies, confusions, where classes can be read from."""

from __future__ import annotations

import numpy as np
import xarray as xr

from .. import plots
from ..plots.maps import place_of
from ..results import Result
from .report_parts import Entry, Headline, Number, Picture, Section, Table, anchor, placed

CLASSIFIERS = {
    "lda": "Linear discriminant analysis with automatic shrinkage",
    "logistic": "Logistic regression",
    "svm": "A linear support vector machine",
}


def decoding_section(entry: Entry, recording: str, group: str, result: Result) -> Section:
    """Write the section of one recording's classifiers."""
    dataset = result.dataset
    chance, scoring = float(dataset.attrs["chance"]), entry["scoring"].replace("_", " ")
    classes = [str(name) for name in dataset["true"].values]
    about = (
        f"{CLASSIFIERS[entry['classifier']]} told apart {', '.join(classes)} from {recording}; "
        f"{result.audit['split']}, scored on rows that were left out."
    )
    out = Section(anchor(group), f"{entry['name']}: {recording}", about)
    means = result.unit_scores().values[:, 0]
    p = dataset["p"].values[:, 0] if "p" in dataset else None
    rows: list[list[str | Number]] = []
    for k, name in enumerate(str(model) for model in dataset["model"].values):
        folds = dataset["score"].values[k, :, 0]
        error = float(folds.std(ddof=1) / np.sqrt(folds.size)) if folds.size > 1 else np.nan
        cells: list[str | Number] = [name, Number.of(means[k]), Number.of(error), Number.of(chance)]
        rows.append(cells if p is None else [*cells, Number.p(p[k])])
        title = scoring if name == "all units" else f"{scoring}, {name}"
        note = f"chance {chance:.3f}; {'no permutations' if p is None else f'p {Number.p(p[k]).relation}'}"
        out.headlines.append(Headline(title, Number.of(means[k]), note, f"{group}|score|{name}"))
    out.meaning.append(_in_words(chance, p, result))
    if len(means) > 1:
        figure = plots.plot_comparison(result)
        out.pictures.append(Picture.of(figure, f"{scoring.capitalize()} by {entry['by']}.", _bars(rows)))
    alt = f"Confusion matrix of {', '.join(classes)}; the diagonal holds the accuracy of each class."
    out.pictures.append(Picture.of(plots.plot_confusion(result), "What was taken for what.", alt))
    if "map" in dataset:
        out.pictures.extend(_accuracy_map(dataset, chance))
        out.meaning.append(
            f"The map shows the {scoring} of the units within {dataset['map'].attrs['radius']:g} mm of each unit, with "
            "the same splits. It is a description: neighbours share units, and no place is tested by itself."
        )
    columns = ["units", scoring, "standard error over folds", "chance", *([] if p is None else ["p"])]
    out.tables.append(Table(columns, rows))
    return out


def _in_words(chance: float, p: np.ndarray | None, result: Result) -> str:
    text = f"Guessing the most frequent class would be right in {100 * chance:.1f} % of rows."
    exchanged = result.audit.get("shuffle_control")
    if isinstance(exchanged, dict):
        text += f" Exchanged labels, fitted again, give {np.mean(list(exchanged.values())):.3f}."
    if p is None:
        return f"{text} No permutations were asked for, so there is no p."
    return f"{text} p is the share of exchanges that score as well, the true labels counted as one of them."


def _bars(rows: list[list[str | Number]]) -> str:
    return f"Bars: {'; '.join(f'{row[0]} {row[1]}' for row in rows)}."


def _accuracy_map(dataset: xr.Dataset, chance: float) -> list[Picture]:
    """The map, if the units lie in an image or on a head."""
    scores = placed(dataset, dataset["map"])
    if place_of(scores) is None:
        return []
    highest = float(np.nanmax(scores.values))
    figure = plots.plot_map(scores, label="accuracy", limits=(chance, max(highest, chance + 1e-3)))
    caption = f"Accuracy around each unit, from chance ({chance:.3f}, white) to {highest:.3f}."
    return [Picture.of(figure, caption, "Map of accuracies.")]
