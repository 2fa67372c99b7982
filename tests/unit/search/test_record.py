"""The record as values: what was written is read, what is missing has a default, what is newer is refused."""

import ast
import json
from pathlib import Path

import pytest
from studies import FACTS, add, create, note_winner, opened

from search.errors import NewerRecord
from search.experience import find_earlier
from search.record import (
    FORMAT,
    Baseline,
    Driver,
    Experience,
    Intervals,
    Leader,
    Leaders,
    Run,
    StudyFacts,
    Trial,
    Winner,
)
from search.results import read_results
from search.storage import Storage
from spaces import Space

SEARCH = Path(__file__).parents[3] / "search"


def through_json(value):
    return json.loads(json.dumps(value))


def test_facts_come_back_as_they_were_written(tmp_path):
    facts = StudyFacts(
        position=2,
        metric="f1",
        backbone_parameters=7,
        data_fingerprint="rows",
        backbone_fingerprint="encoder",
        vectors={"glove": "sha"},
        sizes={"train": 3},
        experience=Experience(("a/b/adapter",), ({"adapter_size": 8},)),
        content={"name": "job"},
        job={"name": "job"},
    )
    assert StudyFacts.from_dict(through_json(facts.to_dict())) == facts
    with opened(tmp_path) as record:
        record.create_study("job/task/adapter", facts)
        (study,) = record.studies("job")
        assert study.facts == facts


def test_the_job_is_written_last_so_that_what_has_it_is_whole():
    assert list(FACTS.to_dict())[-1] == "job"


def test_a_winner_comes_back_as_it_was_written_and_one_of_before_confirmations_has_no_runs():
    winner = Winner(
        trial=1,
        metric="f1",
        validation=0.5,
        test={"f1": 0.4},
        also={"more": {"f1": 0.3}},
        runs=(Run(1, 0, 0.5, {"f1": 0.4}),),
        bundle="job/bundles/task/adapter",
        intervals=Intervals((0.4, 0.6), None, (-0.1, 0.1)),
        baseline=Baseline("probe", 0.5, 0.4, 0.3),
        leaders=(Leader(1, (0, 2), 0.5, told_apart=False), Leader(0, (0,), 0.4, told_apart=True)),
    )
    raw = through_json(winner.to_dict())
    assert Winner.from_dict(raw) == winner
    for name in ("runs", "also", "intervals", "baseline", "leaders"):
        del raw[name]
    assert Winner.from_dict(raw).leaders == ()
    before = Winner.from_dict(raw)
    assert (before.runs, before.also, before.intervals, before.baseline) == ((), {}, None, None)


def test_leaders_are_kept_with_the_study_and_one_of_before_has_none(tmp_path):
    with opened(tmp_path) as record:
        study = create(record)
        assert study.leaders is None
        study.note_leaders(Leaders((2, 0), epochs=7, export="best"))
        assert record.studies("job")[0].leaders == Leaders((2, 0), epochs=7, export="best")


def test_a_sign_of_life_of_before_starts_were_noted_is_read():
    assert Driver.from_dict({"host": "a", "pid": 1, "time": 2.5}) == Driver("a", 1, 2.5, started=None)


def test_a_study_is_finished_by_a_winner_or_by_a_failure(tmp_path):
    with opened(tmp_path) as record:
        won, lost, open_ = (create(record, f"job/{task}/adapter") for task in ("won", "lost", "open"))
        add(won, [0.5])
        note_winner(won, 0)
        lost.fail("no trial of 1 ended well")
        assert [study.is_finished for study in (won, lost, open_)] == [True, True, False]
        assert (won.failure, lost.winner) == (None, None)


def test_a_record_says_its_format_and_one_that_does_not_is_of_the_first(tmp_path):
    with opened(tmp_path) as record:
        study = create(record)
        assert study._study.user_attrs["format"] == FORMAT == 1


def test_a_record_of_a_newer_format_is_refused_and_teaches_nothing(tmp_path):
    with opened(tmp_path) as record:
        create(record)._set("format", FORMAT + 1)
        wanted = {"job": "mine", "method": "adapter", "fingerprint": "abc"}
        space = Space.parse({"adapter_size": [8]})
        assert find_earlier(record, "auto", space=space, **wanted) == []
        with pytest.raises(NewerRecord, match=r"format 2.*reads up to 1.*update adaptune"):
            record.studies("job")
    with pytest.raises(NewerRecord):
        read_results("job", Storage(str(tmp_path)))


def test_a_trial_without_epochs_has_no_best_one():
    trial = Trial(0, "running", {})
    assert (trial.best, trial.score, trial.best_epoch, trial.size) == (None, None, None, 0)


def test_no_other_module_reads_or_writes_what_is_noted_of_a_study():
    """Names of attributes stand in one module; all others have fields and methods."""
    users = [
        str(path.relative_to(SEARCH))
        for path in sorted(SEARCH.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"user_attrs", "set_user_attr", "set_trial_user_attr", "set_study_user_attr"}
    ]
    assert set(users) == {"study.py"}
