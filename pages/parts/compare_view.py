"""One comparison on the screen: heat maps, probabilities, times, files to take away."""

import json

import plotly.graph_objects as go
import streamlit as st

from kd.compare import Comparison, Part
from kd.explain import Explanation, pack, protocol_line
from kd.explainers import EXPLAINERS
from kd.timing import Timing
from pages.parts.common import CHART, COLOURS, MARKS, count, percent, plain, tick, tidy, unbroken
from pages.parts.picker import Chosen
from pages.parts.pictures import MAPS, colour_bar, enlarge, heated, outline, png

HIERARCHIES = ("student", "control")


def show(comparison: Comparison, chosen: Chosen) -> None:
    """Draw everything that belongs to one comparison."""
    for note in comparison.notes:
        st.info(note, icon=":material/info:")
    st.fragment(_maps)(comparison, chosen)
    left, right = st.columns([2, 3], gap="large")
    with left:
        _probabilities(comparison, chosen)
    with right:
        _times(comparison)


def _maps(comparison: Comparison, chosen: Chosen) -> None:
    """A fragment: moving the slider blends again and computes nothing."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        opacity = st.slider("Opacity", 0.0, 1.0, 0.5, 0.05, key="compare_opacity", persist_state="session", width=180)
        colormap = st.selectbox("Colours", MAPS, key="compare_colours", persist_state="session", width=130)
        colour_bar(colormap or MAPS[0])
        marked = chosen.mask is not None and st.toggle("Outline the evidence", key="compare_outline",
                                                       persist_state="session")
    mask = chosen.mask if marked else None
    dress = (opacity, colormap or MAPS[0], mask)
    _cams(comparison, dress)
    _hierarchy(comparison, dress)
    _files(comparison, opacity, colormap or MAPS[0])


def _cams(comparison: Comparison, dress: tuple) -> None:
    st.subheader(f"Where they look for “{plain(comparison.target)}”", anchor=False)
    with st.grid(columns=4, min_column_width=140, gap="small"):
        st.image(png(outline(enlarge(comparison.image), dress[2])), caption="Picture", width="stretch",
                 output_format="PNG", alt="The picture without a heat map")
        for part in comparison.parts:
            one = part.cam.maps[0]
            caption = f"{part.role.capitalize()} · Grad-CAM {one.grid}" + (" · blank" if one.blank else "")
            st.image(heated(comparison.image, one, *dress), caption=caption, width="stretch", output_format="PNG",
                     alt=caption)
    blank = any(part.cam.maps[0].blank for part in comparison.parts)
    st.caption(f"{EXPLAINERS['grad-cam'].facts.seeing} Each map is scaled to its own range."
               + (f" Blank: nothing speaks for “{comparison.target}”." if blank else ""))


def _hierarchy(comparison: Comparison, dress: tuple) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Layer by layer", anchor=False)
        offered = [part.role for part in comparison.parts if part.hierarchy]
        role = "student"
        if len(offered) > 1:
            role = st.segmented_control("Of", HIERARCHIES, default="student", required=True, key="compare_of",
                                        format_func=str.capitalize, label_visibility="collapsed",
                                        persist_state="session") or "student"
    part = next(part for part in comparison.parts if part.role == (role if role in offered else "student"))
    assert part.hierarchy is not None, "the student's stages are always asked for"
    # As large as the Grad-CAMs above, which invites the eye to compare, as long as there are few.
    with st.grid(columns=max(4, min(8, len(part.hierarchy.maps))), min_column_width=100, gap="small"):
        for one in part.hierarchy.maps:
            caption = one.label.capitalize() + (" · blank" if one.blank else "")
            st.image(heated(comparison.image, one, *dress), caption=caption, width="stretch", output_format="PNG",
                     alt=f"{role}: {caption}")
    st.caption(f"{EXPLAINERS['stage-maps'].facts.seeing} The target class changes the Grad-CAMs above, not these.")


def _probabilities(comparison: Comparison, chosen: Chosen) -> None:
    st.subheader("Probabilities", anchor=False)
    classes = comparison.teacher.cam.classes
    st.markdown("  \n".join(f"{MARKS[part.role]} {part.role.capitalize()}: **{plain(classes[part.cam.predicted])}** "
                            f"{percent(float(part.cam.probabilities.max()))}"
                            f"{' ✓' if classes[part.cam.predicted] == chosen.truth else ''}"
                            for part in comparison.parts))
    ticks = [f"<b>{tick(name)} ✓</b>" if name == chosen.truth else tick(name) for name in classes]
    figure = go.Figure([_bars(part, ticks) for part in comparison.parts])
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(autorange="reversed")
    tidy(figure, 110 + 26 * len(classes) * max(2, len(comparison.parts))).update_layout(hovermode="y unified")
    st.plotly_chart(figure, config=CHART, key="compare_probabilities",
                    alt="Probability of every class by teacher, control and student")
    st.caption("✓ marks the true class." if chosen.truth else "The true class of an upload is not known.")


def _bars(part: Part, ticks: list[str]) -> go.Bar:
    return go.Bar(y=ticks, x=list(part.cam.probabilities), name=part.role, orientation="h",
                  marker_color=COLOURS[part.role], hovertemplate="%{x:.1%}")


def _times(comparison: Comparison) -> None:
    st.subheader("Cost", anchor=False)
    rows = [row for part in comparison.parts for row in _part_rows(part)]
    st.table(rows, border="horizontal", hide_index=True, alt="Times of forward pass, Grad-CAM and stage maps per model")
    ratio = comparison.ratios()
    st.caption(f"Making the student's layer maps is {ratio['stage-maps']:.2g} times as fast as making the "
               "teacher's Grad-CAM. "
               + protocol_line(comparison.teacher.cam.protocol))


def _part_rows(part: Part) -> list[dict[str, str]]:
    rows = [_row(part, "forward", part.cam.forward, "1"), _row(part, "Grad-CAM", part.cam.timing, _ratio(part.cam))]
    if part.hierarchy:
        rows.append(_row(part, "layer maps", part.hierarchy.timing, _ratio(part.hierarchy)))
    return rows


def _ratio(one: Explanation) -> str:
    return f"{one.ratio:.2f}"


def _row(part: Part, what: str, timing: Timing, ratio: str) -> dict[str, str]:
    low, median, high = (f"{seconds * 1e3:.3g}" for seconds in (timing.low, timing.median, timing.high))
    cells = {"": f"{part.role.capitalize()} · {what}", "Median": f"{median} ms", "Spread (ms)": f"{low}–{high}",
             "n": str(timing.n), "×\u00a0forward": ratio, "FLOPs": count(part.cam.flops) if what == "forward" else ""}
    return {name: unbroken(text) for name, text in cells.items()}


def _files(comparison: Comparison, opacity: float, colormap: str) -> None:
    name = f"{comparison.student.cam.run.id}-{comparison.target}".replace(" ", "_")
    with st.container(horizontal=True):
        st.download_button("Figure (PNG)", lambda: comparison.picture(opacity, colormap), f"{name}.png", "image/png",
                           icon=":material/image:", on_click="ignore")
        st.download_button("Maps (npz)", lambda: pack(comparison.arrays()), f"{name}.npz", "application/octet-stream",
                           icon=":material/grid_on:", on_click="ignore")
        st.download_button("Numbers (JSON)", lambda: json.dumps(comparison.to_json(), indent=1), f"{name}.json",
                           "application/json", icon=":material/data_object:", on_click="ignore")
