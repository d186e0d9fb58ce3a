"""Stimulus sets: the same content whatever they are read from, and one sentence for what cannot be read."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cerebridge import models
from cerebridge.models import Clip, StimulusSet


def picture(seed, size=(12, 10)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def encoded(pixels, kind="png"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    (root / "more").mkdir(parents=True)
    for number, name in enumerate(["b.png", "a.png", "more/c.png"]):
        (root / name).write_bytes(encoded(picture(number)))
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden.png").write_bytes(b"")
    return root


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("more/c.png", "b.png", "a.png", "notes.txt"):
            file.write(folder / name, name)
        file.writestr("__MACOSX/._a.png", b"junk")
    return path


def test_folder_is_read_in_the_order_of_its_names(folder):
    stimuli = StimulusSet.from_folder(folder)
    assert stimuli.table["stimulus_id"].tolist() == ["a.png", "b.png", "more/c.png"]
    np.testing.assert_array_equal(stimuli[0], picture(1))
    np.testing.assert_array_equal(stimuli[2], picture(2))
    assert len(list(stimuli)) == len(stimuli) == 3


def test_pattern_selects(folder):
    assert StimulusSet.from_folder(folder, "*.png").table["stimulus_id"].tolist() == ["a.png", "b.png"]
    with pytest.raises(ValueError, match=r"holds no file that matches '\*.jpg'"):
        StimulusSet.from_folder(folder, "*.jpg")


def test_zip_and_folder_are_the_same_set(folder, archive):
    packed, plain = StimulusSet.from_zip(archive), StimulusSet.from_folder(folder)
    pd.testing.assert_frame_equal(packed.table, plain.table)
    assert packed.hash == plain.hash
    np.testing.assert_array_equal(packed[1], plain[1])
    assert len(StimulusSet.from_zip(archive, "more/*")) == 1


def test_table_keeps_its_order_and_labels(folder):
    table = pd.DataFrame(
        {"path": ["more/c.png", "a.png"], "category": ["face", "house"], "stimulus_id": [7, 3]}
    )
    stimuli = StimulusSet.from_table(table, folder)
    assert stimuli.table["stimulus_id"].tolist() == [7, 3]
    assert stimuli.table["category"].tolist() == ["face", "house"]
    assert "path" not in stimuli.table
    np.testing.assert_array_equal(stimuli[0], picture(2))


def test_read_guesses_what_a_path_is(folder, archive, tmp_path):
    pd.DataFrame({"path": ["a.png"], "stimulus_id": ["01"]}).to_csv(folder / "table.csv", index=False)
    np.save(tmp_path / "array.npy", np.stack([picture(0), picture(1)]))
    assert len(StimulusSet.read(folder)) == len(StimulusSet.read(archive)) == 3
    assert StimulusSet.read(folder / "table.csv").table["stimulus_id"].tolist() == ["01"]
    np.testing.assert_array_equal(StimulusSet.read(tmp_path / "array.npy")[1], picture(1))
    with pytest.raises(ValueError, match="no stimulus set"):
        StimulusSet.read(folder / "a.png")


@pytest.mark.parametrize("make", [np.stack, list, lambda items: torch.from_numpy(np.stack(items))])
def test_arrays_of_any_kind(make):
    stimuli = StimulusSet.from_arrays(make([picture(0), picture(1)]), stimulus_id=["x", "y"])
    np.testing.assert_array_equal(stimuli[1], picture(1))
    assert stimuli.hash == StimulusSet.from_arrays([picture(0), picture(1)], ["x", "y"]).hash


def test_other_arrays_stay_as_they_are():
    sounds = np.random.default_rng(0).standard_normal((3, 100))
    np.testing.assert_array_equal(StimulusSet.from_arrays(sounds)[2], sounds[2])


def test_hash_sees_content_names_and_order():
    pictures = [picture(0), picture(1)]
    whole = StimulusSet.from_arrays(pictures, ["x", "y"])
    touched = [pictures[0], pictures[1].copy()]
    touched[1][0, 0, 0] ^= 1
    others = (
        StimulusSet.from_arrays(touched, ["x", "y"]),
        StimulusSet.from_arrays(pictures, ["x", "z"]),
        StimulusSet.from_arrays(pictures[::-1], ["y", "x"]),
    )
    assert len({whole.hash, *(other.hash for other in others)}) == 4
    assert whole[[1, 0]].hash == others[2].hash


@pytest.mark.parametrize("select", [slice(1, 3), [1, 2], np.array([False, True, True, False])])
def test_selection(select):
    stimuli = StimulusSet.from_arrays([picture(k) for k in range(4)])[select]
    assert stimuli.table["stimulus_id"].tolist() == ["0001", "0002"]
    np.testing.assert_array_equal(stimuli[1], picture(2))
    with pytest.raises(ValueError, match="leaves no stimulus"):
        stimuli[[]]


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(picture(0)).convert("L"),
        Image.fromarray(picture(0)).convert("P"),
        Image.fromarray(picture(0)).convert("CMYK"),
        Image.fromarray((picture(0)[..., 0].astype(np.uint16) << 8) + 7),
        Image.fromarray(picture(0)).convert("1"),
    ],
    ids=lambda image: image.mode,
)
def test_every_mode_becomes_rgb(tmp_path, image):
    image.save(tmp_path / "x.tif")
    stimulus = StimulusSet.from_folder(tmp_path)[0]
    assert (stimulus.shape, stimulus.dtype) == ((12, 10, 3), np.uint8)
    if image.mode.startswith("I"):
        np.testing.assert_array_equal(stimulus[..., 1], picture(0)[..., 0])


def test_transparent_pixels_lie_on_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    stimulus = StimulusSet.from_folder(tmp_path)[0]
    assert (stimulus[:2] == 0).all()
    assert (stimulus[2:] == 255).all()


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"no picture"]
)
def test_an_unreadable_image_is_named_when_it_is_decoded(folder, damage):
    (folder / "b.png").write_bytes(damage(encoded(picture(0))))
    stimuli = StimulusSet.from_folder(folder)
    assert stimuli[0].shape == (12, 10, 3)
    with pytest.raises(
        ValueError, match=r"stimulus 'b.png' \(row 1 of 3\) cannot be read .*replace it or leave it out"
    ):
        stimuli[1]


def test_a_damaged_member_of_a_zip_is_named(archive):
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        start = file.getinfo("b.png").header_offset
    content[start + 200] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="stimulus 'b.png' cannot be read"):
        StimulusSet.from_zip(archive)


def test_what_is_not_there_is_named(tmp_path, folder):
    for read in (StimulusSet.read, StimulusSet.from_folder, StimulusSet.from_zip):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"row 1 .*gone.png"):
        StimulusSet.from_table({"path": ["a.png", "gone.png"]}, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        StimulusSet.from_folder(tmp_path / "empty")
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="no readable zip file"):
        StimulusSet.from_zip(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arrays": []}, "the stimulus set is empty"),
        ({"arrays": [picture(0)] * 2, "stimulus_id": ["a", "a"]}, "'a' occurs more than once"),
        ({"arrays": [picture(0)] * 2, "stimulus_id": ["a", None]}, "missing in row 1"),
        ({"arrays": [picture(0)] * 2, "stimulus_id": ["a"]}, "2 stimuli, but 1 stimulus ids"),
        ({"arrays": [picture(0)] * 2, "table": {"category": ["x"]}}, "2 stimuli, but the table has 1 rows"),
        ({"arrays": np.array([[0.0, np.nan]])}, "stimulus 0 has NaN"),
        ({"arrays": np.array(["a", "b"])}, "stimulus 0 is an array of <U1"),
    ],
)
def test_bad_arrays(arguments, message):
    with pytest.raises(ValueError, match=message):
        StimulusSet.from_arrays(**arguments)


def test_bad_tables(folder):
    with pytest.raises(ValueError, match="'path' is missing"):
        StimulusSet.from_table({"file": ["a.png"]}, folder)
    with pytest.raises(ValueError, match="'a.png' occurs more than once"):
        StimulusSet.from_table({"path": ["a.png", "a.png"]}, folder)


def test_pixels_are_the_resized_image():
    stimuli = StimulusSet.from_arrays(
        [picture(k, (64, 48)) for k in range(3)], table={"category": list("aba")}
    )
    features = models.features.pixels(stimuli, size=8)
    assert features.dims == ("presentation", "neuroid")
    assert features["category"].values.tolist() == ["a", "b", "a"]
    expected = np.asarray(Image.fromarray(picture(2, (64, 48))).resize((8, 8))) / 255
    unit = features.isel(
        presentation=2, neuroid=np.flatnonzero((features["row"] == 5) & (features["column"] == 3))
    )
    np.testing.assert_allclose(unit.values, expected[5, 3], rtol=1e-6)
    assert unit["channel"].values.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="size is 0"):
        models.features.pixels(stimuli, size=0)
    with pytest.raises(ValueError, match="no image"):
        models.features.pixels(StimulusSet.from_arrays(np.zeros((2, 9))))


def test_preprocessing_is_resize_and_normalisation():
    prepare = models.Preprocessing(size=6, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), resample="bilinear")
    resized = np.asarray(Image.fromarray(picture(0)).resize((6, 6), Image.Resampling.BILINEAR))
    expected = (resized / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    for stimulus in (picture(0), Image.fromarray(picture(0))):
        result = prepare(stimulus)
        assert result.dtype == torch.float32
        np.testing.assert_allclose(result.numpy(), np.moveaxis(expected, 2, 0), atol=1e-6)


def test_real_pictures_in_a_zip(data):
    stimuli = StimulusSet.read(data / "v4-macaque" / "images" / "images_210224.zip")
    assert len(stimuli) == 800
    assert stimuli.table["stimulus_id"].iloc[[0, -1]].tolist() == ["image0001.jpg", "image0800.jpg"]
    assert stimuli[799].shape == (112, 112, 3)


@pytest.mark.parametrize(("dtype", "what"), [(np.float32, "floats"), (np.int32, "32-bit integers")])
def test_pixels_without_a_known_white_are_refused(tmp_path, dtype, what):
    Image.fromarray(np.linspace(0, 1, 16).reshape(4, 4).astype(dtype)).save(tmp_path / "a.tif")
    stimuli = models.StimulusSet.from_folder(tmp_path)
    with pytest.raises(ValueError, match=rf"'a.tif' .*its pixels are {what}, whose white is not known"):
        stimuli[0]


def test_photographs_stay_as_they_are_stored(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(tmp_path / "a.jpg", exif=turned)
    assert models.StimulusSet.from_folder(tmp_path)[0].shape == (8, 16, 3)


def test_greys_of_16_bits_in_old_formats(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + np.array([0, 65535], ">u2").tobytes())
    assert models.StimulusSet.from_folder(tmp_path)[0][..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("stimuli", "function", "expected"),
    [
        (lambda: StimulusSet.from_texts(["a dog", "a cat"]), str.upper, ["A DOG", "A CAT"]),
        (
            lambda: StimulusSet.from_sounds([np.ones(4, np.float32)] * 2, rate=8),
            lambda clip: Clip(clip.values * 2, clip.rate),
            [2.0] * 2,
        ),
        (lambda: StimulusSet.from_arrays(np.ones((2, 4, 4), np.uint8)), lambda image: 9 * image, [9] * 2),
        (lambda: StimulusSet.from_arrays(np.ones((2, 4, 4), np.uint8)), Image.fromarray, [1] * 2),
        (lambda: StimulusSet.from_arrays(np.ones((2, 4, 5, 6))), lambda values: values - 3, [-2.0] * 2),
    ],
    ids=["texts", "sounds", "images", "pil", "arrays"],
)
def test_transformed_stimuli(stimuli, function, expected):
    def value(stimulus):
        return stimulus if isinstance(stimulus, str) else np.ravel(getattr(stimulus, "values", stimulus))[0]

    stimuli = stimuli()
    changed = stimuli.transform(function)
    assert [value(stimulus) for stimulus in changed] == expected
    assert changed.table["stimulus_id"].tolist() == stimuli.table["stimulus_id"].tolist()
    assert not set(changed.table["content_hash"]) & set(stimuli.table["content_hash"])
    assert changed.hash == stimuli.transform(function).hash != changed.transform(function).hash
    assert value(changed[1:][0]) == expected[1]


def test_transforms_wait_until_a_stimulus_is_wanted():
    seen = []
    stimuli = StimulusSet.from_arrays(np.zeros((3, 4, 4, 3), np.uint8))
    changed = stimuli.transform(lambda image: seen.append(1) or image)
    assert not seen and changed[1].shape == (4, 4, 3) and len(seen) == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: "text", "stimulus '0000' .* makes a str of a ndarray, another kind of thing"),
        (lambda image: image / np.float64(0), "NaN or infinite values"),
    ],
)
def test_transforms_that_give_no_stimulus(function, message):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        StimulusSet.from_arrays(np.ones((2, 4, 4, 3), np.uint8)).transform(function)[0]
