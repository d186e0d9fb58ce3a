"""Sparse autoencoders: planted dictionaries come back, and containers, seeds, files and mistakes are met."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from cerebridge import encoding, neuro
from cerebridge.models.decompose import SparseAutoencoder
from cerebridge.models.decompose.samples import open_gradients, open_units
from cerebridge.models.decompose.streams import Stream
from cerebridge.neuro.layers import Layer, label_features
from cerebridge.neuro.store import ShardWriter


def planted(n=6000, units=24, atoms=40, on=2, seed=7):
    """Samples that are sums of few directions, and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(atoms, units, generator=generator), dim=1)
    chosen = torch.rand(n, atoms, generator=generator).topk(on, 1).indices
    codes = torch.zeros(n, atoms).scatter_(1, chosen, torch.rand(n, on, generator=generator) + 0.5)
    return 5 * (codes @ directions) + 3, directions


def recovered(sae, directions):
    return (torch.from_numpy(sae.components_) @ directions.T).max(0).values


SMALL = {"n_features": 12, "k": 2, "max_epochs": 2, "batch_size": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def small():
    x, _ = planted(n=200, units=6, atoms=8)
    return x, SparseAutoencoder(**SMALL).fit(x)


@pytest.fixture
def labelled():
    """Two layers of 30 pictures: maps of 4 channels at 3 × 2 places, and 5 units."""
    generator = np.random.default_rng(0)
    layers = [Layer("maps", (4, 3, 2), "<f4"), Layer("fc", (5,), "<f4")]
    return neuro.assemble(
        generator.standard_normal((30, 29)).astype(np.float32),
        presentation={"stimulus_id": [f"s{k}" for k in range(30)], "category": np.arange(30) % 3},
        neuroid=label_features(layers),
        modality="activation",
        units="a.u.",
        provenance="drawn",
    )


def stored(array, folder, dtype=np.float32, rows=7):
    """The same array as a finished folder of shards."""
    values = array.values.astype(dtype)
    with ShardWriter(folder, {"of": "test"}, len(values)) as writer:
        for start in range(0, len(values), rows):
            block = values[start : start + rows]
            writer.write(start, {"maps": block[:, :24].reshape(-1, 4, 3, 2), "fc": block[:, 24:]})
        writer.close({"stimulus_id": array["stimulus_id"].values}, provenance="drawn")
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "topk", "k": 2},
        {"activation": "relu", "sparsity": 0.2},
        {"activation": "jumprelu", "sparsity": 0.02},
    ],
    ids=["topk", "relu", "jumprelu"],
)
def test_a_planted_dictionary_comes_back(options):
    x, directions = planted()
    options = {"learning_rate": 5e-3, "n_features": 60, "batch_size": 128, "max_epochs": 30} | options
    sae = SparseAutoencoder(**options).fit(x)
    assert (recovered(sae, directions) > 0.9).float().mean() > 0.95
    report = sae.report(x)
    assert report["explained_variance"] > 0.9 and 1 < report["l0"] < 5
    np.testing.assert_allclose(np.linalg.norm(sae.components_, axis=1), 1, rtol=1e-5)
    untrained = SparseAutoencoder(**options | {"max_epochs": 1, "learning_rate": 1e-9}).fit(x)
    assert (recovered(untrained, directions) > 0.9).float().mean() < 0.05


def test_units_of_the_data_do_not_matter():
    x, _ = planted(n=500)
    for activation in ("topk", "relu", "jumprelu"):
        options = SMALL | {"activation": activation, "max_epochs": 4}
        one, other = (SparseAutoencoder(**options).fit(given) for given in (x, 1000 * x))
        assert one.history_["loss"] == pytest.approx(other.history_["loss"], rel=1e-3)
        np.testing.assert_allclose(other.transform(1000 * x), 1000 * one.transform(x), rtol=1e-2, atol=3)


def test_codes_and_reconstructions_are_what_the_weights_say(small):
    x, sae = small
    values = x.double().numpy()
    z = (values - sae.bias_) @ sae.encoder_.T.astype(float) + sae.encoder_bias_
    z[z < np.sort(z, axis=1)[:, [-2]]] = 0
    codes = sae.transform(values)
    np.testing.assert_allclose(codes, z.clip(0), rtol=1e-9)
    rebuilt = sae.inverse_transform(codes)
    np.testing.assert_allclose(rebuilt, codes @ sae.components_.astype(float) + sae.bias_, rtol=1e-9)
    report = sae.report(values)
    explained = 1 - np.square(rebuilt - values).sum() / np.square(values - values.mean(0)).sum()
    assert (
        float(report["explained_variance"][0]) == pytest.approx(explained) == pytest.approx(sae.score(values))
    )
    assert float(report["l0"][0]) == pytest.approx((codes > 0).sum(1).mean())
    assert float(report["dead_share"][0]) == (codes == 0).all(0).mean()
    np.testing.assert_allclose(report["frequency"][0], (codes > 0).mean(0))


