"""Texts, sounds and films: the same content whatever it is read from, and one sentence for what cannot be."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import wavfile

from cerebridge.models import Clip, StimulusSet

RATE = 8000
TONE = (np.sin(np.arange(800) / RATE * 2 * np.pi * 440) * 20000).astype(np.int16)
FRAMES = np.random.default_rng(0).integers(0, 256, (6, 16, 24, 3), dtype=np.uint8)


def write_film(path, frames=FRAMES, rate=10):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def write_sound(path, samples=TONE, rate=RATE):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("flac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


def write_animation(path, durations, frames=FRAMES, **options):
    images = [Image.fromarray(frame) for frame in frames[: len(durations)]]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, **options)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (TONE, 2**15),
        (TONE.astype(np.int32) << 16, 2**31),
        ((TONE / 2**15).astype(np.float32), 1),
        (TONE / 2**15, 1),
    ],
    ids=["int16", "int32", "float32", "float64"],
)
def test_wav_files_and_arrays_of_every_type_are_one_sound(tmp_path, values, scale):
    wavfile.write(tmp_path / "a.wav", RATE, values)
    read = StimulusSet.from_sounds([tmp_path / "a.wav"])
    given = StimulusSet.from_sounds([values], RATE)
    assert read.table["stimulus_id"].tolist() == ["a.wav"]
    for stimuli in (read, given):
        clip = stimuli[0]
        assert (clip.values.dtype, clip.rate, clip.kind) == (np.float32, RATE, "sound")
        np.testing.assert_allclose(clip.values, values / scale, atol=1e-7)


def test_bytes_of_8_bits_have_their_zero_in_the_middle(tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, np.array([0, 128, 192], np.uint8))
    np.testing.assert_array_equal(StimulusSet.read(tmp_path / "a.wav")[0].values, [-1, 0, 0.5])


def test_other_sound_files_are_read_by_pyav(tmp_path):
    write_sound(tmp_path / "a.flac")
    wavfile.write(tmp_path / "a.wav", RATE, TONE)
    first, second = StimulusSet.from_sounds([tmp_path / "a.flac", tmp_path / "a.wav"])
    np.testing.assert_array_equal(first.values, second.values)
    assert first.rate == second.rate == RATE
    stereo = StimulusSet.from_sounds([np.stack([TONE, -TONE], axis=1)], RATE)[0]
    assert stereo.values.shape == (800, 2)
    assert stereo.duration == pytest.approx(0.1)


def test_films_are_read_frame_by_frame(tmp_path):
    write_film(tmp_path / "a.mkv")
    np.save(tmp_path / "b.npy", FRAMES)
    film = StimulusSet.read(tmp_path / "a.mkv")[0]
    np.testing.assert_array_equal(film.values, FRAMES)
    assert (film.rate, film.kind, film.duration) == (10, "film", pytest.approx(0.6))
    by_array = StimulusSet.from_videos([tmp_path / "b.npy", FRAMES], rate=10)
    np.testing.assert_array_equal(by_array[0].values, by_array[1].values)
    grey = StimulusSet.from_videos([FRAMES[..., 0]], rate=10)[0]
    np.testing.assert_array_equal(grey.values[..., 2], FRAMES[..., 0])


@pytest.mark.parametrize(("suffix", "options"), [("gif", {}), ("webp", {"lossless": True})])
def test_frames_of_an_animation_last_as_long_as_they_say(tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    plain = np.repeat(np.array([0, 80, 160, 240], np.uint8), 16 * 24 * 3).reshape(4, 16, 24, 3)
    write_animation(path, [100, 200, 100, 300], plain, **options)
    film = StimulusSet.from_videos([path])[0]
    assert film.rate == pytest.approx(10)
    assert film.values[:, 0, 0, 0].tolist() == [0, 80, 80, 160, 240, 240, 240]


def test_an_animation_among_images_is_refused(tmp_path):
    write_animation(tmp_path / "a.gif", [100, 100, 100])
    Image.fromarray(FRAMES[0]).save(tmp_path / "b.gif")
    stimuli = StimulusSet.from_folder(tmp_path)
    with pytest.raises(
        ValueError, match=r"stimulus 'a.gif' .* animation of 3 frames, which .*from_videos takes"
    ):
        stimuli[0]
    assert stimuli[1].shape == (16, 24, 3)
    with pytest.raises(ValueError, match="'b.gif' .*it is an image without motion"):
        StimulusSet.from_videos([tmp_path / "b.gif"])[0]


def test_texts_from_files_and_strings(tmp_path):
    (tmp_path / "a.txt").write_text("Ünïcode stays.\n", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfWindows\r\nlines")
    files = StimulusSet.from_texts([tmp_path / "a.txt", tmp_path / "b.txt"], table={"story": ["x", "y"]})
    assert list(files) == ["Ünïcode stays.", "Windows\nlines"]
    assert files.table["stimulus_id"].tolist() == ["a.txt", "b.txt"]
    assert list(StimulusSet.from_folder(tmp_path)) == list(files)
    assert StimulusSet.from_texts(["one", tmp_path / "a.txt"]).table["stimulus_id"].tolist() == [
        "0000",
        "0001",
    ]
    pd.DataFrame({"text": ["one", "two"], "stimulus_id": ["p", "q"]}).to_csv(tmp_path / "t.csv", index=False)
    table = StimulusSet.read(tmp_path / "t.csv")
    assert list(table[[1]]) == ["two"]
    assert table.table["stimulus_id"].tolist() == ["p", "q"]
    assert StimulusSet.read(tmp_path / "a.txt")[0] == "Ünïcode stays."


def test_folders_zips_and_tables_know_what_they_hold(tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, TONE)
    with zipfile.ZipFile(tmp_path / "sounds.zip", "w") as file:
        file.write(tmp_path / "a.wav", "a.wav")
    folder, packed = StimulusSet.from_folder(tmp_path, "*.wav"), StimulusSet.read(tmp_path / "sounds.zip")
    assert folder.hash == packed.hash
    assert folder.medium.name == packed.medium.name == "sound"
    np.testing.assert_array_equal(packed[0].values, folder[0].values)
    assert StimulusSet.from_table({"path": ["a.wav"]}, tmp_path)[0].kind == "sound"
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ValueError, match=r"in .* texts and sounds lie side by side; say which by a pattern"):
        StimulusSet.from_folder(tmp_path)
    Image.fromarray(FRAMES[0]).save(tmp_path / "c.png")
    assert len(StimulusSet.from_folder(tmp_path)) == 1


def test_hashes_see_content_and_rate():
    base = StimulusSet.from_sounds([TONE], RATE)
    assert base.hash == StimulusSet.from_sounds([TONE.copy()], RATE).hash
    assert base.hash != StimulusSet.from_sounds([TONE], 2 * RATE).hash
    assert base.hash != StimulusSet.from_sounds([TONE + np.int16(1)], RATE).hash
    assert StimulusSet.from_texts(["a"]).hash != StimulusSet.from_texts(["b"]).hash


def test_clips_as_they_are_and_selected():
    clips = [Clip(np.full(k + 1, 0.5, np.float32), 10) for k in range(4)]
    stimuli = StimulusSet.from_sounds(clips, stimulus_id=list("wxyz"))
    assert [len(clip) for clip in stimuli[[2, 0]]] == [3, 1]
    assert stimuli[1:3].medium.name == "sound"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Clip(np.zeros(3, np.float32), 0), "the rate of a clip is 0 Hz; give a positive number"),
        (lambda: Clip(np.zeros(3, np.float32), "fast"), "rate of a clip is of type str"),
        (lambda: Clip(np.zeros(0, np.float32), 5), "holds nothing"),
        (lambda: Clip(np.array([np.nan], np.float32), 5), "NaN or infinite samples"),
        (lambda: Clip(np.zeros((2, 3, 4), np.float32), 5), "neither a sound .* nor a film"),
        (lambda: StimulusSet.from_sounds([TONE]), "sound 0 is an array; give its rate= in Hz"),
        (lambda: StimulusSet.from_sounds([FRAMES], 10), "sound 0 is an array of the shape .*, a film"),
        (lambda: StimulusSet.from_videos([FRAMES / 255], 10), "film 0 cannot be taken: .* of float64"),
        (
            lambda: StimulusSet.from_videos([Clip(np.zeros(3, np.float32), 5)]),
            "film 0 is a clip, but a sound",
        ),
        (lambda: StimulusSet.from_sounds([]), "the stimulus set is empty"),
        (lambda: StimulusSet.from_texts([]), "the stimulus set is empty"),
        (
            lambda: StimulusSet.from_texts(["a", " \n"]),
            r"'0001' \(row 1 of 2\) cannot be read \(the text is empty\)",
        ),
        (lambda: StimulusSet.from_texts(["a", 3]), "text 1 is of type int"),
        (lambda: StimulusSet.from_texts(["a"], ["x", "y"]), "1 stimuli, but 2 stimulus ids"),
    ],
)
def test_bad_clips_and_texts(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_bad_files(tmp_path, monkeypatch):
    wavfile.write(tmp_path / "a.wav", RATE, TONE)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:30])
    (tmp_path / "junk.mp3").write_bytes(b"no sound" * 40)
    (tmp_path / "junk.mp4").write_bytes(b"no film" * 40)
    (tmp_path / "latin.txt").write_bytes("schön".encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no gone.wav"):
        StimulusSet.from_sounds(["gone.wav"])
    with pytest.raises(ValueError, match=r"text 0 is the name of a file; give Path\('latin.txt'\)"):
        StimulusSet.from_texts(["latin.txt"])
    with pytest.raises(ValueError, match="'latin.txt' .*it is no text in UTF-8: byte 3"):
        StimulusSet.from_texts([Path("latin.txt")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="'cut.wav' .*the sound is damaged"):
            StimulusSet.from_sounds(["cut.wav"])[0]
    pytest.importorskip("av")
    with pytest.raises(ValueError, match="'junk.mp3' .*it is no sound that PyAV can read"):
        StimulusSet.from_sounds(["junk.mp3"])[0]
    with pytest.raises(ValueError, match="'junk.mp4' .*it is no film that PyAV can read"):
        StimulusSet.from_videos(["junk.mp4"])[0]
    write_film(tmp_path / "silent.mkv")
    with pytest.raises(ValueError, match="'silent.mkv' .*the file has no sound"):
        StimulusSet.from_sounds(["silent.mkv"])[0]


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.mp3").write_bytes(b"sound")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match=r"needs PyAV; run pip install 'cerebridge\[media\]'"):
        StimulusSet.from_sounds([tmp_path / "a.mp3"])[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 480), np.float32), r"2 samples of 480 channels; give samples × channels"),
        (np.array([0, 1000, -1000]), r"samples of int64 have no known full scale"),
    ],
)
def test_sounds_of_another_layout_or_scale_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        StimulusSet.from_sounds([values], rate=8000)
