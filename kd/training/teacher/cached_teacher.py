"""Teacher outputs per batch, from the cache or computed and then cached."""

from collections.abc import Callable

from lightning_fabric import Fabric

from kd import methods
from kd.datasets.base import Dataset
from kd.errors import UsageError
from kd.evaluation import predict
from kd.methods import METHODS, Method
from kd.models import weights
from kd.models.base import Classifier
from kd.models.factory import architecture, meta_model
from kd.spec import IN_SAMPLE, NONE, RunSpec
from kd.store.runs import FINISHED, Run, Store
from kd.torch_utils.memory_format import channels_last
from kd.training.precision import teacher_precision
from kd.training.teacher.cache import EVENT
from kd.training.teacher.cached_network import CachedNetwork
from kd.training.teacher.out_of_fold import OutOfFoldTeacher, fold_teachers
from kd.training.teacher.rows import build_method, cache_key, row_formats


def find_teacher(spec: RunSpec, store: Store, classes: tuple[str, ...]) -> Run:
    """The finished run that a student of this spec learns from. Raises UsageError unless it has these classes."""
    if not spec.teacher:
        raise UsageError(f"Method {spec.method!r} needs a teacher. Name a finished run, or choose 'supervised'.")
    run = store[spec.teacher]
    if run.status != FINISHED:
        raise UsageError(f"The teacher {run.id} is {run.status}, not finished. Train it to its end first.")
    known = (run.summary or {})["classes"]
    if known != list(classes):
        raise UsageError(f"The teacher {run.id} knows the classes {', '.join(known)}; this data set has "
                         f"{', '.join(classes)}. Choose a teacher of this data set.")
    return run


def _check_mask_net(spec: RunSpec) -> None:
    needed = METHODS[spec.method].needs_mask_net
    if needed and not spec.mask_net_depth:
        raise UsageError(f"Method {spec.method!r} trains a mask network in front of the student. Set mask_net_depth to "
                         "1 or more.")
    if needed and not spec.mask_area:
        raise UsageError("Soft masks of any area are trained no more. Set mask_area to the share of the image that the "
                         "mask shall show, such as 0.1.")
    if spec.mask_net_depth and not needed:
        raise UsageError(f"mask_net_depth={spec.mask_net_depth} puts a mask network in front of the student, which "
                         f"method {spec.method!r} would not train. Choose 'medtex', or set it to 0.")


def build_method_and_teacher(spec: RunSpec, store: Store, data: Dataset, fabric: Fabric,
                             log: Callable[..., None]) -> "tuple[Method, CachedTeacher | OutOfFoldTeacher | None]":
    """A run's method, set up for its two models, and its teacher, or those out of fold, if any. Raises UsageError as
    `find_teacher` and `fold_teachers` do."""
    _check_mask_net(spec)
    if spec.unlabelled != NONE:
        methods.require_unlabelled(spec.method, spec.mask_target)
    if spec.mixup:
        methods.require_mixup(spec.method, spec.soft_targets)
    if not METHODS[spec.method].needs_teacher:
        return methods.build(spec.method, spec.method_args).to(fabric.device), None
    run = find_teacher(spec, store, data.classes)
    method = build_method(spec, run.spec, len(data.classes)).to(fabric.device)
    if spec.soft_targets == IN_SAMPLE:
        return method, CachedTeacher(run, spec, data, method, fabric, log)
    return method, OutOfFoldTeacher(run, fold_teachers(spec, run, store), spec, data, method, fabric, log)


class CachedTeacher(CachedNetwork):
    """Outputs of a frozen teacher for every batch of a student's training.

    The model is loaded when it is first needed, which may be never. spec: the student's.
    """

    event = EVENT

    def __init__(self, run: Run, spec: RunSpec, data: Dataset, method: Method, fabric: Fabric,
                 log: Callable[..., None] = lambda *_, **__: None) -> None:
        self.run, self.classes = run, len(data.classes)
        precision = teacher_precision(spec, str(fabric.strategy.precision.precision))
        key = cache_key(run, spec, data, fabric.device, precision)
        super().__init__(run, key, row_formats(method, run.spec, spec.image_size, self.classes), fabric, log)
        self.image_size = spec.image_size
        self._model: Classifier | None = None

    def network(self, number: int) -> Classifier:
        return self.model

    def architecture(self) -> Classifier:
        return meta_model(architecture(self.run.spec.at(self.image_size), self.classes))

    @property
    def model(self) -> Classifier:
        """The frozen network, loaded when first needed. Raises UsageError when its weights have changed since."""
        if self._model is None:
            if weights.fingerprint(self.run.weights) != self.key["teacher"]:
                raise UsageError(f"The weights of the teacher {self.run.id} changed while a student was learning from "
                                 "it. Start the student again.")
            self._model = channels_last(predict.load(self.run, self.classes).requires_grad_(False)).to(
                self.fabric.device)
        return self._model
