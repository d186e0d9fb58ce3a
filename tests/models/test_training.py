"""The one trainer: the same under a seed, stopped at the best, resumed to the same result, and quiet."""

from __future__ import annotations

import math
import os
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from cerebridge.models.training import Batches, Rows, architecture, seeded, train


def squared(module, batch):
    return (module(batch["x"]) - batch["y"]).square().mean()


def network(width=8, seed=0):
    with seeded(seed):
        return nn.Sequential(
            nn.Linear(3, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.2), nn.Linear(width, 2)
        )


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(97, 3, generator=generator)
    y = torch.stack([x.sum(1), (x[:, 0] * x[:, 1])], 1) + 0.3 * torch.randn(97, 2, generator=generator)
    return {"x": x[:65], "y": y[:65]}, {"x": x[65:], "y": y[65:]}


def weights(module):
    return torch.cat([value.double().reshape(-1) for value in module.state_dict().values()])


SETTINGS = {"batch_size": 16, "max_epochs": 6, "learning_rate": 0.01, "device": "cpu"}


def test_same_seed_same_weights_and_no_trace_in_the_generators(data):
    rows, held_out = data
    before = torch.get_rng_state()
    trained = [network(), network(), network()]
    for module, seed in zip(trained, (1, 1, 2), strict=True):
        train(module, squared, rows, validation=held_out, random_state=seed, **SETTINGS)
    assert torch.equal(weights(trained[0]), weights(trained[1]))
    assert not torch.equal(weights(trained[0]), weights(trained[2]))
    assert torch.equal(torch.get_rng_state(), before)
    assert not trained[0].training


def test_it_equals_a_loop_written_out(data):
    rows, _ = data
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    train(ours, squared, rows, optimizer="adam", weight_decay=0.1, gradient_clip=0.5, **SETTINGS)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for epoch in range(6):
        seed = int(np.random.SeedSequence([0, epoch, 0]).generate_state(1)[0])
        for batch in Rows(rows, 16).draw(torch.Generator().manual_seed(seed)):
            optimizer.zero_grad()
            squared(theirs, batch).backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            optimizer.step()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-6, atol=1e-7)


class Stop(Exception):
    pass


@pytest.mark.parametrize("killed_in", [1, 3, 4])
def test_a_training_that_was_killed_resumes_to_the_same_weights(data, tmp_path, killed_in):
    rows, held_out = data
    path = tmp_path / "run.ckpt"
    settings = SETTINGS | {
        "validation": held_out,
        "schedule": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    }
    whole, resumed, steps = network(), network(), []
    uninterrupted = train(whole, squared, rows, **settings)

    def killed(module, batch):
        steps.append(module.training)
        if steps.count(True) > 5 * killed_in + 2:
            raise Stop
        return squared(module, batch)

    with pytest.raises(Stop):
        train(resumed, killed, rows, checkpoint=path, **settings)
    resumed = network()
    training = train(resumed, squared, rows, checkpoint=path, **settings)
    assert torch.equal(weights(whole), weights(resumed))
    assert training.history.equals(uninterrupted.history)
    assert training.history["learning_rate"].tolist() == [0.01 * 0.5**k for k in range(6)]
    assert list(tmp_path.iterdir()) == [path]
    finished = network(seed=5)
    again = train(finished, squared, rows, checkpoint=path, **settings)
    assert torch.equal(weights(finished), weights(whole)) and again.history.equals(training.history)


def test_the_best_epoch_is_kept(data):
    rows, _ = data
    scores = iter([0.1, math.nan, 0.7, 0.3, 0.2, 0.6, 0.9])
    seen = []

    def score(module, nothing):
        assert not module.training and not torch.is_grad_enabled()
        seen.append(weights(module))
        return next(scores)

    module = network()
    training = train(
        module, squared, rows, validation=(), score=score, patience=3, **SETTINGS | {"max_epochs": 9}
    )
    assert (training.best_epoch, training.best_score, training.stopped) == (2, 0.7, True)
    assert len(seen) == 6 == len(training.history)
    assert torch.equal(weights(module), seen[2])
    assert np.isnan(training.history["score"][1])


