"""Networks of torchvision and timm: the same as theirs, proved, from files and from what was fetched before."""

from __future__ import annotations

import sys
import urllib.error

import pytest
import torch
from safetensors.torch import save_file

from cerebridge import models
from cerebridge.models.compat import mend_torchvision

mend_torchvision()
torchvision, timm = pytest.importorskip("torchvision"), pytest.importorskip("timm")
NETWORKS = ["torchvision/resnet18", "timm/vit_tiny_patch16_224"]
#: small ones that are the only ones to be written to disk
SMALL = ["torchvision/squeezenet1_1", "timm/test_vit"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """Caches that are empty, and no way to fetch anything."""

    def fail(*arguments, **options):
        raise urllib.error.URLError("no network")

    def fail_but_locally(repository, name, local_files_only=False):
        import huggingface_hub

        return huggingface_hub.file_download.hf_hub_download(
            repository, name, local_files_only=True, cache_dir=tmp_path / "hub"
        )

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail_but_locally)


def by_hand(name):
    source, _, rest = name.partition("/")
    return torchvision.models.get_model(rest) if source == "torchvision" else timm.create_model(rest)


@pytest.mark.parametrize("name", NETWORKS)
def test_random_networks_are_the_sources_own(name):
    before = torch.random.get_rng_state()
    net = models.load(name, weights="random", seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(3)
    theirs = by_hand(name).eval()
    with torch.no_grad():
        images = torch.randn(2, 3, 224, 224)
        torch.testing.assert_close(net(images), theirs(images))
    assert net.loading.source == f"{name}: random" and net.loading.deterministic
    assert net.loading.versions.keys() == {"torch", name.partition("/")[0]}
    assert net.preprocess.size == 224 and len(net.layers) >= 2
    stimuli = models.StimulusSet.from_arrays(torch.zeros(2, 240, 250, 3, dtype=torch.uint8))
    activations = models.extract(net, stimuli, [net.layers[-1]], pool="global")
    assert activations.sizes["presentation"] == 2


@pytest.mark.parametrize("name", SMALL)
def test_weights_of_a_file_are_those_of_the_network(name, tmp_path):
    torch.manual_seed(0)
    theirs = by_hand(name).eval()
    save_file(theirs.state_dict(), tmp_path / "own.safetensors")
    net = models.load(name, weights=tmp_path / "own.safetensors")
    assert net.loading.complete and net.loading.matched == len(theirs.state_dict())
    assert net.loading.source == f"{name}: own.safetensors"
    with torch.no_grad():
        images = torch.randn(2, 3, net.preprocess.size, net.preprocess.size)
        torch.testing.assert_close(net(images), theirs(images))


def test_published_weights_come_from_torchs_cache(tmp_path):
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.manual_seed(5)
    theirs = torchvision.models.squeezenet1_1()
    torch.save(theirs.state_dict(), cache / url.rpartition("/")[2])
    for weights in (None, "pretrained", "IMAGENET1K_V1"):
        net = models.load("torchvision/squeezenet1_1", weights)
        torch.testing.assert_close(net.features[0].weight, theirs.features[0].weight)
        assert net.loading.complete


def test_published_weights_come_from_the_hubs_cache(tmp_path):
    torch.manual_seed(5)
    theirs = timm.create_model("test_vit")
    repository = theirs.pretrained_cfg["hf_hub_id"].replace("/", "--")
    snapshot = tmp_path / "hub" / f"models--{repository}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    save_file(theirs.state_dict(), snapshot / "model.safetensors")
    net = models.load("timm/test_vit")
    torch.testing.assert_close(net.cls_token, theirs.cls_token)
    assert net.loading.complete


@pytest.mark.parametrize("name", SMALL)
def test_what_is_neither_cached_nor_fetched_is_said(name):
    with pytest.raises(
        FileNotFoundError, match=rf"the weights of {name} are not here .* give a file as weights="
    ):
        models.load(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision/resnet19", "torchvision has no network 'resnet19'; the nearest are 'resnet1"),
        ("timm/vit_tiny_patch16", "timm has no network 'vit_tiny_patch16'; the nearest are 'vit_tiny"),
        ("keras/resnet18", "no network 'keras/resnet18'; .*those of torchvision/, timm/, transformers/"),
        ("mobilenet_v2", "comes without weights; give weights="),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(ValueError, match=message):
        models.load(name)


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "timm/test_vit", "tiny"])
def test_options_that_a_network_lacks(name):
    with pytest.raises(ValueError, match="does not take n_classes=3 .*leave out what it lacks"):
        models.load(name, weights="random", n_classes=3)


