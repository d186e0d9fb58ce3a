"""What a cross-validated ridge will cost, and which way of computing it costs least."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

import torch

from .tables import PIECE

Path = Literal["primal", "dual", "rotated", "loo", "gcv"]

#: an eigendecomposition of order m takes as long as this many times m³ operations of a matrix product
EIGH = 10
#: likewise for a singular value decomposition, with the larger side once
SVD = 20
#: to check, centre and square a value takes as long as this many operations
TOUCH = 800
#: bytes of a file that are read in a second
READ = 1e9
#: targets at a time beyond which matrix products get no faster on a CPU, and leave its caches
WORTHWHILE = 2048
#: the dual way leaves folds out anew for every block of targets, which takes no time beside so many times as many
#: targets as a held-out set has samples
LEFT_OUT = 50
#: numbers in a block of features that is centred and converted at once for a kernel
FEATURE_BLOCK = 2**21
#: pieces of tables in memory at a time: read, brought to their precision, centred, rotated, copied and decomposed
PIECES = 10
#: bytes for blocks of targets on a CPU where the caller set no limit
WORKSPACE = 2**30


@dataclass(frozen=True)
class Problem:
    """Sizes of a cross-validated ridge.

    Parameters
    ----------
    samples, features, targets, alphas, splits
        How many of each.
    held_out
        Samples of the largest held-out set.
    complementary
        Whether every training set is all that is not held out.
    itemsize
        Bytes of a number.
    streamed
        Whether the features stay on disk and are read in pieces.
    """

    samples: int
    features: int
    targets: int
    alphas: int
    splits: int
    held_out: int
    complementary: bool = True
    itemsize: int = 8
    streamed: bool = False

    def operations(self, path: Path) -> float:
        """Floating-point operations of one way, all else in how many of them take as long."""
        n, p, t, a, k, m = (
            self.samples,
            self.features,
            self.targets,
            self.alphas,
            self.splits,
            self.held_out,
        )
        if path == "dual":
            kernel = 2 * n * n * p + EIGH * n**3
            return (
                TOUCH * n * t + kernel + a * k * m * (2 * n * t + 5 * n * m) + 4 * n * n * t + 2 * n * p * t
            )
        r = min(n, p)
        if path in ("loo", "gcv"):
            scores = 2 * n * r * t * (a if path == "loo" else 1)
            return TOUCH * n * t + 2 * n * p * r + EIGH * r**3 + 4 * n * r * t + scores + 2 * n * p * t
        if path == "rotated":
            rotated = replace(self, features=r)
            return SVD * n * p * r + rotated.operations("primal") + 2 * r * p * t
        passes = 1 if self.complementary else k
        moments = passes * 2 * n * p * (p + t)
        folds = k * (EIGH * p**3 + 2 * m * p * p + 4 * p * p * t)
        triangle = min(m, p) * (p - min(m, p) / 3)  # half of its zeros are never multiplied
        return TOUCH * n * t + moments + folds + a * k * 2 * triangle * t + EIGH * p**3 + 4 * p * p * t

    def bytes_read(self, targets_at_once: int) -> int:
        """From disk: features twice for every block of targets, targets three times."""
        blocks = -(-self.targets // targets_at_once)
        values = self.samples * (2 * blocks * self.features + 3 * self.targets)
        return self.itemsize * values if self.streamed else 0

    def fixed_bytes(self, path: Path) -> int:
        """Working memory that does not depend on the number of targets."""
        n, p, k, m = self.samples, self.features, self.splits, self.held_out
        if self.streamed:
            resident = replace(self, streamed=False).fixed_bytes(path)
            if path == "dual":
                return resident + PIECES * PIECE // 2
            if path == "primal":
                return resident - 8 * 2 * m * p + PIECES * PIECE + 8 * 3 * p * p
            return resident + 2 * self.itemsize * n * p
        if path == "dual":
            return 8 * (5 * n * n + 4 * n * m + 3 * min(FEATURE_BLOCK, n * p))
        if path in ("loo", "gcv"):
            r = min(n, p)
            return 8 * (3 * n * r + 5 * r * r + 3 * min(FEATURE_BLOCK, n * p)) + (
                8 * 2 * n * p if n > p else 0
            )
        rotation = 8 * (2 * n * p + n * n) if path == "rotated" else 0
        p = min(n, p) if path == "rotated" else p
        grams = 8 * (2 * k + 4 if self.complementary else 4) * p * p
        return rotation + grams + self.itemsize * k * (p * p + min(m, p) * p) + 8 * 2 * m * p

    def bytes_per_target(self, path: Path) -> int:
        """Working memory of one target, results left out."""
        n, p, m = self.samples, self.features, self.held_out
        if self.streamed and path == "primal":
            n = m = 0
        scores = (self.splits + 2) * self.alphas
        if path == "dual":
            return self.itemsize * (4 * n + 5 * m + p + scores)
        if path in ("loo", "gcv"):
            return self.itemsize * (6 * n + 3 * min(n, p) + p + scores)
        blocks = 2 * self.splits + 6 if self.complementary else 6
        return self.itemsize * (n + blocks * min(self.samples, p) + 4 * m + p + scores)


@dataclass(frozen=True)
class Plan:
    """How a ridge will be computed, and what that takes.

    ``path`` is ``"primal"`` (moments of the features), ``"dual"`` (one kernel for all folds) or ``"rotated"``
    (features rotated to as many as there are samples, then primal); ``"loo"`` and ``"gcv"`` are closed forms.
    ``bytes`` is the working memory beside input
    and results; ``seconds`` are known where the speed of the device was measured.
    """

    problem: Problem
    path: Path
    reason: str
    operations: float
    bytes: int
    targets_at_once: int
    seconds: float | None = None

    def __str__(self) -> str:
        """A paragraph for people."""
        problem = self.problem
        duration = "" if self.seconds is None else f", about {_duration(self.seconds)}"
        return (
            f"{problem.samples} samples × {problem.features} features, {problem.targets} targets, "
            f"{problem.alphas} alphas, {problem.splits} splits: {self.path}, because {self.reason}; "
            f"{self.operations:.1e} operations{duration}; "
            f"{self.bytes / 2**20:.0f} MiB beside data and results, {self.targets_at_once} targets at a time"
        )


def make_plan(
    problem: Problem,
    device: torch.device,
    memory: int | None = None,
    operations_per_second: float | None = None,
    path: Path | None = None,
    taken: int = 0,
) -> Plan:
    """Choose the cheapest way, and the number of targets at a time that keeps to ``memory``.

    Parameters
    ----------
    problem
        The sizes.
    device
        Where it will run.
    memory
        Bytes for everything beside data and results; default: what the way needs, and 1 GiB (on a GPU half of
        what is free) for targets.
    operations_per_second
        Speed of ``device``, to tell seconds.
    path
        The way, where there is no choice.
    taken
        Bytes of ``memory`` that are taken already.

    Raises
    ------
    ValueError
        If a single target does not fit into ``memory``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.planning import Problem, make_plan
    >>> make_plan(Problem(3000, 100, 50, 10, 5, 600), torch.device("cpu")).path
    'primal'
    """
    path, reason = _cheapest(problem) if path is None else (path, "nothing else gives these scores")
    fixed, each = taken + problem.fixed_bytes(path), problem.bytes_per_target(path)
    available = _workspace(device) if memory is None else memory - fixed
    if available < each:
        raise ValueError(
            f"memory={memory} is too little: this fit needs {fixed + each} bytes for a single target; raise memory, "
            "or use fewer splits or features."
        )
    most = problem.targets if device.type != "cpu" else WORTHWHILE
    if path == "dual":  # what leaves a fold out is computed anew for every block of targets
        most = max(most, LEFT_OUT * problem.held_out)
    at_once = max(1, min(problem.targets, available // each, most))
    operations = problem.operations(path)
    seconds = None
    if operations_per_second is not None:
        seconds = operations / operations_per_second + problem.bytes_read(at_once) / READ
    return Plan(problem, path, reason, operations, fixed + at_once * each, at_once, seconds)


def _cheapest(problem: Problem) -> tuple[Path, str]:
    """The way that takes the fewest operations, and what the other one would take."""
    wide: Path = "dual" if problem.complementary else "rotated"
    costs = {path: problem.operations(path) for path in ("primal", wide)}
    path: Path = wide if costs[wide] < costs["primal"] else "primal"
    other = "primal" if path == wide else wide
    return path, f"the {other} way takes {costs[other] / costs[path]:.1f} times as many operations"


def measure_speed(device: torch.device, dtype: torch.dtype, order: int = 512) -> float:
    """Operations per second of a matrix product on ``device``, best of 25.

    On a machine that others use too, most products say how long they waited for them.
    """
    matrix = torch.ones(order, order, dtype=dtype, device=device)
    durations = []
    for _ in range(25):
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        durations.append(time.perf_counter() - started)
    return 2 * order**3 / min(durations)


def _workspace(device: torch.device) -> int:
    """Bytes for blocks of targets where nobody set a limit."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else WORKSPACE


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.1g} s"
        if seconds < 1
        else f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
    )
