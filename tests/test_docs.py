"""The code of the documentation runs from top to bottom, and what is public is described."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from cerebridge import encoding, models
from cerebridge.encoding import brainscore, clusters, geometry, information, readouts, rsa
from cerebridge.models import decompose, features, synthesis

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: the guides, and how many blocks of code each has at least
GUIDES = {"encoders": 9, "similarity": 9, "networks": 9, "brainscore": 6}
#: what a block says that is left out where a package is missing
NEEDS = {"from distributed": "distributed", "# with Brain-Score": "brainscore_vision"}
#: what belongs to several guides, or to none
ELSEWHERE = {
    "encoders": {
        "Result",
        "ShrinkageLDA",
        "brainscore",
        "clusters",
        "geometry",
        "information",
        "load",
        "rsa",
    },
}


def text_of(guide: str) -> str:
    return (DOCS / f"{guide}.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Python blocks, with as many empty lines before each as there are in the file, so that errors name the line."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return ["\n" * text[: match.start(1)].count("\n") + match[1] for match in found]


@pytest.mark.parametrize("guide", GUIDES)
def test_every_block_runs_without_a_warning(guide, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    code = blocks(text_of(guide))
    assert len(code) >= GUIDES[guide]
    for block in code:
        if any(
            said in block and importlib.util.find_spec(package) is None for said, package in NEEDS.items()
        ):
            continue
        exec(compile(block, guide, "exec"), namespace)
    assert not [str(warning.message) for warning in recwarn if warning.category is UserWarning]
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("guide", "module"),
    [
        ("encoders", encoding),
        ("encoders", readouts),
        ("similarity", rsa),
        ("similarity", geometry),
        ("similarity", information),
        ("similarity", clusters),
        ("networks", models),
        ("networks", features),
        ("networks", decompose),
        ("networks", synthesis),
        ("brainscore", brainscore),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_public_name_is_described(guide, module):
    text = text_of(guide)
    missing = [
        name
        for name in set(module.__all__) - ELSEWHERE.get(guide, set())
        if not re.search(rf"\b{name}\b", text)
    ]
    assert not missing
