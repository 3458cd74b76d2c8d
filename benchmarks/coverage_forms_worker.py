"""One model of the coverage benchmark, cut in its owner's own class in two ways, in this process; the record as JSON.

    python benchmarks/coverage_forms_worker.py timm resnet18 record.json

Traced and probed once. ``uniform`` is the plan of ``keep=0.5``; ``free`` keeps a share of each group drawn between
one half and three quarters, to the unit. Each is made under the ties that the class asks for. Where the class
comes back it is compared with the graph form of the same plan once more here, on inputs that neither has seen.
"""

from __future__ import annotations

import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from coverage_model import measured, raise_if_asked, tensors, words  # noqa: E402
from measured import peak  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402
from zoo_models import settle_attention, settle_statistics  # noqa: E402

from secateur.cost import Params  # noqa: E402
from secateur.coupling import Groups, find_groups  # noqa: E402
from secateur.errors import NotExportable  # noqa: E402
from secateur.graph import Graph, Probe, computes_weights, probe, split_inputs, trace  # noqa: E402
from secateur.planning import Allocator, Plan, Problem, Rounding, Ties, Uniform, allocate, dead_atoms  # noqa: E402
from secateur.scoring import Magnitude, Scores, score  # noqa: E402
from secateur.surgery import relative_error  # noqa: E402
from secateur.surgery.owner import attempts, whole_groups  # noqa: E402

KEEP, LEAST, MOST = 0.5, 0.5, 0.75


@dataclass(frozen=True)
class Drawn(Allocator):
    """Of every group a share of its units drawn between two bounds, whatever ``level``."""

    seed: int
    least: float = LEAST
    most: float = MOST

    def widths(self, problem: Problem, level: float) -> np.ndarray:
        """Each bundle's share, between its floor and all of it."""
        shares = np.random.default_rng(self.seed).uniform(self.least, self.most, len(problem.bundles))
        wanted = [
            b.nearest(problem.rounding, s * b.levels) for b, s in zip(problem.bundles, shares, strict=True)
        ]
        return np.clip(np.array(wanted, dtype=np.int64), problem.floors, problem.units)


def measure(source: Any, name: str, record: dict[str, Any]) -> None:
    """Builds, traces, probes and cuts one model both ways; what is known when something fails stays in the record."""
    model, inputs = source.build(name)
    args, kwargs = split_inputs(inputs)
    settle_statistics(model, args, kwargs)
    settle_attention(model, args, kwargs)
    started = time.process_time()
    try:
        graph = trace(model, inputs)
    except NotExportable as refusal:
        record["refused"] = str(refusal)[:600]
        raise
    groups = find_groups(graph)
    record["parameters"], record["prunable"] = graph.parameters, groups.prunable_share
    record["seconds_trace"], started = time.process_time() - started, time.process_time()
    views = [_View.of(model, groups)]
    record["unread"] = len(views[0].seen.unread)
    record["seconds_probe"] = time.process_time() - started
    record["groups"] = len(groups)
    ways = {
        "uniform": (Uniform(), Rounding()),
        "free": (Drawn(zlib.crc32(name.encode())), Rounding(1)),
    }
    for way, (allocator, rounding) in ways.items():
        record[way] = {}
        try:
            _cut(model, views[0], allocator, rounding, record[way])
            if record[way]["form"] == "graph" and computes_weights(graph.folded):
                if len(views) == 1:
                    views.append(_View.of(model, find_groups(trace(model, inputs, fold=False))))
                _cut(model, views[1], allocator, rounding, record[way])
                record[way]["folded"] = False
        except Exception as error:
            record[way]["problem"] = words(error)
            raise_if_asked()
    record["peak_bytes"], record["ran"] = peak(), True


@dataclass(frozen=True)
class _View:
    """A model's program as the class runs it, with scores."""

    groups: Groups
    seen: Probe
    scores: Scores

    @classmethod
    def of(cls, model: nn.Module, groups: Groups) -> _View:
        seen = probe(model, groups.graph)
        return cls(whole_groups(groups, seen), seen, score(model, groups, Magnitude()))


