"""Weighted models in bootstrapped cross-validation against rsatoolbox, with equal results for equal folds.

``bootstrap_crossval`` resamples people and stimuli, and fits and scores the models in every fold of every sample. It
runs a few samples with folds that we draw for it, and its seconds count in proportion; ours evaluates the very same
samples and folds, and then as many samples as were asked for. Evaluations and noise ceilings must agree. The peer fits
by plain least squares, its fastest: ``fit_regress_nn`` did not end within two minutes a sample on the model RDMs of the
92 object images, which ours fits under that condition in the same time.

With ranks, models are fitted sample by sample: about ten times the time of a linear measure.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa import folds as folding
from cerebridge.encoding.rsa.crossvalidation import crossvalidate_samples
from cerebridge.encoding.rsa.pairs import pair_table

from . import compete, versions
from ._draws import Draws, counted, recorded

PEERS = {"cosine": "cosine", "pearson": "corr"}
FOLDS = {"subjects": 3, "conditions": 2}
AGREEMENT = 1e-6


def run(quick: bool) -> dict[str, Any]:
    """Compare 15 people, 92 stimuli, a mixture of 7 RDMs and one of them, 1000 samples (quick: a small case)."""
    people, stimuli, bases, samples, looped = (9, 14, 3, 10, 4) if quick else (15, 92, 7, 1000, 5)
    rng = np.random.default_rng(0)
    parts = rng.random((bases, stimuli * (stimuli - 1) // 2))
    data = parts[0] + parts[1] + rng.random((people, parts.shape[1]))
    cases = {method: bootstrap(data, parts, stimuli, method, samples, looped) for method in PEERS}
    return {
        "ratio": min(case["ratio"] for case in cases.values()),
        "sizes": {
            "people": people,
            "stimuli": stimuli,
            "bases": bases,
            "samples": samples,
            "looped": looped,
        },
        "cases": cases,
        "threads": torch.get_num_threads(),
        "versions": versions("rsatoolbox"),
    }


def bootstrap(
    data: NDArray[Any], parts: NDArray[Any], stimuli: int, method: str, samples: int, looped: int
) -> dict[str, Any]:
    """Time both sides, and check that they agree on the samples and folds of the peer."""
    from rsatoolbox.inference import bootstrap_crossval, evaluate
    from rsatoolbox.model import ModelFixed, ModelWeighted
    from rsatoolbox.model.fitter import fit_mock, fit_regress
    from rsatoolbox.rdm import RDMs

    bases, people = labelled(parts, stimuli), labelled(data, stimuli)
    models = {"mixture": rsa.WeightedModel(bases, nonnegative=False), "one": bases[:1]}
    theirs = [ModelWeighted("mixture", parts), ModelFixed("one", parts[0])]
    options = {"k_pattern": FOLDS["conditions"], "k_rdm": FOLDS["subjects"]}
    draws: Draws = []

    def peer() -> Any:
        rng = np.random.default_rng(0)

        def sets(sample: Any, **_: Any) -> Any:
            return our_folds(sample, draws[-1], len(data), stimuli, rng)

        with recorded(draws), mock.patch.object(evaluate, "sets_k_fold", sets):
            fitters = [fit_regress, fit_mock]
            return bootstrap_crossval(theirs, RDMs(data), PEERS[method], fitters, N=looped, **options)

    rng = np.random.default_rng(1)
    many = [rng.multinomial(n, np.full(n, 1 / n), samples) for n in (len(data), stimuli)]

    def evaluated(drawn: Any) -> Any:
        return crossvalidate_samples(models, people, method, *drawn, **FOLDS, repeats=2, random_state=0)

    timings = compete({"ours": lambda: evaluated(many), "peer": peer}, 1)
    expected = timings["peer"].result
    found, ceilings = evaluated(counted(draws, (len(data), stimuli)))
    differences = {
        "evaluations": np.nanmax(np.abs(found - expected.evaluations.mean(axis=2))),
        "ceilings": np.nanmax(np.abs(ceilings - expected.noise_ceiling.transpose(1, 0, 2))),
    }
    assert np.isfinite(found).any(), "no sample could be divided into folds"
    assert max(differences.values()) < AGREEMENT, f"{method}: results differ by {differences}"
    scale = samples / looped
    return {
        "ours": timings["ours"].summary(),
        "peer": timings["peer"].summary(),
        "ratio": round(timings["peer"].cpu * scale / timings["ours"].cpu, 1),
        "agreement": {name: float(value) for name, value in differences.items()},
    }


def labelled(vectors: NDArray[Any], stimuli: int) -> Any:
    """RDMs with names."""
    ids = [f"r{k}" for k in range(len(vectors))]
    return neuro.assemble(
        vectors, rdm={"neuroid_id": ids}, pair=pair_table(np.arange(stimuli)), modality="rdm", units="1"
    )


def our_folds(sample: Any, drawn: Any, n_people: int, n_stimuli: int, rng: np.random.Generator) -> Any:
    """Our folds of a sample as training, test and ceiling sets of the peer, in its form."""
    people, stimuli = (np.bincount(k, minlength=n) for k, n in zip(drawn, (n_people, n_stimuli), strict=True))
    chosen = np.flatnonzero(people)
    part = folding.Sample(chosen, people[chosen], np.repeat(np.arange(n_stimuli), stimuli))
    found = folding.draw_folds(np.arange(n_people), part, FOLDS["subjects"], FOLDS["conditions"], rng)
    sets: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for train, test in zip(found.train, found.test, strict=True):
        fitted, tested = (sample.subset("index", list(chosen[here])) for here in (train, test))
        for seen, unseen in found.stimuli:
            some, others = (list(np.unique(side)) for side in (seen, unseen))
            sets[0].append([fitted.subset_pattern("index", some), some])
            sets[1].append([tested.subset_pattern("index", others), others])
            sets[2].append([fitted.subset_pattern("index", others), others])
    return sets
