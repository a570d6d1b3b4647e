"""Weights files: saving and loading a run's weights, and initial weights from files or timm's hub."""

import hashlib
import pickle
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kd.errors import UsageError
from kd.models.base import Classifier
from kd.renamings import current_weights
from kd.store.files import atomic_write

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_NESTS = ("state_dict", "model", "model_state", "model_state_dict")
_WRAPPERS = ("module.", "_orig_mod.")
# Long enough for a slow line to answer; the downloader by itself would try again for most of a minute.
HUB_PATIENCE = 5.0
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def save(model: Classifier, path: Path) -> None:
    """Write all weights as safetensors, in one step: a kill leaves the old file or the new one."""
    # Cloned, since the format refuses tensors that share memory.
    state = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
             for name, value in model.state_dict().items()}
    with atomic_write(path) as part:
        save_file(state, part)


def load(model: Classifier, path: Path) -> None:
    """Fill the model with what `save` wrote. Raises UsageError when the file is missing or of another model."""
    state = read(path)
    _fill(model, current_weights(state) if model.has_mask else state, path, "the model it is loaded into")


def start(model: Classifier, path: Path, label: str, optional: tuple[str, ...] = (),
          spare: frozenset[str] = frozenset()) -> None:
    """Load initial weights from a file: timm's own, a state dict, or another run's weights. Half becomes float.

    label: the model's name, for errors. optional: names of layers (with their contents) that may be missing or have
    another shape, as the classifier. spare: keys of the file that the model does not have by design.
    Raises UsageError when any other key is missing, unexpected or of another shape; the model is then unchanged.
    """
    state = _as_run(read(path), model)
    own = model.state_dict()
    state = {name: value for name, value in state.items()
             if (name in own and not _optional_misfit(name, value, own, optional))
             or (name not in own and name not in spare and not _within(name, optional))}
    # No layer here uses the counts of batches, and old files lack them.
    forgiven = {name: value for name, value in own.items()
                if name not in state and (_within(name, optional) or name.endswith("num_batches_tracked"))}
    _fill(model, {**state, **forgiven}, path, label)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth, .pt or .bin file by name, without wrappers' prefixes.

    Raises UsageError when there is no such file, when it holds no weights, or when reading it would run code.
    """
    require_suffix(path)
    if not path.is_file():
        raise UsageError(f"There is no weights file {path}. Check the path.")
    content = _tensors(path)
    if not content:
        raise UsageError(f"{path} holds no named tensors. Save the model's state_dict() and use that file.")
    return content


def require_suffix(path: Path) -> None:
    """Raise UsageError unless the file's name is that of a weights file."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} is not a weights file by its name. Use one of {', '.join(SUFFIXES)}.")


def fingerprint(path: Path) -> str:
    """The first 16 hex digits of the file's SHA-256. Raises UsageError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UsageError(f"The weights file {path} cannot be read ({error.strerror}). Check the path.") from error
    return digest.hexdigest()[:16]


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(
            path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{path} holds more than weights, or is no weights file: reading it could run code, so it is "
                         "not read. Save the model's state_dict() alone, best as .safetensors.") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UsageError(f"{path} is damaged or is no weights file. Download or save it again.") from error
    for nest in _NESTS:
        if isinstance(found, Mapping) and isinstance(found.get(nest), Mapping):
            found = found[nest]
    named = found.items() if isinstance(found, Mapping) else ()
    return _unwrap({name: value for name, value in named if isinstance(name, str) and isinstance(value, Tensor)})


def _unwrap(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            return _unwrap({name.removeprefix(wrapper): value for name, value in state.items()})
    return state


def _as_run(state: dict[str, Tensor], model: Classifier) -> dict[str, Tensor]:
    """State dict with the keys of a run's file, where the model holds a timm network and the file has timm's keys."""
    if hasattr(model, "net") and not any(name.startswith("net.") for name in state):
        return {f"net.{name}": value for name, value in state.items()}
    return state


def _within(name: str, layers: tuple[str, ...]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


def _optional_misfit(name: str, value: Tensor, own: Mapping[str, Any], optional: tuple[str, ...]) -> bool:
    return _within(name, optional) and value.shape != own[name].shape


def _fill(model: Classifier, state: Mapping[str, Tensor], path: Path, label: str) -> None:
    own = model.state_dict()
    problems = {"missing": [name for name in own if name not in state],
                "unexpected": [name for name in state if name not in own],
                "of another shape": [name for name in own if name in state and own[name].shape != state[name].shape]}
    if any(problems.values()):
        misfits = "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names)
        raise UsageError(f"The weights in {path} do not fit {label}: of {len(own)} tensors {misfits}. Choose the model "
                         "they were made for, or other weights.")
    model.load_state_dict(dict(state), strict=True)


def _some(names: list[str]) -> str:
    """The first few names, without the prefix of a timm network."""
    return ", ".join([name.removeprefix("net.") for name in names[:3]] + ["…"] * (len(names) > 3))


def hub_arguments(name: str) -> dict[str, Any]:
    """Arguments of `timm.create_model(name, …)` for its trained weights, which are downloaded if not cached.

    Raises UsageError when timm has none, or when they are not cached and the hub cannot be reached.
    """
    config: Any = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UsageError(f"timm has no trained weights for {name}. Start from none, or from a local file.")
    if config.hf_hub_id:
        return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(_hub_file(name, config))}}
    if config.url and not _torch_file(config.url).exists():
        _demand_network(name, config.url)
    return {"pretrained": True}


def download_failed(name: str, error: Exception) -> UsageError:
    """The error for a download that failed."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    return UsageError(f"The weights of {name} could not be downloaded: {reason} Try again later, start from none, or "
                      "name a local .safetensors or .pth file.")


def _hub_file(name: str, config: Any) -> Path:
    repository, _, revision = config.hf_hub_id.partition("@")
    files = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
    for file in files:
        cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    _demand_network(name, huggingface_hub.constants.ENDPOINT)
    for file in files:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision or None))
        except huggingface_hub.errors.EntryNotFoundError as error:
            missing = error
        except Exception as error:  # of network, proxy or server: the remedy is the same
            raise download_failed(name, error) from error
    raise download_failed(name, missing) from missing


def _torch_file(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _demand_network(name: str, address: str) -> None:
    if huggingface_hub.constants.HF_HUB_OFFLINE or not reachable(address):
        raise UsageError(f"The weights of {name} are not on this machine and {address} cannot be reached. Connect to a "
                         "network, start from none, or name a local .safetensors or .pth file.")


def reachable(address: str, patience: float = HUB_PATIENCE) -> bool:
    """Whether a server responds within `patience` seconds; proxies are respected."""
    responses: list[bool] = []
    # In a separate thread, because a name look-up has no time limit.
    request = threading.Thread(target=lambda: responses.append(_answers(address, patience)), daemon=True)
    request.start()
    request.join(patience)
    return bool(responses) and responses[0]


def _answers(address: str, patience: float) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=patience):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
