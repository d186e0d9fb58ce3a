"""Kernel ridge regression with a penalty, and a kernel or a mixture of kernels, of its own for every target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from ..neuro.progress import track
from . import inputs, parameters
from .bands import find_bands
from .containers import Labels, kind_of, labels_along, to_tensor
from .engine import kernels as engine
from .engine.bandsearch import draw_candidates
from .engine.moments import Split
from .engine.planning import FEATURE_BLOCK
from .linear import Encoder

#: penalties of the default, one a decade
ALPHAS = tuple(10.0**exponent for exponent in range(-4, 7))
#: kernels by name, and the parameters that each takes
KERNELS: dict[str, tuple[Callable[..., torch.Tensor], tuple[str, ...]]] = {
    "linear": (engine.linear, ()),
    "polynomial": (engine.polynomial, ("gamma", "degree", "coef0")),
    "rbf": (engine.rbf, ("gamma",)),
}


class Base(NamedTuple):
    """One kernel on some of the features."""

    name: str
    function: engine.Kernel
    columns: NDArray[np.int64] | slice

    def matrix(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Of the rows of ``a`` with those of ``b``, in float64."""
        kernel = self.function(a[:, self.columns].double(), b[:, self.columns].double())
        if not isinstance(kernel, torch.Tensor) or kernel.shape != (len(a), len(b)):
            raise ValueError(
                f"kernel {self.name} gave {getattr(kernel, 'shape', type(kernel).__name__)} for {len(a)} and {len(b)} "
                "samples; it must return a tensor with one row and one column for each."
            )
        if not bool(torch.isfinite(kernel.sum())):
            raise ValueError(f"kernel {self.name} gave values that are not finite; scale the features.")
        return kernel.double()


