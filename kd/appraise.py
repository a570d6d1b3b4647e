"""Are a run's explanations any good? Agreement, localisation, faithfulness and cost over its test set.

A student is judged with its teacher and control. What is stored already for the same weights, data and choice is used
again; each section is stored as soon as it is there, so a computation that was stopped goes on where it was.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd import agreement as agreeing
from kd import appraisals, evaluate, faithfulness, localisation
from kd.appraisals import AGREEMENT, CONTROL, COST, FAITHFULNESS, LOCALISATION, MODEL, STUDENT, TEACHER, Choice
from kd.batches import to_tensor
from kd.chance import stratified
from kd.datasets.base import Dataset, Split
from kd.errors import Stopped, UsageError
from kd.execution import IMAGES, execution
from kd.explainers import EXPLAINERS
from kd.models.base import Classifier
from kd.randomisation import explain_all, sanity
from kd.runs import FINISHED, Run, Store

SANITY_IMAGES = 32
WEIGHTS = {COST: 1.0, LOCALISATION: 2.0, AGREEMENT: 3.0, FAITHFULNESS: 20.0}  # rough shares of the time

Progress = Callable[[str, float], None]
Heat = tuple[NDArray[np.float32], NDArray[np.bool_]]
Found = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def appraise(store: Store, run: Run, explainers: Sequence[str] = ("grad-cam",), *, agreement: bool = True,
             faithfulness: bool = False, localisation: bool = True, cost: bool = True, stage: int = -1,
             limit: int = 0, seed: int = 0, progress: Progress = lambda phase, share: None,
             should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Compute the wanted sections for each explainer, store them with the runs, and return all that is known.

    stage: of every model, from 0 or from the end where negative. limit: at most so many test images, drawn per class
    with `seed`; 0: all. progress: told the phase and the share of the whole. Raises Stopped when `should_stop`, asked
    between batches, says so, and UsageError when a run is not finished, its data set is gone or has changed, or an
    explainer or stage is unknown.
    """
    for name in explainers:
        EXPLAINERS[name]
    wanted = {AGREEMENT: agreement, LOCALISATION: localisation, FAITHFULNESS: faithfulness, COST: cost}
    asked = [section for section, on in wanted.items() if on]
    runs = appraisals.cast(store, run)
    for one in runs.values():
        _require_finished(one)
    todo = [(choice, section, role) for choice in (Choice(name, stage, limit, seed).of(run) for name in explainers)
            for section, role in _missing(run, runs, choice, asked)]
    if todo:
        _work(store, run, runs, todo, progress, should_stop)
    found = {name: appraisals.read(store, run, Choice(name, stage, limit, seed)) for name in explainers}
    notes = []
    if agreement and MODEL in runs:
        notes.append(f"{run.id} learnt without a teacher, so there are no maps to agree with.")
    if STUDENT in runs and CONTROL not in runs:
        notes.append("There is no finished control (the same student without a teacher) to compare with.")
    return {"run": run.id, "explainers": found, "notes": notes}


def _missing(run: Run, runs: dict[str, Run], choice: Choice, asked: Sequence[str]) -> list[tuple[str, str]]:
    """(section, role) of what is asked for and not stored; the role is empty for what all models share."""
    found = []
    for section in asked:
        if section in appraisals.OWN:
            found += [(section, role) for role, one in runs.items()
                      if appraisals.find(one, choice, section, {role: one}) is None]
        elif (section == COST or TEACHER in runs) and appraisals.find(run, choice, section, runs) is None:
            found.append((section, ""))
    return found


def _work(store: Store, run: Run, runs: dict[str, Run], todo: list[tuple[Choice, str, str]], progress: Progress,
          should_stop: Callable[[], bool]) -> None:
    progress("opening the data", 0.0)
    pulse = _Pulse(progress, should_stop, sum(WEIGHTS[section] for _, section, _ in todo))
    data = evaluate.data_of(run, store, lambda phase, share: progress(phase, 0.02 * share))
    bench: _Bench | None = None
    for choice, section, role in todo:
        if bench is None or bench.choice != choice:
            kinds = {section for one, section, _ in todo if one == choice}
            bench = _Bench(runs, data, choice, pulse, kinds, bench)
        with pulse.phase(_phrase(choice, section, role), WEIGHTS[section]):
            result, arrays = _COMPUTE[section](bench, role)
        own = {role: runs[role]} if role else runs
        shared = {"index": bench.index, "names": np.array([data.test.names[number] for number in bench.index])}
        appraisals.keep(runs[role] if role else run, choice, section, own, result, {**shared, **arrays})


