"""Results of an evaluation of explanations as table rows with baseline and interval, without torch."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kd.evaluation.explanation_store import (
    AGREEMENT,
    COST,
    EVIDENCE,
    FAITHFULNESS,
    LOCALISATION,
    PER_MODEL,
    POSTHOC,
    Arrays,
)
from kd.evaluation.report import BYTES, COUNT, NUMBER, SECONDS, SHARE, TIMES, MetricRow
from kd.roles import STUDENT

GAIN_VS_CONTROL, MASK_VS_OTHERS, VS_BASELINES = "gain", "mask over others", "localisation over baselines"
BINS = 12
# measure -> (name, unit, whether a small value is the good one)
NAMES = {
    "spearman": ("Spearman correlation", NUMBER, False), "pearson": ("linear correlation", NUMBER, False),
    "cosine": ("cosine", NUMBER, False), "ssim": ("SSIM", NUMBER, False),
    "iou_5": ("overlap of the top 5 %", SHARE, False), "iou_20": ("overlap of the top 20 %", SHARE, False),
    "distance": ("distance of the centres of mass ↓", SHARE, True),
    "pointing": ("pointing game", SHARE, False), "energy": ("energy on the evidence", SHARE, False),
    "iou_otsu": ("IoU, Otsu's threshold", SHARE, False), "iou_best": ("IoU, best threshold", SHARE, False),
    "auprc": ("average precision", SHARE, False),
    "insertion": ("insertion", SHARE, False), "deletion": ("deletion ↓", SHARE, True), "road": ("ROAD", SHARE, False),
    "drop": ("average drop ↓", SHARE, True), "increase": ("confidence increase", SHARE, False),
    "without": ("decisions kept without the evidence ↓", SHARE, True),
    "mirrored": ("decisions kept without its mirrored region", SHARE, False),
    "alone": ("decisions kept by the evidence alone", SHARE, False),
    "blurred": ("decisions kept by the blurred image", SHARE, False),
    "kept": ("same prediction inside the mask", SHARE, False), "left": ("same prediction outside ↓", SHARE, True),
}
# The maps of the post-hoc agreement.
MAPS = {"mask-soft": "soft mask, the student's input", "mask": "mask, cut to its area", "grad-cam": "Grad-CAM",
        "layer-cam": "LayerCAM", "gradient-shap": "GradientSHAP", "centre": "centre of the image", "random": "random"}
# The baselines of localisation, none of which has seen a model.
BASELINES = {"area": "area", "centre": "centre", "brightness": "brightness", "brightness-centre": "brightness × centre",
             "darkness": "darkness", "darkness-centre": "darkness × centre"}


def rows(found: Mapping[str, Any]) -> list[MetricRow]:
    """Rows of all results of `kd.evaluation.explanation_store.load_all`; what was not computed is left out.

    chance: the baseline: agreement of the same two models on different images; the evidence's share of the image
    (localisation); decisions kept without the mirrored region, or of the blurred image (evidence); a random map
    (post-hoc, faithfulness). centre: a centred Gaussian map. of: the explainer used; for post-hoc agreement a key of
    MAPS, for MASK_VS_OTHERS the map that the mask is compared with, and for VS_BASELINES a key of BASELINES.
    """
    made = [*_agreement(found), *_gain(found), *_localisation(found), *_faithfulness(found), *_cost(found)]
    return [*(replace(row, of=found["models"][row.role]["explainer"]) for row in made), *_vs_baselines(found),
            *_evidence(found), *_posthoc(found), *_over(found)]


def _agreement(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    for role, maps in ((found[AGREEMENT] or {}).get("maps") or {}).items():
        for measure, one in maps["all"].items():
            yield _row(AGREEMENT, measure, role, one["value"], one["chance"], one["centre"], one["excess"])


def _gain(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    for measure, one in ((found[AGREEMENT] or {}).get(GAIN_VS_CONTROL) or {}).items():
        yield MetricRow(GAIN_VS_CONTROL, NAMES[measure][0], STUDENT, one["mean"], *interval_ends(one), 0.0,
                        images=one["n"], unit=NAMES[measure][1])


def _localisation(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    for role, own in (found[LOCALISATION] or {}).items():
        for score, one in own.get("scores", {}).items():
            yield _row(LOCALISATION, score, role, one["value"], own["area"], one["centre"], one["over_area"])


def _vs_baselines(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    for role, own in (found[LOCALISATION] or {}).items():
        for score, one in own.get("scores", {}).items():
            scores = {"area": own["area"], "centre": one["centre"], **one.get("image_only", {})}
            over = {"area": one["over_area"], "centre": one["over_centre"], **one.get("over_image_only", {})}
            for name, value in scores.items():
                yield replace(_row(VS_BASELINES, score, role, one["value"], value, None, over[name]), of=name)


def best_baseline(made: Iterable[MetricRow]) -> MetricRow | None:
    """The row with the highest baseline among rows of VS_BASELINES; None where none has one."""
    known = [row for row in made if row.chance is not None]
    return max(known, key=lambda row: row.chance or 0.0, default=None)


def _evidence(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    nothing = dict.fromkeys(("mean", "low", "high"))
    for role, own in (found.get(EVIDENCE) or {}).items():
        for name, one in own.get("kept", {}).items():
            other = {"without": "mirrored", "alone": "blurred"}.get(name)
            over = nothing if other is None else own[
                "mirrored_minus_without" if name == "without" else "alone_minus_blurred"]
            yield _row(EVIDENCE, name, role, one, own["kept"][other]["mean"] if other else None, None, over)


def _faithfulness(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    for role, own in (found[FAITHFULNESS] or {}).items():
        for score, one in own.get("scores", {}).items():
            yield _row(FAITHFULNESS, score, role, one["value"], one["random"], one["centre"], one["over_random"])


def _posthoc(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    maps = (found[POSTHOC] or {}).get("maps", {})
    for score in ("kept", "left"):
        for name, one in maps.items():
            over = one["over"].get("random", {}).get(score, dict.fromkeys(("mean", "low", "high")))
            yield replace(_row(POSTHOC, score, one["of"], one[score], maps["random"][score]["mean"],
                               maps["centre"][score]["mean"], over), of=name)


def _over(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    """Gain of the mask, binarised to the area that all maps show, over each of the other maps."""
    posthoc = found[POSTHOC] or {"maps": {}}
    pairs = [posthoc["maps"]["mask"]["over"] if posthoc["maps"] else {},
             (posthoc.get("evidence") or {}).get("over", {})]
    for over in pairs:
        for other, scores in over.items():
            for score, one in scores.items():
                yield MetricRow(MASK_VS_OTHERS, NAMES[score][0], STUDENT, one["mean"], *interval_ends(one), 0.0,
                                images=one["n"], unit=NAMES[score][1], of=other)


def _row(section: str, measure: str, role: str, value: Mapping[str, Any], chance: float | None, centre: float | None,
         excess: Mapping[str, Any]) -> MetricRow:
    name, unit, _ = NAMES[measure]
    return MetricRow(section, name, role, value["mean"], *interval_ends(value), chance, excess["mean"],
                     *interval_ends(excess), value["n"], unit, centre=centre)


def interval_ends(stored: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Ends of a stored interval; None where it has no width, as some that earlier versions stored."""
    low, high = stored["low"], stored["high"]
    return (None, None) if low == high else (low, high)


