"""The argument parser of `kd`: all verbs and flags, read off the dataclasses of settings."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from typing import Any

from kd.errors import UsageError
from kd.spec import TRAIN_FLAGS
from kd.version import VERSION

NOT_FLAGS = ("data", "method_args")


# Defaults in words, of sizes that `kd.experiments.working_size` recommends.
BY_FORECAST = {"image_size": "the largest up to 224 px whose training takes no more than an hour here by the forecast",
               "student_size": "96, or the given image size", "input_size": "96 for plain and truncated, else, and "
               "with a given image size, that"}


Arguments = dict[str, dict[str, Any]]


def _stage(text: str) -> int | str:
    """A stage's number, or the explainer's own."""
    try:
        return text if text == "default" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no stage: give its number, or default") from None


STAGE: Arguments = {"--stage": {"type": _stage, "default": "default", "metavar": "STAGE", "help": "Which stage, from "
                    "0, or from the end where negative; default: the last, but for sensitivity that of stride 4."}}


DICOM_IMAGE: Arguments = {
    "--frame": {"type": int, "metavar": "N", "help": "Which frame of a DICOM file, from 1 (default 1)."},
    "--window": {"metavar": "W", "help": "Its window, as of import; default: that which the run's data set was "
                 "imported with, else the file's own."}}


DICOM_MAPS: Arguments = {
    "--dicom": {"metavar": "DIR", "help": "Also write every map as a DICOM file there, for an image that is one: a "
                "fractional segmentation that a viewer lays over the image, or, without a frame of reference, a "
                "secondary capture."},
    "--keep-patient": {"action": "store_true", "help": "Copy the patient's name, id, birth date and sex and "
                       "the study's identifiers into these files, for an archive of your own. Without it they are "
                       "empty."}}


HOW: Arguments = {"--explainer": {"default": "grad-cam", "help": "How (default grad-cam)."}, **STAGE}


EVALUATE: Arguments = {
    "--explainers": {"metavar": "NAME,…", "help": "Evaluate the maps of these explainers, separated by commas; by "
                     "default their agreement and localisation."},
    "--agreement": {"action": "store_true", "help": "Agreement of teacher's and student's maps, above a baseline."},
    "--localisation": {"action": "store_true", "help": "Localisation of the evidence, where the data set has it."},
    "--evidence": {"action": "store_true", "help": "Whether the models need the evidence: decisions kept without it, "
                   "without its mirrored region and by it alone; comes with --localisation."},
    "--mask-fidelity": {"action": "store_true", "help": "Post-hoc agreement of the mask (--explainers mask): the "
                        "teacher's predictions inside the mask and outside, beside the teacher's own maps and random "
                        "masks of the same area."},
    "--faithfulness": {"action": "store_true", "help": "Insertion, deletion, ROAD, average drop, and the "
                       "randomisation of layers: a hundred forward passes per image and model."},
    "--limit": {"type": int, "default": 0, "metavar": "N", "help": "At most N test images, stratified by class; "
                "default: all."},
    "--seed": {"type": int, "default": 0, "help": "Seed of that sample (default 0)."}, **STAGE}


BESIDE: Arguments = {
    "--beside": {"metavar": "RUN,…", "help": "Up to three further students of the same data set, and RUN.int8."}}


EXPORT: Arguments = {
    "--format": {"default": "onnx", "help": "onnx (default), safetensors, or torch (torch.export)."},
    "--int8": {"action": "store_true", "help": "Also in 8-bit integers, with its accuracy, size, time, and the "
               "agreement of its class maps with float32's and the teacher's; evaluate, explain and compare take it "
               "as RUN.int8."},
    "--out": {"metavar": "DIR", "help": "Folder for the files (default export/FORMAT in the run's own)."}}


REPORT: Arguments = {
    "--out": {"metavar": "FILE", "help": "Where to write it (default report.html in the run's own folder)."}}


REPAIR: Arguments = {
    "data": {"help": "A folder, a zip or an .npz."},
    "--name": {"required": True, "metavar": "NAME", "help": "What the new set is called, below data/. The old one "
               "stays; nothing is overwritten."},
    "--split": {"default": "", "metavar": "BY", "help": "Split anew by patients or by copies: none is in two parts."},
    "--drop-copies": {"action": "store_true", "help": "Keep one image of each cluster of copies, that of the test "
                      "first, and none where their labels differ."},
    "--exclude": {"metavar": "FILE", "help": "Leave out the images that this text names, one a line."},
    "--rename": {"action": "append", "default": [], "metavar": "OLD=NEW", "help": "Another name for a class; two "
                 "classes with one name are merged. May be repeated."},
    "--test": {"type": float, "default": 0.2, "metavar": "SHARE", "help": "Of a new split (default 0.2)."},
    "--val": {"type": float, "default": 0.1, "metavar": "SHARE", "help": "Of a new split (default 0.1)."}}


IMPORT: Arguments = {
    "source": {"metavar": "SOURCE", "help": "A folder, .zip, .tar, .npz, a .csv with paths and labels, or DICOM or "
               "NIfTI files."},
    "--name": {"metavar": "NAME", "help": "What the new set is called, below data/. Nothing is overwritten."},
    "--dry-run": {"action": "store_true", "help": "Write nothing: what was understood of the source."},
    "--labels": {"default": "", "metavar": "FILE", "help": "A table that names DICOM or NIfTI files, or the folders of "
                 "patients, and their classes."},
    "--folder": {"default": "", "metavar": "DIR", "help": "Of several editions in the source, the one that is meant."},
    "--without": {"action": "append", "default": [], "metavar": "DIR", "help": "A folder to leave out; may be "
                  "repeated."},
    "--rename": {"action": "append", "default": [], "metavar": "OLD=NEW", "help": "Another name for a class; two "
                 "classes with one name are merged. May be repeated."},
    "--test": {"type": float, "metavar": "SHARE", "help": "Share of the images to test on, where the source has no "
               "test part (default 0.2)."},
    "--val": {"type": float, "metavar": "SHARE", "help": "Share to choose the best epoch by, where the source has no "
              "such part (default 0.1, or 0.15 of train)."},
    "--resplit": {"action": "store_true", "help": "Cut all parts anew, whole patients at a time."},
    "--window": {"default": "file", "metavar": "WINDOW", "help": "Of DICOM: file, own (each image's own range), lung, "
                 "bone, brain, soft tissue, abdomen, mediastinum, or centre,width (default file)."},
    "--plane": {"default": "axial", "metavar": "PLANE", "help": "Of NIfTI: axial, coronal or sagittal (default "
                "axial)."},
    "--every": {"type": int, "default": 1, "metavar": "N", "help": "Of NIfTI: every N-th slice (default 1)."}}


MANY: Arguments = {
    "--data": {"help": "A phantom's name, a folder, a zip or an .npz."},
    "--csv": {"metavar": "FILE", "help": "Write the table there as well: every number, or, where the "
              "name ends in .tex, the main ones as LaTeX."},
    "--ray": {"nargs": "?", "const": "", "metavar": "ADDRESS", "help": "Train many runs at once as Ray tasks, on this "
              "machine's cores or on the cluster at ADDRESS; --threads N: cores of each run (default 1)."}}


EXAMPLES = """examples:
  python -m kd demo
  python -m kd distill --data phantom-brain --teacher resnet18 --student plain --depth 5 --alpha 0.7 --temperature 10
  python -m kd compare STUDENT_RUN --image scan.jpg --out out/

