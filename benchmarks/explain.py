"""Cost of explanations relative to the model's own forward pass: `python -m benchmarks.explain [--quick]`.

Ours against the packages grad-cam, torchcam and captum, in one process: in every round each contestant explains the
same images, in an order drawn anew, and is divided by the forward pass (`torch.inference_mode`) of the same round.
What takes less than 50 ms is repeated for so long. All read the same features of the same random weights and give raw
or scaled maps at their grid; raising them to the image is in grad-cam's time, since it does that itself. Each peer
has a copy of the model with weights that can be trained, as their guides show it; ours has frozen ones, as the
dashboard does.

Then a masked student beside its teacher (`benchmarks.explained`).
"""

import argparse
import copy
import os
import platform
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import explained
from benchmarks.ratios import Call, Ratio, ratios
from kd.explainers import EXPLAINERS
from kd.models import build
from kd.models.base import Classifier
from kd.spec import RunSpec

STUDENT = "student"
MODELS = ("densenet121", "resnet50", "efficientnet_b0", "resnet18", STUDENT)
OURS, TOOLS = "ours", ("ours", "grad-cam", "torchcam", "captum")
CLASSES, SIZE, BATCHES = 4, 224, (1, 8)
FAMILY = {"Grad-CAM": ("grad-cam", "GradCAM"), "Grad-CAM++": ("grad-cam-plus-plus", "GradCAMPlusPlus"),
          "LayerCAM": ("layer-cam", "LayerCAM"), "HiResCAM": ("hires-cam", "HiResCAM"),
          "XGrad-CAM": ("xgrad-cam", "XGradCAM"), "EigenCAM": ("eigen-cam", "EigenCAM")}
FOUR, STAGES = "Grad-CAM, four stages", "all stage maps"


