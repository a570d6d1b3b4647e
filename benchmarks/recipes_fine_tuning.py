"""A pretrained network fine-tuned in several ways: test accuracy, NLL, and processor time of the training.

Each row is a recipe, trained with every seed on one thread: the early stages frozen or not, and the new classifier at
zero or as timm draws it. Accuracy and NLL: mean over the seeds, with 95 % bootstrap intervals of the accuracy over test
images. Seconds: of processor time, of the first seed; further seeds read the cached features of frozen stages.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

from kd.experiments.differences import accuracy_ci
from kd.experiments.plan import plan_single_run
from kd.experiments.presets import PRESETS
from kd.experiments.results import test_predictions
from kd.jobs.queue import train_now
from kd.models import heads
from kd.paths import Paths, default_paths
from kd.store.runs import FINISHED, Run, Store

HEADER = ("recipe", "size, px", "accuracy, %", "NLL", "processor seconds")
SECONDS = "processor_seconds"  # event of a run that this module trained


@dataclass(frozen=True)
class Recipe:
    """A row. drawn_head: whether the classifier starts as timm draws it; kept in a root of its own."""

    name: str
    size: int
    drawn_head: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


FROZEN = dict(PRESETS["few-pretrained"].teacher)
WHOLE = {**FROZEN, "frozen_stages": 0}
RECIPES = (
    Recipe("early stages frozen, head at zero", 224, settings=FROZEN),
    Recipe("early stages frozen, head as timm draws it", 224, True, FROZEN),
    Recipe("early stages frozen, head at zero", 96, settings=FROZEN),
    Recipe("early stages frozen, head as timm draws it", 96, True, FROZEN),
    Recipe("all trained, head at zero", 96, settings=WHOLE),
    Recipe("all trained, head as timm draws it", 96, True, WHOLE),
    Recipe("all trained, backbone rate .3, head at zero", 96, settings={**WHOLE, "backbone_rate": 0.3}),
)


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The table's own arguments."""
    verb.add_argument("--data", required=True, metavar="PATH", help="The data set.")
    verb.add_argument("--weights", required=True, metavar="FILE", help="Pretrained weights of the model.")
    verb.add_argument("--model", default="mobilenetv2_100", help="A timm model (default mobilenetv2_100).")
    verb.add_argument("--normalisation", default="model", help="Scaling that the weights expect (default model).")
    verb.add_argument("--seeds", type=int, default=1, help="Seeds of each recipe (default 1).")
    verb.add_argument("--rows", type=int, nargs="+", metavar="N", help="Only these rows, from 1.")


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The table in Markdown, line by line; trains what is missing."""
    yield f"| {' | '.join(HEADER)} |"
    yield f"|{'---|' * len(HEADER)}"
    for number, recipe in enumerate(RECIPES, 1):
        if number in (options.rows or (number,)):
            yield row(recipe, [trained(recipe, seed, options) for seed in range(options.seeds)])


def trained(recipe: Recipe, seed: int, options: argparse.Namespace) -> Run:
    """The finished run of a recipe and a seed."""
    root = Path(options.root).resolve() if options.root else default_paths().root
    store = Store(Paths(root / "drawn-heads" if recipe.drawn_head else root))
    spec = plan_single_run({"data": options.data, "model": options.model, "pretrained": options.weights,
                            "normalisation": options.normalisation, "image_size": recipe.size, "threads": 1,
                            "seed": seed, **recipe.settings}, store)
    run = store.create(spec)
    if run.status != FINISHED:
        began = time.process_time()
        with drawn_heads() if recipe.drawn_head else nullcontext():
            train_now(run, store)
        run.log(SECONDS, seconds=time.process_time() - began)
    return run


@contextmanager
def drawn_heads() -> Iterator[None]:
    """New classifiers start as timm draws them."""
    with mock.patch.object(heads, "start_at_zero"), mock.patch.object(heads, "limit_spread"):
        yield


def row(recipe: Recipe, runs: list[Run]) -> str:
    """One recipe's results over its seeds."""
    scores = [run.evaluation or {} for run in runs]
    level = accuracy_ci([found for run in runs if (found := test_predictions(run))])
    interval = "" if level.low is None or level.high is None else f" [{100 * level.low:.1f}, {100 * level.high:.1f}]"
    timed = runs[0].last_event(SECONDS)
    seconds = f"{timed['seconds']:.0f}" if timed else "not timed"
    cells = (recipe.name, str(recipe.size), f"{100 * mean(one['accuracy'] for one in scores):.1f}{interval}",
             f"{mean(one['loss'] for one in scores):.2f}", seconds)
    return f"| {' | '.join(cells)} |"
