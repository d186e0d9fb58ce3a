"""What can be done to the units of a layer: held, scaled, added to, taken away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: what turns a layer's activations (batch first) into changed ones of the same shape
Change: TypeAlias = Callable[[Tensor], Tensor]
#: channels by number, or single places by tuples such as (channel, row, column); None is the whole layer
Units: TypeAlias = Sequence[int] | Sequence[tuple[int, ...]] | None


@dataclass(frozen=True, eq=False)
class UnitSelection:
    """Some units of a layer.

    Parameters
    ----------
    units
        Channels by number, at all their places; or single places by tuples of positions in the layer's output
        without the batch, such as ``(channel, row, column)``. ``None`` (default) is the whole layer.
    axis
        Axis of the output that counts channels. Default: the last of batch × tokens × channels, else the first after
        the batch.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.changes import UnitSelection
    >>> activations = torch.arange(6.0).reshape(1, 2, 3, 1)
    >>> activations[UnitSelection(units=[(1, 2, 0)]).index(activations)].tolist()
    [[5.0]]
    """

    units: Units = field(default=None, kw_only=True)
    axis: int | None = field(default=None, kw_only=True)

    @property
    def by_place(self) -> bool:
        """Whether the units are single places rather than channels."""
        return self.units is not None and len(self.units) > 0 and np.ndim(self.units[0]) > 0

    def channel_axis(self, activations: Tensor) -> int:
        """The axis that counts channels."""
        if self.axis is not None:
            return self.axis % activations.ndim
        return 2 if activations.ndim == 3 else 1

    def index(self, activations: Tensor) -> tuple[Any, ...]:
        """What picks the units out of a batch of activations.

        Raises
        ------
        ValueError
            If the layer has no such units.
        """
        if self.units is None:
            return (slice(None),)
        places = torch.from_numpy(self._places(activations)).to(activations.device)
        skipped = 1 if self.by_place else self.channel_axis(activations)
        return (slice(None),) * skipped + places.unbind(1)

    def _sizes(self, activations: Tensor) -> tuple[int, ...]:
        """How many units there are, along each of their axes."""
        if self.by_place:
            return tuple(activations.shape[1:])
        return (activations.shape[self.channel_axis(activations)],)

    def _places(self, activations: Tensor) -> NDArray[np.int64]:
        """The units, one a row."""
        sizes, places = self._sizes(activations), np.asarray(self.units)
        if places.dtype == bool:
            places = np.flatnonzero(places)
        if not self.by_place:
            places = places.reshape(-1, 1)
        known = places.dtype.kind in "iu" and places.size > 0 and places.shape[1] == len(sizes)
        if not known or (places >= sizes).any() or (places < 0).any():
            raise ValueError(
                f"{type(self).__name__} was given units={_shortened(self.units)}, but the layer has "
                f"{' × '.join(map(str, sizes))} of them; count from 0, channels as numbers and places as tuples."
            )
        return places.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Intervention(UnitSelection, ABC):
    """A change of some units of a layer, which leaves all others as they are; the base of those below.

    Parameters
    ----------
    units, axis
        As of :class:`UnitSelection`.
    """

    def __call__(self, activations: Tensor) -> Tensor:
        """Change one batch of activations."""
        return self.begin()(activations)

    def begin(self) -> Change:
        """Give the change as a function; what is random in it goes on from call to call."""
        generator = self.generator()

        def change(activations: Tensor) -> Tensor:
            index = self.index(activations)
            changed = activations.clone()
            changed[index] = self.new_values(activations, index, generator)
            return changed

        return change

    def generator(self) -> torch.Generator:
        """Give the source of what is random in the change."""
        return torch.Generator()

    @abstractmethod
    def new_values(self, activations: Tensor, index: tuple[Any, ...], generator: torch.Generator) -> Tensor:
        """Values in place of ``activations[index]`` (batch × units × …)."""

    def matched(self, activations: Tensor, rng: np.random.Generator) -> Intervention:
        """Give the same change of as many other units of the layer, drawn at random.

        Raises
        ------
        ValueError
            If it changes the whole layer, or more than half of it.
        """
        if self.units is None:
            raise ValueError("the change is of the whole layer, to which no random units can be compared")
        sizes = self._sizes(activations)
        taken = np.ravel_multi_index(tuple(self._places(activations).T), sizes)
        others = np.setdiff1d(np.arange(np.prod(sizes)), taken)
        if len(others) < len(taken):
            raise ValueError(f"it has {len(others)} units besides the {len(taken)} that are changed")
        drawn = rng.choice(others, len(taken), replace=False)
        places = zip(*(column.tolist() for column in np.unravel_index(drawn, sizes)), strict=True)
        return replace(self, units=list(places) if self.by_place else drawn.tolist())

    def fitting(self, values: Any, selected: Tensor) -> Tensor:
        """A number, one a unit, or an array of the units' shape, shaped to go with the selected activations.

        Raises
        ------
        ValueError
            If it is none of these.
        """
        tensor = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
        tensor = tensor.to(selected.device, selected.dtype)
        axis = 1 if self.by_place else self.channel_axis(selected)
        if tensor.ndim == 1 and len(tensor) == selected.shape[axis]:
            tensor = tensor.reshape(-1, *[1] * (selected.ndim - axis - 1))
        elif tensor.ndim and tensor.shape != selected.shape[1:]:
            raise ValueError(
                f"{type(self).__name__} was given values of the shape {tuple(tensor.shape)} for units of the shape "
                f"{tuple(selected.shape[1:])}; give a number, one a unit, or that shape."
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{type(self).__name__} was given NaN or infinite values; give numbers.")
        return tensor


@dataclass(frozen=True, eq=False)
class Clamp(Intervention):
    """Hold units at given values, whatever their input is.

    Parameters
    ----------
    value
        A number, one a unit, or an array of the units' shape.
    units, axis
        As of every :class:`Intervention`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> models.Clamp(5.0, units=[1])(torch.zeros(1, 3))
    tensor([[0., 5., 0.]])
    """

    value: Any

    def new_values(self, activations: Tensor, index: tuple[Any, ...], generator: torch.Generator) -> Tensor:
        """The value."""
        selected = activations[index]
        return self.fitting(self.value, selected).expand_as(selected)


@dataclass(frozen=True, eq=False)
class Scale(Intervention):
    """Multiply units, as a gain does.

    Parameters
    ----------
    factor
        A number, one a unit, or an array of the units' shape.
    units, axis
        As of every :class:`Intervention`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> models.Scale(2.0)(torch.ones(1, 3))
    tensor([[2., 2., 2.]])
    """

    factor: Any

    def new_values(self, activations: Tensor, index: tuple[Any, ...], generator: torch.Generator) -> Tensor:
        """The product."""
        selected = activations[index]
        return selected * self.fitting(self.factor, selected)


@dataclass(frozen=True, eq=False)
class Add(Intervention):
    """Add a direction to a layer, or a number to units (steering, Turner et al., 2023).

    Parameters
    ----------
    direction
        A number, one a unit, or an array of the units' shape.
    units, axis
        As of every :class:`Intervention`.

    References
    ----------
    Turner et al. (2023). Steering language models with activation engineering. arXiv:2308.10248.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> models.Add([0.0, 1.0, 2.0])(torch.ones(1, 3))
    tensor([[1., 2., 3.]])
    """

    direction: Any

    def new_values(self, activations: Tensor, index: tuple[Any, ...], generator: torch.Generator) -> Tensor:
        """The sum."""
        selected = activations[index]
        return selected + self.fitting(self.direction, selected)

    def matched(self, activations: Tensor, rng: np.random.Generator) -> Intervention:
        """Give the same change of other units; of a whole layer, a direction of the same entries in another order."""
        if self.units is None and np.ndim(self.direction):
            direction = torch.as_tensor(self.direction)
            order = torch.from_numpy(rng.permutation(direction.numel()))
            return replace(self, direction=direction.flatten()[order].reshape(direction.shape))
        return super().matched(activations, rng)


@dataclass(frozen=True, eq=False)
class Ablate(Intervention):
    """Take away what units say.

    Parameters
    ----------
    how
        ``"zero"`` (default); ``"mean"``: their mean over the reference, place by place, which keeps later layers in
        the range that they know; ``"resample"``: what they are for another, random stimulus of the reference.
    reference
        The whole layer's activations for stimuli that stand for all (rows × the layer's shape, or rows × features as
        ``models.extract`` gives them without pooling). Default: the batch itself; ``models.measure_effect`` puts all
        its stimuli here.
    random_state
        Seeds the stimuli that ``"resample"`` draws.
    units, axis
        As of every :class:`Intervention`.

    References
    ----------
    Morcos et al. (2018). On the importance of single directions for generalization. ICLR.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> models.Ablate(units=[0, 2])(torch.ones(1, 3))
    tensor([[0., 1., 0.]])
    """

    how: Literal["zero", "mean", "resample"] = "zero"
    reference: Any = None
    random_state: int = 0

    def __post_init__(self) -> None:
        if self.how not in ("zero", "mean", "resample"):
            raise ValueError(f"how={self.how!r} is unknown; use 'zero', 'mean' or 'resample'.")

    def generator(self) -> torch.Generator:
        """Give the source of the stimuli that are drawn."""
        return torch.Generator().manual_seed(self.random_state)

    def new_values(self, activations: Tensor, index: tuple[Any, ...], generator: torch.Generator) -> Tensor:
        """Nothing, the mean, or another stimulus's values."""
        selected = activations[index]
        if self.how == "zero":
            return torch.zeros_like(selected)
        reference = self._reference(activations)
        if self.how == "mean":
            return reference.mean(0, keepdim=True)[index].expand_as(selected)
        rows = torch.randint(len(reference), (len(activations),), generator=generator)
        return reference[rows.to(reference.device)][index]

    def _reference(self, activations: Tensor) -> Tensor:
        if self.reference is None:
            return activations
        given = self.reference if isinstance(self.reference, Tensor) else np.asarray(self.reference)
        reference = torch.as_tensor(given).to(activations.device, activations.dtype)
        if reference[0].numel() != activations[0].numel():
            raise ValueError(
                f"reference= has rows of the shape {tuple(reference.shape[1:])}, but the layer gives "
                f"{tuple(activations.shape[1:])}; extract that layer without pooling."
            )
        return reference.reshape(-1, *activations.shape[1:])


def _shortened(units: Any) -> str:
    text = str(units)
    return text if len(text) < 60 else f"{text[:57]}…"
