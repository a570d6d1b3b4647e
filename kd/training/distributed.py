"""One training on several processes, as `fabric run` or `torchrun` starts them: who leads, and how all keep in step.

Every process is given the same command. The first, the chief, carries it out: it plans, holds the locks, writes and
prints. The others only train along, whatever run the chief begins. They talk through the launcher's key-value store
and not through collectives: a key may be waited for all day, looked at before every batch for a twentieth of a
millisecond, and set by a process that nobody will hear of again.
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

PATIENCE = 0.05  # seconds between two looks for the chief's next word
# Batches by which a stop is announced. A GPU's queue holds a thousand kernels: a few batches, begun before it is heard.
AHEAD, AHEAD_QUEUED = 1, 16


class _Session:
    """Where this process stands: the number of the training in hand, the error that all its processes raise, and
    whether one has parted them."""

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
    """Whether this process only trains along with a chief."""
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
    """`Fabric`'s arguments: `own`, and the devices that were launched; without what `fabric run` was told itself."""
    if not launched():
        return {**own, "devices": 1}
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    full = {**own, "devices": here, "num_nodes": int(os.environ["WORLD_SIZE"]) // here}
    return {name: value for name, value in full.items() if f"LT_{name.upper()}" not in os.environ}


@contextmanager
def as_main_process(run: Run, store: Store) -> Iterator[None]:
    """The chief trains `run` in this block, and the others along with it."""
    if launched():
        if _Session.parted:  # not for `except Exception`: whatever would be trained next must stay as it is
            raise SystemExit("kd: the processes lost each other in an earlier training. Give the same command again: "
                             "what has finished is used again.")
        _Session.number += 1
        _kv_store().set(_key("order"), f"{run.id}\n{store.paths.root}")
    with fail_together():
        yield


def release_workers() -> None:
    """The chief has nothing more to train: the others may end."""
    if launched() and not is_worker():
        _Session.number += 1
        _kv_store().set(_key("order"), "")


def assigned_runs() -> Iterator[tuple[Run, Store]]:
    """What a follower is to train along, one after the other, until it is dismissed."""
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
    """In this block whatever ends one process ends all, and one of them says why: the others raise Stopped.

    Of what they raise together it is the chief that says it, else the first; the others lost their connection to that.
    """
    try:
        yield
    except Stopped:
        raise
    except BaseException as error:
        if not launched():
            raise
        speaker = "0"
        if error is not _Session.agreed:
            _Session.parted = True
            speaker = _kv_store().compare_set(_key("failed"), "", os.environ["RANK"]).decode()
        if speaker != os.environ["RANK"] and isinstance(error, Exception):
            raise Stopped from error
        raise


@contextmanager
def raise_together(fabric: "Fabric") -> Iterator[None]:
    """When one process raises UsageError in this block, all do at its end, or they would wait for it for ever."""
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
    """The chief's `should_stop`, to be asked by every process before each batch; all hear yes before the same one.

    It costs no collective: the chief says that it will stop before the next batch, and no other can be there yet, as
    finishing this one takes the chief's gradients too.
    """
    if fabric.world_size == 1:
        return should_stop
    ahead = AHEAD if fabric.device.type == "cpu" else AHEAD_QUEUED
    asked, last = 0, 0

    def ask() -> bool:
        nonlocal asked, last
        asked += 1
        if not last and fabric.is_global_zero and should_stop():
            last = asked + ahead
            _kv_store().set(_key("stop"), str(last))
        elif not last and not fabric.is_global_zero and _kv_store().check([_key("stop")]):
            last = int(_read("stop"))
        return 0 < last <= asked

    return ask


def _key(word: str) -> str:
    return f"{word}/{_Session.number}"


def _read(word: str) -> str:
    return str(_kv_store().get(_key(word)).decode())


@cache
def _kv_store() -> Any:
    """The launcher's key-value store; after a restart of all processes, without what the former ones left there."""
    from torch.distributed import PrefixStore, TCPStore

    server = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                      wait_for_workers=False)
    return PrefixStore(f"kd-lens/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", server)
