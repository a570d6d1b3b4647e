"""How many distinct views of an image a student needs: `python -m benchmarks.views TEACHER … --seeds 3`.

Every further view is another pass of the teacher over the training images; epochs share views where there are fewer
than epochs. Students of finished teachers, plain, five stages, from random weights, 20 epochs, for several numbers of
views: test accuracy and NLL, means over seeds, and the difference from the largest number, in accuracy and NLL, with
its range over the seeds.
"""

import argparse
from collections.abc import Sequence
from statistics import mean

from benchmarks.maps_runs import opened_store, table
from kd.jobs.queue import execute
from kd.spec import RunSpec
from kd.store.runs import FINISHED, Run, Store

VIEWS = (20, 8, 4, 2)
HEADER = ("data", "views", "teacher passes", "accuracy, %", "NLL", "accuracy − that of most views", "NLL −")
RECIPE = {"depth": 5, "width": 16, "epochs": 20, "batch_size": 64, "learning_rate": 4e-3, "augmentation": 0.25}


def main(args: Sequence[str] | None = None) -> None:
    """The table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teachers", nargs="+", help="Finished runs, by id.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--root", help="Where checkpoints/ and data/ lie.")
    chosen = parser.parse_args(args)
    store = opened_store(chosen)
    print(*table(HEADER, []), sep="\n")
    for name in chosen.teachers:
        for cells in rows(store, store[name], chosen.seeds):
            print(f"| {' | '.join(cells)} |", flush=True)


def rows(store: Store, teacher: Run, seeds: int) -> list[tuple[str, ...]]:
    """A row per number of views of one teacher."""
    scores = {views: [_score(store, teacher, views, seed) for seed in range(seeds)] for views in VIEWS}
    most = scores[VIEWS[0]]
    label = teacher.spec.data.rstrip("/").rpartition("/")[2]
    found = []
    for views, own in scores.items():
        points = [100 * (one[0] - other[0]) for one, other in zip(own, most, strict=True)]
        nats = [one[1] - other[1] for one, other in zip(own, most, strict=True)]
        found.append((label, str(views), str(min(views, RECIPE["epochs"])), f"{100 * mean(one[0] for one in own):.1f}",
                      f"{mean(one[1] for one in own):.3f}", _range(points, 1), _range(nats, 3)))
    return found


def _score(store: Store, teacher: Run, views: int, seed: int) -> tuple[float, float]:
    spec = RunSpec(data=teacher.spec.data, data_fingerprint=teacher.spec.data_fingerprint,
                   image_size=teacher.spec.image_size, method="kd", teacher=teacher.id, views=views, seed=seed,
                   threads=1, **RECIPE)  # type: ignore[arg-type]  # values of several types
    run = store.create(spec)
    if run.status != FINISHED and (status := execute(run, store)) != FINISHED:
        raise RuntimeError(f"{run.id} is {status}: {run.failure_reason}")
    scores = run.evaluation or {}
    return scores["accuracy"], scores["loss"]


def _range(values: Sequence[float], digits: int) -> str:
    return f"{mean(values):+.{digits}f} ({min(values):+.{digits}f} to {max(values):+.{digits}f})"


if __name__ == "__main__":
    main()
