"""People whose geometry is that of one set of features early and of another late."""

from __future__ import annotations

import numpy as np
import xarray as xr

from cerebridge import neuro
from cerebridge.encoding import rsa

#: seconds: when each geometry holds, the epoch, and a time bin
EARLY, LATE = (0.08, 0.15), (0.2, 0.3)
EPOCH, WIDTH = (-0.1, 0.4), 0.01
N_STIMULI = 16


def features(seed: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Features of the early and of the late geometry; of the default seed their geometries are not alike by chance."""
    rng = np.random.default_rng(seed)
    early, late = rng.standard_normal((2, N_STIMULI, 6))
    return early, late


def model(values: np.ndarray, name: str) -> xr.DataArray:
    """RDM of features."""
    array = neuro.assemble(
        values,
        presentation={"stimulus_id": [f"s{k}" for k in range(len(values))]},
        neuroid={"neuroid_id": np.arange(values.shape[1])},
        modality="model",
        units="1",
        name=name,
    )
    return rsa.rdm(array, metric="cosine")


def person(
    early: np.ndarray, late: np.ndarray, seed: int, noise: float = 4.0, n_runs: int = 4, n_sensors: int = 24
) -> xr.DataArray:
    """Epochs of one person: each geometry is mixed into sensors while it holds, in white noise."""
    rng = np.random.default_rng([seed, 7])
    start = np.arange(round(EPOCH[0] / WIDTH), round(EPOCH[1] / WIDTH)) * WIDTH
    middle = start + WIDTH / 2
    signal = sum(
        (values @ rng.standard_normal((values.shape[1], n_sensors)))[:, :, None]
        * ((low <= middle) & (middle < high))
        for values, (low, high) in ((early, EARLY), (late, LATE))
    )
    values = signal + noise * rng.standard_normal((n_runs, *signal.shape))
    n = len(early)
    return neuro.assemble(
        values.reshape(-1, n_sensors, len(start)),
        presentation={
            "stimulus_id": [f"s{k}" for k in range(n)] * n_runs,
            "run": np.repeat(np.arange(n_runs), n),
        },
        neuroid={"neuroid_id": np.arange(n_sensors)},
        time_bin={"time_bin_start": start, "time_bin_end": start + WIDTH},
        modality="meg",
        units="T",
    )


def people(n: int = 12, seed: int = 50, **options: float) -> dict[str, xr.DataArray]:
    """Several of them, who share the features."""
    return {f"P{k}": person(*features(seed), 100 * seed + k, **options) for k in range(n)}


def small(n: int = 3, **options: float) -> dict[str, xr.DataArray]:
    """A few people and times."""
    return {name: array.isel(time_bin=slice(15, 21)) for name, array in people(n, **options).items()}
