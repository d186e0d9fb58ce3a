"""Partial least squares regression, with a number of components that is given or chosen by cross-validation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from . import inputs, parameters
from .engine import pls as engine
from .engine.moments import Split
from .engine.spectral import choose
from .linear import Attributes, LinearEncoder

#: numbers of components that ``n_components="cv"`` chooses from
NUMBERS = tuple(range(1, 26))


class PLSRegression(LinearEncoder):
    """Partial least squares regression of all targets together.

    The predictions of scikit-learn's PLSRegression, and with the default parameters those of Brain-Score's metric
    (25 components, not scaled), from one decomposition of the features and small matrices after it.

    Parameters
    ----------
    n_components
        Number of components; ``"cv"`` for the best of 1 to 25, or a list to choose from.
    scale
        Whether to divide features and targets by their standard deviation.
    cv
        Number of contiguous folds, a scikit-learn splitter, or pairs of training and held-out indices, to choose a
        number of components by; not used where it is given.
    scoring
        ``"r2"`` or ``"pearsonr"``, whose mean over folds and targets is best at the chosen number. Among equals the
        smallest is chosen.
    tol, max_iter
        Power iterations for the weights of a component stop where their squared change is below ``tol``, as those of
        scikit-learn do, which leaves errors of about ``sqrt(tol)`` in the weights. ``tol=0`` is exact.
    device
        ``"auto"`` (where a tensor is, else a GPU if there is one), ``"cpu"``, ``"cuda"``, …

    Attributes
    ----------
    coef_
        ``(targets, features)``, or ``(features,)`` for a single series ``y``.
    intercept_
        ``(targets,)``.
    n_components_
        Number of components fitted: fewer than asked for where no covariance is left to explain.
    x_rotations_, y_loadings_
        From standardised features to scores of unit length, ``(features, components)``, and from scores to
        standardised targets, ``(targets, components)``.
    n_iter_
        Iterations of every component.
    cv_scores_, best_score_
        Where the number was chosen: cross-validated score of every number, ``(numbers, targets)``, and of the chosen
        one, ``(targets,)``. The score was used to choose: it is no estimate of performance.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Brain-Score reduces activations to 1000 principal components first; in a pipeline that is
    ``make_pipeline(PCA(1000), PLSRegression())``, learned on the training samples of every fold.

    References
    ----------
    Wold (1975), Journal of Applied Probability 12; Wegelin (2000), technical report 371, University of Washington;
    Schrimpf et al. (2018), bioRxiv 407007.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 20))
    >>> Y = X[:, :1] + rng.standard_normal((60, 5))
    >>> pls = encoding.PLSRegression(n_components="cv").fit(X, Y)
    >>> pls.n_components_, pls.coef_.shape
    (2, (5, 20))
    """

    def __init__(
        self,
        n_components: Any = 25,
        scale: bool = False,
        cv: Any = 5,
        scoring: str = "r2",
        tol: float = 1e-6,
        max_iter: int = 500,
        device: str | torch.device = "auto",
    ) -> None:
        self.n_components = n_components
        self.scale = scale
        self.cv = cv
        self.scoring = scoring
        self.tol = tol
        self.max_iter = max_iter
        self.device = device

    def fit(self, X: Any, y: Any, groups: Any = None) -> PLSRegression:
        """Fit the components to all samples, and choose their number first where it is not given.

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
            If input or parameters are wrong: missing values, no positive number of components, a fold that is empty.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> brain = neuro.simulate(n_stimuli=20, n_units=3, random_state=0)
        >>> encoding.PLSRegression(2).fit(brain, brain).coef_.dims
        ('neuroid', 'feature')
        """
        features = inputs.features(self, X, reset=True)
        targets = inputs.targets(y, len(features), X)
        choosing = not isinstance(self.n_components, int | np.integer)
        given = (
            NUMBERS if isinstance(self.n_components, str) and self.n_components == "cv" else self.n_components
        )
        grid = parameters.whole_numbers(given, "n_components")
        max_iter = parameters.whole_number(self.max_iter, "max_iter")
        if not 0 <= self.tol < np.inf:
            raise ValueError(f"tol={self.tol!r} is no tolerance; give a number from 0, which is exact.")
        device = self._device(X)
        dtype = torch.promote_types(features.dtype, targets.dtype)
        features, columns = features.to(device), targets.reshape(len(targets), -1).to(device, dtype)
        settings = (float(self.tol), max_iter)
        number = grid[-1]
        chosen: Attributes = {}
        if choosing:
            number, chosen = self._choose(features, columns, grid, X, y, groups, settings)
        of_x, rows = engine.Standard.of(features.double(), self.scale)
        of_y, standard = engine.Standard.of(columns, self.scale)
        found = engine.fit(rows, standard, number, *settings)
        self.n_components_, self.n_iter_ = len(found.iterations), found.iterations
        self._warn(number, found.iterations, max_iter)
        # a few components only: the coefficients of all targets are a product of thin matrices
        coef = (found.loadings * of_y.scale[:, None]) @ (found.rotations / of_x.scale[:, None]).T.to(dtype)
        attributes = {
            "coef_": (coef, ("target", "feature")),
            "intercept_": (of_y.mean - coef @ of_x.mean.to(dtype), ("target",)),
            "x_rotations_": (found.rotations.to(dtype), ("feature", "component")),
            "y_loadings_": (found.loadings, ("target", "component")),
        }
        self._keep(X, y, {**attributes, **chosen}, {"n_components": ("number", np.array(grid))})
        if choosing:
            inputs.warn_of_missing_scores(chosen["best_score_"][0], targets, y)
        return self

    def _choose(
        self,
        features: torch.Tensor,
        columns: torch.Tensor,
        grid: list[int],
        X: Any,
        y: Any,
        groups: Any,
        settings: tuple[float, int],
    ) -> tuple[int, Attributes]:
        """The number of components with the best mean score over targets, and the scores."""
        splits = inputs.splits(self.cv, len(features), y, groups, (X, y))
        splits = [Split(train.to(features.device), test.to(features.device)) for train, test in splits]
        scoring = parameters.known_scoring(self.scoring)
        scores = engine.cross_validate(features, columns, splits, grid, self.scale, scoring, *settings)
        # fewer components are the stronger penalty
        best = int(choose(scores.nanmean(0, keepdim=True), 1 / torch.tensor(grid, device=scores.device)))
        return grid[best], {
            "cv_scores_": (scores.T, ("number", "target")),
            "best_score_": (scores[:, best], ("target",)),
        }

    def _warn(self, number: int, iterations: list[int], max_iter: int) -> None:
        if len(iterations) < number:
            warnings.warn(
                f"only {len(iterations)} of {number} components were fitted: no covariance of features and targets is "
                "left; ask for fewer components.",
                stacklevel=3,
            )
        late = sum(steps >= max_iter for steps in iterations) if self.tol and max_iter > 1 else 0
        if late:
            warnings.warn(
                f"the weights of {late} of {len(iterations)} components still changed after {max_iter} iterations; "
                "raise max_iter, or use tol=0.",
                ConvergenceWarning,
                stacklevel=3,
            )
