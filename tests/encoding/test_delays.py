"""Delays: every copy looked up by hand, borders, blocks, labels, pipelines, and bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import encoding, neuro
from cerebridge.encoding.delays import Delays

OF_ROWS_ALONE = ("check_methods_sample_order_invariance", "check_methods_subset_invariance")


@parametrize_with_checks([Delays([0]), Delays([-1, 2], edges="mean")])
def test_the_contract_of_scikit_learn(estimator, check):
    if len(estimator.delays) > 1 and check.func.__name__ in OF_ROWS_ALONE:
        pytest.skip("a row depends on the rows before")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def by_hand(X: np.ndarray, delays: list[int], groups: np.ndarray, edges: str) -> np.ndarray:
    out = np.zeros((len(X), len(delays), X.shape[1]))
    for t in range(len(X)):
        run = np.flatnonzero(groups == groups[t])
        for d, delay in enumerate(delays):
            inside = run[0] <= t - delay <= run[-1]
            out[t, d] = X[t - delay] if inside else X[run].mean(0) * (edges == "mean")
    return out.reshape(len(X), -1)


@pytest.mark.parametrize("edges", ["zero", "mean"])
@pytest.mark.parametrize("delays", [[0], [1, 2, 3], [-2, 0, 5], [4], [30]])
@pytest.mark.parametrize("size", [None, 7])
def test_copies_are_those_looked_up_by_hand(delays, edges, size):
    X = np.random.default_rng(0).standard_normal((40, 3)) + 2
    groups = np.repeat([0, 1, 2], [15, 20, 5])
    fitted = Delays(delays, edges=edges).fit(X)
    expected = by_hand(X, delays, groups, edges)
    if size is None:
        np.testing.assert_allclose(fitted.transform(X, groups), expected)
    else:
        found = np.full_like(expected, np.nan)
        for rows, block in fitted.blocks(X, groups, size):
            assert len(block) <= size
            found[rows] = block
        np.testing.assert_allclose(found, expected)
    if delays != [0]:
        assert np.abs(fitted.transform(X) - expected).max() > 0.1


@pytest.mark.parametrize("kind", ["torch", "pandas"])
def test_what_comes_in_goes_out(kind, dtype):
    import pandas as pd

    X = torch.ones(5, 2, dtype=dtype)
    given = X if kind == "torch" else pd.DataFrame(X.numpy(), columns=["a", "b"])
    delays = Delays([1]).fit(given)
    found = delays.transform(given)
    assert isinstance(found, torch.Tensor if kind == "torch" else np.ndarray)
    assert found.dtype == (dtype if kind == "torch" else given.to_numpy().dtype)
    if kind == "pandas":
        assert delays.get_feature_names_out().tolist() == ["a@1", "b@1"]


def recording(n_runs: int = 2, n: int = 6):
    start = np.tile(2.5 * np.arange(n), n_runs)
    return neuro.assemble(
        np.arange(2.0 * n_runs * n).reshape(-1, 2),
        time_bin={
            "time_bin_start": start,
            "time_bin_end": start + 2.5,
            "run": np.repeat(np.arange(n_runs), n),
        },
        neuroid={"neuroid_id": ["face", "house"], "kind": ["animate", "still"]},
        modality="feature",
        units="a.u.",
    )


def test_labels_are_kept_and_delays_named():
    array = recording()
    delayed = Delays([2.5, 5.0], sfreq=0.4).fit_transform(array)
    neuro.validate(delayed)
    assert delayed.neuroid_id.values.tolist() == ["face@2.5s", "house@2.5s", "face@5s", "house@5s"]
    assert delayed.kind.values.tolist() == ["animate", "still"] * 2
    assert delayed.delay.values.tolist() == [2.5, 2.5, 5.0, 5.0]
    assert delayed.run.values.tolist() == array.run.values.tolist()
    assert delayed.values[6].tolist() == [0, 0, 0, 0]
    assert delayed.values[8].tolist() == [14.0, 15.0, 12.0, 13.0]


def test_in_a_pipeline():
    X = np.random.default_rng(0).standard_normal((50, 2))
    y = np.r_[0, 0, X[:-2, 0]]
    assert make_pipeline(Delays([1, 2]), Ridge(1e-6)).fit(X, y).score(X, y) > 0.999
    assert make_pipeline(Delays([1]), Ridge(1e-6)).fit(X, y).score(X, y) < 0.5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"delays": []}, "delays must be a list of numbers"),
        ({"delays": [0.5]}, "whole samples unless sfreq is given, got 0.5"),
        ({"delays": [0.1, 0.11], "sfreq": 10}, "two delays are the same number of samples \\(1\\)"),
        ({"sfreq": 0}, "sfreq must be a positive"),
        ({"edges": "valid"}, "edges='valid' is unknown"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        Delays(**parameters).fit(np.ones((5, 1)))


def fmri(path):
    """Time series of the slice and indicators of what was shown, both with the run of each volume."""
    import nibabel
    import pandas as pd

    mask = nibabel.load(path / "mask.nii.gz").get_fdata() > 0
    bold = nibabel.load(path / "bold.nii.gz").get_fdata()[mask].T.reshape(12, 121, -1)
    shown = pd.read_csv(path / "attributes_literal.txt", sep=r"\s+", header=None, names=["label", "run"])
    time = np.linspace(-1, 1, 121)[:, None]
    drift = np.hstack([np.ones_like(time), time])
    bold = bold - drift @ np.linalg.lstsq(drift, bold.transpose(1, 0, 2).reshape(121, -1), rcond=None)[
        0
    ].reshape(2, 12, -1).transpose(1, 0, 2)
    bold /= bold.std(axis=1, keepdims=True)
    start = 2.5 * np.tile(np.arange(121), 12)
    time_bin = {"time_bin_start": start, "time_bin_end": start + 2.5, "run": shown["run"].to_numpy()}
    labels = sorted(set(shown["label"]) - {"rest"})
    indicators = np.stack([shown["label"] == label for label in labels], 1).astype(float)
    about = {"time_bin": time_bin, "units": "a.u.", "sfreq": 0.4}
    return (
        neuro.assemble(indicators, neuroid={"neuroid_id": labels}, modality="feature", **about),
        neuro.assemble(
            bold.reshape(1452, -1), neuroid={"neuroid_id": np.arange(mask.sum())}, modality="fmri", **about
        ),
    )


def test_responses_in_time_predict_the_visual_slice(data):
    """Free and canonical responses, each run predicted from the others.

    Activity begins with the labels of this recording, not some seconds after: they follow the response already. So a
    canonical response fits labels that begin two volumes earlier, which the free one finds by itself.
    """
    features, bold = fmri(data / "haxby2001-slice")
    times = ("time_bin_start", "time_bin_end")
    earlier = features.assign_coords(
        {name: ("time_bin", features.coords[name].values - 5.0) for name in times}
    )
    alphas = [1.0, 10.0, 100.0, 1000.0]
    ridge = encoding.RidgeCV(alphas, scoring="pearsonr")
    models = {
        "lags": (encoding.TRF(-5.0, 12.5, 0.4, edges="zero", alphas=alphas), features),
        "delays": (ridge, Delays(np.arange(-5.0, 13.0, 2.5), sfreq=0.4).fit_transform(features)),
        "hrf": (ridge, encoding.convolve_hrf(earlier, bold)),
        "hrf of labels": (ridge, encoding.convolve_hrf(features, bold)),
    }
    scores = {}
    for name, (estimator, x) in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = encoding.evaluate(estimator, x, bold, ceiling=None)
        scores[name] = result.score.mean("split").values[0]
        assert result.score.sizes["split"] == 12
        assert abs(result.dataset.attrs["audit"]["shuffle_control"]["model"]) < 0.03
    median = {name: np.median(score) for name, score in scores.items()}
    assert 0.12 < median["lags"] < 0.2
    assert 0.12 < median["hrf"] < 0.2
    assert np.quantile(scores["lags"], 0.9) > 0.45
    assert median["hrf of labels"] < 0.1
    # the same model, but for the folds that choose its penalty
    np.testing.assert_allclose(scores["lags"], scores["delays"], atol=0.05)
