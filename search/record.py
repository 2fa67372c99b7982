"""What a search's record holds, as values: trials, what a study is about, its winner, its driver.

Free of torch, Ray and Optuna. `search.study` reads and writes them; their fields are the JSON keys of the
database, so a field is never renamed, and a new one has a default that means what its absence meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, Self

from pipelines.intervals import Interval
from pipelines.method import epochs_of
from pipelines.results import EpochResult

FORMAT = 1  # of the record; one without the number, of before there was one, is of format 1

State = Literal["running", "paused", "complete", "pruned", "failed"]
Outcome = Literal["running", "complete", "pruned", "failed"]  # as Optuna has it
Params = Mapping[str, Any]  # a trial's parameters, by name
Scores = Mapping[str, float]  # by metric


@dataclass(frozen=True)
class Trial:
    """One trial as the study knows it.

    Attributes:
        number: counted from 0 in each study.
        state: paused where it waits at a rung: it has come so far and was not let past it.
        epochs: first epoch first.
        reason: why it ended, where it did not simply train to its end.
        trained_parameters: how many; None before its first report.
        node: the machine that trained it last; None before its first report.
        rungs: the epochs after which it has to wait.
        promoted: the last rung that it was let past; 0 for none.
        confirms: the trial whose configuration it repeats with another seed, for a confirmation.
        retries: the failed trial whose configuration it tries again, with the same seed.
        refits: the trial whose configuration it trains again, on the rows of train and validation. Nothing
            scores it: of its epochs the training loss alone is known.
        length: of a refit, the epochs that it is to train: as many as the other's best one.
        method: the study's: it decides how many epochs there are where no parameter does.
    """

    number: int
    state: State
    params: Params
    epochs: tuple[EpochResult, ...] = ()
    reason: str | None = None
    seed: int = 0
    trained_parameters: int | None = None
    node: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    rungs: tuple[int, ...] = ()
    promoted: int = 0
    confirms: int | None = None
    retries: int | None = None
    refits: int | None = None
    length: int | None = None
    method: str = "adapter"

    @property
    def searched(self) -> bool:
        """Whether it is one of the search, and does not repeat another after it."""
        return self.confirms is None and self.refits is None

    @property
    def schedule(self) -> int:
        """The epochs that it is to train."""
        return epochs_of(self.params, method=self.method) if self.length is None else self.length

    @property
    def rung(self) -> int | None:
        """The rung that it waits at, or would wait at if it ran; None where it is free to go on."""
        return waiting_rung(self.rungs, self.promoted, len(self.epochs))

    @property
    def best(self) -> EpochResult | None:
        """The first epoch with the best score so far; None for a failed trial, whatever its epochs gave, and
        for a refit, which has no scores.
        """
        if self.state == "failed" or self.refits is not None or not self.epochs:
            return None
        return max(self.epochs, key=lambda epoch: (epoch.score, -epoch.epoch))

    @property
    def score(self) -> float | None:
        """The best epoch's validation score so far; signed, so that higher is better."""
        return None if self.best is None else self.best.score

    def validation(self, metric: str) -> float | None:
        """The same as users read it: the raw value of the metric that chooses; less may be better."""
        return None if self.best is None else self.best.scores.get(metric, self.best.score)

    @property
    def best_epoch(self) -> int | None:
        """The number of the best epoch."""
        return None if self.best is None else self.best.epoch

    @property
    def size(self) -> int:
        """Trained parameters; 0 before they are known."""
        return self.trained_parameters or 0

    @property
    def seconds(self) -> float:
        """Training time of all its epochs."""
        return float(sum(epoch.seconds for epoch in self.epochs))


def waiting_rung(rungs: Sequence[int], promoted: int, epochs: int) -> int | None:
    """The last rung that so many epochs have reached, where a trial was not let past it; else None.

    A driver that is killed before it has read a rung's result may find one epoch more in the checkpoint: the
    trial still waits at that rung.
    """
    reached = max((rung for rung in rungs if rung <= epochs), default=0)
    return reached if reached > promoted else None


@dataclass(frozen=True)
class Experience:
    """What a study begins with.

    Attributes:
        studies: names of those that it learns from.
        portfolio: its first configurations.
        shipped: the record that ships with adaptune, if they come from that; else empty.
    """

    studies: tuple[str, ...] = ()
    portfolio: tuple[Params, ...] = ()
    shipped: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """What a study is about: written when it is made, and never again.

    Attributes:
        position: of the study in its job, from 0.
        metric: that chooses.
        backbone_parameters: how many weights the encoder has.
        data_fingerprint: SHA-256 of the task's rows; None in a record that has none.
        backbone_fingerprint: SHA-256 of the encoder's weights, config and tokenizer; None likewise.
        vectors: SHA-256 of the job's word vectors, by name.
        sizes: rows of each split, by its name.
        experience: what it begins with.
        content: what decides the job's results (`SearchJob.content`).
        job: the whole job (`SearchJob.to_dict`). Written last: a study that has it was made completely.
    """

    position: int = 0
    metric: str
    backbone_parameters: int
    data_fingerprint: str | None = None
    backbone_fingerprint: str | None = None
    vectors: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    experience: Experience = Experience()
    content: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, in JSON's types, `job` last."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, or a version that had fewer fields; other keys are left alone."""
        known = {one.name: raw[one.name] for one in fields(cls) if one.name in raw}
        if "experience" in known:
            learned = known["experience"]
            known["experience"] = Experience(
                tuple(learned["studies"]), tuple(learned["portfolio"]), learned.get("shipped", "")
            )
        return cls(**known)

    @property
    def seeks_front(self) -> bool:
        """Whether the job asks for the front of score against size."""
        return len(self.job.get("search", {}).get("objectives", ("score",))) > 1

    @property
    def folds(self) -> int | None:
        """How many folds its scores are over; None: they are of a validation set."""
        found = self.job.get("split", {}).get("folds")
        return None if found is None else int(found)

    @property
    def encoder(self) -> str:
        """The encoder's name, as the job has it; empty where none was noted."""
        return str(self.job.get("backbone", ""))


