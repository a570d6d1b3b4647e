"""The image of `--image`: an image file, or a frame of a DICOM file, whose maps can be written as DICOM (`--dicom`)."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kd.cli.progress import say
from kd.errors import UsageError
from kd.store.runs import Run, Store

if TYPE_CHECKING:
    from kd.datasets.importing.dicom_image import DicomImage
    from kd.export.dicom.maps import NamedMap

FIGURE = 512  # pixels a side of an image in a figure, at most


@dataclass(frozen=True, eq=False)
class GivenImage:
    """working: [S, S, 3], as the run's models are given it. shown: the same at its own resolution, for figures. dicom:
    what it was read from, where that is DICOM; folder: for its maps as DICOM, where they are asked for."""

    working: NDArray[np.uint8]
    shown: NDArray[np.uint8]
    dicom: "DicomImage | None" = None
    folder: Path | None = None
    keep_patient: bool = False

    def save_dicom(self, maps: "Callable[[], Sequence[NamedMap]]") -> None:
        """Write the maps as DICOM where that is asked for. Raises UsageError where a file is there already."""
        if self.folder is None or self.dicom is None:
            return
        from kd.export.dicom.maps import write

        paths = write(maps(), self.dicom, self.folder, self.keep_patient)
        say(f"DICOM: {len(paths)} file{'s' if len(paths) > 1 else ''} in {self.folder}")


def read_image(args: Namespace, run: Run, store: Store) -> GivenImage:
    """The image of `--image` at the run's working size. Raises UsageError, also for DICOM's flags with another image
    and for maps that cannot be written as DICOM: before anything is computed."""
    from kd.datasets.decode import decode, read_original
    from kd.datasets.importing.dicom_image import is_dicom, read_dicom, window_of

    path, maps = Path(args.image), getattr(args, "dicom", None)
    keep = bool(getattr(args, "keep_patient", False))
    if keep and not maps:
        raise UsageError("--keep-patient is for maps as DICOM: name their folder, --dicom DIR.")
    if not is_dicom(path):
        _require_no_dicom(args, maps)
        return GivenImage(decode(path, run.spec.image_size), read_original(path, FIGURE))
    window = args.window or window_of(run.spec.data, store.paths) or "file"
    dicom = read_dicom(path, 1 if args.frame is None else args.frame, window)
    if maps:
        from kd.export.dicom.reference import require_writable

        require_writable(dicom, keep)
    content = dicom.png()
    return GivenImage(decode(content, run.spec.image_size), read_original(content, FIGURE), dicom,
                      Path(maps) if maps else None, keep)


def _require_no_dicom(args: Namespace, maps: str | None) -> None:
    if maps:
        raise UsageError(f"{args.image} is no DICOM file, so its maps cannot be written as DICOM. Give the DICOM file "
                         "itself as --image: of what a set was imported from, it keeps pixels alone.")
    if args.frame is not None or args.window:
        raise UsageError(f"{args.image} is no DICOM file: --frame and --window are for these.")
