"""From the last round to the verdict: export, measure beside every dense variant, correct, judge, record."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.data import Evaluation, evaluate
from secateur.deploy import Artifact, is_whole
from secateur.errors import FormError
from secateur.pipeline.analysis import analysis
from secateur.pipeline.artifacts import build, dense_dtypes, timed
from secateur.pipeline.baselines import baselines
from secateur.pipeline.degree import AIM, Degree, Dense, measured_kinds, memory_of, predicted_ms
from secateur.pipeline.environment import environment
from secateur.pipeline.job import Job, counts
from secateur.pipeline.judge import Candidate, artifact_evaluation, class_rows, compare_classes, judge
from secateur.pipeline.layers import layers
from secateur.pipeline.rivals import rivals_of, timings_of
from secateur.pipeline.rounds import State, Step, one_round
from secateur.pipeline.twins import eligible, fp32_ratio
from secateur.pipeline.worth import suitability_of
from secateur.planning import Care, parse_amount
from secateur.report import write_report
from secateur.surgery import load, save

CORRECTIONS = 3


@dataclass(frozen=True)
class Outcome:
    """The end of a run, before it is written."""

    state: State
    artifacts: tuple[Artifact, ...]
    timings: tuple[dict[str, Any], ...]
    chosen: Candidate
    rows: tuple[dict[str, Any], ...]
    dense: Evaluation
    given_up: str


def finish(job: Job, dense: Dense, degree: Degree, state: State) -> Outcome:
    """Exports and measures the result; cuts a little more where a measured budget is narrowly missed."""
    reference = evaluate(job.model, job.data.evaluate, job.task)
    shares = dict(degree.shares)
    for attempt in range(CORRECTIONS + 1):
        outcome = _outcome(job, dense, reference, state, degree.given_up)
        over = _excess(outcome.rows)
        if over <= 1.0 or attempt == CORRECTIONS or not shares or degree.given_up:
            return outcome
        shares = {kind: share * AIM / over for kind, share in shares.items()}
        job.say(f"  a measured budget is exceeded by {over - 1:.1%}: one more round")
        state = one_round(
            job, dense, state, Step(shares, degree.dtype, Care(least=0.5, edges=0.8), last=True)
        )
    raise AssertionError("unreachable")


def _outcome(job: Job, dense: Dense, reference: Evaluation, state: State, given_up: str) -> Outcome:
    where = "artifacts"
    name = f"final {state.number}"
    record = job.folder.journal.step(name, _measure, job, dense, state, where)
    artifacts = tuple(Artifact.from_json(a) for a in record["artifacts"])
    if any(not is_whole(job.folder.root / a.path) for a in artifacts):
        build(job, state.model, where, "pruned", dense_dtypes(job))
    timings = tuple(record["timings"])
    base = next(t for t in timings if t["artifact"] == dense.reference)
    candidates = []
    for artifact in eligible(job.target, artifacts, timings):
        evaluation = artifact_evaluation(job, artifact)
        timing = next(t for t in timings if t["artifact"] == artifact.name)
        candidate = Candidate(
            artifact,
            timing,
            evaluation,
            compare_classes(job, reference, evaluation),
            record["memory"].get(artifact.name, 0),
            base["p95_ms"],
        )
        candidates.append((candidate, judge(job, dense, reference, candidate, state.plan)))
    # Of the dtypes asked for, the fastest that keeps every promise; else the fastest.
    best, rows = min(candidates, key=lambda c: (not all(r["met"] for r in c[1]), _speed(c[0])))
    return Outcome(state, artifacts, timings, best, tuple(rows), reference, given_up)


def _measure(job: Job, dense: Dense, state: State, where: str) -> dict[str, Any]:
    artifacts = build(job, state.model, where, "pruned", dense_dtypes(job))
    expected = predicted_ms(job, dense, state.plan)
    timings = timed(job, [*dense.artifacts, *artifacts], "final", dense.reference, predicted=expected)
    memory = {}
    if any(a.kind == "memory" for a in measured_kinds(job)):
        memory = {a.name: memory_of(job, a) for a in artifacts}
    return {"artifacts": [a.to_json() for a in artifacts], "timings": timings, "memory": memory}


def _speed(candidate: Candidate) -> float:
    return 1.0 if candidate.timing["ratio"] is None else float(candidate.timing["ratio"])


def _excess(rows: Sequence[Mapping[str, Any]]) -> float:
    """By how much the worst measured budget is exceeded; at most 1 where all are met."""
    worst = 0.0
    for row in rows:
        if row["kind"] in ("latency", "p95", "size", "memory") and not row["met"]:
            limit = _limit(row)
            upper = row["interval"][1] if row["interval"] else row["achieved"]
            worst = max(worst, upper / limit)
    return worst


def _limit(row: Mapping[str, Any]) -> float:
    return parse_amount(row["kind"], row["asked"]).limit(row["dense"])


# -- records -----------------------------------------------------------------------------------------


def conclude(
    job: Job, dense: Dense, outcome: Outcome, started: str, hashes: dict[str, str]
) -> dict[str, Any]:
    """Computes the baselines and writes every record of the run; returns the verdict."""
    chosen, rows = outcome.chosen, list(outcome.rows)
    after = counts(job, outcome.state.plan)
    before = counts(job, None)
    shares = (
        {"macs": after["macs"] / before["macs"]}
        if before["macs"]
        else {"params": after["params"] / before["params"]}
    )
    epochs = _epochs(job, outcome.state.path)
    compared = []
    if outcome.state.plan is not None:
        compared = baselines(job, dense, outcome.state.plan, shares, chosen.artifact.dtype, epochs)
    met = all(r["met"] for r in rows)
    reasons = [_reason(r) for r in rows if not r["met"]]
    if outcome.given_up:
        reasons.append(outcome.given_up)
    verdict: dict[str, Any] = {
        "verdict": "met" if met else "missed",
        "headline": _headline(job, dense, outcome, met, reasons),
        "reasons": reasons,
        "target": f"{job.target.runtime}:{chosen.artifact.dtype}",
        "reference": {"artifact": dense.reference, "latency_ms": dense.latency_ms, "size_bytes": dense.size},
        "budgets": rows,
        "metric": {
            "name": job.task.name,
            "dense": outcome.dense.metric,
            "pruned": evaluate(outcome.state.model, job.data.evaluate, job.task).metric,
            "quantized": _quantised(outcome),
        },
        "classes": class_rows(chosen.classes),
        "artifacts": [
            _artifact(a, chosen if a.name == chosen.artifact.name else None, _to_twin(a, dense, outcome))
            for a in (*dense.artifacts, *outcome.artifacts)
        ],
        "runtimes": rivals_of(job),
        "gains": _gains(dense, outcome),
        "baselines": [{k: v for k, v in row.items() if k != "timings"} for row in compared],
    }
    _write(job, dense, outcome, compared, started, hashes)
    verdict["form"] = _form(job)
    job.folder.write_json("verdict.json", verdict)
    write_report([job.folder.root], job.folder.root / "report.html")
    return verdict


def _form(job: Job) -> dict[str, str]:
    """Whether the user's own class holds the result, where it was asked for: tried with the stored model."""
    form = {"asked": job.recipe.form, "got": "graph", "obstacle": ""}
    if job.recipe.form != "graph":
        try:
            load(job.folder.root, into=job.model)
            form["got"] = "module"
        except FormError as error:
            form["obstacle"] = str(error)
    return form


