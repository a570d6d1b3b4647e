"""What a map's DICOM file says in words: what was explained, how, by which model, and that it is not for clinical use.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kd.explainers import EXPLAINERS
from kd.inspection.explain import Explanation
from kd.inspection.heat_map import HeatMap

NOTICE = "KD Lens. Not for clinical use."
LONGEST = 63  # of DICOM's 64: some readers count the space that makes the bytes even
SERIES = 9001  # number of the new series: far behind those of scanners


@dataclass(frozen=True)
class MapLabels:
    """Words for one map. concept: pydicom's name of the DICOM code that says what kind of map it is. parameters: of the
    algorithm. signed: whether it has a part that contradicts the class."""

    title: str
    text: str
    run: str
    concept: str
    parameters: Mapping[str, str]
    signed: bool


def labels_of(explanation: Explanation, heat: HeatMap, role: str = "") -> MapLabels:
    """The words for one map of an explanation. role: of the model in a comparison."""
    facts, target = EXPLAINERS[explanation.explainer].info, explanation.classes[explanation.target]
    asked = f" for {target}" if facts.class_specific else ""
    who = f"{role}: " if role else ""
    blank = " The map is blank." if heat.blank else ""
    text = (f"{who}{explanation.run.label} (run {explanation.run.id}), {facts.title}{asked}, {heat.label}. "
            f"The model predicts {explanation.classes[explanation.predicted]}. {facts.reading_note}{blank}")
    parameters = {"explainer": explanation.explainer, "target": target if asked else "none", "map": heat.label,
                  "image_size": str(explanation.image.shape[0]), "run": explanation.run.id}
    return MapLabels(f"{who}{facts.title}{asked}", text, explanation.run.id, _concept(explanation, heat), parameters,
                     heat.signed)


def _concept(explanation: Explanation, heat: HeatMap) -> str:
    """DICOM knows class activation, by gradients or otherwise, and saliency."""
    if explanation.explainer == "grad-cam":
        return "GradientWeightedClassActivation"
    activation = EXPLAINERS[explanation.explainer].info.class_specific and heat.lies_on == "stage"
    return "ClassActivation" if activation else "Saliency"


def fit(text: str, most: int = LONGEST, keep: str = "") -> str:
    """Text as DICOM takes it: on one line, without its separator, and cut. keep: an end that stays."""
    clean = " ".join(text.replace("\\", "/").split())
    return clean if len(clean) <= most else f"{clean[:most - 1 - len(keep)].rstrip()}…{keep}"
