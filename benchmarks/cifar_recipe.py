"""ResNet-20 through ``secateur compress``, in a process of its own, with a recipe: what a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def compressed(data: Path, folder: Path, run: Path, epochs: int, threads: int, seed: int) -> dict[str, Any]:
    """The verdict of the run, with its recipe, exit status and seconds; the run's folder stays.

    Args:
        data: holds the weights; ``folder``: the unpacked images.
        run: where the run goes; one that was broken off there is resumed.
        epochs: of fine-tuning after the last round; one after each round before it, unless this is 0.
    """
    recipe = yaml.safe_load((ROOT / "examples" / "cifar.yaml").read_text())
    recipe |= {
        "weights": str(data / "resnet20-cifar10-jpeg75.safetensors"),
        "data": f"imagefolder:{folder}",
        "threads": threads,
        "seed": seed,
    }
    recipe["recovery"] |= {"epochs": min(epochs, 1), "final_epochs": epochs}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        command = [sys.executable, "-m", "secateur", "compress", str(path), "--out", str(run)]
        status = subprocess.run(command, cwd=ROOT, env=_environment(threads), check=False).returncode
    seconds = time.perf_counter() - started
    shown = {k: v for k, v in recipe.items() if k not in ("weights", "data")}
    result: dict[str, Any] = {"recipe": shown, "exit_status": status, "seconds": seconds}
    verdict = run / "verdict.json"
    if verdict.is_file():
        result["verdict"] = json.loads(verdict.read_text())
    history = run / "history.jsonl"
    if history.is_file():
        result["history"] = [json.loads(line) for line in history.read_text().splitlines()]
    return result


def _environment(threads: int) -> dict[str, str]:
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "OMP_NUM_THREADS": str(threads),
    }
