"""Reduced-rank ridge regression: targets share the few dimensions of the features that predict them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from . import inputs, parameters
from .containers import Labels
from .engine import reducedrank as engine
from .engine.moments import Split
from .linear import Attributes, LinearEncoder
from .ridge import ALPHAS


class ReducedRankRegression(LinearEncoder):
    """Ridge regression of all targets together, with coefficients of low rank.

    Minimises ``|Y - XB|² + alpha |B|²`` over matrices ``B`` of the rank, exactly. Rank and penalty are chosen
    together by cross-validation, one pair for all targets; every fold is decomposed once for all of them.

    Parameters
    ----------
    rank
        Rank of the coefficients; ``"cv"`` for the best of all ranks, or a list to choose from.
    alphas
        Penalty, or penalties to choose from, positive; default ``0.01, 0.1, … 1e6``.
    cv
        Number of contiguous folds (with ``groups``: of folds of whole groups, at most one a group), a scikit-learn
        splitter, or pairs of training and held-out indices; not used where rank and penalty are given.
    scoring
        ``"r2"`` or ``"pearsonr"``, whose mean over folds and targets is best at the chosen pair. Among equals the
        lowest rank is chosen, then the largest penalty.
    fit_intercept
        Whether to fit an intercept, which is not penalised.
    device
        ``"auto"`` (where a tensor is, else a GPU if there is one), ``"cpu"``, ``"cuda"``, …

    Attributes
    ----------
    coef_
        ``(targets, features)``, or ``(features,)`` for a single series ``y``.
    intercept_
        ``(targets,)``.
    rank_, alpha_
        Rank of the coefficients, which is lower than asked for where features or targets have not as many
        dimensions, and the penalty; numbers, the same for all targets.
    cv_scores_, best_score_
        Where something was chosen: cross-validated score of every penalty and rank, ``(alphas, ranks, targets)``, and
        of the chosen pair, ``(targets,)``. The score was used to choose: it is no estimate of performance.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    The squared error is summed over targets, so that targets of larger variance weigh more: bring them to a common
    scale first where they should not. Computed in float64; results have the precision of the data.

    References
    ----------
    Izenman (1975), Journal of Multivariate Analysis 5; Mukherjee & Zhu (2011), Statistical Analysis and Data Mining 4.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((100, 20))
    >>> B = rng.standard_normal((20, 2)) @ rng.standard_normal((2, 30))
    >>> model = encoding.ReducedRankRegression().fit(X, X @ B + 3 * rng.standard_normal((100, 30)))
    >>> model.rank_, int(np.linalg.matrix_rank(model.coef_))
    (2, 2)
    """

    def __init__(
        self,
        rank: Any = "cv",
        alphas: ArrayLike = ALPHAS,
        cv: Any = 5,
        scoring: str = "r2",
        fit_intercept: bool = True,
        device: str | torch.device = "auto",
    ) -> None:
        self.rank = rank
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.device = device

    def fit(self, X: Any, y: Any, groups: Any = None) -> ReducedRankRegression:
        """Choose a rank and a penalty where several are given, and fit them to all samples.

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
            If input or parameters are wrong: missing values, a rank of zero, no positive penalties, a fold that is
            empty, a device that is not there.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> brain = neuro.simulate(n_stimuli=20, n_units=3, random_state=0)
        >>> encoding.ReducedRankRegression(1).fit(brain, brain).coef_.dims
        ('neuroid', 'feature')
        """
        features = inputs.features(self, X, reset=True)
        targets = inputs.targets(y, len(features), X)
        device = self._device(X)
        dtype = torch.promote_types(features.dtype, targets.dtype)
        features, columns = features.to(device), targets.reshape(len(targets), -1).to(device)
        grid = parameters.positive(self.alphas, "alphas")
        alphas = torch.from_numpy(grid).to(device)
        most = min(len(features), features.shape[1], columns.shape[1])
        ranks = list(range(1, most + 1))
        if not (isinstance(self.rank, str) and self.rank == "cv"):
            ranks = parameters.whole_numbers(self.rank, "rank")
        a = r = 0
        chosen: Attributes = {}
        if len(ranks) * len(grid) > 1:
            splits = inputs.splits(self.cv, len(features), y, groups, (X, y))
            splits = [Split(train.to(device), test.to(device)) for train, test in splits]
            scoring = parameters.known_scoring(self.scoring)
            scores = engine.cross_validate(
                features, columns, splits, alphas, ranks, scoring, bool(self.fit_intercept)
            )
            a, r = engine.choose(scores, alphas, ranks)
            best = scores[a, r]
            chosen = {"cv_scores_": (scores, ("alpha", "rank", "target")), "best_score_": (best, ("target",))}
            inputs.warn_of_missing_scores(best, targets, y)
            inputs.warn_of_grid_edges(torch.full((len(best),), a), best, grid)
        design = engine.Design(features, columns, bool(self.fit_intercept))
        coef = design.coef(alphas[a], ranks[r])
        self.alpha_, self.rank_ = float(alphas[a]), min(ranks[r], *design.products.shape)
        attributes: Attributes = {
            "coef_": (coef.to(dtype), ("target", "feature")),
            "intercept_": ((design.mean_y - coef @ design.mean_x).to(dtype), ("target",)),
        }
        labels: Labels = {"alpha": ("alpha", grid), "rank": ("rank", np.array(ranks))}
        self._keep(X, y, {**attributes, **chosen}, labels)
        return self
