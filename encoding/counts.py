"""What encoders of counts share: penalties, masks, scores by likelihood, and warnings of what teaches nothing."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from functools import partial
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..neuro.progress import track
from . import inputs
from .containers import to_tensor
from .engine.counts import Family, PseudoR2, explained
from .engine.glm import Fitted, Settings, fit_glm
from .engine.moments import Split
from .linear import Attributes, LinearEncoder
from .parameters import positive, whole_number

#: penalties of the default, one a decade
ALPHAS = tuple(10.0**exponent for exponent in range(-5, 1))


class CountEncoder(LinearEncoder):
    """A model whose linear predictor ``X coef_' + intercept_`` means a rate, fitted by penalised likelihood.

    A subclass says which family of distributions it is; everything else is here.
    """

    def __init__(
        self,
        alphas: ArrayLike = ALPHAS,
        l1_ratio: float = 0.0,
        cv: Any = 5,
        scoring: str = "pseudo_r2",
        feature_mask: ArrayLike | None = None,
        tol: float = 1e-5,
        max_iter: int = 200,
        device: str | torch.device = "auto",
        progress: bool | None = False,
    ) -> None:
        self.alphas = alphas
        self.l1_ratio = l1_ratio
        self.cv = cv
        self.scoring = scoring
        self.feature_mask = feature_mask
        self.tol = tol
        self.max_iter = max_iter
        self.device = device
        self.progress = progress

    @property
    def independent_targets(self) -> bool:
        """Whether any targets may be stacked into one fit: a mask belongs to those it was made for."""
        return self.feature_mask is None

    @abstractmethod
    def _family(self) -> Family:
        """The distribution, on the CPU and as fitted where something of it is."""

    def fit(self, X: Any, y: Any, groups: Any = None) -> CountEncoder:
        """Choose a penalty for every target, and fit it to all samples.

        Parameters
        ----------
        X
            Features, ``(samples, features)``.
        y
            Counts, ``(samples,)`` or ``(samples, targets)``.
        groups
            One label a sample, or the name of a coordinate of ``X`` or ``y``; goes to the splitter.

        Raises
        ------
        ValueError, TypeError
            If input or parameters are wrong: missing values, negative counts, penalties that are not positive, a
            fold that is empty, a device that is not there.

        Warns
        -----
        UserWarning
            Of penalties at the edge of their grid, of targets without counts, of those whose counts the features
            tell apart without error, and of those that did not converge.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import encoding
        >>> rng = np.random.default_rng(0)
        >>> X = rng.standard_normal((400, 3))
        >>> encoding.PoissonGLM().fit(X, rng.poisson(np.exp(X[:, 0]))).coef_.round(1).tolist()
        [1.0, 0.0, 0.0]
        """
        features = inputs.features(self, X, reset=True)
        targets = inputs.targets(y, len(features), X)
        device = self._device(X)
        dtype = torch.promote_types(features.dtype, targets.dtype)
        columns = targets.reshape(len(targets), -1).to(device, dtype)
        family = self._family()
        _require_counts(columns, family.most)
        alphas = positive(self.alphas, "alphas", "; for almost no penalty use a small one, such as 1e-9")
        splits: list[Split] = []
        if len(alphas) > 1:  # with one penalty there is nothing to choose
            splits = inputs.splits(self.cv, len(features), y, groups, (X, y))
        fitted = self._fit(
            features.to(device, dtype),
            columns,
            [Split(train.to(device), test.to(device)) for train, test in splits],
            torch.from_numpy(alphas).to(device),
            self._settings(family),
        )
        self._keep_fit(fitted, torch.from_numpy(alphas).to(device), X, y, dtype)
        if splits:
            best = fitted.scores.gather(1, fitted.chosen[:, None])[:, 0]
            inputs.warn_of_grid_edges(fitted.chosen, best, torch.from_numpy(alphas).to(device))
        _warn(fitted, columns, family.most, self.max_iter)
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Pseudo-R² of ``y`` against the mean rates of the training samples, mean over targets.

        Of deviances or (``scoring="mcfadden"``) of log-likelihoods.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import encoding
        >>> rng = np.random.default_rng(0)
        >>> X = rng.standard_normal((400, 3))
        >>> y = rng.poisson(np.exp(X[:, 0]))
        >>> round(encoding.PoissonGLM(1e-4).fit(X[:200], y[:200]).score(X[200:], y[200:]), 1)
        0.6
        """
        rates = to_tensor(self.predict(X), "cpu", torch.float64)
        counts = inputs.targets(y, len(rates)).to("cpu", torch.float64)
        weights = torch.ones(len(rates), dtype=torch.float64)
        if sample_weight is not None:
            weights = torch.as_tensor(np.asarray(sample_weight, dtype=np.float64))
        baseline = to_tensor(self.baseline_, "cpu", torch.float64).expand_as(rates)
        family = self._family()
        model, null, saturated = (
            weights @ family.log_likelihood(counts, rate) for rate in (rates, baseline, counts)
        )
        return float(explained(model, null, saturated, self._scoring()).mean())

    def _predict(self, features: torch.Tensor) -> torch.Tensor:
        predictor = super()._predict(features)
        return self._family().rate(predictor)

    def __sklearn_tags__(self) -> Any:
        """Counts are not negative."""
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        """The same for scikit-learn 1.5."""
        return {"requires_positive_y": True}

    def _settings(self, family: Family) -> Settings:
        if not 0 <= self.l1_ratio <= 1:
            raise ValueError(
                f"l1_ratio must lie between 0 (ridge) and 1 (absolute values), got {self.l1_ratio}."
            )
        if not self.tol > 0:
            raise ValueError(f"tol must be positive, got {self.tol}.")
        max_iter = whole_number(self.max_iter, "max_iter")
        return Settings(family, float(self.l1_ratio), self._scoring(), float(self.tol), max_iter)

    def _scoring(self) -> PseudoR2:
        if self.scoring not in get_args(PseudoR2):
            known = " or ".join(map(repr, get_args(PseudoR2)))
            raise ValueError(f"scoring={self.scoring!r} is unknown; use {known}.")
        return cast(PseudoR2, self.scoring)

    def _fit(
        self,
        X: torch.Tensor,
        Y: torch.Tensor,
        splits: list[Split],
        alphas: torch.Tensor,
        settings: Settings,
    ) -> Fitted:
        show = partial(track, description=f"fitting {type(self).__name__}", show=self.progress)
        if self.feature_mask is None:
            return fit_glm(X, Y, splits, alphas, settings, show)
        mask = _mask(self.feature_mask, X.shape[1], Y.shape[1])
        patterns, pattern = np.unique(mask, axis=1, return_inverse=True)
        whole: Fitted | None = None
        for k in show(range(patterns.shape[1])):
            used = torch.from_numpy(np.flatnonzero(patterns[:, k])).to(X.device)
            which = torch.from_numpy(np.flatnonzero(pattern.reshape(-1) == k)).to(X.device)
            part = fit_glm(X[:, used], Y[:, which], splits, alphas, settings)
            coef = part.coef.new_zeros(len(which), X.shape[1])
            coef[:, used] = part.coef
            part = part._replace(coef=coef)
            if whole is None:
                whole = Fitted(*(x.new_zeros(Y.shape[1], *x.shape[1:]) for x in part))
            for everything, piece in zip(whole, part, strict=True):
                everything[which] = piece
        assert whole is not None
        return whole

    def _keep_fit(self, fitted: Fitted, alphas: torch.Tensor, X: Any, y: Any, dtype: torch.dtype) -> None:
        best = fitted.scores.gather(1, fitted.chosen[:, None])[:, 0]
        self._keep(
            X,
            y,
            {
                "coef_": (fitted.coef.to(dtype), ("target", "feature")),
                "intercept_": (fitted.intercept.to(dtype), ("target",)),
                "alpha_": (alphas[fitted.chosen], ("target",)),
                "baseline_": (fitted.baseline.to(dtype), ("target",)),
                "n_iter_": (fitted.iterations, ("target",)),
                "converged_": (fitted.converged, ("target",)),
                **self._learned(fitted, dtype),
                **(
                    {
                        "best_score_": (best.to(dtype), ("target",)),
                        "cv_scores_": (fitted.scores.T.to(dtype), ("alpha", "target")),
                    }
                    if len(alphas) > 1
                    else {}
                ),
            },
            {"alpha": ("alpha", alphas.cpu().numpy())},
        )

    def _learned(self, fitted: Fitted, dtype: torch.dtype) -> Attributes:
        """What else is learned of the distribution."""
        return {}


