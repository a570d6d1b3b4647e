"""Wrong labels that an audit finds: `python -m benchmarks.label_suspects DATA [DATA …]`.

A twentieth of a set's labels, drawn at random, is changed to another class, and the audit's list of labels in doubt is
made, with several draws. Printed are how many it names, which share of them were changed (precision), which share of
the changed ones it names (recall), and the same of as many as were changed from the top of the list. Labels of public
sets are wrong without being changed, so the true precision is a little higher.
"""

import argparse
from dataclasses import replace

import numpy as np

from kd import datasets
from kd.audit import labels
from kd.audit.audit import audit_size
from kd.audit.measure import Measurements, measure
from kd.paths import default_paths

SHARE = 0.05


def main(words: list[str] | None = None) -> None:
    """Print a row per set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets")
    parser.add_argument("--draws", type=int, default=3, help="draws of the labels to change (default 3)")
    args = parser.parse_args(words)
    print(f"{'changed':>8} {'named':>6} {'precision':>10} {'recall':>7} {'of the top':>11}  data")
    for reference in args.data:
        measured = read(reference)
        rows = [scores(measured, seed) for seed in range(args.draws)]
        changed, named, precision, recall, top = np.mean(rows, axis=0)
        print(f"{changed:8.0f} {named:6.0f} {100 * precision:8.0f} % {100 * recall:5.0f} % {100 * top:9.0f} %  "
              f"{reference}, {len(measured):,} images", flush=True)


def read(reference: str) -> Measurements:
    """What an audit measures of a set."""
    paths = default_paths()
    data = datasets.open_dataset(reference, audit_size(datasets.inspect(reference, paths)), paths)
    return measure(data, datasets.files(data, paths), lambda _: None)


def scores(measured: Measurements, seed: int) -> tuple[int, int, float, float, float]:
    """How many labels were changed, how many are named, precision, recall, and the share of changed ones among as many
    from the top."""
    draw = np.random.default_rng(seed)
    changed = draw.choice(len(measured), round(SHARE * len(measured)), replace=False)
    classes = int(measured.labels.max()) + 1
    wrong = measured.labels.copy()
    wrong[changed] = (wrong[changed] + draw.integers(1, classes, len(changed))) % classes
    units = np.arange(len(measured)) if measured.groups is None else np.unique(measured.groups, return_inverse=True)[1]
    found = [one.image for one in labels.suspects(replace(measured, labels=wrong), units, lambda _: None)]
    right = np.isin(found, changed)
    return (len(changed), len(found), float(right.mean()) if found else 0.0, float(right.sum() / len(changed)),
            float(right[:len(changed)].sum() / len(changed)))


if __name__ == "__main__":
    main()
