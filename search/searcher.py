"""Ray Tune's questions, answered from the study: what to run next, and what to do with a result.

A Tune trial is one stretch of ours: from its start, or from a rung that it was promoted past, to the next
rung or to its end. So a paused trial is no Tune trial at all, only a checkpoint and a record; promoting it
and taking it up again after a driver's death are one and the same.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from search.agenda import Agenda, OnChange
from search.errors import StorageError
from search.local.memory import MemoryWatch
from search.workers.assignment import Assignment
from search.workers.reports import REPORT, TrialReport

MEMORY_RETRIES = 3  # of a trial that has lost its worker for want of memory, beside Tune's own restarts
STOP_GRACE_SECONDS = 10  # for the epochs that run when their search is stopped; longer ones are cut short
DRAIN_POLL_SECONDS = 2  # between two looks at which nodes are about to be taken away


@dataclass
class Stretch:
    """A trial that Tune has.

    Attributes:
        seconds: what it had trained before.
        host: the actor that trains it beside others, where there are such.
        running_since: when Tune was first seen to run it (monotonic seconds).
        stopping_since: when it was first seen to run though its search was stopped (monotonic seconds).
        loss: what Ray said of the last worker that it lost.
        for_memory: whether memory had run out then.
    """

    agenda: Agenda
    number: int
    seconds: float
    host: str | None = None
    running_since: float | None = None
    stopping_since: float | None = None
    loss: str = "no reason known"
    for_memory: bool = False


class StudySearcher(Searcher):
    """Serves all studies of a job: unfinished trials first, then the study that has had the least.

    Tune's own state is scratch: nothing is saved with it, and every start of a driver is a fresh Tune run.

    Args:
        agendas: of the job's studies, in the job's order.
        slots: how many trials may be live now; asked before each new one.
        on_change: told of every trial that starts, pauses or ends.
        check_budget: called before each question; stops the studies whose budget is used up.
        pick_host: where trials are trained in packs, chooses a host, given the live trials of each.
    """

    def __init__(
        self,
        agendas: Sequence[Agenda],
        *,
        slots: Callable[[], int],
        on_change: OnChange,
        check_budget: Callable[[], None] = lambda: None,
        pick_host: Callable[[Counter[str]], str] | None = None,
    ) -> None:
        super().__init__()
        self._pick_host = pick_host
        self._agendas = agendas
        self._slots = slots
        self._on_change = on_change
        self.check_budget = check_budget
        self.live: dict[str, Stretch] = {}  # by Tune's trial id
        self.idle = False  # whether nothing can be run until a live trial reports
        self._most: int | None = None  # live trials that memory suffices for, where it once did not
        self._put_back: Counter[tuple[str, int]] = Counter()  # by study and trial
        self.problem: Exception | None = None  # what ended Tune's run

    @contextlib.contextmanager
    def keeping_problems(self) -> Iterator[None]:
        """Keep an error as it is: Tune makes a text of what its hooks raise."""
        try:
            yield
        except Exception as error:
            self.problem = self.problem or error
            raise

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override] # FINISHED is a str
        """The next trial for Tune, as an `Assignment`; None while all slots are taken."""
        with self.keeping_problems():
            return self._suggest(trial_id)

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self.check_budget()
        if self.idle or len(self.live) >= self._room():
            over = not self.live and all(agenda.stopped is not None for agenda in self._agendas)
            return Searcher.FINISHED if over else None
        for agenda in sorted(self._agendas, key=_turn):
            number = agenda.next_trial(self._on_change)
            if number is not None:
                study, trial = agenda.study, agenda.study.trial(number)
                host = None
                if self._pick_host is not None:
                    taken = Counter(stretch.host for stretch in self.live.values() if stretch.host)
                    host = self._pick_host(taken)
                self.live[trial_id] = Stretch(agenda, number, trial.seconds, host)
                self._on_change(study, number)
                return Assignment.of(trial, study.task, host=host).to_tune()
        self.idle = bool(self.live)
        return Searcher.FINISHED if not self.live else None

    def _room(self) -> int:
        slots = self._slots()
        return slots if self._most is None else min(slots, self._most)

    def go_on_with_fewer(self) -> int:
        """Memory did not suffice for as many trials as are live: one less from now on. Returns how many."""
        self._most = max(1, min(len(self.live), self._most or len(self.live)) - 1)
        return self._most

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: `StudyScheduler` has recorded it, also where Tune would not have called us."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tune has a trial no more. What it reported is recorded already; one that Tune merely put down at
        the end of a run stays as it is.
        """
        self.idle = False
        stretch = self.live.pop(trial_id, None)
        if stretch is None:
            return
        with self.keeping_problems():
            if error:
                self._take_lost(stretch)
            stretch.agenda.put_down(stretch.number)
            self._on_change(stretch.agenda.study, stretch.number)

    def _take_lost(self, stretch: Stretch) -> None:
        """A trial whose worker is lost for good has failed, unless it was for want of memory: it waits until
        there is more of it.
        """
        trial = stretch.agenda.study.name, stretch.number
        if stretch.for_memory and self._put_back[trial] < MEMORY_RETRIES:
            self._put_back[trial] += 1
            stretch.agenda.put_back(stretch.number)
            return
        why = (
            "for want of memory, and again with fewer at once"
            if stretch.for_memory
            else "and again after each restart"
        )
        stretch.agenda.fail(stretch.number, f"its worker died, {why}: {stretch.loss}")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into its scratch folder; database connections stay here


