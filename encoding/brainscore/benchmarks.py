"""Benchmarks of one's own: a folder with recordings and stimuli, scored as Brain-Score scores, without a network."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from torch import nn

from ...models.activations import extract
from ...models.stimuli import StimulusSet
from ...neuro.alignment import average_repeats
from ...neuro.interchange import import_brainscore, to_brainscore
from ...neuro.progress import track
from ..results import Result
from .metrics import load_metric
from .models import Subject
from .recordings import Description, read_recordings, read_stimuli
from .scores import normalise, to_result
from .stimuli import place_on_screen, to_stimulus_set


def read_benchmark(folder: str | Path) -> LocalBenchmark:
    """Make a folder with recordings and stimuli a benchmark.

    The folder holds ``benchmark.toml``::

        identifier = "Cowley2023.V4-ridge"      # required, as the next three
        region = "V4"
        recordings = "recordings.nc"            # of neuro.save; or "responses.npy" (presentations × neuroids)
        stimuli = "images.zip"                  # a folder, .zip or .csv; ids are paths within it
        metric = "ridge"                        # any of load_metric
        ceiling = "internal_consistency"        # from repeats; or "rsa_ceiling", or a number
        visual_degrees = 8
        time_bin = [0.07, 0.17]                 # seconds
        licence = "GPL-3.0"
        citation = "@article{…}"
        [metric_options]
        alpha = 1.0
        [metric_options.crossvalidation_kwargs]
        splits = 10
        train_size = 0.9
        stratification_coord = "object_name"    # only where presentations or stimuli have such a column

    Beside ``responses.npy`` lie ``presentations.csv`` (``stimulus_id``, optionally ``repetition`` and labels; entry
    ``presentations``) and, optionally, a table of neuroids (entry ``neuroids``). Single repeats stay single: they
    give the ceiling; scored are their averages.

    Parameters
    ----------
    folder
        The folder.

    Returns
    -------
    LocalBenchmark
        ``benchmark(model)``, ``.ceiling``, ``.identifier``, ``.score_layers(net, layers)``.

    Raises
    ------
    FileNotFoundError
        If the folder, its description or what that names is missing.
    ValueError
        If something does not fit, in one sentence.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> temporary = tempfile.TemporaryDirectory()
    >>> folder = Path(temporary.name)
    >>> (folder / "images").mkdir()
    >>> for i in range(40):
    ...     Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"images/{i:02d}.png")
    >>> ids = [f"{i:02d}.png" for i in range(40) for _ in range(4)]
    >>> rows = "\\n".join(["stimulus_id", *ids])
    >>> _ = (folder / "presentations.csv").write_text(rows)
    >>> signal = np.repeat(rng.standard_normal((40, 5)), 4, axis=0)
    >>> np.save(folder / "responses.npy", signal + 0.5 * rng.standard_normal(signal.shape))
    >>> text = 'identifier = "toy"\\nregion = "V4"\\nrecordings = "responses.npy"\\nstimuli = "images"'
    >>> _ = (folder / "benchmark.toml").write_text(text)
    >>> benchmark = encoding.brainscore.read_benchmark(folder)
    >>> benchmark.identifier, 0.8 < benchmark.ceiling.item() < 1
    ('toy', True)
    >>> temporary.cleanup()
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; check the path of the benchmark.")
    description = Description.read(folder)
    stimuli = read_stimuli(folder, description)
    recordings = read_recordings(folder, description, stimuli)
    shown = stimuli.table["stimulus_id"].isin(pd.unique(recordings["stimulus_id"].values))
    return LocalBenchmark(description, stimuli[np.flatnonzero(shown.to_numpy())], recordings)


