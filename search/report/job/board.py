"""The head of the page: who won and how sure that is, what it cost, and what the data is like."""

from collections import Counter
from collections.abc import Sequence

from pipelines.intervals import Interval
from search.report.job.html import Figure, Html, Section, bullets, paragraph, table, text
from search.report.job.view import StudyView
from search.report.statistics import counted
from search.tables import describe_leaders, format_params
from search.verdict import winner_verdict
from spaces import Choice, Range, Space, SpaceError

NONE = "-"
STEPS = 3  # of a range in a grid: its ends and its middle
FULL = 0.2  # of texts that are cut: worth a word


def leaderboard(views: Sequence[StudyView]) -> Section:
    """A line for each task and method below the task's floor, and the verdicts in words."""
    rows: list[tuple[object, ...]] = []
    kinds: list[str] = []
    tasks, floors = set(), set()
    for view in views:
        if view.task not in tasks:
            tasks.add(view.task)
            rows.append((f"{view.task} ({view.metric})",))
            kinds.append("")
        baseline = None if view.winner is None else view.winner.baseline
        if baseline is not None and view.task not in floors:
            floors.add(view.task)
            scores = f"{baseline.validation:.4f}", f"{baseline.test:.4f}"
            rows.append(("floor: linear probe", *scores, NONE, NONE))
            kinds.append("floor")
        rows.append(_row(view))
        kinds.append("")
    heads = ("method", "validation", "test", "trained", "trials")
    parts: list[Html | Figure] = [
        table("Best of each task and method", heads, rows, kinds=kinds),
        bullets([_verdict(view) for view in views]),
    ]
    if floors:
        parts.append(
            paragraph(
                "The floor is what a regularised linear model on the frozen encoder's vectors has, without "
                "any search. Below a score its 95 % interval (bootstrap over rows, and over seeds where "
                "there are several); trained: parameters, and their share of the encoder's.",
                "note",
            )
        )
    return Section("Leaderboard", parts)


def _row(view: StudyView) -> tuple[object, ...]:
    best, winner = view.best, view.winner
    counts = Counter(trial.state for trial in view.searched)
    trials = f"{counts['complete'] + counts['pruned']} of {len(view.searched)}"
    if best is None:
        return (view.method, NONE, NONE, NONE, trials)
    intervals = None if winner is None else winner.intervals
    share = best.size / view.facts.backbone_parameters
    return (
        view.method,
        _score(view.value(best), None if intervals is None else intervals.validation),
        NONE
        if winner is None
        else _score(winner.test[view.metric], None if intervals is None else intervals.test),
        Html(f"{best.size:,}<small>{share:.2%}</small>"),
        trials,
    )


def _score(value: float, ends: Interval | None) -> Html:
    between = "" if ends is None else f"<small>{ends[0]:.4f} to {ends[1]:.4f}</small>"
    return Html(f"{value:.4f}{between}")


def _verdict(view: StudyView) -> Html:
    best = view.best
    if best is None:
        return Html(f"<b>{text(view.name)}</b>: {text(view.reason or 'no trial is complete yet')}")
    if view.winner is None:
        said = f"not finished; the best so far is {view.tell(best)}"
    else:
        said = f"{view.tell(best)}. Test: "
        said += winner_verdict(view.winner) or "not compared with a floor"
        params = {leader.trial: view.trials[leader.trial].params for leader in view.winner.leaders}
        if words := describe_leaders(view.winner.leaders, params, best.params, brief=True):
            said += f"; {words}"
    reason = f" ({view.reason})" if view.reason else ""
    return Html(f"<b>{text(view.name)}</b>: {text(said + reason)}.")


def leaders(view: StudyView) -> list[Section]:
    """The leading configurations, and whether chance explains what they lack; none where it is not known."""
    leading = () if view.winner is None else view.winner.leaders
    if len(leading) < 2:
        return []
    rows = [
        (
            f"trial {one.trial}",
            format_params(view.trials[one.trial].params),
            ", ".join(map(str, one.seeds)),
            f"{one.mean:.4f}",
            "the winner" if not place else "yes" if one.told_apart else "no",
        )
        for place, one in enumerate(leading)
    ]
    heads = ("", "configuration", "seeds", f"validation {view.metric}", "told apart")
    note = (
        "On the same validation rows, by a paired bootstrap over rows and runs (Gupta 1965): who cannot be "
        "told apart from the best may be the truly best, at 95 %. A score is the mean over its seeds."
    )
    parts = [table("The leading configurations", heads, rows, words=(0, 1)), paragraph(note, "note")]
    return [Section("Who leads, and how surely", parts)]


