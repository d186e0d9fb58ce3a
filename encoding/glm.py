"""Generalised linear models of spike counts: Poisson, negative binomial, Bernoulli."""

from __future__ import annotations

from typing import Any, cast, get_args

import torch
from numpy.typing import ArrayLike

from .containers import to_tensor
from .counts import ALPHAS, CountEncoder
from .engine.counts import Bernoulli, Family, Link, NegativeBinomial, Poisson
from .engine.glm import Fitted
from .linear import Attributes


class PoissonGLM(CountEncoder):
    """Poisson regression of many neurons at once, with a penalty of its own for every neuron.

    Minimises for each target the mean negative log-likelihood of its counts plus
    ``alpha * ((1 - l1_ratio) / 2 * |w|² + l1_ratio * |w|₁)``; the intercept is not penalised.

    Parameters
    ----------
    alphas
        Penalties to choose from, positive; default ``1e-5, 1e-4, … 1``. With a single one there is nothing to
        choose and no cross-validation.
    l1_ratio
        Share of absolute values in the penalty: 0 is ridge, 1 the lasso, between them the elastic net.
    link
        ``"log"``: the rate is ``exp(X coef_' + intercept_)``; ``"softplus"``: ``log(1 + exp(…))``, which grows
        linearly.
    cv
        Number of contiguous folds (with ``groups``: of folds of whole groups), a scikit-learn splitter, or pairs of
        training and held-out indices.
    scoring
        ``"pseudo_r2"`` (share of the deviance explained) or ``"mcfadden"`` (share of the log-likelihood), both
        against the mean rate of the training samples and over all held-out samples together.
    feature_mask
        ``(features, targets)``: which features each target may use; default: all. With one history a neuron, see
        :func:`cerebridge.encoding.bases.own_history`.
    tol
        Precision of the coefficients, in units of what one standard deviation of a feature does at the mean rate.
    max_iter
        Most steps of a fit.
    device
        ``"auto"`` (where a tensor is, else a GPU if there is one), ``"cpu"``, ``"cuda"``, …
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Attributes
    ----------
    coef_
        ``(targets, features)``, or ``(features,)`` for a single series ``y``.
    intercept_, baseline_
        Intercept, and mean count of the training samples, ``(targets,)``.
    alpha_, best_score_, cv_scores_
        Chosen penalty, its held-out score, ``(targets,)``, and those of all penalties, ``(alphas, targets)``. The
        score was used to choose: it is no estimate of performance. No scores with a single penalty.
    n_iter_, converged_
        Steps of the last fit, and whether it reached ``tol``, ``(targets,)``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    A target without counts gets coefficients of 0 and the rate of half a count over all samples. float32 only where
    X and y both are; sums and decompositions are always float64.

    References
    ----------
    McCullagh & Nelder (1989), Generalized Linear Models; Truccolo et al. (2005), Journal of Neurophysiology 93;
    Pillow et al. (2008), Nature 454.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 2))
    >>> Y = rng.poisson(np.exp(X @ [[0.5, 0.0], [0.0, 0.0]] - 1))
    >>> glm = encoding.PoissonGLM(alphas=[1e-4, 1e-2, 1e3]).fit(X, Y)
    >>> glm.coef_.shape, glm.alpha_.tolist()
    ((2, 2), [0.01, 1000.0])
    """

    def __init__(
        self,
        alphas: ArrayLike = ALPHAS,
        l1_ratio: float = 0.0,
        link: str = "log",
        cv: Any = 5,
        scoring: str = "pseudo_r2",
        feature_mask: ArrayLike | None = None,
        tol: float = 1e-5,
        max_iter: int = 200,
        device: str | torch.device = "auto",
        progress: bool | None = False,
    ) -> None:
        super().__init__(alphas, l1_ratio, cv, scoring, feature_mask, tol, max_iter, device, progress)
        self.link = link

    def _family(self) -> Family:
        if self.link not in get_args(Link):
            raise ValueError(f"link={self.link!r} is unknown; use {' or '.join(map(repr, get_args(Link)))}.")
        return Poisson(cast(Link, self.link))


class NegativeBinomialGLM(CountEncoder):
    """Negative binomial regression, for counts that vary more than Poisson ones: by ``rate + dispersion * rate²``.

    The dispersion of every target is estimated with its coefficients, by maximum likelihood; log link. Parameters,
    attributes and notes are those of :class:`PoissonGLM`, without ``link``.

    Attributes
    ----------
    dispersion_
        ``(targets,)``; at its least, 1e-5, counts are Poisson.

    References
    ----------
    Lawless (1987), Canadian Journal of Statistics 15; Hilbe (2011), Negative Binomial Regression.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((2000, 2))
    >>> rates = np.exp(X[:, 0]) * rng.gamma(2.0, 0.5, 2000)
    >>> encoding.NegativeBinomialGLM(1e-4).fit(X, rng.poisson(rates)).dispersion_.round(1).tolist()
    0.5
    """

    def _family(self) -> Family:
        fitted = getattr(self, "dispersion_", 1.0)
        return NegativeBinomial(to_tensor(fitted, "cpu", torch.float64))

    def _learned(self, fitted: Fitted, dtype: torch.dtype) -> Attributes:
        return {"dispersion_": (fitted.dispersion.to(dtype), ("target",))}


class BernoulliGLM(CountEncoder):
    """Logistic regression of many neurons at once, for bins so short that they hold one spike or none.

    Parameters, attributes and notes are those of :class:`PoissonGLM`, without ``link``; predictions are
    probabilities of a spike.

    References
    ----------
    McCullagh & Nelder (1989), Generalized Linear Models.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 2))
    >>> y = rng.random(500) < 1 / (1 + np.exp(-2 * X[:, 0]))
    >>> encoding.BernoulliGLM(1e-6).fit(X, y).predict([[0.0, 0.0], [3.0, 0.0]]).round(1).tolist()
    [0.5, 1.0]
    """

    def _family(self) -> Family:
        return Bernoulli()
