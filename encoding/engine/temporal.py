"""Penalised regression on delayed series, from moments of runs alone: any penalty along lags, bands, every target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import torch

from .lagged import Edges, Lagged, window
from .moments import Split, is_partition
from .scoring import Scoring, pearsonr_from_sums, r2_from_sums
from .spectral import choose, spectrum

#: numbers of all parts' moments up to which they are made once and kept
KEPT = 1 << 26


@dataclass(frozen=True)
class Penalty:
    """Penalties to choose from, one for every target.

    Parameters
    ----------
    along_lags
        What a unit penalty is along the lags of each feature, ``(length, length)``.
    alphas
        Strengths, ``(alphas,)``.
    scales
        What features are multiplied by, ``(candidates, features)``: each candidate is tried with each strength.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.temporal import Penalty
    >>> len(Penalty(torch.eye(3), torch.tensor([1.0, 2.0]), torch.ones(1, 4)))
    2
    """

    along_lags: torch.Tensor
    alphas: torch.Tensor
    scales: torch.Tensor

    def __len__(self) -> int:
        return len(self.scales) * len(self.alphas)

    def solvers(self, gram: torch.Tensor) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
        """For every candidate and strength what takes products ``(features, targets)`` to weights."""
        for scale in self.scales:
            whole = scale.repeat(len(self.along_lags))
            scaled = gram if bool((whole == 1).all()) else gram * whole * whole[:, None]
            for alpha in self.alphas:
                yield partial(self._solve, scaled, whole[:, None], alpha)

    def fit(self, moments: Lagged, chosen: torch.Tensor) -> torch.Tensor:
        """Weights ``(length · features, targets)`` at the penalty that was chosen for each target."""
        weights = moments.cross.products.new_zeros(moments.cross.products.shape[::-1])
        for position, weigh in enumerate(self.solvers(moments.gram.products)):
            here = chosen == position
            if bool(here.any()):
                weights[:, here] = weigh(moments.cross.products[here].T)
        return weights

    def _solve(
        self, scaled: torch.Tensor, scale: torch.Tensor, alpha: torch.Tensor, products: torch.Tensor
    ) -> torch.Tensor:
        length, p = len(self.along_lags), self.scales.shape[1]
        matrix = scaled.clone()
        of_one_feature = matrix.view(length, p, length, p).diagonal(dim1=1, dim2=3)
        of_one_feature.add_(alpha * self.along_lags[:, :, None])
        return scale * solve(matrix, scale * products)


@dataclass(frozen=True)
class Recording:
    """Series of several runs, of any stretch of which there are moments; no lag crosses from one run to another.

    Parameters
    ----------
    features, targets
        ``(samples, features)`` and ``(samples, targets)``.
    runs
        Number of the run of every sample, ascending.
    first, length, edges
        As in :func:`~cerebridge.encoding.engine.lagged.window`.
    fit_intercept
        Whether fits have an unpenalised intercept.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.temporal import Recording
    >>> series, runs = torch.arange(6.0)[:, None], torch.tensor([0, 0, 0, 1, 1, 1])
    >>> Recording(series, series, runs, -1, 2, "valid", True).training().gram.n
    4
    """

    features: torch.Tensor
    targets: torch.Tensor
    runs: torch.Tensor
    first: int
    length: int
    edges: Edges
    fit_intercept: bool

    def training(self, rows: torch.Tensor | None = None) -> Lagged:
        """What a fit to sorted rows (default: all) sees."""
        moments = self.moments(torch.arange(len(self.features)) if rows is None else rows)
        return moments if self.fit_intercept else moments.about_origin()

    def moments(self, rows: torch.Tensor) -> Lagged:
        """Moments of sorted rows, each stretch of neighbours in a run by itself."""
        found = []
        for stretch in self.stretches(rows):
            padded, inside = window(self.features[stretch], self.first, self.length, self.edges)
            if inside.stop > inside.start:
                found.append(Lagged.of(padded, self.targets[stretch][inside], self.length))
        if not found:
            raise ValueError(
                f"no run is longer than the {self.length} lags, so that edges='valid' leaves no sample; use fewer lags "
                "or edges='mean'."
            )
        return reduce(add, found)

    def folds(self, splits: Sequence[Split]) -> Iterator[tuple[Lagged, Lagged]]:
        """Training and held-out moments of every split, whose held-out sets are made of stretches of whole runs."""
        tests = [split.test for split in splits]
        for number, rows in enumerate(tests, 1):
            pieces, runs = len(self.stretches(rows)), len(torch.unique(self.runs[rows]))
            if pieces > runs:
                raise ValueError(
                    f"split {number} of {len(splits)} holds out {pieces} pieces of {runs} runs, so that test moments "
                    "lie between training moments; use whole runs or contiguous folds."
                )
        if is_partition(splits, len(self.features)):
            width = self.length * self.features.shape[1]
            small = len(tests) * width * (width + self.targets.shape[1]) <= KEPT
            parts = [self.moments(rows) for rows in tests] if small else []
            make = parts.__getitem__ if small else lambda k: self.moments(tests[k])
            for k, training in leave_one_out(make, len(tests)):
                yield training if self.fit_intercept else training.about_origin(), make(k)
        else:
            for split in splits:
                yield self.training(split.train), self.moments(split.test)

    def stretches(self, rows: torch.Tensor) -> list[slice]:
        """Neighbours of one run among sorted rows."""
        breaks = ((rows.diff() > 1) | (self.runs[rows].diff() > 0)).nonzero()[:, 0] + 1
        parts = rows.tensor_split(breaks)
        return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]


def solve(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solution of a symmetric system that is not negative; of several the shortest.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.temporal import solve
    >>> solve(torch.ones(2, 2, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)).flatten().round(decimals=9)
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    smallest = len(matrix) * torch.finfo(matrix.dtype).eps * matrix.diagonal()
    if not bool(failed) and bool((factor.diagonal().square() > smallest).all()):
        return torch.cholesky_solve(right, factor)
    values, vectors = spectrum(matrix)
    inverse = torch.where(values > 0, 1 / values, 0.0)
    return vectors @ (inverse[:, None] * (vectors.T @ right))


def differences(length: int, order: int) -> torch.Tensor:
    """The penalty on differences of neighbouring lags of this order, ``(length, length)``.

    Examples
    --------
    >>> from cerebridge.encoding.engine.temporal import differences
    >>> differences(3, 1).tolist()
    [[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]]
    """
    rows = torch.eye(length, dtype=torch.float64).diff(order, dim=0)
    return rows.T @ rows


def leave_one_out(make: Callable[[int], Lagged], n: int) -> Iterator[tuple[int, Lagged]]:
    """For each of at least two parts the moments of all others, of which few are held in memory at a time.

    Halves lend each other what they leave out, so that each part is made about ``log2(n)`` times and nothing is ever
    taken off a sum.
    """
    pending: list[tuple[list[int], Lagged | None]] = [(list(range(n)), None)]
    while pending:
        parts, outside = pending.pop()
        if len(parts) == 1:
            assert outside is not None
            yield parts[0], outside
            continue
        halves = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        for own, other in (halves[::-1], halves):
            rest = reduce(add, map(make, other))
            pending.append((own, rest if outside is None else outside + rest))


def scores(folds: Iterator[tuple[Lagged, Lagged]], penalty: Penalty, scoring: Scoring) -> torch.Tensor:
    """Held-out score of every penalty, mean over the folds where it is defined, ``(targets, penalties)``."""
    every = []
    for training, held in folds:
        solvers = penalty.solvers(training.gram.products)
        weights = (weigh(training.cross.products.T) for weigh in solvers)
        every.append(torch.stack([score(some, training, held, scoring) for some in weights], 1))
    return torch.stack(every).nanmean(0)


def score(weights: torch.Tensor, training: Lagged, held: Lagged, scoring: Scoring) -> torch.Tensor:
    """Score of weights ``(features, targets)`` of the training runs on held-out ones, from their moments."""
    predicted = (weights * (held.gram.products @ weights)).sum(0)
    product = (held.cross.products.T * weights).sum(0)
    if scoring == "pearsonr":
        return pearsonr_from_sums(product, held.square, predicted.clamp(min=0))
    offset = held.cross.mean_a - training.cross.mean_a
    offset = offset - (held.cross.mean_b - training.cross.mean_b) @ weights
    residual = held.square - 2 * product + predicted + held.cross.n * offset.square()
    return r2_from_sums(residual.clamp(min=0), held.square)


def choose_penalty(scores: torch.Tensor, penalty: Penalty, per_target: bool) -> torch.Tensor:
    """Position of the best penalty for every target, or of the one that is best on average."""
    strengths = penalty.alphas.repeat(len(penalty.scales))
    if per_target:
        return choose(scores, strengths)
    return choose(scores.nanmean(0, keepdim=True), strengths).expand(len(scores))


def patterns(gram: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Forward patterns of backward weights (Haufe et al., 2014): what each reconstructed series looks like in the data.

    Parameters
    ----------
    gram
        Centred products of the design with itself.
    weights
        ``(features, targets)``.

    Returns
    -------
    torch.Tensor
        ``(features, targets)``.
    """
    products = gram @ weights
    return solve(weights.T @ products, products.T).T
