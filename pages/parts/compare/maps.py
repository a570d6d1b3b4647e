"""The maps: one explainer on every model, and one model layer by layer."""

import streamlit as st

from kd.explainers import EXPLAINERS
from kd.inspection import colour_scale
from kd.inspection.compare import MASK, Comparison, ModelPanel
from kd.inspection.explain import Explanation
from kd.inspection.layer_report import LAYER_PLOTS, LayerReport
from kd.inspection.overlay import SIGNED
from pages.parts.compare import roles, url_state
from pages.parts.compare.costs import takeaway
from pages.parts.compare.image_picker import Chosen
from pages.parts.compare.tiles import Dress, Tile, bare, draw, dress, picture
from pages.parts.shared import links
from pages.parts.shared.format import percent, plain
from pages.parts.shared.images import colour_bar

LAYERS = {url_state.STAGE: "Stage maps", url_state.WEIGHTED: "Class-weighted"}
FILLS = {"mean": "the average training picture", "blur": "the picture itself, blurred"}  # by `mask_fill`
HELD = 0.99  # of all values are told apart by the shared scale; the rest, single peaks, have its end's colour


def maps(comparison: Comparison, chosen: Chosen) -> None:
    """A fragment: moving the slider blends again and computes nothing."""
    st.fragment(_maps)(comparison, chosen)


def _maps(comparison: Comparison, chosen: Chosen) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        dressed = dress(chosen)
        signed = comparison.teacher.explanation.maps[0].signed
        if signed:
            colour_bar(SIGNED, "against", "for")
        if not signed or any(part.mask for part in comparison.panels):
            colour_bar(dressed.colormap)
    _models(comparison, dressed)
    read = _layers(comparison, chosen, dressed)
    figures = {"Figure": lambda: comparison.picture(dressed.opacity, dressed.colormap)}
    if read is None:
        takeaway(comparison, figures, comparison.arrays, comparison.to_json)
    else:
        role, found = read
        takeaway(comparison, {**figures, "Layers": lambda: found.picture(dressed.opacity, dressed.colormap)},
                 lambda: {**comparison.arrays(), **{f"{role}_{name}": one for name, one in found.arrays().items()}},
                 lambda: {**comparison.to_json(), "layers": {role: found.to_json()}})
    url_state.renew()


def told(class_specific: bool) -> None:
    """Whether another target class gives another picture."""
    st.badge("class-specific" if class_specific else "not class-specific", color="green" if class_specific else "gray")


def _models(comparison: Comparison, dressed: Dress) -> None:
    facts = EXPLAINERS[comparison.explainer].info
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(f"Where they look for “{plain(comparison.target)}”", anchor=False, width="content")
        told(facts.class_specific)
    masked = [part for part in comparison.panels if part.mask]
    # Of three models the one behind a mask has a line of its own: its map, the mask, and what it sees.
    columns = "auto" if len(comparison.panels) > 3 else 3 if masked else 4
    with st.grid(columns=columns, min_column_width=140, gap="small"):
        bare(dressed)
        for part in comparison.panels:
            _model(part, dressed)
    st.caption(_seeing(comparison))
    for part in masked:
        st.caption(_shown(part))
    if not facts.early_stages and _is_early(comparison):
        st.caption(f"{facts.title} says little before the last stage. LayerCAM and the class-weighted maps below do.")
    if comparison.others:
        st.caption(roles.who(comparison))


def _model(part: ModelPanel, dressed: Dress) -> None:
    """Where one model looks; where it has a mask, that too, and the picture as it sees it."""
    _heat(part.role, part.explanation, dressed, f"cam-{part.role}")
    if part.extra_mask:
        _heat(part.role, part.extra_mask, dressed, f"mask-{part.role}")
    if part.masked_image is not None:
        with st.container(gap="xxsmall"):
            picture(part.masked_image, dressed, f"What the {part.role} sees", f"The picture as the {part.role} sees it")


def _heat(role: str, explanation: Explanation, dressed: Dress, key: str) -> None:
    one = explanation.maps[0]
    caption = f"{role.capitalize()} · {EXPLAINERS[explanation.explainer].info.title} {one.grid}"
    with st.container(gap="xxsmall"):
        draw(Tile(one, caption, caption, signed=one.signed), dressed, key)


def _seeing(comparison: Comparison) -> str:
    """What the chosen explainer shows; a mask has a line of its own."""
    facts = EXPLAINERS[comparison.explainer].info
    text = f"{facts.title} stands in where a model has no mask. " if len(comparison.explainers) > 1 else ""
    text += f"{facts.reading_note} Each map is scaled to its own range: two models' scores have no common unit."
    if any(part.mask for part in comparison.panels):
        text += " A mask is not scaled: its values have one."
    if facts.class_specific and any(
        part.explanation.maps[0].blank and part.explanation is not part.mask for part in comparison.panels
    ):
        text += f" Blank: nothing speaks for “{plain(comparison.target)}”."
    return text


