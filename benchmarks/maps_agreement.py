"""Agreement and faithfulness of Grad-CAM of student and control, with maps that are stretched over the image and with
maps that lie where the network looks.

Of every finished student with a control, or of those named. Agreement is that above the baseline, with the teacher's
map for the class that the teacher predicts; gain is student − control. The last column says of how many seeds it is the
mean; ± is the standard deviation over them, and the interval that of the first seed's images.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.maps_runs import chosen_runs, opened_store, short, table
from kd.evaluation.context import EvalContext, Heat
from kd.evaluation.explanation_store import AGREEMENT, FAITHFULNESS, EvalKey, compared_runs
from kd.evaluation.predict import data_of
from kd.explanation_metrics.faithfulness import faithfulness
from kd.metrics.agreement import MapAgreement, gain_vs_control, map_agreement
from kd.placement import Placement
from kd.progress import PhaseProgress, no_progress
from kd.roles import CONTROL, STUDENT, TEACHER
from kd.store.runs import Run, Store

MEASURES = ("pearson", "spearman", "iou_20")
SCORES = ("insertion", "deletion", "road", "drop")
KINDS = ("stretched", "placed")

Values = dict[tuple[str, str, str], float]  # by measure or score, role or gain, and kind


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=120, help="Test images, drawn per class; 0: all (default 120).")


def lines(chosen: Namespace) -> Iterator[str]:
    """The tables, as Markdown."""
    store = opened_store(chosen)
    runs = [run for run in chosen_runs(store, chosen, lambda run: bool(run.spec.teacher))
            if CONTROL in compared_runs(store, run)]
    for (data, model, method), group in groupby(runs, lambda run: (run.spec.data, run.spec.model_label,
                                                                    run.spec.method)):
        found = [_measured(store, run, chosen.limit) for run in group]
        yield f"\n### {Path(data).name}, {model}, {method}\n"
        yield from table(("", "map", *KINDS, "seeds"), _rows(found))


def _rows(found: list[tuple[Values, dict[str, str]]]) -> Iterator[tuple[str, ...]]:
    for measure, role in dict.fromkeys((measure, role) for measure, role, _ in found[0][0]):
        cells = []
        for kind in KINDS:
            values = [one[measure, role, kind] for one, _ in found]
            spread = f" ± {short(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
            interval = found[0][1].get(f"{measure} {kind}", "") if role == "gain" else ""
            cells.append(short(float(np.mean(values)), signed=role == "gain") + spread + interval)
        yield measure, role, *cells, str(len(found))


def _measured(store: Store, run: Run, limit: int) -> tuple[Values, dict[str, str]]:
    """The values of one student, and the intervals of its gains."""
    context = EvalContext(compared_runs(store, run), data_of(run, store), EvalKey(limit=limit),
                          PhaseProgress(no_progress, lambda: False, 1.0), {AGREEMENT, FAITHFULNESS})
    values: Values = {}
    intervals = {}
    for kind in KINDS:
        agreements = {role: _agreement(context, role, kind) for role in (STUDENT, CONTROL)}
        gains = gain_vs_control(agreements[STUDENT], agreements[CONTROL], context.groups)
        for measure in MEASURES:
            for role, one in agreements.items():
                values[measure, role, kind] = _mean(one.excess[measure])
            mean, low, high = (gains[measure][name] for name in ("mean", "low", "high"))
            values[measure, "gain", kind] = np.nan if mean is None else mean
            if low is not None:
                intervals[f"{measure} {kind}"] = f" [{short(low, True)}, {short(high, True)}]"
        for role in (TEACHER, STUDENT, CONTROL):
            for score, mean in _faithfulness(context, role, kind).items():
                values[score, role, kind] = mean
    return values, intervals


def _agreement(context: EvalContext, role: str, kind: str) -> MapAgreement:
    teacher, own = context.heatmaps(TEACHER, AGREEMENT), context.heatmaps(role, AGREEMENT)
    laid = _laid(teacher, kind), _laid(own, kind)
    return map_agreement(teacher.maps, own.maps, teacher.blank, own.blank, placements=laid)


def _faithfulness(context: EvalContext, role: str, kind: str) -> dict[str, float]:
    heat = context.heatmaps(role, FAITHFULNESS)
    found = faithfulness(context.model(role), context.images, context.targets(role, FAITHFULNESS), heat.maps,
                         heat.blank, placement=_laid(heat, kind))
    return {score: _mean(getattr(found, score)) for score in SCORES}


def _laid(heat: Heat, kind: str) -> Placement | None:
    return heat.placement if kind == "placed" else None


def _mean(values: NDArray[np.float64]) -> float:
    """Mean over the images with a map; nan where all are blank."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