def _phrase(choice: Choice, section: str, role: str) -> str:
    of = f" of the {role}" if role else ""
    return f"{EXPLAINERS[choice.explainer].facts.title}: {section}{of}"


class _Pulse:
    """Progress over weighted phases, and the question whether to stop."""

    def __init__(self, progress: Progress, should_stop: Callable[[], bool], total: float) -> None:
        self.progress, self.should_stop, self.total = progress, should_stop, total
        self.done = self.weight = self.reached = 0.0
        self.text = ""

    @contextmanager
    def phase(self, text: str, weight: float) -> Iterator[None]:
        self.text, self.weight = text, weight
        self(0.0)
        yield
        self.done += weight

    def __call__(self, share: float) -> None:
        """Share of the phase that is done. Raises Stopped."""
        if self.should_stop():
            raise Stopped
        # Maps that several sections share are computed within one of them, so a phase may begin again: never go back.
        self.reached = max(self.reached, 0.02 + 0.98 * (self.done + share * self.weight) / self.total)
        self.progress(self.text, self.reached)


@dataclass(eq=False)
class _Bench:
    """What the sections of one choice share: the images, the models, their answers and their maps.

    kinds: the sections that are still to be computed. before: the bench of the choice before, whose models and chance
    levels hold here too.
    """

    runs: dict[str, Run]
    data: Dataset
    choice: Choice
    pulse: _Pulse
    kinds: set[str]
    before: "_Bench | None" = None

    def __post_init__(self) -> None:
        self.index = stratified(self.test.labels, self.choice.limit, self.choice.seed)
        self._heat: dict[tuple[str, str], Heat] = {}
        self.models: dict[str, Classifier] = self.before.models if self.before else {}
        self.logits: dict[str, NDArray[np.float32]] = self.before.logits if self.before else {}
        self.chance: dict[str, dict[str, faithfulness.Faithfulness]] = self.before.chance if self.before else {}
        self.before = None

    @property
    def test(self) -> Split:
        return self.data.test

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        return np.asarray(self.test.images[self.index])

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.asarray(self.test.labels[self.index])

    @property
    def groups(self) -> list[str] | None:
        return None if self.test.groups is None else [self.test.groups[number] for number in self.index]

    @cached_property
    def evidence(self) -> NDArray[np.int64]:
        """Positions of the images with a mask."""
        return localisation.masked(self.test, self.index)

    def model(self, role: str) -> Classifier:
        """A private, frozen model on the run's device."""
        if role not in self.models:
            run = self.runs[role]
            cuda = run.spec.device in ("auto", "cuda") and torch.cuda.is_available()
            model = evaluate.load(run, len(self.data.classes)).requires_grad_(False)
            self.models[role] = model.to("cuda" if cuda else "cpu")
        return self.models[role]

    def answers(self, role: str) -> NDArray[np.float32]:
        """Logits [n, K]."""
        if role not in self.logits:
            model, parts = self.model(role), []
            for start in range(0, len(self.images), evaluate.BATCH):
                batch = to_tensor(self.images[start:start + evaluate.BATCH], model.mean.device)
                with torch.no_grad():
                    parts.append(model(batch).logits.float().cpu().numpy())
            self.logits[role] = np.concatenate(parts)
        return self.logits[role]

    def targets(self, role: str, kind: str) -> NDArray[np.int64]:
        """Classes [n] to explain: for agreement what the teacher answers, for localisation what is shown, else what
        the model itself answers."""
        if kind == LOCALISATION:
            return self.labels
        return self.answers(TEACHER if kind == AGREEMENT else role).argmax(axis=1)

    def heat(self, role: str, kind: str) -> Heat:
        """Maps [n, h, w] in 0..1 for one kind of target, and which are blank [n]; each map is computed once."""
        if (role, kind) not in self._heat:
            explainer = EXPLAINERS[self.choice.explainer]
            kinds = sorted((self.kinds - {COST}) & ({kind, LOCALISATION, FAITHFULNESS, AGREEMENT}))
            asked = np.stack([self.targets(role, one) if explainer.facts.class_specific else 0 * self.labels
                              for one in kinds], axis=1)
            count = len(self.index)
            pairs, place = np.unique(np.stack([np.repeat(np.arange(count), len(kinds)), asked.ravel()], axis=1),
                                     axis=0, return_inverse=True)
            maps, blank = explain_all(explainer, self.model(role), self.images[pairs[:, 0]], pairs[:, 1],
                                      self.choice.stage, lambda share: self.pulse(share / 2))
            for column, one in enumerate(kinds):
                own = place.reshape(count, len(kinds))[:, column]
                self._heat[role, one] = maps[own], blank[own]
        return self._heat[role, kind]


