"""Texts as networks read them: tokens with their place in the text, words, and the tokens of each word."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..neuro.assembly import Table, quoted
from .compat import mend_torchvision

#: stands for all signs that are written at letters, and for what joins letters without a line between them
MARK, JOINERS = "\u0301", "\u200c\u200d"
#: a word with its inner hyphens and apostrophes, without the punctuation around it
WORD = rf"\w[\w{MARK}]*(?:['’\-]\w[\w{MARK}]*)*"
#: what tokenizers give as their limit where they have none
NO_LIMIT = 10**9


@dataclass(frozen=True)
class Tokens:
    """One text in tokens.

    Parameters
    ----------
    ids
        What the network takes.
    starts, ends
        Where each token lies in the text, in characters.
    special
        Which tokens the tokenizer added, such as those that begin and end a text.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    special: NDArray[np.bool_]

    @property
    def content(self) -> range:
        """The stretch between the special tokens at the beginning and those at the end."""
        own = np.flatnonzero(~self.special)
        return range(int(own[0]), int(own[-1]) + 1) if own.size else range(0)

    def within(self, start: int, end: int) -> NDArray[np.intp]:
        """Numbers of the tokens that reach into a stretch of characters."""
        return np.flatnonzero((self.starts < end) & (self.ends > start) & ~self.special)


def resolve_tokenizer(tokenizer: Any) -> Callable[[str], Tokens]:
    """Turn a tokenizer into a function from text to :class:`Tokens`.

    Parameters
    ----------
    tokenizer
        A fast tokenizer of transformers, a ``tokenizers.Tokenizer``, or a function that turns a text into ids and
        (start, end) in characters, as a pair or as a mapping with ``input_ids`` and ``offset_mapping``; tokens
        without extent then count as special.

    Raises
    ------
    ValueError
        If there is none, or it cannot say where tokens lie.

    Examples
    --------
    >>> from cerebridge.models.tokens import resolve_tokenizer
    >>> tokens = resolve_tokenizer(lambda text: ([7, 8], [(0, 3), (4, 7)]))("the dog")
    >>> tokens.within(4, 7)
    array([1])
    """
    if tokenizer is None:
        raise ValueError("the network has no tokenizer of its own; give it as tokenizer=.")
    if getattr(tokenizer, "is_fast", None) is False:
        raise ValueError(
            f"{type(tokenizer).__name__} does not say where its tokens lie in the text; give a fast tokenizer."
        )
    if hasattr(tokenizer, "is_fast"):
        options = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "verbose": False}
        return _checked(partial(tokenizer, truncation=False, padding=False, **options))
    if hasattr(tokenizer, "no_truncation"):
        whole = type(tokenizer).from_str(tokenizer.to_str())
        whole.no_truncation()
        whole.no_padding()
        return _checked(lambda text: _parts_of(whole.encode(text)))
    if not callable(tokenizer):
        raise ValueError(f"tokenizer= is {tokenizer!r}; give a fast tokenizer or a function of a text.")
    return _checked(tokenizer)


def tokenizer_of(net: Any) -> Any:
    """The tokenizer that a network brings, or that lies in the folder from which transformers built it.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.tokens import tokenizer_of
    >>> tokenizer_of(torch.nn.Linear(2, 2)) is None
    True
    """
    folder = getattr(net, "folder", None)
    if hasattr(net, "tokenizer") or folder is None:
        return getattr(net, "tokenizer", None)
    mend_torchvision()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError):
        return None


def _parts_of(encoding: Any) -> dict[str, Any]:
    return {
        "input_ids": encoding.ids,
        "offset_mapping": encoding.offsets,
        "special_tokens_mask": encoding.special_tokens_mask,
    }


def _checked(tokenize: Callable[[str], Any]) -> Callable[[str], Tokens]:
    def encode(text: str) -> Tokens:
        given = tokenize(text)
        if isinstance(given, tuple) and len(given) == 2:
            given = {"input_ids": given[0], "offset_mapping": given[1]}
        if not isinstance(given, Mapping) or not {"input_ids", "offset_mapping"} <= set(given):
            raise ValueError(
                f"the tokenizer gives {type(given).__name__}; it must give ids and (start, end) of every token."
            )
        ids = np.asarray(given["input_ids"], np.int64).reshape(-1)
        offsets = np.asarray(given["offset_mapping"], np.int64).reshape(-1, 2)
        if len(ids) != len(offsets):
            raise ValueError(f"the tokenizer gives {len(ids)} ids, but {len(offsets)} places in the text.")
        starts, ends = offsets.T
        special = np.asarray(given.get("special_tokens_mask", starts == ends), bool)
        return Tokens(ids, starts, ends, special)

    return encode


