"""A progress bar over the epochs of several runs."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kd.store.runs import Run

EVERY = 1.0  # seconds between two reads of a run's folder


class ProgressBar:
    """One bar for all epochs of these runs, as text or, in a notebook, as a widget where there are some.

    shown: False draws nothing.
    """

    def __init__(self, runs: Sequence[Run], shown: bool = True) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # in a notebook without ipywidgets, where it draws text
            from tqdm.auto import tqdm

        self.runs = list(runs)
        self.bar: Any = tqdm(total=sum(run.spec.epochs for run in runs), initial=self._done(), disable=not shown,
                             bar_format="{desc}: {percentage:3.0f}% |{bar}| {elapsed} < {remaining}{postfix}")

    def _done(self) -> float:
        return sum(run.spec.epochs if run.summary else len(run.epochs()) for run in self.runs)

    @contextmanager
    def following(self, run: Run, title: str) -> Iterator[None]:
        """Move with this run while the block trains it."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(EVERY):
                self._show(run, title)

        thread = threading.Thread(target=follow, daemon=True)
        self.bar.set_description_str(title, refresh=False)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._show(run, title)

    def _show(self, run: Run, title: str) -> None:
        now, epochs = run.progress, run.epochs()
        begun = now.get("step", 0) / max(now.get("steps", 1), 1) if now.get("epoch") == len(epochs) else 0.0
        text = {"loss": f"{epochs[-1]['loss']:.3f}", "val": f"{epochs[-1]['val_accuracy']:.3f}"} if epochs else {}
        training = now.get("phase") == "training"
        self.bar.set_description_str(title if training or not now else f"{title}, {now['phase']}", refresh=False)
        self.bar.set_postfix(text, refresh=False)
        # Never back: an epoch that was interrupted begins again.
        self.bar.n = max(self.bar.n, self._done() + (begun if training else 0.0))
        self.bar.refresh()

    def close(self) -> None:
        self.bar.close()
