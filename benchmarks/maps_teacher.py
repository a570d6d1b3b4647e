"""Pointing of every explainer at every stage, beside maps of the image alone.

Of all finished runs without a teacher (teachers and controls), or of those named. The best map is chosen on validation
images (or on another set, --choose-on) as the mean over the runs of a data set and model, and reported on test images.
Blank maps are left out. Runs of several seeds are summed up as mean ± standard deviation.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.maps_runs import Scenes, chosen_runs, opened_store, scenes, short, spelt, table
from kd.datasets import open_dataset
from kd.datasets.base import Split
from kd.datasets.tensors import to_tensor
from kd.evaluation import predict
from kd.explainers import DEFAULT_STAGE, EXPLAINERS, Maps
from kd.explanation_metrics import localisation
from kd.explanation_metrics.image_only import image_only_maps
from kd.explanation_metrics.sanity_checks import randomise_weights
from kd.metrics.bootstrap import GAP_SPAN, SHARE_SPAN, bootstrap_ci, centre_gaussian
from kd.models.base import Classifier
from kd.placement import Placement
from kd.store.runs import Run, Store

BATCH = 8
USUAL = ("grad-cam", "hires-cam", "layer-cam", "sensitivity", "stage-maps")
MIDDLE = "centre"

Values = NDArray[np.float64]


class Which(NamedTuple):
    """One map: an explainer at a stage (by its name), or a map of the image alone."""

    explainer: str
    stage: str = ""
    reduction: int = 0


class Measured(NamedTuple):
    """Pointing of one map per image, on the images to choose by [M] and on those to report [N]; nan where blank."""

    chosen_by: Values
    reported: Values
    grid: str = ""


def add_arguments(parser: ArgumentParser) -> None:
    """The flags of this table."""
    usual = ",".join(USUAL)
    parser.add_argument("--explainers", default=usual, help=f"Separated by commas (default {usual}).")
    parser.add_argument("--choose-on", metavar="PATH", help="Choose on all images of another data set with these "
                        "classes instead of the validation images.")
    parser.add_argument("--on", metavar="PATH", help="Report on all images of another data set with these classes "
                        "instead of the test images.")


def lines(chosen: Namespace) -> Iterator[str]:
    """The tables, as Markdown."""
    store = opened_store(chosen)
    runs = chosen_runs(store, chosen, lambda run: not run.spec.teacher)
    for key, group in groupby(runs, lambda run: (run.spec.data, run.spec.model_label, run.spec.image_size)):
        found, members = {}, list(group)
        for run in members:
            images = _images(store, run, chosen)
            found[run] = _measure(run, images, chosen.explainers.split(","))
        yield from _tables(key, found, images)


def _images(store: Store, run: Run, chosen: Namespace) -> tuple[Scenes, Scenes]:
    """The images to choose by, and those to report."""
    data = predict.data_of(run, store)

    def part(path: str | None, own: Split) -> Scenes:
        if path is None:
            return scenes([own], data.classes, data.classes)
        other = open_dataset(path, run.spec.image_size, store.paths)
        return scenes(list(other.splits.values()), other.classes, data.classes)

    return part(chosen.choose_on, data.val), part(chosen.on, data.test)


def _measure(run: Run, images: tuple[Scenes, Scenes], explainers: Sequence[str]) -> dict[Which, Measured]:
    """Every map of one run; the maps with random weights are those of the sensitivity's default stage."""
    classes = (run.summary or {})["classes"]
    model = predict.load(run, len(classes)).requires_grad_(False)
    by, shown = (list(_pointing(model, part, explainers)) for part in images)
    found = {which: Measured(values, reported, grid) for (which, values, _), (_, reported, grid)
             in zip(by, shown, strict=True)}
    random = randomise_weights(model, [name for name, _ in model.named_parameters()])
    least = [_sensitivity(random, part) for part in images]
    return {**found, Which("sensitivity, random weights"): Measured(*least), **_image_only(images)}


def _pointing(model: Classifier, part: Scenes, explainers: Sequence[str]) -> Iterator[tuple[Which, Values, str]]:
    stages = range(len(model.stages))
    for name in explainers:
        every = [EXPLAINERS[name].at_stages(model, *batch, stages) for batch in _batches(model, part)]
        for number in stages:
            stage = model.stages[number]
            maps = [_supporting(one[number]) for one in every]
            values, grid = _scored(maps, part, EXPLAINERS[name].placement(model, number, part.images.shape[1]))
            yield Which(name, stage.name, stage.reduction), values, grid


