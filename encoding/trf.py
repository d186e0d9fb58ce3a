"""Temporal response functions: regression of continuous recordings on features at many lags, either way."""

from __future__ import annotations

from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..neuro.progress import track
from . import inputs, parameters
from .bands import find_bands, labels_of, names_of
from .containers import Labels, to_tensor
from .engine.bandsearch import draw_candidates
from .engine.lagged import Edges, Lagged, convolve, window
from .engine.temporal import Penalty, Recording, choose_penalty, differences, patterns, scores
from .linear import Encoder
from .trials import Trials, recordings, split_runs

#: strengths of the default, one a decade
ALPHAS = tuple(10.0**exponent for exponent in range(-2, 7))
#: up to so many trials or runs each is left out by itself; more are left out in so many parts
MOST_LEFT_OUT, PARTS = 20, 10
#: contiguous parts of a single run
PIECES = 5


class TRF(Encoder):
    """Temporal response function: ridge on features at every lag from ``tmin`` to ``tmax``.

    Exact, and never holding the delayed features: moments of every run follow from products at each lag. Every fit,
    penalty and fold is that of ridge on the delayed features themselves (:class:`Delays`), up to rounding.

    Parameters
    ----------
    tmin, tmax
        First and last lag in seconds, rounded to samples, both included. Forward: the recording follows the feature
        by the lag. Backward: features are read from the recording that follows them by the lag.
    sfreq
        Samples a second; ``None``: what a labelled ``X`` says (``attrs["sfreq"]``).
    direction
        ``"forward"`` (X: features, y: recording) or ``"backward"`` (X: recording, y: features).
    penalty
        ``"ridge"`` on the weights; ``"tikhonov"`` on their differences along lags; ``"banded"`` with a strength of its
        own for each band of features.
    alphas
        Strengths to choose from, positive. A single number is taken as it is, without cross-validation.
    order
        Of Tikhonov's differences: 1 (neighbouring lags alike) or 2 (straight lines).
    bands
        Of ``"banded"``: as for :class:`BandedRidgeCV`.
    n_candidates
        Of ``"banded"``: how many weights of the bands are tried with every strength, as for :class:`BandedRidgeCV`.
    cv
        ``None``: leave one trial or run out (of more than 20: ten parts of whole trials; of one: five contiguous
        pieces, each delayed by itself). Else a number of such parts, a scikit-learn splitter, or pairs of training
        and held-out indices. Never single samples at random.
    scoring
        ``"pearsonr"`` or ``"r2"`` of held-out samples, mean over folds.
    per_channel
        Whether each target has a penalty of its own, or all the one that is best on average.
    edges
        What features are before and after a run: their ``"mean"`` there, ``"zero"`` (nothing is shown), or
        ``"valid"``: samples whose lags leave the run are neither fitted nor scored (and predicted as with ``"mean"``).
    per_second
        Whether ``coef_`` is per second of the feature (times ``sfreq``), so that it does not depend on the rate.
    fit_intercept, device, progress
        As for :class:`RidgeCV`.
    random_state
        Seeds the candidates.

    Attributes
    ----------
    coef_
        ``(features, lags, targets)``, without the last for a single series ``y``; labelled with ``lag`` in seconds.
    lags_
        Lags in seconds, ``(lags,)``.
    intercept_, alpha_
        ``(targets,)``.
    best_score_, cv_scores_
        Cross-validated score of the choice ``(targets,)``, and of every strength ``(alphas, targets)`` (of its best
        candidate). The score was used to choose: it is no estimate of performance. Absent for a single number.
    band_alphas_
        Of ``"banded"``: strength for each band, ``(bands, targets)``; infinite for a band that is off.
    patterns_
        Of ``"backward"``: forward patterns (Haufe et al.), of the shape of ``coef_``. They, not the weights, say
        where and when a feature shows in the recording.

    References
    ----------
    Crosse et al. (2016), Frontiers in Human Neuroscience 10; Haufe et al. (2014), NeuroImage 87.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> sound = np.random.default_rng(0).standard_normal((5, 200, 1))
    >>> brain = 0.5 * np.roll(sound, 3, axis=1)
    >>> trf = encoding.TRF(0.0, 0.05, sfreq=100, alphas=1.0).fit(sound, brain)
    >>> trf.coef_.shape, float(trf.lags_[trf.coef_[0, :, 0].argmax()])
    ((1, 6, 1), 0.03)
    """

    #: bands may be named by a label of the features, and runs end where the labels of samples change
    takes_labels = True

    def __init__(
        self,
        tmin: float = -0.1,
        tmax: float = 0.4,
        sfreq: float | None = None,
        direction: str = "forward",
        penalty: str = "ridge",
        alphas: ArrayLike = ALPHAS,
        order: int = 1,
        bands: Any = None,
        n_candidates: int = 20,
        cv: Any = None,
        scoring: str = "pearsonr",
        per_channel: bool = True,
        edges: str = "mean",
        per_second: bool = False,
        fit_intercept: bool = True,
        device: str | torch.device = "auto",
        random_state: Any = 0,
        progress: bool | None = False,
    ) -> None:
        self.tmin = tmin
        self.tmax = tmax
        self.sfreq = sfreq
        self.direction = direction
        self.penalty = penalty
        self.alphas = alphas
        self.order = order
        self.bands = bands
        self.n_candidates = n_candidates
        self.cv = cv
        self.scoring = scoring
        self.per_channel = per_channel
        self.edges = edges
        self.per_second = per_second
        self.fit_intercept = fit_intercept
        self.device = device
        self.random_state = random_state
        self.progress = progress

    @property
    def independent_targets(self) -> bool:
        """Whether every target is fitted by itself, so that many may be stacked into one fit."""
        return bool(self.per_channel)

    def fit(self, X: Any, y: Any, groups: Any = None) -> TRF:
        """Choose penalties, and fit them to all runs.

        Parameters
        ----------
        X, y
            ``(samples, features)`` and ``(samples,)`` or ``(samples, targets)``; or trials: lists of such arrays, or
            arrays ``(trials, samples, …)`` (labelled ones in any order, with ``time_bin`` for the samples).
        groups
            One label a sample, or the name of a coordinate: lags never cross from one to the next, and folds keep
            them together. Labelled arrays also end where ``trial``, ``run``, ``session`` or ``subject`` changes and
            where time jumps.

        Raises
        ------
        ValueError, TypeError
            If input or parameters are wrong: missing values, unknown names, a fold that is empty or scattered.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import encoding
        >>> X = np.random.default_rng(0).standard_normal((100, 2))
        >>> encoding.TRF(0, 2, sfreq=1, alphas=1.0).fit(X, X, groups=np.arange(100) // 25).coef_.shape
        (2, 3, 2)
        """
        self._check_names()
        trials = Trials.of(X)
        X, y = trials.table(), trials.responses(y)
        features = inputs.features(self, X, reset=True)
        targets = inputs.targets(y, len(features), X)
        device = self._device(X)
        own = trials.labels() if groups is None else groups
        runs, groups = recordings(len(features), own, [X, y])
        self._set_lags(X)
        columns = targets.reshape(len(targets), -1)
        recording = Recording(
            features.to(device),
            columns.to(device),
            torch.from_numpy(runs),
            *self._window(),
            cast(Edges, self.edges),
            bool(self.fit_intercept),
        )
        penalty = self._penalty(X, features.shape[1], device)
        chosen = torch.zeros(columns.shape[1], dtype=torch.int64, device=device)
        scored = None
        if len(penalty) > 1:
            splits = inputs.splits(self._splitter(groups), len(features), y, groups)
            scored = scores(
                track(recording.folds(splits), "fitting TRF", len(splits), self.progress),
                penalty,
                parameters.known_scoring(self.scoring),
            )
            chosen = choose_penalty(scored, penalty, bool(self.per_channel))
            best = scored.gather(1, chosen[:, None])[:, 0]
            inputs.warn_of_grid_edges(chosen % len(penalty.alphas), best, penalty.alphas)
            inputs.warn_of_missing_scores(scored.amax(1), targets, y)
        self._keep_fit(recording.training(), penalty, chosen, scored, X, y)
        return self

    def predict(self, X: Any, groups: Any = None) -> Any:
        """Predict from ``X``, which has any of the forms that ``fit`` takes; so has the result.

        Parameters
        ----------
        X
            Features, or of a backward model the recording.
        groups
            As for :meth:`fit`: lags never cross from one group to the next.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import encoding
        >>> X = np.random.default_rng(0).standard_normal((100, 2))
        >>> trf = encoding.TRF(0, 2, sfreq=1, alphas=1.0).fit(X, X[:, 0])
        >>> [prediction.shape for prediction in trf.predict([X[:40], X[40:]])]
        [(40,), (60,)]
        """
        check_is_fitted(self)
        trials = Trials.of(X)
        if trials.form != "table":
            return trials.give_back([super(TRF, self).predict(run) for run in trials.runs])
        features = inputs.features(self, X, reset=False)
        runs, _ = recordings(len(features), groups, [X])
        return trials.give_back([super(TRF, self).predict(run) for run in split_runs(X, runs)])

    def _predict(self, features: torch.Tensor) -> torch.Tensor:
        """Predictions of one run."""
        coef, intercept = (to_tensor(values, features.device) for values in (self.coef_, self.intercept_))
        weights = coef.double().reshape(*coef.shape[:2], -1).transpose(0, 1)
        if self.direction == "forward":
            weights = weights.flip(0)
        if self.per_second:
            weights = weights / self.sfreq_
        first, length = self._window()
        edges: Edges = "zero" if self.edges == "zero" else "mean"
        predicted = convolve(window(features.double(), first, length, edges)[0], weights)
        predicted = predicted.reshape(len(features), *coef.shape[2:]) + intercept
        return predicted.to(torch.promote_types(features.dtype, coef.dtype))

    def _check_names(self) -> None:
        for name, known in (
            ("direction", ("forward", "backward")),
            ("penalty", ("ridge", "tikhonov", "banded")),
            ("edges", get_args(Edges)),
            ("order", (1, 2)),
        ):
            if getattr(self, name) not in known:
                listed = " or ".join(map(repr, known))
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; use {listed}.")

    def _set_lags(self, X: Any) -> None:
        """The sampling rate and the lags that it makes of ``tmin`` and ``tmax``."""
        sfreq = self.sfreq if self.sfreq is not None else getattr(X, "attrs", {}).get("sfreq")
        if sfreq is None:
            raise ValueError("sfreq is not known: give samples a second, or 1.0 for lags in samples.")
        if not (np.isfinite(sfreq) and sfreq > 0):
            raise ValueError(f"sfreq must be a positive number of samples a second, got {sfreq!r}.")
        if not self.tmin <= self.tmax:
            raise ValueError(f"tmin ({self.tmin}) must be at most tmax ({self.tmax}).")
        self.sfreq_ = float(sfreq)
        first, last = (round(float(time) * self.sfreq_) for time in (self.tmin, self.tmax))
        self.lags_ = np.arange(first, last + 1) / self.sfreq_

    def _window(self) -> tuple[int, int]:
        """Where the samples that a row sees begin, seen from the row, and how many they are."""
        first, last = (round(float(lag) * self.sfreq_) for lag in self.lags_[[0, -1]])
        return (-last if self.direction == "forward" else first), len(self.lags_)

    def _splitter(self, groups: NDArray[Any] | None) -> Any:
        if self.cv is not None:
            return self.cv
        if groups is None:
            return KFold(PIECES)
        return LeaveOneGroupOut() if groups.max() < MOST_LEFT_OUT else GroupKFold(PARTS)

    def _penalty(self, X: Any, n_features: int, device: torch.device) -> Penalty:
        length = len(self.lags_)
        alphas = torch.from_numpy(parameters.positive(self.alphas, "alphas"))
        along = torch.eye(length, dtype=torch.float64)
        if self.penalty == "tikhonov":
            if length <= self.order:
                raise ValueError(
                    f"{length} lags have no differences of order {self.order}; use more lags or penalty='ridge'."
                )
            along = differences(length, self.order)
        scales = torch.ones(1, n_features, dtype=torch.float64)
        if self.penalty == "banded":
            bands = find_bands(self.bands, X, n_features)
            count = parameters.whole_number(self.n_candidates, "n_candidates")
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            shares = draw_candidates(count, len(bands), seed)
            scales = shares.sqrt()[:, torch.from_numpy(labels_of(bands))]
        return Penalty(along.to(device), alphas.to(device), scales.to(device))

    def _keep_fit(
        self,
        moments: Lagged,
        penalty: Penalty,
        chosen: torch.Tensor,
        scored: torch.Tensor | None,
        X: Any,
        y: Any,
    ) -> None:
        length = len(self.lags_)
        weights = penalty.fit(moments, chosen)
        intercept = moments.cross.mean_a - moments.cross.mean_b @ weights
        alphas = penalty.alphas[chosen % len(penalty.alphas)]
        attributes: dict[str, Any] = {
            "coef_": (
                self._by_lag(weights) * (self.sfreq_ if self.per_second else 1),
                ("feature", "lag", "target"),
            ),
            "intercept_": (intercept, ("target",)),
            "alpha_": (alphas, ("target",)),
        }
        labels: Labels = {"lag": ("lag", self.lags_), "alpha": ("alpha", penalty.alphas.cpu().numpy())}
        if self.direction == "backward":
            found = patterns(moments.gram.products, weights)
            attributes["patterns_"] = (self._by_lag(found), ("feature", "lag", "target"))
        if scored is not None:
            best = scored.gather(1, chosen[:, None])[:, 0]
            every = scored.reshape(len(scored), -1, len(penalty.alphas)).amax(1).T
            attributes |= {"best_score_": (best, ("target",)), "cv_scores_": (every, ("alpha", "target"))}
        if self.penalty == "banded":
            bands = find_bands(self.bands, X, len(weights) // length)
            first = [int(columns[0]) for columns in bands.values()]
            shares = penalty.scales[chosen // len(penalty.alphas)][:, first].square()
            attributes["band_alphas_"] = ((alphas[:, None] / shares).T, ("band", "target"))
            labels["band"] = ("band", names_of(bands))
        dtype = torch.promote_types(to_tensor(X).dtype, to_tensor(y).dtype)
        self._keep(
            X, y, {name: (values.to(dtype), axes) for name, (values, axes) in attributes.items()}, labels
        )

    def _by_lag(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights by window position as ``(features, lags, targets)``."""
        by_position = weights.reshape(len(self.lags_), -1, weights.shape[1])
        return (by_position.flip(0) if self.direction == "forward" else by_position).transpose(0, 1)
