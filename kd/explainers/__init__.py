"""Explainers by name. A new one: a class like those here, and one line below."""

from collections.abc import Iterable, Sequence

from kd.errors import UsageError
from kd.explainers.attribution import GradientShap, IntegratedGradients
from kd.explainers.base import DEFAULT_STAGE, Explainer, ExplainerInfo, Maps, StageChoice, needs_gradients, scale
from kd.explainers.gradient_cams import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from kd.explainers.gradient_free_cams import AblationCam, EigenCam, ScoreCam
from kd.explainers.model_maps import Mask, StageMaps
from kd.explainers.perturbation import KernelShap, Occlusion
from kd.explainers.pytorch_grad_cam import EigenGradCam, FinerCam, KpcaCam, ShapleyCam
from kd.explainers.sensitivity import Sensitivity
from kd.explainers.shap_package import ShapGradient
from kd.models.base import Classifier
from kd.registry import Registry
from kd.store.eight_bit import EightBit
from kd.store.runs import Run

EXPLAINERS: Registry[Explainer] = Registry("explainer")
EXPLAINERS.add("grad-cam")(GradCam())
EXPLAINERS.add("sensitivity")(Sensitivity())
EXPLAINERS.add("stage-maps")(StageMaps())
EXPLAINERS.add("mask")(Mask())
EXPLAINERS.add("layer-cam")(LayerCam())
EXPLAINERS.add("hires-cam")(HiResCam())
EXPLAINERS.add("grad-cam-plus-plus")(GradCamPlusPlus())
EXPLAINERS.add("xgrad-cam")(XGradCam())
EXPLAINERS.add("eigen-cam")(EigenCam())
EXPLAINERS.add("shapley-cam")(ShapleyCam())
EXPLAINERS.add("finer-cam")(FinerCam())
EXPLAINERS.add("eigen-grad-cam")(EigenGradCam())
EXPLAINERS.add("kpca-cam")(KpcaCam())
EXPLAINERS.add("score-cam")(ScoreCam())
EXPLAINERS.add("ablation-cam")(AblationCam())
EXPLAINERS.add("integrated-gradients")(IntegratedGradients())
EXPLAINERS.add("gradient-shap")(GradientShap())
EXPLAINERS.add("kernel-shap")(KernelShap())
EXPLAINERS.add("occlusion")(Occlusion())
EXPLAINERS.add("shap-gradient")(ShapGradient())

FORWARD_ONLY = ("An 8-bit student's file computes forward only, so explainers that need gradients, or features changed "
                "inside of the network, are not offered with it.")

__all__ = ["DEFAULT_STAGE", "EXPLAINERS", "FORWARD_ONLY", "Explainer", "ExplainerInfo", "Maps", "StageChoice",
           "explainer_for", "offered", "require_offered", "scale", "stage_key"]


def explainer_for(name: str, model: Classifier) -> str:
    """Name of the explainer that is used for this model: `name`, but Grad-CAM in place of the mask for a model without
    a mask network. Raises UsageError for an unknown name."""
    EXPLAINERS[name]
    return "grad-cam" if name == "mask" and not model.has_mask else name


def stage_key(name: str, stage: StageChoice) -> StageChoice:
    """The stage by which results of this explainer are stored: -1 for a default that is every model's last stage."""
    return -1 if stage == DEFAULT_STAGE and EXPLAINERS[name].info.reduction is None else stage


def offered(runs: Iterable[Run]) -> tuple[str, ...]:
    """Names of the explainers for these runs together: the mask only where one of them has a mask, and beside an 8-bit
    student those that forward passes are enough for."""
    runs = list(runs)
    masked = any(run.spec.mask_net_depth for run in runs)
    forms = [run for run in runs if isinstance(run, EightBit)]
    return tuple(name for name in EXPLAINERS if (masked or name != "mask") and all(_works(name, one) for one in forms))


def _works(name: str, form: EightBit) -> bool:
    name = "grad-cam" if name == "mask" else name  # as `explainer_for` has it
    return form.has_class_maps if name == "grad-cam" else EXPLAINERS[name].info.forward_only


def require_offered(names: Sequence[str], runs: Iterable[Run]) -> None:
    """Raise UsageError for an unknown explainer, and for one that an 8-bit student among these runs cannot have."""
    forms = [run for run in runs if isinstance(run, EightBit)]
    for name in names:
        info = EXPLAINERS[name].info
        if not all(_works(name, form) for form in forms):
            raise UsageError(needs_gradients(info.title))
