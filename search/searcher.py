"""Ray Tune's two questions, answered from the study: what to run next, and what to do with a result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from search.proposals import propose
from search.study import Study
from search.trial import REPORT, TrialReport
from spaces import Space

Listener = Callable[[Study, int], None]  # called with a trial after every change of its record


@dataclass
class Search:
    """One study being searched: how many trials it is to have, and which are to be taken up again."""

    study: Study
    space: Space
    sampler: str
    seed: int
    trials: int

    def __post_init__(self) -> None:
        trials = self.study.trials()
        self.unfinished = [trial.number for trial in trials if trial.state == "running"]
        self.started = len(trials)  # ended or not; no one else starts any
        self.exhausted = False  # whether the space has no configuration left

    def next_trial(self) -> int | None:
        """The number of the next trial to run, written to the study; None when none is left to start."""
        if self.unfinished:
            return self.unfinished.pop(0)
        if self.exhausted or self.started >= self.trials:
            return None
        trials = self.study.frozen_trials()
        params = propose(trials, self.space, sampler=self.sampler, seed=self.seed)
        if params is None:
            self.exhausted = True
            self.study.note("exhausted", True)
            return None
        self.started += 1
        return self.study.start_trial(params, self.space.distributions(), seed=self.seed)

    @property
    def is_open(self) -> bool:
        """Whether a trial is still to be started or finished."""
        exhausted = self.exhausted or bool(self.study.attributes.get("exhausted"))
        to_start = not exhausted and self.started < self.trials
        return to_start or any(trial.state == "running" for trial in self.study.trials())


class StudySearcher(Searcher):
    """Serves all studies of a job in turn: unfinished trials first, then the study with the fewest trials.

    Tune's own state is scratch: nothing is saved with it, and every start of a driver is a fresh Tune run.

    Args:
        searches: the job's studies, in the job's order.
        slots: how many trials may be live now; asked before each new one.
        listener: told of every trial that starts or ends.
    """

    def __init__(self, searches: Sequence[Search], *, slots: Callable[[], int], listener: Listener) -> None:
        super().__init__()
        self._searches = searches
        self._slots = slots
        self._listener = listener
        self.live: dict[str, tuple[Study, int]] = {}  # by Tune's trial id

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override] # FINISHED is a str
        """The next trial for Tune: its key, number and parameters; None while all slots are taken."""
        if len(self.live) >= self._slots():
            return None
        for search in sorted(self._searches, key=lambda search: (not search.unfinished, search.started)):
            number = search.next_trial()
            if number is not None:
                study = search.study
                self.live[trial_id] = (study, number)
                self._listener(study, number)
                return trial_config(study, number)
        return Searcher.FINISHED if not self.live else None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: `StudyScheduler` has recorded it, also where Tune would not have called us."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record how a trial ended; one that Tune merely put down at the end of a run stays unfinished."""
        if trial_id not in self.live:
            return
        study, number = self.live.pop(trial_id)
        if error:
            study.finish_trial(number, "failed", reason="its worker died, and again after each restart")
        elif result and REPORT in result:
            report = TrialReport.loads(result[REPORT])
            if report.failure:
                study.finish_trial(number, "failed", reason=report.failure)
            elif report.finished:
                study.finish_trial(number, "complete")
        self._listener(study, number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into its scratch folder; database connections stay here


class StudyScheduler(FIFOScheduler):
    """Writes each result to the study before anything is decided, then decides: with `none`, go on.

    Tune calls the scheduler before its searcher and callbacks, and skips those when the answer is STOP:
    this hook is the one place that sees every result.
    """

    def __init__(self, searcher: StudySearcher, listener: Listener) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # untyped in Ray
        self._searcher = searcher
        self._listener = listener

    def on_trial_result(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> str:
        study, number = self._searcher.live[trial.trial_id]
        record_result(study, number, result)
        self._listener(study, number)
        return str(FIFOScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> None:
        # Tune skips on_trial_result for a result that says `done`.
        if trial.trial_id in self._searcher.live:
            record_result(*self._searcher.live[trial.trial_id], result)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def trial_config(study: Study, number: int) -> dict[str, Any]:
    """What Tune hands to a worker: enough to find everything else by name."""
    trial = study.trial(number)
    return {
        "task": study.task,
        "method": study.method,
        "number": number,
        "seed": trial.seed,
        "params": dict(trial.params),
    }


def record_result(study: Study, number: int, result: Mapping[str, Any]) -> None:
    """Write what a worker reported: its facts, and those of its epochs that the study lacks."""
    if REPORT in result:
        report = TrialReport.loads(result[REPORT])
        study.note_trial(number, report.facts)
        study.record_epochs(number, report.epochs)
