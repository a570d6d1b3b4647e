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

from kd.inference.engine import FLOAT32, Answers, Engine
from kd.inference.record import OPENVINO, EngineRecord
from kd.models.base import Classifier
from kd.openvino_runtime import openvino

_converting = threading.Lock()  # OpenVINO replaces functions of torch while it reads a network


class OpenVinoEngine(Engine):
    """A copy of a model that OpenVINO has compiled, for images of one size. Not for several threads at a time.

    batch, size: of the images [batch, 3, size, size] in a pass; fewer images are filled up to a whole batch, so that
    an image's answer does not depend on how many are asked about. Raises whatever torch and OpenVINO raise of a network
    that cannot be converted.
    """

    def __init__(self, model: nn.Module, outputs: Sequence[str], batch: int, size: int, precision: str,
                 reason: str = "") -> None:
        self.outputs, self.batch = tuple(outputs), batch
        kind = compute_type(precision)
        compiled = _compiled(Answers(copy.deepcopy(model).eval(), outputs), noise(batch, size), kind)
        self._request = compiled.create_infer_request()
        self.record = openvino_record(precision, reason)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        parts = [self._pass(part) for part in images.split(self.batch)]
        return {name: torch.cat([part[number] for part in parts]) for number, name in enumerate(self.outputs)}

    def _pass(self, images: Tensor) -> list[Tensor]:
        count = len(images)
        if count < self.batch:
            images = torch.cat([images, images[:1].expand(self.batch - count, *images.shape[1:])])
        found = self._request.infer([np.ascontiguousarray(images.numpy())], share_inputs=True)
        return [torch.from_numpy(found[number])[:count] for number in range(len(self.outputs))]


def _compiled(answers: Answers, images: Tensor, kind: str) -> Any:
    """The compiled network. OpenVINO's `convert_model` would trace it twice."""
    package = openvino()  # before anything of it is imported
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with _converting, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and warns of every shape that it reads
        traced = TorchScriptPythonDecoder(answers, example_input=images, trace_kwargs={"check_trace": False})
        reader = FrontEndManager().load_by_framework("pytorch")
        network = reader.convert(reader.load(traced))
        network.reshape(list(images.shape))
        return package.Core().compile_model(network, "CPU", {
            "INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
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
    if not isinstance(model, Classifier):
        return "it is not a whole model"
    if model.has_mask:
        return "its mask is cut by comparing numbers, where rounding would show"
    if "cams" in outputs and model.pooled_linear is None:
        return "its class maps are gradients"
    return ""
