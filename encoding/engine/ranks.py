"""Ranks and rank correlation of many vectors at once, ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

#: places, and values, whose pairs are compared one by one; their counts fit a byte
BLOCK = 64
#: longer rows are first split by value, so that the table of blocks of places and values stays small
LONGEST = 1 << 14
#: elements worked on at once: so few that temporaries stay in the processor's cache, or enough to fill a GPU
CHUNK = {"cpu": 1 << 16, "cuda": 1 << 24}


def midranks(values: torch.Tensor) -> torch.Tensor:
    """Rank along the last axis from 1; equal values share the mean of their ranks.

    Parameters
    ----------
    values
        ``(..., n)``, without NaN.

    Returns
    -------
    torch.Tensor
        Same shape and dtype; exact up to n = 2²³ in float32.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import midranks
    >>> midranks(torch.tensor([0.3, 0.1, 0.3, 0.2])).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    flat = values.reshape(-1, values.shape[-1])
    ranks = torch.empty_like(flat)
    bits = (flat.shape[-1] - 1).bit_length()
    for some, out in zip(_parts(flat), _parts(ranks), strict=True):
        keys = _sorted_in_place(_keys(some, bits))
        alike = (keys[:, 1:] ^ keys[:, :-1]).bitwise_right_shift_(bits) == 0
        order = keys.bitwise_and_((1 << bits) - 1)
        place = torch.arange(1, flat.shape[-1] + 1, dtype=flat.dtype, device=flat.device)
        out.scatter_(-1, order, place.expand(some.shape))
        if bool(alike.any()):
            _share_ranks(some, out, order, alike)
    return ranks.view(values.shape)


def strict_ranks(values: torch.Tensor) -> torch.Tensor:
    """Rank along the last axis from 0 with ties broken, in both directions where there are any.

    Parameters
    ----------
    values
        ``(..., n)``, without NaN.

    Returns
    -------
    torch.Tensor
        ``(..., 1, n)`` integers where no row has ties. Else ``(..., 2, n)``: equal values in some order and in its
        opposite, so that anything antisymmetric in a tied pair cancels between the two.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import strict_ranks
    >>> sorted(strict_ranks(torch.tensor([0.3, 0.1, 0.3])).tolist())
    [[1, 0, 2], [2, 0, 1]]
    """
    ordered, order = _sorted(values)
    place = torch.arange(values.shape[-1], device=values.device).expand(values.shape)
    ranks = [place]
    if bool((ordered[..., 1:] == ordered[..., :-1]).any()):
        ranks.append(_tie_sums(ordered) - place)
    return torch.stack([torch.empty_like(order).scatter_(-1, order, rank) for rank in ranks], dim=-2)


