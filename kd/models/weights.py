"""A run's weights: saved and loaded, and initial weights from files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from kd.errors import UsageError
from kd.models.base import Classifier
from kd.models.foreign_weights import COUNTS, Target, fitted, some
from kd.models.timm_models import TimmClassifier
from kd.models.weights_files import read, require_finite
from kd.renamings import current_weights
from kd.store.files import atomic_write

NETWORK = "net."  # in front of a timm network's own names in a model's state dict


def save(model: Classifier, path: Path) -> None:
    """Write all weights as safetensors, in one step: a kill leaves the old file or the new one. Those of a whole timm
    network have its own names, so that plain timm loads them."""
    # Cloned, since the format refuses tensors that share memory.
    state = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
             for name, value in model.state_dict().items()}
    with atomic_write(path) as part:
        save_file(_plain_names(state) if isinstance(model, TimmClassifier) else state, part)


def load(model: Classifier, path: Path) -> None:
    """Fill the model with what `save` wrote. Raises UsageError when the file is missing or of another model."""
    state = read(path).tensors
    if model.has_mask:
        state = current_weights(state)
    elif isinstance(model, TimmClassifier):
        state = {f"{NETWORK}{name}": value for name, value in _plain_names(state).items()}
    _fill(model, state, path, "the model it is loaded into")


def start(model: Classifier, path: Path, label: str, network: str = "", optional: tuple[str, ...] = (),
          spare: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Load initial weights from a file, whosever: timm's own, a checkpoint, or another run's. Returns sentences on what
    was taken and how.

    label: the model's name, for errors. network, optional, spare: as of `Target`, but with the model's own names.
    Half becomes float. Raises UsageError when any key is missing, unexpected, of another shape or of whole or complex
    numbers, which are no weights; the model is then unchanged.
    """
    state, notes = initial_state(model, path, network, optional, spare)
    _fill(model, state, path, label)
    return notes


def check(model: Classifier, path: Path, label: str, network: str = "", optional: tuple[str, ...] = (),
          spare: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """As `start`, without filling the model, which may be on the meta device."""
    state, notes = initial_state(model, path, network, optional, spare)
    _require_fitting(model.state_dict(), state, path, label)
    return notes


def initial_state(model: Classifier, path: Path, network: str, optional: tuple[str, ...],
                  spare: frozenset[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """State dict for a model from a file, as far as it fits, and sentences on it. What may be missing is filled up with
    the model's own."""
    file, own = read(path), model.state_dict()
    require_finite(file)
    names = {name.removeprefix(NETWORK): name for name in own}
    target = Target(_plain_names(own), network, tuple(name.removeprefix(NETWORK) for name in optional),
                    frozenset(name.removeprefix(NETWORK) for name in spare))
    found = fitted(_plain_names(file.tensors), target)
    state = {names.get(name, name): value for name, value in found.tensors.items()}
    missing = {name: own[full] for name, full in names.items() if full not in state}
    forgiven = {names[name]: value for name, value in missing.items()
                if target.is_optional(name) or name.endswith(COUNTS)}
    return {**state, **forgiven}, (*file.notes, *found.notes)


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(NETWORK): value for name, value in state.items()}


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


def _fill(model: Classifier, state: Mapping[str, Tensor], path: Path, label: str) -> None:
    _require_fitting(model.state_dict(), state, path, label)
    model.load_state_dict(dict(state), strict=True)


def _require_fitting(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, label: str) -> None:
    problems = {"missing": [name for name in own if name not in state],
                "unexpected": [name for name in state if name not in own],
                "of another shape": [name for name in own if name in state and own[name].shape != state[name].shape],
                "not of real numbers, as after quantising": [name for name in own if name in state and
                                                             own[name].is_floating_point() and
                                                             not state[name].is_floating_point()]}
    if any(problems.values()):
        misfits = "; ".join(f"{len(names)} {kind} ({some([name.removeprefix(NETWORK) for name in names])})"
                            for kind, names in problems.items() if names)
        raise UsageError(f"The weights in {path} do not fit {label}: of {len(own)} tensors {misfits}. Choose the model "
                         "they were made for, or other weights.")
