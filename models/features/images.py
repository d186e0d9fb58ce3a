"""Feature spaces of images that need no network."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from ...neuro.assembly import assemble
from ...neuro.layers import Layer, label_features
from ..preprocessing import Resample, resize
from ..stimuli import StimulusSet


def pixels(stimuli: StimulusSet, size: int = 32, resample: Resample = "bicubic") -> xr.DataArray:
    """Take the pixels of small copies of the images: the feature space that every network has to beat.

    Parameters
    ----------
    stimuli
        Images.
    size
        Rows and columns of the copies.
    resample
        How PIL interpolates.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``, float32 from 0 to 1; neuroids of the layer ``"pixels"`` with ``channel`` (red,
        green, blue), ``row`` and ``column``.

    Raises
    ------
    ValueError
        If a stimulus is no image, or cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((3, 64, 64, 3), np.uint8))
    >>> models.features.pixels(stimuli, size=8).shape
    (3, 192)
    """
    if size < 1:
        raise ValueError(f"size is {size}; give a positive number of pixels.")
    values = np.empty((len(stimuli), 3, size, size), np.float32)
    for row, stimulus in enumerate(stimuli):
        values[row] = np.moveaxis(resize(stimulus, size, resample), 2, 0)
    values /= 255
    return assemble(
        values.reshape(len(stimuli), -1),
        presentation=stimuli.table,
        neuroid=label_features([Layer("pixels", (3, size, size), "<f4")]),
        modality="activation",
        units="a.u.",
        provenance=json.dumps(
            {"features": "pixels", "size": size, "resample": resample, "stimuli": stimuli.hash}
        ),
    )
