"""Storage of explanation metrics with the run, read without torch.

Each section is in `appraisals/<choice>/<section>.json` in a run's folder, with its values per image in an npz that the
JSON names, so that the two always belong together. A section contains hashes of all weights and data that it was
computed from, and is not loaded any more once one of them has changed.
"""

import hashlib
import io
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kd.errors import UsageError
from kd.roles import CONTROL, STUDENT, TEACHER
from kd.store.files import digest, read_npz, write_bytes, write_json
from kd.store.groups import control_of
from kd.store.runs import FINISHED, Run, Store

# Increase it when a number changes its meaning: earlier results are then computed again. 2: maps lie where the network
# looks; before, they were stretched over the image.
VERSION = 2
AGREEMENT, LOCALISATION, EVIDENCE, POSTHOC, FAITHFULNESS, COST = SECTIONS = (
    "agreement", "localisation", "evidence", "post-hoc", "faithfulness", "cost")
# sections of one model, kept with it and shared by all its students
PER_MODEL = (LOCALISATION, EVIDENCE, FAITHFULNESS)
ANY = "any"  # in place of the explainer, of a section that depends on none
MASK, FALLBACK = "mask", "grad-cam"  # the explainer that only a masked student has, and its replacement for others
MODEL = "model"  # the role of a run without a teacher, which is evaluated alone

Arrays = dict[str, Any]  # NDArrays; Any, or savez's own keywords confuse the type checker


@dataclass(frozen=True)
class EvalKey:
    """Key of an evaluation: explainer, stage (from `kd.explainers.stage_key`), at most `limit` test images (0: all),
    drawn per class with `seed`."""

    explainer: str = "grad-cam"
    stage: int | str = -1
    limit: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise UsageError(f"limit must be 0 (all test images) or more, not {self.limit}.")
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, not {self.seed}.")

    @property
    def folder(self) -> str:
        stage = self.stage if isinstance(self.stage, str) else (
            f"stage{self.stage}" if self.stage >= 0 else f"last{-self.stage}")
        return f"{self.explainer}.{stage}.{self.limit or 'all'}.seed{self.seed}"

    def of(self, run: Run) -> "EvalKey":
        """The same key, with `limit` 0 where the run's test split is no larger than it."""
        images = (run.evaluation or {}).get("images", 0)
        return replace(self, limit=0) if images and self.limit >= images else self

    def suited(self, run: Run) -> "EvalKey":
        """The same key with the explainer used for this run's model, like `kd.explainers.explainer_for`."""
        return replace(self, explainer=FALLBACK) if self.explainer == MASK and not run.spec.mask_net_depth else self

    def stored(self, section: str, run: Run) -> "EvalKey":
        """The key by which a section of one model is stored: that of `suited`, or of no explainer."""
        return replace(self, explainer=ANY, stage=-1) if section == EVIDENCE else self.suited(run)


def compared_runs(store: Store, run: Run) -> dict[str, Run]:
    """Runs that are evaluated with a run, by role: teacher, control where it is finished, student; or `model` alone."""
    if not run.spec.teacher:
        return {MODEL: run}
    control = control_of(store, run)
    return {TEACHER: store[run.spec.teacher],
            **({CONTROL: control} if control is not None and control.status == FINISHED else {}), STUDENT: run}


def require_mask(runs: Mapping[str, Run], explainers: Collection[str], posthoc: bool) -> None:
    """Raises UsageError where a mask is to be evaluated and none of the runs has one, or the post-hoc agreement of a
    student without one."""
    masked = [role for role, run in runs.items() if run.spec.mask_net_depth]
    newest = list(runs.values())[-1]
    if (MASK in explainers and not masked) or (posthoc and STUDENT not in masked):
        raise UsageError(f"{newest.id} has no mask to evaluate. Distil a student with a mask network (method "
                         f"medtex), or choose another explainer, such as {FALLBACK}, without {POSTHOC} agreement.")
    if posthoc and MASK not in explainers:
        raise UsageError(f"{POSTHOC.capitalize()} agreement is that of the student's mask. Choose the explainer {MASK} "
                         "as well.")


def depends_on(choice: EvalKey, section: str, runs: Mapping[str, Run]) -> dict[str, Run]:
    """Runs on whose weights a shared section depends, by role; empty where the section is not possible."""
    if section == AGREEMENT and TEACHER not in runs:
        return {}
    if section != POSTHOC:
        return dict(runs)
    masked = STUDENT in runs and runs[STUDENT].spec.mask_net_depth
    return {role: runs[role] for role in (TEACHER, STUDENT)} if masked and choice.explainer == MASK else {}