class KernelRidgeCV(Encoder):
    """Kernel ridge regression that chooses penalty and kernel for every target by cross-validation.

    Exact: the scores are those of fitting every fold, kernel, penalty and target by itself, up to rounding; each
    kernel is decomposed once for all folds and penalties. An intercept is learned with every fit, which is what
    centring the kernel on its training samples does.

    Parameters
    ----------
    kernel
        ``"linear"``, ``"rbf"``, ``"polynomial"``, or a function of two tensors ``(n, features)`` and
        ``(m, features)`` with values ``(n, m)``. A list of them is a weighted sum of kernels; there an entry may be
        a pair of name and parameters, such as ``("rbf", {"gamma": 0.1})``.
    alphas
        Penalties to choose from, positive; default ``1e-4, 1e-3, … 1e6``.
    gamma, degree, coef0
        Parameters of ``rbf``, ``exp(-gamma |a - b|²)``, and ``polynomial``, ``(gamma a'b + coef0) ** degree``;
        ``gamma=None`` is one over the number of features. With a single kernel each may be a list to choose from.
    bands
        Bands of features, each with a kernel of its own: the name of a coordinate of the features, one label a
        feature, or a list (or a dictionary with names) of slices, lists of columns or masks, which hold every
        feature once. A single ``kernel`` serves all bands; a list has one for each.
    n_candidates
        Mixtures to choose from where there are several kernels: all weights equal, each kernel alone, and the rest
        drawn from Dirichlet distributions. Weights sum to 1.
    cv, scoring, fit_intercept, device, progress
        As for :class:`~cerebridge.encoding.ridge.RidgeCV`.
    random_state
        Seed of the mixtures.

    Attributes
    ----------
    dual_coef_
        ``(targets, samples)``, or ``(samples,)`` for a single series ``y``.
    intercept_, alpha_, best_score_
        Intercept, chosen penalty, and its cross-validated score, ``(targets,)``. The score was used to choose:
        it is no estimate of performance.
    kernel_weights_
        ``(targets, kernels)``: of the chosen mixture, or 1 at the chosen parameters.
    kernels_
        Names of the kernels, such as ``"rbf(gamma=0.1)"``.
    cv_scores_
        Of every candidate at its best penalty, ``(candidates, targets)``.
    X_fit_
        Features of the training samples, which predictions compare with.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Kernels and decompositions are float64, products with targets of the data's precision. A fit takes a few
    matrices of ``(samples, samples)``, and one for each kernel of a mixture. In a mixture kernels should be of
    similar size: bring features to a common scale first.

    References
    ----------
    Saunders, Gammerman & Vovk (1998), ICML; Dupré la Tour et al. (2022), NeuroImage 264.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> x = np.linspace(-3, 3, 60)[np.random.default_rng(0).permutation(60), None]
    >>> Y = np.column_stack([np.sin(2 * x[:, 0]), x[:, 0]])
    >>> encoding.KernelRidgeCV("linear").fit(x, Y).best_score_.round(2).tolist()
    [0.08, 1.0]
    >>> encoding.KernelRidgeCV("rbf", gamma=[0.1, 1.0]).fit(x, Y).best_score_.round(2).tolist()
    [1.0, 1.0]
    """

    #: every target is fitted by itself, so that many may be stacked into one fit
    independent_targets = True
    #: bands may be named by a label of the features
    takes_labels = True

    def __init__(
        self,
        kernel: Any = "linear",
        alphas: ArrayLike = ALPHAS,
        gamma: float | Sequence[float] | None = None,
        degree: float | Sequence[float] = 3,
        coef0: float | Sequence[float] = 1,
        bands: Any = None,
        n_candidates: int = 100,
        cv: Any = 5,
        scoring: str = "r2",
        fit_intercept: bool = True,
        random_state: Any = 0,
        device: str | torch.device = "auto",
        progress: bool | None = False,
    ) -> None:
        self.kernel = kernel
        self.alphas = alphas
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.bands = bands
        self.n_candidates = n_candidates
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.random_state = random_state
        self.device = device
        self.progress = progress

    def fit(self, X: Any, y: Any, groups: Any = None) -> KernelRidgeCV:
        """Choose a kernel and a penalty for every target, and fit them to all samples.

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
            If input or parameters are wrong: missing values, an unknown kernel, bands that do not exist, a fold
            that is empty, a device that is not there.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> brain = neuro.simulate(n_stimuli=20, n_units=3, random_state=0)
        >>> encoding.KernelRidgeCV("rbf").fit(brain, brain).kernel_weights_.dims
        ('neuroid', 'kernel')
        """
        features = inputs.features(self, X, reset=True)
        targets = inputs.targets(y, len(features), X)
        splits = inputs.splits(self.cv, len(features), y, groups, (X, y))
        alphas = parameters.positive(self.alphas, "alphas", "; for almost no penalty use 1e-6")
        scoring = parameters.known_scoring(self.scoring)
        self.bands_ = self._find_bands(X)
        bases = self._bases()
        self.kernels_ = tuple(base.name for base in bases)
        weights = self._weights(len(bases))
        device = self._device(X)
        features, targets = features.to(device), targets.to(device)
        columns = targets.reshape(len(targets), -1).to(torch.promote_types(features.dtype, targets.dtype))
        matrices = [partial(base.matrix, features, features) for base in bases]
        found = engine.search(
            track(
                engine.combinations(matrices, weights.to(device)),
                total=len(weights),
                description="fitting kernel ridge",
                show=self.progress,
            ),
            columns,
            [Split(train.to(device), test.to(device)) for train, test in splits],
            torch.from_numpy(alphas).to(device),
            scoring,
            bool(self.fit_intercept),
        )
        self._keep_found(found, torch.from_numpy(alphas), weights, X, y, features)
        best = found.scores.gather(0, found.candidate[None])[0]
        inputs.warn_of_missing_scores(best, targets, y)
        inputs.warn_of_grid_edges(found.alpha, best, alphas)
        return self

    def _predict(self, features: torch.Tensor) -> torch.Tensor:
        fitted, dual, intercept, weights = (
            to_tensor(values, features.device)
            for values in (self.X_fit_, self.dual_coef_, self.intercept_, self.kernel_weights_)
        )
        single = dual.ndim == 1
        if single:
            dual, intercept, weights = dual[None], intercept[None], weights[None]
        predicted = intercept.repeat(len(features), 1).to(torch.promote_types(features.dtype, dual.dtype))
        rows = max(1, FEATURE_BLOCK // len(fitted))
        for base, weight in zip(self._bases(), weights.T, strict=True):
            where = weight.nonzero()[:, 0]
            if not len(where):
                continue
            scaled = (dual[where] * weight[where, None].to(dual.dtype)).T.to(predicted.dtype)
            for start in range(0, len(features), rows):
                block = slice(start, start + rows)
                predicted[block, where] += base.matrix(features[block], fitted).to(predicted.dtype) @ scaled
        return predicted[:, 0] if single else predicted

    def _find_bands(self, X: Any) -> dict[str, NDArray[np.int64]] | None:
        """Columns of every band by its name; none where kernels are of all features."""
        if self.bands is None:
            return None
        found = find_bands(self.bands, X, self.n_features_in_)
        return {name if isinstance(name, str) else f"band {name}": columns for name, columns in found.items()}

    def _bases(self) -> list[Base]:
        """The kernels, in the order of the weights."""
        given = self.kernel if isinstance(self.kernel, list) else [self.kernel]
        if not given:
            raise ValueError(f"kernel is an empty list; name {' or '.join(KERNELS)}, or give functions.")
        if self.bands_ is None:
            pairs: list[tuple[Any, str, Any]] = [(entry, "", slice(None)) for entry in given]
        else:
            given = given if isinstance(self.kernel, list) else given * len(self.bands_)
            if len(given) != len(self.bands_):
                raise ValueError(
                    f"kernel lists {len(given)} kernels for {len(self.bands_)} bands; give one each, or one for all."
                )
            pairs = [(entry, *band) for entry, band in zip(given, self.bands_.items(), strict=True)]
        expanded = [self._expand(*pair) for pair in pairs]
        if len(expanded) > 1 and (grids := [bases[0].name for bases in expanded if len(bases) > 1]):
            raise ValueError(
                f"kernel {grids[0]} of a mixture has a list of parameters; give one value, and list the kernel twice."
            )
        return [base for bases in expanded for base in bases]

    def _expand(self, entry: Any, band: str, columns: NDArray[np.int64] | slice) -> list[Base]:
        """One kernel for every combination of the listed parameters."""
        of_band = f" of {band}" if band else ""
        if callable(entry):
            return [Base(getattr(entry, "__name__", "function") + of_band, entry, columns)]
        name, own = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, {})
        if not isinstance(name, str) or name not in KERNELS or not isinstance(own, dict):
            raise ValueError(
                f"kernel={entry!r} is unknown; use {', '.join(map(repr, KERNELS))}, a function, a pair of name and "
                "parameters, or a list of these."
            )
        function, names = KERNELS[name]
        if wrong := sorted(set(own) - set(names)):
            raise ValueError(
                f"kernel {name!r} has no parameter {wrong[0]!r}; it has {', '.join(names) or 'none'}."
            )
        width = self.n_features_in_ if isinstance(columns, slice) else len(columns)
        grids = [_values(own.get(key, getattr(self, key)), key, width) for key in names]
        bases = []
        for values in product(*grids):
            chosen = dict(zip(names, values, strict=True))
            inside = ", ".join(f"{key}={value:g}" for key, value in chosen.items())
            title = f"{name}({inside})" if inside else name
            bases.append(Base(title + of_band, partial(function, **chosen), columns))
        return bases

    def _weights(self, n_kernels: int) -> torch.Tensor:
        """Candidates, ``(candidates, kernels)``: every kernel by itself, or mixtures."""
        if self.bands_ is None and not isinstance(self.kernel, list):
            return torch.eye(n_kernels, dtype=torch.float64)
        n_candidates = parameters.whole_number(self.n_candidates, "n_candidates")
        return draw_candidates(
            n_candidates, n_kernels, check_random_state(self.random_state).randint(2**31 - 1)
        )

    def _keep_found(
        self,
        found: engine.Found,
        alphas: torch.Tensor,
        weights: torch.Tensor,
        X: Any,
        y: Any,
        features: torch.Tensor,
    ) -> None:
        candidate = found.candidate.cpu()
        labels: Labels = {"kernel": ("kernel", np.array(self.kernels_))}
        if kind_of(X) == "xarray":
            labels |= labels_along(X, X.dims[0], renamed="sample", prefix="sample_")
        self._keep(
            X,
            y,
            {
                "dual_coef_": (found.dual, ("target", "sample")),
                "intercept_": (found.intercept, ("target",)),
                "alpha_": (alphas[found.alpha.cpu()].to(found.dual.device), ("target",)),
                "best_score_": (found.scores.gather(0, found.candidate[None])[0], ("target",)),
                "kernel_weights_": (weights[candidate].to(found.dual.device), ("target", "kernel")),
                "cv_scores_": (found.scores, ("candidate", "target")),
                "X_fit_": (features, ("sample", "feature")),
            },
            labels,
        )


def _values(given: Any, name: str, n_features: int) -> list[float]:
    """One parameter of a kernel as a list to choose from."""
    if name == "gamma":
        return [1 / n_features] if given is None else parameters.positive(given, "gamma").tolist()
    if name == "degree":
        return [float(value) for value in parameters.whole_numbers(given, "degree")]
    values = np.atleast_1d(np.asarray(given, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not (values >= 0).all():
        raise ValueError(f"{name}={given!r} is no kernel's; give numbers from 0.")
    return values.tolist()
