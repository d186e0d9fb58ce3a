"""Bootstrap of model comparisons against rsatoolbox with the same draws, and against simulated truth."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
import xarray as xr

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.results import Result
from cerebridge.encoding.rsa import resampling
from cerebridge.encoding.rsa.pairs import pair_table

METHODS = {
    "pearson": "corr",
    "cosine": "cosine",
    "whitened-pearson": "corr_cov",
    "whitened-cosine": "cosine_cov",
    "spearman": "spearman",
    "rho-a": "rho-a",
    "tau-a": "tau-a",
    "tau-b": "tau-b",
}
KINDS = {
    "both": ("eval_dual_bootstrap", "bootstrap_sample"),
    "subjects": ("eval_bootstrap_rdm", "bootstrap_sample_rdm"),
    "conditions": ("eval_bootstrap_pattern", "bootstrap_sample_pattern"),
}


def labelled(vectors, ids, **rdm):
    n = (1 + int((1 + 8 * len(vectors[0])) ** 0.5)) // 2
    stimuli = np.array([f"i{k:02d}" for k in range(n)])
    return neuro.assemble(
        vectors, rdm={"neuroid_id": ids, **rdm}, pair=pair_table(stimuli), modality="fmri", units="1"
    )


def case(n_people=6, n_stimuli=10, n_models=3, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random(n_stimuli * (n_stimuli - 1) // 2)
    data = truth + rng.random((n_people, truth.size))
    models = np.stack([truth + k * rng.random(truth.size) for k in range(1, n_models + 1)])
    return labelled(models, [f"m{k}" for k in range(n_models)]), labelled(
        data, [f"s{k}" for k in range(n_people)]
    )


def theirs(models, data, method, resample, n):
    """Result of rsatoolbox, and how often it drew people and conditions."""
    inference = pytest.importorskip("rsatoolbox.inference")
    from rsatoolbox.inference import evaluate
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs

    name, drawer = KINDS[resample]
    draw, draws = getattr(evaluate, drawer), []

    def recorded(*arguments, **options):
        sample = draw(*arguments, **options)
        draws.append(sample[1:])
        return sample

    fixed = [ModelFixed(str(k), RDMs(row[None])) for k, row in enumerate(models.values)]
    np.random.seed(3)  # noqa: NPY002 (what the peer draws with)
    with mock.patch.object(evaluate, drawer, recorded), mock.patch.object(evaluate.tqdm, "trange", range):
        options = {} if resample == "both" else {"boot_noise_ceil": True}
        result = getattr(inference, name)(fixed, RDMs(data.values), method=METHODS[method], N=n, **options)
    return result, [np.stack(side) for side in zip(*draws, strict=True)]


def counted(draws, resample, n_people, n_stimuli):
    people, conditions = {
        "both": draws,
        "subjects": [*draws, None],
        "conditions": [None, *draws],
    }[resample]
    return [
        np.stack([np.bincount(row, minlength=n) for row in side])
        if side is not None
        else np.ones((len(draws[0]), n), dtype=int)
        for side, n in ((people, n_people), (conditions, n_stimuli))
    ]


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
@pytest.mark.parametrize(
    ("method", "resample"),
    [(method, "both") for method in METHODS] + [("rho-a", "subjects"), ("cosine", "conditions")],
)
def test_evaluations_ceilings_and_tests_are_those_of_rsatoolbox(method, resample):
    models, data = case()
    result, draws = theirs(models, data, method, resample, 8)
    from rsatoolbox.util.inference_util import extract_variances, t_test_0, t_test_nc, t_tests

    counts = counted(draws, resample, 6, 10)
    pairs = torch.triu_indices(10, 10, 1)
    sides = torch.from_numpy(models.values), torch.from_numpy(data.values)
    found = resampling.evaluate_samples(*sides, pairs, method, "rank", *counts, resample)
    if resample == "both":
        evaluations, ceilings = result.evaluations[:, :, 0, 0], result.noise_ceiling[:, :, 0]
    else:
        evaluations, ceilings = (x[..., None] for x in (result.evaluations, result.noise_ceiling))
    np.testing.assert_allclose(found[..., :3], evaluations.reshape(8, 3, -1).transpose(2, 0, 1), atol=1e-12)
    np.testing.assert_allclose(found[..., 3:], ceilings.reshape(2, 8, -1).transpose(2, 1, 0), atol=1e-12)
    with mock.patch("cerebridge.encoding.rsa.inference.draw_counts", lambda *_: counts):
        ours = rsa.infer(models, data, method, resample=resample, n_resamples=8).dataset
    mean = ours["mean"].values
    np.testing.assert_allclose(mean, rsa.compare(models, data, method).mean("rdm_b"), atol=1e-12)
    np.testing.assert_allclose(ours["standard_error"] ** 2, result.model_var, atol=1e-12)
    assert ours.attrs["dof"] == {"both": 5, "subjects": 5, "conditions": 9}[resample] == result.dof
    assert ("p_zero" in ours) == ("cosine" not in method)
    if "p_zero" in ours:
        p_zero = t_test_0(mean[None], result.model_var, result.dof)
        np.testing.assert_allclose(ours["p_zero"], p_zero, atol=1e-10)
    level = ours["ceiling"].mean().item()
    of_ceiling = result.noise_ceil_var[:, 0]
    if resample == "subjects":
        # the peer leaves the variance of the ceiling out here, and only here
        together = np.cov(np.concatenate([result.evaluations.T, result.noise_ceiling]))
        of_ceiling = extract_variances(together, True, 6, None)[2][:, 0]
    expected = t_test_nc(mean[None], of_ceiling, level, result.dof)
    np.testing.assert_allclose(ours["p_ceiling"], expected, atol=1e-10)
    apart = t_tests(mean[None], result.diff_var, result.dof)
    np.testing.assert_allclose(
        ours["p_pair"].values[np.triu_indices(3, 1)], apart[np.triu_indices(3, 1)], atol=1e-10
    )


def test_variances_differences_and_their_correction_agree_with_each_other():
    models, data = case(seed=4)
    result = rsa.infer(models, data, resample="both", n_resamples=50, random_state=0).dataset
    covariance = result["covariance"].values
    np.testing.assert_allclose(np.diag(covariance), result["standard_error"] ** 2)
    np.testing.assert_allclose(covariance, covariance.T)
    apart = np.add.outer(np.diag(covariance), np.diag(covariance)) - 2 * covariance
    t = np.abs(result["difference"].values) / np.sqrt(np.where(apart > 0, apart, 1))
    from scipy.stats import t as student

    expected = 2 * student.sf(t, result.attrs["dof"])
    upper = np.triu_indices(3, 1)
    np.testing.assert_allclose(result["p_pair"].values[upper], expected[upper], atol=1e-10)
    from scipy.stats import false_discovery_control

    np.testing.assert_allclose(result["p_pair_fdr"].values[upper], false_discovery_control(expected[upper]))
    assert (result["mean_low"] < result["mean"]).all() and (result["mean"] < result["mean_high"]).all()
    assert result["ceiling_mean_low"] < result["ceiling"].mean() < result["ceiling_mean_high"]
    assert result["model_b"].values.tolist() == result["model"].values.tolist() == ["m0", "m1", "m2"]


def test_the_correction_counts_the_noise_of_both_factors_once():
    people, conditions, noise = 0.3, 0.5, 0.2
    bootstraps = np.array([people + conditions + 3 * noise, people + noise, conditions + noise])
    found = resampling.corrected_variance(bootstraps, "both", 10**6, 10**6)
    assert found == pytest.approx(people + conditions + noise, rel=1e-4)
    # never less than one factor alone, never more than both
    assert resampling.corrected_variance(np.array([9.0, 1.0, 1.0]), "both", 11, 11) == pytest.approx(1.1)
    assert resampling.corrected_variance(np.array([1.0, 1.0, 1.0]), "both", 11, 11) == 1


def distances(rng, n_stimuli, shared=0.0, noise=1.0, n=1):
    """Squared distances between random patterns that follow ``shared`` ones more or less."""
    patterns = shared + noise * rng.normal(size=(n, n_stimuli, 4))
    first, second = np.triu_indices(n_stimuli, 1)
    return ((patterns[:, first] - patterns[:, second]) ** 2).sum(axis=-1)


def unrelated(seed, resample):
    """Two models that have nothing to do with what people share."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(12, 4))
    data = labelled(distances(rng, 12, truth, 0.6, 8), [f"s{k}" for k in range(8)])
    models = labelled(distances(rng, 12, n=2), ["a", "b"])
    return rsa.infer(models, data, "rho-a", resample=resample, n_resamples=100, random_state=seed).dataset


