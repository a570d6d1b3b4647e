"""The README's table of results: `python -m benchmarks.readme_table`.

The distillation of `kd demo` with three seeds: what has not been trained yet is trained. Accuracies are of the test
images, means over the seeds, with 95 % bootstrap intervals; differences are paired by image. Explanations of one image
are timed in turn and given as medians.
"""

import argparse
from dataclasses import replace
from typing import Any

import kd
from kd.experiments import demo
from kd.experiments.differences import between, signed
from kd.experiments.plan import DistillSpec
from kd.inspection.compare import Comparison, ModelPanel, compare
from kd.inspection.explain import protocol_line
from kd.timing import Timing

HEADER = ("", "model", "accuracy, %", "student − this, points", "NLL, nats", "ECE, %", "parameters", "FLOPs",
          "Grad-CAM", "all stage maps")
SEEDS, REPEATS = 3, 51


def request() -> DistillSpec:
    """The demo's, with further seeds."""
    return replace(demo.REQUEST, seeds=SEEDS)


def distil(root: str | None = None) -> kd.Experiment:
    """The distillation, trained where it is missing."""
    settings = dict(vars(request()))
    return kd.distill(root=root, **settings.pop("method_args"), **settings)


def first_with_evidence(run: kd.Experiment) -> Any:
    """The first test image whose class has something to see, as in the demo's figure."""
    test = run.data.test
    evidence = test.evidence
    return next((test.images[number] for number in range(len(test)) if evidence is not None and evidence[number].any()),
                test.images[0])


def table(run: kd.Experiment, comparison: Comparison) -> str:
    """Teacher, control and student as a Markdown table."""
    outcome, scores = run.outcome, run.results
    beside = {"teacher": outcome.vs_teacher, "control": outcome.vs_control}
    lines = [HEADER, ("---",) * 2 + ("--:",) * (len(HEADER) - 2)]
    for panel in comparison.panels:
        row, gap = scores.loc[panel.role], beside.get(panel.role)
        lines.append((f"**{panel.role}**", str(row["model"]), _level(row),
                      f"{signed(gap.value)} ({between(gap)})" if gap else "", f"{row['nll']:.3f}",
                      f"{100 * row['ece']:.1f}", f"{row['parameters']:,}", f"{row['flops'] / 1e6:.1f} M",
                      *_times(panel)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _level(row: Any) -> str:
    """The accuracy with its interval, in per cent."""
    level, low, high = (100 * row[name] for name in ("accuracy", "accuracy_low", "accuracy_high"))
    return f"{level:.1f} ({low:.1f} to {high:.1f})"


def _times(panel: ModelPanel) -> tuple[str, str]:
    return _milliseconds(panel.explanation.timing), _milliseconds(panel.stage_maps.timing) if panel.stage_maps else ""


def _milliseconds(timing: Timing) -> str:
    return f"{1000 * timing.median:.1f} ms"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", metavar="DIR", help="Where checkpoints/ and data/ lie (default: this project).")
    run = distil(options.parse_args().root)
    comparison = compare(run.store, run.student, first_with_evidence(run), repeats=REPEATS)
    print(table(run, comparison))
    print(f"\n{run.summary} Seeds: {len(run.series.pairs)}. {protocol_line(comparison.teacher.explanation.protocol)}")


if __name__ == "__main__":
    main()
