"""The encoding analysis: every unit predicted from every model, over several seeds of the split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ...neuro.assembly import concat
from ..delays import Delays
from ..evaluation import evaluate
from ..significance import false_discovery_rate
from .estimators import build_encoder
from .features import of_layer
from .graph import Inputs
from .threads import threads_for

#: attributes of a recording that say where its units lie
PLACE = ("modality", "affine", "volume_shape", "dev_head_t")


def evaluate_seed(device: str, settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.Dataset:
    """Scores of all models with one seed of the split.

    Parameters
    ----------
    device
        Where encoders are fitted.
    settings
        The analysis' options, ``models`` (name, input and layer of each), ``encoder``, ``seed``, and ``control``:
        whether chance is measured too.
    inputs
        ``"recording"`` and the features of the models.
    """
    features = _features(settings, inputs)
    ceiling = None if settings["ceiling"] == "none" else settings["ceiling"]
    with threads_for(max(array.size for array in features.values())):
        result = evaluate(
            build_encoder(settings["encoder"], settings, device),
            features,
            inputs["recording"],
            cv=settings["cv"],
            scoring=settings["scoring"],
            ceiling=ceiling,
            permutations=settings["permutations"],
            control=settings["control"],
            random_state=settings["seed"],
        ).dataset
    place = {name: inputs["recording"].attrs[name] for name in PLACE if name in inputs["recording"].attrs}
    return result.assign_attrs(place=place)


def estimate_fit(device: str, settings: Mapping[str, Any], inputs: Inputs) -> dict[str, float]:
    """Memory and seconds of the fits with one seed, refits for chance included."""
    recording = inputs["recording"]
    if "presentation" in recording.dims:
        rows = len(np.unique(recording.coords["stimulus_id"].values))
    else:
        rows = recording.sizes["time_bin"]
    n_folds = settings["cv"] if isinstance(settings["cv"], int) else 5
    fits = n_folds * (1 + max(settings["permutations"], int(settings["control"])))
    targets = recording.size // len(recording)
    encoder = build_encoder(settings["encoder"], settings, device)
    if not hasattr(encoder, "plan"):
        return {}
    memory = seconds = 0.0
    for features in _features(settings, inputs).values():
        kept = rows - rows // n_folds
        plan = encoder.plan((kept, features.shape[1]), (kept, targets))
        memory = max(memory, float(plan.bytes))
        seconds += fits * float(plan.seconds or 0.0)
    return {"memory": memory, "seconds": seconds}


def _features(settings: Mapping[str, Any], inputs: Inputs) -> dict[str, xr.DataArray]:
    """What each model predicts from; jointly, all of them as bands of one."""
    parts = {model["name"]: of_layer(inputs[model["input"]], model["layer"]) for model in settings["models"]}
    if delays := settings["encoder"].get("delays"):
        # nothing is learned, and every run is delayed by itself, so that this may come before the split
        parts = {name: Delays(delays).fit_transform(part) for name, part in parts.items()}
    if not settings["joint"]:
        return parts
    bands = [
        part.assign_coords(band=("neuroid", [name] * part.sizes["neuroid"])) for name, part in parts.items()
    ]
    for name, part in zip(parts, bands, strict=True):
        part.coords["neuroid_id"] = ("neuroid", [f"{name}/{key}" for key in part.coords["neuroid_id"].values])
    return {"joint": concat(bands, "neuroid")}


def join_encoders(settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.Dataset:
    """Models of several encoders side by side, named after both."""
    parts = [inputs[encoder] for encoder in settings["encoders"]]
    common = [name for name in parts[0].data_vars if all(name in part for part in parts)]
    named = [
        part[common].assign_coords(model=[_by(model, encoder) for model in part["model"].values])
        for encoder, part in zip(settings["encoders"], parts, strict=True)
    ]
    joined = parts[0][[name for name in common if "model" not in parts[0][name].dims]]
    joined = joined.assign_coords(model=np.concatenate([part["model"].values for part in named]))
    for name in (name for name in common if "model" in parts[0][name].dims):
        joined[name] = (parts[0][name].dims, np.concatenate([part[name].values for part in named]))
    audits = {encoder: inputs[encoder].attrs["audit"] for encoder in settings["encoders"]}
    facts = parts[0].attrs["provenance"]
    estimators = {name: inputs[name].attrs["provenance"]["estimator"] for name in settings["encoders"]}
    joined.attrs = parts[0].attrs | {
        "audit": _joined_audit(audits),
        "provenance": facts | {"estimator": estimators},
    }
    return joined


def _by(model: Any, encoder: str) -> str:
    return f"{model} ({encoder})"


def _joined_audit(audits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is said of each model under its name with its encoder; all else is the same for every encoder."""

    def of_all(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        return {_by(model, encoder): score for encoder in scores for model, score in scores[encoder].items()}

    joined = dict(next(iter(audits.values())))
    if "shuffle_control" in joined:
        joined["shuffle_control"] = of_all({name: audit["shuffle_control"] for name, audit in audits.items()})
    chosen = {
        name: audit["selection"] for name, audit in audits.items() if isinstance(audit["selection"], Mapping)
    }
    if chosen:
        joined["selection"] = {"scoring": next(iter(chosen.values()))["scoring"]} | {
            key: of_all({name: selection[key] for name, selection in chosen.items()})
            for key in ("selection_score", "nested_score")
        }
    if grids := {name: audit["alpha_grid"] for name, audit in audits.items() if "alpha_grid" in audit}:
        joined["alpha_grid"] = grids
    return joined


def join_seeds(settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.Dataset:
    """Splits of all seeds side by side.

    p-values of several seeds are joined as twice their median, which is a valid p-value whatever their dependence
    (Meinshausen, Meier & Bühlmann, 2009, JASA).
    """
    parts = [inputs[f"seed {seed}"] for seed in settings["seeds"]]
    joined = parts[0].copy()
    along = [name for name, variable in parts[0].data_vars.items() if "split" in variable.dims]
    joined = joined.drop_vars([*along, "split"])
    n_splits = [part.sizes["split"] for part in parts]
    joined = joined.assign_coords(
        split=np.arange(sum(n_splits)), seed=("split", np.repeat(settings["seeds"], n_splits))
    )
    for name in along:
        dims = parts[0][name].dims
        joined[name] = (dims, np.concatenate([part[name].values for part in parts], axis=dims.index("split")))
    for name in ("p", "p_max"):
        if name in joined and len(parts) > 1:
            median = np.median([part[name].values for part in parts], axis=0)
            joined[name] = (joined[name].dims, np.minimum(1, 2 * median))
    if "p" in joined and len(parts) > 1:
        joined["p_fdr"] = (
            joined["p"].dims,
            np.stack([false_discovery_rate(row) for row in joined["p"].values]),
        )
    joined.attrs = dict(parts[0].attrs)
    audits = [part.attrs["audit"] for part in parts]
    joined.attrs["audit"] = {
        **audits[0],
        "seeds": list(settings["seeds"]),
        "selection": _mean_selection(audits),
    }
    return joined


def _mean_selection(audits: list[Mapping[str, Any]]) -> Any:
    """Scores by which penalties were chosen, and those of held-out rows, averaged over seeds."""
    first = audits[0]["selection"]
    if not isinstance(first, Mapping):
        return first
    means = {
        key: {
            model: float(np.mean([audit["selection"][key][model] for audit in audits]))
            for model in first[key]
        }
        for key in ("selection_score", "nested_score")
    }
    return {**first, **means}
