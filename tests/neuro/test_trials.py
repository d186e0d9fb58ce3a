"""Block means and reliable voxels."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge import neuro
from cerebridge.neuro import fmri


def continuous(n_runs: int = 3, per_run: int = 20) -> xr.DataArray:
    rng = np.random.default_rng(0)
    block = np.tile(np.repeat([-1, 0, -1, 1, -1], per_run // 5), n_runs)
    run = np.repeat(np.arange(n_runs), per_run)
    names = np.array(["face", "house", "rest"])
    return neuro.assemble(
        rng.normal(size=(n_runs * per_run, 5)),
        time_bin={
            "time_bin_start": np.tile(np.arange(per_run) * 2.0, n_runs),
            "time_bin_end": np.tile(np.arange(per_run) * 2.0 + 2, n_runs),
            "run": run,
            "block": np.where(block >= 0, block + 2 * run, -1),
            "stimulus_id": names[block],
            "motion": rng.normal(size=n_runs * per_run),
        },
        neuroid={"neuroid_id": [f"v{k}" for k in range(5)], "region": "V1"},
        modality="fmri",
        units="z",
        sfreq=0.5,
    )


def test_block_means_average_the_volumes_of_each_block() -> None:
    array = continuous()
    means = fmri.block_means(array)
    assert means.dims == ("presentation", "neuroid")
    assert means.stimulus_id.values.tolist() == ["face", "house"] * 3
    assert means.run.values.tolist() == [0, 0, 1, 1, 2, 2]
    assert means.repetition.values.tolist() == [0, 0, 1, 1, 2, 2]
    assert means.n_volumes.values.tolist() == [4] * 6
    assert means.onset.values.tolist() == [8.0, 24.0] * 3
    assert "motion" not in means.coords
    for row, block in enumerate(means.block.values):
        np.testing.assert_allclose(means.values[row], array.values[array.block.values == block].mean(axis=0))


def test_blocks_of_two_recordings_stay_apart() -> None:
    first, second = (continuous().assign_coords(session=("time_bin", [s] * 60)) for s in ("a", "b"))
    means = fmri.block_means(neuro.concat([first, second], "time_bin"))
    assert means.session.values.tolist() == ["a"] * 6 + ["b"] * 6
    np.testing.assert_array_equal(means.values[:6], means.values[6:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.drop_vars("block"), "no labels 'block' and 'stimulus_id'"),
        (lambda a: a[(a.block < 0).values], "no volume of the array lies in a block"),
        (lambda a: a.assign_coords(block=("time_bin", np.zeros(60, int))), "volumes of several stimuli"),
        (lambda a: a.drop_vars("run"), "with a coordinate 'run'"),
    ],
)
def test_arrays_without_blocks_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        fmri.block_means(change(continuous()))


def repeated(
    noise: tuple[float, ...] = (0.1, 0.5, 1.0, 3.0, 1e6), n_stimuli: int = 40, n_repeats: int = 4
) -> xr.DataArray:
    """Voxels that repeat their answers the worse the later they come; the last is noise alone."""
    rng = np.random.default_rng(0)
    answers = np.tile(rng.normal(size=(n_stimuli, len(noise))), (n_repeats, 1))
    return neuro.assemble(
        answers + rng.normal(size=answers.shape) * noise,
        presentation={
            "stimulus_id": np.tile(np.arange(n_stimuli), n_repeats),
            "run": np.repeat(np.arange(n_repeats), n_stimuli),
        },
        neuroid={"neuroid_id": [f"v{k}" for k in range(len(noise))]},
        modality="fmri",
        units="z",
    )


def test_reliability_is_the_correlation_of_odd_and_even_repetitions() -> None:
    array = repeated()
    selected = fmri.select_reliable(array, n=5)
    cube = array.values.reshape(4, 40, 5)
    odd, even = cube[::2].mean(axis=0), cube[1::2].mean(axis=0)
    expected = [np.corrcoef(odd[:, k], even[:, k])[0, 1] for k in range(5)]
    np.testing.assert_allclose(selected.reliability.values, expected)
    assert (np.diff(expected[:4]) < 0).all()
    assert abs(expected[4]) < 0.4


def test_the_most_reliable_are_kept_in_their_order() -> None:
    array = repeated()[:, [4, 1, 3, 0, 2]]
    assert fmri.select_reliable(array, n=2).neuroid_id.values.tolist() == ["v1", "v0"]
    assert fmri.select_reliable(array, threshold=0.5).neuroid_id.values.tolist() == ["v1", "v0", "v2"]
    assert fmri.select_reliable(array, n=2).sizes["presentation"] == 160


def test_rows_outside_training_do_not_change_the_selection() -> None:
    array = repeated()
    training = array.run.values < 2
    other = array.copy(
        data=np.where(training[:, None], array.values, 99 * np.random.default_rng(1).normal(size=array.shape))
    )
    first, second = (fmri.select_reliable(a, n=3, rows=training) for a in (array, other))
    np.testing.assert_array_equal(first.reliability.values, second.reliability.values)
    np.testing.assert_array_equal(first.neuroid_id.values, second.neuroid_id.values)
    assert "80 of 160 presentations" in first.attrs["selection"]
    assert not np.allclose(fmri.select_reliable(other, n=3).reliability.values, first.reliability.values)
    by_index = fmri.select_reliable(array, n=3, rows=np.flatnonzero(training))
    np.testing.assert_array_equal(by_index.reliability.values, first.reliability.values)


def test_a_constant_voxel_is_never_reliable() -> None:
    array = repeated()
    array.values[:, 0] = 7.0
    assert "v0" not in fmri.select_reliable(array, threshold=-1.0).neuroid_id.values
    with pytest.raises(ValueError, match="n is 5, but 4 of 5 voxels have a reliability"):
        fmri.select_reliable(array, n=5)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (repeated(), {}, "either threshold or n"),
        (repeated(), {"n": 1, "threshold": 0.1}, "either threshold or n"),
        (repeated(), {"n": 0}, "n is 0"),
        (repeated(), {"threshold": 1.1}, "no voxel has a reliability of 1.1; the highest is 0.99"),
        (repeated(n_repeats=1), {"n": 1}, "0 stimuli are repeated"),
        (repeated(), {"n": 1, "rows": slice(0, 40)}, "0 stimuli are repeated"),
        (continuous(), {"n": 1}, "reliability needs presentation × neuroid"),
    ],
)
def test_bad_input_gets_one_sentence(array, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        fmri.select_reliable(array, **options)
