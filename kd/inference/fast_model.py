"""A frozen classifier whose forward passes are an engine's, for all that asks a model for answers only."""

import copy
from typing import Any

from torch import Tensor, nn

from kd.inference.choice import fastest_engine
from kd.inference.engine import Asked, Engine
from kd.models.base import Classifier
from kd.observation import Observation
from kd.paths import Paths

BATCH = 32  # images in a pass of an engine
MOST = 2  # compiled networks of a model in memory


class FastModel(Classifier):
    """A frozen classifier in eval mode, as one whose logits alone and whose features of one stage alone are computed by
    the fastest engine that is exact to 1e-4, where no gradient of the images is needed. All else is the model's own.

    images: number of images that it will be asked about, as far as it is known. Not for several threads at a time.
    """

    def __init__(self, model: Classifier, size: int, images: int, paths: Paths) -> None:
        super().__init__()
        self.model = model
        self.mean, self.std, self.input_size, self.stages = model.mean, model.std, model.input_size, model.stages
        self.mirrors, self.size, self.paths, self.images = model.mirrors, size, paths, images
        self.engines: dict[str, Engine] = {}
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> Classifier:
        return copy.deepcopy(self.model, memo)  # engines cannot be copied

    def expect(self, images: int) -> None:
        """Set `images` anew, from where the engines are chosen again."""
        if images > self.images:
            self.images, self.engines = images, {}

    def forward(self, images: Tensor, cams: bool = False, stages: bool = True) -> Observation:
        if cams or stages or not self._answers(images):
            return self.model(images, cams, stages)
        return Observation(self._engine("logits")(images)["logits"], ())

    def features_at(self, images: Tensor, stage: int) -> Tensor:
        if not self._answers(images):
            return self.model.features_at(images, stage)
        name = f"stage:{stage % len(self.stages)}"
        return self._engine(name)(images)[name]

    def prepare(self, images: Tensor) -> Tensor:
        return self.model.prepare(images)

    def forward_stages(self, prepared: Tensor) -> tuple[Tensor, ...]:
        return self.model.forward_stages(prepared)

    def forward_head(self, features: Tensor) -> Tensor:
        return self.model.forward_head(features)

    def stages_from(self, prepared: Tensor, stage: int, features: Tensor) -> Tensor:
        return self.model.stages_from(prepared, stage, features)

    def stages_until(self, prepared: Tensor, stage: int) -> Tensor:
        return self.model.stages_until(prepared, stage)

    @property
    def pooled_linear(self) -> nn.Linear | None:
        return self.model.pooled_linear

    @property
    def network(self) -> Classifier:
        return self.model.network

    def _answers(self, images: Tensor) -> bool:
        return not images.requires_grad and tuple(images.shape[2:]) == (self.size, self.size)

    def _engine(self, output: str) -> Engine:
        if output not in self.engines:
            for least_recent in list(self.engines)[:len(self.engines) + 1 - MOST]:
                del self.engines[least_recent]
            asked = Asked((output,), BATCH, self.size, self.images, whole=False)
            self.engines[output] = fastest_engine(self.model, asked, self.mean.device, self.paths)
        self.engines[output] = self.engines.pop(output)  # the most recent last
        return self.engines[output]


def fast_model(model: Classifier, size: int, images: int, paths: Paths) -> Classifier:
    """The model as a `FastModel`; itself where it is a file, or a mask network stands in front of it."""
    return FastModel(model, size, images, paths) if model.differentiable and not model.has_mask else model
