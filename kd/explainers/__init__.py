"""Explainers by name. A new one: a class like those here, and one line below."""

from kd.explainers.attribution import GradientShap, IntegratedGradients
from kd.explainers.base import DEFAULT_STAGE, Explainer, ExplainerInfo, Maps, StageChoice, scale
from kd.explainers.gradient_cams import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from kd.explainers.gradient_free_cams import AblationCam, EigenCam, ScoreCam
from kd.explainers.model_maps import Mask, StageMaps
from kd.explainers.perturbation import KernelShap, Occlusion
from kd.explainers.pytorch_grad_cam import EigenGradCam, FinerCam, KpcaCam, ShapleyCam
from kd.explainers.sensitivity import Sensitivity
from kd.explainers.shap_package import ShapGradient
from kd.models.base import Classifier
from kd.registry import Registry

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

__all__ = ["DEFAULT_STAGE", "EXPLAINERS", "Explainer", "ExplainerInfo", "Maps", "StageChoice", "explainer_for",
           "scale", "stage_key"]


def explainer_for(name: str, model: Classifier) -> str:
    """Name of the explainer that is used for this model: `name`, but Grad-CAM in place of the mask for a model without
    a mask network. Raises UsageError for an unknown name."""
    EXPLAINERS[name]
    return "grad-cam" if name == "mask" and not model.has_mask else name


def stage_key(name: str, stage: StageChoice) -> StageChoice:
    """The stage by which results of this explainer are stored: -1 for a default that is every model's last stage."""
    return -1 if stage == DEFAULT_STAGE and EXPLAINERS[name].info.reduction is None else stage
