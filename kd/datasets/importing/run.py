"""An import from its preview to the named set: with progress, stopped at any time and gone on with later."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from kd.datasets.base import Listed, SampleFiles, Skipped
from kd.datasets.importing import archives
from kd.datasets.importing.preview import ImportOptions, Preview
from kd.datasets.importing.understand import understand
from kd.datasets.named_sets import NamedSetWriter, require_free_name, step, targets
from kd.errors import Stopped, UsageError
from kd.paths import Paths
from kd.progress import ProgressCallback, no_progress
from kd.store.task_folder import TaskFolder
from kd.version import VERSION

OWNERS = ".imports"


def import_set(source: str, name: str, options: ImportOptions, paths: Paths, progress: ProgressCallback = no_progress,
               should_stop: Callable[[], bool] = lambda: False) -> tuple[Path, Preview]:
    """The folder of the new set, and what was understood of its source, with what could not be read among its
    `skipped`.

    Stopped, it leaves what is written; the same call goes on with it, another one begins anew. Raises UsageError and
    Stopped.
    """
    require_free_name(name, paths)
    preview = understand(source, options, paths, progress, should_stop)
    with archives.kept(preview.unpacked):
        place, bad = _written(source, name, options, preview, paths, progress, should_stop)
    if preview.unpacked is not None:
        shutil.rmtree(preview.unpacked, ignore_errors=True)
    return place, replace(preview, skipped=(*preview.skipped, *bad))


def _written(source: str, name: str, options: ImportOptions, preview: Preview, paths: Paths, progress: ProgressCallback,
             should_stop: Callable[[], bool]) -> tuple[Path, list[Skipped]]:
    """The folder of the new set, and what could not be read."""
    places = targets(preview.images)
    writer = NamedSetWriter(name, paths, _plan(source, options, preview, places))
    done = writer.written()
    missing = [number for number, place in enumerate(places) if place not in done]
    bad: list[Skipped] = []
    for count, (number, found) in enumerate(zip(missing, preview.read(missing), strict=True)):
        if should_stop():
            raise Stopped
        if count % 16 == 0:
            progress("Importing", (len(places) - len(missing) + count) / max(1, len(places)))
        if isinstance(found, SampleFiles):
            writer.add(places[number], found)
        else:
            bad.append(found)
    lost = {one.name for one in bad}
    kept = [(place, image) for place, image in zip(places, preview.images, strict=True) if image.name not in lost]
    _require_some(kept, bad, writer)
    info = replace(preview.info, title=name.replace("_", " ").replace("-", " ").capitalize())
    reasons = Counter(one.reason for one in (*bad, *preview.skipped))
    private = preview.kind in ("dicom", "nifti")
    history = step("import", source=preview.kind if private else f"{preview.kind} {Path(source).name}",
                   images=len(kept), skipped=sum(reasons.values()), notes=list(preview.notes), **preview.facts)
    place = writer.finish([(target, image.group) for target, image in kept], info, [history])
    progress("Importing", 1.0)
    return place, bad


def _plan(source: str, options: ImportOptions, preview: Preview, places: Sequence[str]) -> str:
    """Digest of all that decides which pixels are written where: the source, what was said of it, and by which program
    and decoders (in the facts) it is read."""
    path = Path(source).expanduser()
    stamp = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []
    images = [(place, image.name, image.group) for place, image in zip(places, preview.images, strict=True)]
    text = json.dumps([VERSION, str(path.absolute()), stamp, asdict(options), dict(preview.facts), images])
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def owner_of(name: str, paths: Paths) -> TaskFolder:
    """The folder of the task that imports a set of this name. Raises UsageError for a name that cannot be one."""
    require_free_name(name, paths)
    return TaskFolder(paths.data / OWNERS / name, name)


def owners(paths: Paths) -> list[TaskFolder]:
    """The folders of all imports that were ever asked for here, latest first."""
    found = sorted((paths.data / OWNERS).glob("*/tasks/import.json"), key=lambda path: -path.stat().st_mtime)
    return [TaskFolder(path.parent.parent, path.parent.parent.name) for path in found]


def _require_some(kept: list[tuple[str, Listed]], bad: list[Skipped], writer: NamedSetWriter) -> None:
    if len({image.label for _, image in kept}) < 2:
        first = f" First {bad[0].name}: {bad[0].reason}." if bad else ""
        writer.discard()
        raise UsageError(f"Only {len(kept)} images could be read, of fewer than two classes; {len(bad)} could "
                         f"not.{first} Nothing was written.")
