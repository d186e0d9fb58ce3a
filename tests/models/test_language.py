"""Words, tokens and texts: the values of the network at the right tokens, however they are read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cerebridge import encoding, models, neuro
from cerebridge.models.tokens import find_words, resolve_tokenizer

TEXTS = ["The dog's tail wags, slowly.", "A well-known cat sleeps.", "Cats!", "Dogs and cats and birds sing."]


def tokenize(text):
    """Pieces of up to three letters, between a beginning (1) and an end (2)."""
    ids, places = [1], [(0, 0)]
    for start, end in find_words([text], [0], r"\w+|[^\w\s]")[["start", "end"]].to_numpy():
        for at in range(start, end, 3):
            stop = min(at + 3, end)
            ids.append(3 + sum(map(ord, text[at:stop])) % 60)
            places.append((at, stop))
    return {"input_ids": [*ids, 2], "offset_mapping": [*places, (0, 0)]}


class Reader(nn.Module):
    """Positions matter, and every token sees the others (or only those before it)."""

    def __init__(self, causal=False, width=8):
        super().__init__()
        self.embed, self.place = nn.Embedding(64, width), nn.Embedding(64, width)
        self.mix = nn.GRU(width, width, batch_first=True, bidirectional=not causal)
        self.pool = nn.Linear(width, 2)

    def forward(self, input_ids, attention_mask):
        assert bool(attention_mask.all())
        hidden = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1]))
        return self.pool(self.mix(hidden)[0][:, 0, :8])


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Reader().eval()


@pytest.fixture(scope="module")
def causal():
    torch.manual_seed(0)
    return Reader(causal=True).eval()


@pytest.fixture(scope="module")
def stimuli():
    return models.StimulusSet.from_texts(TEXTS, list("abcd"), {"topic": ["x", "y", "y", "z"]})


def hidden_of(net, ids):
    with torch.no_grad():
        ids = torch.tensor(ids)[None]
        return net.mix(net.embed(ids) + net.place(torch.arange(ids.shape[1])))[0][0].numpy()


def extract(net, stimuli, layers=("mix",), **options):
    return models.extract_text(net, stimuli, list(layers), **{"tokenizer": tokenize, **options})


@pytest.mark.parametrize("aggregate", ["last", "first", "mean", "sum"])
def test_words_have_the_values_of_their_tokens(net, stimuli, aggregate):
    result = extract(net, stimuli, aggregate=aggregate)
    words = ["The", "dog's", "tail", "wags", "slowly", "A", "well-known", "cat", "sleeps", "Cats"]
    assert result["word"].values[:10].tolist() == words
    assert result["topic"].values[[0, 5, 9]].tolist() == ["x", "y", "y"]
    combine = {
        "last": lambda h: h[-1],
        "first": lambda h: h[0],
        "mean": lambda h: h.mean(0),
        "sum": lambda h: h.sum(0),
    }
    for row in range(result.sizes["presentation"]):
        label = result.isel(presentation=row)
        text = TEXTS["abcd".index(str(label["stimulus_id"].values))]
        start, end = int(label["start"]), int(label["end"])
        assert text[start:end] == label["word"].values
        given = tokenize(text)
        hidden = hidden_of(net, given["input_ids"])
        inside = [k for k, (a, b) in enumerate(given["offset_mapping"]) if a < end and b > start]
        np.testing.assert_allclose(label.values, combine[aggregate](hidden[inside]), atol=1e-6)


def test_tokens_are_rows_with_their_words(net, stimuli):
    result = extract(net, stimuli, unit="token", special_tokens=True)
    given = tokenize(TEXTS[0])
    first = result.isel(presentation=slice(len(given["input_ids"])))
    np.testing.assert_allclose(first.values, hidden_of(net, given["input_ids"]), atol=1e-6)
    assert first["token"].values[:6].tolist() == ["", "The", "dog", "'", "s", "tai"]
    assert first["word"].values[:6].tolist() == ["", "The", "dog's", "dog's", "dog's", "tail"]
    assert first["token_id"].values.tolist() == given["input_ids"]
    own = extract(net, stimuli, unit="token")
    assert own.sizes["presentation"] == result.sizes["presentation"] - 2 * len(TEXTS)
    assert "" not in own["token"].values


def test_texts_are_means_of_tokens_or_layers_of_their_own(net, stimuli):
    result = extract(net, stimuli, ["mix", "pool"], unit="text", aggregate="mean", special_tokens=True)
    hidden = [hidden_of(net, tokenize(text)["input_ids"]) for text in TEXTS]
    expected = np.stack([each.mean(0) for each in hidden])
    np.testing.assert_allclose(result.values[:, :16], expected, atol=1e-6)
    with torch.no_grad():
        pooled = net.pool(torch.tensor(np.stack([each[0, :8] for each in hidden])))
    np.testing.assert_allclose(result.values[:, 16:], pooled.numpy(), atol=1e-6)
    own = extract(net, stimuli, unit="text", aggregate="mean")
    np.testing.assert_allclose(own.values[2], hidden[2][1:-1].mean(0), atol=1e-6)
    assert own["n_tokens"].values.tolist() == [len(each) - 2 for each in hidden]


@settings(max_examples=10, deadline=None)
@given(
    size=st.sampled_from([1, 2, 3, "auto"]),
    order=st.permutations(range(4)),
    unit=st.sampled_from(["word", "token"]),
)
def test_neither_batches_nor_other_texts_change_a_value(net, stimuli, size, order, unit):
    whole = extract(net, stimuli, unit=unit)
    other = extract(net, stimuli[list(order)], unit=unit, batch_size=size)
    for name in "abcd":
        one = whole.values[whole["stimulus_id"].values == name]
        np.testing.assert_allclose(other.values[other["stimulus_id"].values == name], one, atol=1e-6)
        alone = extract(net, stimuli[["abcd".index(name)]], unit=unit)
        np.testing.assert_allclose(alone.values, one, atol=1e-6)


@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize(("context", "stride"), [(0, 1), (2, 1), (50, 1), (2, 3)])
def test_windows_are_runs_of_the_network_on_what_came_before(causal, stimuli, unit, context, stride):
    result = extract(causal, stimuli, unit=unit, context=context, stride=stride)
    whole = extract(causal, stimuli, unit=unit)
    np.testing.assert_array_equal(result["start"].values, whole["start"].values)
    for name, text in zip("abcd", TEXTS, strict=True):
        rows = np.flatnonzero(result["stimulus_id"].values == name)
        given = tokenize(text)
        spans = []
        for start, end in zip(result["start"].values[rows], result["end"].values[rows], strict=True):
            spans.append([k for k, (a, b) in enumerate(given["offset_mapping"]) if a < end and b > start])
        for row, span in enumerate(spans):
            begin = row // stride * stride
            first = 1 if begin <= context else spans[begin - context][0]
            hidden = hidden_of(causal, [1, *given["input_ids"][first : span[-1] + 1]])
            np.testing.assert_allclose(result.values[rows[row]], hidden[-1], atol=1e-6)


def test_a_network_that_looks_back_does_not_know_what_follows(net, causal, stimuli):
    changed = models.StimulusSet.from_texts([TEXTS[0].replace("slowly", "quickly"), *TEXTS[1:]], list("abcd"))
    for each, same in ((causal, True), (net, False)):
        before, after = extract(each, stimuli).values[:4], extract(each, changed).values[:4]
        assert np.allclose(before, after, atol=1e-6) == same
    windows = [extract(net, texts, context=10).values[:4] for texts in (stimuli, changed)]
    np.testing.assert_allclose(*windows, atol=1e-6)


def test_words_with_onsets_become_volumes(net):
    table = pd.DataFrame(
        {
            "stimulus_id": ["b", "b", "a", "a", "a"],
            "word": ["A", "cat", "The", "wags", "slowly"],
            "onset": [0.5, 2.5, 0.0, 1.0, 3.2],
            "duration": [0.2, 0.4, 0.3, 0.5, 0.5],
            "speaker": list("ttsss"),
        }
    )
    stimuli = models.StimulusSet.from_texts(TEXTS[:2], list("ab"), {"run": [1, 2]})
    result = extract(net, stimuli, words=table)
    assert result["word"].values.tolist() == ["The", "wags", "slowly", "A", "cat"]
    assert result["speaker"].values.tolist() == list("ssstt")
    np.testing.assert_allclose(result["offset"].values, [0.3, 1.5, 3.7, 0.7, 2.9])
    plain = extract(net, stimuli)
    np.testing.assert_allclose(result.values[1], plain.values[3], atol=1e-6)
    volumes = neuro.assemble(
        np.zeros((4, 1)),
        time_bin={"time_bin_start": [0.0, 2, 0, 2], "time_bin_end": [2.0, 4, 2, 4], "run": [1, 1, 2, 2]},
        neuroid={"neuroid_id": ["v"]}, modality="fmri", units="a.u.", sfreq=0.5,
    )  # fmt: skip
    summed = models.resample_in_time(result, volumes, kernel="sum", moment="onset")
    expected = [result.values[[0, 1]].sum(0), result.values[2], result.values[3], result.values[4]]
    np.testing.assert_allclose(summed.values, np.stack(expected), atol=1e-6)
    assert encoding.convolve_hrf(
        result.isel(presentation=slice(3)), volumes.isel(time_bin=slice(2))
    ).shape == (2, 16)


def test_words_may_be_what_a_pattern_says_or_lie_where_a_table_says(net, stimuli):
    blanks = extract(net, stimuli[[0]], words=r"\S+")
    assert blanks["word"].values.tolist() == TEXTS[0].split()
    table = {"word": ["Cats", "cat"], "start": [4, 15], "end": [8, 18]}
    places = extract(net, models.StimulusSet.from_texts(["The cats see a cat."]), words=table)
    assert places["start"].values.tolist() == [4, 15]


class ByIds(nn.Sequential):
    """Takes ids alone, by position."""


def test_networks_without_masks_and_halves(stimuli):
    torch.manual_seed(0)
    net = ByIds(nn.Embedding(64, 4), nn.Linear(4, 3)).half()
    result = extract(net.float(), stimuli, ["0", "1"], dtype="float16")
    assert result.dtype == np.float16
    assert result.shape == (16, 7)
    assert set(result["layer"].values) == {"0", "1"}


def test_provenance_says_how_it_was_read(net, stimuli):
    made = json.loads(extract(net, stimuli, context=3).attrs["provenance"])
    assert (made["unit"], made["context"], made["aggregate"]) == ("word", 3, "last")
    assert made["stimuli"] == stimuli.hash
    assert made["weights"] == models.fingerprint(net)


def test_a_store_holds_the_same_and_goes_on(net, stimuli, tmp_path):
    whole = extract(net, stimuli, ["embed", "mix"])
    folder = tmp_path / "store"
    stored = extract(net, stimuli, ["embed", "mix"], store=folder)
    np.testing.assert_array_equal(stored.values, whole.values)
    assert stored["word"].values.tolist() == whole["word"].values.tolist()
    assert stored["layer"].values.tolist() == whole["layer"].values.tolist()
    with pytest.raises(ValueError, match="was begun with aggregate = 'last', now it is 'mean'"):
        extract(net, stimuli, ["embed", "mix"], store=folder, aggregate="mean")
    with pytest.raises(ValueError, match="was begun with context = 'text', now it is 2"):
        extract(net, stimuli, ["embed", "mix"], store=folder, context=2)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
import torch
from test_language import Reader, TEXTS, tokenize
from cerebridge import models
from cerebridge.models import language
from cerebridge.neuro.store import ShardWriter

write, count = ShardWriter.write, 0
def write_and_die(self, start, values):
    global count
    write(self, start, values)
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
ShardWriter.write = write_and_die
language._blocks = lambda passages, most: [[passage] for passage in passages]
torch.manual_seed(0)
stimuli = models.StimulusSet.from_texts(TEXTS, list("abcd"), {"topic": ["x", "y", "y", "z"]})
models.extract_text(Reader().eval(), stimuli, ["mix"], tokenizer=tokenize, store=sys.argv[1])
"""


