"""ResNet-20 and ResNet-56 on CIFAR-10: training-free cuts beside Torch-Pruning's, and a run through a recipe.

    python benchmarks/cifar_resnet.py --data PATH

PATH holds ``cifar10-jpeg75.tar.xz`` and the weights. Tables go to ``docs/cifar.md``, records to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
# Read when torch's thread pool is loaded: on a busy machine, spinning threads wait four times as long for each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch  # noqa: E402
from cifar_data import network, read_images, unpacked  # noqa: E402
from cifar_free import RECALIBRATED_ON, Chosen, training_free  # noqa: E402
from cifar_page import free_table, recipe_table, update, write_text  # noqa: E402
from cifar_recipe import compressed  # noqa: E402

import secateur  # noqa: E402

BUDGETS = ("0.66x", "0.47x")  # 1.51 and 2.11 times fewer multiply-adds


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the archive and the weights")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "secateur", help="images go there"
    )
    parser.add_argument("--parts", nargs="+", choices=("free", "recipe"), default=["free", "recipe"])
    parser.add_argument("--networks", nargs="+", choices=("resnet20", "resnet56"), default=["resnet56"])
    parser.add_argument("--budgets", nargs="+", default=BUDGETS, help="shares of the multiply-adds")
    parser.add_argument(
        "--only", default="", help="methods whose 'criterion, allocation, multiple' matches this pattern"
    )
    parser.add_argument("--images", type=int, default=5000, help="test images of the training-free tables")
    parser.add_argument("--seeds", type=int, default=3, help="of random pruning")
    parser.add_argument(
        "--epochs", type=int, default=4, help="of fine-tuning in the recipe, after the last round"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="folder of the recipe's run, kept and resumed; else temporary"
    )
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "cifar.md")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def main() -> int:
    """Runs the parts that were asked for and writes each one's record and table as soon as it is done."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)
    started = time.perf_counter()

    def say(line: str) -> None:
        print(f"[{time.perf_counter() - started:5.0f} s] {line}", flush=True)

    folder = unpacked(asked.data, asked.cache.expanduser())
    say(f"images in {folder}")
    if "free" in asked.parts:
        images = read_images(folder, RECALIBRATED_ON, asked.images, asked.seed)
        chosen = Chosen(tuple(asked.budgets), asked.seeds, asked.only)
        for name in asked.networks:
            record = training_free(name, network(name, asked.data), images, chosen, say)
            finish(asked, f"cifar-free-{name}", record, free_table)
    if "recipe" in asked.parts:
        with tempfile.TemporaryDirectory() as temporary:
            run = asked.out or Path(temporary) / "run"
            record = compressed(asked.data, folder, run, asked.epochs, asked.threads, asked.seed)
        say(
            f"compress: exit status {record['exit_status']}, {record.get('verdict', {}).get('verdict', 'no verdict')}"
        )
        finish(asked, "cifar-recipe", record, recipe_table)
        if record["exit_status"] not in (0, 3):
            return 1
    return 0


def finish(asked: argparse.Namespace, name: str, record: dict[str, Any], table: Any) -> None:
    """Writes one part: its record as JSON, its table into the page."""
    record = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
        "processor": platform.machine(),
        "threads": asked.threads,
        "seed": asked.seed,
        **record,
    }
    asked.results.mkdir(parents=True, exist_ok=True)
    write_text(asked.results / f"{name}.json", json.dumps(_finite(record), indent=1, allow_nan=False) + "\n")
    update(asked.page, {name: table(record)})


def versions() -> str:
    """What was compared, in words."""
    words = [f"Secateur {secateur.__version__}", f"torch {torch.__version__}"]
    try:
        words.append(f"Torch-Pruning {version('torch-pruning')}")
    except PackageNotFoundError:
        words.append("Torch-Pruning not installed")
    return ", ".join(words)


def _finite(value: Any) -> Any:
    """JSON has no NaN: what was not measured is null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and value != value else value


if __name__ == "__main__":
    raise SystemExit(main())