def test_containers_come_back_in_kind(small, labelled):
    x, sae = small
    codes = sae.transform(x)
    assert isinstance(codes, torch.Tensor) and codes.dtype == torch.float32
    assert isinstance(sae.transform(x.numpy()), np.ndarray)
    np.testing.assert_array_equal(sae.transform(x.numpy()), codes)
    features = SparseAutoencoder(**SMALL, layer="fc").fit(labelled)
    coded = features.transform(labelled)
    assert coded.dims == ("presentation", "neuroid") and coded.shape == (30, 12)
    assert set(coded["layer"].values) == {"fc"} and coded["feature"].values.tolist() == list(range(12))
    assert coded["category"].values.tolist() == labelled["category"].values.tolist()
    again = features.inverse_transform(coded)
    assert again["neuroid_id"].values.tolist() == [f"fc/{k:06d}" for k in range(5)]
    assert neuro.validate(coded).attrs["modality"] == "features"


def test_every_place_of_a_map_may_be_a_sample(labelled):
    maps = labelled.isel(neuroid=labelled["layer"].values == "maps")
    sae = SparseAutoencoder(**SMALL, layer="maps", positions=True).fit(labelled)
    by_hand = maps.values.reshape(30, 4, 6).transpose(0, 2, 1).reshape(180, 4)
    coded = sae.transform(labelled)
    np.testing.assert_allclose(
        coded.values, SparseAutoencoder(**SMALL).fit(by_hand).transform(by_hand), rtol=1e-5
    )
    assert coded["stimulus_id"].values[6:12].tolist() == ["s1"] * 6
    assert coded["row"].values[:6].tolist() == [0, 0, 1, 1, 2, 2] and coded["column"].values[:2].tolist() == [
        0,
        1,
    ]
    again = sae.inverse_transform(coded)
    assert again["channel"].values.tolist() == [0, 1, 2, 3]
    shuffled = np.random.default_rng(1).permutation(29)
    np.testing.assert_array_equal(sae.transform(labelled.isel(neuroid=shuffled)), coded.values)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_store_is_streamed_within_memory(labelled, tmp_path, dtype):
    folder = stored(labelled, tmp_path / "store", dtype)
    kept = labelled.astype(dtype)
    held = SparseAutoencoder(**SMALL, layer="fc").fit(kept)
    fits = SparseAutoencoder(**SMALL, layer="fc").fit(folder)
    np.testing.assert_array_equal(held.components_, fits.components_)
    streamed = SparseAutoencoder(**SMALL | {"max_epochs": 30}, layer="fc", memory=200).fit(neuro.load(folder))
    whole = SparseAutoencoder(**SMALL | {"max_epochs": 30}, layer="fc").fit(kept)
    assert streamed.score(kept) == pytest.approx(whole.score(kept), abs=0.05)
    with pytest.raises(
        ValueError, match=r"the codes take 1.4 KiB, more than memory=200; give a folder as store="
    ):
        streamed.transform(folder)
    on_disk = streamed.transform(folder, store=tmp_path / "codes")
    assert on_disk.sizes["neuroid"] == 12 and set(on_disk["decomposition"].values) == {"SparseAutoencoder"}
    np.testing.assert_allclose(on_disk.values, streamed.transform(kept).values, rtol=1e-6)
    assert on_disk.identical(streamed.transform(folder, store=tmp_path / "codes"))


