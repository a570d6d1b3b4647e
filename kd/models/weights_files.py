"""Weights files as people bring them: the tensors they hold, by name, and a sentence on what was taken.

Read are state dicts, bare or within the checkpoint of a training script, saved by torch or as safetensors. No code of a
file is ever run: objects beside the tensors (a training's settings, numpy scalars) are replaced by empty ones.
"""

import pickle
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kd.errors import UsageError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".pt.tar")
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema", "params_ema")
DEPTH = 4  # dictionaries within each other that are searched
LONGEST = 100  # letters of a tensor's name in a sentence
_ONE_AT_A_TIME = threading.Lock()  # torch's list of safe classes belongs to the process


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """Tensors of a file by name, as it names them. notes: sentences on what was taken of it."""

    path: Path
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


class _Ignored:
    """What stands in place of an object whose class is not loaded."""

    def __new__(cls, *_: Any, **__: Any) -> "_Ignored":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read(path: Path) -> WeightsFile:
    """The tensors of a weights file. Raises UsageError when there is no such file, or when it holds no weights."""
    require_suffix(path)
    if not path.is_file():
        raise UsageError(f"There is no weights file {path}. Check the path.")
    content, ignored = _content(path)
    tensors, notes = _state_dict(content)
    if not tensors:
        raise _without_tensors(path, ignored)
    return WeightsFile(path, tensors, notes)


def require_suffix(path: Path) -> None:
    """Raise UsageError unless the file's name is that of a weights file."""
    if not path.name.lower().endswith(SUFFIXES):
        raise UsageError(f"{path} is not a weights file by its name. Use one of {', '.join(SUFFIXES)}.")


def _content(path: Path) -> tuple[Any, list[str]]:
    """What a file holds, and the classes in it that are not loaded."""
    if _is_program(path):
        raise UsageError(f"{path} is a TorchScript program, not a file of weights. Save the state_dict() of the model "
                         "that it was made of.")
    try:
        if path.name.lower().endswith(".safetensors"):
            return load_file(path), []
        return _unpickled(path)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{path} is damaged, is no weights file, or holds what cannot be read without running its "
                         "code. Where it was made, save model.state_dict(), best as .safetensors.") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError, IndexError, TypeError,
            AttributeError, AssertionError) as error:
        raise UsageError(f"{path} is damaged or is no weights file. Download or save it again.") from error


def _unpickled(path: Path) -> tuple[Any, list[str]]:
    names = _foreign_classes(path)
    with _ONE_AT_A_TIME, torch.serialization.safe_globals([(_Ignored, name) for name in names]):
        return torch.load(path, map_location="cpu", weights_only=True), names


def _foreign_classes(path: Path) -> list[str]:
    """Names of the classes and functions in a file that torch does not know to be safe."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, OSError, pickle.UnpicklingError, EOFError):
        return []  # a file of torch before 1.6, or none of torch's: loading it says more


def _is_program(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.endswith("/constants.pkl") for name in file.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _state_dict(content: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The largest dictionary of tensors in a checkpoint, of equal ones the moving average, and a sentence on it."""
    found = list(_dictionaries(content, ()))
    if not found:
        return {}, ()
    most = max(len(tensors) for _, tensors in found)
    full = {place: tensors for place, tensors in found if 2 * len(tensors) > most}
    averages = [place for place in full if any(name in AVERAGES for name in place)]
    place = averages[0] if averages else max(full, key=lambda place: len(full[place]))
    if averages and len(full) > 1:
        return full[place], (f"The file has the weights and their moving average; the average was taken "
                             f"({'.'.join(place)}).",)
    return full[place], (f"Its weights are a moving average ({'.'.join(place)}).",) if averages else ()


def _dictionaries(content: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dictionary within another that holds named tensors, with the keys that lead to it."""
    if not isinstance(content, Mapping) or len(place) > DEPTH:
        return
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    if tensors := {name: value for name, value in named.items() if isinstance(value, Tensor)}:
        yield place, tensors
    for name, value in named.items():
        yield from _dictionaries(value, (*place, name))


def shortened(name: str) -> str:
    """A tensor's name for a sentence, which a broken file can make as long as it likes."""
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}…"


def _without_tensors(path: Path, ignored: list[str]) -> UsageError:
    if ignored:
        return UsageError(f"{path} holds a model's code and not its weights alone ({', '.join(ignored[:3])}): reading "
                          "it could run code, so it is not read. Where it was made, save model.state_dict(), best as "
                          ".safetensors.")
    return UsageError(f"{path} holds no named tensors. Save the model's state_dict() and use that file.")


def require_finite(file: WeightsFile) -> None:
    """Raise UsageError where a tensor has a value that is not finite, or holds no plain values."""
    for name, value in file.tensors.items():
        # Floats of 8 bits come without their scales.
        eight_bit = value.is_quantized or (value.is_floating_point() and value.element_size() == 1)
        if value.is_meta or eight_bit or value.layout is not torch.strided:
            kind = "without values" if value.is_meta else "quantised" if eight_bit else "sparse"
            raise UsageError(f"The weights in {file.path} cannot be used: {shortened(name)} is {kind}. Where it was "
                             "made, save the state_dict() of the model in float32.")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UsageError(f"The weights in {file.path} are not finite: {shortened(name)} has NaN or infinite "
                             "values, as after a training that diverged. Take an earlier checkpoint.")
