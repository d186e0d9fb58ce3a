"""What is left of a picture away from where the eye looks: blur, or texture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...neuro.progress import track
from ..stimuli import StimulusSet
from .matching import match_regions, settle
from .pictures import blur, split_bands, ssim, transform_picture
from .regions import Gaze, Regions, pooling_regions

#: widths of blur between which a pixel's own is interpolated
LEVELS = 12


@dataclass(frozen=True)
class UniformBlur:
    """Blur a whole picture by one Gaussian.

    Parameters
    ----------
    width
        Its standard deviation in pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features import UniformBlur
    >>> UniformBlur(2.0)(np.zeros((32, 32, 3), np.uint8)).shape
    (32, 32, 3)
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a negative width."""
        if not self.width >= 0:
            raise ValueError(f"width is {self.width} pixels; give 0 or more.")

    def __call__(self, image: Any) -> Any:
        """Blur a PIL image, uint8 pixels or a tensor, and give back the same kind."""
        return transform_picture(image, lambda picture: blur(picture, self.width))

    @property
    def strength(self) -> float:
        """What :func:`match_blur` fits."""
        return self.width

    def with_strength(self, strength: float) -> UniformBlur:
        """The same with another width."""
        return replace(self, width=strength)


@dataclass(frozen=True)
class FoveatedBlur:
    """Blur a picture the more, the further it is from where the eye looks.

    Parameters
    ----------
    rate
        Standard deviation of the Gaussian in degrees, for each degree from the edge of the fovea.
    gaze
        Where the eye looks, how wide the picture is, and the fovea, which keeps every pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features import FoveatedBlur
    >>> picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> seen = FoveatedBlur(rate=0.2)(picture)
    >>> bool((seen[30:34, 30:34] == picture[30:34, 30:34]).all()), bool(seen[:8].std() < picture[:8].std() / 2)
    (True, True)
    """

    rate: float = 0.1
    gaze: Gaze = field(default_factory=Gaze)

    def __post_init__(self) -> None:
        """Refuse a negative rate."""
        if not self.rate >= 0:
            raise ValueError(f"rate is {self.rate} degrees a degree; give 0 or more.")

    def __call__(self, image: Any) -> Any:
        """Blur a PIL image, uint8 pixels or a tensor, and give back the same kind."""
        return transform_picture(image, self._blur)

    def widths(self, rows: int, columns: int) -> Tensor:
        """Standard deviation of the blur at each pixel, in pixels."""
        beyond = (self.gaze.eccentricity(rows, columns) - self.gaze.fovea).clamp(min=0)
        return self.rate * beyond * self.gaze.pixels_per_degree(columns)

    def _blur(self, picture: Tensor) -> Tensor:
        widths = self.widths(*picture.shape[1:]).to(picture.device)
        most = float(widths.max())
        if most == 0:
            return picture
        levels = [0.0, *np.geomspace(min(0.4, most / 2), most, LEVELS).tolist()]
        blurred = torch.zeros_like(picture)
        # between two levels variances are mixed, so that each pixel's blur has the variance it should
        for below, level, above in zip([None, *levels[:-1]], levels, [*levels[1:], None], strict=True):
            share = torch.ones_like(widths)
            if below is not None:
                share = share.minimum((widths**2 - below**2) / (level**2 - below**2))
            if above is not None:
                share = share.minimum((above**2 - widths**2) / (above**2 - level**2))
            blurred += share.clamp(min=0) * blur(picture, level)
        return torch.where(widths > 0, blurred, picture)

    @property
    def strength(self) -> float:
        """What :func:`match_blur` fits."""
        return self.rate

    def with_strength(self, strength: float) -> FoveatedBlur:
        """The same with another rate."""
        return replace(self, rate=strength)


@dataclass(frozen=True)
class FoveatedTexture:
    """Replace what is away from where the eye looks by a texture with the same statistics in each pooling region.

    In a space of features every region is moved towards noise that shares the mean and spread of each feature there,
    ``(1 - γ) features + γ noise``, with γ growing from 0 at the edge of the fovea to 1 (after Deza & Konkle 2020, with
    the adaptive instance normalisation of Huang & Belongie 2017). With the default features the pixels of a region
    then take the values that its pixels had, channel by channel in the order of the texture, so that mean, variance
    and histogram are kept exactly.

    Parameters
    ----------
    rate
        Width of the pooling regions over their eccentricity.
    gaze
        Where the eye looks, how wide the picture is, and the fovea, which keeps every pixel.
    encoder, decoder
        A network and its inverse: pictures (1 × 3 × rows × columns, 0 to 1) to features (1 × channels × rows ×
        columns, of any size) and back. Default: oriented bands of lightness and two colour opponents, which sum to the
        picture.
    crowding
        How fast γ grows: ``1 - exp(-crowding × degrees from the fovea)``.
    random_state
        Seed of the noise.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features import FoveatedTexture
    >>> picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> seen = FoveatedTexture()(picture)
    >>> bool((seen[30:34, 30:34] == picture[30:34, 30:34]).all()), bool(abs(seen.mean() - picture.mean()) < 2)
    (True, True)
    """

    rate: float = 0.4
    gaze: Gaze = field(default_factory=Gaze)
    encoder: Callable[[Tensor], Tensor] | None = None
    decoder: Callable[[Tensor], Tensor] | None = None
    crowding: float = 0.4
    random_state: int = 0
    _prepared: dict[Any, tuple[Regions, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Refuse half a network, or a rate of crowding that is none."""
        if (self.encoder is None) != (self.decoder is None):
            raise ValueError("encoder= and decoder= belong together; give both or none.")
        if not self.crowding > 0:
            raise ValueError(f"crowding is {self.crowding}; give a positive number.")

    def __call__(self, image: Any) -> Any:
        """Transform a PIL image, uint8 pixels or a tensor, and give back the same kind."""
        return transform_picture(image, self._texture)

    def regions(self, rows: int, columns: int) -> Regions:
        """Pooling regions of pictures of this size."""
        return pooling_regions(rows, columns, self.gaze, self.rate)

    def _texture(self, picture: Tensor) -> Tensor:
        with torch.no_grad():
            regions, noise = self._setting(picture)
            features = self._encode(picture)
            weights = _resized(regions.weights.to(picture.device), features.shape[-2:])
            share = self._share(picture, features.shape[-2:])
            matched = match_regions(noise.to(picture.device), features, weights)
            # a mixture of two spreads less than either
            mixed = match_regions((1 - share) * features + share * matched, features, weights)
            made = self._decode(mixed, picture)
            if self.encoder is None:
                made = settle(made, picture, regions)
        return torch.where(regions.map.to(picture.device) > 0, made, picture)

    def _setting(self, picture: Tensor) -> tuple[Regions, Tensor]:
        """Regions and the noise's features, made once for pictures of one size."""
        size = tuple(picture.shape[1:])
        known = self._prepared.get(size)
        if known is None:
            generator = torch.Generator().manual_seed(self.random_state)
            noise = 0.5 + 0.2 * torch.randn(picture.shape, generator=generator)
            known = self.regions(*size), self._encode(noise.to(picture.device)).cpu()
            # of one size alone: windows and noise of a picture take as much memory as hundreds of pictures
            self._prepared.clear()
            self._prepared[size] = known
        return known

    def _share(self, picture: Tensor, size: torch.Size) -> Tensor:
        """How far each place is moved towards noise."""
        beyond = (self.gaze.eccentricity(*picture.shape[1:]) - self.gaze.fovea).clamp(min=0)
        share = 1 - torch.exp(-self.crowding * beyond)
        return _resized(share[None], size)[0].to(picture.device)

    def _encode(self, picture: Tensor) -> Tensor:
        if self.encoder is None:
            return split_bands(torch.einsum("oc,chw->ohw", OPPONENTS.to(picture.device), picture)).flatten(
                0, 1
            )
        features = self.encoder(picture[None])
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise ValueError("encoder= must turn 1 × 3 × rows × columns into 1 × channels × rows × columns.")
        return features[0]

    def _decode(self, features: Tensor, picture: Tensor) -> Tensor:
        if self.decoder is None:
            opponents = features.unflatten(0, (-1, 3)).sum(0)
            return torch.einsum("co,ohw->chw", torch.linalg.inv(OPPONENTS).to(features.device), opponents)
        made = self.decoder(features[None])
        if not isinstance(made, Tensor) or made.ndim != 4 or made.shape[1] != 3:
            raise ValueError("decoder= must turn the encoder's features into 1 × 3 × rows × columns.")
        return _resized(made[0], picture.shape[1:]).clamp(0, 1)


