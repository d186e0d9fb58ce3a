"""Sparse encoding models: the lasso and the group lasso, with a penalty of its own for every target."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from ..neuro.progress import track
from . import inputs, parameters
from .bands import find_bands, labels_of
from .engine import lasso as engine
from .engine import penalties
from .engine.moments import Split
from .linear import LinearEncoder


class LassoCV(LinearEncoder):
    """Lasso that chooses a penalty for every target by cross-validation.

    Minimises ``|y - Xw|² / 2n + alpha |w|₁`` as scikit-learn's LassoCV does, and by default chooses the penalty that
    it chooses. Products of features are computed once a fold for all targets, and the path of every target is
    followed exactly.

    Parameters
    ----------
    alphas
        Number of penalties, evenly spaced in their logarithm for every target from the smallest at which all weights
        are zero down to ``eps`` times that; or penalties to choose from.
    eps
        Ratio of the smallest to the largest penalty, where ``alphas`` is their number.
    cv
        Number of contiguous folds (with ``groups``: of folds of whole groups, at most one a group), a scikit-learn
        splitter, or pairs of training and held-out indices.
    scoring
        ``"neg_mean_squared_error"``, ``"r2"`` or ``"pearsonr"``, the mean over folds of which is best at the chosen
        penalty. Among equals the largest penalty is chosen.
    fit_intercept
        Whether to fit an intercept, which is not penalised.
    tol, max_iter
        A solution counts where its duality gap is at most ``tol`` times the mean square of its target; where it is
        not there after ``max_iter`` steps, a warning says so.
    device
        ``"auto"`` (where a tensor is, else a GPU if there is one), ``"cpu"``, ``"cuda"``, …
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Attributes
    ----------
    coef_
        ``(targets, features)``, or ``(features,)`` for a single series ``y``.
    intercept_, alpha_, best_score_
        Intercept, chosen penalty, and its cross-validated score, ``(targets,)``. The score was used to choose:
        it is no estimate of performance.
    alphas_, cv_scores_
        Penalties of every target, falling, and their cross-validated scores, ``(alphas, targets)``.
    dual_gap_
        How far the objective can be from its minimum, as a share of the mean square of the target, ``(targets,)``.
    n_iter_
        Steps of the final fit beyond the exact path, at least 1.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Computed in float64; results have the precision of the data. Features are penalised as they are: bring them to a
    common scale first, for example with scikit-learn's ``StandardScaler`` in a pipeline.

    References
    ----------
    Tibshirani (1996), Journal of the Royal Statistical Society B 58; Osborne, Presnell & Turlach (2000), IMA Journal
    of Numerical Analysis 20.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 30))
    >>> Y = X[:, [4, 7]] + 0.1 * rng.standard_normal((60, 2))
    >>> lasso = encoding.LassoCV(alphas=[0.1, 0.2, 0.4]).fit(X, Y)
    >>> [np.flatnonzero(weights).tolist() for weights in lasso.coef_], lasso.alpha_.tolist()
    ([[4], [7]], [0.1, 0.1])
    """

    #: every target is fitted by itself, so that many may be stacked into one fit
    independent_targets = True

    def __init__(
        self,
        alphas: Any = 100,
        eps: float = 1e-3,
        cv: Any = 5,
        scoring: str = "neg_mean_squared_error",
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 10_000,
        device: str | torch.device = "auto",
        progress: bool | None = False,
    ) -> None:
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.device = device
        self.progress = progress

    def fit(self, X: Any, y: Any, groups: Any = None) -> LassoCV:
        """Choose a penalty for every target, and fit it to all samples.

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
            If input or parameters are wrong: missing values, no positive penalties, a fold that is empty, a
            device that is not there.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> brain = neuro.simulate(n_stimuli=20, n_units=3, random_state=0)
        >>> encoding.LassoCV().fit(brain, brain).coef_.dims
        ('neuroid', 'feature')
        """
        features = inputs.features(self, X, reset=True)
        targets = inputs.targets(y, len(features), X)
        splits = inputs.splits(self.cv, len(features), y, groups, (X, y))
        alphas, relative = self._grid()
        if self.scoring not in get_args(engine.Scoring):
            known = ", ".join(map(repr, get_args(engine.Scoring)))
            raise ValueError(f"scoring={self.scoring!r} is unknown; use one of {known}.")
        (tol,) = parameters.positive(self.tol, "tol")
        device = self._device(X)
        penalty = self._penalty(X, features.shape[1], device)
        dtype = torch.promote_types(features.dtype, targets.dtype)
        found = engine.fit(
            features.to(device),
            targets.reshape(len(targets), -1).to(device),
            [Split(train.to(device), test.to(device)) for train, test in splits],
            penalty,
            torch.from_numpy(alphas).to(device),
            relative,
            cast(engine.Scoring, self.scoring),
            bool(self.fit_intercept),
            float(tol),
            parameters.whole_number(self.max_iter, "max_iter"),
            partial(track, description="fitting lasso", show=self.progress),
        )
        best = found.scores.gather(1, found.chosen[:, None])[:, 0]
        attributes = {
            "coef_": (found.coef.to(dtype), ("target", "feature")),
            "intercept_": (found.intercept.to(dtype), ("target",)),
            "alpha_": (found.alphas.gather(0, found.chosen[None])[0], ("target",)),
            "best_score_": (best, ("target",)),
            "alphas_": (found.alphas, ("alpha", "target")),
            "cv_scores_": (found.scores.T, ("alpha", "target")),
            "dual_gap_": (found.gap, ("target",)),
        }
        self._keep(X, y, attributes)
        self.n_iter_ = max(1, found.steps)
        inputs.warn_of_missing_scores(best, targets, y)
        if relative:
            self._warn_of_eps(found)
        else:
            inputs.warn_of_grid_edges(found.chosen, best, alphas)
        late = torch.maximum(found.gap, found.largest) > tol
        if bool(late.any()):
            warnings.warn(
                f"{int(late.sum())} of {len(late)} targets did not reach the duality gap tol={tol:g}, first "
                f"column {int(late.nonzero()[0])}; raise max_iter or tol, or drop features that others determine.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _warn_of_eps(self, found: engine.Fitted) -> None:
        """Warn where targets would rather have a smaller penalty than the grid's smallest."""
        low = int(((found.chosen == len(found.alphas) - 1) & (found.alphas[0] > 0)).sum())
        if low and len(found.alphas) > 1:
            warnings.warn(
                f"{low} of {len(found.chosen)} targets chose the smallest alpha of their grid; lower eps={self.eps:g}.",
                stacklevel=3,
            )

    def _penalty(self, X: Any, n_features: int, device: torch.device) -> penalties.Penalty:
        """What is penalised."""
        return penalties.L1()

    def _grid(self) -> tuple[NDArray[np.float64], bool]:
        """Falling penalties, and whether they are relative to the largest of each target."""
        if isinstance(self.alphas, int | np.integer) and not isinstance(self.alphas, bool):
            number = parameters.whole_number(self.alphas, "alphas")
            (eps,) = parameters.positive(self.eps, "eps")
            if eps >= 1:
                raise ValueError(
                    f"eps={self.eps!r} must be less than 1: it is the smallest penalty over the largest."
                )
            return np.geomspace(1, eps, number), True
        return np.unique(parameters.positive(self.alphas, "alphas"))[::-1].copy(), False


