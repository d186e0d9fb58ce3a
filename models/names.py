"""Names: help with those that are nearly right, and how functions are called in records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def nearest(name: str, known: Iterable[str]) -> str:
    """Offer the known names nearest to a wrong one, as half a sentence.

    Examples
    --------
    >>> from cerebridge.models.names import nearest
    >>> nearest("conv11", ["conv1", "readout"])
    "the nearest are 'conv1'"
    """
    known = list(known)
    close = get_close_matches(name, known, n=4, cutoff=0.5)
    if close:
        return f"the nearest are {', '.join(map(repr, close))}"
    return f"there are {', '.join(map(repr, known[:12]))}{', …' if len(known) > 12 else ''}"


def describe(thing: Any) -> str:
    """Write an option down so that an equal one reads alike tomorrow, and another one does not.

    Functions are described by name and a hash of their code, of their defaults and of what they hold from around them,
    since all lambdas have one name; arrays and the weights of networks by a hash; objects that do not write down
    themselves by their attributes.

    Examples
    --------
    >>> from cerebridge.models.names import describe
    >>> describe(7), describe(None)
    ('7', 'None')
    >>> describe(lambda x: x + 1) == describe(lambda x: x + 2)
    False
    >>> add = lambda number: lambda x: x + number
    >>> describe(add(1)) == describe(add(1)), describe(add(1)) == describe(add(2))
    (True, False)
    """
    return _described(thing, ())


def _described(thing: Any, around: tuple[int, ...]) -> str:
    if id(thing) in around:
        return "…"
    within = (*around, id(thing))

    def listed(parts: Iterable[Any]) -> str:
        return ", ".join(_described(part, within) for part in parts)

    def named(parts: Mapping[str, Any]) -> str:
        return ", ".join(f"{name}={_described(part, within)}" for name, part in parts.items())

    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    if isinstance(thing, ModuleType):
        return thing.__name__
    if isinstance(thing, type) or thing is None:
        return repr(thing)
    if isinstance(thing, FunctionType):
        return f"{thing.__module__}.{thing.__qualname__}#{_hash(_content(thing, within))}"
    if isinstance(thing, MethodType):
        return f"{_described(thing.__func__, within)} of {_described(thing.__self__, within)}"
    if isinstance(thing, partial):
        return f"partial({listed([thing.func, *thing.args])}, {named(thing.keywords)})"
    if type(thing) in (list, tuple, dict):
        pairs = thing.items() if isinstance(thing, dict) else ()
        text = ", ".join(f"{key!r}: {_described(value, within)}" for key, value in pairs) or listed(thing)
        left, right = "[]" if isinstance(thing, list) else "()" if isinstance(thing, tuple) else "{}"
        return left + text + right
    if isinstance(thing, set | frozenset):
        return f"{kind}({', '.join(sorted(_described(part, within) for part in thing))})"
    if isinstance(thing, np.ndarray) or hasattr(thing, "detach"):
        values = np.ascontiguousarray(thing.detach().cpu() if hasattr(thing, "detach") else thing)
        return f"{kind} {values.dtype} {values.shape}#{_hash(values.tobytes())}"
    if hasattr(thing, "state_dict") and callable(getattr(thing, "forward", None)):
        state = thing.state_dict()
        return ADDRESS.sub("", repr(thing)) + (f"#{_hash(named(state).encode())}" if state else "")
    dataclass: Any = getattr(type(thing), "__dataclass_params__", None)
    if dataclass is not None and dataclass.repr:
        shown = {one.name: getattr(thing, one.name) for one in fields(thing) if one.repr}
        return f"{type(thing).__qualname__}({named(shown)})"
    if type(thing).__repr__ is object.__repr__ and hasattr(thing, "__dict__"):
        return f"{kind}({named(vars(thing))})"
    return ADDRESS.sub("", repr(thing))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _content(function: FunctionType, within: tuple[int, ...]) -> bytes:
    """What a function does: its code, and all that it takes from elsewhere."""
    codes = list(_codes(function.__code__))
    held: dict[str, Any] = {"defaults": function.__defaults__, "keywords": function.__kwdefaults__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        held[f"held {name}"] = cell.cell_contents if _is_full(cell) else None
    for name in sorted({name for code in codes for name in code.co_names} & function.__globals__.keys()):
        value = function.__globals__[name]
        # of other modules' functions the name is enough
        foreign = isinstance(value, FunctionType) and value.__module__ != function.__module__
        held[f"global {name}"] = f"{value.__module__}.{value.__qualname__}" if foreign else value
    parts = [code.co_code + repr(code.co_names).encode() for code in codes]
    constants = [[value for value in code.co_consts if not isinstance(value, CodeType)] for code in codes]
    return b"".join(parts) + _described([constants, held], within).encode()


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of functions and comprehensions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
