"""What all encoders of table-shaped features share: checks, devices, labels, scores and a state without pickles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from ..models.devices import resolve_device
from . import inputs, ondisk
from .containers import Kind, Labels, from_plain, kind_of, labels_along, ndim_of, to_kind, to_plain, to_tensor

#: fitted attributes by name: a tensor, and what its axes are called; ``"target"`` and ``"feature"`` get labels
Attributes = Mapping[str, tuple[torch.Tensor, tuple[str, ...]]]


class Encoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A model of responses ``(samples, targets)`` from features ``(samples, features)``.

    A subclass has a parameter ``device``, calls :meth:`_keep` at the end of ``fit`` with at least ``intercept_``
    (one number a target, which carries the labels of the targets), and defines :meth:`_predict` on tensors.
    """

    device: str | torch.device

    @abstractmethod
    def _predict(self, features: torch.Tensor) -> torch.Tensor:
        """Predictions, ``(samples, targets)`` or ``(samples,)`` after a fit to a single series."""

    def predict(self, X: Any) -> Any:
        """Predict the responses to ``X``, ``(samples, features)``.

        Returns
        -------
        array
            ``(samples, targets)``, or ``(samples,)`` after a fit to a single series; the kind that ``X`` is. A
            labelled array has the labels of its samples and those of the fitted targets; a sample's label that
            is also the name of a target's gets the name of its dimension as prefix.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import encoding
        >>> X = np.arange(20.0)[:, None]
        >>> encoding.RidgeCV([1e-6]).fit(X, 2 * X[:, 0]).predict([[100.0]]).round(3).tolist()
        [200.0]
        """
        check_is_fitted(self)
        predicted = self._predict(inputs.features(self, X, reset=False).to(self._device(X)))
        kind = kind_of(X)
        if kind != "xarray":
            return to_kind(predicted, kind, X if kind == "torch" else None)
        known = self.intercept_
        if kind_of(known) != "xarray":
            known = to_tensor(known)
            known = to_kind(known, "xarray", dims=["neuroid"][: known.ndim])
        labels = {name: (coord.dims, coord.values) for name, coord in known.coords.items()}
        for name, label in labels_along(X, X.dims[0]).items():
            labels[f"{X.dims[0]}_{name}" if name in labels else name] = label
        return to_kind(predicted, kind, dims=(X.dims[0], *known.dims), coords=labels, attrs=known.attrs)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the variance of ``y`` that is predicted, mean over targets, as scikit-learn defines it.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import encoding
        >>> X = np.arange(20.0)[:, None]
        >>> round(encoding.RidgeCV([1e-6]).fit(X, 2 * X).score(X, 2 * X), 6)
        1.0
        """
        truth, predicted = (to_tensor(values, "cpu").numpy() for values in (y, self.predict(X)))
        return float(r2_score(truth, predicted, sample_weight=sample_weight))

    def _device(self, X: Any) -> torch.device:
        """Where to compute: what ``device`` says, or where ``X`` is."""
        accelerated = kind_of(X) == "torch" and X.device.type != "cpu"
        device = X.device if self.device == "auto" and accelerated else resolve_device(self.device)
        if device.type == "mps":
            raise ValueError(
                f"{type(self).__name__} needs float64, which device='mps' has not; use device='cpu'."
            )
        return device

    def _keep(
        self,
        X: Any,
        y: Any,
        attributes: Attributes,
        labels: Labels | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Set the attributes of a fit, in the kind and with the labels of its input.

        Parameters
        ----------
        X, y
            What was fitted. A single series ``y`` loses the axis ``"target"``, which must then have length 1.
        attributes
            By name, with an underscore at the end.
        labels
            Of other axes: name to ``(dimension, values)``.
        names
            Dimensions of other axes, where they differ from the axis' own name.
        """
        single = ndim_of(y) == 1
        kind, dims_of, labels = self._describe(X, y, labels, names)
        for name, (tensor, axes) in attributes.items():
            if single and "target" in axes:
                tensor = tensor.squeeze(axes.index("target"))
                axes = tuple(axis for axis in axes if axis != "target")
            dims = [dims_of.get(axis, axis) for axis in axes]
            coords = {key: label for key, label in labels.items() if label[0] in dims}
            attrs = y.attrs if name == "intercept_" and kind_of(y) == "xarray" else {}
            setattr(self, name, to_kind(tensor, kind, dims=dims, coords=coords, attrs=attrs))

    def _describe(
        self, X: Any, y: Any, labels: Labels | None = None, names: Mapping[str, str] | None = None
    ) -> tuple[Kind, dict[str, Any], Labels]:
        """In which kind the attributes of a fit come, what their axes are called, and all labels of these."""
        kinds = {kind_of(X), kind_of(y)}
        kind: Kind = "xarray" if "xarray" in kinds else "torch" if "torch" in kinds else "numpy"
        dims_of: dict[str, Any] = {"target": "neuroid", "feature": "feature", **(names or {})}
        labels = dict(labels or {})
        if kind_of(X) == "xarray":
            labels |= labels_along(X, X.dims[1], renamed="feature", prefix="feature_")
        if kind_of(y) == "xarray" and ndim_of(y) > 1:
            dims_of["target"] = y.dims[1]
            labels |= labels_along(y, y.dims[1])
        return kind, dims_of, labels

    def __getstate__(self) -> dict[str, Any]:
        """What is stored: plain arrays, so that no file needs to hold tensors or labelled arrays."""
        return {name: to_plain(value) for name, value in super().__getstate__().items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The inverse of ``__getstate__``."""
        super().__setstate__({name: from_plain(value) for name, value in state.items()})


class LinearEncoder(Encoder):
    """An encoder whose prediction is ``X coef_' + intercept_``.

    ``coef_`` is ``(targets, features)``, or ``(features,)`` after a fit to a single series.
    """

    def _predict(self, features: torch.Tensor) -> torch.Tensor:
        device = features.device
        intercept = to_tensor(self.intercept_, device)
        predicted = []
        for block in ondisk.row_blocks(self.coef_):
            coef = to_tensor(block, device)
            dtype = torch.promote_types(features.dtype, coef.dtype)
            predicted.append(features.to(dtype) @ coef.to(dtype).movedim(0, -1))
        whole = predicted[0] if len(predicted) == 1 else torch.cat(predicted, -1)
        return whole.add_(intercept.to(dtype))