def _agreement(bench: _Bench, _: str) -> Found:
    teacher, pupils = bench.heat(TEACHER, AGREEMENT), [role for role in bench.runs if role != TEACHER]
    found = {role: agreeing.map_agreement(teacher[0], other[0], teacher[1], other[1], bench.choice.seed)
             for role in pupils for other in [bench.heat(role, AGREEMENT)]}
    answers = bench.answers(TEACHER)
    same = {role: answers.argmax(axis=1) == bench.answers(role).argmax(axis=1) for role in pupils}
    result: dict[str, Any] = {
        "images": len(bench.index), "rounds": agreeing.ROUNDS,
        "classes": {role: agreeing.class_agreement(answers, bench.answers(role), bench.labels, bench.groups)
                    for role in pupils},
        "maps": {role: found[role].to_json(same[role], bench.groups) for role in pupils}}
    if CONTROL in found:
        result["gain"] = agreeing.gain(found[STUDENT], found[CONTROL], bench.groups)
    arrays = {f"{role}_{name}": values for role, one in found.items() for name, values in one.arrays().items()}
    return result, {**arrays, **{f"{role}_kl": agreeing.divergence(answers, bench.answers(role)) for role in pupils}}


def _localisation(bench: _Bench, role: str) -> Found:
    told, masks = bench.evidence, bench.test.masks
    if masks is None or not len(told):
        return {"images": 0, "reason": "No test image comes with a mask of its evidence."}, {}
    maps, blank = bench.heat(role, LOCALISATION)
    found = localisation.localisation(maps[told], blank[told], np.asarray(masks[bench.index[told]]), bench.choice.seed)
    groups = None if bench.groups is None else [bench.groups[number] for number in told]
    result = {"grid": list(maps.shape[1:]), **found.to_json(bench.labels[told], bench.data.classes, groups)}
    arrays = {score: _spread(values, told, len(bench.index)) for score, values in found.scores.items()}
    return result, {**arrays, "area": _spread(found.area, told, len(bench.index))}


def _faithfulness(bench: _Bench, role: str) -> Found:
    model, targets, pulse = bench.model(role), bench.targets(role, FAITHFULNESS), bench.pulse
    maps, blank = bench.heat(role, FAITHFULNESS)
    explainer, choice = EXPLAINERS[bench.choice.explainer], bench.choice

    def judge(heat: NDArray[np.float32], empty: NDArray[np.bool_] | None, start: float) -> faithfulness.Faithfulness:
        return faithfulness.faithfulness(model, bench.images, targets, heat, empty, choice.seed,
                                         lambda share: pulse(start + 0.25 * share))

    found = judge(maps, blank, 0.1)
    if role not in bench.chance:
        count = len(bench.index)
        bench.chance[role] = {"random": judge(faithfulness.random_maps(count, choice.seed), None, 0.35),
                              "centre": judge(faithfulness.centred_maps(count, 32), None, 0.6)}
    few = stratified(bench.labels, SANITY_IMAGES, choice.seed)
    result = {"grid": list(maps.shape[1:]), **faithfulness.summary(found, bench.chance[role], bench.groups),
              "sanity": sanity(explainer, model, bench.images[few], targets[few], choice.stage, choice.seed,
                               lambda share: pulse(0.85 + 0.15 * share))}
    return result, {score: getattr(found, score) for score in faithfulness.SCORES}


def _cost(bench: _Bench, _: str) -> Found:
    most = max(IMAGES.values())
    few = stratified(bench.labels, most, bench.choice.seed)[:most]
    models = {role: bench.model(role) for role in bench.runs}
    targets = {role: bench.targets(role, FAITHFULNESS)[few] for role in models}
    return execution(models, EXPLAINERS[bench.choice.explainer], bench.images[few], targets, bench.choice.stage,
                     progress=bench.pulse), {}


_COMPUTE: dict[str, Callable[[_Bench, str], Found]] = {
    AGREEMENT: _agreement, LOCALISATION: _localisation, FAITHFULNESS: _faithfulness, COST: _cost}


def _require_finished(run: Run) -> None:
    if run.status != FINISHED:
        raise UsageError(f"{run.id} is {run.status}, not finished, so its explanations cannot be judged yet. "
                         "Wait for its end, or resume it.")


def _spread(values: NDArray[np.float64], kept: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    found = np.full(count, np.nan)
    found[kept] = values
    return found
