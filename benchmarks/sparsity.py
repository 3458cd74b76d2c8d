"""Zeros in a transformer without training: patterns and methods side by side on MiniLM and STS-B.

    python benchmarks/sparsity.py --data FOLDER [--pairs N] [--sentences N]

Every layer of the pretrained encoder is made sparse, embeddings apart, from sentences of the training part, and judged
on pairs of the dev part. Writes ``benchmarks/results/sparsity.json`` after each row and the table in
``docs/sparsity.md``; run again, it does what is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from cifar_page import update, write_text  # noqa: E402
from latency_asked import conditions, options  # noqa: E402
from processes import read_store  # noqa: E402
from sts import Batches, read_pairs, sentence_encoder, similarity_task  # noqa: E402

from secateur.data import evaluate  # noqa: E402
from secateur.sparsity import (  # noqa: E402
    NM,
    Blocks,
    LargestWeights,
    SparseGPT,
    Unstructured,
    Wanda,
    compressed_bytes,
    sparsify,
)

PATTERNS = {
    "50 %": Unstructured(0.5),
    "60 %": Unstructured(0.6),
    "2:4": NM(2, 4),
    "4:8": NM(4, 8),
    "blocks of 1x4, 50 %": Blocks(0.5, 1, 4),
}
METHODS = {"largest weights": LargestWeights(), "Wanda": Wanda(), "SparseGPT": SparseGPT()}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with stsb")
    parser.add_argument("--pairs", type=int, default=500, help="of the dev part, to judge on")
    parser.add_argument("--sentences", type=int, default=256, help="of the training part, to look at")
    return parser.parse_args()


def main() -> int:
    """Makes the rows that have no record yet, then writes the table."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    file = asked.results / "sparsity.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked, "pairs", "sentences")
    model, task = sentence_encoder(), similarity_task()
    dev = read_pairs(asked.data / "stsb" / "sts-dev.csv", asked.pairs, 0)
    train = read_pairs(asked.data / "stsb" / "sts-train.csv", asked.sentences // 2, 0)
    if "dense" not in store["records"]:
        metric = evaluate(model, dev, task).metric
        store["records"]["dense"] = {"metric": metric, "bytes": compressed_bytes(model)}
    for pattern in PATTERNS:
        for method in METHODS:
            key = f"{pattern}, {method}"
            if key not in store["records"]:
                store["records"][key] = row(
                    model, dev, [x for x, _ in train], PATTERNS[pattern], METHODS[method], task
                )
                write_text(file, json.dumps(store, indent=1) + "\n")
                print(key, store["records"][key], flush=True)
    update(asked.page.parent / "sparsity.md", {"minilm": table(store["records"], store["conditions"])})
    return 0


def row(
    model: Any, dev: Batches, inputs: Iterable[Any], pattern: Any, method: Any, task: Any
) -> dict[str, Any]:
    """One pattern by one method."""
    started = time.perf_counter()
    given = list(inputs)
    example = {k: v[:2] for k, v in given[0].items()}
    found = sparsify(
        model, example, pattern, method, given, samples=sum(len(next(iter(b.values()))) for b in given)
    )
    seconds = time.perf_counter() - started
    return {
        "metric": evaluate(found.model, dev, task).metric,
        "sparsity": found.sparsity,
        "layers": len(found.layers),
        "bytes": compressed_bytes(found.model),
        "seconds": seconds,
    }


def table(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by this benchmark."""
    dense = records["dense"]
    lines = [
        f"Measured {about['date']}, all-MiniLM-L6-v2, {about['sentences']} sentences to look at, {about['pairs']} "
        f"pairs of STS-B dev to judge on, dense {dense['metric']:.3f}. Spearman's correlation without any training, "
        "and the bytes of all tensors after deflate, as a share of the dense model's.",
        "",
        "| pattern | " + " | ".join(METHODS) + " | storage |",
        "|---" * (len(METHODS) + 2) + "|",
    ]
    for pattern in PATTERNS:
        rows = [records.get(f"{pattern}, {m}") for m in METHODS]
        found = ["" if r is None else f"{r['metric']:.3f}" for r in rows]
        stored = next((f"{r['bytes'] / dense['bytes']:.2f}x" for r in reversed(rows) if r), "")
        lines.append(f"| {pattern} | " + " | ".join(found) + f" | {stored} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
