"""The answer on top of the compare page: whether teacher and student look at the same places."""

from dataclasses import replace
from pathlib import Path

import streamlit as st

from kd.errors import UsageError
from kd.explainers import StageChoice
from kd.inspection import answer as answers
from kd.inspection.answer import OtherMaps
from kd.inspection.compare import Comparison, ModelPanel
from kd.paths import Paths
from kd.store.eight_bit import run_or_form
from kd.store.files import modified
from kd.store.runs import Run, Store
from pages.parts.compare.image_picker import Chosen
from pages.parts.shared import links
from pages.parts.shared.context import store
from pages.parts.shared.dataset_info import opened


def answered(comparison: Comparison, chosen: Chosen, stage: StageChoice) -> Comparison:
    """The comparison with its answer."""
    others = {part.role: found for part in comparison.panels if part is not comparison.teacher
              and (found := _others(part, comparison.teacher.explanation.run)) is not None}
    tested = answers.stored_agreement(store(), comparison, stage)
    return replace(comparison, answer=answers.answer(comparison, others, chosen.mask, tested))


def draw(comparison: Comparison) -> None:
    """The answer in words, and the way to that over the test images where it has not been computed."""
    found = comparison.answer
    if found is None:
        return
    st.markdown(" ".join((f"**{found.headline}**", *found.details)))
    run = comparison.student.explanation.run
    if found.tested is None:
        links.evaluate(run.id, "Evaluate explanations on the test images")


def _others(part: ModelPanel, teacher: Run) -> OtherMaps | None:
    run = part.explanation.run
    stamp = (modified(run.weights), modified(teacher.weights), teacher.status)
    try:
        return _maps(str(store().paths.root), run.id, teacher.id, stamp, *answers.asked(part))
    except UsageError:  # the data set is gone: an upload is still compared, without a baseline
        return None


@st.cache_resource(max_entries=64, show_spinner="Computing the baseline")
def _maps(root: str, run: str, teacher: str, stamp: tuple[object, ...], explainer: str, stage: int) -> OtherMaps | None:
    """Maps of other test images, the same for every image that is shown; never changed, so shared by all sessions."""
    runs = Store(Paths(Path(root)))
    spec = runs[teacher].spec
    data = opened(spec.data, spec.data_fingerprint, run_or_form(runs, run).spec.image_size, Path(root))
    return answers.other_maps(run_or_form(runs, run), runs[teacher], data, explainer, stage)
