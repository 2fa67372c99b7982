"""What the paper's figures show, from the runs at hand: series of numbers, not yet drawn.

Houlsby et al. 2019: Figures 1 and 3 (score minus full fine-tuning's against trained parameters, percentiles
over tasks), 4 (single tasks), 5 (SQuAD), 7 (learning rates). Scores are in points of 100, as there; those of
a metric beyond -1 to 1 are as they are, and in no percentiles.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from pipelines.method import METHODS, Method
from search.report.paper import ADAPTERS, FINE_TUNING, OURS, TABLE_1, TABLE_2, VARIABLE
from search.report.series import Curve, FigureData, Mark, Missing, Panel, Tasks
from search.report.statistics import (
    MIN_TASKS,
    POINTS,
    Configuration,
    MethodRuns,
    Point,
    Unit,
    bands,
    best_of,
    counted,
    frontier,
    levels_of,
)

MAX_PANELS = 12
TRAINED = "trained parameters per task"


def make_figures(tasks: Tasks) -> tuple[list[FigureData], list[Missing]]:
    """The figures that the runs have data for, and the others, in the order of `FIGURES`."""
    made = [figure(tasks) for figure in FIGURES]
    return [m for m in made if isinstance(m, FigureData)], [m for m in made if isinstance(m, Missing)]


def _percentiles(tasks: Tasks) -> FigureData | Missing:
    title = "Figure 1: what trained parameters buy, over all tasks"
    comparable, left_out = _comparable(tasks)
    panel, caption = _band_panel(comparable, f"all tasks (n = {len(comparable)})")
    if panel is None:
        return Missing(title, caption + left_out, _needed_for_bands())
    caption = f"{caption.rstrip('.')}{left_out}."
    return FigureData("figure_1", title, TRAINED, (panel,), banded=True, caption=caption)


def _percentiles_by_suite(tasks: Tasks) -> FigureData | Missing:
    title = "Figure 3: what trained parameters buy, suite by suite"
    suites: dict[str, dict[str, Mapping[str, MethodRuns]]] = {}
    comparable, left_out = _comparable(tasks)
    for task, methods in comparable.items():
        suites.setdefault(suite_of(task), {})[task] = methods
    if len(suites) < 2:
        only = next(iter(suites), "none")
        reason = f"all tasks are of one suite ({only}){left_out}"
        return Missing(title, reason, "tasks of another suite in the report")
    panels, captions = [], {}
    for suite, found in suites.items():
        panel, captions[suite] = _band_panel(found, f"{suite} (n = {len(found)})")
        if panel is not None:
            panels.append(panel)
    if not panels:
        reasons = "; ".join(f"{suite}: {reason}" for suite, reason in captions.items())
        return Missing(title, reasons + left_out, f"{_needed_for_bands()}, in one suite")
    same = len(set(captions.values())) == 1
    caption = next(iter(captions.values())) if same else _captions(captions)
    caption = f"{caption.rstrip('.')}{left_out}."
    return FigureData("figure_3", title, TRAINED, tuple(panels), banded=True, caption=caption)


def _captions(captions: Mapping[str, str]) -> str:
    return " ".join(f"{suite}: {caption.rstrip('.')}." for suite, caption in captions.items())


def suite_of(task: str) -> str:
    """Which of the paper's suites a task belongs to, by its name."""
    if task in TABLE_1 or task.startswith("glue_"):
        return "GLUE"
    return "further tasks" if task in TABLE_2 else "other tasks"


def _band_panel(tasks: Tasks, title: str) -> tuple[Panel | None, str]:
    """Percentiles over tasks of what each method's levels score, and the caption or what is in the way."""
    baselines = {
        task: full.score for task, methods in tasks.items() if (full := _full_best(methods)) is not None
    }
    unknown = [task for task in tasks if task not in baselines]
    if unknown:
        baselines = {
            task: max(best_of(runs.configurations).score for runs in methods.values())
            for task, methods in tasks.items()
        }
    curves = []
    for method, by_task in _capacity_curves(tasks).items():
        found = bands(by_task, baselines)
        marks = [
            Mark(b.trained, 100 * b.middle, 100 * b.low, 100 * b.high, b.tasks, _level_name(method, b.level))
            for b in found
        ]
        if marks:
            curves.append(_curve(method, marks))
    if not any(len(curve.marks) > 1 for curve in curves):
        return (
            None,
            f"no method has two sizes in {MIN_TASKS} or more tasks (of {counted(len(tasks), 'task')})",
        )
    base = "its best score of all methods" if unknown else "full fine-tuning"
    caption = (
        f"Validation score minus {'' if unknown else 'that of '}{base}, task by task; line: median over "
        "tasks, band: 20th to 80th percentile. For each task and size, the best configuration counts."
    )
    if unknown:
        caption += f" The best is subtracted since there is no fine_tune study for {_some(unknown)}."
    if len(curves) == 1:
        caption += f" Only {curves[0].name} could be drawn: no other method has enough tasks."
    label = f"validation score minus\n{base} ({POINTS.name})"
    return Panel(title, label, tuple(curves), 0.0, base), caption


