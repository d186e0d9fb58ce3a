"""What the report says about an encoding analysis: the layer profile, its map, its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .. import plots
from ..plots.maps import place_of
from ..plots.style import short_names
from ..results import Result
from .report_parts import Entry, Headline, Number, Picture, Section, Table, anchor, sentence

#: how scores are called in sentences
SYMBOLS = {"pearsonr": "r", "r2": "r²", "pseudo_r2": "pseudo-r²"}


def encoding_section(entry: Entry, recording: str, group: str, result: Result) -> Section:
    """Write the section of one recording's encoding models."""
    by, all_times = entry["by"], result
    result, when = _at_best_time(all_times)
    table = result.summary(by)
    table = table.iloc[np.argsort(pd.factorize(table[by])[0], kind="stable")]
    scoring = SYMBOLS[str(result.dataset.attrs["scoring"])]
    names = dict(zip(table["model"], short_names(list(table["model"])), strict=True))
    out = Section(anchor(group), f"{entry['name']}: {recording}", _about(entry, all_times))
    if when:
        out.meaning.append(
            f"The course over time shows all scores; all else is {when}, where they are highest. Chosen by the scores "
            "themselves, that time makes them a little too good."
        )
    for label in pd.unique(table[by]):
        rows = table[table[by] == label]
        best = rows.loc[rows["score"].idxmax()]
        where = ("" if label == "all" else f", {label}") + (f", {when}" if when else "")
        note = f"{names[best['model']]}; 95 % interval {best['low']:.3f} to {best['high']:.3f}"
        if "ceiling" in best and np.isfinite(best["ceiling"]):
            note += f"; ceiling {best['ceiling']:.3f}"
        number = Number.of(best["score"])
        out.headlines.append(Headline(f"best median {scoring}{where}", number, note, f"{group}|best|{label}"))
        out.meaning.append(_best_in_words(best, names[best["model"]], scoring, label))
    out.meaning.append(_how_to_read(result))
    alt = "; ".join(
        f"{names[row['model']]} in {row[by]}: median {row['score']:.3f}" for _, row in table.iterrows()
    )
    caption = "Score of every model against the noise ceiling and chance."
    out.pictures.append(Picture.of(plots.plot_profile(result, by=by), caption, f"Layer profile. {alt}."))
    if when:
        caption = "Mean score of all units over time."
        out.pictures.append(
            Picture.of(plots.plot_timecourse(all_times), caption, "Lines of scores over time.")
        )
    scores = _best_scores(result)
    if place_of(scores) is not None:
        figure = plots.plot_map(scores, label=scoring)
        caption = f"Score of {scores.attrs['model']} in every unit{f', {when}' if when else ''}."
        out.pictures.append(Picture.of(figure, caption, f"Map of the scores of {scores.attrs['model']}."))
    out.tables.append(_summary_table(table, by, scoring, names))
    return out


def _about(entry: Entry, result: Result) -> str:
    sizes, audit = result.dataset.sizes, result.audit
    seeds = audit.get("seeds", [])
    repeated = f", repeated with {len(seeds)} seeds" if len(seeds) > 1 else ""
    encoders = entry["encoders"]
    who = f"Each of the encoders {', '.join(encoders)}" if len(encoders) > 1 else f"The encoder {encoders[0]}"
    who = "Ridge regression" if encoders == ["ridge"] else who
    n_models = sizes["model"] // len(encoders)
    bands = (
        f"{len(entry['models'])} groups of features jointly"
        if entry["joint"]
        else _counted(n_models, "model")
    )
    return (
        f"{who} predicted {_counted(sizes['unit'], 'unit')} from {bands}; {audit['split']}{repeated}. "
        "What an encoder chooses itself was chosen within the training rows."
    )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _how_to_read(result: Result) -> str:
    sizes, audit = result.dataset.sizes, result.audit
    text = (
        f"Points are medians over units of the mean over {sizes['split']} held-out folds, bars their 95 % bootstrap "
        "intervals over units. Chance is 0. "
    )
    if "ceiling" in result.dataset:
        text += (
            "The band holds the middle half of the units' noise ceilings, which a perfect model would reach "
            f"({audit['ceiling']})."
        )
    else:
        text += f"There is no noise ceiling ({str(audit['ceiling']).removeprefix('none: ')})."
    if "p" in result.dataset:
        text += " p-values come from exchanging responses and fitting again, corrected over units (FDR)."
    return text


def _best_in_words(best: pd.Series, name: str, scoring: str, label: Any) -> str:
    text = f"best{'' if label == 'all' else f' in {label}'}: {name}, median {scoring} {best['score']:.3f}"
    if "normalised" in best and np.isfinite(best["normalised"]):
        text += f", {100 * best['normalised']:.0f} % of the noise ceiling"
    if "significant" in best and np.isfinite(best["significant"]):
        share = f"{100 * best['significant']:.0f} % of {int(best['n_units'])}"
        text += f"; {share} units are significant (p < 0.05, corrected)"
    return sentence(text)


def _summary_table(table: pd.DataFrame, by: str, scoring: str, names: dict[str, str]) -> Table:
    by_region = bool((table[by] != "all").any())
    columns = [*([by] if by_region else []), "model", f"median {scoring}", "95 % interval"]
    extra = [name for name in ("ceiling", "normalised", "significant") if name in table]
    rows: list[list[str | Number]] = []
    for _, row in table.iterrows():
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        cells: list[str | Number] = [names[row["model"]], Number.of(row["score"]), interval]
        cells += [Number.of(row[name]) if name == "ceiling" else Number.percent(row[name]) for name in extra]
        rows.append([str(row[by]), *cells] if by_region else cells)
    titles = {
        "ceiling": "median ceiling",
        "normalised": "share of ceiling",
        "significant": "units with p < 0.05",
    }
    return Table([*columns, *(titles[name] for name in extra)], rows)


def _at_best_time(result: Result) -> tuple[Result, str]:
    """Units of the time at which the best model's median is highest, and that time; all where there are no times."""
    scores = result.unit_scores()
    if "time_bin_start" not in scores.coords:
        return result, ""
    times = scores.coords["time_bin_start"].values
    by_time = pd.DataFrame(scores.values.T).groupby(times).median().max(axis=1)
    best = float(by_time.idxmax())
    return Result(
        result.dataset.isel(unit=np.flatnonzero(times == best))
    ), f"{1000 * best:.0f} ms after onset"


def _best_scores(result: Result) -> xr.DataArray:
    """Scores of the model that is best over all units, with what says where the units lie."""
    scores = result.unit_scores()
    best = int(scores.median("unit").argmax("model"))
    name = short_names([str(model) for model in scores["model"].values])[best]
    chosen = scores.isel(model=best, drop=True)
    return chosen.assign_attrs(**result.dataset.attrs.get("place", {}), model=name)
