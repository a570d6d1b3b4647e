"""Linear probes of a model's stages (Alain & Bengio 2016, arXiv 1610.01644).

A linear probe is a linear classifier on a stage's globally averaged features, trained once per run on its frozen model:
it shows at which stage the classes become linearly separable. Stored as `readouts.safetensors` and, written last,
`readouts.json`.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as pack
from torch import Tensor
from torch.nn import functional as F

from kd.datasets import take_fraction
from kd.datasets.base import Dataset, Split
from kd.datasets.tensors import read_images, to_tensor
from kd.errors import Stopped, UsageError
from kd.evaluation import predict
from kd.inference.choice import fastest_engine
from kd.inference.engine import POOLED, Asked
from kd.metrics import classification
from kd.models.base import Classifier
from kd.paths import Paths
from kd.progress import ProgressCallback, no_progress
from kd.store.files import write_bytes, write_json
from kd.store.runs import FINISHED, Run, Store
from kd.torch_utils.compute import device_here

STRENGTHS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)  # of the L2 penalty, from strong to weak
MOST_IMAGES = 10_000  # of training: more do not improve a linear layer, and the features must fit in memory
STEPS = 200
FILE, FACTS = "readouts.safetensors", "readouts.json"
PARTS = ("mean", "gain", "weight", "bias")


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Linear probe of one stage: `softmax(((pooled − mean) · gain) Wᵀ + b)`.

    mean, gain: [C], of the training features; gain is 1 / standard deviation, or 0 for a channel that never changes.
    weight: [K, C]. bias: [K]. All float64. facts: stage, name, channels, strength (of the L2 penalty), val_loss
    (nats), and train_accuracy, val_accuracy and test_accuracy in 0..1.
    """

    mean: Tensor
    gain: Tensor
    weight: Tensor
    bias: Tensor
    facts: dict[str, Any]

    def logits(self, pooled: Tensor) -> Tensor:
        """Logits, float64 [B, K], of a stage's pooled features [B, C]."""
        return (pooled.double() - self.mean) * self.gain @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class LinearProbes:
    """Linear probes of all stages of a run.

    facts: classes, images per split, per split the model's own accuracy and the majority-class baseline (always the
    most frequent class of training), paper and protocol.
    """

    layers: tuple[LinearProbe, ...]
    facts: dict[str, Any]

    def probabilities(self, stages: Sequence[Tensor]) -> NDArray[np.float64]:
        """Class probabilities [B, S, K] after each stage, of all stages' features [B, C_i, H_i, W_i] of one forward."""
        with torch.no_grad():
            logits = [layer.logits(global_average(features).cpu())
                      for layer, features in zip(self.layers, stages, strict=True)]
        return classification.softmax(torch.stack(logits, dim=1).numpy())

    def to_json(self) -> dict[str, Any]:
        """Plain, finite values; the weights are in the safetensors file."""
        return {**self.facts, "stages": [layer.facts for layer in self.layers]}


def global_average(features: Tensor) -> Tensor:
    """Global average pooling: [B, C, H, W] to [B, C]."""
    return features.mean(dim=(2, 3))


def fit(store: Store, run: Run, progress: ProgressCallback = no_progress,
        should_stop: Callable[[], bool] = lambda: False) -> LinearProbes:
    """Train and store the linear probes of a finished run: one pass over its data, then a convex problem per stage.

    Training features are those of the run's training images without augmentation (at most MOST_IMAGES, drawn per
    class), standardised; multinomial logistic regression with an L2 penalty by L-BFGS, its strength chosen by the
    validation loss. No random numbers: the same run on the same machine gives the same probes. progress: called with
    the phase and the share of the whole. Raises Stopped when `should_stop`, called between batches and steps, returns
    True, and UsageError when the run is not finished or its data set is gone or has changed.
    """
    if run.status != FINISHED:
        raise UsageError(f"{run.id} is {run.status}, not finished, so its stages cannot be read out yet. "
                         "Wait for its end, or resume it.")
    began = time.perf_counter()
    data = predict.data_of(run, store, lambda phase, share: progress(phase, 0.1 * share))
    model = predict.load(run, len(data.classes)).requires_grad_(False).to(device_here(run.spec.device))
    pools = _FeatureExtractor(model, store.paths, progress, should_stop)(_shown(run, data))
    layers = []
    for stage, one in enumerate(model.stages):
        progress(f"training the linear probe of {one.name}", 0.8 + 0.2 * stage / len(model.stages))
        features = {part: pooled.stages[stage] for part, pooled in pools.items()}
        layers.append(_fit_probe(stage, one.name, features, _labels(pools), len(data.classes), should_stop))
    found = LinearProbes(tuple(layers), _facts(data, pools, time.perf_counter() - began))
    _save(run, found)
    return found