def limit_of(tokenizer: Any, net: Any, max_length: int | None) -> int | None:
    """How many tokens the network takes at once: as given, or as the tokenizer or the network says.

    Raises
    ------
    ValueError
        If ``max_length`` is no positive number.

    Examples
    --------
    >>> from cerebridge.models.tokens import limit_of
    >>> limit_of(None, None, 512)
    512
    """
    if max_length is not None:
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise ValueError(f"max_length is {max_length!r}; give a positive number of tokens.")
        return max_length
    said = (
        getattr(tokenizer, "model_max_length", None),
        getattr(getattr(net, "config", None), "max_position_embeddings", None),
    )
    return min((limit for limit in said if isinstance(limit, int) and 0 < limit < NO_LIMIT), default=None)


def find_places(text: str, words: str | None = None) -> list[tuple[int, int]]:
    """Find where words begin and end.

    Parameters
    ----------
    text
        Any.
    words
        A regular expression; default: runs of letters and digits, with their accents and vowel signs, inner hyphens
        and apostrophes.

    Examples
    --------
    >>> from cerebridge.models.tokens import find_places
    >>> find_places("It's a well-known dog.")
    [(0, 4), (5, 6), (7, 17), (18, 21)]
    """
    if words is not None:
        return [match.span() for match in re.finditer(words, text)]
    # to Python's \w the signs that letters carry in Hindi, Hebrew or decomposed Latin end a word
    plain = text if text.isascii() else "".join(MARK if _is_mark(letter) else letter for letter in text)
    return [match.span() for match in re.finditer(WORD, plain)]


def _is_mark(letter: str) -> bool:
    return letter in JOINERS or unicodedata.category(letter) in ("Mn", "Mc")


def find_words(
    texts: Sequence[str], stimulus_ids: Sequence[Any], words: Table | str | None = None
) -> pd.DataFrame:
    """Find the words of texts.

    Parameters
    ----------
    texts
        One or several.
    stimulus_ids
        One a text.
    words
        A regular expression for a word (default: runs of letters and digits with inner hyphens and apostrophes),
        or a table with ``word``, ``stimulus_id`` (may be missing where there is one text), optionally ``start``
        and ``end`` in characters, ``onset`` and ``offset`` (or ``duration``) in seconds, and further columns, one row
        a word in the order of its text.

    Returns
    -------
    pandas.DataFrame
        One row a word, texts in their order: ``text`` (its number), ``word``, ``word_index``, ``start``, ``end``,
        and the other columns of the table.

    Raises
    ------
    ValueError
        If a word is not in its text, a column is missing, an onset is no time or places are not in the order of the
        text, naming the first.

    Warns
    -----
    UserWarning
        If the text says something else at the ``start`` and ``end`` of a word.

    Examples
    --------
    >>> from cerebridge.models.tokens import find_words
    >>> find_words(["It's a well-known dog."], ["a"])["word"].tolist()
    ["It's", 'a', 'well-known', 'dog']
    """
    if words is None or isinstance(words, str):
        rows = [
            (number, text[start:end], index, start, end)
            for number, text in enumerate(texts)
            for index, (start, end) in enumerate(find_places(text, words))
        ]
        return pd.DataFrame(rows, columns=["text", "word", "word_index", "start", "end"])
    table = _assigned(pd.DataFrame(words).reset_index(drop=True), list(stimulus_ids))
    _check_times(table)
    if {"start", "end"} <= set(table):
        _check_places(table, texts)
    else:
        table = _located(table, texts)
    table.insert(2, "word_index", table.groupby("text").cumcount())
    return table


def _assigned(table: pd.DataFrame, stimulus_ids: list[Any]) -> pd.DataFrame:
    """The table of words with the number of each word's text."""
    if "word" not in table:
        raise ValueError(f"the table of words has the columns {list(table)}, but 'word' is missing.")
    if "stimulus_id" not in table:
        if len(stimulus_ids) > 1:
            raise ValueError("the table of words has no 'stimulus_id', but there are several texts; add it.")
        table = table.assign(stimulus_id=stimulus_ids[0])
    numbers = table["stimulus_id"].map({name: number for number, name in enumerate(stimulus_ids)})
    if numbers.isna().any():
        row = int(numbers.isna().argmax())
        raise ValueError(
            f"row {row} of the table of words names the text {table['stimulus_id'].iloc[row]!r}, which is no stimulus."
        )
    table = table.drop(columns=["stimulus_id", "word_index", "text"], errors="ignore")
    table.insert(0, "text", numbers.astype(int))
    table.insert(1, "word", table.pop("word").astype(str))
    return table.sort_values("text", kind="stable", ignore_index=True)


