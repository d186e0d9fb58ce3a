"""Names: help with those that are nearly right, and how functions are called in records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

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

    Functions are described by name and a hash of their code, since all lambdas have one name.

    Examples
    --------
    >>> from cerebridge.models.names import describe
    >>> describe(7), describe(None)
    ('7', 'None')
    >>> describe(lambda x: x + 1) == describe(lambda x: x + 2)
    False
    """
    code = getattr(thing, "__code__", None)
    if code is None:
        return ADDRESS.sub("", repr(thing))
    content = code.co_code + ADDRESS.sub("", repr((code.co_consts, code.co_names))).encode()
    return f"{thing.__module__}.{thing.__qualname__}#{hashlib.sha256(content).hexdigest()[:8]}"