def conclude_infeasible(
    job: Job, reason: str, nearest: float | None, started: str, hashes: dict[str, str]
) -> None:
    """Records that the budget cannot be met, and what could."""
    verdict = {
        "verdict": "infeasible",
        "headline": reason,
        "reasons": [reason],
        "target": str(job.target),
        "reference": None,
        "budgets": [
            {
                "kind": a.kind,
                "asked": a.asked,
                "dense": None,
                "achieved": None,
                "interval": None,
                "met": False,
            }
            for a in job.recipe.budget.amounts()
        ],
        "nearest": nearest,
        "metric": None,
        "classes": [],
        "artifacts": [],
        "gains": [],
        "baselines": [],
        "runtimes": rivals_of(job),
    }
    job.folder.write_json("analysis.json", _analysis(job))
    job.folder.write_json("environment.json", _environment(job, started, hashes))
    job.folder.write_json("verdict.json", verdict)
    write_report([job.folder.root], job.folder.root / "report.html")


def _write(
    job: Job,
    dense: Dense,
    outcome: Outcome,
    compared: Sequence[Mapping[str, Any]],
    started: str,
    hashes: dict[str, str],
) -> None:
    folder, steps = job.folder, job.folder.journal.steps
    folder.write_json("analysis.json", _analysis(job, dense))
    folder.write_json("layers.json", layers(job.groups, outcome.state.plan, outcome.state.model))
    if outcome.state.plan is not None:
        save(outcome.state.model, folder.root)
        outcome.state.plan.save(folder.root / "plan.json")
    else:
        save(job.groups.graph.module, folder.root, job.example)
    rounds = [steps[f"round {n}"] for n in range(1, outcome.state.made + 1)]
    folder.write_lines("history.jsonl", [_round_zero(job, dense), *rounds_public(rounds, outcome.state.path)])
    probes = [t for name, s in steps.items() if name.startswith("probe ") for t in s["timings"]]
    folder.write_lines(
        "measurements.jsonl",
        [
            *timings_of(job),
            *dense.timings,
            *probes,
            *(t for r in rounds for t in r["timings"]),
            *outcome.timings,
            *(t for row in compared for t in row["timings"]),
        ],
    )
    folder.write_json("environment.json", _environment(job, started, hashes))


