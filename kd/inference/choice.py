"""Choice of the engine that answers for a frozen model, by a trial that is kept with the machine.

The trial is made once for each network (not for its weights), outputs, batch, image size, precision, number of threads,
processor and versions; `data/.cache/engines.json` keeps its result, so that every later run has the same engine. There
is none where so little is asked that a conversion would not pay. KD_LENS_ENGINE names an engine in place of a trial.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from filelock import FileLock
from torch import Tensor, nn

from kd.errors import UsageError
from kd.inference.engine import BF16, FLOAT32, Asked, Engine, TorchEngine, error, spread_error, torch_record
from kd.inference.openvino_engine import OpenVinoEngine, compute_type, installed, noise, obstacle, openvino_record
from kd.inference.record import NAMES, OPENVINO, TORCH, EngineRecord
from kd.models.cost import cost_of
from kd.paths import Paths
from kd.store.files import write_json
from kd.torch_utils.compute import processor

VARIABLE = "KD_LENS_ENGINE"
FILE = "engines.json"
# FLOPs asked for, by layer of the network, from which on a trial pays. Measured: a conversion takes about 10 ms a
# layer, and torch computes about 60 GFLOPs a second; it should not take more than a fifth of torch's time.
FLOPS_BY_LAYER = 3e9
GAIN = 1.1  # times as fast as torch that another engine must be
TRIAL_SECONDS, ROUNDS = 0.5, 3  # of each engine, at most; at least so many passes
EXACT = 1e-4  # largest error in float32, relative to an output's largest value
AS_AUTOCAST = 3.0  # error in bf16 by that of torch's autocast; 1.5 was seen on 192 images, and more on few
CHECKED = 16  # images of a check, at most
# By model, what a trial has just converted, for the call that opens it next.
_tried: WeakKeyDictionary[nn.Module, tuple[Asked, OpenVinoEngine]] = WeakKeyDictionary()


def choose(network: nn.Module, load: Callable[[], nn.Module], asked: Asked, device: torch.device, paths: Paths,
           earlier: EngineRecord | None = None) -> EngineRecord:
    """The engine for a model. network: the model, or one of its architecture on the meta device. load: gives the model
    for a trial. earlier: the engine that an interrupted run had; it is taken again where it can be.

    Raises UsageError when KD_LENS_ENGINE names no engine.
    """
    wanted = _wanted()
    refusal = _refusal(network, asked, device)
    if earlier and (again := _again(earlier, asked, refusal)):
        return again
    changed = f"{earlier} cannot be had here any more; " if earlier else ""
    if refusal or wanted == TORCH:
        return torch_record(asked.precision, changed + (refusal or f"{VARIABLE} is {TORCH}"))
    if wanted:
        return openvino_record(asked.precision, changed + f"{VARIABLE} is {wanted}")
    if not _is_much(network, asked):
        return torch_record(asked.precision, changed + "too few images to convert the network for another engine")
    kept = _kept_or_tried(network, load, asked, paths)
    of = openvino_record if kept["engine"] == OPENVINO else torch_record
    return of(asked.precision, changed + kept["reason"])


def open_engine(model: nn.Module, record: EngineRecord, asked: Asked) -> Engine:
    """The chosen engine for a model; torch, with the reason, where the network cannot be converted or its answers are
    not those of torch."""
    if record.engine == OPENVINO:
        tried = _tried.pop(model, None)
        made, reason = (tried[1], "") if tried and tried[0] == asked else _converted(model, record, asked)
        if made:
            return made
        return TorchEngine(model, asked.outputs, asked.precision, reason)
    return TorchEngine(model, asked.outputs, asked.precision, record.reason)


def fastest_engine(model: nn.Module, asked: Asked, device: torch.device, paths: Paths) -> Engine:
    """The fastest engine that is exact enough for a model in eval mode on its device. Raises UsageError as `choose`."""
    return open_engine(model, choose(model, lambda: model, asked, device, paths), asked)


def _wanted() -> str:
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", *NAMES):
        raise UsageError(f"{VARIABLE} is {wanted!r}. Set it to {' or '.join(NAMES)}, or leave it unset, for the "
                         "faster one.")
    return wanted


def _refusal(network: nn.Module, asked: Asked, device: torch.device) -> str:
    """Why OpenVINO is out of the question, in words; empty where it is not."""
    if device.type != "cpu":
        return f"the model is on {device.type}"
    if asked.precision not in (FLOAT32, BF16):
        return f"{asked.precision} is torch's own"
    return "OpenVINO is not installed" if not installed() else obstacle(network, asked.outputs)


def _again(earlier: EngineRecord, asked: Asked, refusal: str) -> EngineRecord | None:
    """The engine of an interrupted run, where it still computes the same here."""
    now = torch_record(asked.precision) if earlier.engine == TORCH else None
    if earlier.engine == OPENVINO and not refusal:
        now = openvino_record(asked.precision)
    return earlier if now and now.same_as(earlier) else None


def _is_much(network: nn.Module, asked: Asked) -> bool:
    """Whether so many images are asked for that a conversion pays. Counted and not timed, so that the same run has the
    same engine again."""
    layers = sum(1 for module in network.modules() if not [*module.children()])
    most = max(2 * sum(weight.numel() for weight in network.parameters()) * asked.size**2, 1)  # of an image
    if asked.images * most < FLOPS_BY_LAYER * layers:
        return False  # without counting
    try:
        flops = cost_of(network, asked.size).flops  # type: ignore[arg-type]
    except (RuntimeError, NotImplementedError):  # a network that computes with numbers of Python's
        return True
    return asked.images * flops >= FLOPS_BY_LAYER * layers


def _kept_or_tried(network: nn.Module, load: Callable[[], nn.Module], asked: Asked, paths: Paths) -> dict[str, Any]:
    """Result of the trial: engine and reason. Processes of one machine wait for each other's."""
    question = _question(network, asked)
    key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]
    try:
        paths.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(paths.cache / f".{FILE}.lock", thread_local=False):
            known = _read(paths)
            if key not in known:
                known[key] = {**question, **_trial(load(), asked)}
                write_json(paths.cache / FILE, known)
            return known[key]
    except OSError:  # nothing can be written there
        return _trial(load(), asked)


