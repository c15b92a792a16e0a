# ruff: noqa: T201  (it speaks to a terminal)
"""`python -m tests.soak --operations N --seed S`: the long form, on the kernel in memory; 1 if anything differs.

The seed is also that of Python's hashes, on which the order of sets depends: the same seed really is the same run, and
`--operations` cuts it off where it failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.soak.driver import in_memory, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--every", type=int, default=100, help="operations between two comparisons")
    options = parser.parse_args()
    order_sets(options.seed)
    print(f"{options.operations:,} operations, seed {options.seed}, compared every {options.every}", flush=True)
    started = said_at = time.monotonic()

    def say(done: int) -> None:
        nonlocal said_at
        now = time.monotonic()
        if now - said_at >= 10 or done == options.operations:
            said_at = now
            print(f"{done:>10,} operations  {done / (now - started):,.0f}/s  0 differences", flush=True)

    with in_memory(options.seed) as driver:
        found = run(driver, options.operations, options.every, say)
    print("\n".join(found) or f"0 differences in {time.monotonic() - started:.0f} s")
    return 1 if found else 0


def order_sets(seed: int) -> None:
    """Starts this program anew where Python's hashes have another seed."""
    wanted = str(seed % 2**32)
    if os.environ.get("PYTHONHASHSEED") != wanted:
        arguments = [sys.executable, "-m", "tests.soak", *sys.argv[1:], "--seed", str(seed)]
        os.execve(sys.executable, arguments, os.environ | {"PYTHONHASHSEED": wanted})


if __name__ == "__main__":
    sys.exit(main())
