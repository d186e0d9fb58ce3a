"""The code of the documentation runs from top to bottom, and what is public is described."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from cerebridge import encoding
from cerebridge.encoding import readouts

ENCODERS = Path(__file__).resolve().parents[1] / "docs" / "encoders.md"


def blocks(text: str) -> list[str]:
    """Python blocks, with as many empty lines before each as there are in the file, so that errors name the line."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return ["\n" * text[: match.start(1)].count("\n") + match[1] for match in found]


def test_every_block_runs_without_a_warning(tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    code = blocks(ENCODERS.read_text(encoding="utf-8"))
    assert len(code) > 8
    for block in code:
        if "from distributed" in block and importlib.util.find_spec("distributed") is None:
            continue
        exec(compile(block, str(ENCODERS), "exec"), namespace)
    assert not [str(warning.message) for warning in recwarn if warning.category is UserWarning]
    assert (tmp_path / "result.nc").exists()


@pytest.mark.parametrize("module", [encoding, readouts], ids=lambda module: module.__name__)
def test_every_public_name_is_described(module):
    text = ENCODERS.read_text(encoding="utf-8")
    # dissimilarities and the classifier are no encoders
    others = {"Result", "ShrinkageLDA", "load", "rsa"}
    missing = [name for name in set(module.__all__) - others if not re.search(rf"\b{name}\b", text)]
    assert not missing
