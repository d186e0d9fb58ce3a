"""Network × sounds or films → activations over time, each row with the stretch of the clip that it saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..neuro.assembly import assemble, quoted
from ..neuro.layers import Layer, label_features
from ..neuro.progress import track
from .batches import map_inputs, preprocess_by_default, stack_inputs, tensors_of
from .clips import Clip
from .collecting import check_finite, check_shape
from .devices import resolve_device
from .limits import refuse_large_result, resolve_batch_size, resolve_kept_type
from .loading import describe_network
from .memory import LiveBytes, choose_batch, keep_freed_memory, parse_bytes
from .names import describe
from .pooling import Pool, resolve_pool
from .receptive import LONGEST_FIELD, FrameGrid, find_time_axis, measure_frames
from .segments import Loader, Windows, bring_to_rate
from .stimuli import StimulusSet
from .taps import Inputs, LayerTaps, evaluating
from .trials import warn_of_training
from .zoo import fingerprint

#: copies of one stretch in the trial run
PROBE = 2


def extract_over_time(
    net: nn.Module,
    stimuli: StimulusSet,
    layers: Sequence[str],
    *,
    rate: float | None = None,
    window: float | None = None,
    hop: float | None = None,
    causal: bool = True,
    aggregate: Literal["mean", "last"] = "mean",
    pool: Pool = None,
    preprocess: Callable[[Any], Any] | None = None,
    frames_first: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
    batch_size: int | Literal["auto"] = "auto",
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Extract the activations of a network while sounds or films pass by.

    Without ``window`` a sound enters whole, and each frame of the layers (which must have one rate) becomes a row;
    a film enters frame by frame, as images. With ``window`` the network sees a stretch of the clip every ``hop``
    seconds, and each stretch becomes a row; what lies before and after a clip is silence, or its outermost frame.

    Parameters
    ----------
    net
        A network of sounds (whose input the preprocessing makes of samples), of films (stretches of frames, with
        ``window``) or of images.
    stimuli
        ``StimulusSet.from_sounds`` or ``from_videos``. Where its table has ``run`` and ``onset`` (in seconds), clips
        lie on the clocks of their runs; else every clip is a run of its own that starts at 0.
    layers
        As for :func:`extract`.
    rate
        Samples or frames a second that the network takes: sounds are resampled (polyphase filter), of films the
        frame on the screen is taken. Default: the clips' own, which must be one.
    window, hop
        In seconds; ``hop`` is by default ``window``.
    causal
        Whether windows end where their hop ends (nothing to come is seen), or lie around it.
    aggregate
        Where a layer has frames within a window: their ``"mean"``, or the ``"last"``.
    pool
        As for :func:`extract`, of what remains of a layer without time.
    preprocess
        Of a sound it gets a :class:`Clip` (one channel), of a film each frame as a PIL image. Default:
        ``net.preprocess``, else samples as they are, and frames as ImageNet networks take them.
    frames_first
        Whether windows of films enter as frames × channels × height × width, or (default) channels first.
    dtype, batch_size, memory, device, progress
        As for :func:`extract`; ``batch_size`` counts windows or frames of films.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``: ``time_bin_start`` and ``time_bin_end`` say what a row saw. Frames of a sound: the
        receptive window of the widest layer, measured on noise; behind attention or a normalisation over time, where
        it is all of the clip, frames are placed evenly instead. ``run``, ``stimulus_id`` and the other columns of
        ``stimuli.table`` lie along ``time_bin``; ``sfreq`` is the rate of rows within a clip.

    Raises
    ------
    ValueError
        Naming the clip, layer or option that is wrong.

    Warns
    -----
    UserWarning
        If the network was given in training mode and behaves otherwise in evaluation mode.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cerebridge import models
    >>> net = torch.nn.Sequential(torch.nn.Conv1d(1, 4, kernel_size=20, stride=10), torch.nn.ReLU())
    >>> stimuli = models.StimulusSet.from_sounds([np.sin(np.arange(1000.0))], rate=1000)
    >>> frames = models.extract_over_time(net, stimuli, ["1"], preprocess=lambda sound: sound.values[None])
    >>> frames.shape, frames.attrs["sfreq"], frames["time_bin_end"].values[:2].tolist()
    ((99, 4), 100.0, [0.02, 0.03])
    """
    windows = _windows(stimuli, window, hop, causal, aggregate, rate)
    taps = LayerTaps(net, [layers] if isinstance(layers, str) else list(layers))
    prepare = cast(Callable[[Any], Any], preprocess or getattr(net, "preprocess", preprocess_by_default))
    first = next((weights for weights in net.parameters() if weights.is_floating_point()), torch.empty(0))
    job = _Recorder(
        taps=taps,
        windows=windows,
        prepare=prepare,
        input_type=first.dtype,
        frames_first=frames_first,
        aggregate=aggregate,
        pool=resolve_pool(pool, taps.layers),
        dtype=resolve_kept_type(dtype),
        device=resolve_device(device),
        batch_size=resolve_batch_size(batch_size),
        memory=parse_bytes(memory),
    )
    options = {"window": window, "hop": hop, "causal": causal, "aggregate": aggregate}
    facts: dict[str, Any] = {
        **describe_network(net),
        "network": type(net).__name__,
        "weights": fingerprint(net),
        "layers": taps.layers,
        "rate": rate,
        **(options if windows else {}),
        "pool": describe(pool),
        "preprocess": describe(prepare),
        "stimuli": stimuli.hash,
        "torch": torch.__version__,
        "cerebridge": __version__,
    }
    warn_of_training(net)
    with evaluating(net, job.device):
        recorded = list(job.record(stimuli, rate, progress))
    return _labelled(recorded, stimuli.table, job, facts)


