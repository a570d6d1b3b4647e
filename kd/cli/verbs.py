"""The verbs of the command line. Messages go to stderr, results to stdout."""

import json
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from kd import datasets
from kd.audit.beside import verdict_of
from kd.cli.images import read_image
from kd.cli.places import require_places
from kd.cli.progress import say
from kd.cli.run_here import Result, brief, compute_here, say_note, say_size, train_here, warn
from kd.errors import UsageError
from kd.evaluation.run_warnings import run_warnings
from kd.export import report
from kd.inference.record import engines_used
from kd.jobs.tasks import task
from kd.paths import Paths
from kd.roles import ROLES
from kd.store.eight_bit import run_or_form
from kd.store.groups import Replicates, replicates_of
from kd.store.runs import DAMAGED, Run, Store
from kd.training.teacher.cache import cache_bytes, recorded_usage


def as_text(result: Result) -> str:
    """A result as text: a report as it is, a table of a list of rows or of arms, else indented JSON."""
    if list(result) == ["report"]:
        return str(result["report"])
    rows = next(iter(result.values())) if len(result) == 1 else [
        {"": name, **arm} for name, arm in result.items() if isinstance(arm, dict) and "run" in arm]
    if not isinstance(rows, list) or not rows:
        return json.dumps(result, indent=2, ensure_ascii=False) if rows or len(result) > 1 else "none"
    table = pd.DataFrame(rows, dtype=object)  # else whole numbers beside an empty cell would become fractions
    columns = {name: column.fillna("") if column.isna().any() else column.infer_objects()
               for name, column in table.items()}
    return pd.DataFrame(columns).to_string(index=False)


def demo(args: Namespace, store: Store) -> Result:
    from kd.experiments import demo as script

    trio = script.plan(store)
    train_here(trio.runs, store)
    out = Path(args.out or "out/demo")
    result = script.compare(trio.student, store, out)
    say(f"Comparison figure: {out / 'comparison.png'}")
    return {**{part: brief(getattr(trio, part)) for part in ROLES}, "comparison": result}


def list_models(args: Namespace, store: Store) -> Result:
    from kd import models

    found = models.search(args.pattern)
    if not found:
        raise UsageError(f"No usable timm model matches {args.pattern!r}. Try a part of a name, such as resnet.")
    rows = [vars(entry) for entry in found]
    return {"models": rows if args.json else [
        {**row, "sizes": " ".join(map(str, row["sizes"])) or "any"} for row in rows]}


def train(args: Namespace, store: Store) -> Result:
    from kd.experiments.plan import plan_single_run, weights_notes
    from kd.experiments.presets import NO_PRESET, run_settings
    from kd.experiments.working_size import run_with_sizes

    data = datasets.inspect(args.data, store.paths)
    settings = _settings(args)
    if args.preset not in (None, NO_PRESET):
        settings = {**run_settings(args.preset, args.model, args.pretrained not in (None, "none")), **settings}
    settings, reason = run_with_sizes(settings, store, data)
    run = store.create(plan_single_run(settings, store, data))
    say_size(reason)
    for note in weights_notes((run.spec,), data):
        say(note)
    train_here([run], store)
    return brief(run)


def distill(args: Namespace, store: Store) -> Result:
    from kd.experiments import plan as planning
    from kd.experiments.presets import SUGGESTED, with_preset
    from kd.experiments.working_size import with_sizes

    given = _settings(args)
    data = datasets.inspect(planning.DistillSpec(**given).data, store.paths)
    given = with_preset(args.preset or SUGGESTED, given, data, store)
    request = planning.DistillSpec(**given)
    request, reason = with_sizes(request, given, store, data)
    specs = planning.plan_specs(request, store, data)
    planning.require_possible(specs, data)
    series = planning.plan_runs(request, store, data)
    say_size(reason)
    say(planning.saving_note(specs, data))
    for note in planning.weights_notes(specs, data):
        say(note)
    if caveat := planning.method_warning(request, data):
        say(caveat)
    train_here(series.runs, store)
    return _answer(series, args.json)


def _answer(series: Replicates, whole: bool) -> Result:
    """The first seed's runs, every seed's and their summary; as text what distilling bought, and the runs or, with
    several seeds, a row for each."""
    from kd.experiments import results

    found = results.distillation_result(series)
    if found is None:
        raise UsageError(f"The test answers of {series.teacher.id} or of every student are missing. Write them anew: "
                         "python -m kd evaluate RUN.")
    first = {part: brief(getattr(series.distillations[0], part)) for part in ROLES}
    if whole:
        seeds = [{"seed": student.spec.seed, "control": brief(control), "student": brief(student)}
                 for control, student in series.pairs]
        return {**first, "seeds": seeds, "summary": found.to_json()}
    say(results.sentence(found))
    say(as_text({"scores": results.comparison(found)}))
    return {"seeds": results.rows(found)} if len(series.pairs) > 1 else first


