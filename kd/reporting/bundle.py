"""Everything of a run as one zip: settings, log, scores, predictions, weights, figures, exports and report."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kd.errors import UsageError
from kd.store.files import atomic_write
from kd.store.runs import FINISHED, Run

# Of a run's folder: what another machine has no use for.
LEFT_OUT = ("resume.pt", "progress.json", "cancel", "teacher_outputs", "tasks")
STORED = (".npz", ".zip", ".png", ".onnx", ".safetensors", ".pt2", ".bin")  # which packing makes no smaller
README = """{id}: a run of KD Lens

spec.json         settings
events.jsonl      log of the training, one JSON object a line
summary.json      result of the training, with the versions that computed it
evaluation.json   scores on the test images
predictions.npz   logits, labels and names of the test images
weights.safetensors
probes/           maps of a few images after each epoch
appraisals/       evaluations of explanations
explanations/     saved explanations
export/           exported models
report.html       report of the distillation
{teacher}
Not for clinical use. The files contain images of the data set: pass them on only if its licence allows it.
"""


def files(run: Run) -> Iterator[Path]:
    """The files of a run that are packed, relative to its folder, by name."""
    for path in sorted(run.path.rglob("*")):
        relative = path.relative_to(run.path)
        if path.is_file() and not any(part in LEFT_OUT or part.startswith(".") for part in relative.parts):
            yield relative


def packed_size(run: Run) -> int:
    """Bytes of the files that are packed, unpacked."""
    return sum((run.path / file).stat().st_size for file in files(run))


def write(run: Run, target: IO[bytes]) -> None:
    """Write the zip of a finished run. Raises UsageError for another."""
    if run.status != FINISHED:
        why = run.failure_reason or "Wait for its end, or resume it."
        raise UsageError(f"{run.id} is {run.status}, not finished. {why}")
    teacher = f"\nIts teacher is {run.spec.teacher}, a run of its own.\n" if run.spec.teacher else ""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{run.id}/README.txt", README.format(id=run.id, teacher=teacher))
        for file in files(run):
            kind = zipfile.ZIP_STORED if file.suffix in STORED else zipfile.ZIP_DEFLATED
            archive.write(run.path / file, f"{run.id}/{file.as_posix()}", kind)


def pack(run: Run, file: Path) -> Path:
    """Write the zip of a finished run to a file; returns its path. Raises UsageError for another run."""
    with atomic_write(file) as part, part.open("wb") as target:
        write(run, target)
    return file