@pytest.mark.slow
def test_false_alarms_are_nominal_only_where_stimuli_are_resampled_too():
    results = {
        resample: [unrelated(seed, resample) for seed in range(150)] for resample in ("both", "subjects")
    }
    alarms = {
        resample: {
            name: np.mean([(dataset[name].values < 0.05).mean() for dataset in some]) for name in ("p_zero",)
        }
        | {"p_pair": np.mean([dataset["p_pair"].values[0, 1] < 0.05 for dataset in some])}
        for resample, some in results.items()
    }
    for share in alarms["both"].values():
        assert share < 0.09
    # other people see the same stimuli, and the accidents of these are the same for all
    for share in alarms["subjects"].values():
        assert share > 0.2
    covered = {
        resample: np.mean([((d["mean_low"] < 0) & (d["mean_high"] > 0)).values.mean() for d in some])
        for resample, some in results.items()
    }
    assert covered["both"] > 0.9 > 0.7 > covered["subjects"]


def test_a_true_model_is_found_and_told_from_a_worse_one():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(20, 4))
    data = labelled(distances(rng, 20, truth, 0.5, 8), [f"s{k}" for k in range(8)])
    true, near = distances(rng, 20, truth, 0.0), distances(rng, 20, truth, 1.0)
    models = labelled(np.concatenate([true, near, rng.permuted(true, axis=1)]), ["true", "near", "shuffled"])
    result = rsa.infer(models, data, "rho-a", resample="both", n_resamples=200, random_state=0)
    dataset = result.dataset
    assert (dataset["p_zero"].sel(model=["true", "near"]) < 0.01).all()
    assert dataset["p_zero"].sel(model="shuffled") > 0.05
    assert dataset["p_pair_fdr"].sel(model="true", model_b="near") < 0.05
    assert dataset["p_ceiling"].sel(model="true") > 0.05 > dataset["p_ceiling"].sel(model="shuffled")
    assert "8 people, 20 stimuli, 200 of 200 samples" in result.audit["resampled"]
    assert "7 degrees of freedom" in result.audit["variance"]


