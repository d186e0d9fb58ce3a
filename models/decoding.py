"""From the bytes of a file to an image, a text, a sound or a film."""

from __future__ import annotations

import hashlib
import io
import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from .clips import Clip, as_film, as_sound

#: browsers show frames of an animation that name no duration for so long
DEFAULT_FRAME_MS = 100
#: photographs whose further frames are previews or other views, not a course in time
STILLS = {"MPO"}


@dataclass(frozen=True)
class Medium:
    """A kind of stimulus: how its files end, and what decodes their bytes."""

    name: str
    suffixes: frozenset[str]
    decode: Callable[[bytes], Any]


def decode_image(content: bytes) -> NDArray[np.uint8]:
    """Decode an image file to height × width × 3 uint8 RGB.

    Raises
    ------
    ValueError
        If it is no image, or an animation.
    OSError
        If it is damaged.
    """
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("it is no image") from None
    with image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in STILLS:
            raise ValueError(f"it is an animation of {frames} frames, which StimulusSet.from_videos takes")
        return np.asarray(as_rgb(image))


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB as shown: transparent pixels lie on white, and 16-bit greys are scaled, not clipped.

    Pixels stay as they are stored: a photograph's note on how to turn it (EXIF) is not followed, as in
    torchvision's loaders.

    Raises
    ------
    ValueError
        If pixels are floats or 32-bit integers, of which nobody says what is white.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        what = "floats" if image.mode == "F" else "32-bit integers"
        raise ValueError(f"its pixels are {what}, whose white is not known; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def shown_pixels(array: NDArray[Any]) -> NDArray[Any]:
    """RGB of an array that is an image (uint8, grey or 3 or 4 channels); any other array as it is."""
    image = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))
    return np.asarray(as_rgb(Image.fromarray(array))) if image else array


def decode_text(content: bytes) -> str:
    """Decode UTF-8; the newline at the end of a file is no part of the text.

    Raises
    ------
    ValueError
        If it is no UTF-8, or empty.
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text in UTF-8: byte {error.start}") from None
    if not text.strip():
        raise ValueError("the text is empty")
    return text


def decode_sound(content: bytes) -> Clip:
    """Decode a sound file: .wav by scipy, anything else (also the sound of a film) by PyAV.

    Raises
    ------
    ValueError
        If it is damaged or has no sound.
    ImportError
        If PyAV is needed and missing.
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        from scipy.io import wavfile

        try:
            rate, samples = wavfile.read(io.BytesIO(content))
        except (ValueError, EOFError, struct.error) as error:
            raise ValueError(f"the sound is damaged: {error}") from None
        return as_sound(samples, rate)
    av = _import_av()
    try:
        with av.open(io.BytesIO(content)) as file:
            if not file.streams.audio:
                raise ValueError("the file has no sound")
            stream = file.streams.audio[0]
            convert = av.AudioResampler(format="fltp")
            frames = [part for frame in file.decode(stream) for part in convert.resample(frame)]
            frames += convert.resample(None)
            rate = stream.rate
    except av.error.FFmpegError as error:
        raise ValueError(f"it is no sound that PyAV can read: {error.strerror}") from None
    if not frames:
        raise ValueError("the file has no sound")
    return as_sound(np.concatenate([frame.to_ndarray() for frame in frames], axis=1).T, rate)


def decode_video(content: bytes) -> Clip:
    """Decode a film: animated images by PIL, anything else by PyAV; frames last equally long afterwards.

    Raises
    ------
    ValueError
        If it is damaged or has no frames.
    ImportError
        If PyAV is needed and missing.
    """
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        return _decode_by_av(content)
    with image:
        if getattr(image, "n_frames", 1) < 2:
            raise ValueError("it is an image without motion")
        frames, lasting = [], []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(np.asarray(as_rgb(image)))
            lasting.append(round(image.info.get("duration", 0)) or DEFAULT_FRAME_MS)
    step = math.gcd(*lasting)
    return as_film(np.repeat(np.stack(frames), np.array(lasting) // step, axis=0), 1000 / step)


def _decode_by_av(content: bytes) -> Clip:
    av = _import_av()
    try:
        with av.open(io.BytesIO(content)) as file:
            if not file.streams.video:
                raise ValueError("the file has no frames")
            stream = file.streams.video[0]
            rate = float(stream.average_rate or stream.guessed_rate)
            shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(stream)]
    except av.error.FFmpegError as error:
        raise ValueError(f"it is no film that PyAV can read: {error.strerror}") from None
    if not shown:
        raise ValueError("the file has no frames")
    # phones record at a rate that varies: at each tick the frame is taken that is on the screen
    times = np.array([k / rate if time is None else time for k, (time, _) in enumerate(shown)])
    ticks = times[0] + np.arange(max(1, round((times[-1] - times[0]) * rate) + 1)) / rate
    on_screen = np.searchsorted(times, ticks + 0.5 / rate, side="right") - 1
    return as_film(np.stack([shown[k][1] for k in on_screen]), rate)


def _import_av() -> ModuleType:
    try:
        import av
    except ImportError:
        raise ImportError(
            "reading this sound or film needs PyAV; run pip install 'cerebridge[media]'."
        ) from None
    module: ModuleType = av
    return module


IMAGES = Medium(
    "image",
    frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}),
    decode_image,
)
TEXTS = Medium("text", frozenset({".txt"}), decode_text)
SOUNDS = Medium(
    "sound", frozenset({".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aiff"}), decode_sound
)
FILMS = Medium("film", frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg"}), decode_video)
#: what a folder is taken for, in this order of precedence for images; the others must not be mixed
MEDIA = (IMAGES, TEXTS, SOUNDS, FILMS)


def medium_of(names: Iterable[str]) -> Medium | None:
    """The one medium that file names end like; ``None`` where no ending is known.

    Raises
    ------
    ValueError
        If sounds, films or texts lie side by side, without images.

    Examples
    --------
    >>> from cerebridge.models.decoding import medium_of
    >>> medium_of(["a.png", "notes.txt"]).name, medium_of(["a.wav"]).name
    ('image', 'sound')
    """
    suffixes = {PurePosixPath(name).suffix.lower() for name in names}
    found = [medium for medium in MEDIA if medium.suffixes & suffixes]
    if len(found) > 1 and found[0] is not IMAGES:
        kinds = " and ".join(f"{medium.name}s" for medium in found)
        raise ValueError(f"{kinds} lie side by side; say which by a pattern such as '*.wav'.")
    return found[0] if found else None


def content_hash(content: Any) -> str:
    """Hash the bytes of a file, or the type, shape and values of an array, and the rate of a clip.

    Examples
    --------
    >>> from cerebridge.models.decoding import content_hash
    >>> content_hash(b"same") == content_hash(b"same")
    True
    """
    digest = hashlib.sha256()
    if isinstance(content, bytes):
        digest.update(content)
    else:
        array = content
        if isinstance(content, Clip):
            digest.update(f"{float(content.rate)!r} Hz".encode())
            array = content.values
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
