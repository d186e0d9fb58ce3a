"""The 92 object images: what holds for other people, and what for other pictures too."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge.encoding import rsa


@pytest.fixture(scope="module")
def dataset(data):
    """Tests of a region's models, which are those of the monkey's data left out."""
    folder = data / "objects92"
    models = rsa.read_rdms(folder / "92_modelRDMs.mat")
    models = models.isel(rdm=models.neuroid_id.values != "monkeyIT")

    def inferred(region, resample):
        people = {"region": region, "subject": np.arange(15)}
        rdms = rsa.read_rdms(folder / "cichy2014_92images" / f"fmri_{region}_RDMs.npz", rdm=people)
        return rsa.infer(models, rdms, resample=resample, n_resamples=100, random_state=0).dataset

    return inferred


def test_it_tells_living_things_apart_and_early_visual_cortex_does_not(dataset):
    it, evc = dataset("IT", "both"), dataset("EVC", "both")
    pair = {"model": "animacy", "model_b": "V1"}
    assert it["difference"].sel(pair) > 0.2 and it["p_pair_fdr"].sel(pair) < 0.01
    assert evc["p_pair_fdr"].sel(pair) > 0.05
    assert it["p_zero"].sel(model="animacy") < 0.001 < 0.05 < evc["p_zero"].sel(model="animacy")
    best = evc["mean"].idxmax("model").item()
    assert best == "Silhouette" and evc["p_ceiling"].sel(model=best) > 0.05
    assert (it["p_ceiling"] < 0.001).all()
    assert it["ceiling_mean_low"] < 0.4525 < it["ceiling_mean_high"]
    assert it.attrs["dof"] == 14


def test_what_fifteen_people_share_about_these_pictures_need_not_hold_for_others(dataset):
    people, both = (
        dataset("EVC", resample)["p_zero"].sel(model="animacy") for resample in ("subjects", "both")
    )
    assert people < 0.001 and both > 0.05
    assert (dataset("IT", "subjects")["standard_error"] < dataset("IT", "both")["standard_error"]).all()
    assert dataset("IT", "conditions").attrs["dof"] == 91
