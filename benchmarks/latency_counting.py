"""Better than counting? Quality at one measured latency, by what a solver was told to spend.

    python benchmarks/latency_counting.py --data FOLDER [--only NAME ...] [--dtypes D ...] [--share 0.6] [--seeds 3]

The same scores, the same rounding and no training but batch-norm recalibration; what differs is the cost that the
solver spends: predicted latency, with widths alone or with whole blocks too, multiply-adds, or nothing (uniform
widths). Each is driven until its artifact measures the asked share of the dense latency, and all are measured in turn
at the end. Writes
``benchmarks/results/latency-counting.json`` and the table in ``docs/latency.md``; run again, it does what is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from cifar_data import network, read_images, unpacked  # noqa: E402
from cifar_page import update, write_text  # noqa: E402
from latency_asked import DTYPES, conditions, options  # noqa: E402
from processes import read_store  # noqa: E402
from torch import nn  # noqa: E402

import secateur as sc  # noqa: E402
from secateur.bench import Effort, Entry, Measurement, measure  # noqa: E402
from secateur.cost import FittedLatency  # noqa: E402
from secateur.coupling import remove_blocks  # noqa: E402
from secateur.data import Data, evaluate, slice_batch  # noqa: E402
from secateur.deploy import format_for  # noqa: E402
from secateur.latency import Survey, Where, fit_latency  # noqa: E402
from secateur.planning import compare_depths, dead_atoms  # noqa: E402
from secateur.recovery import RecalibrateBatchNorm, Setting, recover_  # noqa: E402
from secateur.scoring import score_blocks  # noqa: E402
from secateur.surgery import cut_groups  # noqa: E402

MODELS = ("resnet20", "resnet56", "minilm")
SOLVERS = ("latency", "depth", "macs", "uniform")
CALIBRATED_ON = 2048  # images; an eighth as many pairs of sentences
NEAR = 0.012  # of the asked share: where driving stops
TRIES = 6


@dataclass(frozen=True)
class Subject:
    """A trained model and its data."""

    model: nn.Module
    task: sc.Task
    scoring: list[Any]
    recalibrating: list[Any]
    test: list[Any]


@dataclass(frozen=True)
class Cut:
    """What one solver made of the asked latency."""

    module: nn.Module
    predicted: float
    macs: float
    driven_by: float
    blocks: int = 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__, MODELS, DTYPES)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the images and weights")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="where images are unpacked")
    parser.add_argument("--share", type=float, default=0.6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, default=5000, help="test images")
    return parser.parse_args()


def main() -> int:
    """Runs what has no record yet, then writes the table."""
    asked = arguments()
    torch.set_num_threads(1)
    file = asked.results / "latency-counting.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked, "share", "test")
    for name in asked.only:
        for seed in range(asked.seeds):
            todo = [d for d in asked.dtypes if f"{name} {d} {seed}" not in store["records"]]
            if not todo:
                continue
            subject = subject_of(name, asked, seed)
            for dtype in todo:
                store["records"][f"{name} {dtype} {seed}"] = compared(subject, dtype, asked)
                write_text(file, json.dumps(store, indent=1) + "\n")
                print(f"{name} {dtype} {seed}: {store['records'][f'{name} {dtype} {seed}']}", flush=True)
    update(asked.page, {"counting": table(store["records"], store["conditions"])})
    return 0


def subject_of(name: str, asked: argparse.Namespace, seed: int) -> Subject:
    """A model with its weights; what it is scored and recalibrated on depends on the seed."""
    if name == "minilm":
        from sts import read_pairs, sentence_encoder, similarity_task

        pairs = read_pairs(asked.data / "stsb" / "sts-train.csv", CALIBRATED_ON // 8, seed, batch=8)
        dev = read_pairs(asked.data / "stsb" / "sts-dev.csv", None, seed)
        return Subject(sentence_encoder(), similarity_task(), pairs, [], dev)
    images = read_images(unpacked(asked.data, asked.cache), CALIBRATED_ON, asked.test, seed)
    scoring = [
        (x, y) for big, target in images.train for x, y in zip(big.split(16), target.split(16), strict=True)
    ]
    return Subject(network(name, asked.data), sc.classification(), scoring, images.train, images.test)


def compared(subject: Subject, dtype: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The solvers at one measured latency."""
    inputs = slice_batch(subject.test[0][0], 0, 2)
    groups = sc.find_groups(sc.trace(subject.model, inputs))
    scores = scored(subject, groups)
    sample = slice_batch(inputs, 0, 1)
    where = Where("onnxruntime", dtype, threads=asked.threads)
    fit = fit_latency(groups, sample, where, Survey(say=lambda text: print("  " + text, file=sys.stderr)))
    cost = FittedLatency(groups.graph, fit)

    without: list[sc.Groups] = []  # of the blocks that go whole, chosen at the first share

    def cut(solver: str, share: float) -> Cut:
        of = groups
        if solver == "depth":
            if not without:
                without.append(shortened(subject, groups, cost, share))
            of = without[0]
        found = scores if of is groups else scored(subject, of)
        if solver == "uniform":
            plan = sc.allocate(found, keep=share)
        elif solver == "macs":
            plan = sc.allocate(found, [sc.Macs(groups.graph)], sc.Budget(macs=f"{share}x"))
        else:
            plan = sc.allocate(found, [cost], sc.Budget(latency=f"{share}x"))
        alive = of.coupling.alive(dead_atoms(of, plan))
        parts = [c.bind(of).of(alive) / c.bind(groups).dense for c in (cost, sc.Macs(groups.graph))]
        return Cut(cut_groups(groups, plan).module, parts[0], parts[1], share, len(of.removal.names))

    with tempfile.TemporaryDirectory() as scratch:
        timed = _Timed(groups.graph.module, sample, dtype, subject, Path(scratch), asked.threads)
        found = {
            solver: driven(lambda s, solver=solver: cut(solver, s), timed, asked.share) for solver in SOLVERS
        }
        measured = timed.together({solver: one.module for solver, one in found.items()})
    return {
        "dense": evaluate(subject.model, subject.test, subject.task).metric,
        "noise": max((m.ratio_interval[1] - m.ratio_interval[0]) / m.ratio for m in measured.values()),
        "solvers": {
            solver: {
                "ratio": measured[solver].ratio,
                "predicted": one.predicted,
                "macs": one.macs,
                "driven_by": one.driven_by,
                "blocks": one.blocks,
                **qualities(subject, one.module),
            }
            for solver, one in found.items()
        },
    }


