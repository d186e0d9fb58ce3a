from __future__ import annotations

import numpy as np
import pytest

from cerebridge import encoding, neuro
from cerebridge.encoding.study.inspection import describe


def test_an_array(tmp_path):
    brain = neuro.simulate(n_stimuli=6, n_units=3, random_state=0)
    brain.values[0, 0] = np.nan
    neuro.save(tmp_path / "brain.nc", brain)
    text = describe(tmp_path / "brain.nc")
    assert "presentation 6 × neuroid 3" in text and "1 missing" in text
    assert "label       stimulus_id (along presentation): s0000, s0001, s0002, s0003, … (6 values)" in text
    assert "attribute   units: spikes" in text


def test_nothing_but_missing_values(tmp_path):
    brain = neuro.simulate(n_stimuli=6, n_units=3, random_state=0)
    neuro.save(
        tmp_path / "brain.nc", brain * np.nan if brain.attrs == {} else brain.copy(data=brain.values * np.nan)
    )
    assert "all missing" in describe(tmp_path / "brain.nc")


def test_a_folder_of_activations(small_run):
    (folder,) = (path for path in (small_run / "cache").glob("activations-*") if path.is_dir())
    text = describe(folder)
    assert (
        "presentation 30 × neuroid 320" in text and "label       layer (along neuroid): conv1, conv3" in text
    )


def test_the_results_of_a_study(small_run):
    text = describe(small_run / "results.nc")
    assert "A small study" in text and text.count("group       ") == 3
    assert "tiny/conv3" in text and "audit       fitted on: the training rows" in text


def test_a_saved_result(tmp_path):
    brain = neuro.simulate(n_stimuli=30, n_units=3, random_state=0)
    encoding.evaluate(encoding.RidgeCV(), {"itself": brain}, brain, cv=3).save(tmp_path / "result.nc")
    text = describe(tmp_path / "result.nc")
    assert "Result: pearsonr, 1 models, 3 splits, 3 units" in text and "audit       split: 3 folds" in text


def test_what_is_none_of_these(tmp_path):
    (tmp_path / "x.nc").write_bytes(b"no netCDF")
    with pytest.raises(OSError, match="x.nc is no netCDF-4 file"):
        describe(tmp_path / "x.nc")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no extraction"):
        describe(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        describe(tmp_path / "none.nc")
