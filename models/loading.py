"""From a file of weights to a network, with proof: tensors matched, fingerprints, a forward pass that repeats."""

from __future__ import annotations

import hashlib
import importlib.metadata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .names import ADDRESS, describe
from .taps import Inputs, evaluating, first_tensor, run_network

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".tflite")
#: numbers that stand for one forward pass, and how far each may lie off on other threads, batches and devices
FORWARD_NUMBERS, FORWARD_TOLERANCE = 8, 1e-3
#: under which names checkpoints wrap their tensors
_WRAPPINGS = ("state_dict", "model")


@dataclass(frozen=True)
class Loading:
    """What became of the weights: how many of the network's tensors they filled, and how it can be checked.

    Parameters
    ----------
    source
        Where the weights came from, or ``"random"``.
    matched, total
        Tensors of the network that were filled, of how many.
    missing, unexpected, reshaped
        Names of tensors that the weights lack, that the network lacks, and that have another shape.
    left_out
        Tensors of a head for another task, which was not asked for.
    fingerprint
        Of the structure and all tensors.
    forward
        Eight numbers for one forward pass on a fixed input: projections of the output, scaled to length one, on
        seeded normal vectors. Another thread count, batch or device moves each by less than 0.001.
    deterministic
        Whether two passes were equal; ``None`` where there was none.
    remark
        Why there was no forward pass.
    versions
        Of the packages that built the network.
    """

    source: str
    matched: int
    total: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    fingerprint: str = ""
    forward: tuple[float, ...] = ()
    deterministic: bool | None = None
    remark: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Say whether every tensor of the network and of the file found its partner."""
        return not (self.missing or self.unexpected or self.reshaped)

    def agrees_with(self, other: Loading) -> bool:
        """Say whether both networks did the same on the fixed input, within the tolerance of rounding.

        Examples
        --------
        >>> from cerebridge import models
        >>> first, again, other = (models.load("tiny", weights="random", seed=seed).loading for seed in (1, 1, 2))
        >>> first.agrees_with(again), first.agrees_with(other)
        (True, False)
        """
        return len(self.forward) == len(other.forward) > 0 and bool(
            np.allclose(self.forward, other.forward, rtol=0, atol=FORWARD_TOLERANCE)
        )

    def __str__(self) -> str:
        """One sentence, without a full stop."""
        parts = [f"{self.matched} of {self.total} tensors matched"]
        for names, what in (
            (self.missing, "missing in the weights"),
            (self.unexpected, "unknown to the network"),
            (self.reshaped, "of another shape"),
        ):
            if names:
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})")
        return "; ".join(parts)


def fingerprint(net: nn.Module) -> str:
    """Hash a network's structure and the values of all its tensors.

    Examples
    --------
    >>> from cerebridge import models
    >>> first, second = (models.load("tiny", weights="random", seed=1) for _ in range(2))
    >>> models.fingerprint(first) == models.fingerprint(second)
    True
    """
    digest = hashlib.sha256(ADDRESS.sub("", repr(net)).encode())
    for name, tensor in sorted(named_tensors(net).items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def named_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers; the step counters of batch norms say nothing about the function.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.loading import named_tensors
    >>> list(named_tensors(torch.nn.BatchNorm1d(3, affine=False)))
    ['running_mean', 'running_var']
    """
    return {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}


