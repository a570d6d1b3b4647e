"""The maps: one explainer on every model, and one model stage by stage."""

import streamlit as st

from kd.explainers import EXPLAINERS
from kd.inspection import colour_scale
from kd.inspection.compare import MASK, SENSITIVITY, Comparison, ModelPanel
from kd.inspection.explain import Explanation
from kd.inspection.layer_report import LAYER_PLOTS, LayerReport
from kd.inspection.overlay import SIGNED
from pages.parts.compare import dicom_maps, roles, url_state
from pages.parts.compare.image_picker import Chosen
from pages.parts.compare.takeaway import takeaway
from pages.parts.compare.tiles import Dress, Tile, bare, draw, dress, picture
from pages.parts.shared import links
from pages.parts.shared.format import percent, plain
from pages.parts.shared.images import coarse, colour_bar

LAYERS = {url_state.STAGE: "Stage maps", url_state.WEIGHTED: "Class-weighted"}
FILLS = {"mean": "the mean training image", "blur": "the image itself, blurred"}  # by `mask_fill`
HELD = 0.99  # share of the values within the shared scale; the rest, single peaks, have the colour of its end


def maps(comparison: Comparison, chosen: Chosen) -> None:
    """A fragment: moving the slider blends again and computes nothing."""
    st.fragment(_maps)(comparison, chosen)


def _maps(comparison: Comparison, chosen: Chosen) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        dressed = dress(chosen)
        signed = comparison.teacher.explanation.maps[0].signed
        if signed:
            colour_bar(SIGNED, "contradicts", "supports")
        if not signed or any(part.mask for part in comparison.panels):
            colour_bar(dressed.colormap)
    _models(comparison, dressed)
    read = _layers(comparison, chosen, dressed)
    sheets = {"maps": comparison.figure_spec()}
    if read is None:
        takeaway(comparison, chosen, dressed, sheets, comparison.arrays, comparison.to_json)
    else:
        role, found = read
        takeaway(comparison, chosen, dressed, {**sheets, f"stages-of-{role}": found.figure_spec()},
                 lambda: {**comparison.arrays(), **{f"{role}_{name}": one for name, one in found.arrays().items()}},
                 lambda: {**comparison.to_json(), "layers": {role: found.to_json()}})
    dicom_maps.download(comparison, chosen)
    url_state.renew()


def class_badge(class_specific: bool) -> None:
    """A badge: whether the maps depend on the target class."""
    st.badge("class-specific" if class_specific else "not class-specific", color="green" if class_specific else "gray")


def _models(comparison: Comparison, dressed: Dress) -> None:
    facts = EXPLAINERS[comparison.explainer].info
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        what = "Sensitivity of" if comparison.explainer == SENSITIVITY else "Evidence for"
        st.subheader(f"{what} “{plain(comparison.target)}”", anchor=False, width="content")
        class_badge(facts.class_specific)
    masked = [part for part in comparison.panels if part.mask]
    # Of three models, a masked one has a line of its own: its map, the mask, and the masked image.
    first_line = 4 + bool(comparison.teacher.sensitivity) - bool(masked)
    columns = "auto" if len(comparison.panels) > 3 else first_line
    with st.grid(columns=columns, min_column_width=140, gap="small"):
        bare(dressed)
        for part in comparison.panels:
            _model(part, dressed)
    coarse(comparison.coarse)
    st.caption(_seeing(comparison))
    if comparison.teacher.sensitivity:
        st.caption(_sensitive(comparison.teacher.sensitivity))
    for part in masked:
        st.caption(_shown(part))
    if not facts.early_stages and _is_early(comparison):
        st.caption(f"{facts.title} is unreliable before the last stage: use LayerCAM or the class-weighted maps below.")
    if comparison.others:
        st.caption(roles.who(comparison))


def _model(part: ModelPanel, dressed: Dress) -> None:
    """One model's maps; with a mask network also its mask and the masked image."""
    for number, one in enumerate(part.main_maps):
        _heat(part.role, one, dressed, f"map-{part.role}-{number}")
    if part.masked_image is not None:
        with st.container(gap="xxsmall"):
            picture(part.masked_image, dressed, f"Masked input of the {part.role}",
                    f"The masked image, input of the {part.role}")


def _heat(role: str, explanation: Explanation, dressed: Dress, key: str) -> None:
    one = explanation.maps[0]
    caption = f"{role.capitalize()} · {EXPLAINERS[explanation.explainer].info.title} {one.grid}"
    with st.container(gap="xxsmall"):
        draw(Tile(one, caption, caption, signed=one.signed), dressed, key)


def _seeing(comparison: Comparison) -> str:
    """How to read the maps of the chosen explainer; a mask has a line of its own."""
    facts = EXPLAINERS[comparison.explainer].info
    text = f"{facts.title} is shown for models without a mask. " if len(comparison.explainers) > 1 else ""
    text += f"{facts.reading_note} Each map is scaled to its own range: scores of two models are not comparable."
    if any(part.mask for part in comparison.panels):
        text += " A mask is not scaled."
    if facts.class_specific and any(
        part.explanation.maps[0].blank and part.explanation is not part.mask for part in comparison.panels
    ):
        text += f" Blank: nothing supports “{plain(comparison.target)}”."
    return text


