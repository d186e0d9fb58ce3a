"""Networks of transformers, from a folder or from the hub's local cache."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .loading import Loading, accept, fill, find_weights, named_tensors, read_weights
from .names import nearest
from .recipes import Recipe, from_transformers
from .sources import Sourced, Weights, build, fixed_image, import_package
from .taps import Inputs

#: what is fetched of a repository: configuration, tokenizer and safetensors
_PATTERNS = ("*.json", "*.txt", "*.model", "model*.safetensors")
#: tokens and samples of the fixed input
_TOKENS, _SAMPLES = 8, 16_000


def from_transformers_zoo(name: str, weights: Weights, allow_partial: bool, options: Any) -> Sourced:
    """Build a network of transformers without a head, or with the one that ``head=`` names.

    Parameters
    ----------
    name
        A folder with ``config.json``, or an id of the hub such as ``"google/vit-base-patch16-224"``.
    weights
        ``None`` for those of the folder or the hub's cache, ``"random"``, another folder, or a file.
    allow_partial
        Accept weights that do not fill the network exactly.
    options
        ``head``: such as ``"CausalLM"``, the end of one of transformers' ``AutoModelFor…``; others go to the network,
        and ``dtype``, which is else float32.

    Raises
    ------
    FileNotFoundError
        If the folder holds no network, or the hub's cache has none and the hub cannot be reached.
    ValueError
        If the configuration, an option or the weights are wrong.
    """
    transformers = import_package("transformers")
    options = dict(options)
    head = options.pop("head", None)
    given = Path(weights) if weights not in (None, "pretrained", "random") else None
    folder = given if given is not None and (given / "config.json").is_file() else find_folder(name)
    auto = _auto_class(transformers, head)
    with _quiet(transformers):
        config = _read_config(transformers, folder)
        if weights == "random" or (given is not None and folder != given):
            net = build(lambda **named: auto.from_config(config, **named), name, options)
            loading = Loading("random", 0, len(named_tensors(net)))
            if given is not None:
                path = find_weights(given)
                loading = fill(net, _without_prefix(read_weights(path), net), path.name, allow_partial)
        else:
            net, loading = _load(auto, folder, name, options, allow_partial)
    if "dtype" not in options:
        net.float()
    net.eval()
    net.folder = folder
    return Sourced(net, loading, _recipe(folder), _fixed_inputs(net), ("transformers",))


def find_folder(name: str) -> Path:
    """Return the folder of a network: a local one, or the hub's snapshot of it, fetched if need be.

    Raises
    ------
    FileNotFoundError
        If there is neither, saying what to do.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"the folder {folder} holds no config.json; give one that save_pretrained wrote."
            )
        return folder
    hub = import_package("huggingface_hub")
    reason = ""
    for local in (True, False):
        try:
            found = Path(hub.snapshot_download(name, allow_patterns=list(_PATTERNS), local_files_only=local))
        except Exception as error:  # the hub's many ways of not having or not reaching a repository
            reason = type(error).__name__
        else:
            if (found / "config.json").is_file() and any(found.glob("*.safetensors")):
                return found
            reason = "it has no config.json or no safetensors"
    raise FileNotFoundError(
        f"transformers/{name} is neither a folder nor in the hub's cache, and cannot be fetched ({reason}); give a "
        "folder with config.json and model.safetensors."
    )


def _auto_class(transformers: Any, head: str | None) -> Any:
    if head is None:
        return transformers.AutoModel
    heads = [
        each.removeprefix("AutoModelFor") for each in dir(transformers) if each.startswith("AutoModelFor")
    ]
    if head not in heads:
        raise ValueError(f"transformers has no head {head!r}; {nearest(head, heads)}.")
    return getattr(transformers, f"AutoModelFor{head}")


def _read_config(transformers: Any, folder: Path) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{folder / 'config.json'} describes no known network ({reason}).") from None


def _load(
    auto: Any, folder: Path, name: str, options: Mapping[str, Any], allow_partial: bool
) -> tuple[nn.Module, Loading]:
    """Fill a network from its own folder; transformers brings older layouts into today's and tells what is left."""
    try:
        net, report = build(
            lambda **named: auto.from_pretrained(
                folder,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                **named,
            ),
            name,
            options,
        )
    except ValueError:
        raise
    except Exception as error:  # a damaged file fails in whatever part of its reader meets the damage
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the weights in {folder} are damaged or not there ({reason}); fetch them again."
        ) from None
    own = named_tensors(net)
    reshaped = tuple(sorted(each if isinstance(each, str) else each[0] for each in report["mismatched_keys"]))
    missing = tuple(sorted(key for key in report["missing_keys"] if key in own))
    left_out, unexpected = _split_unexpected(sorted(report["unexpected_keys"]), net, folder)
    loading = Loading(
        source=folder.name,
        matched=len(own) - len(missing) - len(reshaped),
        total=len(own),
        missing=missing,
        unexpected=unexpected,
        reshaped=reshaped,
        left_out=left_out,
    )
    return net, accept(loading, allow_partial)


def _split_unexpected(
    names: list[str], net: nn.Module, folder: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tensors of heads that were not asked for, and others that the network does not know.

    A checkpoint with a head calls the network inside by its prefix (``bert.encoder…``) and the head otherwise.
    """
    prefix = f"{getattr(net, 'base_model_prefix', '')}."
    is_head = [
        not name.startswith(prefix) and getattr(net, "base_model", net) is net and len(prefix) > 1
        for name in names
    ]
    if not any(name.startswith(prefix) for name in _stored_names(folder)):
        is_head = [False] * len(names)
    return (
        tuple(name for name, head in zip(names, is_head, strict=True) if head),
        tuple(name for name, head in zip(names, is_head, strict=True) if not head),
    )


def _stored_names(folder: Path) -> list[str]:
    from safetensors import safe_open

    names: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as content:
            names += content.keys()
    return names


def _without_prefix(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    prefix = f"{getattr(net, 'base_model_prefix', '')}."
    if getattr(net, "base_model", net) is not net:
        return dict(state)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _recipe(folder: Path) -> Recipe | None:
    """What images become, where the folder says so; sound and text have no such file or another one."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    return from_transformers(config) if "image_mean" in config or "size" in config else None


def _fixed_inputs(net: Any) -> Inputs | None:
    """A seeded input by the name that the network takes; ``None`` for kinds that are not known here."""
    draw, config = np.random.default_rng(0), net.config
    kind = net.main_input_name
    inputs: dict[str, Tensor] = {}
    if kind == "input_ids" and isinstance(getattr(config, "vocab_size", None), int):
        ids = draw.integers(0, config.vocab_size, (1, _TOKENS))
        inputs = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.ones(1, _TOKENS, dtype=torch.long),
        }
    elif kind == "pixel_values" and isinstance(getattr(config, "image_size", None), int):
        inputs = {"pixel_values": fixed_image(config.image_size, getattr(config, "num_channels", 3))}
    elif kind == "input_values":
        inputs = {"input_values": torch.from_numpy(draw.standard_normal((1, _SAMPLES), dtype=np.float32))}
    if not inputs:
        return None
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = torch.zeros(1, 1, dtype=torch.long)
    return inputs


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers' bars and reports back: what became of the weights is in ``net.loading``."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
