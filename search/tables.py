"""Tables and figures of what was found."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from search.decisions.confirmation import Spread
from search.decisions.selection import rank
from search.escapes import escape_markdown
from search.record import Baseline, Leader, Params, Trial
from search.study import Study
from search.verdict import verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def format_params(params: Mapping[str, Any]) -> str:
    """Parameters on one line, numbers as short as they are clear."""
    return " ".join(f"{key}={_number(value)}" for key, value in params.items())


def format_values(values: object) -> str:
    """What a space has for a parameter, as `Space.to_dict` writes it, in words."""
    if isinstance(values, list):
        return ", ".join(str(value) for value in values)
    if not isinstance(values, dict):
        return str(values)
    if "values" in values:
        text = format_values(values["values"])
    else:
        text = f"{values['low']} to {values['high']}" + (", logarithmic" if values.get("log") else "")
    when = values.get("when", {})
    needs = [
        f"{name} is above {wanted['above']}" if isinstance(wanted, dict) else f"{name} is {_either(wanted)}"
        for name, wanted in when.items()
    ]
    return f"{text} (where {' and '.join(needs)})" if needs else text


def _either(values: Sequence[object]) -> str:
    return " or ".join(str(value) for value in values)


def describe_leaders(
    leaders: Sequence[Leader], params: Mapping[int, Params], winner: Params, *, brief: bool = False
) -> str:
    """Which of the leading configurations cannot be told apart from the winner, to go on after its name.

    Args:
        leaders: as `Winner.leaders`; of none, or one alone, nothing is said.
        params: of each leader, by its trial.
        winner: the winner's parameters.
        brief: name trials alone, without their parameters.
    """
    others = [leader for leader in leaders if params[leader.trial] != winner]
    alike = [leader for leader in others if not leader.told_apart]
    if not others:
        return ""
    one = "the other leading configuration"
    if not alike:
        all_ = one if len(others) == 1 else f"all {len(others)} other leading configurations"
        return f"on validation better than {all_}, beyond chance (95 %)"
    some = one if len(others) == 1 else f"{len(alike)} of the {len(others)} other leading configurations"
    named = []
    for leader in alike:
        what = "" if brief else f" ({format_params(params[leader.trial])})"
        over = f" over {len(leader.seeds)} seeds" if len(leader.seeds) > 1 else ""
        named.append(f"trial {leader.trial}{what} {leader.mean:.4f}{over}")
    return f"on validation it cannot be told apart from {some}: {', '.join(named)}"


def results_table(results: Mapping[str, Any]) -> Group:
    """The leaderboard of a job: a line for each task and method, and below it what the best trials are."""
    table = Table(
        title=f"{results['job']}: {results['state']}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # all of a usual line is to be read in 80 columns
        pad_edge=False,
    )
    for heading in ("task", "method", "metric"):
        table.add_column(heading)
    for heading in ("validation", "test", "trained", "trials"):
        table.add_column(heading, justify="right", no_wrap=True)
    lines, floors = [], set()
    for entry in results["tasks"]:
        baseline = entry["baseline"]
        if baseline is not None and entry["task"] not in floors:
            floors.add(entry["task"])
            scores = (f"{baseline[name]:.4f}" for name in ("validation", "test"))
            table.add_row(entry["task"], "floor", entry["metric"], *scores, "-", "-")
        best, counts = entry["best"], entry["trials"]
        cells, about = ["-", "-", "-"], entry["reason"] or "no trial is complete yet"
        if best is not None:
            cells = [
                f"{best['validation']:.4f}",
                "-" if best["test"] is None else f"{best['test']:.4f}",
                f"{best['trained_parameters']:,} ({best['trained_fraction']:.1%})",
            ]
            about = f"trial {best['trial']}: {format_params(best['params'])}"
            if entry["folds"]:
                about += f"; validation over {entry['folds']} folds"
            if best["refit"] is not None:
                about += f"; tested and exported as trained again on all rows (trial {best['refit']})"
            if best["seeds"]:
                spreads = ", ".join(
                    f"{name} {Spread(**best['seeds'][name])}" for name in ("validation", "test")
                )
                about += f"; over {len(best['seeds']['runs'])} seeds: {spreads}"
            for name, score in best["also"].items():
                about += f"; {name} {score:.4f}"
            if entry["reason"]:
                about += f"; {entry['reason']}"
            about += _certainty(entry)
            if words := _leaders(entry):
                about += f"\n  {words}"
            for point in entry["front"] or []:
                about += (
                    f"\n  front: {point['validation']:.4f} with {point['trained_parameters']:,} trained: "
                    f"trial {point['trial']}: {format_params(point['params'])}"
                )
        table.add_row(
            entry["task"],
            entry["method"],
            entry["metric"],
            *cells,
            f"{counts['complete'] + counts['pruned']}/{sum(counts.values())}",
        )
        # As text: brackets in a reason are no markup.
        lines.append(Text(f"{entry['task']}/{entry['method']}: {about}"))
    return Group(table, *lines)


def _certainty(entry: Mapping[str, Any]) -> str:
    """How sure a finished entry's test score is, and whether it beats the baseline."""
    best, baseline = entry["best"], entry["baseline"]
    intervals = best["interval"]
    if intervals is None:
        return ""
    said = ""
    if intervals["test"] is not None:
        said += "; test 95 %: {:.4f} to {:.4f}".format(*intervals["test"])
    if baseline is not None:
        words = verdict(entry["metric"], best["test"], Baseline(**baseline), intervals["gain"])
        said += f"\n  {words}" if words else ""
    return said


