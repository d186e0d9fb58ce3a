"""The benchmark of sparse autoencoders agrees with the plain loop at toy size."""

from __future__ import annotations

from benchmarks import sae


def test_both_trainings_agree_and_are_measured():
    report = sae.run(quick=True)
    assert report["agreement"]["largest_loss_difference"] < 1e-5
    assert 0.1 < report["agreement"]["explained_variance_of_loop"] < 1
    assert all(report[side]["wall_seconds"] > 0 < report[side]["peak_bytes"] for side in ("ours", "loop"))
