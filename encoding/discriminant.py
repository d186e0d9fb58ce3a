"""Linear discriminant analysis with automatic shrinkage, fast enough to be fitted for every permutation and place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from . import inputs

Array = NDArray[np.float64]


class ShrinkageLDA(ClassifierMixin, BaseEstimator):
    r"""Fisher's discriminant whose class covariances are shrunk automatically.

    The same as scikit-learn's ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")`` up to rounding, but
    many times faster: the amount of shrinkage follows from sums of squares of rows and from one Gram matrix,
    covariances of all classes are one matrix product, and the system is solved by Cholesky's decomposition.

    Attributes
    ----------
    classes_, means_, coef_, intercept_
        Labels; means of the classes; one weight vector and constant a class.

    References
    ----------
    Ledoit & Wolf (2004). A well-conditioned estimator for large-dimensional covariance matrices. J Multivar Anal 88.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import ShrinkageLDA
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> float(ShrinkageLDA().fit(X, X[:, 0] > 0).score(X, X[:, 0] > 0)) > 0.9
    True
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> ShrinkageLDA:
        """Estimate means, shrunk covariance and weights.

        Parameters
        ----------
        X
            Rows × features.
        y
            The class of each row.

        Raises
        ------
        ValueError
            If values are missing, shapes differ or there is one class only.
        """
        values = _values(self, X, reset=True)
        if y is None:
            raise ValueError("ShrinkageLDA requires y to be passed, but the target y is None.")
        labels = column_or_1d(y, warn=True)
        check_consistent_length(values, labels)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"all rows are of one class, {str(self.classes_[0])!r}; a classifier needs at least two."
            )
        priors = np.bincount(codes) / len(codes)
        self.means_ = np.stack([values[codes == k].mean(axis=0) for k in range(len(priors))])
        rows, diagonal = [], np.zeros(values.shape[1])
        for k, prior in enumerate(priors):
            centred = values[codes == k] - self.means_[k]
            scale = centred.std(axis=0)
            scale[scale < 10 * np.finfo(float).eps * np.abs(self.means_[k])] = 0
            scale[scale == 0] = 1
            shrinkage, mean_variance = _ledoit_wolf(centred / scale)
            rows.append(centred * np.sqrt(prior * (1 - shrinkage) / len(centred)))
            diagonal += prior * shrinkage * mean_variance * scale**2
        stacked = np.concatenate(rows)
        covariance = stacked.T @ stacked
        covariance.flat[:: len(diagonal) + 1] += diagonal
        weights = _solve(covariance, self.means_.T).T
        constants = np.log(priors) - 0.5 * np.einsum("kp,kp->k", self.means_, weights)
        if len(priors) == 2:
            weights, constants = weights[[1]] - weights[[0]], constants[[1]] - constants[[0]]
        self.coef_, self.intercept_ = weights, constants
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """Scores of the classes, rows × classes; of two classes, how much the second is favoured."""
        check_is_fitted(self)
        scores: Array = _values(self, X, reset=False) @ self.coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row."""
        scores = self.decision_function(X)
        chosen: NDArray[Any] = self.classes_[
            (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        ]
        return chosen


def _values(estimator: ShrinkageLDA, X: Any, reset: bool) -> Array:
    return np.asarray(inputs.features(estimator, X, reset=reset).double().cpu().numpy())


def _ledoit_wolf(rows: Array) -> tuple[float, float]:
    """How far to shrink the covariance of centred rows towards a multiple of the identity, and to which."""
    n, p = rows.shape
    if p == 1:
        return 0.0, float((rows**2).mean())
    gram = rows @ rows.T if n < p else rows.T @ rows
    mean_variance = float(np.einsum("ij,ij->", rows, rows)) / (n * p)
    fourth = float((np.einsum("ij,ij->i", rows, rows) ** 2).sum())
    squares = float(np.einsum("ij,ij->", gram, gram)) / n**2
    distance = squares / p - mean_variance**2
    spread = min((fourth / n - squares) / (p * n), distance)
    return (0.0 if spread <= 0 else spread / distance), mean_variance


def _solve(covariance: Array, right: Array) -> Array:
    """Solution of the system; the one of least length where it has several."""
    try:
        factor = linalg.cho_factor(covariance, lower=True, check_finite=False)
    except linalg.LinAlgError:
        return np.asarray(linalg.lstsq(covariance, right)[0])
    return np.asarray(linalg.cho_solve(factor, right, check_finite=False))
