"""A network set up to be shown stimuli, and a trial run that tells what this takes."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..neuro.progress import track
from .batches import Feed, Preprocess, map_inputs, preprocess_by_default, stack_inputs, tensors_of
from .devices import resolve_device
from .maps import Grid
from .memory import LiveBytes, keep_freed_memory
from .names import describe
from .pooling import Pool, resolve_pool
from .stimuli import StimulusSet
from .taps import Inputs, LayerTaps, Receiver
from .zoo import fingerprint

#: copies of one stimulus in the trial run: a number that hardly any axis but the batch has
PROBE = 3
#: so many values of a layer are compared between two runs, evenly spaced
SAMPLE = 1 << 14
#: beyond this share of a layer's range two runs differ by more than rounding
ROUNDING = 1e-3
#: modules that draw at random while training; those of timm and torchvision by name
DRAWING = frozenset({"DropPath", "PatchDropout", "StochasticDepth"})


@dataclass(frozen=True)
class Setup:
    """A network, its layers, and the stimuli on their way to it.

    Parameters
    ----------
    net, layers
        What runs, and what is listened to.
    feed
        The stimuli as inputs.
    pool
        Reduces the output of a layer for a batch.
    options
        How ``pool`` was given, for the record.
    device, progress
        Where it runs, and whether a bar is drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> from cerebridge.models.trials import Setup
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((5, 32, 32, 3), np.uint8))
    >>> setup = Setup.of(models.load("tiny", weights="random"), stimuli, ["conv2"], pool="global")
    >>> setup.try_out().shapes
    {'conv2': (32,)}
    """

    net: nn.Module
    layers: list[str]
    feed: Feed
    pool: Callable[[Tensor], Tensor]
    options: dict[str, str]
    device: torch.device
    progress: bool | None

    @classmethod
    def of(
        cls,
        net: nn.Module,
        stimuli: StimulusSet,
        layers: Sequence[str] | str,
        *,
        pool: Pool = None,
        preprocess: Preprocess | None = None,
        device: str | torch.device = "auto",
        progress: bool | None = None,
    ) -> Setup:
        """Check what was asked for; say so where a network is in training mode and would behave otherwise."""
        names = LayerTaps(net, [layers] if isinstance(layers, str) else list(layers)).layers
        prepare = cast(Preprocess, preprocess or getattr(net, "preprocess", preprocess_by_default))
        warn_of_training(net, stacklevel=4)
        return cls(
            net=net,
            layers=names,
            # the stimulus of the trial run need not be decoded again
            feed=Feed(stimuli, prepare, _input_type(net), kept_rows=1),
            pool=resolve_pool(pool, names),
            options={"pool": describe(pool), "preprocess": describe(prepare)},
            device=resolve_device(device),
            progress=progress,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What a result depends on beside the stimuli."""
        return {
            "network": type(self.net).__name__,
            "weights": fingerprint(self.net),
            "layers": self.layers,
            **self.options,
        }

    def only(self, layers: list[str]) -> Setup:
        """The same with fewer layers."""
        return replace(self, layers=layers)

    def keeping(self, rows: int) -> Setup:
        """The same with so many decoded stimuli kept between sweeps."""
        return replace(self, feed=replace(self.feed, kept_rows=rows))

    def sweep(
        self,
        layers: Sequence[str],
        batches: Sequence[Sequence[int]],
        receive: Callable[[Any, str, Tensor], None],
        description: str = "extracting",
        feed: Feed | None = None,
    ) -> Iterator[Any]:
        """Show batches of stimuli and stop after the last of ``layers``; yield the rows of each batch when it ran.

        Parameters
        ----------
        layers
            Those to listen to.
        batches
            Rows of each batch.
        receive
            Called with rows, layer and its pooled output, the batch first. It is the network's own memory.
        description
            Of the progress bar.
        feed
            Other stimuli.
        """
        keep_freed_memory()
        taps = LayerTaps(self.net, layers)
        ahead = (feed or self.feed).ahead(batches, self.device)
        for rows, inputs in track(ahead, description, total=len(batches), show=self.progress):
            here = map_inputs(inputs, lambda tensor: tensor.to(self.device, non_blocking=True))

            def hear(layer: str, output: Tensor, rows: Sequence[int] = rows) -> None:
                pooled = self.pool(output)
                receive(rows, layer, pooled[:, None] if pooled.ndim == 1 else pooled)

            taps.run(here, hear)
            yield rows

    def try_out(self, allow_nondeterministic: bool = False) -> Trial:
        """Run copies of the first stimulus: once through all of the network, and twice as far as needed.

        Raises
        ------
        ValueError
            If a layer or an option does not work, or a layer's output differs between two runs.
        """
        start = time.perf_counter()
        first = self.feed.load(0)
        decoding = time.perf_counter() - start
        inputs = map_inputs(stack_inputs([first] * PROBE), lambda tensor: tensor.to(self.device))
        taps = LayerTaps(self.net, self.layers)
        # a network may work in place on its input
        own, another = (map_inputs(inputs, torch.clone) for _ in range(2))
        try:
            taps.check(inputs)
            with LiveBytes() as live:
                shapes, samples, _ = self._listen(taps, own)
            _, again, seconds = self._listen(taps, another)
        except (RuntimeError, TypeError, IndexError) as error:
            reason = str(error).partition("\n")[0]
            shape = " and ".join(str(tuple(tensor.shape)) for tensor in tensors_of(inputs))
            raise ValueError(
                f"the network fails on an input of shape {shape} ({reason}); check preprocess= and pool=."
            ) from None
        if not allow_nondeterministic:
            _refuse_differences(samples, again)
        return Trial(
            shapes={layer: shapes[layer] for layer in self.layers},
            order=list(shapes),
            forward=live.peak / PROBE,
            inputs=sum(tensor.nbytes for tensor in tensors_of(inputs)) / PROBE,
            seconds={layer: value / PROBE for layer, value in seconds.items()},
            decoding=decoding,
            grids=taps.grids,
        )

    def _listen(
        self, taps: LayerTaps, inputs: Inputs
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, NDArray[Any]], dict[str, float]]:
        """Of each layer the shape for one stimulus, some values, and the seconds until it was heard."""
        shapes: dict[str, tuple[int, ...]] = {}
        samples: dict[str, NDArray[Any]] = {}
        seconds: dict[str, float] = {}
        start = time.perf_counter()

        def hear(layer: str, output: Tensor) -> None:
            reduced = self.pool(output)
            if not isinstance(reduced, Tensor) or reduced.ndim == 0 or reduced.shape[0] != PROBE:
                raise ValueError(
                    f"pool= does not leave one row a stimulus of the layer {layer!r}; keep the first axis."
                )
            if not reduced.numel():
                raise ValueError(f"the layer {layer!r} has no features; leave it out.")
            shapes[layer] = tuple(reduced.shape[1:]) or (1,)
            # numpy's copies are not counted among the network's own bytes
            some = reduced.detach().reshape(-1)[:: -(-reduced.numel() // SAMPLE)].cpu()
            samples[layer] = (some.float() if some.dtype == torch.bfloat16 else some).numpy().copy()
            seconds[layer] = time.perf_counter() - start

        receive: Receiver = hear
        taps.run(inputs, receive)
        return shapes, samples, seconds


@dataclass(frozen=True)
class Trial:
    """What a trial run showed.

    Parameters
    ----------
    shapes
        Of each layer's pooled output for one stimulus, in the order in which they were asked for.
    order
        The layers in the order in which they run.
    forward, inputs
        Bytes that one stimulus takes while the network runs, and as its input.
    seconds
        Until each layer has run, for one stimulus.
    decoding
        Seconds to decode and preprocess one stimulus.
    grids
        Rows and columns of the tokens of layers of patches, where they are known.
    """

    shapes: dict[str, tuple[int, ...]]
    order: list[str]
    forward: float
    inputs: float
    seconds: dict[str, float]
    decoding: float
    grids: dict[str, Grid] = field(default_factory=dict)

    def size(self, layer: str) -> int:
        """Features of one layer."""
        return math.prod(self.shapes[layer])


def _refuse_differences(first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]]) -> None:
    for layer, values in first.items():
        known = np.isfinite(values) & np.isfinite(second[layer])
        one, other = values[known].astype(np.float64), second[layer][known].astype(np.float64)
        if one.size and np.abs(one - other).max() > ROUNDING * np.abs(one).max():
            raise ValueError(
                f"the layer {layer!r} gives other values when the same stimulus is shown again; switch off what is "
                "random in or before it, or say allow_nondeterministic=True."
            )


def warn_of_training(net: nn.Module, stacklevel: int = 3) -> None:
    """Say so where a network is in training mode and will be run in evaluation mode, which changes what it computes.

    Parameters
    ----------
    net
        The network as it was given.
    stacklevel
        Calls from here to the line that is to be shown.

    Warns
    -----
    UserWarning
        Naming the first module that behaves otherwise.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.trials import warn_of_training
    >>> warn_of_training(torch.nn.Dropout().eval())
    """
    changed = [name for name, module in net.named_modules() if module.training and _trains_otherwise(module)]
    if changed:
        warnings.warn(
            f"the network was given in training mode and is run in evaluation mode, in which {changed[0]!r}"
            f"{f' and {len(changed) - 1} more modules behave' if len(changed) > 1 else ' behaves'} otherwise; "
            "call net.eval() first.",
            stacklevel=stacklevel,
        )


def _trains_otherwise(module: nn.Module) -> bool:
    """Whether evaluation mode changes what a module computes."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return module.track_running_stats
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or type(module).__name__ in DRAWING


def _input_type(net: nn.Module) -> torch.dtype:
    return next((weights.dtype for weights in net.parameters() if weights.is_floating_point()), torch.float32)