def test_a_killed_extraction_is_taken_up_where_it_was(net, stimuli, tmp_path, monkeypatch):
    folder = tmp_path / "store"
    run = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), str(Path(__file__).parent)]
    assert subprocess.run(run, capture_output=True).returncode == -signal.SIGKILL
    with pytest.raises(OSError, match="unfinished"):
        neuro.load(folder)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.h5")}
    assert len(kept) == 2
    texts = []
    inputs = models.language._TextExtraction._inputs
    monkeypatch.setattr(
        models.language._TextExtraction, "_inputs",
        lambda self, passages: texts.extend(p.text for p in passages) or inputs(self, passages),
    )  # fmt: skip
    result = extract(net, stimuli, store=folder)
    assert set(texts[2:]) == {2, 3}  # the first two are the trial
    np.testing.assert_allclose(result.values, extract(net, stimuli).values, atol=1e-6)
    assert all(path.stat().st_mtime_ns == kept[path.name] for path in folder.iterdir() if path.name in kept)


def test_too_long_texts_are_refused_cut_or_read_in_windows(net, stimuli):
    with pytest.raises(ValueError) as error:
        extract(net, stimuli, max_length=10)
    assert str(error.value) == (
        "the text 'a' has 14 tokens, but the network takes 10: it would be cut from 'slowly' (character 21) on; read "
        "windows (context=), split it, or give overflow='cut'."
    )
    with pytest.warns(
        UserWarning, match="beyond 10 tokens all is cut: 'a' loses 4 of 14 tokens, from 'slowly' on; 'b'"
    ):
        cut = extract(net, stimuli, max_length=10, overflow="cut")
    assert cut["word"].values[:4].tolist() == ["The", "dog's", "tail", "wags"]
    ids = [*tokenize(TEXTS[0])["input_ids"][:9], 2]
    np.testing.assert_allclose(cut.values[0], hidden_of(net, ids)[1], atol=1e-6)
    assert extract(net, stimuli, max_length=10, context=1).sizes["presentation"] == 16
    with pytest.raises(
        ValueError, match=r"the window before '.*' in the text 'a' has 12 tokens, but the network takes 10"
    ):
        extract(net, stimuli, max_length=10, context=3)
    with pytest.warns(UserWarning, match="the window before .* loses its first"):
        extract(net, stimuli, max_length=10, context=3, overflow="cut")
    with pytest.raises(ValueError, match="max_length is 2, which the 2 special tokens of a text fill"):
        extract(net, stimuli, max_length=2, overflow="cut")
    whole = extract(net, stimuli, unit="text", aggregate="mean")
    with pytest.warns(UserWarning):
        parts = extract(net, stimuli, unit="text", aggregate="mean", max_length=10, overflow="cut")
    assert parts["n_tokens"].values.tolist() == np.minimum(whole["n_tokens"].values, 8).tolist()