Not for clinical use."""


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As its base, but an unknown flag leads to the help of its verb."""
        found, others = self.parse_known_args(args, namespace)
        if others:
            raise UsageError(f"Unrecognized arguments: {' '.join(others)}. See python -m kd {found.verb} --help.")
        return found

    def error(self, message: str) -> Any:
        raise UsageError(f"{message[0].upper()}{message[1:]}. See python -m kd {self.prog.split(' ')[-1]} --help."
                         .replace("kd kd", "kd"))


def parser() -> argparse.ArgumentParser:
    """All verbs and flags; the specs' flags and their help are read off the dataclasses."""
    from kd.experiments.plan import DistillSpec
    from kd.spec import RunSpec

    top = _Parser(prog="kd", description="Explainable knowledge distillation of image classifiers.",
                  epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"kd {VERSION}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    out: Arguments = {"--out": {"required": True, "metavar": "DIR",
                              "help": "Folder for the figure, the maps and the numbers."}}
    image: Arguments = {
        "--image": {"required": True, "metavar": "FILE", "help": "An image of any size and mode, or a DICOM file."},
        "--target": {"metavar": "CLASS", "help": "The class to explain; default: the predicted one."}, **DICOM_IMAGE}
    _verb(verbs, "demo", "A small distillation on drawn phantoms, with its comparison figure.",
          {"--out": {"metavar": "DIR", "help": "Folder for the figure (default out/demo)."}})
    _verb(verbs, "datasets", "The data sets at hand, and what their decoded images take on disk.", {
        "--clear-cache": {"action": "store_true", "help": "First remove the decoded images and unpacked archives that "
                          "nothing uses now. They are decoded again when they are needed."}})
    _verb(verbs, "import", "Bring images in from elsewhere as a named data set, or say what they are.", IMPORT)
    _verb(verbs, "audit", "Whether a data set can be believed, and which number a model must beat.", {
        "data": {"help": "A phantom's name, a folder, a zip or an .npz."},
        "--again": {"action": "store_true", "help": "Compute it anew, where an audit of the same content is kept."}})
    _verb(verbs, "repair", "A new named set: split anew, without copies or listed images, classes merged.", REPAIR)
    _verb(verbs, "models", "timm's models whose last features are a map, and the image sizes that they take.",
          {"pattern": {"nargs": "?", "default": ""}})
    train = _verb(verbs, "train", "Train one model from the labels.")
    train.add_argument("--data", required=True, help="A phantom's name, a folder, a zip or an .npz.")
    train.add_argument("--model", required=True, help="plain, truncated, or a timm model's name.")
    _preset(train, "no preset")
    _flags(train, (item for item in fields(RunSpec) if item.name in TRAIN_FLAGS), defaults=BY_FORECAST)
    distill = _verb(verbs, "distill", "Train teacher, control and student.")
    distill.add_argument("--data", required=True, help="A phantom's name, a folder, a zip or an .npz.")
    _preset(distill, "suggested: the one that fits data set and teacher; none: no preset")
    _flags(distill, (item for item in fields(DistillSpec) if item.name not in NOT_FLAGS), defaults=BY_FORECAST)
    _knobs(distill)
    _sweep(verbs)
    _data_efficiency(verbs)
    _verb(verbs, "evaluate", "Score a run on its test images, and its explanations on request.", {
        "run": {}, **EVALUATE})
    _verb(verbs, "explain", "Explain one image by one run.", {
        "run": {}, **image, **out, **DICOM_MAPS, **HOW,
        "--check": {"action": "store_true", "help": "Compare the raw maps with those that the package pytorch-grad-cam "
                    "makes of the same model: the greatest difference, for the CAM family."}})
    _verb(verbs, "layers", "A model read stage by stage on one image: maps, channels, linear probes.", {
        "run": {}, **image, **out,
        "--top": {"type": int, "default": 4, "help": "How many channels to name per stage (default 4)."},
        "--linear-probes": {"action": "store_true", "help": "Train the linear probes of the stages first, where the "
                            "run has none: one pass over its data."}})
    _verb(verbs, "compare", "Teacher, control and student on one image.", {
        "run": {}, **image, **out, **DICOM_MAPS, **HOW, **BESIDE})
    _verb(verbs, "export", "A run's model as a file that runs without this program, checked against torch.", {
        "run": {}, **EXPORT})
    _verb(verbs, "report", "A student's distillation as one HTML file to read, print and pass on.", {
        "run": {}, **REPORT})
    _verb(verbs, "pack", "Everything of a run as a zip, without what only resumes or caches.", {
        "run": {}, "--out": {"metavar": "FILE", "help": "Where to write it (default RUN.zip)."}})
    _verb(verbs, "runs", "All runs, latest first.")
    for name, help in (("show", "Everything about a run."), ("delete", "Remove a run."),
                       ("resume", "Go on with a run that ended early.")):
        _verb(verbs, name, help, {"run": {}})
    return top


