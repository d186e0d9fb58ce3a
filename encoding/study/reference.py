"""The reference of the study format, written from its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .validation import resolved, schema

SECTIONS = ("stimuli", "recordings", "networks", "features", "encoders", "analyses")
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "table",
}


def markdown() -> str:
    """Tables of all keys, as Markdown; keys with a star are required.

    Examples
    --------
    >>> from cerebridge.encoding.study.reference import markdown
    >>> markdown().splitlines()[0]
    '## `[study]`'
    """
    parts = [f"## `[study]`\n\n{_table(schema()['properties']['study'])}"]
    for section in SECTIONS:
        heading = f"[[{section}]]" if section == "analyses" else f"[{section}.NAME]"
        parts.append(f"## `{heading}`")
        for name, node in schema()["$defs"].items():
            owner, _, variant = name.partition(".")
            if owner == section:
                key = "kind" if "kind" in node["properties"] else "reader"
                title = f'### `{key} = "{variant}"`\n\n' if variant else ""
                parts.append(f"{title}{node['description']}\n\n{_table(node)}")
    return "\n\n".join(parts) + "\n"


def _table(node: Mapping[str, Any]) -> str:
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for key, entry in node["properties"].items():
        entry = resolved(entry)
        if "const" in entry:
            continue
        star = " *" if key in node.get("required", []) else ""
        default = f"`{json.dumps(entry['default'])}`" if "default" in entry else ""
        rows.append(f"| `{key}`{star} | {_type(entry)} | {default} | {entry.get('description', '')} |")
    return "\n".join(rows)


def _type(entry: Mapping[str, Any]) -> str:
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    types = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    if types == ["array"]:
        items = resolved(entry.get("items", {}))
        return f"list of {_type(items)}" if "type" in items or "enum" in items else "list"
    return " or ".join(_TYPES[name] for name in types)
