"""Channels of M/EEG arrays: positions, head maps, and the way back to MNE."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import neuro
from cerebridge.neuro import meeg

#: MNE renames its template montages in version 1.14
TEMPLATE = "colin27_1005" if "colin27_1005" in mne.channels.get_builtin_montages() else "standard_1005"


@pytest.fixture(scope="module")
def evokeds(data: Path) -> list[mne.Evoked]:
    return mne.read_evokeds(data / "meg-evoked-audvis" / "test-ave.fif.gz", verbose="error")


@pytest.fixture(scope="module")
def audvis(data: Path) -> xr.DataArray:
    return meeg.read(data / "meg-evoked-audvis" / "test-ave.fif.gz")


def make_epochs(n: int = 6, tmin: float = -0.1, sfreq: float = 100.0, **kwargs) -> mne.EpochsArray:
    rng = np.random.default_rng(1)
    info = mne.create_info(["Fz", "Cz", "Pz"], sfreq, "eeg")
    events = np.column_stack([100 + 50 * np.arange(n), np.zeros(n, int), 1 + np.arange(n) % 2])
    return mne.EpochsArray(
        rng.standard_normal((n, 3, 20)), info, events, tmin, {"cat": 1, "dog": 2}, verbose="error", **kwargs
    )


def test_positions_are_in_the_head_in_mm(audvis, evokeds):
    xyz = np.column_stack([audvis[axis].values for axis in "xyz"])
    eeg = audvis.channel_type.values == "eeg"
    position = evokeds[0].get_montage().get_positions()["ch_pos"]
    names = audvis.neuroid_id.values[eeg]
    np.testing.assert_allclose(xyz[eeg], [1000 * position[name] for name in names], atol=1e-4)
    device = np.array([evokeds[0].info["chs"][k]["loc"][:3] for k in range(306)])
    head = mne.transforms.apply_trans(evokeds[0].info["dev_head_t"], device)
    np.testing.assert_allclose(xyz[:306], 1000 * head)


def test_averages_go_back_exactly(audvis, evokeds):
    for back, evoked in zip(meeg.to_mne(audvis), evokeds, strict=True):
        expected = evoked.copy().pick("data")
        np.testing.assert_array_equal(back.data, expected.data)
        np.testing.assert_array_equal(back.times, expected.times)
        assert (back.nave, back.comment, back.ch_names) == (
            expected.nave,
            expected.comment,
            expected.ch_names,
        )
        for key in ("highpass", "lowpass", "sfreq"):
            assert back.info[key] == expected.info[key]
        np.testing.assert_array_equal(back.info["dev_head_t"]["trans"], expected.info["dev_head_t"]["trans"])
        for one, other in zip(back.info["chs"], expected.info["chs"], strict=True):
            np.testing.assert_array_equal(one["loc"], other["loc"])
            assert all(one[key] == other[key] for key in ("kind", "coil_type", "coord_frame", "unit"))


def test_averages_of_epochs_go_back_as_averages():
    epochs = make_epochs()
    cat, dog = meeg.to_mne(neuro.average_repeats(meeg.from_epochs(epochs)))
    assert (cat.comment, cat.nave, dog.comment) == ("cat", 3, "dog")
    np.testing.assert_allclose(cat.data, epochs["cat"].average().data, rtol=1e-12)


@pytest.mark.parametrize("kind", ["mag", "grad", "eeg"])
def test_scores_make_head_maps(audvis, kind):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sensors = audvis.isel(neuroid=np.flatnonzero(audvis.channel_type.values == kind))
    score = sensors.isel(presentation=0).std("time_bin").rename(neuroid="unit")
    info = meeg.to_info(score)
    assert set(info.get_channel_types()) == {kind}
    figure, axes = plt.subplots()
    image, _ = mne.viz.plot_topomap(score.values, info, axes=axes, show=False, contours=0)
    assert np.isfinite(image.get_array()).any()
    plt.close(figure)


def test_head_maps_need_only_positions():
    names = ["Fz", "Cz", "Pz", "Oz"]
    montage = mne.channels.make_standard_montage(TEMPLATE).get_positions()["ch_pos"]
    columns = {axis: [1000 * montage[name][k] for name in names] for k, axis in enumerate("xyz")}
    array = neuro.assemble(
        np.eye(4),
        presentation={"stimulus_id": range(4)},
        neuroid={"neuroid_id": names} | columns,
        modality="eeg",
        units="V",
    )
    info = meeg.to_info(array, sfreq=250.0)
    assert info["sfreq"] == 250.0
    np.testing.assert_allclose(info["chs"][1]["loc"][:3], montage["Cz"])


def test_simulated_electrodes_have_their_place():
    epochs = meeg.to_mne(neuro.simulate(modality="eeg", n_stimuli=4, random_state=0))
    assert len(epochs) == 4
    radius = [np.linalg.norm(channel["loc"][:3]) for channel in epochs.info["chs"]]
    assert 0.05 < min(radius) < max(radius) < 0.15


def test_head_maps_survive_files_and_selections(audvis, tmp_path):
    neuro.save(tmp_path / "audvis.nc", audvis)
    loaded = neuro.load(tmp_path / "audvis.nc")
    xr.testing.assert_identical(loaded.load(), audvis)
    some = loaded.isel(neuroid=[300, 5, 340])
    info = meeg.to_info(some)
    assert info.ch_names == some.neuroid_id.values.tolist()
    np.testing.assert_array_equal(info["chs"][1]["loc"], meeg.to_info(audvis)["chs"][5]["loc"])


def simple(**neuroid) -> xr.DataArray:
    table = {"neuroid_id": ["a", "b"]} | neuroid
    return neuro.assemble(
        np.eye(2), presentation={"stimulus_id": [0, 1]}, neuroid=table, modality="meg", units="T"
    )


def test_channels_that_cannot_be_described(audvis):
    with pytest.raises(ValueError, match="the channels have no coordinate 'channel_type'"):
        meeg.to_info(simple())
    with pytest.raises(ValueError, match="channels of type mag need an orientation"):
        meeg.to_info(simple(channel_type="mag", x=0.0, y=0.0, z=90.0))
    with pytest.raises(ValueError, match="channels lie along 'neuroid' or 'unit'"):
        meeg.to_info(audvis.isel(neuroid=0))
    twice = audvis.isel(time_bin=0, neuroid=[0, 1, 0]).rename(neuroid="unit")
    with pytest.raises(ValueError, match="'MEG 0113' occurs 2 times; select one subject and one time first"):
        meeg.to_info(twice)
    joined = audvis.copy()
    joined.attrs["dev_head_t"] += "; " + joined.attrs["dev_head_t"]
    with pytest.raises(ValueError, match=r"joins several head positions; select one recording"):
        meeg.to_info(joined)
    with pytest.raises(ValueError, match="'mne_channel' says nothing of b; select"):
        meeg.to_info(simple(mne_channel=[str(audvis.mne_channel.values[0]), ""]))
    with pytest.raises(ValueError, match=r"presentation × neuroid and has no times; use to_info"):
        meeg.to_mne(simple(channel_type="eeg"))
    with pytest.raises(ValueError, match=r"the time bins are not evenly spaced: .* from bin 2 to the next"):
        meeg.to_mne(audvis.isel(time_bin=[0, 1, 2, 9, 10]))


@settings(max_examples=15, deadline=None)
@given(
    tmin=st.sampled_from([-0.2, -0.1, 0.0, 0.05]),
    sfreq=st.sampled_from([100.0, 160.0, 600.614990234375, 1000 / 3]),
    order=st.permutations(range(3)),
)
def test_epochs_go_back_exactly(tmin, sfreq, order):
    epochs = make_epochs(tmin=tmin, sfreq=sfreq, metadata=pd.DataFrame({"image": list("abcdef")}))
    array = meeg.from_epochs(epochs)
    back = meeg.to_mne(array.isel(neuroid=list(order)))
    np.testing.assert_array_equal(back.get_data(), epochs.get_data()[:, list(order)])
    np.testing.assert_array_equal(back.times, epochs.times)
    np.testing.assert_array_equal(back.events, epochs.events)
    assert back.info["sfreq"] == sfreq
    assert back.event_id == epochs.event_id
    assert back.metadata["image"].tolist() == list("abcdef")
    again = meeg.from_epochs(back).isel(neuroid=[list(order).index(k) for k in range(3)])
    np.testing.assert_array_equal(again.values, array.values)


def test_a_thinned_array_has_its_own_rate():
    thinned = meeg.from_epochs(make_epochs()).isel(time_bin=slice(None, None, 2))
    assert meeg.to_mne(thinned).info["sfreq"] == pytest.approx(50.0)


def test_joined_sessions_go_back_although_their_samples_collide():
    array = meeg.from_epochs(make_epochs())
    both = neuro.concat([array, array], "presentation")
    assert len(meeg.to_mne(both)) == 12
