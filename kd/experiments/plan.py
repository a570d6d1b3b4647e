"""Planning of a distillation as three runs: teacher, control (the same student without a teacher), student."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from kd import datasets
from kd.datasets import DataRef
from kd.errors import UsageError
from kd.experiments.initial_weights import initial_weights, plain_weights
from kd.experiments.unlabelled import unlabelled_images
from kd.spec import IN_SAMPLE, OF_RUN, RunSpec, check, require_downsampling, setting, timm_name
from kd.store.groups import Distillation, Replicates
from kd.store.runs import FINISHED, Run, Store

COMMON = ("image_size", "batch_size", "weight_decay", "schedule", "views", "augmentation", "seed", "precision",
          "device", "threads")  # of teacher, control and student, unless the teacher has its own
MASK_NET_FIELDS = ("mask_net_depth", "mask_net_width", "mask_fill", "mask_area", "mask_target")
# Peak rates that trained well in trials here: small students take large steps, pretrained weights small ones.
TEACHER_RATE, FINE_TUNE_RATE, STUDENT_RATE = 1e-3, 5e-4, 2e-3


def _like(name: str, later: bool = False) -> Any:
    """A field with RunSpec's default, range and meaning. later: as in `kd.spec.setting`."""
    item = next(item for item in fields(RunSpec) if item.name == name)
    return field(default=item.default, metadata={**item.metadata, "later": later})


@dataclass(frozen=True)
class DistillSpec:
    """Settings of a distillation: the form's fields and the flags of `distill`."""

    data: str = _like("data")
    teacher: str = setting("resnet18", "A timm model's name, or the id of a finished run to learn from.")
    teacher_weights: str = setting("none", "Teacher's starting weights: none (random), hub (timm's, needs a network), "
                                   "or a local .safetensors or .pth file.")
    teacher_epochs: int = setting(0, "The teacher's epochs; 0 for as many as the student's.",
                                  low=0, high=1000)
    teacher_learning_rate: float = setting(0.0, "The teacher's peak step size of AdamW; 0 for the usual one: "
                                           f"{TEACHER_RATE:g} from random weights, {FINE_TUNE_RATE:g} from pretrained "
                                           "ones.", low=0.0, high=1.0, later=True)
    teacher_batch_size: int = setting(0, "The teacher's images per step; 0 for as many as the student.",
                                      low=0, high=4096, later=True)
    teacher_views: int = setting(-1, "The teacher's augmented views per image; -1 for as many as the student. Few, "
                                 "where its first stages are frozen: their features are computed once for each view.",
                                 low=-1, high=1000, later=True)
    frozen_stages: int = setting(0, "First stages of a pretrained teacher whose weights stay as they are; -1 for all "
                                 "but the last. Their features are computed once for each view of an image and cached.",
                                 low=-1, high=16, later=True)
    backbone_rate: float = setting(1.0, "Learning rate of a pretrained teacher's weights as a share of its new "
                                   "classifier's.", low=0.001, high=1.0, later=True)
    teacher_label_smoothing: float = setting(0.0, "Share of each of the teacher's labels that goes to all classes.",
                                             low=0.0, high=0.9, later=True)
    teacher_random_masks: float = setting(0.0, "Share of the teacher's batches shown under random masks, such as 0.5: "
                                          "it then keeps more of its decisions when only a part of the image is shown, "
                                          "as by a student's mask.", low=0.0, high=1.0, later=True)
    normalisation: str = _like("normalisation")
    student: str = setting("plain", "plain (convolution layers), truncated (the teacher's first stages), or timm:NAME.")
    student_weights: str = setting("none", "Student's starting weights: none, hub, a file, or teacher (truncated only: "
                                   "the first stages of the trained teacher).")
    depth: int = _like("depth")
    width: int = _like("width")
    mask_net_depth: int = setting(3, "Where the method trains a mask network: halvings of its U-Net. More give a "
                                   "larger receptive field.",
                                   low=1, high=5)
    mask_net_width: int = _like("mask_net_width")
    mask_fill: str = _like("mask_fill")
    mask_area: float = setting(0.1, "Share of the image that the mask shows: exactly this share of every image.",
                               low=0.01, high=0.5, later=True)
    mask_target: str = setting("sensitivity", "What the mask network learns to point at: sensitivity (where the "
                               "teacher's answer is sensitive, without any outline) or outlines (those of the training "
                               "images, where the data set has them).", choices=("sensitivity", "outlines"), later=True)
    method: str = setting("kd", "The distillation method.")
    method_args: dict[str, float] = field(default_factory=dict, metadata={"help": "The method's own settings."})
    soft_targets: str = _like("soft_targets", later=True)
    folds: int = setting(5, "Networks that out-of-fold soft targets take: the training images are divided into so many "
                         "parts, per class and whole patients at a time, and each network is trained on all but one.",
                         low=2, high=20, later=True)
    epochs: int = _like("epochs")
    image_size: int = _like("image_size")
    student_size: int = setting(0, "Side in pixels to which student and control downsample their images; 0 for the "
                                "working size. The teacher sees all of it.", low=0, high=512, later=True)
    batch_size: int = _like("batch_size")
    learning_rate: float = setting(0.0, "Peak step size of AdamW for student and control; 0 for the usual one: "
                                   f"{STUDENT_RATE:g} from random weights, {FINE_TUNE_RATE:g} from pretrained ones.",
                                   low=0.0, high=1.0, later=True)
    weight_decay: float = _like("weight_decay", later=True)
    schedule: str = _like("schedule", later=True)
    data_fraction: float = setting(1.0, "Share of the training images that student and control learn from; the "
                                   "teacher sees all.", low=0.01, high=1.0)
    unlabelled: str = _like("unlabelled", later=True)
    equal_steps: float = setting(0.0, "With less data, more epochs for student and control: data_fraction^-equal_steps "
                             "times as many. 0: equal epochs; 1: about as many steps as with all data.",
                             low=0.0, high=1.0)
    views: int = _like("views")
    augmentation: float = _like("augmentation")
    mixup: float = _like("mixup", later=True)
    seed: int = _like("seed")
    seeds: int = setting(1, "Train control and student so many times, with seed, seed + 1 and so on, all beside one "
                         "teacher: three or more show the seed variance.", low=1, high=50)
    precision: str = _like("precision")
    device: str = _like("device")
    threads: int = _like("threads")

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "teacher", timm_name(self.teacher))