def costs(view: StudyView) -> Section:
    """What was trained, and what a grid would have taken."""
    trials = [trial for trial in view.searched if trial.epochs]
    spent = sum(trial.seconds for trial in trials)
    done, asked = sum(len(trial.epochs) for trial in trials), sum(trial.schedule for trial in trials)
    lines: list[object] = []
    best = view.best
    if best is not None:
        share = best.size / view.facts.backbone_parameters
        lines.append(
            f"Trained parameters of the best: {best.size:,}, {share:.2%} of the encoder's "
            f"{view.facts.backbone_parameters:,}: {format_params(best.params)}"
        )
    lines.append(
        f"Training time of {counted(len(trials), 'trial')}: {minutes(spent)}, {done} of {asked} epochs"
    )
    confirmed = sum(trial.seconds for trial in view.trials if trial not in view.searched)
    if confirmed:
        lines.append(f"With further seeds and second tries: {minutes(confirmed)} more")
    if trials:
        full = [trial.seconds / len(trial.epochs) * trial.schedule for trial in trials]
        if done < asked:
            lines.append(f"The same trials, all to their end: about {minutes(sum(full))}")
        if (cells := grid_size(view.space)) is not None:
            what = f"The same space as a grid: {cells:,} configurations"
            if view.space is not None and view.space.ranges:
                what += f" with {STEPS} values of each range"
            lines.append(f"{what}, about {minutes(cells * sum(full) / len(full))}")
    note = (
        "Time is of training, summed over trials; what was not trained is reckoned from these trials' epochs."
    )
    return Section("What it cost", [bullets(lines), paragraph(note, "note")])


def minutes(seconds: float) -> str:
    """40 seconds; 3.2 minutes; 5.1 hours."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"


def grid_size(space: Space | None) -> int | None:
    """The configurations of a grid over a space, its ranges by `STEPS` values; None where that is unknown."""
    if space is None:
        return None
    try:
        return Space(
            tuple((name, _stepped(one) if isinstance(one, Range) else one) for name, one in space.parameters)
        ).size
    except SpaceError:  # a middle that is no value of its parameter
        return None


def _stepped(one: Range) -> Choice:
    middle = (one.low * one.high) ** 0.5 if one.log else (one.low + one.high) / 2
    whole = isinstance(one.low, int) and isinstance(one.high, int)
    values = (one.low, int(middle) if whole else middle, one.high)
    return Choice(tuple(dict.fromkeys(values)), one.when)


def data(view: StudyView) -> Section:
    """The rows, as `adaptune check` knows them."""
    tested, sizes = view.tested, view.facts.sizes
    if tested is None:
        found = ", ".join(f"{name} {count:,}" for name, count in sizes.items()) or "not known"
        words = (
            f"Rows: {found}. More is known only of searches that have ended with this version or a later one."
        )
        return Section("Data", [paragraph(words)])
    splits = [name for name in ("train", "validation", "test") if name in tested.sizes]
    parts: list[Html | Figure] = []
    rows: list[tuple[object, ...]] = [("rows", *(f"{tested.sizes[name]:,}" for name in splits))]
    for place, label in enumerate(tested.labels[:MOST_LABELS]) if tested.counts else ():
        counts = [(tested.counts[name][place], tested.sizes[name]) for name in splits]
        rows.append((label, *(f"{count:,} ({count / max(size, 1):.0%})" for count, size in counts)))
    if len(tested.labels) > MOST_LABELS:
        rows.append((f"and {len(tested.labels) - MOST_LABELS} more classes", *[""] * len(splits)))
    if tested.truncated:
        cut = [f"{tested.truncated[name]:.1%}" if name in tested.truncated else NONE for name in splits]
        rows.append((f"texts of {tested.max_tokens} tokens or more, which are cut", *cut))
    parts.append(table("Rows of each split", ("", *splits), rows))
    parts.append(bullets(tested.notes) if tested.notes else paragraph("Nothing odd was found in the rows."))
    return Section("Data", parts)


MOST_LABELS = 40
