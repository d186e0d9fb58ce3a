"""MNE's sphere model: what sensors see of dipoles, without any data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: electrodes of the BioSemi caps that MNE ships
CAPS = (16, 32, 64, 128, 160, 256)
#: metres from the sphere's centre to the dipoles, and how far they scatter about their region
DEPTH, SCATTER = 0.065, 0.2
#: degrees about the vertical axis from the first region, at the back, to the last, at the right
TURN = 100.0


def sphere(
    modality: str, n_sensors: int, n_regions: int, n_dipoles: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Gains of tangential dipoles in a few regions, from the back of the head round to its right side.

    Parameters
    ----------
    modality
        ``"eeg"``: electrodes of the smallest BioSemi cap with so many; ``"meg"``: magnetometers of a Neuromag helmet.
    n_sensors
        Taken evenly from all sensors of the cap or helmet.
    n_regions, n_dipoles
        Regions, and dipoles in each.
    rng
        Places and orientations are drawn from it.

    Returns
    -------
    gain : numpy.ndarray
        regions × sensors × dipoles, in V or T per A·m.
    neuroid : dict
        Sensor labels: ``neuroid_id``, ``channel_type``, and ``x``, ``y``, ``z`` in mm in MNE's head coordinates.

    Raises
    ------
    ValueError
        If no cap or helmet has so many sensors.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.neuro.headmodel import sphere
    >>> gain, neuroid = sphere("eeg", 16, n_regions=2, n_dipoles=3, rng=np.random.default_rng(0))
    >>> gain.shape, neuroid["channel_type"]
    ((2, 16, 3), 'eeg')
    """
    import mne

    info = _sensors(modality, n_sensors)
    if modality == "eeg":
        model = mne.make_sphere_model("auto", "auto", info, verbose=False)
    else:
        model = mne.make_sphere_model((0.0, 0.0, 0.0), None, verbose=False)
    outward, along = dipoles(n_regions, n_dipoles, rng)
    places = {"rr": model["r0"] + DEPTH * outward, "nn": along}
    source = mne.setup_volume_source_space(pos=places, verbose=False)
    forward = mne.make_forward_solution(
        info, None, source, model, meg=modality == "meg", eeg=modality == "eeg", mindist=0, verbose=False
    )
    free = forward["sol"]["data"].reshape(n_sensors, n_regions * n_dipoles, 3)
    gain = np.einsum("sdk,dk->sd", free, along).reshape(n_sensors, n_regions, n_dipoles)
    millimetres = np.array([channel["loc"][:3] for channel in info["chs"]]) * 1000
    neuroid = {"neuroid_id": info["ch_names"], "channel_type": "eeg" if modality == "eeg" else "mag"}
    return gain.transpose(1, 0, 2), neuroid | dict(zip("xyz", millimetres.T, strict=True))


def dipoles(
    n_regions: int, n_dipoles: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions of dipoles from the sphere's centre, and of their moments, region after region: unit vectors."""
    azimuth = np.deg2rad(-90 + TURN * np.linspace(0, 1, n_regions))
    centre = np.stack([np.cos(azimuth), np.sin(azimuth), np.full(n_regions, 0.4)], axis=1)
    outward = _unit(centre[:, None] + SCATTER * rng.standard_normal((n_regions, n_dipoles, 3))).reshape(-1, 3)
    # tangential, because a sphere shows a magnetometer nothing of radial dipoles
    return outward, _unit(np.cross(outward, rng.standard_normal(outward.shape)))


def _sensors(modality: str, n_sensors: int) -> Any:
    """MNE's description of the sensors."""
    import mne

    if modality == "meg":
        info = mne.channels.read_meg_canonical_info("neuromag", verbose=False)
        picks = mne.pick_types(info, meg="mag")
    else:
        cap = next((size for size in CAPS if size >= n_sensors), CAPS[-1])
        montage = mne.channels.make_standard_montage(f"biosemi{cap}")
        info = mne.create_info(montage.ch_names, 100.0, "eeg", verbose=False)
        info.set_montage(montage, verbose=False)
        picks = np.arange(cap)
    if n_sensors > len(picks):
        raise ValueError(
            f"n_units is {n_sensors}, but the largest {modality} set-up has {len(picks)} sensors; ask for fewer."
        )
    return mne.pick_info(
        info, picks[np.linspace(0, len(picks) - 1, n_sensors).round().astype(int)], verbose=False
    )


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
