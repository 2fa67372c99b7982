"""A sampler or a scheduler is one entry of a table, wherever it was registered."""

import pytest
from job_files import job
from optuna.samplers import RandomSampler
from studies import create, epochs, opened

from search.agenda import Agenda
from search.decisions.proposals import propose
from search.decisions.rules import Rules, verdict
from search.decisions.samplers import SAMPLERS, Sampler, register_sampler
from search.decisions.schedulers import SCHEDULERS, Scheduler, register_scheduler
from search.errors import JobError
from search.job.job import job_schema
from search.record import Trial
from search.workers.reports import TrialReport
from spaces import Space

SPACE = Space.parse({"adapter_size": [8, 64], "learning_rate": {"low": 1e-4, "high": 1e-2}, "epochs": [4]})


class Mine(Sampler):
    name, title = "mine", "my sampler"
    spread, several_objectives, needs_finite = False, False, True

    def make(self, seed, *, conditional):
        return RandomSampler(seed=seed)


class TwoEpochs(Scheduler):
    name = "two_epochs"

    def rungs(self, epochs, reduction):
        return (1,)

    def promotion(self, trials, *, growing, pareto, busy):
        waiting = [trial for trial in trials if trial.state == "paused" and trial.number not in busy]
        return waiting[0] if waiting and not growing else None

    def stop_reason(self, trial, trials):
        return "two are enough" if len(trial.epochs) == 2 else None


@pytest.fixture
def mine():
    """A sampler and a scheduler of one's own, gone after the test."""
    register_sampler(Mine())
    register_scheduler(TwoEpochs())
    yield
    del SAMPLERS["mine"], SCHEDULERS["two_epochs"]


def test_a_job_may_name_them_and_the_schema_lists_them(mine):
    made = job(space={"adapter_size": [8]}, search={"sampler": "mine", "scheduler": "two_epochs"})
    assert (made.search.sampler, made.search.scheduler) == ("mine", "two_epochs")
    properties = job_schema()["$defs"]["SearchPart"]["properties"]
    assert properties["sampler"]["enum"] == [*SAMPLERS]
    assert properties["scheduler"]["enum"] == [*SCHEDULERS]
    assert {"tpe", "gp", "cmaes", "random", "grid", "mine"} <= {*SAMPLERS}
    assert {"halving", "median", "none", "two_epochs"} <= {*SCHEDULERS}


def test_what_an_entry_says_of_itself_is_kept(mine):
    with pytest.raises(JobError, match="my sampler needs lists of values"):
        job(space={"learning_rate": {"low": 1e-4, "high": 1e-2}}, search={"sampler": "mine"})
    with pytest.raises(JobError, match="my sampler has one objective"):
        job(search={"sampler": "mine", "objectives": ["score", "trained_parameters"]})


def test_an_unknown_name_is_refused_with_those_that_there_are(mine):
    with pytest.raises(
        JobError, match=r"search\.scheduler = 'halvin': unknown value\. Did you mean 'halving'\?"
    ):
        job(search={"scheduler": "halvin"})
    with pytest.raises(JobError, match=f"Known: {', '.join(sorted(SAMPLERS))}"):
        job(search={"sampler": "x"})


def test_a_sampler_of_ones_own_proposes(mine):
    proposal = propose((), SPACE, sampler="mine", seed=0)
    assert SPACE.contains(proposal)


def test_a_scheduler_of_ones_own_pauses_promotes_and_stops(mine, tmp_path):
    with opened(tmp_path) as record:
        study = create(record)
        agenda = Agenda(study, SPACE, sampler="mine", seed=0, trials=1, rules=Rules("two_epochs"))
        number = agenda.next_trial(lambda *_: None)
        assert agenda.take(number, TrialReport(epochs=tuple(epochs([0.5])))).state == "paused"
        agenda.put_down(number)
        assert agenda.next_trial(lambda *_: None) == number
        decided = agenda.take(number, TrialReport(epochs=tuple(epochs([0.5, 0.6]))))
        assert (decided.state, decided.reason) == ("pruned", "two are enough")


def test_who_waits_at_the_end_is_told_of_whatever_the_scheduler(mine, tmp_path):
    with opened(tmp_path) as record:
        study = create(record)
        agenda = Agenda(study, SPACE, sampler="mine", seed=0, trials=1, rules=Rules("two_epochs"))
        number = agenda.next_trial(lambda *_: None)
        agenda.take(number, TrialReport(epochs=tuple(epochs([0.5]))))
        agenda.put_down(number)
        agenda.stop("the target of 0.5 is reached")
        assert agenda.next_trial(lambda *_: None) is None
        assert not agenda.is_open


def test_a_confirmation_is_not_stopped(mine):
    trial = Trial(0, "running", {"epochs": 4}, tuple(epochs([0.5, 0.6])), confirms=1)
    assert verdict(trial, (trial,), Rules("two_epochs")).state == "running"


@pytest.mark.parametrize(
    ("register", "entry"), [(register_sampler, SAMPLERS["tpe"]), (register_scheduler, SCHEDULERS["none"])]
)
def test_a_name_is_taken_once(register, entry):
    with pytest.raises(ValueError, match="registered twice"):
        register(entry)