def scored(subject: Subject, groups: sc.Groups) -> sc.Scores:
    """Taylor saliencies of the units of these groups."""
    return sc.score(subject.model, groups, sc.Taylor(), subject.scoring, task=subject.task)


def shortened(subject: Subject, groups: sc.Groups, cost: FittedLatency, share: float) -> sc.Groups:
    """The groups without the blocks whose removal loses least at this share, judged on the scoring data."""

    def loss(names: tuple[str, ...]) -> float | None:
        of = remove_blocks(groups, names)
        try:
            plan = sc.allocate(scored(subject, of), [cost], sc.Budget(latency=f"{share}x"))
        except sc.Infeasible:
            return None
        module = cut_groups(groups, plan).module
        if subject.recalibrating:
            recalibrate(subject, module)
        return evaluate(module, subject.scoring, subject.task).loss

    tried = compare_depths(groups, score_blocks(groups, subject.scoring[:32]), loss, most=8)
    (names, _) = min((one for one in tried if one[1] is not None), key=lambda one: one[1])
    return remove_blocks(groups, names)


def driven(cut: Callable[[float], Cut], timed: _Timed, share: float) -> Cut:
    """The cut that measures nearest to the share of the dense latency, its driver corrected by what was measured."""
    low, high, driver = (0.02, 0.0), (1.0, 1.0), share
    best: tuple[float, Cut] | None = None
    for _ in range(TRIES):
        try:
            one = cut(driver)
        except sc.Infeasible as error:
            low = (error.nearest or driver, low[1])
            driver = (low[0] + high[0]) / 2
            continue
        ratio = timed.ratio(one.module)
        if best is None or abs(ratio - share) < abs(best[0] - share):
            best = (ratio, one)
        if abs(ratio / share - 1) < NEAR:
            break
        if ratio < share:
            low = (driver, ratio)
        else:
            high = (driver, ratio)
        # Regula falsi, kept away from the ends.
        part = (share - low[1]) / max(high[1] - low[1], 1e-9)
        driver = low[0] + (high[0] - low[0]) * min(max(part, 0.1), 0.9)
    assert best is not None
    return best[1]