def load(run: Run) -> LinearProbes | None:
    """The stored linear probes of a run, or None."""
    facts = summary(run)
    if facts is None:
        return None
    try:
        tensors = load_file(run.path / FILE)
    except (OSError, SafetensorError):  # deleted meanwhile, or damaged
        return None
    stages = facts.pop("stages")
    return LinearProbes(tuple(LinearProbe(**{part: tensors[f"{number:02d}.{part}"] for part in PARTS}, facts=one)
                          for number, one in enumerate(stages)), facts)


def summary(run: Run) -> dict[str, Any] | None:
    """Facts and accuracies per stage of the linear probes (`LinearProbes.to_json`), or None before they were trained.
    """
    try:
        return json.loads((run.path / FACTS).read_text())
    except (FileNotFoundError, ValueError):
        return None


@dataclass(frozen=True, eq=False)
class _Pooled:
    """One split's pooled features [N, C_i] per stage, logits [N, K] and labels [N]."""

    stages: list[Tensor]
    logits: Tensor
    labels: Tensor


class _FeatureExtractor:
    """Feature extractor: one pass of the model over some splits."""

    def __init__(self, model: Classifier, paths: Paths, progress: ProgressCallback,
                 should_stop: Callable[[], bool]) -> None:
        self.model, self.paths, self.progress, self.should_stop = model, paths, progress, should_stop

    def __call__(self, shown: dict[str, tuple[Split, NDArray[np.int64]]]) -> dict[str, _Pooled]:
        self.total, self.done = sum(len(index) for _, index in shown.values()), 0
        outputs = (*(f"{POOLED}:{number}" for number in range(len(self.model.stages))), "logits")
        size = shown["train"][0].images.shape[1]
        asked = Asked(outputs, predict.BATCH, size, self.total, whole=False)
        self.engine = fastest_engine(self.model, asked, self.model.mean.device, self.paths)
        return {part: self._split(part, *pair) for part, pair in shown.items()}

    @torch.no_grad()
    def _split(self, part: str, split: Split, index: NDArray[np.int64]) -> _Pooled:
        rows = []
        for start in range(0, len(index), predict.BATCH):
            if self.should_stop():
                raise Stopped
            self.progress(f"extracting features of the {part} images", 0.1 + 0.7 * self.done / self.total)
            batch = index[start:start + predict.BATCH]
            rows.append(self.engine(to_tensor(read_images(split.images, batch), self.model.mean.device)).values())
            self.done += len(batch)
        *stages, logits = (torch.cat(column).float().cpu() for column in zip(*rows, strict=True))
        return _Pooled(stages, logits, torch.from_numpy(np.asarray(split.labels[index])))


def _shown(run: Run, data: Dataset) -> dict[str, tuple[Split, NDArray[np.int64]]]:
    """Each split and the indices of its images that are used, ascending, which is fastest on a memory map."""
    share = min(run.spec.data_fraction, MOST_IMAGES / len(data.train))
    learnt = take_fraction(data.train, share, len(data.classes))
    return {"train": (data.train, learnt), "val": (data.val, np.arange(len(data.val))),
            "test": (data.test, np.arange(len(data.test)))}


def _labels(pools: dict[str, _Pooled]) -> dict[str, Tensor]:
    return {part: pooled.labels for part, pooled in pools.items()}