def find_weights(path: Path) -> Path:
    """Return a file of weights: the one given, or the only one in a folder.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is no file of weights, or the folder holds several.

    Examples
    --------
    >>> from pathlib import Path
    >>> from cerebridge.models.loading import find_weights
    >>> find_weights(Path("nowhere"))
    Traceback (most recent call last):
    ...
    FileNotFoundError: there are no weights at nowhere; give a file, or weights='random'.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES)
        if len(files) != 1:
            held = ", ".join(file.name for file in files) or "none"
            raise ValueError(
                f"the folder {path} must hold exactly one file of weights, but holds {held}; name the file."
            )
        return files[0]
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {path}; give a file, or weights='random'.")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise ValueError(f"{path} is no file of weights; give one of {', '.join(WEIGHT_SUFFIXES)}.")
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name, out of the wrappings that are common; nothing else is unpickled.

    Raises
    ------
    ValueError
        If the file is damaged or holds anything but tensors.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from cerebridge.models.loading import read_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": {"module.bias": torch.zeros(2)}}, Path(folder) / "net.pt")
    ...     read_weights(Path(folder) / "net.pt")
    {'bias': tensor([0., 0.])}
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise ValueError(
            f"{path} is damaged or holds other things than tensors, which are never unpickled; fetch it again, or save "
            "the network's state_dict as safetensors."
        ) from None
    except Exception as error:  # a damaged file fails in whatever part of its reader meets the damage
        raise ValueError(
            f"{path} is damaged or no file of tensors ({_first_line(error)}); fetch it again."
        ) from None
    for wrapping in _WRAPPINGS:
        if isinstance(content, dict) and isinstance(content.get(wrapping), dict):
            content = content[wrapping]
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError(f"{path} holds no dictionary of tensors; save the network's state_dict().")
    tensors = cast(dict[str, Tensor], content)
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def fill(net: nn.Module, weights: Mapping[str, Tensor], source: str, allow_partial: bool = False) -> Loading:
    """Copy tensors into a network by name and say what became of each.

    Parameters
    ----------
    net
        The network, changed in place.
    weights
        Tensors by the names of ``net.state_dict()``.
    source
        Where they came from, for messages and the record.
    allow_partial
        Accept weights that do not fill the network exactly, with a warning.

    Raises
    ------
    ValueError
        If they do not match, or are not finite.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.loading import fill
    >>> net = torch.nn.Linear(2, 1)
    >>> print(fill(net, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, "by hand"))
    2 of 2 tensors matched
    """
    own = named_tensors(net)
    given = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    fitting = {
        name: tensor for name, tensor in given.items() if name in own and tensor.shape == own[name].shape
    }
    for name, tensor in fitting.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{source} has NaN or infinite values in {name!r}; fetch it again.")
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    loading = Loading(
        source=source,
        matched=len(fitting),
        total=len(own),
        missing=tuple(name for name in own if name not in given),
        unexpected=tuple(name for name in given if name not in own),
        reshaped=tuple(name for name in given if name in own and name not in fitting),
    )
    return accept(loading, allow_partial)


def accept(loading: Loading, allow_partial: bool) -> Loading:
    """Refuse weights that do not fill the network, unless that is allowed.

    Raises
    ------
    ValueError
        If they do not match, or nothing does.

    Examples
    --------
    >>> from cerebridge.models.loading import Loading, accept
    >>> accept(Loading("by hand", 2, 2), allow_partial=False).complete
    True
    """
    if loading.complete:
        return loading
    if not allow_partial or not loading.matched:
        raise ValueError(
            f"{loading.source} does not fit the network: {loading}; give the network's own weights"
            f"{' or allow_partial=True' if loading.matched else ''}."
        )
    warnings.warn(f"{loading.source} fills the network in part: {loading}; the rest is random.", stacklevel=2)
    return loading


def prove(net: nn.Module, loading: Loading, inputs: Inputs | None, packages: tuple[str, ...]) -> Loading:
    """Add fingerprints of the weights and of a forward pass on a fixed input.

    Parameters
    ----------
    net
        The network, in evaluation mode.
    loading
        What is known so far.
    inputs
        The fixed input, or ``None`` where it is not known what the network takes. A network that does not take it
        is not proved by a forward pass, which the record says.
    packages
        Names of those whose versions matter beside torch.

    Raises
    ------
    ValueError
        If the network gives values that are not finite.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.loading import Loading, prove
    >>> proof = prove(torch.nn.Linear(2, 1).eval(), Loading("random", 0, 2), torch.ones(1, 2), ())
    >>> proof.deterministic, len(proof.forward)
    (True, 8)
    """
    versions = {package: importlib.metadata.version(package) for package in ("torch", *packages)}
    loading = replace(loading, fingerprint=fingerprint(net), versions=versions)
    if inputs is None:
        return replace(loading, remark="it is not known what the network takes")
    try:
        first, second = (_pass_forward(net, inputs) for _ in range(2))
    except Exception as error:  # the network may take anything else, and says so in its own way
        return replace(loading, remark=f"the network does not take the fixed input ({_first_line(error)})")
    if not np.isfinite(first).all():
        raise ValueError(
            f"the network gives NaN or infinite values with the weights of {loading.source}; "
            "they are damaged or meant for another network."
        )
    length = float(np.linalg.norm(first)) or 1.0
    vectors = np.random.default_rng(0).standard_normal((FORWARD_NUMBERS, first.size), dtype=np.float32)
    deterministic = bool(np.allclose(first, second, rtol=0, atol=1e-5 * length / np.sqrt(first.size)))
    if not deterministic:
        warnings.warn(
            "the network gives another output for the same input each time: it draws random numbers even in "
            "evaluation mode.",
            stacklevel=3,
        )
    forward = tuple(round(float(number), 4) for number in vectors @ (first / length))
    return replace(loading, forward=forward, deterministic=deterministic)


def describe_network(net: nn.Module) -> dict[str, Any]:
    """Write down what a network is, for the provenance of what is computed with it.

    Returns
    -------
    dict
        ``network``, ``preprocess``, ``versions`` and, of networks that :func:`models.load` gave, ``loading``: source,
        tensors matched, fingerprint of the weights as they were loaded, forward pass, determinism.

    Examples
    --------
    >>> from cerebridge import models
    >>> from cerebridge.models.loading import describe_network
    >>> facts = describe_network(models.load("tiny", weights="random"))
    >>> facts["network"], facts["loading"]["source"], facts["loading"]["deterministic"]
    ('TinyNet', 'random', True)
    """
    facts: dict[str, Any] = {
        "network": type(net).__name__,
        "preprocess": describe(getattr(net, "preprocess", None)),
        "versions": {"torch": torch.__version__},
    }
    loading = getattr(net, "loading", None)
    if isinstance(loading, Loading):
        facts["versions"] = loading.versions
        kept = ("source", "matched", "total", "fingerprint", "deterministic", "remark")
        facts["loading"] = {name: getattr(loading, name) for name in kept}
        facts["loading"]["forward"] = list(loading.forward)
    return facts


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _pass_forward(net: nn.Module, inputs: Inputs) -> np.ndarray:
    home = next((tensor.device for tensor in (*net.parameters(), *net.buffers())), torch.device("cpu"))
    with evaluating(net, home):
        output = first_tensor(run_network(net, inputs))
    return output.float().cpu().numpy().ravel()
