"""Data: a data set's images, classes, splits, source and limitations."""

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from kd import datasets
from kd.datasets import Dataset
from kd.datasets.named_sets import history_of
from pages.parts.data import dataset_picker, gallery, importing
from pages.parts.data.audit import audit_section
from pages.parts.data.decoded_cache import decoded_cache
from pages.parts.data.repair import history_lines, repair_section
from pages.parts.shared import layout, links
from pages.parts.shared.context import store, usage_errors
from pages.parts.shared.format import code, plain, tick
from pages.parts.shared.theme import CHART, tidy

OPENED = "data_opened"
SHADES = {"train": "#2A788E", "val": "#7AD151", "test": "#414487"}  # viridis: apart also in grey


def main() -> None:
    """Draw the page."""
    layout.page("Data")
    st.title("Data", anchor=False)
    chosen = None
    with usage_errors():
        chosen = dataset_picker.choose(store().paths)
    importing.importing(store().paths)
    with usage_errors():
        if chosen:
            data = opened(*chosen)
            heading(data)
            if found := audit_section(data):
                repair_section(data, found)
            remarks(data)
            counts(data)
            reading(data)
            st.subheader("Images", anchor=False)
            gallery.browse(data)
    decoded_cache()


def opened(reference: str, size: int) -> Dataset:
    """The data set, cached; its first decoding shows a progress bar."""
    key = (reference, size)
    kept = st.session_state.get(OPENED)
    if kept and kept[0] == key:
        return kept[1]
    slot = st.empty()
    reported = -1

    def report(phase: str, share: float) -> None:
        nonlocal reported
        if int(share * 100) != reported:  # a message per image would cost more than the image
            reported = int(share * 100)
            slot.progress(min(1.0, share), text=f"{phase} · {reported} %")

    with st.spinner("Opening the data set …", show_time=True):
        data = datasets.open_dataset(reference, size, store().paths, report)
    slot.empty()
    st.session_state[OPENED] = (key, data)
    return data


def heading(data: Dataset) -> None:
    """Title and the next step."""
    total = sum(len(split) for split in data.splits.values())
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(gap=None, width="content"):
            st.subheader(plain(data.info.title), anchor=False)
            st.caption(f"{total:,} images · {len(data.classes)} classes · {data.size} px{_patients(data)}")
        with st.container(horizontal=True, width="content"):
            if st.button("Reload", icon=":material/refresh:", help="After files have changed on disk."):
                del st.session_state[OPENED]
                st.rerun()
            if links.exists("pages/distill.py") and st.button("Distil from this data set", type="primary",
                                                              icon=":material/science:"):
                st.switch_page("pages/distill.py", query_params={"data": data.reference})


def remarks(data: Dataset) -> None:
    """What is wrong with the files, and known limitations."""
    for warning in data.report.warnings:
        st.warning(plain(warning), icon=":material/warning:")
    if data.info.caveats:
        st.info("**Known limitations of this data set**  \n" + "  \n".join(map(plain, data.info.caveats)),
                icon=":material/info:")


def _patients(data: Dataset) -> str:
    known = [split.groups for split in data.splits.values() if split.groups is not None]
    return f" · {len({group for groups in known for group in groups}):,} patients" if known else ""


def counts(data: Dataset) -> None:
    """Images per class and split, as a table and as bars."""
    frame = as_frame(data)
    with st.grid(2, min_column_width=340):
        long = max(map(len, data.classes)) > 24  # such a name would push the numbers out of sight
        st.dataframe(frame, alt="Images per class and split",
                     column_config={"class": st.column_config.TextColumn(width=160 if long else None)})
        st.plotly_chart(chart(data), config=CHART, key="counts", alt="Images per class and split, stacked")


def as_frame(data: Dataset) -> pd.DataFrame:
    """One row a class, one column a split, and the sums."""
    frame = pd.DataFrame({part: split.counts(len(data.classes)) for part, split in data.splits.items()},
                         index=pd.Index(data.classes, name="class"))
    frame["all"] = frame.sum(axis=1)
    frame.loc["all"] = frame.sum()
    return frame


def chart(data: Dataset) -> go.Figure:
    """Horizontal bars, one a class, stacked by split."""
    figure, ticks = go.Figure(), [tick(name, 28) for name in data.classes]
    for part, split in data.splits.items():
        figure.add_bar(y=ticks, x=split.counts(len(data.classes)), name=part, orientation="h",
                       marker_color=SHADES[part])
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed")
    lines = sum(max(2, 1 + name.count("<br>")) for name in ticks)
    return tidy(figure, height=max(220, 90 + 17 * lines)).update_layout(hovermode="closest")


def reading(data: Dataset) -> None:
    """Where the set is from, what was done to its images, and which could not be used."""
    skipped = data.report.skipped
    label = "Source, licence, and how the images were read"
    with st.expander(label + (f" · {len(skipped):,} skipped" if skipped else "")):
        st.markdown(f"**Source**  {plain(data.info.source)}  \n**Licence**  {plain(data.info.licence)}  \n"
                    f"**Reference**  {code(data.reference)}  \n**Fingerprint**  `{data.fingerprint}`")
        for line in history_lines(history_of(Path(data.reference)), Path(data.reference)):
            st.markdown(f"- {plain(line)}")
        for note in data.report.notes:
            st.markdown(f"- {plain(note)}")
        if skipped:
            st.markdown("**Files that could not be used**")
            st.dataframe(pd.DataFrame(list(skipped), columns=["File", "Reason"]), hide_index=True, height="content"
                         if len(skipped) < 10 else 320)


main()
