"""Stimulus sets at the border to Brain-Score: its tables name files, ours hold what decodes them."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ...models.stimuli import StimulusSet
from ...neuro.interchange import import_brainscore

#: what lies around an image that covers less of the visual field than it is to cover, in PIL's words
BACKGROUND = "gray"


def to_stimulus_set(stimuli: StimulusSet, folder: str | Path, identifier: str | None = None) -> Any:
    """Convert stimuli into a ``StimulusSet`` of Brain-Score's, which shows files.

    Parameters
    ----------
    stimuli
        Images, or anything else that lies in files.
    folder
        Where images go that lie in no file of their own (in a zip file, or arrays); it must outlive the result.
    identifier
        Brain-Score caches activations by it, where its user switched that on; default: none.

    Returns
    -------
    StimulusSet
        With the columns of ``stimuli.table``.

    Raises
    ------
    ImportError
        If Brain-Score is not installed.
    ValueError
        If a stimulus is neither a file nor an image.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding, models
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((2, 8, 8, 3), np.uint8))
    >>> theirs = encoding.brainscore.to_stimulus_set(stimuli, "images")  # doctest: +SKIP
    """
    paths = {
        stimulus: _file(stimuli, row, Path(folder))
        for row, stimulus in enumerate(stimuli.table["stimulus_id"])
    }
    converted = import_brainscore("stimuli").StimulusSet(stimuli.table.to_dict("list"))
    converted.stimulus_paths = paths
    converted.identifier = identifier
    return converted


def from_stimulus_set(stimulus_set: pd.DataFrame) -> StimulusSet:
    """Convert a ``StimulusSet`` of Brain-Score's into stimuli.

    Parameters
    ----------
    stimulus_set
        With ``stimulus_paths``.

    Returns
    -------
    cerebridge.models.StimulusSet
        With its columns; ``filename`` and other labels stay.

    Raises
    ------
    ValueError
        If it has no paths, or a stimulus occurs twice.
    FileNotFoundError
        Naming the file that is not there.

    Examples
    --------
    >>> from cerebridge import encoding
    >>> stimuli = encoding.brainscore.from_stimulus_set(assembly.stimulus_set)  # doctest: +SKIP
    """
    paths = getattr(stimulus_set, "stimulus_paths", None)
    if not paths or "stimulus_id" not in stimulus_set:
        raise ValueError(
            "the stimulus set has no stimulus_id or no stimulus_paths; give one of Brain-Score's."
        )
    table = {str(name): stimulus_set[name].tolist() for name in stimulus_set.columns}
    unknown = [stimulus for stimulus in table["stimulus_id"] if stimulus not in paths]
    if unknown:
        raise ValueError(f"stimulus_paths has no file of stimulus {unknown[0]!r}; add it.")
    return StimulusSet.from_table(table | {"path": [str(paths[s]) for s in table["stimulus_id"]]})


def place_on_screen(stimuli: StimulusSet, target_degrees: float, source_degrees: float) -> StimulusSet:
    """Images as they look on a screen that covers more or less of the visual field, as Brain-Score places them.

    A screen of more degrees shows the image in the middle of grey, one of fewer degrees the middle of the image.

    Parameters
    ----------
    stimuli
        Images; each is changed when it is decoded.
    target_degrees, source_degrees
        Degrees that the screen and the images cover.

    Raises
    ------
    ValueError
        If degrees are not above zero.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> from cerebridge.encoding.brainscore.stimuli import place_on_screen
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((1, 8, 8, 3), np.uint8))
    >>> place_on_screen(stimuli, 8, 4)[0].shape, place_on_screen(stimuli, 2, 4)[0].shape
    ((16, 16, 3), (4, 4, 3))
    """
    if not (target_degrees > 0 and source_degrees > 0):
        raise ValueError(f"degrees are {target_degrees} and {source_degrees}; they must be above 0.")
    ratio = target_degrees / source_degrees
    if ratio == 1:
        return stimuli
    hashes = [
        hashlib.sha256(f"{content} placed {ratio!r}".encode()).hexdigest()[:32]
        for content in stimuli.table["content_hash"]
    ]
    readers = [partial(_placed, stimuli, row, ratio) for row in range(len(stimuli))]
    return StimulusSet(stimuli.table.assign(content_hash=hashes), readers)


def _placed(stimuli: StimulusSet, row: int, ratio: float) -> NDArray[np.uint8]:
    image = Image.fromarray(stimuli[row])
    size = np.round(ratio * np.array(image.size)).astype(int)
    if ratio > 1:
        screen = Image.new("RGB", tuple(size.tolist()), BACKGROUND)
        screen.paste(image, tuple(np.round((size - image.size) / 2).astype(int).tolist()))
        return np.asarray(screen)
    left, upper = np.round((np.array(image.size) - size) / 2).astype(int).tolist()
    width, height = size.tolist()
    return np.asarray(image.crop((left, upper, left + width, upper + height)))


def _file(stimuli: StimulusSet, row: int, folder: Path) -> Path:
    """The file of a stimulus, written where it has none."""
    reader = stimuli.readers[row]
    path = getattr(reader, "__self__", None)
    if isinstance(path, Path):
        return path
    stimulus = stimuli.table["stimulus_id"].iloc[row]
    content = reader()
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path = folder / f"{row:06d}{PurePosixPath(str(stimulus)).suffix}"
        path.write_bytes(content)
        return path
    if not isinstance(content, np.ndarray) or content.dtype != np.uint8:
        raise ValueError(
            f"stimulus {stimulus!r} is neither a file nor an image of bytes, which Brain-Score shows."
        )
    path = folder / f"{row:06d}.png"
    Image.fromarray(stimuli[row]).save(path)
    return path
