"""Stacking of feature spaces: one ridge a space, mixed by convex weights for every target."""

from __future__ import annotations

from typing import Any

import torch

from .bands import names_of
from .engine.scoring import r2
from .engine.stacking import convex_weights
from .linear import LinearEncoder
from .pipelines import fits_targets_alone
from .spaces import Spaces


class StackedEncoder(LinearEncoder):
    """Fits every feature space by itself and mixes their predictions with weights that sum to one.

    The weights of a target are those with the least squared error of predictions for samples that the spaces were
    not fitted to, within the data given to ``fit``; then every space is fitted to all of them.

    Parameters
    ----------
    estimator
        Linear model of one space, cloned for each; ``None`` is :class:`RidgeCV`.
    bands
        ``None``: the coordinate ``"band"`` of a labelled ``X``. A text: another coordinate, such as ``"layer"``. Or
        one label a feature; or a list (or dictionary) of slices, columns or masks.
    cv
        Number of contiguous folds (with ``groups``: of folds of whole groups), a scikit-learn splitter, or pairs of
        training and held-out indices, for the predictions that the weights are fitted to.
    device
        Of the default estimator: ``"auto"``, ``"cpu"``, ``"cuda"``, …
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Attributes
    ----------
    weights_
        Of every space, ``(bands, targets)``; not negative, sums to one.
    coef_, intercept_
        Of the mixture, ``(targets, features)`` (``(features,)`` for a single series ``y``) and ``(targets,)``.
    cv_scores_
        Explained variance of each space's out-of-fold predictions, mean over folds, ``(bands, targets)``.
    best_score_
        The same of the mixture, ``(targets,)``. The weights were fitted to it: it is no estimate of performance.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Wolpert (1992), Neural Networks 5; Breiman (1996), Machine Learning 24; Lin et al. (2023), "Stacked regressions
    and structured variance partitioning for interpretable brain maps".

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((100, 8))
    >>> y = X[:, :4].sum(1) + rng.standard_normal(100)
    >>> encoding.StackedEncoder(bands=[slice(4), slice(4, 8)]).fit(X, y).weights_.round(1).tolist()
    [1.0, 0.0]
    """

    #: spaces may be named by a label of the features
    takes_labels = True

    def __init__(
        self,
        estimator: Any = None,
        bands: Any = None,
        cv: Any = 5,
        device: str | torch.device = "auto",
        progress: bool | None = False,
    ) -> None:
        self.estimator = estimator
        self.bands = bands
        self.cv = cv
        self.device = device
        self.progress = progress

    @property
    def independent_targets(self) -> bool:
        """Whether every target is fitted by itself: as in the estimator."""
        return self.estimator is None or fits_targets_alone(self.estimator)

    def fit(self, X: Any, y: Any, groups: Any = None) -> StackedEncoder:
        """Fit every space, and for each target the weights of the spaces.

        Parameters
        ----------
        X
            Features, ``(samples, features)``.
        y
            Responses, ``(samples,)`` or ``(samples, targets)``.
        groups
            One label a sample, or the name of a coordinate of ``X`` or ``y``; goes to the splitters.

        Raises
        ------
        ValueError, TypeError
            If input or bands are wrong, or the estimator is not linear.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> brain = neuro.simulate(n_stimuli=30, n_units=4, random_state=0)
        >>> encoding.StackedEncoder(bands=[slice(2), slice(2, 4)]).fit(brain, brain).weights_.dims
        ('band', 'neuroid')
        """
        spaces = Spaces.of(self, "bands", X, y, groups)
        n_bands, n_targets = len(spaces.bands), spaces.Y.shape[1]
        errors = torch.zeros(n_targets, n_bands, n_bands, dtype=torch.float64)
        held_out = []
        for truth, predictions in spaces.out_of_fold(self.progress):
            error = (truth - predictions).double()
            errors += torch.einsum("ant,bnt->tab", error, error)
            held_out.append((truth.double(), predictions.double()))
        weights = convex_weights(errors).T
        alone = [torch.stack([r2(truth, one) for one in predictions]) for truth, predictions in held_out]
        mixed = [r2(truth, (weights[:, None] * predictions).sum(0)) for truth, predictions in held_out]
        coef, intercept = torch.zeros(n_targets, spaces.X.shape[1]), torch.zeros(n_targets)
        coef, intercept = coef.to(spaces.X.dtype), intercept.to(spaces.X.dtype)
        for weight, columns in zip(weights.to(coef.dtype), spaces.bands.values(), strict=True):
            coef_of, intercept_of = spaces.fit(columns)
            coef[:, columns] = weight[:, None] * coef_of
            intercept += weight * intercept_of
        self._keep(
            X,
            y,
            {
                "coef_": (coef, ("target", "feature")),
                "intercept_": (intercept, ("target",)),
                "weights_": (weights, ("band", "target")),
                "cv_scores_": (torch.stack(alone).nanmean(0), ("band", "target")),
                "best_score_": (torch.stack(mixed).nanmean(0), ("target",)),
            },
            {"band": ("band", names_of(spaces.bands))},
        )
        return self