def plan_specs(request: DistillSpec, store: Store, data: DataRef | None = None) -> tuple[RunSpec, RunSpec, RunSpec]:
    """Checked teacher, control and student specs of a request's first seed; creates no run. Raises UsageError. The
    student's `fold_teachers(teacher)` are trained, too.

    data: the request's data set, where it has been inspected already.
    """
    from kd import methods  # torch: not for pages that only read runs

    if not methods.METHODS[request.method].needs_teacher:
        raise UsageError(f"{request.method!r} learns without a teacher: it is the control arm, trained beside every "
                         "student anyway. Choose a distillation method such as 'kd'.")
    require_downsampling("student_size", request.student_size, request.image_size)
    out_of_fold = request.soft_targets != IN_SAMPLE
    if request.mixup:
        methods.require_mixup(request.method, request.soft_targets)
    if out_of_fold:
        methods.require_logits_only(request.method)
    data = data or datasets.inspect(request.data, store.paths)
    method_warning(request, data)
    teacher = _teacher_spec(request, store, data)
    control = _student_spec(request, teacher, store, data)
    student = replace(
        control,
        method=request.method,
        method_args=methods.complete(request.method, request.method_args),
        teacher=run_id(teacher, store),
        soft_targets=request.soft_targets,
        folds=request.folds if out_of_fold else 0,
        **unlabelled_images(request.unlabelled, request.method, request.mask_target, request.data_fraction, store),
        **{name: getattr(request, name) for name in MASK_NET_FIELDS
           if methods.METHODS[request.method].needs_mask_net},
    )
    _weights_notes((teacher, control), len(data.classes))
    return teacher, control, student


def run_id(spec: RunSpec, store: Store) -> str:
    """Id of the run that has this spec, or will have."""
    return known.id if (known := store.find(spec)) else spec.id


