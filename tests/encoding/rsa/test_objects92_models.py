"""The 92 object images: fitted models and groups on the RDMs of fifteen people."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge.encoding import plots, rsa


@pytest.fixture(scope="module")
def rdms(data):
    folder = data / "objects92"
    cichy = folder / "cichy2014_92images"
    models = rsa.read_rdms(folder / "92_modelRDMs.mat")
    return {
        # monkeyIT is data
        "models": models.isel(rdm=models["neuroid_id"].values != "monkeyIT"),
        "networks": rsa.read_rdms(folder / "modelRDMs_A2020.mat"),
        "judgements": rsa.read_rdms(folder / "92_behavRDMs.mat", parts=("task", "subject")),
        "sessions": rsa.read_rdms(folder / "92_brainRDMs.mat", parts=("region", "subject", "session")),
        "IT": rsa.read_rdms(cichy / "fmri_IT_RDMs.npz", rdm={"subject": np.arange(15)}),
        "EVC": rsa.read_rdms(cichy / "fmri_EVC_RDMs.npz", rdm={"subject": np.arange(15)}),
    }


def test_a_mixture_of_models_explains_unseen_people_and_stimuli_best(rdms):
    single = {str(name): rdms["models"][[k]] for k, name in enumerate(rdms["models"]["neuroid_id"].values)}
    models = {
        "mixture": rsa.WeightedModel(rdms["models"]),
        "free": rsa.WeightedModel(rdms["models"], nonnegative=False),
        "layer": rsa.SelectionModel(rdms["networks"]),
        **single,
    }
    result = rsa.crossvalidate(models, rdms["IT"], "pearson", random_state=0)
    mean = result.score.mean(("split", "unit")).to_series()
    training = result.dataset["training_score"].mean(("split", "unit")).to_series()
    assert len(single) == 7 and mean["mixture"] > mean[list(single)].max() + 0.03
    assert training["free"] > mean["free"] and training["free"] >= training["mixture"]
    assert mean["animacy"] > 0.2 > mean["layer"] - 0.1 and abs(mean["V1"]) < 0.1
    assert mean["mixture"] < result.dataset["ceiling"].mean() < result.dataset["ceiling_upper"].mean()
    assert result.audit["overlap"] == "none" and result.audit["models_among_data"] == []
    fitted = rsa.WeightedModel(rdms["models"]).fit(rdms["IT"], "pearson").weights_
    fitted = dict(zip(fitted["neuroid_id"].values.tolist(), fitted.values.tolist(), strict=True))
    assert fitted["animacy"] > 0.1 and fitted["V1"] == 0


def test_the_layer_selected_is_the_best_of_all(rdms):
    model = rsa.SelectionModel(rdms["networks"]).fit(rdms["IT"], "spearman")
    scores = rsa.compare(rdms["networks"], rdms["IT"]).mean("rdm_b").values
    assert model.selected_ == rdms["networks"]["neuroid_id"].values[scores.argmax()]
    assert str(model.selected_).startswith("conv")


def test_shuffled_pictures_are_explained_by_no_mixture(rdms):
    rng = np.random.default_rng(0)
    square = rsa.square(rdms["IT"]).values
    order = rng.permutation(92)
    rows, columns = np.triu_indices(92, 1)
    shuffled = rdms["IT"].copy(data=square[:, order[rows], order[columns]])
    result = rsa.crossvalidate({"mixture": rsa.WeightedModel(rdms["models"])}, shuffled, "pearson")
    assert abs(float(result.score.mean())) < 0.05


def test_people_of_two_laboratories_and_two_measures(rdms):
    behaviour = rdms["judgements"]
    imaging = rsa.average(rdms["sessions"], by="subject")
    both = rsa.compare_groups(rdms["models"][[0, 4]], behaviour, imaging, "spearman", permutations=2000)
    assert both["separation"] > 0.05 and both["p_separation"] < 0.01
    assert both.sizes["person"] == 20
    it = rdms["IT"].assign_coords(subject=("rdm", [f"P{k:02d}" for k in range(15)]))
    halves = rsa.compare_groups(rdms["models"], it[::2], it[1::2], "spearman", permutations=1000)
    assert (halves["p_max"] > 0.05).all() and halves["p_separation"] > 0.05
    evc = rdms["EVC"].assign_coords(subject=("rdm", [f"Q{k:02d}" for k in range(15)]))
    areas = rsa.compare_groups(rdms["models"], it, evc, "spearman", permutations=1000)
    animacy = areas.sel(model="animacy")
    assert animacy["difference"] < -0.1 and animacy["p_max"] == pytest.approx(1 / 1001)
    assert areas["p_separation"] == pytest.approx(1 / 1001)


def test_figures_of_real_models(rdms):
    result = rsa.infer(rdms["models"], rdms["IT"], resample="subjects", n_resamples=50, random_state=0)
    figure = result.plot()
    assert [tick.get_text()[:6] for tick in figure.axes[-1].get_xticklabels()][:2] == ["animac", "FaceBo"]
    assert len(plots.plot_mds(rsa.average(rdms["IT"])).axes) == 1