@dataclass(frozen=True, eq=False)
class LocalBenchmark:
    """A benchmark with data of one's own; made by :func:`read_benchmark`.

    Parameters
    ----------
    description
        What is scored, and how.
    stimuli
        What was shown.
    recordings
        Single presentations, ``presentation × neuroid``.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding, models, neuro
    >>> from cerebridge.encoding.brainscore.recordings import Description
    >>> brain = neuro.simulate(n_stimuli=30, n_units=4, n_repeats=4, random_state=0)
    >>> names = np.unique(brain.stimulus_id.values)
    >>> images = np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3), np.uint8)
    >>> stimuli = models.StimulusSet.from_arrays(images, names)
    >>> benchmark = encoding.brainscore.LocalBenchmark(Description("toy", "V4", "", ""), stimuli, brain)
    >>> net = models.load("tiny", weights="random")
    >>> benchmark.score_layers(net, ["conv3"], pool="global", progress=False).score.sizes["unit"]
    4
    """

    description: Description
    stimuli: StimulusSet
    recordings: xr.DataArray

    @property
    def identifier(self) -> str:
        """Name the benchmark."""
        return self.description.identifier

    @property
    def region(self) -> str:
        """Say where was recorded from."""
        return self.description.region

    @property
    def version(self) -> int:
        """Count the versions of the data."""
        return self.description.version

    @property
    def bibtex(self) -> str:
        """Give the citation."""
        return self.description.citation

    @property
    def parent(self) -> str:
        """Say under what the benchmark belongs."""
        return self.region

    @cached_property
    def assembly(self) -> xr.DataArray:
        """What is predicted: averages over repeats."""
        return average_repeats(self.recordings)

    @cached_property
    def metric(self) -> Any:
        """What compares a model with the recording."""
        options = dict(self.description.metric_options)
        splits = dict(options.pop("crossvalidation_kwargs", {}))
        drawn = load_metric(self.description.metric)
        if getattr(drawn, "crossvalidation", None) is None:
            return load_metric(self.description.metric, **options)
        if "object_name" not in self.assembly.coords:
            splits.setdefault("stratification_coord", None)
        return load_metric(self.description.metric, crossvalidation_kwargs=splits, **options)

    @cached_property
    def ceiling(self) -> Any:
        """The highest share of variance that a model can explain (of RDMs: the highest correlation), with ``raw``.

        Raises
        ------
        ValueError
            If it is to be estimated from repeats or people that are not there.
        """
        ceiling = self.description.ceiling
        if not isinstance(ceiling, str):
            return xr.DataArray(float(ceiling))
        if ceiling == "internal_consistency" and "repetition" not in self.recordings.coords:
            raise ValueError(
                f"the recordings of {self.identifier} have no repeats, which a ceiling is estimated from; give single "
                "presentations, or a number as ceiling in benchmark.toml."
            )
        return load_metric(ceiling)(self.recordings if ceiling == "internal_consistency" else self.assembly)

    def __call__(self, candidate: Any) -> Any:
        """Score a model, ours (:func:`~cerebridge.encoding.brainscore.to_model`) or Brain-Score's.

        Returns
        -------
        xarray.DataArray
            The share of the ceiling that is explained (the squared correlation over the ceiling; of RDMs and kernel
            alignment the value over the ceiling), with ``raw``, ``ceiling`` and ``error`` among the attributes.

        Raises
        ------
        ValueError
            If the model has nothing for the region.
        """
        if not hasattr(candidate, "look_at"):
            raise TypeError(
                f"a benchmark takes a BrainModel, got {type(candidate).__name__}; make one with "
                "encoding.brainscore.to_model, or score layers with score_layers."
            )
        time_bin = tuple(round(1000 * seconds) for seconds in self.description.time_bin)
        candidate.start_recording(self.region, time_bins=[time_bin])
        stimuli = place_on_screen(self.stimuli, candidate.visual_degrees(), self.description.visual_degrees)
        if isinstance(candidate, Subject):
            source = candidate.look_at(stimuli)
        else:
            with tempfile.TemporaryDirectory(prefix="brainscore-") as folder:
                source = candidate.look_at(to_stimulus_set(stimuli, folder), number_of_trials=1)
        return self._scored(source)

    def score_layers(
        self, net: nn.Module, layers: str | Sequence[str], *, progress: bool | None = None, **extraction: Any
    ) -> Result:
        """Score layers of a network, shown the stimuli as they are.

        Parameters
        ----------
        net
            The network.
        layers
            Names of ``net.named_modules()``.
        progress
            A progress bar; ``None`` (default) where standard error is a terminal.
        extraction
            For :func:`cerebridge.models.extract`: ``preprocess``, ``pool``, ``store``, ``memory``, ….

        Returns
        -------
        Result
            ``score`` is layer × split × neuroid in correlations, beside ``ceiling`` and ``normalised`` and
            ``benchmark_score``, the benchmark's own score of each layer.
        """
        layers = [layers] if isinstance(layers, str) else list(layers)
        activations = extract(net, self.stimuli, layers, progress=progress, **extraction)
        owner = activations["layer"].values
        scores = {
            layer: self._scored(activations.isel(neuroid=np.flatnonzero(owner == layer)).load())
            for layer in track(layers, "scoring layers", show=progress)
        }
        return to_result(scores, self)

    @property
    def squared(self) -> bool:
        """Say whether scores are correlations with predictions, which are squared before the ceiling divides them."""
        return hasattr(self.metric, "predict")

    def compare(self, source: Any, target: Any) -> Any:
        """Compare a model with a recording before the ceiling; person by person where the ceiling is that of people.

        Returns
        -------
        xarray.DataArray or Score
            The metric's; the mean over people has ``subject_scores`` among its attributes.
        """
        if self.description.ceiling != "rsa_ceiling":
            return self.metric(source, target)
        people = np.asarray(target["subject"].values)
        scores = [
            self.metric(source, target.isel(neuroid=np.flatnonzero(people == person)))
            for person in np.unique(people)
        ]
        values = [float(score) for score in scores]
        mean = type(scores[0])(np.mean(values))
        mean.attrs["subject_scores"] = values
        return mean

    def _scored(self, source: Any) -> Any:
        ceiling = self.ceiling
        return normalise(self.compare(source, self.assembly), ceiling, squared=self.squared)


