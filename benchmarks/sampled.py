"""Explanations by many forward passes, with torch and with the chosen engine: `python -m benchmarks.sampled`.

One image by KernelSHAP, occlusion, Score-CAM, and the faithfulness of one map (insertion, deletion and others), each
by the model itself and by `kd.inference.fast_model`, which evaluations of explanations ask, in float32. Ratios of the
same round, random weights; the engine is chosen, and the network converted, before the clock starts. The last line of a
network is KD-FMV's comparison: its KernelSHAP by the stage maps of a plain student of five stages. Minutes a network.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.maps_runs import table
from benchmarks.ratios import FORWARD, Ratio, ratios, seconds
from kd.explainers import EXPLAINERS
from kd.explanation_metrics.faithfulness import centred_maps, faithfulness
from kd.inference.fast_model import fast_model
from kd.models import build
from kd.models.base import Classifier
from kd.paths import Paths
from kd.spec import RunSpec
from kd.torch_utils.memory_format import channels_last

NETWORKS, CLASSES, WANTED = ("densenet121", "resnet50", "mobilenetv2_100"), 4, 2.5
SAMPLED = ("kernel-shap", "occlusion", "score-cam")
HEADER = ("network", "explanation", "torch, s", "times as fast by the engine")


def main(args: Sequence[str] | None = None) -> None:
    """The table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--size", type=int, default=96, help="Pixels a side (default 96).")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(args)
    torch.set_num_threads(chosen.threads)
    print(*table(HEADER, []), sep="\n")
    for network in chosen.networks:
        for cells in rows(network, chosen.size, chosen.rounds):
            print(f"| {' | '.join(cells)} |", flush=True)


def rows(network: str, size: int, rounds: int) -> Iterator[tuple[str, ...]]:
    """A row per explanation of one network."""
    teacher = _built(RunSpec(model=network, image_size=size))
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        fast = fast_model(teacher, size, 10**9, Paths(Path(folder)))
        for name in (*SAMPLED, "faithfulness"):
            found, taken = _ratio(partial(_explain, name, image=image), teacher, fast, rounds)
            yield network, name, f"{taken:.2f}", str(found)
        student = _built(RunSpec(depth=5, width=16, image_size=size))
        by_shap = partial(_explain, "kernel-shap", fast, image=image)
        found = ratios(partial(_explain, "stage-maps", student, image=image), {("shap", ""): by_shap}, rounds)
        yield network, "KernelSHAP, by the engine, ÷ the student's stage maps", "", f"{found['shap', ''].median:.0f} ×"


def _built(spec: RunSpec) -> Classifier:
    torch.manual_seed(0)
    return channels_last(build(spec, CLASSES).eval().requires_grad_(False))


def _ratio(explain: Callable[[Classifier], object], plain: Classifier, fast: Classifier, rounds: int
           ) -> tuple[Ratio, float]:
    """How many times as fast the engine is, and torch's seconds."""
    explain(fast)  # chooses and converts
    found = ratios(lambda: explain(fast), {("torch", ""): lambda: explain(plain)}, rounds)
    assert FORWARD not in found, "the reference is the engine"
    return found["torch", ""], seconds(lambda: explain(plain))


def _explain(name: str, model: Classifier, image: np.ndarray) -> None:
    if name == "faithfulness":
        faithfulness(model, image, np.zeros(1, np.int64), centred_maps(1, 7))
        return
    images = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
    EXPLAINERS[name](model, images, torch.zeros(1, dtype=torch.long))


if __name__ == "__main__":
    main()
