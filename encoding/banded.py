"""Ridge regression with a penalty of its own for every band of features and every target."""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from ..models.memory import parse_bytes
from ..neuro.progress import track
from . import inputs, parameters
from .bands import find_bands, labels_of, names_of
from .containers import kind_of, to_tensor
from .engine.banded import Bands, DualBands, PrimalBands
from .engine.bandsearch import (
    Best,
    Effort,
    Found,
    Search,
    draw_candidates,
    explore,
    joined,
    of_targets,
)
from .engine.moments import Split
from .engine.planning import WORKSPACE
from .linear import LinearEncoder
from .ridge import ALPHAS

#: bytes of systems that are solved at a time on a CPU: more leave its caches and take up to twice as long
CACHE = 2**26


def passed(until: float) -> bool:
    """Whether a moment of the monotonic clock is over."""
    return time.monotonic() >= until


class BandedRidgeCV(LinearEncoder):
    """Ridge regression that chooses a penalty for every band of features and every target by cross-validation.

    Random weights of the bands are each tried with every penalty; then every target climbs the slope of its
    cross-validated score. Exact: the scores are those of scikit-learn's ridge on rescaled features. Data are read
    once, since bands only rescale the Gram matrices of the folds (with more features than samples: the bands'
    kernels).

    Parameters
    ----------
    bands
        ``None``: the coordinate ``"band"`` of a labelled ``X``. A text: another coordinate, such as ``"layer"``. Or
        one label a feature; or a list (or dictionary) of slices, columns or masks.
    alphas
        Penalties tried with every candidate, positive; default ``0.01, 0.1, … 1e6``.
    n_candidates
        How many weights of the bands are tried: equal weights, every band alone, then Dirichlet draws. Or the
        weights themselves, ``(candidates, bands)``; rows are scaled to sum to one.
    cv
        Number of contiguous folds (with ``groups``: of folds of whole groups), a scikit-learn splitter, or pairs of
        training and held-out indices.
    scoring
        ``"r2"`` or ``"pearsonr"``: what is chosen by, mean over folds.
    fit_intercept
        Whether to fit an intercept, which is not penalised.
    random_state
        Seeds the candidates.
    device
        ``"auto"`` (where a tensor is, else a GPU if there is one), ``"cpu"``, ``"cuda"``, …
    memory
        Most that a fit may take beside its data and results, as bytes or ``"2GiB"``; default 1 GiB beside what does
        not depend on the number of targets. It changes how many targets are worked on at a time, not the answer.
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.
    polish
        Steps that every target climbs after the search; only improvements of its cross-validated score are kept. Each
        step takes a Cholesky factor a target and fold: with thousands of features or samples, 0 saves most of the time.
    time_budget
        Seconds after which the search ends with the best so far; ``None`` for no limit. Ctrl-C does the same.
    warm_start
        Whether to continue the last search: candidates up to ``n_candidates`` that were not tried yet are. Data and
        other parameters must be the same, which its first candidate is tried again for.

    Attributes
    ----------
    coef_
        ``(targets, features)``, or ``(features,)`` for a single series ``y``.
    intercept_, best_score_
        Intercept, and the cross-validated score of the chosen penalties, ``(targets,)``. The score was used to
        choose: it is no estimate of performance.
    band_alphas_
        Penalty of every band, ``(bands, targets)``; infinite for a band that is off.
    deltas_
        ``-log(band_alphas_)``; minus infinity for a band that is off.
    alpha_
        Penalty of the features scaled by band weights that sum to one: ``1 / (1 / band_alphas_).sum()``.
    candidates_
        Weights that were tried, ``(candidates, bands)``.
    cv_scores_
        Score of every candidate with its best penalty, ``(candidates, targets)``; NaN where time ran out.
    candidate_, candidate_alpha_
        Position of the best candidate and the penalty tried with it, ``(targets,)``, before polishing.
    path_
        ``"primal"`` or ``"dual"``: how it was computed.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Results have the data's precision: float32 only where X and y both are. All else is computed in float64.

    References
    ----------
    Nunez-Elizalde, Huth & Gallant (2019), NeuroImage 197; Dupré la Tour et al. (2022), NeuroImage 264.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 8))
    >>> y = X[:, :4].sum(1) + rng.standard_normal(60)
    >>> ridge = encoding.BandedRidgeCV([slice(4), slice(4, 8)], n_candidates=20, random_state=0).fit(X, y)
    >>> bool(ridge.band_alphas_[0] < ridge.band_alphas_[1])
    True
    """

    #: every target is fitted by itself, so that many may be stacked into one fit
    independent_targets = True
    #: bands may be named by a label of the features
    takes_labels = True

    def __init__(
        self,
        bands: Any = None,
        alphas: ArrayLike = ALPHAS,
        n_candidates: int | ArrayLike = 100,
        cv: Any = 5,
        scoring: str = "r2",
        fit_intercept: bool = True,
        random_state: Any = 0,
        device: str | torch.device = "auto",
        memory: str | int | None = None,
        progress: bool | None = False,
        polish: int = 3,
        time_budget: float | None = None,
        warm_start: bool = False,
    ) -> None:
        self.bands = bands
        self.alphas = alphas
        self.n_candidates = n_candidates
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.random_state = random_state
        self.device = device
        self.memory = memory
        self.progress = progress
        self.polish = polish
        self.time_budget = time_budget
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, groups: Any = None) -> BandedRidgeCV:
        """Choose penalties for every target, and fit it to all samples.

        Parameters
        ----------
        X
            Features, ``(samples, features)``.
        y
            Responses, ``(samples,)`` or ``(samples, targets)``.
        groups
            One label a sample, or the name of a coordinate of ``X`` or ``y``; goes to the splitter.

        Raises
        ------
        ValueError, TypeError
            If input or parameters are wrong: bands that overlap, are empty or leave features out, missing values,
            a fold that is empty, a device that is not there.

        Warns
        -----
        UserWarning
            If features have neither labels nor bands, so that this is plain ridge; targets chose a penalty at the edge
            of ``alphas``; or the search was interrupted.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> brain = neuro.simulate(n_stimuli=20, n_units=4, random_state=0)
        >>> ridge = encoding.BandedRidgeCV([slice(2), slice(2, 4)], n_candidates=5).fit(brain, brain)
        >>> ridge.band_alphas_.dims
        ('band', 'neuroid')
        """
        started = time.monotonic()
        features = inputs.features(self, X, reset=True)
        targets = inputs.targets(y, len(features), X)
        splits = inputs.splits(self.cv, len(features), y, groups, (X, y))
        bands = find_bands(self.bands, X, features.shape[1])
        if self.bands is None and kind_of(X) != "xarray":
            warnings.warn(
                "X has no labels and bands=None, so that all features are one band: give bands.", stacklevel=2
            )
        device = self._device(X)
        alphas = torch.from_numpy(parameters.positive(self.alphas, "alphas")).to(device)
        candidates = self._candidates(len(bands)).to(device)
        known = self._known(candidates.shape[1], targets.shape[1:].numel(), device)
        wide = features.shape[1] > len(features)
        problem = (DualBands if wide else PrimalBands)(
            features.to(device),
            torch.from_numpy(labels_of(bands)).to(device),
            [Split(train.to(device), test.to(device)) for train, test in splits],
            float(alphas.min()),
            bool(self.fit_intercept),
        )
        self.path_ = "dual" if wide else "primal"
        columns = targets.reshape(len(targets), -1)
        found = self._explore(problem, columns, candidates, alphas, known, started)
        dtype = torch.promote_types(features.dtype, targets.dtype)
        self._keep_fit(found, candidates, names_of(bands), dtype, X, y)
        inputs.warn_of_missing_scores(found.score, targets, y)
        best = found.search.best
        inputs.warn_of_grid_edges((alphas == best.alpha[:, None]).int().argmax(1), best.score, alphas)
        return self

    def _explore(
        self,
        problem: Bands,
        columns: torch.Tensor,
        candidates: torch.Tensor,
        alphas: torch.Tensor,
        known: Search | None,
        started: float,
    ) -> Found:
        """Block of targets by block of targets; each may take its share of the time budget."""
        n_targets = columns.shape[1]
        at_once, climbing = self._at_once(problem, len(alphas))
        budget = np.inf if self.time_budget is None else float(self.time_budget)
        scoring = parameters.known_scoring(self.scoring)
        steps = parameters.whole_number(self.polish, "polish", 0)
        show = partial(track, description="searching band penalties", show=self.progress)
        parts: list[Found] = []
        for start in range(0, n_targets, at_once):
            block = slice(start, start + at_once)
            problem.load(columns[:, block].to(problem.X.device))
            until = started + budget * min(1.0, block.stop / n_targets)
            if parts and parts[-1].interrupted:
                until = started
            effort = Effort(steps, climbing, partial(passed, until))
            part = None if known is None else of_targets(known, block)
            found = explore(problem, candidates, alphas, scoring, effort, part, show)
            parts.append(
                found._replace(interrupted=found.interrupted or bool(parts and parts[-1].interrupted))
            )
        if parts[-1].interrupted:
            warnings.warn("the search was interrupted; this is the best that was found so far.", stacklevel=3)
        return joined(parts)

    def _at_once(self, problem: Bands, n_alphas: int) -> tuple[int, int]:
        """Targets to search for, and to polish, at a time."""
        available = WORKSPACE if self.memory is None else parse_bytes(self.memory) - problem.fixed_bytes
        at_once = available // problem.bytes_per_target(n_alphas)
        climbing = available // problem.bytes_per_climb
        if problem.X.device.type == "cpu":
            climbing = min(climbing, max(1, CACHE // problem.bytes_per_climb))
        if available < max(problem.bytes_per_target(n_alphas), problem.bytes_per_climb):
            least = problem.fixed_bytes + max(problem.bytes_per_target(n_alphas), problem.bytes_per_climb)
            raise ValueError(
                f"memory={self.memory} is too little: this fit needs {least} bytes for a single target; raise memory, "
                "or use fewer splits or features."
            )
        return at_once, climbing

    def _candidates(self, n_bands: int) -> torch.Tensor:
        """Band weights to try, after those of the search that is continued."""
        former = torch.empty(0, n_bands, dtype=torch.float64)
        if self.warm_start and hasattr(self, "candidates_") and self.candidates_.shape[1] == n_bands:
            former = to_tensor(self.candidates_, "cpu")
        if np.ndim(self.n_candidates):
            weights = np.asarray(self.n_candidates, dtype=np.float64)
            if weights.ndim != 2 or weights.shape[1] != n_bands or not len(weights):
                raise ValueError(
                    f"candidates have shape {weights.shape}, but there are {n_bands} bands; give candidates × bands."
                )
            if not ((weights >= 0) & np.isfinite(weights)).all() or not weights.sum(1).all():
                raise ValueError(
                    "candidates must be weights of bands: not negative, and one of each candidate positive."
                )
            given = torch.from_numpy(weights / weights.sum(1, keepdims=True))
            known = (given[:, None] == former).all(2).any(1)
            return torch.cat([former, given[~known]])
        n = parameters.whole_number(self.n_candidates, "n_candidates")
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        return torch.cat([former, draw_candidates(n, n_bands, seed)[len(former) :]])

    def _known(self, n_bands: int, n_targets: int, device: torch.device) -> Search | None:
        """How the search that is continued went so far."""
        if not self.warm_start or not hasattr(self, "cv_scores_"):
            return None
        scores = to_tensor(self.cv_scores_, device)
        scores = scores.reshape(len(scores), -1)
        former = scores.shape[1], self.candidates_.shape[1]
        if former != (n_targets, n_bands):
            raise ValueError(
                f"warm_start continues a search for {former[0]} targets and {former[1]} bands, but there are "
                f"{n_targets} and {n_bands}; set warm_start=False to start anew."
            )
        candidate = torch.as_tensor(to_tensor(self.candidate_, device)).long().reshape(-1)
        alpha = to_tensor(self.candidate_alpha_, device).double().reshape(-1)
        best = scores.gather(0, candidate[None])[0]
        return Search(scores, Best(best, candidate, alpha))

    def _keep_fit(
        self, found: Found, candidates: torch.Tensor, names: NDArray[Any], dtype: torch.dtype, X: Any, y: Any
    ) -> None:
        best = found.search.best
        self._keep(
            X,
            y,
            {
                "coef_": (found.coef.to(dtype), ("target", "feature")),
                "intercept_": (found.intercept.to(dtype), ("target",)),
                "best_score_": (found.score.to(dtype), ("target",)),
                "alpha_": (1 / found.deltas.sum(1), ("target",)),
                "band_alphas_": (1 / found.deltas.T, ("band", "target")),
                "deltas_": (found.deltas.T.log(), ("band", "target")),
                "candidates_": (candidates, ("candidate", "band")),
                "cv_scores_": (found.search.scores, ("candidate", "target")),
                "candidate_": (best.candidate, ("target",)),
                "candidate_alpha_": (best.alpha, ("target",)),
            },
            {"band": ("band", names)},
        )
