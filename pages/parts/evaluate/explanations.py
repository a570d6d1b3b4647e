"""Quality of the explanations over the test set, each number beside its baseline."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from kd.evaluation.explanation_rows import GAIN_VS_CONTROL, MASK_VS_OTHERS, missing_sections, rows, spread
from kd.evaluation.explanation_store import (
    AGREEMENT,
    COST,
    EVIDENCE,
    FAITHFULNESS,
    LOCALISATION,
    POSTHOC,
    SECTIONS,
    EvalKey,
    choices,
    compared_runs,
    load_all,
    load_arrays,
)
from kd.evaluation.report import MetricRow, ModelReport
from kd.evaluation.row_words import between
from kd.explainers import DEFAULT_STAGE, EXPLAINERS
from kd.metrics.grids import coarse_note
from kd.store.runs import Run
from pages.parts.evaluate.evidence import evidence, localisation
from pages.parts.evaluate.explanation_charts import Names, curve_chart, excess_chart, sanity_chart, spread_chart
from pages.parts.evaluate.posthoc import posthoc
from pages.parts.evaluate.request import STAGES, request_form, requested
from pages.parts.evaluate.tables import INTERVALS, UNBROKEN, beside_chance, side_by_side
from pages.parts.shared import links
from pages.parts.shared.context import store
from pages.parts.shared.images import coarse
from pages.parts.shared.theme import CHART

CHOICE, SEEN = "evaluate_choice", "evaluate_seen"
SPREAD = "spearman"


def explanation_section(student: Run, found: Mapping[str, ModelReport]) -> tuple[EvalKey | None, list[MetricRow]]:
    """Form, progress and results; returns the evaluation shown and its rows for the download."""
    st.subheader("Explanations", anchor=False)
    known = choices(student)
    if not known:
        st.markdown("Agreement of the student's heat maps with the teacher's, localisation of the evidence, "
                    "faithfulness and cost. Not evaluated for this student yet.")
    busy = request_form(student, first=not known)
    if not known:
        return None, []
    chosen = _choose(student, known)
    result = load_all(store(), student, chosen)
    if result is None:
        st.info("The weights or the data have changed since this evaluation. Evaluate again.",
                icon=":material/history:")
        return None, []
    made = rows(result)
    if not made and not busy:
        st.caption("Nothing of this evaluation has finished yet.")
    _show(student, chosen, result, made, found)
    return chosen, made


def _choose(student: Run, known: list[EvalKey]) -> EvalKey:
    """The evaluation to show; the latest comes first."""
    by_folder = {one.folder: one for one in known}
    newest, ended = requested(student)
    if newest and (student.id, ended) != st.session_state.get(SEEN):
        st.session_state[SEEN] = (student.id, ended)
        st.session_state[CHOICE] = newest.folder
    links.valid(CHOICE, tuple(by_folder), known[0].folder)
    return by_folder[st.selectbox("Evaluation", list(by_folder), key=CHOICE, persist_state="session", width=420,
                                  format_func=lambda folder: _named(by_folder[folder]))]


def _named(choice: EvalKey) -> str:
    title = EXPLAINERS[choice.explainer].info.title if choice.explainer in EXPLAINERS else choice.explainer
    stage = STAGES.get(choice.stage, f"number {choice.stage}")
    if choice.stage == DEFAULT_STAGE and choice.explainer in EXPLAINERS:
        stage = f"stride-{EXPLAINERS[choice.explainer].info.reduction}"
    return f"{title} · {stage} stage · {f'{choice.limit:,}' if choice.limit else 'all'} images"


def _show(
    student: Run, chosen: EvalKey, result: Mapping[str, Any], made: list[MetricRow], found: Mapping[str, ModelReport]
) -> None:
    of = {section: [row for row in made if row.section == section] for section in
          (*SECTIONS, GAIN_VS_CONTROL, MASK_VS_OTHERS)}
    names = _names(result)
    views = {AGREEMENT: lambda: _agreement(student, chosen, result[AGREEMENT], of, names),
             LOCALISATION: lambda: localisation(result, made, names),
             EVIDENCE: lambda: evidence(result[EVIDENCE], of[EVIDENCE], names),
             POSTHOC: lambda: posthoc(result[POSTHOC], of[POSTHOC], of[MASK_VS_OTHERS]),
             FAITHFULNESS: lambda: _faithfulness(result[FAITHFULNESS], of[FAITHFULNESS], names),
             COST: lambda: _cost(result[COST], of[COST], found, names)}
    if result["notes"]:
        st.caption(" ".join(result["notes"]))
    coarse(coarse_note(_grids(result, names)))
    there = [section for section in SECTIONS if result[section] and (section != EVIDENCE or of[EVIDENCE])]
    for section, tab in zip(there, st.tabs([section.capitalize() for section in there]) if there else [], strict=True):
        with tab:
            views[section]()
    if missing := missing_sections(result):
        st.caption(f"Not evaluated with these weights and data: {', '.join(missing)}.")


def _grids(result: Mapping[str, Any], names: Names) -> list[tuple[str, list[int]]]:
    """The models with the grids of their maps, as far as they were evaluated; of maps compared, the coarser grid."""
    own = [(names.get(role, role), one["grid"]) for section in (LOCALISATION, FAITHFULNESS)
           for role, one in (result[section] or {}).items() if "grid" in one]
    both = [(f"teacher and {names.get(role, role)}, compared", one["grid"])
            for role, one in ((result[AGREEMENT] or {}).get("maps", {})).items()]
    return own or both


def _names(result: Mapping[str, Any]) -> dict[str, str]:
    """The models' names: their roles, with their explainers where these differ."""
    models = result["models"]
    differ = len({one["explainer"] for one in models.values()}) > 1
    titles = {role: EXPLAINERS[one["explainer"]].info.title.replace("-", UNBROKEN) for role, one in models.items()}
    return {role: f"{role}, {title}" if differ else role for role, title in titles.items()}


