"""Containers: what comes in goes out as the same kind, and only real numbers pass."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from cerebridge.encoding.containers import kind_of, labels_along, to_kind, to_tensor

VALUES = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.float32, torch.float32),
        (np.float16, torch.float32),
        (np.float64, torch.float64),
        (np.int16, torch.float64),
        (np.uint32, torch.float64),
        (np.longdouble, torch.float64),
        (">f4", torch.float32),
        (">f8", torch.float64),
        (bool, torch.float64),
        (object, torch.float64),
    ],
)
def test_numpy_dtypes(given, expected):
    array = VALUES.astype(given)
    tensor = to_tensor(array)
    assert tensor.dtype == expected
    np.testing.assert_array_equal(tensor.numpy(), array.astype(float))


def test_tensors_keep_their_precision_and_lose_their_gradient():
    tensor = to_tensor(torch.ones(3, dtype=torch.bfloat16, requires_grad=True))
    assert tensor.dtype == torch.float32
    assert not tensor.requires_grad
    assert to_tensor(torch.ones(3, dtype=torch.int64)).dtype == torch.float64
    assert to_tensor(torch.ones(3), dtype=torch.float64).dtype == torch.float64


def test_memory_is_shared_where_nothing_is_converted():
    array = np.zeros(3)
    tensor = to_tensor(array)
    array[0] = 1
    assert tensor[0] == 1


def test_views_and_read_only_memory_are_read_without_a_warning():
    array = VALUES[::-1, ::-1]
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(to_tensor(array).numpy(), array)
        frozen = VALUES.copy()
        frozen.flags.writeable = False
        np.testing.assert_array_equal(to_tensor(frozen).numpy(), frozen)


@pytest.mark.parametrize(
    "bad", [np.array(["a", "b"]), np.array([None, {}], dtype=object), np.array(["2020-01-01"], "M8[s]")]
)
def test_not_numbers(bad):
    with pytest.raises(TypeError, match="not all real numbers"):
        to_tensor(bad)


@pytest.mark.parametrize("bad", [np.array([1j]), torch.tensor([1j])])
def test_complex(bad):
    with pytest.raises(TypeError, match="complex"):
        to_tensor(bad)


@pytest.mark.parametrize(
    ("x", "kind"),
    [(VALUES, "numpy"), ([[1, 2]], "numpy"), (torch.ones(2), "torch"), (xr.DataArray(VALUES), "xarray")],
)
def test_round_trip(x, kind, device):
    assert kind_of(x) == kind
    tensor = to_tensor(x, device)
    assert tensor.device.type == device
    back = to_kind(
        tensor, kind, device_of=x if kind == "torch" else None, dims=["a", "b"], attrs={"units": "V"}
    )
    if kind == "torch":
        assert back.device == x.device
    assert kind_of(back) == kind
    np.testing.assert_array_equal(np.asarray(back), np.asarray(x))


def test_labels_along_a_dimension():
    array = xr.DataArray(
        VALUES,
        dims=("presentation", "neuroid"),
        coords={
            "stimulus_id": ("presentation", ["a", "b"]),
            "region": ("neuroid", ["V1", "V4", "IT"]),
            "both": (("presentation", "neuroid"), VALUES),
        },
    )
    labels = labels_along(array, "neuroid", renamed="feature", prefix="feature_")
    assert list(labels) == ["feature_region"]
    assert labels["feature_region"][0] == "feature"
    result = to_kind(torch.ones(3), "xarray", dims=["neuroid"], coords=labels_along(array, "neuroid"))
    assert list(result.region.values) == ["V1", "V4", "IT"]
