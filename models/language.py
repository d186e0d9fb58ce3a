"""Network × texts → activations of words, tokens or texts, each with its place in text and time."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from .. import __version__
from ..neuro.assembly import Table
from ..neuro.progress import track
from ..neuro.store import ShardWriter
from ..neuro.store import load as load_array
from .collecting import MemoryWriter, Writer, check_finite
from .devices import resolve_device
from .limits import refuse_full_disk, refuse_large_result, resolve_batch_size, resolve_kept_type
from .loading import describe_network
from .memory import LABEL_BYTES, LiveBytes, Plan, keep_freed_memory, parse_bytes, plan_batches
from .passages import Overflow, Passage, Reading, ReadingPlan, Unit
from .stimuli import StimulusSet
from .taps import Inputs, LayerTaps, evaluating
from .tokens import limit_of, resolve_tokenizer, tokenizer_of
from .trials import warn_of_training
from .zoo import fingerprint

Aggregate = Literal["last", "first", "mean", "sum"]
#: copies of the longest text in the trial run
PROBE = 2


def extract_text(
    net: nn.Module,
    stimuli: StimulusSet,
    layers: Sequence[str],
    *,
    unit: Unit = "word",
    tokenizer: Any = None,
    words: Table | str | None = None,
    aggregate: Aggregate = "last",
    context: int | Literal["text"] = "text",
    stride: int = 1,
    special_tokens: bool = False,
    max_length: int | None = None,
    overflow: Overflow = "error",
    store: str | Path | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    batch_size: int | Literal["auto"] = "auto",
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Extract what the layers of a language network hold at each word, each token, or of each text.

    Passages of one length share a batch, so that nothing is padded and no value depends on what else is read.

    Parameters
    ----------
    net
        A network that takes ids of tokens (stimuli × tokens, by the name ``input_ids`` if it has it) and whose
        layers give stimuli × tokens × features. Of an encoder-decoder give one half.
    stimuli
        Texts: ``StimulusSet.from_texts``.
    layers
        As for :func:`extract`, such as ``"embeddings"``, ``"encoder.layer.3"``. With ``unit="text"`` also layers that
        give one vector a text.
    unit
        Rows of the result: ``"word"``, ``"token"`` or ``"text"``.
    tokenizer
        A fast tokenizer of transformers, a ``tokenizers.Tokenizer``, or a function from a text to ids and their
        (start, end) in characters. Default: ``net.tokenizer``, or the one in the folder of a network of transformers.
    words
        What the words are: a regular expression (default: letters and digits with inner hyphens and apostrophes;
        ``r"\\S+"`` takes whatever stands between blanks), or a table with ``word``, ``stimulus_id`` (if there are
        several texts), where known ``start`` and ``end`` in characters, ``onset`` and ``offset`` (or ``duration``) in
        seconds, and further columns. Words are matched to the tokens that reach into them.
    aggregate
        From the tokens of a word (or text) to one value: the ``"last"`` or ``"first"``, their ``"mean"`` or ``"sum"``.
    context
        ``"text"`` reads each text at once; a network that looks both ways then sees what follows a word, too. A
        number reads windows: so many rows (words, or tokens) before the one that is kept.
    stride
        Rows kept of each window; above 1 fewer windows are read, and rows see up to ``stride - 1`` more before them
        (and, where the network looks both ways, after them).
    special_tokens
        Whether the tokens that the tokenizer adds count: as rows (``unit="token"``) or in the aggregate
        (``unit="text"``). The network reads them in any case.
    max_length
        Tokens that the network takes at once, special ones included; default: as the tokenizer or network says.
    overflow
        ``"error"`` refuses longer texts and windows; ``"cut"`` cuts texts at their end and windows at their
        beginning, and warns of what is lost.
    store, dtype, batch_size, memory, device, progress
        As for :func:`extract`; ``batch_size`` counts passages.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``: presentations carry the columns of ``stimuli.table`` and ``word``,
        ``word_index``, ``start``, ``end`` (characters of the text), and all columns of the table of words; tokens
        also ``token``, ``token_index``, ``token_id``; texts ``n_tokens``.

    Raises
    ------
    ValueError
        Naming the text, word, layer or option that is wrong.
    OSError
        If the disk is, or would be, too full; complete shards stay.

    Warns
    -----
    UserWarning
        If the network was given in training mode and behaves otherwise in evaluation mode, or texts are cut.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> from cerebridge.models.tokens import find_words
    >>> def tokenizer(text):
    ...     words = find_words([text], [0])
    ...     return [len(word) for word in words["word"]], words[["start", "end"]].to_numpy()
    >>> net = torch.nn.Sequential(torch.nn.Embedding(20, 8), torch.nn.Linear(8, 4))
    >>> stimuli = models.StimulusSet.from_texts(["The dog barks.", "A cat sleeps on it."])
    >>> activations = models.extract_text(net, stimuli, ["0", "1"], tokenizer=tokenizer)
    >>> activations.shape, activations["word"].values[:4].tolist()
    ((8, 12), ['The', 'dog', 'barks', 'A'])
    """
    _check_options(stimuli, unit, aggregate, context, stride, special_tokens, overflow)
    tokenizer = tokenizer_of(net) if tokenizer is None else tokenizer
    limit, window = limit_of(tokenizer, net, max_length), None if context == "text" else context
    tokenize = resolve_tokenizer(tokenizer)
    plan = ReadingPlan(tokenize, unit, words, special_tokens, window, stride, limit, overflow)
    taps = LayerTaps(net, [layers] if isinstance(layers, str) else list(layers))
    where = resolve_device(device)
    job = _TextExtraction(
        taps, plan.read(stimuli), unit, aggregate, resolve_kept_type(dtype), where, progress
    )
    warn_of_training(net)
    facts = {
        "network": type(net).__name__,
        "weights": fingerprint(net),
        "layers": taps.layers,
        "unit": unit,
        "aggregate": aggregate,
        "context": context,
        "stride": stride,
        "special_tokens": special_tokens,
        "dtype": dtype,
    }
    run = {"tokenizer": type(tokenizer).__name__, "stimuli": stimuli.hash, "device": where.type}
    versions = {"torch": torch.__version__, "cerebridge": __version__}
    provenance = json.dumps({**describe_network(net), **facts, **run, **versions})
    return job.extract(store, facts, provenance, parse_bytes(memory), resolve_batch_size(batch_size))