@pytest.mark.parametrize("resample", ["subjects", "conditions", "both"])
@pytest.mark.parametrize("method", ["cosine", "tau-a"])
def test_parts_and_files_do_not_matter(method, resample, monkeypatch, tmp_path):
    models, data = case()
    options = {"resample": resample, "n_resamples": 20, "random_state": 1}
    first = rsa.infer(models, data, method, **options)
    monkeypatch.setattr(resampling, "CHUNK", 1)
    order = np.random.default_rng(0).permutation(data.sizes["pair"])
    second = rsa.infer(models.isel(pair=order), data, method, **options)
    names = {"mean", "standard_error", "p_zero", "p_ceiling", "p_pair", "covariance", "ceiling_mean_low"}
    assert names - set(first.dataset) <= {"p_zero"}
    for name in names & set(first.dataset):
        np.testing.assert_allclose(first.dataset[name], second.dataset[name], atol=1e-12)
    first.save(tmp_path / "result.nc")
    back = Result.load(tmp_path / "result.nc")
    np.testing.assert_array_equal(back.dataset["p_pair_fdr"], first.dataset["p_pair_fdr"])
    assert back.dataset.attrs["resample"] == resample and back.dataset.attrs["n_resamples"] == 20


def test_every_draw_has_three_different_conditions():
    people, conditions = resampling.draw_counts("both", 2000, 2, 4, np.random.default_rng(0))
    assert (conditions.sum(axis=1) == 4).all() and (people.sum(axis=1) == 2).all()
    assert (conditions > 0).sum(axis=1).min() == 3
    once, _ = resampling.draw_counts("conditions", 3, 2, 4, np.random.default_rng(0))
    assert (once == 1).all()


