"""How the search went: the best so far, what mattered, the trials' curves."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime

from search.decisions.selection import rank
from search.record import Trial
from search.report.job.html import Figure, Html, Section, bullets, folded, paragraph, table
from search.report.job.svg import SERIES, Axis, Plot
from search.report.job.view import StudyView
from search.tables import format_params

LEADERS = SERIES


def best_so_far(view: StudyView) -> Section:
    """Against trials, and against time."""
    trials = view.scored
    if not trials:
        return Section("Best so far", [paragraph("No trial has a score yet.")])
    parts: list[Html | Figure] = [_by_trial(view, trials), _by_time(view, trials)]
    parts.append(folded(f"Every trial ({len(view.trials)})", _all_trials(view)))
    return Section("Best so far", parts)


def _by_trial(view: StudyView, trials: Sequence[Trial]) -> Figure:
    values = [view.value(trial) for trial in trials]
    last = max(trial.number for trial in view.searched)
    x = Axis("trial", -0.5, last + 0.5, whole=True)
    best = [view.raw(score) for score in itertools.accumulate([trial.score or 0.0 for trial in trials], max)]
    plot = Plot(
        x, Axis.over(view.y_label, values), "Best so far by trial", f"From {best[0]:.4f} to {best[-1]:.4f}."
    )
    steps = [(trial.number, value) for trial, value in zip(trials, best, strict=True)]
    plot.steps(steps, "b", end=last + 0.5, name="best so far")
    for kind, name, states in (
        ("a", "trained to the end", ("complete",)),
        ("a open", "stopped early", ("pruned",)),
        ("grey open", "not finished", ("running", "paused")),
    ):
        shown = [trial for trial in trials if trial.state in states]
        points = [(trial.number, view.value(trial)) for trial in shown]
        plot.dots(points, kind, tips=[view.tell(trial) for trial in shown], name=name)
    failed = [trial for trial in view.searched if trial.state == "failed"]
    if failed:
        low = plot.y.low + 0.04 * (plot.y.high - plot.y.low)
        plot.crosses(
            [(trial.number, low) for trial in failed],
            "grey",
            tips=[f"trial {trial.number} failed: {trial.reason}"[:200] for trial in failed],
            name="failed",
        )
    caption = f"The first trial has {best[0]:.4f}, the best {best[-1]:.4f}."
    return Figure("best_by_trial", "By trial", plot.svg(), caption)


def _by_time(view: StudyView, trials: Sequence[Trial]) -> Figure:
    """Epoch by epoch, by the clock."""
    ends = sorted((e.finished_at, -e.score, t.number, e.epoch) for t in trials for e in t.epochs)
    starts = [_seconds(trial.started) for trial in trials if trial.started is not None]
    begun = min([*starts, ends[0][0]])
    best: list[tuple[float, float, int, int]] = []
    for at, less, number, epoch in ends:
        if not best or -less > best[-1][1]:
            best.append((at - begun, -less, number, epoch))
    took = ends[-1][0] - begun
    unit, by = ("minutes", 60.0) if took >= 120 else ("seconds", 1.0)
    points = [(at / by, view.raw(score)) for at, score, _, _ in best]
    values = [value for _, value in points]
    plot = Plot(
        Axis(f"{unit} since the first trial began", 0, max(took / by, 1e-9) * 1.02),
        Axis.over(view.y_label, values),
        "Best so far by time",
        f"{len(points)} improvements in {took / by:.1f} {unit}.",
    )
    plot.steps(points, "b", end=took / by)
    tips = [f"{view.raw(score):.4f}: trial {number} after epoch {epoch}" for _, score, number, epoch in best]
    plot.dots(points, "b", tips=tips)
    when = best[-1][0] / by
    caption = f"The best score was there after {when:.1f} of {took / by:.1f} {unit}."
    return Figure("best_by_time", "By time", plot.svg(), caption)


def _seconds(at: datetime | None) -> float:
    """Optuna writes local times without a zone."""
    return 0.0 if at is None else at.astimezone(UTC).timestamp()


def _all_trials(view: StudyView) -> Html:
    trials = view.trials
    ranked = rank(trials)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [
        (
            trial.number,
            "" if trial.score is None else f"{view.value(trial):.4f}",
            *(format_params({"": trial.params[name]})[1:] if name in trial.params else "" for name in names),
            f"{len(trial.epochs)} of {trial.schedule}",
            f"{trial.size:,}",
            f"{trial.seconds:.1f}",
            trial.state + (f": {trial.reason}" if trial.reason else ""),
        )
        for trial in [*ranked, *(trial for trial in trials if trial not in ranked)]
    ]
    heads = (
        "trial",
        f"validation {view.metric}",
        *names,
        "epochs trained",
        "trained parameters",
        "seconds",
        "state",
    )
    return table("All trials, the best first", heads, rows, words=(len(heads) - 1,))


def learning_curves(view: StudyView) -> Section:
    """Of the leaders, and where halving stopped the others."""
    trials = [trial for trial in view.scored if trial.epochs]
    if not trials:
        return Section("Learning curves", [paragraph("No trial has finished an epoch yet.")])
    leaders = [trial for trial in rank(trials) if trial in trials][:LEADERS]
    scores = [view.raw(epoch.score) for trial in trials for epoch in trial.epochs]
    longest = max(trial.schedule for trial in trials)
    title = "Validation score by epoch"
    about = ", ".join(f"trial {t.number} reaches {view.value(t):.4f}" for t in leaders)
    plot = Plot(
        Axis("epoch", 0.6, longest + 0.4, whole=True), Axis.over(view.y_label, scores), title, about, 240
    )
    for trial in trials:
        if trial not in leaders:
            points = [(epoch.epoch, view.raw(epoch.score)) for epoch in trial.epochs]
            plot.line(points, "grey", name="others", tip=view.tell(trial))
    stopped = [trial for trial in trials if trial.state == "pruned"]
    for trial, kind in zip(leaders, "abcd", strict=False):
        points = [(epoch.epoch, view.raw(epoch.score)) for epoch in trial.epochs]
        won = view.winner is not None and trial.number == view.winner.trial
        plot.line(points, kind, name=f"trial {trial.number}{' (won)' * won}", tip=view.tell(trial))
        plot.dots(points, kind, tips=[f"trial {trial.number}, epoch {x}: {y:.4f}" for x, y in points])
    ends = [(trial.epochs[-1].epoch, view.raw(trial.epochs[-1].score)) for trial in stopped]
    tips = [f"trial {trial.number}: {trial.reason}" for trial in stopped]
    plot.crosses(ends, "grey", tips=tips, name="stopped here")
    parts: list[Html | Figure] = [Figure("learning_curves", title, plot.svg(), "")]
    if stopped:
        at: dict[int, int] = {}
        for trial in stopped:
            at[len(trial.epochs)] = at.get(len(trial.epochs), 0) + 1
        where = ", ".join(f"{count} after epoch {epoch}" for epoch, count in sorted(at.items()))
        parts.append(paragraph(f"Stopped early: {where}."))
        reasons = [f"trial {trial.number}: {trial.reason}" for trial in stopped if trial.reason]
        if reasons:
            parts.append(folded("Why each of them was stopped", bullets(reasons)))
    return Section("Learning curves", parts)