@dataclass(frozen=True)
class _Recorded:
    """One clip's rows: each layer's values, what each row saw (seconds), and how often rows come."""

    values: Mapping[str, NDArray[Any]]
    edges: NDArray[np.float64]
    sfreq: float
    sees: Mapping[str, str]


@dataclass(frozen=True)
class _Recorder:
    """One network that listens or watches."""

    taps: LayerTaps
    windows: Windows | None
    prepare: Callable[[Any], Any]
    input_type: torch.dtype
    frames_first: bool
    aggregate: str
    pool: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    device: torch.device
    batch_size: int | None
    memory: int

    def record(self, stimuli: StimulusSet, rate: float | None, progress: bool | None) -> Iterator[_Recorded]:
        """Run the network over each clip."""
        keep_freed_memory()
        first = bring_to_rate(stimuli[0], rate)
        names = [f"the {first.kind} {name!r}" for name in stimuli.table["stimulus_id"]]
        grids: Mapping[str, FrameGrid] = {}
        axes: Mapping[str, int] = {}
        with _named(names[0]):
            if self.windows:
                axes = self._window_axes(first)
            elif first.kind == "sound":
                grids = self._measure(first)
        shapes: dict[str, tuple[int, ...]] = {}
        held = 0
        for row in track(range(len(stimuli)), "extracting", show=progress):
            clip = bring_to_rate(stimuli[row], rate) if row else first
            if clip.rate != first.rate:
                raise ValueError(
                    f"{names[row]} has {clip.rate:g} Hz, the first one {first.rate:g} Hz; give the rate= that "
                    "the network takes."
                )
            with _named(names[row]):
                recorded = self._whole(clip, grids) if grids else self._stretches(clip, axes)
            for layer, values in recorded.values.items():
                name = stimuli.table["stimulus_id"].iloc[row]
                check_finite(layer, torch.from_numpy(values), [0] * len(values), [name])
                check_shape(layer, values.shape[1:], shapes.setdefault(layer, values.shape[1:]))
                held += values.nbytes
            refuse_large_result(held, self.memory, "take fewer clips at a time, ")
            yield recorded

    def _measure(self, first: Clip) -> dict[str, FrameGrid]:
        """How the layers' frames lie over samples, measured on noise."""
        longest = max(len(first), round(2 * LONGEST_FIELD * first.rate))
        grids = measure_frames(self._run_on(first.rate), self.taps.layers, longest, first.rate)
        heard = self._loader(first).load(0, min(len(first), longest))
        self.taps.check(map_inputs(stack_inputs([heard]), self._moved))
        return grids

    def _run(self, inputs: Inputs) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        moved = map_inputs(inputs, lambda tensor: tensor.to(self.device))
        self.taps.run(moved, lambda layer, output: outputs.__setitem__(layer, output.clone()))
        return outputs

    def _loader(self, clip: Clip, kept: int = 0) -> Loader:
        return Loader(clip, self.prepare, self.input_type, self.frames_first, kept)

    def _run_on(self, rate: float) -> Callable[[NDArray[np.float32]], Mapping[str, Tensor]]:
        """A function from samples to the outputs for them, without the batch axis."""

        def run(samples: NDArray[np.float32]) -> Mapping[str, Tensor]:
            inputs = self._loader(Clip(samples, rate)).load(0, len(samples))
            return {layer: output[0] for layer, output in self._run(stack_inputs([inputs])).items()}

        return run

    def _whole(self, clip: Clip, grids: Mapping[str, FrameGrid]) -> _Recorded:
        """A sound at once: its frames are rows."""
        outputs = self._run_on(clip.rate)(clip.values)
        values = {
            layer: self._kept(output.movedim(grids[layer].axis, 0)) for layer, output in outputs.items()
        }
        counts = {len(each) for each in values.values()}
        if len(counts) > 1:
            raise ValueError(f"the layers have {sorted(counts)} frames; extract them one by one.")
        n_frames = counts.pop()
        widest = max(grids.values(), key=lambda grid: np.inf if grid.window is None else grid.window)
        edges = widest.edges(n_frames, len(clip)) / clip.rate
        sees = {
            layer: "all"
            if grid.window is None
            else f"{grid.window / clip.rate:g} s from {grid.offset / clip.rate:g} s"
            for layer, grid in grids.items()
        }
        return _Recorded(values, edges, clip.rate / widest.stride, sees)

    def _window_axes(self, clip: Clip) -> dict[str, int]:
        """The axis of frames within the output for a window, where there is one; the batch is axis 0."""
        assert self.windows is not None
        length = self.windows.length(clip.rate)
        loader = self._loader(clip)
        first = self.windows.starts(len(clip), clip.rate)[0]
        self.taps.check(map_inputs(stack_inputs([loader.load(first, length)] * PROBE), self._moved))
        short = self._run(stack_inputs([loader.load(first, length)] * PROBE))
        try:
            long = self._run(stack_inputs([loader.load(first, 2 * length)] * PROBE))
        except (RuntimeError, ValueError, TypeError, IndexError):
            return {}  # made for inputs of one length: no frames can be told from other features
        axes = {layer: find_time_axis(short[layer], long[layer]) for layer in short}
        return {layer: axis for layer, axis in axes.items() if axis is not None}

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)

    def _stretches(self, clip: Clip, axes: Mapping[str, int]) -> _Recorded:
        """Windows, or the frames of a film one by one."""
        if self.windows is None:
            length, starts, sfreq = 1, np.arange(len(clip)), float(clip.rate)
        else:
            length, sfreq = self.windows.length(clip.rate), 1 / self.windows.hop
            starts = self.windows.starts(len(clip), clip.rate)
        loader = self._loader(clip, kept=length if self.windows else 0)

        def load(start: int) -> Inputs:
            return loader.load(start, length) if self.windows else loader.load_frame(start)

        size, kept = self._choose_batch(load(int(starts[0]))), []
        for begin in range(0, len(starts), size):
            batch = stack_inputs([load(int(start)) for start in starts[begin : begin + size]])
            outputs = self._run(batch)
            kept.append(
                {layer: self._kept(self._without_time(outputs[layer], axes.get(layer))) for layer in outputs}
            )
        values = {layer: np.concatenate([part[layer] for part in kept]) for layer in self.taps.layers}
        edges = np.clip(np.stack([starts, starts + length], axis=1), 0, len(clip)) / clip.rate
        return _Recorded(values, edges, sfreq, {})

    def _without_time(self, output: Tensor, axis: int | None) -> Tensor:
        if axis is None:
            return output
        if self.aggregate == "last":
            return output.select(axis, -1)
        return output.mean(axis, dtype=torch.promote_types(output.dtype, torch.float32))

    def _kept(self, output: Tensor) -> NDArray[Any]:
        pooled = self.pool(output)
        if not isinstance(pooled, Tensor) or pooled.ndim == 0 or len(pooled) != len(output):
            raise ValueError("pool= does not leave one row a stretch of time; keep the first axis.")
        return cast(
            NDArray[Any], (pooled if pooled.ndim > 1 else pooled[:, None]).to("cpu", self.dtype).numpy()
        )

    def _choose_batch(self, inputs: Inputs) -> int:
        batch = stack_inputs([inputs] * PROBE)
        self.taps.check(map_inputs(batch, self._moved))
        with LiveBytes() as live:
            outputs = self._run(batch)
        sizes = [
            sum(tensor.nbytes for tensor in each) / PROBE for each in (tensors_of(batch), outputs.values())
        ]
        return choose_batch(
            live.peak / PROBE, *sizes, free=self.memory, batch_size=self.batch_size, device=self.device
        )


