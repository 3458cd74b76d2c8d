"""How much to cut: found before any training, by exporting and measuring candidates in the target.

Latency, size and memory do not depend on the weights' values, so a plan can be tried untrained. Counts follow
from the plan itself. Each measured budget drives one cost (latency the predicted latency, or the multiply-adds where
there is no prediction; size the parameters): candidates move along the measured response until the budget is met
without falling far below it, or the smallest possible model is measured to be over it, which makes the budget
infeasible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secateur.bench import Effort, Entry, peak_memory
from secateur.cost import Cost, FittedLatency, Macs, Params
from secateur.deploy import Artifact
from secateur.errors import Infeasible
from secateur.pipeline.artifacts import build, one_sample, timed
from secateur.pipeline.job import Job, counts
from secateur.pipeline.prediction import fit_of_run, predicted_share, prepare
from secateur.planning import Allocator, Amount, Budget, Care, Plan, Problem, allocate, plan_of
from secateur.scoring import Scores
from secateur.surgery import cut_groups

DRIVERS = {
    "latency": "latency",
    "p95": "latency",
    "size": "params",
    "memory": "params",
    "params": "params",
    "macs": "macs",
}
AIM = 0.965  # where in a measured budget to aim: its interval has to fit below
SLACK = 0.93  # a candidate below this share of the budget gives some back
PROBES = 6


@dataclass(frozen=True)
class Dense:
    """The dense model in the target's runtime.

    Args:
        artifacts: in fp32 and the target's dtypes.
        timings: their measurements.
        reference: the artifact that relative latency refers to, the fastest.
        sizes: the size that relative size refers to, the smallest, in bytes.
        memory: peak memory of the reference, bytes; zero unless a memory budget asks for it.
        metric: on held-out training data; NaN where there are no targets.
    """

    artifacts: tuple[Artifact, ...]
    timings: tuple[dict[str, Any], ...]
    reference: str
    size: int
    memory: int
    metric: float

    @property
    def latency_ms(self) -> float:
        """Median of the reference."""
        return float(self.timing["median_ms"])

    def value(self, kind: str) -> float:
        """What a relative budget of this kind refers to: ms or bytes."""
        values = {
            "size": self.size,
            "memory": self.memory,
            "p95": self.timing["p95_ms"],
            "latency": self.latency_ms,
        }
        return float(values[kind])

    def dtype(self, job: Job) -> str:
        """The dtype that predictions are made in: the reference's, if the target has it."""
        own = next(a.dtype for a in self.artifacts if a.name == self.reference)
        return own if own in job.target.dtypes else job.target.dtypes[-1]

    def ratio(self, dtype: str) -> float:
        """The dense model's time in a dtype, over the reference's."""
        name = next(a.name for a in self.artifacts if a.dtype == dtype)
        found = next(t["ratio"] for t in self.timings if t["artifact"] == name)
        return 1.0 if found is None else float(found)

    @property
    def timing(self) -> dict[str, Any]:
        """The reference's measurement."""
        return next(t for t in self.timings if t["artifact"] == self.reference)


@dataclass(frozen=True)
class Degree:
    """How much to cut.

    Args:
        shares: of the dense model's counts to cut to, ``{"macs": 0.4, ...}``.
        dtype: the one that measured faster.
        uses: how much of each measured budget an untrained cut to these shares used.
        given_up: which budget was let go of for another's sake, in words; nothing is cut for it any more.
    """

    shares: Mapping[str, float]
    dtype: str
    uses: Mapping[str, float] = field(default_factory=dict)
    given_up: str = ""


def measured_kinds(job: Job) -> list[Amount]:
    """The budgets that only a measurement can tell."""
    return [a for a in job.recipe.budget.amounts() if a.kind in ("latency", "p95", "size", "memory")]


def count_shares(job: Job) -> dict[str, float]:
    """Count budgets as shares of the dense model."""
    dense = job.dense_counts
    return {
        a.kind: min(1.0, a.limit(dense[a.kind]) / dense[a.kind])
        for a in job.recipe.budget.amounts()
        if a.kind in dense
    }


def check_counts(job: Job) -> None:
    """Raises Infeasible, in the user's own terms, where a count budget is below what is locked."""

    asked = {a.kind: a.asked for a in job.recipe.budget.amounts() if a.kind in ("params", "macs")}
    if asked:
        graph = job.groups.graph
        allocate(
            job.scores, [Params(graph), Macs(graph)], Budget(**asked), rounding=job.rounding, ties=job.ties
        )


