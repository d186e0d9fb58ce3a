"""Where tensors live: one rule for ``device=``, shared by extraction, estimators and networks."""

from __future__ import annotations

import torch


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn ``device=`` into a device that is there.

    Parameters
    ----------
    device
        ``"auto"`` (a CUDA device if there is one, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Raises
    ------
    ValueError
        If the device is unknown, or a GPU is asked for where there is none.

    Examples
    --------
    >>> from cerebridge.models.devices import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type == "meta":  # a network that is moved there loses its weights
            raise RuntimeError
    except (RuntimeError, TypeError):
        raise ValueError(f"device={device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:0'.") from None
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={str(device)!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices here; "
            "use device='auto' or 'cpu'."
        )
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            "device='mps' was asked for, but this machine has no Metal device; use device='auto' or 'cpu'."
        )
    return resolved