def kendall_tau_a(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Kendall's tau-a of paired rows in O(n log n): concordant minus discordant pairs, over all pairs.

    A pair tied in either vector counts as neither, so a model that predicts ties is not favoured (Nili et al.,
    2014, PLoS Comput Biol). Averaged over both ways of breaking ties, such pairs cancel exactly.

    Parameters
    ----------
    x, y
        Rows ``(m, 1 or 2, n)`` from :func:`strict_ranks`; ``m`` may be 1 in one of them.

    Returns
    -------
    torch.Tensor
        ``(m,)`` in float64 (float32 on devices without it).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import kendall_tau_a, strict_ranks
    >>> ranks = strict_ranks(torch.tensor([[1.0, 2.0, 3.0]]))
    >>> kendall_tau_a(ranks, ranks.flip(-1)).tolist()
    [-1.0]
    """
    if x.shape[1] < y.shape[1]:
        x, y = y, x
    ways, n = y.shape[1:]
    bits = (n - 1).bit_length()
    word = torch.int32 if 2 * bits < 31 else torch.int64
    # in the order of x, and of y where x is tied: what is then in falling order is discordant, ties of x are not
    places = x.sum(dim=1, keepdim=True).to(word) << bits
    y = y.to(word)
    rows = max(len(x), len(y))
    places, y = places.expand(rows, -1, -1), y.expand(rows, -1, -1)
    step = max(1, CHUNK.get(x.device.type, 1 << 20) // (n * ways))
    counts = []
    for some_x, some_y in zip(torch.split(places, step), torch.split(y, step), strict=True):
        in_order = _sorted_in_place(some_x | some_y) & ((1 << bits) - 1)
        counts.append(inversions(in_order).sum(dim=-1))
    untied = untied_share(x)
    return untied - 4 * torch.cat(counts).to(untied.dtype) / (ways * n * (n - 1))


def untied_share(ranks: torch.Tensor) -> torch.Tensor:
    """Share of the pairs of values that are not tied; tau-b is tau-a over the root of both sides' shares.

    Parameters
    ----------
    ranks
        ``(m, 1 or 2, n)`` from :func:`strict_ranks`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import strict_ranks, untied_share
    >>> untied_share(strict_ranks(torch.tensor([[1.0, 1.0, 2.0, 3.0]]))).round(decimals=3).tolist()
    [0.833]
    """
    m, ways, n = ranks.shape
    precise = torch.float32 if ranks.device.type == "mps" else torch.float64
    if ways == 1:
        return torch.ones(m, dtype=precise, device=ranks.device)
    sums = ranks.sum(dim=1)
    counts = torch.zeros(m, 2 * n - 1, dtype=torch.int64, device=ranks.device)
    counts.scatter_add_(1, sums, torch.ones_like(sums))
    return 1 - (counts * (counts - 1)).sum(dim=1).to(precise) / (n * (n - 1))


def inversions(permutation: torch.Tensor) -> torch.Tensor:
    """Count the pairs of each row that are in falling order.

    Places and values are cut into blocks. Pairs within a block of places are compared, as are the places of values
    within a block of values; for all others a table of how many values of each block lie in each block of places is
    enough. Long rows are first split into their lower and their upper values, order kept, and so on: an inversion
    between the halves is a lower value that an upper one came before.

    Parameters
    ----------
    permutation
        ``(..., n)`` integers; each row holds 0 … n - 1 once.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import inversions
    >>> inversions(torch.tensor([[0, 1, 2], [2, 1, 0]])).tolist()
    [0, 3]
    """
    shape, n = permutation.shape[:-1], permutation.shape[-1]
    half, levels = n, 0
    while half > LONGEST:
        half, levels = -(-half // 2), levels + 1
    size = half << levels
    place = torch.arange(size, device=permutation.device)
    blocks = permutation.to(torch.int32).reshape(-1, 1, n)
    if size > n:
        padding = place[n:].to(torch.int32).expand(len(blocks), 1, -1)
        blocks = torch.cat([blocks, padding], dim=-1)
    count = torch.zeros(len(blocks), dtype=torch.int64, device=permutation.device)
    for level in reversed(range(levels)):
        width = half << level
        upper = blocks >= width
        before = upper.cumsum(dim=-1)
        target = torch.where(upper, before + (width - 1), place[: 2 * width] - before)
        count += before.masked_fill_(upper, 0).sum(dim=(-1, -2))
        split = torch.empty_like(blocks).scatter_(-1, target, blocks - width * upper.to(torch.int32))
        blocks = split.view(len(count), -1, width)
    return (count + _inversions_by_blocks(blocks.flatten(0, 1)).view(len(count), -1).sum(dim=-1)).reshape(
        shape
    )


def _inversions_by_blocks(rows: torch.Tensor) -> torch.Tensor:
    """Inversions of each row of at most :data:`LONGEST` values."""
    m, n = rows.shape
    block = min(BLOCK, n)
    size = -(-n // block) * block
    place = torch.arange(size, device=rows.device)
    values = torch.cat([rows.to(torch.int64), place[n:].expand(m, -1)], dim=-1)
    blocks = (place // block).expand(m, -1)
    places = torch.empty_like(values).scatter_(-1, values, blocks)
    within = _falling(values, block) + _falling(places, block)
    cells = blocks * (size // block) + blocks.gather(-1, values)
    table = torch.zeros(m, (size // block) ** 2, dtype=torch.int32, device=rows.device)
    table.scatter_add_(-1, cells, torch.ones((), dtype=torch.int32, device=rows.device).expand(cells.shape))
    table = table.view(m, size // block, size // block)
    earlier = table.cumsum(dim=-2, dtype=torch.int32) - table
    earlier_and_upper = earlier.sum(dim=-1, keepdim=True) - earlier.cumsum(dim=-1, dtype=torch.int32)
    return within + (table * earlier_and_upper).sum(dim=(-1, -2))


def _falling(rows: torch.Tensor, block: int) -> torch.Tensor:
    """Pairs in falling order within the blocks of each row; on the CPU numpy compares several times faster."""
    columns = rows.to(torch.int16).view(len(rows), -1, block).permute(2, 0, 1).contiguous()
    space: Any = np if rows.device.type == "cpu" else torch
    values: Any = columns.numpy() if space is np else columns
    count = space.zeros_like(values, dtype=space.uint8)
    for shift in range(1, block):
        count[shift:] += (values[:-shift] > values[shift:]).view(space.uint8)
    return torch.as_tensor(count).sum(dim=(0, 2))


def _sorted(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted rows and their order; on the CPU numpy's vectorised sort is several times faster than torch's."""
    if values.device.type == "cpu":
        order = torch.from_numpy(np.argsort(values.numpy(), axis=-1))
        return values.gather(-1, order), order
    ordered, order = values.sort(dim=-1)
    return ordered, order


def _sorted_in_place(values: torch.Tensor) -> torch.Tensor:
    if values.device.type == "cpu":
        values.numpy().sort(axis=-1)
        return values
    return values.sort(dim=-1).values


def _keys(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Integers in the order of the values, cut short by ``bits`` that hold the place of the value in its row.

    Integers sort several times faster than values that take their places along.
    """
    # adding zero turns the negative zero, which is no smaller than zero, into it
    if values.dtype == torch.float32:
        short = (values + 0.0).view(torch.int32)
        short ^= (short >> 31).bitwise_and_(torch.iinfo(torch.int32).max)
        keys = short.to(torch.int64) << 32
    else:
        keys = (values.double() + 0.0).view(torch.int64)
        keys ^= (keys >> 63).bitwise_and_(torch.iinfo(torch.int64).max)
        keys &= -1 << bits
    keys |= torch.arange(values.shape[-1], device=values.device)
    return keys


def _share_ranks(values: torch.Tensor, ranks: torch.Tensor, order: torch.Tensor, alike: torch.Tensor) -> None:
    """Set the ranks of values whose keys are equal but for the place: exact order, and the mean rank of ties.

    Parameters
    ----------
    values, ranks
        ``(m, n)``; ranks are changed in place.
    order
        Places of the values in the order of their keys.
    alike
        ``(m, n - 1)``: whether neighbours in that order have such keys.
    """
    edge = torch.zeros_like(alike[:, :1])
    follows = torch.cat([edge, alike], dim=-1)
    row, at = (follows | torch.cat([alike, edge], dim=-1)).nonzero(as_tuple=True)
    places, runs = order[row, at], (~follows[row, at]).cumsum(dim=0)
    some = values[row, places]
    if bool(((some[1:] < some[:-1]) & (runs[1:] == runs[:-1])).any()):
        by_value = some.argsort()
        exact = by_value[runs[by_value].argsort(stable=True)]
        places, some = places[exact], some[exact]
    starts = torch.ones_like(runs, dtype=torch.bool)
    starts[1:] = (runs[1:] != runs[:-1]) | (some[1:] != some[:-1])
    first = starts.nonzero().squeeze(-1)
    lengths = torch.diff(first, append=first.new_full((1,), len(starts)))
    shared = (at[first] + 1).to(ranks.dtype) + (lengths - 1).to(ranks.dtype) / 2
    ranks[row, places] = torch.repeat_interleave(shared, lengths)


def _tie_sums(ordered: torch.Tensor) -> torch.Tensor:
    """First plus last place, from 0, of the run of equal values at every place of sorted rows."""
    n = ordered.shape[-1]
    starts = torch.ones(ordered.shape, dtype=torch.bool, device=ordered.device)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    first = starts.flatten().nonzero().squeeze(-1)
    lengths = torch.diff(first, append=first.new_full((1,), ordered.numel()))
    return torch.repeat_interleave(2 * (first % n) + lengths - 1, lengths).view(ordered.shape)


def _parts(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Views of a few rows each."""
    step = max(1, CHUNK.get(rows.device.type, 1 << 20) // max(1, rows.shape[-1]))
    return tuple(rows[start : start + step] for start in range(0, len(rows), step))
