"""What a dictionary leaves unexplained: how much of it is linear in the activations, and how it scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from .samples import Samples, open_samples

Norm = Literal["norm", "squared"]
#: directions of less than this share of the largest variance are rounding
RANK_TOLERANCE = 1e-11
#: samples at a time
BLOCK = 8192


def report_dark_matter(
    x: Any,
    x_hat: Any,
    *,
    tokens: Any = None,
    predictors: Mapping[str, Any] | None = None,
    loss: Callable[[Tensor, NDArray[np.int64]], float] | None = None,
    groups: Any = None,
    train: Any = None,
    test: Any = None,
    norm: Norm = "norm",
    keep_parts: bool = False,
    random_state: int = 0,
) -> xr.Dataset:
    """Split the error of reconstructions into what is linear in the activations and what is not, on held-out samples.

    The error ``e = x_hat - x`` is regressed on ``x`` by least squares on some samples; on the others the prediction
    is the linear error and the rest is dark matter proper.

    Parameters
    ----------
    x
        Activations, samples × units (numpy, torch, labelled, or a store).
    x_hat
        Their reconstructions; or several by the width of their dictionary, for power laws.
    tokens
        One label a sample (a token, a word, a stimulus class): the baseline that predicts the error's norm by the mean
        over samples of the same label.
    predictors
        Further baselines by name, one number a sample: the loss, L0, ….
    loss
        ``loss(activations, rows)``: the loss downstream with these activations of the samples ``rows`` (held-out
        ones), for the effect of putting either part back.
    groups
        One label a sample, or the name of a coordinate: samples of one group stay on one side. Default: the
        ``stimulus_id`` of labelled arrays.
    train, test
        Positions of the samples that regressions are fitted to and judged on; default: halves, drawn with
        ``random_state``.
    norm
        Which measure of an error's size is predicted: ``"norm"`` or ``"squared"`` norm.
    keep_parts
        Whether ``linear_error`` and ``nonlinear_error`` of held-out samples are returned, such as to fit dictionaries
        to them.

    Returns
    -------
    xarray.Dataset
        For each ``width`` (0 if there is one): ``r2_error`` (mean over units), ``r2_norm``, ``unexplained`` (share of
        the variance of ``x``) with its parts ``unexplained_linear`` and ``unexplained_nonlinear``, and ``r2_baseline``
        over ``baseline``. With a loss: ``loss`` over ``put_back``. With several widths: ``exponent`` (over ``part``) of
        power laws of the unexplained variance in width, and ``sample_exponent``, of every held-out sample's norm.

    Raises
    ------
    ValueError
        If samples are judged that regressions were fitted to, or there are too few to fit them.

    References
    ----------
    Engels, Smith & Tegmark (2024). Decomposing the dark matter of sparse autoencoders. arXiv:2410.14670.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose import report_dark_matter
    >>> x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    >>> report = report_dark_matter(x, 0.9 * x)
    >>> round(float(report["r2_error"][0]), 3), round(float(report["unexplained_linear"][0]), 3)
    (1.0, 0.01)
    """
    if norm not in ("norm", "squared"):
        raise ValueError(f"norm={norm!r} is unknown; use 'norm' or 'squared'.")
    given = open_samples(x, name="x")
    widths = dict(x_hat) if isinstance(x_hat, Mapping) else {0: x_hat}
    fit, judge = _sides(given, _labels(groups, given), train, test, random_state)
    values = given.all().double()
    others = _baselines(predictors or {}, tokens, values)
    reports, parts = [], []
    for width, reconstructed in sorted(widths.items()):
        part = _Split.of(values, _error(given, values, reconstructed), fit, judge, norm)
        report = part.describe(values, others)
        if loss is not None:
            report = report.assign(loss=("put_back", part.losses(values, loss)))
        if keep_parts:
            report = report.assign(part.arrays(given))
        reports.append(report.expand_dims(width=[width]))
        parts.append(part)
    combined = xr.concat(reports, "width").assign_coords(held_out=("sample", judge.numpy()))
    if loss is not None:
        combined = combined.assign_coords(put_back=["nothing", "linear", "nonlinear", "everything"])
    return combined if len(widths) == 1 else combined.assign(_power_laws(combined, parts, sorted(widths)))


@dataclass(frozen=True)
class _Split:
    """The error, and the part of it that is linear in the activations; on held-out samples but for ``sizes``."""

    error: Tensor
    linear: Tensor
    fit: Tensor
    judge: Tensor
    sizes: Tensor
    predicted_size: Tensor

    @classmethod
    def of(cls, x: Tensor, error: Tensor, fit: Tensor, judge: Tensor, norm: Norm) -> _Split:
        sizes = error.norm(dim=1) if norm == "norm" else error.square().sum(1)
        both = regress(x[fit], torch.cat([error[fit], sizes[fit, None]], dim=1), x[judge])
        return cls(error[judge], both[:, :-1], fit, judge, sizes, both[:, -1:])

    def describe(self, x: Tensor, others: Mapping[str, Tensor]) -> xr.Dataset:
        total = float((x[self.judge] - x[self.judge].mean(0)).square().sum())
        asked = self.sizes[self.judge, None]
        baselines = [r_squared(asked, self._by(values)) for values in others.values()]
        rest = self.error - self.linear
        return xr.Dataset(
            {
                "r2_error": r_squared(self.error, self.linear),
                "r2_norm": r_squared(asked, self.predicted_size),
                "unexplained": float(self.error.square().sum()) / total,
                "unexplained_linear": float(self.linear.square().sum()) / total,
                "unexplained_nonlinear": float(rest.square().sum()) / total,
                "r2_baseline": ("baseline", np.array(baselines)),
            },
            {"baseline": list(others)},
        )

    def _by(self, values: Tensor) -> Tensor:
        """Sizes of held-out errors as one number a sample predicts them, or the mean over samples of a label."""
        known = self.sizes[self.fit, None]
        if values.is_floating_point():
            return regress(values[self.fit, None], known, values[self.judge, None])
        n = int(values.max()) + 1
        counts = torch.bincount(values[self.fit], minlength=n)
        means = torch.bincount(values[self.fit], known[:, 0], minlength=n) / counts
        # labels that were never fitted to are predicted by the mean over all
        return torch.where(counts > 0, means, known.mean())[values[self.judge], None]

    def losses(self, x: Tensor, loss: Callable[[Tensor, NDArray[np.int64]], float]) -> NDArray[np.float64]:
        """Downstream, with nothing put back, either part, or both (the activations themselves)."""
        clean, rows = x[self.judge], self.judge.numpy()
        reconstructed = clean + self.error
        corrected = (reconstructed, reconstructed - self.linear, clean + self.linear, clean)
        return np.array([float(loss(given.float(), rows)) for given in corrected])

    def arrays(self, given: Samples) -> dict[str, Any]:
        rest = self.error - self.linear
        return {
            "linear_error": (("sample", "unit"), self.linear.float().numpy()),
            "nonlinear_error": (("sample", "unit"), rest.float().numpy()),
        }


def regress(known: Tensor, target: Tensor, asked: Tensor) -> Tensor:
    """Predict by least squares with an intercept; what the samples do not determine stays zero.

    Parameters
    ----------
    known, target
        Samples × predictors and samples × targets to fit.
    asked
        Samples × predictors to predict at.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.darkmatter import regress
    >>> x = torch.arange(4.0, dtype=torch.float64)[:, None]
    >>> regress(x, 2 * x + 1, torch.tensor([[10.0]], dtype=torch.float64)).round(decimals=6).tolist()
    [[21.0]]
    """
    middle, level = known.mean(0), target.mean(0)
    gram = known.new_zeros(known.shape[1], known.shape[1])
    cross = known.new_zeros(known.shape[1], target.shape[1])
    for start in range(0, len(known), BLOCK):
        centred = known[start : start + BLOCK] - middle
        gram.addmm_(centred.T, centred)
        cross.addmm_(centred.T, target[start : start + BLOCK] - level)
    variances, directions = torch.linalg.eigh(gram)
    kept = variances > RANK_TOLERANCE * variances.max()
    basis = directions[:, kept]
    weights = basis @ ((basis.T @ cross) / variances[kept, None])
    return (asked - middle) @ weights + level


def r_squared(target: Tensor, predicted: Tensor) -> float:
    """Explained variance, averaged over the columns that vary.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.darkmatter import r_squared
    >>> target = torch.tensor([[0.0], [2.0]])
    >>> r_squared(target, target), r_squared(target, target * 0 + 1)
    (1.0, 0.0)
    """
    spread = (target - target.mean(0)).square().sum(0)
    varies = spread > 0
    if not bool(varies.any()):
        raise ValueError(
            "the error does not vary over the held-out samples, so that nothing of it can be explained."
        )
    return float((1 - (target - predicted).square().sum(0)[varies] / spread[varies]).mean())


def _error(given: Samples, values: Tensor, reconstructed: Any) -> Tensor:
    opened = open_samples(reconstructed, name="x_hat")
    if (len(opened), opened.n_features) != (len(given), given.n_features):
        raise ValueError(
            f"x_hat is {len(opened)} samples × {opened.n_features} units, but x is {len(given)} × "
            f"{given.n_features}; give reconstructions of the same samples."
        )
    return opened.all().double() - values


def _labels(groups: Any, given: Samples) -> NDArray[Any] | None:
    if groups is None and given.template is not None and "stimulus_id" in given.template.coords:
        groups = "stimulus_id"
    if isinstance(groups, str):
        if given.template is None or groups not in given.template.coords:
            raise ValueError(f"x has no coordinate {groups!r} to group by; give one label a sample.")
        groups = given.template.coords[groups].values
    if groups is None:
        return None
    if len(groups) != len(given):
        raise ValueError(f"there are {len(groups)} groups for {len(given)} samples; give one label each.")
    return np.asarray(groups)


def _sides(
    given: Samples, groups: NDArray[Any] | None, train: Any, test: Any, random_state: int
) -> tuple[Tensor, Tensor]:
    """Samples to fit to and samples to judge on, of different groups."""
    if (train is None) != (test is None):
        raise ValueError("train and test belong together; give both, or neither for halves.")
    codes = np.arange(len(given)) if groups is None else pd.factorize(groups)[0]
    if train is None:
        order = np.random.default_rng(random_state).permutation(codes.max() + 1)
        first = np.isin(codes, order[: len(order) // 2])
        train, test = np.flatnonzero(first), np.flatnonzero(~first)
    fit, judge = (np.arange(len(given))[np.asarray(rows)] for rows in (train, test))
    shared = np.intersect1d(codes[fit], codes[judge])
    if len(shared):
        what = "samples" if groups is None else "groups"
        raise ValueError(
            f"{len(shared)} {what} are both fitted to and judged on, and an in-sample fit says nothing about the "
            "error; keep train and test apart."
        )
    if len(fit) <= given.n_features + 1 or len(judge) < 2:
        raise ValueError(
            f"{len(fit)} samples to fit a regression on {given.n_features} units to, and {len(judge)} to judge it on, "
            "are too few; give more samples, or fewer units."
        )
    return torch.from_numpy(fit), torch.from_numpy(judge)


def _baselines(predictors: Mapping[str, Any], tokens: Any, x: Tensor) -> dict[str, Tensor]:
    """One number a sample for each baseline; labels as whole numbers."""
    found = {"activation_norm": x.norm(dim=1)}
    for name, values in predictors.items():
        column = torch.as_tensor(np.asarray(values)).double()
        if column.shape != (len(x),) or not bool(column.isfinite().all()):
            raise ValueError(
                f"the predictor {name!r} must be one finite number for each of {len(x)} samples."
            )
        found[name] = column
    if tokens is None:
        return found
    if len(tokens) != len(x):
        raise ValueError(f"there are {len(tokens)} tokens for {len(x)} samples; give one label each.")
    found["token"] = torch.from_numpy(pd.factorize(np.asarray(tokens))[0].astype(np.int64))
    return found


def _power_laws(report: xr.Dataset, parts: list[_Split], widths: list[int]) -> dict[str, Any]:
    """Slopes of logarithms of sizes over those of widths."""
    if min(widths) < 1:
        raise ValueError(f"the widths are {widths}; name reconstructions by the number of features, from 1.")
    names = ["unexplained", "unexplained_linear", "unexplained_nonlinear"]
    steps = np.log(widths) - np.log(widths).mean()
    sizes = np.stack([report[name].values for name in names], axis=1)
    norms = np.stack([part.sizes[part.judge].numpy() for part in parts])
    tiny = np.finfo(float).tiny
    slopes = (steps @ np.log(np.maximum(given, tiny)) / (steps @ steps) for given in (sizes, norms))
    return {
        "exponent": xr.DataArray(next(slopes), dims="part", coords={"part": ["all", "linear", "nonlinear"]}),
        "sample_exponent": ("sample", next(slopes)),
    }
