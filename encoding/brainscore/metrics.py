"""Brain-Score's metrics by our engine: the same splits, the same numbers, in a fraction of the time.

=========================================  ======================================================================
name                                       what it is
=========================================  ======================================================================
pls, ridge, linear_predictivity            correlation of held-out responses with what a regression on the model
                                           predicts; ten stratified shuffled splits (also as ``…_cv``)
ridgecv                                    the same with one penalty, chosen by leaving out single stimuli
neuron_to_neuron                           the same with the model's unit that correlates best in training
reverse_pls                                the model's units predicted from the recording
pls_split, ridge_split, ridgecv_split, …   the same with training and test arrays given apart
rdm, rdm_cv                                Spearman's correlation of RDMs of 1 - r
cka, cka_biased, cka_cv                    linear centred kernel alignment, without bias or plain
internal_consistency                       ceiling: halves of the repeats against each other, Spearman-Brown corrected
rsa_ceiling                                ceiling: RDMs of people against their mean
=========================================  ======================================================================

All work with and without Brain-Score: labelled arrays give a labelled score, Brain-Score's assemblies its ``Score``,
with ``raw`` (split × neuroid) and ``error`` (standard error over splits) among the attributes.

Where rounding decides, ours is the exact answer and theirs is not: least squares, and partial least squares, with more
components than features have directions; alignment of values far from zero, which theirs does not centre, or of
tiny ones, to which it adds 1e-12.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr

from ...models.devices import resolve_device
from ...models.names import nearest
from ..engine import refits
from ..engine.dissimilarity import correlation
from ..engine.moments import Split
from ..engine.representations import kernel_alignment
from ..engine.scoring import pearsonr
from ..engine.similarity import paired_similarities, prepare
from ..parameters import positive, whole_number
from .ceilings import InternalConsistency, RSACeiling
from .sides import (
    Sides,
    average_splits,
    average_units,
    match_sides,
    score_class,
    unit_scores,
)
from .splits import CrossValidation

#: penalties that Brain-Score's ``ridgecv`` chooses from
ALPHAS = (
    *(0.01, 0.1, 0.5, 1.0),
    *np.linspace(1e1, 1e2, 4, endpoint=False).tolist(),
    *(
        alpha
        for power in range(2, 6)
        for alpha in np.linspace(10.0**power, 10.0 ** (power + 1), 18, endpoint=False)
    ),
    *np.linspace(1e6, 1e7, 19).tolist(),
)

#: held-out predictions of every split, from values of both sides in the same rows
Predict = Callable[[torch.Tensor, torch.Tensor, Sequence[Split]], Iterator[torch.Tensor]]


def load_metric(name: str, **options: Any) -> Any:
    """Load one of Brain-Score's metrics as our engine computes it.

    Parameters
    ----------
    name
        See the table of :mod:`cerebridge.encoding.brainscore.metrics`.
    options
        ``crossvalidation_kwargs`` as Brain-Score has them (``splits=10``, ``train_size``, ``test_size``,
        ``split_coord="stimulus_id"``, ``stratification_coord="object_name"``, ``kfold``, ``unique_split_values``,
        ``random_state=1``); ``n_components=25`` of ``pls``, ``alpha=1`` of ``ridge``, ``alphas`` of ``ridgecv``;
        ``device="auto"``.

    Returns
    -------
    callable
        ``metric(source, target)`` for a model and a recording of the same stimuli; ``…_split``:
        ``metric(source_train, source_test, target_train, target_test)``; ceilings: ``metric(recording)``. The score
        is the mean over splits of the median over neuroids, with ``.raw`` and ``.error``.

    Raises
    ------
    ValueError
        If there is no such metric.
    TypeError
        If it has no such option.

    References
    ----------
    Schrimpf et al. (2018), bioRxiv 407007; Yamins et al. (2014), PNAS 111; Kornblith et al. (2019), ICML.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=40, n_units=5, random_state=0)
    >>> metric = encoding.brainscore.load_metric("ridge", crossvalidation_kwargs={"stratification_coord": None})
    >>> score = metric(brain, brain)
    >>> score.item() > 0.9, score.raw.dims
    (True, ('split', 'neuroid'))
    """
    known = metric_names()
    if name not in known:
        raise ValueError(f"there is no metric {name!r} here; {nearest(name, known)}.")
    try:
        return known[name](**options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        option = str(error).rpartition("'")[0].rpartition("'")[2]
        raise TypeError(f"the metric {name!r} has no option {option!r}.") from None


def score_kind(name: str) -> str | None:
    """Say what a metric's scores are: ``"variance"`` of the recording once they are squared, ``"rdm"``, ``"other"``.

    ``None`` where it does not compare a model with a recording.

    Examples
    --------
    >>> from cerebridge.encoding.brainscore.metrics import score_kind
    >>> [score_kind(name) for name in ("pls", "rdm", "cka", "internal_consistency")]
    ['variance', 'rdm', 'other', None]
    """
    metric = load_metric(name)
    if isinstance(metric, RegressedCorrelation):
        return "other" if metric.reverse else "variance"
    if isinstance(metric, Similarity):
        return "rdm" if name == "rdm" else "other"
    return None


def metric_names() -> dict[str, Callable[..., Any]]:
    """Name all metrics, each with what builds it.

    Examples
    --------
    >>> from cerebridge.encoding.brainscore.metrics import metric_names
    >>> sorted(metric_names())[:3]
    ['cka', 'cka_biased', 'cka_cv']
    """
    found: dict[str, Callable[..., Any]] = {
        "rdm": partial(Similarity, rdm_similarity),
        "rdm_cv": partial(_similarity_cv, rdm_similarity),
        "cka": partial(Similarity, unbiased_cka),
        "cka_cv": partial(_similarity_cv, unbiased_cka),
        "cka_biased": partial(Similarity, biased_cka),
        "internal_consistency": InternalConsistency,
        "rsa_ceiling": RSACeiling,
    }
    regressions: dict[str, Callable[..., Predict]] = {
        "pls": _pls,
        "ridge": _ridge,
        "dual_ridge": _ridge,
        "ridgecv": _ridge_cv,
        "dual_ridgecv": _ridge_cv,
        "linear_predictivity": lambda: refits.linear_predictions,
        "neuron_to_neuron": lambda: refits.best_unit_predictions,
    }
    for name, regression in regressions.items():
        found[name] = found[f"{name}_cv"] = partial(_regressed, regression)
        found[f"{name}_split"] = partial(_regressed, regression, given=True)
    found["reverse_pls"] = found["reverse_pls_cv"] = partial(_regressed, _pls, reverse=True)
    found["reverse_pls_split"] = partial(_regressed, _pls, reverse=True, given=True)
    return found


@dataclass(frozen=True)
class RegressedCorrelation:
    """Correlation of held-out responses with what a regression on the model predicts, over splits of the stimuli.

    Parameters
    ----------
    predict
        The regression.
    crossvalidation
        How stimuli are split.
    reverse
        Predict the model from the recording.
    device
        Where it is computed.
    """

    predict: Predict
    crossvalidation: CrossValidation
    reverse: bool = False
    device: str | torch.device = "auto"

    def __call__(self, source: xr.DataArray, target: xr.DataArray) -> Any:
        """Score a model's array (``source``) against a recording (``target``) of the same stimuli."""
        if self.reverse:
            source, target = target, source
        sides = match_sides(source, target, self.device)
        splits = self.crossvalidation.draw(sides.labels)
        return average_units(_correlations(self.predict, sides, splits))


