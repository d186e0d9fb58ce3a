"""Variance partition of RDMs: commonality coefficients of known truth, and their picture."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import rankdata

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.plots.partition import plot_partition
from cerebridge.encoding.rsa.pairs import pair_table


def labelled(vectors, names, n=40):
    return neuro.assemble(
        vectors, rdm={"neuroid_id": names}, pair=pair_table(np.arange(n)), modality="fmri", units="1"
    )


@pytest.fixture(scope="module")
def parts():
    """Models a and b with a part in common, c apart; four people who see a's own part and the common one."""
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(780, 8))
    # exactly uncorrelated
    own_a, own_b, common, c, *noise = np.linalg.qr(noisy - noisy.mean(0))[0].T
    models = labelled([own_a + common, own_b + common, c], ["a", "b", "c"])
    return models, labelled([own_a + common + 0.5 * e for e in noise], ["p0", "p1", "p2", "p3"])


def r2(predictors, truth, fit=None):
    X = np.column_stack([*(p - p.mean() for p in predictors)])
    y = truth - truth.mean()
    weights = nnls(X, y)[0] if fit else np.linalg.lstsq(X, y, rcond=None)[0]
    return 1 - ((y - X @ weights) ** 2).sum() / (y**2).sum()


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_every_set_is_its_regression(parts, method, nonnegative):
    models, data = parts
    found = rsa.partition_variance(models, data, method, nonnegative=nonnegative)
    x, y = ((rankdata(v.values, axis=1) if method == "spearman" else v.values) for v in parts)
    names = models.neuroid_id.values.tolist()
    for members in found["set"].values:
        rows = x[[names.index(name) for name in members.split("+")]]
        expected = [r2(rows, row, nonnegative) for row in y]
        np.testing.assert_allclose(found.r2.sel(set=members).values, expected, atol=1e-10)
    np.testing.assert_allclose(found.venn.sum("set").values, found.total.values, atol=1e-12)
    np.testing.assert_allclose(found["product"].sum("band").values, found.total.values, atol=1e-12)
    np.testing.assert_allclose(
        (found.unique.sum("band") + found.shared).values, found.total.values, atol=1e-12
    )


def test_known_parts_are_found(parts):
    found = rsa.partition_variance(*parts, method="pearson").mean("neuroid")
    # of a variance of 2.25 all models explain what a explains, 2; b with its variance of 2 the square of 1 over it
    truth = {"a": 1.5 / 2.25, "b": 0, "c": 0, "a+b": 0.5 / 2.25, "a+c": 0, "b+c": 0, "a+b+c": 0}
    for members, share in truth.items():
        assert found.venn.sel(set=members).item() == pytest.approx(share, abs=1e-10)
    assert found.total.item() == pytest.approx(2 / 2.25)
    assert found.unique.sel(band="a").item() == pytest.approx(1.5 / 2.25)


def test_unrelated_models_explain_what_chance_gives():
    rng = np.random.default_rng(1)
    models = labelled(rng.normal(size=(3, 780)), list("abc"))
    data = labelled(rng.normal(size=(50, 780)), [f"p{k}" for k in range(50)])
    total = rsa.partition_variance(models, data, "pearson").total
    assert total.mean().item() == pytest.approx(3 / 779, rel=0.35)


def test_labels_stay_and_the_picture_is_drawn(parts):
    models, data = parts
    named = {str(name): models[[k]] for k, name in enumerate(models.neuroid_id.values)}
    found = rsa.partition_variance(named, data.assign_coords(region=("rdm", ["IT", "IT", "V1", "V1"])))
    assert found.band.values.tolist() == ["a", "b", "c"]
    assert found.venn.dims == ("set", "neuroid")
    for show in ("unique", "product", "r2", "venn"):
        figure = plot_partition(found, show=show)
        assert [axis.get_title("left") for axis in figure.axes] == ["IT (2 units)", "V1 (2 units)"]


def test_missing_pairs_are_left_out_for_that_person(parts):
    models, data = parts
    values = np.array(data.values)
    values[1, ::3] = np.nan
    found = rsa.partition_variance(models, data.copy(data=values))
    known = np.arange(780) % 3 > 0
    there = rsa.partition_variance(models[:, known], data[[1]][:, known])
    np.testing.assert_allclose(found.venn.values[:, 1], there.venn.values[:, 0], atol=1e-12)
    np.testing.assert_allclose(
        found.venn.values[:, 0], rsa.partition_variance(models, data).venn.values[:, 0], atol=1e-12
    )
    assert found.attrs["missing_pairs"] == 260


def test_many_models_have_no_regions():
    rng = np.random.default_rng(2)
    models = labelled(rng.normal(size=(8, 780)), [f"m{k}" for k in range(8)])
    data = labelled(rng.normal(size=(2, 780)), ["p", "q"])
    found = rsa.partition_variance(models, data)
    assert "venn" not in found and found.sizes["set"] == 9
    np.testing.assert_allclose(found["product"].sum("band").values, found.total.values, atol=1e-12)


BAD = {
    "one model": (lambda m, d: rsa.partition_variance(m[:1], d), "there is one model only"),
    "collinear": (
        lambda m, d: rsa.partition_variance(
            labelled(np.vstack([m.values, m.values.sum(0)]), list("abcd")), d, "pearson"
        ),
        "model 'd' is collinear: a combination of those before it",
    ),
    "no lengths": (
        lambda m, d: rsa.partition_variance(m, d, "tau-a"),
        "method='tau-a' has no variance to divide",
    ),
    "constant": (
        lambda m, d: rsa.partition_variance(m.copy(data=np.ones(m.shape)), d),
        "RDM 'a' of models is constant",
    ),
    "many": (
        lambda m, d: rsa.partition_variance(
            labelled(np.random.default_rng(0).random((7, 780)), list("abcdefg")), d, nonnegative=True
        ),
        "nonnegative=True takes at most 6 models, and there are 7",
    ),
    "empty": (lambda m, d: rsa.partition_variance({}, d), "models is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(parts, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        call(*parts)
    assert "\n" not in str(error.value)