class StudyScheduler(FIFOScheduler):
    """Writes each result to the study before anything is decided, then decides from the study.

    Tune calls the scheduler before its searcher and callbacks, and skips those when the answer is STOP:
    this hook is the one place that sees every result.

    Args:
        timeout: minutes that a trial may take; one that takes longer is failed, even if it hangs.
        leaving: the nodes that are about to be taken away, by Ray's ids.
        memory: tells a worker that was lost for want of memory from others.
        warn: told where the search goes on with fewer trials at once.
    """

    def __init__(
        self,
        searcher: StudySearcher,
        on_change: OnChange,
        *,
        timeout: float | None = None,
        leaving: Callable[[], Container[str]] = tuple,
        memory: MemoryWatch | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # untyped in Ray
        self._searcher = searcher
        self._on_change = on_change
        self._timeout = timeout
        self._leaving = leaving
        self._memory = memory or MemoryWatch()
        self._warn = warn
        self._moved: set[tuple[str, str]] = set()  # hosts, with the nodes that they were taken from
        self._chosen: set[str] = set()  # Tune's trials that have, or are getting, a worker

    def on_trial_result(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> str:
        stretch = self._searcher.live[trial.trial_id]
        self._searcher.idle = False
        with self._searcher.keeping_problems():
            self._searcher.check_budget()
            goes_on = _take(stretch, result)
            self._on_change(stretch.agenda.study, stretch.number)
            if goes_on:
                self._move_from_leaving(trial, stretch, result)
        return str(FIFOScheduler.CONTINUE if goes_on else FIFOScheduler.STOP)

    def on_trial_complete(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> None:
        # Tune skips on_trial_result for a result that says `done`.
        stretch = self._searcher.live.get(trial.trial_id)
        if stretch is not None:
            with self._searcher.keeping_problems():
                _take(stretch, result)

    def on_trial_error(self, tune_controller: object, trial: Trial) -> None:
        stretch = self._searcher.live.get(trial.trial_id)
        if stretch is not None and trial.error_file is not None:
            stretch.loss = _last_error(Path(trial.error_file))
            stretch.for_memory = self._memory.ran_out(stretch.loss)
            if stretch.for_memory:
                most = self._searcher.go_on_with_fewer()
                self._warn(
                    f"{stretch.agenda.study.name} trial {stretch.number} lost its worker: memory ran out. It "
                    f"goes on from its checkpoint, with {most} at once from now on. To start so: "
                    f"resources: {{concurrent: {most}}}"
                )

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next trial to get a worker, warm or new; none that is getting one.

        By default Tune gives a warm worker to the trial that has waited longest, and ends the one that was
        being started for it: where trials are shorter than a worker's start, only one would ever run.
        Tune asks this every tenth of a second: the place to notice trials that take too long, or for which
        no worker has come when the budget is used up.
        """
        live: Collection[Trial] = tune_controller.get_live_trials()
        with self._searcher.keeping_problems():
            self._searcher.check_budget()
            self._end_stopped(live, tune_controller)
        if self._timeout is not None:
            with self._searcher.keeping_problems():
                self._end_overdue(live)
        waiting = {trial.trial_id: trial for trial in live if trial.status == Trial.PENDING}
        for trial_id in self._searcher.live:
            if trial_id in waiting and trial_id not in self._chosen:
                self._chosen.add(trial_id)
                return waiting[trial_id]
        return None

    def _move_from_leaving(self, trial: Trial, stretch: Stretch, result: Mapping[str, Any]) -> None:
        """Take a trial from a node that drains. Its checkpoint was just written: Ray has its next worker, or
        its host, start on another node, and there it goes on.
        """
        node = TrialReport.loads(result[REPORT]).node_id if REPORT in result else None
        if node is None or node not in self._leaving():
            return
        if stretch.host is not None:
            if (stretch.host, node) not in self._moved:  # others of its trials may report from there yet
                self._moved.add((stretch.host, node))
                ray.kill(ray.get_actor(stretch.host), no_restart=False)
        elif trial.temporary_state.ray_actor is not None:
            trial.max_failures += 1  # it did not fail
            ray.kill(trial.temporary_state.ray_actor)

    def _end_stopped(self, trials: Collection[Trial], tune_controller: Any) -> None:
        """End the trials of stopped searches for which no worker has come, or whose epoch is long."""
        now = time.monotonic()
        for trial in tuple(trials):
            stretch = self._searcher.live.get(trial.trial_id)
            if stretch is None or stretch.agenda.stopped is None:
                continue
            if trial.status == Trial.PENDING and trial.temporary_state.ray_actor is None:
                if stretch.agenda.end_stopped(stretch.number):
                    tune_controller.stop_trial(trial)
            elif trial.status == Trial.RUNNING:
                if stretch.stopping_since is None:
                    stretch.stopping_since = now
                late = now - stretch.stopping_since > STOP_GRACE_SECONDS
                if late and stretch.agenda.end_stopped(stretch.number):
                    _cut_short(trial, stretch)

    def _end_overdue(self, trials: Collection[Trial]) -> None:
        now = time.monotonic()
        for trial in trials:
            stretch = self._searcher.live.get(trial.trial_id)
            worker = trial.temporary_state.ray_actor
            if stretch is None or worker is None or trial.status != Trial.RUNNING or self._timeout is None:
                continue
            if stretch.running_since is None:
                stretch.running_since = now
            if stretch.seconds + now - stretch.running_since > 60 * self._timeout:
                reason = f"TrialTimeout: it took more than trial_timeout: {self._timeout:g} minutes"
                stretch.agenda.fail(stretch.number, reason)
                _cut_short(trial, stretch)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LeavingNodes:
    """The nodes that Ray has announced to drain: on a spot notice, or before an autoscaler ends them."""

    def __init__(self) -> None:
        self._draining: Container[str] = ()
        self._looked_at = -math.inf

    def __call__(self) -> Container[str]:
        if time.monotonic() - self._looked_at > DRAIN_POLL_SECONDS:
            self._looked_at = time.monotonic()
            self._draining = ray._private.state.state.get_draining_nodes().keys()
        return self._draining


def _cut_short(trial: Trial, stretch: Stretch) -> None:
    """Take a trial whose end is recorded from its worker. One that hangs, or is in a long epoch, answers
    nothing: only killing it gives its cores back. In a pack the others go on: a host drops a trial between
    two steps.
    """
    trial.max_failures = 0
    if trial.temporary_state.ray_actor is not None:
        ray.kill(trial.temporary_state.ray_actor)
    if stretch.host is not None:
        with contextlib.suppress(ValueError):  # the host is gone as well
            ray.get_actor(stretch.host).drop.remote(Assignment.from_tune(trial.config), None)


def _turn(agenda: Agenda) -> tuple[bool, int, float, int]:
    """Who is served first: what is unfinished; then the study with the least now, and the least so far."""
    return (not agenda.unfinished, len(agenda.live), agenda.seconds, agenda.started)


def _last_error(file: Path) -> str:
    """Of what Tune noted of a trial: the last worker's own error, or what Ray said of it."""
    try:
        last = file.read_text().rpartition("Failure #")[2]
    except OSError:
        return "no reason known"
    lines = [line.strip() for line in last.splitlines()[1:] if line.strip()]
    if not lines:
        return "no reason known"
    return lines[-1 if lines[0].startswith("ray::") else 0][:1000]


def _take(stretch: Stretch, result: Mapping[str, Any]) -> bool:
    """Record a result; returns whether its trial goes on.

    Raises:
        StorageError: the trial cannot, for want of its storage.
    """
    if REPORT not in result:
        return True
    report = TrialReport.loads(result[REPORT])
    if report.blocked is not None:
        raise StorageError(report.blocked)
    return stretch.agenda.take(stretch.number, report).state == "running"
