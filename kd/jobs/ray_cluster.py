"""Parallel training of runs as tasks of a Ray cluster: on this machine's cores, or on machines with a shared store.

Ray schedules the runs, so the machine's lock, which limits it to one training, is not taken; each run's own lock is, by
the worker that trains it. Runs write the same files as everywhere else, so pages show them.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout

from kd.errors import UsageError
from kd.jobs.queue import execute
from kd.paths import Paths
from kd.store.runs import DAMAGED, FINISHED, Run, Store
from kd.torch_utils import compute

RETRIES = 3  # times that a run is resumed, from its last epoch, after the loss of its worker
PATIENCE = 2.0  # seconds to wait for a lock held by a lost worker, or for an instant by a probe
FAREWELL = 15.0  # seconds for the runs in training to finish their batch after Ctrl-C


def train_all(runs: Sequence[Run], store: Store, address: str | None = None, cpus: int = 1,
              report: Callable[[str], None] = lambda text: None) -> dict[str, str]:
    """Train the unfinished ones of these runs, each after those it needs among them; returns run id → status.

    address: of a Ray cluster, as `ray start` prints it; empty for one of this machine's cores, started and ended here.
    cpus: cores, and threads, of each run. report: called with a line of text when a run has ended. A run that fails
    does not stop the others, but its students are not trained. Raises UsageError where there is no Ray, no such
    cluster, or none with so many cores; interrupting the call interrupts the runs, which can be resumed.
    """
    ray = _ray()
    with _cluster(ray, address):
        _check_room(ray, cpus)
        todo = [run for run in runs if run.status not in (FINISHED, DAMAGED)]
        return _Schedule(ray, store, cpus, report).carry_out(todo)


class _Schedule:
    """Schedule of runs: waiting, in training, ended."""

    def __init__(self, ray: Any, store: Store, cpus: int, report: Callable[[str], None]) -> None:
        self.ray, self.store, self.cpus, self.report = ray, store, cpus, report
        self.train = ray.remote(train_run)
        self.gpus = ray.cluster_resources().get("GPU", 0) > 0
        self.waiting: list[Run] = []
        self.training: dict[Any, Run] = {}
        self.ended: dict[str, str] = {}
        self.total = 0

    def carry_out(self, runs: list[Run]) -> dict[str, str]:
        self.waiting, self.total = runs, len(runs)
        try:
            while self._begin() or self.training:
                for task in self.ray.wait(list(self.training))[0]:
                    self._end(task, self.training[task])
                    del self.training[task]
        finally:
            self._call_off()
        return self.ended

    def _begin(self) -> bool:
        """Start all runs for which those they need have ended; returns whether there were any."""
        unfinished = {run.id for run in (*self.waiting, *self.training.values())}
        needed = {run.id: [one.id for one in self.store.prerequisites(run)] for run in self.waiting}
        free = [run for run in self.waiting if unfinished.isdisjoint(needed[run.id])]
        self.waiting = [run for run in self.waiting if run not in free]
        for run in free:
            lost = [name for name in needed[run.id] if self.ended.get(name, FINISHED) != FINISHED]
            if not lost:
                self.training[self._hand_out(run)] = run
            else:
                self.ended[run.id] = run.status
                self.report(f"{run.id}: left out, for its teacher {lost[0]} did not finish")
        return bool(free)

    def _hand_out(self, run: Run) -> Any:
        # Ray hides a machine's GPUs from tasks that request none.
        gpus = int(self.gpus and run.spec.device in ("auto", "cuda"))
        return self.train.options(num_cpus=self.cpus, num_gpus=gpus, max_retries=RETRIES, name=run.id).remote(
            str(self.store.paths.root), run.id, self.cpus)

    def _end(self, task: Any, run: Run) -> None:
        try:
            status = self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            status = run.status
            self.report(f"{run.id}: {str(error).splitlines()[0]}")
        self.ended[run.id] = status
        self.report(f"[{len(self.ended)}/{self.total}] {run.id} {status}. {run.failure_reason}".strip())

    def _call_off(self) -> None:
        """Cancel the runs that are still in training, after Ctrl-C or an error."""
        for task in self.training:
            self.ray.cancel(task)
        self.ray.wait(list(self.training), num_returns=len(self.training), timeout=FAREWELL) if self.training else None


def train_run(root: str, run_id: str, cpus: int) -> str:
    """Train one run in this worker process, on so many threads; returns its status."""
    os.environ["OMP_NUM_THREADS"] = str(cpus)  # independent of the driver's
    compute.wait_without_spinning()
    compute.tune_malloc()
    store = Store(Paths(Path(root)))
    run, lock = store[run_id], store[run_id].lock()
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        return run.status
    with lock:
        if run.status == FINISHED:  # its former worker was lost after the end of the training
            return FINISHED
        run.clear_cancel()
        run.log("placed", host=socket.gethostname(), pid=os.getpid())
        return execute(run, store)


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError("Ray is not installed. pip install -r requirements-ray.txt, or leave out --ray.") from error
    return ray


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:
    """The cluster that this process has joined already, else the one at `address`, else a new one."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        _knock(address or "")
        ray.init(address=address, **quiet) if address else ray.init("local", include_dashboard=False, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"There is no Ray cluster at {address} ({str(error).splitlines()[0]}). Start one with ray "
                         "start --head, set RAY_AUTH_MODE=token where it wants a token, or leave the address out."
                         ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where no server answers: Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), PATIENCE).close()


def _check_room(ray: Any, cpus: int) -> None:
    most = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)
    if cpus > most:
        raise UsageError(f"No machine of the Ray cluster has {cpus} cores for a run; the largest has {most}. Take "
                         "fewer per run.")
