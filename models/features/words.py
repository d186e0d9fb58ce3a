"""Words as regressors: when they come, how long and how frequent they are, how unexpected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from ...neuro.assembly import Table, assemble
from ...neuro.progress import track
from ..devices import resolve_device
from ..loading import describe_network
from ..names import describe
from ..stimuli import StimulusSet
from ..taps import evaluating
from ..tokens import Tokens, find_words, limit_of, resolve_tokenizer
from .courses import assemble_course
from .ngrams import Corpus, NGram, cut_words, hash_texts


def word_rate(onsets: Any, *, duration: float, sfreq: float = 100.0) -> xr.DataArray:
    """Count the words that begin in each bin: the regressor that any claim about words has to beat.

    Parameters
    ----------
    onsets
        Seconds.
    duration
        Of the recording, in seconds.
    sfreq
        Bins a second.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid`` with one neuroid, float32.

    Raises
    ------
    ValueError
        If an onset lies outside the recording.

    Examples
    --------
    >>> from cerebridge import models
    >>> models.features.word_rate([0.0, 0.31, 0.35], duration=0.5, sfreq=10).values[:, 0].tolist()
    [1.0, 0.0, 0.0, 2.0, 0.0]
    """
    times = np.asarray(onsets, float).reshape(-1)
    impulses = _impulses(np.ones((len(times), 1)), times, duration, sfreq)
    facts = {"features": "word_rate", "words": len(times)}
    neuroid = {"neuroid_id": ["word rate"], "layer": "words"}
    return assemble_course([(None, impulses)], sfreq, neuroid, units="words", facts=facts)


def word_statistics(
    texts: StimulusSet | str | Sequence[str], corpus: Corpus, words: Table | str | None = None
) -> xr.DataArray:
    """Give each word its length and its frequency in a corpus.

    Parameters
    ----------
    texts
        A stimulus set of texts, or one or several texts.
    corpus
        What is counted, whatever the case: a text, texts, or words in order.
    words
        As of :func:`surprisal`.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``, a row a word: ``length`` in letters, and ``frequency`` on the Zipf scale (van
        Heuven et al. 2014): the decimal logarithm of occurrences in a billion words, one added to each count.

    Raises
    ------
    ValueError
        If the corpus is empty, or a word is not in its text.

    Examples
    --------
    >>> from cerebridge import models
    >>> models.features.word_statistics("a dog", ["a"] * 9 + ["dog"]).values.round().tolist()
    [[1.0, 9.0], [3.0, 8.0]]
    """
    counted = cut_words(corpus)
    counts = Counter(word.casefold() for text in counted for word in text)
    stimuli = _as_texts(texts)
    table = find_words(list(stimuli), stimuli.table["stimulus_id"].tolist(), words)
    of_a_billion = 1e9 / (sum(counts.values()) + len(counts))
    frequency = [np.log10((counts[word.casefold()] + 1) * of_a_billion) for word in table["word"]]
    length = [sum(letter.isalnum() for letter in word) for word in table["word"]]
    facts = {"features": "word_statistics", "stimuli": stimuli.hash}
    facts |= {"corpus": f"{sum(counts.values())} words, hash {hash_texts(counted)}"}
    return _of_words(np.stack([length, frequency], 1), table, stimuli, ["length", "frequency"], "a.u.", facts)


def surprisal(
    texts: StimulusSet | str | Sequence[str],
    model: NGram | nn.Module | Callable[[Tensor], Any],
    tokenizer: Any = None,
    *,
    words: Table | str | None = None,
    start: int | None = None,
    max_length: int | None = None,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Compute how unexpected each word is to a language model, given the words before it.

    The surprisal of a word is that of its tokens, summed (Hale 2001; Levy 2008). As a regressor over time it is an
    impulse at each onset: ``models.resample_in_time(found, times, kernel="sum", moment="onset")``.

    Parameters
    ----------
    texts
        A stimulus set of texts, or one or several texts.
    model
        A causal language model: takes tokens (1 × n) and gives logits (1 × n × vocabulary) of what comes next, as
        such or as ``.logits``. Or an :class:`NGram`, which takes words.
    tokenizer
        Of the network: as of :func:`models.extract_text`. Default: ``model.tokenizer``.
    words
        A regular expression, or a table with ``word`` and, e.g., ``onset``. Default: letters and digits with inner
        hyphens and apostrophes; tokens outside words, such as punctuation, count for no word. ``r"\\S+"`` takes all.
    start
        The token that begins a text, where the tokenizer adds none. Default: the tokenizer's ``bos_token_id``.
    max_length
        Tokens that the network takes at once. Longer texts are read in windows that overlap by half, so that each
        token but the first ones has at least half as many before it. Default: the network's own limit.
    device
        Where the network runs.
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``, a row a word with ``stimulus_id`` (its text), ``word``, ``word_index``, and the
        columns of ``words``; one neuroid, in bits.

    Raises
    ------
    ValueError
        If a word is not in its text, nothing begins a text, or the network gives no logits.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> uniform = lambda tokens: torch.zeros(*tokens.shape, 8)
    >>> letters = lambda text: ([ord(c) % 8 for c in text], [(k, k + 1) for k in range(len(text))])
    >>> models.features.surprisal("a dog", uniform, letters, start=0).values[:, 0].tolist()
    [3.0, 9.0]
    """
    stimuli = _as_texts(texts)
    found, ids = list(stimuli), stimuli.table["stimulus_id"].tolist()
    table = find_words(found, ids, words)
    bits = np.zeros((len(table), 1), np.float32)
    place = resolve_device(device)
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(evaluating(model, place))
        stack.enter_context(torch.no_grad())
        reader = None if isinstance(model, NGram) else _Reader(model, tokenizer, start, max_length, place)
        for number, text in enumerate(track(found, "surprisal", show=progress)):
            rows = np.flatnonzero(table["text"].to_numpy() == number)
            if isinstance(model, NGram):
                bits[rows, 0] = model.surprisal(table["word"].iloc[rows].tolist())
            elif reader is not None:
                bits[rows, 0] = reader.read(text, table.iloc[rows], str(ids[number]))
    facts = {"features": "surprisal", "start": start, "max_length": max_length, "stimuli": stimuli.hash}
    facts |= describe_network(model) if isinstance(model, nn.Module) else {"model": describe(model)}
    return _of_words(bits, table, stimuli, ["surprisal"], "bit", facts)


