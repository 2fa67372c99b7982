"""What one study does next: unfinished trials, promotions, new configurations, then its end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.method import epochs_of
from search.decisions.confirmation import Confirm, missing_runs, next_round
from search.decisions.proposals import Params, propose
from search.decisions.refit import missing_refits
from search.decisions.rules import Rules, Verdict, common_failure, own_verdict, verdict
from search.decisions.selection import pick_best
from search.record import Leaders, Trial
from search.study import Study
from search.workers.reports import TrialReport
from spaces import Space

OnChange = Callable[[Study, int], None]  # called with a trial after a change of its record


@dataclass
class Agenda:
    """One study being searched.

    All that counts is in the study; what is kept here can be made anew from it at any time, and is, after a
    driver's death.

    Args:
        trials: configurations that the study is to try.
        rules: how long they train.
        first: configurations to begin with; the very first trains without waiting at rungs.
        confirm: which of them are re-run with further seeds after the search.
        find_leaders: tells, when the search has ended and a trial has a score, which cannot be told apart:
            these are re-run. None: nothing but `confirm` is.
        refit: whether the winner is then trained again on all rows.
        allows: whether a configuration may be run.
        live: trials that Tune has now.
    """

    study: Study
    space: Space
    sampler: str
    seed: int
    trials: int
    rules: Rules = field(default_factory=Rules)
    confirm: Confirm | None = None
    find_leaders: Callable[[Sequence[Trial]], Leaders] | None = None
    refit: bool = False
    first: Sequence[Mapping[str, Any]] = ()
    allows: Callable[[Params], bool] = lambda _: True
    live: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        trials = self.study.trials()
        self.stopped, self.exhausted = self.study.stopped, self.study.exhausted
        self.leaders = self.study.leaders
        for trial in trials:  # what a driver had recorded, but not drawn the conclusion from
            if trial.state == "running" and own_verdict(trial, self.rules).state == "complete":
                self._apply(trial.number, own_verdict(trial, self.rules))
        self.best = max((trial.score for trial in trials if trial.score is not None), default=None)
        self.seconds = sum(trial.seconds for trial in trials)
        self.started = sum(trial.searched and trial.retries is None for trial in trials)
        self.unfinished = [t.number for t in self.study.trials() if t.state == "running"]

    @property
    def growing(self) -> bool:
        """Whether new configurations are still to be tried."""
        wanted = self.trials if self.space.size is None else min(self.trials, self.space.size)
        return self.stopped is None and not self.exhausted and self.started < wanted

    @property
    def is_searching(self) -> bool:
        """Whether trials of the search itself, not only confirmations, are still to be started or ended."""
        trials = self.study.trials()
        return (
            self.growing
            or bool(self._failed_again(trials))
            or any(trial.state in ("running", "paused") and trial.searched for trial in trials)
        )

    @property
    def is_open(self) -> bool:
        """Whether a trial is still to be started or ended."""
        trials = self.study.trials()
        under_way = any(trial.state in ("running", "paused") for trial in trials)
        if self.growing or under_way or self._failed_again(trials):
            return True
        return bool(
            self._leaders_to_find(trials) or self._missing_runs(trials) or self._missing_refits(trials)
        )

    def next_trial(self, on_change: OnChange) -> int | None:
        """The number of the trial to run next, written to the study; None when there is none now.

        Where nothing is left to search, the study's paused trials end here and its confirmations start, and
        after these its refits.
        """
        number = self._next_unfinished(on_change)
        if number is None and self.stopped is None:
            number = self._next_promotion()
        if number is None:
            number = self._next_retry()
        if number is None and self.growing:
            number = self._next_new()
        if number is None:
            number = self._next_confirmation(on_change)
        if number is None:
            number = self._next_refit()
        if number is not None:
            self.live.add(number)
        return number

    def stop(self, reason: str) -> None:
        """End the search in order: no new trials; those that run are put down at their next epoch."""
        if self.stopped is None:
            self.stopped = reason
            self.study.stop(reason)

    def end_stopped(self, number: int) -> bool:
        """End a trial of a search that was stopped as it stands in the record: one that no worker has begun,
        or whose epoch is long. Returns whether it did.
        """
        trial = self.study.trials()[number]
        if self.stopped is None or not trial.searched or trial.state != "running":
            return False
        self.study.finish_trial(number, "pruned", reason=self.stopped)
        return True

    def take(self, number: int, report: TrialReport) -> Verdict:
        """Record what a worker reported, and what follows for the trial. Repeating it changes nothing."""
        self.study.note_trial(number, node=report.node, trained_parameters=report.trained_parameters)
        before = self.study.trials()[number]
        self.study.record_epochs(number, report.epochs)
        trials = self.study.trials()
        trial = trials[number]
        self.seconds += trial.seconds - before.seconds
        if trial.score is not None and (self.best is None or trial.score > self.best):
            self.best = trial.score
        if trial.state not in ("running", "paused"):
            return Verdict(trial.state, trial.reason)
        if report.failure is not None:
            self.fail(number, report.failure)
            return Verdict("failed", report.failure)
        decided = verdict(trial, trials, self.rules)
        if report.finished and decided.state == "running":
            decided = Verdict("complete")
        if self.stopped is not None and decided.state in ("running", "paused") and trial.searched:
            decided = Verdict("pruned", self.stopped)
        self._apply(number, decided)
        return decided

    def fail(self, number: int, reason: str) -> None:
        """End a trial that failed; the whole search, where its first trials all fail alike."""
        self.study.finish_trial(number, "failed", reason=reason)
        common = common_failure(self.study.trials())
        if common is not None:
            self.stop(common)

    def put_back(self, number: int) -> None:
        """A trial has lost its worker by no fault of its own: next, it goes on from its checkpoint."""
        self.unfinished.append(number)

    def put_down(self, number: int) -> None:
        """Tune has a trial no more: it ended, waits at a rung, or is left for the next driver."""
        self.live.discard(number)

    def _next_unfinished(self, on_change: OnChange) -> int | None:
        while self.unfinished:
            number = self.unfinished.pop(0)
            if self.stopped is None or not self.study.trials()[number].searched:
                return number
            self.study.finish_trial(number, "pruned", reason=self.stopped)
            on_change(self.study, number)
        return None

    def _next_promotion(self) -> int | None:
        trial = self.rules.entry.promotion(
            self.study.trials(), growing=self.growing, pareto=self.rules.pareto, busy=self.live
        )
        if trial is None or trial.rung is None:
            return None
        self.study.promote_trial(trial.number, trial.rung)
        return trial.number

    def _leaders_to_find(self, trials: Sequence[Trial]) -> Callable[[Sequence[Trial]], Leaders] | None:
        """Who tells the leaders, where that is still to be asked."""
        return None if self.leaders is not None or pick_best(trials) is None else self.find_leaders

    def _failed_again(self, trials: Sequence[Trial]) -> list[Trial]:
        """The failed trials that are still to be tried again."""
        if self.stopped is not None:
            return []
        tried = {trial.retries for trial in trials}
        failed = [trials[number] for number in self.study.again if number not in tried]
        return [trial for trial in failed if trial.refits is None]

    def _next_retry(self) -> int | None:
        failed = self._failed_again(self.study.trials())
        if not failed:
            return None
        params, rungs = failed[0].params, self.rules.rungs(failed[0].schedule)
        return self.study.start_trial(
            params, self.space.distributions(), seed=failed[0].seed, rungs=rungs, retries=failed[0].number
        )

    def _next_new(self) -> int | None:
        params = self._propose()
        if params is None:
            self._note_exhausted()
            return None
        self.started += 1
        return self.study.start_trial(
            params, self.space.distributions(), seed=self.seed, rungs=self._rungs(params)
        )

    def _note_exhausted(self) -> None:
        if not self.exhausted:
            self.exhausted = True
            self.study.exhaust()

    def _propose(self) -> Params | None:
        if self.started < len(self.first):
            return dict(self.first[self.started])
        return propose(
            self.study.trials(),
            self.space,
            sampler=self.sampler,
            seed=self.seed,
            pareto=self.rules.pareto,
            allows=self.allows,
        )

    def _rungs(self, params: Params) -> tuple[int, ...]:
        """Where a trial waits. What is expected to be the best is trained through: it sets the mark."""
        leads = self.first and self.started == 1
        return () if leads else self.rules.rungs(epochs_of(params, method=self.study.method))

    def _next_confirmation(self, on_change: OnChange) -> int | None:
        trials = self.study.trials()
        if any(trials[number].searched for number in self.live):
            return None
        self._end(trials, on_change)
        trials = self.study.trials()
        if find := self._leaders_to_find(trials):
            self.leaders = find(trials)
            self.study.note_leaders(self.leaders)
        missing = self._missing_runs(trials)
        if not missing:
            return None
        trial, seed = missing[0]
        return self.study.start_trial(
            trial.params, self.space.distributions(), seed=seed, confirms=trial.number
        )

    def _next_refit(self) -> int | None:
        """The winner, trained again on all rows; nothing else is left to be run."""
        trials = self.study.trials()
        missing = self._missing_refits(trials)
        if not missing or any(trials[number].refits is None for number in self.live):
            return None
        trial = missing[0]
        return self.study.start_trial(
            trial.params,
            self.space.distributions(),
            seed=trial.seed,
            refits=trial.number,
            length=trial.best_epoch,
        )

    def _missing_refits(self, trials: Sequence[Trial]) -> list[Trial]:
        return missing_refits(trials, self.study.again, self.leaders) if self.refit else []

    def _missing_runs(self, trials: Sequence[Trial]) -> list[tuple[Trial, int]]:
        if self.confirm is not None:
            return missing_runs(trials, self.confirm)
        if self.find_leaders is None or self.leaders is None:
            return []
        return next_round(trials, self.leaders)[1]

    def _end(self, trials: Sequence[Trial], on_change: OnChange) -> None:
        """Nothing is left to search: whoever still waits was not good enough."""
        if self.space.size is not None and self.space.size <= self.started < self.trials:
            self._note_exhausted()
        ends = self.rules.entry.ends(trials, pareto=self.rules.pareto)
        for number, reason in sorted(ends.items()):
            self.study.finish_trial(number, "pruned", reason=self.stopped or reason)
            on_change(self.study, number)

    def _apply(self, number: int, decided: Verdict) -> None:
        if decided.state in ("complete", "pruned"):
            self.study.finish_trial(number, decided.state, reason=decided.reason)
