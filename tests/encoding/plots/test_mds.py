"""Dissimilarities as places in a plane."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from cerebridge import neuro
from cerebridge.encoding import plots
from cerebridge.encoding.rsa.pairs import pair_table


def labelled(vectors, n):
    names = np.array([f"i{k}" for k in range(n)])
    ids = [f"r{k}" for k in range(len(vectors))]
    return neuro.assemble(vectors, rdm={"neuroid_id": ids}, pair=pair_table(names), modality="rdm", units="1")


def places(axis):
    return np.asarray(axis.collections[0].get_offsets())


@pytest.mark.parametrize("method", ["smacof", "classical"])
def test_distances_in_a_plane_are_found_again(method):
    points = np.random.default_rng(0).standard_normal((12, 2))
    turn = np.array([[0.0, 3.0], [3.0, 0.0]])
    rdms = labelled(np.stack([pdist(points), pdist(points @ turn)]), 12)
    first, second = plots.plot_mds(rdms, method=method).axes
    np.testing.assert_allclose(pdist(places(first)), pdist(points), rtol=1e-4)
    np.testing.assert_allclose(places(second), places(first), atol=1e-3)
    assert first.get_title(loc="left") == "r0 (stress 0.00)"
    assert [text.get_text() for text in first.texts] == [f"i{k}" for k in range(12)]


def test_long_names_are_cut():
    ids = np.array([f"i{k} of a picture with a name that is long" for k in range(5)])
    rdms = neuro.assemble(
        pdist(np.random.default_rng(0).standard_normal((5, 2)))[None],
        rdm={"neuroid_id": ["r"]},
        pair=pair_table(ids),
        modality="rdm",
        units="1",
    )
    said = [text.get_text() for text in plots.plot_mds(rdms).axes[0].texts]
    assert all(text.startswith(f"i{k} of") and len(text) < 30 for k, text in enumerate(said))


def test_smacof_has_less_stress_than_classical_scaling():
    rng = np.random.default_rng(0)
    rdms = labelled(pdist(rng.standard_normal((20, 8)))[None], 20)
    stress = [
        float(plots.plot_mds(rdms, method=method).axes[0].get_title(loc="left").split()[-1][:-1])
        for method in ("smacof", "classical")
    ]
    assert stress[0] < stress[1]


def test_groups_have_colours_and_a_legend_and_pictures_their_places():
    rng = np.random.default_rng(0)
    rdms = labelled(pdist(rng.standard_normal((9, 3)))[None], 9)
    labels = list("aabbccaab")
    figure = plots.plot_mds(rdms, labels=labels)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    colours = figure.axes[0].collections[0].get_facecolors()
    assert len({tuple(colour) for colour in colours}) == 3
    assert (colours[0] == colours[7]).all() and (colours[0] != colours[2]).any()
    figure = plots.plot_mds(rdms, labels=labels, images=list(rng.random((9, 8, 8, 3))))
    axis = figure.axes[0]
    assert len(axis.images) == len(axis.patches) == 9
    centres = [np.mean(np.reshape(image.get_extent(), (2, 2)), axis=1) for image in axis.images]
    np.testing.assert_allclose(centres, places(axis))
    assert axis.get_xlim()[0] < places(axis)[:, 0].min() < places(axis)[:, 0].max() < axis.get_xlim()[1]


def test_bad_input_is_one_sentence():
    rng = np.random.default_rng(0)
    rdms = labelled(pdist(rng.standard_normal((5, 3)))[None], 5)
    gap = rdms.copy()
    gap.values[0, 2] = np.nan
    for call, message in [
        (lambda: plots.plot_mds(rdms, labels="ab"), "labels has 2 entries for 5 stimuli"),
        (lambda: plots.plot_mds(rdms, images=[]), "images has 0 entries for 5 stimuli"),
        (lambda: plots.plot_mds(rdms, method="tsne"), "method='tsne' is unknown"),
        (lambda: plots.plot_mds(gap), "RDM r0 has 1 missing dissimilarities"),
        (lambda: plots.plot_mds(rdms[:, 1:]), "no dissimilarity of 'i0' and 'i1'"),
        (lambda: plots.plot_mds(rdms[0]), "single RDM without the dimension"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
