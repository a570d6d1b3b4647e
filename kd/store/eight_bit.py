"""The 8-bit form of a finished run (`kd export RUN --int8`), as a run of its own.

Its weights are the ONNX file among the run's exports; what is computed of it lies in `<run>/int8/`. It counts as long
as its test answers there are of that very file.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from kd.errors import UsageError
from kd.spec import RunSpec
from kd.store.files import read_npz, read_object, write_json
from kd.store.runs import FINISHED, Run, Store

ENDING = ".int8"  # of its id, behind the run's
EXPORT, FILE, REPORT = Path("export/onnx"), "model.int8.onnx", "export.json"
STAMP, MAPS = "weights.json", "maps.npz"
TRAINING = ("start_loss", "targets", "initial_weights", "mask")  # of a summary: the run's, not its form's


class EightBit(Run):
    """A handle on the 8-bit form of a run. path: `<run>/int8`.

    It answers what a finished run does. Its spec is the run's without a mask network, which is inside of the file.
    """

    @property
    def source(self) -> Run:
        """The run that was quantised."""
        return Run(self.path.parent)

    @property
    def id(self) -> str:
        return self.source.id + ENDING

    @cached_property
    def spec(self) -> RunSpec:
        return self.source.spec.without_mask_net

    @property
    def label(self) -> str:
        return f"{self.source.label}, 8-bit"

    @property
    def weights(self) -> Path:
        return self.source.path / EXPORT / FILE

    @property
    def details(self) -> dict[str, Any]:
        """What is known of the export that it belongs to; empty where there is none."""
        return read_object(self.source.path / EXPORT / REPORT)

    @property
    def figures(self) -> dict[str, Any]:
        """What it is worth, beside float32: `kd.export.int8.Int8Report.to_json`."""
        found: dict[str, Any] = self.details["int8"]
        return found

    @property
    def has_class_maps(self) -> bool:
        """Whether its file gives class maps, from which Grad-CAM of the last stage follows."""
        return "class_maps" in self.details.get("outputs", ())

    @property
    def maps(self) -> dict[str, NDArray[Any]]:
        """The class maps of the images on which it agrees least with float32; empty where there are none."""
        return read_npz(self.path / MAPS) or {}

    @property
    def summary(self) -> dict[str, Any] | None:
        """The run's, with its own test scores and without what warnings of the training rest on."""
        of_run, own = self.source.summary or {}, self.evaluation or {}
        return {**{key: value for key, value in of_run.items() if key not in TRAINING},
                **{key: own[key] for key in ("accuracy", "macro_f1") if key in own}}

    @property
    def status(self) -> str:
        return FINISHED

    def discard(self) -> None:
        """Make it count no more, before another one is written."""
        (self.path / STAMP).unlink(missing_ok=True)

    def complete(self, digest: str) -> None:
        """Record that its answers and maps are written. digest: of the file that they are of."""
        write_json(self.path / STAMP, {"weights": digest})

    def counts(self) -> bool:
        """Whether its file is there and its answers are of it."""
        stamp, report = read_object(self.path / STAMP).get("weights"), self.details.get("int8")
        return (bool(stamp) and isinstance(report, dict) and report.get("weights") == stamp and self.weights.exists()
                and not self.damage)


def form_of(run: Run) -> EightBit:
    """The handle on a run's 8-bit form, whether there is one or not."""
    return EightBit(run.path / "int8")


def eight_bit_of(run: Run) -> EightBit | None:
    """A run's 8-bit form, or None where there is none."""
    form = form_of(run)
    return form if form.counts() else None


def with_forms(runs: list[Run]) -> list[Run]:
    """The runs, each with its 8-bit form behind it where it has one."""
    return [one for run in runs for one in (run, eight_bit_of(run)) if one]


def run_or_form(store: Store, name: str) -> Run:
    """The run with this id or beginning of one (`Store.__getitem__`), or with `.int8` behind it its 8-bit form. Raises
    UsageError where there is none."""
    if not name.endswith(ENDING):
        return store[name]
    run = store[name.removesuffix(ENDING)]
    if (form := eight_bit_of(run)) is None:
        raise UsageError(f"{run.id} has no 8-bit form yet. Make it: python -m kd export {run.id} --int8")
    return form