def test_options_that_a_network_has():
    net = models.load("timm/test_vit", weights="random", num_classes=0)
    assert net(torch.zeros(1, 3, 160, 160)).shape == (1, 64)
    smaller = models.load("timm/test_vit", weights="random", img_size=80)
    assert smaller.preprocess.size == 80 and smaller.loading.deterministic
    assert smaller.preprocess.resize / 80 == pytest.approx(net.preprocess.resize / 160, rel=0.02)
    oblong = models.load("timm/test_vit", weights="random", img_size=(80, 64))
    with pytest.raises(ValueError, match="preprocessing is not known"):
        oblong.preprocess(None)


@pytest.mark.parametrize("name", SMALL)
def test_weights_of_another_architecture_are_refused(name, tmp_path):
    save_file(models.TinyNet().state_dict(), tmp_path / "tiny.safetensors")
    with pytest.raises(ValueError, match="tiny.safetensors does not fit the network: 0 of"):
        models.load(name, weights=tmp_path / "tiny.safetensors", allow_partial=True)


def test_another_head_is_refused_unless_allowed(tmp_path):
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"2 of another shape \(head\."):
        models.load("timm/test_vit", weights=tmp_path / "own.safetensors", num_classes=7)
    with pytest.warns(UserWarning, match="fills the network in part"):
        models.load("timm/test_vit", weights=tmp_path / "own.safetensors", num_classes=7, allow_partial=True)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = models.TinyNet().state_dict()
    state["conv2.0.weight"][0, 0] = torch.nan
    save_file(state, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"own.safetensors has NaN or infinite values in 'conv2.0.weight'"):
        models.load("tiny", weights=tmp_path / "own.safetensors")


@pytest.mark.parametrize("name", SMALL)
def test_without_the_package_one_sentence_says_what_to_install(name, monkeypatch):
    package = name.partition("/")[0]
    for module in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("cerebridge.models.sources.mend_torchvision", lambda: None)
    with pytest.raises(
        ImportError, match=rf"networks of {package} need it .*pip install 'cerebridge\[zoo\]'"
    ):
        models.load(name, weights="random")


def test_checkpoints_of_another_layout_are_converted_by_timm(tmp_path):
    """A vision transformer within a CLIP model has other names and no bias of its head; timm's function knows it."""
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit").state_dict()
    state = {f"visual.trunk.{name}": tensor for name, tensor in theirs.items() if "head" not in name}
    save_file(state | {"visual.head.proj.weight": theirs["head.weight"]}, tmp_path / "clip.safetensors")
    net = models.load("timm/test_vit", weights=tmp_path / "clip.safetensors")
    assert net.loading.complete
    torch.testing.assert_close(
        net.state_dict()["blocks.1.attn.qkv.weight"], theirs["blocks.1.attn.qkv.weight"]
    )
    assert not net.head.bias.any()


def test_names_are_listed_over_all_sources():
    assert "timm/vit_tiny_patch16_224" in models.list_networks("timm/vit_tiny*")
    assert models.list_networks("*/resnet18") == ["torchvision/resnet18", "timm/resnet18"]
    assert set(models.NETWORKS) <= set(models.list_networks())
    assert models.list_networks("nothing*") == []