class Logits(nn.Module):
    """A classifier in the form that other packages need: a module from images to logits, with a module per stage."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(True)
        self.last = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward_head(self.last(self.model.forward_stages(self.model.prepare(images))[-1]))

    def layer(self, stage: int) -> nn.Module:
        """The module at the last stage (-1) or an earlier one."""
        if stage == -1:
            return self.last
        name = self.model.stages[stage].name
        layers = getattr(self.model, "layers", None)
        return layers[stage] if layers is not None else self.model.net.get_submodule(name)


def contestants(model: Classifier, images: Tensor, targets: Tensor) -> dict[tuple[str, str], Call]:
    """Timed calls by (method, tool)."""
    four = range(-min(4, len(model.stages)), 0)
    every = range(len(model.stages))
    calls: dict[tuple[str, str], Call] = {
        (FOUR, OURS): lambda: EXPLAINERS["grad-cam"].at_stages(model, images, targets, four),
        (STAGES, OURS): lambda: EXPLAINERS["stage-maps"].at_stages(model, images, targets, every),
        (FOUR, "grad-cam"): _each(*(_pytorch_grad_cam(model, "GradCAM", images, targets, stage) for stage in four)),
        ("Grad-CAM", "torchcam"): _torchcam(model, "GradCAM", images, targets),
        ("LayerCAM", "torchcam"): _torchcam(model, "LayerCAM", images, targets),
        ("Grad-CAM", "captum"): _captum(model, images, targets)}
    for method, (mine, theirs) in FAMILY.items():
        calls[method, OURS] = lambda mine=mine: EXPLAINERS[mine](model, images, targets)
        calls[method, "grad-cam"] = _pytorch_grad_cam(model, theirs, images, targets, -1)
    return calls


def _each(*calls: Call) -> Call:
    return lambda: [call() for call in calls]


def _pytorch_grad_cam(model: Classifier, kind: str, images: Tensor, targets: Tensor, stage: int) -> Call:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    wrapped = Logits(model)
    cam = getattr(pytorch_grad_cam, kind)(wrapped, [wrapped.layer(stage)])
    wanted = [ClassifierOutputTarget(int(target)) for target in targets]
    return lambda: cam(images, wanted)


def _torchcam(model: Classifier, kind: str, images: Tensor, targets: Tensor) -> Call:
    from torchcam import methods

    wrapped = Logits(model).eval()
    extractor = getattr(methods, kind)(wrapped, target_layer=wrapped.last)
    return lambda: extractor(targets.tolist(), wrapped(images))


def _captum(model: Classifier, images: Tensor, targets: Tensor) -> Call:
    from captum.attr import LayerGradCam

    wrapped = Logits(model)
    explainer = LayerGradCam(wrapped, wrapped.last)
    return lambda: explainer.attribute(images, targets, relu_attributions=True)


Results = dict[str, dict[int, dict[tuple[str, str], Ratio]]]


def measure(models: Sequence[str], size: int, rounds: int, batches: Sequence[int] = BATCHES) -> Results:
    """Ratios by model, batch size and contestant."""
    found: Results = {}
    for name in models:
        spec = RunSpec(model="plain", depth=5, image_size=size) if name == STUDENT else RunSpec(
            model=name, image_size=size)
        model = build(spec, CLASSES).eval().requires_grad_(False)
        found[name] = {}
        for batch in batches:
            images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                targets = model(images).logits.argmax(dim=1)

            @torch.inference_mode()
            def forward(model: Classifier = model, images: Tensor = images) -> object:
                return model(images)

            found[name][batch] = ratios(forward, contestants(model, images, targets), rounds)
    return found


def table(results: Results) -> str:
    """Table of the results."""
    batches = list(next(iter(results.values())))
    heads = [f"{tool}, {batch}" for tool in TOOLS for batch in batches]
    lines = []
    for name, seen in results.items():
        lines.append(f"\n{name:<24}" + "".join(f"{head:>20}" for head in heads))
        for method in dict.fromkeys([*FAMILY, FOUR, STAGES]):
            cells = [str(seen[batch].get((method, tool), "")) for tool in TOOLS for batch in batches]
            lines.append(f"{method:<24}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def goals(results: Results) -> list[str]:
    """Claims, and whether this run confirms them."""
    first = min(next(iter(results.values())))
    wanted = [("Grad-CAM", name, 1.10) for name in results] + [(FOUR, name, 2.1) for name in results]
    if STUDENT in results:
        wanted.append((STAGES, STUDENT, 1.10))
    lines = []
    for method, name, most in wanted:
        found = results[name][first]
        ours, theirs = found[method, OURS].median, found.get((method, "grad-cam"))
        beside = f", grad-cam {theirs.median:.2f}" if theirs else ""
        verdict = "reached" if ours <= most else "MISSED"
        lines.append(f"{verdict}: {method} of {name} at most {most:.2f} × forward: {ours:.2f}{beside}")
    middle = statistics.median(results[name][first]["Grad-CAM", OURS].median for name in results)
    lines.append(f"{'reached' if middle <= 1.10 else 'MISSED'}: Grad-CAM at the median over models at most 1.10 × "
                 f"forward: {middle:.2f}")
    return lines


def protocol(size: int, rounds: int) -> str:
    """Protocol of the measurement in one line."""
    from importlib.metadata import version

    peers = ", ".join(f"{name} {version(name)}" for name in ("grad-cam", "torchcam", "captum"))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (f"Median (quartiles) of {rounds} rounds after an uncounted one; columns: tool, pictures at once; "
            f"{size} px; cpu, {torch.get_num_threads()} threads of {os.cpu_count()} cores{load}; {platform.machine()}, "
            f"Python {platform.python_version()}, torch {torch.__version__}; {peers}.")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure as the command line says, print, and return the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two models and few rounds: a look, no evidence")
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"timm's names, or {STUDENT}; default: all of ours")
    parser.add_argument("--rounds", type=int, help="counted rounds (default 11, quick 3)")
    parser.add_argument("--size", type=int, help=f"side of the pictures in pixels (default {SIZE}; of the explained "
                        f"student's {' and '.join(map(str, explained.SIZES))})")
    parser.add_argument("--threads", type=int, help="torch's threads (default: as torch chooses)")
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    models = args.models or (("resnet18", STUDENT) if args.quick else MODELS)
    rounds = args.rounds or (3 if args.quick else 11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own
        results = measure(models, args.size or SIZE, rounds)
    teachers = [name for name in models if name != STUDENT] if args.models or args.quick else explained.TEACHERS
    beside = explained.measure(teachers, (args.size,) if args.size else explained.SIZES, rounds, BATCHES)
    print("Times the forward pass of the same model.", table(results), "", *goals(results), "",
          "A masked student beside its teacher.", explained.table(beside), "", *explained.goals(beside), "",
          protocol(args.size or SIZE, rounds), sep="\n")
    return {"maps": results, "masks": beside}


if __name__ == "__main__":
    main()