def first_shares(job: Job, dense: Dense) -> dict[str, float]:
    """Shares that count budgets ask for, and that measured ones probably take; latency is predicted from here on."""
    shares = count_shares(job)
    wanted = measured_kinds(job)
    if wanted:
        prepare(job, dense.dtype(job))
    for amount in wanted:
        driver = driver_of(job, amount.kind)
        guess = amount.limit(dense.value(amount.kind)) / dense.value(amount.kind)
        if driver == "latency":
            guess *= AIM / dense.ratio(dense.dtype(job))
        shares[driver] = min(shares.get(driver, 1.0), max(guess, 0.02), 1.0)
    return shares


def find_degree(job: Job, dense: Dense, shares: dict[str, float]) -> Degree:
    """Finds the shares that meet every cost budget, by measuring where it takes one.

    Args:
        shares: where to begin, from :func:`first_shares`.

    Raises:
        Infeasible: even the smallest model is over a budget; names the nearest possible.
    """
    wanted = measured_kinds(job)
    if not wanted:
        return Degree(shares, dense.dtype(job))
    best: Degree | None = None
    tried: set[str] = set()
    for number in range(PROBES):
        probe = job.folder.journal.step(f"probe {number}", _probe, job, dense, number, shares)
        shares = {
            k: max(v, probe["shares"].get(k, 0.0)) if probe["smallest"] else v for k, v in shares.items()
        }
        ratios = {a.kind: _reading(probe, a.kind) / a.limit(dense.value(a.kind)) for a in wanted}
        job.say(f"  probe {number + 1}: " + _words(shares, wanted, ratios, probe))
        if all(r <= 1.0 for r in ratios.values()):
            if best is None or sum(shares.values()) > sum(best.shares.values()):
                best = Degree(dict(shares), probe["dtype"], ratios)
            if max(ratios.values()) >= SLACK or all(v >= 1.0 for v in shares.values()):
                return best
        elif probe["smallest"]:
            raise _infeasible(wanted, ratios, dense)
        tried.add(probe["plan"])
        shares = _next(job, shares, wanted, ratios, best)
        if best is not None and _candidate(job, shares)[0].to_json()["digest"] in tried:
            return best  # widths come in steps, and there is none in between
    if best is not None:
        return best
    smallest = job.folder.journal.step(
        "probe smallest", _probe, job, dense, PROBES, dict.fromkeys(shares, 0.0)
    )
    ratios = {a.kind: _reading(smallest, a.kind) / a.limit(dense.value(a.kind)) for a in wanted}
    if any(r > 1.0 for r in ratios.values()):
        raise _infeasible(wanted, ratios, dense)
    return Degree(smallest["shares"], smallest["dtype"], ratios)


def plan_for(
    job: Job,
    scores: Scores,
    shares: Mapping[str, float],
    care: Care | None = None,
    allocator: Allocator | None = None,
) -> Plan:
    """The plan that cuts the scored model to shares of the *dense* model's counts."""

    graph = scores.groups.graph
    dense = job.dense_counts
    amounts = {k: str(max(1.0, share * dense[k])) for k, share in shares.items() if k != "latency"}
    costs: list[Cost] = [Params(graph), Macs(graph)]
    fit = fit_of_run(job) if "latency" in shares else None
    if fit is not None:
        whole = FittedLatency(job.groups.graph, fit).bind(job.groups).dense
        amounts["latency"] = f"{max(shares['latency'], 1e-6) * whole}ms"
        costs.append(FittedLatency(graph, fit))
    budget = Budget(**amounts)
    return allocate(
        scores,
        costs,
        budget,
        allocator=allocator or job.allocator,
        rounding=job.rounding,
        care=care,
        ties=job.ties_in(scores.groups),
    )


def _probe(job: Job, dense: Dense, number: int, shares: Mapping[str, float]) -> dict[str, Any]:
    """Cuts the dense model untrained, exports it, measures it beside the reference."""
    plan, smallest = _candidate(job, shares)
    artifacts = build(
        job, cut_groups(job.groups, plan).module, f"probes/{number}", "probe", job.target.dtypes
    )
    reference = reference_of(dense)
    effort = Effort(width=job.recipe.measure.width, seconds=job.recipe.measure.seconds / 2)
    expected = predicted_ms(job, dense, plan)
    timings = timed(job, [reference, *artifacts], f"probe {number}", reference.name, effort, expected)
    own = [t for t in timings if t["artifact"] != reference.name]
    fastest = min(own, key=lambda t: t["ratio"])
    chosen = next(a for a in artifacts if a.name == fastest["artifact"])
    memory = 0
    if any(a.kind == "memory" for a in measured_kinds(job)):
        memory = memory_of(job, chosen)
    return {
        "shares": {k: share_of(job, k, plan) for k in shares},
        "smallest": smallest,
        "plan": plan.to_json()["digest"],
        "dtype": chosen.dtype,
        "latency": fastest["ratio_interval"][1] * dense.latency_ms,
        "p95": fastest["p95_ms"] / timings[0]["p95_ms"] * dense.timing["p95_ms"],
        "size": chosen.bytes,
        "memory": memory,
        "timings": timings,
    }


