"""Localisation of the evidence beside baselines that have seen no model, and whether the models need the evidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from kd.evaluation.evidence_sentence import evidence_sentences
from kd.evaluation.explanation_rows import BASELINES, NAMES, VS_BASELINES, best_baseline
from kd.evaluation.explanation_store import EVIDENCE, LOCALISATION
from kd.evaluation.report import SHARE, MetricRow
from kd.evaluation.row_words import between, excess, figure
from pages.parts.evaluate.explanation_charts import Names
from pages.parts.evaluate.tables import INTERVALS, capital, in_order
from pages.parts.shared.format import percent, plain, unbroken

KEPT = {"without": "Without the evidence", "mirrored": "Without its mirrored region", "alone": "Evidence alone",
        "blurred": "All blurred"}
DIFFERENCES = {"without": "Mirrored − without: hang on the evidence", "alone": "Alone − all blurred"}


def localisation(result: Mapping[str, Any], made: Sequence[MetricRow], names: Names) -> None:
    """A table of scores beside the best baseline, and whether the models need the evidence at all. made: rows of all
    sections."""
    own = [row for row in made if row.section == LOCALISATION]
    found = result[LOCALISATION]
    if not own:
        st.caption(plain(next(iter(found.values())).get("reason", "No test image comes with evidence.")))
        return
    _sentences(result[EVIDENCE])
    st.table([_line(row, made, names) for row in in_order(own)], border="horizontal", hide_index=True,
             alt="Localisation by model, beside baselines")
    some = next(iter(found.values()))
    st.caption(f"Maps of the true class against the evidence annotated in {some['images']:,} images. Pointing game: is "
               "the centre of the brightest cell on the evidence? The best threshold is chosen on these images, so it "
               "is slightly optimistic. Area baseline: the evidence's share of the image, the score of a uniform map. "
               "Image alone: the best map that no model has seen, blurred brightness or darkness, anywhere or near the "
               "middle. Above the best baseline: the gain over the strongest of them all, which is chosen on these "
               "images, in its favour. In brackets " + INTERVALS + "."
               + ("" if _has_image_only(made) else " Evaluate again for the baselines of the image alone."))


def _line(row: MetricRow, made: Sequence[MetricRow], names: Names) -> dict[str, str]:
    beside = [one for one in made if one.section == VS_BASELINES
              and (one.measure, one.role) == (row.measure, row.role)]
    image, best = best_baseline(one for one in beside if one.of not in ("area", "centre")), best_baseline(beside)
    return {"": row.measure, "Model": capital(names[row.role]), "Value": unbroken(between(row)),
            "Area baseline": unbroken(figure(row.chance, row.unit)),
            "Centre-Gaussian baseline": unbroken(figure(row.centre, row.unit)),
            "Image alone": "–" if image is None else unbroken(figure(image.chance, SHARE)),
            "Above the best baseline": "–" if best is None else f"{unbroken(excess(best))}: {BASELINES[best.of]}"}


def _has_image_only(made: Sequence[MetricRow]) -> bool:
    return any(row.section == VS_BASELINES and row.of not in ("area", "centre") for row in made)


def _sentences(found: Mapping[str, Any] | None) -> None:
    """What the numbers of localisation must not be read without."""
    said = evidence_sentences(found)
    if said:
        st.markdown("**Do the models need the evidence?**\n" + "".join(f"\n- {text}" for text in said.values()))
    else:
        st.caption("Whether the models need the evidence has not been measured yet: evaluate again.")


def evidence(result: Mapping[str, Any], made: Sequence[MetricRow], names: Names) -> None:
    """A column per model: the decisions that stay the same by what is left of the image. made: rows of EVIDENCE."""
    _sentences(result)
    value = {(row.role, row.measure): row for row in made}
    shown = {role: {name: value[role, NAMES[name][0]] for name in KEPT} for role, own in result.items()
             if "kept" in own}
    st.table([*_kept(shown, names, "without", "mirrored"), *_kept(shown, names, "alone", "blurred")],
             border="horizontal", hide_index=True, alt="Decisions kept without the evidence, by model")
    some = next(iter(result.values()))
    st.caption("Share of the decisions (the class that a model predicts for the whole image, right or wrong) that stay "
               f"the same, in the {some['images']:,} test images with annotated evidence. The evidence, grown by "
               f"{percent(some['grown'])} of the side, takes {percent(some['area'])} of an image. Without it: replaced "
               f"by what surrounds it, blurred with a standard deviation of {percent(some['blur'])} of the side. The "
               "mirrored region is the control: as large a change on the other side; it covers "
               f"{percent(some['overlap'])} of the evidence itself. Evidence alone: the rest is blurred; all blurred: "
               f"its baseline. Differences are paired by image; in brackets {INTERVALS}.")


def _kept(shown: Mapping[str, Mapping[str, MetricRow]], names: Names, one: str, other: str) -> list[dict[str, str]]:
    """Three lines: two shares of decisions, and their difference."""
    return [*({"": KEPT[name], **{capital(names[role]): unbroken(between(rows[name])) for role, rows in shown.items()}}
              for name in (one, other)),
            {"": DIFFERENCES[one], **{capital(names[role]): unbroken(excess(rows[one]))
                                      for role, rows in shown.items()}}]
