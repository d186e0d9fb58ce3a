"""Bases and designs: the peer's functions, causality, borders, composition, labels, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import neuro
from cerebridge.encoding import PoissonGLM, bases

X = np.linspace(0, 1, 41)
EVERY = [
    bases.RaisedCosine(5, window=9),
    bases.RaisedCosine(4, spacing="log", window=9),
    bases.BSpline(6, window=9),
    bases.BSpline(3, order=1, bounds=(2, 5), window=9),
    bases.History(9),
]


@pytest.mark.parametrize(
    ("ours", "name", "arguments"),
    [
        (bases.RaisedCosine(5), "RaisedCosineLinearEval", {"n_basis_funcs": 5}),
        (bases.RaisedCosine(6, width=1.5), "RaisedCosineLinearEval", {"n_basis_funcs": 6, "width": 1.5}),
        (bases.RaisedCosine(5, spacing="log"), "RaisedCosineLogEval", {"n_basis_funcs": 5}),
        (bases.BSpline(7), "BSplineEval", {"n_basis_funcs": 7}),
        (bases.BSpline(5, order=3), "BSplineEval", {"n_basis_funcs": 5, "order": 3}),
        (bases.Cyclic(7, period=1), "CyclicBSplineEval", {"n_basis_funcs": 7}),
        (bases.Cyclic(5, period=1, order=3), "CyclicBSplineEval", {"n_basis_funcs": 5, "order": 3}),
        (bases.Identity(), "IdentityEval", {}),
    ],
)
def test_values_agree_with_nemos(ours, name, arguments):
    nemos = pytest.importorskip("nemos")
    x = X[:-1]  # the end of a period is its start here
    theirs = np.asarray(getattr(nemos.basis, name)(bounds=(0, 1), **arguments).compute_features(x)).reshape(
        len(x), -1
    )
    np.testing.assert_allclose(ours.evaluate(x), theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["RaisedCosineLog", "BSpline"])
def test_filters_agree_with_nemos(name):
    nemos = pytest.importorskip("nemos")
    theirs = getattr(nemos.basis, f"{name}Conv")(4, window_size=9)
    ours = bases.BSpline(4, window=9) if name == "BSpline" else bases.RaisedCosine(4, spacing="log", window=9)
    counts = np.random.default_rng(0).poisson(0.5, (60, 2)).astype(float)
    expected = np.asarray(theirs.compute_features(counts)).reshape(60, 2, 4)
    known = ~np.isnan(expected).any((1, 2))
    assert known.sum() == 51
    np.testing.assert_allclose(ours.convolve(counts)[known], expected[known], atol=1e-5)


@pytest.mark.parametrize("basis", EVERY)
def test_filters_are_sums_over_the_past_of_the_group(basis):
    rng = np.random.default_rng(0)
    counts, groups = rng.poisson(1.0, (40, 3)), np.repeat([7, 2, 7], [15, 5, 20])
    kernel, ours = basis.kernel(), basis.convolve(counts, groups=groups)
    assert ours.shape == (40, 3, basis.n_basis)
    expected = np.zeros_like(ours)
    borders = np.repeat([0, 15, 20], [15, 5, 20])
    for t in range(40):
        for lag in range(1, min(9, t - borders[t]) + 1):
            expected[t] += counts[t - lag][:, None] * kernel[lag - 1]
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    np.testing.assert_array_equal(basis.convolve(counts[:, 1], groups=groups), ours[:, 1])


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(EVERY), st.integers(0, 29), st.integers(0, 100))
def test_the_future_and_other_trials_change_nothing(basis, t, seed):
    rng = np.random.default_rng(seed)
    counts, groups = rng.poisson(1.0, 30), np.arange(30) // 10
    changed = counts.copy()
    changed[t:] += rng.poisson(5.0, 30 - t)
    before, after = basis.convolve(counts, groups=groups), basis.convolve(changed, groups=groups)
    np.testing.assert_array_equal(after[: t + 1], before[: t + 1])
    changed = counts.copy()
    changed[groups != t // 10] += 1
    inside = groups == t // 10
    np.testing.assert_array_equal(basis.convolve(changed, groups=groups)[inside], before[inside])


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 9), st.integers(1, 4), st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9))
def test_splines_sum_to_one_everywhere(n, order, x):
    for basis in (bases.BSpline(n, order=order, bounds=(-10, 10)), bases.Cyclic(n, period=7.0, order=order)):
        values = basis.evaluate(x)
        np.testing.assert_allclose(values.sum(-1), 1)
        assert (values >= -1e-12).all()


def test_values_beyond_the_bounds_count_as_the_bound():
    for basis in (bases.BSpline(5, bounds=(-1, 1)), bases.RaisedCosine(5, bounds=(-1, 1))):
        np.testing.assert_array_equal(basis.evaluate([-9.0, 9.0]), basis.evaluate([-1.0, 1.0]))


def test_bases_compose():
    first, second = bases.BSpline(4), bases.RaisedCosine(3)
    a, b = np.random.default_rng(0).random((2, 6))
    together, product = first + second, first * second + bases.Identity()
    assert (together.n_basis, product.n_basis, product.n_inputs) == (7, 13, 3)
    np.testing.assert_array_equal(together.evaluate(a, b), np.c_[first.evaluate(a), second.evaluate(b)])
    expected = np.einsum("ti,tj->tij", first.evaluate(a), second.evaluate(b)).reshape(6, 12)
    np.testing.assert_array_equal(product.evaluate(a, b, a), np.c_[expected, a])
    past = bases.History(2) * bases.History(3)
    np.testing.assert_array_equal(
        past.convolve(a, b),
        np.einsum("ti,tj->tij", bases.History(2).convolve(a), bases.History(3).convolve(b)).reshape(6, 6),
    )


def recording() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(0)
    time = {
        "time_bin_start": np.arange(90) * 0.1,
        "time_bin_end": np.arange(1, 91) * 0.1,
        "trial": np.arange(90) // 9,
    }
    velocity = neuro.assemble(
        rng.standard_normal((90, 2)),
        time_bin=time,
        neuroid={"neuroid_id": ["vx", "vy"]},
        modality="behavior",
        units="cm/s",
        sfreq=10.0,
    )
    counts = neuro.assemble(
        rng.poisson(1.0, (90, 3)),
        time_bin=time,
        neuroid={"neuroid_id": ["a", "b", "c"]},
        modality="spikes",
        units="spikes/bin",
        sfreq=10.0,
    )
    return velocity, counts


def test_designs_are_labelled_and_respect_trials():
    velocity, counts = recording()
    tuning, past = bases.BSpline(4, bounds=(-3, 3)), bases.RaisedCosine(2, spacing="log", window=5)
    terms = {"velocity": (tuning, velocity), "joint": (tuning * tuning, velocity), "coupling": (past, counts)}
    features = bases.design(terms, groups="trial")
    assert features.dims == ("time_bin", "neuroid")
    assert features.shape == (90, 8 + 16 + 6)
    neuro.validate(features.assign_attrs(modality="behavior", units="a.u.", sfreq=10.0))
    assert list(features.trial.values) == list(counts.trial.values)
    chosen = (features.band == "coupling") & (features.source == "b") & (features.basis == 1)
    expected = past.convolve(counts.values[:, 1], groups=counts.trial.values)[:, 1]
    np.testing.assert_array_equal(features.values[:, chosen.values][:, 0], expected)
    assert set(features.source.values[features.band.values == "joint"]) == {"vx+vy"}
    assert not features.values[::9, features.band.values == "coupling"].any()
    plain = bases.design(
        {band: (basis, x.values) for band, (basis, x) in terms.items()}, groups=counts.trial.values
    )
    np.testing.assert_array_equal(plain.values, features.values)


def test_filters_predict_what_coefficients_predict():
    velocity, counts = recording()
    past = bases.RaisedCosine(2, spacing="log", window=5)
    features = bases.design(
        {"velocity": (bases.Identity(), velocity), "coupling": (past, counts)}, groups="trial"
    )
    glm = PoissonGLM(1e-2).fit(features, counts)
    found = bases.filters(glm.coef_, past, "coupling")
    assert found.dims == ("neuroid", "source", "lag")
    assert list(found.neuroid_id.values) == list(found.source.values) == ["a", "b", "c"]
    history = bases.History(5).convolve(counts.values, groups=counts.trial.values)
    predictor = np.einsum("tsl,nsl->tn", history, found.values)
    predictor += velocity.values @ glm.coef_.values[:, :2].T + glm.intercept_.values
    np.testing.assert_allclose(np.exp(predictor), glm.predict(features).values)


def test_own_history_leaves_out_that_of_others():
    velocity, counts = recording()
    features = bases.design(
        {"velocity": (bases.Identity(), velocity), "history": (bases.History(2), counts)}, groups="trial"
    )
    mask = bases.own_history(features, counts.neuroid_id.values, "history")
    glm = PoissonGLM(1e-2, feature_mask=mask).fit(features, counts)
    used = glm.coef_.values != 0
    assert used[:, :2].all()
    assert (used[:, 2:] == np.kron(np.eye(3), np.ones(2)).astype(bool)).all()
    with pytest.raises(ValueError, match="'z' is no source of band 'history'"):
        bases.own_history(features, ["z"], "history")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bases.RaisedCosine(1), "n_basis must be a whole number from 2"),
        (lambda: bases.RaisedCosine(3, spacing="root"), "spacing='root' is unknown"),
        (lambda: bases.RaisedCosine(3, width=0), "width and stretch must be positive"),
        (lambda: bases.BSpline(3), "n_basis must be a whole number from 4"),
        (lambda: bases.BSpline(4, bounds=(1, 1)), "bounds must be a lower and a higher number"),
        (lambda: bases.Cyclic(4, period=0), "period must be positive"),
        (lambda: bases.History(0), "window must be a whole number from 1"),
        (lambda: bases.BSpline(4).convolve([1.0]), "BSpline looks back over no bins; give it a window"),
        (lambda: bases.History(2) + bases.Identity(), "do not mix"),
        (lambda: (bases.History(2) + bases.History(2)).kernel(), "no single filter"),
        (lambda: (bases.Identity() + bases.Identity()).evaluate([1.0]), "takes 2 inputs, got 1"),
        (lambda: bases.History(2).convolve(np.zeros((2, 2, 2))), "time bins × sources"),
        (lambda: bases.History(2).convolve([1.0, 2.0], groups=[1]), "groups have shape"),
        (lambda: bases.design({}), "there are no terms"),
        (
            lambda: bases.design(
                {"a": (bases.Identity(), np.zeros(3)), "b": (bases.Identity(), np.zeros(4))}
            ),
            "differ in length",
        ),
        (lambda: bases.design({"a": (bases.Identity(), np.zeros((2, 2, 2)))}), "time bins × sources"),
    ],
)
def test_input_that_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_band_that_is_not_there():
    velocity, counts = recording()
    glm = PoissonGLM(1e-2).fit(bases.design({"velocity": (bases.Identity(), velocity)}), counts)
    with pytest.raises(ValueError, match="there is no band 'history'; there are .'velocity'."):
        bases.filters(glm.coef_, bases.History(3), "history")