def method_warning(request: DistillSpec, data: DataRef) -> str:
    """Note on the method for the data set's number of classes; mostly empty.

    Raises UsageError where the student would learn nothing from the teacher.
    """
    from kd import methods

    return methods.check(request.method, len(data.classes))


def with_seeds(spec: RunSpec, seeds: int) -> tuple[RunSpec, ...]:
    """Specs with the same settings and so many seeds, from the spec's own upwards. Raises UsageError beyond the largest
    seed."""
    return tuple(replace(spec, seed=spec.seed + number) for number in range(seeds))


def plan_runs(request: DistillSpec, store: Store, data: DataRef | None = None) -> Replicates:
    """Runs of a request; existing runs with the same settings are used again."""
    teacher, control, student = plan_specs(request, store, data)
    arms = [map(store.create, with_seeds(arm, request.seeds)) for arm in (control, student)]
    first, folds = store.create(teacher), tuple(map(store.create, student.fold_teachers(teacher)))
    return Replicates(first, tuple(zip(*arms, strict=True)), folds)


def plan_first_seed(request: DistillSpec, store: Store) -> Distillation:
    """The runs of a request's first seed."""
    return plan_runs(replace(request, seeds=1), store).distillations[0]


def _common(request: DistillSpec, data: DataRef) -> dict[str, Any]:
    return {"data": data.reference, "data_fingerprint": data.fingerprint,
            **{name: getattr(request, name) for name in COMMON}}


def _teacher_spec(request: DistillSpec, store: Store, data: DataRef) -> RunSpec:
    from kd.models import require_cnn

    if (run := store.get(request.teacher)) is not None:
        return _reused(run, request, data)
    require_cnn(request.teacher)
    weights = initial_weights(request.teacher_weights, store)
    own = {"epochs": request.teacher_epochs or request.epochs,
           "batch_size": request.teacher_batch_size or request.batch_size,
           "views": request.views if request.teacher_views < 0 else request.teacher_views}
    spec = RunSpec(**{**_common(request, data), **own, **weights}, model=request.teacher,
                   normalisation=request.normalisation, learning_rate=teacher_rate(request),
                   backbone_rate=request.backbone_rate, random_masks=request.teacher_random_masks,
                   label_smoothing=request.teacher_label_smoothing)
    return with_frozen_stages(spec, request.frozen_stages, len(data.classes))


def teacher_rate(request: DistillSpec) -> float:
    """Peak learning rate of a request's teacher."""
    usual = TEACHER_RATE if request.teacher_weights == "none" else FINE_TUNE_RATE
    return request.teacher_learning_rate or usual


def student_rate(request: DistillSpec) -> float:
    """Peak learning rate of a request's student and control."""
    return request.learning_rate or (STUDENT_RATE if request.student_weights == "none" else FINE_TUNE_RATE)


def with_frozen_stages(spec: RunSpec, stages: int, classes: int) -> RunSpec:
    """The spec with its first stages frozen. stages: how many; -1 for all but the last. Raises UsageError where it has
    no pretrained weights, or not so many stages."""
    from kd.models import require_freezable, stage_count

    spec = replace(spec, frozen_stages=stage_count(spec, classes) - 1 if stages < 0 else stages)
    require_freezable(spec, classes)
    return spec


def _reused(run: Run, request: DistillSpec, data: DataRef) -> RunSpec:
    """Spec of a finished run as teacher. Its data set and image size must be the student's."""
    if run.status != FINISHED:
        raise UsageError(f"The teacher {run.id} is {run.status}, not finished. Train it to its end first.")
    if run.spec.data_fingerprint != data.fingerprint:
        raise UsageError(f"The teacher {run.id} was trained on other images ({run.spec.data} as it was then) than "
                         f"{data.reference} holds now. Choose the same data set, or another teacher.")
    if run.spec.image_size != request.image_size:
        raise UsageError(f"The teacher {run.id} works at {run.spec.image_size} px, the student at "
                         f"{request.image_size} px. Set image_size to {run.spec.image_size}"
                         + (f", and student_size to {request.image_size} for a student that downsamples these images."
                            if request.image_size < run.spec.image_size else "."))
    return run.spec


