"""Whether training on a GPU, interrupted and resumed, ends where it ends without the interruption.

    python -m benchmarks.gpu_check                       # on CUDA, in float32, bfloat16 and float16
    python -m benchmarks.gpu_check --device cpu --precisions 32-true

For each precision one run of three epochs goes through; another is stopped in its third and resumed. The device's sums
are not the same from run to run, so both are held together within a tolerance, and the process ends with 1 where one
is missed. No test can do this: none of the machines that run the tests has such a device.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file

from kd.errors import Stopped, UsageError
from kd.paths import Paths
from kd.spec import RunSpec
from kd.store.runs import Run, Store
from kd.training.loop import train

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# Of the weights, relative to the largest: float16 and bfloat16 keep 11 and 8 bits, and every step builds on the last.
TOLERANCE = {"32-true": 1e-3, "bf16-mixed": 5e-2, "16-mixed": 1e-2}
EPOCHS, STOP_IN = 3, 2  # stopped after so many full epochs, in the one that follows


class Result(NamedTuple):
    """weights: largest difference, relative to the largest weight. losses: largest difference of an epoch's loss.
    scaler: the gradient scaler's scale in the saved state, 0.0 where the precision has none. device: as recorded."""

    precision: str
    device: str
    weights: float
    losses: float
    scaler: float

    @property
    def passed(self) -> bool:
        """Whether both ended alike, and a scaler's scale was saved where there is one."""
        close = max(self.weights, self.losses) <= TOLERANCE[self.precision]
        return close and (self.scaler > 0) == (self.precision == "16-mixed")


def check(device: str, precision: str, root: Path) -> Result:
    """Train both runs under `root`. Raises UsageError where the device or the precision cannot be had here."""
    spec = RunSpec(data="phantom-brain:count=120", image_size=32, depth=3, width=8, epochs=EPOCHS, batch_size=8,
                   views=3, device=device, precision=precision)
    whole, broken = (Store(Paths(root / name)) for name in ("whole", "broken"))
    first, second = whole.create(spec), broken.create(spec)
    train(first, whole)
    with suppress(Stopped):
        train(second, broken, _after_epochs(second, STOP_IN))
    state = torch.load(second.resume_state, map_location="cpu", weights_only=True)
    train(second, broken)
    losses = [abs(one["loss"] - other["loss"]) for one, other in zip(first.epochs(), second.epochs(), strict=True)]
    started = second.last_event("started") or {}
    return Result(str(started["precision"]), str(started["device"]), _difference(first, second), max(losses),
                  float(state["scaler"].get("scale", 0.0)))


def _after_epochs(run: Run, epochs: int) -> Callable[[], bool]:
    """Stops the run two batches into the epoch after these."""
    batches = iter(range(10**9))
    return lambda: len(run.epochs()) >= epochs and next(batches) >= 2


def _difference(first: Run, second: Run) -> float:
    one, other = load_file(first.weights), load_file(second.weights)
    largest = max(float(value.abs().max()) for value in one.values())
    return max(float((value - other[name]).abs().max()) for name, value in one.items()) / largest


def main(args: Sequence[str] | None = None) -> list[Result]:
    """A line per precision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "mps", "cpu"))
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    chosen = parser.parse_args(args)
    found = []
    for precision in chosen.precisions:
        with tempfile.TemporaryDirectory() as root:
            try:
                found.append(check(chosen.device, precision, Path(root)))
            except UsageError as error:
                parser.error(str(error))
        one = found[-1]
        print(f"{one.precision:11s} {one.device:7s} weights {one.weights:.1e} losses {one.losses:.1e} "
              f"scale {one.scaler:g}: {'passed' if one.passed else 'MISSED'}")
    return found


if __name__ == "__main__":
    sys.exit(0 if all(one.passed for one in main()) else 1)
