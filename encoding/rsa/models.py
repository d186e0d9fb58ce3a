"""Models with parameters: mixtures of RDMs, fitted to those of people."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from ...neuro.assembly import assemble, quoted
from ..engine import mixtures
from ..engine.similarity import METHODS, prepare, similarities
from .pairs import check_rdms, pair_table, stimulus_order
from .preparation import check_method

#: ways of comparing in which no mixture of RDMs can be fitted in closed form
UNFITTED = ("bures", "riemannian")


class MixtureModel(BaseEstimator):
    """A model whose prediction is a weighted sum of given RDMs; a subclass says which weights.

    A subclass stores ``rdms`` and defines :meth:`mix` on tensors.
    """

    rdms: xr.DataArray
    weights_: xr.DataArray
    #: how many RDMs a mixture needs at least
    fewest = 1

    @abstractmethod
    def weigh(self, gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        """Weights of the bases, ``(..., bases)``, from their inner products and those with the mean of the people."""

    def mix(
        self, bases: torch.Tensor, data: torch.Tensor, share: torch.Tensor, method: str, places: torch.Tensor
    ) -> torch.Tensor:
        """Weights of the bases, ``(fits, bases)``, from dissimilarities of bases and people, one a row, without NaN.

        ``share`` (``(fits, people)``) says how much each person counts in every fit.
        """
        people = mixtures.scaled(data, places, method)
        found = mixtures.products(torch.cat([bases, people]), places, method)[0, : len(bases)]
        gram, cross = found.split([len(bases), len(people)], dim=1)
        return self.weigh(gram.expand(len(share), -1, -1), share @ cross.T)

    def fit(self, rdms: xr.DataArray, method: str = "cosine") -> MixtureModel:
        """Fit the weights to the RDMs of people: the mixture most similar to them on average.

        Parameters
        ----------
        rdms
            ``rdm × pair``, one RDM a person; all stimuli of the model or some of them, matched by their ids.
        method
            How similarity is measured, see :func:`~cerebridge.encoding.rsa.compare`. For ``"cosine"``,
            ``"pearson"`` and their whitened forms the fit is exact. Ranks of a mixture are no mixture of ranks: for
            ``"spearman"``, ``"rho-a"``, ``"tau-a"`` and ``"tau-b"`` the Pearson correlation of the mixture with the
            mean of the people's ranks is fitted instead (a single RDM is selected by the measure itself).

        Returns
        -------
        MixtureModel
            Itself. Pairs that are missing in any of these RDMs or in the model are left out of the fit and counted
            in ``n_missing_pairs_``.

        Raises
        ------
        ValueError
            If stimuli are unknown to the model, an RDM is constant, or fewer than two pairs are known.

        Examples
        --------
        >>> from cerebridge import neuro
        >>> from cerebridge.encoding import rsa
        >>> brain = neuro.simulate(n_stimuli=10, n_units=20, random_state=0)
        >>> bases = rsa.rdm(brain.isel(neuroid=slice(4)), by="neuroid_id", metric="sqeuclidean")
        >>> rsa.WeightedModel(bases).fit(rsa.rdm(brain)).weights_.dims
        ('rdm',)
        """
        check_fitting(method)
        bases_of = self.checked_rdms()
        stimuli, values = in_order(check_rdms(rdms, "rdms"), "rdms")
        bases = values_of(bases_of, stimuli, "the model")
        known = np.isfinite(bases).all(axis=0) & np.isfinite(values).all(axis=0)
        if known.sum() < 2:
            raise ValueError(
                f"{known.sum()} pairs are known in all RDMs of the model and the data; fitting needs at least two."
            )
        places = torch.triu_indices(len(stimuli), len(stimuli), 1)[:, torch.as_tensor(known)]
        rows, target = (torch.as_tensor(x[:, known], dtype=torch.float64) for x in (bases, values))
        check_varying(rows, method, bases_of.coords["neuroid_id"].values, "the model")
        check_varying(target, method, rdms.coords["neuroid_id"].values, "rdms")
        share = torch.full((1, len(target)), 1 / len(target), dtype=torch.float64)
        weights = self.mix(rows, target, share, method, places)[0].numpy()
        self.n_missing_pairs_ = int((~known).sum())
        self._keep(weights)
        return self

    def predict(self, stimuli: Sequence[Any] | None = None) -> xr.DataArray:
        """The RDM that the fitted model predicts.

        Parameters
        ----------
        stimuli
            Ids of the stimuli between which dissimilarities are wanted, in this order; default all of the model.

        Returns
        -------
        xarray.DataArray
            ``rdm × pair`` of one RDM; a pair that is missing in one of the model's RDMs is missing.

        Raises
        ------
        ValueError
            If the model is not fitted, or a stimulus is unknown to it.

        Examples
        --------
        >>> from cerebridge import neuro
        >>> from cerebridge.encoding import rsa
        >>> brain = neuro.simulate(n_stimuli=10, n_units=20, random_state=0)
        >>> bases = rsa.rdm(brain.isel(neuroid=slice(4)), by="neuroid_id", metric="sqeuclidean")
        >>> model = rsa.WeightedModel(bases).fit(rsa.rdm(brain))
        >>> model.predict(brain.stimulus_id.values[:4]).shape
        (1, 6)
        """
        if not hasattr(self, "weights_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit with RDMs first.")
        rdms = self.checked_rdms()
        ids = stimulus_order(rdms, "the model")[0] if stimuli is None else np.asarray(stimuli)
        if len(ids) < 2:
            raise ValueError(
                f"there are dissimilarities between stimuli, and {len(ids)} is given; give two or more."
            )
        predicted = self.weights_.values[None] @ values_of(rdms, ids, "the model")
        return assemble(
            predicted,
            rdm={"neuroid_id": [type(self).__name__]},
            pair=pair_table(ids),
            modality=rdms.attrs["modality"],
            units=rdms.attrs["units"],
            provenance=f"{type(self).__name__} of: {rdms.attrs.get('provenance', '')}",
        )

    def checked_rdms(self, which: str = "the model") -> xr.DataArray:
        """The RDMs that are mixed, if they are such and enough."""
        n = check_rdms(self.rdms, which).sizes["rdm"]
        if n < self.fewest:
            raise ValueError(f"{which} has {n} RDM; {type(self).__name__} needs at least {self.fewest}.")
        return self.rdms

    def _keep(self, weights: NDArray[Any]) -> None:
        labels = {name: c for name, c in self.rdms.coords.items() if c.dims == ("rdm",)}
        self.weights_ = xr.DataArray(weights, dims="rdm", coords=labels)


class WeightedModel(MixtureModel):
    """A weighted sum of RDMs (Khaligh-Razavi & Kriegeskorte, 2014, PLoS Comput Biol; Jozwik et al., 2016).

    Parameters
    ----------
    rdms
        ``rdm × pair``: the RDMs that are mixed, of layers, features or parts.
    nonnegative
        Whether weights may not be negative (default). Squared Euclidean distances of features that are scaled and
        put side by side are such sums. Where no RDM is positively related to the data, the one that is least
        dissimilar is taken.

    Attributes
    ----------
    weights_
        One weight an RDM, of length 1 in all, because the scale of an RDM changes no similarity.
    n_missing_pairs_
        Pairs left out of the fit.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=4, random_state=0)
    >>> bases = rsa.rdm(brain, by="neuroid_id", metric="sqeuclidean")
    >>> rsa.WeightedModel(bases).fit(rsa.rdm(brain, metric="sqeuclidean")).weights_.round(3).values.tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(self, rdms: xr.DataArray, nonnegative: bool = True) -> None:
        self.rdms = rdms
        self.nonnegative = nonnegative

    def weigh(self, gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        """Weights of the bases, ``(..., bases)``, from their inner products and those with the mean of the people."""
        return (mixtures.nonnegative if self.nonnegative else mixtures.unconstrained)(gram, cross)


class SelectionModel(MixtureModel):
    """The one of several RDMs that is most similar to the data, such as the best layer of a network.

    Parameters
    ----------
    rdms
        ``rdm × pair``: the RDMs to choose from.

    Attributes
    ----------
    selected_
        ``neuroid_id`` of the RDM chosen.
    weights_
        1 for it, 0 for the others.
    n_missing_pairs_
        Pairs left out of the fit.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=4, random_state=0)
    >>> bases = rsa.rdm(brain, by="neuroid_id", metric="sqeuclidean")
    >>> model = rsa.SelectionModel(bases).fit(bases.isel(rdm=[2]))
    >>> model.selected_ == bases.neuroid_id.values[2]
    True
    """

    def __init__(self, rdms: xr.DataArray) -> None:
        self.rdms = rdms

    def weigh(self, gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        """Weights of the bases, ``(..., bases)``, from their inner products and those with the mean of the people."""
        return _chosen(cross / gram.diagonal(dim1=-2, dim2=-1).sqrt())

    def mix(
        self, bases: torch.Tensor, data: torch.Tensor, share: torch.Tensor, method: str, places: torch.Tensor
    ) -> torch.Tensor:
        """As for all mixtures, but by the measure itself where it compares ranks."""
        if method not in mixtures.RANKED:
            return super().mix(bases, data, share, method, places)
        return _chosen(share @ row_similarities(bases, data, method, places).T)

    def _keep(self, weights: NDArray[Any]) -> None:
        super()._keep(weights)
        self.selected_ = self.weights_.coords["neuroid_id"].values[int(weights.argmax())]


class InterpolationModel(MixtureModel):
    """A mixture of two neighbours in an ordered set of RDMs, such as a parameter varied in steps.

    Parameters
    ----------
    rdms
        ``rdm × pair``: at least two RDMs, in the order in which they follow each other.

    Attributes
    ----------
    weights_
        Of the RDMs: two neighbours or one have weights, not negative and summing to one.
    n_missing_pairs_
        Pairs left out of the fit.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=4, random_state=0)
    >>> bases = rsa.rdm(brain, by="neuroid_id", metric="sqeuclidean")
    >>> between = bases.isel(rdm=[1]).copy(data=bases.values[1:2] + 3 * bases.values[2:3])
    >>> rsa.InterpolationModel(bases).fit(between).weights_.round(3).values.tolist()
    [0.0, 0.25, 0.75, 0.0]
    """

    fewest = 2

    def __init__(self, rdms: xr.DataArray) -> None:
        self.rdms = rdms

    def weigh(self, gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        """Weights of the bases, ``(..., bases)``, from their inner products and those with the mean of the people."""
        return mixtures.interpolated(gram, cross)


def check_fitting(method: str) -> None:
    """Refuse ways of comparing that are unknown or that no mixture is fitted by."""
    check_method(method)
    if method in UNFITTED:
        known = ", ".join(repr(name) for name in METHODS if name not in UNFITTED)
        raise ValueError(f"mixtures of RDMs cannot be fitted by method={method!r}; use {known}.")


def check_varying(rows: torch.Tensor, method: str, labels: NDArray[Any], which: str) -> None:
    """Name the first row whose similarity to anything is undefined."""
    missing = rows.isnan()
    size = rows.abs().masked_fill(missing, 0).amax(dim=1)
    if "cosine" not in method:
        spread = rows.masked_fill(missing, -torch.inf).amax(dim=1) - rows.masked_fill(
            missing, torch.inf
        ).amin(dim=1)
        size = torch.where(spread > 1e-12 * size, size, 0)
    if bool((size == 0).any()):
        k = int((size == 0).nonzero()[0])
        label = labels[k]
        kind = (
            "missing altogether" if bool(missing[k].all()) else "zero" if "cosine" in method else "constant"
        )
        raise ValueError(
            f"RDM {quoted(label)} of {which} is {kind}, so its {method} similarity is undefined; leave it out."
        )


def in_order(rdms: xr.DataArray, which: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Stimuli in order of first appearance, and dissimilarities in the order of ``numpy.triu_indices``."""
    stimuli, index = stimulus_order(rdms, which)
    return stimuli, _taken(rdms, index[np.triu_indices(len(stimuli), 1)], which)


def values_of(rdms: xr.DataArray, stimuli: NDArray[Any], which: str) -> NDArray[np.float64]:
    """Dissimilarities of given stimuli in the order of ``numpy.triu_indices``."""
    known, index = stimulus_order(rdms, which)
    place = {label: k for k, label in enumerate(known.tolist())}
    unknown = [label for label in stimuli.tolist() if label not in place]
    if unknown:
        raise ValueError(
            f"{which} has no dissimilarities of {len(unknown)} of the stimuli, among them {quoted(unknown[0])}; "
            "select the common ones first."
        )
    order = np.array([place[label] for label in stimuli.tolist()], dtype=np.intp)
    rows, columns = np.triu_indices(len(order), 1)
    return _taken(rdms, index[order[rows], order[columns]], which)


def _taken(rdms: xr.DataArray, pairs: NDArray[np.intp], which: str) -> NDArray[np.float64]:
    """Dissimilarities of some pairs, none infinite."""
    values: NDArray[np.float64] = rdms.values[:, pairs].astype(np.float64)
    if np.isinf(values).any():
        raise ValueError(
            f"{which} has {int(np.isinf(values).sum())} infinite dissimilarities; set them to NaN if they are missing."
        )
    return values


def row_similarities(a: torch.Tensor, b: torch.Tensor, method: str, places: torch.Tensor) -> torch.Tensor:
    """Similarity of every row of ``a`` to every row of ``b``, NaN where it is undefined."""
    if method in mixtures.WHITENED:
        gram = mixtures.products(torch.cat([a, b]), places, method)[0]
        length = gram.diagonal().sqrt()
        return (gram / length[:, None] / length)[: len(a), len(a) :]
    return similarities(prepare(a, method), prepare(b, method), method)


def _chosen(scores: torch.Tensor) -> torch.Tensor:
    """1 for the best basis, 0 for the others; one that is constant on these stimuli has no similarity."""
    best = scores.nan_to_num(-torch.inf).argmax(dim=-1)
    return torch.nn.functional.one_hot(best, scores.shape[-1]).to(scores)