class GroupLassoCV(LassoCV):
    """Group lasso that chooses a penalty for every target by cross-validation.

    Minimises ``|y - Xw|² / 2n + alpha Σ_g √m_g |w_g|₂`` over groups of ``m_g`` features: the weights of a group are
    all zero or all used.

    Parameters
    ----------
    groups
        Groups of features: one label a feature, the name of a coordinate of the features, or a list (or a dictionary
        with names) of slices, lists of columns or masks, which hold every feature once; ``None`` makes every feature
        a group, which is the lasso.
    alphas, eps, cv, scoring, fit_intercept, tol, max_iter, device, progress
        As for :class:`LassoCV`.

    Attributes
    ----------
    groups_
        Number of the group of every feature.
    coef_, intercept_, alpha_, best_score_, alphas_, cv_scores_, dual_gap_, n_iter_, n_features_in_, feature_names_in_
        As for :class:`LassoCV`.

    References
    ----------
    Yuan & Lin (2006), Journal of the Royal Statistical Society B 68.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 9))
    >>> y = X[:, 3:6].sum(1) + rng.standard_normal(60)
    >>> lasso = encoding.GroupLassoCV(groups=["a"] * 3 + ["b"] * 3 + ["c"] * 3, alphas=[0.3]).fit(X, y)
    >>> (lasso.coef_ != 0).astype(int).tolist()
    [0, 0, 0, 1, 1, 1, 0, 0, 0]
    """

    #: groups may be named by a label of the features
    takes_labels = True

    def __init__(
        self,
        groups: Any = None,
        alphas: Any = 100,
        eps: float = 1e-3,
        cv: Any = 5,
        scoring: str = "neg_mean_squared_error",
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 10_000,
        device: str | torch.device = "auto",
        progress: bool | None = False,
    ) -> None:
        super().__init__(alphas, eps, cv, scoring, fit_intercept, tol, max_iter, device, progress)
        self.groups = groups

    def _penalty(self, X: Any, n_features: int, device: torch.device) -> penalties.Penalty:
        if self.groups is None:
            self.groups_ = np.arange(n_features)
        else:
            self.groups_ = labels_of(find_bands(self.groups, X, n_features, "groups"))
        return penalties.Groups(torch.from_numpy(self.groups_).to(device))