def _verb(verbs: Any, name: str, help: str, arguments: Arguments | None = None) -> Any:
    verb = verbs.add_parser(name, help=help, description=help)
    for flag, options in (arguments or {}).items():
        verb.add_argument(flag, **options)
    verb.add_argument("--json", action="store_true", help="Print the result as one JSON object on the last line.")
    verb.add_argument("--root", metavar="DIR", help="Where checkpoints/ and data/ lie (default: this project).")
    return verb


def _flags(verb: Any, items: Iterable[Field[Any]], several: bool = False, defaults: Mapping[str, Any] = {}) -> None:
    """One flag per field, or per list of its values; a flag's default is None, so that the dataclass's default, or that
    in `defaults`, is used."""
    for item in items:
        known = defaults.get(item.name, item.default)
        default = f" (default {known})" if known != "" else ""
        verb.add_argument("--" + item.name.replace("_", "-"), default=None,
                          type=_list(type(item.default)) if several else type(item.default),
                          metavar="V,…" if several else item.name.upper(),
                          help=(item.metadata["help"] + default).replace("%", "%%"))


def _preset(verb: Any, default: str) -> None:
    from kd.experiments.presets import PRESETS

    texts = "; ".join(f"{name}: {preset.summary.rstrip('.')}" for name, preset in PRESETS.items())
    verb.add_argument("--preset", metavar="NAME",
                      help=f"Settings for what is at hand, where no flag sets them (default {default}). {texts}.")