def _agreement(student: Run, chosen: EvalKey, result: Mapping[str, Any], of: Mapping[str, list[MetricRow]],
               names: Names) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.plotly_chart(excess_chart(of[AGREEMENT], names), config=CHART, key="evaluate_excess",
                        alt="Agreement above the baseline by measure and model")
    with right:
        stored = load_arrays(student, chosen, AGREEMENT, compared_runs(store(), student))
        if stored:
            chances = {row.role: row.chance for row in of[AGREEMENT] if row.measure.startswith("Spearman")}
            st.plotly_chart(spread_chart(spread(stored, SPREAD), chances, names), config=CHART, key="evaluate_spread",
                            alt="Distribution of the rank correlation over the test images")
    beside_chance(of[AGREEMENT], names, "Centre-Gaussian baseline")
    gain = next((row for row in of[GAIN_VS_CONTROL] if row.measure.startswith("Spearman")), None)
    if gain:
        st.markdown(f"Distillation changed the agreement (Spearman, above the baseline) by **{between(gain)}** "
                    "against the control; an interval that excludes 0 is significant.")
    pupils = result["maps"].values()
    grids = " and ".join(sorted({"×".join(map(str, one["grid"])) for one in pupils}))
    blank = ", ".join(f"{one['blank']} with {role}" for role, one in result["maps"].items() if one["blank"])
    st.caption(f"Maps of the class that the teacher predicts, compared at {grids} cells. Baseline: the same "
               f"two models on {result['rounds']} different images each. Above baseline: positive is more similar, "
               f"under every measure; in brackets {INTERVALS}."
               + (f" Left out because a map is blank: {blank}." if blank else ""))


def _faithfulness(result: Mapping[str, Any], made: list[MetricRow], names: Names) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        kind = st.segmented_control("Curve", ("deletion", "insertion"), key="evaluate_curve", required=True,
                                    default="deletion", label_visibility="collapsed")
        st.plotly_chart(curve_chart(result, kind, names), config=CHART, key="evaluate_curves",
                        alt=f"Probability of the predicted class along the {kind} curve")
    with right:
        st.plotly_chart(sanity_chart(result, names), config=CHART, key="evaluate_sanity",
                        alt="Correlation of maps with those of the trained model as layers are randomised")
    beside_chance(made, names, "Centre-Gaussian baseline", "Random map")
    masked = any(own["sanity"]["rows"][-1]["down_to"] == "explainer" for own in result.values() if "sanity" in own)
    st.caption("Maps of each model's own predicted class. Insertion: area under the probability curve while the "
               "brightest pixels are inserted into a blurred image; deletion: while they are removed; dotted: a random "
               "map. ROAD: half the gap in probability between removing the least and the most relevant pixels first. "
               "Above baseline: against a random map, positive is better under every measure. Upper right, parameter "
               "randomisation: a map that shows what was learnt changes as layers are randomised, head first; dotted: "
               "the similarity of maps of different images."
               + (" The mask network is randomised last: the mask depends on it alone." if masked
                  else "")
               + (" An 8-bit student has no layers that could be randomised."
                  if any("sanity" not in own for own in result.values()) else ""))


def _cost(result: Mapping[str, Any], made: list[MetricRow], found: Mapping[str, ModelReport], names: Names) -> None:
    side_by_side(made, found, names=names)
    protocol = result["protocol"]
    st.caption(f"Per image, in batches of {protocol['batch']} images of {protocol['image_size']} px on "
               f"{protocol['device']} with {protocol['threads']} thread(s), models interleaved after one warm-up "
               f"round: median (minimum–maximum). Mean execution time as in KD-FMV. torch {protocol['torch']}.")
