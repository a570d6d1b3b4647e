"""Explainers by name. A new one: a class like those here, and one line below."""

from kd.explainers.base import Explainer, ExplainerFacts, Maps, scale
from kd.explainers.gradcam import GradCam
from kd.explainers.stage_maps import StageMaps
from kd.registry import Registry

EXPLAINERS: Registry[Explainer] = Registry("explainer")
EXPLAINERS.add("grad-cam")(GradCam())
EXPLAINERS.add("stage-maps")(StageMaps())

__all__ = ["EXPLAINERS", "Explainer", "ExplainerFacts", "Maps", "scale"]
