"""A student in 8-bit integers as a classifier: what its exported file answers, by onnxruntime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd.errors import UsageError
from kd.models.base import Classifier
from kd.models.factory import architecture, meta_model
from kd.models.onnx_session import OnnxSession
from kd.observation import Observation
from kd.spec import RunSpec

LOGITS, CLASS_MAPS, STAGE = "logits", "class_maps", "stage_"  # names of the file's outputs


class EightBitModel(Classifier):
    """An exported file as a classifier, of which there are forward passes only: no gradients, and no stage whose output
    can be replaced. Scaling and downsampling are part of the file.

    file: of `kd.export`, read once. twin: a model of the same architecture, on any device; its weights are not used.
    """

    differentiable = False

    def __init__(self, file: Path, twin: Classifier) -> None:
        super().__init__()
        self._content = file.read_bytes()  # the file may be replaced meanwhile
        self._sessions: dict[int, OnnxSession] = {}
        self._twin = (twin,)  # a tuple, or it would be a submodule
        self.stages = twin.stages
        self._names = tuple(f"{STAGE}{number}" for number in range(1, len(self.stages) + 1))
        self._outputs = self._session().outputs

    @property
    def network(self) -> Classifier:
        return self._twin[0]

    @property
    def has_class_maps(self) -> bool:
        return CLASS_MAPS in self._outputs

    def prepare(self, images: Tensor) -> Tensor:
        return images

    def forward_stages(self, prepared: Tensor) -> tuple[Tensor, ...]:
        return self._ask(prepared, self._names)

    def forward(self, images: Tensor, cams: bool = False, stages: bool = True) -> Observation:
        if cams and not self.has_class_maps:
            raise UsageError("This model's file has no class maps: its head is more than pooling and one linear layer.")
        wanted = (LOGITS, *self._names * stages, *(CLASS_MAPS,) * cams)
        logits, *others = self._ask(images, wanted)
        return Observation(logits, tuple(others[:len(others) - cams]), others[-1] if cams else None)

    def _ask(self, images: Tensor, names: Sequence[str]) -> tuple[Tensor, ...]:
        found = self._session()(images.detach().float().cpu().contiguous().numpy(), names)
        return tuple(torch.from_numpy(np.asarray(found[name])).to(images.device) for name in names)

    def _session(self) -> OnnxSession:
        """Of as many threads as torch computes with now."""
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            self._sessions = {threads: OnnxSession(self._content, threads)}
        return self._sessions[threads]


def load(file: Path, spec: RunSpec, classes: int) -> EightBitModel:
    """The model of a file that a run with this spec was quantised to, in eval mode."""
    model = EightBitModel(file, meta_model(architecture(spec.without_mask_net, classes)))
    model.eval()
    return model
