"""Quotas from the environment."""

import pytest

from kd.errors import UsageError
from kd.store.quota import quota_of


@pytest.mark.parametrize(("given", "expected"), [(None, 20 * 10**9), ("", 20 * 10**9), ("0", 0), ("1.5", 15 * 10**8)])
def test_a_quota_is_a_number_of_gigabytes(given: str | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KD_LENS_TEST_GB", raising=False)
    if given is not None:
        monkeypatch.setenv("KD_LENS_TEST_GB", given)
    assert quota_of("KD_LENS_TEST_GB", 20) == expected


@pytest.mark.parametrize("given", ["many", "-1", "inf", "nan", "2 GB"])
def test_anything_else_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_LENS_TEST_GB", given)
    with pytest.raises(UsageError, match=f"KD_LENS_TEST_GB must be a number of gigabytes, 0 or more, not '{given}'"):
        quota_of("KD_LENS_TEST_GB", 20)