@dataclass(frozen=True)
class Run:
    """One run of the winner's configuration, with a seed of its own.

    Attributes:
        validation: the best epoch's score, raw.
        test: scores of that epoch by metric, read after the choice; where it was refitted, the refit's.
        refit: the trial that trained it again, on train and validation; None: none did.
    """

    trial: int
    seed: int
    validation: float
    test: Scores
    refit: int | None = None


@dataclass(frozen=True)
class Leaders:
    """The configurations that were in front when a search ended and could not be told apart.

    Attributes:
        trials: their numbers, the best first: that one alone, where no other was as good.
        epochs: the most that may be trained to run them again with further seeds.
        export: which run of the best mean is the winner: the "nearest" to it, or the "best".
    """

    trials: tuple[int, ...]
    epochs: int = 0
    export: str = "nearest"

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `asdict` made, also after JSON."""
        return cls(**{**raw, "trials": tuple(raw["trials"])})


@dataclass(frozen=True)
class Leader:
    """One of the configurations that led a search, when all was done.

    Attributes:
        trial: the search's own run of it.
        seeds: of its runs, that one's first.
        mean: over them, of the best epoch's validation score; raw.
        told_apart: whether the best of the leading ones is better than chance explains.
    """

    trial: int
    seeds: tuple[int, ...]
    mean: float
    told_apart: bool

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `asdict` made, also after JSON; keys that came since are left alone."""
        known = {one.name: raw[one.name] for one in fields(cls)}
        return cls(**{**known, "seeds": tuple(raw["seeds"])})


@dataclass(frozen=True)
class Intervals:
    """95 % intervals: of the winner's scores, over its seeds where there are several, and of its gain.

    Attributes:
        gain: over the baseline, on the test set, above 0 where it is better. None: there is no baseline.

    Each is None where the score is not defined for most of the samples.
    """

    validation: Interval | None
    test: Interval | None
    gain: Interval | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `asdict` made, also after JSON."""
        return cls(**{name: None if ends is None else (ends[0], ends[1]) for name, ends in raw.items()})


@dataclass(frozen=True)
class Baseline:
    """What is had of a task without a search: raw scores by the task's metric.

    Attributes:
        method: that made validation and test.
        majority: on the test set, of whoever says the most frequent class, or the mean, of every text.
    """

    method: str
    validation: float
    test: float
    majority: float


@dataclass(frozen=True, kw_only=True)
class Winner:
    """What a study came to.

    Attributes:
        trial: the number of the trial that won.
        metric: that chose it.
        validation: its best epoch's score, raw.
        test: scores of that epoch by metric, read once, after the choice; where it was refitted, the refit's.
        also: such scores of further labelled sets, by the set's name.
        runs: it and the confirmations of its configuration; empty in records from before there were any.
        bundle: the key of its bundle in the storage.
        intervals: None: of a kind that has none, or in records from before there were any.
        baseline: None: likewise, or the job wants none.
        refit: the trial that trained it again, on train and validation: the bundle is of it. None: none.
        leaders: the leading configurations, the winner's among them; empty where they could not be compared,
            and in records from before they were.
    """

    trial: int
    metric: str
    validation: float
    test: Scores
    also: Mapping[str, Scores] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    bundle: str
    intervals: Intervals | None = None
    baseline: Baseline | None = None
    refit: int | None = None
    leaders: tuple[Leader, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, in JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, or a version that had fewer fields."""
        known = {**raw, "runs": tuple(Run(**run) for run in raw.get("runs", ()))}
        known["leaders"] = tuple(Leader.from_dict(one) for one in raw.get("leaders", ()))
        if raw.get("intervals") is not None:
            known["intervals"] = Intervals.from_dict(raw["intervals"])
        if raw.get("baseline") is not None:
            known["baseline"] = Baseline(**raw["baseline"])
        return cls(**known)


@dataclass(frozen=True)
class Driver:
    """A sign of life of the process that drives a job.

    Attributes:
        host: the machine's name.
        pid: the process there.
        time: of the sign, in seconds since 1970 by the driver's clock.
        started: when the process was started, by its kernel's clock; None where that is not known.
        id: random; "" in records from before there were any.
        machine: where `pid` means something (`liveness.machine`); None where that is not known.
        beat: of signs, counted from 0.
    """

    host: str
    pid: int
    time: float
    started: str | None = None
    id: str = ""
    machine: str | None = None
    beat: int = 0

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what was written of a driver; keys that a newer version has besides are left alone."""
        return cls(**{one.name: raw[one.name] for one in fields(cls) if one.name in raw})
