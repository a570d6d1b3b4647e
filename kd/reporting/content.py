"""Content of a report, section by section, as plain values for its template; maps and charts are made elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from kd.audit.beside import audit_of, beside_yardstick
from kd.audit.findings import NOTE
from kd.datasets.base import Dataset
from kd.evaluation import eight_bit, explanation_rows, explanation_store, row_words
from kd.evaluation.evidence_sentence import evidence_sentences
from kd.evaluation.report import MetricRow, ModelReport, agreement_rows, model_report, paired, shared_errors
from kd.experiments import results
from kd.experiments.differences import BETTER, NOT_SIGNIFICANT, WORSE
from kd.experiments.results import DistillationResult, distillation_result
from kd.inference.record import lines as engine_lines
from kd.methods import METHODS
from kd.roles import CONTROL, EIGHT_BIT, STUDENT, TEACHER
from kd.spec import RunSpec
from kd.store.eight_bit import eight_bit_of
from kd.store.groups import Replicates, control_of, replicates_of
from kd.store.runs import Run, Store
from kd.wording import count, duration, percent, size

Lines = list[dict[str, str]]
SHAPED = {"depth": ("plain", "truncated"), "width": ("plain",)}  # models that a setting is of
PARTS = {"train": "Training", "val": "Validation", "test": "Test"}
MOST_CLASSES = 12  # of a confusion matrix that is printed
# What of an evaluation of explanations is told: its file has the rest.
TOLD = tuple(explanation_rows.NAMES[name][0] for name in ("spearman", "pointing", "energy", "insertion", "deletion"))
GAINED = {
    BETTER: "Distillation helped: the student is more accurate than the same network trained without a teacher.",
    WORSE: "Distillation hurt: the student is less accurate than the same network trained without a teacher.",
    NOT_SIGNIFICANT: "Whether distillation made the student more accurate cannot be told from these test images"}


@dataclass(frozen=True, eq=False)
class Subject:
    """The runs that a report is about. cast: by role, those that are there. reports: of those that were tested.
    series: all seeds, and result: of theirs; None where the control is missing."""

    student: Run
    cast: dict[str, Run]
    reports: dict[str, ModelReport]
    series: Replicates | None
    result: DistillationResult | None

    @property
    def heads(self) -> dict[str, str]:
        """Column heads by role."""
        return {role: f"{role.capitalize()} · {run.label}" if role != EIGHT_BIT else role.capitalize()
                for role, run in self.cast.items() if role in self.reports}


def subject(store: Store, student: Run) -> Subject:
    """The runs of a student's distillation."""
    control, form = control_of(store, student), eight_bit_of(student)
    cast = {TEACHER: store[student.spec.teacher], **({CONTROL: control} if control else {}), STUDENT: student,
            **({EIGHT_BIT: form} if form else {})}
    reports = {role: one for role, run in cast.items() if (one := model_report(role, run)) is not None}
    series = replicates_of(store, student)
    return Subject(student, cast, reports, series, distillation_result(series) if series else None)


def answer(about: Subject) -> dict[str, Any]:
    """The result in a sentence, the table behind it, and what speaks against it."""
    found = about.result
    if found is None:
        return {"sentence": "", "gained": "", "lines": [], "seeds": [], "warnings": []}
    return {"sentence": results.sentence(found), "gained": _gained(found),
            "lines": results.comparison(found), "seeds": results.rows(found) if len(found.seeds) > 1 else [],
            "warnings": list(found.warnings), "left_out": found.left_out}


def _gained(found: DistillationResult) -> str:
    said = GAINED[found.vs_control.verdict]
    if found.vs_control.verdict != NOT_SIGNIFICANT:
        return said
    return f"{said}: " + ("the interval of its difference from the control includes 0."
                          if found.vs_control.has_interval else "they are too few for an interval.")


