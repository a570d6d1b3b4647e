"""The settings of one run: every field with its unit, range and reason.

The same texts are the help of the form and of the flags.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, Self

from kd.errors import UsageError, unknown
from kd.renamings import FORMAT, current_spec

NONE, REST = "none", "rest"  # unlabelled images: none, or those that data_fraction leaves out
SMALLEST = 28  # pixels a side of an image
OF_RUN = "run:"  # before the id of a run whose weights a model starts from
TRAIN_FLAGS = ("data_fraction", "depth", "width", "base", "pretrained", "normalisation", "frozen_stages",
               "backbone_rate", "epochs", "image_size", "input_size", "batch_size", "learning_rate", "weight_decay",
               "schedule", "views", "augmentation", "mixup", "label_smoothing", "precision", "seed", "device",
               "threads")  # fields of a spec that `kd train` has flags for, beside data and model
IN_SAMPLE, OUT_OF_FOLD, UNCORRECTED = SOFT_TARGETS = ("teacher", "out-of-fold", "out-of-fold-uncorrected")


def setting(default: Any, help: str, *, low: float | None = None, high: float | None = None,
            choices: tuple[str, ...] | None = None, later: bool = False) -> Any:
    """A dataclass field with its meaning and its allowed values (bounds are inclusive).

    later: for a field added after runs had been stored; with its default, a spec keeps the id that it had before.
    """
    return field(default=default,
                 metadata={"help": help, "low": low, "high": high, "choices": choices, "later": later})


def timm_name(name: str) -> str:
    """timm's name of a model, which its hub and its functions also write `timm/resnet18.a1_in1k`, `timm:resnet18` or
    `hf-hub:timm/resnet18`. Other names stay as they are."""
    for beginning in ("hf-hub:", "hf_hub:", "timm:", "timm/"):
        name = name.removeprefix(beginning)
    return name


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides what a run computes. Frozen, checked when made, the same as JSON.

    Raises UsageError when a value is outside its range.
    """

    data: str = setting("phantom-brain", "Data set: a phantom's name, a class folder, a zip of one, or a MedMNIST "
                        ".npz.")
    data_fingerprint: str = setting("", "Digest of the data set's content, filled in when the run is planned.")
    image_size: int = setting(96, "Working size in pixels; every image is fitted into a square of this side.",
                              low=SMALLEST, high=512)
    input_size: int = setting(0, "Side in pixels to which the model itself downsamples its images; 0 for the working "
                              "size. Maps and FLOPs are then those of this size.", low=0, high=512, later=True)
    data_fraction: float = setting(1.0, "Share of the training images used, drawn per class (and whole groups at a "
                                   "time where groups are known).", low=0.01, high=1.0)
    unlabelled: str = setting(NONE, "Images without labels that a student learns from by its teacher's outputs alone: "
                              "none, rest (the training images that data_fraction leaves out), or the path of a folder "
                              "of images, or of a zip of one. The control never uses them.", later=True)
    unlabelled_fingerprint: str = setting("", "Digest of that folder's content, filled in when the run is planned.",
                                          later=True)
    model: str = setting("plain", "plain, truncated, or the name of a timm model.")
    depth: int = setting(5, "plain: number of convolution layers. truncated: stages kept after the stem.",
                         low=1, high=12)
    width: int = setting(16, "plain: channels of the first layer, doubled each time the image is halved.",
                         low=4, high=128)
    base: str = setting("", "truncated: the timm model whose first stages are kept.")
    mask_net_depth: int = setting(0, "Halvings of the U-Net that lays a mask over the image before the model sees "
                                   "it (MED-TEX); 0 for none.", low=0, high=5)
    mask_net_width: int = setting(8, "Channels of that U-Net's first layer.", low=4, high=64)
    mask_fill: str = setting("mean", "What stands where the mask hides the image: mean (the mean image of the "
                                  "training set) or blur (the image itself, blurred).", choices=("mean", "blur"))
    mask_area: float = setting(0.0, "Share of the image that the mask shows: exactly this share, the places with the "
                               "largest log-odds. 0: a soft mask of any area, as the first versions trained them.",
                               low=0.0, high=0.5, later=True)
    mask_target: str = setting("none", "What the mask network learns to point at: sensitivity (where the teacher's "
                               "answer is sensitive, without any outline) or outlines (those of the training images, "
                               "where the data set has them); none where there is no mask network.",
                               choices=("none", "sensitivity", "outlines"), later=True)
    label_smoothing: float = setting(0.0, "Share of each label that goes to all classes alike, such as 0.1, for a "
                                     "network that learns from the labels alone (Szegedy 2016).", low=0.0, high=0.9,
                                     later=True)
    random_masks: float = setting(0.0, "Share of each batch shown under random masks. A teacher trained so keeps more "
                                  "of its decisions when only a part of the image is shown.", low=0.0, high=1.0,
                                  later=True)
    pretrained: str = setting("none", "Starting weights: none (random), hub (timm's, needs a network), or a local "
                              ".safetensors or .pth file; run:ID for those of another run.")
    pretrained_fingerprint: str = setting("", "Digest of the weights file, filled in when the run is planned.")
    normalisation: str = setting("model", "Input scaling the weights expect: model (what timm states), imagenet "
                                 "(mean .485 .456 .406), half (mean = std = .5).",
                                 choices=("model", "imagenet", "half"))
    frozen_stages: int = setting(0, "First stages of the model, counted from the image, whose pretrained weights and "
                                 "batch-norm statistics stay as they are. Their features are computed once for each "
                                 "view of an image and cached.", low=0, high=16, later=True)
    backbone_rate: float = setting(1.0, "Learning rate of pretrained weights as a share of the new classifier's.",
                                   low=0.001, high=1.0, later=True)
    method: str = setting("supervised", "How the student learns: the name of a distillation method.")
    method_args: Mapping[str, float] = field(default_factory=dict, metadata={"help": "The method's own settings."})
    teacher: str = setting("", "Run id of the teacher; empty for a run without one.")
    soft_targets: str = setting(IN_SAMPLE, "Whose answers are the soft targets: the teacher's, which has seen the "
                                "training images; or, out-of-fold, for every image those of a network with the "
                                "teacher's recipe that was trained without it. Where that network is wrong, its "
                                "answer and the label change places (out-of-fold), or not (out-of-fold-uncorrected).",
                                choices=SOFT_TARGETS, later=True)
    folds: int = setting(0, "Parts into which the training images are divided, per class and whole patients at a "
                         "time, for soft targets that are out-of-fold; 0 for none.", low=0, high=20, later=True)
    fold: int = setting(0, "The part that this run is not trained on, from 1; 0 for none.", low=0, high=20, later=True)
    epochs: int = setting(20, "Passes over the training images. Long schedules are what makes distillation pay.",
                          low=1, high=1000)
    batch_size: int = setting(16, "Images per step, over all processes.", low=2, high=4096)
    learning_rate: float = setting(2e-3, "Peak step size of AdamW.", low=1e-6, high=1.0)
    weight_decay: float = setting(0.05, "AdamW's decoupled decay.", low=0.0, high=1.0)
    schedule: str = setting("one-cycle", "one-cycle (warm up, then anneal) or cosine (anneal only).",
                            choices=("one-cycle", "cosine"))
    views: int = setting(30, "Augmented views per image, numbered and seeded, the same for teacher and student; "
                         "0 trains on the plain images.", low=0, high=1000)
    augmentation: float = setting(0.25, "How far a view strays from the image: at 1 it is cropped to as little as "
                                  "half, "
                                  "turned by up to 15° and brightened or darkened by up to a fifth; at 0 only "
                                  "flipped. Short schedules want little of it.", low=0.0, high=1.0)
    mixup: float = setting(0.0, "Each view is mixed with that of another training image, by a share drawn from "
                           "Beta(m, m), and so are their labels; the teacher is given the mixed images too. 0: "
                           "none; .2 is usual for labels (Zhang 2018), 1, any share alike, for soft targets (Beyer "
                           "2022).", low=0.0, high=10.0, later=True)
    precision: str = setting("auto", "Arithmetic: auto (bfloat16 where device and model gain by it, else float32), "
                             "32-true, bf16-mixed, 16-mixed (GPU).",
                             choices=("auto", "32-true", "bf16-mixed", "16-mixed"))
    seed: int = setting(0, "Seed of initial weights and data order.", low=0, high=2**31 - 1)
    device: str = setting("auto", "Where to compute.", choices=("auto", "cpu", "cuda", "mps"))
    threads: int = setting(0, "Computing threads on a processor. 0: as many as there are physical cores when the "
                           "run starts. A fixed number gives the same bits on machines with other numbers of cores.",
                           low=0, high=1024)

    def __post_init__(self) -> None:
        check(self)
        require_downsampling("input_size", self.input_size, self.image_size)
        if self.mixup and not self.views:
            raise UsageError("mixup mixes numbered views of the images, and views is 0. Set views to 1 or more, such "
                             "as 30, or mixup to 0.")
        if self.label_smoothing and self.method != "supervised":
            raise UsageError(f"label_smoothing is {self.label_smoothing:g}, but {self.method!r} learns from a teacher, "
                             "whose answers are soft already. Set it to 0.")
        if self.fold > self.folds:
            raise UsageError(f"fold is {self.fold}, but there are {self.folds}. Set it to {self.folds} at most.")
        if self.input_size == self.image_size:
            object.__setattr__(self, "input_size", 0)
        for name in ("model", "base"):
            object.__setattr__(self, name, timm_name(getattr(self, name)))

    @cached_property
    def id(self) -> str:
        """Readable prefix and a hash of all fields: equal settings are the same run folder."""
        digest = hashlib.sha256(json.dumps(hashed(self), sort_keys=True).encode()).hexdigest()[:10]
        fold = (f"fold {self.fold} of {self.folds}",) if self.fold else ()
        words = (Path(self.data.split(":", 1)[0]).stem, self.model_label, *fold, self.method)
        return "-".join([re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:24] or "x" for word in words] + [digest])

    @property
    def model_label(self) -> str:
        """The model in a few letters: `plain5`, `resnet18-first3`, `densenet121`; `explained-plain5` behind a mask."""
        names = {"plain": f"plain{self.depth}" + ("" if self.width == 16 else f"w{self.width}"),
                 "truncated": f"{self.base}-first{self.depth}"}
        return ("explained-" if self.mask_net_depth else "") + names.get(self.model, self.model)

    @cached_property
    def without_mask_net(self) -> Self:
        """The same model without a mask network in front of it."""
        rest: dict[str, Any] = {item.name: item.default for item in fields(self)
                                if item.name.startswith("mask_")}
        return replace(self, **rest)

    @cached_property
    def without_fold(self) -> Self:
        """The same run trained on the images of all folds."""
        return replace(self, folds=0, fold=0) if self.fold else self

    def fold_teachers(self, teacher: Self) -> tuple[Self, ...]:
        """The runs that a student of this spec learns from besides its teacher, one for each fold: the teacher's
        recipe without the images of that fold. Empty unless its soft targets are out-of-fold."""
        folds = 0 if self.soft_targets == IN_SAMPLE else self.folds
        return tuple(replace(teacher, folds=folds, fold=number) for number in range(1, folds + 1))

    @property
    def method_label(self) -> str:
        """The method, and its soft targets where they are not the teacher's own: `kd, out-of-fold`."""
        return self.method + ("" if self.soft_targets == IN_SAMPLE else f", {self.soft_targets}")

    @property
    def model_size(self) -> int:
        """Side in pixels of the images that the network itself computes on."""
        return self.input_size or self.image_size

    @property
    def sizes(self) -> str:
        """`96 px`, or `224 px, the model 96 px` for one that downsamples its images."""
        return f"{self.image_size} px" + (f", the model {self.input_size} px" if self.input_size else "")

    def at(self, size: int) -> Self:
        """The same model for images of another working size; it enlarges none."""
        return replace(self, image_size=size, input_size=self.input_size if self.input_size < size else 0)

    @property
    def weights_run(self) -> str:
        """Id of the run whose weights the model starts from; empty for weights from elsewhere."""
        return self.pretrained.removeprefix(OF_RUN) if self.pretrained.startswith(OF_RUN) else ""

    @property
    def needed_runs(self) -> tuple[str, ...]:
        """Ids of the runs that must have finished before this one can be trained, without fold teachers."""
        return tuple(filter(None, dict.fromkeys((self.teacher, self.weights_run))))

    @property
    def learns_outlines(self) -> bool:
        """Whether its mask network learns from the outlines of the evidence in the training images."""
        return self.mask_target == "outlines"

    def __hash__(self) -> int:
        return hash(self.id)

    def to_json(self) -> dict[str, Any]:
        """Plain values and their format version; `from_json` gives an equal spec back."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The spec that `to_json` wrote, in this version or an earlier one. Raises UsageError for unknown fields (a
        newer version's file, say)."""
        values = current_spec(values)
        known = [item.name for item in fields(cls)]
        for name in values:
            if name not in known:
                raise unknown("setting", name, known)
        return cls(**values)


