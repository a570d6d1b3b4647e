"""What a finished distillation came to: one table, one sentence, one next step."""

import streamlit as st

from kd.answers import Arm, Difference, Outcome, outcome
from kd.distill import Trio
from pages.parts import links
from pages.parts.common import count, duration, percent, unbroken


def outcome_view(trio: Trio) -> None:
    """Draw the result of three finished runs."""
    result = outcome(*trio.runs)
    if result is None:
        st.caption("A run's answers on the test set are missing; evaluate it again to see the result.")
        return
    with st.container(border=True, gap="small"):
        st.markdown(sentence(result))
        st.table([row(arm) for arm in result.arms], border="horizontal", hide_index=True,
                 alt="Test accuracy, macro-F1, parameters, FLOPs and training time of teacher, control and student")
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Compare explanations", type="primary", icon=":material/compare:",
                         key=f"see-{trio.student.id}"):
                st.switch_page("pages/compare.py", query_params={"run": trio.student.id})
            links.evaluate(trio.student.id)
    st.caption("Test set; FLOPs of one picture (multiply-adds counted as two); differences are paired by picture, ± is "
               "95 %. Not for clinical use.")


def row(arm: Arm) -> dict[str, str]:
    """An arm in words."""
    teacher = arm.role == "teacher"
    cells = {"": f"{arm.role.capitalize()} · {arm.run.spec.model_label}", "Accuracy": percent(arm.accuracy),
            "vs teacher": "" if teacher else f"{arm.gain:+.1f} points".replace("-", "−"),
            "Macro-F1": percent(arm.macro_f1),
            "Parameters": count(arm.parameters) + ("" if teacher else f" (÷ {arm.smaller:.3g})"),
            "FLOPs": count(arm.flops) + ("" if teacher else f" (÷ {arm.lighter:.3g})"),
            "Training": duration(arm.seconds)}
    return {name: unbroken(text) for name, text in cells.items()}


def sentence(result: Outcome) -> str:
    """The result as a person would say it."""
    return (f"On {result.kept.images:,} test images the student is {_told(result.kept, 'its teacher')} and "
            f"{_told(result.bought, 'the control')}, at {_share(result.student.lighter)} of the teacher's FLOPs.")


def _share(lighter: float) -> str:
    """What is left of the teacher's cost: two digits are enough."""
    left = 100 / lighter
    return unbroken(f"{left:.0f} %" if left >= 10 else f"{left:.2g} %")


def _told(difference: Difference, whom: str) -> str:
    if not difference.points:
        return f"**level** with {whom}"
    way = "above" if difference.points > 0 else "below"
    doubt = "" if difference.told else ", within chance"
    return f"**{abs(difference.points):.1f} points {way}** {whom} (±\u00a0{difference.margin:.1f}{doubt})"
