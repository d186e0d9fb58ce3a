"""Inner products of all stimuli, layer by layer, without ever holding or storing the features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..neuro.assembly import assemble
from ..neuro.store import load as load_array
from ..neuro.store import save as save_array
from .batches import Preprocess, cut_rows
from .collecting import check_finite, check_shape
from .limits import resolve_batch_size
from .loading import describe_network
from .memory import parse_bytes
from .plans import GRAM_COLUMNS, plan_gram
from .pooling import Pool
from .stimuli import StimulusSet
from .taps import evaluating
from .trials import Setup, Trial


def extract_gram(
    net: nn.Module,
    stimuli: StimulusSet,
    layers: Sequence[str],
    *,
    store: str | Path | None = None,
    pool: Pool = None,
    preprocess: Preprocess | None = None,
    batch_size: int | Literal["auto"] = "auto",
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    allow_nondeterministic: bool = False,
    progress: bool | None = None,
) -> xr.DataArray:
    """Inner products of the features of all pairs of stimuli in each layer, and nothing else.

    All that dissimilarities by Euclidean distance, cosine or correlation, linear CKA and ridge regression in its dual
    form need. Layers are cut into stretches of features that fit into memory for all stimuli at once; the network
    runs once for each pass, as far as the last layer of that pass. Products in single precision of features without
    their mean over stimuli; sums, and what the means add, in double precision.

    Parameters
    ----------
    net, stimuli, layers, pool, preprocess, batch_size, device, allow_nondeterministic, progress
        As of :func:`extract`.
    store
        A folder that keeps the matrix of each layer as soon as it is complete, so that a run that was interrupted
        goes on with the layers that are missing.
    memory
        What a run may take beside the network and the result. See :func:`plan_extraction` with ``gram=True`` for
        passes and time.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid`` in float64, modality ``"gram"``: one block of stimuli × stimuli a layer. Labels
        along ``neuroid``: ``layer``, ``stimulus_b`` (the other stimulus), ``feature_mean`` (its mean over the
        features of the layer) and ``n_features``. :func:`cerebridge.encoding.rsa.rdm` and
        ``rsa.compare_representations`` take it with ``by="layer"``.

    Raises
    ------
    ValueError
        Naming the layer, stimulus or option that is wrong, or the file that holds something else.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> net = models.load("tiny", weights="random")
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((5, 32, 32, 3), np.uint8))
    >>> grams = models.extract_gram(net, stimuli, ["conv1", "readout"])
    >>> grams.attrs["modality"], grams.shape
    ('gram', (5, 10))
    """
    budget, size = parse_bytes(memory), resolve_batch_size(batch_size)
    setup = Setup.of(net, stimuli, layers, pool=pool, preprocess=preprocess, device=device, progress=progress)
    # a layer's matrix depends on this alone, whatever others are asked for beside it
    facts = {key: value for key, value in setup.facts.items() if key != "layers"}
    facts |= {"stimuli": stimuli.hash}
    n = len(stimuli)
    values = np.zeros((n, n * len(setup.layers)))
    blocks = {
        layer: _Block(layer, values[:, k * n : (k + 1) * n], setup.device)
        for k, layer in enumerate(setup.layers)
    }
    folder = None if store is None else Path(store)
    missing = [each.layer for each in blocks.values() if folder is None or not each.restore(folder, facts)]
    if missing:
        with evaluating(net, setup.device):
            trial = setup.only(missing).try_out(allow_nondeterministic)
            plan = plan_gram(trial, n, memory=budget, batch_size=size, device=setup.device)
            feeding = setup.keeping(plan.kept_rows)
            for chosen in plan.passes:
                _run(feeding, trial, chosen, plan.batch_size, blocks)
                for block in (blocks[layer] for layer in chosen):
                    if folder is not None and block.n_features == trial.size(block.layer):
                        block.save(folder, stimuli, facts)
    neuroid = pd.concat([block.neuroid(stimuli) for block in blocks.values()], ignore_index=True)
    versions = {"torch": torch.__version__, "cerebridge": __version__}
    provenance = json.dumps({**describe_network(net), **facts, "layers": setup.layers, **versions})
    return _labelled(values, stimuli, neuroid, provenance)


class _Block:
    """The Gram matrix of one layer while stretches of its features come in.

    Parameters
    ----------
    layer
        Its name.
    gram
        Where the matrix goes; zeros.
    device
        Where features come from.
    """

    def __init__(self, layer: str, gram: NDArray[np.float64], device: torch.device) -> None:
        self.layer, self._gram = layer, gram
        # Metal has no double precision
        self._home = torch.device("cpu") if device.type == "mps" else device
        self._total = np.zeros(len(gram))
        #: so many have come
        self.n_features = 0

    def add(self, values: Tensor) -> None:
        """Take a stretch of features of all stimuli, ``stimuli × features``."""
        sums = torch.zeros(self._gram.shape, dtype=torch.float64, device=self._home)
        total = sums.new_zeros(len(sums))
        for columns in values.split(GRAM_COLUMNS, dim=1):
            mean = columns.mean(0)
            rest = columns - mean
            # with features a = m + r: <a, b> = <m, m> + <m, r_a> + <m, r_b> + <r_a, r_b>, where rounding of the last,
            # the only product of many pairs, is small beside what all stimuli share
            sums += (rest @ rest.T).to(self._home)
            own = (rest @ mean).to(self._home).double()
            sums += own + mean.to(self._home).double().square().sum()
            sums += own[:, None]
            total += columns.to(self._home).sum(1, dtype=torch.float64)
        self._gram += sums.cpu().numpy()
        self._total += total.cpu().numpy()
        self.n_features += values.shape[1]

    def neuroid(self, stimuli: StimulusSet) -> pd.DataFrame:
        """The labels of its columns."""
        ids = stimuli.table["stimulus_id"]
        return pd.DataFrame(
            {
                "neuroid_id": [f"{self.layer}/{stimulus}" for stimulus in ids],
                "layer": self.layer,
                "stimulus_b": ids.to_numpy(),
                "feature_mean": self._total / self.n_features,
                "n_features": self.n_features,
            }
        )

    def save(self, folder: Path, stimuli: StimulusSet, facts: Mapping[str, Any]) -> None:
        """Write the complete matrix to a file of its own."""
        provenance = json.dumps({**facts, "layer": self.layer})
        save_array(self._file(folder), _labelled(self._gram, stimuli, self.neuroid(stimuli), provenance))

    def restore(self, folder: Path, facts: Mapping[str, Any]) -> bool:
        """Take the matrix that an earlier run left, and say whether there was one."""
        folder.mkdir(parents=True, exist_ok=True)
        path = self._file(folder)
        if not path.exists():
            return False
        array = load_array(path)
        known = json.loads(array.attrs["provenance"])
        for key, value in {**facts, "layer": self.layer}.items():
            if known.get(key) != value:
                raise ValueError(
                    f"{path} was made with {key} = {known.get(key)!r}, now it is {value!r}; use another folder or "
                    "delete it."
                )
        self._gram[:] = array.values
        self.n_features = int(array.coords["n_features"].values[0])
        self._total = array.coords["feature_mean"].values * self.n_features
        return True

    def _file(self, folder: Path) -> Path:
        return folder / f"{self.layer.replace('/', '_').replace(':', '_')}.nc"


def _labelled(
    values: NDArray[np.float64], stimuli: StimulusSet, neuroid: pd.DataFrame, provenance: str
) -> xr.DataArray:
    return assemble(
        values,
        presentation=stimuli.table,
        neuroid=neuroid,
        modality="gram",
        units="a.u.",
        provenance=provenance,
    )


def _run(
    setup: Setup, trial: Trial, chosen: Mapping[str, slice], batch_size: int, blocks: Mapping[str, _Block]
) -> None:
    """Collect stretches of features of all stimuli, and add their products."""
    stimuli = setup.feed.stimuli
    ids = stimuli.table["stimulus_id"].tolist()
    held = {
        layer: torch.empty((len(stimuli), part.stop - part.start), device=setup.device)
        for layer, part in chosen.items()
    }

    def receive(rows: range, layer: str, output: Tensor) -> None:
        check_shape(layer, output.shape, (len(rows), *trial.shapes[layer]))
        held[layer][rows.start : rows.stop] = output.flatten(1)[:, chosen[layer]]

    batches = cut_rows(range(len(stimuli)), batch_size)
    for _ in setup.sweep(list(chosen), batches, receive, "inner products"):
        pass
    for layer in chosen:
        check_finite(layer, held[layer], range(len(stimuli)), ids)
        blocks[layer].add(held.pop(layer))
