"""Extraction: what is stored is what the layers computed, however it was cut, interrupted or kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from cerebridge import models, neuro
from cerebridge.neuro.store import ShardWriter

LAYERS = ["conv1", "conv3", "readout"]


def pictures(n, size=32):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net():
    return models.load("tiny", weights="random", seed=0)


@pytest.fixture(scope="module")
def stimuli():
    return models.StimulusSet.from_arrays(pictures(23), table={"category": ["face", "house"] * 11 + ["face"]})


@pytest.fixture
def folder(tmp_path):
    """Thirty pictures as files, the twentieth of which is damaged."""
    root = tmp_path / "pictures"
    root.mkdir()
    for number, pixels in enumerate(pictures(30)):
        Image.fromarray(pixels).save(root / f"{number:02d}.png")
    (root / "19.png").write_bytes((root / "18.png").read_bytes()[:1000])
    return root


def expected(net, stimuli, layers):
    inputs = torch.stack([net.preprocess(stimulus) for stimulus in stimuli])
    hidden, outputs = inputs, {}
    with torch.no_grad():
        for name, module in net.named_children():
            hidden = outputs[name] = module(hidden)
    return np.concatenate([outputs[layer].flatten(1).numpy() for layer in layers], axis=1)


def test_activations_are_those_of_a_plain_forward_pass(net, stimuli, device):
    activations = models.extract(net, stimuli, LAYERS, device=device)
    assert activations.dims == ("presentation", "neuroid")
    np.testing.assert_allclose(activations.values, expected(net, stimuli, LAYERS), rtol=1e-4, atol=1e-5)
    assert next(net.parameters()).device.type == "cpu"


def test_labels(net, stimuli):
    activations = models.extract(net, stimuli, ["readout", "conv3"])
    neuro.validate(activations)
    assert activations["category"].values[:3].tolist() == ["face", "house", "face"]
    assert activations["content_hash"].values.tolist() == stimuli.table["content_hash"].tolist()
    assert list(dict.fromkeys(activations["layer"].values)) == ["readout", "conv3"]
    last = activations.isel(neuroid=-1)
    assert [int(last[name]) for name in ("channel", "row", "column")] == [63, 3, 3]
    assert np.isnan(activations["row"].values[0])
    facts = json.loads(activations.attrs["provenance"])
    assert facts["weights"] == net.loading.fingerprint
    assert facts["stimuli"] == stimuli.hash
    assert facts["preprocess"] == repr(net.preprocess)


def test_a_store_holds_the_same_array(net, stimuli, tmp_path):
    stored = models.extract(net, stimuli, LAYERS, store=tmp_path / "store", batch_size=4)
    kept = models.extract(net, stimuli, LAYERS, batch_size=4)
    xr.testing.assert_identical(stored.load(), kept)
    xr.testing.assert_identical(neuro.load(tmp_path / "store").load(), kept)


def test_a_store_is_read_on_demand(net, stimuli, tmp_path):
    stored = models.extract(net, stimuli, LAYERS, store=tmp_path / "store")
    assert not stored.variable._in_memory
    layer = stored.isel(neuroid=np.flatnonzero(stored["layer"].values == "conv3"))
    np.testing.assert_allclose(layer.values, expected(net, stimuli, ["conv3"]), rtol=1e-4, atol=1e-5)
    assert not stored.variable._in_memory


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 30), memory=st.sampled_from(["8MiB", "64MiB", "2GiB"]))
def test_batches_and_shards_change_nothing(net, stimuli, batch_size, memory):
    activations = models.extract(net, stimuli, LAYERS, batch_size=batch_size, memory=memory)
    np.testing.assert_allclose(activations.values, expected(net, stimuli, LAYERS), rtol=1e-4, atol=1e-5)


def test_the_order_of_stimuli_changes_nothing_else(net, stimuli):
    order = np.random.default_rng(1).permutation(len(stimuli))
    whole, shuffled = (models.extract(net, s, LAYERS, batch_size=4) for s in (stimuli, stimuli[order]))
    np.testing.assert_allclose(shuffled.values, whole.values[order], rtol=1e-4, atol=1e-5)
    assert shuffled["stimulus_id"].values.tolist() == whole["stimulus_id"].values[order].tolist()


@pytest.mark.parametrize(
    ("pool", "reduce"),
    [
        (2, lambda maps: torch.nn.functional.adaptive_avg_pool2d(maps, 2)),
        ((1, 4), lambda maps: torch.nn.functional.adaptive_avg_pool2d(maps, (1, 4))),
        (100, lambda maps: maps),
        ("global", lambda maps: maps.mean((2, 3))),
        (lambda output: output.amax((2, 3)) if output.ndim == 4 else output, lambda maps: maps.amax((2, 3))),
    ],
    ids=["2", "1x4", "larger", "global", "function"],
)
def test_pooling(net, stimuli, pool, reduce):
    activations = models.extract(net, stimuli, ["conv3", "readout"], pool=pool)
    maps = torch.from_numpy(expected(net, stimuli, ["conv3"])).reshape(len(stimuli), 64, 4, 4)
    pooled = reduce(maps).flatten(1).numpy()
    np.testing.assert_allclose(activations.values[:, :-10], pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        activations.values[:, -10:], expected(net, stimuli, ["readout"]), rtol=1e-4, atol=1e-5
    )


def test_half_precision_is_rounded_and_nothing_else(net, stimuli, tmp_path):
    whole = models.extract(net, stimuli, LAYERS, batch_size=4)
    for store in (None, tmp_path / "store"):
        half = models.extract(net, stimuli, LAYERS, dtype="float16", batch_size=4, store=store)
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half.values, whole.values.astype(np.float16))


def test_preprocessing_given_found_and_by_default(stimuli):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Flatten()

        def forward(self, images):
            return self.mean(images.mean((2, 3)))

    plain = models.extract(Mean(), stimuli, ["mean"])
    imagenet = models.preprocessing.IMAGENET
    np.testing.assert_allclose(plain.values[5], imagenet(stimuli[5]).mean((1, 2)), rtol=1e-4, atol=1e-5)
    given = models.extract(
        Mean(), stimuli, ["mean"], preprocess=lambda image: np.asarray(image.resize((1, 1))).T / 7
    )
    np.testing.assert_allclose(
        given.values[5], np.asarray(Image.fromarray(stimuli[5]).resize((1, 1)))[0, 0] / 7, rtol=1e-6
    )


def test_arrays_that_are_no_images_reach_the_network_as_they_are():
    rows = np.random.default_rng(0).standard_normal((6, 4))
    activations = models.extract(nn.Sequential(nn.Identity()), models.StimulusSet.from_arrays(rows), ["0"])
    np.testing.assert_array_equal(activations.values, rows.astype(np.float32))
    double = nn.Sequential(nn.Linear(4, 3).double())
    activations = models.extract(double, models.StimulusSet.from_arrays(rows), ["0"])
    np.testing.assert_allclose(activations.values, double(torch.from_numpy(rows)).detach().numpy(), rtol=1e-6)


def test_tokens_stay_integers_and_one_number_a_stimulus_is_one_channel():
    class First(nn.Module):
        def forward(self, vectors):
            return vectors[:, 0, 0]

    net = nn.Sequential(nn.Embedding(9, 3), First())
    tokens = np.arange(12).reshape(4, 3) % 9
    activations = models.extract(net, models.StimulusSet.from_arrays(tokens), ["0", "1"])
    np.testing.assert_array_equal(activations.values[:, 9], net[0].weight[tokens[:, 0], 0].detach())
    assert activations["token"].values[:3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["conv9"]}, "no layer 'conv9'; the nearest are 'conv"),
        ({"layers": []}, "no layers"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"pool": "max"}, "pool='max' is unknown"),
        ({"pool": 0}, "pool=0 is unknown"),
        (
            {"pool": lambda output: output.mean(0)},
            "pool= does not leave one row a stimulus of the layer 'conv1'",
        ),
        ({"pool": lambda output: output[:, :0]}, "'conv1' has no features"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"memory": "a lot"}, "memory='a lot'"),
        (
            {"memory": "10KiB"},
            "one stimulus and the labels of all units need about .* more than memory=10.0 KiB",
        ),
        ({"device": "gpu"}, "device='gpu' is unknown"),
        ({"preprocess": lambda image: torch.zeros(3)}, r"fails on an input of shape \(3, 3\)"),
        ({"preprocess": lambda image: 1 / 0}, "preprocessing failed on stimulus '0000': division by zero"),
    ],
)
def test_bad_arguments_are_one_sentence(net, stimuli, arguments, message):
    with pytest.raises(ValueError, match=message):
        models.extract(**{"net": net, "stimuli": stimuli, "layers": LAYERS, **arguments})
    assert not sum(len(module._forward_hooks) for module in net.modules())


def test_a_result_larger_than_memory_is_refused_before_it_is_computed():
    stimuli = models.StimulusSet.from_arrays(np.zeros((900, 4)))
    with pytest.raises(
        ValueError, match=r"the activations take 14.1 KiB, more than memory=12.0 KiB; give a folder"
    ):
        models.extract(nn.Sequential(nn.Identity()), stimuli, ["0"], memory="12KiB", batch_size=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_asked_for_where_there_is_none(net, stimuli):
    with pytest.raises(ValueError, match="torch sees 0 CUDA devices"):
        models.extract(net, stimuli, LAYERS, device="cuda")


def test_stimuli_of_other_sizes_are_named():
    stimuli = models.StimulusSet.from_arrays([np.zeros((k, 3)) for k in (4, 4, 5)], list("abc"))
    with pytest.raises(ValueError, match=r"'c' becomes an input of shape \(5, 3\), but 'a' one of \(4, 3\)"):
        models.extract(nn.Sequential(nn.Identity()), stimuli, ["0"], batch_size=3)
    with pytest.raises(
        ValueError, match=r"'0' gives the shape \(1, 5, 3\) where the first stimulus led to \(1, 4, 3\)"
    ):
        models.extract(nn.Sequential(nn.Identity()), stimuli, ["0"], batch_size=1)


@pytest.mark.parametrize(
    ("value", "dtype", "hint"), [(np.inf, "float32", "check the network"), (1e5, "float16", "float32")]
)
def test_values_that_are_not_finite_are_named(value, dtype, hint):
    class Spoil(nn.Module):
        def forward(self, rows):
            return torch.where(rows == 5, value, rows)

    stimuli = models.StimulusSet.from_arrays(np.arange(8.0)[:, None], list("abcdefgh"))
    with pytest.raises(ValueError, match=f"'0' gives NaN or infinite values for stimulus 'f'; .*{hint}"):
        models.extract(nn.Sequential(Spoil()), stimuli, ["0"], dtype=dtype, batch_size=3)


def test_large_finite_values_are_kept():
    stimuli = models.StimulusSet.from_arrays(np.full((4, 3), 3e38))
    assert (models.extract(nn.Sequential(nn.Identity()), stimuli, ["0"]).values == np.float32(3e38)).all()


def test_a_store_of_something_else_is_refused(net, stimuli, tmp_path):
    models.extract(net, stimuli, LAYERS, store=tmp_path / "store")
    other = models.load("tiny", weights="random", seed=1)
    for changed in (
        {"net": other},
        {"layers": ["conv2"]},
        {"pool": 2},
        {"dtype": "float16"},
        {"preprocess": models.Preprocessing(32, (0, 0, 0), (1, 1, 1))},
    ):
        with pytest.raises(ValueError, match="was begun with"):
            models.extract(
                **{"net": net, "stimuli": stimuli, "layers": LAYERS, "store": tmp_path / "store", **changed}
            )


def count_images(net):
    """Add up how many images reach the network, beside the three trial runs."""
    seen = []
    net.conv1.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    return lambda: sum(seen[3:])


def test_a_complete_store_is_not_computed_again(stimuli, tmp_path):
    net = models.load("tiny", weights="random")
    first = models.extract(net, stimuli, LAYERS, store=tmp_path / "store")
    images = count_images(net)
    again = models.extract(net, stimuli, LAYERS, store=tmp_path / "store")
    assert images() == 0
    xr.testing.assert_identical(first.load(), again.load())


def small(net, stimuli, **arguments):
    """An extraction whose shards hold eight stimuli."""
    return models.extract(net, stimuli, ["conv1", "readout"], batch_size=4, memory=3_750_000, **arguments)


def test_an_unreadable_image_is_named_and_the_rest_stays(folder, tmp_path):
    net, store = models.load("tiny", weights="random"), tmp_path / "store"
    with pytest.raises(ValueError, match=r"'19.png' \(row 19 of 30\) cannot be read"):
        small(net, models.StimulusSet.from_folder(folder), store=store)
    with pytest.raises(OSError, match="unfinished"):
        neuro.load(store)
    Image.fromarray(pictures(30)[19]).save(folder / "19.png")
    repaired = models.StimulusSet.from_folder(folder)
    images = count_images(net)
    stored = small(net, repaired, store=store)
    assert images() == 14  # rows 16 to 29
    xr.testing.assert_identical(stored.load(), small(net, repaired))


def test_after_an_unreadable_image_is_removed_the_run_goes_on(folder, tmp_path):
    net, store = models.load("tiny", weights="random"), tmp_path / "store"
    with pytest.raises(ValueError, match=r"'19.png' \(row 19 of 30\) cannot be read"):
        small(net, models.StimulusSet.from_folder(folder), store=store)
    (folder / "19.png").unlink()
    rest = models.StimulusSet.from_folder(folder)
    images = count_images(net)
    stored = small(net, rest, store=store)
    assert images() == 13
    xr.testing.assert_identical(stored.load(), small(net, rest))


def test_stimuli_that_changed_are_computed_again(net, tmp_path):
    before, after = pictures(16), pictures(16)
    after[9] ^= 255
    small(net, models.StimulusSet.from_arrays(before), store=tmp_path / "store")
    changed = models.StimulusSet.from_arrays(after)
    with pytest.warns(UserWarning, match="again"):
        stored = small(net, changed, store=tmp_path / "store")
    xr.testing.assert_identical(stored.load(), small(net, changed))


def test_a_store_of_other_stimuli_is_left_alone(net, stimuli, tmp_path):
    small(net, stimuli, store=tmp_path / "store")
    with pytest.raises(ValueError, match="holds activations of other stimuli"):
        small(net, stimuli[::-1], store=tmp_path / "store")
    xr.testing.assert_identical(neuro.load(tmp_path / "store").load(), small(net, stimuli))


KILLED = """
    import os, signal, sys
    import numpy as np
    from cerebridge import models

    net = models.load("tiny", weights="random", seed=0)
    pictures = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    countdown = int(sys.argv[2])

    def kill(*_):
        global countdown
        countdown -= 1
        if not countdown:
            os.kill(os.getpid(), signal.SIGKILL)

    if sys.argv[3] == "forward":
        net.conv1.register_forward_pre_hook(kill)
    else:
        sync = os.fsync
        os.fsync = lambda handle: (kill(), sync(handle))
    models.extract(net, models.StimulusSet.from_arrays(pictures), ["conv1", "readout"], store=sys.argv[1], batch_size=4,
                   memory=3_750_000)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of Unix")
