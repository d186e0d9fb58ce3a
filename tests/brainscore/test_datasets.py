"""Brain-Score's own loading, where there is no network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from cerebridge import neuro

pytest.importorskip("brainscore_vision", reason="Brain-Score is not installed (make test-brainscore)")
pytestmark = pytest.mark.brainscore


@pytest.mark.parametrize("filled", [False, True], ids=["nothing there", "another set there"])
def test_without_a_network_one_sentence(
    filled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*args: Any, **options: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    folder = tmp_path / "brainio"
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("BRAINIO_HOME", str(folder))
    monkeypatch.setattr("brainscore_core.supported_data_standards.brainio.fetch._local_data_path", None)
    if filled:
        (folder / "other").mkdir(parents=True)
        (folder / "other" / "set.nc").write_text("")
    sentence = (
        r"MajajHong2015\.public is not complete in .*, and brainscore-storage\.s3\.amazonaws\.com cannot be"
    )
    with pytest.raises(ConnectionError, match=sentence):
        neuro.datasets.brainscore("MajajHong2015.public", modality="spikes", units="a.u.")
    assert folder.exists() == filled