def driver_of(job: Job, kind: str) -> str:
    """The cost whose share is varied to keep a budget of this kind."""
    driver = DRIVERS[kind]
    return "macs" if driver == "latency" and fit_of_run(job) is None else driver


def reference_of(dense: Dense) -> Artifact:
    """The artifact that relative latency refers to."""
    return next(a for a in dense.artifacts if a.name == dense.reference)


def predicted_ms(job: Job, dense: Dense, plan: Plan | None) -> dict[str, float | None]:
    """Predicted latency by dtype, on the scale of the dense reference's measurement."""
    share = predicted_share(job, plan)
    dtype = dense.dtype(job)
    return {} if share is None else {dtype: share * dense.ratio(dtype) * dense.latency_ms}


def _candidate(job: Job, shares: Mapping[str, float]) -> tuple[Plan, bool]:
    """The plan for these shares, or the smallest there is; and whether it is that."""
    try:
        return plan_for(job, job.scores, shares), False
    except Infeasible:
        return smallest_plan(job), True


def share_of(job: Job, kind: str, plan: Plan) -> float:
    """What a cut has of the dense model's cost of this kind."""
    if kind == "latency":
        return predicted_share(job, plan) or 0.0
    return counts(job, plan)[kind] / job.dense_counts[kind]


def memory_of(job: Job, artifact: Artifact) -> int:
    """Peak memory of an artifact's process above its empty runtime, bytes."""
    entry = Entry(artifact.name, job.folder.root / artifact.path, artifact.runtime, artifact.dtype)
    return peak_memory(entry, one_sample(job), device=job.device, threads=job.threads)


def _reading(probe: Mapping[str, Any], kind: str) -> float:
    return float(probe[kind])


def _next(
    job: Job,
    shares: Mapping[str, float],
    wanted: list[Amount],
    ratios: Mapping[str, float],
    best: Degree | None,
) -> dict[str, float]:
    """Shares for the next candidate: each driver by its worst budget, halfway back to the best where too small."""
    out = dict(shares)
    limits = count_shares(job)
    for driver in sorted({driver_of(job, a.kind) for a in wanted}):
        worst = max(r for k, r in ratios.items() if driver_of(job, k) == driver)
        step = AIM / worst
        if worst <= 1.0:
            step = min(step, 1.5)
        out[driver] = min(out[driver] * step, limits.get(driver, 1.0), 1.0)
        if best is not None and worst > 1.0:
            out[driver] = max(out[driver], (best.shares[driver] + out[driver]) / 2 * 0.98)
    return out


def smallest_plan(job: Job, scores: Scores | None = None) -> Plan:
    """The least that can be left: every group at its floor, with what is best in it by the run's scores or others."""
    scores = scores or job.scores
    problem = Problem(scores, job.rounding, None, ties=job.ties)
    return plan_of(job.start, problem.dead(problem.floors), scores.orders)


def _infeasible(wanted: list[Amount], ratios: Mapping[str, float], dense: Dense) -> Infeasible:
    amount = max(wanted, key=lambda a: ratios[a.kind])
    value = ratios[amount.kind] * amount.limit(dense.value(amount.kind))
    nearest = value / dense.value(amount.kind) if amount.relative else value
    unit = {"latency": "ms", "p95": "ms", "size": " bytes", "memory": " bytes"}[amount.kind]
    written = f"{nearest:.3g}x" if amount.relative else f"{nearest:,.4g}{unit}"
    return Infeasible(
        f"the budget {amount.kind}={amount.asked} cannot be met: the smallest model that can be cut here measures "
        f"{written}; ask for that or more, or choose a lighter architecture",
        nearest,
    )


def _words(shares: Mapping[str, float], wanted: list[Amount], ratios: Mapping[str, float], probe: Any) -> str:
    counts = ", ".join(f"{v:.2f}x {k}" for k, v in shares.items())
    used = ", ".join(f"{a.kind} at {ratios[a.kind]:.2f} of its budget" for a in wanted)
    return f"{counts} in {probe['dtype']}: {used}"
