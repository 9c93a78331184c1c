"""No exchange outlives its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.replay import close_all


@pytest.fixture(autouse=True)
def _close_exchanges() -> Iterator[None]:
    yield
    close_all()