def _read(paths: Paths) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((paths.cache / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found


def _question(network: nn.Module, asked: Asked) -> dict[str, Any]:
    """All that a trial's result depends on."""
    import timm

    parts = [f"{name} {type(module).__name__}" for name, module in network.named_modules()]
    parts += [f"{name} {list(weight.shape)}" for name, weight in network.named_parameters()]
    about = {name: value for name, value in asdict(asked).items() if name != "images"}
    return {"network": hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16], **about,
            "outputs": list(asked.outputs), "threads": torch.get_num_threads(), "processor": processor(),
            "torch": torch.__version__, "timm": timm.__version__, "openvino": installed()}


def _trial(model: nn.Module, asked: Asked) -> dict[str, Any]:
    """Engine and reason, after both have answered the same images."""
    plain, images = TorchEngine(model, asked.outputs, asked.precision), noise(asked.batch, asked.size)
    fast, reason = _converted(model, openvino_record(asked.precision), asked)
    if fast is None:
        return {"engine": TORCH, "reason": reason}
    seconds = _seconds([plain, fast], images.contiguous(memory_format=torch.channels_last))
    gain = seconds[0] / seconds[1]
    if gain < GAIN:
        return {"engine": TORCH, "gain": gain, "reason": f"OpenVINO is {gain:.2f} times as fast as torch"}
    reason = f"{gain:.2f} times as fast as torch in a trial"
    fast.record = replace(fast.record, reason=reason)
    _tried[model] = asked, fast
    return {"engine": OPENVINO, "gain": gain, "reason": reason}


def _converted(model: nn.Module, record: EngineRecord, asked: Asked) -> tuple[OpenVinoEngine | None, str]:
    """The model in OpenVINO, or None and why not."""
    try:
        made = OpenVinoEngine(model, asked, record.reason)
        fault = _fault(model, made, asked)
    except Exception as problem:  # a converter raises whatever it likes
        return None, f"OpenVINO cannot convert the network ({type(problem).__name__}: {str(problem).split(chr(10))[0]})"
    return (None, fault) if fault else (made, "")


def _fault(model: nn.Module, made: OpenVinoEngine, asked: Asked) -> str:
    """In what way its answers are not those of torch, in words; empty where they are."""
    images = 1 - noise(asked.batch, asked.size)  # not those that were traced
    few = images[:max(1, min(CHECKED, len(images) - 1))]
    exact = TorchEngine(model, asked.outputs)(few)
    found = _first(made(images), len(few)) if asked.whole else made(few)  # another number than was traced
    if compute_type(asked.precision) == "f32":
        wrong, allowed = error(found, exact), EXACT
    else:
        wrong = spread_error(found, exact)
        allowed = AS_AUTOCAST * spread_error(TorchEngine(model, asked.outputs, BF16)(few), exact)
    return "" if wrong <= allowed else f"OpenVINO's answers err by {wrong:.2g}, more than {allowed:.2g}"


def _first(found: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    return {name: values[:count] for name, values in found.items()}


def _seconds(engines: list[Engine], images: Tensor) -> list[float]:
    """Seconds of a pass of each engine, the shortest of several, in turn."""
    found: list[list[float]] = [[] for _ in engines]
    while len(found[0]) < ROUNDS or sum(map(sum, found)) < TRIAL_SECONDS * len(engines):
        for engine, taken in zip(engines, found, strict=True):
            began = time.perf_counter()
            engine(images)
            taken.append(time.perf_counter() - began)
    return [min(taken) for taken in found]
