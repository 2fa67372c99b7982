"""What a search looks like while it runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.record import Trial
from search.secrets import hide_secrets
from search.study import Study
from search.tables import format_params

if TYPE_CHECKING:
    from search.workers.reports import HostState

ENDED = ("complete", "pruned", "failed")


class Progress:
    """Says nothing: for searches that are started from Python."""

    def start(self, studies: Sequence[tuple[Study, int]]) -> None:
        """The search begins: the studies, and how many trials each is to have."""

    def update(self, study: Study, trial: Trial) -> None:
        """A trial's record has changed."""

    def hosts(self, states: "Sequence[HostState]") -> None:
        """Where trials are trained in packs: what the hosts do now."""

    def message(self, text: str) -> None:
        """Something worth a line."""

    def warn(self, text: str) -> None:
        """Something that the user has to know."""

    def stop(self) -> None:
        """The search has ended, in whatever way."""


@dataclass
class _StudyView:
    """One study's part of the view."""

    study: Study
    wanted: int
    trials: dict[int, Trial] = field(default_factory=dict)

    @property
    def ended(self) -> list[Trial]:
        return [
            trial
            for trial in self.trials.values()
            if trial.state in ENDED and trial.searched and trial.retries is None
        ]

    @property
    def running(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.state == "running"]

    @property
    def paused(self) -> int:
        return sum(trial.state == "paused" for trial in self.trials.values())

    @property
    def best(self) -> Trial | None:
        scored = [trial for trial in self.trials.values() if trial.score is not None]
        return max(scored, key=lambda trial: (trial.score or 0.0, -trial.number), default=None)

    def show(self, trial: Trial) -> str:
        """A trial's score so far, as the metric has it."""
        value = trial.validation(self.study.facts.metric)
        return "no score yet" if value is None else f"{value:.4f}"


class ConsoleProgress(Progress):
    """The command's view: trials running and done, the best so far, the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._views: dict[str, _StudyView] = {}
        self._live: Live | None = None
        self._started = self._search_started = time.monotonic()
        self._ended_before = 0
        self._packs = ""  # trials per pass of the encoder, where there are packs

    def start(self, studies: Sequence[tuple[Study, int]]) -> None:
        self._search_started = time.monotonic()
        for study, wanted in studies:
            view = _StudyView(study, wanted, {trial.number: trial for trial in study.trials()})
            self._views[study.name] = view
            if view.trials:
                self.message(f"{study.name}: going on, {len(view.ended)} of {wanted} trials are done")
        self._ended_before = sum(len(view.ended) + view.paused for view in self._views.values())
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=2)
            self._live.start()
        else:
            trials = sum(view.wanted for view in self._views.values())
            self.message(f"searching: {trials} trials over {len(self._views)} task(s) x method(s)")

    def update(self, study: Study, trial: Trial) -> None:
        view = self._views[study.name]
        before = view.trials.get(trial.number)
        view.trials[trial.number] = trial
        if trial.state == "paused" and (before is None or before.state != "paused"):
            self._say_paused(view, trial)
        if trial.state in ("running", "paused") or (before is not None and before.state in ENDED):
            return
        end = view.show(trial) if trial.state == "complete" else f"{trial.state}: {trial.reason}"
        if trial.refits is not None and trial.state == "complete":
            end = f"train loss {trial.epochs[-1].train_loss:.4f}"
        best = f"best {view.show(view.best)}" if view.best else "no score yet"
        repeats = "" if trial.confirms is None else f" (trial {trial.confirms} with seed {trial.seed})"
        if trial.refits is not None:
            repeats = f" (trial {trial.refits} on train and validation, {trial.length} epochs)"
        self.message(
            f"{study.name} trial {trial.number}{repeats}: {format_params(trial.params)} -> {end} "
            f"({best}; {len(view.ended)}/{view.wanted} done{self._time_left()}{self._packs})"
        )

    def hosts(self, states: "Sequence[HostState]") -> None:
        working = [(" + ".join(map(str, state.packs)), state.node) for state in states if state.packs]
        shown = ", ".join(f"{packs} on {node}" if len(working) > 1 else packs for packs, node in working)
        self._packs = f"; trials per pass: {shown}" if shown else ""

    def _say_paused(self, view: _StudyView, trial: Trial) -> None:
        self.message(
            f"{view.study.name} trial {trial.number}: {format_params(trial.params)} -> {view.show(trial)} "
            f"after epoch {len(trial.epochs)} of {trial.schedule}, waits "
            f"({view.paused} waiting{self._packs})"
        )

    def message(self, text: str) -> None:
        self._console.print(
            Text(f"[{_clock(time.monotonic() - self._started)}] {hide_secrets(text)}"), soft_wrap=True
        )

    def warn(self, text: str) -> None:
        self._console.print(Text(hide_secrets(text), style="yellow"), soft_wrap=True)

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("study", "done", "running", "waiting", "failed", "best so far", "with"):
            table.add_column(heading)
        lines = []
        for view in self._views.values():
            best = view.best
            table.add_row(
                view.study.name,
                f"{len(view.ended)}/{view.wanted}",
                str(len(view.running)),
                str(view.paused),
                str(sum(trial.state == "failed" for trial in view.ended)),
                view.show(best) if best else "-",
                format_params(best.params) if best else "",
            )
            lines += [_line(view, trial) for trial in view.running]
        clock = f"{_clock(time.monotonic() - self._started)} elapsed{self._time_left()}{self._packs}"
        return Group(table, *(Text(line, style="dim") for line in lines), Text(clock, style="dim"))

    def _time_left(self) -> str:
        """An estimate from the trials that ended since the start; empty before there are any."""
        # Few of those that wait are trained on.
        ended = sum(len(view.ended) + view.paused for view in self._views.values())
        left = sum(view.wanted for view in self._views.values()) - ended
        now = ended - self._ended_before
        if now <= 0 or left <= 0:
            return ""
        return f", about {_clock((time.monotonic() - self._search_started) / now * left)} left"


def _line(view: _StudyView, trial: Trial) -> str:
    epochs = trial.length or trial.params.get("epochs", "?")
    score = "" if trial.score is None else f", {view.show(trial)} so far"
    return f"  trial {trial.number}: {format_params(trial.params)}: epoch {len(trial.epochs)}/{epochs}{score}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