def _sensitive(one: Explanation) -> str:
    """What the teacher's second map is, and of which stage."""
    facts, heat = EXPLAINERS[one.explainer].info, one.maps[0]
    return f"{facts.title} of the teacher, {heat.label} (`{heat.name}`): {facts.reading_note}"


def _shown(part: ModelPanel) -> str:
    """What one mask is, and how much it shows."""
    share = (
        ""
        if part.mask_area is None
        else f" It shows **{percent(part.mask_area)}** of this image, for any target class."
    )
    outlines = " **Trained with the outlines of the training images.**" if part.trained_with_outlines else ""
    return (f"Mask of the {part.role}: {EXPLAINERS[MASK].info.reading_note}{share} Hidden pixels are replaced by "
            f"{FILLS[part.explanation.run.spec.mask_fill]}.{outlines}")


def _is_early(comparison: Comparison) -> bool:
    every = comparison.student.stage_maps
    return every is not None and comparison.student.explanation.maps[0].stage < every.maps[-1].stage


def _layers(comparison: Comparison, chosen: Chosen, dressed: Dress) -> tuple[str, LayerReport] | None:
    """One model's stages; gives what was read for them, where the plain stage maps did not do."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader("Stage by stage", anchor=False, width="content")
        badge = st.empty()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        links.valid("compare_layers", url_state.LAYERS, url_state.STAGE)
        kind = st.segmented_control("Stages as", url_state.LAYERS, format_func=LAYERS.__getitem__, required=True,
                                    key="compare_layers", label_visibility="collapsed",
                                    persist_state="session") or url_state.STAGE
        links.valid("compare_fields", (True, False), False)
        part = roles.pick(comparison, kind == url_state.WEIGHTED or st.session_state["compare_fields"])
        framed = st.toggle("Receptive fields", key="compare_fields", persist_state="session",
                           help=f"{LAYER_PLOTS['field'].reading_note} Drawn as a frame.")
    with badge:
        class_badge(LAYER_PLOTS[kind].class_specific)
    read = None
    if kind == url_state.WEIGHTED or framed or part.stage_maps is None:
        read = roles.layers(part, comparison, chosen)
    if kind == url_state.WEIGHTED and read is not None:
        _weighted(read, part, dressed, framed)
    else:
        _stages(read, part, dressed, framed)
    found = read or part.stage_maps
    coarse(found.coarse if found else "")
    return (part.role, read) if read is not None else None


def _stages(read: LayerReport | None, part: ModelPanel, dressed: Dress, framed: bool) -> None:
    if read is not None:
        shown = [(view.stage_map, view.field if framed else None) for view in read.stages]
    else:
        assert part.stage_maps is not None, "without it the stages are read"
        shown = [(one, None) for one in part.stage_maps.maps]
    _row([Tile(one, one.label.capitalize(), f"{part.role}: {one.label}", box=box) for one, box in shown], dressed)
    st.caption(f"{LAYER_PLOTS['stage'].reading_note} Each scaled to its own range. The target class changes the maps "
               "above, not these." + _frames(framed))


def _weighted(read: LayerReport, part: ModelPanel, dressed: Dress, framed: bool) -> None:
    """After `colour_scale.per_image` every stage has the same unit, logits of the target, and can share a scale."""
    values = [colour_scale.per_image(view.weighted.values) for view in read.stages]
    shared = st.toggle("One colour scale for all stages", key="compare_shared", persist_state="session")
    every = colour_scale.centred_scale(values, HELD)
    own = [every if shared else colour_scale.centred_scale([one]) for one in values]
    _row([Tile(view.weighted, f"{view.weighted.label.capitalize()}{'' if shared else _ends(scale)}",
               f"{part.role}: {view.weighted.label}", scale, True, view.field if framed else None, one)
          for view, one, scale in zip(read.stages, values, own, strict=True)], dressed)
    ends = (f"{every.low:.2g}", f"{every.high:+.2g}") if shared and every else ("contradicts", "supports")
    colour_bar(SIGNED, *ends)
    st.caption(f"{LAYER_PLOTS['weighted'].reading_note} In logits: by how much the score would change if the whole "
               "image were like this position. " + ("The 1 % most extreme values are clipped." if shared
                                      else "± is the end of each stage's own scale.") + _frames(framed))


def _ends(scale: colour_scale.Scale | None) -> str:
    return f" · ±{scale.high:.2g}" if scale else ""


def _frames(framed: bool) -> str:
    return (" The frame holds all the pixels that can affect the position that supports the target class most; "
            "behind a mask network, those of the masked image. Deep stages often depend on the whole image."
            ) if framed else ""


def _row(tiles: list[Tile], dressed: Dress) -> None:
    with st.grid(min_column_width=130, gap="small"):
        for number, tile in enumerate(tiles):
            with st.container(gap="xxsmall"):
                draw(tile, dressed, f"layer-{number}")
