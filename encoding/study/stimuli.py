"""Stimulus sets of a study: pictures in files, in MATLAB structs, or generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...models.stimuli import StimulusSet

Array = NDArray[Any]


def read_stimuli(entry: Mapping[str, Any], path: Path | None, seed: int) -> StimulusSet:
    """Stimuli as an entry of a study's ``[stimuli]`` describes them.

    Parameters
    ----------
    entry
        The entry, defaults set.
    path
        Its ``path``, resolved.
    seed
        Of generated pictures.
    """
    return STIMULI[entry["reader"]](entry, path, seed)


def patterns(categories: int, per_category: int, size: int, seed: int) -> tuple[Array, list[str]]:
    """Generate pictures of categories: gratings in a window, whose orientation, colour and frequency a category shares.

    Within a category, phase, place, contrast and a little of everything else differ.

    Parameters
    ----------
    categories, per_category, size
        How many, of each how many, and their side in pixels.
    seed
        Of everything random.

    Returns
    -------
    pictures : numpy.ndarray
        uint8, pictures × size × size × 3, category by category.
    labels : list of str
        The category of each picture.

    Examples
    --------
    >>> from cerebridge.encoding.study.stimuli import patterns
    >>> pictures, labels = patterns(categories=2, per_category=3, size=16, seed=0)
    >>> pictures.shape, labels[-1]
    ((6, 16, 16, 3), 'category 2')
    """
    rng = np.random.default_rng(seed)
    grid = np.linspace(-1, 1, size)
    x, y = np.meshgrid(grid, grid)
    pictures, labels = [], []
    for category in range(categories):
        angle, frequency = np.pi * category / categories, 2.5 + 1.5 * (category % 3)
        color = 0.5 + 0.45 * np.cos(2 * np.pi * (category / categories + np.array([0, 1 / 3, 2 / 3])))
        for _ in range(per_category):
            turn = angle + rng.normal(0, 0.12)
            along = x * np.cos(turn) + y * np.sin(turn)
            wave = np.sin(np.pi * frequency * along * rng.uniform(0.85, 1.15) + rng.uniform(0, 2 * np.pi))
            x0, y0 = rng.uniform(-0.3, 0.3, 2)
            window = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * rng.uniform(0.35, 0.6) ** 2))
            tint = np.clip(color + rng.normal(0, 0.08, 3), 0, 1)
            picture = 0.5 + rng.uniform(0.6, 1) * window[..., None] * (
                (0.5 + 0.5 * wave[..., None]) * tint - 0.3
            )
            noisy = picture + rng.normal(0, 0.02, picture.shape)
            pictures.append((255 * np.clip(noisy, 0, 1)).astype(np.uint8))
            labels.append(f"category {category + 1}")
    return np.stack(pictures), labels


def _read_images(entry: Mapping[str, Any], path: Path | None, seed: int) -> StimulusSet:
    assert path is not None
    if "pattern" not in entry:
        return StimulusSet.read(path)
    return (StimulusSet.from_folder if path.is_dir() else StimulusSet.from_zip)(path, entry["pattern"])


def _read_mat(entry: Mapping[str, Any], path: Path | None, seed: int) -> StimulusSet:
    from scipy.io import loadmat

    assert path is not None
    contents = loadmat(path, squeeze_me=True, struct_as_record=False)
    if entry["variable"] not in contents:
        known = ", ".join(name for name in contents if not name.startswith("__"))
        raise ValueError(f"{path.name} has no variable {entry['variable']!r}; it has {known}.")
    structs = np.atleast_1d(contents[entry["variable"]])
    fields = getattr(structs[0], "_fieldnames", [])
    if entry["image"] not in fields:
        raise ValueError(
            f"{entry['variable']!r} of {path.name} has no field {entry['image']!r}; it has {', '.join(fields)}."
        )
    labels = {
        name: [getattr(struct, name) for struct in structs]
        for name in fields
        if all(np.ndim(getattr(struct, name)) == 0 for struct in structs)
    }
    return StimulusSet.from_arrays(
        [getattr(struct, entry["image"]) for struct in structs], table=pd.DataFrame(labels)
    )


def _make_patterns(entry: Mapping[str, Any], path: Path | None, seed: int) -> StimulusSet:
    pictures, labels = patterns(entry["categories"], entry["per_category"], entry["size"], seed)
    return StimulusSet.from_arrays(pictures, table={"category": labels})


#: readers of stimulus sets, by their name in study files
STIMULI: dict[str, Callable[[Mapping[str, Any], Path | None, int], StimulusSet]] = {
    "images": _read_images,
    "mat": _read_mat,
    "patterns": _make_patterns,
}
