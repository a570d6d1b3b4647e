"""Answers of a frozen model by each engine: `python -m benchmarks.infer [NETWORK …]`.

Images/s of torch in float32, of torch's bfloat16 autocast, and of the engine that `kd.inference` chooses where either
would be asked, with random weights. In every round each takes its passes in an order drawn anew, and is divided by the
autocast of the same round. Beside it stand the largest error against torch in float32 (root mean square of all outputs,
relative) and the share of images that are given the same class.
"""

import argparse
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.ratios import Ratio, ratios
from kd.inference.choice import fastest_engine
from kd.inference.engine import BF16, FLOAT32, Asked, Engine, TorchEngine, spread_error
from kd.inference.openvino_engine import noise
from kd.models import build
from kd.paths import Paths
from kd.spec import RunSpec
from kd.torch_utils.compute import processor
from kd.torch_utils.memory_format import channels_last

NETWORKS, CLASSES, WANTED = ("densenet121", "resnet50", "mobilenetv2_100"), 4, 2.5
OUTPUTS = ("logits",)


@dataclass(frozen=True)
class Row:
    """One way of one network. speed: images/s of the median round relative to torch's autocast; error, agreement:
    against torch in float32. reason: of the choice, where it was one."""

    network: str
    way: str
    speed: float
    error: float
    agreement: float
    reason: str = ""


def measure(network: str, size: int, batch: int, rounds: int) -> list[Row]:
    """All ways of one network."""
    model = channels_last(build(RunSpec(model=network, image_size=size), CLASSES).eval().requires_grad_(False))
    head = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)][-1]
    torch.nn.init.normal_(head.weight, std=0.1, generator=torch.Generator().manual_seed(0))  # a new one answers 0
    images = (1 - noise(batch, size)).contiguous(memory_format=torch.channels_last)
    plain: dict[str, Engine] = {f"torch, {name}": TorchEngine(model, OUTPUTS, name) for name in (FLOAT32, BF16)}
    with tempfile.TemporaryDirectory() as folder:
        chosen = {f"chosen for {name}": fastest_engine(model, Asked(OUTPUTS, batch, size, 10**9, name),
                                                       torch.device("cpu"), Paths(Path(folder)))
                  for name in (FLOAT32, BF16)}
    exact = plain[f"torch, {FLOAT32}"](images)
    engines = {**plain, **chosen}
    base = engines[f"torch, {BF16}"]
    taken = ratios(lambda: base(images), {(way, ""): (lambda one=one: one(images)) for way, one in engines.items()},
                   rounds)
    return [_row(network, way, one, images, exact, taken[way, ""]) for way, one in engines.items()]


def _row(network: str, way: str, engine: Engine, images: torch.Tensor, exact: dict[str, torch.Tensor],
         taken: Ratio) -> Row:
    found = engine(images)
    same = (found["logits"].argmax(dim=1) == exact["logits"].argmax(dim=1)).float().mean()
    what = f"{way}: {engine.record}" if way.startswith("chosen") else way
    return Row(network, what, 1 / taken.median, spread_error(found, exact), float(same), engine.record.reason)


def table(rows: Sequence[Row]) -> str:
    """Table of all ways."""
    lines = [f"{'network':<18}{'way':<52}{'× autocast':>11}{'error':>10}{'same class':>12}"]
    lines += [f"{row.network:<18}{row.way:<52}{row.speed:>11.2f}{row.error:>10.1e}{row.agreement:>12.3f}"
              for row in rows]
    goals = [f"{'reached' if row.speed >= WANTED else 'MISSED'}: {row.network} at least {WANTED} × the autocast: "
             f"{row.speed:.2f} ({row.reason})" for row in rows if row.way.startswith(f"chosen for {BF16}")]
    return "\n".join([*lines, "", *goals])


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure as the command line says, print, and return the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.infer", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"timm's names (default {' '.join(NETWORKS)})")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels (default 96)")
    parser.add_argument("--batch", type=int, default=32, help="images in a pass (default 32)")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds (default 7)")
    parser.add_argument("--threads", type=int, help="threads (default: as torch chooses)")
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = [row for name in args.networks or NETWORKS for row in measure(name, args.size, args.batch, args.rounds)]
    print(table(rows), f"\nMedian of {args.rounds} rounds, {args.size} px, batches of {args.batch}; "
          f"{torch.get_num_threads()} threads, {processor()}, Python {platform.python_version()}, "
          f"torch {torch.__version__}.", sep="\n")
    return rows


if __name__ == "__main__":
    main()
