"""A promise for the worst class: the same run with ``class_drop=`` and without, on data in which one class is rare.

    python benchmarks/class_drop.py --data FOLDER [--train N] [--rare CLASS]

ResNet-20, adapted to the images, is cut for as few multiply-adds as its quality allows. One class has a tenth of the
others' training images; the test images are balanced. Writes ``benchmarks/results/class-drop.json`` after either run
and the table in ``docs/latency.md``; run again, it does what is missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from cifar_data import Batches, Images, network, read_images, unpacked  # noqa: E402
from cifar_page import update, write_text  # noqa: E402
from latency_asked import conditions, options  # noqa: E402
from processes import read_store  # noqa: E402

import secateur as sc  # noqa: E402
from secateur.recipe import CriterionOptions, MeasureOptions, Recipe, RecoveryOptions  # noqa: E402

BUDGETS = {"without": {"drop": 4.0}, "with": {"drop": 4.0, "class_drop": 3.0}}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the images and weights")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="where images are unpacked")
    parser.add_argument(
        "--train", type=int, default=20000, help="training images before one class is thinned out"
    )
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--rare", type=int, default=3, help="the class that has a tenth: 3 is the cats")
    return parser.parse_args()


def main() -> int:
    """Makes the runs that have no record yet, then writes the table."""
    asked = arguments()
    file = asked.results / "class-drop.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked, "train", "rare")
    images = read_images(unpacked(asked.data, asked.cache), asked.train, asked.test, 0, batch=128)
    for kind, budget in BUDGETS.items():
        if kind not in store["records"]:
            store["records"][kind] = made(budget, thinned(images, asked.rare), asked)
            write_text(file, json.dumps(store, indent=1) + "\n")
        print(f"{kind}: {store['records'][kind]}", flush=True)
    update(asked.page, {"class-drop": table(store["records"], store["conditions"])})
    return 0


def thinned(images: Images, rare: int) -> Images:
    """The training images with every tenth of one class alone."""
    pixels, targets = (torch.cat(parts) for parts in zip(*images.train, strict=True))
    of_class = torch.nonzero(targets == rare).flatten()
    keep = torch.ones(len(targets), dtype=torch.bool)
    keep[of_class] = False
    keep[of_class[::10]] = True
    parts: Batches = list(zip(pixels[keep].split(128), targets[keep].split(128), strict=True))
    return Images(parts, images.test)


def made(budget: Mapping[str, float], images: Images, asked: argparse.Namespace) -> dict[str, Any]:
    """One run of ``compress``; what it came to on the test images."""
    recipe = Recipe(
        budget=sc.Budget(**budget),
        minimise="macs",
        target="onnxruntime:fp32",
        threads=asked.threads,
        criterion=CriterionOptions("taylor"),
        recovery=RecoveryOptions(epochs=1, final_epochs=1, lr=5e-4),
        measure=MeasureOptions(seconds=2.0, rounds=False),
        held_out=0.3,
    )
    start, out = time.perf_counter(), Path(tempfile.mkdtemp()) / "run"
    try:
        run = sc.compress(
            network("resnet20-jpeg75", asked.data), (images.train, images.test), recipe=recipe, out=out
        )
        history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
        worst = run.record["classes"][0]
        final = [r for r in history if not r["given_up"]][-1]
        return {
            "verdict": run.verdict,
            "macs": final["macs"] / history[0]["macs"],
            "rounds": len(history) - 1,
            "given_up": sum(r["given_up"] for r in history),
            "drop": 100 * (run.record["metric"]["dense"] - run.record["metric"]["pruned"]),
            "class": worst["name"],
            "class_drop": -100 * worst["delta"],
            "interval": sorted(-100 * v for v in worst["interval"]),
            "classes": {c["name"]: -100 * c["delta"] for c in run.record["classes"]},
            "seconds": time.perf_counter() - start,
        }
    finally:
        shutil.rmtree(out.parent, ignore_errors=True)


def table(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by this benchmark."""
    lines = [
        f"Measured {about['date']}: ResNet-20, {about['train']:,} training images of which class {about['rare']} keeps "
        "a tenth, an epoch of recovery after each round, judged on 5,000 balanced test images; points lost.",
        "",
        "| budget | multiply-adds left | rounds (given up) | accuracy lost | worst class | lost there (95 %) "
        "| rare class lost |",
        "|---" * 7 + "|",
    ]
    for kind, r in records.items():
        asked = ", ".join(f"{k}={v:g}" for k, v in BUDGETS[kind].items())
        low, high = r["interval"]
        rare = r["classes"].get(str(about["rare"]), float("nan"))
        lines.append(
            f"| {asked} | {r['macs']:.2f}x | {r['rounds']} ({r['given_up']}) | {r['drop']:.2f} | {r['class']} "
            f"| {r['class_drop']:.1f} ({low:.1f} to {high:.1f}) | {rare:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