class _Timed:
    """Exports modules and measures them in turn with the dense one."""

    def __init__(
        self, dense: nn.Module, sample: Any, dtype: str, subject: Subject, scratch: Path, threads: int
    ) -> None:
        self.sample, self.dtype, self.scratch, self.threads = sample, dtype, scratch, threads
        self.calibration = [slice_batch(batch[0], 0, 1) for batch in subject.scoring[:8]]
        self.count = 0
        self.dense = self._entry("dense", dense)

    def ratio(self, module: nn.Module) -> float:
        """One module's time over the dense one's, quickly."""
        self.count += 1
        entry = self._entry(f"try{self.count}", module)
        found = self._measured([self.dense, entry], Effort(width=0.01, seconds=8.0))
        return float(found[1].ratio or 1.0)

    def together(self, modules: Mapping[str, nn.Module]) -> dict[str, Measurement]:
        """All of them, carefully."""
        entries = [self._entry(name, module) for name, module in modules.items()]
        found = self._measured([self.dense, *entries], Effort(width=0.005, seconds=40.0))
        return {m.artifact: m for m in found[1:]}

    def _measured(self, entries: Sequence[Entry], effort: Effort) -> list[Measurement]:
        return measure(entries, self.sample, reference="dense", threads=self.threads, effort=effort)

    def _entry(self, name: str, module: nn.Module) -> Entry:
        exporter = format_for("onnxruntime", self.dtype)
        path = exporter.write(
            module, self.sample, self.scratch / f"{name}-{exporter.filename}", self.calibration
        )
        return Entry(name, path, "onnxruntime", self.dtype)


def qualities(subject: Subject, module: nn.Module) -> dict[str, float]:
    """The metric in fp32 as it is cut, and with batch-norm statistics measured anew where there are any."""
    cut = evaluate(module, subject.test, subject.task).metric
    if not subject.recalibrating:
        return {"cut": cut, "recalibrated": cut}
    recalibrate(subject, module)
    return {"cut": cut, "recalibrated": evaluate(module, subject.test, subject.task).metric}


def recalibrate(subject: Subject, module: nn.Module) -> None:
    """Batch-norm statistics measured anew, kept whether or not they do better."""
    batches = subject.recalibrating
    data = Data(train=batches, select=[slice_batch_pair(batches[0], 32)], evaluate=(), calibration=())
    recoverer = RecalibrateBatchNorm(batches=len(batches), keep_best=False)
    recover_(module, data, subject.task, recoverer, Setting(quiet=True))


def slice_batch_pair(batch: Any, count: int) -> Any:
    """The first samples of inputs and targets."""
    return batch[0][:count], batch[1][:count]


def table(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by this benchmark."""
    lines = [
        f"Measured {about['date']}, {about['threads']} thread, batch 1, ONNX Runtime; Taylor on {CALIBRATED_ON:,} "
        f"training images or {CALIBRATED_ON // 8} pairs of sentences, widths in multiples of eight, no training but "
        "batch-norm recalibration. Accuracy on the CIFAR-10 test images, Spearman's correlation on STS-B's dev set. "
        "Mean over the seeds of the calibration data, and the range; in brackets what the artifacts measured.",
        "",
        "| model | dtype | seeds | dense | spends latency | on blocks, too | spends multiply-adds | uniform widths |",
        "|---" * 8 + "|",
    ]
    for name, dtype in dict.fromkeys(tuple(key.split()[:2]) for key in records):
        runs = [r for key, r in records.items() if key.split()[:2] == [name, dtype]]
        cells = [_cell([r["solvers"][solver] for r in runs]) for solver in SOLVERS]
        dense = sum(r["dense"] for r in runs) / len(runs)
        lines.append(f"| {name} | {dtype} | {len(runs)} | {dense:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(rows: Sequence[Mapping[str, float]]) -> str:
    values = [r["recalibrated"] for r in rows]
    ratio = sum(r["ratio"] for r in rows) / len(rows)
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    gone = sum(r["blocks"] for r in rows) / len(rows)
    blocks = f", {gone:.1f} blocks" if gone else ""
    return f"{sum(values) / len(values):.3f}{spread} [{ratio:.3f}x{blocks}]"


if __name__ == "__main__":
    raise SystemExit(main())
