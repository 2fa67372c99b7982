"""What mattered: the parameters' importance, each one's values against the score, and all of them at once."""

from collections.abc import Sequence
from typing import Any

from search.record import Trial
from search.report.job.html import Figure, Html, Section, paragraph, text
from search.report.job.svg import LETTER, WIDTH, Axis, Plot, short, svg
from search.report.job.view import StudyView
from search.report.statistics import counted
from spaces import Choice, Range

ROW = 58  # of the parallel coordinates, from a parameter to the next
BAR = 26  # of the importances
MIN_SLICED = 2  # values, without which a parameter has no plot


def parameters(view: StudyView) -> Section:
    """Importance, slices, parallel coordinates."""
    varied = [name for name in _names(view) if len({str(v) for _, v in _valued(view, name)}) >= MIN_SLICED]
    parts: list[Html | Figure] = [*_importance(view)]
    if varied:
        parts += [_slice(view, name) for name in varied]
        parts.append(_parallel(view, varied))
        parts.append(
            paragraph(
                "Discs: trained to the end; rings: stopped early. A line is a trial, from its parameters "
                "down to its score; the best quarter is drawn strong.",
                "note",
            )
        )
    elif view.scored:
        parts.append(paragraph("No parameter had two values in the trials that have a score."))
    return Section("Which parameter mattered", parts)


def _names(view: StudyView) -> list[str]:
    return list(dict.fromkeys(name for trial in view.scored for name in trial.params))


def _valued(view: StudyView, name: str) -> list[tuple[Trial, Any]]:
    return [(trial, trial.params[name]) for trial in view.scored if name in trial.params]


def _importance(view: StudyView) -> list[Html | Figure]:
    found = view.importance
    if found is None:
        why = "the job's space cannot be read here (a package that it names is not installed)"
        return [paragraph(f"Importance is not known: {why}.")]
    if found.shares is None:
        return [paragraph(f"Importance cannot be told: {found.reason}.")]
    what = "complete trials" if found.epoch is None else f"trials after epoch {found.epoch}"
    parts = []
    wide = max(found.shares.values()) or 1.0
    left = 14 + LETTER * max(map(len, found.shares))
    for place, (name, share) in enumerate(found.shares.items()):
        y, width = 8 + BAR * place, max(1.0, (WIDTH - left - 52) * share / wide)
        parts.append(
            f"<text x='{left - 8:.0f}' y='{y + 13}' text-anchor='end'>{text(name)}</text>"
            f"<rect class='a bar' x='{left:.0f}' y='{y}' width='{width:.1f}' height='17'/>"
            f"<text x='{left + width + 6:.1f}' y='{y + 13}'>{share:.0%}</text>"
        )
    about = ", ".join(f"{name} {share:.0%}" for name, share in found.shares.items())
    drawing = svg(parts, 12 + BAR * len(found.shares), "Importance of each parameter", about)
    caption = (
        "Share of the scores' variance that each parameter explains (functional ANOVA), over "
        f"{found.trials} {what}."
    )
    if found.epoch is not None:
        caption += " Too few were trained to their end to use those alone."
    return [Figure("importance", "Importance", drawing, caption)]


def _slice(view: StudyView, name: str) -> Figure:
    trials = [trial for trial, _ in _valued(view, name)]
    axis, places = _axis(view, name, trials)
    scores = [view.value(trial) for trial in trials]
    title = f"Score by {name}"
    plot = Plot(axis, Axis.over(view.y_label, scores), title, f"{counted(len(trials), 'trial')}.")
    for kind, states in (("a open", ("pruned", "running", "paused")), ("a", ("complete",))):
        shown = [(trial, (places[n], scores[n])) for n, trial in enumerate(trials) if trial.state in states]
        plot.dots([point for _, point in shown], kind, tips=[view.tell(trial) for trial, _ in shown])
    best = view.best
    if best is not None and best in trials:
        n = trials.index(best)
        plot.dots([(places[n], scores[n])], "b", tips=[view.tell(best)], name="the best")
    return Figure(f"slice_{name}", title, plot.svg(), "")


def _axis(view: StudyView, name: str, trials: Sequence[Trial]) -> tuple[Axis, list[float]]:
    """The axis of a parameter, and where each trial's value lies on it."""
    values = [trial.params[name] for trial in trials]
    searched = None if view.space is None else dict(view.space.parameters).get(name)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if isinstance(searched, Range) or (numbers and searched is None):
        log = (
            searched.log
            if isinstance(searched, Range)
            else min(values) > 0 and max(values) > 30 * min(values)
        )
        return Axis.over(name, values, log=log, whole=all(isinstance(v, int) for v in values)), list(values)
    known = searched.values if isinstance(searched, Choice) else ()
    names = list(dict.fromkeys([*known, *values]))
    if numbers and all(isinstance(one, int | float) for one in names):
        names.sort()
    shown = [short(one) if isinstance(one, float) else str(one) for one in names]
    return Axis.of_names(name, shown), [float(names.index(value)) for value in values]


def _parallel(view: StudyView, names: Sequence[str]) -> Figure:
    """Parallel coordinates turned by a quarter: a row a parameter, for which a telephone has room."""
    trials = [trial for trial in view.scored if all(name in trial.params for name in names)]
    if len(trials) < MIN_SLICED:  # parameters that exist for some values of others
        names = [name for name in names if all(name in trial.params for trial in view.scored)]
        trials = list(view.scored)
    axes = [_axis(view, name, trials) for name in names]
    scores = [view.value(trial) for trial in trials]
    axes.append((Axis.over(view.y_label, scores), scores))
    left, right, top = 16.0, WIDTH - 16.0, 32
    below, above, xs = [], [], [[0.0] * len(axes) for _ in trials]
    for row, (axis, places) in enumerate(axes):
        y = top + ROW * row
        below.append(f"<line class='axis' x1='{left}' x2='{right}' y1='{y}' y2='{y}'/>")
        above.append(f"<text class='over' x='2' y='{y - 9}'>{text(axis.label)}</text>")
        for place in range(len(trials)):
            xs[place][row] = left + axis.share(places[place]) * (right - left)
        for value, label in axis.ticks(5):
            x = left + axis.share(value) * (right - left)
            below.append(f"<line class='axis' x1='{x:.1f}' x2='{x:.1f}' y1='{y - 3}' y2='{y + 3}'/>")
            above.append(
                f"<text class='soft over' x='{min(max(x, 14), WIDTH - 16):.1f}' y='{y + 15}' "
                f"text-anchor='middle'>{text(label)}</text>"
            )
    order = sorted(range(len(trials)), key=lambda place: trials[place].score or 0.0)
    strong = set(order[-max(1, len(order) // 4) :])
    lines = []
    for place in order:
        path = " ".join(f"{x:.1f},{top + ROW * row}" for row, x in enumerate(xs[place]))
        kind = ("b" if place == order[-1] else "a") if place in strong else "grey"
        tip = f"<title>{text(view.tell(trials[place]))}</title>"
        lines.append(f"<polyline class='{kind} line' points='{path}'>{tip}</polyline>")
    drawing = svg(
        [*below, *lines, *above],
        top + ROW * (len(axes) - 1) + 24,
        "All parameters at once",
        f"The best: {view.tell(trials[order[-1]])}",
    )
    return Figure("parallel", "All parameters at once", drawing, "")