def evaluate(args: Namespace, store: Store) -> Result:
    from kd.evaluation import predict as verb
    from kd.evaluation.explanation_store import rows

    run = run_or_form(store, args.run)
    result = {"run": run.id, **verb.evaluate(run, store), "audit": verdict_of(run)}
    warn(run)
    say_note(verdict_of(run))
    sections = {"agreement": args.agreement, "localisation": args.localisation, "evidence": args.evidence,
                "posthoc": args.mask_fidelity, "faithfulness": args.faithfulness}
    if not args.explainers and not any(sections.values()):
        return result
    found = _evaluated(store, run, args, sections)
    if args.json:
        return {**result, "explanations": found}
    table = [row for one in found.values() if one for row in rows(one)]
    blank = dict.fromkeys((name for row in table for name in row), "")
    return {"explanations": [{**blank, **row} for row in table]}


def _evaluated(store: Store, run: Run, args: Namespace, sections: dict[str, bool]) -> Result:
    """Results by explainer, after computing the requested sections."""
    from kd.evaluation import explanation_store
    from kd.evaluation.evidence_sentence import evidence_sentences
    from kd.explainers import stage_key

    usual = explanation_store.MASK if args.mask_fidelity else explanation_store.FALLBACK
    names = [name.strip() for name in (args.explainers or usual).split(",") if name.strip()]
    if not names:
        raise UsageError("--explainers names no explainer. Give one, such as grad-cam.")
    explanation_store.require_mask(explanation_store.compared_runs(store, run), names, args.mask_fidelity)
    if not any(sections.values()):
        sections = {**sections, "agreement": True, "localisation": True}
    images = {"limit": args.limit, "seed": args.seed}
    keys = {name: explanation_store.EvalKey(name, stage_key(name, args.stage), **images) for name in names}
    compute_here(task(run, "appraisal"), store, {"explainers": names, "stage": args.stage, **images, **sections})
    found = {name: explanation_store.load_all(store, run, key) for name, key in keys.items()}
    there = [one for one in found.values() if one]
    said = (text for one in there for text in evidence_sentences(one[explanation_store.EVIDENCE]).values())
    for note in dict.fromkeys((*(note for one in there for note in one["notes"]), *said)):
        say(note)
    return found


def explain(args: Namespace, store: Store) -> Result:
    from kd.export.dicom.maps import maps_of
    from kd.inspection import cam_check
    from kd.inspection import explain as verb
    from kd.inspection.model_pool import load_model

    run = run_or_form(store, args.run)
    image = read_image(args, run, store)
    if args.check:
        cam_check.require_counterpart(args.explainer)
    explanation = verb.explain(run, image.working, explainer=args.explainer, target=args.target, stage=args.stage)
    image.save_dicom(lambda: maps_of(explanation))
    explanation.save(Path(args.out), image.shown)
    say_note(explanation.coarse)
    if not args.check:
        return explanation.to_json()
    found = cam_check.check(load_model(run).model, explanation)
    say(found.sentence)
    return {**explanation.to_json(), "check": found.to_json()}


def layers(args: Namespace, store: Store) -> Result:
    from kd.inspection import layers as verb
    from kd.inspection import linear_probes

    run = run_or_form(store, args.run)
    image = read_image(args, run, store)
    if args.linear_probes and linear_probes.summary(run) is None:
        compute_here(task(run, "readouts"), store)
    reading = verb.read_layers(run, image.working, target=args.target, top=args.top)
    reading.save(Path(args.out), image.shown)
    say(f"Figure: {Path(args.out) / 'layers.png'}")
    say_note(reading.coarse)
    return reading.to_json()


