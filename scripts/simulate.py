"""Runs many seeds of the deterministic simulation and says what they met.

``python scripts/simulate.py --seeds 10000`` prints how often each fault met each state of an order, and ends with 1
when a seed broke an invariant or a pair was met too seldom. ``--seed N --trace`` prints one run step by step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.simulation.faults import HARDLY, NEVER, STATES, Fault
from support.simulation.run import Result, simulate

ENOUGH = 50
"""How often each pair is to be met in ``FULL`` seeds; in fewer seeds less is not held against them."""
FULL = 10_000
SHOWN = 10
"""Failing seeds that are printed."""
TOLD = 1000
"""Seeds between two words of progress."""
CHUNK = 10
"""Seeds that a process takes at a time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print each step")
    options = parser.parse_args()
    if options.seed is not None:
        return _one(options.seed, options.trace)
    return _many(range(options.first, options.first + options.seeds), options.jobs)


def _one(seed: int, trace: bool) -> int:
    result = simulate(seed, keep_lines=trace)
    for line in result.lines:
        print(line)
    print(
        f"seed {seed}: {result.candles} candles, {result.orders} orders, {result.fills} fills,"
        f" {result.faults} faults, trace {result.digest}"
    )
    for violation in result.violations:
        print(f"VIOLATION {violation}")
    return 1 if result.violations else 0


def _many(seeds: range, jobs: int) -> int:
    began = time.monotonic()
    tally: Counter[tuple[Fault, str]] = Counter()
    failed: list[Result] = []
    least = {"candles": sys.maxsize, "orders": sys.maxsize, "faults": sys.maxsize}
    for count, result in enumerate(_results(seeds, jobs), 1):
        tally.update(result.tally)
        if count % TOLD == 0:
            print(f"{count} seeds, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if result.violations:
            failed.append(result)
            if len(failed) <= SHOWN:
                print(f"seed {result.seed}: {result.violations[0]}")
                print(f"  python scripts/simulate.py --seed {result.seed} --trace", flush=True)
        else:
            least = {name: min(value, getattr(result, name)) for name, value in least.items()}
    seconds = time.monotonic() - began
    _print_table(tally)
    print(f"\n{len(seeds)} seeds in {seconds:.0f} s, {len(seeds) / seconds:.1f} a second")
    if len(failed) < len(seeds):
        print(f"each at least {', '.join(f'{value} {name}' for name, value in least.items())}")
    seldom = list(_seldom(tally)) if len(seeds) >= FULL else []
    for fault, state, count in seldom:
        print(f"{fault.value} met an order that is {state} only {count} times; {ENOUGH} are wanted")
    print(f"{len(failed)} seeds broke an invariant" if failed else "every invariant held")
    return 1 if failed or seldom else 0


def _results(seeds: Iterable[int], jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from map(simulate, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(simulate, seeds, chunksize=CHUNK)


def _never(fault: Fault, state: str) -> bool:
    return fault in NEVER and state in NEVER[fault][1]


def _seldom(tally: Counter[tuple[Fault, str]]) -> Iterator[tuple[Fault, str, int]]:
    for fault in Fault:
        for state in STATES:
            wanted = not _never(fault, state) and (fault, state) not in HARDLY
            if wanted and tally[fault, state] < ENOUGH:
                yield fault, state, tally[fault, state]


def _print_table(tally: Counter[tuple[Fault, str]]) -> None:
    width = max(len(fault.value) for fault in Fault)
    print(f"\n{'fault met an order that is':{width}}" + "".join(f"{state:>12}" for state in STATES))
    for fault in Fault:
        cells = (str(tally[fault, state] or ("-" if _never(fault, state) else 0)) for state in STATES)
        print(f"{fault.value:{width}}" + "".join(f"{cell:>12}" for cell in cells))
    reasons = {why for why, _ in NEVER.values()}
    print("-: can not happen. " + "; ".join(sorted(reasons)) + ".")
    for why in dict.fromkeys(HARDLY.values()):
        pairs = ", ".join(f"{fault.value} / {state}" for (fault, state), reason in HARDLY.items() if reason == why)
        print(f"Seldom: {pairs}: {why}.")


if __name__ == "__main__":
    sys.exit(main())