WORDS = {"word": ["The", "tail"], "onset": [0.0, 1.0], "offset": [0.5, 1.5]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "letter"}, "unit is 'letter'; use one of 'word', 'token', 'text'"),
        ({"aggregate": "max"}, "aggregate is 'max'"),
        ({"overflow": "drop"}, "overflow is 'drop'"),
        ({"context": -1}, "context is -1; give 'text' or a number"),
        ({"stride": 2}, "stride is 2; give how many rows each window of context= keeps"),
        ({"context": 2, "unit": "text"}, "unit='text' needs whole texts, but context is 2"),
        ({"special_tokens": True}, "special tokens belong to no word"),
        ({"max_length": 0}, "max_length is 0; give a positive number of tokens"),
        ({"tokenizer": None}, "the network has no tokenizer of its own; give it as tokenizer="),
        ({"tokenizer": 7}, "tokenizer= is 7; give a fast tokenizer or a function"),
        ({"tokenizer": lambda text: [1, 2]}, "the tokenizer gives list; it must give ids and"),
        ({"tokenizer": lambda text: ([1, 2], [(0, 1)])}, "the tokenizer gives 2 ids, but 1 places"),
        ({"tokenizer": lambda text: ([1], [(0, 0)])}, "the text 'a' becomes no token; leave it out"),
        ({"tokenizer": lambda text: ([99], [(0, 30)])}, "the network fails on the tokens of the text 'a' .*index out"),
        ({"tokenizer": lambda text: ([9], [(0, 3)])}, '''the word "dog's" of the text 'a' becomes no token'''),
        ({"words": r"\d+"}, "the text 'a' holds no word; leave it out, or say what a word is by words="),
        ({"words": {"term": ["The"]}}, "the table of words has the columns .* but 'word' is missing"),
        ({"words": {**WORDS, "word": ["The", "tale"]}}, "word 1 of the table, 'tale', does not occur .* character 3"),
        ({"words": {**WORDS, "stimulus_id": ["a", "z"]}}, "row 1 of the table of words names the text 'z', which"),
        ({"words": {**WORDS, "onset": [0.0, np.nan]}}, r"the onset of word 1 \('tail'\) is nan; give seconds"),
        ({"words": {**WORDS, "offset": [0.5, 0.9]}}, r"word 1 \('tail'\) begins at 1.0 s and ends before, at 0.9 s"),
        ({"words": {**WORDS, "start": [0, 9], "end": [3, 99]}}, r"word 1 \('tail'\) lies at characters 9 to 99"),
        ({"layers": ["pool"]}, "the layer 'pool' gives the shape .* choose another layer, or unit='text'"),
        ({"layers": ["mixed"]}, "no layer 'mixed'; the nearest are 'mix'"),
        ({"memory": 1000}, "memory="),
        ({"dtype": "int8"}, "dtype is 'int8'"),
    ],
)  # fmt: skip
def test_bad_input(net, stimuli, options, message):
    options = dict(options)
    layers = options.pop("layers", ["mix"])
    with pytest.raises(ValueError, match=message):
        extract(net, stimuli[[0]], layers, **options)