class _Reader:
    """A causal network that reads texts token by token."""

    def __init__(
        self, model: Any, tokenizer: Any, start: int | None, max_length: int | None, device: torch.device
    ) -> None:
        tokenizer = getattr(model, "tokenizer", None) if tokenizer is None else tokenizer
        self.model, self.device = model, device
        self.encode = resolve_tokenizer(tokenizer)
        self.start = getattr(tokenizer, "bos_token_id", None) if start is None else start
        self.limit = limit_of(tokenizer, model, max_length)
        if self.limit == 1:
            raise ValueError("max_length is 1, which leaves no token to predict; give at least 2.")

    def read(self, text: str, words: pd.DataFrame, name: str) -> NDArray[np.float64]:
        """Bits of each word."""
        tokens = self.encode(text)
        bits = self._bits(tokens, name)
        taken = np.zeros(len(bits), bool)
        found = np.zeros(len(words))
        for row, (begin, end) in enumerate(zip(words["start"], words["end"], strict=True)):
            # a token that reaches into two words counts for the first
            own = [token for token in tokens.within(begin, end) if not taken[token]]
            taken[own] = True
            found[row] = bits[own].sum()
        return found

    def _bits(self, tokens: Tokens, name: str) -> NDArray[np.float64]:
        """Of each token given those before it; 0 of what the tokenizer put before the text."""
        ids = torch.from_numpy(tokens.ids)
        led = bool(len(tokens.content)) and tokens.content.start > 0
        if not led:
            if self.start is None:
                raise ValueError(
                    f"nothing comes before the first token of the text {name!r}, so that it has no surprisal; give the "
                    "token that begins a text as start=."
                )
            ids = torch.cat([torch.tensor([self.start]), ids])
        length = len(ids)
        limit = self.limit or length
        bits, done = np.zeros(length), 1
        while done < length:
            first = 0 if done == 1 else max(0, done - limit // 2)
            window = ids[first : first + limit]
            logs = self._log_probabilities(window)
            new = torch.arange(done - first, len(window))
            chosen = logs[new - 1, window[new]].double().numpy()
            bits[done : first + len(window)] = -chosen / np.log(2)
            done = first + len(window)
        return bits if led else bits[1:]

    def _log_probabilities(self, window: Tensor) -> Tensor:
        given = self.model(window[None].to(self.device))
        logits = getattr(given, "logits", given)
        if not isinstance(logits, Tensor) or logits.ndim != 3 or logits.shape[1] != len(window):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"the model gives {shape} for {len(window)} tokens; it must give logits, 1 × tokens × vocabulary."
            )
        logs = logits[0].float().log_softmax(1).cpu()
        if not torch.isfinite(logs.max()) or torch.isnan(logs).any():
            raise ValueError("the model gives logits that are not finite; check its weights.")
        return logs


def _as_texts(texts: StimulusSet | str | Sequence[str]) -> StimulusSet:
    if isinstance(texts, StimulusSet):
        if not isinstance(texts[0], str):
            raise ValueError("the stimuli are no texts; build them with StimulusSet.from_texts.")
        return texts
    return StimulusSet.from_texts([texts] if isinstance(texts, str) else list(texts))


def _of_words(
    values: NDArray[Any],
    table: pd.DataFrame,
    stimuli: StimulusSet,
    names: Sequence[str],
    units: str,
    facts: dict[str, Any],
) -> xr.DataArray:
    if not len(table):
        raise ValueError("there is no word in the texts; check the texts and words=.")
    ids = stimuli.table["stimulus_id"].to_numpy()[table["text"].to_numpy()]
    return assemble(
        np.asarray(values, np.float32),
        presentation=table.drop(columns="text").assign(stimulus_id=ids),
        neuroid={"neuroid_id": list(names), "layer": "words"},
        modality="activation",
        units=units,
        provenance=json.dumps(facts),
    )


def _impulses(
    values: NDArray[Any], onsets: NDArray[np.float64], duration: float, sfreq: float
) -> NDArray[np.float32]:
    if not (duration > 0 and sfreq > 0):
        raise ValueError(f"duration is {duration} s and sfreq {sfreq} Hz; give positive numbers.")
    wrong = np.flatnonzero(~((onsets >= 0) & (onsets < duration)))
    if wrong.size:
        raise ValueError(
            f"word {wrong[0]} begins at {onsets[wrong[0]]} s, outside the recording of {duration} s; correct it, or "
            "leave it out."
        )
    placed = np.zeros((max(1, int(np.ceil(duration * sfreq - 1e-6))), values.shape[1]))
    # an onset on a bin's edge belongs to the bin that it begins, whatever rounding says
    bins = np.minimum(np.floor(onsets * sfreq + 1e-6).astype(int), len(placed) - 1)
    np.add.at(placed, bins, values)
    return placed.astype(np.float32)
