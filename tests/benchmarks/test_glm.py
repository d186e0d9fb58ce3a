"""The benchmark of count encoders runs and reaches the peer's objective."""

from __future__ import annotations

import pytest

from benchmarks import glm


@pytest.mark.slow
def test_poisson_glm_reaches_the_objective_of_nemos():
    pytest.importorskip("nemos")
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    try:
        report = glm.run(quick=True)
    finally:
        jax.config.update("jax_enable_x64", before)
    assert max(report["agreement"]["objective_gaps"].values()) < 1e-6
    assert report["agreement"]["coef_distance"] < 1e-2
    assert report["cases"]["peer"]["compile_seconds"] > 0
