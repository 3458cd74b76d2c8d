"""What a cut gains in each runtime and dtype here, beside what the dense model takes there.

    python benchmarks/latency_gains.py [--threads N]

ResNet-50 without 40 % of its filters, EfficientNet-B0 and MobileNetV3-large without 35 %, uniformly and with random
weights: times and sizes depend on shapes alone. Everything of a model and a runtime is measured in turn. Writes
``benchmarks/results/latency-gains.json`` after every runtime and the table in ``docs/latency.md``; run again, it does
what is missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from cifar_page import update, write_text  # noqa: E402
from latency_asked import conditions, options  # noqa: E402
from latency_models import build  # noqa: E402
from processes import read_store  # noqa: E402

import secateur as sc  # noqa: E402
from secateur.bench import Effort, Entry, measure  # noqa: E402
from secateur.deploy import format_for, runtime_named  # noqa: E402

KEPT = {"resnet50": 0.6, "efficientnet_b0": 0.65, "mobilenet_v3_large": 0.65}
RUNTIMES = ("onnxruntime", "openvino")
MULTIPLE = 16  # OpenVINO's INT8 kernels compute so many channels at once
EFFORT = Effort(width=0.01, seconds=25.0)


def main() -> int:
    """Measures what has no record yet, then writes the table."""
    asked = options(__doc__).parse_args()
    torch.set_num_threads(1)
    file = asked.results / "latency-gains.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked)
    for name, keep in KEPT.items():
        for runtime in RUNTIMES:
            key = f"{name} {runtime}"
            if key not in store["records"] and runtime_named(runtime).available():
                store["records"][key] = measured(name, keep, runtime, asked.threads)
                write_text(file, json.dumps(store, indent=1) + "\n")
            print(f"{key}: {store['records'].get(key)}", flush=True)
    update(asked.page, {"gains": table(store["records"], store["conditions"])})
    return 0


def measured(name: str, keep: float, runtime: str, threads: int) -> dict[str, Any]:
    """Ratios to the runtime's own dense fp32, and bytes, by artifact."""
    model, sample = build(name)
    cut = sc.prune(model, sample, keep=keep, rounding=sc.Rounding(MULTIPLE)).model
    with tempfile.TemporaryDirectory() as folder:
        entries, sizes = [], {}
        for which, module in (("dense", model), ("cut", cut)):
            for dtype in ("fp32", "int8"):
                exporter = format_for(runtime, dtype)
                path = Path(folder) / f"{which}-{dtype}" / exporter.filename
                path.parent.mkdir()
                exporter.write(module, sample, path, [sample])
                entries.append(Entry(f"{which}-{dtype}", path, runtime, dtype))
                sizes[f"{which}-{dtype}"] = sum(f.stat().st_size for f in path.parent.iterdir())
        found = measure(entries, sample, reference="dense-fp32", threads=threads, effort=EFFORT)
    return {
        "keep": keep,
        "dense_ms": found[0].median_ms,
        "ratios": {m.artifact: 1.0 if m.ratio is None else m.ratio for m in found},
        "bytes": sizes,
    }


def table(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by this benchmark."""
    lines = [
        f"Measured {about['date']}, {about['threads']} thread, batch 1, uniform widths in multiples of {MULTIPLE}. "
        "Times as fast as the same runtime's dense fp32; in the last columns the cut against the dense model of its "
        "own dtype.",
        "",
        "| model | units kept | runtime | dense fp32, ms | dense INT8 | cut fp32 | cut INT8 | cut INT8, MB "
        "| cut in fp32 | cut in INT8 |",
        "|---" * 10 + "|",
    ]
    for key, r in records.items():
        (name, runtime), ratio = key.split(), r["ratios"]
        lines.append(
            f"| {name} | {r['keep']:.0%} | {runtime} | {r['dense_ms']:.2f} | {1 / ratio['dense-int8']:.2f}x "
            f"| {1 / ratio['cut-fp32']:.2f}x | {1 / ratio['cut-int8']:.2f}x | {r['bytes']['cut-int8'] / 1e6:.1f} "
            f"| {1 / ratio['cut-fp32']:.2f}x | {ratio['dense-int8'] / ratio['cut-int8']:.2f}x |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
