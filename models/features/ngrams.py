"""Next-word probabilities from counts: the language model that needs no network."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..tokens import find_places

Corpus: TypeAlias = str | Sequence[str] | Sequence[Sequence[str]]


def cut_words(corpus: Corpus) -> list[list[str]]:
    """Cut a corpus into the words of its texts.

    Parameters
    ----------
    corpus
        A text; several texts; words in order, of one text; or a list of lists of words. Strings of which any holds
        white space are texts, and are cut as :func:`surprisal` does by default.

    Raises
    ------
    ValueError
        If it holds no words.

    Examples
    --------
    >>> from cerebridge.models.features.ngrams import cut_words
    >>> cut_words(["a dog, a cat", "dogs"]), cut_words(["a", "dog"])
    ([['a', 'dog', 'a', 'cat'], ['dogs']], [['a', 'dog']])
    """
    parts = [corpus] if isinstance(corpus, str) else list(corpus)
    if all(isinstance(part, str) for part in parts):
        strings = [str(part) for part in parts]
        is_text = isinstance(corpus, str) or any(len(part.split()) > 1 for part in strings)
        texts = [[part[a:b] for a, b in find_places(part)] for part in strings] if is_text else [strings]
    else:
        texts = [[str(word) for word in part] for part in parts]
    if not any(texts):
        raise ValueError("the corpus holds no words; give some.")
    return texts


def hash_texts(texts: Sequence[Sequence[str]]) -> str:
    """Hash words, texts and their order.

    Examples
    --------
    >>> from cerebridge.models.features.ngrams import hash_texts
    >>> hash_texts([["a", "dog"]]) == hash_texts([["a"], ["dog"]])
    False
    """
    digest = hashlib.sha256()
    for text in texts:
        digest.update("\0".join(text).encode() + b"\n\0")
    return digest.hexdigest()[:8]


class NGram:
    """An n-gram model with Witten–Bell smoothing: contexts that led to many different words are trusted less.

    The probability of a word after a context mixes its share there with its probability after a shorter context
    (Witten & Bell 1991), down to equal shares of all known words and one for all unknown ones.

    Parameters
    ----------
    corpus
        What is counted: as of :func:`cut_words`.
    order
        Words of the longest n-gram: 3 sees two words back.

    Raises
    ------
    ValueError
        If the corpus has no words or ``order`` is not positive.

    Examples
    --------
    >>> from cerebridge.models.features.ngrams import NGram
    >>> model = NGram("the cat saw the dog and the cat ran".split(), order=2)
    >>> model.probability("cat", ["the"]) > model.probability("dog", ["the"]) > model.probability("ran", ["the"])
    True
    """

    def __init__(self, corpus: Corpus, order: int = 3) -> None:
        if order < 1:
            raise ValueError(f"order is {order}; give a positive number of words.")
        self.order = order
        #: how often each word followed each context
        self.counts: dict[tuple[str, ...], Counter[str]] = {}
        texts = cut_words(corpus)
        self._hash = hash_texts(texts)
        for text in texts:
            for at, word in enumerate(text):
                for length in range(min(order, at + 1)):
                    context = tuple(text[at - length : at])
                    self.counts.setdefault(context, Counter())[word] += 1
        self._totals = {context: sum(found.values()) for context, found in self.counts.items()}

    def __repr__(self) -> str:
        """Say what was counted."""
        return f"NGram(order={self.order}, {self._totals[()]} words, hash {self._hash})"

    @property
    def vocabulary(self) -> list[str]:
        """The words that were seen, sorted."""
        return sorted(self.counts[()])

    def probability(self, word: str, before: Sequence[str] = ()) -> float:
        """How probable a word is after the words before it, of which the last ``order - 1`` count.

        Examples
        --------
        >>> from cerebridge.models.features.ngrams import NGram
        >>> model = NGram("a b a c".split(), order=2)
        >>> round(sum(model.probability(word, ["a"]) for word in ("a", "b", "c", "something new")), 9)
        1.0
        """
        probability = 1 / (len(self.counts[()]) + 1)
        for length in range(self.order):
            context = tuple(before[len(before) - length :])
            if len(context) < length or context not in self.counts:
                break
            kinds = len(self.counts[context])
            seen = self.counts[context][word]
            probability = (seen + kinds * probability) / (self._totals[context] + kinds)
        return probability

    def surprisal(self, words: Sequence[str]) -> NDArray[np.float64]:
        """Bits of each word of a text, given those before it.

        Examples
        --------
        >>> from cerebridge.models.features.ngrams import NGram
        >>> NGram(["a"] * 999, order=1).surprisal(["a"]).round(2).tolist()
        [0.0]
        """
        words = list(words)
        first = [max(0, at - self.order + 1) for at in range(len(words))]
        return np.array(
            [
                -np.log2(self.probability(w, words[k:at]))
                for at, (w, k) in enumerate(zip(words, first, strict=True))
            ]
        )
