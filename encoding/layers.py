"""Selection of the best layer for every target, by cross-validation inside the data it is fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from . import parameters
from .bands import names_of
from .containers import kind_of
from .engine.scoring import SCORES
from .linear import LinearEncoder
from .pipelines import fits_targets_alone
from .spaces import Spaces

#: layers whose scores differ by less than this are equal, and the first of them is chosen
TOLERANCE = 1e-12


class LayerSelectionCV(LinearEncoder):
    """Chooses the layer that predicts each target best, and fits it.

    Layers are compared by cross-validation on the samples given to ``fit``. Within
    :func:`cerebridge.encoding.evaluate` these are training rows, so that the choice is nested and its score unbiased;
    the score by which a layer was chosen is not.

    Parameters
    ----------
    estimator
        Linear model of one layer, cloned for each; ``None`` is :class:`RidgeCV`.
    by
        The coordinate of a labelled ``X`` that tells layers, or one label a feature; or a list (or dictionary) of
        slices, columns or masks.
    cv
        Number of contiguous folds (with ``groups``: of folds of whole groups), a scikit-learn splitter, or pairs of
        training and held-out indices.
    scoring
        ``"r2"`` or ``"pearsonr"``, the mean over folds of which is best for the chosen layer.
    per_target
        Whether every target has a layer of its own; else all have the layer with the best mean score.
    device
        Of the default estimator: ``"auto"``, ``"cpu"``, ``"cuda"``, …
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Attributes
    ----------
    layer_
        Name of the chosen layer, ``(targets,)``.
    coef_, intercept_
        ``(targets, features)`` (``(features,)`` for a single series ``y``), zero outside the chosen layer; and
        ``(targets,)``.
    cv_scores_
        Cross-validated score of every layer, ``(layers, targets)``.
    best_score_
        That of the chosen layer, ``(targets,)``. It was used to choose: it is no estimate of performance.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((100, 8))
    >>> Y = np.stack([X[:, :4].sum(1), X[:, 4:].sum(1)], 1) + rng.standard_normal((100, 2))
    >>> encoding.LayerSelectionCV(by=["early"] * 4 + ["late"] * 4).fit(X, Y).layer_.tolist()
    ['early', 'late']
    """

    #: spaces may be named by a label of the features
    takes_labels = True

    def __init__(
        self,
        estimator: Any = None,
        by: Any = "layer",
        cv: Any = 5,
        scoring: str = "r2",
        per_target: bool = True,
        device: str | torch.device = "auto",
        progress: bool | None = False,
    ) -> None:
        self.estimator = estimator
        self.by = by
        self.cv = cv
        self.scoring = scoring
        self.per_target = per_target
        self.device = device
        self.progress = progress

    @property
    def independent_targets(self) -> bool:
        """Whether every target is fitted by itself."""
        return self.per_target and (self.estimator is None or fits_targets_alone(self.estimator))

    def fit(self, X: Any, y: Any, groups: Any = None) -> LayerSelectionCV:
        """Choose a layer for every target, and fit it to all samples.

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
            If input or layers are wrong, or the estimator is not linear.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> brain = neuro.simulate(n_stimuli=30, n_units=4, random_state=0)
        >>> encoding.LayerSelectionCV(by=[slice(2), slice(2, 4)]).fit(brain, brain).layer_.values.tolist()
        [0, 0, 1, 1]
        """
        score = SCORES[parameters.known_scoring(self.scoring)]
        spaces = Spaces.of(self, "by", X, y, groups)
        scores = torch.stack(
            [
                torch.stack([score(truth.double(), one.double()) for one in predictions])
                for truth, predictions in spaces.out_of_fold(self.progress)
            ]
        ).nanmean(0)
        chosen = self._choose(scores)
        coef = torch.zeros(spaces.Y.shape[1], spaces.X.shape[1], dtype=spaces.X.dtype)
        intercept = torch.zeros(len(coef), dtype=spaces.X.dtype)
        for number, columns in enumerate(spaces.bands.values()):
            targets = (chosen == number).nonzero()[:, 0]
            if len(targets):
                coef_of, intercept[targets] = spaces.fit(columns, targets=targets)
                coef[targets[:, None], torch.from_numpy(columns)] = coef_of
        names = names_of(spaces.bands)
        self._keep(
            X,
            y,
            {
                "coef_": (coef, ("target", "feature")),
                "intercept_": (intercept, ("target",)),
                "cv_scores_": (scores, ("layer", "target")),
                "best_score_": (scores.gather(0, chosen[None])[0], ("target",)),
            },
            {"layer": ("layer", names)},
        )
        layer = names[chosen.numpy()].reshape(tuple(self.intercept_.shape))
        if kind_of(self.intercept_) == "xarray":
            layer = xr.DataArray(layer, dims=self.intercept_.dims, coords=self.intercept_.coords)
        self.layer_ = layer if np.ndim(layer) else np.asarray(layer)[()]
        return self

    def _choose(self, scores: torch.Tensor) -> torch.Tensor:
        """Position of the best layer of every target, the first among equals; a missing score is the worst."""
        known = scores.nan_to_num(nan=-torch.inf)
        if not self.per_target:
            known = scores.nanmean(1, keepdim=True).nan_to_num(nan=-torch.inf).expand_as(scores)
        return (known >= known.amax(0) - TOLERANCE).int().argmax(0)
