"""Claims of rows by several processes."""

import errno
import sys

import numpy as np
import pytest
from claimant import Claimant

from kd.store import row_claims
from kd.store.row_claims import RowClaims

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is cached there")


def test_claimed_rows_are_free_once_released_or_once_their_process_is_killed(tmp_path):
    index = np.array([8, 2, 3, 9, 4, 10])
    claims = RowClaims(tmp_path / "x.claims")
    with Claimant(tmp_path, "x", np.array([3, 4, 8]), np.ones((3, 1), np.float32)) as other:
        assert claims.take(index, 2) == [1, 3], "the first two that are free"
        assert claims.take(index, 9) == [1, 3, 5], "those of this process still are"
        other.write()
        assert claims.take(index, 9) == [0, 1, 2, 3, 4, 5]
        claims.release(index)
    with Claimant(tmp_path, "x", index, np.ones((6, 1), np.float32)) as other:
        assert claims.take(index, 9) == []
        other.kill()
        assert claims.take(index, 9) == [0, 1, 2, 3, 4, 5]


def test_without_a_file_or_locks_every_claim_is_granted(tmp_path, monkeypatch):
    index = np.arange(4)
    assert RowClaims().take(index, 3) == [0, 1, 2]
    RowClaims().release(index)
    claims = RowClaims(tmp_path / "x.claims")

    def refuse(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(row_claims.fcntl, "lockf", refuse)
    assert claims.take(index, 9) == [0, 1, 2, 3]
    claims.release(index)
