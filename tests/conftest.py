"""Fixtures that every test may use: the real data, devices and dtypes, small labelled arrays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """Where real recordings (``data/``) and networks (``weights/``) lie."""
    return Path(os.environ.get("CEREBRIDGE_DATA", REPOSITORY.parent / "shared")).resolve()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real recordings; the test is skipped where it is missing, and fails so in CI."""
    folder = shared_folder()
    if not (folder / "data").is_dir():
        message = (
            f"no real recordings at {folder}: set CEREBRIDGE_DATA to the folder that holds data/ and weights/"
        )
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    """The real recordings."""
    return shared / "data"


@pytest.fixture(scope="session")
def weights(shared: Path) -> Path:
    """The real networks."""
    return shared / "weights"


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Draws that a test makes with torch do not depend on which tests ran before it."""
    torch.manual_seed(0)


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Every device that torch finds here."""
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Both precisions that the engine computes in."""
    return request.param
