"""OpenVINO as an engine, for models on a processor."""

import copy
import threading
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kd.inference.engine import FLOAT32, Answers, Asked, Engine
from kd.inference.record import OPENVINO, EngineRecord
from kd.models.base import Classifier
from kd.openvino_runtime import openvino

_converting = threading.Lock()  # OpenVINO replaces functions of torch while it reads a network


class OpenVinoEngine(Engine):
    """A copy of a model that OpenVINO has compiled, for images of one size. Not for several threads at a time.

    Fewer images than a whole batch are filled up to one, where that is asked for. Raises whatever torch and OpenVINO
    raise of a network that cannot be converted.
    """

    def __init__(self, model: nn.Module, asked: Asked, reason: str = "") -> None:
        self.asked = asked
        self._request = _compiled(Answers(copy.deepcopy(model).eval(), asked.outputs), asked).create_infer_request()
        self.record = openvino_record(asked.precision, reason)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        parts = [self._pass(part) for part in images.split(self.asked.batch)]
        return {name: torch.cat([part[number] for part in parts]) for number, name in enumerate(self.asked.outputs)}

    def _pass(self, images: Tensor) -> list[Tensor]:
        count = len(images)
        if self.asked.whole:
            images = torch.cat([images, images[:1].expand(self.asked.batch - count, *images.shape[1:])])
        found = self._request.infer([np.ascontiguousarray(images.numpy())], share_inputs=True)
        return [torch.from_numpy(found[number])[:count] for number in range(len(self.asked.outputs))]


def _compiled(answers: Answers, asked: Asked) -> Any:
    """The compiled network. OpenVINO's `convert_model` would trace it twice."""
    package = openvino()  # before anything of it is imported
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    images = noise(asked.batch, asked.size)
    with _converting, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and warns of every shape that it reads
        traced = TorchScriptPythonDecoder(answers, example_input=images, trace_kwargs={"check_trace": False})
        reader = FrontEndManager().load_by_framework("pytorch")
        network = reader.convert(reader.load(traced))
        network.reshape([asked.batch if asked.whole else -1, *images.shape[1:]])
        return package.Core().compile_model(network, "CPU", {
            "INFERENCE_PRECISION_HINT": compute_type(asked.precision), "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(), "ENABLE_CPU_PINNING": False})


def noise(batch: int, size: int) -> Tensor:
    """The same random images [batch, 3, size, size] in 0..1 each time."""
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def compute_type(precision: str) -> str:
    """OpenVINO's name of the type in which a precision is computed here: bf16 where the processor has it."""
    if precision == FLOAT32 or "BF16" not in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "f32"
    return "bf16"


def openvino_record(precision: str, reason: str = "") -> EngineRecord:
    """Record of the installed OpenVINO in a precision."""
    return EngineRecord(OPENVINO, installed(), compute_type(precision), reason)


def installed() -> str:
    """Version of OpenVINO; empty where it is not installed."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return ""


def obstacle(model: nn.Module, outputs: Sequence[str]) -> str:
    """Why a model is not given to OpenVINO for these outputs, in words; empty where it is."""
    if not isinstance(model, Classifier) or not model.differentiable:
        return "it is not a whole network"
    if model.has_mask:
        return "its mask is cut by comparing numbers, where rounding would show"
    if "cams" in outputs and model.pooled_linear is None:
        return "its class maps are gradients"
    return ""