def asked(about: Subject, data: Dataset) -> Lines:
    """What was to be found out, in words: data, models, method."""
    teacher, spec = about.cast[TEACHER], about.student.spec
    method = METHODS[spec.method].info
    own = ", ".join(f"{name} = {value:g}" for name, value in spec.method_args.items())
    counts = {part: len(split) for part, split in data.splits.items()}
    answers = "" if spec.method_label == spec.method else (
        " Its soft targets are out-of-fold: for every image those of a network that was trained without it.")
    share = "" if spec.data_fraction == 1 else f" Student and control learn from {percent(spec.data_fraction)} of them."
    return [
        {"": "Data", "text": f"{data.info.title}: {counts['train']:,} images to train on, {counts['val']:,} to choose "
                             f"the best epoch by, {counts['test']:,} to test on; {len(data.classes)} classes "
                             f"({', '.join(data.classes)}); {data.size} px a side.{share}"},
        {"": "Teacher", "text": f"{_model(teacher)}. {_training(teacher.spec)}"},
        {"": "Student", "text": f"{_model(about.student)}{_input(spec)}. {_training(spec)}"},
        {"": "Control", "text": "The same network as the student, trained in the same way but without a teacher: from "
                                "the labels alone. What the student is above it, distillation has brought."},
        {"": "Method", "text": f"{method.title}{f' ({own})' if own else ''}. {method.summary}{answers}"
                               + (f" Source: {method.paper}." if method.paper else "")}]


def _model(run: Run) -> str:
    summary = run.summary or {}
    return f"{run.label}, {count(summary.get('parameters'))} parameters, {count(summary.get('flops'))} FLOPs an image"


def _input(spec: RunSpec) -> str:
    return f", which is given the images at {spec.input_size} px" if spec.input_size else ""


def _training(spec: RunSpec) -> str:
    weights = spec.weights_run or spec.pretrained
    start = ("from random weights" if weights == "none" else "from timm's pretrained weights" if weights == "hub"
             else f"from the weights of {weights}")
    frozen = f", the first {spec.frozen_stages} stages frozen" if spec.frozen_stages else ""
    return f"Trained for {spec.epochs} epochs {start}{frozen}, seed {spec.seed}."


def believed(about: Subject, data: Dataset) -> dict[str, Any]:
    """Whether scores on this data set can be believed: its audit, and what is known of it."""
    found, beside = audit_of(about.student), beside_yardstick(about.student)
    rules = [{"": one.title, "Test accuracy": percent(one.accuracy["mean"]),
              "Balanced accuracy": percent(one.balanced["mean"])} for one in found.yardsticks] if found else []
    counts = [{"Class": name, **{PARTS[part]: f"{split.counts(len(data.classes))[number]:,}"
                                 for part, split in data.splits.items()}} for number, name in enumerate(data.classes)]
    return {"verdict": found.verdict if found else "", "rules": rules,
            "beside": beside.sentence if beside and beside.beaten else "",  # else it is among the warnings
            "findings": [(one.level, one.text) for one in found.findings if one.level != NOTE] if found else [],
            "notes": [one.text for one in found.findings if one.level == NOTE] if found else [],
            "caveats": [*data.info.caveats, *data.report.warnings, *data.report.notes], "counts": counts,
            "reference": about.student.spec.data, "source": data.info.source, "licence": data.info.licence}


def scores(about: Subject) -> dict[str, Any]:
    """Scores, confusions and agreement of this seed's models on the test images."""
    found = about.reports
    made = [row for one in found.values() for row in one.rows]
    alike, most = [], []
    if paired(found[TEACHER], found[STUDENT]):
        alike = [row for role, other in found.items() if role != TEACHER and paired(found[TEACHER], other)
                 for row in agreement_rows(found[TEACHER], other)]
        most = shared_errors(found[TEACHER], found[STUDENT]).most()
    several = len(found[STUDENT].classes)
    return {"images": found[STUDENT].images, "seed": about.student.spec.seed,
            "overall": [row for row in made if row.section == "classification" and row.measure in (
                "accuracy", "macro-F1")],
            "recall": [row for row in made if row.section == "recall"],
            "lines": row_words.side_by_side([row for row in made if row.section == "classification"], about.heads),
            "recalls": row_words.side_by_side([row for row in made if row.section == "recall"], about.heads),
            "alike": row_words.side_by_side(alike, about.heads, "Expected"),
            "shared": [f"{one.truth}, classified as {one.answer} by both: {one.count} "
                       f"(expected {one.expected:.1f})" for one in most],
            "confusions": [_confusion(one) for one in found.values()] if several <= MOST_CLASSES else [],
            "form": _form(about)}


