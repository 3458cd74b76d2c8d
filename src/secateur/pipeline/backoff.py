"""Where quality says stop: the schedule ends, or goes back to a milder cut.

A budget for quality is a constraint that is judged on held-out data. Where a cost budget cannot be met within it, the
last model is first recovered once more; if that does not do, the cost budget is given up by as little as a few tries
find, and the run says so.
"""

from __future__ import annotations

from dataclasses import replace

from secateur.errors import Infeasible
from secateur.pipeline.degree import Degree, Dense
from secateur.pipeline.job import Job
from secateur.pipeline.prediction import prepare
from secateur.pipeline.quality import broken
from secateur.pipeline.rounds import State, Step, counts_after, one_round, record_of
from secateur.planning import Care

FACTOR = 0.85  # of the cost that is left, when only a quality budget says where to stop
LONGEST = 24  # rounds, then
HALVINGS = 2  # tries between a cut that keeps the quality and one that does not


def run_until_quality(job: Job, dense: Dense) -> tuple[State, Degree]:
    """Cuts until the quality budget breaks on held-out data, and goes back to the last state that kept it."""
    driver = "params" if job.recipe.minimise in ("size", "params") else "macs"
    if job.recipe.minimise == "latency" and prepare(job, dense.dtype(job)) is not None:
        driver = "latency"
    good, dtype = State(0, job.model, None), dense.dtype(job)
    share = kept = 1.0
    for _ in range(LONGEST):
        share *= FACTOR
        try:
            state = one_round(job, dense, good, Step({driver: share}, dtype, Care(), last=True))
        except Infeasible:
            break
        why = broken(job, record_of(job, state)["lost"])
        if why:
            job.say(f"  {why}: back to round {good.number}, then a milder cut")
            return _between(job, dense, replace(good, made=state.made), Degree({driver: share}, dtype), kept)
        good, kept = state, share
    return good, Degree({driver: kept}, dtype)


def keep_quality(job: Job, dense: Dense, degree: Degree, states: list[State]) -> tuple[State, Degree]:
    """The last of some states if it keeps the quality, else one that does: recovered for longer, or cut less.

    A plan that was picked by the user is never made milder.
    """
    last = states[-1]
    why = broken(job, record_of(job, last)["lost"]) if last.number else ""
    if not why:
        return last, degree
    if job.recipe.recovery.steps is not None or job.recipe.recovery.final_epochs:
        job.say(f"  {why}: recovered once more")
        step = Step(degree.shares, degree.dtype, Care(), last=True, cuts=False)
        last = one_round(job, dense, last, step)
        why = broken(job, record_of(job, last)["lost"])
        if not why:
            return last, degree
    if job.recipe.plan is not None or not degree.shares:
        return last, degree
    kept = [s for s in states[:-1] if s.number and not broken(job, record_of(job, s)["lost"])]
    good = replace(kept[-1] if kept else states[0], made=last.made)
    reached = record_of(job, good)["shares"] if good.number else dict.fromkeys(degree.shares, 1.0)
    driver = min(degree.shares, key=lambda k: degree.shares[k])
    job.say(f"  {why}: back to round {good.number}, then a milder cut")
    state, milder = _between(
        job, dense, good, Degree({driver: degree.shares[driver]}, degree.dtype), reached[driver]
    )
    if not state.number:
        return last, degree  # no cut keeps the quality: the cost budget at least is kept
    asked = ", ".join(
        f"{a.kind}={a.asked}" for a in job.recipe.budget.amounts() if a.kind not in ("drop", "class_drop")
    )
    return state, replace(milder, given_up=f"{asked} was given up to keep the quality")


def _between(job: Job, dense: Dense, good: State, bad: Degree, kept: float) -> tuple[State, Degree]:
    """The smallest state found between one that keeps the quality and a share that does not."""
    ((driver, low),) = bad.shares.items()
    tried = {_counted(job, n) for n in range(good.number, good.made + 1) if n}
    for _ in range(HALVINGS):
        middle = (kept * low) ** 0.5
        step = Step({driver: middle}, bad.dtype, Care(), last=True)
        try:
            if counts_after(job, good, step) in tried:
                break  # widths come in steps, and there is none in between
            state = one_round(job, dense, good, step)
        except Infeasible:
            break
        tried.add(_counted(job, state.number))
        if broken(job, record_of(job, state)["lost"]):
            low, good = middle, replace(good, made=state.made)
        else:
            kept, good = middle, state
    return good, replace(bad, shares={driver: kept})


def _counted(job: Job, number: int) -> tuple[int, int]:
    record = job.folder.journal.steps[f"round {number}"]
    return record["params"], record["macs"]
