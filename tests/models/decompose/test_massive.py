"""Massive activations: planted entries, courses over training whose truth is known, and a text network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.special import lambertw

from cerebridge.models.decompose import fit_massive_course, report_massive_activations
from cerebridge.models.decompose.curves import fit_curve
from cerebridge.models.decompose.massive import course


class Spike(torch.nn.Module):
    """Adds to channel 2 of the first token."""

    def __init__(self, size):
        super().__init__()
        self.block = torch.nn.Identity()
        self.size = size

    def forward(self, states):
        added = torch.zeros_like(states)
        added[:, 0, 2] = self.size
        return self.block(states + added)


STATES = torch.rand(10, 7, 16, generator=torch.Generator().manual_seed(0)) + 0.5


def test_planted_entries_are_found_and_measured():
    report = report_massive_activations(Spike(2000.0), STATES, ["block"])
    assert report.sizes == {"layer": 1}
    median = np.median(
        (STATES + 2000 * (torch.arange(16) == 2) * (torch.arange(7) == 0)[:, None]).numpy(), (1, 2)
    )
    assert report["ratio"].item() == pytest.approx((report["largest"] / np.mean(median)).item(), rel=1e-2)
    assert report["n_massive"].item() == 10
    assert (report["channel"].item(), report["position"].item()) == (2, 0)
    # large, but not above a hundred; above a hundred, but not a thousand medians
    assert report_massive_activations(Spike(90.0), STATES, ["block"])["n_massive"].item() == 0
    assert report_massive_activations(Spike(500.0), STATES, ["block"])["n_massive"].item() == 0
    assert report_massive_activations(Spike(500.0), STATES, ["block"], ratio=100)["n_massive"].item() == 10


def test_checkpoints_are_loaded_one_by_one():
    loaded = []

    def load(size):
        loaded.append(size)
        return Spike(size)

    nets = {step: (lambda step=step: load(10.0 * step)) for step in (1, 2, 3)}
    report = report_massive_activations(nets, STATES, ["block"], batch_size=3)
    assert loaded == [10, 20, 30] and report["checkpoint"].values.tolist() == [1, 2, 3]
    assert (np.diff(report["ratio"].values[:, 0]) > 5).all()


def truth(decay, gamma, t0, scale=40.0, offset=5.0, noise=0.02, seed=0):
    steps = np.unique(np.r_[0, np.geomspace(1, 140, 60).round(1)])
    x = gamma * steps + t0
    values = scale * np.exp(-decay * x) * np.log(x) + offset
    rng = np.random.default_rng(seed)
    noisy = values + noise * np.ptp(values) * rng.standard_normal(len(steps))
    peak = (np.exp(lambertw(1 / decay).real) - t0) / gamma
    return xr.DataArray(noisy, [("checkpoint", steps)], name="ratio"), values, peak


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_early_peak_is_found_in_time_and_height(seed):
    ratios, values, peak = truth(0.1, 0.5, 1.2, seed=seed)
    fitted = fit_massive_course(ratios, n_starts=12)
    assert float(fitted["r2"]) > 0.99
    assert fitted["kind"].item() == "early peak"
    assert float(fitted["peak"]) == pytest.approx(peak, rel=0.05)
    assert np.abs(course(ratios["checkpoint"], fitted) - values).max() < 0.03 * np.ptp(values)


def test_a_rise_without_end_and_a_fall_are_told_apart():
    rising, values, _ = truth(1e-5, 0.5, 1.2)
    falling = rising.copy(data=-rising.values)
    both = xr.concat([rising, falling], "layer").assign_coords(layer=["middle", "last"])
    fitted = fit_massive_course(both, n_starts=8)
    assert fitted["kind"].values.tolist() == ["log increase", "decrease"]
    assert np.isnan(fitted["peak"].values).all() and (fitted["r2"].values > 0.98).all()
    assert np.abs(course(rising["checkpoint"], fitted.isel(layer=0)) - values).max() < 0.05 * np.ptp(values)


def test_noise_is_not_explained():
    noise = xr.DataArray(np.random.default_rng(0).standard_normal(60), [("checkpoint", np.arange(60.0))])
    assert float(fit_massive_course(noise, n_starts=8)["r2"]) < 0.5


def test_what_does_not_change_has_no_course():
    flat = xr.DataArray(np.full(10, 7.0), [("checkpoint", np.arange(10.0))])
    fitted = fit_massive_course(flat, n_starts=4)
    assert str(fitted["kind"].values) == "constant" and float(fitted["K"]) == pytest.approx(7, abs=1e-3)
    with pytest.raises(ValueError, match="all checkpoints are of the training step 3"):
        fit_massive_course(flat.assign_coords(checkpoint=np.full(10, 3.0)))


def test_curves_have_enough_points_that_are_numbers():
    with pytest.raises(ValueError, match="3 points are too few for 3 unknowns"):
        fit_curve(lambda x, a: x**a, [1, 2, 3], [1, 2, 3], [(0.1, 1)])
    with pytest.raises(ValueError, match="points of a curve are not finite"):
        fit_curve(lambda x, a: x**a, [1, 2, 3, 4], [1, 2, np.nan, 3], [(0.1, 1)])


def test_bad_input():
    with pytest.raises(ValueError, match="there are no checkpoints"):
        report_massive_activations({}, STATES, ["block"])
    with pytest.raises(ValueError, match="half of the activations of 'block' are 0"):
        report_massive_activations(Spike(1.0), torch.zeros(1, 3, 4), ["block"])
    with pytest.raises(
        ValueError, match="there are 3 checkpoints; a course of five parameters needs at least seven"
    ):
        fit_massive_course(xr.DataArray(np.ones(3), [("checkpoint", [1, 2, 3])]))
    with pytest.raises(ValueError, match="coordinate is the training step, a number"):
        fit_massive_course(xr.DataArray(np.ones(8), [("checkpoint", list("abcdefgh"))]))


def test_a_text_network_has_one_outstanding_channel_and_nothing_massive(minilm):
    net, tokens, layers = minilm
    report = report_massive_activations(net, tokens, layers)
    assert (report["channel"] == 99).all() and (report["position"] == 0).all()
    assert report["n_massive"].sum() == 0
    assert report["ratio"].sel(layer="encoder.layer.4").item() == pytest.approx(48.6, abs=0.5)
    assert report["ratio"].values.argmax() == 5