@dataclass(frozen=True)
class SplitCorrelation:
    """The same where training and test arrays are given apart; the median over neuroids."""

    predict: Predict
    reverse: bool = False
    device: str | torch.device = "auto"

    def __call__(
        self,
        source_train: xr.DataArray,
        source_test: xr.DataArray,
        target_train: xr.DataArray,
        target_test: xr.DataArray,
    ) -> Any:
        """Fit to the training arrays, score on the test arrays."""
        pairs = [(source_train, target_train), (source_test, target_test)]
        train, test = (
            match_sides(*(pair[::-1] if self.reverse else pair), device=self.device) for pair in pairs
        )
        for name in ("source", "target"):
            widths = [getattr(side, name).shape[1] for side in (train, test)]
            if widths[0] != widths[1]:
                raise ValueError(
                    f"the {name} has {widths[0]} neuroids in training and {widths[1]} in test; give the same ones."
                )
        rows = torch.arange(len(train.source) + len(test.source))
        both = Sides(
            torch.cat([train.source, test.source]), torch.cat([train.target, test.target]), test.labels
        )
        split = Split(rows[: len(train.source)], rows[len(train.source) :])
        raw = _correlations(self.predict, both, [split])
        score = average_units(raw)
        del score.attrs["error"]
        score.attrs["raw"] = raw.isel(split=0, drop=True)
        return score


@dataclass(frozen=True)
class Similarity:
    """How alike two arrays are without any fit; over the test stimuli of splits where there are any."""

    compare: Callable[[torch.Tensor, torch.Tensor], float]
    crossvalidation: CrossValidation | None = None
    device: str | torch.device = "auto"

    def __call__(self, assembly1: xr.DataArray, assembly2: xr.DataArray) -> Any:
        """Compare two arrays of the same stimuli."""
        sides = match_sides(assembly1, assembly2, self.device)
        source, target = sides.source.double(), sides.target
        if self.crossvalidation is None:
            return score_class(sides.labels)(self.compare(source, target))
        splits = self.crossvalidation.draw(sides.labels)
        values = [self.compare(source[split.test], target[split.test]) for split in splits]
        return average_splits(values, None, sides.labels)