def _single_tasks(tasks: Tasks) -> FigureData | Missing:
    title = "Figure 4: what trained parameters buy, task by task"
    return _capacity_figure("figure_4", title, _without_spans(tasks), "a task")


def _squad(tasks: Tasks) -> FigureData | Missing:
    title = "Figure 5: SQuAD, score against trained parameters"
    spans = {task: methods for task, methods in tasks.items() if task not in _without_spans(tasks)}
    if not spans:
        return Missing(title, "no task of kind span", "a job with squad_v1 and several adapter sizes")
    return _capacity_figure("figure_5", title, spans, "squad_v1")


def _capacity_figure(key: str, title: str, tasks: Tasks, what: str) -> FigureData | Missing:
    """A panel for each task in which a method has two or more sizes; ``what`` it needs at least."""
    curves = _capacity_curves(tasks)
    panels = []
    for task, methods in tasks.items():
        drawn = []
        for method, by_task in curves.items():
            points = by_task.get(task, ())
            unit = _unit(methods)
            marks = [_seed_mark(p.best.trained, p, _level_name(method, p.level), unit) for p in points]
            if marks:
                drawn.append(_curve(method, marks))
        if any(len(curve.marks) > 1 for curve in drawn):
            full = _full_best(methods)
            level = None if full is None else _unit(methods).factor * full.validation.value
            panels.append(_task_panel(task, methods, drawn, level))
    if not panels:
        needed = f"two or more values of adapter_size or top_layers in the space of {what}"
        return Missing(title, "no task has a method with two sizes", needed)
    caption = (
        "Best validation score at each size; error bars: ±1 s.e.m. over seeds, where a configuration "
        f"was run with several. {_seeds(panels)}"
    )
    return FigureData(
        key, title, TRAINED, tuple(panels[:MAX_PANELS]), banded=False, caption=caption + _cut(panels)
    )


@dataclass(frozen=True)
class Swept:
    """A parameter whose values are compared, the other settings being the best at each.

    Attributes:
        shown: what the axis calls it.
        levels: the base of the powers near which the best is shown, where many values were tried.
        near: the same in words.
    """

    parameter: str
    shown: str
    methods: tuple[str, ...]
    levels: float
    near: str


RATES = Swept(
    "learning_rate",
    "learning rate",
    (OURS[ADAPTERS], OURS[FINE_TUNING]),
    10**0.25,
    "each quarter of a decade",
)
INITS = Swept("init_std", "standard deviation of the first weights", (OURS[ADAPTERS],), 10, "each decade")


def swept_figure(tasks: Tasks, swept: Swept, *, key: str, title: str) -> FigureData | Missing:
    """The best score at each value of a parameter, task by task."""
    panels = []
    for task, methods in tasks.items():
        drawn = []
        for method in swept.methods:
            if method not in methods:
                continue
            found, default = methods[method].configurations, default_of(method, swept.parameter)
            values = [float(one.params.get(swept.parameter, default)) for one in found]
            level = levels_of(values, base=swept.levels)
            points = frontier(
                found,
                lambda one, level=level, default=default: level[  # type: ignore[misc]
                    one.params.get(swept.parameter, default)
                ],
            )
            marks = []
            for point in points:
                value = float(point.best.params.get(swept.parameter, default))
                marks.append(_seed_mark(value, point, f"{value:.3g}", _unit(methods)))
            drawn.append(_curve(method, sorted(marks)))
        if any(len(curve.marks) > 1 for curve in drawn):
            panels.append(_task_panel(task, methods, drawn, None))
    if not panels:
        names = " or ".join(METHODS[method].legend for method in swept.methods)
        reason = f"no task has {names} with two values of {swept.parameter}"
        return Missing(title, reason, f"two or more values of {swept.parameter} in the space")
    caption = (
        f"The best configuration at each {swept.shown} (where a range was searched: the best in "
        f"{swept.near}); error bars: ±1 s.e.m. over seeds. {_seeds(panels)}"
    )
    alone = sorted({panel.curves[0].name for panel in panels if len(panel.curves) == 1})
    if alone and len(swept.methods) > 1:
        caption += f" Some tasks have {' or '.join(alone)} alone."
    return FigureData(
        key, title, swept.shown, tuple(panels[:MAX_PANELS]), banded=False, caption=caption + _cut(panels)
    )


def _capacity_curves(tasks: Tasks) -> dict[str, dict[str, tuple[Point, ...]]]:
    """By method and task, the best at each size; of a method without sizes, its best. Full fine-tuning is the
    last point of the top layers'."""
    curves: dict[str, dict[str, tuple[Point, ...]]] = {}
    for method in METHODS.values():
        if method.name == OURS[FINE_TUNING] or method.keeps == "no encoder":
            continue
        level = _levels(tasks, method)
        curves[method.name] = {}
        for task, methods in tasks.items():
            full = _full(methods) if method.name == OURS[VARIABLE] else []
            points = frontier([c for c in _configurations(methods, method.name) if c not in full], level)
            points += (Point(inf, best_of(full)),) if full else ()
            if points:
                curves[method.name][task] = points
    return curves


