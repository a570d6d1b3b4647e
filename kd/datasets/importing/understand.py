"""What a source is: folders, zip or tar, .npz, a table of labels, DICOM or NIfTI; nothing is written."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from kd.datasets import npz_arrays, splits
from kd.datasets.base import DatasetInfo, Listed, SampleFiles, Skipped, Source
from kd.datasets.decode import UnreadableImage
from kd.datasets.image_folder import folder, layout, names, patients, zip_archive
from kd.datasets.image_folder.layout import Tree
from kd.datasets.image_folder.metadata import title_of
from kd.datasets.image_folder.source import class_folders
from kd.datasets.importing import archives, dicom_files, dicom_pixels, nifti_files
from kd.datasets.importing.dicom_display import Window
from kd.datasets.importing.png import png
from kd.datasets.importing.preview import ImportOptions, Preview, arranged
from kd.datasets.importing.tables import preview_table
from kd.datasets.label_table import columns_of, label_of, read_table
from kd.datasets.limits import LIMITS
from kd.datasets.medmnist import open_medmnist
from kd.datasets.places import require_place
from kd.errors import Stopped, UsageError
from kd.paths import Paths
from kd.progress import ProgressCallback, no_progress

_TABLES = (".csv", ".tsv")


def understand(source: str, options: ImportOptions, paths: Paths, progress: ProgressCallback = no_progress,
               should_stop: Callable[[], bool] = lambda: False) -> Preview:
    """A preview of what importing `source` would write. source: a path on this machine. Raises UsageError that says
    what is there instead, WhichFolder where the same classes lie in several folders, and Stopped."""
    path = Path(os.path.abspath(os.path.expanduser(source.strip()))) if source.strip() else Path("/nowhere")
    if not path.exists():
        raise UsageError(f"There is nothing at {source!r}: give a folder, a .zip or .tar, an .npz, a .csv of labels, "
                         "or DICOM or NIfTI files.")
    require_place(path)
    progress("Looking at the files", 0.0)
    if path.is_dir() or _is_volume(path):
        return arranged(_folder(path, options, paths, progress, should_stop), options)
    if path.suffix.lower() in _TABLES:
        return arranged(preview_table(path, options.without), options)
    if path.suffix.lower() == ".npz":
        return arranged(_npz(path, paths), options)
    if path.suffix.lower() == ".zip" and not _holds_scans(path):
        tree = _chosen(zip_archive.scan(path), options)
        return arranged(_images("zip", class_folders(path.stem, str(path), tree, None, "", str), tree), options)
    if path.suffix.lower() == ".zip" or archives.is_tar(path):
        place, left = archives.unpacked(path, paths, should_stop)
        found = _folder(place, options, paths, progress, should_stop)
        title = title_of(path.name.split(".")[0])
        return arranged(replace(found, skipped=(*found.skipped, *left), info=replace(found.info, title=title),
                                unpacked=place), options)
    raise UsageError(f"{path.name} is nothing that is read: give a folder, a .zip or .tar, an .npz, a .csv of labels, "
                     "or DICOM or NIfTI files.")


def _is_volume(path: Path) -> bool:
    return path.is_file() and (nifti_files.is_nifti(path.name) or dicom_files.is_dicom(path))


def _holds_scans(path: Path) -> bool:
    """Whether most files of a zip are DICOM or NIfTI, which are not read in place."""
    with npz_arrays.opened(path) as archive:
        held = [name for name in archive.namelist() if not name.endswith("/")]
    scans = sum(nifti_files.is_nifti(name) or Path(name).suffix.lower() in dicom_files.ENDINGS for name in held)
    return 2 * scans > len(held)


def _folder(path: Path, options: ImportOptions, paths: Paths, progress: ProgressCallback,
            should_stop: Callable[[], bool]) -> Preview:
    root = path if path.is_dir() else path.parent
    dicom, nifti, images = _kinds(root) if path.is_dir() else _single(path)
    if dicom and len(dicom) >= max(len(nifti), images):
        return _dicom(root, dicom, options, paths, progress, should_stop)
    if nifti and len(nifti) >= images:
        return _nifti(root, nifti, options, progress, should_stop)
    tree = folder.scan(root)
    if options.labels:
        raise UsageError("For images in a folder, give the table itself as the source: it names the images below its "
                         "folder.")
    beside = folder.masks_beside(path)
    masks = folder.scan(beside) if beside.is_dir() else None
    chosen = _chosen(tree, options)
    return _images("folder", class_folders(path.name, str(path), chosen, masks, "", str), chosen)


def _single(path: Path) -> tuple[list[str], list[str], int]:
    return ([], [path.name], 0) if nifti_files.is_nifti(path.name) else ([path.name], [], 0)


def _kinds(root: Path) -> tuple[list[str], list[str], int]:
    """DICOM and NIfTI files below a folder, and how many images."""
    dicom: list[str] = []
    nifti: list[str] = []
    images = 0
    for above, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not names.is_hidden(name))
        for name in sorted(files):
            place = Path(above, name)
            if names.is_hidden(name) or name.upper() == "DICOMDIR":
                continue
            images += names.is_image(name)
            if nifti_files.is_nifti(name):
                nifti.append(place.relative_to(root).as_posix())
            elif not names.is_image(name) and dicom_files.is_dicom(place):
                dicom.append(place.relative_to(root).as_posix())
            if len(dicom) + len(nifti) + images > LIMITS.entries:
                raise UsageError(f"{root} holds more than {LIMITS.entries} files.")
    return dicom, nifti, images


def _chosen(tree: Tree, options: ImportOptions) -> Tree:
    """A tree of the folder that is meant, without those to leave out."""
    def keep(name: str) -> bool:
        inside = not options.folder or f"{name}/".startswith(f"{options.folder.strip('/')}/")
        return inside and not any(f"{name}/".startswith(f"{one.strip('/')}/") for one in options.without)

    if not options.folder and not options.without:
        return tree
    kept = replace(tree, images=tuple(filter(keep, tree.images)), folders=tuple(filter(keep, tree.folders)),
                   sidecars=tuple(filter(keep, tree.sidecars)), tables=tuple(filter(keep, tree.tables)))
    if not kept.images:
        raise UsageError(f"Nothing is left with folder {options.folder!r} and without {', '.join(options.without)!r}.")
    return kept


def _images(kind: str, source: Source, tree: Tree) -> Preview:
    listed = source.listing()
    reader = source.files
    if reader is None:
        raise UsageError(f"{source.name} has no image files.")

    def read(numbers: Sequence[int]) -> Iterator[SampleFiles | Skipped]:
        wanted = [listed[number].name for number in numbers]
        for name, found in zip(wanted, reader(wanted), strict=True):
            yield found or Skipped(name, "it can no longer be read")

    masks = layout.parse(tree, source.name).inner.of
    return Preview(kind, tuple(listed), read, source.info, len(masks) if masks else 0, _own_notes(source),
                   source.report.warnings, tuple(Skipped(*pair) for pair in source.report.skipped),
                   {"files": source.total})


def _own_notes(source: Source) -> tuple[str, ...]:
    """Notes of a source but those on how it would be cut into parts: an import cuts anew."""
    return tuple(note for note in source.report.notes if not splits.is_split_note(note))


def _npz(path: Path, paths: Paths) -> Preview:
    source = open_medmnist(path, paths)
    listed = source.listing()

    def read(numbers: Sequence[int]) -> Iterator[SampleFiles | Skipped]:
        for start in range(0, len(numbers), 256):
            wanted = [listed[number].name for number in numbers[start:start + 256]]
            assert source.originals is not None, "arrays have their own resolution"
            for name, pixels in zip(wanted, source.originals(wanted, 4096), strict=True):
                yield Skipped(name, "it holds no finite number") if pixels is None else SampleFiles(
                    png(pixels), ".png")

    return Preview("npz", tuple(listed), read, source.info, 0, _own_notes(source), source.report.warnings,
                   facts={"rows": source.total})


def _parsed(root: Path, files: Sequence[str], options: ImportOptions) -> tuple[dict[str, Listed], list[str]]:
    """Class, part and patient of scans by their folders, as images are read; or from a table of labels."""
    kept = [name for name in files if not any(f"{name}/".startswith(f"{one.strip('/')}/") for one in options.without)
            and (not options.folder or name.startswith(f"{options.folder.strip('/')}/"))]
    if options.labels:
        listed, warnings = _by_table(kept, Path(os.path.expanduser(options.labels)))
        return listed, warnings
    folders = sorted({"/".join(name.split("/")[:depth]) for name in kept for depth in range(1, name.count("/") + 1)})
    tables = tuple(sorted(place.relative_to(root).as_posix() for place in root.glob("*.[ct]sv")))
    tree = Tree(tuple(sorted(kept)), tuple(folders), (), 0, (), lambda: nullcontext(lambda name: root / name),
                tables=tables)
    found = layout.parse(tree, root.name)
    listed = {entry.name: Listed(entry.name, found.classes[entry.label], entry.part, entry.group)
              for entry in found.entries}
    return listed, [*found.notes]


def _by_table(files: Sequence[str], path: Path) -> tuple[dict[str, Listed], list[str]]:
    """What a table says of scans; a line names a file, or the folder of a patient's files."""
    if not path.is_file():
        raise UsageError(f"There is no table {path}.")
    table = read_table(path.read_bytes(), path.name)
    called: dict[str, set[str]] = defaultdict(set)
    for name in files:
        pieces = name.split("/")
        above = {*pieces[:-1], *("/".join(pieces[:depth]) for depth in range(1, len(pieces)))}
        for cell in (name, pieces[-1], nifti_files.stem_of(Path(pieces[-1]).stem), Path(pieces[-1]).stem, *above):
            called[cell].add(name)
    columns = columns_of(table, called.__contains__)
    if columns is None:
        raise UsageError(f"{table.name} must have a column that names the files or their folders, and one of labels.")
    listed: dict[str, Listed] = {}
    for row in table.rows:
        group = row[columns.patient] if columns.patient else None
        part = names.part_of(row[columns.part]) if columns.part else None
        for name in called.get(row[columns.file], ()):
            said = Listed(name, label_of(row, columns), part, group or row[columns.file])
            if listed.setdefault(name, said).label != said.label:
                raise UsageError(f"{table.name} says of {name} both {listed[name].label} and {said.label}: leave one "
                                 "line.")
    left = len(files) - len(listed)
    return listed, [f"{left} files are not in {table.name} and were left out."] if left else []


