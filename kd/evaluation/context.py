"""Context of an evaluation of explanations: images, models, logits and maps that its sections share."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.datasets.base import Dataset, Split
from kd.datasets.tensors import to_tensor
from kd.evaluation import predict
from kd.evaluation.explanation_store import AGREEMENT, EVIDENCE, FAITHFULNESS, LOCALISATION, POSTHOC, EvalKey
from kd.explainers import EXPLAINERS, StageChoice, explainer_for
from kd.explainers.gradient_cams import GradientCam
from kd.explanation_metrics import faithfulness, localisation
from kd.explanation_metrics.sanity_checks import explain_batchwise, explain_features
from kd.inference.fast_model import FastModel, fast_model
from kd.metrics.bootstrap import stratified_sample
from kd.models.base import Classifier
from kd.paths import Paths
from kd.placement import Placement
from kd.progress import PhaseProgress
from kd.roles import TEACHER
from kd.store.runs import Run
from kd.torch_utils.compute import device_here

KINDS = (AGREEMENT, LOCALISATION, FAITHFULNESS)  # of targets
# Forward passes of an image, about: by its explainer, and by the section.
BY_COST = {"instant": 1, "seconds": 100, "minutes": 500}
KEPT = 256 * 2**20  # bytes of a model's features of the last stage, at most
BY_SECTION = {FAITHFULNESS: 150, POSTHOC: 15, EVIDENCE: 5}


class Heat(NamedTuple):
    """Maps [n, h, w] in 0..1, which of them are blank [n], and where their cells lie in the image (None: stretched)."""

    maps: NDArray[np.float32]
    blank: NDArray[np.bool_]
    placement: Placement | None


@dataclass(eq=False)
class EvalContext:
    """Context of one evaluation: images, models, logits and maps that its sections share, each computed once.

    kinds: the sections that are still to be computed. before: the context of the previous choice, whose models and
    baselines are valid here too. paths: where engines are kept; None: torch alone answers.
    """

    runs: dict[str, Run]
    data: Dataset
    choice: EvalKey
    pulse: PhaseProgress
    kinds: set[str]
    before: "EvalContext | None" = None
    paths: Paths | None = None

    def __post_init__(self) -> None:
        self.index = stratified_sample(self.test.labels, self.choice.limit, self.choice.seed)
        self._heat: dict[tuple[str, str, StageChoice, str], Heat] = {}
        self.models: dict[str, Classifier] = self.before.models if self.before else {}
        self._answering: dict[str, Classifier] = self.before._answering if self.before else {}
        self._logits: dict[str, NDArray[np.float32]] = self.before._logits if self.before else {}
        self._features: dict[str, Tensor] = self.before._features if self.before else {}  # [n, C, h, w]
        self.chance: dict[str, dict[str, faithfulness.Faithfulness]] = self.before.chance if self.before else {}
        self._image_only: dict[str, localisation.Scores] = self.before._image_only if self.before else {}
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
        """Positions of the images with annotated evidence."""
        return localisation.masked(self.test, self.index)

    @cached_property
    def evidence_masks(self) -> NDArray[np.uint8]:
        """Evidence masks [m, S, S] of these images."""
        assert self.test.evidence is not None, "there are no masks"
        return np.asarray(self.test.evidence[self.index[self.evidence]])

    @property
    def stage(self) -> StageChoice:
        """The stage to explain."""
        return cast(StageChoice, self.choice.stage)

    @property
    def image_only(self) -> dict[str, localisation.Scores]:
        """Localisation of the maps that no model has seen, on the images with evidence."""
        if not self._image_only:
            self._image_only.update(localisation.image_only_scores(self.images[self.evidence], self.evidence_masks))
        return self._image_only

    def groups_of(self, positions: NDArray[np.int64]) -> list[str] | None:
        """Patients of some of the images, where they are known."""
        return None if self.groups is None else [self.groups[number] for number in positions]

    def model(self, role: str) -> Classifier:
        """A frozen model of its own on the run's device."""
        if role not in self.models:
            run = self.runs[role]
            model = predict.load(run, len(self.data.classes)).requires_grad_(False)
            self.models[role] = model.to(device_here(run.spec.device))
        return self.models[role]

    def answering(self, role: str) -> Classifier:
        """The same model, whose answers without gradient are by the fastest engine that is exact enough."""
        if role not in self._answering:
            model = self.model(role)
            self._answering[role] = fast_model(model, self.images.shape[1], 0, self.paths) if self.paths else model
        found = self._answering[role]
        if isinstance(found, FastModel):
            found.expect(self._passes(role))
        return found

    def _passes(self, role: str) -> int:
        """Number of forward passes that the sections will take, about."""
        cost = EXPLAINERS[self.explainer_name(role)].info.cost
        return len(self.index) * (1 + BY_COST[cost] + sum(BY_SECTION.get(section, 0) for section in self.kinds))

    def explainer_name(self, role: str) -> str:
        """Name of the explainer used for this model: the choice's, or its replacement."""
        return explainer_for(self.choice.explainer, self.model(role))

    def logits(self, role: str) -> NDArray[np.float32]:
        """Logits [n, K] of a model."""
        if role not in self._logits:
            self._logits[role] = np.concatenate(list(self._answers(role)))
        return self._logits[role]

    def _answers(self, role: str) -> Iterator[NDArray[np.float32]]:
        """Logits of a model, a batch at a time; where maps will follow from the last stage's features, these are kept
        on the way."""
        model, features = self.answering(role), list[Tensor]()
        keeps = self._of_last(role, self.explainer_name(role), self.stage)
        for start in range(0, len(self.images), predict.BATCH):
            batch = to_tensor(self.images[start:start + predict.BATCH], model.mean.device)
            with torch.no_grad():
                if keeps:
                    features.append(model.features_at(batch, len(model.stages) - 1))
                    keeps = features[0].nbytes * len(self.images) <= KEPT * len(features[0])
                    logits = model.forward_head(features[-1].clone())  # it may work in place
                else:
                    logits = model(batch, stages=False).logits
            yield logits.float().cpu().numpy()
        if keeps:
            self._features[role] = torch.cat(features)

    def _of_last(self, role: str, name: str, stage: StageChoice) -> bool:
        """Whether an explainer's maps follow from the features of a model's last stage."""
        explainer, model = EXPLAINERS[name], self.model(role)
        return (isinstance(explainer, GradientCam) and model.differentiable
                and explainer.stage_of(model, stage) == len(model.stages) - 1)

    def targets(self, role: str, kind: str) -> NDArray[np.int64]:
        """Classes [n] to explain: for agreement the teacher's prediction, for localisation the true class, else the
        model's own prediction."""
        if kind == LOCALISATION:
            return self.labels
        return self.logits(TEACHER if kind == AGREEMENT else role).argmax(axis=1)

    def heatmaps(self, role: str, kind: str, explainer: str = "", stage: StageChoice | None = None) -> Heat:
        """Maps for one kind of target; each is computed once.

        explainer, stage: other than the choice's.
        """
        name, stage = explainer or self.explainer_name(role), self.stage if stage is None else stage
        if (role, name, stage, kind) not in self._heat:
            usual = (name, stage) == (self.explainer_name(role), self.stage)
            self._explain(role, name, stage, self._wanted(kind) if usual else [kind])
        return self._heat[role, name, stage, kind]

    def _wanted(self, kind: str) -> list[str]:
        """This kind of target and those that other sections will need."""
        further = (AGREEMENT, *(LOCALISATION,) * bool(len(self.evidence))) if POSTHOC in self.kinds else ()
        return sorted({kind, *further} | self.kinds & set(KINDS))

    def _explain(self, role: str, name: str, stage: StageChoice, kinds: list[str]) -> None:
        """Compute the maps for several kinds of target. Most have the same class for an image: no map is made twice."""
        explainer, count = EXPLAINERS[name], len(self.index)
        targets = np.stack([self.targets(role, one) if explainer.info.class_specific else 0 * self.labels
                            for one in kinds], axis=1)
        pairs, place = np.unique(np.stack([np.repeat(np.arange(count), len(kinds)), targets.ravel()], axis=1),
                                 axis=0, return_inverse=True)
        if role in self._features and isinstance(explainer, GradientCam) and self._of_last(role, name, stage):
            maps, blank = explain_features(explainer, self.model(role), self._features[role][pairs[:, 0]], pairs[:, 1],
                                           lambda share: self.pulse(share / 2))
        else:
            maps, blank = explain_batchwise(explainer, self.answering(role), self.images[pairs[:, 0]], pairs[:, 1],
                                            stage, lambda share: self.pulse(share / 2))
        laid = explainer.placement(self.model(role), stage, self.images.shape[1])
        for column, one in enumerate(kinds):
            own = place.reshape(count, len(kinds))[:, column]
            self._heat[role, name, stage, one] = Heat(maps[own], blank[own], laid)
