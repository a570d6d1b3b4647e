"""Explainers by name. A new one: a class like those here, and one line below."""

from kd.explainers.attribution import GradientShap, IntegratedGradients
from kd.explainers.base import Explainer, ExplainerFacts, Maps, Progress, scale
from kd.explainers.channel_cams import AblationCam, EigenCam, ScoreCam
from kd.explainers.gradcam import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from kd.explainers.removal import KernelShap, Occlusion
from kd.explainers.shap_package import ShapGradient
from kd.explainers.stage_maps import StageMaps
from kd.registry import Registry

EXPLAINERS: Registry[Explainer] = Registry("explainer")
EXPLAINERS.add("grad-cam")(GradCam())
EXPLAINERS.add("stage-maps")(StageMaps())
EXPLAINERS.add("layer-cam")(LayerCam())
EXPLAINERS.add("hires-cam")(HiResCam())
EXPLAINERS.add("grad-cam-plus-plus")(GradCamPlusPlus())
EXPLAINERS.add("xgrad-cam")(XGradCam())
EXPLAINERS.add("eigen-cam")(EigenCam())
EXPLAINERS.add("score-cam")(ScoreCam())
EXPLAINERS.add("ablation-cam")(AblationCam())
EXPLAINERS.add("integrated-gradients")(IntegratedGradients())
EXPLAINERS.add("gradient-shap")(GradientShap())
EXPLAINERS.add("kernel-shap")(KernelShap())
EXPLAINERS.add("occlusion")(Occlusion())
EXPLAINERS.add("shap-gradient")(ShapGradient())

__all__ = ["EXPLAINERS", "Explainer", "ExplainerFacts", "Maps", "Progress", "scale"]
