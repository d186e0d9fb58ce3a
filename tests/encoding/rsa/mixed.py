"""RDMs of bases, and of people who see a mixture of them."""

from __future__ import annotations

import numpy as np

from cerebridge import neuro
from cerebridge.encoding.rsa.pairs import pair_table


def labelled(vectors, ids=None, stimuli=None):
    n = (1 + int((1 + 8 * len(vectors[0])) ** 0.5)) // 2
    ids = [f"s{k}" for k in range(len(vectors))] if ids is None else ids
    stimuli = np.array([f"i{k:02d}" for k in range(n)] if stimuli is None else stimuli)
    return neuro.assemble(
        vectors, rdm={"neuroid_id": ids}, pair=pair_table(stimuli), modality="fmri", units="1"
    )


def mixed(n_bases=4, n_people=5, n_stimuli=12, noise=0.3, seed=0):
    """Bases, and people who see a mixture of the first and the third through noise."""
    rng = np.random.default_rng(seed)
    bases = rng.random((n_bases, n_stimuli * (n_stimuli - 1) // 2))
    people = bases[0] + 2 * bases[2] + noise * rng.random((n_people, bases.shape[1]))
    return labelled(bases, [f"b{k}" for k in range(n_bases)]), labelled(people)