def _confusion(one: ModelReport) -> dict[str, Any]:
    return {"role": one.role, "classes": one.classes, "rows": [
        (name, [(int(number), float(share)) for number, share in zip(counts, shares, strict=True)])
        for name, counts, shares in zip(one.classes, one.table, one.shares, strict=True)]}


def _form(about: Subject) -> Lines:
    """The 8-bit student beside the student; empty where there is none."""
    if EIGHT_BIT not in about.reports:
        return []
    form = eight_bit_of(about.student)
    rows = [eight_bit.difference(about.reports[STUDENT], about.reports[EIGHT_BIT]),
            *(eight_bit.map_rows(form) if form else [])]
    return [{"": row.measure, "Value": row_words.gap(row.value, row.low, row.high, row.unit) if number == 0
             else row_words.between(row), "Baseline": row_words.figure(row.chance, row.unit)}
            for number, row in enumerate(rows)]


def prices(about: Subject, measured: list[MetricRow]) -> Lines:
    """Cost of each model. measured: rows of times."""
    own = [row for one in about.reports.values() for row in one.rows if row.section == "price"]
    lines = row_words.side_by_side([*own, *eight_bit.price_rows(about.reports), *measured], about.heads)
    spent = {about.heads[role]: duration((run.summary or {}).get("seconds")) for role, run in about.cast.items()
             if role in about.heads and role != EIGHT_BIT}
    return [*lines, {"": "training", **{key: spent.get(key, "–") for key in lines[0] if key}}]


def explained(store: Store, student: Run) -> list[dict[str, Any]]:
    """Evaluations of explanations that are stored with the student: main numbers, sentences and notes of each."""
    told = []
    for choice in explanation_store.choices(student):
        found = explanation_store.load_all(store, student, choice)
        if found is None:
            continue
        rows = [row for row in explanation_rows.rows(found) if row.measure in TOLD and row.section in (
            explanation_store.AGREEMENT, explanation_store.LOCALISATION, explanation_store.FAITHFULNESS)]
        lines = [{"": f"{row.measure} · {row.role}", "Value": row_words.between(row),
                  "Baseline": row_words.figure(row.chance, row.unit), "Above baseline": row_words.excess(row)}
                 for row in rows]
        sentences = list(evidence_sentences(found[explanation_store.EVIDENCE]).values())
        if lines or sentences:
            told.append({"explainer": choice.explainer, "lines": lines, "sentences": sentences,
                         "notes": found["notes"], "images": max((row.images or 0 for row in rows), default=0)})
    return told


def settings(about: Subject) -> Lines:
    """Settings of the runs that differ from the defaults or among them."""
    runs = {role: run for role, run in about.cast.items() if role != EIGHT_BIT}
    lines = []
    for item in fields(RunSpec):
        default = {} if item.name == "method_args" else item.default
        values = {role: default if run.spec.model not in SHAPED.get(item.name, (run.spec.model,))
                  else getattr(run.spec, item.name) for role, run in runs.items()}
        if any(value != default for value in values.values()):
            name = "method settings" if item.name == "method_args" else item.name.replace("_", " ")
            lines.append({"": name, **{role.capitalize(): _plain(value)
                                                              for role, value in values.items()}})
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {number:g}" for key, number in value.items()) or "–"
    return f"{value:g}" if isinstance(value, float) else str(value) or "–"


def provenance(about: Subject) -> dict[str, Any]:
    """Where the numbers come from: runs, data, versions and machine of each training."""
    lines = []
    for role, run in about.cast.items():
        if role != EIGHT_BIT:
            started = run.last_event("started") or {}
            versions = (run.summary or {}).get("versions") or started.get("versions") or {}
            lines.append({"": role.capitalize(), "Run": run.id, "Computed on": _machine(run, started),
                          "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or "–",
                          "Run folder": size(run.size())})
    return {"lines": lines, "fingerprint": about.student.spec.data_fingerprint or "–",
            "engines": [f"{role.capitalize()}: {line}" for role, run in about.cast.items()
                        if role != EIGHT_BIT for line in engine_lines(run)]}


def _machine(run: Run, started: Mapping[str, Any]) -> str:
    words = [str(started.get(name)) for name in ("device", "precision") if started.get(name)]
    threads = (run.summary or {}).get("threads") or ([started["threads"]] if "threads" in started else [])
    return ", ".join([*words, *([f"threads: {', '.join(map(str, threads))}"] if threads else [])]) or "–"
