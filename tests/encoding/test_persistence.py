from __future__ import annotations

import errno
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from cerebridge import encoding

X = np.random.default_rng(0).standard_normal((40, 5))
Y = X @ np.ones((5, 3))


@pytest.mark.parametrize(
    "estimator",
    [
        encoding.RidgeCV(cv=3).fit(X, Y),
        make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()).fit(X, Y[:, 0] > 0),
        make_pipeline(StandardScaler(), encoding.RidgeCV(cv=3)).fit(X, Y),
    ],
    ids=["ridge", "lda", "pipeline"],
)
def test_predictions_survive(estimator, tmp_path):
    encoding.save(tmp_path / "fitted.skops", estimator)
    again = encoding.load(tmp_path / "fitted.skops")
    np.testing.assert_array_equal(again.predict(X), estimator.predict(X))
    assert [p.name for p in tmp_path.iterdir()] == ["fitted.skops"]


def test_what_cannot_be_stored_safely_is_refused_and_leaves_the_old_file(tmp_path):
    file = tmp_path / "fitted.skops"
    encoding.save(file, encoding.RidgeCV(cv=3).fit(X, Y))
    before = file.read_bytes()
    with pytest.raises(TypeError, match="cannot be stored safely"):
        encoding.save(file, make_pipeline(FunctionTransformer(lambda x: x)))
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["fitted.skops"]


def squared(x):
    return x**2


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (
            make_pipeline(FunctionTransformer(squared)),
            "squared, which cannot be stored safely because",
        ),
        (torch.nn.Linear(2, 2), "Linear cannot be stored without pickle"),
        ((k for k in range(3)), "generator cannot be stored without pickle"),
    ],
    ids=["own function", "network", "generator"],
)
def test_what_is_neither_ours_nor_known_is_named(estimator, message, tmp_path):
    with pytest.raises(TypeError, match=message) as error:
        encoding.save(tmp_path / "fitted.skops", estimator)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_failing_disk_is_one_sentence_and_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "fitted.skops"
    encoding.save(file, encoding.RidgeCV(cv=3).fit(X, Y))
    before = file.read_bytes()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.writestr", full)
    with pytest.raises(
        OSError, match="fitted.skops could not be written, the previous content is unchanged: No space"
    ):
        encoding.save(file, encoding.RidgeCV(cv=2).fit(X, Y))
    assert file.read_bytes() == before
    with pytest.raises(FileNotFoundError, match="the folder .*nowhere does not exist; create it"):
        encoding.save(tmp_path / "nowhere" / "fitted.skops", encoding.RidgeCV())


def test_damaged_foreign_and_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        encoding.load(tmp_path / "none.skops")
    pickled = tmp_path / "fitted.pkl"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(OSError, match="no estimator that encoding.save wrote"):
        encoding.load(pickled)
    good = tmp_path / "good.skops"
    encoding.save(good, encoding.RidgeCV(cv=3).fit(X, Y))
    (tmp_path / "cut.skops").write_bytes(good.read_bytes()[:-200])
    with pytest.raises(OSError, match="damaged"):
        encoding.load(tmp_path / "cut.skops")


def test_foreign_types_are_not_loaded(tmp_path):
    file = tmp_path / "foreign.skops"
    encoding.save(file, encoding.RidgeCV(cv=3).fit(X, Y))
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["schema.json"] = parts["schema.json"].replace(
        b"cerebridge.encoding.ridge", b"somebody.elses.module"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    file.write_bytes(buffer.getvalue())
    with pytest.raises(TypeError, match="is not loaded because it could run foreign code"):
        encoding.load(file)
