"""Maps: scores and responses where they were measured, on slices of the brain or on the head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from .style import MUTED, panels, sequential, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: how SI units of sensors are shown: factor and name
SHOWN = {"V": (1e6, "µV"), "T": (1e15, "fT"), "T/m": (1e13, "fT/cm")}
TYPES = {"mag": "magnetometers", "grad": "gradiometers (RMS of pairs)", "eeg": "EEG"}
#: slices of a brain that is drawn
SLICES = 6


def place_of(scores: xr.DataArray) -> Literal["brain", "head"] | None:
    """Where the units of an array lie, if it says so: voxels of an image, sensors with positions, or nothing.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.plots.maps import place_of
    >>> place_of(neuro.simulate(modality="eeg", n_stimuli=4, random_state=0).isel(presentation=0, time_bin=0))
    'head'
    """
    if {"i", "j", "k"} <= set(scores.coords) and "affine" in scores.attrs:
        return "brain"
    if "mne_channel" in scores.coords:
        return "head"
    if scores.attrs.get("modality") in ("eeg", "meg") and {"x", "y", "z"} <= set(scores.coords):
        return "head"
    return None


def plot_map(scores: xr.DataArray, *, label: str = "", limits: tuple[float, float] | None = None) -> Figure:
    """Draw values of voxels or sensors where they lie.

    Parameters
    ----------
    scores
        Values along ``neuroid`` or ``unit`` with the coordinates that the readers of :mod:`cerebridge.neuro` give,
        and optionally a first dimension with one map a row, named by its coordinate.
    label
        Of the colour bar.
    limits
        Least and greatest value of the colours; default the range of the values, or symmetric about zero where
        values have both signs.

    Returns
    -------
    matplotlib.figure.Figure
        Voxels: slices, one row a map. Sensors: heads seen from above, one row a sensor type, one column a map.

    Raises
    ------
    ValueError
        If the units have no place.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.plots import plot_map
    >>> eeg = neuro.simulate(modality="eeg", n_stimuli=4, random_state=0)
    >>> len(plot_map(eeg.isel(time_bin=30, presentation=0)).axes)
    2
    """
    place = place_of(scores)
    if place is None:
        raise ValueError(
            "the units have no place that can be drawn; keep the coordinates of neuro.fmri or neuro.meeg and the "
            "attributes 'affine', 'volume_shape' or 'modality', and draw vertices with plot_cortex."
        )
    dim = next(name for name in ("neuroid", "unit") if name in scores.dims)
    rows = scores.transpose(..., dim)
    if rows.ndim == 1:
        rows = rows.expand_dims("map")
    names = [str(name) for name in rows.coords[rows.dims[0]].values] if rows.dims[0] in rows.coords else [""]
    with styled():
        return (_brains if place == "brain" else _heads)(rows, names, label, limits)


def _brains(rows: xr.DataArray, names: list[str], label: str, limits: tuple[float, float] | None) -> Figure:
    """Axial slices; where all voxels lie in one slice of another direction, that one."""
    from nilearn.plotting import plot_img

    from ...neuro.fmri import to_img

    counts = {
        axis: len(np.unique(rows.coords[index].values)) for axis, index in zip("xyz", "ijk", strict=True)
    }
    mode = next((axis for axis in "zyx" if counts[axis] == 1), "z")
    images = [to_img(row, fill=0.0) for row in rows.fillna(0.0)]
    cuts: Any = _cuts(rows, images[0].affine, "xyz".index(mode))
    width = 5.2 if counts[mode] == 1 else 10.5
    figure, axes = panels(len(rows), width=width, height=2.9, columns=2 if counts[mode] == 1 else 1)
    for axis, name, row, image in zip(axes, names, rows, images, strict=True):
        low, high, colors = colours(row.values, limits)
        display = plot_img(
            image,
            display_mode=mode,
            cut_coords=cuts,
            figure=figure,
            axes=axis,
            cmap=colors,
            vmin=low,
            vmax=high,
            threshold=1e-12,
            colorbar=True,
            black_bg=False,
            draw_cross=False,
            annotate=False,
        )
        display.annotate(size=8, decimals=0)
        axis.set_title(wrapped(f"{name}{' — ' if name and label else ''}{label}", 60))
    return figure


def _cuts(rows: xr.DataArray, affine: np.ndarray, axis: int) -> list[float]:
    """Where slices through the voxels that have values lie along an axis in mm, the same for all maps."""
    known = np.isfinite(rows.values).any(axis=0)
    at = np.stack([rows.coords[index].values for index in "ijk"], axis=1)[known | ~known.any()]
    # in the middle of each slice, where a tilted one is cut at its largest
    middles = pd.Series(at @ affine[axis, :3] + affine[axis, 3]).groupby(at[:, axis]).mean().to_numpy()
    if len(middles) > SLICES:
        middles = middles[np.linspace(0, len(middles) - 1, SLICES + 2)[1:-1].round().astype(int)]
    return sorted(middles.tolist())


def _heads(rows: xr.DataArray, names: list[str], label: str, limits: tuple[float, float] | None) -> Figure:
    """One row a sensor type, because their units differ."""
    import mne

    from ...neuro.meeg import to_info

    dim = str(rows.dims[1])
    if "channel_type" in rows.coords:
        kinds = np.asarray(rows.coords["channel_type"].values)
    else:
        kinds = np.full(rows.sizes[dim], rows.attrs.get("modality", "eeg"))
    drawn = list(pd.unique(kinds))
    side = 2.5 if len(drawn) * len(rows) > 1 else 3.4
    figure, axes = panels(len(drawn) * len(rows), width=side, height=side, columns=len(rows))
    for number, (kind, which) in enumerate((kind, k) for kind in drawn for k in range(len(rows))):
        row = rows.isel({rows.dims[0]: which, dim: np.flatnonzero(kinds == kind)})
        factor, unit = _unit(row, label)
        same_kind = rows.isel({dim: np.flatnonzero(kinds == kind)}).values * factor
        merged = kind == "grad" and "mne_channel" in row.coords
        low, high, colors = colours(np.abs(same_kind) if merged else same_kind, limits)
        places: Any = to_info(row) if "mne_channel" in row.coords or kind == "eeg" else _flat(row)
        picture, _ = mne.viz.plot_topomap(
            row.values * factor,
            places,
            axes=axes[number],
            show=False,
            cmap=colors,
            vlim=(low, high),
            contours=4,
        )
        axes[number].set_title(wrapped(names[which], 22), fontsize=9, loc="center")
        if which == 0:
            axes[number].set_ylabel(wrapped(TYPES.get(kind, kind), 18), fontsize=9)
        if which == len(rows) - 1:
            bar = figure.colorbar(picture, ax=axes[number], shrink=0.7, pad=0.04)
            bar.set_label(unit or label, fontsize=8)
            bar.ax.tick_params(labelsize=7)
            bar.outline.set_edgecolor(MUTED)
    return figure


def _unit(row: xr.DataArray, label: str) -> tuple[float, str]:
    """Factor and name of the unit of measured values; scores (with a label) have none."""
    if label:
        return 1.0, label
    unit = str(row.coords["units"].values[0]) if "units" in row.coords else str(row.attrs.get("units", ""))
    return SHOWN.get(unit, (1.0, unit))


def _flat(row: xr.DataArray) -> np.ndarray:
    """Positions on the plane: the azimuthal projection that keeps distances from the top of the head."""
    where = np.stack([row.coords[axis].values for axis in "xyz"], axis=1).astype(float)
    where = where - where.mean(axis=0) * [1, 1, 0]
    angle = np.arctan2(np.hypot(where[:, 0], where[:, 1]), where[:, 2])
    direction = where[:, :2] / np.maximum(np.hypot(where[:, 0], where[:, 1]), 1e-12)[:, None]
    return 0.095 * direction * (angle / np.maximum(angle.max(), 1e-12))[:, None]


def colours(values: np.ndarray, limits: tuple[float, float] | None) -> tuple[float, float, Any]:
    """Least and greatest value, and colours that fit: two-sided where values have both signs."""
    finite = values[np.isfinite(values)]
    low, high = limits or ((float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0))
    if low < 0 < high and limits is None and min(-low, high) > 0.2 * max(-low, high):
        return -max(-low, high), max(-low, high), "RdBu_r"
    return low, high if high > low else low + 1e-12, sequential()