def _sweep(verbs: Any) -> None:
    """As distill, with lists."""
    from kd.experiments.plan import DistillSpec
    from kd.experiments.sweep import AXES, TRIED

    verb = _verb(verbs, "sweep", "A distillation for every combination of settings: V,… takes several values.", {
        **MANY, "--show": {"nargs": "?", "const": "", "metavar": "ID", "help": "Train nothing: the table of an earlier "
                           "sweep; without ID, a list of all sweeps."}})
    tried = " and ".join(f"{name} {','.join(map(str, values))}" for name, values in TRIED.items())
    verb.add_argument("--grid", action="store_true", help=f"Choose α and T on validation: {tried}, as in KD-FMV's "
                      "table, where no flag gives others.")
    items = [item for item in fields(DistillSpec) if item.name not in NOT_FLAGS]
    _flags(verb, (item for item in items if item.name not in AXES), defaults=BY_FORECAST)
    _flags(verb, (item for item in items if item.name in AXES), several=True, defaults=BY_FORECAST)
    _knobs(verb, several=True)


def _data_efficiency(verbs: Any) -> None:
    """As distill, with lists of what is compared."""
    from kd.experiments import data_efficiency
    from kd.experiments.plan import DistillSpec

    verb = _verb(verbs, data_efficiency.DATA_EFFICIENCY, data_efficiency.QUESTION, {
        **MANY,
        "--out": {"metavar": "DIR", "help": "Write the figure, the table and the numbers there."},
        "--show": {"metavar": "ID", "help": "Train nothing: the result of any sweep with shares of the data."},
        "--fractions": {"type": _list(float), "metavar": "V,…", "help": "Shares of the training images (default "
                        + ",".join(f"{one:g}" for one in data_efficiency.FRACTIONS) + ")."},
        "--methods": {"type": _list(str), "metavar": "NAME,…", "help": "What students learn by beside their control "
                      f"(default {','.join(data_efficiency.METHODS)})."},
        "--unlabelled": {"type": _list(str), "metavar": "V,…", "help": "What images without labels students learn from "
                         "besides, each a student of its own: none, rest (the other training images), or a folder "
                         f"(default {','.join(data_efficiency.UNLABELLED_IMAGES)})."}})
    listed = ("method", "data_fraction", "unlabelled")
    _flags(verb, (item for item in fields(DistillSpec) if item.name not in (*NOT_FLAGS, *listed)),
           defaults={**data_efficiency.DEFAULTS, **BY_FORECAST})
    _knobs(verb)


def _list(kind: type) -> Callable[[str], list[Any]]:
    """Reads values parted by commas."""
    def read(text: str) -> list[Any]:
        try:
            return [kind(word.strip()) for word in text.split(",") if word.strip()]
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of {what} parted by commas") from None
    return read


def _knobs(verb: Any, several: bool = False) -> None:
    """One flag per hyper-parameter that any method has."""
    from kd.methods import METHODS

    meanings: dict[str, list[str]] = {}
    for name in METHODS:
        for knob, facts in METHODS[name].info.hyperparameters.items():
            meanings.setdefault(knob, []).append(f"{name}: {facts.help} Default {facts.default:g}.")
    for knob, texts in meanings.items():
        verb.add_argument("--" + knob.replace("_", "-"), dest=f"knob_{knob}", type=_list(float) if several else float,
                          metavar="V,…" if several else knob.upper(), help=" ".join(texts).replace("%", "%%"))
