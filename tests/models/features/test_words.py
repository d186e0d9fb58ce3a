"""Surprisal of processes whose truth is known, words at their times, counts that sum to one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cerebridge import models, neuro
from cerebridge.models.compat import mend_torchvision
from cerebridge.models.features import NGram

LETTERS = "abc"
#: from each letter to the next
CHAIN = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])


def letters(text):
    """One token a character; 3 is a space, 4 begins a text."""
    return ["abc ".index(c) for c in text], [(k, k + 1) for k in range(len(text))]


def chain_of(n, seed=0):
    rng = np.random.default_rng(seed)
    states = [0]
    for _ in range(n - 1):
        states.append(rng.choice(3, p=CHAIN[states[-1]]))
    return states


def true_chain(tokens):
    """Logits of the chain; the first letter is any of three, spaces never come."""
    table = np.full((5, 5), -1e9)
    table[:3, :3] = np.log(CHAIN)
    table[4, :3] = np.log(1 / 3)
    return torch.from_numpy(table)[tokens]


class Recurrent(nn.Module):
    def __init__(self, vocabulary=5):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 8)
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.read = nn.Linear(8, vocabulary)

    def forward(self, tokens):
        return self.read(self.dropout(self.rnn(self.embed(tokens))[0]))


def test_a_uniform_model_is_surprised_by_the_size_of_its_vocabulary():
    found = models.features.surprisal("a b c", lambda t: torch.zeros(*t.shape, 37), letters, start=4)
    neuro.validate(found)
    np.testing.assert_allclose(found.values[:, 0], np.log2(37), rtol=1e-6)
    assert (found.attrs["units"], found["word"].values.tolist()) == ("bit", list("abc"))
    np.testing.assert_allclose(
        models.features.surprisal("abc", lambda t: torch.zeros(*t.shape, 4), letters, start=4).values, [[6]]
    )


def test_the_true_surprisal_of_a_markov_chain():
    states = chain_of(300)
    text = "".join(LETTERS[s] for s in states)
    found = models.features.surprisal(text, true_chain, letters, start=4, words=".")
    truth = -np.log2([1 / 3, *(CHAIN[a, b] for a, b in pairwise(states))])
    np.testing.assert_allclose(found.values[:, 0], truth, rtol=1e-5)


def test_counts_learn_the_chain_and_shuffled_ones_do_not():
    words = [LETTERS[s] for s in chain_of(20000)]
    test = [LETTERS[s] for s in chain_of(3000, seed=1)]
    found = models.features.surprisal(" ".join(test), NGram(words, order=2)).values[1:, 0]
    truth = -np.log2([CHAIN[LETTERS.index(a), LETTERS.index(b)] for a, b in pairwise(test)])
    np.testing.assert_allclose(found, truth, atol=0.1)
    stationary = np.linalg.matrix_power(CHAIN, 50)[0]
    entropy = -(stationary[:, None] * CHAIN * np.log2(CHAIN)).sum()
    assert found.mean() == pytest.approx(entropy, abs=0.03)
    shuffled = np.random.default_rng(0).permutation(words).tolist()
    control = models.features.surprisal(" ".join(test), NGram(shuffled, order=2)).values[1:, 0]
    assert control.mean() == pytest.approx(-(stationary * np.log2(stationary)).sum(), abs=0.03)
    assert abs(np.corrcoef(control, found)[0, 1]) < 0.6


def test_the_total_is_the_cross_entropy_of_the_text():
    torch.manual_seed(0)
    net = Recurrent()
    text = "ab cab a bbc ca"
    found = models.features.surprisal(text, net, letters, start=4, words=r"\s*\S+")
    assert net.training
    ids = torch.tensor([4, *letters(text)[0]])
    net.eval()
    total = nn.functional.cross_entropy(net(ids[None, :-1])[0], ids[1:], reduction="sum").item() / np.log(2)
    assert found.values.sum() == pytest.approx(total, rel=1e-5)
    without = models.features.surprisal(text, net, letters, start=4)
    spaces = total - without.values.sum()
    assert 0 < spaces < total


def test_windows_see_at_least_half_as_many_tokens():
    net = Recurrent().eval()
    text = "abcabbcacb" * 7
    whole, cut = (
        models.features.surprisal(text, net, letters, start=4, words=".", max_length=m).values[:, 0]
        for m in (None, 16)
    )
    np.testing.assert_allclose(cut[:15], whole[:15], rtol=1e-5)
    lengths = []

    def counted(tokens):
        lengths.append(tokens.shape[1])
        return true_chain(tokens)

    np.testing.assert_allclose(
        models.features.surprisal(text, counted, letters, start=4, words=".", max_length=16).values,
        models.features.surprisal(text, true_chain, letters, start=4, words=".").values,
    )
    assert max(lengths) == 16 and len(lengths) == 1 + int(np.ceil((71 - 16) / 8))


def test_a_transformer_and_its_own_loss():
    mend_torchvision()
    transformers = pytest.importorskip("transformers")
    net = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=5, n_positions=64, bos_token_id=4)
    )
    net.tokenizer = letters
    text = "abc cab"
    found = models.features.surprisal(text, net, words=r"\s*\S+", start=4)
    ids = torch.tensor([[4, *letters(text)[0]]])
    loss = net.eval()(ids, labels=ids).loss.item()
    assert found.values.sum() == pytest.approx(loss * 7 / np.log(2), rel=1e-5)


def test_tokens_the_tokenizer_puts_before_need_no_start():
    def led(text):
        ids, places = letters(text)
        return [4, *ids, 4], [(0, 0), *places, (0, 0)]

    np.testing.assert_allclose(
        models.features.surprisal("abca", true_chain, led, words=".").values,
        models.features.surprisal("abca", true_chain, letters, words=".", start=4).values,
        rtol=1e-6,
    )


@settings(max_examples=15, deadline=None)
@given(words=st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), order=st.integers(1, 4))
def test_probabilities_of_counts_sum_to_one(words, order):
    model = NGram(words, order)
    for context in ([], words[:3], ["never", "seen"]):
        total = sum(model.probability(word, context) for word in [*model.vocabulary, "something new"])
        assert total == pytest.approx(1)


def test_witten_bell_by_hand():
    model = NGram(["a", "b", "a", "c"], order=2)
    # three kinds in four words over equal shares of three words and the unknown
    unigram = (1 + 3 * 0.25) / (4 + 3)
    assert model.probability("b") == pytest.approx(unigram)
    assert model.probability("b", ["a"]) == pytest.approx((1 + 2 * unigram) / (2 + 2))
    assert NGram([["a", "b"], ["c"]], order=2).counts.keys() == {(), ("a",)}


def test_texts_are_cut_and_words_are_not():
    texts, lists = NGram(["a dog ran.", "a cat"], 2), NGram([["a", "dog", "ran"], ["a", "cat"]], 2)
    assert texts.counts == lists.counts and ("ran",) not in texts.counts
    assert NGram("a dog ran", 2).counts == NGram(["a", "dog", "ran"], 2).counts


def test_word_rate_counts_words_in_their_bins():
    rate = models.features.word_rate([0.0, 0.29, 0.3, 0.31, 0.999], duration=1.0, sfreq=100)
    neuro.validate(rate)
    assert np.flatnonzero(rate.values[:, 0]).tolist() == [0, 29, 30, 31, 99]
    assert rate.values.sum() == 5
    assert rate.attrs["sfreq"] == 100
    np.testing.assert_array_equal(
        models.features.word_rate([0.3, 0.31], duration=1.0, sfreq=10).values[:, 0], [0, 0, 0, 2, *[0] * 6]
    )


def test_words_are_placed_at_their_onsets():
    table = {"word": ["a", "b", "c"], "onset": [0.05, 0.5, 0.55], "speaker": ["x", "y", "y"]}
    found = models.features.surprisal("a b, c", true_chain, letters_and_comma, start=4, words=table)
    assert found["speaker"].values.tolist() == ["x", "y", "y"]
    bins = np.stack([np.arange(10), np.arange(1, 11)], 1) / 10
    course = models.resample_in_time(found, bins, kernel="sum", moment="onset")
    assert course.values[[0, 5], 0].tolist() == [found.values[0, 0], found.values[1, 0] + found.values[2, 0]]
    assert (course.values[[1, 2, 3, 4, 6, 7, 8, 9]] == 0).all()


def letters_and_comma(text):
    return ["abc ".find(c) % 4 for c in text], [(k, k + 1) for k in range(len(text))]


def test_length_and_frequency_by_hand():
    corpus = ["The"] * 99 + ["dog"] * 9 + ["it's"]
    found = models.features.word_statistics("The cat, it's the dog", corpus)
    assert found["neuroid_id"].values.tolist() == ["length", "frequency"]
    assert found.values[:, 0].tolist() == [3, 3, 3, 3, 3]
    expected = [np.log10(count * 1e9 / (109 + 3)) for count in (100, 1, 2, 100, 10)]
    np.testing.assert_allclose(found.values[:, 1], expected, rtol=1e-6)


def test_texts_of_a_set_keep_their_names():
    stimuli = models.StimulusSet.from_texts(["a b", "c"], stimulus_id=["first", "second"])
    found = models.features.surprisal(stimuli, NGram(list("aab")))
    assert found["stimulus_id"].values.tolist() == ["first", "first", "second"]
    alone = [models.features.surprisal(text, NGram(list("aab"))).values for text in ("a b", "c")]
    np.testing.assert_array_equal(found.values, np.concatenate(alone))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f: f.word_rate([1.5], duration=1.0),
            "word 0 begins at 1.5 s, outside the recording of 1.0 s",
        ),
        (lambda f: f.word_rate([np.nan], duration=1.0), "word 0 begins at nan s"),
        (lambda f: f.word_rate([0], duration=0), "duration is 0 s"),
        (lambda f: f.word_statistics("a", []), "the corpus holds no words"),
        (lambda f: f.word_statistics("...", ["a"]), "no word in the texts"),
        (lambda f: f.surprisal("a", true_chain), "no tokenizer"),
        (
            lambda f: f.surprisal("a", true_chain, letters),
            "nothing comes before the first token of the text '0000'",
        ),
        (lambda f: f.surprisal("a", true_chain, letters, start=4, max_length=1), "max_length is 1"),
        (
            lambda f: f.surprisal("a", lambda t: t, letters, start=4),
            r"gives \(1, 2\) for 2 tokens; it must give",
        ),
        (
            lambda f: f.surprisal("a", lambda t: torch.full((*t.shape, 5), torch.nan), letters, start=4),
            "logits that are not finite",
        ),
        (
            lambda f: f.surprisal(models.StimulusSet.from_arrays(np.zeros((1, 4))), NGram(["a"])),
            "the stimuli are no texts",
        ),
        (lambda f: NGram([]), "no words"),
        (lambda f: NGram(" . "), "no words"),
        (lambda f: NGram(["a"], 0), "order is 0"),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call(models.features)
