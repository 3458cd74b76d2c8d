"""Some random networks, in this process, through every property; the record is written as JSON.

python benchmarks/random_networks_worker.py 60 0,1,2,3 record.json
"""

from __future__ import annotations

import gc
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks"), str(ROOT)]

import torch  # noqa: E402
from measured import write_record  # noqa: E402

from tests.random_networks import Grown, from_seed  # noqa: E402
from tests.random_networks.checks import check  # noqa: E402
from tests.random_networks.shrink import shrink  # noqa: E402
from tests.random_networks.subject import Broken  # noqa: E402


class TookTooLong(BaseException):
    """The time for one network is over; nothing on the way may catch it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Ends what is inside after some processor time, so that a busy machine fails no network."""

    def end(*_: object) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def checked(seeds: list[int], limit: float) -> dict[str, Any]:
    """What came out of some networks, summed."""
    record: dict[str, Any] = {"ran": True, "problem": None, "failures": {}, "largest_error": 0.0}
    record |= dict.fromkeys(("passed", "judged", "cuttable", "dynamic", "groups", "blocks"), 0)
    started = time.process_time()
    for seed in seeds:
        try:
            with limited(limit):
                found = check(from_seed(seed))
        except TookTooLong:
            record["failures"][str(seed)] = f"took longer than {limit:g} s"
        except Broken as error:
            record["failures"][str(seed)] = str(error)[:300]
        else:
            record["passed"] += 1
            record["judged"] += found.judged
            record["cuttable"] += bool(len(found.groups))
            record["dynamic"] += not found.network.fixed
            record["groups"] += len(found.groups)
            record["blocks"] += len(found.network.made)
            record["largest_error"] = max(record["largest_error"], found.error)
    record["seconds"] = time.process_time() - started
    return record


def explain(seed: int) -> int:
    """Prints a network and what is wrong with it, then the smallest part of it in which the same is wrong."""
    grown = from_seed(seed)
    print(grown.network.recipe())
    broken = problem(grown)
    if broken is None:
        print("\nEvery property holds.")
        return 0
    print(f"\n{broken}\n")

    def fails(smaller: Grown) -> bool:
        found = problem(smaller)
        return found is not None and found.name == broken.name

    small, outputs, skipped = shrink(grown, fails)
    print(f"The same with the values {list(outputs)} as outputs and without the blocks {list(skipped)}:\n")
    print(f"{small.network.recipe()}\n\n{problem(small)}")
    return 1


def problem(grown: Grown) -> Broken | None:
    """The first property that does not hold."""
    try:
        check(grown)
    except Broken as error:
        return error
    return None


def main() -> int:
    """Checks the networks that are named, and writes the record."""
    limit, seeds, target = sys.argv[1:]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    gc.set_threshold(
        200_000, 50, 100
    )  # tracing makes many objects, few of them in rings: a tenth of the time
    write_record(checked([int(s) for s in seeds.split(",")], float(limit)), target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
