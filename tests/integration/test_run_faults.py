"""What a run meets besides ``kill -9``: signals, a database that dies, a directory that is not its own, a full disk,
and a person who changes its state. It recovers or says clearly why not, and the same command ends as if undisturbed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.busy_bot import differences, outcome, write_candles, write_spec
from support.postgres import scratch_dir
from support.process import Finished, Json, Process, Workshop, backends_of, postmaster_of, workshop
from tradingbot_agents.cli import exit_codes

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as shop:
        write_candles(shop.path / "candles")
        write_spec(shop.path / "bot.yaml")
        yield shop


def start(shop: Workshop, data_dir: str | Path, *more: str | Path) -> Process:
    return shop.start("run", "bot.yaml", "--data-dir", data_dir, "--output", "json", *more)


@pytest.fixture(scope="module")
def undisturbed(shop: Workshop) -> Json:
    finished = start(shop, "undisturbed", "--report", "undisturbed.json").finish()
    assert finished.code == 0, finished
    return outcome(shop, finished, "undisturbed")


def same(shop: Workshop, undisturbed: Json, finished: Finished, data_dir: str | Path) -> None:
    assert finished.code == 0, finished
    wrong = list(differences(undisturbed, outcome(shop, finished, str(data_dir))))
    assert not wrong, "\n".join(wrong)


# --- signals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, exit_codes.INTERRUPTED), (signal.SIGTERM, exit_codes.OK)]
)
def test_a_signal_ends_it_in_order(shop: Workshop, undisturbed: Json, number: signal.Signals, code: int) -> None:
    data_dir = number.name
    process = start(shop, data_dir)
    assert process.wait_for_event("trade_closed", 3)
    process.send(number)
    stopped = process.finish()
    assert stopped.code == code, stopped
    assert stopped.events[-1]["ending"] == "stopped"
    assert not stopped.report["finished"]
    assert stopped.report["trades"] >= 3
    assert stopped.report["invariants"]["violated"] == 0
    with pytest.raises(FileNotFoundError):
        postmaster_of(shop.path / data_dir)
    same(shop, undisturbed, start(shop, data_dir).finish(), data_dir)


def test_a_stop_is_said_in_words(shop: Workshop) -> None:
    process = shop.start("run", "bot.yaml", "--data-dir", "words", "--output", "text")
    assert process.wait_for(lambda lines: any("trade_approved" in line for line in lines))
    process.send(signal.SIGINT)
    stopped = process.finish()
    assert stopped.code == exit_codes.INTERRUPTED, stopped
    assert "(not finished: the same command goes on from here)" in stopped.out
    assert stopped.out.rstrip().endswith(
        "Stopped; what was in flight is finished. The same command goes on from here."
    )
    left = r"^Left: \d+ open positions?, \d+ stops? resting on the exchange, [\d,]+ candles?\.$"
    assert re.search(left, stopped.out, re.MULTILINE)


def test_a_second_interrupt_ends_it_at_once(shop: Workshop, undisturbed: Json) -> None:
    process = start(shop, "twice")
    assert process.wait_for_event("trade_approved", 5)
    for _ in range(2):
        process.send(signal.SIGINT)
    assert process.finish().code == exit_codes.INTERRUPTED
    same(shop, undisturbed, start(shop, "twice").finish(), "twice")


# --- the database --------------------------------------------------------------------------------------------------


def test_a_database_that_is_killed_comes_back(shop: Workshop, undisturbed: Json) -> None:
    process = start(shop, "database killed")
    for count in (2, 8):
        assert process.wait_for_event("trade_approved", count)
        os.kill(postmaster_of(shop.path / "database killed"), signal.SIGKILL)
    same(shop, undisturbed, process.finish(), "database killed")


def test_a_connection_that_is_ended_is_made_anew(shop: Workshop, undisturbed: Json) -> None:
    process = start(shop, "connections ended")
    ended = 0
    for count in (2, 5, 8):
        assert process.wait_for_event("fill_booked", count)
        for backend in backends_of(shop.path / "connections ended"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(backend, signal.SIGTERM)
                ended += 1
    same(shop, undisturbed, process.finish(), "connections ended")
    assert ended >= 3


# --- the data directory --------------------------------------------------------------------------------------------


def refused(finished: Finished, *words: str) -> None:
    assert finished.code == exit_codes.DATA_DIRECTORY, finished
    assert finished.out == ""
    (message,) = finished.err.splitlines()
    for word in words:
        assert word in message


def test_a_second_start_is_refused(shop: Workshop, undisturbed: Json) -> None:
    first = start(shop, "one at a time")
    assert first.wait_for_event("trade_approved")
    refused(start(shop, "one at a time").finish(), "one at a time is in use by process", str(first.pid))
    same(shop, undisturbed, first.finish(), "one at a time")


def test_a_foreign_directory_is_left_alone(shop: Workshop) -> None:
    foreign = shop.path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"cat")
    refused(start(shop, foreign).finish(), "photos is not a data directory of tradingbot", "cat.jpg", "--data-dir")
    assert [path.name for path in foreign.iterdir()] == ["cat.jpg"]


def test_another_run_is_refused_with_what_differs(shop: Workshop, undisturbed: Json) -> None:
    refused(start(shop, "undisturbed", "--seed", "2").finish(), "seed is 1 there and 2 now")

    write_candles(shop.path / "other candles", days=0.5)
    refused(start(shop, "undisturbed", "--candles", "other candles").finish(), "candles is ")

    write_spec(shop.path / "other.yaml", {"account.name": "savings"})
    finished = shop.run("run", "other.yaml", "--data-dir", "undisturbed", "--candles", "candles")
    refused(finished, "account is busy there and savings now")


def test_a_finished_directory_prints_its_report_again(shop: Workshop, undisturbed: Json) -> None:
    again = start(shop, "undisturbed", "--report", "again.json").finish()
    assert (again.code, len(again.events)) == (0, 1)
    written = (shop.path / "undisturbed.json").read_text()
    assert (shop.path / "again.json").read_text() == written
    assert again.report == json.loads(written)
    text = shop.run("run", "bot.yaml", "--data-dir", "undisturbed", "--output", "text")
    assert (text.code, text.out.partition(":")[0]) == (0, "busy")
    assert "(finished)" in text.out


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A small file system in memory. Skips the test where we may not mount."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small file system")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_read_only_directory(shop: Workshop) -> None:
    with scratch_dir() as path, mounted(path / "disk", "ro"):
        refused(start(shop, path / "disk" / "data").finish(), "Read-only file system")
        refused(start(shop, path / "disk").finish(), "Read-only file system")


def test_a_full_disk_loses_nothing(undisturbed: Json) -> None:
    with scratch_dir() as path, mounted(path / "disk", "size=160m", "mode=755"), workshop_in(path / "disk") as shop:
        write_candles(shop.path / "candles")
        write_spec(shop.path / "bot.yaml")
        process = start(shop, "data")
        assert process.wait_for_event("trade_approved", 3)
        filler = shop.path / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        full = process.finish()
        assert full.code in (exit_codes.DATA_DIRECTORY, exit_codes.DATABASE, exit_codes.GAVE_UP), full
        assert "disk" in full.err or "No space left" in full.err
        assert "Traceback" not in full.err
        again = start(shop, "data").finish()
        assert again.code in (exit_codes.DATA_DIRECTORY, exit_codes.DATABASE, exit_codes.GAVE_UP), again
        assert "Traceback" not in again.err
        filler.unlink()
        same(shop, undisturbed, start(shop, "data").finish(), "data")


@contextlib.contextmanager
def workshop_in(path: Path) -> Iterator[Workshop]:
    shop = Workshop(path)
    try:
        yield shop
    finally:
        shop.clean()
