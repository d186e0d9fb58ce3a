"""Several layers of a network predict together, every unit trusting those that predict it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted

from ..containers import kind_of, to_tensor


class LayerEnsemble(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A readout a layer, averaged unit by unit with weights that follow how well each predicts held-out responses.

    Parameters
    ----------
    estimator
        Readout that is cloned for every layer; anything with ``best_score_`` after its fit, such as
        :class:`TransformerReadout` or :class:`cerebridge.encoding.RidgeCV`.
    sharpness
        Weights are the softmax over layers of ``sharpness`` times the score; default 40, the paper's.

    Attributes
    ----------
    layers_
        Names of the layers.
    estimators_
        Fitted readouts, one a layer.
    layer_weights_
        ``(layers, targets)``, or ``(layers,)`` for a single series; sums to one over layers.
    best_score_
        Weighted mean of the layers' scores, ``(targets,)``; used for the weights, so no estimate of performance.

    Notes
    -----
    A layer without a score for a unit, which does not vary where it would be scored, counts as one of score 0.

    References
    ----------
    Adeli et al. (2025), "Transformer brain encoders explain human high-level visual responses".

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> early, late = np.random.default_rng(0).standard_normal((2, 60, 4, 3, 3))
    >>> ensemble = readouts.LayerEnsemble(readouts.PRFReadout())
    >>> ensemble.fit({"early": early, "late": late}, late[:, :2, 1, 1]).layer_weights_.round(1).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """

    #: labelled features come with their labels, of which this reads the layers
    takes_labels = True
    #: what scikit-learn before 1.6 must give to make one
    _required_parameters = ("estimator",)

    def __init__(self, estimator: Any, sharpness: float = 40.0) -> None:
        self.estimator = estimator
        self.sharpness = sharpness

    def fit(self, X: Any, y: Any, groups: Any = None) -> LayerEnsemble:
        """Fit a readout to every layer.

        Parameters
        ----------
        X
            A labelled array with the label ``layer`` along its neuroids, as ``models.extract`` gives it; or a
            dictionary of maps or features, one a layer.
        y
            Responses, ``(samples,)`` or ``(samples, targets)``.
        groups
            As for the readout.

        Raises
        ------
        ValueError, TypeError
            If ``X`` has no layers, the readout keeps no ``best_score_``, or a layer cannot be fitted.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> from cerebridge.encoding import readouts
        >>> brain = neuro.simulate(n_stimuli=30, n_units=4, random_state=0)
        >>> layers = brain.assign_coords(layer=("neuroid", ["a", "a", "b", "b"]))
        >>> readouts.LayerEnsemble(encoding.RidgeCV()).fit(layers, brain).layers_
        ['a', 'b']
        """
        parts = _layers(X)
        self.layers_ = list(parts)
        self.estimators_ = []
        for number, (layer, part) in enumerate(parts.items()):
            readout = clone(self.estimator)
            if (path := getattr(readout, "checkpoint", None)) is not None and not Path(path).is_dir():
                # every layer is a training of its own, as those in a folder are anyway
                readout.set_params(checkpoint=Path(path).with_stem(f"{Path(path).stem}-{number}"))
            try:
                readout.fit(part, y, **({} if groups is None else {"groups": groups}))
            except (TypeError, ValueError) as error:
                raise type(error)(f"layer {layer!r}: {error}") from None
            if not hasattr(readout, "best_score_"):
                raise TypeError(
                    f"{type(readout).__name__} keeps no best_score_ to weight layers by; use a readout or RidgeCV."
                )
            self.estimators_.append(readout)
        scores = np.stack([to_tensor(readout.best_score_, "cpu").numpy() for readout in self.estimators_])
        scores = np.nan_to_num(scores)
        weights = np.exp(self.sharpness * (scores - scores.max(axis=0)))
        self.layer_weights_ = weights / weights.sum(axis=0)
        self.best_score_ = (self.layer_weights_ * scores).sum(axis=0)
        return self

    def predict(self, X: Any) -> Any:
        """Weighted mean of what the layers predict, of the kind and with the labels that each gives.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> from cerebridge.encoding import readouts
        >>> brain = neuro.simulate(n_stimuli=30, n_units=4, random_state=0)
        >>> layers = brain.assign_coords(layer=("neuroid", ["a", "a", "b", "b"]))
        >>> readouts.LayerEnsemble(encoding.RidgeCV()).fit(layers, brain).predict(layers).dims
        ('presentation', 'neuroid')
        """
        check_is_fitted(self)
        parts = _layers(X)
        missing = [layer for layer in self.layers_ if layer not in parts]
        if missing:
            raise ValueError(f"X lacks layer {missing[0]!r}, which was fitted; it has {list(parts)}.")
        predicted = [
            readout.predict(parts[layer])
            for layer, readout in zip(self.layers_, self.estimators_, strict=True)
        ]
        total = predicted[0] * self._weights(0, predicted[0])
        for number, part in enumerate(predicted[1:], 1):
            total = total + part * self._weights(number, part)
        return total

    def _weights(self, number: int, like: Any) -> Any:
        """Weights of one layer, to be multiplied with its predictions."""
        weights = self.layer_weights_[number]
        return (
            to_tensor(weights, like.device, like.dtype)
            if kind_of(like) == "torch"
            else weights.astype(like.dtype)
        )


def _layers(X: Any) -> dict[str, Any]:
    """Features of every layer, by name."""
    if isinstance(X, Mapping):
        return {str(layer): part for layer, part in X.items()}
    if kind_of(X) != "xarray" or "layer" not in X.coords or X.coords["layer"].dims != X.dims[1:]:
        raise ValueError(
            "X names no layers; give a labelled array with the label 'layer' along its neuroids, as models.extract "
            "gives it, or a dictionary of maps, one a layer."
        )
    labels = X.coords["layer"].values
    return {str(layer): X[:, np.flatnonzero(labels == layer)] for layer in pd.unique(labels)}
