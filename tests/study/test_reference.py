from __future__ import annotations

import re
import tomllib
from pathlib import Path

from cerebridge.encoding.study.reference import markdown
from cerebridge.encoding.study.validation import first_problem, schema

DOCS = Path(__file__).resolve().parents[2] / "docs" / "study.md"


def test_every_key_of_every_entry_has_a_row():
    text = markdown()
    for name, node in schema()["$defs"].items():
        for key, entry in node.get("properties", {}).items():
            if "const" not in entry:
                assert re.search(rf"\| `{key}`( \*)? \| \S", text), f"{key} of {name}"
        for key in node.get("required", []):
            assert f"| `{key}` * |" in text or "const" in node["properties"][key]


def test_the_documentation_has_the_tables_of_this_schema():
    assert DOCS.read_text(encoding="utf-8").endswith(markdown()), "run: cerebridge schema --markdown"


def test_the_example_of_the_documentation_is_a_study():
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert first_problem(tomllib.loads(example)) is None