def _leaders(entry: Mapping[str, Any]) -> str:
    leaders = [Leader.from_dict(one) for one in entry["leaders"]]
    params = {one["trial"]: one["params"] for one in entry["leaders"]}
    return describe_leaders(leaders, params, entry["best"]["params"], brief=True)


def study_table(study: Study) -> str:
    """All trials of a study as a Markdown table, best first; those that failed or run come last."""
    trials = study.trials()
    ranked = rank(trials)
    others = [trial for trial in trials if trial not in ranked]
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    metric = study.facts.metric
    heads = ["trial", *names, f"validation {metric}", "best epoch", "trained parameters", "seconds", "state"]
    lines = [f"# {study.name}", "", _row(heads), _row(["---"] * len(heads))]
    for trial in [*ranked, *others]:
        value = trial.validation(metric)
        lines.append(
            _row(
                [
                    str(trial.number),
                    *(escape_markdown(_number(trial.params.get(name, ""))) for name in names),
                    "" if value is None else f"{value:.4f}",
                    str(trial.best_epoch or ""),
                    f"{trial.size:,}",
                    f"{trial.seconds:.1f}",
                    escape_markdown(trial.state + (f": {trial.reason}" if trial.reason else "")),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def front_table(study: Study, front: Sequence[Trial]) -> str:
    """The front of score against size as a Markdown table, the smallest first."""
    metric = study.facts.metric
    heads = ["trained parameters", f"validation {metric}", "trial", "parameters"]
    lines = [f"# {study.name}: score against size", "", _row(heads), _row(["---"] * len(heads))]
    for trial in front:
        cells = [
            f"{trial.size:,}",
            f"{trial.validation(metric):.4f}",
            str(trial.number),
            format_params(trial.params),
        ]
        lines.append(_row([*cells[:3], escape_markdown(cells[3])]))
    return "\n".join(lines) + "\n"


def study_figure(study: Study) -> "Figure":
    """Each trial's best validation score in the order of the trials, and the best of those that are done.

    Failed trials have no score: crosses at the lower edge show where they were.
    """
    from matplotlib.figure import Figure  # half a second, which the leaderboard does without
    from matplotlib.ticker import MaxNLocator

    trials, metric = study.trials(), study.facts.metric
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    complete = [trial for trial in trials if trial.state == "complete" and trial.epochs]
    other = [
        (trial.number, trial.validation(metric))
        for trial in trials
        if trial.state in ("pruned", "running", "paused") and trial.epochs
    ]
    failed = [trial.number for trial in trials if trial.state == "failed"]
    if complete:
        numbers = [trial.number for trial in complete]
        scores = [trial.validation(metric) or 0.0 for trial in complete]
        best = [best.validation(metric) or 0.0 for best in itertools.accumulate(complete, _better)]
        last = max(trial.number for trial in trials)
        axes.step([*numbers, last], [*best, best[-1]], where="post", color="#D55E00", label="best so far")
        axes.plot(numbers, scores, "o", color="#0072B2", label=f"complete (n = {len(complete)})")
    if other:
        axes.plot(
            *zip(*other, strict=True), "o", color="#0072B2", markerfacecolor="none", label="not complete"
        )
    if failed:
        edge = axes.get_xaxis_transform()
        axes.plot(failed, [0.03] * len(failed), "x", color="#555555", transform=edge, label="failed")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"validation {metric}")
    axes.set_title(study.name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-0.5, max(len(trials), 1) - 0.5)
    axes.margins(y=0.12)
    if trials:
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
    axes.grid(alpha=0.3)
    return figure


def _better(first: Trial, second: Trial) -> Trial:
    return max(first, second, key=lambda trial: -math.inf if trial.score is None else trial.score)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
