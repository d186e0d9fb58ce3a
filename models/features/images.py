"""Pictures as small copies, as lightness, and as what a bank of filters makes of them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ...neuro.assembly import assemble
from ...neuro.layers import Layer, label_features
from ..activations import extract
from ..preprocessing import Resample, resize
from ..stimuli import StimulusSet
from .colour import lightness, luminance, require_images


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
    require_images(stimuli, "pixel")
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


@dataclass(frozen=True)
class Lightness:
    """Resize a picture to a square and take its CIE lightness, 0 (black) to 1 (white).

    Parameters
    ----------
    size
        Height and width in pixels; the aspect ratio is not kept.
    resample
        How PIL interpolates.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features.images import Lightness
    >>> Lightness(2)(np.full((8, 6, 3), 255, np.uint8))
    tensor([[1., 1.],
            [1., 1.]])
    """

    size: int
    resample: Resample = "bicubic"

    def __call__(self, stimulus: NDArray[Any] | Image.Image) -> Tensor:
        """Turn one picture into a float32 tensor (size × size)."""
        light = lightness(luminance(resize(stimulus, self.size, self.resample))) / 100
        return torch.from_numpy(light.astype(np.float32))


def extract_features(
    bank: nn.Module,
    name: str,
    stimuli: StimulusSet,
    units: pd.DataFrame,
    size: int,
    facts: Mapping[str, Any],
    **options: Any,
) -> xr.DataArray:
    """Run a bank of filters over the lightness of pictures, as any network is run, and label what it gives.

    Parameters
    ----------
    bank
        Takes n × size × size, gives n × units.
    name
        Of the feature space.
    stimuli
        Pictures.
    units
        The neuroid table.
    size
        Side of the resized pictures in pixels.
    facts
        What made the features, for the provenance.
    options
        ``memory``, ``device`` and ``progress`` of :func:`models.extract`.

    Raises
    ------
    ValueError
        If a stimulus is no picture.

    Examples
    --------
    >>> import numpy as np, pandas as pd, torch
    >>> from cerebridge import models
    >>> from cerebridge.models.features.images import extract_features
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((3, 8, 8, 3), np.uint8))
    >>> units = pd.DataFrame({"neuroid_id": [f"p{k}" for k in range(16)]})
    >>> extract_features(torch.nn.Flatten(), "grey", stimuli, units, 4, {}).shape
    (3, 16)
    """
    require_images(stimuli, name)
    net = nn.Sequential(OrderedDict([(name, bank)]))
    found = extract(net, stimuli, [name], preprocess=Lightness(size), **options)
    return assemble(
        found.values,
        presentation=stimuli.table,
        neuroid=units,
        modality="activation",
        units="a.u.",
        provenance=json.dumps({"features": name, **facts, **json.loads(found.attrs["provenance"])}),
    )