def rounds_public(rounds: Sequence[Mapping[str, Any]], path: Sequence[int]) -> list[dict[str, Any]]:
    """Rounds as they stand in ``history.jsonl``: those that do not lead to the result were given up."""
    return [
        {
            **{k: v for k, v in r.items() if k not in ("recovery", "timings")},
            "given_up": r["round"] not in path,
        }
        for r in rounds
    ]


def _round_zero(job: Job, dense: Dense) -> dict[str, Any]:
    before = counts(job, None)
    return {
        "round": 0, "fraction_cut": 0.0, "params": before["params"], "macs": before["macs"],
        "predicted_latency_ms": None, "latency_ms": dense.latency_ms, "latency_ratio": 1.0,
        "metric_before": dense.metric, "metric_reconstructed": None, "metric_after": dense.metric,
        "seconds": 0.0, "given_up": False, "criterion": None,
    }  # fmt: skip


def _analysis(job: Job, dense: Dense | None = None) -> dict[str, Any]:
    """The analysis, with what the run measured and chose before it cut anything."""
    steps = job.folder.journal.steps
    return {
        **analysis(job.groups),
        "suitability": None if dense is None else suitability_of(job, dense),
        **{name: steps.get(name) for name in ("criterion", "depth", "forecast")},
    }


def _environment(job: Job, started: str, hashes: dict[str, str]) -> dict[str, Any]:
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return environment(
        job.threads, job.recipe.seed, {**hashes, "recipe": job.recipe.digest}, started, finished
    )


def _epochs(job: Job, path: Sequence[int]) -> int:
    """Epochs that the result was trained for, as recorded round by round."""
    records = [job.folder.journal.steps[f"round {n}"]["recovery"] for n in path]
    return sum(len(r["epochs"]) for r in records if r)


def _artifact(artifact: Artifact, chosen: Candidate | None, to_twin: float | None) -> dict[str, Any]:
    record = artifact.to_json()
    record["final"] = chosen is not None
    if to_twin is not None:
        record |= {"fp32_ratio": to_twin, "slower_than_fp32": to_twin > 1.0}
    if chosen is not None:
        record["metric"] = chosen.evaluation.metric
    return record


def _to_twin(artifact: Artifact, dense: Dense, outcome: Outcome) -> float | None:
    return fp32_ratio(artifact, (*dense.artifacts, *outcome.artifacts), outcome.timings)


def _quantised(outcome: Outcome) -> float | None:
    return outcome.chosen.evaluation.metric if outcome.chosen.artifact.dtype == "int8" else None


def _gains(dense: Dense, outcome: Outcome) -> list[dict[str, Any]]:
    """The chosen artifact against every dense variant, from the one interleaved measurement."""
    own = outcome.chosen.timing
    gains = []
    for artifact in dense.artifacts:
        other = next(t for t in outcome.timings if t["artifact"] == artifact.name)
        theirs = 1.0 if other["ratio"] is None else other["ratio"]
        ours = 1.0 if own["ratio"] is None else own["ratio"]
        spread = own["ratio_interval"] or [1.0, 1.0]
        gains.append(
            {
                "against": artifact.name,
                "latency_ratio": ours / theirs,
                "interval": [s / theirs for s in spread],
                "size_ratio": outcome.chosen.artifact.bytes / artifact.bytes,
            }
        )
    return gains


def _reason(row: Mapping[str, Any]) -> str:
    if row["kind"] in ("drop", "class_drop"):
        where = f" in class {row['class']}" if "class" in row else ""
        return f"{row['kind']}: {row['achieved']:.2f} points are lost{where}, {row['asked']} were allowed"
    upper = row["interval"][1] if row["interval"] else row["achieved"]
    return f"{row['kind']}={row['asked']}: exceeded by {upper / _limit(row) - 1:.1%}"


def _size_words(before: int, after: int) -> str:
    return f"{before / after:.2f} times smaller" if after <= before else f"{after / before:.2f} times larger"


def _headline(job: Job, dense: Dense, outcome: Outcome, met: bool, reasons: Sequence[str]) -> str:
    timing, artifact = outcome.chosen.timing, outcome.chosen.artifact
    ratio = 1.0 if timing["ratio"] is None else timing["ratio"]
    lost = (outcome.dense.metric - outcome.chosen.evaluation.metric) * 100.0
    lost = lost if job.task.higher_is_better else -lost
    quality = f"{lost:.2f} points of {job.task.name} lost" if lost > 0 else f"no {job.task.name} lost"
    speed = f"{1 / ratio:.2f} times faster" if ratio <= 1 else f"{ratio:.2f} times slower"
    text = (
        f"{speed} than {dense.reference} in {job.target.runtime} ({artifact.dtype}), "
        f"{_size_words(dense.size, artifact.bytes)}, {quality}"
    )
    twin = _to_twin(artifact, dense, outcome)
    if twin is not None and twin > 1.0:
        text += f"; {artifact.dtype} is {twin:.2f} times slower than fp32 here"
    return f"The budget is met: {text}." if met else f"The budget is missed ({'; '.join(reasons)}): {text}."
