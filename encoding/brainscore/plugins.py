"""Loading Brain-Score's plugins: nothing is installed, and what cannot be had is said in one sentence."""

from __future__ import annotations

from typing import Any, Literal

from ...models.compat import mend_torchvision
from ...models.names import nearest
from ...neuro.interchange import import_brainscore

Kind = Literal["metric", "benchmark", "model"]

#: words in the errors of those who wanted the network
_NETWORK = ("credential", "endpoint", "resolve", "getaddrinfo", "connection", "max retries", "urlopen", "s3")


def load_plugin(kind: Kind, identifier: str) -> Any:
    """Load one of Brain-Score's metrics, benchmarks or models by its identifier.

    Raises
    ------
    ImportError
        If Brain-Score or a package that the plugin needs is not installed.
    ValueError
        If there is no such plugin, or it fails.
    ConnectionError
        If the plugin wants files from the network, which cannot be reached.

    Examples
    --------
    >>> from cerebridge.encoding.brainscore.plugins import load_plugin
    >>> load_plugin("metric", "cka")  # doctest: +SKIP
    """
    vision = import_brainscore("brainscore_vision")
    mend_torchvision()
    try:
        return getattr(vision, f"load_{kind}")(identifier)
    except AssertionError as error:
        if "registration" not in str(error):
            raise _said(kind, identifier, error) from error
        known = sorted(getattr(vision, f"{kind}_registry"))
        hint = f"; of those loaded so far, {nearest(identifier, known)}" if known else ""
        raise ValueError(f"Brain-Score has no {kind} {identifier!r}{hint}.") from None
    except Exception as error:  # whatever a plugin stumbles over
        raise _said(kind, identifier, error) from error


def _said(kind: str, identifier: str, error: BaseException) -> Exception:
    """The error of a plugin in one sentence."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    missing = next((each for each in chain if isinstance(each, ModuleNotFoundError)), None)
    if missing is not None:
        return ImportError(
            f"the Brain-Score {kind} {identifier!r} needs the package {missing.name!r}, which is not installed; "
            "install it yourself, since no plugin is let run pip here."
        )
    text = " ".join(f"{type(each).__name__} {each}" for each in chain).lower()
    if any(isinstance(each, ConnectionError | TimeoutError) for each in chain) or any(
        w in text for w in _NETWORK
    ):
        what = "its weights" if kind == "model" else "its recordings and stimuli"
        return ConnectionError(
            f"the Brain-Score {kind} {identifier!r} wants {what} from the network, which cannot be reached from here; "
            "load it once on a machine that has it and copy ~/.brainio (or BRAINIO_HOME), or put data of your own into "
            "a folder (encoding.brainscore.read_benchmark)."
        )
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ValueError(f"the Brain-Score {kind} {identifier!r} cannot be loaded ({reason}).")