def _levels(tasks: Tasks, method: Method) -> Callable[[Configuration], float]:
    """The size of a configuration: of many sizes in the report, the nearest power of 2."""
    size = method.size
    if size is None:
        return lambda _: 0.0
    default = default_of(method.name, size)
    sizes = levels_of(
        [
            float(configuration.params.get(size, default))
            for methods in tasks.values()
            for configuration in _configurations(methods, method.name)
        ],
        base=2,
    )
    if method.whole_weights:  # layers are few
        sizes = {layers: layers for layers in sizes}
    return lambda configuration: sizes[float(configuration.params.get(size, default))]


def default_of(method: str, parameter: str) -> float:
    """What a configuration has that leaves a parameter out."""
    return float(getattr(METHODS[method].config({}, seed=0), parameter))


def _full(methods: Mapping[str, MethodRuns]) -> list[Configuration]:
    """All that fine-tunes everything: `fine_tune`, and `top_layers` of as many layers as there are."""
    full = _configurations(methods, OURS[FINE_TUNING])
    if not full:
        return []
    most = min(one.trained for one in full)
    return full + [one for one in _configurations(methods, OURS[VARIABLE]) if one.trained >= most]


def _full_best(methods: Mapping[str, MethodRuns]) -> Configuration | None:
    full = _full(methods)
    return best_of(full) if full else None


def _configurations(methods: Mapping[str, MethodRuns], method: str) -> list[Configuration]:
    return list(methods[method].configurations) if method in methods else []


def _without_spans(tasks: Tasks) -> dict[str, Mapping[str, MethodRuns]]:
    return {
        task: methods
        for task, methods in tasks.items()
        if not any(runs.rules.per_token for runs in methods.values())
    }


def _comparable(tasks: Tasks) -> tuple[dict[str, Mapping[str, MethodRuns]], str]:
    """The tasks whose scores percentiles can be over, and what to say of those that have no points."""
    found = _without_spans(tasks)
    left_out = [f"{task} ({_unit(m).name})" for task, m in found.items() if _unit(m) != POINTS]
    said = f"; left out, as they have no {POINTS.name}: {_some(left_out)}" if left_out else ""
    return {task: methods for task, methods in found.items() if _unit(methods) == POINTS}, said


def _unit(methods: Mapping[str, MethodRuns]) -> Unit:
    """How a task's scores are shown: its methods have one metric."""
    return next(iter(methods.values())).unit


def _curve(method: str, marks: Iterable[Mark]) -> Curve:
    return Curve(method, METHODS[method].legend, tuple(sorted(marks)))


def _task_panel(
    task: str, methods: Mapping[str, MethodRuns], curves: Sequence[Curve], level: float | None
) -> Panel:
    metric, unit = next(iter(methods.values())).metric, _unit(methods)
    compared = METHODS[OURS[FINE_TUNING]].legend
    label = f"validation {metric}{' (of 100)' if unit == POINTS else ''}"
    return Panel(task, label, tuple(curves), level, compared, unit.column)


def _seed_mark(x: float, point: Point, label: str, unit: Unit) -> Mark:
    (mean, sem, n), factor = point.best.validation, unit.factor
    low, high = (None, None) if sem is None else (factor * (mean - sem), factor * (mean + sem))
    return Mark(x, factor * mean, low, high, n, label)


def _level_name(method: str, level: float) -> str:
    if METHODS[method].size is None:
        return METHODS[method].label
    return "all layers" if level == inf else f"{level:g}"


def _seeds(panels: Sequence[Panel]) -> str:
    counts = Counter(mark.n for panel in panels for curve in panel.curves for mark in curve.marks)
    shown = ", ".join(f"{n} for {counted(count, 'point')}" for n, count in sorted(counts.items()))
    return f"Seeds (n): {shown}."


def _cut(panels: Sequence[Panel]) -> str:
    if len(panels) <= MAX_PANELS:
        return ""
    return f" The first {MAX_PANELS} of {len(panels)} tasks are drawn."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _needed_for_bands() -> str:
    return (
        f"{MIN_TASKS} or more finished tasks with two or more values of adapter_size (method adapter) or "
        "top_layers (method top_layers); a fine_tune study for each to compare with"
    )


def _learning_rates(tasks: Tasks) -> FigureData | Missing:
    return swept_figure(tasks, RATES, key="figure_7", title="Figure 7: the best score at each learning rate")


# The figures of a report, in the paper's order. One more: a function of the runs, and its name here.
FIGURES: list[Callable[[Tasks], FigureData | Missing]] = [
    _percentiles,
    _percentiles_by_suite,
    _single_tasks,
    _squad,
    _learning_rates,
]
