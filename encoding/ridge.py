"""Ridge regression with a penalty of its own for every target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ..models.memory import parse_bytes
from ..neuro.progress import track
from . import inputs, ondisk, parameters
from .containers import ndim_of
from .engine.missing import Pattern, gather, n_samples, part_of, patterns, restrict
from .engine.moments import Split
from .engine.paths import cross_validate
from .engine.planning import Path, Plan, Problem, make_plan, measure_speed
from .engine.primal import Fitted
from .engine.tables import Matrix, Table
from .linear import LinearEncoder

#: penalties of the default, one a decade
ALPHAS = tuple(10.0**exponent for exponent in range(-2, 7))


class RidgeCV(LinearEncoder):
    """Ridge regression that chooses a penalty for every target by cross-validation.

    Exact: the scores are those of fitting every fold, penalty and target by itself, up to rounding. With more
    samples than features it works on moments of the folds, else on one kernel for all folds; :meth:`plan` says
    which and what it takes.

    Parameters
    ----------
    alphas
        Penalties to choose from, positive; default ``0.01, 0.1, … 1e6``.
    cv
        Number of contiguous folds (with ``groups``: of folds of whole groups, at most one a group), a scikit-learn
        splitter, or pairs of training and held-out indices. ``"loo"`` leaves out every sample by itself and
        ``"gcv"`` approximates that, both in closed form; their score is one of all held-out predictions together.
    scoring
        ``"r2"`` or ``"pearsonr"``, the mean over folds of which is best at the chosen penalty. Among equals the
        largest penalty is chosen. A target that does not vary in a held-out set has no score there.
    fit_intercept
        Whether to fit an intercept, which is not penalised.
    device
        ``"auto"`` (where a tensor is, else a GPU if there is one), ``"cpu"``, ``"cuda"``, …
    memory
        Most that a fit may take beside its data and results, as bytes or ``"2GiB"``. It changes how many targets
        are worked on at a time, not the answer.
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Attributes
    ----------
    coef_
        ``(targets, features)``, or ``(features,)`` for a single series ``y``.
    intercept_, alpha_, best_score_
        Intercept, chosen penalty, and its cross-validated score, ``(targets,)``. The score was used to choose:
        it is no estimate of performance.
    cv_scores_
        Cross-validated score of every penalty, ``(alphas, targets)``.
    path_
        ``"primal"``, ``"dual"``, ``"rotated"``, ``"loo"`` or ``"gcv"``: how it was computed.
    n_samples_
        Samples that each target was fitted to, ``(targets,)``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Numbers of the data's precision: float32 only where X and y both are, else float64. Moments and decompositions
    are always float64. numpy, torch (on its device) and labelled arrays come back as what they were; labels of
    features get the prefix ``feature_``.

    References
    ----------
    Hoerl & Kennard (1970), Technometrics 12; Golub, Heath & Wahba (1979), Technometrics 21.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((50, 20))
    >>> Y = rng.standard_normal((50, 2)) + np.outer(X[:, 0], [2, 0])
    >>> ridge = encoding.RidgeCV(alphas=[0.1, 10.0, 1000.0]).fit(X, Y)
    >>> ridge.coef_.shape, ridge.alpha_.tolist()
    ((2, 20), [10.0, 1000.0])
    """

    #: every target is fitted by itself, so that many may be stacked into one fit
    independent_targets = True
    #: a target is fitted to the samples that it has
    handles_missing = True

    def __init__(
        self,
        alphas: ArrayLike = ALPHAS,
        cv: Any = 5,
        scoring: str = "r2",
        fit_intercept: bool = True,
        device: str | torch.device = "auto",
        memory: str | int | None = None,
        progress: bool | None = False,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.device = device
        self.memory = memory
        self.progress = progress

    def fit(self, X: Any, y: Any, groups: Any = None, coef_to: str | PathLike[str] | None = None) -> RidgeCV:
        """Choose a penalty for every target, and fit it to all samples.

        Parameters
        ----------
        X
            Features, ``(samples, features)``. Like ``y`` they may be an HDF5 dataset, a memory map or a labelled
            array that was not loaded: what is large beside ``memory`` is read in pieces and never as a whole.
        y
            Responses, ``(samples,)`` or ``(samples, targets)``. In memory they may miss samples (NaN): each target is
            fitted to those it has, with folds made of these.
        groups
            One label a sample, or the name of a coordinate of ``X`` or ``y``; goes to the splitter.
        coef_to
            A netCDF-4 file to which coefficients go as they are found, instead of into memory; it is complete or not
            there. ``coef_`` is then a labelled array that reads it where it is asked for.

        Raises
        ------
        ValueError, TypeError
            If input or parameters are wrong: missing features, no positive penalties, a fold that is empty, a
            device that is not there.
        OSError
            If coefficients cannot be written.

        Examples
        --------
        >>> from cerebridge import encoding, neuro
        >>> brain = neuro.simulate(n_stimuli=20, n_units=3, random_state=0)
        >>> encoding.RidgeCV([100.0]).fit(brain, brain).coef_.dims
        ('neuroid', 'feature')
        """
        features = ondisk.features(self, X, self._limit())
        columns = ondisk.targets(y, len(features), X, self._limit())
        features = features.to(self._device(X), torch.promote_types(features.dtype, columns.dtype))
        found = patterns(columns)
        splits = self._splits_of(found, len(features), y, inputs.group_labels(groups, len(features), (X, y)))
        taken = ondisk.bytes_read(X, features) + ondisk.bytes_read(y, columns)
        labels = self._describe(X, y)[2]
        with ExitStack() as stack:
            write = None
            if coef_to is not None:
                shape = (columns.shape[1], features.shape[1])
                write = stack.enter_context(ondisk.writing(coef_to, shape, features.dtype, labels))
            self.path_, fitted = self._fit(features, columns, found, splits, taken, write)
        coef = None if coef_to is None else ondisk.reading(coef_to, labels)
        if coef is not None and ndim_of(y) == 1:
            coef = coef.isel(neuroid=0, drop=True)
        self._keep_fit(fitted, n_samples(found), coef, X, y)
        inputs.warn_of_ragged_targets(n_samples(found), len(features), len(found))
        best = fitted.scores.amax(1)
        inputs.warn_of_missing_scores(best, fitted.scores if ndim_of(y) == 2 else best, y)
        inputs.warn_of_grid_edges(fitted.chosen, best, self._alphas())
        return self

    def plan(self, X: Any, y: Any, groups: Any = None) -> Plan:
        """Say how a fit would be computed, how much memory it takes and about how long, without fitting.

        Parameters
        ----------
        X, y
            The arrays, or their shapes as tuples.
        groups
            As for :meth:`fit`.

        Examples
        --------
        >>> from cerebridge import encoding
        >>> plan = encoding.RidgeCV().plan((3000, 1000), (3000, 5000))
        >>> plan.path, plan.reason
        ('primal', 'the dual way takes 3.5 times as many operations')
        """
        shapes = [given if isinstance(given, tuple) else np.shape(given) for given in (X, y)]
        arrays = [None if isinstance(given, tuple) else given for given in (X, y)]
        splits = self._splits(shapes[0][0], arrays[1], inputs.group_labels(groups, shapes[0][0], arrays))
        device = self._device(X)
        dtype = torch.float64
        if all(str(getattr(given, "dtype", "")).endswith("float32") for given in arrays):
            dtype = torch.float32
        sizes = (*shapes[0], 1 if len(shapes[1]) == 1 else shapes[1][1])
        streamed = any(ondisk.stays_on_disk(given, self._limit()) for given in arrays)
        return self._plan(sizes, splits, device, dtype, streamed, speed=measure_speed(device, dtype))

    def _plan(
        self,
        sizes: tuple[int, int, int],
        splits: Sequence[Split],
        device: torch.device,
        dtype: torch.dtype,
        streamed: bool,
        taken: int = 0,
        speed: float | None = None,
    ) -> Plan:
        """Plan for samples, features and targets, where so many bytes are taken already."""
        samples, features, targets = sizes
        problem = Problem(
            samples=samples,
            features=features,
            targets=targets,
            alphas=len(self._alphas()),
            splits=max(1, len(splits)),
            held_out=max((len(split.test) for split in splits), default=1),
            complementary=all(len(split.train) + len(split.test) == samples for split in splits),
            itemsize=dtype.itemsize,
            streamed=streamed,
        )
        return make_plan(problem, device, self._limit(), speed, None if splits else self.cv, taken)

    def _fit(
        self,
        features: Matrix,
        columns: Matrix,
        found: Sequence[Pattern],
        splits: Sequence[Sequence[Split]],
        taken: int,
        write: Callable[[torch.Tensor, int, torch.Tensor], None] | None,
    ) -> tuple[Path, Fitted]:
        """Fit the targets of every pattern to its samples; the path is that of the first."""
        device, dtype = features.device, features.dtype
        fits = []
        for pattern, its_splits in zip(found, splits, strict=True):
            X, Y = part_of(features, columns, pattern)
            streamed = isinstance(X, Table) or isinstance(Y, Table)
            copied = X.shape[0] * (X.shape[1] + Y.shape[1]) * dtype.itemsize if len(found) > 1 else 0
            sizes = (X.shape[0], X.shape[1], Y.shape[1])
            plan = self._plan(sizes, its_splits, device, dtype, streamed, taken + copied)
            path, fitted = cross_validate(
                plan.path,
                X,
                Y,
                [Split(train.to(device), test.to(device)) for train, test in its_splits],
                torch.from_numpy(self._alphas()).to(device),
                parameters.known_scoring(self.scoring),
                bool(self.fit_intercept),
                plan.targets_at_once,
                partial(track, description="fitting ridge", show=self.progress),
                None if write is None else partial(write, pattern.targets),
            )
            fits.append((path, fitted))
        return fits[0][0], gather(found, [fitted for _, fitted in fits])

    def _limit(self) -> int | None:
        return None if self.memory is None else parse_bytes(self.memory)

    def _splits_of(
        self, found: Sequence[Pattern], n: int, y: Any, groups: NDArray[Any] | None
    ) -> list[list[Split]]:
        """Splits for every pattern: made of its samples, restricted to them where they are given as indices."""
        given = (
            isinstance(self.cv, Iterable) and not isinstance(self.cv, str) and not hasattr(self.cv, "split")
        )
        whole = (
            self._splits(n, y, groups) if given or any(len(pattern.samples) == n for pattern in found) else []
        )
        every = []
        for samples, targets in found:
            if len(samples) == n:
                every.append(whole)
                continue
            rows = samples.cpu()
            try:
                some = None if groups is None else groups[rows.numpy()]
                own = restrict(whole, rows) if given else self._splits(len(rows), None, some)
                if given and not own:
                    raise ValueError("no split has samples on both sides")
            except ValueError as error:
                raise ValueError(
                    f"{len(targets)} targets, first {inputs.name_of(y, 1, int(targets[0]))}, have only {len(rows)} of "
                    f"{n} samples, too few for this cv ({str(error).rstrip('.')}); drop them or use fewer folds."
                ) from None
            every.append(own)
        return every

    def _splits(self, n_samples: int, y: Any, groups: NDArray[Any] | None) -> list[Split]:
        """Training and held-out samples; none for what has a closed form."""
        if not isinstance(self.cv, str) or self.cv not in ("loo", "gcv"):
            return inputs.splits(self.cv, n_samples, y, groups)
        if groups is not None:
            raise ValueError(
                f"cv={self.cv!r} leaves out single samples, but there are groups; use "
                "cv=sklearn.model_selection.LeaveOneGroupOut() to leave out whole groups."
            )
        if self.cv == "gcv" and parameters.known_scoring(self.scoring) != "r2":
            raise ValueError("cv='gcv' makes no predictions to correlate; use scoring='r2', or cv='loo'.")
        if n_samples < 3:
            raise ValueError(
                f"cv={self.cv!r} needs at least 3 samples, but n_samples={n_samples}; give more."
            )
        return []

    def _alphas(self) -> NDArray[np.float64]:
        return parameters.positive(
            self.alphas, "alphas", "; for almost no penalty use a small one, such as 1e-6"
        )

    def _keep_fit(
        self, fitted: Fitted, counts: torch.Tensor, coef: xr.DataArray | None, X: Any, y: Any
    ) -> None:
        """Set what was learned; ``coef`` are coefficients that are on disk."""
        best = fitted.scores.gather(1, fitted.chosen[:, None])[:, 0]
        alphas = torch.from_numpy(self._alphas())
        attributes: dict[str, tuple[torch.Tensor, tuple[str, ...]]] = {
            "intercept_": (fitted.intercept, ("target",)),
            "alpha_": (alphas.to(best.device)[fitted.chosen], ("target",)),
            "best_score_": (best, ("target",)),
            "cv_scores_": (fitted.scores.T, ("alpha", "target")),
            "n_samples_": (counts, ("target",)),
        }
        if coef is None:
            attributes["coef_"] = (fitted.coef, ("target", "feature"))
        else:
            self.coef_ = coef
        self._keep(X, y, attributes, {"alpha": ("alpha", alphas.numpy())})
