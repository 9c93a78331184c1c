"""Makes the README's picture: runs the quick start in a real terminal and exports what it shows in the middle.

    .venv/bin/python scripts/capture_live_view.py [--at 2024-03-15] [--output docs/images/live-view.svg]

Needs tmux, which is the terminal. The picture is what a person sees: nothing is drawn for it.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, LINES = 116, 34
PATIENCE = 180.0
"""Seconds until the picture must be there."""

FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono"
)
"""A picture in a README may load nothing from elsewhere: it takes the reader's own fixed-width font."""

SHOWN_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d) UTC")


class Terminal:
    """A tmux server of this script's own with one window, in which one command runs."""

    def __init__(self, command: list[str]) -> None:
        self._socket = f"capture-{time.time_ns()}"
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        self._tmux("-u", "-f", "/dev/null", "new-session", "-d", *size, *command)

    def screen(self) -> str:
        """What is on the screen, with its colours; nothing after the command has ended."""
        return self._tmux("capture-pane", "-p", "-e", check=False)

    def close(self) -> None:
        """Stop the command as a person does, so that it stops its database, and then the terminal."""
        self._tmux("send-keys", "C-c", check=False)
        give_up = time.monotonic() + PATIENCE
        while self._tmux("list-sessions", check=False) and time.monotonic() < give_up:
            time.sleep(0.1)
        self._tmux("kill-server", check=False)

    def _tmux(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, *arguments], check=check, capture_output=True, text=True, cwd=ROOT
        )
        return done.stdout


def capture(at: datetime) -> Text:
    """The screen of a run at the first moment from ``at`` on at which a position is open."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tradingbot_agents.cli.main", "run", "examples/quickstart.yaml"]
        terminal = Terminal([*command, "--data-dir", f"{folder}/data"])
        give_up = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < give_up:
                screen = Text.from_ansi(terminal.screen())
                shown = SHOWN_TIME.search(screen.plain)
                if shown and datetime.fromisoformat(shown[1]) >= at and "average cost" in screen.plain:
                    screen.rstrip()
                    return screen
                time.sleep(0.05)
        finally:
            terminal.close()
    raise SystemExit(f"no picture within {PATIENCE:.0f} s: does `make run` work?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--at", type=datetime.fromisoformat, default=datetime(2024, 3, 15), metavar="TIME")  # noqa: DTZ001 - as shown
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "live-view.svg", metavar="FILE")
    options = parser.parse_args()
    if shutil.which("tmux") is None:
        parser.error("tmux is not installed: it is the terminal of the picture")
    screen = capture(options.at)
    console = Console(record=True, width=COLUMNS, force_terminal=True, file=io.StringIO())
    console.print(screen)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(console.export_svg(title="tradingbot run examples/quickstart.yaml", code_format=FORMAT))
    print(f"{options.output}: as of {options.at:%Y-%m-%d %H:%M} or just after")


if __name__ == "__main__":
    main()
