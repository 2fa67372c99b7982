"""The database under the record: what is written together, and as Optuna itself writes it."""

import contextlib
import math

import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.dialects import mysql, postgresql, sqlite
from studies import create, epochs, opened, start

import search.database
from search.storage import Storage
from search.study import Record


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path) as record:
        yield record


@pytest.fixture
def study(record):
    return create(record)


@pytest.mark.integration
def test_an_epoch_is_written_by_one_transaction_together_with_its_score(study):
    number = start(study)
    study.hold()
    commits = []
    sqlalchemy.event.listen(study._storage.engine, "commit", commits.append)
    study.record_epochs(number, epochs([0.5]))
    assert len(commits) == 1


def test_of_an_epoch_that_cannot_be_written_whole_nothing_is_there(study, tmp_path):
    number = start(study)
    study.hold()
    written = []

    def fail(connection, cursor, statement, *_):
        if statement.startswith("INSERT"):
            written.append(statement.split()[2])
        if written[-1:] == ["trial_user_attributes"]:
            raise OSError("disk full")

    sqlalchemy.event.listen(study._storage.engine, "before_cursor_execute", fail)
    with pytest.raises(OSError, match="disk full"):
        study.record_epochs(number, epochs([0.5]))
    sqlalchemy.event.remove(study._storage.engine, "before_cursor_execute", fail)
    assert written == ["trial_intermediate_values", "trial_user_attributes"]  # the score came first
    assert study.trial(number).epochs == ()
    with opened(tmp_path) as other:
        (again,) = other.studies(study.job)
        assert again._trial(number).intermediate_values == {}
    assert study.record_epochs(number, epochs([0.5]))
    assert study.trial(number).epochs == tuple(epochs([0.5]))


@pytest.mark.parametrize("score", [0.25, math.nan, math.inf, -math.inf])
def test_what_is_written_beside_optuna_is_what_optuna_writes(record, score):
    ours, optunas = create(record), create(record, "other/task/adapter")
    start(ours), start(optunas)
    ours.record_epochs(0, epochs([0.5, score], [0.1, None]))
    ours.note_trial(0, node="a", trained_parameters=10)
    theirs = optunas._trial(0)._trial_id
    for one in epochs([0.5, score], [0.1, None]):
        record._storage.set_trial_intermediate_value(theirs, one.epoch, one.score)
        record._storage.set_trial_user_attr(theirs, f"epoch:{one.epoch}", one.to_dict())
    record._storage.set_trial_user_attr(theirs, "fact:node", "a")
    record._storage.set_trial_user_attr(theirs, "fact:trained_parameters", 10)
    shown = [
        (trial.user_attrs, trial.system_attrs, trial.intermediate_values)
        for trial in (ours._trial(0), optunas._trial(0))
    ]
    assert repr(shown[0]) == repr(shown[1])  # where one is not a number, it equals none


def test_a_trial_that_another_driver_has_ended_is_left_as_it_is(study, tmp_path):
    number = start(study)
    study.hold()
    with opened(tmp_path) as other:
        (taken,) = other.studies(study.job)
        taken.finish_trial(number, "failed", reason="taken over")
        assert not study.record_epochs(number, epochs([0.5]))
        assert taken.trial(number).epochs == ()
    assert study.trial(number).state == "failed"


@pytest.mark.parametrize("dialect", [sqlite, postgresql, mysql])
def test_statements_of_our_own_are_in_the_sql_of_every_database(dialect):
    ours = [
        search.database._NUMBER,
        search.database._STATE,
        *search.database._SCORES,
        *search.database._ATTRIBUTES,
    ]
    written = [str(one.compile(dialect=dialect.dialect())) for one in ours]
    assert [one.split()[0] for one in written] == ["SELECT", "SELECT", "DELETE", "INSERT", "DELETE", "INSERT"]
    assert ("FOR UPDATE" in written[1]) is (dialect is not sqlite)
    assert ("`key`" in written[4]) is (dialect is mysql)  # there it is a word of SQL's own


def test_what_is_written_again_takes_the_place_of_what_was(study):
    number = start(study)
    for node in ("first", "second"):
        study.note_trial(number, node=node, trained_parameters=None)
    assert study.trial(number).node == "second"


@pytest.mark.parametrize(("failures", "opens"), [(1, True), (99, False)])
def test_a_database_whose_tables_another_is_just_making_is_opened_again(
    tmp_path, monkeypatch, failures, opens
):
    """Two that find no tables both make them; one is told that they are there."""
    left, real = [sqlalchemy.exc.IntegrityError("CREATE TABLE", {}, ValueError())] * failures, RDBStorage

    def racing(*arguments, **options):
        if left:
            raise left.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(search.database, "RDBStorage", racing)
    monkeypatch.setattr(search.database.time, "sleep", lambda _: None)
    with contextlib.nullcontext() if opens else pytest.raises(sqlalchemy.exc.IntegrityError):
        Record(Storage(str(tmp_path))).close()
