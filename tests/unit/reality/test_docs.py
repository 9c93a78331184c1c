"""``docs/reality-checks.md`` has a section for each check, and none for one that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tradingbot_agents.reality.check import PAGE, Check, all_checks

TEXT = (Path(__file__).parents[3] / PAGE).read_text()
_, *PARTS = re.split(r"^### (.+)\n", TEXT, flags=re.MULTILINE)
SECTIONS = dict(zip(PARTS[::2], PARTS[1::2], strict=True))


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def test_every_check_has_its_section() -> None:
    assert sorted(SECTIONS) == sorted(check.id for check in all_checks())


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.id)
def test_a_section_says_what_to_do(check: Check) -> None:
    text = SECTIONS[check.id]
    for word in ("Asks", "Protects", "When it fails"):
        assert f"**{word}**" in text
    assert ("(severe)" in text) == (check.severity == "severe")
    assert check.docs == f"{PAGE}#{anchor(check.id)}"


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
