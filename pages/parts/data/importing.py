"""Import of data from elsewhere: what is this, and is that right?"""

import io
from dataclasses import asdict
from itertools import islice

import pandas as pd
import streamlit as st

from kd.datasets.base import SampleFiles
from kd.datasets.image_folder.layout import WhichFolder
from kd.datasets.importing.preview import ImportOptions, Preview
from kd.datasets.importing.run import owner_of, owners
from kd.datasets.importing.understand import understand
from kd.errors import UsageError
from kd.jobs import tasks
from kd.jobs.queue import queue
from kd.paths import Paths
from kd.store.runs import FAILED, FINISHED
from kd.store.task_folder import TaskFolder
from pages.parts.data import dataset_picker
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import code, plain
from pages.parts.shared.typed_paths import require_allowed
from pages.parts.shared.typed_paths import require_allowed

TASK = "import"
SOURCE, RECENT, SEEN, FOLDER, NAME = "import_source", "import_recent", "import_seen", "import_folder", "import_name"
LOOKED = "import_looked"
ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".csv", ".npz")
WINDOWS = ("file", "own", "lung", "bone", "brain", "soft tissue", "abdomen", "mediastinum")
_SHOWN, _SAID = 8, 200


def importing(paths: Paths) -> None:
    """The section: running imports, the source, what was understood of it, and the button that writes it."""
    running = [owner for owner in owners(paths) if tasks.status(owner, TASK).active]
    opened = bool(running) or SEEN in st.session_state or st.session_state.get(LOOKED, False)
    with st.expander("Import from elsewhere", icon=":material/move_to_inbox:", expanded=opened):
        for owner in running:
            _progress(owner)
        _ended(paths)
        with usage_errors():
            _source(paths)
        seen = st.session_state.get(SEEN)
        if seen:
            _answer(seen[0], seen[1], paths)


def _source(paths: Paths) -> None:
    """Where the data are: a path, a recent source, or something in the data folder that is no set yet."""
    if known := _known(paths):
        st.selectbox("Recent sources, and files in the data folder", known, index=None, key=RECENT, on_change=_take)
    with st.form("import_look", border=False):
        source = st.text_input("Source", key=SOURCE, placeholder="/data/download.zip",
                               help="A folder, .zip or .tar, an .npz, a .csv with paths and labels, or DICOM or NIfTI "
                                    "files on this machine.").strip()
        with st.expander("Where that is not enough"):
            with st.container(horizontal=True, vertical_alignment="bottom"):
                folder = st.text_input("Only this folder", key=FOLDER, width=200, help="Of several editions in the "
                                       "source.")
                labels = st.text_input("Table of labels", key="import_labels", width=200, help="For DICOM and NIfTI: a "
                                       ".csv that names files, or the folders of patients, and their classes.")
            with st.container(horizontal=True, vertical_alignment="bottom"):
                window = st.selectbox("Window (DICOM)", WINDOWS, key="import_window", accept_new_options=True, width=150,
                                      help="A name, or centre,width.")
                plane = st.selectbox("Plane (NIfTI)", ("axial", "coronal", "sagittal"), key="import_plane", width=130)
                every = st.number_input("Every … slice", 1, 50, 1, key="import_every", width=140)
            with st.container(horizontal=True, vertical_alignment="bottom"):
                test = st.number_input("Test share", 0.05, 0.5, 0.2, 0.05, key="import_test", width=140)
                val = st.number_input("Validation share", 0.05, 0.5, 0.1, 0.05, key="import_val", width=140)
                resplit = st.checkbox("Cut all parts anew, by patient", key="import_resplit")
        if st.form_submit_button("Look", icon=":material/search:", on_click=_keep_open):
            st.session_state.pop(SEEN, None)
            if not source:
                raise UsageError("Give a source first.")
            for place in (source, labels.strip()):
                require_allowed(place)
            _look(source, ImportOptions(labels.strip(), (), folder.strip(), test, val, resplit, {}, window or "file",
                                        plane or "axial", int(every)), paths)


def _known(paths: Paths) -> list[str]:
    """Sources of earlier imports, and what lies in the data folder and could be imported."""
    recent = [str(tasks.status(owner, TASK).args.get("source", "")) for owner in owners(paths)]
    here = sorted(str(path) for path in paths.data.glob("*") if path.name.lower().endswith(ENDINGS))
    return list(dict.fromkeys(path for path in [*recent, *here] if path))


def _take() -> None:
    st.session_state[SOURCE] = st.session_state[RECENT] or ""


def _keep_open() -> None:
    """Before the page is drawn, so that the answer does not stand in a section that is closed."""
    st.session_state[LOOKED] = True