def epochs_for_fraction(request: DistillSpec) -> int:
    """Epochs of student and control on their share of the images. Raises UsageError beyond a run's maximum."""
    found, most = round(request.epochs * request.data_fraction**-request.equal_steps), _like("epochs").metadata["high"]
    if found > most:
        raise UsageError(
            f"A data_fraction of {request.data_fraction:g} with equal_steps {request.equal_steps:g} makes {found} "
            f"epochs of {request.epochs}; a run has {most} at most. Take fewer epochs, or a smaller equal_steps."
        )
    return found


def _student_spec(request: DistillSpec, teacher: RunSpec, store: Store, data: DataRef) -> RunSpec:
    """The control's spec; the student's differs from it in method and teacher only."""
    from kd.models import require_cnn

    common = {**_common(request, data), "epochs": epochs_for_fraction(request), "data_fraction": request.data_fraction,
              "input_size": request.student_size, "learning_rate": student_rate(request), "mixup": request.mixup}
    if request.student == "plain":
        return RunSpec(model="plain", depth=request.depth, width=request.width,
                       **plain_weights(request.student_weights, store), **common)
    if request.student == "truncated":
        weights = ({"pretrained": OF_RUN + run_id(teacher, store)} if request.student_weights == "teacher" else
                   initial_weights(request.student_weights, store))
        return RunSpec(model="truncated", base=teacher.model, depth=request.depth, **weights,
                       normalisation=teacher.normalisation, **common)
    name = timm_name(request.student)
    require_cnn(name)
    return RunSpec(model=name, **initial_weights(request.student_weights, store), **common)


def plan_single_run(settings: Mapping[str, Any], store: Store, data: DataRef | None = None) -> RunSpec:
    """Checked spec of one run trained on the labels. settings: RunSpec's fields by name; frozen_stages may be -1. data:
    the data set, where it has been inspected already. Raises UsageError."""
    from kd.models import require_cnn

    weights = plain_weights if settings.get("model", RunSpec.model) == "plain" else initial_weights
    frozen = settings.get("frozen_stages", 0)
    spec = RunSpec(**{**settings, "frozen_stages": 0, **weights(settings.get("pretrained", "none"), store)})
    if "learning_rate" not in settings:
        small = spec.model in ("plain", "truncated") and spec.pretrained == "none"
        rate = STUDENT_RATE if small else TEACHER_RATE if spec.pretrained == "none" else FINE_TUNE_RATE
        spec = replace(spec, learning_rate=rate)
    if spec.model not in ("plain", "truncated"):
        require_cnn(spec.model)
    data = data or datasets.inspect(spec.data, store.paths)
    spec = replace(spec, data=data.reference, data_fingerprint=data.fingerprint)
    spec = with_frozen_stages(spec, frozen, len(data.classes))
    require_possible([spec], data)
    return spec


def require_possible(specs: Iterable[RunSpec], data: DataRef) -> None:
    """Raise UsageError now for models that training could not build later."""
    from kd.models import cost

    for spec in specs:
        cost.cost(spec, len(data.classes))
        _weights_notes([spec], len(data.classes))


def weights_notes(specs: tuple[RunSpec, ...], data: DataRef) -> tuple[str, ...]:
    """What teacher and control of a distillation, or a single run, take of their weights files where that goes without
    saying in none, in sentences."""
    return _weights_notes(specs[:2], len(data.classes))


def _weights_notes(specs: Iterable[RunSpec], classes: int) -> tuple[str, ...]:
    """Raises UsageError where a file cannot be read or does not fit its model."""
    from kd.models import check_weights

    return tuple(note for spec in specs for note in check_weights(spec, classes))


def saving_note(specs: tuple[RunSpec, RunSpec, RunSpec], data: DataRef) -> str:
    """The share of the teacher's FLOPs that the student needs, as `kd.models.cost.flops_note` words it."""
    from kd.models import cost

    teacher, _, student = (cost.cost(spec, len(data.classes)) for spec in specs)
    return cost.flops_note(teacher.flops / student.flops)
