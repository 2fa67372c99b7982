"""What the page needs to know of a study, as one value: sections are functions of it."""

from dataclasses import dataclass

from pipelines.metrics import METRICS
from search.decisions.confirmation import pick_winner
from search.errors import JobError
from search.importance import Importance, importance_of
from search.job.job import SearchJob
from search.record import Leaders, StudyFacts, Trial, Winner
from search.storage import Storage, answers_key
from search.study import Study
from search.tables import format_params
from search.tested import KeptAnswers, read_answers
from spaces import Space


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """One task x method.

    Attributes:
        best: the winner, or the best trial so far; None before there is one.
        space: None where the job can no longer be read, as of a method that is not installed here.
        importance: None without a space.
        tested: what the winner answered on test; None where nothing was kept.
        reason: why there is no winner, or why the search ended before its trials were used up.
    """

    task: str
    method: str
    facts: StudyFacts
    trials: tuple[Trial, ...]
    winner: Winner | None = None
    leaders: Leaders | None = None
    space: Space | None = None
    importance: Importance | None = None
    tested: KeptAnswers | None = None
    bundle: str = ""
    reason: str = ""
    max_tokens: int = 0

    @property
    def name(self) -> str:
        return f"{self.task}/{self.method}"

    @property
    def metric(self) -> str:
        return self.facts.metric

    @property
    def best(self) -> Trial | None:
        if self.winner is not None:
            return self.trials[self.winner.trial]
        return pick_winner(self.trials, self.leaders)

    @property
    def searched(self) -> tuple[Trial, ...]:
        """The trials of the search; without confirmations and second tries."""
        return tuple(one for one in self.trials if one.confirms is None and one.retries is None)

    @property
    def scored(self) -> tuple[Trial, ...]:
        """Those of them that have a score."""
        return tuple(one for one in self.searched if one.score is not None)

    def value(self, trial: Trial) -> float:
        """A trial's best validation score, raw. Of one that has a score."""
        found = trial.validation(self.metric)
        return 0.0 if found is None else found

    def raw(self, score: float) -> float:
        """A signed score as the metric has it."""
        return METRICS[self.metric].signed(score)

    @property
    def y_label(self) -> str:
        better = " (less is better)" if METRICS[self.metric].better == "lower" else ""
        return f"validation {self.metric}{better}"

    def tell(self, trial: Trial) -> str:
        """A trial in a line."""
        state = "" if trial.state == "complete" else f", {trial.state}"
        score = "" if trial.score is None else f"{self.value(trial):.4f} "
        return f"trial {trial.number}: {score}with {format_params(trial.params)}{state}"


def view_of(study: Study, storage: Storage) -> StudyView:
    """Read a study of a job."""
    trials, facts, winner = study.trials(), study.facts, study.winner
    space, max_tokens = None, 0
    try:
        job = SearchJob.from_dict(facts.job)
        space, max_tokens = job.space_for(study.method), job.max_tokens
    except (JobError, KeyError):  # a thing that a package registers, which is not installed here
        pass
    return StudyView(
        task=study.task,
        method=study.method,
        facts=facts,
        trials=trials,
        winner=winner,
        leaders=study.leaders,
        space=space,
        importance=None if space is None else importance_of(trials, space),
        tested=None
        if winner is None
        else read_answers(storage, answers_key(study.job, study.task, study.method)),
        bundle="" if winner is None else storage.uri(winner.bundle),
        reason=study.failure or study.stopped or "",
        max_tokens=max_tokens,
    )
