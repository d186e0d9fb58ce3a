"""Given RDMs: every file form, and one sentence for what is no RDM."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.distance import squareform

from cerebridge.encoding import rsa

ROWS = np.random.default_rng(0).random((3, 10))
SQUARES = np.stack([squareform(row) for row in ROWS])


def structs(values, names, field="RDM"):
    """A MATLAB struct array, as toolboxes write them."""
    out = np.zeros(len(values), dtype=[(field, object), ("name", object), ("color", object)])
    for k, value in enumerate(values):
        out[k] = (value, names[k], np.array([0.5, 0.5, 1.0]))
    return out


@pytest.mark.parametrize("form", ["stack", "vectors", "last", "one", "vector"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_array_files(tmp_path, form, suffix):
    values = {
        "stack": SQUARES,
        "vectors": ROWS,
        "last": np.moveaxis(SQUARES, 0, 2),
        "one": SQUARES[0],
        "vector": ROWS[0],
    }[form]
    path = tmp_path / f"rdms{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    elif suffix == ".npz":
        np.savez(path, Net_RDM=values, version=np.array(3))
    else:
        savemat(path, {"rdms": values, "labels": np.array(["a", "b"], dtype=object)})
    found = rsa.read_rdms(path)
    expected = ROWS if form in ("stack", "vectors", "last") else ROWS[:1]
    np.testing.assert_allclose(found.values, expected)
    assert found.stimulus_a.values.tolist() == np.triu_indices(5, 1)[0].tolist()
    assert len(set(found.neuroid_id.values)) == len(expected)
    assert found.attrs["provenance"] == f"read from rdms{suffix}"


def test_labels_come_from_structs_names_and_the_caller(tmp_path):
    path = tmp_path / "brain.mat"
    names = ["hIT | BE | Session: 1  ", "hIT | BE | Session: 2", "hIT | KO | Session: 1"]
    savemat(path, {"RDMs": structs(SQUARES.astype(np.float32), names), "other": np.eye(5)})
    found = rsa.read_rdms(
        path,
        parts=("region", "subject", "session"),
        stimuli=list("vwxyz"),
        rdm={"species": "human", "age": [20, 20, 30]},
        modality="fmri",
    )
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.values, ROWS, rtol=1e-6)
    assert found.neuroid_id.values.tolist() == [name.strip() for name in names]
    assert found.subject.values.tolist() == ["BE", "BE", "KO"]
    assert found.session.values.tolist() == ["Session: 1", "Session: 2", "Session: 1"]
    assert found.species.values.tolist() == ["human"] * 3
    assert found.age.values.tolist() == [20, 20, 30]
    assert found.stimulus_b.values.tolist()[:4] == list("wxyz")
    assert found.attrs["modality"] == "fmri"


def test_several_text_fields_are_labels_of_their_own(tmp_path):
    records = np.zeros(2, dtype=[("layer", object), ("pooling", object), ("step", object), ("D", object)])
    records[0], records[1] = ("conv1", "mean", 3, ROWS[0]), ("conv1", "max", 3, ROWS[1])
    savemat(tmp_path / "models.mat", {"models": records})
    found = rsa.read_rdms(tmp_path / "models.mat", field="D")
    assert found.neuroid_id.values.tolist() == ["conv1 | mean", "conv1 | max"]
    assert found.layer.values.tolist() == ["conv1", "conv1"]
    assert found.step.values.tolist() == [3, 3]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("form", ["bare", "header", "both"])
def test_text_tables(tmp_path, suffix, form):
    separator = "," if suffix == ".csv" else "\t"
    names = ["face one", "12", "car", "hat", "sun"]
    lines = [separator.join(map(repr, map(float, row))) for row in SQUARES[0]]
    if form == "both":
        lines = [separator.join([name, line]) for name, line in zip(names, lines, strict=True)]
        lines.insert(0, separator.join(["", *names]))
    elif form == "header":
        lines.insert(0, separator.join(names))
    path = tmp_path / f"one{suffix}"
    path.write_text("\n".join(lines))
    found = rsa.read_rdms(path)
    np.testing.assert_allclose(found.values[0], ROWS[0])
    first = 0 if form == "bare" else "face one"
    assert found.stimulus_a.values[0] == first


def test_missing_dissimilarities_stay_missing(tmp_path):
    holed = SQUARES[0].copy()
    holed[0, 1] = holed[1, 0] = np.nan
    np.fill_diagonal(holed, np.nan)
    np.save(tmp_path / "one.npy", holed)
    found = rsa.read_rdms(tmp_path / "one.npy")
    assert np.isnan(found.values[0]).tolist() == [True] + [False] * 9


def asymmetric():
    values = SQUARES.copy()
    values[1, 2, 4] += 0.25
    return values


BAD_ARRAYS = {
    "asymmetric": (asymmetric(), {}, r"matrix 1 is not symmetric: \(2, 4\) is"),
    "similarities": (1 - SQUARES, {}, "matrix 0 has 1 on its diagonal at 0; a stimulus is not dissimilar"),
    "length": (ROWS[0, :9], {}, r"shape \(9,\), neither square nor n\(n - 1\)/2"),
    "text": (np.array([["a", "b"], ["b", "a"]]), {}, "must be real numbers"),
    "objects": (np.array([None, 1]), {}, "cannot be read as numbers"),
    "stimuli": (SQUARES, {"stimuli": "abcd"}, "4 stimuli are named, but the RDMs of bad.npy have 5"),
    "twice": (SQUARES, {"stimuli": list("abcda")}, "not named uniquely"),
    "labels": (SQUARES, {"rdm": {"subject": [1, 2]}}, "'subject' of the rdm table has 2 rows"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_what_is_no_rdm_is_one_sentence(tmp_path, case):
    values, options, message = BAD_ARRAYS[case]
    np.save(tmp_path / "bad.npy", values)
    with pytest.raises(ValueError, match=message) as error:
        rsa.read_rdms(tmp_path / "bad.npy", **options)
    assert "\n" not in str(error.value)


def test_bad_files_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        rsa.read_rdms(tmp_path / "none.mat")
    for name, content, message in [
        ("a.xlsx", b"x", "a.xlsx is no .mat, .npz, .npy, .csv, .tsv file"),
        ("a.mat", b"not a matrix" * 20, "a.mat cannot be read as a MATLAB file"),
        ("a.npz", b"PK\x03\x04 broken", "a.npz cannot be read as numbers"),
        ("a.npy", b"broken", "a.npy cannot be read as numbers"),
        ("a.csv", b"", "a.csv cannot be read as a table"),
        ("b.csv", b"0,1\nx,0\n", "b.csv has 'x' where a dissimilarity should be"),
        ("c.csv", b",a,b\nb,0,1\na,1,0\n", "first row and the first column of c.csv differ"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            rsa.read_rdms(tmp_path / name)
        assert "\n" not in str(error.value)


def test_variables_must_be_clear(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, first=SQUARES, second=ROWS, note=np.array("text"))
    with pytest.raises(
        ValueError, match="2 variables could be RDMs in two.npz; name one with variable=: 'first', 'second'"
    ):
        rsa.read_rdms(path)
    with pytest.raises(ValueError, match="no variable 'third'; it has 'first', 'second', 'note'"):
        rsa.read_rdms(path, variable="third")
    np.testing.assert_allclose(rsa.read_rdms(path, variable="second").values, ROWS)
    np.savez(path, note=np.arange(4))
    with pytest.raises(ValueError, match="no variable looks like RDMs in two.npz"):
        rsa.read_rdms(path)


def test_structs_that_do_not_fit_are_one_sentence(tmp_path):
    path = tmp_path / "brain.mat"
    savemat(path, {"RDMs": structs([ROWS[0], ROWS[1, :6]], ["a | b", "c"])})
    with pytest.raises(ValueError, match="RDM 1 of brain.mat has 6 dissimilarities, the first 10"):
        rsa.read_rdms(path)
    savemat(path, {"RDMs": structs(ROWS, ["a | b", "c", "d | e"])})
    with pytest.raises(ValueError, match=r"the name 'c' in brain.mat does not have 2 pieces between '\|'"):
        rsa.read_rdms(path, parts=("region", "subject"))
    with pytest.raises(
        ValueError, match="element 0 of brain.mat has no field 'rdm'; it has 'RDM', 'name', 'color'"
    ):
        rsa.read_rdms(path, variable="RDMs", field="rdm")