def compare(args: Namespace, store: Store) -> Result:
    from kd.export.dicom.maps import maps_of_comparison
    from kd.inspection import compare as verb
    from kd.inspection.answer import answered

    run = run_or_form(store, args.run)
    others = [run_or_form(store, name.strip()) for name in (args.beside or "").split(",") if name.strip()]
    image = read_image(args, run, store)
    comparison = verb.compare(store, run, image.working, target=args.target, explainer=args.explainer,
                              stage=args.stage, others=others)
    comparison = answered(store, comparison, args.stage)
    image.save_dicom(lambda: maps_of_comparison(comparison))
    comparison.save(Path(args.out), image.shown)
    say(f"Comparison figure: {Path(args.out) / 'comparison.png'}")
    say_note(comparison.coarse)
    say_note(comparison.answer.text if comparison.answer else "")
    return comparison.to_json() if args.json else {"models": [_compared(panel) for panel in comparison.panels]}


def _compared(panel: Any) -> Result:
    """One model's row of the printed table; the figure's folder has every number."""
    shown = panel.explanation
    times = {f"{one.explainer}, ms": f"{1000 * one.timing.median:.1f}" for one in panel.explanations
             if one is not panel.sensitivity}
    return {"": panel.role, "model": panel.label, "predicted": shown.classes[shown.predicted],
            f"p({shown.classes[shown.target]})": f"{shown.probabilities[shown.target]:.3f}",
            "parameters": f"{shown.parameters:,}", "FLOPs": f"{shown.flops:,}", **times}


def list_runs(args: Namespace, store: Store) -> Result:
    return {"runs": [*map(brief, store), *({"run": run.id, "status": DAMAGED, "reason": run.damage}
                                          for run in store.unreadable())]}


def show(args: Namespace, store: Store) -> Result:
    run = store[args.run]
    warn(run)
    say_note(verdict_of(run))
    return {"run": run.id, "status": run.status, "reason": run.failure_reason, "path": str(run.path),
            "bytes": run.size(), "teacher_cache": {"bytes": cache_bytes(run), "usage": recorded_usage(run)},
            "engines": {part: record.to_json() for part, record in engines_used(run).items()},
            "spec": run.spec.to_json(), "summary": run.summary, "evaluation": run.evaluation,
            "warnings": [warning.text for warning in run_warnings(run)], "audit": verdict_of(run),
            "exports": report.brief(run),
            "distillation": _distillation(run, store)}


def _distillation(run: Run, store: Store) -> Result | None:
    """What distilling bought, over all seeds of a student's settings; None for another run, or before that is known."""
    from kd.experiments.results import distillation_result

    series = replicates_of(store, run)
    found = distillation_result(series) if series else None
    return found.to_json() if found else None


def delete(args: Namespace, store: Store) -> Result:
    damaged = [run.id for run in store.unreadable() if run.id == args.run]
    name = damaged[0] if damaged else store[args.run].id
    store.delete(name)
    return {"deleted": name}


def resume(args: Namespace, store: Store) -> Result:
    run = store[args.run]
    train_here([*store.prerequisites(run), run], store)
    return brief(run)


def _settings(args: Namespace) -> dict[str, Any]:
    """The dataclass fields among the flags; the method's own settings gathered under `method_args`."""
    values = {key: value for key, value in vars(args).items()
              if key not in ("verb", "json", "root", "preset") and value is not None and not key.startswith("knob_")}
    knobs = {key.removeprefix("knob_"): value for key, value in vars(args).items()
             if key.startswith("knob_") and value is not None}
    return {**values, "method_args": knobs} if knobs else values


Verb = Callable[[Namespace, Store], Result]


def _later(module: str, name: str) -> Verb:
    """A verb of a module of its own, which is imported when the verb is used."""
    def verb(args: Namespace, store: Store) -> Result:
        found: Result = getattr(import_module(f"kd.cli.{module}"), name)(args, store)
        return found

    return verb


VERBS: dict[str, Verb] = {
    "demo": demo, "datasets": _later("data_sets", "list_datasets"), "import": _later("importing", "import_data"),
    "audit": _later("data_sets", "audit"), "repair": _later("data_sets", "repair"), "models": list_models,
    "train": train, "distill": distill, "sweep": _later("sweep", "sweep"),
    "data-efficiency": _later("data_efficiency", "learning_curves_of"), "evaluate": evaluate, "explain": explain,
    "layers": layers, "compare": compare, "runs": list_runs, "show": show, "export": _later("exporting", "export"),
    "report": _later("exporting", "report"), "pack": _later("exporting", "pack"),
    "delete": delete, "resume": resume}


def run_verb(args: Namespace) -> Result:
    """Execute one verb in the store that `--root` names (default: the project's own folders). Raises UsageError."""
    from kd.paths import default_paths

    require_places(args)
    return VERBS[args.verb](args, Store(Paths(Path(args.root).resolve()) if args.root else default_paths()))
