"""timm's trained weights from the hub: where they are, and whether it can be reached."""

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch

from kd.errors import UsageError

# Long enough for a slow line to answer; the downloader by itself would try again for most of a minute.
HUB_PATIENCE = 5.0
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


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
