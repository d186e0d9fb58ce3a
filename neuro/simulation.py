"""Simulated brains whose truth is known: neurons, voxels and sensors driven by any features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, overload

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from .assembly import assemble
from .drives import Driver
from .headmodel import sphere
from .scanner import GAPS, design, noise_and_drift, schedule

Array = NDArray[np.float64]
Modality = Literal["spikes", "fmri", "eeg", "meg"]
Output = Literal["trials", "continuous"]

UNITS = {"spikes": "spikes", "fmri": "a.u.", "eeg": "V", "meg": "T"}
N_UNITS = {"spikes": 50, "fmri": 200, "eeg": 32, "meg": 102}
#: Hz: scans of a continuous recording, samples of an epoch
SFREQ = {"fmri": 0.5, "eeg": 100.0, "meg": 100.0}

#: random features, where none are given
N_FEATURES = 20
#: standard deviation over stimuli of a neuron's log rate, and of a voxel's response (whose mean is 1)
TUNING = 0.5
#: coordinates that give a simulation away
CEILINGS = ("true_ceiling", "true_ceiling_single")
#: dipoles a region, and a dipole's moment in A·m one standard deviation above its mean
SOURCES, MOMENT = 6, 20e-9
#: seconds: an epoch's limits, the first region's peak, the delay of each further region, a peak's width
EPOCH, PEAK, DELAY, WIDTH = (-0.1, 0.5), 0.1, 0.08, 0.03


@dataclass(frozen=True)
class Truth:
    """What :func:`simulate` knows and a recording hides.

    Attributes
    ----------
    features
        ``presentation × neuroid``: what drove the simulation, as given, one row a stimulus; several regions side
        by side, told apart by ``region``.
    response
        The expected response to each stimulus, without noise: ``presentation × neuroid [× time_bin]``.
    weights
        ``neuroid × feature``: what each unit reads from the z-scored features (a neuron's log rate, a voxel's
        response, a sensor's value at the region's peak).
    ceiling
        ``neuroid [× time_bin]``: correlation of the expected response with the recorded one; of trials with the
        average of their repeats, of a continuous recording with the scans freed of drift.
    events
        ``run``, ``onset`` and ``duration`` in seconds from the run's start, ``trial_type`` (the stimulus);
        ``None`` for trials.
    """

    features: xr.DataArray
    response: xr.DataArray
    weights: xr.DataArray
    ceiling: xr.DataArray
    events: pd.DataFrame | None = None


@overload
def simulate(
    features: Any = ...,
    modality: Modality = ...,
    *,
    n_stimuli: int | None = ...,
    n_units: int | None = ...,
    n_repeats: int = ...,
    snr: ArrayLike = ...,
    sfreq: float | None = ...,
    output: Output = ...,
    return_truth: Literal[False] = ...,
    random_state: int | np.random.Generator | None = ...,
) -> xr.DataArray: ...
@overload
def simulate(
    features: Any = ...,
    modality: Modality = ...,
    *,
    n_stimuli: int | None = ...,
    n_units: int | None = ...,
    n_repeats: int = ...,
    snr: ArrayLike = ...,
    sfreq: float | None = ...,
    output: Output = ...,
    return_truth: Literal[True],
    random_state: int | np.random.Generator | None = ...,
) -> tuple[xr.DataArray, Truth]: ...
def simulate(
    features: Any = None,
    modality: Modality = "spikes",
    *,
    n_stimuli: int | None = None,
    n_units: int | None = None,
    n_repeats: int = 1,
    snr: ArrayLike = 0.5,
    sfreq: float | None = None,
    output: Output = "trials",
    return_truth: bool = False,
    random_state: int | np.random.Generator | None = None,
) -> xr.DataArray | tuple[xr.DataArray, Truth]:
    r"""Simulate a recording of units that read given features, with a known noise ceiling.

    A unit's drive is a random sparse sum of z-scored features. **Neurons** count Poisson spikes at a rate that is
    exponential in the drive. **Voxels** respond in proportion to it, with Gaussian noise a trial; continuous, they
    pass events through a haemodynamic response, with AR(1) noise, drift and runs. **Sensors** see dipoles through
    MNE's sphere model, each region with its own latency, in white noise.

    Parameters
    ----------
    features
        stimuli × features: an array ``presentation × neuroid`` (its presentation labels are kept), numpy or torch;
        or a mapping of region name to such, all of the same stimuli: each region reads its own. Default: random
        Gaussian features.
    modality
        ``"spikes"`` (counts), ``"fmri"`` (a.u.), ``"eeg"`` (V) or ``"meg"`` (T).
    n_stimuli
        Without ``features``: how many stimuli, 100 by default.
    n_units
        Neurons, voxels (shared out evenly among regions) or sensors; 50, 200, 32 and 102 by default. Electrodes
        are of the smallest BioSemi cap that has so many, sensors are magnetometers of a Neuromag helmet.
    n_repeats
        Presentations of each stimulus. Continuous: as many runs, each with all stimuli in random order.
    snr
        Variance of the expected response over stimuli, divided by the variance of a trial's noise: for neurons
        reached by the gain, exactly; for sensors the mean over sensors at the strongest time. One number, or one
        for each neuron or voxel. Continuous: over scans.
    sfreq
        Hz: samples of an epoch (100), or scans of a continuous recording (0.5).
    output
        ``"trials"``, or ``"continuous"`` for voxels: the signal at each ``time_bin_start`` (``reference=0`` of
        :func:`cerebridge.encoding.convolve_hrf`), with ``run`` and
        ``stimulus_id`` (empty between events) along ``time_bin``; time starts anew in each run.
    return_truth
        Return a :class:`Truth` too.
    random_state
        Seed or generator.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid [× time_bin]`` or ``time_bin × neuroid``. Neurons and voxels carry
        ``true_ceiling`` along ``neuroid``, in the unit of a correlation: of the expected response with the average
        of ``n_repeats``, :math:`\sqrt{V / (V + N / n)}` with signal variance V and mean noise variance N; and
        ``true_ceiling_single``, with one trial. Voxels and sensors have ``x``, ``y``, ``z`` in mm.
    truth : Truth
        If asked for.

    Raises
    ------
    ValueError
        If features are missing, constant or not of the same stimuli, or an option is out of range.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> neurons = neuro.simulate(n_stimuli=6, n_units=3, n_repeats=2, random_state=0)
    >>> neurons.shape, neurons.attrs["units"]
    ((12, 3), 'spikes')
    >>> voxels, truth = neuro.simulate(
    ...     modality="fmri", n_stimuli=8, output="continuous", return_truth=True, random_state=0
    ... )
    >>> voxels.dims, len(truth.events)
    (('time_bin', 'neuroid'), 8)
    """
    _check_options(modality, output, sfreq, n_stimuli=n_stimuli, n_units=n_units, n_repeats=n_repeats)
    rng = np.random.default_rng(random_state)
    if features is not None and n_stimuli is not None:
        raise ValueError("simulate was given both features and n_stimuli; leave n_stimuli out.")
    if features is None:
        features = rng.standard_normal((n_stimuli or 100, N_FEATURES))
    driver = Driver.of(features)
    n_units = n_units or N_UNITS[modality]
    if modality in ("eeg", "meg"):
        array, truth = _sensors(driver, modality, n_units, n_repeats, snr, sfreq or SFREQ[modality], rng)
    elif output == "continuous":
        array, truth = _scans(driver, n_units, n_repeats, snr, sfreq or SFREQ[modality], rng)
    else:
        array, truth = _trials(driver, modality, n_units, n_repeats, snr, rng)
    return (array, truth) if return_truth else array


def _trials(
    driver: Driver, modality: str, n_units: int, n_repeats: int, snr: ArrayLike, rng: np.random.Generator
) -> tuple[xr.DataArray, Truth]:
    """Neurons or voxels, one response a presentation."""
    drive, weights, neuroid = driver.units(n_units, rng)
    ratio = _ratio(snr, n_units)
    shape = (n_repeats, *drive.shape)
    if modality == "spikes":
        rate = np.exp(TUNING * drive)
        # Poisson variance is the rate, so the signal-to-noise ratio grows with the gain alone
        expected = rate * ratio * rate.mean(axis=0) / rate.var(axis=0, ddof=1)
        noise = expected.mean(axis=0)
        values = rng.poisson(expected, size=shape).astype(float)
    else:
        expected = 1 + TUNING * drive
        noise = expected.var(axis=0, ddof=1) / ratio
        values = expected + np.sqrt(noise) * rng.standard_normal(shape)
        neuroid |= _grid(n_units)
    signal = expected.var(axis=0, ddof=1)
    neuroid["true_ceiling"] = _correlation(signal, noise / n_repeats)
    neuroid["true_ceiling_single"] = _correlation(signal, noise)
    array = assemble(
        values.reshape(-1, n_units),
        presentation=_presentations(driver, n_repeats, modality),
        neuroid=neuroid,
        modality=modality,
        units=UNITS[modality],
        provenance="simulated",
    )
    return array, _truth(driver, array, expected, TUNING * weights, neuroid["true_ceiling"])


def _scans(
    driver: Driver, n_units: int, n_runs: int, snr: ArrayLike, sfreq: float, rng: np.random.Generator
) -> tuple[xr.DataArray, Truth]:
    """Voxels, one value a scan."""
    drive, weights, neuroid = driver.units(n_units, rng)
    expected = 1 + TUNING * drive
    ids = driver.stimuli["stimulus_id"].astype(str)
    events, starts, labels = schedule(ids, n_runs, sfreq, rng)
    n_scans = starts.size
    bold = np.vstack([design(run, starts, ids) for _, run in events.groupby("run")]) @ expected
    signal = bold.reshape(n_runs, n_scans, n_units).var(axis=1).mean(axis=0)
    noise = signal / _ratio(snr, n_units)
    wander = noise_and_drift(n_runs, n_scans, n_units, rng)
    values = 100 + bold + (wander * np.sqrt(noise)).reshape(-1, n_units)
    neuroid |= _grid(n_units) | {"true_ceiling": _correlation(signal, noise)}
    array = assemble(
        values,
        time_bin={
            "time_bin_start": np.tile(starts, n_runs),
            "time_bin_end": np.tile(starts + 1 / sfreq, n_runs),
            "run": np.repeat(np.arange(1, n_runs + 1), n_scans),
            "stimulus_id": labels,
        },
        neuroid=neuroid,
        modality="fmri",
        units=UNITS["fmri"],
        sfreq=sfreq,
        provenance="simulated",
    )
    return array, _truth(driver, array, expected, TUNING * weights, neuroid["true_ceiling"], events=events)


def _sensors(
    driver: Driver,
    modality: str,
    n_units: int,
    n_repeats: int,
    snr: ArrayLike,
    sfreq: float,
    rng: np.random.Generator,
) -> tuple[xr.DataArray, Truth]:
    """Electrodes or magnetometers around dipoles in a sphere."""
    if np.ndim(snr):
        raise ValueError("snr of sensors is one number, because all sensors see the same sources.")
    regions = list(driver.regions)
    gain, neuroid = sphere(modality, n_units, len(regions), SOURCES, rng)
    times = np.arange(round(EPOCH[0] * sfreq), round(EPOCH[1] * sfreq)) / sfreq
    middle = times + 0.5 / sfreq
    expected = np.zeros((driver.features.sizes["presentation"], n_units, times.size))
    weights = np.zeros((n_units, driver.features.sizes["neuroid"]))
    for k, region in enumerate(regions):
        drive, read = driver.read(region, SOURCES, rng)
        course = np.exp(-0.5 * ((middle - PEAK - k * DELAY) / WIDTH) ** 2) * (middle > 0)
        expected += (MOMENT * drive @ gain[k].T)[:, :, None] * course
        weights += MOMENT * gain[k] @ read
    signal = expected.var(axis=0, ddof=1)
    noise = float(signal.mean(axis=0).max() / _ratio(snr, 1)[0])
    values = expected + np.sqrt(noise) * rng.standard_normal((n_repeats, *expected.shape))
    array = assemble(
        values.reshape(-1, *expected.shape[1:]),
        presentation=_presentations(driver, n_repeats, modality),
        neuroid=neuroid,
        time_bin={"time_bin_start": times, "time_bin_end": times + 1 / sfreq},
        modality=modality,
        units=UNITS[modality],
        provenance="simulated",
    )
    return array, _truth(driver, array, expected, weights, _correlation(signal, noise / n_repeats))


def _truth(
    driver: Driver,
    array: xr.DataArray,
    expected: Array,
    weights: Array,
    ceiling: Array,
    events: pd.DataFrame | None = None,
) -> Truth:
    tables = {
        dim: {str(n): c.values for n, c in array.coords.items() if c.dims == (dim,) and n not in CEILINGS}
        for dim in ("neuroid", "time_bin")
    }
    response = assemble(
        expected,
        presentation=driver.stimuli,
        neuroid=tables["neuroid"],
        time_bin=tables["time_bin"] if expected.ndim == 3 else None,
        modality=array.attrs["modality"],
        units=array.attrs["units"],
        provenance="simulated, without noise",
    )
    unit = response.isel(presentation=0, drop=True)
    read = {str(n): c.values for n, c in driver.features.coords.items() if c.dims == ("neuroid",)}
    return Truth(
        features=driver.features,
        response=response,
        weights=xr.DataArray(
            weights,
            dims=("neuroid", "feature"),
            coords={n: ("neuroid", labels) for n, labels in tables["neuroid"].items()}
            | {f"feature_{n.removeprefix('neuroid_')}": ("feature", labels) for n, labels in read.items()},
            name="weights",
        ),
        ceiling=xr.DataArray(ceiling, dims=unit.dims, coords=unit.coords, name="ceiling"),
        events=events,
    )


def _presentations(driver: Driver, n_repeats: int, modality: str) -> dict[str, NDArray[Any]]:
    repetition = np.repeat(np.arange(n_repeats), driver.features.sizes["presentation"])
    labels = {name: np.tile(values, n_repeats) for name, values in driver.stimuli.items()} | {
        "repetition": repetition
    }
    return labels | {"run": repetition + 1} if modality == "fmri" else labels


def _check_options(modality: str, output: str, sfreq: float | None, **counts: int | None) -> None:
    if modality not in UNITS:
        raise ValueError(f"modality is {modality!r}; it must be one of {', '.join(map(repr, UNITS))}.")
    if output not in ("trials", "continuous"):
        raise ValueError(f"output is {output!r}; it must be 'trials' or 'continuous'.")
    if output == "continuous" and modality != "fmri":
        raise ValueError(f"only 'fmri' can be continuous; use output='trials' for {modality!r}.")
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}; it must be 1 at least.")
    slowest = 1 / min(GAPS) if output == "continuous" else 0
    if sfreq is not None and sfreq <= slowest:
        raise ValueError(
            f"sfreq is {sfreq} Hz; it must be above {slowest:.2g}, so that scans tell events apart."
        )


def _ratio(snr: ArrayLike, n_units: int) -> Array:
    """Signal-to-noise ratios, one a unit."""
    ratio = np.asarray(snr, dtype=float)
    if ratio.ndim > 1 or ratio.size not in (1, n_units):
        raise ValueError(
            f"snr has the shape {ratio.shape}; give one number, or one for each of the {n_units} units."
        )
    if not (np.isfinite(ratio) & (ratio > 0)).all():
        raise ValueError("snr must be above 0 and finite everywhere.")
    return np.broadcast_to(ratio, n_units)


def _correlation(signal: Array, noise: Array | float) -> Array:
    """Correlation of a signal with itself plus independent noise, from their variances; 0 without signal."""
    share = np.divide(signal, signal + noise, out=np.zeros_like(signal), where=signal > 0)
    return cast(Array, np.sqrt(share))


def _grid(n_units: int, step: float = 2.0) -> dict[str, Array]:
    """Places in mm on a cube of voxels about the origin."""
    edge = int(np.ceil(n_units ** (1 / 3)))
    places = np.stack(np.unravel_index(np.arange(n_units), (edge, edge, edge)), axis=1)
    return dict(zip("xyz", (step * (places - (edge - 1) / 2)).T, strict=True))