def to_benchmark(benchmark: LocalBenchmark, folder: str | Path) -> Any:
    """Convert a benchmark of one's own into a ``NeuralBenchmark`` of Brain-Score's, with our engine as its metric.

    Parameters
    ----------
    benchmark
        Of :func:`read_benchmark`.
    folder
        Where images go that lie in no file of their own; it must outlive the result.

    Returns
    -------
    NeuralBenchmark
        Which scores any ``BrainModel``.

    Raises
    ------
    ImportError
        If Brain-Score is not installed.

    Examples
    --------
    >>> from cerebridge import encoding
    >>> local = encoding.brainscore.read_benchmark("V4")  # doctest: +SKIP
    >>> encoding.brainscore.to_benchmark(local, "images")(model)  # doctest: +SKIP
    """
    helpers = import_brainscore("brainscore_vision.benchmark_helpers.neural_common")
    score_class = import_brainscore("brainscore_core.metrics").Score
    # activations that a user of Brain-Score keeps are found by this name, which other images must not share
    named = f"{benchmark.identifier}.{benchmark.stimuli.hash[:8]}"
    stimuli = to_stimulus_set(benchmark.stimuli, folder, named)
    assembly = _in_time(benchmark.assembly, benchmark.description.time_bin)
    assembly.attrs.update(stimulus_set=stimuli, stimulus_set_identifier=named)

    def ceiling() -> Any:
        found = benchmark.ceiling
        attrs: Mapping[str, Any] = {
            key: score_class(value) if isinstance(value, xr.DataArray) else value
            for key, value in found.attrs.items()
        }
        score = score_class(found.values)
        score.attrs.update(attrs)
        return score

    def divided(self: Any, candidate: Any) -> Any:
        found = helpers.NeuralBenchmark.__call__(self, candidate)  # which squares whatever the metric gives
        return normalise(found.attrs["raw"], found.attrs["ceiling"], squared=False)

    kind = helpers.NeuralBenchmark
    if not benchmark.squared:
        kind = type("DividedBenchmark", (kind,), {"__call__": divided, "__module__": __name__})
    return kind(
        identifier=benchmark.identifier,
        assembly=assembly,
        similarity_metric=benchmark.compare,
        visual_degrees=benchmark.description.visual_degrees,
        number_of_trials=1,
        version=benchmark.version,
        ceiling_func=ceiling,
        parent=benchmark.parent,
        bibtex=benchmark.bibtex,
    )


def _in_time(array: xr.DataArray, time_bin: tuple[float, float]) -> Any:
    """An assembly whose single time bin has been squeezed away, as Brain-Score's benchmarks have them."""
    timed = array.expand_dims("time_bin", axis=2).assign_coords(
        time_bin_start=("time_bin", [time_bin[0]]), time_bin_end=("time_bin", [time_bin[1]])
    )
    timed.attrs.update({key: value for key, value in array.attrs.items() if key != "stimulus_set"})
    return to_brainscore(timed).squeeze("time_bin")