def _cut(
    model: nn.Module,
    view: _View,
    allocator: Allocator,
    rounding: Rounding,
    record: dict[str, Any],
) -> None:
    """One way: the plan under ties, the class if it comes back, and both forms side by side."""
    groups, scores = view.groups, view.scores
    started = time.process_time()
    asked: list[Ties | None] = [None]

    def planned(known: Scores | None, ties: Ties | None) -> Plan:
        assert known is not None
        asked.append(ties)
        return allocate(known, keep=KEEP, allocator=allocator, rounding=rounding, ties=ties)

    def kept(known: Groups, plan: Plan) -> float:
        cost = Params(known.graph).bind(known)
        return cost.of(known.coupling.alive(dead_atoms(known, plan))) / max(cost.dense, 1)

    record["kept_untied"] = kept(scores.groups, planned(scores, None))
    tried = attempts(model, groups, view.seen, scores, planned)
    record["kept"], ties = kept(groups, tried.plan), asked[-1] or Ties()
    record["attempts"] = len(asked) - 2
    record["tied"], record["frozen"] = sum(map(len, ties.tied)), len(ties.frozen)
    record["seconds"] = time.process_time() - started
    record["verified"] = tried.cut.verification.max_relative_error
    record["factors"] = len(tried.plan.folded)
    own = tried.owner
    record["form"] = "graph" if own.module is None else "module"
    record["error"] = own.error if np.isfinite(own.error) else None
    record["obstacle"] = own.reason
    if own.module is not None:
        record["error_fresh"] = fresh_error(model, own.module, tried.cut.module, groups.graph)
        record["same_class"] = type(own.module) is type(model)
        record["same_weights"] = same_weights(own.module, tried.cut.module, groups.graph)


def fresh_error(model: nn.Module, own: nn.Module, small: nn.Module, graph: Graph) -> float:
    """Largest relative difference of the two forms on inputs drawn anew; three of them where the batch is free."""
    own.eval()
    for batch in (3, graph.batch) if graph.dynamic else (graph.batch,):
        args, kwargs = _fresh(graph, batch)
        with torch.no_grad():
            try:
                dense = [tensors(m(*args, **kwargs)) for m in (model, graph.module)]
            except Exception:
                continue  # the model, or what the exporter made of it, takes no other batch
            if [t.shape for t in dense[0]] != [t.shape for t in dense[1]]:
                continue
            ours, theirs = (tensors(m(*args, **kwargs)) for m in (own, small))
        if len(ours) != len(theirs):
            return float("inf")
        return max((relative_error(o, t) for o, t in zip(ours, theirs, strict=True)), default=0.0)
    return float("inf")


def _fresh(graph: Graph, batch: int) -> tuple[Any, Any]:
    """Inputs like the examples, drawn anew."""
    generator = torch.Generator().manual_seed(7)

    def drawn(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        value = torch.cat([value] * batch)[:batch] if value.shape[0] == graph.batch else value
        if value.dim() < 2:
            return value
        if not value.is_floating_point():
            return value.flip(0) if value.dtype is not torch.bool else value
        if value.dim() > 3 or graph.batch == 1:
            return value.mean() + value.std() * torch.randn(value.shape, generator=generator).to(value)
        return value * (1 + 0.1 * torch.randn(value.shape, generator=generator)).to(value)

    args, kwargs = pytree.tree_map(drawn, (graph.args, dict(graph.kwargs)))
    return args, kwargs


def same_weights(own: nn.Module, small: nn.Module, graph: Graph) -> bool:
    """Whether every parameter that the program reads is the same in both forms, to the bit."""
    theirs = dict(small.named_parameters(remove_duplicate=False))
    found = dict(own.named_parameters(remove_duplicate=False))
    pairs = [(found[n], theirs[graph.aliases.get(n, n)]) for n in found if graph.aliases.get(n, n) in theirs]
    return bool(pairs) and all(torch.equal(a, b) for a, b in pairs)


def main(kind: str, name: str, target: str) -> int:
    """Measures one model and writes what came of it."""
    return measured(measure, kind, name, target)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:4]))