@pytest.mark.parametrize(("where", "countdown"), [("forward", 9), ("write", 5), ("write", 6)])
def test_a_killed_run_resumes_to_equal_content(tmp_path, where, countdown):
    store = tmp_path / "store"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(store), str(countdown), where]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    complete = len(list(store.glob("shard-*.h5")))
    assert 0 < complete < 5
    net, stimuli = models.load("tiny", weights="random", seed=0), models.StimulusSet.from_arrays(pictures(40))
    images = count_images(net)
    stored = small(net, stimuli, store=store)
    assert images() == 40 - 8 * complete
    xr.testing.assert_identical(stored.load(), small(net, stimuli))
    assert not list(store.glob("*.part"))


def test_a_full_disk_leaves_what_is_complete(stimuli, tmp_path, monkeypatch):
    net, store, write, calls = (
        models.load("tiny", weights="random"),
        tmp_path / "store",
        ShardWriter.write,
        [],
    )

    def failing(self, start, values):
        calls.append(start)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        write(self, start, values)

    monkeypatch.setattr(ShardWriter, "write", failing)
    with pytest.raises(OSError, match="No space left"):
        small(net, stimuli, store=store)
    assert len(list(store.glob("shard-*.h5"))) == 1
    monkeypatch.undo()
    images = count_images(net)
    stored = small(net, stimuli, store=store)
    assert images() == 23 - 8
    xr.testing.assert_identical(stored.load(), small(net, stimuli))


def test_a_disk_that_would_be_too_full_is_seen_before(net, stimuli, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 10**4, 10**4))
    with pytest.raises(OSError, match=r"the activations take .*, but only 9.8 KiB are free"):
        models.extract(net, stimuli, LAYERS, store=tmp_path / "store")


def test_progress_is_shown_when_asked_for(net, stimuli, capsys):
    models.extract(net, stimuli, ["conv1"], progress=True)
    assert "extracting" in capsys.readouterr().err
    models.extract(net, stimuli, ["conv1"])
    assert not capsys.readouterr().err


def test_threads_end_with_the_extraction(net, stimuli):
    import threading

    before = threading.active_count()
    with pytest.raises(ValueError, match="preprocessing failed"):
        models.extract(net, stimuli, ["conv1"], preprocess=lambda image: [1.0, "x"])
    models.extract(net, stimuli, ["conv1"])
    assert threading.active_count() == before
