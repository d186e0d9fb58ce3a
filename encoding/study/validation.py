"""Whether a study is written as its JSON schema says; what is wrong becomes one sentence with the key in it."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

#: the keys that choose between variants of an entry
DISCRIMINATORS = ("reader", "kind")
_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}
_LIMITS = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be above {}",
    "minLength": "must not be empty",
    "minItems": "needs at least {} entries",
    "maxItems": "may have at most {} entries",
    "minProperties": "needs at least {} entry",
    "uniqueItems": "holds an entry twice",
    "pattern": "must consist of letters, digits, '-' and '_'",
}


class StudyError(ValueError):
    """Something in a study file is wrong: one sentence with the file, the key and what is allowed."""


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of study files.

    Examples
    --------
    >>> from cerebridge.encoding.study.validation import schema
    >>> schema()["required"]
    ['study', 'recordings', 'analyses']
    """
    text = files(__package__).joinpath("schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def first_problem(table: Mapping[str, Any]) -> str | None:
    """Say what is wrong first in a study's table, in a sentence without the file; ``None`` if nothing is.

    Examples
    --------
    >>> from cerebridge.encoding.study.validation import first_problem
    >>> first_problem({"study": {"nam": "v4"}, "recordings": {}, "analyses": []})
    "study has the unknown key 'nam'; did you mean 'name'? Allowed are name, title, description, root, seed, device."
    """
    from jsonschema import Draft202012Validator

    errors = [leaf for error in Draft202012Validator(schema()).iter_errors(table) for leaf in _leaves(error)]
    if not errors:
        return None
    # a misspelt key explains the missing one, so it is said first
    order = ["additionalProperties", "variant", "required"]
    ranked = sorted(errors, key=lambda error: order.index(error[0]) if error[0] in order else len(order))
    kind, path, error = ranked[0]
    return f"{_place(table, path)} {_complaint(kind, error)}"


def filled(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a valid table with every default of the schema set, so that steps find all keys."""
    out = copy.deepcopy(dict(table))
    _fill(out, schema())
    return out


def allowed(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'? Allowed are …"`` for a name that is not among the known ones."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} Allowed are {', '.join(known)}." if known else f"{hint} there are none."


def _leaves(error: Any) -> list[tuple[str, list[Any], Any]]:
    """An error as (kind, path, error); of variants, only the errors of the one that was meant."""
    if error.validator != "oneOf":
        return [(error.validator, list(error.absolute_path), error)]
    entry = error.instance
    variants = [resolved(variant) for variant in error.validator_value]
    if not isinstance(entry, dict):
        return [("type", list(error.absolute_path), error)]
    key = next(key for key in DISCRIMINATORS if key in variants[0]["properties"])
    names = [variant["properties"][key]["const"] for variant in variants]
    default = next(
        (v["properties"][key].get("default") for v in variants if "default" in v["properties"][key]), None
    )
    meant = entry.get(key, default)
    if meant not in names:
        error.meant = (key, meant, names)
        return [("variant", list(error.absolute_path), error)]
    here = [sub for sub in error.context if sub.schema_path[0] == names.index(meant)]
    return [leaf for sub in here for leaf in _leaves(sub)]


def _complaint(kind: str, error: Any) -> str:
    value, wanted = error.instance, error.validator_value
    if kind == "variant":
        key, meant, names = error.meant
        if meant is None:
            return f"lacks the key {key!r}; it must be one of {', '.join(names)}."
        return f"has {key} = {meant!r}{allowed(str(meant), names)}"
    if kind == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = next(key for key in value if key not in known)
        return f"has the unknown key {unknown!r}{allowed(unknown, known)}"
    if kind == "required":
        missing = next(key for key in wanted if key not in value)
        about = resolved(error.schema["properties"][missing]).get("description", "").rstrip(".")
        return f"lacks the key {missing!r}{f': {about[0].lower()}{about[1:]}' if about else ''}."
    if kind == "enum":
        return f"is {value!r}{allowed(str(value), map(str, wanted))}"
    if kind in ("type", "oneOf"):
        types = [wanted] if isinstance(wanted, str) else wanted if kind == "type" else ["object"]
        types = [name for name in types if isinstance(name, str)] or ["object"]
        return f"is {value!r}, but must be {' or '.join(_TYPES[name] for name in types)}."
    if "propertyNames" in error.absolute_schema_path:
        return f"has an entry called {value!r}, but names {_LIMITS[kind].format(wanted)}."
    return f"is {value!r}, but {_LIMITS[kind].format(wanted)}."


def _place(table: Mapping[str, Any], path: list[Any]) -> str:
    """A key as the user wrote it: analyses are called by their names, list entries by their numbers."""
    parts: list[str] = []
    here: Any = table
    for step in path:
        here = here[step]
        if isinstance(step, int):
            named = here.get("name") if isinstance(here, dict) else None
            parts[-1] += f"[{step}]" if not isinstance(named, str) else f" {named!r}"
        else:
            parts.append(str(step))
    return ".".join(parts) or "the study"


def resolved(node: Mapping[str, Any]) -> dict[str, Any]:
    """A schema node with its reference followed; what stands beside the reference wins."""
    if "$ref" not in node:
        return dict(node)
    return {**schema()["$defs"][node["$ref"].removeprefix("#/$defs/")], **node}


def _fill(value: dict[str, Any], node: Mapping[str, Any]) -> None:
    node = _variant(value, resolved(node))
    for key, sub in node.get("properties", {}).items():
        sub = resolved(sub)
        if key not in value and "default" in sub:
            value[key] = copy.deepcopy(sub["default"])
        if isinstance(value.get(key), dict):
            _fill(value[key], sub)
        elif isinstance(value.get(key), list):
            for item in value[key]:
                if isinstance(item, dict):
                    _fill(item, sub["items"])
    entries = node.get("additionalProperties")
    if isinstance(entries, dict):
        for entry in value.values():
            if isinstance(entry, dict):
                _fill(entry, entries)


def _variant(value: Mapping[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Of the variants of an entry the one that its discriminator chooses."""
    for variant in map(resolved, node.get("oneOf", [])):
        key = next(key for key in DISCRIMINATORS if key in variant["properties"])
        choice = variant["properties"][key]
        if value.get(key, choice.get("default")) == choice["const"]:
            return variant
    return node