def _check_times(table: pd.DataFrame) -> None:
    for column in ("onset", "offset", "duration"):
        if column in table:
            times = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
            wrong = np.flatnonzero(~np.isfinite(times))
            if wrong.size:
                word = table["word"].iloc[wrong[0]]
                given = quoted(table[column].iloc[wrong[0]])
                raise ValueError(f"the {column} of word {wrong[0]} ({word!r}) is {given}; give seconds.")
            table[column] = times
    if "onset" not in table or not {"offset", "duration"} & set(table):
        return
    if "offset" not in table:
        table["offset"] = table["onset"] + table["duration"]
    table["duration"] = table["offset"] - table["onset"]
    wrong = np.flatnonzero(table["duration"].to_numpy() < 0)
    if wrong.size:
        word, onset, offset = table.loc[wrong[0], ["word", "onset", "offset"]]
        raise ValueError(f"word {wrong[0]} ({word!r}) begins at {onset} s and ends before, at {offset} s.")


def _check_places(table: pd.DataFrame, texts: Sequence[str]) -> None:
    lengths = np.array([len(text) for text in texts])[table["text"].to_numpy()]
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    wrong = np.flatnonzero(~((start >= 0) & (start < end) & (end <= lengths)))
    if wrong.size:
        row = int(wrong[0])
        raise ValueError(
            f"word {row} ({table['word'].iloc[row]!r}) lies at characters {start[row]} to {end[row]} of a text of "
            f"{lengths[row]}; correct 'start' and 'end', or leave them out."
        )
    back = np.flatnonzero((np.diff(start) < 0) & (np.diff(table["text"]) == 0))
    if back.size:
        row = int(back[0]) + 1
        raise ValueError(
            f"word {row} ({table['word'].iloc[row]!r}) lies before the one above it (characters {start[row]} and "
            f"{start[row - 1]}); sort the table as its text goes."
        )
    said = [texts[k][a:b] for k, a, b in zip(table["text"], start.astype(int), end.astype(int), strict=True)]
    differ = [row for row, word in enumerate(table["word"]) if _letters(word) != _letters(said[row])]
    if differ:
        row = differ[0]
        warnings.warn(
            f"{len(differ)} of {len(table)} words are not what their text says at 'start' to 'end': word {row} is "
            f"{table['word'].iloc[row]!r}, the text says {said[row]!r}.",
            stacklevel=4,
        )
    table["start"], table["end"] = start.astype(int), end.astype(int)


def _letters(text: str) -> str:
    """What is compared: neither case nor punctuation."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalnum())


def _located(table: pd.DataFrame, texts: Sequence[str]) -> pd.DataFrame:
    """Look each word up in its text, after the one before."""
    places: list[tuple[int, int]] = []
    numbers, words = table["text"].tolist(), table["word"].tolist()
    for row, (number, word) in enumerate(zip(numbers, words, strict=True)):
        cursor = places[-1][1] if row and numbers[row - 1] == number else 0
        follower = words[row + 1] if row + 1 < len(words) and numbers[row + 1] == number else ""
        start = _find_whole(word, texts[number], cursor, follower)
        if start is None:
            raise ValueError(
                f"word {row} of the table, {word!r}, does not occur in its text after character {cursor}, or only "
                "inside of other words; correct it, or give 'start' and 'end'."
            )
        places.append((start, start + len(word)))
    table = table.drop(columns=["start", "end"], errors="ignore")
    table.insert(2, "start", [start for start, _ in places])
    table.insert(3, "end", [end for _, end in places])
    return table


def _find_whole(word: str, text: str, cursor: int, follower: str) -> int | None:
    """Where a word stands by itself: parts of words count where the parts before and behind are words of the table."""
    start = text.find(word, cursor) if word else -1
    while start >= 0:
        end = start + len(word)
        begins = start in (0, cursor) or not (_is_inner(text[start - 1]) and _is_inner(text[start]))
        ends = end == len(text) or not (_is_inner(text[end - 1]) and _is_inner(text[end]))
        if begins and (ends or (follower and text.startswith(follower, end))):
            return start
        start = text.find(word, start + 1)
    return None


def _is_inner(letter: str) -> bool:
    return letter.isalnum() or letter == "_" or _is_mark(letter)
