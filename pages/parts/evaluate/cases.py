"""Example images of one kind, each with a link to its comparison."""

from collections.abc import Mapping

import streamlit as st

from kd.evaluation.explanation_store import AGREEMENT, EvalKey, least_agreeing, load_all
from kd.evaluation.report import KINDS, NUMBER, ImageCase, ModelReport, image_case, image_cases, paired
from kd.evaluation.row_words import figure
from kd.roles import MARKS, STUDENT, TEACHER
from kd.store.runs import Run
from pages.parts.shared import links
from pages.parts.shared.context import store
from pages.parts.shared.dataset_info import opened
from pages.parts.shared.format import percent, plain
from pages.parts.shared.originals import tiles

SHOWN = 12
KIND = "evaluate_kind"
LEAST = "least agreement"
View = dict[str, str]


def gallery(student: Run, found: Mapping[str, ModelReport], chosen: EvalKey | None) -> None:
    """A kind of case to choose, and its images. chosen: the explanations that are shown above."""
    st.subheader("Cases", anchor=False)
    kinds = (*KINDS, LEAST)
    links.valid(KIND, kinds, KINDS[0])
    kind = st.pills("Which", kinds, key=KIND, required=True, persist_state="session", label_visibility="collapsed")
    if not paired(found[TEACHER], found[STUDENT]):
        st.markdown("Teacher and student were tested on different images, so there are no cases of both.")
    elif kind == LEAST:
        _least(student, found, chosen)
    else:
        picked, total = image_cases(kind or KINDS[0], found[TEACHER], found[STUDENT], SHOWN)
        _pictures(student, picked, {}, {})
        st.caption(f"{len(picked)} of {total:,}, the student's most confident first. Each opens in Compare."
                   if picked else "There is no such image in the test set.")


def _least(student: Run, found: Mapping[str, ModelReport], chosen: EvalKey | None) -> None:
    """The images on which the maps of teacher and student differ most."""
    least = least_agreeing(store(), student, chosen, SHOWN) if chosen else {}
    if not least:
        st.markdown("Evaluate explanations above, with agreement among the parts, to see on which images the "
                    "maps of teacher and student differ most.")
        return
    picked = [image_case(number, found[TEACHER], found[STUDENT]) for number in least]
    assert chosen, "there are cases only of a choice"
    view = {"explainer": chosen.explainer, "stage": str(chosen.stage)}
    _pictures(student, picked, {number: f"Spearman {value:.2f}".replace("-", "−")
                               for number, value in least.items()}, view)
    chance = least_baseline(student, chosen)
    st.caption("The lowest Spearman correlation of teacher's and student's maps"
               + ("" if chance is None else f"; between different images it is {figure(chance, NUMBER)} on average")
               + ". Each opens in Compare with the same explainer.")


def least_baseline(student: Run, chosen: EvalKey) -> float | None:
    """What the same two models' maps of different images agree by, on average."""
    found = load_all(store(), student, chosen)
    return found[AGREEMENT]["maps"][STUDENT]["all"]["spearman"]["chance"] if found and found[AGREEMENT] else None


def _pictures(student: Run, picked: list[ImageCase], beside: Mapping[int, str], view: View) -> None:
    """A tile per case. beside: a line more for each, by the image's number. view: how Compare opens it."""
    if not picked:
        return
    spec = student.spec
    data = opened(spec.data, spec.data_fingerprint, spec.image_size, store().paths.root)
    images = tiles(data, data.test, [one.index for one in picked], False)
    with st.grid("auto", min_column_width=170, gap="small"):
        for one, image in zip(picked, images, strict=True):
            with st.container(border=True, gap="xsmall"):
                st.image(image, width="stretch", output_format="JPEG",
                         alt=f"Test image {one.name}, true class: {one.truth}")
                st.markdown(f"true class: **{plain(one.truth)}**")
                st.caption("  \n".join([*_answers(one), *filter(None, [beside.get(one.index, "")])]))
                links.compare(student.id, image=str(one.index), **view)


def _answers(one: ImageCase) -> list[str]:
    return [f"{MARKS[role]} {plain(answer)} {percent(sure)}" for role, answer, sure in
            ((TEACHER, one.teacher, one.teacher_sure), (STUDENT, one.student, one.student_sure))]
