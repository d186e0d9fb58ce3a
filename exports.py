"""Public names that are imported on first use, because the libraries under them take seconds."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def export(
    package: str, homes: Mapping[str, str], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's ``__getattr__`` and ``__dir__``.

    Parameters
    ----------
    package
        Its ``__name__``.
    homes
        Of each public name the module in which it lives.
    modules
        Modules whose names are reached through them.

    Examples
    --------
    >>> from cerebridge.exports import export
    >>> find, names = export("cerebridge.models", {"StimulusSet": "stimuli"})
    >>> find("StimulusSet").__name__, names()
    ('StimulusSet', ['StimulusSet'])
    """
    names = sorted([*homes, *modules])

    def find(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f".{name}", package)
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{homes[name]}", package), name)

    return find, names.copy