def test_without_validation_the_last_epoch_is_kept(data):
    rows, _ = data
    training = train(network(), squared, rows, **SETTINGS | {"patience": 1})
    assert training.best_epoch == 5 and not training.stopped
    assert training.history["loss"].iloc[-1] < training.history["loss"].iloc[0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"width": 9}, "another architecture"),
        ({"shift": 1e-3}, "other data"),
        ({"learning_rate": 0.02}, "other settings"),
        ({"random_state": 3}, "other settings"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(data, tmp_path, change, what):
    rows, _ = data
    path = tmp_path / "run.ckpt"
    train(network(), squared, rows, checkpoint=path, **SETTINGS)
    settings = SETTINGS | {
        name: value for name, value in change.items() if name in ("learning_rate", "random_state")
    }
    rows = {name: tensor + change.get("shift", 0) for name, tensor in rows.items()}
    with pytest.raises(ValueError, match=f"belongs to {what}; delete it or name another file"):
        train(network(change.get("width", 8)), squared, rows, checkpoint=path, **settings)


def test_a_foreign_file_is_refused_and_no_pickle_is_run(data, tmp_path):
    path = tmp_path / "run.ckpt"
    torch.save({"key": os.system}, path)
    with pytest.raises(ValueError, match="is no checkpoint of a training"):
        train(network(), squared, data[0], checkpoint=path, **SETTINGS)


def test_batches_of_another_making_are_drawn_from_the_seed():
    class Lines:
        def __len__(self):
            return 4

        def draw(self, generator):
            for _ in range(len(self)):
                x = torch.randn(8, 3, generator=generator)
                yield {"x": x, "y": x[:, :2]}

    assert isinstance(Lines(), Batches)
    trained = [network(), network()]
    for module in trained:
        train(module, squared, Lines(), **SETTINGS)
    assert torch.equal(weights(trained[0]), weights(trained[1]))


def test_it_is_quiet_and_leaves_no_files(data, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(network(), squared, data[0], validation=data[1], **SETTINGS)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_stays_ctrl_c(data):
    def interrupted(module, batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(), interrupted, data[0], **SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be a whole number of at least 1"),
        ({"optimizer": "newton"}, "optimizer='newton' is unknown; use 'adam'"),
        ({"precision": "8"}, "precision='8' is unknown"),
        ({"learning_rate": 1e30}, "training has diverged; use a smaller learning_rate"),
        ({"device": "cuda:77"}, "torch sees"),
    ],
)
def test_wrong_settings_are_said_in_a_sentence(data, change, message):
    settings = SETTINGS | {"optimizer": "sgd"} | change
    with pytest.raises(ValueError, match=message):
        train(nn.Linear(3, 2), squared, data[0], **settings)


def test_wrong_data_is_said_in_a_sentence():
    with pytest.raises(ValueError, match="numbers of rows: {'x': 3, 'y': 2}"):
        train(network(), squared, {"x": torch.zeros(3, 3), "y": torch.zeros(2, 2)})
    with pytest.raises(TypeError, match="data is a list; give tensors by name"):
        train(network(), squared, [1])
    assert architecture(network(8)) != architecture(network(9))


def test_in_a_folder_every_training_has_a_file_of_its_own(data, tmp_path):
    rows = data[0]
    settings = {**SETTINGS, "max_epochs": 3}
    train(network(), squared, rows, checkpoint=tmp_path, **settings)
    train(
        network(),
        squared,
        {name: values[:-1] for name, values in rows.items()},
        checkpoint=tmp_path,
        **settings,
    )
    assert len(list(tmp_path.iterdir())) == 2
    longer = train(network(), squared, rows, checkpoint=tmp_path, **{**settings, "max_epochs": 5})
    assert len(list(tmp_path.iterdir())) == 2 and len(longer.history) == 5
