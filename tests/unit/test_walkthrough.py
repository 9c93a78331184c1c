"""A page is run as it stands, and what is printed is held against what it shows."""

from __future__ import annotations

import pytest

from support.process import REPOSITORY
from support.walkthrough import Step, is_as_shown, steps

PAGE = """# A page

## 1. One

```
not run
```

```sh
# a remark, and no heading
first
```
```text
told
```

## 2. Two

```sh
second
```
"""


def test_the_steps_of_a_page() -> None:
    assert steps(PAGE) == [
        Step("1. One", "# a remark, and no heading\nfirst\n", "told\n"),
        Step("2. Two", "second\n", None),
    ]


def test_what_no_command_prints_is_no_step() -> None:
    with pytest.raises(ValueError, match="no command before: told"):
        steps("```text\ntold\n```\n")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a  b\n", "a b\n"),
        ("EQUITY   AGE\n1000     23s\n", "EQUITY      AGE\n1,012.55    1m3s\n"),
        ("one\n…\nthree\n", "one\nthree\n"),
        ("one\n…\nfour\n", "one\ntwo\nthree\nfour\n"),
        ('{"event": "started", …}\n', '{"event": "started", "level": "info"}\n'),
        ("…\n", ""),
    ],
)
def test_what_is_as_shown(shown: str, printed: str) -> None:
    assert is_as_shown(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("Ready True\n", "Ready False\n"),
        ("one\n", "one\ntwo\n"),
        ("one\ntwo\n", "one\n"),
        ("one\n…\nthree\n", "one\ntwo\n"),
        ("a. b\n", "a, b\n"),
        ("passed 36 …\n", "failed 36 checks\n"),
    ],
)
def test_what_is_not_as_shown(shown: str, printed: str) -> None:
    assert not is_as_shown(shown, printed)


def test_the_quick_start_is_run_from_its_first_command_to_its_last() -> None:
    run = "".join(step.commands for step in steps((REPOSITORY / "docs" / "quickstart-kubernetes.md").read_text()))
    for command in (
        "helm install",
        "apply -f examples/replay.yaml",
        "create job",
        "patch",
        "delete",
        "helm uninstall",
    ):
        assert command in run