def _look(source: str, options: ImportOptions, paths: Paths) -> None:
    try:
        with st.spinner("Looking at the source …", show_time=True):
            st.session_state[SEEN] = (source, understand(source, options, paths), options)
    except WhichFolder as which:
        st.error(plain(str(which)), icon=":material/help:")
        st.caption("Write one of them into “Only this folder”, under “Where that is not enough”: "
                   + ", ".join(map(code, which.choices)))


def _answer(source: str, preview: Preview, paths: Paths) -> None:
    """What was understood, with examples, and the button."""
    st.markdown(f"**What is this, and is that right?**  {len(preview.images):,} images · {len(preview.classes)} classes"
                + (f" · {preview.patients:,} patients" if preview.patients else "")
                + (f" · {preview.masks:,} masks" if preview.masks else "") + f" · {preview.kind}")
    counts = pd.DataFrame(preview.counts())
    counts.index = pd.Index([plain(label) for label in counts.index], name="class")
    st.dataframe(counts, alt="Images per class and split that would be written")
    _examples(preview)
    for note in preview.notes:
        st.markdown(f"- {plain(note)}")
    for warning in preview.warnings:
        st.warning(plain(warning), icon=":material/warning:")
    if preview.skipped:
        with st.expander(f"{len(preview.skipped):,} files that cannot be used"):
            st.dataframe(pd.DataFrame([(bad.name, bad.reason) for bad in preview.skipped[:_SAID]],
                                      columns=["File", "Reason"]), hide_index=True)
    with usage_errors(), st.form("import_write", border=False):
        name = st.text_input("Name of the new set", key=NAME, placeholder="my_set", width=300)
        renamed = _renames(preview)
        if st.form_submit_button("Import", type="primary", icon=":material/move_to_inbox:"):
            options = asdict(st.session_state[SEEN][2]) | {"rename": renamed}
            queue(paths).submit_task(owner_of(name.strip(), paths), TASK,
                                     {"source": source, "name": name.strip(), "options": options})
            del st.session_state[SEEN]
            st.rerun()


def _renames(preview: Preview) -> dict[str, str]:
    """Other names for classes, where a person wrote some."""
    with st.expander("Names of the classes"):
        given = {label: st.text_input(plain(label), label, key=f"import_class_{label}") for label in preview.classes[:40]}
    return {label: name.strip() for label, name in given.items() if name.strip() and name.strip() != label}


def _examples(preview: Preview) -> None:
    """An image of each class, as it would be written: of the middle, since the first slices of a volume show little."""
    of: dict[str, list[int]] = {label: [] for label in preview.classes[:_SHOWN]}
    for number, image in enumerate(preview.images):
        of.get(image.label, []).append(number)
    numbers = [own[len(own) // 2] for own in of.values()]
    with st.grid("auto", min_column_width=120, gap="xsmall"):
        for number, found in zip(numbers, islice(preview.read(numbers), len(numbers)), strict=False):
            if isinstance(found, SampleFiles):
                label = preview.images[number].label
                st.image(io.BytesIO(found.image), caption=plain(label), width="stretch", alt=f"An image of {label}")


def _progress(owner: TaskFolder) -> None:
    @st.fragment(run_every=1.0)
    def follow() -> None:
        state = tasks.status(owner, TASK)
        if not state.active:
            st.rerun()
        st.progress(min(1.0, max(0.0, state.share)), text=plain(f"{owner.title}: {state.phase or 'queued'}"))
        st.button("Cancel", icon=":material/stop_circle:", key=f"cancel_{owner.title}",
                  on_click=lambda: queue(store().paths).cancel(tasks.task(owner, TASK)))

    follow()


def _ended(paths: Paths) -> None:
    """How the latest import ended, with the way on."""
    for owner in owners(paths)[:1]:
        state = tasks.status(owner, TASK)
        if state.state == FINISHED and (paths.data / owner.title).is_dir():
            st.success(f"{plain(owner.title)} is imported.", icon=":material/check_circle:")
            st.button("Show it", key=f"show_{owner.title}", icon=":material/image:", on_click=dataset_picker.show,
                      args=(str(paths.data / owner.title),))
        elif not state.active and state.state != FINISHED:
            st.error(plain(f"{owner.title}: {state.reason or state.state}"), icon=":material/error:") if (
                state.state == FAILED) else st.info(f"{plain(owner.title)} was {state.state}.", icon=":material/pause_circle:")
            if st.button("Go on with it", key=f"again_{owner.title}", icon=":material/resume:"):
                queue(paths).submit_task(owner, TASK, state.args)
                st.rerun()