def test_gradients_are_streamed_beside_the_samples(labelled, tmp_path):
    slopes = labelled.copy(data=np.random.default_rng(5).standard_normal(labelled.shape).astype(np.float32))
    folders = stored(labelled, tmp_path / "x"), stored(slopes, tmp_path / "gradients", np.float16)
    options = SMALL | {"activation": "gradient", "layer": "maps", "positions": True}
    held = SparseAutoencoder(**options).fit(labelled, gradients=slopes.astype(np.float16))
    fits = SparseAutoencoder(**options).fit(folders[0], gradients=folders[1])
    np.testing.assert_array_equal(held.components_, fits.components_)
    x = open_units(fits, folders[0], reset=False)
    batches = Stream({"x": x, "gradients": open_gradients(fits, folders[1], x)}, 16, memory=900)
    drawn = list(batches.draw(torch.Generator().manual_seed(0)))
    pairs = [
        (row, slope) for batch in drawn for row, slope in zip(batch["x"], batch["gradients"], strict=True)
    ]
    known = {tuple(row.tolist()): slope for row, slope in pairs}
    by_place = [
        array.values[:, :24].reshape(30, 4, 6).transpose(0, 2, 1).reshape(180, 4)
        for array in (labelled, slopes)
    ]
    for row, slope in zip(*by_place, strict=True):
        np.testing.assert_array_equal(known[tuple(row.tolist())], slope.astype(np.float16))
    streamed = SparseAutoencoder(**options, memory=900).fit(folders[0], gradients=folders[1])
    assert np.isfinite(streamed.components_).all()
    chosen = held.transform(labelled, gradients=slopes)
    assert not np.array_equal(chosen.values, held.transform(labelled).values)
    assert (chosen.values > 0).sum(1).max() <= 2


def test_codes_that_were_being_written_go_on_where_they_stopped(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr("cerebridge.models.decompose.samples.READ_BYTES", 500)
    sae = SparseAutoencoder(**SMALL, layer="fc").fit(labelled)
    write, written = ShardWriter.write, []

    def killed(self, start, values):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(start)
        write(self, start, values)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            sae.transform(labelled, store=tmp_path / "codes")
    kept = [(tmp_path / "codes" / f"shard-{start:06d}.h5").stat().st_mtime_ns for start in written]
    coded = sae.transform(labelled, store=tmp_path / "codes")
    np.testing.assert_allclose(coded.values, sae.transform(labelled).values, rtol=1e-6)
    assert coded["category"].values.tolist() == labelled["category"].values.tolist()
    assert kept == [(tmp_path / "codes" / f"shard-{start:06d}.h5").stat().st_mtime_ns for start in written]
    with pytest.raises(ValueError, match="was begun with weights"):
        SparseAutoencoder(**SMALL, layer="fc", random_state=1).fit(labelled).transform(
            labelled, store=tmp_path / "codes"
        )
    with pytest.raises(ValueError, match="store= needs labelled activations"):
        SparseAutoencoder(**SMALL).fit(labelled.values).transform(labelled.values, store=tmp_path / "other")


def test_equal_seeds_give_equal_weights_and_others_do_not(labelled, tmp_path):
    folder = stored(labelled, tmp_path / "store")
    before = torch.get_rng_state()
    fits = [
        SparseAutoencoder(**SMALL, layer="maps", memory=2000, random_state=seed).fit(folder).components_
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert not np.allclose(fits[0], fits[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu"])
def test_a_training_resumes_from_its_checkpoint(activation, tmp_path):
    x, _ = planted(n=300, units=6, atoms=8)
    options = SMALL | {"activation": activation, "dead_after": 100, "resample_every": 5}
    whole = SparseAutoencoder(**options | {"max_epochs": 5}).fit(x)
    for epochs in (2, 5):
        resumed = SparseAutoencoder(**options | {"max_epochs": epochs}, checkpoint=tmp_path / "run").fit(x)
    np.testing.assert_array_equal(whole.components_, resumed.components_)
    np.testing.assert_array_equal(whole.encoder_, resumed.encoder_)
    assert whole.history_["loss"].tolist() == resumed.history_["loss"].tolist()
    with pytest.raises(ValueError, match="belongs to other settings"):
        SparseAutoencoder(**options | {"sparsity": 0.5}, checkpoint=tmp_path / "run").fit(x)


def test_dead_features_are_revived_by_the_auxiliary_loss():
    x, directions = planted(units=32, atoms=200, on=3)
    fast = {
        "n_features": 256,
        "k": 3,
        "max_epochs": 12,
        "batch_size": 128,
        "learning_rate": 2e-2,
        "dead_after": 3000,
    }
    left, revived = (SparseAutoencoder(**fast, auxiliary=weight).fit(x) for weight in (0.0, 0.25))
    assert float(revived.report(x)["dead_share"][0]) < float(left.report(x)["dead_share"][0]) - 0.1
    assert (recovered(revived, directions) > 0.9).sum() > (recovered(left, directions) > 0.9).sum() + 20


def test_it_is_saved_without_pickle(labelled, tmp_path):
    for number, activation in enumerate(("topk", "jumprelu")):
        sae = SparseAutoencoder(**SMALL, layer="fc", activation=activation).fit(labelled)
        sae.save(tmp_path / f"{number}.safetensors")
        again = SparseAutoencoder.load(tmp_path / f"{number}.safetensors")
        assert again.get_params() == sae.get_params()
        assert again.transform(labelled).identical(sae.transform(labelled))
        assert again.inverse_transform(again.transform(labelled)).identical(
            sae.inverse_transform(sae.transform(labelled))
        )
    (tmp_path / "other").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is damaged or no file of SparseAutoencoder.save"):
        SparseAutoencoder.load(tmp_path / "other")
    plain = SparseAutoencoder(**SMALL).fit(labelled.values)
    encoding.save(tmp_path / "sae.skops", plain)
    np.testing.assert_array_equal(
        encoding.load(tmp_path / "sae.skops").transform(labelled.values), plain.transform(labelled.values)
    )


def test_scikit_learns_contract():
    check_estimator(SparseAutoencoder(6, k=2, max_epochs=1, device="cpu"))


def test_codes_go_into_an_encoding_model(labelled):
    sae = SparseAutoencoder(**SMALL, layer="fc")
    brain = labelled.isel(neuroid=slice(0, 3)).drop_vars(["layer", "channel", "row", "column"])
    scores = encoding.evaluate(
        encoding.RidgeCV(), {"sae": clone(sae).fit(labelled).transform(labelled)}, brain, cv=3
    )
    assert np.isfinite(scores.score.values).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 13}, "k=13 features cannot be on where there are n_features=12"),
        ({"k": 0}, "k=0 must be a whole number of at least 1"),
        ({"activation": "gelu"}, "activation='gelu' is unknown; use 'topk' or 'gradient'"),
        ({"sparsity": -1.0}, "sparsity=-1.0 must not be negative"),
        ({"bandwidth": 0.0}, "bandwidth=0.0 must be greater than 0"),
        ({"activation": "gradient"}, "gradients=, which are missing; collect them with LayerLoss"),
        ({"positions": True}, "positions=True needs a labelled array"),
        ({"learning_rate": 1e30, "activation": "relu"}, "training has diverged"),
    ],
)
def test_wrong_parameters_are_said_in_a_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder(**SMALL | options).fit(torch.randn(50, 4))


