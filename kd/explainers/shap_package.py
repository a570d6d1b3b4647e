"""GradientExplainer of the package shap, for the timing that KD-FMV reports. Optional, because shap is large."""

from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from kd.errors import UsageError
from kd.explainers.attribution import PixelExplainer, empty_pictures
from kd.explainers.base import SEED, CountedModel, ExplainerInfo
from kd.torch_utils.rng import numpy_seeded

SAMPLES = 200  # shap's default, to which KD-FMV's "about 60 s" refers


class ShapGradient(PixelExplainer):
    """`shap.GradientExplainer` at its default of 200 samples, against the two empty images of GradientSHAP.

    The same quantity as GradientSHAP at ten times the samples. Explanations of several threads wait for each other,
    since shap draws from numpy's global generator; its state is put back.
    """

    info = ExplainerInfo(
        "SHAP (package shap)", "Lundberg & Lee 2017, arXiv 1705.07874", True,
        "What each pixel adds to the target class's score (below 0: takes from it), against blank images.",
        "minutes", signed=True, grid="picture")

    def __init__(self, samples: int = SAMPLES, seed: int = SEED) -> None:
        self.samples, self.seed = samples, seed

    def attribute(self, ask: CountedModel, image: Tensor, targets: Tensor) -> Tensor:
        shap = _package()
        maps = []
        for target in targets:
            with numpy_seeded(), torch.enable_grad():
                explainer = shap.GradientExplainer(_Score(ask, int(target)), empty_pictures(image), batch_size=10)
                values = explainer.shap_values(image[None].detach(), nsamples=self.samples, rseed=self.seed)
            maps.append(torch.from_numpy(np.asarray(values, dtype=np.float32)).reshape(image.shape).sum(dim=0))
        return torch.stack(maps).to(image.device)

    def passes(self, image: Tensor, targets: int) -> int:
        return targets * (self.samples + 2)


class _Score(nn.Module):
    """One logit [B, 1] as a module without the model as a submodule: shap sets modes and clears gradients of all
    submodules."""

    def __init__(self, ask: CountedModel, target: int) -> None:
        super().__init__()
        self.hidden = (ask,)
        self.target = target

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.hidden[0](images)
        return logits[:, self.target, None]


def _package() -> ModuleType:
    try:
        import shap
    except ImportError as error:
        raise UsageError("The explainer 'shap-gradient' needs the package shap, which is optional. Install it with "
                         "pip install -r requirements-shap.txt, or choose 'gradient-shap', which needs nothing."
                         ) from error
    return shap
