"""Another process that claims rows of a cache, and then writes them, is killed or hangs. It imports no torch."""

import multiprocessing
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kd.store.row_claims import RowClaims
from kd.store.row_files import RowFiles, RowFormat


class Claimant:
    """Within a `with` block, another process has claimed rows of the column `name` in a folder. rows: what it writes
    when it is told to."""

    def __init__(self, folder: Path, name: str, index: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        context = multiprocessing.get_context("spawn")
        self._told, self._write = context.Queue(), context.Event()
        self.process = context.Process(target=_hold, args=(folder, name, index, rows, self._told, self._write))

    def __enter__(self) -> Self:
        self.process.start()
        assert self._told.get(timeout=60) == "claimed"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.kill()

    def write(self) -> None:
        """Write the rows and release them."""
        self._write.set()
        assert self._told.get(timeout=60) == "released"

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()


def _hold(folder, name, index, rows, told, write) -> None:
    claims = RowClaims(folder / f"{name}.claims")
    assert claims.take(index, len(index)) == [*range(len(index))]
    told.put("claimed")
    write.wait()
    RowFiles(folder, {name: RowFormat(rows.shape[1:])}, write=True).write(index, {name: rows})
    claims.release(index)
    told.put("released")
    write.clear()
    write.wait()
