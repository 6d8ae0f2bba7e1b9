"""Try inputs that nobody would think of, for as long as is wanted, and say how many.

    FUZZ_SECONDS=3600 make fuzz
    PYTHONPATH=.:tests .venv/bin/python tests/fuzz/campaign.py --only wire --seed 7 --inputs 1000

What is found is printed with its seed and its number, which bring it back.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from attack import mutated, smuggled
from pure import drafts, patterns, streams, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from material import Try

FUZZERS: dict[str, Callable[[ExitStack], Try]] = {
    "wire": lambda _: streams,
    "drafts": lambda _: drafts,
    "tokens": lambda _: tokens,
    "patterns": lambda _: patterns,
    "http": mutated,
    "smuggling": smuggled,
}


def main() -> int:
    """Return how many fuzzers found something."""
    choice = arguments()
    found = 0
    for name in choice.only or FUZZERS:
        with ExitStack() as stack:
            try_one = FUZZERS[name](stack)
            found += not fuzz(name, try_one, choice)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    seconds = float(os.environ.get("FUZZ_SECONDS", "300")) / len(FUZZERS)
    parser.add_argument("--seconds", type=float, default=seconds, help="for each fuzzer")
    parser.add_argument("--inputs", type=int, default=sys.maxsize, help="for each fuzzer, at most")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    parser.add_argument("--only", nargs="*", choices=FUZZERS)
    return parser.parse_args()


def fuzz(name: str, try_one: Try, choice: argparse.Namespace) -> bool:
    """Try inputs until the time is up; return whether all went well."""
    until = time.monotonic() + choice.seconds
    seen: Counter[str] = Counter()
    number = 0
    while number < choice.inputs and time.monotonic() < until:
        try:
            seen[try_one(random.Random(f"{choice.seed}-{number}"))] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
            report(f"{name}: FOUND by --seed {choice.seed}, input {number}: {error!r:.4000}")
            return False
        number += 1
    outcomes = ", ".join(f"{what} {count}" for what, count in sorted(seen.items()))
    report(f"{name}: {number} inputs, nothing found (seed {choice.seed}; {outcomes})")
    return True


def report(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