def _sensitivity(model: Classifier, part: Scenes) -> Values:
    explainer = EXPLAINERS["sensitivity"]
    laid = explainer.placement(model, DEFAULT_STAGE, part.images.shape[1])
    return _scored([explainer(model, *batch) for batch in _batches(model, part)], part, laid)[0]


def _batches(model: Classifier, part: Scenes) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    device = model.mean.device
    for start in range(0, len(part), BATCH):
        rows = slice(start, start + BATCH)
        yield to_tensor(part.images[rows], device), torch.from_numpy(part.targets[rows]).to(device)


def _supporting(maps: Maps) -> Maps:
    """Without the negative part of a signed map, as in evaluations."""
    return Maps(maps.values.relu()) if maps.signed else maps


def _scored(batches: Sequence[Maps], part: Scenes, laid: Placement | None) -> tuple[Values, str]:
    maps = np.concatenate([one.scaled().cpu().numpy() for one in batches])
    blank = np.concatenate([one.blank.cpu().numpy() for one in batches])
    scores = localisation.nan_where_blank(maps, blank, part.masks, laid)
    return scores["pointing"], "×".join(map(str, maps.shape[1:]))


def _image_only(images: tuple[Scenes, Scenes]) -> dict[Which, Measured]:
    scores = []
    for part in images:
        side = part.images.shape[1]
        middle = np.broadcast_to(centre_gaussian(side, side), part.masks.shape)
        maps = {MIDDLE: middle, **image_only_maps(part.images)}
        scores.append({name: localisation.measure(one, part.masks)[0]["pointing"] for name, one in maps.items()})
    return {Which(name): Measured(scores[0][name], scores[1][name]) for name in scores[0]}


def _tables(key: tuple[str, str, int], found: dict[Run, dict[Which, Measured]],
            images: tuple[Scenes, Scenes]) -> Iterator[str]:
    data, model, size = key
    rows = next(iter(found.values()))
    best = max((which for which in rows if which.stage), key=lambda which: _mean(found, which, "chosen_by"))
    plain = max((which for which in rows if _seen_no_model(which)), key=lambda which: _mean(found, which, "reported"))
    seeds = ", ".join(str(run.spec.seed) for run in found)
    yield f"\n### {Path(data).name}, {model} at {size} px, seed{'s' * (len(found) > 1)} {seeds}"
    yield f"Pointing; chosen on {len(images[0])} images, reported on {len(images[1])}; intervals of the first seed.\n"
    yield from table(("map", "stage", "grid", "to choose", "reported", "over seeds"),
                     ([_named(which, best), f"{which.stage} (1/{which.reduction})" if which.stage else "", one.grid,
                       short(_mean(found, which, "chosen_by")), spelt(bootstrap_ci(one.reported, images[1].groups,
                                                                                  span=SHARE_SPAN)),
                       _over_seeds(found, which)] for which, one in rows.items()))
    gaps = [bootstrap_ci(own[best].reported - own[plain].reported, images[1].groups, span=GAP_SPAN)
            for own in found.values()]
    yield (f"\nChosen: {best.explainer} at {best.stage}. Above the best map without a model ({plain.explainer}, best "
           f"on the reported images), by seed: {'; '.join(spelt(gap, signed=True) for gap in gaps)}.")


def _named(which: Which, best: Which) -> str:
    return f"**{which.explainer}**" if which == best else which.explainer


def _seen_no_model(which: Which) -> bool:
    return not which.stage and "random" not in which.explainer


def _mean(found: dict[Run, dict[Which, Measured]], which: Which, part: str) -> float:
    """Mean over the runs of the mean over the images; −1 where all maps are blank."""
    values = [getattr(own[which], part) for own in found.values()]
    return float(np.mean([np.nanmean(one) if np.isfinite(one).any() else -1.0 for one in values]))


def _over_seeds(found: dict[Run, dict[Which, Measured]], which: Which) -> str:
    if len(found) < 2:
        return ""
    means = [np.nanmean(own[which].reported) for own in found.values()]
    return f"{short(float(np.mean(means)))} ± {short(float(np.std(means, ddof=1)))}"
