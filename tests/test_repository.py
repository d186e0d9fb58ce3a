"""The repository as a whole: packages, doctests, import cost, the wheel, and the limits that keep it readable."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cerebridge

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("neuro", "models", "encoding")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
#: modules that need a package which only one of the two environments has
OPTIONAL = {"cerebridge.encoding.rsa.homology", "cerebridge.encoding.plots.homology"}
HERE = importlib.util.find_spec("ripser") is not None


def subpackages() -> list[str]:
    folders = {path.parent.relative_to(ROOT) for path in SOURCES}
    return sorted(["cerebridge", *(".".join(("cerebridge", *folder.parts)) for folder in folders)])


def modules() -> list[str]:
    return sorted(
        info.name
        for room in ROOMS
        for info in pkgutil.walk_packages([str(ROOT / room)], f"cerebridge.{room}.")
        if HERE or info.name not in OPTIONAL
    )


def test_every_subpackage_is_listed():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert sorted(config["tool"]["setuptools"]["packages"]) == subpackages()


@pytest.mark.parametrize("name", modules())
def test_doctests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
    assert not list(tmp_path.iterdir()), "a doctest left files behind"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_stay_readable(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            lines = node.end_lineno - node.lineno + 1 - len(docstring.splitlines())
            assert lines <= 60, f"{node.name} has {lines} lines without its docstring"


def test_public_functions_have_runnable_examples():
    encoding = cerebridge.encoding
    modules = (encoding.likeness, encoding.group, encoding.bases)
    modules += (encoding.geometry, encoding.information, encoding.clusters)
    for room in (
        cerebridge.neuro,
        cerebridge.models,
        encoding,
        encoding.rsa,
        encoding.readouts,
        encoding.plots,
        encoding.brainscore,
        *modules,
    ):
        for name in room.__all__:
            thing = getattr(room, name)
            if callable(thing):
                assert ">>>" in (thing.__doc__ or ""), f"{room.__name__}.{name} has no example"


@pytest.mark.parametrize(
    "heavy", ["mne", "nilearn", "lightning", "matplotlib", "pynwb", "torchvision", "distributed"]
)
def test_import_is_light(heavy):
    code = f"import sys, cerebridge.neuro, cerebridge.encoding; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_large_and_nothing_built_is_kept():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    kept = [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]
    assert not [path.name for path in kept if path.stat().st_size > 1 << 20]
    assert not [path.name for path in kept if path.suffix in (".whl", ".gz", ".zip", ".pyc", ".so")]


def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    checkout = tmp_path / "checkout"
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in files:
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).write_bytes((ROOT / name).read_bytes())
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(checkout),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if name.startswith("cerebridge/")}
    assert {f"cerebridge/{path.relative_to(ROOT)}" for path in SOURCES} <= inside
    assert "cerebridge/py.typed" in inside
    assert {name.split("/")[0] for name in names} == {
        "cerebridge",
        f"cerebridge-{cerebridge.__version__}.dist-info",
    }
    assert not [name for name in inside if name.split("/")[1] in ("tests", "tutorials", "benchmarks", "docs")]


def test_a_users_own_models_folder_does_not_collide(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("mine = 1\n")
    code = (
        "import models, cerebridge.models; assert models.mine == 1 and not hasattr(cerebridge.models, 'mine')"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
