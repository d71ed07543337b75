"""Run the core against the simulated cluster: `python -m tests.simulation.coordinator.run --seeds 0:10000`.

Every seed is one exact run. A seed that breaks a promise is printed with the end of its log and the command that
repeats it; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from .cases import case_of
from .checkers import CHECKERS
from .simulator import Simulation

REPLAYED_EVERY = 5
"""Every fifth run keeps its calls and is lived once more; a seed that is run alone always is."""
TAIL_LINES = 40
COMMAND = "python -m tests.simulation.coordinator.run --seed"


def run_seed(seed: int, replays: bool | None = None) -> tuple[list[str], list[str]]:
    """The promises that the run of this seed broke, and its log."""
    replays = seed % REPLAYED_EVERY == 0 if replays is None else replays
    simulation = Simulation(case_of(seed), CHECKERS, replays)
    try:
        simulation.run()
    except Exception:  # noqa: BLE001 - whatever the core raises is the finding
        simulation.broken.append(f"raised: {traceback.format_exc(limit=-4)}")
    return simulation.broken, simulation.log


def failures(seeds: range, jobs: int) -> Iterator[tuple[int, list[str], list[str]]]:
    """(seed, what broke, its log) of each seed that broke a promise, as they come."""
    chunks = [range(first, min(first + 20, seeds.stop)) for first in range(seeds.start, seeds.stop, 20)]
    if jobs <= 1:
        for chunk in chunks:
            yield from _run_chunk(chunk)
        return
    # Not by a Pool, which waits for ever for the part of a process that has crashed.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        for done in as_completed([pool.submit(_run_chunk, chunk) for chunk in chunks]):
            yield from done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _run_chunk(seeds: range) -> list[tuple[int, list[str], list[str]]]:
    found = []
    for seed in seeds:
        broken, log = run_seed(seed)
        if broken:
            found.append((seed, broken, log))
    return found


def report(seed: int, broken: list[str], log: list[str], lines: int = TAIL_LINES) -> str:
    """What a person needs to see of a failing seed."""
    head = [f"seed {seed} ({case_of(seed).family}):", *(f"  {line}" for line in broken)]
    return "\n".join([*head, *log[-lines:], f"repeat: {COMMAND} {seed}", ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:1000", metavar="FIRST:BEYOND")
    parser.add_argument("--seed", type=int, help="run this one alone and print its whole log")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--most", type=int, default=5, help="stop after so many failing seeds")
    parser.add_argument("--promises", action="store_true", help="list what is checked")
    given = parser.parse_args(arguments)
    say = sys.stdout.write
    if given.promises:
        say("".join(f"{each.name}: {each.promise}\n" for each in CHECKERS))
        return 0
    if given.seed is not None:
        broken, log = run_seed(given.seed, replays=True)
        say(f"{case_of(given.seed)}\n" + report(given.seed, broken, log, lines=len(log)))
        return bool(broken)
    if not (asked := re.fullmatch(r"(\d+):(\d+)", given.seeds)):
        parser.error(f"--seeds {given.seeds!r} is not allowed: two numbers, such as 0:1000")
    seeds, began_s, count = range(int(asked[1]), int(asked[2])), time.monotonic(), 0
    for seed, broken, log in failures(seeds, given.jobs):
        count += 1
        say(report(seed, broken, log) + "\n")
        if count >= given.most:
            say(f"stopped after {count} failing seeds\n")
            return 1
    say(f"{len(seeds)} seeds, {count} failing, {time.monotonic() - began_s:.0f} s\n")
    return bool(count)


if __name__ == "__main__":
    sys.exit(main())