def _cost(found: Mapping[str, Any]) -> Iterator[MetricRow]:
    for role, one in ((found[COST] or {}).get("models") or {}).items():
        for name, key in (("latency per image", "forward"), ("explanation per image", "seconds")):
            yield MetricRow(COST, name, role, one[key]["median"], one[key]["low"], one[key]["high"], unit=SECONDS)
        yield MetricRow(COST, "explanation ÷ forward pass", role, one["ratio"], unit=TIMES)
        yield MetricRow(COST, "FLOPs of an explanation", role, one["flops"], unit=COUNT)
        yield MetricRow(COST, "peak memory of a batch", role, one["peak_bytes"], unit=BYTES)


def missing_sections(found: Mapping[str, Any]) -> list[str]:
    """Sections that are missing for this choice, never computed or out of date, in words."""
    own = [f"{section} of the {role}" for section in PER_MODEL if found.get(section) for role in found["models"]
           if role not in found[section]]
    no_masks = any(not one.get("images") for one in (found[LOCALISATION] or {}).values())
    missing = [*(section for section in found["sections"] if not found[section]), *own]
    return [section for section in missing if not (no_masks and section.startswith(EVIDENCE))]


def latencies(made: list[MetricRow]) -> list[MetricRow]:
    """The forward passes among these rows."""
    return [row for row in made if row.section == COST and row.measure.startswith("latency")]


def spread(arrays: Arrays, measure: str) -> dict[str, tuple[list[float], list[float]]]:
    """Distribution of a measure over the images by role: centres of bins and the share of images in each."""
    finite = {name.removesuffix(f"_{measure}"): values[np.isfinite(values)] for name, values in arrays.items()
              if name.endswith(f"_{measure}")}
    finite = {role: values for role, values in finite.items() if len(values)}
    if not finite:
        return {}
    low, high = min(values.min() for values in finite.values()), max(values.max() for values in finite.values())
    found = {}
    for role, values in finite.items():
        counts, edges = np.histogram(values, BINS, (low, high if high > low else low + 1))
        found[role] = (((edges[:-1] + edges[1:]) / 2).tolist(), (counts / len(values)).tolist())
    return found