def test_other_bad_stimuli_and_values(net, stimuli):
    with pytest.raises(ValueError, match=r"the stimuli are images, not texts; use StimulusSet.from_texts"):
        extract(net, models.StimulusSet.from_arrays(np.zeros((2, 4, 4, 3), np.uint8)))
    with pytest.raises(ValueError, match="has no 'stimulus_id', but there are several texts"):
        extract(net, stimuli, words=WORDS)
    labelled = models.StimulusSet.from_texts(["a b"], table={"word": ["x"]})
    with pytest.raises(ValueError, match="the column 'word' is in the stimulus table"):
        extract(net, labelled)
    broken = ByIds(nn.Embedding(64, 4))
    nn.init.constant_(broken[0].weight, float("inf"))
    with pytest.raises(ValueError, match="the layer '0' gives NaN or infinite values for stimulus 'a'"):
        extract(broken, stimuli, ["0"])


def test_slow_tokenizers_are_refused():
    class Slow:
        is_fast = False

    with pytest.raises(
        ValueError, match="Slow does not say where its tokens lie in the text; give a fast tokenizer"
    ):
        resolve_tokenizer(Slow())


def test_the_network_is_left_as_it_was(stimuli):
    torch.manual_seed(0)
    net = Reader().train()
    extract(net, stimuli)
    assert net.training
    assert not net.mix._forward_hooks