#: lightness, red against green, blue against yellow; decorrelates natural pictures
OPPONENTS = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1 / 2, -1 / 2, 0.0], [1 / 4, 1 / 4, -1 / 2]])

Blur = TypeVar("Blur", UniformBlur, FoveatedBlur)


def match_blur(
    texture: Callable[[Any], Any],
    stimuli: StimulusSet | Iterable[Any],
    blur: Blur,
    *,
    tolerance: float = 0.005,
    progress: bool | None = None,
) -> Blur:
    """Find the blur that leaves pictures as similar to themselves as another transform does.

    Parameters
    ----------
    texture
        The other transform, such as :class:`FoveatedTexture`.
    stimuli
        Pictures.
    blur
        A :class:`FoveatedBlur`, whose rate is found, or a :class:`UniformBlur`, whose width is.
    tolerance
        How much the means of structural similarity (SSIM) may differ.
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    FoveatedBlur or UniformBlur
        With the rate or width that was found.

    Raises
    ------
    ValueError
        If even the strongest blur changes pictures less.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> pictures = models.StimulusSet.from_arrays(np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8))
    >>> found = models.features.match_blur(models.features.UniformBlur(1.5), pictures, models.features.UniformBlur())
    >>> round(found.width, 1)
    1.5
    """
    originals = [torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255 for picture in stimuli]
    if not originals:
        raise ValueError("there are no pictures to match blur on; give at least one.")

    def similarity(transform: Callable[[Any], Any]) -> float:
        return float(np.mean([ssim(picture, transform(picture)) for picture in originals]))

    target = similarity(texture)
    low, high = 0.0, max(blur.strength, 1e-3)
    most = 1e3 * high
    while similarity(blur.with_strength(high)) > target:
        low, high = high, 2 * high
        if high > most:
            raise ValueError(
                f"no blur leaves pictures a mean SSIM as low as {target:.3f}; check the other transform."
            )
    for _ in track(range(40), "matching blur", show=progress):
        middle = (low + high) / 2
        found = similarity(blur.with_strength(middle))
        if abs(found - target) < tolerance / 2:
            break
        low, high = (middle, high) if found > target else (low, middle)
    return blur.with_strength(middle)


def _resized(maps: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    if maps.shape[-2:] == tuple(size):
        return maps
    return functional.interpolate(
        maps[None], tuple(size), mode="bilinear", antialias=True, align_corners=False
    )[0]