@pytest.mark.parametrize("method", ["pearson", "whitened-cosine", "rho-a", "tau-a"])
def test_missing_pairs_are_left_out_as_if_they_had_never_been(method):
    models, data = case(n_stimuli=12)
    gone = (data.stimulus_a == "i03") | (data.stimulus_b == "i03")
    holes = data.where(~gone)
    shorter = rsa.infer(
        models.isel(pair=~gone.values),
        data.isel(pair=~gone.values),
        method,
        resample="both",
        n_resamples=20,
        permutations=20,
        random_state=0,
    )
    for some, all_of in ((models, holes), (models.where(~gone), data)):
        found = rsa.infer(
            some, all_of, method, resample="both", n_resamples=20, permutations=20, random_state=0
        )
        for name in ("score", "ceiling", "p", "mean_low", "p_pair", "p_ceiling"):
            np.testing.assert_allclose(found.dataset[name], shorter.dataset[name], atol=1e-12)
        assert found.audit["missing_pairs"].startswith("11 of 66")
    # of one person only: this person's scores are over fewer pairs, and so are all ceilings
    alone = data.copy(data=np.where((np.arange(6) == 2)[:, None] & gone.values, np.nan, data.values))
    found = rsa.infer(models, alone, method, resample="both", n_resamples=30, permutations=20, random_state=0)
    whole = rsa.infer(models, data, method)
    others = np.arange(6) != 2
    np.testing.assert_allclose(found.score[..., others], whole.score[..., others], atol=1e-12)
    np.testing.assert_allclose(found.score[..., ~others], shorter.score[..., ~others], atol=1e-12)
    np.testing.assert_allclose(found.dataset["ceiling"], shorter.dataset["ceiling"], atol=1e-12)
    assert np.isfinite(found.dataset["p_pair"]).all() and np.isfinite(found.dataset["p"]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_resample_without_pairs_of_a_person_has_no_similarity_unless_others_were_drawn(method):
    models, data = case(n_people=3, n_stimuli=8)
    pairs = torch.triu_indices(8, 8, 1)
    rows = torch.from_numpy(data.values.copy())
    rows[0, (pairs < 5).any(dim=0)] = torch.nan
    conditions = np.array([[2, 2, 2, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    sides = torch.from_numpy(models.values), rows, pairs, method, "rank"
    everyone, others = np.ones((2, 3), dtype=int), np.array([[0, 2, 1], [0, 2, 1]])
    for size in (1, 2):
        found = [
            resampling.evaluate_samples(*sides, people[:size], conditions[:size], "conditions")[0, :, :3]
            for people in (everyone, others)
        ]
        assert np.isnan(found[0][0]).all() and np.isfinite(found[0][1:]).all()
    both = resampling.evaluate_samples(*sides, others, conditions, "both")
    assert np.isfinite(both[0, :, :3]).all() and np.isnan(both[2, 0]).all()


def test_fitted_models_are_cross_validated_in_every_sample():
    models, data = case(n_people=6, n_stimuli=14)
    mixed = {"mixture": rsa.WeightedModel(models), "fixed": models.isel(rdm=[2])}
    plain = rsa.infer(mixed, data, "cosine", random_state=0)
    assert "training stimuli" in plain.audit["fitted_on"] and "mean" not in plain.dataset
    result = rsa.infer(mixed, data, "cosine", resample="both", n_resamples=10, random_state=0)
    np.testing.assert_allclose(result.score, plain.score)
    assert result.dataset["p_pair"].sel(model="mixture", model_b="fixed") < 1
    assert (result.dataset["mean_low"] < result.dataset["mean"]).all()
    assert "samples" in result.audit["resampled"] and result.dataset.attrs["dof"] == 5
    with pytest.raises(ValueError, match="permutations exchange the stimuli of fixed models"):
        rsa.infer(mixed, data, "cosine", permutations=5)
    with pytest.raises(ValueError, match="ceiling='mean' is for fixed models"):
        rsa.infer(mixed, data, "cosine", ceiling="mean")


def test_bad_input_is_one_sentence():
    models, data = case()
    twice = data.assign_coords(subject=("rdm", ["a", "a", "b", "b", "c", "c"]))
    near = np.isin(np.arange(45), [0, 1, 9])
    only_near = data.copy(data=np.where(near, data.values, np.nan))
    undefined = np.full((1, 5, 3), np.nan)
    undefined[0, 2] = 0
    three = rsa.rdm(neuro.simulate(n_stimuli=3, n_units=20, random_state=0))
    for call, message in [
        (lambda: rsa.infer(models, data, resample="people"), "resample='people' is unknown; use 'subjects'"),
        (
            lambda: rsa.infer(models, data, resample="both", n_resamples=1),
            "n_resamples must be a whole number",
        ),
        (lambda: rsa.infer(models, data[:1], resample="both"), "data has one RDM; use resample='conditions'"),
        (lambda: rsa.infer(models, twice, resample="subjects"), "several RDMs of subject 'a'"),
        (lambda: rsa.infer(models, data, "bures", resample="both"), "method='bures' needs whole matrices"),
        (lambda: rsa.infer({"m": three}, three), "data has 3 stimuli; inference needs at least 4"),
        (
            lambda: rsa.infer(
                models.where(models.stimulus_b != "i09", other=np.nan).fillna(0),
                data.copy(data=np.zeros(data.shape)),
                "cosine",
            ),
            "is zero",
        ),
        (
            lambda: rsa.infer(models, only_near, "pearson", resample="conditions"),
            "pairs of 3 stimuli in common that are not missing",
        ),
        (
            lambda: resampling.add_statistics(xr.Dataset(), np.eye(3)[None], undefined, "subjects", 6, 10),
            "every similarity is defined in 1 of 5 resamples",
        ),
        (
            lambda: rsa.infer(models.where(models.stimulus_b != "i02"), data, permutations=3),
            "models lack 2 pairs of stimuli",
        ),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["cosine", "whitened-cosine"])
def test_cosines_of_what_is_never_negative_are_not_tested_against_zero(method):
    models, data = case()
    result = rsa.infer(models, data, method, resample="both", n_resamples=20, random_state=0)
    assert "p_zero" not in result.dataset and "not 0 by chance" in result.audit["p_zero"]
    fitted = rsa.infer({"m": rsa.WeightedModel(models)}, data, method, resample="subjects", n_resamples=20)
    assert "p_zero" not in fitted.dataset and "p_zero" in fitted.audit
    signed = data.copy(data=data.values - data.values.mean())
    tested = rsa.infer(models, signed, method, resample="both", n_resamples=20, random_state=0)
    assert "p_zero" in tested.dataset and "p_zero" not in tested.audit
