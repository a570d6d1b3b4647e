"""Distributed training on processes started by `fabric run` or `torchrun`: the main process and its workers.

Every process is given the same command. The main process (rank 0) carries it out: it plans, holds the locks, writes and
prints. The others are workers, which train every run that the main process begins. They communicate through the
launcher's key-value store and not through collectives: a key can be waited for without a timeout, checked before every
batch in a twentieth of a millisecond, and set by a process that then ends.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.errors import Stopped, UsageError
from kd.paths import Paths
from kd.store.runs import Run, Store

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PATIENCE = 0.05  # seconds between two checks for the main process's next order
# Batches by which a stop is announced. A GPU's queue holds a thousand kernels, which are batches begun before the stop.
AHEAD, AHEAD_QUEUED = 1, 16


class _Session:
    """State of this process: the number of the current training, the error that all its processes raise, and whether
    the processes have lost each other (`parted`)."""

    number = 0
    agreed: UsageError | None = None
    parted = False


def launched() -> bool:
    """Whether a launcher started this process and others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1"


def through_fabric() -> bool:
    """Whether that launcher is `fabric run`."""
    return os.environ.get("LT_CLI_USED") == "1"


def is_worker() -> bool:
    """Whether this process is a worker, that is not the main process of a launch."""
    return launched() and os.environ["RANK"] != "0"


@contextmanager
def quiet_fabric() -> Iterator[None]:
    """No announcements by Fabric in the block, such as that of the precision, which a run records itself."""
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def fabric_choice(own: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `Fabric`: `own` and the launched devices, less those that `fabric run` was given itself."""
    if not launched():
        return {**own, "devices": 1}
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    full = {**own, "devices": here, "num_nodes": int(os.environ["WORLD_SIZE"]) // here}
    return {name: value for name, value in full.items() if f"LT_{name.upper()}" not in os.environ}


@contextmanager
def as_main_process(run: Run, store: Store) -> Iterator[None]:
    """A block in which the main process trains `run`, and the workers with it."""
    if launched():
        if _Session.parted:  # SystemExit passes `except Exception`: no further run must be started or changed
            raise SystemExit("kd: the processes lost each other in an earlier training. Give the same command again: "
                             "what has finished is used again.")
        _Session.number += 1
        _kv_store().set(_key("order"), f"{run.id}\n{store.paths.root}")
    with fail_together():
        yield


def release_workers() -> None:
    """Let the workers end: the main process has nothing more to train."""
    if launched() and not is_worker():
        _Session.number += 1
        _kv_store().set(_key("order"), "")


def assigned_runs() -> Iterator[tuple[Run, Store]]:
    """Runs that a worker trains with the main process, one after the other, until it is released."""
    while text := _next_order():
        run_id, _, root = text.partition("\n")
        store = Store(Paths(Path(root)))
        yield store[run_id], store


def _next_order() -> str:
    _Session.number += 1
    while not _kv_store().check([_key("order")]):
        time.sleep(PATIENCE)
    return _read("order")


@contextmanager
def fail_together() -> Iterator[None]:
    """A block in which an error of one process ends all: one of them raises the error, the others raise Stopped.

    An error that all raise together is raised by the main process; any other by the process that had it first, since
    the others have only lost their connection to it.
    """
    try:
        yield
    except Stopped:
        raise
    except BaseException as error:
        if not launched():
            raise
        reporting_rank = "0"
        if error is not _Session.agreed:
            _Session.parted = True
            reporting_rank = _kv_store().compare_set(_key("failed"), "", os.environ["RANK"]).decode()
        if reporting_rank != os.environ["RANK"] and isinstance(error, Exception):
            raise Stopped from error
        raise


@contextmanager
def raise_together(fabric: "Fabric") -> Iterator[None]:
    """A block at whose end all processes raise UsageError when one did; else they would wait for that one for ever."""
    problem: UsageError | None = None
    try:
        yield
    except UsageError as error:
        if fabric.world_size == 1:
            raise
        problem = error
        _kv_store().compare_set(_key("problem"), "", str(error))
    fabric.barrier()
    if fabric.world_size > 1 and _kv_store().check([_key("problem")]):
        _Session.agreed = problem or UsageError(_read("problem"))
        raise _Session.agreed


def agree_to_stop(should_stop: Callable[[], bool], fabric: "Fabric") -> Callable[[], bool]:
    """The main process's `should_stop`, called by every process before each batch; True in all before the same batch.

    No collective is needed: the main process announces that it will stop before the next batch, and no worker can have
    reached that one, since finishing the current batch takes the main process's gradients too.
    """
    if fabric.world_size == 1:
        return should_stop
    ahead = AHEAD if fabric.device.type == "cpu" else AHEAD_QUEUED
    batch, last = 0, 0

    def stop_now() -> bool:
        nonlocal batch, last
        batch += 1
        if not last and fabric.is_global_zero and should_stop():
            last = batch + ahead
            _kv_store().set(_key("stop"), str(last))
        elif not last and not fabric.is_global_zero and _kv_store().check([_key("stop")]):
            last = int(_read("stop"))
        return 0 < last <= batch

    return stop_now


def _key(word: str) -> str:
    return f"{word}/{_Session.number}"


def _read(word: str) -> str:
    return str(_kv_store().get(_key(word)).decode())


@cache
def _kv_store() -> Any:
    """Key-value store of the launcher; keys of processes before a restart are not seen."""
    from torch.distributed import PrefixStore, TCPStore

    server = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                      wait_for_workers=False)
    return PrefixStore(f"kd-lens/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", server)