def _shown(part: ModelPanel) -> str:
    """What one mask is, and how much it shows."""
    share = (
        ""
        if part.mask_area is None
        else f" It shows **{percent(part.mask_area)}** of this picture, for any target class."
    )
    return (f"Mask of the {part.role}: {EXPLAINERS[MASK].info.reading_note}{share} What it hides is replaced by "
            f"{FILLS[part.explanation.run.spec.mask_fill]}.")


def _is_early(comparison: Comparison) -> bool:
    every = comparison.student.stage_maps
    return every is not None and comparison.student.explanation.maps[0].stage < every.maps[-1].stage


def _layers(comparison: Comparison, chosen: Chosen, dressed: Dress) -> tuple[str, LayerReport] | None:
    """One model's layers; gives what was read for them, where the plain stage maps did not do."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader("Layer by layer", anchor=False, width="content")
        badge = st.empty()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        links.valid("compare_layers", url_state.LAYERS, url_state.STAGE)
        kind = st.segmented_control("Layers as", url_state.LAYERS, format_func=LAYERS.__getitem__, required=True,
                                    key="compare_layers", label_visibility="collapsed",
                                    persist_state="session") or url_state.STAGE
        part = roles.pick(comparison)
        links.valid("compare_fields", (True, False), False)
        framed = st.toggle("Receptive fields", key="compare_fields", persist_state="session",
                           help=f"{LAYER_PLOTS['field'].reading_note} Drawn as a frame.")
    with badge:
        told(LAYER_PLOTS[kind].class_specific)
    read = None
    if kind == url_state.WEIGHTED or framed or part.stage_maps is None:
        read = roles.layers(part, comparison, chosen)
    if kind == url_state.WEIGHTED and read is not None:
        _weighted(read, part, dressed, framed)
    else:
        _stages(read, part, dressed, framed)
    return (part.role, read) if read is not None else None


def _stages(read: LayerReport | None, part: ModelPanel, dressed: Dress, framed: bool) -> None:
    if read is not None:
        shown = [(view.stage_map, view.field if framed else None) for view in read.stages]
    else:
        assert part.stage_maps is not None, "without it the layers are read"
        shown = [(one, None) for one in part.stage_maps.maps]
    _row([Tile(one, one.label.capitalize(), f"{part.role}: {one.label}", box=box) for one, box in shown], dressed)
    st.caption(f"{LAYER_PLOTS['stage'].reading_note} Each by its own range. The target class changes the maps above, "
               "not these." + _frames(framed))


def _weighted(read: LayerReport, part: ModelPanel, dressed: Dress, framed: bool) -> None:
    """After `scales.per_picture` every layer has the same unit, logits of the target: so one scale is honest."""
    values = [colour_scale.per_image(view.weighted.values) for view in read.stages]
    shared = st.toggle("One colour scale for all stages", key="compare_shared", persist_state="session")
    every = colour_scale.centred_scale(values, HELD)
    own = [every if shared else colour_scale.centred_scale([one]) for one in values]
    _row([Tile(view.weighted, f"{view.weighted.label.capitalize()}{'' if shared else _ends(scale)}",
               f"{part.role}: {view.weighted.label}", scale, True, view.field if framed else None, one)
          for view, one, scale in zip(read.stages, values, own, strict=True)], dressed)
    ends = (f"{every.low:.2g}", f"{every.high:+.2g}") if shared and every else ("contradicts", "supports")
    colour_bar(SIGNED, *ends)
    st.caption(f"{LAYER_PLOTS['weighted'].reading_note} In logits: what the score would change by if the whole image "
               "were like this place. " + ("The 1 % most extreme places have the end's colour." if shared
                                      else "± is the end of each stage's own scale.") + _frames(framed))


def _ends(scale: colour_scale.Scale | None) -> str:
    return f" · ±{scale.high:.2g}" if scale else ""


def _frames(framed: bool) -> str:
    return (" The frame holds all the pixels that could matter to the place that speaks most for the target class, of "
            "an explained student those of the picture behind its mask; deep layers often see everything."
            ) if framed else ""


def _row(tiles: list[Tile], dressed: Dress) -> None:
    with st.grid(min_column_width=130, gap="small"):
        for number, tile in enumerate(tiles):
            with st.container(gap="xxsmall"):
                draw(tile, dressed, f"layer-{number}")