@contextmanager
def _named(clip: str) -> Iterator[None]:
    """Say on which clip the network fails."""
    try:
        yield
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(
            f"the network fails on {clip} ({str(error).partition(chr(10))[0]}); check preprocess=, window= and rate=."
        ) from None


def _windows(
    stimuli: StimulusSet, window: Any, hop: Any, causal: bool, aggregate: str, rate: Any
) -> Windows | None:
    """Check what was asked for."""
    if stimuli.medium.name not in ("sound", "film"):
        raise ValueError(
            f"the stimuli are {stimuli.medium.name}s, which have no course in time; use from_sounds or from_videos."
        )
    if aggregate not in ("mean", "last"):
        raise ValueError(f"aggregate is {aggregate!r}; use 'mean' or 'last'.")
    for name, value in (("window", window), ("hop", hop), ("rate", rate)):
        if value is not None and not (isinstance(value, int | float | np.number) and 0 < value < np.inf):
            raise ValueError(
                f"{name} is {value!r}; give a positive number{' of seconds' * (name != 'rate')}."
            )
    if window is None:
        if hop is not None:
            raise ValueError("hop= was given without window=; say how long a stretch the network sees.")
        return None
    return Windows(float(window), float(window if hop is None else hop), causal)


def _labelled(
    recorded: Sequence[_Recorded], table: pd.DataFrame, job: _Recorder, facts: dict[str, Any]
) -> xr.DataArray:
    """All clips below each other, on the clocks of their runs."""
    rows = np.repeat(np.arange(len(recorded)), [len(each.edges) for each in recorded])
    labels = table.iloc[rows].reset_index(drop=True)
    if "run" not in table:
        labels["run"] = rows
    elif table["run"].duplicated().any() and "onset" not in table:
        run = table["run"][table["run"].duplicated()].iloc[0]
        raise ValueError(
            f"run {quoted(run)} has several clips; give their 'onset' in seconds in the stimulus table."
        )
    edges = np.concatenate([each.edges for each in recorded])
    if "onset" in labels:
        edges = edges + labels.pop("onset").to_numpy(float)[:, None]
    layers = [
        Layer(name, recorded[0].values[name].shape[1:], recorded[0].values[name].dtype.str)
        for name in job.taps.layers
    ]
    values = [
        np.concatenate([each.values[layer.name].reshape(-1, layer.size) for each in recorded])
        for layer in layers
    ]
    return assemble(
        np.concatenate(values, axis=1),
        time_bin={"time_bin_start": edges[:, 0], "time_bin_end": edges[:, 1], **labels},
        neuroid=label_features(layers, job.taps.grids),
        modality="activation",
        units="a.u.",
        sfreq=recorded[0].sfreq,
        provenance=json.dumps({**facts, "sees": dict(recorded[0].sees), "device": job.device.type}),
    )