def _dicom(root: Path, files: Sequence[str], options: ImportOptions, paths: Paths, progress: ProgressCallback,
           should_stop: Callable[[], bool]) -> Preview:
    window = Window.of(options.window)
    listed, notes = _parsed(root, files, options)
    notes = [note for note in notes if not patients.is_patients_note(note)]  # DICOM says itself whose image it is
    headers, bad = [], []
    salt = dicom_files.salt_of(paths)
    wanted = [name for name in files if name in listed]
    for start in range(0, len(wanted), 200):
        if should_stop():
            raise Stopped
        progress("Reading headers", start / len(wanted))
        found, skipped = dicom_files.read_headers(root, wanted[start:start + 200], salt)
        headers += found
        bad += skipped
    slices = dicom_files.slices_of(headers)
    images = tuple(replace(listed[one.relative], name=one.name, group=one.patient) for one in slices)
    warnings = []
    if burnt := sum(one.burnt_in for one in headers):
        warnings.append(f"{burnt} files say that marks or names are burnt into their pixels: look at them.")
    if overlay := sum(one.overlay for one in headers):
        notes.append(f"{overlay} files have overlays, which are not drawn.")
    modalities = sorted({one.modality for one in headers if one.modality})
    notes.append(f"{len(headers)} DICOM files of {len({one.series for one in headers})} series and "
                 f"{len({one.patient for one in headers})} patients, {', '.join(modalities) or 'no modality'}; window: "
                 f"{window.name}. Only pixels and a salted hash of the patient's id are kept.")

    def read(numbers: Sequence[int]) -> Iterator[SampleFiles | Skipped]:
        return dicom_files.read_slices([slices[number] for number in numbers], window)

    by = dicom_pixels.decoders()
    # Which is hashed with the set: of lossy pixels the decoder's version belongs to the fingerprint.
    origin = f"DICOM files with lossy compression, decoded by {by}" if any(
        one.lossy for one in headers) else "DICOM files"
    return Preview("dicom", images, read, DatasetInfo("DICOM images", origin, flip=False), 0, tuple(notes),
                   tuple(warnings), tuple(bad), {"files": len(headers), "window": options.window, "decoders": by})


