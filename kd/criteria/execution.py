"""What explaining costs: KD-FMV's mean execution time, FLOPs and memory, for several models taken in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from kd.datasets.tensors import to_tensor
from kd.explainers import Explainer, Progress
from kd.models.base import Classifier
from kd.timing import Timing, measure_in_turn, summarise

IMAGES = {"instant": 8, "seconds": 4, "minutes": 1}  # in the batch, by what the explainer says of its cost
REPEATS = 5


class Effort(TorchDispatchMode):
    """`with Effort() as effort:` counts what this thread's torch operations in the block do, on any device.

    flops: of convolutions and matrix products, backward ones too; a multiply-add is 2. peak: most bytes of tensors made
    in the block that were alive at once, those kept for the backward pass too; scratch space inside a kernel and what
    numpy holds are not seen. No hooks and no process-wide counter, so other threads may train meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        counted = func._overloadpacket in flop_registry
        if not counted:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        before = {_key(value) for value in _tensors((args, kwargs))}
        result = func(*args, **kwargs)
        if counted:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
        self._note([value for value in _tensors(result) if _key(value) not in before])
        return result

    def _note(self, made: list[Tensor]) -> None:
        self._alive = {key: pair for key, pair in self._alive.items() if not pair[0].expired()}
        for value in made:
            storage = value.untyped_storage()
            self._alive[_key(value)] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))


def _key(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.layout == torch.strided else []
    if isinstance(value, dict):
        value = list(value.values())
    return [one for part in value for one in _tensors(part)] if isinstance(value, (list, tuple)) else []


def execution(models: Mapping[str, Classifier], explainers: Mapping[str, Explainer], images: NDArray[np.uint8],
              targets: Mapping[str, NDArray[np.int64]], stage: int = -1, repeats: int = REPEATS,
              progress: Progress = lambda share: None) -> dict[str, Any]:
    """Cost of explaining these pictures [n, S, S, 3] in one batch (fewer of them where an explainer is slow).

    explainers, targets: by the models' names how each is asked, and about which classes [n]. Gives, per name: seconds
    (Timing per image: KD-FMV's mean execution time), forward (of a plain forward pass), ratio of the two, flops per
    image, and peak_bytes above the idle model while `peak_batch` pictures are explained; and the protocol. An instant
    explainer is timed `repeats` times after one uncounted turn, all models in turn; slower ones run once. progress: may
    raise to stop.
    """
    count = min(len(images), *(IMAGES[explainers[name].facts.cost] for name in models))
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
                 targets: NDArray[np.int64], stage: int) -> None:
        self.model, self.explainer, self.stage = model, explainer, stage
        self.images = to_tensor(images, model.mean.device)
        self.targets = torch.from_numpy(targets).to(model.mean.device)
        self.instant = explainer.facts.cost == "instant"

    def calls(self) -> list[Callable[[], None]]:
        """What is timed in turn with the others."""
        return [self.forward, self.explain] if self.instant else [self.forward]

    def forward(self) -> None:
        with torch.no_grad():
            self.model(self.images).logits.cpu()

    def explain(self, progress: Progress | None = None) -> None:
        self.explainer(self.model, self.images, self.targets, self.stage, progress).values.cpu()

    def once(self, progress: Progress, share: float) -> Timing:
        began = time.perf_counter()
        self.explain(lambda _: progress(share))
        seconds = time.perf_counter() - began
        return Timing(seconds, seconds, seconds, 1, 0)

    def effort(self, count: int) -> tuple[int, int]:
        """(FLOPs per image, peak bytes) of explaining the first `count` pictures."""
        with Effort() as effort:
            self.explainer(self.model, self.images[:count], self.targets[:count], self.stage)
        return effort.flops // count, effort.peak


def _per_image(timing: Timing, count: int) -> Timing:
    return Timing(timing.median / count, timing.low / count, timing.high / count, timing.n, timing.warmup)
