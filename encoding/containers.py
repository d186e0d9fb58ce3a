"""numpy, torch and xarray at the border of the engine: tensors in, the caller's own kind out, labels kept."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

Kind = Literal["numpy", "torch", "xarray"]
#: numpy dtypes whose memory torch reads as it is
SHARED_DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1", "c8", "c16"}

Labels = dict[Hashable, tuple[Hashable, NDArray[Any]]]


def kind_of(x: Any) -> Kind:
    """Which of the three containers ``x`` is; lists and tables count as numpy.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.containers import kind_of
    >>> kind_of(torch.zeros(2)), kind_of([1, 2])
    ('torch', 'numpy')
    """
    if isinstance(x, torch.Tensor):
        return "torch"
    return "xarray" if isinstance(x, xr.DataArray) else "numpy"


def ndim_of(x: Any) -> int:
    """Number of axes, without reading values that are on disk.

    Examples
    --------
    >>> from cerebridge.encoding.containers import ndim_of
    >>> ndim_of([[1.0, 2.0]])
    2
    """
    return len(x.shape) if hasattr(x, "shape") else np.asarray(x).ndim


def to_tensor(
    x: Any, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Bring numpy, torch or xarray values to a real tensor.

    Parameters
    ----------
    x
        Array of real numbers or booleans, any shape.
    device
        Where to; default: where ``x`` is.
    dtype
        Default: float32 stays float32, float16 and bfloat16 become float32, everything else float64.

    Returns
    -------
    torch.Tensor
        Detached, and sharing memory with ``x`` where nothing had to be converted: never write into it.

    Raises
    ------
    TypeError
        If the values are not real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.containers import to_tensor
    >>> to_tensor(np.arange(3)).dtype
    torch.float64
    """
    tensor = x.detach() if isinstance(x, torch.Tensor) else _from_array(x)
    if tensor.is_complex():
        raise TypeError(
            "Complex data not supported: the values are complex; pass their real part or their power."
        )
    return tensor.to(device=device, dtype=dtype or _precision(tensor.dtype))


def to_kind(
    tensor: torch.Tensor,
    kind: Kind,
    device_of: torch.Tensor | None = None,
    dims: Sequence[Hashable] | None = None,
    coords: Mapping[Hashable, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Give a result back in the caller's own kind.

    Parameters
    ----------
    tensor
        The result.
    kind
        What :func:`kind_of` said of the input.
    device_of
        The caller's tensor, to whose device a torch result goes; default: it stays where it is.
    dims, coords, attrs
        Labels of an xarray result; ignored for the other kinds.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.containers import to_kind
    >>> to_kind(torch.ones(2), "xarray", dims=["neuroid"]).dims
    ('neuroid',)
    """
    if kind == "torch":
        return tensor if device_of is None else tensor.to(device_of.device)
    values = tensor.detach().cpu().numpy()
    if kind == "numpy":
        return values
    return xr.DataArray(values, dims=dims, coords=coords, attrs=dict(attrs or {}))


def labels_along(
    array: xr.DataArray, dim: Hashable, *, renamed: Hashable | None = None, prefix: str = ""
) -> Labels:
    """Coordinates of ``array`` along one dimension, ready for another array's ``coords``.

    Parameters
    ----------
    array
        Labelled array.
    dim
        The dimension whose one-dimensional coordinates are wanted.
    renamed
        What the dimension is called in the other array; default: the same.
    prefix
        Put before every coordinate's name, so that the labels of two arrays do not collide.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.containers import labels_along
    >>> units = xr.DataArray([1.0, 2.0], dims="neuroid", coords={"region": ("neuroid", ["V4", "IT"])})
    >>> sorted(labels_along(units, "neuroid", renamed="feature", prefix="feature_"))
    ['feature_region']
    """
    target = dim if renamed is None else renamed
    return {
        f"{prefix}{name}" if prefix else name: (target, coordinate.values)
        for name, coordinate in array.coords.items()
        if coordinate.dims == (dim,)
    }


def to_plain(value: Any) -> Any:
    """Turn a tensor or a labelled array into a dictionary of numpy arrays; leave anything else as it is.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.containers import from_plain, to_plain
    >>> from_plain(to_plain(torch.ones(2)))
    tensor([1., 1.])
    """
    if isinstance(value, torch.Tensor):
        return {"container": "torch", "values": value.detach().cpu().numpy()}
    if isinstance(value, xr.DataArray):
        coords = {name: (coord.dims, coord.values) for name, coord in value.coords.items()}
        parts = {"values": value.values, "dims": value.dims, "coords": coords, "attrs": dict(value.attrs)}
        return {"container": "xarray", **parts}
    return value


def from_plain(value: Any) -> Any:
    """The inverse of :func:`to_plain`; tensors come back on the CPU."""
    if not isinstance(value, dict) or "container" not in value:
        return value
    if value["container"] == "torch":
        return torch.from_numpy(value["values"])
    return xr.DataArray(value["values"], **{name: value[name] for name in ("dims", "coords", "attrs")})


def _precision(dtype: torch.dtype) -> torch.dtype:
    """The precision to compute in: float16's range is too small for sums, float32's is not."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16, torch.float32) else torch.float64


def _from_array(x: Any) -> torch.Tensor:
    """Numbers of any numpy dtype as a tensor, without a copy where torch can read the memory."""
    array = np.asarray(x)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.str[1:] not in SHARED_DTYPES:
        try:
            if array.dtype.kind not in "fiuO":
                raise TypeError("they are dates or text")
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"The values are of type {array.dtype}, not all real numbers ({error}); convert or drop them."
            ) from None
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():
        # a read-only memory map is fine here: the engine never writes into its inputs
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
