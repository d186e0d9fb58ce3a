"""Responses to trials and conditions: against nilearn's first-level model, plain loops and known truth."""

from __future__ import annotations

import warnings

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix

from cerebridge.neuro import fmri

T_R, N = 2.0, 100
AFFINE = np.diag([3, 3, 3, 1.0])


def trials(seed: int, gap: float = 12.0, n: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    onset = 6 + gap * np.arange(n) + rng.uniform(0, 3, n)
    return pd.DataFrame(
        {
            "onset": onset.round(2),
            "duration": 2.0,
            "trial_type": rng.permutation(np.repeat(["face", "house", "cat"], n // 3)),
            "stim_file": [f"{k % 6}.png" for k in range(n)],
        }
    )


def run(table: pd.DataFrame, seed: int = 0, noise: float = 1.0) -> tuple[nibabel.Nifti1Image, np.ndarray]:
    """A run whose voxels answer to every trial with a known strength, in AR(1) noise on a drift."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(2, 1, size=(len(table), 6))
    separate = table.assign(trial_type=[f"t{k:03}" for k in range(len(table))])[
        ["onset", "duration", "trial_type"]
    ]
    design = make_first_level_design_matrix(np.arange(N) * T_R, separate, hrf_model="spm", drift_model=None)
    signal = design.to_numpy()[:, : len(table)] @ truth
    error = np.zeros((N, 6))
    for t in range(1, N):
        error[t] = 0.4 * error[t - 1] + noise * rng.normal(size=6)
    values = 1000 + signal + error + np.linspace(0, 3, N)[:, None]
    image = nibabel.Nifti1Image(values.T.reshape(6, 1, 1, N), AFFINE)
    image.header.set_zooms((3, 3, 3, T_R))
    return image, truth


def recording(noise: float = 1.0, gap: float = 12.0):
    tables = [trials(0, gap), trials(1, gap)]
    made = [run(table, seed, noise) for seed, table in enumerate(tables)]
    array = fmri.read(
        [image for image, _ in made], events=tables, design="event", standardize=None, dtype="float64"
    )
    return array, [image for image, _ in made], tables, np.concatenate([truth for _, truth in made])


@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
@pytest.mark.parametrize("hrf_model", ["spm", "glover + derivative"])
def test_conditions_equal_nilearns_first_level_model(noise_model, hrf_model) -> None:
    array, images, tables, _ = recording()
    nuisance = [np.random.default_rng(seed).normal(size=(N, 2)) for seed in (3, 4)]
    betas = fmri.betas(
        array,
        model="condition",
        noise_model=noise_model,
        hrf_model=hrf_model,
        confounds=nuisance,
        slice_time_ref=0.5,
    )
    mask = nibabel.Nifti1Image(np.ones((6, 1, 1), np.uint8), AFFINE)
    for k, (image, table) in enumerate(zip(images, tables, strict=True)):
        model = FirstLevelModel(
            t_r=T_R,
            noise_model=noise_model,
            hrf_model=hrf_model,
            mask_img=mask,
            signal_scaling=False,
            slice_time_ref=0.5,
            standardize=None,
        )
        regressors = pd.DataFrame(nuisance[k], columns=["a", "b"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*Generation of a mask", RuntimeWarning)
            model.fit(image, table[["onset", "duration", "trial_type"]], regressors)
        for condition in ("face", "house", "cat"):
            expected = model.compute_contrast(condition, output_type="effect_size").get_fdata().ravel()
            ours = betas[((betas.run == k) & (betas.stimulus_id == condition)).values].values[0]
            np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-8)


def test_lss_in_closed_form_equals_a_loop_of_models() -> None:
    array, _, tables, _ = recording(gap=7.0)
    confounds = [np.random.default_rng(seed).normal(size=(N, 3)) for seed in (3, 4)]
    ours = fmri.betas(array, model="lss", noise_model="ols", confounds=confounds).values
    expected = []
    for k, table in enumerate(tables):
        signal = array.values[array.run.values == k]
        for trial in range(len(table)):
            role = ["trial" if row == trial else "z" for row in range(len(table))]
            events = table[["onset", "duration"]].assign(trial_type=role)
            design = make_first_level_design_matrix(
                np.arange(N) * T_R, events, hrf_model="spm", add_regs=confounds[k]
            )
            coefficients = np.linalg.lstsq(design.to_numpy(), signal, rcond=None)[0]
            expected.append(coefficients[list(design.columns).index("trial")])
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-8)


def test_lss_with_coloured_noise_is_a_model_a_trial_and_near_the_closed_form() -> None:
    array, *_ = recording()
    coloured = fmri.betas(array, model="lss", noise_model="ar1")
    plain = fmri.betas(array, model="lss", noise_model="ols")
    assert not np.allclose(coloured.values, plain.values, atol=1e-3)
    assert np.corrcoef(coloured.values.ravel(), plain.values.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("model", ["single-trial", "lss"])
def test_known_responses_are_found_and_those_of_other_times_are_not(model) -> None:
    array, _, tables, truth = recording(noise=0.05)
    found = fmri.betas(array, model=model, noise_model="ols")
    assert np.corrcoef(found.values.ravel(), truth.ravel())[0, 1] > 0.9
    shifted = [table.assign(onset=table["onset"].to_numpy() + 6) for table in tables]
    wrong = fmri.betas(array, shifted, model=model, noise_model="ols")
    assert abs(np.corrcoef(wrong.values.ravel(), truth.ravel())[0, 1]) < 0.5


def test_single_trials_without_noise_are_exact() -> None:
    table = trials(0)
    image, truth = run(table, noise=0.0)
    array = fmri.read(image, events=table, design="event", standardize=None, dtype="float64")
    found = fmri.betas(array, noise_model="ols", drift_model="polynomial")
    np.testing.assert_allclose(found.values, truth, atol=1e-6)


def test_labels_of_trials_and_conditions() -> None:
    array, _, tables, _ = recording()
    single = fmri.betas(array, noise_model="ols")
    assert single.dims == ("presentation", "neuroid")
    assert single.stimulus_id.values.tolist() == [s for table in tables for s in table["stim_file"]]
    assert single.trial_type.values.tolist() == [s for table in tables for s in table["trial_type"]]
    assert single.run.values.tolist() == [0] * 12 + [1] * 12
    assert single.repetition.values.tolist() == np.repeat([0, 1, 2, 3], 6).tolist()
    assert single.onset.values[0] == tables[0]["onset"][0]
    condition = fmri.betas(array, model="condition")
    assert condition.sizes["presentation"] == 6
    assert set(condition.stimulus_id.values) == {"face", "house", "cat"}
    assert condition.attrs["units"] == "a.u."
    assert "condition betas" in condition.attrs["provenance"]
    np.testing.assert_array_equal(condition.i.values, array.i.values)


def test_a_selection_of_runs_and_voxels_keeps_its_own_events() -> None:
    array, *_ = recording()
    second = array[(array.run == 1).values].isel(neuroid=[2, 4])
    np.testing.assert_allclose(
        fmri.betas(second).values, fmri.betas(array)[12:].isel(neuroid=[2, 4]).values, rtol=1e-9
    )


def test_events_may_be_given_by_run() -> None:
    array, _, tables, _ = recording()
    given = fmri.betas(array, {1: tables[1], 0: tables[0]}, noise_model="ols")
    np.testing.assert_array_equal(given.values, fmri.betas(array, noise_model="ols").values)


def test_one_trial_alone_has_no_others() -> None:
    array, _, tables, _ = recording()
    lone = [table.iloc[[3]] for table in tables]
    closed = fmri.betas(array, lone, model="lss", noise_model="ols")
    together = fmri.betas(array, lone, model="single-trial", noise_model="ols")
    np.testing.assert_allclose(closed.values, together.values, rtol=1e-8)


def no_events(array):
    bare = array.copy()
    del bare.attrs["events"]
    return bare


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda a: a, {"model": "lsa"}, "model is 'lsa'"),
        (lambda a: a, {"hrf_model": "fir"}, "'fir' gives several values"),
        (no_events, {}, "carries no events of its own.*pass events="),
        (
            lambda a: a.where(a.neuroid_id != a.neuroid_id[0]),
            {},
            r"1 of 6 units hold values that are not finite \(the first is ",
        ),
        (lambda a: a.isel(time_bin=[*range(40), *range(50, 200)]), {}, "run 0 lacks volumes after 80 s"),
        (lambda a: a, {"events": [trials(0)]}, "there are 2 runs, but events for 1"),
        (lambda a: a, {"events": [trials(0), trials(0).assign(onset=400.0)]}, "run 1 .*lies outside the run"),
        (lambda a: a, {"confounds": [np.ones((9, 1))] * 2}, "9 rows, but the run has 100"),
        (lambda a: a.mean("time_bin"), {}, "expected time_bin × neuroid"),
    ],
)
def test_bad_input_gets_one_sentence(change, options, message) -> None:
    array, *_ = recording()
    with pytest.raises(ValueError, match=message):
        fmri.betas(change(array), **options)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize("model", ["single-trial", "lss"])
@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
def test_responses_that_cannot_be_told_apart_are_refused(model, noise_model) -> None:
    array, *_ = recording()
    last = [trials(k) for k in (0, 1)]
    last[1].loc[11, ["onset", "duration"]] = [199.5, 0.1]
    with pytest.raises(ValueError, match="of run 1 cannot be told"):
        fmri.betas(array, last, model=model, noise_model=noise_model)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_more_trials_than_volumes_need_models_of_their_own() -> None:
    array, *_ = recording()
    dense = pd.DataFrame({"onset": np.arange(0, 190, 1.5), "duration": 1.0, "trial_type": "a"})
    with pytest.raises(ValueError, match="one of the 127 responses of run 0 cannot be told.*model='lss'"):
        fmri.betas(array, [dense, dense], noise_model="ols")
    assert np.isfinite(fmri.betas(array, [dense, dense], model="lss", noise_model="ols").values).all()
