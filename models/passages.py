"""How texts are cut into what a network reads at once, and which rows of the result each cut gives."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..neuro.assembly import Table
from .stimuli import StimulusSet
from .tokens import Tokens, find_places, find_words

Unit = Literal["word", "token", "text"]
Overflow = Literal["error", "cut"]


@dataclass(frozen=True)
class Passage:
    """A stretch of a text that is read at once: tokens from ``start`` to ``stop``, and the rows it gives."""

    text: int
    start: int
    stop: int
    rows: range


@dataclass(frozen=True)
class Reading:
    """Texts in tokens, the rows of the result with their labels and tokens, and the passages that give them."""

    tokens: list[Tokens]
    table: pd.DataFrame
    spans: list[NDArray[np.intp]]
    passages: list[Passage]

    def ids(self, passage: Passage) -> NDArray[np.int64]:
        """What the network takes: the stretch between the special tokens of the whole text."""
        tokens = self.tokens[passage.text]
        own = tokens.content
        parts = tokens.ids[: own.start], tokens.ids[passage.start : passage.stop], tokens.ids[own.stop :]
        return np.concatenate(parts)

    def positions(self, passage: Passage) -> list[NDArray[np.intp]]:
        """For each row of a passage the positions of its tokens in :meth:`ids`."""
        own = self.tokens[passage.text].content
        shift, behind = own.start - passage.start, passage.stop - passage.start + own.start - own.stop
        return [
            np.where(span < own.start, span, np.where(span >= own.stop, span + behind, span + shift))
            for span in self.spans[passage.rows.start : passage.rows.stop]
        ]

    def length(self, passage: Passage) -> int:
        """How many tokens the network takes."""
        tokens = self.tokens[passage.text]
        return len(tokens.ids) - len(tokens.content) + passage.stop - passage.start

    def keys(self) -> list[str]:
        """For each row a hash of all that its values depend on, beside the network."""
        keys = []
        for passage in self.passages:
            ids = self.ids(passage).tobytes()
            for position in self.positions(passage):
                keys.append(hashlib.sha256(ids + b"|" + position.tobytes()).hexdigest()[:32])
        return keys


@dataclass(frozen=True)
class ReadingPlan:
    """How texts are read; see :func:`cerebridge.models.extract_text` for what the options mean."""

    tokenize: Callable[[str], Tokens]
    unit: Unit
    words: Table | str | None
    special_tokens: bool
    context: int | None
    stride: int
    limit: int | None
    overflow: Overflow

    def read(self, stimuli: StimulusSet) -> Reading:
        """Cut all texts.

        Raises
        ------
        ValueError
            Naming the first text without words or tokens, or with too many.
        """
        texts, names = list(stimuli), stimuli.table["stimulus_id"].tolist()
        tokens = [self.tokenize(text) for text in texts]
        empty = next((name for name, each in zip(names, tokens, strict=True) if not each.content), None)
        if empty is not None:
            raise ValueError(f"the text {empty!r} becomes no token; leave it out.")
        words = None if self.unit == "text" else find_words(texts, names, self.words)
        words_of = {} if words is None else dict(tuple(words.groupby("text")))
        rows: list[dict[str, Any]] = []
        spans: list[NDArray[np.intp]] = []
        passages: list[Passage] = []
        cuts: list[str] = []
        for number, (text, name, each) in enumerate(zip(texts, names, tokens, strict=True)):
            own = None if words is None else words_of.get(number, words.iloc[:0]).drop(columns="text")
            labels, own_spans = self._rows(text, name, each, own)
            if self.context is None:
                stop = self._stop(each, name, text, cuts)
                labels, own_spans = self._kept(labels, own_spans, each, stop)
                rows_here = range(len(spans), len(spans) + len(labels))
                cut = [Passage(number, each.content.start, stop, rows_here)] if labels else []
            else:
                cut = self._windows(number, each, own_spans, len(spans), name, labels, cuts)
            rows += [{"text": number, **label} for label in labels]
            spans += own_spans
            passages += cut
        if cuts:
            listed = "; ".join(cuts[:3]) + ("; …" if len(cuts) > 3 else "")
            warnings.warn(f"beyond {self.limit} tokens all is cut: {listed}.", stacklevel=3)
        if not passages:
            raise ValueError(
                f"of no text a whole word remains within {self.limit} tokens; raise max_length=."
            )
        return Reading(tokens, _labelled(pd.DataFrame(rows), stimuli.table), spans, passages)

    def _rows(
        self, text: str, name: Any, tokens: Tokens, words: pd.DataFrame | None
    ) -> tuple[list[dict[str, Any]], list[NDArray[np.intp]]]:
        """Labels of one text's rows, and the numbers of their tokens."""
        counted = np.arange(len(tokens.ids)) if self.special_tokens else np.flatnonzero(~tokens.special)
        if self.unit == "text" or words is None:
            return [{"n_tokens": len(counted)}], [counted]
        if words.empty:
            raise ValueError(
                f"the text {name!r} holds no word; leave it out, or say what a word is by words=."
            )
        spans = [tokens.within(a, b) for a, b in zip(words["start"], words["end"], strict=True)]
        labels = [{str(key): value for key, value in row.items()} for row in words.to_dict("records")]
        for label, span in zip(labels, spans, strict=True):
            if not span.size:
                raise ValueError(
                    f"the word {label['word']!r} of the text {name!r} becomes no token; drop it."
                )
        if self.unit == "word":
            return labels, spans
        none = {key: _missing(value) for key, value in labels[0].items()} | {"word": "", "word_index": -1}
        word_of = {int(token): label for label, span in zip(labels, spans, strict=True) for token in span}
        token_labels = []
        for index, token in enumerate(counted):
            start, end = int(tokens.starts[token]), int(tokens.ends[token])
            place = {"token": text[start:end], "token_index": index, "token_id": int(tokens.ids[token])}
            token_labels.append({**place, **word_of.get(int(token), none), "start": start, "end": end})
        return token_labels, [np.array([token]) for token in counted]

    def _stop(self, tokens: Tokens, name: Any, text: str, cuts: list[str]) -> int:
        """Where a text ends for the network."""
        own = tokens.content
        special = len(tokens.ids) - len(own)
        if self.limit is None or len(tokens.ids) <= self.limit:
            return own.stop
        stop = own.start + self.limit - special
        if stop <= own.start:
            raise ValueError(
                f"max_length is {self.limit}, which the {special} special tokens of a text fill."
            )
        place = int(tokens.starts[stop])
        start, end = next(((a, b) for a, b in find_places(text) if b > place), (place, len(text)))
        word = text[start:end]
        if self.overflow == "error":
            raise ValueError(
                f"the text {name!r} has {len(tokens.ids)} tokens, but the network takes {self.limit}: it would be cut "
                f"from {word!r} (character {start}) on; read windows (context=), split it, or give overflow='cut'."
            )
        cuts.append(f"{name!r} loses {own.stop - stop} of {len(tokens.ids)} tokens, from {word!r} on")
        return stop

    def _kept(
        self, labels: list[dict[str, Any]], spans: list[NDArray[np.intp]], tokens: Tokens, stop: int
    ) -> tuple[list[dict[str, Any]], list[NDArray[np.intp]]]:
        """What remains of a text's rows when it ends at ``stop``: words that are whole."""
        own = tokens.content
        if stop == own.stop:
            return labels, spans
        remaining = [span[(span < stop) | (span >= own.stop)] for span in spans]
        if self.unit == "text":
            return [{"n_tokens": len(remaining[0])}], remaining
        whole = [k for k, (was, now) in enumerate(zip(spans, remaining, strict=True)) if len(was) == len(now)]
        return [labels[k] for k in whole], [spans[k] for k in whole]

    def _windows(
        self,
        number: int,
        tokens: Tokens,
        spans: Sequence[NDArray[np.intp]],
        first_row: int,
        name: Any,
        labels: Sequence[dict[str, Any]],
        cuts: list[str],
    ) -> list[Passage]:
        """Windows of one text: so many rows of context, then ``stride`` rows that are kept."""
        own, passages = tokens.content, []
        special = len(tokens.ids) - len(own)
        for begin in range(0, len(spans), self.stride):
            end = min(begin + self.stride, len(spans))
            earliest = begin - (self.context or 0)
            start = own.start if earliest <= 0 else int(spans[earliest].min())
            stop = int(max(span.max() for span in spans[begin:end])) + 1
            length = special + stop - start
            if self.limit is not None and length > self.limit:
                what = f"the window before {labels[begin].get('word')!r} in the text {name!r}"
                least = special + stop - int(min(span.min() for span in spans[begin:end]))
                if self.overflow == "error" or least > self.limit:
                    raise ValueError(
                        f"{what} has {length} tokens, but the network takes {self.limit}; lower context= or "
                        "stride=, or give overflow='cut', which leaves out what lies furthest back."
                    )
                cuts.append(f"{what} loses its first {length - self.limit} of {length} tokens")
                start += length - self.limit
            passages.append(Passage(number, start, stop, range(first_row + begin, first_row + end)))
        return passages


def _missing(value: Any) -> Any:
    return "" if isinstance(value, str) else np.nan


def _labelled(rows: pd.DataFrame, stimuli: pd.DataFrame) -> pd.DataFrame:
    """The labels of the rows beside those of their texts."""
    texts = stimuli.iloc[rows.pop("text").to_numpy()].reset_index(drop=True)
    both = [column for column in rows if column in texts]
    if both:
        raise ValueError(
            f"the column {both[0]!r} is in the stimulus table and names a property of words; rename it."
        )
    return pd.concat([texts, rows.reset_index(drop=True)], axis=1)