def _fit_probe(stage: int, name: str, features: dict[str, Tensor], labels: dict[str, Tensor], classes: int,
              should_stop: Callable[[], bool]) -> LinearProbe:
    """Linear probe of one stage, from its pooled features [N, C] and the labels [N] of each split."""
    train = features["train"].double()
    if not torch.isfinite(train).all():
        raise UsageError(f"The features of {name} are not finite: the run diverged. Train it again with a lower "
                         "learning rate.")
    mean, spread = train.mean(dim=0), train.std(dim=0, correction=0)
    varies = spread > 1e-6 * torch.maximum(mean.abs(), spread.max())  # float32 sums err by this much around a constant
    gain = torch.where(varies, 1 / torch.where(varies, spread, 1.0), 0.0)
    scaled = {part: (values.double() - mean) * gain for part, values in features.items()}
    strength, weight, bias, loss = _tune(scaled, labels, classes, should_stop)
    accuracy = {f"{part}_accuracy": _accuracy(values @ weight.T + bias, labels[part])
                for part, values in scaled.items()}
    return LinearProbe(mean, gain, weight, bias, {"stage": stage, "name": name, "channels": train.shape[1],
                                              "strength": strength, "val_loss": loss, **accuracy})


def _tune(scaled: dict[str, Tensor], labels: dict[str, Tensor], classes: int,
               should_stop: Callable[[], bool]) -> tuple[float, Tensor, Tensor, float]:
    """(strength, weight, bias, validation loss) of the best of STRENGTHS on validation.

    From strong to weak, each starting from the last solution, until the validation loss rises: weaker penalties would
    overfit more and take longest.
    """
    parameters = torch.zeros(classes, scaled["train"].shape[1] + 1, dtype=torch.float64)
    best: tuple[float, Tensor, Tensor, float] | None = None
    for strength in STRENGTHS:
        parameters = _regress(scaled["train"], labels["train"], strength, parameters, should_stop)
        weight, bias = parameters[:, :-1], parameters[:, -1]
        loss = float(F.cross_entropy(scaled["val"] @ weight.T + bias, labels["val"]))
        if best is not None and not loss < best[3]:
            break
        best = strength, weight.clone(), bias.clone(), loss
    assert best is not None, "there is more than one strength"
    return best


def _regress(x: Tensor, y: Tensor, strength: float, start: Tensor, should_stop: Callable[[], bool]) -> Tensor:
    """Minimiser [W | b] [K, C + 1] of mean cross-entropy + strength/2 · |W|²; the bias is not penalised."""
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=STEPS, tolerance_grad=1e-6, tolerance_change=1e-10,
                                  line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        if should_stop():
            raise Stopped
        weight, bias = parameters[:, :-1], parameters[:, -1]
        loss = F.cross_entropy(x @ weight.T + bias, y) + strength / 2 * weight.square().sum()
        [parameters.grad] = torch.autograd.grad(loss, [parameters])
        return loss.detach()

    with torch.enable_grad():
        optimizer.step(closure)
    return parameters.detach()


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(dim=1) == labels).double().mean())


def _facts(data: Dataset, pools: dict[str, _Pooled], seconds: float) -> dict[str, Any]:
    return {"classes": list(data.classes), "images": {part: len(pooled.labels) for part, pooled in pools.items()},
            "model": {f"{part}_accuracy": _accuracy(pooled.logits, pooled.labels) for part, pooled in pools.items()},
            "chance": {f"{part}_accuracy": float((pooled.labels == pools["train"].labels.mode().values).double().mean())
                       for part, pooled in pools.items()},
            "paper": "Alain & Bengio 2016, arXiv 1610.01644", "seconds": seconds, "torch": torch.__version__,
            "protocol": "Linear probe on each stage's globally averaged, standardised features of the plain "
                        "training images; L2 penalty chosen by validation loss."}


def _save(run: Run, found: LinearProbes) -> None:
    tensors = {f"{number:02d}.{part}": getattr(layer, part).contiguous()
               for number, layer in enumerate(found.layers) for part in PARTS}
    (run.path / FACTS).unlink(missing_ok=True)  # so that facts and weights are never of different fits
    write_bytes(run.path / FILE, pack(tensors))
    write_json(run.path / FACTS, found.to_json())