def test_wrong_data_are_said_in_a_sentence(small, labelled, tmp_path):
    x, sae = small
    wrong = x.clone()
    wrong[7, 2] = torch.nan
    for call in (sae.transform, SparseAutoencoder(**SMALL).fit):
        with pytest.raises(ValueError, match="Input X contains NaN: in 1 of 200 rows, first row 7"):
            call(wrong)
    with pytest.raises(ValueError, match="X has 5 features, but SparseAutoencoder is expecting 6 features"):
        sae.transform(x[:, :5])
    with pytest.raises(ValueError, match="the codes have 6 features, but the dictionary has 12"):
        sae.inverse_transform(x)
    with pytest.raises(ValueError, match="cannot be learned from n_samples=1"):
        SparseAutoencoder(**SMALL).fit(x[:1])
    with pytest.raises(ValueError, match="all samples are the same"):
        SparseAutoencoder(**SMALL).fit(torch.ones(5, 3))
    with pytest.raises(ValueError, match="holds the layers 'maps', 'fc'; say which one with layer="):
        SparseAutoencoder(**SMALL).fit(stored(labelled, tmp_path / "store"))
    with pytest.raises(ValueError, match="X has no layer 'conv'; it holds 'maps', 'fc'"):
        SparseAutoencoder(**SMALL, layer="conv").fit(labelled)
    with pytest.raises(ValueError, match="have no channel and place"):
        SparseAutoencoder(**SMALL, layer="fc", positions=True).fit(labelled)
    gradient = SparseAutoencoder(**SMALL, activation="gradient")
    with pytest.raises(ValueError, match="gradients are 199 samples × 6 units, but X is 200 × 6"):
        gradient.fit(x, gradients=x[1:])
    holed = labelled.copy()
    holed.values[17, 27] = np.nan
    folder = stored(holed, tmp_path / "holed")
    with pytest.raises(ValueError, match="contains NaN in row 17"):
        SparseAutoencoder(**SMALL, layer="fc", memory=200).fit(folder)
    SparseAutoencoder(**SMALL, layer="maps", memory=2000).fit(folder)


def test_a_dataset_is_no_labelled_array():
    with pytest.raises(ValueError, match="give presentation × neuroid"):
        SparseAutoencoder(**SMALL).fit(xr.DataArray(np.zeros((2, 2, 2)), dims=("a", "b", "c")))
