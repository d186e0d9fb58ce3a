"""Persistent homology: circles, tori, clouds, and a ring of neurons."""

from __future__ import annotations

import sys
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch

from cerebridge import neuro
from cerebridge.encoding import rsa

pytest.importorskip("ripser")


def circle(n=40, noise=0.0, seed=0):
    angle = 2 * np.pi * np.arange(n) / n
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + noise * np.random.default_rng(seed).normal(size=points.shape)


def torus(n=13):
    """A flat torus in four dimensions, sampled on a skewed grid."""
    a, b = np.meshgrid(*[2 * np.pi * np.arange(n) / n] * 2)
    a = a + b / 7
    return np.stack([np.cos(a), np.sin(a), np.cos(b), np.sin(b)], axis=-1).reshape(-1, 4)


def cloud(n=40, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def lengths(persistence, dimension):
    bars = persistence.bars
    here = bars["dimension"].values == dimension
    return np.sort((bars["death"] - bars["birth"]).values[here])[::-1]


def row(persistence, dimension):
    return persistence.summary().query("dimension == @dimension").iloc[0]


def test_a_circle_has_one_loop():
    found = rsa.persistent_homology(circle())
    (loop,) = lengths(found, 1)
    # the loop is there from neighbours' distance on, and filled at that of three points around
    assert loop == pytest.approx(2 * np.sin(np.pi * 14 / 40) - 2 * np.sin(np.pi / 40), abs=0.02)
    assert lengths(found, 0).size == 40 and np.isinf(lengths(found, 0)).sum() == 1
    betti = found.betti([0.0, 0.5, 3.0])
    assert betti.dims == ("neuroid_id", "dimension", "distance")
    assert betti.values[0].tolist() == [[40, 1, 1], [0, 1, 0]]
    noisy = row(rsa.persistent_homology(circle(60, 0.1)), 1)
    assert noisy["contrast"] > 5


@pytest.mark.parametrize("seed", range(5))
def test_a_cloud_has_no_loop_that_stands_out(seed):
    found = row(rsa.persistent_homology(cloud(60, seed=seed)), 1)
    assert found["contrast"] < 2
    assert found["longest"] < 0.8


def test_a_torus_has_two_loops_and_a_void():
    found = rsa.persistent_homology(torus(), max_dimension=2, largest=2.0)
    loops, voids = lengths(found, 1), lengths(found, 2)
    assert loops[1] > 0.5 > 3 * (loops[2] if loops.size > 2 else 0)
    assert voids[0] > 0.2 and (voids.size == 1 or voids[0] > 3 * voids[1])
    assert row(found, 1)["n_bars"] == loops.size


def head_direction(n_neurons=40, n_bins=300, seed=0, tuned=True):
    """Spike counts of neurons tuned to a wandering angle; untuned: with the same rates in other orders of bins."""
    rng = np.random.default_rng(seed)
    angle = np.cumsum(rng.normal(0, 0.5, n_bins))
    preferred = 2 * np.pi * np.arange(n_neurons) / n_neurons
    rates = 30 * np.exp(2 * (np.cos(angle[:, None] - preferred) - 1))
    if not tuned:
        rates = rng.permuted(rates, axis=0)
    start = np.arange(n_bins) * 0.1
    return neuro.assemble(
        np.sqrt(rng.poisson(rates)),
        time_bin={"time_bin_start": start, "time_bin_end": start + 0.1},
        neuroid={"neuroid_id": np.arange(n_neurons)},
        modality="spikes",
        units="spikes",
    )


def test_head_direction_neurons_live_on_a_ring():
    ring = rsa.persistent_homology(head_direction(), landmarks=100)
    assert ring.bars["neuroid_id"].values[0] == "spikes"
    assert row(ring, 1)["contrast"] > 3
    shuffled = rsa.persistent_homology(head_direction(tuned=False), landmarks=100)
    assert np.nan_to_num(row(shuffled, 1)["contrast"], nan=1) < 2


def labelled(*clouds):
    patterns = np.concatenate(clouds, axis=1)
    owners = np.repeat([f"area {k}" for k in range(len(clouds))], [c.shape[1] for c in clouds])
    array = neuro.assemble(
        patterns,
        presentation={"stimulus_id": np.arange(len(patterns))},
        neuroid={"neuroid_id": np.arange(patterns.shape[1]), "region": owners},
        modality="spikes",
        units="spikes/s",
    )
    return rsa.rdm(array, "euclidean", by="region")


def test_rdms_and_patterns_agree_and_labels_stay(tmp_path):
    rdms = labelled(circle(), cloud())
    found = rsa.persistent_homology(rdms)
    for k, points in enumerate((circle(), cloud())):
        alone = rsa.persistent_homology(torch.as_tensor(points))
        here = found.bars["neuroid_id"].values == f"area {k}"
        np.testing.assert_allclose(
            np.sort(found.bars["birth"].values[here]), np.sort(alone.bars["birth"].values), atol=1e-6
        )
    assert set(found.bars["region"].values) == {"area 0", "area 1"}
    assert found.bars.attrs["units"] == "spikes/s"
    order = np.random.default_rng(0).permutation(rdms.sizes["pair"])
    moved = rsa.persistent_homology(rdms.isel(pair=order))
    pd.testing.assert_frame_equal(moved.summary(), found.summary())
    found.save(tmp_path / "bars.nc")
    pd.testing.assert_frame_equal(rsa.Persistence.load(tmp_path / "bars.nc").summary(), found.summary())
    figure = found.plot()
    assert len(figure.axes) == 4
    figure.savefig(tmp_path / "bars.png")


def brute_force(a, b, metric):
    """Best matching of small diagrams, each point to another or to the diagonal."""
    a, b = a[a[:, 1] - a[:, 0] > 0], b[b[:, 1] - b[:, 0] > 0]
    best = np.inf
    for order in permutations(range(len(a) + len(b))):
        moves = []
        for i, j in enumerate(order):
            pair = [a[i] if i < len(a) else None, b[j] if j < len(b) else None]
            if pair[0] is None and pair[1] is None:
                continue
            if pair[0] is None or pair[1] is None:
                (point,) = (p for p in pair if p is not None)
                gap = np.full(2, (point[1] - point[0]) / 2)
            else:
                gap = np.abs(pair[0] - pair[1])
            moves.append(gap.max() if metric == "bottleneck" else np.linalg.norm(gap))
        best = min(best, max(moves, default=0.0) if metric == "bottleneck" else sum(moves))
    return best


@pytest.mark.parametrize("metric", ["bottleneck", "wasserstein"])
def test_distances_are_those_of_the_best_matching(metric):
    found = rsa.persistent_homology(labelled(cloud(14, seed=1), cloud(14, seed=2), circle(14)))
    bars = found.bars
    diagrams = [
        np.stack([bars["birth"], bars["death"]], axis=1)[
            (bars["neuroid_id"].values == f"area {k}") & (bars["dimension"].values == 1)
        ]
        for k in range(3)
    ]
    assert all(0 < len(diagram) <= 4 for diagram in diagrams)
    distances = found.distances(1, metric).values
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert distances[i, j] == pytest.approx(brute_force(diagrams[i], diagrams[j], metric), abs=1e-6)
        assert distances[j, i] == distances[i, j]
    assert (np.diag(distances) == 0).all()


def test_two_circles_are_nearer_than_a_circle_and_a_cloud():
    found = rsa.persistent_homology(labelled(circle(40, 0.05, 1), circle(40, 0.05, 2), cloud()))
    distances = found.distances().sel(rdm_a="area 0")
    assert distances.sel(rdm_b="area 1") < 0.3 * distances.sel(rdm_b="area 2")


def test_missing_ripser_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ripser", None)
    with pytest.raises(ImportError, match=r"persistent homology needs ripser; .*cerebridge\[topology\]"):
        rsa.persistent_homology(circle())


BAD = {
    "missing": (
        lambda r: rsa.persistent_homology(r.where(r > 1).assign_attrs(r.attrs)),
        "RDM 'area 0' has .* missing or infinite dissimilarities",
    ),
    "negative": (
        lambda r: rsa.persistent_homology((r - 1).assign_attrs(r.attrs)),
        "negative dissimilarities",
    ),
    "dimension": (lambda r: rsa.persistent_homology(r, -1), "max_dimension must be a whole number from 0"),
    "field": (lambda r: rsa.persistent_homology(r, field=4), "field=4 is no prime"),
    "largest": (lambda r: rsa.persistent_homology(r, largest=-1), "largest=-1 must be a distance above 0"),
    "landmarks": (lambda r: rsa.persistent_homology(r, landmarks=99), "landmarks=99 are more than the 14"),
    "few": (lambda r: rsa.persistent_homology(np.eye(2)), "three rows at least"),
    "undefined": (
        lambda r: rsa.persistent_homology(np.ones((5, 3)), metric="correlation"),
        "distances of the patterns are undefined",
    ),
    "metric": (lambda r: rsa.persistent_homology(r).distances(1, "euclidean"), "use 'bottleneck' or"),
    "no bars": (lambda r: rsa.persistent_homology(r).distances(2), "no bars of dimension 2, only of"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_input_is_one_sentence(case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match) as error:
        call(labelled(circle(14)))
    assert "\n" not in str(error.value)
