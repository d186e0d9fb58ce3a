"""Work on the separate processes of a Dask cluster equals the same work in this one, also when a process dies."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from cerebridge import encoding
from cerebridge.encoding.cluster import Blocks

distributed = pytest.importorskip("distributed")
cloudpickle = pytest.importorskip("cloudpickle")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 5))
Y = X @ RNG.standard_normal((5, 210)) + 3 * RNG.standard_normal((40, 210))
LABELS = np.where(X[:, 0] + RNG.standard_normal(40) > 0, "a", "b")


class Fatal(RegressorMixin, BaseEstimator):
    """Least squares that kills the process it is fitted in, once, unless that is the one to be spared."""

    def __init__(self, marker, spared):
        self.marker = marker
        self.spared = spared

    def fit(self, x, y):
        if os.getpid() != self.spared and not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.coef_ = np.linalg.lstsq(x, y, rcond=None)[0]
        return self

    def predict(self, x):
        return x @ self.coef_


@pytest.fixture(scope="module")
def workers():
    """Two processes of one thread each, which stay dead once they are."""
    import dask

    # the workers cannot import this file
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    quiet = {"distributed.logging.distributed": "critical", "distributed.worker.daemon": True}
    with (
        dask.config.set(quiet),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def client(workers):
    with distributed.Client(workers) as client:
        yield client


@pytest.fixture(autouse=True)
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def same(here, there, exact=True):
    assert set(here.dataset.data_vars) == set(there.dataset.data_vars)
    for name in set(here.dataset.data_vars) - {"fit_seconds"}:
        tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-10, "atol": 1e-12}
        np.testing.assert_allclose(here.dataset[name], there.dataset[name], **tolerance)
    unlike = {"shuffle_control", "selection"}
    audits = [{k: v for k, v in result.audit.items() if k not in unlike} for result in (here, there)]
    assert audits[0] == audits[1]


def test_models_folds_and_permutations_are_equal(client):
    models = {"all": X, "two": X[:, :2], "three": X[:, 2:]}
    given = {"permutations": 6, "bootstrap": 50, "cv": 3}
    few = Y[:, :4]
    same(
        encoding.evaluate(Ridge(), models, few, **given),
        encoding.evaluate(Ridge(), models, few, client=client, **given),
        exact=False,
    )
    classifier = LinearDiscriminantAnalysis()
    here = encoding.evaluate(classifier, models, LABELS, **given)
    there = encoding.evaluate(classifier, models, LABELS, client=client, **given)
    same(here, there)
    assert here.audit["shuffle_control"] == there.audit["shuffle_control"]


def test_blocks_of_targets_are_joined(client):
    here = encoding.evaluate(encoding.RidgeCV(), X, Y, cv=2, permutations=3)
    there = encoding.evaluate(encoding.RidgeCV(), X, Y, cv=2, permutations=3, client=client)
    same(here, there, exact=False)
    assert there.audit["selection"]["selection_score"] == pytest.approx(
        here.audit["selection"]["selection_score"]
    )


def add(shared, item):
    if item == 3:
        warnings.warn("three", UserWarning, stacklevel=1)
    if item == 7:
        raise ValueError("seven is refused")
    return shared.sum() + item, torch.get_num_threads(), os.getpid()


def test_blocks_come_in_order_with_their_warnings_and_errors(client):
    blocks = Blocks([np.ones(4)], client)
    assert blocks.n_threads == 2
    with pytest.warns(UserWarning, match="three"):
        results = list(blocks.map(add, iter(range(6))))
    assert [value for value, _, _ in results] == [4, 5, 6, 7, 8, 9]
    assert {threads for _, threads, _ in results} == {1}
    assert os.getpid() not in {process for _, _, process in results}
    with pytest.raises(ValueError, match="seven is refused"):
        list(blocks.map(add, [7]))


def test_a_killed_worker_changes_nothing(client, tmp_path, workers):
    for nanny in workers.workers.values():
        nanny.auto_restart = False
    fatal = Fatal(str(tmp_path / "killed"), os.getpid())
    there = encoding.evaluate(fatal, X, Y[:, :3], permutations=12, bootstrap=20, client=client)
    assert (tmp_path / "killed").exists()
    assert sum(client.nthreads().values()) == 1
    here = encoding.evaluate(fatal, X, Y[:, :3], permutations=12, bootstrap=20)
    same(here, there)


@pytest.mark.slow
def test_data_that_died_with_the_last_worker_are_sent_again(client, tmp_path, workers):
    """The one worker that is left dies, and another takes its place."""
    for nanny in workers.workers.values():
        nanny.auto_restart = True
    fatal = Fatal(str(tmp_path / "killed"), os.getpid())
    there = encoding.evaluate(fatal, X, Y[:, :3], control=False, client=client)
    assert (tmp_path / "killed").exists()
    same(encoding.evaluate(fatal, X, Y[:, :3], control=False), there)


def test_closed_and_other_clients_are_refused(workers):
    client = distributed.Client(workers)
    client.close()
    with pytest.raises(ValueError, match="the Dask client is closed; connect a new one"):
        encoding.evaluate(Ridge(), X, Y, client=client)
    with pytest.raises(TypeError, match="give a connected, synchronous distributed.Client"):
        encoding.evaluate(Ridge(), X, Y, client="tcp://127.0.0.1:8786")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"client= needs Dask.*pip install cerebridge\[scale\]"):
        encoding.evaluate(Ridge(), X, Y, client=object())