def _require_counts(counts: torch.Tensor, most: float) -> None:
    """Refuse what has no likelihood, saying where."""
    wrong = ((counts < 0) | (counts > most)).any(0)
    if bool(wrong.any()):
        what = "numbers from 0" if most == float("inf") else "0 (no spike) or 1"
        raise ValueError(
            f"y holds what is no count in {int(wrong.sum())} of {wrong.numel()} targets, first column "
            f"{int(wrong.nonzero()[0])}; give {what}."
        )


def _mask(given: ArrayLike, features: int, targets: int) -> NDArray[np.bool_]:
    mask = np.asarray(given).astype(bool)
    mask = mask[:, None] if mask.ndim == 1 else mask
    if mask.shape != (features, targets):
        raise ValueError(
            f"feature_mask has shape {mask.shape}, but there are {features} features and {targets} targets; give "
            "features × targets."
        )
    empty = np.flatnonzero(~mask.any(axis=0))
    if len(empty):
        raise ValueError(
            f"feature_mask leaves {len(empty)} targets without a feature, first column {empty[0]}; leave one to each."
        )
    return mask


def _warn(fitted: Fitted, counts: torch.Tensor, most: float, max_iter: int) -> None:
    """Say which targets' coefficients mean less than they seem to."""
    total = counts.sum(0)
    complaints = (
        (
            total == 0,
            "have no counts",
            "their coefficients are 0 and their rate half a count over all samples",
        ),
        (
            total == most * len(counts),
            "have a count in every sample",
            "their coefficients are 0 and their rate half a count less over all samples",
        ),
        (
            fitted.separable,
            "are told apart from silence by the features without error",
            "only the penalty keeps their coefficients finite; use larger alphas or fewer features",
        ),
        (
            ~fitted.converged,
            f"did not converge in {max_iter} steps",
            "raise max_iter or tol, or use larger alphas",
        ),
    )
    for which, what, advice in complaints:
        if bool(which.any()):
            first = int(which.nonzero()[0])
            warnings.warn(
                f"{int(which.sum())} of {len(which)} targets (first column {first}) {what}: {advice}.",
                stacklevel=3,
            )
