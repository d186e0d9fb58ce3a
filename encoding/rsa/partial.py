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
    sides: dict[str, torch.Tensor], covariates: torch.Tensor, labels: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Prepared RDMs less what prepared covariates explain of them.

    Parameters
    ----------
    sides
        Sets of RDMs by what they are called.
    covariates
        One a row.
    labels
        Names of the RDMs of each set and of the covariates (``"given"``), or ``None``.

    Raises
    ------
    ValueError
        If a covariate is a combination of others, or an RDM of the covariates.
    """
    basis, collinear = orthonormal(covariates)
    if bool(collinear.any()):
        name = _name(int(collinear.nonzero()[0]), "given", labels)
        raise ValueError(f"{name} is collinear: a combination of the covariates before it; leave it out.")
    out = {}
    for which, prepared in sides.items():
        out[which] = residuals(prepared, basis)
        empty = out[which].isnan().any(dim=-1).nonzero()
        if len(empty):
            raise ValueError(
                f"{_name(int(empty[0]), which, labels)} is a combination of the covariates, so nothing of it is left "
                "to compare; leave it, or one of them, out."
            )
    return out


def _name(k: int, which: str, labels: dict[str, Any]) -> str:
    names = labels[which]
    return f"{which}[{k}]" if names is None else f"RDM {quoted(names[k])} of {which}"
