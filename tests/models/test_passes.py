"""Extraction in several passes: planned by memory, decoded once, killed and resumed, refused for other settings."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cerebridge import models
from cerebridge.models.plans import cut_layers, pack_layers
from cerebridge.models.pooling import resolve_pool

LAYERS = ["conv1", "conv2", "conv3", "readout"]
#: too little for the components of all layers at once
LITTLE = {"memory": 1_800_000, "batch_size": 2}


def pictures(n):
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net():
    return models.load("tiny", weights="random", seed=0)


@pytest.fixture(scope="module")
def stimuli():
    return models.StimulusSet.from_arrays(pictures(40))


def reduced(net, stimuli, **options):
    return models.extract(net, stimuli, LAYERS, reduce=models.PCA(6, block_rows=12), **{**LITTLE, **options})


def test_what_does_not_fit_at_once_is_done_in_passes(net, stimuli):
    plan = models.plan_extraction(net, stimuli, LAYERS, reduce=models.PCA(6, block_rows=12), **LITTLE)
    assert len(plan.passes) > 1
    assert plan.peak_bytes <= plan.memory
    assert sorted(layer for layers in plan.passes for layer in layers) == sorted(LAYERS)
    # the last pass goes deepest, and each keeps the order in which layers run
    assert list(plan.passes[-1])[-1] == "readout"
    at_once = models.plan_extraction(net, stimuli, LAYERS, reduce=models.PCA(6, block_rows=12))
    assert len(at_once.passes) == 1
    wanted = models.extract(net, stimuli, LAYERS, reduce=models.PCA(6, block_rows=12))
    found = reduced(net, stimuli)
    assert found["neuroid_id"].values.tolist() == wanted["neuroid_id"].values.tolist()
    np.testing.assert_allclose(found.values, wanted.values, atol=2e-4 * np.abs(wanted.values).max())


def test_a_pass_stops_after_its_last_layer(stimuli):
    net, seen = models.load("tiny", weights="random", seed=0), []
    for name in LAYERS:
        net.get_submodule(name).register_forward_pre_hook(
            lambda m, a, name=name: seen.append((name, len(a[0])))
        )
    plan = models.plan_extraction(net, stimuli, LAYERS, reduce=models.PCA(6, block_rows=12), **LITTLE)
    seen.clear()
    reduced(net, stimuli)
    for layer in LAYERS:
        later = [p for p in plan.passes if max(map(LAYERS.index, p)) >= LAYERS.index(layer)]
        shown = sum(n for name, n in seen if name == layer)
        # two sweeps a pass, and three trial runs of three copies
        assert shown == 2 * len(stimuli) * len(later) + 9


def test_each_stimulus_is_decoded_once_if_all_fit(net, stimuli):
    decoded = []

    def prepare(image):
        decoded.append(1)
        return net.preprocess(image)

    options = {"memory": "64MiB", "preprocess": prepare, "reduce": models.PCA(6)}
    plan = models.plan_extraction(net, stimuli, LAYERS, **options)
    assert plan.decodings == 1
    assert "each stimulus once" in str(plan)
    decoded.clear()
    models.extract(net, stimuli, LAYERS, **options)
    assert len(decoded) == len(stimuli)


def test_a_plan_says_how_often_stimuli_are_decoded_if_they_do_not_fit(net, stimuli):
    decoded = []

    def prepare(image):
        decoded.append(1)
        return net.preprocess(image)

    plan = models.plan_extraction(
        net, stimuli, LAYERS, reduce=models.PCA(6, block_rows=12), preprocess=prepare, **LITTLE
    )
    assert plan.decodings == 2 * len(plan.passes) > 1
    assert f"each stimulus {plan.decodings} times" in str(plan)
    decoded.clear()
    reduced(net, stimuli, preprocess=prepare)
    again = plan.showings - 1
    # the first one is kept from the trial run
    assert len(decoded) <= len(stimuli) + again * (len(stimuli) - plan.kept_rows) + 1


def test_plans_are_read_by_people(net, stimuli):
    plan = models.plan_extraction(net, stimuli, LAYERS, reduce=models.PCA(6, block_rows=12), **LITTLE)
    text = str(plan)
    assert text.startswith("40 stimuli, 4 layers, 24 features\n")
    assert f"passes    {len(plan.passes)}, 2 sweeps each" in text
    assert "pass 2: " in text
    whole = str(models.plan_extraction(net, stimuli, LAYERS))
    assert "result    1.1 MiB" in whole
    assert "pass 1" not in whole


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8), columns=st.integers(1, 60))
def test_cut_layers_hold_every_feature_once(sizes, columns):
    order = [f"l{k}" for k in range(len(sizes))]
    passes = cut_layers(order, dict(zip(order, sizes, strict=True)), columns)
    for layer, size in zip(order, sizes, strict=True):
        held = [f for chosen in passes if layer in chosen for f in range(size)[chosen[layer]]]
        assert held == list(range(size))
    filled = [sum(part.stop - part.start for part in chosen.values()) for chosen in passes]
    assert all(n == columns for n in filled[1:])
    assert 0 < filled[0] <= columns


@settings(max_examples=30, deadline=None)
@given(needs=st.lists(st.integers(1, 50), min_size=1, max_size=8), room=st.integers(50, 90))
def test_packed_layers_fit(needs, room):
    order = [f"l{k}" for k in range(len(needs))]
    need = dict(zip(order, needs, strict=True))
    passes = pack_layers(order, need, room, room)
    assert sorted(layer for chosen in passes for layer in chosen) == sorted(order)
    assert all(sum(need[layer] for layer in chosen) <= room for chosen in passes)
    assert all(chosen == sorted(chosen) for chosen in passes)


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

    net.conv1.register_forward_pre_hook(kill)
    models.extract(net, models.StimulusSet.from_arrays(pictures), ["conv1", "conv2", "conv3", "readout"],
                   store=sys.argv[1], reduce=models.PCA(6, block_rows=12), memory=1_800_000, batch_size=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of Unix")
@pytest.mark.parametrize(
    ("countdown", "fitted", "finished"), [(3 + 30, 1, 0), (3 + 40 + 10, 1, 1), (3 + 40 + 30, 2, 1)]
)
def test_a_run_killed_in_any_pass_resumes_to_equal_content(tmp_path, stimuli, countdown, fitted, finished):
    store = tmp_path / "store"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(store), str(countdown)]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(store.glob("passes/*/components.safetensors"))) == fitted
    assert len(list(store.glob("passes/*/index.nc"))) == finished
    net, seen = models.load("tiny", weights="random", seed=0), []
    net.conv1.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    stored = reduced(net, stimuli, store=store)
    plan = models.plan_extraction(net, stimuli, LAYERS, reduce=models.PCA(6, block_rows=12), **LITTLE)
    assert sum(seen[3:]) < 40 * plan.showings
    xr.testing.assert_identical(stored.load(), reduced(net, stimuli))
    assert not (store / "passes").exists()


def test_a_complete_store_of_passes_is_not_computed_again(stimuli, tmp_path):
    net, seen = models.load("tiny", weights="random", seed=0), []
    first = reduced(net, stimuli, store=tmp_path / "store")
    net.conv1.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    again = reduced(net, stimuli, store=tmp_path / "store")
    assert sum(seen[3:]) == 0
    xr.testing.assert_identical(first.load(), again.load())


@pytest.mark.parametrize("reduce", [None, models.PCA(5, block_rows=12), models.RandomProjection(6)])
def test_a_store_of_another_reduction_is_refused(net, stimuli, tmp_path, reduce):
    reduced(net, stimuli, store=tmp_path / "store")
    with pytest.raises(ValueError, match="was begun with reduce = "):
        models.extract(net, stimuli, LAYERS, reduce=reduce, store=tmp_path / "store")


def test_components_of_other_stimuli_are_refused(net, stimuli, tmp_path):
    reduced(net, stimuli, store=tmp_path / "store")
    with pytest.raises(ValueError, match="was begun with reduce = "):
        reduced(net, stimuli[:30], store=tmp_path / "store")


def test_a_network_in_training_mode_is_said_and_run_in_evaluation_mode(stimuli):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    options = {"preprocess": models.load("tiny", weights="random").preprocess}
    with pytest.warns(
        UserWarning, match=r"training mode and is run in evaluation mode, in which '2' and 1 more"
    ):
        found = models.extract(net, stimuli, ["3"], **options)
    assert net.training
    np.testing.assert_array_equal(found.values, models.extract(net.eval(), stimuli, ["3"], **options).values)


@pytest.mark.filterwarnings("error")
def test_a_network_without_such_modules_may_be_in_training_mode(stimuli):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.Dropout(0.0)).train()
    options = {"preprocess": models.load("tiny", weights="random").preprocess}
    assert models.extract(net, stimuli, ["1"], **options).sizes["neuroid"] == 4
    assert net.training


class Noise(nn.Module):
    def forward(self, rows):
        return rows + torch.randn_like(rows)


def test_the_first_layer_that_is_random_is_named():
    rows = models.StimulusSet.from_arrays(np.arange(12.0).reshape(6, 2))
    net = nn.Sequential(nn.Identity(), Noise(), nn.ReLU())
    with pytest.raises(ValueError, match="'1' gives other values when the same stimulus is shown again"):
        models.extract(net, rows, ["2", "0", "1"])
    assert models.extract(net, rows, ["0", "1"], allow_nondeterministic=True).shape == (6, 4)
    assert models.extract(net, rows, ["0"]).shape == (6, 2)


def test_a_network_that_works_in_place_on_its_input_is_not_random():
    class Double(nn.Module):
        def forward(self, rows):
            return rows.mul_(2)

    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = models.extract(nn.Sequential(Double()), models.StimulusSet.from_arrays(rows), ["0"])
    np.testing.assert_array_equal(found.values, 2 * rows)


def test_inputs_by_name_and_texts():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(256, 3)
            self.mean = nn.Identity()

        def forward(self, ids, mask):
            return self.mean((self.embed(ids) * mask[..., None]).sum(1))

    def tokens(text):
        ids = np.zeros(6, np.int64)
        ids[: len(text)] = list(text.encode())
        return {"ids": ids, "mask": (ids > 0).astype(np.float32)}

    net, texts = Named(), ["one", "two", "three"]
    stimuli = models.StimulusSet.from_texts(texts)
    found = models.extract(net, stimuli, ["mean"], preprocess=tokens, batch_size=2)
    wanted = [net.embed.weight[list(text.encode())].sum(0).tolist() for text in texts]
    np.testing.assert_allclose(found.values, wanted, rtol=1e-5)
    with pytest.raises(ValueError, match=r"failed on stimulus '0000': a text reaches the network as tokens"):
        models.extract(net, stimuli, ["mean"])


@pytest.mark.parametrize("layer", ["0:steps", "0[1]:heads(2):cls"])
@pytest.mark.parametrize("pool", [2, "global"])
def test_heads_and_steps_are_no_places_to_pool_over(layer, pool):
    with pytest.raises(
        ValueError, match=f"averages over places, and {re.escape(repr(layer))} has heads or time"
    ):
        resolve_pool(pool, ["0", layer])
    assert callable(resolve_pool(pool, ["0", "steps", "heads.1:cls"]))
