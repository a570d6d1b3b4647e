"""Pictures worth a look, each with the way to its comparison."""

import streamlit as st

from kd.runs import Run
from kd.scorecard import KINDS, Case, Score, cases
from pages.parts import links
from pages.parts.common import MARKS, STUDENT, TEACHER, percent, store
from pages.parts.picker import opened
from pages.parts.samples import tile

SHOWN = 12
KIND = "evaluate_kind"


def gallery(student: Run, found: dict[str, Score]) -> None:
    """A kind of case to choose, and its pictures."""
    st.subheader("Cases", anchor=False)
    st.session_state.setdefault(KIND, KINDS[0])
    kind = st.pills("Which", KINDS, key=KIND, required=True, persist_state="session", label_visibility="collapsed")
    picked, total = cases(kind, found[TEACHER], found[STUDENT], SHOWN)
    if not picked:
        st.markdown("There is no such picture in the test set.")
        return
    pictures(student, picked)
    st.caption(f"{len(picked)} of {total:,}, those first of which the student is surest. Each opens in Compare.")


def pictures(student: Run, picked: list[Case], beside: dict[int, str] | None = None) -> None:
    """A tile per case. beside: a line more for each, by the picture's number."""
    spec = student.spec
    test = opened(spec.data, spec.image_size, store().places.root).test
    with st.grid("auto", min_column_width=170, gap="small"):
        for one in picked:
            with st.container(border=True, gap="xsmall"):
                st.image(tile(test, one.index, False), width="stretch", output_format="JPEG",
                         alt=f"Test picture {one.name}, truly {one.truth}")
                st.markdown(f"truly **{one.truth}**")
                st.caption(_answers(one) + (f"  \n{beside[one.index]}" if beside else ""))
                links.compare(student.id, image=str(one.index))


def _answers(one: Case) -> str:
    return "  \n".join(f"{MARKS[role]} {answer} {percent(sure)}" for role, answer, sure in
                       ((TEACHER, one.teacher, one.teacher_sure), (STUDENT, one.student, one.student_sure)))
