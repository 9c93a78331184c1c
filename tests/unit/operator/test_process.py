"""What the operator's process says before it sees any bot."""

from __future__ import annotations

import pytest

from tradingbot_operator.cluster import error_of
from tradingbot_operator.process import _remedy


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "is the CRD installed?"), (403, "rights of its service account"), (503, "that the API server answers")],
)
def test_who_waits_is_told_what_to_look_at(status: int, words: str) -> None:
    assert words in _remedy(error_of(status, {}, b""))