def rdm_similarity(a: torch.Tensor, b: torch.Tensor) -> float:
    """Spearman's correlation of the RDMs of 1 - r of ``(stimuli, neuroids)``.

    Raises
    ------
    ValueError
        If there are too few stimuli, or a pattern does not vary.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.brainscore.metrics import rdm_similarity
    >>> x = torch.tensor([[1.0, 2.0, 4.0], [3.0, 1.0, 0.0], [0.0, 5.0, 1.0]])
    >>> round(rdm_similarity(x, 2 * x), 6)
    1.0
    """
    if len(a) < 3:
        raise ValueError(f"RDMs of {len(a)} stimuli cannot be correlated; give 3 at least.")
    ranks = []
    for side in (a, b):
        distances = correlation(side)
        if bool(distances.isnan().any()):
            raise ValueError(
                "the pattern of some stimulus is the same in all neuroids, so that its RDM is undefined; leave it out."
            )
        ranks.append(prepare(distances[None], "spearman"))
    return float(paired_similarities(ranks[0], ranks[1], "spearman"))


def unbiased_cka(a: torch.Tensor, b: torch.Tensor) -> float:
    """Linear centred kernel alignment without bias; 0 where it is undefined, as Brain-Score has it.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.brainscore.metrics import unbiased_cka
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0], [2.0, 2.0]], dtype=torch.float64)
    >>> round(unbiased_cka(x, x), 6)
    1.0
    """
    if len(a) < 4:
        raise ValueError(f"alignment without bias needs 4 stimuli, got {len(a)}; use 'cka_biased'.")
    found = kernel_alignment([a], [b], torch.arange(len(a), device=a.device)[None], debiased=True)
    return float(found.nan_to_num(nan=0.0))


def biased_cka(a: torch.Tensor, b: torch.Tensor) -> float:
    """Linear centred kernel alignment.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.brainscore.metrics import biased_cka
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0]], dtype=torch.float64)
    >>> round(biased_cka(x, x), 6)
    1.0
    """
    found = float(kernel_alignment([a], [b], torch.arange(len(a), device=a.device)[None]))
    if np.isnan(found):
        raise ValueError(
            "one side does not vary over the stimuli, so that its alignment is undefined; check its values."
        )
    return found


def _correlations(predict: Predict, sides: Sides, splits: Sequence[Split]) -> Any:
    values = []
    for split, predicted in zip(splits, predict(sides.source, sides.target, splits), strict=True):
        r = pearsonr(sides.target[split.test], predicted)
        # a prediction that does not vary has no correlation with Brain-Score, and is left out there
        values.append(r.masked_fill((predicted == predicted[0]).all(0), torch.nan))
    return unit_scores(torch.stack(values).cpu().numpy(), sides.labels)


def _regressed(
    regression: Callable[..., Predict],
    *,
    crossvalidation_kwargs: dict[str, Any] | None = None,
    reverse: bool = False,
    given: bool = False,
    device: str | torch.device = "auto",
    **options: Any,
) -> RegressedCorrelation | SplitCorrelation:
    predict = regression(**options)
    resolve_device(device)
    if not given:
        crossvalidation = CrossValidation.of(crossvalidation_kwargs, train_size=0.9)
        return RegressedCorrelation(predict, crossvalidation, reverse, device)
    if crossvalidation_kwargs is not None:
        raise TypeError("a metric of given training and test arrays takes no crossvalidation_kwargs.")
    return SplitCorrelation(predict, reverse, device)


def _similarity_cv(
    compare: Callable[[torch.Tensor, torch.Tensor], float],
    *,
    crossvalidation_kwargs: dict[str, Any] | None = None,
    device: str | torch.device = "auto",
) -> Similarity:
    return Similarity(compare, CrossValidation.of(crossvalidation_kwargs, test_size=0.9), device)


def _pls(n_components: int = 25, tol: float = 1e-6, max_iter: int = 500) -> Predict:
    whole_number(n_components, "n_components")

    def predict(X: torch.Tensor, Y: torch.Tensor, splits: Sequence[Split]) -> Iterator[torch.Tensor]:
        most = min(X.shape[1], *(len(split.train) for split in splits))
        if most < n_components:
            warnings.warn(
                f"pls has {n_components} components, which Brain-Score refuses with {X.shape[1]} features and no more "
                f"than {most} that can be told apart in training; {most} are used.",
                stacklevel=2,
            )
        return refits.pls_predictions(X, Y, splits, n_components, tol, max_iter)

    return predict


def _ridge(alpha: float = 1.0) -> Predict:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.number) or not 0 <= alpha < np.inf:
        raise ValueError(f"alpha must be a number from 0, got {alpha!r}.")
    return partial(refits.ridge_predictions, alpha=float(alpha))


def _ridge_cv(alphas: Sequence[float] = ALPHAS) -> Predict:
    positive(alphas, "alphas")

    def predict(X: torch.Tensor, Y: torch.Tensor, splits: Sequence[Split]) -> Iterator[torch.Tensor]:
        grid = torch.as_tensor(alphas, dtype=torch.float64, device=Y.device)
        return refits.ridge_cv_predictions(X, Y, splits, grid)

    return predict
