"""torchvision beside a torch of another build: networks and transforms work, its compiled operators do not."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

#: compiled operators for which torchvision registers stand-ins as it is imported
_OPERATORS = ("nms", "qnms")


@cache
def mend_torchvision() -> torch.library.Library | None:
    """Import torchvision if it is installed, declaring what a build for another torch lacks.

    A torchvision that was built for CUDA cannot load its compiled operators beside a torch for the CPU, and then
    fails as a whole: so does everything that imports it, Lightning and timm among others. Only the operators
    themselves (non-maximum suppression, reading of images) are missing afterwards.

    Returns
    -------
    torch.library.Library or None
        What holds the declarations, where they were needed.

    Examples
    --------
    >>> from cerebridge.models.compat import mend_torchvision
    >>> declared = mend_torchvision()
    """
    if find_spec("torchvision") is None:
        return None
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401

    return library
