"""Feature maps from plain arrays by shape and from labelled ones by label, and one sentence where neither is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from cerebridge import models, neuro
from cerebridge.encoding.maps import Layout, maps_of, read_maps
from cerebridge.neuro.layers import Layer, label_features

MAPS = np.arange(5 * 3 * 2 * 4, dtype=np.float32).reshape(5, 3, 2, 4)


def labelled(values, *layers):
    return neuro.assemble(
        values,
        presentation={"stimulus_id": np.arange(len(values))},
        neuroid=label_features(layers),
        modality="activation",
        units="a.u.",
    )


@pytest.mark.parametrize("shape", [(3, 2, 4), (6, 4)], ids=["maps", "tokens"])
def test_labels_say_the_shape_in_any_order(shape):
    values = MAPS.reshape(5, *shape)
    array = labelled(values.reshape(5, -1), Layer("conv", shape, "<f4"))
    shuffled = array.isel(neuroid=np.random.default_rng(0).permutation(24))
    for given in (values, torch.from_numpy(values), array, shuffled):
        torch.testing.assert_close(maps_of(given), torch.from_numpy(values))


def test_a_window_of_a_map_is_a_map():
    array = labelled(MAPS.reshape(5, -1), Layer("conv", (3, 2, 4), "<f4"))
    window = array.isel(neuroid=np.flatnonzero(array["column"].values >= 2))
    np.testing.assert_array_equal(maps_of(window), MAPS[..., 2:])


def test_semantics_lie_beside_the_maps():
    meaning = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    together = np.hstack([meaning, MAPS.reshape(5, -1)])
    array = labelled(together, Layer("meaning", (2,), "<f4"), Layer("conv", (3, 2, 4), "<f4"))
    _, layout = read_maps(array, semantics="meaning")
    np.testing.assert_array_equal(layout.maps(torch.from_numpy(together)), MAPS)
    np.testing.assert_array_equal(together[:, layout.semantics], meaning)
    for kind in (np.asarray, torch.from_numpy):
        rows, layout = read_maps((kind(MAPS), kind(meaning)))
        np.testing.assert_array_equal(layout.maps(torch.as_tensor(rows)), MAPS)
        np.testing.assert_array_equal(rows[:, layout.semantics], meaning)


def test_maps_have_a_token_a_place():
    tokens = Layout((3, 2, 4)).tokens(torch.from_numpy(MAPS.reshape(5, -1)))
    np.testing.assert_array_equal(tokens[:, 5], MAPS[:, :, 1, 1])


def test_what_the_network_gave_is_what_is_read():
    images = models.StimulusSet.from_arrays(
        np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    )
    net = models.load("tiny", weights="random")
    seen = {}
    net.conv1.register_forward_hook(lambda module, given, out: seen.update(out=out.detach()))
    activations = models.extract(net, images, ["conv1"])
    assert maps_of(activations).shape[1:] == seen["out"].shape[1:]


def test_flattened_features_are_refused():
    flat = MAPS.reshape(5, -1)
    plain = xr.DataArray(flat, dims=("presentation", "neuroid"))
    array = labelled(flat, Layer("conv", (3, 2, 4), "<f4"))
    for wrong in (flat, plain, array.drop_vars("row")):
        with pytest.raises(
            ValueError, match="PRF takes feature maps, but X is 5 × 24 without labels of channel"
        ):
            read_maps(wrong, "PRF")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x.isel(neuroid=slice(23)),
            "23 features, no complete grid of 3 channels × 2 rows × 4 columns",
        ),
        (
            lambda x: x.assign_coords(layer=("neuroid", ["a"] * 12 + ["b"] * 12)),
            "X holds 2 .first 'a' and 'b'",
        ),
        (lambda x: x.expand_dims("time_bin", 2), "takes X as samples × neuroids, got presentation × neuroid"),
    ],
)
def test_incomplete_and_mixed_maps_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        maps_of(change(labelled(MAPS.reshape(5, -1), Layer("conv", (3, 2, 4), "<f4"))))


def test_semantics_of_other_rows_are_refused():
    with pytest.raises(ValueError, match=r"the semantics have shape \(4, 2\) beside maps of 5 samples"):
        read_maps((MAPS, np.zeros((4, 2))))