def _nifti(root: Path, files: Sequence[str], options: ImportOptions, progress: ProgressCallback,
           should_stop: Callable[[], bool]) -> Preview:
    plain = {name: f"{nifti_files.stem_of(name)}.nii" for name in files}
    back = {short: name for name, short in plain.items()}
    masks, volumes = _volume_masks(list(back))
    by_mask = _labels_are_masks(volumes, masks)
    listed: dict[str, Listed] = {}
    notes: list[str] = []
    if by_mask:
        listed = {short: Listed(short, "", None, nifti_files.stem_of(short)) for short in volumes}
        notes.append("The volumes lie in no class folders: a slice's class is whether its mask is drawn.")
    else:
        found, notes = _parsed(root, volumes, options)
        listed = {short: replace(one, group=one.group or nifti_files.stem_of(short)) for short, one in found.items()}
    slices, images, bad = [], [], []
    for number, (short, one) in enumerate(sorted(listed.items())):
        if should_stop():
            raise Stopped
        progress("Reading volumes", number / len(listed))
        try:
            own = nifti_files.plan_volume(root / back[short], root / back[masks[short]] if short in masks else None,
                                          nifti_files.stem_of(short).replace("/", "-"), options.plane, options.every)
        except UnreadableImage as error:
            bad.append(Skipped(short, str(error)))
            continue
        slices += own
        images += [Listed(each.name, one.label or ("drawn" if each.drawn else "not drawn"), one.part, one.group)
                   for each in own]
    notes.append(f"{len(listed) - len(bad)} NIfTI volumes as {options.plane} slices in canonical orientation, each "
                 "volume's in one part; black and white are its 0.5 and 99.5 percentiles.")
    plane = options.plane

    def read(numbers: Sequence[int]) -> Iterator[SampleFiles | Skipped]:
        return nifti_files.read_slices([slices[number] for number in numbers], plane)

    return Preview("nifti", tuple(images), read, DatasetInfo("NIfTI slices", "NIfTI volumes", flip=False),
                   sum(one.mask is not None for one in slices), tuple(notes), (), tuple(bad),
                   {"volumes": len(listed), "plane": plane, "every": options.every})


def _volume_masks(shorts: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The mask of each volume that has one, and the volumes."""
    from kd.datasets.image_folder.inner_masks import find_masks

    tree = Tree(tuple(shorts), (), (), 0, (), lambda: nullcontext(lambda name: b""))
    inner = find_masks({name: name.replace("labelsTr/", "masks/").replace("imagesTr/", "images/").split("/")
                        for name in shorts}, tree)
    return {name: own[0] for name, own in inner.of.items()}, [name for name in shorts if name not in inner.files]


def _labels_are_masks(volumes: Sequence[str], masks: dict[str, str]) -> bool:
    """Whether volumes lie in no class folders but have masks."""
    folders = {name.rpartition("/")[0] for name in volumes}
    return bool(masks) and (len(folders) == 1 or all(names.is_neutral(Path(one).name) for one in folders))


