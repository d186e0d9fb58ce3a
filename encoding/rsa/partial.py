"""Partial and semi-partial similarity: the part of covariates is taken out of RDMs before they are compared."""

from __future__ import annotations

from typing import Any

import torch

from ...neuro.assembly import quoted
from ..engine.residuals import orthonormal, residuals

#: ways of comparing in which a part of a vector can be taken out
LINEAR = ("pearson", "spearman", "cosine", "rho-a", "whitened-pearson", "whitened-cosine")


def check_partial(method: str, given: Any, semi: Any) -> None:
    """Refuse covariates that ``method`` cannot take out, and a side that is none."""
    if semi not in (False, "a", "b"):
        raise ValueError(
            f"semi={semi!r} does not say which side the covariates leave; give 'a', 'b' or False."
        )
    if given is None and semi:
        raise ValueError("semi= needs covariates; give them as given=.")
    if given is not None and method not in LINEAR:
        raise ValueError(f"method={method!r} cannot take out covariates; use {', '.join(map(repr, LINEAR))}.")


def take_out(
    prepared: torch.Tensor, covariates: torch.Tensor, which: str, labels: Any, covariate_labels: Any
) -> torch.Tensor:
    """Prepared RDMs less what prepared covariates explain of them.

    Parameters
    ----------
    prepared, covariates
        One a row.
    which, labels
        What the set of RDMs is called, and its RDMs.
    covariate_labels
        Names of the covariates.

    Raises
    ------
    ValueError
        If a covariate is a combination of others, or an RDM of the covariates.
    """
    basis, collinear = orthonormal(covariates)
    if bool(collinear.any()):
        name = quoted(covariate_labels[int(collinear.nonzero()[0])])
        raise ValueError(f"covariate {name} is collinear: a combination of those before it; leave it out.")
    left = residuals(prepared, basis)
    empty = left.isnan().any(dim=-1).nonzero()
    if len(empty):
        raise ValueError(
            f"RDM {quoted(labels[int(empty[0])])} of {which} is a combination of the covariates, so nothing of it is "
            "left to compare; leave it, or one of them, out."
        )
    return left