def test_training_mode_is_said(stimuli):
    net = nn.Sequential(nn.Embedding(64, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match=r"in training mode .*, in which '1' behaves otherwise"):
        warned = extract(net, stimuli, ["2"])
    np.testing.assert_array_equal(warned.values, extract(net.eval(), stimuli, ["2"]).values)


def test_words_keep_the_signs_of_their_letters():
    words = [
        "हिन्दी",
        "भाषा",
        "שָׁלוֹם",
        "عَرَبِيّ",
        "می\u200cخواهم",
        unicodedata.normalize("NFD", "Élan-vital"),
        "don’t",
        "café",
    ]
    text = " ❤️, ".join(words) + " 👨‍👩‍👧!"
    found = find_words([text], ["a"])
    assert found["word"].tolist() == words
    assert [text[a:b] for a, b in zip(found["start"], found["end"], strict=True)] == words


@pytest.mark.parametrize(
    ("text", "words", "starts"),
    [
        ("The cat ate a fish", ["cat", "a", "fish"], [4, 12, 14]),
        ("I don't know what to do.", ["I", "do", "n't", "know", "do"], [0, 2, 4, 8, 21]),
        ("我喜欢猫", ["我", "喜欢", "猫"], [0, 1, 3]),
        ("a well-known (dog)", ["a", "known", "dog"], [0, 7, 14]),
    ],
)
def test_words_of_a_table_are_whole_words_of_the_text(text, words, starts):
    assert find_words([text], ["a"], {"word": words})["start"].tolist() == starts


def test_tables_of_words_that_do_not_match():
    with pytest.raises(ValueError, match=r"word 0 of the table, 'ca', .* or only inside of other words"):
        find_words(["a cat"], ["a"], {"word": ["ca"]})
    table = {"word": ["dog", "the"], "start": [4, 0], "end": [7, 3]}
    with pytest.raises(ValueError, match=r"word 1 \('the'\) lies before the one above it"):
        find_words(["The dog"], ["a"], table)
    with pytest.warns(UserWarning, match=r"1 of 2 words .* word 1 is 'cat', the text says 'dog'"):
        find_words(["The dog"], ["a"], {"word": ["the", "cat"], "start": [0, 4], "end": [3, 7]})


def test_heads_of_words_are_labelled(stimuli):
    net = nn.Sequential(nn.Embedding(64, 6), nn.Linear(6, 6))
    result = extract(net, stimuli, ["1:heads(2)"])
    assert result["head"].values.tolist() == [0, 0, 0, 1, 1, 1]
    assert result["channel"].values.tolist() == [0, 1, 2] * 2
    np.testing.assert_array_equal(result.values, extract(net, stimuli, ["0"]).values)