def hashed(settings: Any) -> dict[str, Any]:
    """The settings of a frozen dataclass that its id is a hash of: all but later ones with their defaults."""
    idle = {item.name for item in fields(settings)
            if item.metadata.get("later") and getattr(settings, item.name) == item.default}
    return {name: value for name, value in asdict(settings).items() if name not in idle}


def require_downsampling(name: str, size: int, image_size: int) -> None:
    """Raise UsageError unless a model's input size can be made from images of the working size, or is 0 for it."""
    if size > image_size:
        raise UsageError(f"{name} is {size} px, but the images have {image_size} px: enlarging them would add no "
                         f"detail. Set it to {image_size} at most, or image_size to {size}.")
    if 0 < size < SMALLEST:
        raise UsageError(f"{name} must be 0 (the working size) or at least {SMALLEST}, not {size}.")


def check(settings: Any, of: str = "") -> None:
    """Give every field of a frozen dataclass of settings the type of its default: 0 becomes 0.0 where that is a float,
    5.0 becomes 5 where it is an int, a numpy number a plain one. So equal settings are written alike and hashed alike.

    of: what the settings are of, for the message. Raises UsageError where a value is of another type, or outside its
    range.
    """
    for item in fields(settings):
        value = getattr(settings, item.name)
        plain = _arguments(value) if item.name == "method_args" else _plain(item.name + of, value, item)
        object.__setattr__(settings, item.name, plain)


WORDS = {int: "a whole number", float: "a number", str: "text"}


def _plain(name: str, value: Any, item: Any) -> Any:
    kind = type(item.default)
    if not (isinstance(value, str) if kind is str else _is_number(value) and (kind is float or value == value // 1)):
        raise UsageError(f"{name} must be {WORDS[kind]}, not {value!r}.")
    low, high, choices = (item.metadata.get(key) for key in ("low", "high", "choices"))
    if choices and value not in choices:
        raise unknown(name, value, choices)
    if low is not None and not low <= value <= high:
        low, high, value = (f"{one}" if kind is int else f"{one:g}" for one in (low, high, kind(value)))
        raise UsageError(f"{name} must be between {low} and {high}, not {value}.")
    return _float(value) if kind is float else kind(value)


def _arguments(values: Mapping[str, Any]) -> dict[str, float]:
    """The settings of a method, in the order of their names."""
    if not all(_is_number(value) and math.isfinite(value) for value in values.values()):
        raise UsageError(f"method_args must be finite numbers, not {dict(values)}.")
    return {name: _float(value) for name, value in sorted(values.items())}


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real)


def _float(value: Any) -> float:
    """A float without negative zero, which equals 0.0 but is written otherwise."""
    return float(value) + 0.0
