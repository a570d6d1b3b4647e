"""Runtime of explanations: KD-FMV's mean execution time, FLOPs and memory, of several models measured in turn."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.datasets.tensors import to_tensor
from kd.explainers import DEFAULT_STAGE, Explainer, StageChoice
from kd.models.base import Classifier
from kd.progress import ShareCallback, no_share
from kd.timing import Timing, measure_in_turn, summarise
from kd.torch_utils.flops import FlopCounter

IMAGES = {"instant": 8, "seconds": 4, "minutes": 1}  # in the batch, by the explainer's `cost`
REPEATS = 5


def execution(models: Mapping[str, Classifier], explainers: Mapping[str, Explainer], images: NDArray[np.uint8],
              targets: Mapping[str, NDArray[np.int64]], stage: StageChoice = DEFAULT_STAGE, repeats: int = REPEATS,
              progress: ShareCallback = no_share) -> dict[str, Any]:
    """Cost of explaining images [n, S, S, 3] in one batch (fewer of them where an explainer is slow).

    explainers, targets: by the models' names the explainer of each, and the classes explained [n]. Returns, per name:
    seconds (Timing per image: KD-FMV's mean execution time), forward (of a plain forward pass), ratio of the two, flops
    per image, and peak_bytes above the idle model while `peak_batch` images are explained (both
    None of an 8-bit student); and the protocol. An instant
    explainer is timed `repeats` times after one uncounted turn, all models in turn; slower ones run once. progress: may
    raise to stop.
    """
    count = min(len(images), *(IMAGES[explainers[name].info.cost] for name in models))
    trials = [_Trial(models[name], explainers[name], images[:count], targets[name][:count], stage) for name in models]
    seconds = iter(measure_in_turn([call for trial in trials for call in trial.calls()], repeats))
    costs = {}
    for number, (name, trial) in enumerate(zip(models, trials, strict=True)):
        forward = summarise(next(seconds))
        explained = summarise(next(seconds)) if trial.instant else trial.once(progress, number / len(trials))
        progress((number + 0.5) / len(trials))
        batch = count if trial.instant else 1
        flops, peak = trial.effort(batch)
        costs[name] = {"seconds": _per_image(explained, count).to_json(),
                       "forward": _per_image(forward, count).to_json(), "ratio": explained.median / forward.median,
                       "flops": flops, "peak_bytes": peak, "peak_batch": batch}
    protocol = {"device": str(trials[0].model.mean.device), "threads": torch.get_num_threads(), "batch": count,
                "image_size": images.shape[1], "torch": torch.__version__}
    return {"models": costs, "protocol": protocol}


class _Trial:
    """One model's batch; results leave the device inside the timed calls, so nothing is still pending."""

    def __init__(self, model: Classifier, explainer: Explainer, images: NDArray[np.uint8],
                 targets: NDArray[np.int64], stage: StageChoice) -> None:
        self.model, self.explainer, self.stage = model, explainer, stage
        self.images = to_tensor(images, model.mean.device)
        self.targets = torch.from_numpy(targets).to(model.mean.device)
        self.instant = explainer.info.cost == "instant"

    def calls(self) -> list[Callable[[], None]]:
        """Calls that are timed in turn with those of the others."""
        return [self.forward, self.explain] if self.instant else [self.forward]

    def forward(self) -> None:
        with torch.no_grad():
            self.model(self.images).logits.cpu()

    def explain(self, progress: ShareCallback | None = None) -> None:
        self.explainer(self.model, self.images, self.targets, self.stage, progress).values.cpu()

    def once(self, progress: ShareCallback, share: float) -> Timing:
        began = time.perf_counter()
        self.explain(lambda _: progress(share))
        seconds = time.perf_counter() - began
        return Timing(seconds, seconds, seconds, 1, 0)

    def effort(self, count: int) -> tuple[int | None, int | None]:
        """(FLOPs per image, peak bytes) of explaining the first `count` images; None of a model that is not torch's."""
        if self.model.network is not self.model:
            return None, None
        with FlopCounter(memory=True) as counter:
            self.explainer(self.model, self.images[:count], self.targets[:count], self.stage)
        return counter.flops // count, counter.peak_bytes


def _per_image(timing: Timing, count: int) -> Timing:
    return Timing(timing.median / count, timing.low / count, timing.high / count, timing.n, timing.warmup)