@dataclass(frozen=True)
class _TextExtraction:
    """One network over the passages of texts."""

    taps: LayerTaps
    reading: Reading
    unit: Unit
    aggregate: Aggregate
    dtype: torch.dtype
    device: torch.device
    progress: bool | None

    def extract(
        self,
        store: str | Path | None,
        facts: dict[str, Any],
        provenance: str,
        budget: int,
        batch_size: int | None,
    ) -> xr.DataArray:
        """Read all passages, to memory or to a folder."""
        table, n_rows = self.reading.table, len(self.reading.table)
        with evaluating(self.taps.net, self.device):
            shapes, plan = self.try_out(budget, batch_size)
            row_bytes = self.row_bytes(shapes)
            if store is None:
                refuse_large_result(n_rows * row_bytes, budget)
                dtype = np.dtype(str(self.dtype).removeprefix("torch."))
                kept = MemoryWriter(n_rows, shapes, dtype)
                self.run(kept, shapes, plan, batch_size)
                return kept.array(table, provenance)
            with ShardWriter(store, facts, n_rows, keys=self.reading.keys()) as writer:
                refuse_full_disk(Path(store), (n_rows - len(writer.done)) * row_bytes)
                self.run(writer, shapes, plan, batch_size)
                writer.close(table, provenance=provenance)
        return load_array(store)

    def try_out(self, budget: int, batch_size: int | None) -> tuple[dict[str, tuple[int, ...]], Plan]:
        """Read the longest passage twice over: the shape of each layer's features, and a plan within the budget."""
        longest = max(self.reading.passages, key=self.reading.length)
        inputs = self._inputs([longest] * PROBE)
        shapes: dict[str, tuple[int, ...]] = {}

        def receive(layer: str, output: Tensor) -> None:
            rows = self._rows(layer, output, [longest] * PROBE)
            shapes[layer] = tuple(rows.shape[1:]) or (1,)

        try:
            self.taps.check(inputs)
            with LiveBytes() as live:
                self.taps.run(inputs, receive)
        except (RuntimeError, TypeError, IndexError) as error:
            name = self.reading.table["stimulus_id"].iloc[longest.rows.start]
            raise ValueError(
                f"the network fails on the tokens of the text {name!r} ({str(error).partition(chr(10))[0]}); give the "
                "tokenizer that belongs to it, and of an encoder-decoder one half."
            ) from None
        ordered = {layer: shapes[layer] for layer in self.taps.layers}
        most_rows = max(len(passage.rows) for passage in self.reading.passages)
        plan = plan_batches(
            forward=live.peak / PROBE,
            inputs=16 * self.reading.length(longest),
            outputs=most_rows * self.row_bytes(ordered),
            labels=LABEL_BYTES * sum(map(math.prod, ordered.values())),
            memory=budget,
            batch_size=batch_size,
            device=self.device,
        )
        return ordered, plan

    def row_bytes(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """Bytes of one row of the result."""
        return self.dtype.itemsize * sum(map(math.prod, shapes.values()))

    def run(
        self, writer: Writer, shapes: dict[str, tuple[int, ...]], plan: Plan, batch_size: int | None
    ) -> None:
        """Extract the rows that the writer lacks, block by block."""
        keep_freed_memory()
        reading, done = self.reading, writer.done
        todo = [passage for passage in reading.passages if not done.issuperset(passage.rows)]
        most_rows = plan.shard_rows * max(len(passage.rows) for passage in reading.passages)
        most_tokens = plan.batch_size * max(map(reading.length, reading.passages))
        steps = [
            (range(block[0].rows.start, block[-1].rows.stop), batch)
            for block in _blocks(todo, most_rows)
            for batch in _batches(block, reading.length, most_tokens, batch_size)
        ]
        names = reading.table["stimulus_id"].tolist()
        shown = track(steps, "extracting", show=self.progress)
        for rows, batches in groupby(shown, key=itemgetter(0)):
            values = {
                layer: torch.empty((len(rows), *shape), dtype=self.dtype) for layer, shape in shapes.items()
            }
            for _, batch in batches:
                self._read(batch, values, rows.start)
            for layer, each in values.items():
                check_finite(layer, each, rows, names)
            for stretch in _stretches([row for row in rows if row not in done]):
                part = slice(stretch.start - rows.start, stretch.stop - rows.start)
                writer.write(stretch.start, {layer: each[part].numpy() for layer, each in values.items()})

    def _read(self, passages: Sequence[Passage], values: dict[str, Tensor], first: int) -> None:
        """Run one batch and put its rows, counted from ``first`` on, to their places."""
        targets = torch.tensor([row - first for passage in passages for row in passage.rows])

        def receive(layer: str, output: Tensor) -> None:
            place = values[layer]
            rows = self._rows(layer, output, passages)
            place[targets] = rows.reshape(len(targets), *place.shape[1:]).to("cpu", self.dtype)

        self.taps.run(self._inputs(passages), receive)

    def _inputs(self, passages: Sequence[Passage]) -> Inputs:
        ids = torch.from_numpy(np.stack([self.reading.ids(passage) for passage in passages])).to(self.device)
        taken = inspect.signature(self.taps.net.forward).parameters
        if "input_ids" not in taken:
            return ids
        named = {"input_ids": ids}
        return named | ({"attention_mask": torch.ones_like(ids)} if "attention_mask" in taken else {})

    def _rows(self, layer: str, output: Tensor, passages: Sequence[Passage]) -> Tensor:
        """One value a row from the values of all tokens (passages × tokens × features)."""
        if self.unit == "text" and output.ndim == 2:
            return output
        length = self.reading.length(passages[0])
        if output.ndim < 3 or output.shape[1] != length:
            hint = "" if self.unit == "text" else ", or unit='text' if it describes whole texts"
            raise ValueError(
                f"the layer {layer!r} gives the shape {tuple(output.shape)}, not one value for each of {length} "
                f"tokens; choose another layer{hint}."
            )
        places = [(k, at) for k, passage in enumerate(passages) for at in self.reading.positions(passage)]
        if self.aggregate in ("last", "first"):
            end = -1 if self.aggregate == "last" else 0
            return output[[k for k, _ in places], [int(at[end]) for _, at in places]]
        home = output.device
        counts = torch.tensor([len(at) for _, at in places]).to(home)
        which = torch.repeat_interleave(torch.tensor([k for k, _ in places]).to(home), counts)
        tokens = output[which, torch.from_numpy(np.concatenate([at for _, at in places])).to(home)]
        summed = torch.zeros(
            (len(places), *output.shape[2:]),
            dtype=torch.promote_types(output.dtype, torch.float32),
            device=home,
        )
        rows = torch.repeat_interleave(torch.arange(len(places), device=home), counts)
        summed.index_add_(0, rows, tokens.to(summed.dtype))
        if self.aggregate == "sum":
            return summed
        return summed / counts.reshape(-1, *[1] * (output.ndim - 2))


def _blocks(passages: Sequence[Passage], most_rows: int) -> Iterator[list[Passage]]:
    """Passages whose rows follow each other, so many at a time that their rows fit a shard."""
    block: list[Passage] = []
    for passage in passages:
        follows = bool(block) and block[-1].rows.stop == passage.rows.start
        if block and not (follows and passage.rows.stop - block[0].rows.start <= most_rows):
            yield block
            block = []
        block.append(passage)
    if block:
        yield block


def _batches(
    block: Sequence[Passage], length: Callable[[Passage], int], most_tokens: int, size: int | None
) -> Iterator[list[Passage]]:
    """Batches of passages of one length."""
    for n_tokens, alike in groupby(sorted(block, key=length), key=length):
        group = list(alike)
        step = size or max(1, most_tokens // n_tokens)
        yield from (group[start : start + step] for start in range(0, len(group), step))


def _stretches(rows: Sequence[int]) -> list[range]:
    """Rows as runs without gaps."""
    ends = [k for k in range(1, len(rows)) if rows[k] != rows[k - 1] + 1]
    return [range(rows[a], rows[b - 1] + 1) for a, b in zip([0, *ends], [*ends, len(rows)], strict=True)]


def _check_options(
    stimuli: StimulusSet,
    unit: Any,
    aggregate: Any,
    context: Any,
    stride: Any,
    special_tokens: bool,
    overflow: Any,
) -> None:
    for name, value, known in (
        ("unit", unit, ("word", "token", "text")),
        ("aggregate", aggregate, ("last", "first", "mean", "sum")),
        ("overflow", overflow, ("error", "cut")),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; use one of {', '.join(map(repr, known))}.")
    if stimuli.medium.name != "text":
        raise ValueError(f"the stimuli are {stimuli.medium.name}s, not texts; use StimulusSet.from_texts.")
    windowed = context != "text"
    if windowed and (isinstance(context, bool) or not isinstance(context, int) or context < 0):
        raise ValueError(f"context is {context!r}; give 'text' or a number of words or tokens before each.")
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1 or (stride > 1 and not windowed):
        raise ValueError(f"stride is {stride!r}; give how many rows each window of context= keeps.")
    if windowed and (unit == "text" or special_tokens):
        what = "unit='text'" if unit == "text" else "special_tokens=True"
        raise ValueError(f"{what} needs whole texts, but context is {context}; give context='text'.")
    if special_tokens and unit == "word":
        raise ValueError("special tokens belong to no word; use unit='token' or unit='text'.")
