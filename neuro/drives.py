"""What drives simulated units: random sparse readouts of given features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import assemble, validate

#: features that one unit reads
READS = 10


@dataclass(frozen=True)
class Driver:
    """The features side by side, the region that reads each of them, and the stimuli's labels."""

    features: xr.DataArray
    stimuli: dict[str, NDArray[Any]]
    regions: dict[str, NDArray[np.intp]]
    named: bool

    @classmethod
    def of(cls, features: Any) -> Driver:
        """From stimuli × features, or a mapping of region name to such."""
        named = isinstance(features, Mapping)
        if named and not features:
            raise ValueError("features is an empty mapping; give at least one region.")
        parts = {str(k): _labelled(v, str(k)) for k, v in (features if named else {"all": features}).items()}
        first_name, first = next(iter(parts.items()))
        for name, part in parts.items():
            if not np.array_equal(part.coords["stimulus_id"].values, first.coords["stimulus_id"].values):
                raise ValueError(
                    f"the features of {name!r} and {first_name!r} are of different stimuli; "
                    "align them first (neuro.align)."
                )
        stimuli = {
            str(name): coord.values
            for name, coord in first.coords.items()
            if coord.dims == ("presentation",) and name not in ("repetition", "n_repeats", "run")
        }
        sizes = [part.sizes["neuroid"] for part in parts.values()]
        edges = np.cumsum([0, *sizes])
        table: dict[str, Any] = {"neuroid_id": np.arange(edges[-1])}
        if named:
            table["region"] = np.repeat(list(parts), sizes)
        else:
            table |= {str(n): c.values for n, c in first.coords.items() if c.dims == ("neuroid",)}
        joined = assemble(
            np.concatenate([part.values for part in parts.values()], axis=1),
            presentation=stimuli,
            neuroid=table,
            modality="activation",
            units="a.u.",
        )
        regions = {name: np.arange(edges[k], edges[k + 1]) for k, name in enumerate(parts)}
        return cls(joined, stimuli, regions, named)

    def read(
        self, region: str, n_units: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Drives (stimuli × units, of variance 1) of random units of a region, and their weights (units × features)."""
        columns = self.regions[region]
        values = self.features.values[:, columns]
        center, spread = values.mean(axis=0, dtype=float), values.std(axis=0, dtype=float)
        varying = np.flatnonzero((values != values[:1]).any(axis=0))
        if varying.size == 0:
            raise ValueError(
                f"the features of {region!r} are the same for all stimuli; nothing can follow them."
            )
        n_read = min(READS, varying.size)
        chosen = np.stack([rng.choice(varying, n_read, replace=False) for _ in range(n_units)])
        readout = rng.standard_normal(chosen.shape)
        drive = np.einsum("suk,uk->su", (values[:, chosen] - center[chosen]) / spread[chosen], readout)
        scale = drive.std(axis=0, ddof=1)
        weights = np.zeros((n_units, self.features.sizes["neuroid"]))
        np.put_along_axis(weights, columns[chosen], readout / scale[:, None], axis=1)
        return drive / scale, weights

    def units(
        self, n_units: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, Any]]:
        """Drives, weights and labels of units that are shared out among the regions."""
        if n_units < len(self.regions):
            raise ValueError(
                f"n_units is {n_units}, but there are {len(self.regions)} regions; ask for one unit each at least."
            )
        shares = [len(share) for share in np.array_split(np.arange(n_units), len(self.regions))]
        read = [self.read(region, n, rng) for region, n in zip(self.regions, shares, strict=True)]
        labels: dict[str, Any] = {"neuroid_id": np.arange(n_units)}
        if self.named:
            labels["region"] = np.repeat(list(self.regions), shares)
        return np.hstack([drive for drive, _ in read]), np.vstack([weights for _, weights in read]), labels


def _labelled(features: Any, region: str) -> xr.DataArray:
    """Features as an array with finite values and unique stimuli."""
    if not isinstance(features, xr.DataArray):
        values = np.asarray(features.detach().cpu() if hasattr(features, "detach") else features)
        if values.ndim != 2:
            raise ValueError(f"the features of {region!r} have {values.ndim} axes; give stimuli × features.")
        features = assemble(
            values,
            presentation={"stimulus_id": [f"s{k:04d}" for k in range(len(values))]},
            neuroid={"neuroid_id": np.arange(values.shape[1])},
            modality="activation",
            units="a.u.",
        )
    validate(features)
    if features.dims != ("presentation", "neuroid"):
        raise ValueError(
            f"the features of {region!r} are {' × '.join(map(str, features.dims))}; give presentation × neuroid."
        )
    ids = pd.Series(features.coords["stimulus_id"].values)
    if ids.duplicated().any():
        raise ValueError(
            f"the features of {region!r} name the stimulus {ids[ids.duplicated()].tolist()[0]!r} twice; "
            "average them first (neuro.average_repeats)."
        )
    if len(ids) < 2:
        raise ValueError(f"the features of {region!r} are of one stimulus; give two at least.")
    wrong = ~np.isfinite(features.values).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"the features of {region!r} are not finite for the stimulus {ids[wrong].tolist()[0]!r}; leave it out."
        )
    return features