def save(run: Run, choice: EvalKey, section: str, runs: Mapping[str, Run], result: dict[str, Any],
         arrays: Arrays) -> None:
    """Store a section that was computed from `runs`; its JSON is written last and replaces the old one in one step."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    folder, marks = _folder(run, choice), dependency_hashes(runs)
    name = f"{section}-{hashlib.sha256(buffer.getvalue()).hexdigest()[:12]}.npz"
    write_bytes(folder / name, buffer.getvalue())
    write_json(folder / f"{section}.json", {"choice": asdict(choice), "stamp": marks, "arrays": name, "result": result})
    for old in folder.glob(f"{section}-*.npz"):
        if old.name != name:
            old.unlink(missing_ok=True)


def load(run: Run, choice: EvalKey, section: str, runs: Mapping[str, Run]) -> dict[str, Any] | None:
    """Result of a stored section, or None when there is none for these weights and data."""
    stored = _stored(run, choice, section, runs)
    return stored["result"] if stored else None


def load_arrays(run: Run, choice: EvalKey, section: str, runs: Mapping[str, Run]) -> Arrays | None:
    """Values per image of a stored section, with `index` (in the test split) and `names`; None as `load`."""
    stored = _stored(run, choice, section, runs)
    return read_npz(_folder(run, choice) / stored["arrays"]) if stored else None  # None: replaced between the two reads


def load_all(store: Store, run: Run, choice: EvalKey) -> dict[str, Any] | None:
    """All stored results of a run for a choice, by section (None where missing); None where there is nothing.

    Localisation, need of the evidence and faithfulness are by role. models: with the explainer used for each. notes: to
    be shown with the numbers. sections: those that are possible for this choice. Outdated results are left out.
    """
    choice, runs = choice.of(run), compared_runs(store, run)
    own = {section: {role: found for role, one in runs.items()
                     if (found := load(one, choice.stored(section, one), section, {role: one})) is not None}
           for section in PER_MODEL}
    together = {section: load(run, choice, section, whose) if whose else None
                for section in (AGREEMENT, POSTHOC, COST) for whose in [depends_on(choice, section, runs)]}
    if not any(own.values()) and not any(together.values()):
        return None
    models = {role: {"run": one.id, "label": one.label, "explainer": choice.suited(one).explainer}
              for role, one in runs.items()}
    found = {**together, **{section: by_role or None for section, by_role in own.items()}}
    there = [section for section in SECTIONS if section in PER_MODEL or depends_on(choice, section, runs)]
    return {"choice": asdict(choice), "models": models, "notes": notes(choice, runs), "sections": there,
            **{section: found[section] for section in SECTIONS}}


def notes(choice: EvalKey, runs: Mapping[str, Run]) -> list[str]:
    """Notes on a choice whose explainer not every model has, and on a mask that learnt from outlines."""
    others = [role for role, run in runs.items() if choice.suited(run) != choice]
    if not others or len(others) == len(runs):
        return []
    found = [f"The {' and the '.join(others)} {'has' if len(others) == 1 else 'have'} no mask and "
             f"{'is' if len(others) == 1 else 'are'} evaluated by Grad-CAM; a mask is of the class that the teacher "
             "predicts."]
    if CONTROL in runs and choice.suited(runs[CONTROL]) != choice.suited(runs[STUDENT]):
        found.append("The change of agreement against the control is not shown: it would compare two explainers.")
    if STUDENT in runs and runs[STUDENT].spec.learns_outlines:
        found.append("The student's mask was trained with the outlines of the training images.")
    return found


def rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Main numbers of a result of `load_all`: a row per model and one per further map of the post-hoc agreement; what
    was not computed is left out. explainer: the one that was used.

    over_chance: Spearman correlation with the teacher's maps above the baseline. pointing, energy: share of the images
    that hit the evidence, and of the map on it, with the evidence's share of the image as area; pointing_centre,
    pointing_image: share that the image's centre hits, and the best map of the image alone. without, mirrored, alone,
    blurred: share of the model's decisions kept (`kd.explanation_metrics.evidence_need`). insertion, deletion,
    road: see `kd.explanation_metrics.faithfulness`. kept, left: share of the images with the same prediction of the
    teacher inside and outside of the marked part; shown: the share of the image that is marked. ms: mean execution time
    per image, milliseconds.
    """
    section = found[POSTHOC] or {"maps": {}, "area": {"mean": None}}
    posthoc, shown = dict(section["maps"]), section["area"]["mean"]
    rows = []
    for role, one in found["models"].items():
        used = one["explainer"]
        own = posthoc.pop(used) if posthoc.get(used, {}).get("of") == role else None
        rows.append({"explainer": used, "model": role, **_row(found, role), **_shown(own, shown)})
    return rows + [{"explainer": name, "model": one["of"], **_shown(one, shown)} for name, one in posthoc.items()]


