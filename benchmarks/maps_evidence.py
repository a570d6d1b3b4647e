"""Need of the evidence: decisions kept without it, without its mirrored region, and by it alone.

Of the teacher, control and student of every finished student, and of runs without one; or of those named. Stored with
the runs, as `kd evaluate RUN --evidence` does. Several seeds of a data set, role and model are summed up as mean ±
standard deviation.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.maps_runs import chosen_runs, opened_store, short, spelt, table
from kd.evaluation.evidence_sentence import sentence
from kd.evaluation.explanation_store import EVIDENCE, compared_runs
from kd.evaluation.explanations import evaluate_explanations
from kd.metrics.bootstrap import ConfidenceInterval
from kd.roles import TEACHER
from kd.store.runs import Run, Store

KEPT = {"without": "without the evidence", "mirrored": "without its mirrored region", "alone": "evidence alone",
        "blurred": "all blurred"}
NEEDED = "mirrored − without"


def add_arguments(parser: ArgumentParser) -> None:
    """The flags of this table: none beyond those of all."""


def lines(chosen: Namespace) -> Iterator[str]:
    """The table and a sentence per model, as Markdown."""
    store = opened_store(chosen)
    runs = chosen_runs(store, chosen, lambda run: True)
    found: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    beside = set[str]()  # teachers and controls of students
    for run in sorted(runs, key=lambda run: not run.spec.teacher):
        if run.id not in beside:
            beside |= {one.id for one in compared_runs(store, run).values()}
            found |= _of(store, run)
    if not found:
        yield "No test image of these data sets has a mask of its evidence."
        return
    yield from table(("data", "role", "model", "seed", "images", *KEPT.values(), NEEDED),
                     ([*map(str, key), str(own["images"]), *(spelt(one) for one in _values(own)[:-1]),
                       spelt(_values(own)[-1], signed=True)] for key, own in found.items()))
    yield from _over_seeds(found)
    yield ""
    for (data, role, model, seed), own in found.items():
        yield f"- {data}, {model}, seed {seed}: {sentence(role, own)}"


def _of(store: Store, run: Run) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """By data set, role, model and seed; a run without a teacher counts as one."""
    found = evaluate_explanations(store, run, agreement=False, localisation=False, evidence=True, cost=False)
    result = found["explainers"]["grad-cam"]
    specs = {role: store[one["run"]].spec for role, one in result["models"].items()}
    return {(Path(spec.data).name, TEACHER if role == "model" else role, spec.model_label, spec.seed): own
            for role, own in result[EVIDENCE].items() if "kept" in own for spec in [specs[role]]}


def _values(own: dict[str, Any]) -> list[ConfidenceInterval]:
    return [ConfidenceInterval(**one) for one in (*(own["kept"][name] for name in KEPT), own["mirrored_minus_without"])]


def _over_seeds(found: dict[tuple[str, str, str, int], dict[str, Any]]) -> Iterator[str]:
    groups: dict[tuple[str, str, str], list[list[float]]] = {}
    for (*key, _), own in found.items():
        groups.setdefault((key[0], key[1], key[2]), []).append([one.mean or 0.0 for one in _values(own)])
    several = {key: np.array(means) for key, means in groups.items() if len(means) > 1}
    if several:
        yield ""
        yield from table(("data", "role", "model", "seeds", *KEPT.values(), NEEDED),
                         ([*key, str(len(means)), *(f"{short(float(mean))} ± {short(float(spread))}" for mean, spread
                                                    in zip(means.mean(axis=0), means.std(axis=0, ddof=1), strict=True))]
                          for key, means in several.items()))
