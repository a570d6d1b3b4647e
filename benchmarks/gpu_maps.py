"""Whether a run's maps on a device are those of the package pytorch-grad-cam there, and those of the processor.

    python -m benchmarks.gpu_maps RUN                     # on CUDA
    python -m benchmarks.gpu_maps RUN --device cpu

One line per explainer that the package has, on the first test image; the process ends with 1 where one differs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from kd.evaluation import predict
from kd.inspection.cam_check import COUNTERPARTS, check
from kd.inspection.explain import explain
from kd.inspection.model_pool import ModelPool
from kd.paths import Paths, default_paths
from kd.store.runs import Store

TOLERANCE = 2e-2  # of the largest value: convolutions on a GPU round to 10 bits where TF32 is on


class Result(NamedTuple):
    """package: difference from pytorch-grad-cam's raw maps. processor: from the same map on the processor, as a share
    of the largest value. ms: median of one explanation."""

    explainer: str
    package: float
    processor: float
    ms: float
    passed: bool


def compare(store: Store, name: str, device: str) -> list[Result]:
    """A result per explainer that the package has."""
    run, found = store[name], []
    image = np.asarray(predict.data_of(run, store).test.images[0])
    pool, own = ModelPool(device=device), ModelPool()
    for explainer in COUNTERPARTS:
        here, there = explain(run, image, explainer, 0, pool=pool), explain(run, image, explainer, 0, pool=own)
        checked = check(pool(run, len(here.classes)), here)
        one, other = here.maps[0].values, there.maps[0].values
        apart = float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-12))
        close = checked.difference is not None and checked.difference <= TOLERANCE and apart <= TOLERANCE
        found.append(Result(explainer, checked.difference or 0.0, apart, 1e3 * here.timing.median, close))
    return found


def main(args: Sequence[str] | None = None) -> list[Result]:
    """A line per explainer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--root")
    chosen = parser.parse_args(args)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    store = Store(Paths(Path(chosen.root).resolve()) if chosen.root else default_paths())
    found = compare(store, chosen.run, chosen.device)
    for one in found:
        print(f"{one.explainer:20s} package {one.package:.1e} processor {one.processor:.1e} {one.ms:8.1f} ms: "
              f"{'passed' if one.passed else 'MISSED'}")
    return found


if __name__ == "__main__":
    sys.exit(0 if all(one.passed for one in main()) else 1)