def _shown(one: Mapping[str, Any] | None, area: float | None) -> dict[str, Any]:
    """Columns of one map of the post-hoc agreement."""
    return {} if one is None else {"kept": _short(one["kept"]["mean"]), "left": _short(one["left"]["mean"]),
                                   "shown": _short(area)}


def _row(found: Mapping[str, Any], role: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if maps := ((found[AGREEMENT] or {}).get("maps") or {}).get(role):
        row["over_chance"] = _short(maps["all"]["spearman"]["excess"]["mean"])
    if (placed := (found[LOCALISATION] or {}).get(role)) and "scores" in placed:
        row |= {name: _short(placed["scores"][name]["value"]["mean"]) for name in ("pointing", "energy")}
        row["area"] = _short(placed["area"])
        row |= _pointing_baselines(placed["scores"]["pointing"])
    if (needed := (found.get(EVIDENCE) or {}).get(role)) and "kept" in needed:
        row |= {name: _short(one["mean"]) for name, one in needed["kept"].items()}
    if faithful := (found[FAITHFULNESS] or {}).get(role):
        row |= {name: _short(faithful["scores"][name]["value"]["mean"]) for name in ("insertion", "deletion", "road")}
    if cost := ((found[COST] or {}).get("models") or {}).get(role):
        row["ms"] = round(1e3 * cost["seconds"]["median"], 3)
    return row


def _pointing_baselines(pointing: Mapping[str, Any]) -> dict[str, Any]:
    best = max((one for one in pointing.get("image_only", {}).values() if one is not None), default=None)
    return {"pointing_centre": _short(pointing["centre"]), "pointing_image": _short(best)}


def _short(value: float | None) -> float | str:
    return "" if value is None else round(value, 3)


def choices(run: Run) -> list[EvalKey]:
    """Choices with results stored with this run, current or outdated, in the order of their names. What depends on no
    explainer belongs to the choices of the same images, or to one of FALLBACK where there are none."""
    found: dict[str, EvalKey] = {}
    for path in sorted((run.path / "appraisals").glob("*/*.json")):
        try:
            choice = EvalKey(**json.loads(path.read_text())["choice"])
        except (OSError, ValueError, TypeError, KeyError):
            continue  # another version's
        found[choice.folder] = choice
    explained = [choice for choice in found.values() if choice.explainer != ANY]
    images = {(choice.limit, choice.seed) for choice in explained}
    return explained + [replace(choice, explainer=FALLBACK) for choice in found.values()
                        if choice.explainer == ANY and (choice.limit, choice.seed) not in images]


def least_agreeing(store: Store, run: Run, choice: EvalKey, count: int = 12, role: str = STUDENT,
                   measure: str = "spearman") -> dict[int, float]:
    """Images with the least agreement between the maps of `role` and the teacher, by index in the test split, with the
    measure there, lowest agreement first; without blank maps.

    measure: one of `kd.metrics.map_similarity.MEASURES`.
    """
    choice = choice.of(run)
    found = load_arrays(run, choice, AGREEMENT, compared_runs(store, run))
    name = f"{role}_{measure}"
    if found is None or name not in found:
        return {}
    alike = -found[name] if measure == "distance" else found[name]
    order = np.argsort(alike, kind="stable")  # nan comes last
    return {int(found["index"][place]): float(found[name][place])
            for place in order[:count] if np.isfinite(alike[place])}


def dependency_hashes(runs: Mapping[str, Run]) -> dict[str, str]:
    """What a result hangs on: this module's version, the data, and every run with a digest of its weights' content, so
    that a run that was copied keeps its results."""
    data = next(iter(runs.values())).spec.data_fingerprint
    return {"version": str(VERSION), "data": data, **{run.id: digest(run.weights) for run in runs.values()}}


def _folder(run: Run, choice: EvalKey) -> Path:
    return run.path / "appraisals" / re.sub(r"[^\w.-]", "_", choice.folder)


def _stored(run: Run, choice: EvalKey, section: str, runs: Mapping[str, Run]) -> dict[str, Any] | None:
    try:
        stored = json.loads((_folder(run, choice) / f"{section}.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return stored if stored.get("stamp") == dependency_hashes(runs) else None
